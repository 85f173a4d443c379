//! `longhand finetune --baseline` and its model folders through the real binary.

use serde_json::Value;

use crate::longhand;
use crate::tables::{COLUMNS, Folder, check};

/// Trains on labels of the built-in sample, and gives the folder and the last line of JSON.
fn train(folder: &Folder, name: &str, further: &[&str]) -> (String, Value) {
    let (train, test, out) = (folder.path("train.tsv"), folder.path("test.tsv"), folder.path(name));
    for (path, rows, seed) in [(&train, "400", "1"), (&test, "120", "2")] {
        let arguments = ["data", "sample", "--table", "topic", "--language", "english"];
        let further = ["--rows", rows, "--seed", seed, "--out", path, "--force"];
        if !std::path::Path::new(path).exists() {
            assert_eq!(longhand(&[&arguments[..], &further[..6]].concat(), b"").0, 0);
        }
    }
    let arguments = ["finetune", "--task", "classify", "--data", &train, "--test", &test];
    let output = ["--out", &out, "--json", "--threads", "2", "--baseline", name];
    let (code, stdout, errors) = longhand(&[&arguments[..], &output, further].concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""), "{name}");
    (out, serde_json::from_str(stdout.lines().last().unwrap()).unwrap())
}

#[test]
fn baselines_are_trained_measured_and_asked_like_any_model() {
    let folder = Folder::new();
    let test = folder.path("test.tsv");
    let accuracy = |last: &Value| last["test"]["accuracy"].as_f64().unwrap();
    let (majority, last) = train(&folder, "majority", &[]);
    assert_eq!(last["done"], true);
    let least = accuracy(&last);
    assert!(least < 0.5, "{last}");
    for (name, further) in [("nb-lr", ["--ngrams", "2"]), ("ngram-linear", ["--epochs", "20"])] {
        let (out, last) = train(&folder, name, &further);
        assert!(accuracy(&last) > least + 0.3, "{name}: {last}");
        assert!(last["parameters"].as_u64().unwrap() > 1000 && last["best_valid_loss"].is_f64());
        assert_eq!(last["test"]["labels"].as_array().unwrap().len(), 6);

        let arguments = ["eval", &out, "--data", &test, "--against", &majority, "--json"];
        let (code, stdout, errors) = longhand(&arguments, b"");
        assert_eq!((code, errors.as_str()), (0, ""));
        let eval: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(eval["accuracy"], last["test"]["accuracy"]);
        assert_eq!(eval["confusion"], last["test"]["confusion"]);
        let difference = &eval["against"]["differences"]["accuracy"];
        let expected = accuracy(&last) - least;
        assert!((difference["value"].as_f64().unwrap() - expected).abs() < 1e-9);

        let text = fs_err::read_to_string(&test).unwrap();
        let first = text.lines().nth(1).unwrap().split('\t').next().unwrap();
        let input = format!("{first}\n\n");
        let (code, answers, errors) = longhand(&["predict", &out, "--json"], input.as_bytes());
        assert_eq!((code, errors.as_str()), (0, ""));
        let answers: Vec<Value> =
            answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let shares = answers[0]["probabilities"].as_object().unwrap().values();
        assert!((shares.map(|x| x.as_f64().unwrap()).sum::<f64>() - 1.0).abs() < 1e-5);
        assert_eq!((answers.len(), &answers[1]["label"]), (2, &Value::Null));

        let training = fs_err::read(format!("{out}/training.json")).unwrap();
        let training: Value = serde_json::from_slice(&training).unwrap();
        assert_eq!(training["recipe"]["baseline"]["type"], name);
        let card = fs_err::read_to_string(format!("{out}/README.md")).unwrap();
        assert!(card.contains(&format!("A baseline: {name}.")), "{card}");
        // A run that is not asked to overwrite it leaves it.
        let resume = ["finetune", "--resume", "--out", &out];
        check(&longhand(&resume, b""), 1, "no checkpoints to resume: pass --force", "resume");
        let weights = format!("{out}/model.safetensors");
        let mut bytes = fs_err::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs_err::write(&weights, bytes).unwrap();
        check(&longhand(&["predict", &out], b"a\n"), 1, "is damaged", "a flipped bit");
    }
}

