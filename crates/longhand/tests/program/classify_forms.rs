//! The forms of classification through the real binary: several labels a text, pairs of texts.

use serde_json::Value;

use crate::longhand;
use crate::tables::{COLUMNS, Folder, check};

/// The last line of JSON of a run that must succeed, and its folder.
fn finetune(folder: &Folder, out: &str, arguments: &[&str]) -> (Value, String) {
    let out = folder.path(out);
    let common = ["--threads", "2", "--json", "--out", &out];
    let (code, told, errors) = longhand(&[&["finetune"], arguments, &common].concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
    (serde_json::from_str(told.lines().last().unwrap()).unwrap(), out)
}

/// Lines of fastText whose labels are the words that the text holds.
fn several(count: usize) -> String {
    let line = |i: usize| {
        let words = [(i.is_multiple_of(2), "wet", "rain"), (i.is_multiple_of(3), "cold", "snow")];
        let held: Vec<_> = words.iter().filter(|(holds, ..)| *holds).collect();
        let labels: String =
            held.iter().map(|(_, label, _)| format!("__label__{label} ")).collect();
        let words: Vec<&str> = held.iter().map(|(.., word)| *word).collect();
        format!("{labels}today {} comes{}\n", words.join(" and "), " again".repeat(i % 4))
    };
    (0..count).map(line).collect()
}

#[test]
fn several_labels_are_learnt_and_written_again() {
    let folder = Folder::new();
    let (train, test) =
        (folder.write("train.txt", &several(180)), folder.write("test.txt", &several(36)));
    let data = ["--task", "classify", "--multi-label", "--data", &train, "--test", &test];
    let (last, out) = finetune(&folder, "out", &[&data[..], &["--epochs", "30"]].concat());
    let test_of = |key: &str| last["test"][key].as_f64().unwrap();
    assert_eq!((test_of("f1"), test_of("macro_f1"), test_of("subset_accuracy")), (1.0, 1.0, 1.0));
    assert_eq!(last["calibration"]["micro_f1_after"], 1.0);
    // The threshold is the folder's own, and not the one before training.
    let task: Value =
        serde_json::from_slice(&fs_err::read(format!("{out}/task.json")).unwrap()).unwrap();
    assert_eq!(task["type"], "multi-label");
    let threshold = task["threshold"].as_f64().unwrap();
    assert!((threshold - last["calibration"]["threshold"].as_f64().unwrap()).abs() < 1e-6);
    assert!(threshold != 0.5, "{task}");

    let input = b"rain and snow comes\n\ntoday comes\nsnow";
    let (code, answers, errors) = longhand(&["predict", &out], input);
    assert_eq!((code, answers.as_str(), errors.as_str()), (0, "cold,wet\n\n\ncold\n", ""));
    let (code, answers, errors) = longhand(&["predict", &out, "--fasttext"], input);
    let marked = "__label__cold __label__wet\n\n\n__label__cold\n";
    assert_eq!((code, answers.as_str(), errors.as_str()), (0, marked, ""));
    // The marks tell the format, as in training.
    let table = ["predict", &out, "--data", &test, "--fasttext"];
    let (code, answers, errors) = longhand(&table, b"");
    assert_eq!((code, answers.lines().count()), (0, 36), "{errors}");
    assert!(answers.starts_with("__label__cold __label__wet\n"), "{answers}");
    let (_, answers, _) = longhand(&["predict", &out, "--json"], b"rain\n");
    let answer: Value = serde_json::from_str(&answers).unwrap();
    assert_eq!(answer["labels"], serde_json::json!(["wet"]));
    let share = |label: &str| answer["probabilities"][label].as_f64().unwrap();
    assert!(share("wet") >= threshold && share("cold") < threshold);
    let lines = ["predict", &out, "--data", &test, "--format", "labelled"];
    let (code, table, errors) = longhand(&lines, b"");
    assert_eq!(code, 0, "{errors}");
    assert!(
        table.starts_with("wet,cold\ttoday rain and snow comes\t[\"cold\",\"wet\"]\n"),
        "{table}"
    );
    let eval = ["eval", &out, "--data", &test, "--samples", "20", "--json"];
    let (_, told, _) = longhand(&eval, b"");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["f1"], &told["task"]), (&1.0.into(), &"multi-label".into()));
    assert_eq!(told["classes"]["wet"]["support"], 18);

    let fixed = [&data[..], &["--set", "threshold=0.9", "--steps", "1"]].concat();
    let (last, out) = finetune(&folder, "fixed", &fixed);
    assert_eq!(last["calibration"], serde_json::json!({}));
    let task = fs_err::read_to_string(format!("{out}/task.json")).unwrap();
    assert!(task.contains("\"threshold\": 0.9"), "{task}");
    let strange = folder.write("strange.txt", "__label__odd a\n");
    let (train, bad) = (train.as_str(), folder.path("bad"));
    let refuse = |arguments: &[&str], code, words: &str| {
        let all = [&["finetune"], arguments, &["--steps", "1", "--out", &bad]].concat();
        check(&longhand(&all, b""), code, words, words);
    };
    refuse(&["--task", "classify", "--data", train], 1, "pass --multi-label to learn them all");
    refuse(&["--task", "tag", "--multi-label", "--data", train], 2, "--multi-label is for");
    refuse(&["--multi-label", "--data", train, "--test", &strange], 1, "the label \"odd\"");
    refuse(&["--multi-label", "--data", &strange], 1, "give more examples");
    let none = folder.write("none.txt", "a\nb\n");
    refuse(&["--multi-label", "--data", &none], 1, "no example of");
}

