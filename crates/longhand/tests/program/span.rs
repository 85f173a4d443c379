//! `longhand finetune --task span` and its answers through the real binary.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::longhand;

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const NAMES: [&str; 6] = ["Ada", "Bo", "Élodie", "Ida", "Jo", "Ken"];
const TOWNS: [&str; 5] = ["Zürich", "Bern", "Basel", "Chur", "Thun"];
const THINGS: [&str; 4] = ["a map", "two coins", "some bread", "an old key"];

/// Stories of two persons each, with questions about one of them.
fn stories(from: usize, count: usize, impossible: bool) -> Value {
    let paragraph = |i: usize| {
        let (one, other) = (NAMES[i % 6], NAMES[(i + 1 + i % 4) % 6]);
        let (town, far) = (TOWNS[i % 5], TOWNS[(i + 2) % 5]);
        let (thing, own) = (THINGS[i % 4], THINGS[(i + 1) % 4]);
        let context = format!(
            "{one} lives in {town} and has {thing}. {other} lives in {far}, and has {own}."
        );
        let answer = |text: &str| {
            let start = context.find(text).map(|at| context[..at].chars().count());
            json!([{"text": text, "answer_start": start}])
        };
        let mut questions = vec![
            json!({"id": format!("{i}-where"), "question": format!("Where does {other} live?"),
                   "answers": answer(far)}),
            json!({"id": format!("{i}-what"), "question": format!("What does {one} have?"),
                   "answers": answer(thing)}),
        ];
        if impossible {
            questions.push(json!({"id": format!("{i}-why"), "answers": [], "is_impossible": true,
                                  "question": format!("Why does {one} sleep?")}));
        }
        json!({"context": context, "qas": questions})
    };
    let paragraphs: Vec<Value> = (from..from + count).map(paragraph).collect();
    json!({"version": "1.1", "data": [{"title": "Stories", "paragraphs": paragraphs}]})
}

#[test]
fn questions_become_a_reader_that_answers_them() {
    let folder = TempDir::new().unwrap();
    let train = write(&folder, "train.json", &stories(0, 100, true).to_string());
    let valid = write(&folder, "valid.json", &stories(40, 10, true).to_string());
    let test = write(&folder, "test.json", &stories(100, 20, true).to_string());
    let out = folder.path().join("reader").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "span", "--data", &train, "--valid", &valid, "--test", &test][..],
        &["--epochs", "30", "--threads", "1", "--json", "--out", &out],
    ];
    let (code, stdout, errors) = longhand(&arguments.concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["done"], true);
    let value = |name: &str| last["test"][name].as_f64().unwrap();
    assert!(value("f1") > 0.9 && value("exact_match") > 0.9, "{last}");
    assert!(value("no_answer_accuracy") > 0.9, "{last}");
    assert!(value("baseline_f1") < 0.5, "{last}");

    let questions = fs_err::read_to_string(&test).unwrap();
    let (code, plain, errors) = longhand(&["predict", &out], &questions);
    assert_eq!((code, errors.as_str()), (0, ""));
    let answers: Value = serde_json::from_str(&plain).unwrap();
    assert_eq!(answers.as_object().unwrap().len(), 60);
    let (_, again, _) = longhand(&["predict", &out, "--data", &test], "");
    assert_eq!(again, plain);
    let question =
        || json!({"context": "Élodie lives in Bern.", "question": "Where does Élodie live?"});
    let line = question();
    let (code, lines, _) = longhand(&["predict", &out, "--json"], format!("{line}\n"));
    assert_eq!(code, 0);
    let answer: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(answer["id"], "1");
    if let (Some(start), Some(end)) = (answer["start"].as_u64(), answer["end"].as_u64()) {
        let text: String = "Élodie lives in Bern."
            .chars()
            .skip(start as usize)
            .take((end - start) as usize)
            .collect();
        assert_eq!(answer["answer"], text);
    }
    assert!(answer["probability"].as_f64().unwrap() > 0.0);

    let why = |flags: &[&str]| {
        let line = [&["predict", &out, "--explain"], flags].concat();
        let (code, told, errors) = longhand(&line, format!("{line}\n", line = question()));
        assert_eq!((code, errors.as_str()), (0, ""));
        told
    };
    let told: Value = serde_json::from_str(&why(&["--json"])).unwrap();
    let found = &told["explanation"];
    let log = told["probability"].as_f64().unwrap().ln();
    let none = told["no_answer"].as_f64().unwrap().ln();
    let explained = found["log_probability"].as_f64().unwrap();
    assert!((explained - log).abs() < 1e-3 || (explained - none).abs() < 1e-3, "{told}");
    // The question, the mark, and the context.
    assert_eq!(found["tokens"].as_array().unwrap().len(), 5 + 1 + 5);
    let plain = why(&[]);
    assert!(plain.starts_with("\"1\": ") && plain.contains("completeness error"), "{plain}");

    let (code, measured, errors) = longhand(
        &["eval", &out, "--data", &test, "--against", &out, "--samples", "20", "--json"],
        "",
    );
    assert_eq!((code, errors.as_str()), (0, ""));
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["f1"], last["test"]["f1"]);
    assert_eq!(measured["against"]["differences"]["f1"]["value"], 0.0);
}

