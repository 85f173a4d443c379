//! The program, and tables to run it on.

use serde_json::Value;
use tempfile::TempDir;

use crate::longhand;

/// A folder for the files of a test.
pub(crate) struct Folder(pub(crate) TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs_err::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A table whose label is which of two words a text holds.
    pub(crate) fn table(&self, name: &str, count: usize) -> String {
        let mut rows = String::from("mood\tid\tsentence\n");
        for i in 0..count {
            let (label, word) = if i % 3 == 0 { ("good", "glad") } else { ("bad", "sad") };
            let (before, after) = ("she was ".repeat(i % 4), " then".repeat(i % 6));
            rows += &format!("{label}\t{i}\t{before}{word}{after}\n");
        }
        self.write(name, &rows)
    }

    /// A classifier of these tables, and its last line of JSON.
    pub(crate) fn classifier(&self, further: &[&str]) -> (String, Value) {
        let (train, test) = (self.table("train.tsv", 150), self.table("test.tsv", 30));
        let out = self.path("classifier");
        let arguments = [
            &["finetune", "--task", "classify", "--data", &train, "--test", &test],
            &COLUMNS[..],
            &["--epochs", "40", "--threads", "2", "--json", "--out", &out],
            further,
        ];
        let (code, stdout, errors) = longhand(&arguments.concat(), b"");
        assert_eq!((code, errors.as_str()), (0, ""));
        let lines: Vec<Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().any(|line| line["loss"].is_f64() && line["lr"].is_f64()));
        assert!(lines.iter().any(|line| line["valid_loss"].is_f64()));
        (out, lines.last().unwrap().clone())
    }
}

/// The columns of [`Folder::table`], as flags.
pub(crate) const COLUMNS: [&str; 4] = ["--text-column", "sentence", "--label-column", "mood"];

/// Checks the exit code and that one sentence holds `words`.
pub(crate) fn check(result: &(i32, String, String), expected: i32, words: &str, what: &str) {
    let (code, _, error) = result;
    assert_eq!(*code, expected, "{what}: {error}");
    assert!(error.contains(words), "{what}: {error}");
    assert!(!error.contains("panicked"), "{what}: {error}");
    assert!(expected == 2 || error.trim_end().lines().count() == 1, "{what}: {error}");
}

/// A text in which some words follow others.
pub(crate) fn text(lines: usize) -> String {
    let line = |i: usize| {
        let (who, what) = (["anna", "ben", "cleo"][i % 3], ["tea", "milk", "cake"][i * i % 3]);
        format!(
            "{who} has {what} and {} likes it\n",
            if i.is_multiple_of(2) { "she" } else { "he" }
        )
    };
    (0..lines).map(line).collect()
}
