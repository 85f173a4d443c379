use std::collections::BTreeSet;

use longhand_text::chat::{END_OF_TURN, OWN_TEMPLATE, PLAIN_TEMPLATE};

use super::*;
use crate::intervals::{bootstrap, differences};
use crate::score::{Evaluation, TokenLosses};
use crate::{Examples, Files, Measured};

fn tokenizer() -> Tokenizer {
    Tokenizer::byte().unwrap().with_special_tokens(&ROLE_TOKENS).unwrap()
}

fn chatting(settings: &Settings) -> Chatting {
    Chatting::learn(settings, &[], "").unwrap()
}

fn example(line: &str, both_sides: bool) -> Example {
    let dialogue = Dialogue::of_line(line).unwrap();
    let other = if both_sides { dialogue.swapped() } else { None };
    Example { dialogue: dialogue.up_to_last_answer().unwrap(), other }
}

/// The text that is learnt from a sequence, target by target.
fn learnt(tokenizer: &Tokenizer, item: &LabelledIds<Target>) -> String {
    let next = item.label.next.iter().copied().filter(|&id| id != IGNORE).collect::<Vec<_>>();
    tokenizer.decode(&next).unwrap()
}

#[test]
fn the_assistants_turns_alone_are_learnt() {
    let tokenizer = tokenizer();
    let task = chatting(&Settings::default());
    let item =
        task.encode(&tokenizer, &example("A__eou__bc__eou__D__eou__e__eou__", false)).unwrap();
    let [item] = &item.items[..] else { panic!("one sequence") };
    assert_eq!(learnt(&tokenizer, item), "bc<|end|>e<|end|>");
    // Each target is the token behind its position.
    for (at, &next) in item.label.next.iter().enumerate() {
        assert!(next == IGNORE || item.ids[at + 1] == next);
    }
    assert_eq!(item.label.next.len(), item.ids.len());
    let Prompt { prefix, .. } = task.prompt(item);
    let prompt = tokenizer.decode(prefix).unwrap();
    assert_eq!(prompt, "<|user|>A<|end|><|assistant|>bc<|end|><|user|>D<|end|><|assistant|>");
    let both = task.encode(&tokenizer, &example("A__eou__bc__eou__D__eou__", true)).unwrap();
    let learnt: Vec<String> = both.items.iter().map(|item| learnt(&tokenizer, item)).collect();
    assert_eq!(learnt, ["bc<|end|>", "A<|end|>D<|end|>"]);
}

#[test]
fn a_long_dialogue_is_cut_and_the_next_turn_is_asked_for_behind_all_of_it() {
    let tokenizer = tokenizer();
    let longest = NonZeroUsize::new(8).unwrap();
    let task = chatting(&Settings { longest, ..Settings::default() });
    let line = "A__eou__bc__eou__Defg__eou__h__eou__";
    let Encoded { items, is_cut } = task.encode(&tokenizer, &example(line, false)).unwrap();
    assert!(is_cut && items[0].label.is_cut);
    assert_eq!(items[0].ids.len(), 8);
    assert_eq!(learnt(&tokenizer, &items[0]), "bc<|end|>");
    assert_eq!(items[0].label.given, 4);
    // Where nothing of an answer is read, nothing is learnt.
    let late = task.encode(&tokenizer, &example("A long beginning__eou__b__eou__", false)).unwrap();
    assert!(late.items.is_empty() && late.is_cut);
    let at = At { name: "lines", example: 1 };
    for (line, end) in [(line, "<|user|>Defg<|end|><|assistant|>"), ("Hi", "<|assistant|>")] {
        let open = task.parse(line, at).unwrap();
        let Encoded { items, is_cut } = task.encode(&tokenizer, &open[0]).unwrap();
        assert!(!is_cut && items[0].label.given == items[0].ids.len());
        assert!(items[0].label.next.iter().all(|&id| id == IGNORE));
        assert!(tokenizer.decode(task.prompt(&items[0]).prefix).unwrap().ends_with(end));
    }
    // A line that begins as JSON does and is none is what the user says.
    let laughed = task.parse("[laughs] Hi", at).unwrap();
    assert_eq!(laughed[0].dialogue.messages(), [Message::new(Role::User, "[laughs] Hi")]);
    let error = task.parse("[3]", at).unwrap_err().to_string();
    assert_eq!(error, "lines, line 1: turn 1 has no role: name system, user or assistant");
}

