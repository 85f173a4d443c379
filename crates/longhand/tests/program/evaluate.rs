//! `longhand eval` and `longhand predict` with classifiers and tables, through the real binary.

use serde_json::{Value, json};

use crate::longhand;
use crate::tables::{COLUMNS, Folder, check};

/// A classifier that is often wrong: it has seen few examples with noisy labels.
fn weak(folder: &Folder) -> String {
    let mut rows = String::from("mood\tid\tsentence\n");
    for i in 0..60 {
        let (label, other) = if i % 2 == 0 { ("good", "bad") } else { ("bad", "good") };
        let label = if i % 5 == 0 { other } else { label };
        let word = if i % 2 == 0 { "glad" } else { "sad" };
        rows += &format!("{label}\t{i}\t{}{word}\n", "she was ".repeat(i % 4));
    }
    let (train, out) = (folder.write("noisy.tsv", &rows), folder.path("weak"));
    let arguments = [
        &["finetune", "--task", "classify", "--data", &train, "--valid-fraction", "0"],
        &COLUMNS[..],
        &["--steps", "3", "--threads", "1", "--json", "--out", &out],
    ];
    let (code, _, errors) = longhand(&arguments.concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    out
}

/// Texts of which a third says the opposite of its label, so that metrics are no round numbers.
fn hard(folder: &Folder) -> (String, Vec<(String, String)>) {
    let rows = (0..40).map(|i| {
        let label = if i % 3 == 0 { "good" } else { "bad" };
        let word = if i % 3 == 0 && i % 9 != 0 { "glad" } else { "sad" };
        (label.to_owned(), format!("{}{word}{}", "she was ".repeat(i % 4), " then".repeat(i % 5)))
    });
    let rows: Vec<_> = rows.collect();
    let mut table = String::from("mood\tid\tsentence\n");
    for (place, (label, text)) in rows.iter().enumerate() {
        table += &format!("{label}\t{place}\t{text}\n");
    }
    (folder.write("hard.tsv", &table), rows)
}

/// The answers to texts: label, its probability, and the probability of each.
fn answers(model: &str, rows: &[(String, String)]) -> Vec<Value> {
    let texts: Vec<&str> = rows.iter().map(|(_, text)| text.as_str()).collect();
    let (code, answers, errors) =
        longhand(&["predict", model, "--json"], texts.join("\n").as_bytes());
    assert_eq!(code, 0, "{errors}");
    answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn evaluation(arguments: &[&str]) -> Value {
    let (code, stdout, errors) = longhand(&[&["eval"], arguments, &["--json"]].concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn metrics_are_those_of_the_predictions() {
    let folder = Folder::new();
    let (model, _) = folder.classifier(&[]);
    let (test, rows) = hard(&folder);
    // The columns are those of training.
    let found = evaluation(&[&model, "--data", &test]);
    let answers = answers(&model, &rows);
    let (mut counts, mut nats) = ([[0.0; 2]; 2], 0.0);
    let mut bins = vec![(0.0, 0.0); 15];
    for ((label, _), answer) in rows.iter().zip(&answers) {
        let id = |label: &str| usize::from(label == "good");
        let given = answer["label"].as_str().unwrap();
        counts[id(label)][id(given)] += 1.0;
        nats -= answer["probabilities"][label].as_f64().unwrap().ln();
        let chance = answer["probability"].as_f64().unwrap();
        let bin = &mut bins[((chance * 15.0).ceil() as usize).clamp(1, 15) - 1];
        *bin = (bin.0 + f64::from(u8::from(label == given)), bin.1 + chance);
    }
    let [[tn, fp], [fnn, tp]] = counts;
    assert!(fnn > 0.0 && tp > 0.0, "{counts:?}");
    let n = rows.len() as f64;
    let f1 = 2.0 * tp / (2.0 * tp + fp + fnn);
    let expected = [
        ("accuracy", (tp + tn) / n),
        ("f1", f1),
        ("macro_f1", (f1 + 2.0 * tn / (2.0 * tn + fp + fnn)) / 2.0),
        ("macro_recall", (tp / (tp + fnn) + tn / (tn + fp)) / 2.0),
        (
            "matthews",
            (tp * tn - fp * fnn) / ((tp + fp) * (tp + fnn) * (tn + fp) * (tn + fnn)).sqrt(),
        ),
        ("loss", nats / n),
        ("calibration_error", bins.iter().map(|(r, s)| (r - s).abs()).sum::<f64>() / n),
    ];
    for (name, value) in expected {
        let found = found[name].as_f64().unwrap();
        assert!((found - value).abs() < 1e-4, "{name}: {found}, not {value}");
    }
    assert_eq!(found["confusion"], json!([[tn as u64, fp as u64], [fnn as u64, tp as u64]]));
    assert_eq!((&found["examples"], &found["task"]), (&json!(40), &json!("classify")));
    let recall = found["classes"]["good"]["recall"].as_f64().unwrap();
    assert!((recall - tp / (tp + fnn)).abs() < 1e-12);
    assert_eq!(found["classes"]["good"]["support"], (tp + fnn) as u64);
    for name in ["accuracy", "macro_f1", "matthews"] {
        let range = &found["intervals"][name];
        let (low, high) = (range[0].as_f64().unwrap(), range[1].as_f64().unwrap());
        let value = found[name].as_f64().unwrap();
        assert!(low < value && value < high && high - low < 0.7, "{name}: {range}");
    }
    let again = evaluation(&[&model, "--data", &test]);
    assert_eq!(again["intervals"], found["intervals"]);
    let other = evaluation(&[&model, "--data", &test, "--seed", "1"]);
    assert_ne!(other["intervals"], found["intervals"]);
    let few = evaluation(&[&model, "--data", &test, "--samples", "10"]);
    assert_ne!(few["intervals"], found["intervals"]);
    let (_, told, _) = longhand(&["eval", &model, "--data", &test], b"");
    assert!(told.contains("accuracy") && told.contains("95 % interval"), "{told}");
    assert!(told.contains("precision") && told.contains("true ↓ answer →"), "{told}");
}

#[test]
fn two_models_are_compared_on_the_same_examples() {
    let folder = Folder::new();
    let ((model, _), weak) = (folder.classifier(&[]), weak(&folder));
    let (test, rows) = hard(&folder);
    let right = |model: &str| -> Vec<bool> {
        let answers = answers(model, &rows);
        answers
            .iter()
            .zip(&rows)
            .map(|(answer, (label, _))| answer["label"] == label.as_str())
            .collect()
    };
    let (first, second) = (right(&model), right(&weak));
    let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|&(&a, &b)| a && !b).count();
    let found = evaluation(&[&model, "--data", &test, "--against", &weak]);
    let (test_result, differences) =
        (&found["against"]["mcnemar"], &found["against"]["differences"]);
    assert_eq!(test_result["only_first"], only(&first, &second));
    assert_eq!(test_result["only_second"], only(&second, &first));
    let share = |right: &[bool]| right.iter().filter(|&&right| right).count() as f64 / 40.0;
    let difference = differences["accuracy"]["value"].as_f64().unwrap();
    assert!((difference - (share(&first) - share(&second))).abs() < 1e-12);
    assert!(difference > 0.0, "{found}");
    let p = |of: &Value| of["p"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&p(&differences["accuracy"])) && p(test_result) <= 1.0);
    // The other way round nothing but the sign differs.
    let turned = evaluation(&[&weak, "--data", &test, "--against", &model]);
    let other = turned["against"]["differences"]["accuracy"]["value"].as_f64().unwrap();
    assert!((other + difference).abs() < 1e-12);
    assert_eq!(p(&turned["against"]["mcnemar"]), p(test_result));
    // A model does not differ from itself.
    let same = evaluation(&[&model, "--data", &test, "--against", &model]);
    assert_eq!(same["against"]["differences"]["macro_f1"]["value"], 0.0);
    assert_eq!(p(&same["against"]["differences"]["macro_f1"]), 1.0);
    assert_eq!(p(&same["against"]["mcnemar"]), 1.0);
    let (_, told, _) = longhand(&["eval", &model, "--data", &test, "--against", &weak], b"");
    assert!(told.contains("McNemar") && told.contains("paired bootstrap"), "{told}");
}

#[test]
fn a_table_comes_out_with_its_labels() {
    let folder = Folder::new();
    let (model, _) = folder.classifier(&[]);
    let predict = |arguments: &[&str]| {
        let (code, stdout, errors) =
            longhand(&[&["predict", &model], arguments].concat(), b"never read\n");
        assert_eq!((code, errors.as_str()), (0, ""));
        stdout
    };
    // A text of several lines, a blank one, and a cell that has to be quoted again.
    let csv =
        "id,sentence,note\n1,\"she was\nglad\",\"a, b\"\n2, ,x\n3,sad then,\"say \"\"hi\"\"\"\n";
    let table = folder.write("new.csv", csv);
    let out = predict(&["--data", &table]);
    let alone = longhand(&["predict", &model, "--columns", "probability"], b"sad then\n").1;
    let sad: f64 = alone.trim_end().parse().unwrap();
    let rows: Vec<&str> = out.split('\n').collect();
    assert_eq!(rows[0], "id,sentence,note,label,probability");
    assert_eq!(rows[1], "1,\"she was");
    assert!(rows[2].starts_with("glad\",\"a, b\",good,0."), "{out}");
    assert_eq!(rows[3], "2, ,x,,");
    let shared = "3,sad then,\"say \"\"hi\"\"\",bad,";
    let found: f64 = rows[4].strip_prefix(shared).unwrap_or_default().parse().unwrap();
    assert!((found - sad).abs() < 1e-5, "{found}, alone {sad}");
    assert_eq!(rows.len(), 6, "{out}");

    let lines = "{\"text\":\"so glad\",\"label\":\"?\"}\n\n{\"text\":\"\"}\n";
    let table = folder.write("new.jsonl", lines);
    let out = predict(&["--data", &table, "--text-column", "text"]);
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["label"]), (2, &json!("?")));
    assert_eq!(rows[0]["predicted_label"], "good");
    assert!(rows[0]["probability"].as_f64().unwrap() > 0.5);
    assert_eq!(rows[1]["predicted_label"], Value::Null);

    let table = folder.write("new.txt", "glad\t1\nsad\t2\n");
    let text = ["--data", &table, "--text-column", "0", "--format", "tsv", "--header", "no"];
    let out = predict(&text);
    let cells: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!((cells.len(), cells[0].len()), (2, 4));
    assert_eq!([cells[0][2], cells[1][2]], ["good", "bad"]);
    let out = predict(&[&text[..], &["--columns", "text,label"]].concat());
    assert_eq!(out, "glad\tgood\nsad\tbad\n");
    let out = predict(&[&text[..], &["--json"]].concat());
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["text"], &first["label"]), (&json!("glad"), &json!("good")));

    // Among marked lines one without a mark is a text.
    let marked = folder.write("marked.txt", "__label__good glad\nsad then\n");
    let out = predict(&["--data", &marked, "--text-column", "1", "--columns", "text,label"]);
    assert_eq!(out, "glad\tgood\nsad then\tbad\n");

    let refused = |arguments: &[&str], code: i32, words: &str| {
        let result = longhand(&[&["predict", &model], arguments].concat(), b"glad\n");
        check(&result, code, words, words);
    };
    refused(&["--data", &table], 2, "say with --format");
    refused(&["--data", "-"], 2, "a table must be a file");
    #[cfg(unix)]
    refused(&["--data", "/dev/stdin"], 2, "a table must be a file");
    refused(&["--data", "none.csv"], 1, "none.csv");
    refused(&["--data", &folder.write("a.csv", "id\n1\n")], 1, "no column \"sentence\"");
    refused(&["--text-column", "a"], 2, "--text-column is for tables");
    for (columns, unknown) in [("label,colour", "\"colour\""), ("label,", "\"\"")] {
        let sentence = format!("--columns {unknown} is none of label, probability, text");
        refused(&["--columns", columns], 2, &sentence);
    }
}

