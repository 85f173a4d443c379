//! Programs at the other ends of the pipes, and a person at the keyboard, that end early.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use longhand_model::{Model, Preset};
use longhand_text::Tokenizer;
use serde_json::Value;
use tempfile::TempDir;

/// Starts the program with every stream in a pipe.
fn start(folder: &TempDir, line: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_longhand"))
        .args(line.split(' '))
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A folder with an untrained model over bytes in `model`, and a text.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model");
    fs_err::create_dir(&model).unwrap();
    let tokenizer = Tokenizer::byte().unwrap();
    tokenizer.save(&model.join("tokenizer.json")).unwrap();
    Model::new(Preset::Lstm.config(256), 1).unwrap().save(&model).unwrap();
    let text = longhand::text::sample::text(5, 30_000);
    fs_err::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

fn position(memory: &Path) -> u64 {
    let output = Command::new(env!("CARGO_BIN_EXE_longhand"))
        .args(["memory", "show", "--json"])
        .arg(memory)
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    shown["header"]["position"].as_u64().unwrap()
}

fn stderr(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    let code = output.status.code().expect("an exit code");
    (code, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_score_that_is_interrupted_keeps_its_memory() {
    let folder = folder();
    let mut child = start(&folder, "score model --save-memory m.safetensors");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"a lantern").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..9 {
        lines.next().unwrap().unwrap();
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    // The stream itself never ends.
    let (code, errors) = stderr(child);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("9 tokens") || errors.contains("8 tokens"), "{errors}");
    assert_eq!(position(&folder.path().join("m.safetensors")), 9);
    drop(input);
}

#[test]
fn a_score_whose_reader_leaves_keeps_its_memory() {
    let folder = folder();
    let mut child = start(&folder, "score model --save-memory m.safetensors");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"a lantern in the garden").unwrap();
    lines.next().unwrap().unwrap();
    drop(lines);
    while input.write_all(b"and more of it ").is_ok() {}
    assert_eq!(stderr(child).0, 0);
    assert!(position(&folder.path().join("m.safetensors")) > 0);
}

#[test]
fn a_text_whose_reader_leaves_keeps_its_memory() {
    let folder = folder();
    let generate = "generate model --prompt a --max-tokens 100000 --save-memory m.safetensors";
    let mut child = start(&folder, generate);
    drop(child.stdout.take());
    assert_eq!(stderr(child), (0, String::new()));
    assert!(position(&folder.path().join("m.safetensors")) > 1);
}

#[test]
fn answers_whose_reader_leaves_end_quietly() {
    let folder = folder();
    let rows = "good\tit was glad\nbad\tit was sad\n".repeat(300);
    fs_err::write(folder.path().join("train.tsv"), format!("label\ttext\n{rows}")).unwrap();
    let majority = "finetune --task classify --data train.tsv --baseline majority --out m";
    assert_eq!(stderr(start(&folder, majority)).0, 0);
    for line in ["predict m", "predict m --json", "predict m --data train.tsv --json"] {
        let mut child = start(&folder, line);
        drop(child.stdout.take());
        // A program that reads its table alone may have ended.
        let text = "it was glad\n".repeat(2000);
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        assert_eq!(stderr(child), (0, String::new()), "{line}");
    }
}

#[test]
fn a_run_that_nobody_reads_is_not_done() {
    let folder = folder();
    let mut child = start(&folder, "train text.txt --steps 200 --batch 2 --chunk 8 --json --out m");
    drop(child.stdout.take());
    let (code, errors) = stderr(child);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("cannot write the training log"), "{errors}");
    assert!(!folder.path().join("m/model.safetensors").exists());
}

#[test]
fn a_run_goes_on_when_nobody_hears_what_it_says() {
    let folder = folder();
    let mut child = start(&folder, "train text.txt --steps 12 --batch 2 --chunk 8 --out m");
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!output.stdout.is_empty());
    assert!(folder.path().join("m/model.safetensors").is_file());
}

/// Two runs in one folder ended each other, sometimes both.
#[test]
fn a_folder_is_written_by_one_run_at_a_time() {
    let folder = folder();
    let run = "train text.txt --steps 100000 --batch 2 --chunk 8 --evaluate-every 1000000 --json";
    let mut first = start(&folder, &format!("{run} --out m"));
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let refusal = format!("process {} is writing into the folder m", first.id());
    for line in ["--force", "--resume"].map(|flag| format!("{run} --out m {flag}")) {
        let (code, errors) = stderr(start(&folder, &line));
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains(&refusal), "{errors}");
    }
    // A process that is killed leaves no lock.
    first.kill().unwrap();
    first.wait().unwrap();
    let (code, errors) = stderr(start(&folder, "train text.txt --steps 2 --force --out m"));
    assert_eq!(code, 0, "{errors}");
    assert!(!folder.path().join("m/.longhand.lock").exists());
    // The folder of a smaller copy as well.
    fs_err::create_dir(folder.path().join("small")).unwrap();
    let lock = longhand_run::FolderLock::take(&folder.path().join("small")).unwrap();
    let quantize = "quantize model --weights int8 --out small";
    let (code, errors) = stderr(start(&folder, quantize));
    let refusal = format!("process {} is writing into the folder small", std::process::id());
    assert!(code == 1 && errors.contains(&refusal), "{errors}");
    drop(lock);
    assert_eq!(stderr(start(&folder, quantize)).0, 0);
}
