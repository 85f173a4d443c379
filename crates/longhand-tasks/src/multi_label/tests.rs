use std::sync::atomic::AtomicBool;

use longhand_model::Preset;
use longhand_text::TableFormat;
use longhand_train::Watch;

use super::*;
use crate::baseline::{Baseline, BaselineSettings, Learning};
use crate::classify::{ClassWeights, WeightRule};
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
fn a_label_may_contain_the_separator_and_texts_without_labels_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::default();
    let told = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        MultiLabel::read(&settings, &path, &Reading::default())
    };
    let tsv = "label\ttext\n\"a, b\", c\tone\n[\"a, b\", 3]\ttwo\n\tthree\n";
    let read = told("t.tsv", tsv).unwrap();
    assert_eq!(labels(&read.examples), ["a, b+c", "3+a, b", ""]);
    assert_eq!(read.notes, BTreeMap::from([(BARE.to_owned(), 1)]));
    let task = MultiLabel::learn(&settings, &read.examples, "t.tsv").unwrap();
    let answer = Prediction { labels: vec![1, 2], probabilities: vec![0.0, 1.0, 1.0] };
    assert_eq!(task.plain(&read.examples[0], &[answer]), "\"a, b\",c");
    let error = told("t.csv", "label,text\n\"['a, b', 'c']\",one\n").unwrap_err().to_string();
    assert!(error.contains("example 1 of ") && error.contains("no JSON list"), "{error}");
    let error = told("t.txt", "a text\nanother one\n").unwrap_err();
    assert!(matches!(error, TaskError::NoLabels { .. }), "{error}");
    assert!(told("t.jsonl", "{\"label\": [], \"text\": \"one\"}\n").is_ok());
}

