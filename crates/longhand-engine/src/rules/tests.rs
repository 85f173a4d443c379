use std::path::Path;
use std::sync::Arc;

use longhand_model::{Model, Preset};
use longhand_text::{SpecialTokens, Tokenizer, TokenizerKind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::random_schema::random_schema;
use super::*;
use crate::search::MostTokens;
use crate::testing::{cpu, engine};
use crate::{
    Engine, EngineError, FinishReason, GenerateOptions, Generation, SamplerSettings,
    SearchSettings, Streams,
};

/// How far a text follows rules: whether it is the beginning of a match, and whether it is one.
fn follows(rules: &Arc<Rules>, text: &str) -> (bool, bool) {
    let mut constraint =
        Constraint::new(rules, &Arc::new(Vocabulary::bytes().unwrap()), &[]).unwrap();
    let begins = text.bytes().all(|byte| constraint.accept(u32::from(byte)).is_ok());
    (begins, begins && constraint.may_end())
}

fn check(rules: Result<Rules, RulesError>, matches: &[&str], others: &[&str]) {
    let rules = Arc::new(rules.unwrap());
    for text in matches {
        assert_eq!(follows(&rules, text), (true, true), "{rules:?} {text:?}");
    }
    for text in others {
        assert!(!follows(&rules, text).1, "{rules:?} {text:?}");
    }
}

#[test]
fn each_form_says_what_matches() {
    check(Rules::regex("(ab|é)+/?"), &["ab", "é", "abéab/"], &["", "a", "abx", "//"]);
    check(Rules::regex("x*"), &["", "xx"], &["xy"]);
    check(Rules::regex("^x|y$"), &["x", "y"], &["xy", "ax"]);
    check(
        Rules::lark("start: word (\" \" word)*\nword: /[a-z]+/ | \"(\" start \")\""),
        &["a", "a (b c) d"],
        &["", "a (b", "a  b"],
    );
    check(
        Rules::json_object(),
        &["{}", "{\"a\": [1, {\"b\":null}]}", "{\n  \"a\": 1\n}"],
        &["", "[]", "{\"a\":1", "{\"a\":01}", "{  }"],
    );
    let schema = r##"{"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"],
        "additionalProperties": false, "$defs": {"n": {"enum": [1, "two"]}}}"##;
    check(
        Rules::json_schema(schema),
        &["{\"n\":1}", "{ \"n\" : \"two\" }"],
        &["{}", "{\"n\":2}", "{\"n\":1,\"m\":2}"],
    );
    check(Rules::json_schema("true"), &["1", "\"a\"", "[]"], &["", "a"]);
    // The key of llguidance's settings wins over ours.
    let schema = r#"{"type": "array", "x-guidance": {"whitespace_flexible": false}}"#;
    check(Rules::json_schema(schema), &["[1,2]"], &["[1, 2]"]);
}

#[test]
fn forbidden_words_are_never_written() {
    let rules = || Rules::words("forbid = ['cat', 'New York', '猫', 'C++', ':)']");
    check(
        rules(),
        &["", "concat", "cats and a bobcat", "New Yorkers, new", "c +", "a 犬", "cat_", "kätzchen"],
        &["cat", "a CAT sat", "cat.", "(cat)", "new\n york!", "小猫们", "c++x", "x:)y", "犬cat犬"],
    );
    let exact = Rules::words("forbid = ['Cat']\nignore_case = false\nwithin_words = true");
    check(exact, &["cat", "CAT", "C at"], &["Cat", "BobCats"]);
    // A text that would become a forbidden one cannot end, but may go on.
    let rules = Arc::new(rules().unwrap());
    assert_eq!(follows(&rules, "a cat"), (true, false));
    assert_eq!(follows(&rules, "a cat "), (false, false));
    assert_eq!(follows(&rules, "a cats "), (true, true));
    // Nor is anything written that is no text.
    let mut constraint =
        Constraint::new(&rules, &Arc::new(Vocabulary::bytes().unwrap()), &[]).unwrap();
    for byte in [0x80, 0xc0, 0xff] {
        assert!(!constraint.mask().unwrap().allows(byte));
    }
    constraint.accept(0xe4).unwrap();
    assert!(!constraint.may_end() && !constraint.mask().unwrap().allows(b'a'.into()));
}

