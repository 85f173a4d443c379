use std::sync::atomic::AtomicBool;

use longhand_text::TableFormat;
use longhand_train::Watch;

use super::*;
use crate::baseline::{Baseline, BaselineSettings, Learning};
use crate::plain;

/// The examples of a file called `name`.
fn read(name: &str, text: &str, settings: &Settings) -> Result<Vec<Example>, TaskError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    Ok(MultiLabel::read(settings, &path, &Reading::default())?.examples)
}

/// A text of its own with these labels.
fn example(text: &str, labels: &[&str]) -> Example {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Example { text: text.into(), second: None, labels }
}

fn labels(examples: &[Example]) -> Vec<String> {
    examples.iter().map(|example| example.labels.join("+")).collect()
}

#[test]
fn the_labels_of_a_text_are_a_list_or_a_cell_with_separators() {
    let settings = Settings::default();
    let csv = "label,text\n\"b, a,b\",one\n,two\n c ,three\n";
    let examples = read("t.csv", csv, &settings).unwrap();
    assert_eq!(labels(&examples), ["a+b", "", "c"]);
    let json =
        "{\"label\": [\"x, y\", \"a\"], \"text\": \"one\"}\n{\"label\": [], \"text\": \"two\"}\n";
    assert_eq!(labels(&read("t.jsonl", json, &settings).unwrap()), ["a+x, y", ""]);
    let fasttext = "__label__b __label__a one\ntwo\n";
    assert_eq!(labels(&read("t.txt", fasttext, &settings).unwrap()), ["a+b", ""]);
    let semicolons = Settings { label_separator: ";".into(), ..Settings::default() };
    let csv = "label,text\n\"b; a,b\",one\n";
    assert_eq!(labels(&read("t.csv", csv, &semicolons).unwrap()), ["a,b+b"]);
}

#[test]
fn the_metrics_are_those_of_the_definitions() {
    let task = task();
    let items = |labels: &[u32]| vec![LabelledIds { ids: vec![0], label: labels.to_vec() }];
    let answer = |labels: &[u32], shares: [f32; 3]| {
        vec![Prediction { labels: labels.to_vec(), probabilities: shares.to_vec() }]
    };
    let example = example("a", &[]);
    let rows = [
        (items(&[0, 1]), answer(&[0, 1], [0.9, 0.6, 0.1])),
        (items(&[0]), answer(&[0, 2], [0.8, 0.3, 0.7])),
        (items(&[]), answer(&[], [0.2, 0.2, 0.2])),
        (items(&[1]), answer(&[], [0.1, 0.4, 0.3])),
    ];
    let scored: Vec<_> =
        rows.iter().map(|(items, answers)| Scored { example: &example, items, answers }).collect();
    let metrics = task.measure(&scored);
    // Of 4 true labels 3 are given, and one that is not true: of 12 decisions 10 are right.
    let expected = [
        ("precision", 0.75),
        ("recall", 0.75),
        ("f1", 0.75),
        ("macro_f1", (1.0 + 2.0 / 3.0) / 3.0),
        ("subset_accuracy", 0.5),
        ("label_accuracy", 10.0 / 12.0),
    ];
    for (name, value) in expected {
        assert!((metrics[name] - value).abs() < 1e-12, "{name}: {}", metrics[name]);
    }
    // Of label a the true ones come first, of label b too; c has none.
    let once = task.measure_once(&scored);
    assert_eq!((once["auc"], once["average_precision"]), (1.0, 1.0));
    assert_eq!(scored.iter().filter(|scored| task.is_right(scored) == Some(true)).count(), 2);
    let mut tuned = task.clone();
    let figures = tuned.calibrate(&Settings::default(), &scored);
    // Between 0.4, a true label, and 0.3, of which one is not.
    assert!((tuned.threshold - 0.35).abs() < 1e-6, "{}", tuned.threshold);
    assert!(figures["micro_f1_after"] > figures["micro_f1_before"]);
    assert_eq!(task.plain(&example, &rows[1].1), "a,c");
    assert_eq!(task.plain(&example, &[]), "");
    assert_eq!(task.fields(&example, &rows[0].1)["labels"], json!(["a", "b"]));
}

fn task() -> MultiLabel {
    let examples = read("t.txt", "__label__a __label__b x\n__label__c y\n", &Settings::default());
    MultiLabel::learn(&Settings::default(), &examples.unwrap(), "t.txt").unwrap()
}