/// The folder of a majority learnt from two files, and the last line of JSON.
fn majority(folder: &Folder, name: &str, data: [&str; 2], task: &[&str]) -> (String, Value) {
    let (out, [train, test]) = (folder.path(name), data);
    let arguments = ["finetune", "--baseline", "majority", "--data", train, "--test", test];
    let output = ["--threads", "1", "--json", "--out", &out];
    let (code, stdout, errors) = longhand(&[&arguments[..], task, &output].concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""), "{name}");
    (out, serde_json::from_str(stdout.lines().last().unwrap()).unwrap())
}

/// What `eval` measures of a model by the examples of a file.
fn measured(model: &str, data: &str) -> Value {
    let (code, stdout, errors) = longhand(&["eval", model, "--data", data, "--json"], b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn every_word_has_its_commonest_tag() {
    let folder = Folder::new();
    let sentence = "Bo B-PER\nsees O\nthe O\nriver O\n\n";
    let train = folder.write("train.conll", &sentence.repeat(30));
    // Of three words one is unknown, and one of two names.
    let test = folder.write("test.conll", "Bo B-PER\nsees O\nZu B-PER\n\n");
    let (out, last) = majority(&folder, "tags", [&train, &test], &["--task", "tag"]);
    let number = |key: &str| last["test"][key].as_f64().unwrap();
    assert!((number("accuracy") - 2.0 / 3.0).abs() < 1e-9, "{last}");
    assert!((number("entity_f1") - 2.0 / 3.0).abs() < 1e-9, "{last}");
    assert!(last["best_valid_loss"].as_f64().unwrap() < 0.2, "{last}");
    let eval = measured(&out, &test);
    assert_eq!(
        (&eval["entity_f1"], &eval["loss"]),
        (&last["test"]["entity_f1"], &last["test"]["loss"])
    );
    let (code, tagged, errors) = longhand(&["predict", &out], b"Zu\nsees\nBo\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(tagged, "Zu O\nsees O\nBo B-PER\n\n");
    let (_, answers, _) = longhand(&["predict", &out, "--json"], b"Bo\nsees\n");
    let answer: Value = serde_json::from_str(&answers).unwrap();
    assert_eq!(answer["entities"][0]["text"], "Bo");
    assert!(answer["probabilities"][0].as_f64().unwrap() > 0.9, "{answer}");

    let bad = folder.path("bad");
    let refused = |further: &[&str], text: &str| {
        let arguments = ["finetune", "--task", "tag", "--data", &train, "--out", &bad];
        check(&longhand(&[&arguments[..], further].concat(), b""), 2, text, text);
    };
    let biased = ["--baseline", "majority", "--set", "outside_bias=-1"];
    refused(&biased, "majority does not use the task's outside_bias");
    refused(&["--baseline", "nb-lr"], "the baseline nb-lr gives each text one label");
}

/// Columns of the built-in sample, with names to find, in files to learn from and to test on.
fn entities(folder: &Folder) -> [String; 2] {
    [("train.conll", "200", "1"), ("test.conll", "60", "2")].map(|(name, rows, seed)| {
        let path = folder.path(name);
        let arguments = ["data", "sample", "--table", "entities", "--rows", rows, "--seed", seed];
        let further = ["--language", "english", "--out", &path];
        assert_eq!(longhand(&[&arguments[..], &further].concat(), b"").0, 0);
        path
    })
}

#[test]
fn a_field_over_words_gives_tags_alone() {
    let folder = Folder::new();
    let [train, test] = entities(&folder);
    let data = [train.as_str(), test.as_str()];
    let (_, least) = majority(&folder, "words", data, &["--task", "tag"]);
    let out = folder.path("field");
    let arguments = ["finetune", "--task", "tag", "--data", &train, "--test", &test];
    let output = ["--threads", "1", "--json", "--out", &out];
    let own = ["--baseline", "crf", "--epochs", "6", "--set", "baseline.window=1"];
    let (code, stdout, errors) = longhand(&[&arguments[..], &output, &own].concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let f1 = |last: &Value| last["test"]["entity_f1"].as_f64().unwrap();
    assert!(f1(&last) > 0.8 && f1(&last) > f1(&least), "{last} {least}");
    let eval = measured(&out, &test);
    assert_eq!(
        (&eval["entity_f1"], &eval["loss"]),
        (&last["test"]["entity_f1"], &last["test"]["loss"])
    );
    let training = fs_err::read(format!("{out}/training.json")).unwrap();
    let training: Value = serde_json::from_slice(&training).unwrap();
    let recipe = &training["recipe"]["baseline"];
    assert_eq!(
        (&recipe["type"], &recipe["window"], &recipe["epochs"]),
        (&"crf".into(), &1.into(), &6.into())
    );
    let text = fs_err::read_to_string(&test).unwrap();
    // The first block begins a document.
    let sentence = text.split("\n\n").nth(1).unwrap();
    let (code, answers, _) = longhand(&["predict", &out, "--json"], sentence.as_bytes());
    let answer: Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    let count = sentence.lines().count();
    assert_eq!((code, answer["tags"].as_array().unwrap().len()), (0, count));

    let never = folder.path("never");
    let refused = |further: &[&str], words: &str| {
        let arguments = ["finetune", "--data", &train, "--out", &never];
        check(&longhand(&[&arguments[..], further].concat(), b""), 2, words, words);
    };
    let crf = ["--task", "tag", "--baseline", "crf"];
    refused(&[&crf[..], &["--ngrams", "2"]].concat(), "crf has no setting `ngrams`, only ");
    refused(&[&crf[..], &["--set", "baseline.window=17"]].concat(), "it must be at most 16");
    let table = folder.table("table.tsv", 30);
    let arguments = ["finetune", "--task", "classify", "--data", &table, "--out", &never];
    let text = longhand(&[&arguments[..], &COLUMNS, &["--baseline", "crf"]].concat(), b"");
    check(&text, 2, "the baseline crf gives each word a tag, which is not what", "classify");
}

#[test]
fn a_field_over_words_answers_beside_taggers() {
    let folder = Folder::new();
    let [train, test] = entities(&folder);
    let out = folder.path("both");
    // The networks are hardly trained, so that what is right is the field's.
    let arguments = ["finetune", "--task", "tag", "--data", &train, "--test", &test];
    let output = ["--threads", "2", "--json", "--out", &out, "--members", "2", "--steps", "4"];
    let own = ["--ensemble", "crf", "--set", "baseline.epochs=6"];
    let (code, stdout, errors) = longhand(&[&arguments[..], &output, &own].concat(), b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert!(last["test"]["entity_f1"].as_f64().unwrap() > 0.8, "{last}");
    assert_eq!(last["calibration"]["network_exponent"], 1.0);
    assert!(last["calibration"]["baseline_exponent"].as_f64().unwrap() > 0.3, "{last}");
    for member in last["members"].as_array().unwrap() {
        assert!(member["test"]["entity_f1"].as_f64().unwrap() < 0.7, "{last}");
    }
    let eval = measured(&out, &test);
    assert_eq!(eval["entity_f1"], last["test"]["entity_f1"]);
    let difference = eval["loss"].as_f64().unwrap() - last["test"]["loss"].as_f64().unwrap();
    assert!(difference.abs() < 1e-5, "{eval} {last}");
    // The answers that are written, read again, are as often right.
    let text = fs_err::read(&test).unwrap();
    let (code, tagged, errors) = longhand(&["predict", &out], &text);
    assert_eq!((code, errors.as_str()), (0, ""));
    let (mut right, mut all) = (0, 0);
    for line in tagged.lines() {
        if let [_, wanted, found] = line.split_whitespace().collect::<Vec<_>>()[..] {
            right += u32::from(found == wanted);
            all += 1;
        }
    }
    let accuracy = f64::from(right) / f64::from(all);
    assert!((accuracy - eval["accuracy"].as_f64().unwrap()).abs() < 1e-9, "{accuracy} {eval}");

    let weights = format!("{out}/ensemble.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&weights, bytes).unwrap();
    check(&longhand(&["predict", &out], b"a\n"), 1, "ensemble.safetensors", "a flipped bit");
}

#[test]
fn every_text_has_the_labels_of_most() {
    let folder = Folder::new();
    // All are wet, and a fourth of them is cold.
    let cold = "__label__wet __label__cold a text\n";
    let rows = format!("{cold}{}", "__label__wet another\n".repeat(3));
    let train = folder.write("train.txt", &rows.repeat(10));
    let test = folder.write("test.txt", "__label__wet a\n__label__wet b\n__label__cold c\n");
    let (out, last) = majority(&folder, "labels", [&train, &test], &["--multi-label"]);
    // Of three labels that are given two are right, and one of three is missed.
    assert!((last["test"]["f1"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9, "{last}");
    assert_eq!(last["test"]["auc"], 0.5);
    let eval = measured(&out, &test);
    assert_eq!((&eval["f1"], &eval["loss"]), (&last["test"]["f1"], &last["test"]["loss"]));
    let (code, answers, errors) = longhand(&["predict", &out], b"any text\n\n");
    assert_eq!((code, answers.as_str(), errors.as_str()), (0, "wet\n\n", ""));
    // Where no label reaches the threshold, it is the commonest.
    let strict = ["--multi-label", "--set", "threshold=0.999"];
    let (out, _) = majority(&folder, "strict", [&train, &test], &strict);
    assert_eq!(longhand(&["predict", &out], b"any text\n").1, "wet\n");
}

#[test]
fn a_baseline_learns_from_texts_that_it_has_labelled() {
    let folder = Folder::new();
    let (train_out, alone) = train(&folder, "nb-lr", &["--shots", "4"]);
    assert!(std::path::Path::new(&train_out).exists());
    let (data, test, out) =
        (folder.path("train.tsv"), folder.path("test.tsv"), folder.path("rounds"));
    let run = |baseline: &str, out: &str| {
        let data = ["finetune", "--task", "classify", "--data", &data, "--test", &test];
        let own = ["--baseline", baseline, "--shots", "4", "--unlabelled", data[4]];
        let rounds = ["--rounds", "3", "--threshold", "0", "--per-label", "20"];
        let output = ["--out", out, "--json", "--threads", "2"];
        longhand(&[&data[..], &own, &rounds, &output].concat(), b"")
    };
    let (code, stdout, errors) = run("nb-lr", &out);
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let rounds = last["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    // The first round is the same run without further texts.
    assert_eq!((&rounds[0]["labelled"], &rounds[0]["test"]), (&0.into(), &alone["test"]));
    // Six topics, at most twenty texts of each.
    let labelled = rounds[1]["labelled"].as_u64().unwrap();
    assert!((1..=120).contains(&labelled), "{last}");
    assert_ne!(rounds[1]["test"], rounds[0]["test"]);
    let best = last["out"].as_str().unwrap();
    let (code, answers, _) = longhand(&["predict", best, "--json"], b"a text\n");
    assert_eq!((code, answers.lines().count()), (0, 1));

    // Rounds that have ended are not repeated, and those that are left are run.
    let first = || fs_err::metadata(format!("{out}/round-01/model.safetensors"));
    let when = first().unwrap().modified().unwrap();
    fs_err::remove_dir_all(format!("{out}/round-03")).unwrap();
    let resume = ["finetune", "--resume", "--json", "--threads", "2", "--out", &out];
    let (code, stdout, errors) = longhand(&resume, b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    let again: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(again["rounds"], last["rounds"]);
    assert_eq!(first().unwrap().modified().unwrap(), when);
    let changed = ["finetune", "--resume", "--threshold", "0.5", "--out", &out];
    check(&longhand(&changed, b""), 1, "begun with another self-training", "another threshold");

    let other = folder.path("majority");
    check(&run("majority", &other), 2, "learns nothing from more texts", "no words");
}

#[test]
fn a_baseline_answers_beside_a_network() {
    let folder = Folder::new();
    // A text is a glad one if it has one of two words, and the network is hardly trained.
    let further = ["--ensemble", "nb-lr", "--epochs", "1", "--set", "baseline.cost=10"];
    let (train, test) = (folder.table("train.tsv", 150), folder.table("test.tsv", 30));
    let out = folder.path("both");
    let data = ["finetune", "--task", "classify", "--data", &train, "--test", &test];
    // What the run measures is what `eval` measures, to the last bit, though it trains in bf16.
    let output = ["--out", &out, "--threads", "2", "--precision", "bf16", "--json"];
    let arguments = [&data[..], &COLUMNS, &output, &further].concat();
    let (code, stdout, errors) = longhand(&arguments, b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["test"]["accuracy"], 1.0, "{last}");
    assert!(last["calibration"]["baseline_exponent"].as_f64().unwrap() > 0.5, "{last}");

    let eval = |model: &str| -> Value {
        let arguments = ["eval", model, "--data", &test, "--json"];
        let (code, stdout, errors) = longhand(&[&arguments[..], &COLUMNS].concat(), b"");
        assert_eq!((code, errors.as_str()), (0, ""));
        serde_json::from_str(&stdout).unwrap()
    };
    let answered = eval(&out);
    let report = folder.path("report.html");
    let arguments = ["eval", &out, "--data", &test, "--html", &report];
    assert_eq!(longhand(&[&arguments[..], &COLUMNS].concat(), b"").0, 0);
    let page = fs_err::read_to_string(&report).unwrap();
    for part in ["Confusion matrix", "By label", "Reliability", "precision 1.000"] {
        assert!(page.contains(part), "{part}");
    }
    for key in ["accuracy", "loss", "confusion"] {
        assert_eq!(answered[key], last["test"][key], "{key}");
    }
    let (code, answers, _) = longhand(&["predict", &out, "--json"], b"she was glad\n\nsad then\n");
    let labels = answers.lines().map(|line| {
        let answer: Value = serde_json::from_str(line).unwrap();
        answer["label"].clone()
    });
    assert_eq!(
        (code, labels.collect::<Vec<_>>()),
        (0, vec!["good".into(), Value::Null, "bad".into()])
    );

    // A smaller copy has it too.
    let small = folder.path("small");
    assert_eq!(longhand(&["quantize", &out, "--weights", "int8", "--out", &small], b"").0, 0);
    assert_eq!(eval(&small)["accuracy"], 1.0);

    let weights = format!("{out}/ensemble.safetensors");
    let bytes = fs_err::read(&weights).unwrap();
    let cut = fs_err::write(&weights, &bytes[..bytes.len() - 1]);
    assert!(cut.is_ok());
    check(&longhand(&["predict", &out], b"a\n"), 1, "ensemble.safetensors", "a file that was cut");
    // A run that has none leaves none behind.
    let alone = [&data[..], &COLUMNS, &output, &["--epochs", "1", "--force"]].concat();
    assert_eq!(longhand(&alone, b"").0, 0);
    assert!(!std::path::Path::new(&weights).exists());
}

#[test]
fn an_ensemble_that_cannot_be_is_refused() {
    let folder = Folder::new();
    let table = folder.table("train.tsv", 60);
    let out = folder.path("out");
    let run = |further: &[&str]| {
        let arguments = ["finetune", "--data", &table, "--out", &out, "--ensemble", "nb-lr"];
        longhand(&[&arguments[..], &COLUMNS, further].concat(), b"")
    };
    let classify = ["--task", "classify"];
    for (further, text) in [
        (["--baseline", "nb-lr"], "cannot be used with"),
        (["--set", "baseline.cost=-1"], "it must be above 0"),
        (["--set", "baseline.width=8"], "has no setting `width`, only "),
    ] {
        check(&run(&[&classify[..], &further].concat()), 2, text, text);
    }
    check(&run(&["--task", "multi-label"]), 2, "one label", "several labels");
    check(
        &run(&["--task", "classify", "--valid-fraction", "0"]),
        2,
        "nothing is held out",
        "all learnt",
    );
}

#[test]
fn networks_of_one_memory_are_baselines_too() {
    let folder = Folder::new();
    let table = folder.table("train.tsv", 60);
    let memories =
        [("rnn", "\"rnn\""), ("transformer", "\"attention\""), ("textcnn", "\"convolution\"")];
    for (name, memory) in memories {
        let out = folder.path(name);
        let arguments = ["finetune", "--task", "classify", "--data", &table, "--out", &out];
        let further = ["--json", "--threads", "2", "--baseline", name, "--steps", "3"];
        let arguments = [&arguments[..], &COLUMNS, &further].concat();
        let (code, stdout, errors) = longhand(&arguments, b"");
        assert_eq!((code, errors.as_str()), (0, ""), "{name}");
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["step"], 3);
        let config = fs_err::read_to_string(format!("{out}/config.json")).unwrap();
        assert!(config.contains(memory) && !config.contains("\"lstm\""), "{config}");
    }
}

#[test]
fn flags_that_a_baseline_has_no_use_for_are_refused() {
    let folder = Folder::new();
    let table = folder.table("train.tsv", 60);
    let out = folder.path("out");
    let refused = |further: &[&str], words: &str| {
        let arguments = ["finetune", "--task", "classify", "--data", &table, "--out", &out];
        let columns = ["--text-column", "sentence", "--label-column", "mood"];
        check(&longhand(&[&arguments[..], &columns, further].concat(), b""), 2, words, words);
        assert!(!std::path::Path::new(&out).exists(), "{words}");
    };
    refused(&["--baseline", "nb-lr", "--preset", "lstm"], "a whole model: leave out --preset");
    refused(&["--baseline", "rnn", "--preset", "lstm"], "a whole model: leave out --preset");
    refused(&["base", "--baseline", "nb-lr"], "a whole model: leave out MODEL");
    refused(&["--baseline", "nb-lr", "--steps", "3"], "--steps is not for the baseline nb-lr");
    refused(&["--baseline", "nb-lr", "--tokenizer", "bpe"], "--tokenizer is not for the baseline");
    refused(&["--baseline", "nb-lr", "--method", "lora"], "--method is not for the baseline");
    refused(&["--baseline", "nb-lr", "--pretrain", "masked"], "--pretrain is not for");
    refused(&["--baseline", "nb-lr", "--batch", "8"], "--batch is not for the baseline");
    refused(
        &["--baseline", "nb-lr", "--pair-column", "id", "--set", "matches=false"],
        "nb-lr does not use the task's matches",
    );
    refused(&["--baseline", "nb-lr", "--pooling", "max"], "--pooling is not for the baseline");
    refused(
        &["--baseline", "nb-lr", "--epochs", "2"],
        "nb-lr has no setting `epochs`, only ngrams, ",
    );
    refused(
        &["--baseline", "majority", "--ngrams", "2"],
        "majority has no setting `ngrams`, or any other",
    );
    refused(&["--baseline", "ngram-linear", "--epochs", "1.5"], "a whole number from 1, not 1.5");
    refused(&["--baseline", "nb-lr", "--set", "baseline.cost=-1"], "cost: it must be above 0");
    refused(&["--ngrams", "2"], "name one with --baseline");
    refused(&["--baseline", "oracle"], "oracle");
    let weighted = ["finetune", "--task", "classify", "--data", &table, "--out", &out];
    let columns = ["--text-column", "sentence", "--label-column", "mood"];
    let weights = ["--baseline", "nb-lr", "--set", "class_weights=balanced"];
    let weighted = longhand(&[&weighted[..], &columns, &weights].concat(), b"");
    check(&weighted, 2, "nb-lr does not use the task's class_weights", "weights");
    let columns = folder.write("a.conll", "a B\n\nc D\n\n");
    let tag = ["finetune", "--task", "tag", "--data", &columns, "--out", &out];
    let tag = [&tag[..], &["--valid-fraction", "0", "--baseline", "nb-lr"]].concat();
    check(&longhand(&tag, b""), 2, "one label, which is not what the task tag asks for", "tag");
}
