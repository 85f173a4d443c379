use longhand_kernel::Cpu;
use longhand_text::TokenizerKind;

use super::*;
use crate::examples::{Examples, Files, Fold};
use crate::predictor::Predictor;
use crate::start;

const CONTEXT: &str =
    "Zürich lies at a lake. 苏黎世很大。 Élodie's castle, built in 1,200, is grey.";

fn file(text: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), text.to_string()).unwrap();
    file
}

/// Questions about one context, each with the text of its answer or without one.
fn read(context: &str, questions: &[(&str, &str)]) -> Result<Read<Example>, TaskError> {
    let question = |(at, (question, answer)): (usize, &(&str, &str))| {
        let start = context.find(answer).map_or(-1, |at| context[..at].chars().count() as i64);
        let answers = match *answer {
            "" => json!([]),
            answer => json!([{"text": answer, "answer_start": start}]),
        };
        json!({"id": at.to_string(), "question": question, "answers": answers})
    };
    let questions: Vec<Value> = questions.iter().enumerate().map(question).collect();
    let paragraph = json!({"context": context, "qas": questions});
    let file = file(&json!({"data": [{"paragraphs": [paragraph]}]}));
    Spans::read(&Settings::default(), file.path(), &Reading::default())
}

fn learnt(settings: &Settings, questions: &[(&str, &str)]) -> (Spans, Vec<Example>) {
    let examples = read(CONTEXT, questions).unwrap().examples;
    (Spans::learn(settings, &examples, "it").unwrap(), examples)
}

fn tokenizer(kind: TokenizerKind, examples: &[Example]) -> Tokenizer {
    let texts = examples.iter().flat_map(Spans::texts).map(|text| Ok(format!("{text}\n")));
    let vocabulary = match kind {
        TokenizerKind::Word => {
            learnt(&Settings::default(), &QUESTIONS).0.vocabulary(kind, examples)
        }
        _ => None,
    };
    Tokenizer::train(kind, vocabulary, texts, &mut |_| {}).unwrap()
}

const QUESTIONS: [(&str, &str); 5] = [
    ("Where does Zürich lie?", "at a lake"),
    ("哪里很大？", "苏黎世"),
    ("Whose castle is grey?", "Élodie"),
    ("When was the castle built?", "1,200"),
    ("Which town lies at a lake?", "Zürich"),
];

#[test]
fn the_places_of_every_tokeniser_are_exact() {
    let (task, examples) = learnt(&Settings::default(), &QUESTIONS);
    for kind in TokenizerKind::ALL {
        let tokenizer = tokenizer(kind, &examples);
        for (example, (_, answer)) in examples.iter().zip(QUESTIONS) {
            let encoded = task.encode(&tokenizer, example).unwrap();
            let [LabelledIds { ids, label }] = &encoded.items[..] else { panic!("{kind}") };
            let Target { span: (first, last), places, features, .. } = label;
            let context = ids.len() - places.len();
            let [first, last] = [first, last].map(|&at| &places[at as usize - context]);
            assert_eq!(&CONTEXT[first.start..last.end], answer, "{kind}");
            // No token begins or ends in white space.
            let texts = places.iter().map(|place| &CONTEXT[place.clone()]);
            assert!(texts.clone().all(|text| !text.is_empty() && text.trim() == text), "{kind}");
            // Every word is read.
            let read: String = texts.collect();
            let solid = CONTEXT.split_whitespace().collect::<String>();
            assert!(read.len() >= solid.len(), "{kind}: {read}");
            let tables = task.body(Preset::Reader.config(9), &tokenizer).features;
            assert_eq!(features.len(), tables.len() * ids.len());
            for (values, rows) in features.chunks(ids.len()).zip(tables) {
                assert!(values.iter().all(|&value| (value as usize) < rows));
            }
        }
    }
}

#[test]
fn an_answer_in_the_last_window_is_found() {
    let size = |size| NonZeroUsize::new(size).unwrap();
    let settings = Settings { window: size(8), stride: size(5), ..Settings::default() };
    let (task, examples) = learnt(&settings, &QUESTIONS);
    let tokenizer = tokenizer(TokenizerKind::Word, &examples);
    let encoded = task.encode(&tokenizer, &examples[3]).unwrap();
    let words = Words::of(CONTEXT).len();
    assert_eq!(encoded.items.len(), (words - 8).div_ceil(5) + 1);
    let mut answers = Vec::new();
    let mut holding = 0;
    for LabelledIds { ids, label } in &encoded.items {
        let context = ids.len() - label.places.len();
        let mark = context as u32 - 1;
        // A model that is sure of the target of each window.
        let (first, last) = label.span;
        let score = |t: usize| [first, last].map(|at| if at as usize == t { 9.0 } else { 0.0 });
        let (span, score, none) = best_span(ids.len(), context, 30, score).unwrap();
        assert_eq!(none > score, label.span == (mark, mark));
        holding += usize::from(label.span != (mark, mark));
        let [first, last] = [span.start, span.end - 1].map(|at| &label.places[at - context]);
        answers.push(Answer { bytes: Some(first.start..last.end), score, none });
    }
    assert!(holding >= 1 && holding < answers.len());
    assert_eq!(task.text(&examples[3], &answers), "1,200");
    let start = CONTEXT.chars().position(|c| c == '1').unwrap();
    assert_eq!(task.fields(&examples[3], &answers)["start"], start);
    assert_eq!(task.fields(&examples[3], &answers)["end"], start + 5);
    assert_eq!(task.plain(&examples[3], &answers), "\"3\": \"1,200\"");
    // To pretrain on, the windows are the context once, and the question is apart.
    let documents = encoded.items.iter().map(Spans::documents).collect::<Vec<_>>();
    let whole: Vec<u32> = documents.iter().flat_map(|parts| parts[1]).copied().collect();
    let read: Vec<u32> =
        tokens(&tokenizer, &Words::of(CONTEXT)).unwrap().iter().map(|token| token.id).collect();
    assert_eq!(whole, read);
    let asked: Vec<u32> = tokens(&tokenizer, &Words::of(&examples[3].question.text))
        .unwrap()
        .iter()
        .map(|token| token.id)
        .collect();
    assert!(documents.iter().all(|parts| parts[0] == asked));
}

