use longhand_text::TableFormat;

use super::*;

/// The examples of a file called `name`.
fn read(name: &str, text: &str, settings: &Settings) -> Result<Vec<Example>, TaskError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    Ok(MultiLabel::read(settings, &path, &Reading::default())?.examples)
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
    let example = Example { text: "a".into(), labels: Vec::new() };
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
    let strange = Example { text: "x".into(), labels: vec!["a".into(), "odd".into()] };
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
