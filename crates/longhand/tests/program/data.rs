//! `longhand data` through the real binary.

use longhand_text::{Tokenizer, TokenizerKind};
use tempfile::TempDir;

use crate::longhand;
use crate::place::Place;

/// A folder with a tokeniser of the characters of a text.
fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let texts = std::iter::once(Ok(text.to_owned()));
    let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
    tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
    folder
}

#[test]
fn ids_become_the_text_again() {
    let text = "One day, Mira\nhad 灯笼.\n";
    let folder = folder(text);
    let folder = folder.path().to_str().unwrap();
    let (code, ids, errors) = longhand(&["data", "tokenize", folder], text.as_bytes());
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(ids.split(' ').count(), text.chars().count());
    let (code, back, _) = longhand(&["data", "detokenize", folder], ids.as_bytes());
    assert_eq!((code, back.as_str()), (0, text));
}

#[test]
fn the_sample_is_the_same_each_time_and_overwrites_nothing() {
    let (_, first, _) = longhand(&["data", "sample", "--bytes", "3000"], b"");
    let (_, second, _) = longhand(&["data", "sample", "--bytes", "3000"], b"");
    assert!(first.len() >= 3000 && first == second);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("sample.txt");
    let file = file.to_str().unwrap();
    let write = ["data", "sample", "--bytes", "10", "--out", file];
    assert_eq!(longhand(&write, b"").0, 0);
    let (code, _, error) = longhand(&write, b"");
    assert_eq!(code, 1);
    assert!(error.contains("pass --force"), "{error}");
    assert_eq!(longhand(&[&write[..], &["--force"]].concat(), b"").0, 0);
}

#[test]
fn bad_input_gets_one_sentence() {
    let folder = folder("abc\n");
    let folder = folder.path().to_str().unwrap();
    let cases: [(&[&str], &[u8], i32, &str); 8] = [
        (&["data", "tokenize", "no-such-folder"], b"a", 1, "there is no folder"),
        (&["data", "tokenize", folder], b"ab\xffc", 1, "offset 2"),
        (&["data", "detokenize", folder], b"1 two", 1, "\"two\" is not a token id"),
        (&["data", "detokenize", folder], b"1 999", 1, "999"),
        (&["data", "detokenize", folder], b"-1", 1, "not a token id"),
        (&["data", "no-such-verb"], b"", 2, "no-such-verb"),
        (&["data", "sample", "--language", "english"], b"", 2, "--language is for tables"),
        (&["data", "sample", "--bytes", "9", "--rows", "9"], b"", 2, "--rows is for tables"),
    ];
    for (arguments, input, expected, words) in cases {
        let (code, _, error) = longhand(arguments, input);
        assert_eq!(code, expected, "{arguments:?}: {error}");
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
        assert!(expected == 2 || error.trim_end().lines().count() == 1, "{error}");
    }
}

/// Everything a person needs to try these tasks, with nothing downloaded.
#[test]
fn the_sample_has_a_table_for_tags_for_spans_and_for_several_labels() {
    let place = Place::new();
    for (table, rows, task, metric) in [
        ("entities", 120, "tag", "entity_f1"),
        ("spans", 40, "span", "f1"),
        ("labels", 60, "classify --multi-label", "f1"),
    ] {
        let sample = format!("data sample --table {table} --language english");
        place.done(&format!("{sample} --rows {rows} --out {table}"));
        place.done(&format!("{sample} --rows 10 --seed 2 --out {table}-test"));
        let last = place.done(&format!(
            "finetune --task {task} --data {table} --test {table}-test --steps 3 --threads 1 \
             --json --out {table}-model"
        ));
        assert_eq!(last["done"], true, "{last}");
        assert!(last["test"][metric].is_f64(), "{last}");
    }
}

/// Their columns have the names that the tasks look for.
#[test]
fn the_samples_pairs_and_summaries_are_learnt_from_without_naming_their_columns() {
    let place = Place::new();
    for (table, task, metric) in
        [("pairs", "translate", "chrf"), ("summaries", "summarize", "rouge1")]
    {
        let sample = format!("data sample --table {table}");
        place.done(&format!("{sample} --rows 40 --out {table}.tsv"));
        place.done(&format!("{sample} --rows 4 --seed 2 --out {table}-test.tsv"));
        let last = place.done(&format!(
            "finetune --task {task} --data {table}.tsv --test {table}-test.tsv --steps 3 --threads 1 \
             --preset longhand-nano --vocab 600 --set longest_target=16 --json --out {table}-model"
        ));
        assert!(last["test"][metric].is_f64(), "{last}");
    }
}