#[test]
fn bad_input_is_told_in_one_sentence() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("reader").to_str().unwrap().to_owned();
    let good = write(&folder, "good.json", &stories(0, 4, false).to_string());
    let check = |data: &str, further: &[&str], words: &[&str]| {
        let arguments = [&["finetune", "--task", "span", "--data", data, "--out", &out], further];
        let (code, _, errors) = longhand(&arguments.concat(), "");
        assert_ne!(code, 0, "{words:?}");
        assert!(words.iter().all(|word| errors.contains(word)), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    };
    let broken = write(&folder, "broken.json", "{\"data\": [\n  {\"title\": \"x\"}]}");
    check(&broken, &[], &["broken.json, line 2", "missing field `paragraphs`"]);
    let lines = write(&folder, "lines.jsonl", "{\"context\": \"a\", \"question\": \"b\"}\n{\n");
    check(&lines, &[], &["lines.jsonl, line 2"]);
    let none = write(&folder, "none.json", "{\"data\": []}");
    check(&none, &[], &["none.json holds no question"]);
    let unanswered = write(&folder, "unanswered.jsonl", "{\"context\":\"a\",\"question\":\"b\"}\n");
    check(&unanswered, &[], &["no question of", "unanswered.jsonl has an answer"]);
    check(&good, &["--test", &broken], &["broken.json, line 2"]);
    check(&good, &["--set", "stride=500"], &["stride = 500", "384 tokens"]);
    check(&good, &["--set", "windows=500"], &["windows"]);
    let own = ["has a baseline of its own", "`baseline_f1`", "leave out the baseline majority"];
    check(&good, &["--baseline", "majority"], &own);
}

#[test]
fn answers_off_their_offset_are_counted_and_told() {
    let folder = TempDir::new().unwrap();
    let mut stories = stories(0, 24, false);
    let questions = &mut stories["data"][0]["paragraphs"][0]["qas"];
    questions[0]["answers"][0]["answer_start"] = json!(1);
    questions[1]["answers"][0]["text"] = json!("Nobody has it");
    let data = write(&folder, "train.json", &stories.to_string());
    let out = folder.path().join("reader").to_str().unwrap().to_owned();
    let arguments = ["finetune", "--task", "span", "--data", &data, "--steps", "1", "--out", &out];
    let (code, _, errors) = longhand(&arguments, "");
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("1 answer(s) were not at their offset"), "{errors}");
    assert!(errors.contains("1 answer(s) occur nowhere"), "{errors}");

    // Those of every file, and a program is told too.
    let more = [&arguments[..], &["--valid", &data, "--test", &data, "--force", "--json"]].concat();
    let (code, told, errors) = longhand(&more, "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let first: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    let moved = "answer(s) were not at their offset and were moved to the nearest place";
    assert_eq!(first["notes"][moved], 3, "{first}");
    let (code, told, errors) = longhand(&["eval", &out, "--data", &data, "--json"], "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["notes"][moved], 1, "{told}");
    let (_, told, _) = longhand(&["eval", &out, "--data", &data], "");
    assert!(told.contains(&format!("\n1 {moved}\n")), "{told}");
    let (code, answers, errors) = longhand(&["predict", &out, "--data", &data], "");
    assert_eq!((code, answers.lines().count()), (0, 50), "{errors}");
    assert!(errors.contains(&format!("1 {moved}\n")), "{errors}");
}
