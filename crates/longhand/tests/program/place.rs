//! A folder in which the program is run.

pub(crate) mod served;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A folder for the files of a test, where commands are run and data is looked for.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A folder with a table whose label is which of two words a text holds: `train.tsv` and
    /// `test.tsv`.
    pub(crate) fn with_table() -> Self {
        let place = Self::new();
        let rows = |count: usize| {
            let row = |i: usize| match i % 3 {
                0 => format!("good\t{}glad then\n", "she was ".repeat(i % 4)),
                _ => format!("bad\t{}sad then\n", "he was ".repeat(i % 5)),
            };
            (0..count).map(row).collect::<String>()
        };
        place.write("train.tsv", &format!("label\ttext\n{}", rows(90)));
        place.write("test.tsv", &format!("label\ttext\n{}", rows(30)));
        place
    }

    /// A folder with a language model `base`, another one `other`, and a table whose label is which
    /// of two words a text holds.
    pub(crate) fn with_models() -> Self {
        let place = Self::with_table();
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
        place
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs_err::write(self.0.path().join(name), text).unwrap();
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs_err::read(self.0.path().join(name)).unwrap()
    }

    pub(crate) fn run(&self, line: &str, input: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.current_dir(self.0.path()).env("LONGHAND_DATA", self.0.path());
        command.args(line.split_whitespace()).write_stdin(input);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The last line of JSON, or the text, of a command that succeeds.
    pub(crate) fn done(&self, line: &str) -> Value {
        let (code, stdout, errors) = self.run(line, "");
        assert_eq!(code, 0, "{line}: {errors}");
        serde_json::from_str(stdout.lines().last().unwrap_or("null")).unwrap_or(Value::Null)
    }

    pub(crate) fn refused(&self, line: &str, part: &str) {
        let (code, _, errors) = self.run(line, "");
        assert_ne!(code, 0, "{line}");
        assert!(errors.contains(part) && !errors.contains("panicked"), "{line}: {errors}");
    }

    pub(crate) fn tune(&self, further: &str) -> Value {
        let line = "finetune base --task classify --data train.tsv --test test.tsv --threads 1 \
                    --batch 8 --learning-rate 0.01 --json";
        self.done(&format!("{line} {further}"))
    }

    /// Probabilities of the first label for some lines.
    pub(crate) fn answers(&self, line: &str) -> Vec<f64> {
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