#[test]
fn files_are_read_as_in_training() {
    let folder = Folder::new();
    let row = |i: usize| format!("{}\tit was {i} \n", ["new york", "old"][i % 2]);
    let rows: String = (0..40).map(row).collect();
    let mut bytes = format!("label\ttext\n{rows}").into_bytes();
    // The last character of each text is no UTF-8.
    for place in 1..bytes.len() {
        if bytes[place] == b'\n' && bytes[place - 1] == b' ' {
            bytes[place - 1] = 0xff;
        }
    }
    let table = folder.path("table.txt");
    fs_err::write(&table, &bytes).unwrap();
    let data = ["--task", "classify", "--data", &table, "--format", "tsv", "--lossy"];
    let (_, out) = finetune(&folder, "out", &[&data[..], &["--steps", "1"]].concat());
    let eval = |file: &str| {
        let (code, told, errors) = longhand(&["eval", &out, "--data", file, "--json"], b"");
        assert_eq!((code, errors.as_str()), (0, ""));
        serde_json::from_str::<Value>(&told).unwrap()["examples"].clone()
    };
    assert_eq!(eval(&table), 40);
    // A name that says something says more.
    assert_eq!(eval(&folder.write("other.csv", "label,text\nold,it was\n")), 1);
    let (code, told, errors) = longhand(&["predict", &out, "--data", &table], b"");
    assert_eq!((code, told.lines().count()), (0, 41), "{errors}");
    assert!(told.starts_with("label\ttext\tpredicted_label\tprobability\n"), "{told}");
    let (code, told, errors) = longhand(&["predict", &out], b"it was \xff\n");
    assert_eq!((code, told.lines().count()), (0, 1), "{errors}");
    let spaced = longhand(&["predict", &out, "--fasttext"], b"it was\n");
    check(&spaced, 2, "ends at white space, which \"new york\" has", "two words");
}

/// The columns of [`pairs`].
const PAIRS: [&str; 6] = ["--text-column", "0", "--pair-column", "1", "--label-column", "2"];
/// How long, and how fast, pairs are learnt.
const BUDGET: [&str; 6] = ["--epochs", "40", "--patience", "40", "--learning-rate", "0.01"];