/// A hold-out that parts the questions on a context tells what is remembered, not what is found.
#[test]
fn the_questions_on_a_context_are_held_out_together() {
    let contexts = |i: usize| format!("The town {i} lies at the lake {i}.");
    let paragraph = |i: usize| {
        let question = |about: &str| {
            let answers = json!([{"text": about, "answer_start": contexts(i).find(about)}]);
            json!({"question": format!("Which {about}?"), "answers": answers})
        };
        json!({"context": contexts(i), "qas": [question("town"), question("lake"), question("lies")]})
    };
    let paragraphs: Vec<Value> = (0..60).map(paragraph).collect();
    let file = file(&json!({"data": [{"title": "Towns", "paragraphs": paragraphs}]}));
    let read = |files: Files| {
        let files = Files { train: vec![file.path().to_owned()], ..files };
        Examples::<Spans>::read(&Settings::default(), &files, 1).unwrap()
    };
    let check = |train: &[Example], held_out: &[Example]| {
        assert!(!held_out.is_empty());
        assert_eq!(train.len() + held_out.len(), 180);
        let contexts: HashSet<&str> = train.iter().map(|example| &*example.context).collect();
        assert!(held_out.iter().all(|example| !contexts.contains(&*example.context)));
    };
    let held_out = read(Files { valid_fraction: 0.2, ..Files::default() });
    check(&held_out.train, &held_out.valid);
    let size = |size| NonZeroUsize::new(size).unwrap();
    let tested = |number| {
        let fold = Some(Fold { number: size(number), of: size(5) });
        let folded = read(Files { fold, ..Files::default() });
        check(&folded.train, &folded.test);
        folded.test.len()
    };
    assert_eq!((1..=5).map(tested).collect::<Vec<_>>(), [36; 5]);
}

