//! Language models that go on with another text, and what models forget, through the real binary.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    /// A folder with a language model `base`, another one `other`, and a table whose label is which
    /// of two words a text holds.
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        let text = "she was glad then. he was sad then. ".repeat(60);
        place.write("text.txt", &text);
        place.write(
            "base.toml",
            "[tokenizer]\nkind = 'word'\n[model]\npreset = 'longhand-nano'\n[model.overrides]\n\
             width = 32\nblocks = [{ working = { type = 'attention', heads = 2, kv_heads = 1, \
             head_width = 16, window = 8 }, long = { type = 'lstm', hidden = 32 }, \
             feed_forward = 48 }]\n[training]\nbudget = { steps = 30 }\nbatch = 4\nchunk = 16\n",
        );
        let train = "train text.txt --recipe base.toml --threads 1 --json --out";
        place.done(&format!("{train} base"));
        place.done(&format!("{train} other --seed 2"));
        let rows = |count: usize| {
            let row = |i: usize| match i % 3 {
                0 => format!("good\t{}glad then\n", "she was ".repeat(i % 4)),
                _ => format!("bad\t{}sad then\n", "he was ".repeat(i % 5)),
            };
            (0..count).map(row).collect::<String>()
        };
        place.write("train.tsv", &format!("label\ttext\n{}", rows(90)));
        place.write("test.tsv", &format!("label\ttext\n{}", rows(30)));
        // The rate of a step must not depend on the number of steps, for a run that is cut in two.
        place.write("even.toml", "[training]\nschedule = { type = 'constant' }\nwarmup = 0\n");
        place.write("new.txt", &"sad she was then. glad he was. ".repeat(60));
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.0.path().join(name), text).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs_err::read(self.0.path().join(name)).unwrap()
    }

    fn run(&self, line: &str, input: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.current_dir(self.0.path()).env("LONGHAND_DATA", self.0.path());
        command.args(line.split(' ')).write_stdin(input);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The last line of JSON, or the text, of a command that succeeds.
    fn done(&self, line: &str) -> Value {
        let (code, stdout, errors) = self.run(line, "");
        assert_eq!(code, 0, "{line}: {errors}");
        serde_json::from_str(stdout.lines().last().unwrap_or("null")).unwrap_or(Value::Null)
    }

    fn refused(&self, line: &str, part: &str) {
        let (code, _, errors) = self.run(line, "");
        assert_ne!(code, 0, "{line}");
        assert!(errors.contains(part), "{line}: {errors}");
    }

    /// Goes on with the language model on another text.
    fn go_on(&self, further: &str) -> Value {
        let line = "train base new.txt --recipe even.toml --threads 1 --batch 4 --chunk 16 \
                    --evaluate-every 10 --json";
        self.done(&format!("{line} {further}"))
    }

    /// The mean loss of a language model on a text.
    fn loss(&self, line: &str) -> f64 {
        self.done(&format!("eval {line} --json"))["loss"].as_f64().unwrap()
    }

    fn tune(&self, further: &str) -> Value {
        let line = "finetune base --task classify --data train.tsv --test test.tsv --threads 1 \
                    --batch 8 --learning-rate 0.01 --json";
        self.done(&format!("{line} {further}"))
    }

    /// Probabilities of the first label for some lines.
    fn answers(&self, line: &str) -> Vec<f64> {
        let (code, answers, errors) =
            self.run(&format!("predict {line} --json"), "she was glad\nsad then\nthen\n");
        assert_eq!(code, 0, "{line}: {errors}");
        let share = |line: &str| {
            let answer: Value = serde_json::from_str(line).unwrap();
            answer["probabilities"]["good"].as_f64().unwrap()
        };
        answers.lines().map(share).collect()
    }
}

#[test]
fn a_language_model_goes_on_with_another_text() {
    let place = Place::new();
    let before = place.loss("base --data new.txt");
    let whole = place.go_on("--steps 40 --out whole");
    assert_eq!((&whole["objective"], &whole["step"]), (&"causal".into(), &40.into()));
    assert_eq!(whole["trainable_parameters"], whole["parameters"]);
    assert!(place.loss("whole --data new.txt") < before - 0.3);
    assert_eq!(place.read("whole/tokenizer.json"), place.read("base/tokenizer.json"));
    // An interrupted run goes on as if nothing had been.
    place.go_on("--steps 20 --out part");
    place.go_on("--steps 40 --out part --resume");
    assert_eq!(place.read("part/model.safetensors"), place.read("whole/model.safetensors"));
    place.refused("train other new.txt --resume --out part", "another model");

    // A tied head is the embedding, of eight words.
    let frozen = place.go_on("--method frozen --steps 2 --out frozen");
    assert_eq!(frozen["trainable_parameters"], 8 * 32);
    let gradual = "--unfreeze gradual --epochs 2 --patience 50 --out gradual";
    assert_eq!(place.go_on(gradual)["trainable_parameters"], whole["parameters"]);

    for line in [
        "train base new.txt --preset lstm --out never",
        "train base new.txt --width 16 --out never",
        "train base new.txt --tokenizer char --out never",
    ] {
        place.refused(line, "keeps its own: leave out --");
    }
    place
        .refused("train base new.txt --objective masked --out never", "cannot learn the objective");
    place.refused("train new.txt --method lora --steps 1 --out never", "base model");
    place.refused("train base new.txt --out base --force", "holds the model to begin with");
    place.tune("--steps 1 --out task");
    place.refused("train task new.txt --steps 1 --out never", "no language-model head");
    assert!(!place.has("never/training.json"));
}