/// Pairs of texts whose label is whether the second one has the word of the first.
fn pairs(same: &str, other: &str) -> String {
    let words = ["rain", "snow", "sun"];
    let row = |i: usize| {
        let (first, second) = (words[i % 3], words[i / 3 % 3]);
        let label = if first == second { same } else { other };
        format!("see {first}{}\tnow {second}\t{label}\n", " here".repeat(i % 2))
    };
    (0..180).map(row).collect()
}

#[test]
fn pairs_of_texts_have_several_labels() {
    let folder = Folder::new();
    let table = folder.write("pairs.txt", &pairs("same", "any,other"));
    let data = ["--multi-label", "--data", &table, "--test", &table, "--format", "tsv"];
    // Three times as long as with one label, of which each pass teaches more.
    let budget = ["--epochs", "120", "--patience", "200", "--learning-rate", "0.01"];
    let (last, out) = finetune(&folder, "out", &[&data[..], &PAIRS, &budget].concat());
    // Who reads one text alone gives two labels to all, of which two of three are right.
    assert!(last["test"]["f1"].as_f64().unwrap() > 0.9, "{last}");
    let input = b"see sun\tnow sun\n\nsee sun\tnow snow\n";
    let (code, answers, errors) = longhand(&["predict", &out], input);
    assert_eq!((code, answers.lines().nth(1), errors.as_str()), (0, Some(""), ""));
    let (_, answers, _) = longhand(&["predict", &out, "--json"], input);
    let answer: Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    assert_eq!((&answer["text"], &answer["second"]), (&"see sun".into(), &"now sun".into()));
    let eval = ["eval", &out, "--data", &table, "--format", "tsv", "--samples", "20", "--json"];
    let (code, told, errors) = longhand(&eval, b"");
    assert_eq!(code, 0, "{errors}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["f1"].as_f64().unwrap() > 0.9, "{told}");
    check(&longhand(&["predict", &out], b"see sun\n"), 1, "is not two texts", "one text");
}

#[test]
fn pairs_of_texts_are_compared() {
    let folder = Folder::new();
    let table = folder.write("pairs.txt", &pairs("same", "other"));
    let data = ["--task", "classify", "--data", &table, "--test", &table, "--format", "tsv"];
    let all = [&data[..], &PAIRS, &BUDGET].concat();
    let (last, out) = finetune(&folder, "out", &all);
    assert_eq!(last["test"]["accuracy"], 1.0, "{last}");
    let config = fs_err::read_to_string(format!("{out}/config.json")).unwrap();
    assert!(config.contains("\"sentence-pair\""), "{config}");
    let (code, answers, errors) =
        longhand(&["predict", &out], b"see sun\tnow sun\n\nsee sun\tnow snow");
    assert_eq!((code, answers.as_str(), errors.as_str()), (0, "same\n\nother\n", ""));
    let result = longhand(&["predict", &out], b"see sun\tnow sun\nsee sun\n");
    check(&result, 1, "line 2 of the standard input is not two texts", "one text");
    let result = longhand(&["predict", &out], b"see sun\tnow sun\nsee sun\tnow sun\tsame\n");
    check(&result, 1, "line 2 of the standard input is not two texts", "three texts");
    check(&result, 1, "it has 2 tab(s), but must have one", "three texts");
    let (_, answers, _) = longhand(&["predict", &out, "--json"], b"see sun\tnow sun\n");
    let answer: Value = serde_json::from_str(&answers).unwrap();
    assert_eq!((&answer["text"], &answer["second"]), (&"see sun".into(), &"now sun".into()));
    let (code, told, errors) =
        longhand(&["eval", &out, "--data", &table, "--format", "tsv", "--json"], b"");
    assert_eq!(code, 0, "{errors}");
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["accuracy"], 1.0);
    // Other files may have other columns.
    let new = folder.write("new.csv", "first,id,second\nsee sun,1,now sun\nsee sun,2,now rain\n");
    let columns = ["--text-column", "first", "--pair-column", "second"];
    let (code, table, errors) =
        longhand(&[&["predict", &out, "--data", &new], &columns[..]].concat(), b"");
    assert_eq!(code, 0, "{errors}");
    let cells: Vec<&str> = table.lines().map(|line| line.split(',').nth(3).unwrap()).collect();
    assert_eq!(cells, ["label", "same", "other"]);

    let out_of_bad = folder.path("bad");
    let bad = |arguments: &[&str], words: &str| {
        let all = [&["finetune", "--out", &out_of_bad, "--steps", "1"], arguments].concat();
        check(&longhand(&all, b""), 1, words, words);
    };
    let missing = ["--text-column", "0", "--pair-column", "9", "--label-column", "2"];
    bad(&[&data[..], &missing].concat(), "it has only 3 column(s)");
    let same = ["--text-column", "0", "--pair-column", "0", "--label-column", "2"];
    bad(&[&data[..], &same].concat(), "column 0 is named twice");
    let blank = folder.write("blank.tsv", "a\t \tsame\nb\tc\tother\n");
    let blank = ["--task", "classify", "--data", &blank, "--text-column", "0"];
    bad(&[&blank[..], &["--pair-column", "1", "--label-column", "2"]].concat(), "example 1 of");
    check(&longhand(&["predict", &out, "--pair-column", "1"], b""), 2, "--pair-column", "lines");
}