#[test]
fn a_question_may_have_no_answer() {
    let mut questions = QUESTIONS.to_vec();
    questions[0].1 = "";
    let (task, examples) = learnt(&Settings::default(), &questions);
    let tokenizer = tokenizer(TokenizerKind::Word, &examples);
    let item = &task.encode(&tokenizer, &examples[0]).unwrap().items[0];
    let mark = (item.ids.len() - item.label.places.len() - 1) as u32;
    assert_eq!(item.label.span, (mark, mark));
    let answer = |none: f32| [Answer { bytes: Some(0..7), score: 0.4_f32.ln(), none: none.ln() }];
    assert_eq!(task.text(&examples[4], &answer(0.3)), "Zürich");
    assert_eq!(task.text(&examples[4], &answer(0.5)), "");
    assert_eq!(task.fields(&examples[4], &answer(0.5))["start"], Value::Null);
    let settings = Settings { no_answer_margin: Some(1.0), ..Settings::default() };
    let (lenient, _) = learnt(&settings, &questions);
    assert_eq!(lenient.text(&examples[4], &answer(0.5)), "Zürich");
    let both = [answer(0.5), answer(0.9)];
    let held_out: Vec<Scored<'_, Spans>> = (both.iter().zip([&examples[4], &examples[0]]))
        .map(|(answers, example)| Scored { example, items: &[], answers })
        .collect();
    // Between the two, the margin gives the right answer to both.
    let mut tuned = task.clone();
    let figures = tuned.calibrate(&Settings::default(), &held_out);
    assert_eq!(tuned.text(&examples[4], &answer(0.5)), "Zürich");
    assert_eq!(tuned.text(&examples[4], &answer(0.9)), "");
    assert_eq!(figures["no_answer_margin"], f64::from(tuned.no_answer_margin.unwrap()));
    assert_eq!(Spans::calibrates(&settings), Calibrates::Never);
    // Where training has an answer to each question, so has the model.
    let (always, _) = learnt(&Settings::default(), &QUESTIONS);
    assert_eq!(always.text(&examples[4], &answer(0.9)), "Zürich");

    let (none, town) = (answer(0.5), answer(0.3));
    let scored = |example, answers| Scored { example, items: &[], answers };
    let all =
        [scored(&examples[0], &none), scored(&examples[2], &town), scored(&examples[4], &town)];
    let metrics = task.measure(&all);
    let value = |name: &str| metrics[name];
    assert!((value("exact_match") - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(value("no_answer_accuracy"), 1.0);
    assert_eq!(value("has_answer_exact_match"), 0.5);
    assert_eq!(task.is_right(&all[1]), Some(false));
}

#[test]
fn the_baseline_is_the_sentence_that_shares_most_words() {
    let (task, examples) = learnt(&Settings::default(), &QUESTIONS);
    let scored = Scored { example: &examples[4], items: &[], answers: &[] };
    // "zürich lies at lake": one of four words, all of the right answer.
    let metrics = task.measure(&[scored]);
    assert!((metrics["baseline_f1"] - 0.4).abs() < 1e-12, "{metrics:?}");
    assert_eq!(metrics["f1"], 0.0);
}

#[test]
fn a_question_is_the_same_alone_and_in_a_batch() {
    let (task, examples) = learnt(&Settings::default(), &QUESTIONS);
    let tokenizer = tokenizer(TokenizerKind::Word, &examples);
    let config = Preset::Reader.config(tokenizer.vocab_size());
    let config = task.body(start::with_head(config, HeadKind::Span {}), &tokenizer);
    let model = start::fresh(config, &tokenizer, 3).unwrap();
    let mut predictor = Predictor::new(task, model, tokenizer, std::sync::Arc::new(Cpu::new(1)));
    let at = At { name: "it", example: 1 };
    let together = predictor.predict(&examples, at).unwrap();
    for (example, answers) in examples.iter().zip(together) {
        let alone = predictor.predict(std::slice::from_ref(example), at).unwrap().remove(0);
        let ([alone], [batched]) = (&alone[..], &answers[..]) else { panic!() };
        assert_eq!(alone.bytes, batched.bytes);
        assert!((alone.score - batched.score).abs() < 1e-4);
        assert!((alone.none - batched.none).abs() < 1e-4);
    }
}

#[test]
fn faults_are_told() {
    let none = read(CONTEXT, &[("Who?", "")]).unwrap_err().to_string();
    assert!(none.contains("no question of") && none.contains("has an answer"), "{none}");
    let Read { notes, examples } = read(CONTEXT, &[("Who?", "Nobody"), QUESTIONS[0]]).unwrap();
    assert_eq!(notes.into_values().collect::<Vec<_>>(), [1]);
    let size = |size| NonZeroUsize::new(size).unwrap();
    let settings = Settings { window: size(8), stride: size(9), ..Settings::default() };
    let error = Spans::learn(&settings, &examples, "it").unwrap_err().to_string();
    assert!(error.contains("stride = 9") && error.contains("8 tokens"), "{error}");
    // An answer that the context lacks is no part of the loss.
    let task = Spans::learn(&Settings::default(), &examples, "it").unwrap();
    let tokenizer = tokenizer(TokenizerKind::Word, &examples);
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    assert_eq!(items[0].label.span, UNKNOWN);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<Spans>(&json).unwrap(), task);
}

#[test]
fn the_span_that_is_given_or_the_lack_of_one_is_explained() {
    let settings = Settings {
        window: NonZeroUsize::new(9).unwrap(),
        stride: NonZeroUsize::new(5).unwrap(),
        ..Settings::default()
    };
    let (mut task, examples) = learnt(&settings, &QUESTIONS);
    let tokenizer = tokenizer(TokenizerKind::Word, &examples);
    let config = Preset::Reader.config(tokenizer.vocab_size());
    let head = task.head(&settings, None);
    let config = task.body(start::with_head(config, head), &tokenizer);
    let model = start::fresh(config, &tokenizer, 3).unwrap();
    let cpu = std::sync::Arc::new(Cpu::new(2));
    let check = |task: &Spans| {
        let mut predictor =
            Predictor::new(task.clone(), model.clone(), tokenizer.clone(), cpu.clone());
        let answers = predictor.predict(&examples[..1], At { name: "it", example: 1 }).unwrap();
        let answers = &answers[0];
        assert!(answers.len() > 2, "several windows");
        let mut explainer = predictor.explainer().unwrap().unwrap();
        let found = explainer.explain(task, &examples[0], answers).unwrap().remove(0);
        let sum: f64 = found.tokens.iter().map(|token| token.share).sum();
        let whole = found.log_probability - found.without_tokens;
        assert!((sum - whole - found.completeness_error).abs() < 1e-9);
        assert!(found.completeness_error.abs() < 0.02 + 0.02 * whole.abs(), "{found:?}");
        (found.log_probability, combined(answers).unwrap())
    };
    let (log, best) = check(&task);
    assert!((log - f64::from(best.score)).abs() < 1e-4, "{log} {best:?}");
    task.no_answer_margin = Some(-1e9);
    let (log, best) = check(&task);
    assert!((log - f64::from(best.none)).abs() < 1e-4, "{log} {best:?}");
}
