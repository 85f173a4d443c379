//! `longhand train` and `longhand eval` through the real binary.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A place to run commands in, with a text.
struct Place {
    folder: TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        let text = longhand::text::sample::text(5, 30_000);
        place.write("text.txt", text.as_bytes());
        place
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs_err::write(self.path(name), content).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, line: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.current_dir(self.folder.path()).env("LONGHAND_DATA", self.folder.path());
        let output = command.args(line.split_whitespace()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Said { code, out: text(output.stdout), err: text(output.stderr) }
    }

    fn done(&self, line: &str) -> Vec<Value> {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {}", said.err);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// One sentence on stderr and nothing on stdout.
    fn refused(&self, line: &str, code: i32, words: &str) {
        let Said { code: got, out, err } = self.run(line);
        assert_eq!(got, code, "{line}: {err}");
        assert_eq!(out, "", "{line}");
        assert!(err.contains(words), "{line}: {err}");
        assert!(!err.contains("panicked") && !err.contains("Error {"), "{line}: {err}");
        assert!(code == 2 || err.trim_end().lines().count() == 1, "{line}: {err}");
    }
}

fn small(config: &str) -> String {
    format!(
        "description = 'small'\n{config}\n[tokenizer]\nkind = 'char'\n[model.config]\n\
         model_type = 'longhand'\nformat = 2\nwidth = 24\n\
         heads = [{{ type = 'language-model' }}]\n\
         blocks = [{{ long = {{ type = 'lstm', hidden = 24 }}, working = {{ type = 'attention', \
         heads = 2, kv_heads = 2, head_width = 12, window = 16 }} }}]\n\
         [training]\nbatch = 8\nchunk = 16\nwarmup = 5\nthreads = 2\n"
    )
}

fn hash(folder: &Path) -> Vec<u8> {
    fs_err::read(folder.join("model.safetensors")).unwrap()
}

/// The model is saved all the same.
#[test]
fn a_run_that_is_worse_than_its_recipe_expects_fails() {
    let place = Place::new();
    let recipe = |expected: &str| {
        small(&format!(
            "[data]\ntrain = ['text.txt']\nvalid_fraction = 0.2\n[expected]\n{expected}"
        ))
    };
    for (name, expected, words) in [
        ("bound", "'valid.loss' = { at_most = 0.01 }", "valid.loss is "),
        ("unknown", "'test.loss' = { at_most = 100 }", "test.loss was not measured"),
    ] {
        place.write(&format!("{name}.toml"), recipe(expected).as_bytes());
        for flag in ["", "--json"] {
            let line = format!("train --recipe {name}.toml --steps 5 --out {name}{flag} {flag}");
            let Said { code, err, .. } = place.run(&line);
            assert_eq!(code, 1, "{line}: {err}");
            assert!(err.contains("error: the result is not what the recipe expects"), "{err}");
            assert!(err.contains(words), "{err}");
            assert!(place.path(&format!("{name}{flag}")).join("model.safetensors").is_file());
        }
    }
}

#[test]
fn a_run_that_diverges_fails() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    let line = "train --recipe small.toml --steps 60 --learning-rate 1000 --out m --json";
    let Said { code, err, .. } = place.run(line);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("has diverged") || err.contains("is not finite"), "{err}");
    assert!(err.contains("lower the learning rate"), "{err}");
}