#[test]
fn a_character_that_could_only_end_a_forbidden_word_is_not_begun() {
    let rules = Arc::new(Rules::words("forbid = ['cat']").unwrap());
    // U+FF01 to U+FF3F are signs or letters at which a word ends: 0xef 0xbc cannot end otherwise.
    assert_eq!(follows(&rules, "cat！"), (false, false));
    let mut constraint =
        Constraint::new(&rules, &Arc::new(Vocabulary::bytes().unwrap()), &[]).unwrap();
    for byte in [b"cat".as_slice(), &[0xef]].concat() {
        constraint.accept(byte.into()).unwrap();
    }
    assert!(!constraint.mask().unwrap().allows(0xbc));
    assert!(!constraint.mask().unwrap().is_empty());
}

#[test]
fn allowed_words_are_the_only_ones() {
    check(
        Rules::words("allow = ['yes', 'no', 'ice  cream', '猫']"),
        &["yes", "Yes, no!", "- ice cream\nNO", "猫猫 yes", "猫yes"],
        &["", "  ", "ye", "yess", "yesno", "ice", "maybe", "yes maybe"],
    );
    let rules = Arc::new(Rules::words("allow = ['yes', 'no']").unwrap());
    for text in ["yes", "yes, ", "yes n"] {
        assert!(follows(&rules, text).0 && !follows(&rules, &format!("{text}k")).0, "{text}");
    }
    // Signs are free, but no more than one space or line break comes at a time.
    for text in [" yes", "\r\nyes\r\nno\r\n", "yes, - no", "... yes\t"] {
        assert_eq!(follows(&rules, text), (true, true), "{text:?}");
    }
    for text in ["  ", "\n\n", "yes  ", "yes,  no", "yes \n", "yes\r\n\r\n"] {
        assert!(!follows(&rules, text).0, "{text:?}");
    }
}

#[test]
fn no_byte_leads_away_from_allowed_words() {
    for lists in ["allow = ['yes', 'no']", "allow = ['New York', '猫', 'é!']\nignore_case = false"]
    {
        let rules = Arc::new(Rules::words(lists).unwrap());
        let vocabulary = Arc::new(Vocabulary::bytes().unwrap());
        let constraint = Constraint::new(&rules, &vocabulary, &[]).unwrap();
        for seed in 0..100 {
            // Fails at a dead end.
            walk(&constraint, &[], false, seed);
        }
    }
}