#[test]
fn what_cannot_be_measured_gets_one_sentence() {
    let folder = Folder::new();
    let (model, _) = folder.classifier(&[]);
    let (test, _) = hard(&folder);
    let text = folder.write("text.txt", &"One day she was glad.\n".repeat(200));
    let writer = folder.path("writer");
    let train = ["train", &text, "--steps", "1", "--batch", "2", "--chunk", "8", "--out", &writer];
    let (code, _, errors) = longhand(&train, b"");
    assert_eq!(code, 0, "{errors}");
    let refused = |arguments: &[&str], code: i32, words: &str| {
        check(&longhand(&[&["eval"], arguments].concat(), b""), code, words, words);
    };
    let strange = folder.write("strange.tsv", "mood\tsentence\nodd\ta\n");
    refused(&[&model, "--data", &strange], 1, "example 1 of");
    refused(&[&model, "--data", &strange], 1, "\"odd\"");
    refused(&[&model, "--data", &test, "--label-column", "none"], 1, "no column \"none\"");
    refused(&[&model, "--data", &text], 1, "text.txt");
    let empty = folder.write("empty.tsv", "");
    refused(&[&model, "--data", &empty], 1, "empty.tsv is empty: give at least one example");
    refused(&[&model, "--data", &test, "--samples", "0"], 2, "--samples");
    refused(&[&model, "--data", &test, "--window", "8"], 2, "--window is for language models");
    refused(&[&model, "--data", &test, "--split", "valid"], 2, "--split is for language models");
    refused(&[&model, "--data", &test, "--against", "none"], 1, "there is no folder none");
    let against = [&model, "--data", &test, "--against", &writer];
    refused(&against, 1, "is a language model, not a classifier");
    refused(&[&writer, "--data", &text, "--label-column", "a"], 2, "--label-column is for");
    refused(
        &[&writer, "--data", &text, "--against", &model],
        2,
        "--against is for models of tasks",
    );
    let rules = folder.write("rules.toml", "forbid = ['glad']");
    let sentence = "--rules is for tasks whose answers are written: leave it out";
    refused(&[&model, "--data", &test, "--rules", &rules], 2, sentence);
    refused(&[&writer, "--data", &text, "--rules", &rules], 2, sentence);
    // A language model's evaluation is as it was.
    let found = evaluation(&[&writer, "--data", &text]);
    let mut keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    keys.sort();
    let known = ["bits_per_byte", "loss", "perplexity", "seconds", "tokens", "tokens_per_second"];
    assert_eq!(keys, [&known[..], &["unknown"]].concat());
    let number = |key: &str| found[key].as_f64().unwrap();
    let pace = number("tokens_per_second") * number("seconds") / number("tokens");
    assert!((pace - 1.0).abs() < 1e-6, "{found}");
}