#[test]
fn a_text_becomes_a_model_folder_that_can_be_scored() {
    let place = Place::new();
    let test = longhand::text::sample::text(6, 5_000);
    place.write("test.txt", test.as_bytes());
    place.write(
        "small.toml",
        small(
            "[data]\ntrain = ['text.txt']\nvalid_fraction = 0.2\ntest = ['test.txt']\n\
             [expected]\n'valid.loss' = { at_most = 100 }",
        )
        .as_bytes(),
    );
    // `eval` multiplies in f32, and what the run measures is compared with it.
    let lines = place.done("train --recipe small.toml --steps 60 --precision f32 --out m --json");
    let steps: Vec<u64> = lines
        .iter()
        .filter(|line| line.get("grad_norm").is_some())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [10, 20, 30, 40, 50, 60]);
    let step = lines.iter().find(|line| line["step"] == 10).unwrap();
    for key in ["tokens", "seconds", "loss", "lr"] {
        assert!(step[key].is_number(), "{step}");
    }
    let evaluations = lines.iter().filter(|line| line.get("valid_loss").is_some());
    assert_eq!(evaluations.count(), 8);
    let last = lines.last().unwrap();
    assert_eq!(last["done"], true);
    assert_eq!(last["out"], "m");
    assert_eq!(last["expected"]["valid.loss"]["met"], true);
    assert!(last["test"]["loss"].as_f64().unwrap() > 0.0);
    let best = last["best_valid_loss"].as_f64().unwrap();
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "generation_config.json",
        "README.md",
        "training.json",
        "logs/log.jsonl",
    ] {
        assert!(place.path("m").join(file).is_file(), "{file}");
    }

    let valid = &place.done("eval m --data text.txt --split valid --json")[0];
    assert!((valid["loss"].as_f64().unwrap() - best).abs() < 1e-9, "{valid} {best}");
    assert!(
        (valid["perplexity"].as_f64().unwrap() - valid["loss"].as_f64().unwrap().exp()).abs()
            < 1e-9
    );
    let tokens = |split: &str| {
        let line = format!("eval m --data text.txt --split {split} --json");
        place.done(&line)[0]["tokens"].as_u64().unwrap()
    };
    let all = tokens("all");
    assert_eq!(tokens("train") + tokens("valid") + 1, all);
    let exact = place.done("eval m --data text.txt --split valid --exact --json")[0].clone();
    let windows = place.done("eval m --data text.txt --split valid --window 32 --json")[0].clone();
    assert_eq!(exact["tokens"], windows["tokens"]);
    for value in [&exact, &windows] {
        // Rare characters of the held-out part may be unknown to the model.
        let known = value["unknown"].as_f64().unwrap() <= 0.001;
        let bits = value["bits_per_byte"].as_f64();
        assert!(bits.map_or(!known, |bits| known && bits > 0.0), "{value}");
    }
    // For people the same in a sentence, on stdout as every result.
    let said = place.run("eval m --data test.txt");
    assert!(said.err.is_empty() && said.out.contains("perplexity"), "{}", said.err);
}

#[test]
fn bits_per_byte_count_what_was_scored_and_no_unknown_token() {
    let place = Place::new();
    let rows = "{\"text\":\"ab\"}\n".repeat(200);
    place.write("rows.jsonl", rows.as_bytes());
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    place.done("train --recipe small.toml --steps 2 --tokenizer byte --out bytes --json");
    let value = &place.done("eval bytes --data rows.jsonl --json")[0];
    let bits = value["loss"].as_f64().unwrap() / std::f64::consts::LN_2;
    // Of each row the second byte is scored.
    assert!((value["bits_per_byte"].as_f64().unwrap() - bits).abs() < 1e-9, "{value}");
    assert_eq!(value["unknown"], 0.0);
    place.done("train --recipe small.toml --steps 2 --tokenizer word --out words --json");
    place.write("other.txt", "目 耳 口\n".repeat(50).as_bytes());
    let value = &place.done("eval words --data other.txt --json")[0];
    assert!(value["bits_per_byte"].is_null() && value["unknown"] == 0.75, "{value}");
    let said = place.run("eval words --data other.txt");
    assert!(said.out.contains("75.00 % of them unknown"), "{}", said.out);
}

