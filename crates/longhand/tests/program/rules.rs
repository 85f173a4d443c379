//! `--rules` of the verbs that write, through the real binary.

use longhand_model::{Model, Preset};
use longhand_text::{Tokenizer, TokenizerKind};
use serde_json::Value;

use crate::place::Place;

/// A folder with an untrained model over bytes, and files of rules.
fn place() -> Place {
    let place = Place::new();
    let folder = place.0.path().join("model");
    fs_err::create_dir(&folder).unwrap();
    let tokenizer = Tokenizer::byte().unwrap();
    tokenizer.save(&folder.join("tokenizer.json")).unwrap();
    let config = Preset::LonghandNano.config(tokenizer.vocab_size());
    Model::new(config, 1).unwrap().save(&folder).unwrap();
    let schema = r#"{"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"type":
        "integer", "minimum": 1, "maximum": 12}}, "required": ["ok", "n"],
        "additionalProperties": false}"#;
    for (name, text) in [
        ("person.json", schema),
        ("answer.regex", "(yes|no)!\n"),
        ("sum.lark", "start: digit (\"+\" digit)*\ndigit: /[0-9]/"),
        ("words.toml", "forbid = ['e', 't', 'a']\nwithin_words = true"),
        ("bad.json", "{\"type\": \"array\", \"uniqueItems\": true}"),
        ("bad.toml", "forbids = []"),
    ] {
        place.write(name, text);
    }
    place
}

#[test]
fn what_is_generated_matches() {
    let place = place();
    let generate = "generate model --prompt x --threads 1 --temperature 1.5 --max-tokens 600";
    for seed in 0..4 {
        let (_, text, errors) =
            place.run(&format!("{generate} --seed {seed} --rules person.json"), "");
        assert!(errors.is_empty(), "{text}: {errors}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert!(json["ok"].is_boolean() && (1..=12).contains(&json["n"].as_u64().unwrap()));
        let (code, text, errors) =
            place.run(&format!("{generate} --seed {seed} --rules answer.regex"), "");
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(text == "yes!" || text == "no!", "{text}");
        let (_, text, _) = place.run(&format!("{generate} --seed {seed} --rules words.toml"), "");
        assert!(!text.is_empty() && !text.contains(['e', 't', 'a', 'E', 'T', 'A']), "{text}");
    }
    let told = place.done(&format!("{generate} --rules answer.regex --json"));
    assert_eq!((&told["finish"], &told["matches"]), (&"end".into(), &true.into()));
    let line =
        "generate model --prompt x --threads 1 --beam 3 --nbest 2 --json --rules answer.regex";
    let (code, lines, errors) = place.run(line, "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let mut texts: Vec<String> = lines
        .lines()
        .map(|line| {
            let found: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&found["finish"], &found["matches"]), (&"end".into(), &true.into()));
            found["text"].as_str().unwrap().to_owned()
        })
        .collect();
    texts.sort();
    assert_eq!(texts, ["no!", "yes!"]);
}

/// A beam of words looks past those that the rules allow and that nothing can follow.
#[test]
fn a_search_goes_on_behind_dead_ends_or_says_that_it_cannot() {
    let place = Place::new();
    let folder = place.0.path().join("words");
    fs_err::create_dir(&folder).unwrap();
    let text = "ba be bi bo bu da de di do du a cat";
    let texts = std::iter::repeat_with(|| Ok(text.to_owned())).take(3);
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, texts, &mut |_| {}).unwrap();
    tokenizer.save(&folder.join("tokenizer.json")).unwrap();
    let config = Preset::LonghandNano.config(tokenizer.vocab_size());
    Model::new(config, 1).unwrap().save(&folder).unwrap();
    place.write("some.regex", "([bd][aeiou] zip|a cat)");
    place.write("none.regex", "[bd][aeiou] zip");
    for beam in ["1", "2"] {
        let line = format!("generate words --prompt cat --max-tokens 9 --threads 1 --beam {beam}");
        let (code, text, errors) = place.run(&format!("{line} --rules some.regex"), "");
        assert_eq!((code, text.trim(), errors.as_str()), (0, "a cat", ""));
        let (code, text, errors) = place.run(&format!("{line} --rules none.regex"), "");
        assert_eq!((code, text.as_str()), (1, ""), "{errors}");
        assert!(errors.contains("no token of the model can go on as the rules ask"), "{errors}");
    }
}

#[test]
fn a_text_that_is_cut_is_told() {
    let place = place();
    for further in ["", "--beam 2"] {
        let line = "generate model --prompt x --threads 1 --max-tokens 2 --rules answer.regex";
        let (code, text, errors) = place.run(&format!("{line} {further}"), "");
        assert_eq!((code, text.len()), (0, 2), "{errors}");
        assert!(errors.contains("cut before it matches the rules: 2 token(s)"), "{errors}");
    }
    let line = "generate model --prompt x --threads 1 --max-tokens 2 --rules answer.regex --json";
    let (_, told, _) = place.run(line, "");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["finish"], &told["matches"]), (&"length".into(), &false.into()));
    // Rules that hold for every beginning of a text.
    let (code, _, errors) =
        place.run("generate model --prompt x --threads 1 --max-tokens 9 --rules sum.lark", "");
    assert!(code == 0 && errors.is_empty() || errors.contains("cut before"), "{errors}");
}

#[test]
fn a_conversation_changes_its_rules() {
    let place = place();
    let input = "a\n/rules off\nb\n/rules person.json\nc\n";
    let line =
        "chat model --threads 1 --json --max-tokens 600 --temperature 1.5 --rules answer.regex";
    let (code, lines, errors) = place.run(line, input);
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(["yes!", "no!"].contains(&lines[0]["content"].as_str().unwrap()), "{lines:?}");
    assert_eq!((&lines[0]["finish"], &lines[0]["matches"]), (&"end".into(), &true.into()));
    assert_eq!((&lines[1]["command"], &lines[1]["file"]), (&"rules".into(), &Value::Null));
    assert!(lines[2]["matches"].is_null());
    assert_eq!(lines[3]["file"], "person.json");
    let person: Value = serde_json::from_str(lines[4]["content"].as_str().unwrap()).unwrap();
    assert!(person["ok"].is_boolean());
}

#[test]
fn rules_that_are_refused_get_a_sentence() {
    let place = place();
    let generate = "generate model --prompt x --threads 1 --rules";
    for (file, words) in [
        ("none.json", "none.json"),
        ("words.txt", "words.txt may hold any rules: end its name in .json"),
        ("bad.json", "bad.json: the JSON schema cannot be followed: Unimplemented keys"),
        ("bad.toml", "bad.toml: line 1 of the lists of words is not usable"),
    ] {
        if file == "words.txt" {
            place.write(file, "a");
        }
        place.refused(&format!("{generate} {file}"), words);
        place.refused(&format!("chat model --rules {file}"), words);
        place.refused(&format!("predict model --rules {file}"), words);
    }
}