#[test]
fn targets_are_flags() {
    let task = task();
    let batch = LabelledBatch { batch: 2, labels: vec![vec![0, 2], vec![]], ..Default::default() };
    task.with_targets(&batch, |targets| match targets {
        Targets::Flags(flags) => assert_eq!(flags, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        _ => panic!("{targets:?}"),
    });
    assert_ne!(MultiLabel::target_bytes(&vec![0, 2]), MultiLabel::target_bytes(&vec![0, 1]));
}

#[test]
fn bad_tables_get_one_sentence() {
    let learn = |text: &str| {
        let examples = read("t.txt", text, &Settings::default())?;
        MultiLabel::learn(&Settings::default(), &examples, "t.txt")
    };
    let told = |text: &str| learn(text).unwrap_err().to_string();
    assert!(told("good a text\nbad another\n").contains("no example of t.txt has a label"));
    assert!(told("__label__a x\n__label__b\n").contains("example 2 of"), "no text");
    let settings = Settings { threshold: Some(1.5), ..Settings::default() };
    let examples = read("t.txt", "__label__a x\n", &settings).unwrap();
    let error = MultiLabel::learn(&settings, &examples, "t.txt").unwrap_err().to_string();
    assert!(error.contains("threshold = 1.5: it must be from 0 to 1"), "{error}");
    let strange = example("x", &["a", "odd"]);
    let error = task().check(&strange, At { name: "test.txt", example: 3 }).unwrap_err();
    assert!(error.to_string().contains("example 3 of test.txt has the label \"odd\""), "{error}");
    let format = Some(TableFormat::Csv);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    fs_err::write(&path, "labels,text\na,x\n").unwrap();
    let reading = Reading { format, ..Reading::default() };
    let error = MultiLabel::read(&Settings::default(), &path, &reading).unwrap_err().to_string();
    assert!(error.contains("no column \"label\""), "{error}");
}

#[test]
fn pairs_of_texts_have_labels() {
    let settings = Settings { pair_column: Some("second".into()), ..Settings::default() };
    let csv = "label,second,text\n\"b,a\",now rain,see snow\n,now sun,see sun\n";
    let examples = read("t.csv", csv, &settings).unwrap();
    assert_eq!(labels(&examples), ["a+b", ""]);
    assert_eq!(MultiLabel::texts(&examples[0]), ["see snow", "now rain"]);
    let task = MultiLabel::learn(&settings, &examples, "t.csv").unwrap();
    assert!(task.pair);
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<MultiLabel>(&json).unwrap(), task);
    let byte = Tokenizer::byte().unwrap().with_special_tokens(&task.special_tokens()).unwrap();
    let ids = |example: &Example| task.encode(&byte, example).unwrap().items.remove(0).ids;
    let separator = byte.special_tokens().id(SpecialTokens::SEPARATOR).unwrap();
    assert_eq!(ids(&examples[0]).iter().position(|&id| id == separator), Some("see snow".len()));

    let at = At { name: "it", example: 7 };
    let parsed = task.parse("see snow\tnow rain", at).unwrap();
    assert_eq!(ids(&parsed[0]), ids(&examples[0]));
    assert_eq!(task.fields(&parsed[0], &[])["second"], "now rain");
    assert!(task.encode(&byte, &task.parse("", at).unwrap()[0]).unwrap().items.is_empty());
    let error = task.parse("see snow", at).unwrap_err().to_string();
    assert!(error.contains("line 7 of it is not two texts"), "{error}");
    let error = task.encode(&byte, &example("see snow", &[])).unwrap_err();
    assert!(matches!(error, TaskError::NoSecondText), "{error}");
    let blank = "label,second,text\na, ,x\n";
    let error = read("t.csv", blank, &settings).unwrap_err().to_string();
    assert!(error.contains("example 1 of"), "{error}");
}

/// Of four texts three have label b and two label c.
#[test]
fn a_baseline_gives_the_labels_of_half_of_the_texts_or_the_commonest() {
    let rows = "__label__b __label__c w\n__label__b __label__c x\n__label__b y\n__label__a z\n";
    let examples = read("t.txt", rows, &Settings::default()).unwrap();
    let task = MultiLabel::learn(&Settings::default(), &examples, "t.txt").unwrap();
    let answered = |task: &MultiLabel| {
        let settings = BaselineSettings::named("majority").unwrap();
        let train = plain::labelled(task, &settings, &examples).unwrap();
        let (cpu, never) = (longhand_kernel::Cpu::new(1), AtomicBool::new(false));
        let learning = Learning { classes: 3, train: &train, valid: &[], seed: 1, cpu: &cpu };
        let mut unheard = |_| Ok(());
        let mut watch = Watch::new(&never, &mut unheard);
        let baseline = Baseline::fit(&settings, &learning, &mut watch).unwrap();
        let measured = plain::measured(task, examples.clone()).unwrap();
        let evaluation = plain::evaluate(task, &baseline, &measured, &mut watch).unwrap();
        (evaluation.answers[0][0].clone(), evaluation.score())
    };
    let (answer, score) = answered(&task);
    // With 1 added to each side: 2, 4 and 3 of 6.
    let shares = [2.0 / 6.0, 4.0 / 6.0, 0.5_f32];
    assert!(answer.probabilities.iter().zip(shares).all(|(a, b)| (a - b).abs() < 1e-6));
    assert_eq!(task.plain(&examples[0], &[answer]), "b,c");
    // Six true labels, of which five are given, and three that are not true.
    assert!((score.metrics["f1"] - 10.0 / 14.0).abs() < 1e-12, "{score:?}");
    assert_eq!((score.metrics["subset_accuracy"], score.metrics["auc"]), (0.5, 0.5));
    // The mean over twelve decisions.
    let nats = |p: f64, on: f64| -on * p.ln() - (4.0 - on) * (1.0 - p).ln();
    let expected = nats(2.0 / 6.0, 1.0) + nats(4.0 / 6.0, 3.0) + nats(0.5, 2.0);
    assert!((score.loss - expected / 12.0).abs() < 1e-6, "{score:?}");

    let strict = MultiLabel { threshold: 0.9, ..task.clone() };
    assert_eq!(strict.plain(&examples[0], &[answered(&strict).0]), "b");
    let error =
        plain::labelled(&task, &BaselineSettings::named("nb-lr").unwrap(), &examples).unwrap_err();
    assert!(error.to_string().contains("nb-lr gives each text one label"), "{error}");
}