#[test]
fn the_same_seed_gives_the_same_model_and_resuming_goes_on() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    place.done("train --recipe small.toml --steps 30 --out whole --json");
    place.done("train --recipe small.toml --steps 30 --out again --json");
    assert_eq!(hash(&place.path("whole")), hash(&place.path("again")));

    // As if killed after step 20: what later steps wrote is gone.
    place.done("train --recipe small.toml --steps 30 --checkpoint-every 10 --out part --json");
    let part = place.path("part");
    fs_err::remove_dir_all(part.join("checkpoints/step-000000000030")).unwrap();
    fs_err::remove_file(part.join("model.safetensors")).unwrap();
    let lines = place.done("train --resume --out part --json");
    assert!(lines.iter().all(|line| line["step"].as_u64() > Some(20)), "{lines:?}");
    assert_eq!(hash(&place.path("whole")), hash(&part));
    // Done, it stays as it is; and nothing to go on with is a beginning.
    place.done("train --recipe small.toml --steps 30 --resume --out part --json");
    assert_eq!(hash(&place.path("whole")), hash(&part));
    place.done("train --recipe small.toml --steps 30 --resume --out fresh --json");
    assert_eq!(hash(&place.path("whole")), hash(&place.path("fresh")));

    place.done("train text.txt --resume --out part --json");
    assert_eq!(hash(&place.path("whole")), hash(&part));
    place.refused("train --resume --out typo", 2, "there is no run to resume in typo");
    place.refused("train --resume --steps 9 --out typo", 2, "there is no run to resume in typo");
    place.refused("finetune --resume --out typo", 2, "there is no run to resume in typo");
    assert!(!place.path("typo").exists());
    let said =
        place.run("train text.txt --preset lstm --steps 1 --batch 4 --chunk 16 --resume --out new");
    assert!(
        said.err.contains("there is no run to resume in new: a new one begins"),
        "{}",
        said.err
    );

    place.refused("train --recipe small.toml --steps 30 --out part", 1, "not empty");
    let again = "train --recipe small.toml --json --resume --out part";
    place.refused(&format!("{again} --seed 9"), 1, "seed");
    place.refused(&format!("{again} --tokenizer byte"), 1, "another");
    place.done("train --resume --out part --json");
    assert_eq!(hash(&place.path("whole")), hash(&part), "what is refused changes nothing");
    place.refused("train text.txt --resume --force --out part", 2, "cannot be used with");
    place.write("part/mine.txt", b"kept");
    place.done("train --recipe small.toml --steps 5 --force --out part --json");
    assert!(place.path("part/mine.txt").is_file(), "only what runs write is removed");
}

#[test]
fn a_run_that_cannot_begin_leaves_the_model_that_lies_there() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    place.write("latin.txt", b"caf\xe9 au lait");
    place.write("tiny.txt", b"a text too short to train on");
    place.done("train --recipe small.toml --steps 2 --out m --json");
    let files = || {
        let mut names = files_in(&place.path("m"));
        names.retain(|name| !name.starts_with("logs"));
        let read = |name: &String| fs_err::read(place.path("m").join(name)).unwrap();
        names.iter().map(|name| (name.clone(), read(name))).collect::<Vec<_>>()
    };
    let before = files();
    let force = "train --recipe small.toml --force --out m";
    place.refused(&format!("{force} tiny.txt"), 1, "needs");
    place.refused(&format!("{force} --vocab 1"), 1, "too small");
    place.refused(&format!("{force} --valid latin.txt"), 1, "byte offset 3");
    place.refused(&format!("{force} --batch 100000"), 1, "needs");
    assert!(files() == before, "something is gone");
    place.done(&format!("{force} --steps 3 --json"));
    assert_ne!(
        hash(&place.path("m")),
        before.iter().find(|f| f.0 == "model.safetensors").unwrap().1
    );
}