/// A share to test on was none, as dialogues had no key.
#[test]
fn a_share_is_held_out_and_dialogues_that_begin_alike_stay_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.txt");
    let line = |n: usize| format!("Say {}__eou__{n}__eou__\n", n / 2);
    fs_err::write(&path, (0..400).map(line).collect::<String>()).unwrap();
    let read = |test_fraction, valid_fraction| {
        let train = vec![path.clone()];
        let files = Files { train, test_fraction, valid_fraction, ..Files::default() };
        Examples::<Chatting>::read(&Settings::default(), &files, 1)
    };
    let Examples { train, valid, test, .. } = read(0.25, 0.2).unwrap();
    assert_eq!(train.len() + valid.len() + test.len(), 400);
    assert!((60..140).contains(&test.len()), "{}", test.len());
    assert!((30..90).contains(&valid.len()), "{}", valid.len());
    let keys = [&train, &valid, &test].map(|examples| {
        let keys = examples.iter().map(|example| Chatting::key(example).unwrap().into_owned());
        keys.collect::<BTreeSet<String>>()
    });
    // Each key is on one side, with both of its dialogues.
    let apart: BTreeSet<&String> = keys.iter().flatten().collect();
    assert_eq!((apart.len(), keys.iter().map(BTreeSet::len).sum::<usize>()), (200, 200));
    let spoken = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"}]"#;
    assert_eq!(Chatting::key(&example(spoken, false)).unwrap(), "Hi");
    let alone = r#"[{"role": "assistant", "content": "Welcome"}]"#;
    assert_eq!(Chatting::key(&example(alone, false)).unwrap(), "Welcome");

    fs_err::write(&path, line(0).repeat(3)).unwrap();
    for (shares, words) in [
        ((0.25, 0.0), "of which 0.25 are to be held out to test on, which leaves none on one"),
        ((0.0, 0.25), "of which 0.25 are to be held out to validate on, which leaves none on one"),
    ] {
        let error = read(shares.0, shares.1).err().unwrap().to_string();
        assert!(error.contains("talk.txt has 3 examples, ") && error.contains(words), "{error}");
    }
}

#[test]
fn an_answer_ends_where_the_template_ends_it() {
    let tokenizer = tokenizer();
    let task = chatting(&Settings::default());
    let end = tokenizer.special_tokens().id(END_OF_TURN).unwrap();
    assert!(task.ends(&tokenizer).unwrap().contains(&end));
    let hypothesis = Hypothesis {
        ids: b" no ".map(u32::from).into(),
        log_probabilities: vec![0.0; 5],
        end: Some(end),
        log_probability: 0.0,
        score: 0.0,
        alignment: Vec::new(),
        matches: None,
        is_complete: false,
    };
    let item = LabelledIds { ids: vec![0], label: Target::default() };
    let answer = task.written(&tokenizer, &item, &[hypothesis]).unwrap();
    let Ranked { text, tokens, is_finished, .. } = &answer.texts[0];
    assert_eq!((text.as_str(), *tokens, *is_finished), ("no", 5, true));
    let bare = Tokenizer::byte().unwrap();
    let plain = chatting(&Settings::default());
    assert_eq!(plain.ends(&bare).unwrap(), [u32::from(b'\n')]);
    assert_eq!(plain.template(&bare).unwrap().source(), PLAIN_TEMPLATE);
    // The same task serves another tokeniser by another template.
    assert_eq!(plain.template(&tokenizer).unwrap().source(), OWN_TEMPLATE);
}