#[test]
fn what_cannot_be_followed_is_refused_in_a_sentence() {
    let told = |rules: Result<Rules, RulesError>| {
        let text = rules.unwrap_err().to_string();
        assert!(!text.contains('\n') && !text.contains("<state>"), "{text}");
        text
    };
    for (schema, words) in [
        ("{", "the JSON schema is not usable: EOF while parsing an object at line 1 column 1"),
        ("3", "a schema is an object, true or false"),
        ("false", "the JSON schema cannot be followed: Unsatisfiable schema"),
        (r#"{"uniqueItems": true, "type": "array"}"#, "Unimplemented keys: [\"uniqueItems\"]"),
        (r#"{"type": "integer", "minimum": 3, "maximum": 2}"#, "minimum (3) is greater"),
        (r#"{"type": "strin"}"#, "strin"),
        (r##"{"$ref": "#/$defs/none"}"##, "none"),
        (r#"{"type": "string", "pattern": "("}"#, "the JSON schema cannot be followed"),
    ] {
        let text = told(Rules::json_schema(schema));
        assert!(text.contains(words), "{schema}: {text}");
    }
    for expression in ["(", "a{2,1}", "a^b", "a(?=b)", r"\bword\b", "[^\\x{0}-\\x{10ffff}]"] {
        let text = told(Rules::regex(expression));
        assert!(text.starts_with("the regular expression "), "{expression}: {text}");
    }
    for grammar in
        ["", "begin: \"a\"", "start: other", "start: /(/", "start: \"a\" ~", "start: <no>"]
    {
        let text = told(Rules::lark(grammar));
        assert!(text.starts_with("the grammar ") && !text.contains("panic"), "{grammar}: {text}");
    }
    let deep = format!("start: {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(told(Rules::lark(&deep)).contains("more than 200 deep"));
    let deep = format!("{}{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(told(Rules::regex(&deep)).starts_with("the regular expression cannot be followed"));
    let deep = format!("{}true{}", "{\"not\":".repeat(100_000), "}".repeat(100_000));
    assert!(told(Rules::json_schema(&deep)).starts_with("the JSON schema is not usable"));
    // Many brackets beside each other are no depth.
    let wide = format!("start: {}", "(\"(\" | /\\(\\/[(]/) ".repeat(300));
    Rules::lark(&wide).unwrap();
    let text = told(Rules::lark("%llguidance {\"allow_invalid_utf8\": true}\nstart: /a/"));
    assert!(text.contains("no text"), "{text}");
    for (lists, words) in [
        ("# a\nforbid = [", "line 2 of the lists of words is not usable: "),
        (
            "forbidden = ['a']",
            "line 1 of the lists of words is not usable: unknown field `forbidden`",
        ),
        ("", "neither `forbid` nor `allow`"),
        ("forbid = ['a']\nallow = ['b']", "either `forbid` or `allow`"),
        ("forbid = []", "the list is empty"),
        ("allow = ['a', ' ']", "allow[1] is \" \", which has no letter"),
        ("allow = ['a']\nwithin_words = true", "`within_words` is for forbidden words"),
    ] {
        let text = told(Rules::words(lists));
        assert!(text.contains(words), "{lists}: {text}");
    }
}

#[test]
fn a_files_name_says_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a.json", "\u{feff}{\"type\": \"object\"}"),
        ("a.REGEX", "a+\n"),
        ("a.lark", "start: \"a\"+"),
        ("a.toml", "allow = [\"a\"]"),
    ] {
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        Rules::load(&path).unwrap();
    }
    let regex = Arc::new(Rules::load(&folder.path().join("a.REGEX")).unwrap());
    assert_eq!(follows(&regex, "aa"), (true, true));
    assert!(!follows(&regex, "aa\n").0);
    let binary = folder.path().join("b.regex");
    fs_err::write(&binary, [0xff, 0xfe]).unwrap();
    let text = Rules::load(&binary).unwrap_err().to_string();
    assert!(text.contains("b.regex is not valid UTF-8") && text.contains("convert it"), "{text}");
    let text = Rules::load(Path::new("none.json")).unwrap_err().to_string();
    assert!(text.contains("none.json"), "{text}");
    let text = Rules::of_file(Path::new("a.txt"), "").unwrap_err().to_string();
    assert!(text.starts_with("a.txt may hold any rules: end its name in .json"), "{text}");
    let text = Rules::of_file(Path::new("a.regex"), "(").unwrap_err().to_string();
    assert!(text.starts_with("a.regex: the regular expression"), "{text}");
}

const TEXT: &str = "the cat sat on a mat . a cat , the cat ! [ \"cat\" , \"mat\" , 12 ] { } \
    {\"name\": \"Ada\", \"n\": [1, 2, 34], \"ok\": true}\n[ \"größe\" , null ]\n猫が好き cats \n";

fn trained(kind: TokenizerKind) -> Tokenizer {
    let texts = std::iter::repeat_with(|| Ok(TEXT.to_owned())).take(3);
    Tokenizer::train(kind, None, texts, &mut |_| {}).unwrap()
}

/// Tokens drawn evenly from what is allowed, and whether the text came to its end. It may come to a
/// dead end instead where tokens are words or parts of words.
fn walk(constraint: &Constraint, ends: &[u32], may_die: bool, seed: u64) -> (Vec<u32>, bool) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut constraint = constraint.clone();
    let mut ids = Vec::new();
    while ids.len() < 60 && !constraint.must_end() {
        let allowed: Vec<u32> = match constraint.mask() {
            Ok(mask) => mask.allowed().collect(),
            Err(RulesError::DeadEnd { .. }) if may_die => return (ids, false),
            Err(error) => panic!("{error}"),
        };
        let id = allowed[random.random_range(0..allowed.len())];
        if ends.contains(&id) {
            assert!(constraint.may_end());
            return (ids, true);
        }
        constraint.accept(id).unwrap();
        ids.push(id);
    }
    (ids, constraint.may_end())
}

#[test]
fn whatever_any_tokeniser_writes_matches() {
    let json = r#"{"type": "array", "items": {"enum": ["cat", "mat", 12, null]}, "maxItems": 4}"#;
    for kind in TokenizerKind::ALL {
        let special = [SpecialTokens::PADDING, SpecialTokens::END];
        let tokenizer = trained(kind).with_special_tokens(&special).unwrap();
        let vocabulary = Arc::new(Vocabulary::new(&tokenizer).unwrap());
        let ends: Vec<u32> =
            tokenizer.special_tokens().id(SpecialTokens::END).into_iter().collect();
        // A word ends with its line where the tokeniser has lines.
        for (rules, is_json) in [
            (Rules::json_schema(json), true),
            (Rules::regex(r"(the|a) cat( sat)*( on a mat ?\.)?"), false),
            (
                Rules::lark(
                    "start: (\"the\" | \"a\") (\" cat\" | \" mat\" | \" (\" start \" )\")+",
                ),
                false,
            ),
            (Rules::words("forbid = ['cat', 'name', '猫']"), false),
            (Rules::words("allow = ['cat', 'mat', 'the cat']"), false),
        ] {
            let rules = Arc::new(rules.unwrap());
            let constraint = Constraint::new(&rules, &vocabulary, &ends).unwrap();
            let mut finished = 0;
            for seed in 0..30 {
                let is_words = matches!(kind, TokenizerKind::Word | TokenizerKind::Wordpiece);
                let may_die = is_words && !matches!(*rules, Rules::Words(_));
                let (ids, ended) = walk(&constraint, &ends, may_die, seed);
                let text = tokenizer.decode(&ids).unwrap();
                let bytes_settle = !text.ends_with(char::REPLACEMENT_CHARACTER);
                let (begins, matches) = follows(&rules, &text);
                assert!(begins || !bytes_settle, "{kind} {rules:?} {text:?}");
                assert!(matches || !ended, "{kind} {rules:?} {text:?}");
                if ended && is_json {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    assert!(value.as_array().unwrap().len() <= 4);
                }
                finished += usize::from(ended);
            }
            assert!(finished > 0, "{kind} {rules:?}: no text came to its end");
        }
    }
}

#[test]
fn a_tokeniser_that_cannot_go_on_says_so() {
    let tokenizer = trained(TokenizerKind::Word);
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer).unwrap());
    let rules = Arc::new(Rules::regex("dog").unwrap());
    let error = Constraint::new(&rules, &vocabulary, &[]).unwrap_err().to_string();
    assert!(error.starts_with("no token of the model can go on as the rules ask after \"\""));
    let rules = Arc::new(Rules::regex("the dog").unwrap());
    let mut constraint = Constraint::new(&rules, &vocabulary, &[]).unwrap();
    constraint.accept(tokenizer.id("the").unwrap()).unwrap();
    let error = constraint.mask().unwrap_err();
    assert_eq!(error, RulesError::DeadEnd { written: "the".into() });
    // A token that is forbidden, and one that there is not.
    for id in [tokenizer.id("cat").unwrap(), 1 << 20] {
        let mut constraint = Constraint::new(&rules, &vocabulary, &[]).unwrap();
        let error = constraint.accept(id).unwrap_err();
        assert_eq!(error, RulesError::Forbidden { id, written: String::new() });
    }
}

/// A model with random weights.
fn random_engine(tokenizer: Tokenizer, seed: u64) -> Arc<Engine> {
    let model = Model::new(Preset::LonghandNano.config(tokenizer.vocab_size()), seed).unwrap();
    Engine::new(model, tokenizer).unwrap()
}

fn generate(
    engine: &Arc<Engine>,
    rules: &Arc<Rules>,
    (temperature, seed): (f32, u64),
    options: GenerateOptions,
) -> Result<(String, FinishReason, Option<bool>), EngineError> {
    let settings = SamplerSettings { temperature, seed, ..SamplerSettings::default() };
    let mut reader = engine.reader(&cpu());
    let mut session = engine.session(settings)?;
    session.read_text(&mut reader, "the cat")?;
    let position = session.position();
    let options = GenerateOptions { rules: Some(rules.clone()), ..options };
    let mut generation = Generation::new(session, options)?;
    let (mut text, mut read) = (String::new(), 0);
    while let Some(next) = generation.next(&mut reader)? {
        text.push_str(&next.text);
        read += u64::from(next.is_read());
    }
    let (reason, matches) =
        (generation.finish_reason().unwrap().clone(), generation.matches_rules());
    assert_eq!(generation.into_session().position(), position + read);
    Ok((text, reason, matches))
}

fn most(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..GenerateOptions::default() }
}

#[test]
fn values_of_random_schemas_are_valid() {
    let engine = engine(Preset::LonghandNano, 5);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let mut finished = 0;
    for seed in 0..60 {
        let schema = random_schema(&mut random);
        let rules = Arc::new(Rules::json_schema(&schema.to_string()).unwrap());
        let validator = jsonschema::validator_for(&schema).unwrap();
        let temperature = [1.0, 1.5][seed as usize % 2];
        let (text, reason, matches) =
            generate(&engine, &rules, (temperature, seed), most(700)).unwrap();
        if reason == FinishReason::Length && matches == Some(false) {
            continue;
        }
        finished += 1;
        assert_eq!(matches, Some(true), "{schema} {text}");
        let value: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text:?} of {schema}"));
        assert!(validator.is_valid(&value), "{text} is no value of {schema}");
    }
    assert!(finished >= 50, "{finished} of 60 texts came to their end");
}

