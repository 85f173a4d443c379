//! Inputs of first-time users and of bug reports, through the real binary: each gets the right
//! answer, or one sentence that says what to do.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use longhand_model::{Model, Preset};
use longhand_text::{Tokenizer, TokenizerKind};
use serde_json::Value;
use tempfile::TempDir;

/// The words that a quick run needs.
const QUICK: [&str; 9] =
    ["--steps", "2", "--batch", "4", "--chunk", "16", "--threads", "1", "--preset=lstm"];

struct Place(TempDir);

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    /// A folder with a text.
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        place.write("text.txt", &longhand::text::sample::text(5, 20_000));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.path(name), text).unwrap();
    }

    /// A folder `model` with an untrained model over characters.
    fn model(&self) {
        let folder = self.path("model");
        fs_err::create_dir(&folder).unwrap();
        let texts = std::iter::once(Ok("the cat sat on a mat.\n".to_owned()));
        let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
        tokenizer.save(&folder.join("tokenizer.json")).unwrap();
        let config = Preset::Lstm.config(tokenizer.vocab_size());
        Model::new(config, 1).unwrap().save(&folder).unwrap();
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.current_dir(self.0.path()).env("LONGHAND_DATA", self.0.path());
        command.stdin(Stdio::null());
        command
    }

    fn run<W: AsRef<OsStr>>(&self, words: &[W]) -> Said {
        let output = self.command().args(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        Said { code, out: text(output.stdout), err: text(output.stderr) }
    }

    fn line(&self, line: &str) -> Said {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }

    fn done(&self, line: &str) -> String {
        let Said { code, out, err } = self.line(line);
        assert_eq!(code, 0, "{line}: {err}");
        out
    }

    /// One sentence on stderr that holds the words, and nothing on stdout.
    fn refused(&self, line: &str, code: i32, words: &str) {
        let Said { code: got, out, err } = self.line(line);
        assert_eq!((got, out.as_str()), (code, ""), "{line}: {err}");
        assert!(err.contains(words), "{line}: {err}");
        assert!(!err.contains("panicked"), "{line}: {err}");
        assert!(code == 2 || err.trim_end().lines().count() == 1, "{line}: {err}");
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_are_written_or_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let strange = OsStr::from_bytes(b"o\xff");
    let words: Vec<&OsStr> = ["train", "text.txt", "--json", "--out"].map(OsStr::new).to_vec();
    let run = [&words[..], &[strange], &QUICK.map(OsStr::new)[..]].concat();
    let Said { code, out, err } = place.run(&run);
    assert_eq!(code, 0, "{err}");
    let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["done"], &last["out"]), (&true.into(), &"o\u{fffd}".into()));
    assert!(place.0.path().join(strange).join("model.safetensors").is_file());

    // A text that the run's record cannot name is refused before a folder is made.
    let text = OsStr::from_bytes(b"caf\xe9.txt");
    fs_err::copy(place.path("text.txt"), place.0.path().join(text)).unwrap();
    let folder = place.path("texts");
    fs_err::create_dir(&folder).unwrap();
    fs_err::copy(place.path("text.txt"), folder.join(text)).unwrap();
    for source in [text, OsStr::new("texts")] {
        let words = [OsStr::new("train"), source, OsStr::new("--out"), OsStr::new("m")];
        let Said { code, err, .. } = place.run(&[&words[..], &QUICK.map(OsStr::new)[..]].concat());
        assert_eq!(code, 1, "{err}");
        assert!(err.contains("caf\u{fffd}.txt is not UTF-8") && err.contains("rename"), "{err}");
        assert!(!place.path("m").exists());
    }
}

#[test]
fn a_run_does_not_read_what_runs_wrote() {
    let place = Place::new();
    let quick = QUICK.join(" ");
    place.done(&format!("train . {quick} --out model --json"));
    // Its own folder, and that of an earlier run, are no text.
    let longer = quick.replace("--steps 2", "--steps 4");
    place.done(&format!("train . {longer} --out model --resume --json"));
    place.done(&format!("train . {quick} --out other --json"));
    let facts = |name: &str| -> Value {
        let bytes = fs_err::read(place.path(name).join("training.json")).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["data"]["train"].clone()
    };
    assert_eq!(facts("model"), facts("other"));
    // A folder that is named itself is read.
    fs_err::create_dir(place.path("model/notes")).unwrap();
    place.write("model/notes/a.txt", &longhand::text::sample::text(6, 20_000));
    place.done(&format!("train model/notes {quick} --out third --json"));
    assert_ne!(facts("model"), facts("third"));
}