#[test]
fn an_adapter_of_a_language_model_is_trained_resumed_and_applied() {
    let place = Place::new();
    let before = place.loss("base --data new.txt");
    for (method, flags) in
        [("lora", "--lora-rank 4 --lora-dropout 0.1"), ("adapter", "--adapter-width 8")]
    {
        let go_on = |further: &str| place.go_on(&format!("--method {method} {flags} {further}"));
        let last = go_on(&format!("--steps 40 --out {method}"));
        let [trained, all] =
            ["trainable_parameters", "parameters"].map(|name| last[name].as_u64().unwrap());
        assert!(0 < trained && trained < all / 2, "{trained} of {all}");
        assert!(!place.has(&format!("{method}/model.safetensors")));
        let after = place.loss(&format!("base --adapter {method} --data new.txt"));
        assert!(after < before - 0.1, "{method}: {after} after {before}");
        assert_eq!(after, place.loss(&format!("{method} --data new.txt")));

        go_on(&format!("--steps 20 --out {method}-part"));
        go_on(&format!("--steps 40 --out {method}-part --resume"));
        let weights = |folder: &str| place.read(&format!("{folder}/adapter_model.safetensors"));
        assert_eq!(weights(&format!("{method}-part")), weights(method));
        let write = format!("generate base --adapter {method} --prompt she --max-tokens 3");
        assert_eq!(place.run(&write, "").0, 0);
        place.refused(&format!("generate other --adapter {method} --prompt she"), "hash");
        place.refused(&format!("train {method} new.txt --out never"), "longhand adapter merge");
    }
    // A recipe may name the base too.
    place.write(
        "again.toml",
        "[data]\ntrain = ['new.txt']\n[model.base]\npath = 'base'\n\
                               [tuning]\nmethod = 'lora'\n[training]\nbudget = { steps = 2 }\n\
                               batch = 4\nchunk = 16\n",
    );
    assert_eq!(place.done("train --recipe again.toml --json --out recipe")["step"], 2);
    assert!(place.has("recipe/adapter_model.safetensors"));
}

#[test]
fn old_text_is_rehearsed_and_what_is_forgotten_is_told() {
    let place = Place::new();
    place.write("old.txt", &"she was glad then. he was sad then. ".repeat(20));
    let told = |last: &Value| {
        let loss = |when: &str| last["forgetting"][when].as_f64().unwrap();
        (loss("before"), loss("after"))
    };
    // The end of the old text is what is measured.
    let rehearse = "--rehearse text.txt --rehearse-weight 1";
    let (before, kept) = told(&place.go_on(&format!("{rehearse} --steps 40 --out rehearsed")));
    let (_, lost) = told(&place.go_on("--forgetting old.txt --steps 40 --out lost"));
    assert!(kept < before + 0.3 && lost > kept + 0.5, "{before}, {kept}, {lost}");
    assert_eq!(place.go_on("--steps 1 --out plain")["forgetting"], Value::Null);
    // The loss on the text that is named, of the base and of what became of it.
    let line = "--rehearse text.txt --forgetting old.txt --steps 10 --method lora --out lora";
    let (before, after) = told(&place.go_on(&format!("{line} --precision f32")));
    assert!((before - place.loss("base --data old.txt")).abs() < 1e-5);
    assert!((after - place.loss("base --adapter lora --data old.txt")).abs() < 1e-5);

    place.go_on(&format!("{rehearse} --steps 20 --out part"));
    place.go_on(&format!("{rehearse} --steps 40 --out part --resume"));
    assert_eq!(place.read("part/model.safetensors"), place.read("rehearsed/model.safetensors"));
    place.refused(
        "train base --rehearse-weight 2 --rehearse old.txt --resume --out part",
        "old text",
    );
    place.refused(
        "train base new.txt --rehearse text.txt --rehearse-weight 0 --out never",
        "above 0",
    );
    place.refused("train new.txt --rehearse text.txt --out never", "name a model to begin with");
    place.refused("train base new.txt --rehearse nowhere.txt --out never", "nowhere.txt");
}

#[test]
fn a_task_beside_the_old_objective_forgets_less() {
    let place = Place::new();
    let told = |line: &str| {
        let last = place.tune(line);
        assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");
        last["forgetting"]["after"].as_f64().unwrap()
    };
    let lost = told("--forgetting text.txt --steps 40 --out lost");
    let kept = told("--rehearse text.txt --forgetting text.txt --steps 40 --out kept");
    assert!(kept < lost - 0.1, "{kept} with and {lost} without rehearsal");
    // The language model's head is beside the task's, and a task still answers.
    let config: Value = serde_json::from_slice(&place.read("kept/config.json")).unwrap();
    let names = [0, 1].map(|head| config["heads"][head]["name"].as_str().unwrap());
    assert_eq!(names, ["classify", "head"]);
    assert_eq!(place.answers("kept").len(), 3);
    // An adapter goes on to need its base alone, whose head it keeps.
    told("--rehearse text.txt --method lora --steps 60 --out lora");
    assert_eq!(place.answers("lora"), place.answers("base --adapter lora"));
    let shown = place.done("adapter show lora --json");
    assert_eq!(shown["own"], serde_json::json!(["classify.bias", "classify.weight"]));

    let tune = "finetune base --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{tune} --method frozen --rehearse text.txt"), "head alone");
    let from_nothing = "finetune --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{from_nothing} --forgetting text.txt"), "name a model to begin with");
    let baseline = "finetune --task classify --data train.tsv --baseline nb-lr --out never";
    place.refused(&format!("{baseline} --rehearse text.txt"), "--rehearse is not for the baseline");
    let task = "finetune lost --task classify --data train.tsv --steps 2 --out never";
    place.refused(&format!("{task} --rehearse text.txt"), "no head that predicts tokens");
}