#[test]
fn a_generation_ends_when_nothing_longer_matches() {
    let engine = engine(Preset::LonghandNano, 5);
    let rules = Arc::new(Rules::regex("(yes|no)!").unwrap());
    for seed in 0..6 {
        let (text, reason, matches) = generate(&engine, &rules, (1.5, seed), most(50)).unwrap();
        assert!(text == "yes!" || text == "no!", "{text}");
        assert_eq!((reason, matches), (FinishReason::Complete, Some(true)));
        // The last token that is allowed may be the one that completes it.
        let exact = most(text.len());
        let (_, reason, _) = generate(&engine, &rules, (1.5, seed), exact).unwrap();
        assert_eq!(reason, FinishReason::Complete);
        let cut = generate(&engine, &rules, (1.5, seed), most(2)).unwrap();
        assert_eq!(cut, (text[..2].to_owned(), FinishReason::Length, Some(false)));
        let stop = GenerateOptions { stop: vec!["!".into()], ..most(50) };
        let (stopped, reason, _) = generate(&engine, &rules, (1.5, seed), stop).unwrap();
        assert_eq!((stopped + "!", reason), (text, FinishReason::Stop("!".into())));
    }
    // Nothing is a text too.
    let nothing = Arc::new(Rules::lark("start: \"\"").unwrap());
    let written = generate(&engine, &nothing, (1.0, 0), most(5)).unwrap();
    assert_eq!(written, (String::new(), FinishReason::Complete, Some(true)));
}