#[test]
fn each_fold_is_a_run_and_complete_ones_are_not_repeated() {
    let folder = Folder::new();
    let table = folder.table("all.tsv", 60);
    let data = ["--task", "classify", "--data", &table, "--folds", "3", "--epochs", "12"];
    let data = [&data[..], &COLUMNS].concat();
    let (last, out) = finetune(&folder, "out", &data);
    let folds = last["folds"].as_array().unwrap();
    let accuracies: Vec<f64> = folds.iter().map(|f| f["accuracy"].as_f64().unwrap()).collect();
    assert_eq!((&last["done"], accuracies.len()), (&true.into(), 3));
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    assert!((last["test"]["accuracy"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!(last["spread"]["accuracy"].is_f64() && last["intervals"]["accuracy"].is_array());
    let counts = |fold: &Value| -> u64 {
        let rows = fold["confusion"].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|count| count.as_u64().unwrap()).sum()
    };
    assert_eq!(folds.iter().map(counts).collect::<Vec<_>>(), [20, 20, 20]);
    let model = |fold: &str| format!("{out}/{fold}/model.safetensors");
    assert_eq!(longhand(&["predict", &format!("{out}/fold-02")], b"glad\n").0, 0);
    check(&longhand(&["predict", &out], b""), 1, "holds the folds of a", "fold-01");
    let never = folder.path("never");
    let eval = ["eval", &out, "--data", &table, "--label-column", "mood"];
    check(&longhand(&eval, b""), 1, "holds the folds of a cross-validation", "eval");
    let tune = ["finetune", &out, "--task", "classify", "--data", &table, "--out", &never];
    let tune = [&tune[..], &COLUMNS].concat();
    check(&longhand(&tune, b""), 1, "holds the folds of a", "tune");

    // One that is missing is made again, alone; the others are read.
    let before: Vec<Vec<u8>> =
        ["fold-01", "fold-02"].map(|fold| fs_err::read(model(fold)).unwrap()).into();
    let when = |fold: &str| fs_err::metadata(model(fold)).unwrap().modified().unwrap();
    let first = when("fold-01");
    fs_err::remove_dir_all(format!("{out}/fold-02")).unwrap();
    // Folds under another recipe have no mean with those before.
    let other = ["finetune", "--resume", "--ensemble", "nb-lr", "--out", &out];
    check(&longhand(&other, b""), 1, "was begun with another ensemble", "another recipe");
    let resume = ["finetune", "--resume", "--threads", "2", "--json", "--out", &out];
    let (code, told, errors) = longhand(&resume, b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(when("fold-01"), first);
    assert_eq!(fs_err::read(model("fold-02")).unwrap(), before[1]);
    assert_ne!(before[0], before[1]);
    let again: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(again["folds"], last["folds"]);
    let (code, _, told) = longhand(&["finetune", "--resume", "--threads", "2", "--out", &out], b"");
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("over 3 folds:") && told.contains("95 % interval of the mean"), "{told}");
    assert!(!told.contains("fold 1 of 3"), "{told}");

    let refuse = |arguments: &[&str], code, words: &str| {
        let all = [&["finetune"], &data[..4], &COLUMNS, arguments].concat();
        check(&longhand(&[&all[..], &["--steps", "1"]].concat(), b""), code, words, words);
    };
    let new = folder.path("new");
    refuse(&["--folds", "3", "--out", &out], 1, "is not empty");
    refuse(&["--folds", "1", "--out", &new], 2, "--folds is 1, but must be at least 2");
    refuse(&["--folds", "3", "--out", &new, "--test", &table], 2, "--folds");
    let many = "20 examples of the label \"good\", but each of the 21 folds needs one";
    refuse(&["--folds", "21", "--out", &new], 1, many);
    let (_, single) =
        finetune(&folder, "single", &[&data[..4], &COLUMNS, &["--steps", "1"]].concat());
    refuse(
        &["--folds", "3", "--force", "--out", &single],
        1,
        "holds a run without folds or rounds",
    );
}

#[test]
fn phrases_of_trees_are_learnt_from_and_sentences_measured() {
    let folder = Folder::new();
    let tree = |i: usize| match i % 3 {
        0 => format!("(3 (2 it) (4 (2 {}) (4 glad)))\n", ["is", "was"][i / 3 % 2]),
        1 => format!("(1 (2 it) (0 (2 {}) (0 sad)))\n", ["is", "was"][i / 3 % 2]),
        _ => "(2 (2 it) (2 is))\n".to_owned(),
    };
    let trees: String = (0..90).map(tree).collect();
    let table = folder.write("trees.txt", &trees);
    let data = ["--task", "classify", "--data", &table, "--valid", &table, "--test", &table];
    let trees = ["--format", "trees", "--nodes", "phrases", "--ratings", "binary"];
    let budget = ["--epochs", "40", "--batch", "4", "--patience", "40"];
    let (last, out) = finetune(&folder, "out", &[&data[..], &trees, &budget].concat());
    // Every sentence that is not neutral, though each is in the file many times.
    assert_eq!(last["test"]["confusion"], serde_json::json!([[30, 0], [0, 30]]));
    assert_eq!(last["test"]["labels"], serde_json::json!(["negative", "positive"]));
    let predict = ["predict", &out, "--data", &table, "--format", "trees"];
    let (code, told, errors) = longhand(&predict, b"");
    assert_eq!((code, told.lines().count()), (0, 90), "{errors}");
    assert!(told.starts_with("it is glad\tpositive\t"), "{told}");
    let (code, told, errors) = longhand(&["eval", &out, "--data", &table, "--json"], b"");
    assert_eq!(code, 0, "{errors}");
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["examples"], 60);

    let bad = folder.write("bad.txt", "(3 (2 it) (4 is))\n(3 it\n");
    let refuse = |arguments: &[&str], code, words: &str| {
        let new = folder.path("new");
        let common = ["finetune", "--task", "classify", "--steps", "1", "--out", &new];
        check(&longhand(&[&common, arguments].concat(), b""), code, words, words);
    };
    refuse(&["--data", &bad, "--format", "trees"], 1, "row 2: a parenthesis is not closed");
    refuse(&["--data", &table, "--format", "trees", "--nodes", "words"], 2, "nodes");
    refuse(&["--data", &table, "--format", "trees", "--text-column", "0"], 1, "has no column 0");
    let neutral = folder.write("neutral.txt", "(2 (2 it) (2 is))\n");
    let binary = ["--data", &neutral, "--format", "trees", "--ratings", "binary"];
    refuse(&binary, 1, "is empty");
}

#[test]
fn ratings_are_weighted_ordered_and_calibrated() {
    let folder = Folder::new();
    let words = [("1", "awful"), ("2", "fair"), ("10", "great")];
    // Some are wrong, so that no model is sure and right.
    let row = |i: usize| {
        let (rating, _) = words[if i.is_multiple_of(7) { (i / 7 + 1) % 3 } else { i % 3 }];
        format!("{rating}\tit was {}{}\n", words[i % 3].1, " then".repeat(i % 4))
    };
    let rows: String = (0..240).map(row).collect();
    let table = folder.write("ratings.tsv", &format!("label\ttext\n{rows}"));
    let data = ["--task", "classify", "--data", &table, "--test", &table, "--ordered"];
    let further = ["--class-weights", "balanced", "--calibrate", "--epochs", "15"];
    let split = ["--valid-fraction", "0.3"];
    let (last, out) = finetune(&folder, "out", &[&data[..], &further, &split].concat());
    assert_eq!(last["test"]["labels"], serde_json::json!(["1", "2", "10"]));
    let test_of = |key: &str| last["test"][key].as_f64().unwrap();
    assert!(test_of("mean_absolute_error") > 0.0 && test_of("weighted_kappa") > 0.5, "{last}");
    assert!(test_of("auc") > 0.8, "{last}");
    let calibration = &last["calibration"];
    assert!(calibration["calibration_error_before"].is_f64(), "{calibration}");
    let temperature = calibration["temperature"].as_f64().unwrap();
    let path = format!("{out}/task.json");
    let task = fs_err::read_to_string(&path).unwrap();
    let stored: Value = serde_json::from_str(&task).unwrap();
    assert!((stored["temperature"].as_f64().unwrap() - temperature).abs() < 1e-6, "{task}");
    assert_eq!(stored["ordered"], true);
    // The temperature is applied: without it the same answers have other probabilities.
    let share = || {
        let (_, told, _) = longhand(&["predict", &out, "--json"], b"it was great\n");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["label"], "10");
        told["probability"].as_f64().unwrap()
    };
    let calibrated = share();
    fs_err::write(&path, r#"{"type": "classify", "labels": ["1", "2", "10"], "longest": 9}"#)
        .unwrap();
    let plain = share();
    assert_eq!(plain > calibrated, temperature > 1.0, "{plain} {calibrated} {temperature}");
    assert!(plain != calibrated);
    fs_err::write(&path, task).unwrap();
    let (code, told, errors) = longhand(&["eval", &out, "--data", &table, "--samples", "20"], b"");
    assert_eq!(code, 0, "{errors}");
    assert!(told.contains("quadratic weighted kappa 0.") && told.contains("AUC "), "{told}");

    let new = folder.path("new");
    let refuse = |arguments: &[&str], code, words: &str| {
        let all = [&["finetune", "--steps", "1", "--out", &new], &data[..4], arguments].concat();
        check(&longhand(&all, b""), code, words, words);
    };
    refuse(&["--class-weights", "heavy"], 2, "neither balanced nor NAME=WEIGHT");
    refuse(&["--class-weights", "3=2"], 2, "no training example has that label");
    refuse(&["--calibrate", "--valid-fraction", "0"], 2, "nothing is held out to calibrate on");
    let mood = folder.table("mood.tsv", 30);
    let words = ["finetune", "--task", "classify", "--data", &mood, "--ordered", "--out", &new];
    let told = longhand(&[&words[..], &COLUMNS].concat(), b"");
    check(&told, 1, "the label \"bad\", but ordered labels must be numbers", "words");
}

#[test]
fn several_labels_are_weighted_spelt_and_calibrated() {
    let folder = Folder::new();
    let table = folder.write("train.txt", &several(120));
    let data = ["--multi-label", "--data", &table, "--test", &table, "--valid-fraction", "0.3"];
    let further = ["--class-weights", "balanced", "--calibrate", "--characters", "--epochs", "10"];
    let (last, out) = finetune(&folder, "out", &[&data[..], &further].concat());
    let calibration = &last["calibration"];
    let temperature = calibration["temperature"].as_f64().unwrap();
    assert!(calibration["threshold"].is_f64(), "{calibration}");
    assert!(last["test"]["calibration_error"].is_f64(), "{last}");
    let task: Value =
        serde_json::from_slice(&fs_err::read(format!("{out}/task.json")).unwrap()).unwrap();
    assert!((task["temperature"].as_f64().unwrap() - temperature).abs() < 1e-6, "{task}");
    assert!(task["characters"]["alphabet"].as_str().unwrap().contains('n'), "{task}");
    let (code, told, errors) = longhand(&["predict", &out, "--json", "--explain"], b"rain\n");
    assert_eq!((code, told.contains("probabilities")), (0, true), "{errors}");

    let new = folder.path("new");
    let refuse = |arguments: &[&str], code, words: &str| {
        let all = [&["finetune", "--steps", "1", "--out", &new], &data[..3], arguments].concat();
        check(&longhand(&all, b""), code, words, words);
    };
    refuse(&["--class-weights", "odd=2"], 2, "no training example has that label");
    refuse(&["--calibrate", "--valid-fraction", "0"], 2, "nothing is held out to calibrate on");
    refuse(&["--ordinal"], 2, "--ordinal is not for the task multi-label");
}

#[test]
fn the_order_of_ratings_is_learnt() {
    let folder = Folder::new();
    let words = [("1", "awful"), ("2", "fair"), ("10", "great")];
    let row = |i: usize| {
        let (rating, word) = words[i % 3];
        format!("{rating}\tit was {word}{}\n", " then".repeat(i % 4))
    };
    let rows: String = (0..180).map(row).collect();
    let table = folder.write("ratings.tsv", &format!("label\ttext\n{rows}"));
    let data = ["--task", "classify", "--data", &table, "--test", &table, "--ordinal"];
    let further = ["--average", "0.9", "--epochs", "20"];
    let (last, out) = finetune(&folder, "out", &[&data[..], &further].concat());
    assert_eq!(last["test"]["labels"], serde_json::json!(["1", "2", "10"]));
    assert!(last["test"]["weighted_kappa"].as_f64().unwrap() > 0.9, "{last}");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs_err::read(format!("{out}/{name}")).unwrap()).unwrap()
    };
    let task = read("task.json");
    assert_eq!((&task["ordered"], &task["ordinal"]), (&true.into(), &true.into()));
    assert_eq!(read("training.json")["recipe"]["training"]["average"], 0.9);
    let (code, told, errors) = longhand(&["predict", &out, "--explain"], b"it was great\n");
    assert!(code == 0 && told.contains("great"), "{told}{errors}");

    let new = folder.path("new");
    let refuse = |arguments: &[&str], code, words: &str| {
        let all = [&["finetune", "--out", &new], arguments].concat();
        check(&longhand(&all, b""), code, words, words);
    };
    let words = [&data[..], &["--baseline", "nb-lr"]].concat();
    refuse(&words, 2, "nb-lr does not use the task's ordinal");
    refuse(&[&data[..], &["--average", "1"]].concat(), 2, "--average is 1");
    let mood = folder.table("mood.tsv", 30);
    let data = ["--task", "classify", "--data", &mood, "--ordinal"];
    let words = "ordered labels must be numbers";
    refuse(&[&data[..], &COLUMNS].concat(), 1, words);
}