#[test]
fn the_metrics_are_those_of_the_definitions() {
    let task = task();
    let items =
        |labels: &[u32]| vec![LabelledIds { ids: vec![0], label: Target::of(labels.to_vec()) }];
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
    let labels = [vec![0, 2], vec![]].map(Target::of).to_vec();
    let batch = LabelledBatch { batch: 2, labels, ..Default::default() };
    task.with_targets(&batch, |targets| match targets {
        Targets::Flags(flags, None) => assert_eq!(flags, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
        _ => panic!("{targets:?}"),
    });
    let bytes = |labels: &[u32]| MultiLabel::target_bytes(&Target::of(labels.to_vec()));
    assert_ne!(bytes(&[0, 2]), bytes(&[0, 1]));
}

#[test]
fn bad_tables_get_one_sentence() {
    let learn = |text: &str| {
        let examples = read("t.txt", text, &Settings::default())?;
        MultiLabel::learn(&Settings::default(), &examples, "t.txt")
    };
    let told = |text: &str| learn(text).unwrap_err().to_string();
    assert!(told("good a text\nbad another\n").contains("t.txt has a label"));
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

#[test]
fn an_example_counts_more_often_in_the_loss_of_a_label_that_is_rare() {
    let rows = "__label__a w\n__label__a x\n__label__a __label__b y\nz\n";
    let examples = read("t.txt", rows, &Settings::default()).unwrap();
    let weighted = |class_weights: ClassWeights| {
        let settings = Settings { class_weights: Some(class_weights), ..Settings::default() };
        let mut task = MultiLabel::learn(&settings, &examples, "t.txt")?;
        task.weigh(&settings, &examples);
        Ok::<MultiLabel, TaskError>(task)
    };
    let weights = |task: &MultiLabel| {
        let batch =
            LabelledBatch { batch: 1, labels: vec![Target::of(vec![1])], ..Default::default() };
        let mut told = Vec::new();
        let mut learn = |targets: Targets<'_>, weight: f32| {
            let Targets::Flags(flags, weights) = targets else { panic!("{targets:?}") };
            assert_eq!((flags, weight), (&[0.0, 1.0][..], 1.0));
            told = weights.unwrap_or_default().to_vec();
            Ok::<(), TaskError>(())
        };
        task.with_weighted_targets(&batch, &mut learn).unwrap();
        // What is measured has no weights.
        task.with_targets(&batch, |targets| assert!(matches!(targets, Targets::Flags(_, None))));
        told
    };
    let plain = MultiLabel::learn(&Settings::default(), &examples, "t.txt").unwrap();
    assert_eq!(weights(&plain), [0.0; 0]);
    let balanced = weighted(ClassWeights::Rule(WeightRule::Balanced)).unwrap();
    assert_eq!(weights(&balanced), [1.0 / 3.0, 3.0]);
    let named =
        |name: &str, weight: f32| weighted(ClassWeights::Named([(name.to_owned(), weight)].into()));
    assert_eq!(weights(&named("b", 5.0).unwrap()), [1.0, 5.0]);
    let error = named("c", 5.0).unwrap_err().to_string();
    assert!(error.contains("multi-label") && error.contains("c=5: no training example"), "{error}");
    let error = named("a", -1.0).unwrap_err().to_string();
    assert!(error.contains("a=-1: a weight must be above 0"), "{error}");
}

#[test]
fn a_temperature_makes_the_labels_as_frequent_as_their_probabilities_say() {
    let text = example("a", &[]);
    // Each label is given with 0.9, and 7 of 10 are true.
    let rows: Vec<_> = (0..10)
        .map(|i| {
            let label = if i < 7 { vec![0, 1, 2] } else { Vec::new() };
            let answer = Prediction { labels: vec![0, 1, 2], probabilities: vec![0.9; 3] };
            (vec![LabelledIds { ids: vec![0], label: Target::of(label) }], vec![answer])
        })
        .collect();
    let scored: Vec<_> =
        rows.iter().map(|(items, answers)| Scored { example: &text, items, answers }).collect();
    let mut fitted = task();
    let told = fitted.measure_once(&scored)["calibration_error"];
    assert!((told - 0.2).abs() < 1e-6, "{told}");
    let settings = Settings { calibrate: true, ..Settings::default() };
    assert_eq!(MultiLabel::calibrates(&settings), Calibrates::Always);
    let figures = fitted.calibrate(&settings, &scored);
    assert!((figures["temperature"] - 9f64.ln() / (7f64 / 3.0).ln()).abs() < 1e-3, "{figures:?}");
    assert_eq!(fitted.temperature(), figures["temperature"] as f32);
    // The threshold is one of the probabilities with the temperature, of which all are 0.7.
    assert!(fitted.threshold < 0.7 && figures.contains_key("threshold"), "{figures:?}");
    let json = serde_json::to_string(&fitted).unwrap();
    assert_eq!(serde_json::from_str::<MultiLabel>(&json).unwrap(), fitted);

    let given = Settings { threshold: Some(0.6), ..settings };
    let mut kept = MultiLabel { threshold: 0.6, ..task() };
    let figures = kept.calibrate(&given, &scored);
    assert!(kept.threshold == 0.6 && !figures.contains_key("threshold"), "{figures:?}");
    let broken = MultiLabel { temperature: 0.0, ..task() };
    let head = task().head(&Settings::default(), None);
    assert!(broken.misfit(&head).unwrap().contains("its temperature must be above 0"));
    assert_eq!(task().misfit(&head), None);
}

#[test]
fn the_characters_of_tokens_are_read_beside_them() {
    let reader = crate::characters::CharacterSettings::Lstm(Default::default());
    let settings = Settings { characters: Some(reader), ..Settings::default() };
    let examples = [example("it is high", &["a"]), example("it is low", &[])];
    let task = MultiLabel::learn(&settings, &examples, "t.txt").unwrap();
    let text = std::iter::once(Ok("it is\n".to_owned()));
    let kind = longhand_text::TokenizerKind::Word;
    let tokenizer = Tokenizer::train(kind, None, text, &mut |_| {}).unwrap();
    let items = task.encode(&tokenizer, &examples[0]).unwrap().items;
    assert_eq!(items[0].label.label, [0]);
    assert_eq!(items[0].label.characters.ranges, [(0, 2), (2, 4), (4, 8)]);
    let labels = vec![items[0].label.clone()];
    let batch = LabelledBatch { batch: 1, time: 3, labels, ..Default::default() };
    assert_eq!(task.characters(&batch).unwrap().ids, items[0].label.characters.ids);
    let plain = Preset::StackedLstmClassifier.config(tokenizer.vocab_size());
    let config = task.body(plain.clone(), &tokenizer);
    assert!(config.characters.is_some() && plain.characters.is_none());
    let json = serde_json::to_string(&task).unwrap();
    assert_eq!(serde_json::from_str::<MultiLabel>(&json).unwrap(), task);
}

#[test]
fn the_matches_of_a_pair_are_read_beside_its_tokens() {
    let pair = |second: &str, labels: &[&str]| Example {
        second: Some(second.to_owned()),
        ..example("it is high", labels)
    };
    let examples = [pair("high", &["a"]), pair("it is low", &[])];
    let settings = Settings { pair_column: Some("second".into()), ..Settings::default() };
    let task = MultiLabel::learn(&settings, &examples, "t.csv").unwrap();
    let json = serde_json::to_string(&task).unwrap();
    // The words of two pairs.
    assert!(json.contains(r#""frequent":["high","is","it"]"#), "{json}");
    assert_eq!(serde_json::from_str::<MultiLabel>(&json).unwrap(), task);
    let text = std::iter::once(Ok("it is high low\n".to_owned()));
    let kind = longhand_text::TokenizerKind::Word;
    let tokenizer = Tokenizer::train(kind, None, text, &mut |_| {}).unwrap();
    let tokenizer = tokenizer.with_special_tokens(&task.special_tokens()).unwrap();
    let item = task.encode(&tokenizer, &examples[0]).unwrap().items.remove(0);
    let plain = Preset::StackedLstmClassifier.config(tokenizer.vocab_size());
    let tables = task.body(plain.clone(), &tokenizer).features;
    assert_eq!(tables, crate::matches::PAIR_TABLES);
    let likeness = &item.label.features[item.ids.len()..][..item.ids.len()];
    assert_eq!(item.label.features.len(), tables.len() * item.ids.len());
    assert!(likeness[0] == 0 && likeness[2] > 0 && likeness[2] == likeness[4], "{likeness:?}");
    let (lengths, labels) = (vec![item.ids.len()], vec![item.label.clone()]);
    let time = item.ids.len();
    let batch = LabelledBatch { batch: 1, time, lengths, labels, ..Default::default() };
    assert_eq!(task.features(&batch), item.label.features);
    let other = Target { features: Vec::new(), ..item.label.clone() };
    assert_ne!(MultiLabel::target_bytes(&item.label), MultiLabel::target_bytes(&other));

    let without = Settings { matches: Some(false), ..settings };
    let without = MultiLabel::learn(&without, &examples, "t.csv").unwrap();
    assert!(without.body(plain, &tokenizer).features.is_empty());
    let read = without.encode(&tokenizer, &examples[0]).unwrap().items;
    assert!(read[0].ids == item.ids && read[0].label.features.is_empty());
    let single = Settings { matches: Some(true), ..Settings::default() };
    let error = MultiLabel::learn(&single, &examples, "t.csv").unwrap_err().to_string();
    assert!(error.contains("multi-label") && error.contains("a single text"), "{error}");
}

#[test]
fn a_few_examples_leave_what_is_measured_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = folder.path().join(name);
        fs_err::write(&path, "__label__a x\n__label__b y\n__label__c z\n").unwrap();
        path
    };
    let files = crate::Files {
        train: vec![file("train.txt")],
        test: vec![file("test.txt")],
        shots: std::num::NonZeroUsize::new(1),
        ..Default::default()
    };
    let read = crate::Examples::<MultiLabel>::read(&Settings::default(), &files, 1).unwrap();
    assert_eq!((read.train.len(), read.test.len()), (1, 3));
    assert_eq!(read.task.labels.names(), ["a", "b", "c"]);
}