#[test]
fn a_model_ends_its_text_only_where_it_matches() {
    let engine = random_engine(trained(TokenizerKind::Bpe), 3);
    assert!(engine.tokenizer().document_end_id().is_some());
    let rules = Arc::new(Rules::regex("a{3,9}").unwrap());
    let mut ends = Vec::new();
    for seed in 0..20 {
        let (text, reason, _) = generate(&engine, &rules, (1.5, seed), most(50)).unwrap();
        assert!((3..=9).contains(&text.len()), "{text}");
        ends.push(reason);
    }
    assert!(ends.contains(&FinishReason::End) && !ends.contains(&FinishReason::Length));
}

#[test]
fn the_space_before_the_first_word_is_not_seen() {
    for kind in [TokenizerKind::Word, TokenizerKind::Wordpiece] {
        let engine = random_engine(trained(kind), 1);
        let rules = Arc::new(Rules::regex("a cat sat").unwrap());
        let (text, reason, _) = generate(&engine, &rules, (1.0, 1), most(20)).unwrap();
        assert_eq!((text.as_str(), reason), (" a cat sat", FinishReason::Complete), "{kind}");
    }
}

#[test]
fn probabilities_stay_the_models_own_and_free_text_stays_as_it_was() {
    let engine = engine(Preset::LonghandNano, 5);
    let mut reader = engine.reader(&cpu());
    let mut session = engine.session(SamplerSettings { seed: 3, ..Default::default() }).unwrap();
    session.read_text(&mut reader, "the cat").unwrap();
    let logits = session.logits().to_vec();
    let written = |rules: Option<Rules>| {
        let rules = rules.map(Arc::new);
        let options = GenerateOptions { rules, log_probabilities: Some(2), ..most(1) };
        session.continuation(options).unwrap().next(&logits).unwrap().unwrap()
    };
    let free = written(None);
    // Rules that allow everything but what is no text.
    let any = written(Some(Rules::regex("(?s:.)*").unwrap()));
    assert_eq!(any.top, free.top);
    let a = written(Some(Rules::regex("a").unwrap()));
    let (own, _) = crate::log_probability::log_probabilities(&logits, u32::from(b'a'), 0);
    assert_eq!((a.text.as_str(), a.log_probability, a.top), ("a", Some(own), free.top));
}