/// The names of a folder's files, those in folders within included, in order.
fn files_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs_err::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                names.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn what_no_run_wrote_is_never_overwritten() {
    let place = Place::new();
    fs_err::create_dir_all(place.path("mine/logs")).unwrap();
    for name in ["config.json", "README.md", "logs/precious.log"] {
        place.write(&format!("mine/{name}"), b"mine");
    }
    let before = files_in(&place.path("mine"));
    let steps = "train text.txt --preset tanh-lstm --steps 1 --json --out mine";
    for flag in ["--force", "--resume"] {
        place.refused(&format!("{steps} {flag}"), 1, "no run of this program: name another --out");
    }
    assert_eq!(files_in(&place.path("mine")), before);
    for name in ["config.json", "README.md"] {
        assert_eq!(fs_err::read(place.path("mine").join(name)).unwrap(), b"mine");
        fs_err::remove_file(place.path("mine").join(name)).unwrap();
    }
    // Nothing is in the way any more, and what is not ours stays.
    place.write("mine/.longhand-abc.partial", b"half");
    place.done(&format!("{steps} --force"));
    place.done(&format!("{steps} --resume"));
    assert!(!place.path("mine/.longhand-abc.partial").exists(), "what a killed process left");
    place.write("mine/logs/precious.log", b"mine");
    assert!(place.path("mine/model.safetensors").is_file());
}

#[test]
fn a_run_killed_before_its_first_checkpoint_is_logged_once() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    place.done("train --recipe small.toml --steps 30 --out m --json");
    // As if killed: the log is there, checkpoints are not.
    fs_err::remove_dir_all(place.path("m/checkpoints")).unwrap();
    let said = place.run("train --resume --out m");
    assert!(said.err.contains("no checkpoint was written yet: beginning again"), "{}", said.err);
    let log = fs_err::read_to_string(place.path("m/logs/log.jsonl")).unwrap();
    let steps: Vec<u64> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line.get("grad_norm").is_some())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [10, 20, 30]);
}

#[test]
fn a_run_goes_on_from_wherever_it_is_resumed() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    let run = |folder: &Path, line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.current_dir(folder).env_remove("LONGHAND_DATA");
        let output = command.args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(place.folder.path(), "train --recipe small.toml --steps 2 --out m --json");
    let elsewhere = TempDir::new().unwrap();
    let out = place.path("m");
    run(elsewhere.path(), &format!("train --resume --steps 4 --out {} --json", out.display()));
}

#[test]
fn tables_come_from_anywhere_and_a_column_needs_one() {
    let place = Place::new();
    let rows: String = longhand::text::sample::stories(3, 30)
        .iter()
        .map(|story| format!("{}\n", serde_json::json!({ "id": 7, "body": story.text })))
        .collect();
    place.write("rows.jsonl", rows.as_bytes());
    place.write("rows", rows.as_bytes());
    let steps = "--tokenizer byte --preset tanh-lstm --batch 4 --steps 1 --json --out";
    place.done(&format!("train rows.jsonl --text-column body {steps} a"));
    place.done(&format!("train rows --text-column body --format jsonl {steps} b"));
    assert_eq!(hash(&place.path("a")), hash(&place.path("b")));
    let column = "--text-column body";
    for line in ["train text.txt", "train rows", "train", "eval a --data text.txt"] {
        let out = if line.starts_with("train") { "--out c" } else { "" };
        place.refused(&format!("{line} {column} {out}"), 2, "there is no table");
    }
    place.refused("train rows --format xml --out c", 2, "jsonl, csv, tsv, parquet");
    let eval = |data: &str| place.done(&format!("eval a --data {data} {column} --json"));
    let known = eval("rows.jsonl")[0]["loss"].clone();
    assert_eq!(known, eval("rows --format jsonl")[0]["loss"]);
    // A plain text may be held out of tables.
    place.done(&format!("train rows.jsonl {column} --valid text.txt {steps} d"));
}