#[test]
fn the_template_of_the_base_model_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = Tokenizer::byte().unwrap().with_special_tokens(&["<s>", "</s>"]).unwrap();
    let mut task = chatting(&Settings::default());
    task.begin_with(folder.path(), &tokenizer).unwrap();
    assert_eq!(task, chatting(&Settings::default()));
    let source =
        "{% for m in messages %}{{ bos_token + m.role + m.content + eos_token }}{% endfor %}";
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(key, token)| (key.to_owned(), token.to_owned())).into();
    let config = TokenizerConfig { tokens, chat_template: Some(source.into()) };
    config.save(&folder.path().join(TOKENIZER_CONFIG_FILE)).unwrap();
    task.begin_with(folder.path(), &tokenizer).unwrap();
    let item = task.encode(&tokenizer, &example("A__eou__b__eou__", false)).unwrap();
    assert_eq!(learnt(&tokenizer, &item.items[0]), "b</s>");
    // What is written beside the model is what was read.
    let files = task.files(&tokenizer).unwrap();
    assert_eq!(files, [(TOKENIZER_CONFIG_FILE, config.to_json())]);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Chatting>(&json).unwrap(), task);
    let fault = ChatTemplate::own(&tokenizer).unwrap_err();
    assert!(refused(fault).to_string().contains("lacks the special token"));
}

#[test]
fn what_was_written_is_as_varied_as_its_bigrams() {
    let task = chatting(&Settings::default());
    let text = |text: &str| Answer {
        texts: vec![Ranked {
            text: text.into(),
            score: 0.0,
            log_probability: 0.0,
            tokens: 1,
            is_finished: true,
            matches: None,
        }],
        is_cut: false,
    };
    let example = example("A__eou__b__eou__", false);
    let answers = [text("I do not know"), text("I do not")];
    let scored = answers.each_ref().map(|answer| Scored {
        example: &example,
        items: &[],
        answers: std::slice::from_ref(answer),
    });
    let metrics = task.measure_once(&scored);
    assert_eq!(metrics["distinct1"], 4.0 / 7.0);
    assert_eq!(metrics["distinct2"], 3.0 / 5.0);
}

#[test]
fn two_chats_are_compared_by_the_perplexity_of_the_same_tokens() {
    let task = chatting(&Settings::default());
    let dialogues = (0..40).map(|n| example(&format!("A {n}__eou__b__eou__"), false)).collect();
    let measured = Measured::encode(&task, dialogues, &tokenizer()).unwrap();
    let evaluation = |nats: f64, tokens: u64, tokenizer: &str| {
        let examples = (0..40).map(|n| (nats + f64::from(n % 4), tokens)).collect();
        let mut evaluation = Evaluation::new(&task, &measured, 0.0, vec![Vec::new(); 40]);
        evaluation.token_losses = Some(TokenLosses { tokenizer: tokenizer.into(), examples });
        evaluation
    };
    let (better, worse) = (evaluation(1.0, 2, "one"), evaluation(2.0, 2, "one"));
    let found = differences(&better, &worse, 200, 0);
    let difference = found["perplexity"];
    // The mean of the dialogues is 2.5 nats and 3.5 for two tokens each.
    let expected = 1.25_f64.exp() - 1.75_f64.exp();
    assert!((difference.value - expected).abs() < 1e-9, "{difference:?}");
    assert!(difference.interval.high < 0.0 && difference.p == 0.0, "{difference:?}");
    let interval = bootstrap(&better, 200, 0)["perplexity"];
    assert!(interval.low < 1.25_f64.exp() && interval.high > 1.25_f64.exp(), "{interval:?}");
    // Of other tokens, or of another number of them, nothing is compared.
    assert!(differences(&better, &evaluation(2.0, 2, "other"), 10, 0).is_empty());
    assert!(differences(&better, &evaluation(2.0, 3, "one"), 10, 0).is_empty());
}