#[test]
fn streams_follow_rules_as_a_session_alone() {
    let engine = engine(Preset::LonghandNano, 5);
    let rules = Arc::new(Rules::json_schema(r#"{"type": "integer", "maximum": 9999}"#).unwrap());
    let (alone, ..) = generate(&engine, &rules, (1.2, 4), most(12)).unwrap();
    let mut streams = Streams::new(&engine, &cpu(), 2).unwrap();
    let settings = SamplerSettings { temperature: 1.2, seed: 4, ..Default::default() };
    let mut session = engine.session(settings).unwrap();
    let mut reader = engine.reader(&cpu());
    session.read_text(&mut reader, "the cat").unwrap();
    let options = GenerateOptions { rules: Some(rules), ..most(12) };
    let mut continuation = session.continuation(options).unwrap();
    let mut logits = session.logits().to_vec();
    let slot = streams.admit(session).unwrap();
    let mut text = String::new();
    while let Some(next) = continuation.next(&logits).unwrap() {
        text.push_str(&next.text);
        if next.is_read() {
            streams.step(&[(slot, &[next.id])]).unwrap();
            logits = streams.logits(slot).unwrap().to_vec();
        }
    }
    assert_eq!(text, alone);
}

#[test]
fn a_search_finds_only_what_matches() {
    let found = |engine: &Arc<Engine>, rules: &str, beam, tokens| {
        let mut reader = engine.reader(&cpu());
        let mut session = engine.session(SamplerSettings::default()).unwrap();
        session.read_text(&mut reader, "the cat").unwrap();
        let rules = Arc::new(Rules::regex(rules).unwrap());
        let ends: Vec<u32> = engine.tokenizer().document_end_id().into_iter().collect();
        let constraint = Constraint::new(&rules, engine.vocabulary().unwrap(), &ends).unwrap();
        let settings = SearchSettings {
            beam,
            hypotheses: beam,
            maximum: MostTokens { tokens, per_token: 0.0 },
            ends,
            constraint: Some(constraint),
            patience: f32::INFINITY,
            ..SearchSettings::default()
        };
        let found = session.search(&mut reader, &settings).unwrap();
        let text = |ids: &[u32]| engine.tokenizer().decode(ids).unwrap();
        found.into_iter().map(|it| (text(&it.ids), it)).collect::<Vec<_>>()
    };
    let bytes = engine(Preset::LonghandNano, 5);
    let all = found(&bytes, "a(b|c)(d|e)", 8, 9);
    let mut texts: Vec<&str> = all.iter().map(|(text, _)| text.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["abd", "abe", "acd", "ace"]);
    for (_, hypothesis) in &all {
        assert!(hypothesis.is_complete && hypothesis.is_finished() && hypothesis.end.is_none());
        assert_eq!((hypothesis.matches, hypothesis.log_probabilities.len()), (Some(true), 3));
    }
    assert!(all.windows(2).all(|pair| pair[0].1.score >= pair[1].1.score));
    // One that is cut does not match.
    let cut = found(&bytes, "a(b|c)(d|e)", 2, 2);
    assert!(cut.iter().all(|(_, it)| it.matches == Some(false) && !it.is_finished()));
    // With an end token its probability counts.
    let pieces = random_engine(trained(TokenizerKind::Bpe), 3);
    for (text, hypothesis) in found(&pieces, "(the|a) cat", 4, 20) {
        assert!(text == "the cat" || text == "a cat", "{text}");
        assert!(hypothesis.end.is_some() && !hypothesis.is_complete);
        assert_eq!(hypothesis.matches, Some(true));
    }
}