#[test]
fn bad_texts_and_settings_get_one_sentence() {
    let place = Place::new();
    place.write("empty.txt", b"");
    place.write("binary.bin", b"ab\0cd");
    place.write("latin.txt", b"caf\xe9 au lait");
    place.write("short.txt", b"too short to train on");
    place.write("file", b"a file");
    place.refused("train no-such.txt --out m", 1, "no-such.txt does not exist");
    place.refused("train empty.txt --out m", 1, "empty");
    place.refused("train binary.bin --out m", 1, "binary");
    place.refused("train latin.txt --out m", 1, "byte offset 3");
    place.refused("train latin.txt --lossy --out m", 1, "needs 2049");
    place.refused("train short.txt --out m", 1, "needs 2049");
    place.refused("train text.txt --out file", 1, "is a file");
    place.refused("train text.txt --preset huge --out m", 2, "no preset `huge`");
    let line = "train text.txt --preset stacked-lstm-classifier --out m";
    place.refused(line, 1, "cannot learn to predict text");
    let recipe = "[model.overrides]\nheads = [{ type = 'classifier', classes = 2 }]\n";
    place.write("classes.toml", recipe.as_bytes());
    place.refused(
        "train text.txt --recipe classes.toml --out m",
        1,
        "cannot learn to predict text",
    );
    place.refused("train text.txt --tokenizer letters --out m", 2, "byte, char, word");
    place.refused("train text.txt --minutes 0 --out m", 2, "--minutes is 0, but must be above 0");
    place.refused("train text.txt --minutes 1 --steps 3 --out m", 2, "cannot be used with");
    place.refused("train text.txt --batch 0 --out m", 2, "--batch is 0, but must be above 0");
    place.refused("train text.txt --valid-fraction 1 --out m", 2, "less than 1");
    place.refused("train text.txt --valid missing.txt --out m", 1, "missing.txt does not exist");
    place.refused("train --recipe no-such.toml --out m", 1, "no-such.toml");
    place.write("bad.toml", b"[training]\nsteps = 3\n");
    place.refused("train --recipe bad.toml --out m", 1, "line 2");
    place.write("huge.toml", b"[training]\nthreads = 1000000\n");
    place.refused("train --recipe huge.toml --out m", 1, "huge.toml is not a usable recipe");
    for line in ["train text.txt", "finetune --data text.txt --task classify", "eval m --data x"] {
        place.refused(&format!("{line} --threads 1000000"), 2, "1000000");
    }
    let recipe = "[data]\ntrain = ['text.txt']\n[data.sha256]\n'text.txt' = '00'\n";
    place.write("other.toml", recipe.as_bytes());
    place.refused("train --recipe other.toml --out m", 1, "SHA-256");
    place.write("missing.toml", b"[data]\ntrain = ['not-here.txt']\n");
    place.refused("train --recipe missing.toml --out m", 1, "LONGHAND_DATA");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_found_out_before_training() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let locked = place.path("locked");
    fs_err::create_dir(&locked).unwrap();
    fs_err::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if tempfile::tempfile_in(&locked).is_ok() {
        eprintln!("skipped: this user may write everywhere");
        return;
    }
    place.refused("train text.txt --out locked", 1, "locked");
    place.refused("train text.txt --out locked/m", 1, "locked");
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_a_run_with_one_sentence() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    fs_err::create_dir_all(place.path("m/logs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.path("m/logs/log.jsonl")).unwrap();
    let said = place.run("train --recipe small.toml --steps 30 --resume --out m --json");
    assert_eq!(said.code, 1);
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.contains("log.jsonl") && said.err.contains("No space"), "{}", said.err);
    assert!(said.err.contains("free some space") && said.err.contains("--resume"), "{}", said.err);
}

#[test]
fn damaged_model_folders_get_one_sentence() {
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    place.done("train --recipe small.toml --steps 2 --out m --json");
    let file = |name: &str| place.path("m").join(name);
    let damaged = |name: &str, content: Option<&[u8]>, words: &str| {
        let kept = fs_err::read(file(name)).unwrap();
        match content {
            Some(content) => fs_err::write(file(name), content).unwrap(),
            None => fs_err::remove_file(file(name)).unwrap(),
        }
        place.refused("eval m --data text.txt --split valid", 1, words);
        fs_err::write(file(name), kept).unwrap();
    };
    let weights = hash(&place.path("m"));
    damaged("config.json", None, "config.json is missing");
    damaged("model.safetensors", None, "model.safetensors is missing");
    damaged("tokenizer.json", None, "tokenizer.json is missing");
    damaged("training.json", None, "training.json");
    damaged("model.safetensors", Some(&weights[..weights.len() / 2]), "not a whole safetensors");
    damaged("model.safetensors", Some(&[0xff; 40]), "not a whole safetensors");
    damaged("config.json", Some(b"{\"widht\": 3}"), "config.json");
    damaged("tokenizer.json", Some(b"{}"), "tokenizer.json");
    damaged("training.json", Some(b"{}"), "training.json");
    let config = fs_err::read_to_string(file("config.json")).unwrap();
    damaged(
        "config.json",
        Some(config.replace("\"width\": 24", "\"width\": 0").as_bytes()),
        "width",
    );
    let mut broken = weights.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    damaged("model.safetensors", Some(&broken), "is damaged: its checksum does not match");
    // As another program writes it, without checksums.
    for (key, unknown) in
        [("longhand.checksums", "unknown.checksums."), ("longhand.checked", "unknown.checked.")]
    {
        let places = || 0..broken.len() - key.len();
        let place = places().find(|&at| &broken[at..at + key.len()] == key.as_bytes()).unwrap();
        broken[place..place + key.len()].copy_from_slice(unknown.as_bytes());
    }
    damaged("model.safetensors", Some(&broken), "not finite");
    let other = Place::new();
    other.done("train text.txt --tokenizer byte --preset tanh-lstm --steps 1 --out m --json");
    let tokenizer = fs_err::read(other.path("m/tokenizer.json")).unwrap();
    damaged("tokenizer.json", Some(&tokenizer), "do not belong together");
    place.refused("eval nowhere --data text.txt", 1, "there is no folder");
    place.refused("eval m", 2, "--data");
    place.refused("eval m --data nothing.txt", 1, "does not exist");
    place.refused("eval m --data text.txt --window 0", 2, "at least 1");
    place.refused("eval m --data text.txt --split half", 2, "half");
}

#[test]
fn every_verb_shows_an_example() {
    let place = Place::new();
    let mut verbs = vec![String::new()];
    let mut seen = 0;
    while let Some(verb) = verbs.pop() {
        let said = place.run(&format!("{verb} --help"));
        assert_eq!(said.code, 0, "{verb}");
        assert!(said.out.contains("Example"), "{verb}");
        seen += 1;
        // A verb with verbs below it lists them, one to a line.
        let lines = said.out.lines().skip_while(|line| *line != "Commands:").skip(1);
        let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
            let indented = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
            indented.split_whitespace().next().filter(|name| *name != "help")
        });
        verbs.extend(names.map(|name| format!("{verb} {name}")));
    }
    assert!(seen > 18, "only {seen} verbs were found");
}

#[cfg(unix)]
#[test]
fn interrupted_it_saves_and_stops() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let place = Place::new();
    place.write("small.toml", small("[data]\ntrain = ['text.txt']").as_bytes());
    let arguments = "train --recipe small.toml --steps 1000000 --out m --json";
    let mut child = Command::new(env!("CARGO_BIN_EXE_longhand"))
        .args(arguments.split(' '))
        .current_dir(place.folder.path())
        .env("LONGHAND_DATA", place.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let last: Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(last["done"], false);
    assert_eq!(last["end"], "stopped");
    let step = last["step"].as_u64().unwrap();
    assert!(place.path(&format!("m/checkpoints/step-{step:012}")).is_dir());
    assert!(place.path("m/model.safetensors").is_file());
}
