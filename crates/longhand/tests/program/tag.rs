//! `longhand finetune --task tag` and its predictions through the real binary.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::longhand;

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Sentences with names in IOB1. A capital tells a name, so that unknown names are found too.
fn sentences(from: usize, count: usize) -> String {
    let mut text = String::from("-DOCSTART- -X- O\n\n");
    for i in from..from + count {
        let name = format!("{}{}", ["Bo", "Ka", "Lu", "Mi"][i % 4], ["ra", "to", "ne"][i % 3]);
        let verb = ["sees", "calls", "knows"][i % 3];
        text += &format!("{name}{i} NNP I-PER\n");
        if i % 2 == 0 {
            text += &format!("{name} NNP I-PER\n");
        }
        text += &format!("{verb} VBZ O\n");
        if i % 5 == 0 {
            text += &format!("{name} NNP I-PER\nZu{i} NNP B-PER\n");
        }
        text += "the DT O\nriver NN O\n. . O\n\n";
    }
    text
}

#[test]
fn columns_become_a_tagger_that_writes_columns() {
    let folder = TempDir::new().unwrap();
    let train = write(&folder, "train.conll", &sentences(0, 120));
    let test = write(&folder, "test.conll", &sentences(500, 30));
    let out = folder.path().join("tagger").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "tag", "--data", &train, "--test", &test][..],
        &["--label-column", "-1", "--feature-column", "1", "--scheme", "bioes", "--crf"],
        &["--epochs", "30", "--threads", "1", "--json", "--out", &out],
    ];
    let (code, stdout, errors) = longhand(&arguments.concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["done"], true);
    assert!(last["test"]["entity_f1"].as_f64().unwrap() > 0.9, "{last}");
    assert!(last["test"]["accuracy"].as_f64().unwrap() > 0.9, "{last}");

    let input = "-DOCSTART- -X-\n\n# a comment\nBora999 NNP\nsees VBZ\n. .\n\nthe DT\nriver NN\n";
    let (code, tagged, errors) = longhand(&["predict", &out], input);
    assert_eq!((code, errors.as_str()), (0, ""));
    let expected = "-DOCSTART- -X-\n\n# a comment\nBora999 NNP I-PER\nsees VBZ O\n. . O\n\n\
        the DT O\nriver NN O\n\n";
    assert_eq!(tagged, expected);
    let (code, _, errors) = longhand(&["predict", &out, "--fasttext"], "Bora999 NNP\n");
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains("for the labels of texts, not for the task tag"), "{errors}");
    let (_, answers, _) = longhand(&["predict", &out, "--json"], "Bora999 NNP\nsees VBZ\n");
    let answer: Value = serde_json::from_str(&answers).unwrap();
    assert_eq!(answer["tags"], json!(["I-PER", "O"]));
    assert_eq!(answer["entities"][0]["text"], "Bora999");
    assert!(answer["probabilities"][0].as_f64().unwrap() > 0.5);

    // Each entity is explained in a comment, so that the columns can be read again.
    let page = folder.path().join("why.html").to_str().unwrap().to_owned();
    let input = "Bora999 NNP\nsees VBZ\n. .\n\nthe DT\nriver NN\n";
    let (code, told, errors) = longhand(&["predict", &out, "--explain", "--html", &page], input);
    assert_eq!((code, errors.as_str()), (0, ""));
    let comments: Vec<&str> = told.lines().filter(|line| line.starts_with("# PER")).collect();
    assert!(matches!(comments[..], [line] if line.starts_with("# PER = Bora999: ")), "{told}");
    assert!(told.contains("completeness error"), "{told}");
    let (code, again, errors) = longhand(&["predict", &out], &told);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(again.contains("Bora999 NNP I-PER I-PER"), "{again}");
    assert!(fs_err::read_to_string(&page).unwrap().contains("<h2>PER: Bora999</h2>"));
    let line = ["predict", &out, "--explain", "--json"];
    let (_, answers, _) = longhand(&line, "Bora999 NNP\nsees VBZ\n\nthe DT\n");
    let told: Vec<Value> = answers.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let found = &told[0]["explanation"][0];
    assert_eq!(
        (&found["type"], &found["first"], &found["last"]),
        (&json!("PER"), &json!(0), &json!(0))
    );
    assert_eq!(found["tokens"].as_array().unwrap().len(), 2);
    assert!(found["completeness_error"].as_f64().unwrap().abs() < 0.1, "{found}");
    assert_eq!(told[1]["explanation"], json!([]));

    // A sentence with a wrong tag is a wrong answer.
    let wrong = write(&folder, "wrong.conll", "Bora999 NNP O\nsees VBZ I-PER\n\nthe DT O\n");
    let eval = ["eval", &out, "--data", &wrong, "--against", &out, "--samples", "20"];
    let (code, measured, errors) =
        longhand(&[&eval[..], &["--json", "--html", &page]].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let measured: Value = serde_json::from_str(&measured).unwrap();
    let found = &measured["against"]["mcnemar"];
    assert_eq!((&found["only_first"], &found["only_second"]), (&json!(0), &json!(0)));
    let page = fs_err::read_to_string(&page).unwrap();
    for part in ["Wrong answers", "1 of 1", "<td>O I-PER</td>", "<td>I-PER O</td>"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

/// The first line names the columns, of which the tagger learns one that marks no entities.
#[test]
fn named_columns_of_parts_of_speech_become_a_tagger() {
    let folder = TempDir::new().unwrap();
    let named = |from, count| format!("form pos name\n{}", sentences(from, count));
    let train = write(&folder, "train.conll", &named(0, 120));
    let test = write(&folder, "test.conll", &named(500, 20));
    let out = folder.path().join("tagger").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "tag", "--data", &train, "--test", &test][..],
        &["--word-column", "form", "--label-column", "pos"],
        &["--epochs", "30", "--threads", "1", "--json", "--out", &out],
    ];
    let (code, stdout, errors) = longhand(&arguments.concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let test = &last["test"];
    assert!(test["macro_f1"].as_f64().unwrap() > 0.9, "{last}");
    assert_eq!(test["labels"], json!([".", "DT", "NN", "NNP", "VBZ"]));
    // Each of the twenty sentences has one.
    assert_eq!(test["classes"]["DT"]["support"], 20);
    assert_eq!(test["confusion"].as_array().unwrap().len(), 5);

    let input = "form name\nBora999 x\nsees x\nthe x\nriver x\n. x\n";
    let (code, tagged, errors) = longhand(&["predict", &out], input);
    assert_eq!((code, errors.as_str()), (0, ""));
    let expected =
        "form name predicted\nBora999 x NNP\nsees x VBZ\nthe x DT\nriver x NN\n. x .\n\n";
    assert_eq!(tagged, expected);
    let (code, _, errors) = longhand(&["predict", &out], "pos form\nNNP Bora999\n");
    assert_ne!(code, 0);
    let part = "its column \"form\" is number 1, counted from 0, but number 0 in the training data";
    assert!(errors.contains(part), "{errors}");
}

#[test]
fn words_of_several_tokens_are_tagged_on_a_pretrained_body() {
    let folder = TempDir::new().unwrap();
    let train = write(&folder, "train.conll", &sentences(0, 60));
    let test = write(&folder, "test.conll", &sentences(500, 20));
    let out = folder.path().join("tagger").to_str().unwrap().to_owned();
    let recipe = write(
        &folder,
        "body.toml",
        "[tokenizer]\nkind = 'char'\n[model]\npreset = 'bicausal-nano'\n[model.overrides]\n\
         width = 32\nblocks = [{ long = { type = 'lstm', hidden = 32 }, feed_forward = 48 }]\n",
    );
    let arguments = [
        &["finetune", "--recipe", &recipe, "--task", "tag", "--data", &train, "--test", &test][..],
        &["--pretrain", "bicausal", "--pretrain-epochs", "2", "--set", "spelling=false"],
        &["--epochs", "40", "--threads", "1", "--json", "--out", &out],
    ];
    let (code, stdout, errors) = longhand(&arguments.concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert!(last["test"]["entity_f1"].as_f64().unwrap() > 0.9, "{last}");
    let (code, tagged, errors) = longhand(&["predict", &out], "Bora999 NNP\nsees VBZ\n. .\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(tagged, "Bora999 NNP I-PER\nsees VBZ O\n. . O\n\n");
}

/// The old text has none of the features of a tagger.
#[test]
fn a_tagger_rehearses_what_its_body_was_pretrained_for() {
    let folder = TempDir::new().unwrap();
    let train = write(&folder, "train.conll", &sentences(0, 40));
    let old = write(&folder, "old.txt", &"Bora sees the river. Kato calls Mine.\n".repeat(40));
    let recipe = write(
        &folder,
        "body.toml",
        "[tokenizer]\nkind = 'char'\n[model]\npreset = 'bicausal-nano'\n[model.overrides]\n\
         width = 32\nblocks = [{ long = { type = 'lstm', hidden = 32 }, feed_forward = 48 }]\n",
    );
    let after = |flags: &[&str]| {
        let out = folder.path().join(flags[0]).to_str().unwrap().to_owned();
        let arguments = [
            &["finetune", "--recipe", &recipe, "--task", "tag", "--data", &train][..],
            &["--pretrain", "bicausal", "--pretrain-text", &old, "--pretrain-epochs", "2"],
            &["--feature-column", "1", "--epochs", "4", "--threads", "1", "--json", "--out", &out],
            flags,
        ];
        let (code, stdout, errors) = longhand(&arguments.concat(), "");
        assert_eq!((code, errors.as_str()), (0, ""));
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        last["forgetting"]["after"].as_f64().unwrap()
    };
    let lost = after(&["--forgetting", &old]);
    let kept = after(&["--rehearse", &old, "--forgetting", &old]);
    assert!(kept < lost - 0.1, "{kept} with and {lost} without rehearsal");
}

#[test]
fn a_tagger_reads_the_characters_of_words() {
    read_characters("--characters", &[("width", 30), ("filters", 30), ("kernel", 3)]);
    read_characters("--characters=lstm", &[("width", 25), ("hidden", 25)]);
}

fn read_characters(flag: &str, sizes: &[(&str, u64)]) {
    let folder = TempDir::new().unwrap();
    let long = format!("{} NNP I-PER\nsees VBZ O\n\n", "Ba".repeat(20));
    let train = write(&folder, "train.conll", &format!("{}{long}", sentences(0, 80)));
    let test = write(&folder, "test.conll", &sentences(500, 30));
    let out = folder.path().join("tagger").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "tag", "--data", &train, "--test", &test, flag][..],
        &["--set", "spelling=false", "--epochs", "40", "--threads", "1", "--out", &out],
    ];
    let (code, told, errors) = longhand(&arguments.concat(), "");
    assert_eq!(code, 0, "{errors}");
    let note = "1 word(s) have more than the 32 characters that are read";
    assert!(told.contains(note) || errors.contains(note), "{told}{errors}");
    let read = |name: &str| -> Value {
        let path = format!("{out}/{name}");
        serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
    };
    let alphabet = read("task.json")["characters"]["alphabet"].as_str().unwrap().to_owned();
    let config = &read("config.json")["characters"];
    assert_eq!(config["vocabulary"], alphabet.chars().count() + 1);
    assert!(sizes.iter().all(|&(name, size)| config[name] == size), "{config}");
    // Without the features of spelling, the capital of an unknown name is seen among characters alone.
    let (code, tagged, errors) = longhand(&["predict", &out], "Bora999 NNP\nsees VBZ\n. .\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(tagged, "Bora999 NNP I-PER\nsees VBZ O\n. . O\n\n");
    // A character that training lacks is unknown, and a word of any length is read.
    let strange = format!("\u{1f600}{} NNP\n", "x".repeat(500));
    let (code, tagged, errors) = longhand(&["predict", &out], &strange);
    assert_eq!((code, errors.as_str(), tagged.lines().count()), (0, "", 2));
}

#[test]
fn bad_input_is_told_in_one_sentence() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("tagger").to_str().unwrap().to_owned();
    let good = write(&folder, "good.conll", &sentences(0, 20));
    let check = |data: &str, further: &[&str], words: &[&str]| {
        let arguments = [&["finetune", "--task", "tag", "--data", data, "--out", &out], further];
        let (code, _, errors) = longhand(&arguments.concat(), "");
        assert_ne!(code, 0, "{words:?}");
        assert!(words.iter().all(|word| errors.contains(word)), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    };
    let ragged = write(&folder, "ragged.conll", "a O\n\nb\n");
    check(&ragged, &[], &["ragged.conll, line 3", "1 column(s)"]);
    let wide = ["--set", r#"characters={"kernel": 100}"#];
    check(&good, &wide, &["`characters.kernel` is 100; it must be from 1 to 64"]);
    let other = ["--set", r#"characters={"type": "lstm", "hidden": 2000000}"#];
    check(&good, &other, &["`characters.hidden` is 2000000"]);
    check(&good, &["--characters", "gru"], &["--characters", "lstm"]);
    let unknown = ["--set", r#"characters={"depth": 2}"#];
    check(&good, &unknown, &["there is no key `depth`: the keys are ", "kernel"]);
    check(&good, &["--label-column", "7"], &["good.conll has no column 7"]);
    check(&good, &["--word-column", "form"], &["no column \"form\""]);
    check(&good, &["--scheme", "bilou"], &["bilou", "bioes"]);
    check(&good, &["--label-column", "1", "--scheme", "iob2"], &["mark no entities"]);
    check(&good, &["--set", "words=middle"], &["middle", "first"]);
    check(&good, &["--label-smoothing", "0.1"], &["label smoothing", "CRF"]);
    let roles = ["--document", "--set", "predicate_column=1"];
    check(&good, &roles, &["document = true", "predicate_column", "leave one of the two out"]);
    let one = write(&folder, "one.conll", &"a O\nb O\n\n".repeat(20));
    check(&one, &[], &["one.conll", "\"O\""]);
    let unseen = write(&folder, "unseen.conll", "a B-LOC\n");
    check(&good, &["--test", &unseen], &["unseen.conll", "LOC", "I-PER"]);
    let empty = write(&folder, "empty.conll", "\n\n");
    check(&empty, &[], &["empty.conll is empty"]);
}
