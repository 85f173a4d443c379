//! `longhand train --preset ngram` and its model folders, through the real binary.

use serde_json::Value;

use crate::longhand;
use crate::tables::{Folder, check, text};

/// The folder of a model, and the last line of JSON of its training.
fn train(folder: &Folder, name: &str, further: &[&str]) -> (String, Value) {
    let (train, test) =
        (folder.write("train.txt", &text(300)), folder.write("test.txt", &text(40)));
    let out = folder.path(name);
    let arguments = ["train", &train, "--test", &test, "--preset", "ngram", "--json"];
    let arguments = [&arguments[..], &["--threads", "1", "--out", &out], further].concat();
    let (code, stdout, errors) = longhand(&arguments, b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    (out, serde_json::from_str(stdout.lines().last().unwrap()).unwrap())
}

#[test]
fn an_n_gram_model_is_trained_measured_and_asked_like_any_model() {
    let folder = Folder::new();
    let (model, last) = train(&folder, "model", &["--tokenizer", "word", "--order", "3"]);
    assert_eq!(last["done"], true);
    let test = folder.path("test.txt");
    let eval = |further: &[&str]| -> Value {
        let arguments = ["eval", &model, "--data", &test, "--json"];
        let (code, stdout, errors) = longhand(&[&arguments[..], further].concat(), b"");
        assert_eq!((code, errors.as_str()), (0, ""));
        serde_json::from_str(&stdout).unwrap()
    };
    let carried = eval(&[]);
    let loss = |eval: &Value| eval["loss"].as_f64().unwrap();
    assert!((loss(&carried) - last["test"]["loss"].as_f64().unwrap()).abs() < 1e-9, "{last}");
    assert!(loss(&carried) < 1.0 && carried["bits_per_byte"].is_f64(), "{carried}");
    // The context is two words, so that one stream reads no more than sixteen.
    assert!((loss(&eval(&["--exact"])) - loss(&carried)).abs() < 1e-6);
    assert!(loss(&eval(&["--window", "2"])) > loss(&carried));

    // Each token's surprisal, and their mean.
    let (code, stdout, errors) = longhand(&["score", &model, "--json"], text(40).as_bytes());
    assert_eq!(code, 0, "{errors}");
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let nats: Vec<f64> = lines.filter_map(|line| line["surprisal"].as_f64()).collect();
    let mean = nats.iter().sum::<f64>() / nats.len() as f64;
    assert!((mean - loss(&carried)).abs() < 1e-4, "{mean}");

    let generate = |further: &[&str]| {
        let arguments = ["generate", &model, "--max-tokens", "6"];
        longhand(&[&arguments[..], further].concat(), b"")
    };
    let greedy = generate(&["--prompt", "anna", "--temperature", "0"]);
    assert_eq!(greedy.0, 0, "{}", greedy.2);
    assert!(greedy.1.starts_with(" has "), "{greedy:?}");
    // A session in a file goes on as it would have.
    let memory = folder.path("memory.safetensors");
    let short = ["--prompt", "ben has", "--max-tokens", "3", "--save-memory", &memory];
    let (code, first, errors) = longhand(&[&["generate", &model], &short[..]].concat(), b"");
    assert_eq!(code, 0, "{errors}");
    let further = ["generate", &model, "--memory", &memory, "--max-tokens", "3"];
    let (_, second, _) = longhand(&further, b"");
    let (_, both, _) = generate(&["--prompt", "ben has"]);
    assert_eq!(format!("{first}{second}"), both);

    let card = fs_err::read_to_string(format!("{model}/README.md")).unwrap();
    assert!(card.contains("Model: n-grams of order 3."), "{card}");
    check(&longhand(&["train", "--resume", "--out", &model], b""), 1, "no checkpoints", "resume");
    let weights = format!("{model}/ngram.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&weights, bytes).unwrap();
    check(&generate(&["--prompt", "anna"]), 1, "is damaged", "a flipped bit");
}

#[test]
fn what_cannot_take_an_n_gram_model_says_so() {
    let folder = Folder::new();
    let (model, last) = train(&folder, "model", &[]);
    assert!(last["parameters"].as_u64().unwrap() > 500, "{last}");
    let header = fs_err::read_to_string(format!("{model}/ngram.json")).unwrap();
    assert!(header.contains("\"order\": 8"), "{header}");
    let (text, table) = (folder.path("train.txt"), folder.table("table.tsv", 30));
    let out = folder.path("out");
    let base = ["finetune", &model, "--task", "classify", "--data", &table, "--out", &out];
    let columns = ["--text-column", "sentence", "--label-column", "mood"];
    for (arguments, words) in [
        (
            &["quantize", &model, "--weights", "int8", "--out", &out][..],
            "an n-gram model, which this verb does not take",
        ),
        (&["predict", &model], "an n-gram model, which this verb does not take"),
        (&["inspect", &model, "--recall"], "is an n-gram model"),
        (&["inspect", &model, "--text", &text], "is an n-gram model"),
        (&["generate", &model, "--prompt", "a", "--adapter", &out], "is an n-gram model"),
        (&[&base[..], &columns].concat(), "is an n-gram model"),
    ] {
        check(&longhand(arguments, b""), 1, words, &format!("{arguments:?}"));
    }
    let refused = |further: &[&str], words: &str| {
        let arguments = [&["train", &text, "--out", &out], further].concat();
        check(&longhand(&arguments, b""), 2, words, words);
        assert!(!std::path::Path::new(&out).exists(), "{words}");
    };
    refused(&["--order", "3"], "--order is for n-gram models: pass --preset ngram too");
    refused(&["--preset", "ngram", "--minutes", "1"], "--minutes is for networks");
    refused(&["--preset", "ngram", "--chunk", "9"], "--chunk is for networks");
    refused(&["--preset", "ngrams"], "there is no preset `ngrams`");
    let order =
        longhand(&["train", &text, "--preset", "ngram", "--order", "99", "--out", &out], b"");
    check(&order, 1, "the order is 99, but must be from 1 to ", "a high order");
}
