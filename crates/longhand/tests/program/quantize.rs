//! Quantized models through the real binary: every verb that reads accepts them, and the verbs
//! that train refuse them.

use longhand_model::{Model, Preset};
use longhand_text::{Tokenizer, TokenizerKind};
use serde_json::Value;
use tempfile::TempDir;

use crate::longhand;

const TEXT: &str = "the cat sat on the mat. the dog sat on the log. a cat and a dog met. ";

/// The output of a command that must succeed.
fn stdout(arguments: &[&str]) -> String {
    let (code, out, error) = longhand(arguments, "");
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

/// The message of a command that must fail.
fn refusal(arguments: &[&str]) -> String {
    let (code, _, error) = longhand(arguments, "");
    assert_eq!(code, 1, "{arguments:?}: {error}");
    assert_eq!(error.trim().lines().count(), 1, "{error}");
    error
}

/// A model of random weights, its text, and a path beside it.
fn model() -> (TempDir, impl Fn(&str) -> String) {
    let folder = TempDir::new().unwrap();
    let base = folder.path().join("base");
    fs_err::create_dir(&base).unwrap();
    let texts = std::iter::once(Ok(TEXT.to_owned()));
    let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
    tokenizer.save(&base.join("tokenizer.json")).unwrap();
    let config = Preset::LonghandNano.config(tokenizer.vocab_size());
    Model::new(config, 3).unwrap().save(&base).unwrap();
    fs_err::write(folder.path().join("text.txt"), TEXT.repeat(20)).unwrap();
    let root = folder.path().to_path_buf();
    (folder, move |name| root.join(name).display().to_string())
}

#[test]
fn a_quantized_model_serves_every_verb_that_reads() {
    let (_folder, at) = model();
    let (base, text) = (at("base"), at("text.txt"));
    for format in ["bf16", "int8", "int4"] {
        let small = at(format);
        let line = stdout(&[
            "quantize",
            &base,
            "--weights",
            format,
            "--out",
            &small,
            "--data",
            &text,
            "--json",
        ]);
        let report: Value = serde_json::from_str(&line).unwrap();
        let number = |part: &str, name: &str| report[part][name].as_f64().unwrap();
        assert_eq!(report["after"]["weights"], format);
        assert!(number("after", "file_bytes") < 0.6 * number("before", "file_bytes"));
        assert!((number("after", "loss") / number("before", "loss") - 1.0).abs() < 0.05);
        let caches = (&report["before"]["kv_cache"], &report["after"]["kv_cache"]);
        assert_eq!(caches, (&"f32".into(), &"bf16".into()));
        assert!(number("after", "session_bytes") < 0.6 * number("before", "session_bytes"));

        let again: Value =
            serde_json::from_str(&stdout(&["eval", &small, "--data", &text, "--json"])).unwrap();
        let loss = again["loss"].as_f64().unwrap();
        assert!((loss - number("after", "loss")).abs() < 1e-6, "{loss}");
        assert!(!stdout(&["generate", &small, "--prompt", "the", "--max-tokens", "20"]).is_empty());
        assert!(!stdout(&["inspect", &small, "--text", &text]).is_empty());
        stdout(&["bench", "first-token", &small, "--runs", "1"]);

        // A memory of one is no memory of the other, and goes on in its own as if never saved.
        let memory = at(&format!("{format}.safetensors"));
        stdout(&["memory", "save", &small, "--text", &text, "--out", &memory]);
        let with = |model: &str| {
            let tail = ["--memory", &memory, "--max-tokens", "30", "--seed", "4"];
            longhand(&[&["generate", model], &tail[..]].concat(), "")
        };
        assert_eq!(with(&small).0, 0);
        assert_eq!(with(&small).1, with(&small).1);
        let exact = at(&format!("{format}-exact"));
        let line = ["--weights", format, "--kv-cache", "f32", "--out", &exact];
        stdout(&[&["quantize", &base], &line[..]].concat());
        for other in [&base, &exact] {
            let (code, _, said) = with(other);
            assert!(code == 1 && said.contains("another model"), "{said}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_sentence() {
    let (_folder, at) = model();
    let (base, small) = (at("base"), at("small"));
    stdout(&["quantize", &base, "--weights", "int8", "--out", &small]);
    let said = refusal(&["quantize", &small, "--weights", "int4", "--out", &at("smaller")]);
    assert!(said.contains("int8 already"), "{said}");
    let said = refusal(&["quantize", &base, "--weights", "int4", "--out", &small]);
    assert!(said.contains("not empty"), "{said}");
    let said = refusal(&["quantize", &base, "--weights", "int4", "--out", &base, "--force"]);
    assert!(said.contains("own folder"), "{said}");
    let run = at("run");
    fs_err::create_dir(&run).unwrap();
    fs_err::write(format!("{run}/training.json"), "{}").unwrap();
    let said = refusal(&["quantize", &base, "--weights", "int4", "--out", &run, "--force"]);
    assert!(said.contains("a trained run"), "{said}");
    let table = at("table.tsv");
    let lines = "cat\tthe cat\ndog\tthe dog\n".repeat(10);
    fs_err::write(&table, format!("label\ttext\n{lines}")).unwrap();
    let said = refusal(&[
        "finetune",
        &small,
        "--task",
        "classify",
        "--data",
        &table,
        "--out",
        &at("tuned"),
    ]);
    assert!(said.contains("int8") && said.contains("cannot be trained"), "{said}");
    let (code, _, said) = longhand(&["quantize", &base, "--weights", "int3", "--out", &small], "");
    assert!(code == 2 && said.contains("int3"), "{said}");
    let (code, ..) = longhand(&["quantize", &base, "--weights", "f32", "--out", &small], "");
    assert_eq!(code, 2);
}

#[test]
fn decoding_is_measured() {
    for weights in ["f32", "bf16", "int8", "int4"] {
        let line = stdout(&[
            "bench",
            "lstm-decode",
            "--vocab",
            "50",
            "--dim",
            "33",
            "--layers",
            "2",
            "--batch",
            "3",
            "--weights",
            weights,
            "--window-seconds",
            "0.01",
            "--threads",
            "2",
        ]);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(line["tokens_per_s"]["median"].as_f64().unwrap() > 0.0);
        assert_eq!(line["weights"], weights);
    }
}

/// Columns and lower case are settings of the run, which a copy of its model is read with too.
#[test]
fn a_copy_is_measured_on_examples_as_its_original() {
    let (folder, path) = model();
    let rows: String = (0..40).map(|i| format!("EIN HAUS {i}\tA HOUSE {i}\n")).collect();
    fs_err::write(folder.path().join("pairs.tsv"), format!("from\tto\n{rows}")).unwrap();
    let [pairs, own, small] = ["pairs.tsv", "own", "small"].map(&path);
    let tuned = ["finetune", "--task", "translate", "--data", &pairs, "--out", &own];
    let read = ["--source-column", "from", "--target-column", "to", "--set", "lowercase=true"];
    let short = ["--valid-fraction", "0", "--steps", "3", "--threads", "1"];
    stdout(&[&tuned[..], &read, &short].concat());
    stdout(&["quantize", &own, "--weights", "bf16", "--out", &small]);
    let loss = |model: &str| -> f64 {
        let out = stdout(&["eval", model, "--data", &pairs, "--threads", "1", "--json"]);
        let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        last["loss"].as_f64().unwrap()
    };
    let (whole, copy) = (loss(&own), loss(&small));
    assert!((copy - whole).abs() < 0.02 * whole, "{copy} and {whole}");
}