#[test]
fn a_model_may_be_named_after_its_texts() {
    let place = Place::new();
    place.model();
    place.write("cat.txt", &"the cat sat on a mat.\n".repeat(9));
    let eval = |line: &str| -> Value {
        let mut result: Value = serde_json::from_str(&place.done(line)).unwrap();
        result["seconds"] = Value::Null;
        result["tokens_per_second"] = Value::Null;
        result
    };
    let before = eval("eval model --data cat.txt cat.txt --json");
    assert_eq!(before, eval("eval --json --data cat.txt cat.txt model"));
    assert_eq!(before, eval("eval --data cat.txt --data cat.txt --json model"));
    place.done("quantize --weights int8 --out small --data cat.txt model");
    assert!(place.path("small/model.safetensors").is_file());
    place.refused("eval --data cat.txt", 2, "there is no model");
    place.refused("eval model", 2, "--data");
    place.refused("quantize --weights int8 --out m", 2, "there is no model");
}

#[test]
fn numbers_out_of_form_or_range_are_told_with_flag_and_range() {
    let place = Place::new();
    for (line, words) in [
        (
            "train text.txt --steps -1 --out m",
            "--steps is \"-1\", but must be a whole number that is not negative",
        ),
        ("train text.txt --steps 0 --out m", "--steps is 0, but must be above 0"),
        ("train text.txt --minutes -1 --out m", "--minutes is -1, but must be above 0"),
        ("train text.txt --epochs 0 --out m", "--epochs is 0, but must be above 0"),
        ("train text.txt --batch 1.5 --out m", "--batch is \"1.5\", but must be a whole number"),
        (
            "train text.txt --learning-rate x --out m",
            "--learning-rate is \"x\", but must be a number",
        ),
        (
            "train text.txt --valid-fraction -1 --out m",
            "--valid-fraction is -1, but must be at least 0",
        ),
        ("train text.txt --threads -1 --out m", "-1 is not in 1..=1024"),
        ("generate m --prompt a --top-p -1", "top-p is -1, but must be"),
        (
            "train text.txt --tokenizer byte --vocab 5 --out m",
            "always has 256 tokens: leave out --vocab",
        ),
        (
            "nope",
            "there is no verb `nope`: the verbs are adapter, bench, chat, data, doctor, eval, finetune",
        ),
    ] {
        if line.starts_with("generate") {
            place.model();
            fs_err::rename(place.path("model"), place.path("m")).unwrap();
            place.refused(line, 2, words);
            fs_err::remove_dir_all(place.path("m")).unwrap();
        } else {
            place.refused(line, 2, words);
        }
        assert!(!place.path("m").exists(), "{line}");
    }
}

#[test]
fn an_unmet_expectation_fails_the_run() {
    let place = Place::new();
    let recipe = |bound: &str| {
        place.write("r.toml", &format!("[data]\ntrain = ['text.txt']\n[expected]\n{bound}\n"));
        let quick = QUICK.join(" ");
        place.line(&format!("train --recipe r.toml {quick} --json --force --out m"))
    };
    let said = recipe("'valid.loss' = { at_most = 100 }");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let said = recipe("'valid.loss' = { at_most = 0.5 }");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("not what the recipe expects: valid.loss is"), "{}", said.err);
    let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["expected"]["valid.loss"]["met"], false);
    assert!(place.path("m/model.safetensors").is_file(), "the model is kept");
    let said = recipe("'test.loss' = { at_most = 0.5 }");
    assert_eq!(said.code, 1);
    assert!(said.err.contains("test.loss was not measured"), "{}", said.err);
}

#[test]
fn a_recipe_says_where_its_data_comes_from() {
    let place = Place::new();
    place.write("r.toml", "[data]\ntrain = ['no.txt']\nsource = 'example.org/texts'\n");
    place.refused("train --recipe r.toml --out m", 1, "comes from example.org/texts");
    place.write("r.toml", "[data]\ntrain = ['no.txt']\n");
    place.refused("train --recipe r.toml --out m", 1, "holds the data");
}

#[test]
fn an_unfinished_run_names_the_command_that_goes_on() {
    let place = Place::new();
    place.done(&format!("train text.txt {} --json --out m", QUICK.join(" ")));
    // As if killed before its end.
    let path = place.path("m/training.json");
    let mut training: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    training["results"] = Value::Null;
    fs_err::write(&path, training.to_string()).unwrap();
    fs_err::remove_file(place.path("m/config.json")).unwrap();
    fs_err::remove_file(place.path("m/model.safetensors")).unwrap();
    for line in
        ["generate m --prompt a", "eval m --data text.txt", "predict m", "inspect m --recall"]
    {
        place.refused(line, 1, "has not ended: go on with `longhand train --resume --out m`");
    }
    place.refused("generate text.txt --prompt a", 1, "text.txt is a file: give the folder");
    place.refused("predict text.txt", 1, "text.txt is a file: give the folder");
}

#[test]
fn the_card_of_the_current_folder_has_its_name() {
    let place = Place::new();
    let folder = place.path("shelf");
    fs_err::create_dir(&folder).unwrap();
    let mut command = place.command();
    command.current_dir(&folder).args(["train", "../text.txt", "--json", "--out", "."]);
    let output = command.args(QUICK).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let card = fs_err::read_to_string(folder.join("README.md")).unwrap();
    assert!(card.contains("\n# shelf\n"), "{card}");
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let place = Place::new();
    let quick = QUICK.join(" ");
    place.done(&format!("train text.txt {quick} --json --out m"));
    let left = [".longhand-a.partial", "logs/.longhand-b.partial"];
    left.iter().for_each(|name| place.write(&format!("m/{name}"), "half"));
    place.done(&format!("train text.txt {quick} --json --resume --out m"));
    assert!(left.iter().all(|name| !place.path("m").join(name).exists()));
}

/// A kill at any moment leaves one whole model, or none that could be read.
#[cfg(unix)]
#[test]
fn a_killed_quantization_leaves_no_mixture() {
    let place = Place::new();
    place.model();
    let quantize = |weights: &str| {
        let mut command = place.command();
        command.args(["quantize", "model", "--force", "--out", "small", "--weights", weights]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(quantize("int8").status().unwrap().success());
    let whole = |name: &str| fs_err::read(place.path("small").join(name)).ok();
    let mut models = Vec::new();
    for weights in ["int8", "int4"] {
        assert!(quantize(weights).status().unwrap().success());
        models.push((whole("config.json").unwrap(), whole("model.safetensors").unwrap()));
    }
    for round in 0..12 {
        let mut child = quantize(["int8", "int4"][round % 2]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 * round as u64));
        let _ = child.kill();
        child.wait().unwrap();
        if let Some(config) = whole("config.json") {
            let model = (config, whole("model.safetensors").unwrap());
            assert!(models.contains(&model), "round {round}");
        }
    }
    assert!(quantize("int8").status().unwrap().success());
    assert_eq!(whole("config.json").unwrap(), models[0].0);
    assert!(!place.path("small/.longhand-quantized.partial").exists());
}

#[test]
fn each_wrong_input_gets_its_sentence() {
    let place = Place::new();
    place.model();
    place.write("one.txt", "x");
    for (line, code, words) in [
        ("train one.txt --out m", 1, "one.txt has 1 character(s), too few to hold out 0.1"),
        ("train one.txt --out m", 1, "or pass --valid-fraction 0"),
        ("generate model --memory no.safetensors", 1, "there is no memory no.safetensors"),
        ("memory show no.safetensors", 1, "`longhand memory save` writes one"),
        ("score nowhere", 1, "nowhere: give the folder that `longhand train` wrote"),
        ("predict model", 1, "make one of it with `longhand finetune model --task classify`"),
    ] {
        place.refused(line, code, words);
        assert!(!place.path("m").exists(), "{line}");
    }
    // A text to stop at may begin with a dash.
    let written = place.done("generate model --prompt the --max-tokens 3 --stop -x");
    assert!(!written.is_empty());
}

/// `/dev/full` is a disk without room.
#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_named() {
    let place = Place::new();
    place.model();
    place.write("cat.txt", &"the cat sat on a mat.\n".repeat(9));
    for line in [
        "eval model --data cat.txt --json",
        "eval model --data cat.txt",
        "inspect model --text cat.txt --json",
    ] {
        let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = place.command();
        command.args(line.split(' ')).stdout(full.into_parts().0);
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {err}");
        let words = "the standard output cannot be written: No space left on device";
        assert!(err.contains(words) && err.lines().count() == 1, "{line}: {err}");
    }
}

#[test]
fn a_held_out_part_of_another_text_is_told() {
    let place = Place::new();
    place.done(&format!("train text.txt {} --json --out m", QUICK.join(" ")));
    let said = place.line("eval m --data text.txt --split valid --json");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    place.write("other.txt", &longhand::text::sample::text(6, 20_000));
    let said = place.line("eval m --data other.txt --split valid --json");
    assert_eq!(said.code, 0);
    assert!(
        said.err.contains("other.txt is not a text that the model was trained on"),
        "{}",
        said.err
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_generation_keeps_its_memory() {
    use std::io::Read;
    let place = Place::new();
    place.model();
    let mut command = place.command();
    let line = "generate model --prompt the --max-tokens 100000000 --save-memory m.safetensors";
    command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // The longest token of this model, `<unk>`, has five bytes.
    out.read_exact(&mut [0; 200]).unwrap();
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    let shown: Value =
        serde_json::from_str(&place.done("memory show m.safetensors --json")).unwrap();
    assert!(shown["header"]["position"].as_u64().unwrap() > 20);
}
