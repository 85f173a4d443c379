//! `longhand finetune` and `longhand predict` through the real binary.

use assert_cmd::Command;
use serde_json::Value;

use crate::longhand;
use crate::tables::{COLUMNS, Folder, check};

#[test]
fn tables_become_a_classifier_that_answers_line_by_line() {
    let folder = Folder::new();
    let (out, last) = folder.classifier(&[]);
    assert_eq!((&last["done"], &last["test"]["accuracy"]), (&true.into(), &1.0.into()));
    assert_eq!(last["test"]["macro_f1"], 1.0);
    assert_eq!(last["test"]["labels"], serde_json::json!(["bad", "good"]));
    assert_eq!(last["test"]["confusion"], serde_json::json!([[20, 0], [0, 10]]));
    assert!(last["test"]["loss"].as_f64().unwrap() < 0.5);
    assert!(last["best_valid_loss"].is_f64());
    assert_eq!(last["out"], out.as_str());

    let input = b"she was glad then\nsad\r\nshe was sad then";
    let (code, answers, errors) = longhand(&["predict", &out], input);
    assert_eq!((code, answers.as_str(), errors.as_str()), (0, "good\nbad\nbad\n", ""));
    let (_, answers, _) = longhand(&["predict", &out, "--json"], b"glad\n");
    let answer: Value = serde_json::from_str(&answers).unwrap();
    assert_eq!(answer["label"], "good");
    let share = |label: &str| answer["probabilities"][label].as_f64().unwrap();
    assert!((share("good") + share("bad") - 1.0).abs() < 1e-5 && share("good") > 0.5);
    assert_eq!(answer["probability"], answer["probabilities"]["good"]);
    assert_eq!(answer["text"], "glad");
    assert_eq!(longhand(&["predict", &out], b""), (0, String::new(), String::new()));
}

#[test]
fn a_trained_model_is_tuned_and_a_run_goes_on() {
    let folder = Folder::new();
    let (first, _) =
        folder.classifier(&["--pooling", "mean", "--tokenizer", "bpe", "--vocab", "300"]);
    let (train, out) = (folder.path("train.tsv"), folder.path("tuned"));
    let tune = [
        &["finetune", &first, "--task", "classify", "--data", &train, "--steps", "4"],
        &COLUMNS[..],
        &["--out", &out],
    ]
    .concat();
    let (code, stdout, errors) = longhand(&tune, b"");
    assert_eq!((code, stdout.as_str()), (0, ""), "{errors}");
    assert!(errors.contains("macro-F1") && errors.contains("longhand predict"), "{errors}");
    let read = |folder: &str, name: &str| fs_err::read(format!("{folder}/{name}")).unwrap();
    assert_eq!(read(&first, "tokenizer.json"), read(&out, "tokenizer.json"));
    // What it begins with is not written over.
    let mut over = tune[..tune.len() - 1].to_vec();
    over.extend([first.as_str(), "--force"]);
    let before = read(&first, "model.safetensors");
    check(
        &longhand(&over, b""),
        1,
        "holds the model to begin with: name another --out, so that it stays",
        "into its base",
    );
    assert_eq!(read(&first, "model.safetensors"), before);
    // What it was made of is written down.
    let training: Value = serde_json::from_slice(&read(&out, "training.json")).unwrap();
    let (recipe, base) = (&training["recipe"], &training["recipe"]["model"]["base"]);
    assert_eq!(recipe["tokenizer"]["kind"], "bpe");
    assert_eq!(base["path"], first.as_str());
    assert_eq!(base["hash"].as_str().unwrap().len(), 64);
    let mut config: Value = serde_json::from_slice(&read(&first, "config.json")).unwrap();
    config.as_object_mut().unwrap().remove("vocab_size");
    assert_eq!(recipe["model"]["config"], config);
    let card = String::from_utf8(read(&out, "README.md")).unwrap();
    assert!(card.contains("begun with the model classifier. Tokeniser: bpe."), "{card}");

    // It goes on as it was begun, but for what flags say, by either verb.
    for (verb, steps) in [("finetune", "6"), ("train", "8")] {
        let longer = [verb, "--resume", "--steps", steps, "--out", &out];
        let (code, _, errors) = longhand(&longer, b"");
        assert_eq!(code, 0, "{errors}");
        assert!(errors.contains("going on from step"), "{errors}");
    }
    let again: Value = serde_json::from_slice(&read(&out, "training.json")).unwrap();
    assert_eq!(&again["recipe"]["model"], &recipe["model"]);
    assert_eq!(again["results"]["steps"], 8);
    let other = [&tune[..], &["--resume", "--vocab", "300"]].concat();
    assert_eq!(longhand(&other, b"").0, 2);
    // Another model under the same name is not what the run began with.
    let weights = read(&out, "model.safetensors");
    fs_err::write(format!("{first}/model.safetensors"), weights).unwrap();
    let (code, _, errors) = longhand(&["finetune", "--resume", "--out", &out], b"");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("is not the model that the recipe begins with"), "{errors}");
}

#[test]
fn a_few_examples_of_each_label_are_learnt_from() {
    let folder = Folder::new();
    let table = folder.table("train.tsv", 60);
    let finetune = |further: &[&str]| {
        let out = folder.path("few");
        let arguments = ["finetune", "--task", "classify", "--data", &table, "--out", &out];
        let budget = ["--steps", "1", "--threads", "1", "--force"];
        longhand(&[&arguments[..], &COLUMNS, &budget, further].concat(), b"")
    };
    let (code, _, told) = finetune(&["--shots", "5", "--label-smoothing", "0.1"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("10 examples, 6 held out"), "{told}");
    assert!(told.contains("bad 5, good 5"), "{told}");
    let training = fs_err::read(folder.path("few/training.json")).unwrap();
    let training: Value = serde_json::from_slice(&training).unwrap();
    assert_eq!(training["recipe"]["data"]["shots"], 5);
    let smoothing = training["recipe"]["training"]["label_smoothing"].as_f64().unwrap();
    assert!((smoothing - 0.1).abs() < 1e-6);
    let few = finetune(&["--shots", "19"]);
    check(&few, 1, "18 examples of the label \"good\" to learn from, but 19 of each", "few");
    check(&finetune(&["--shots", "0"]), 2, "--shots", "none");
    check(&finetune(&["--label-smoothing", "1"]), 2, "--label-smoothing is 1", "all");
    let (code, _, told) = finetune(&["--adversarial", "2"]);
    assert_eq!(code, 0, "{told}");
    check(&finetune(&["--adversarial", "0"]), 2, "--adversarial is 0", "no perturbation");
    check(&finetune(&["--test-fraction", "0.2"]), 2, "--test-fraction is for tasks that", "share");
    // Any setting of the task has a name.
    let (code, _, told) = finetune(&["--set", "longest=2", "--set", "pooling=mean"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("texts longer than 2 tokens"), "{told}");
    check(&finetune(&["--set", "longest"]), 2, "is not of the form KEY=VALUE", "form");
    check(
        &finetune(&["--set", "colour=red"]),
        2,
        "--set colour=red is not for the task classify, whose settings are label_column, ",
        "unknown",
    );
}

#[test]
fn the_embedding_begins_with_the_vectors_of_a_file() {
    let folder = Folder::new();
    let (table, out) = (folder.table("train.tsv", 30), folder.path("begun"));
    let vectors = folder.write("v.vec", "3 2\nglad 0.5 1\nsad -0.5 -1\nsea 1 1\n");
    let begin = |further: &[&str]| {
        let arguments = ["finetune", "--task", "classify", "--data", &table, "--out", &out];
        let more = ["--steps", "1", "--threads", "1", "--vectors", &vectors];
        longhand(&[&arguments[..], &COLUMNS, &more, further].concat(), b"")
    };
    let wide = "have 2 numbers, but the model's `width` is 64: set it to 2: pass --width 2";
    check(&begin(&[]), 1, wide, "another width");
    check(&begin(&["--tokenizer", "bpe"]), 2, "the bpe tokeniser cuts words", "no words");
    let (code, _, told) = begin(&["--width", "2", "--force"]);
    assert_eq!(code, 0, "{told}");
    let found = format!("2 of 7 tokens begin with their vector of {vectors}\n");
    assert!(told.contains(&found), "{told}");
    let training = fs_err::read(folder.path("begun/training.json")).unwrap();
    let training: Value = serde_json::from_slice(&training).unwrap();
    let recorded = &training["recipe"]["model"]["vectors"];
    assert_eq!(recorded["path"], vectors.as_str());
    assert_eq!(recorded["sha256"].as_str().unwrap().len(), 64);
    let resume =
        |steps: &str| longhand(&["finetune", "--resume", "--steps", steps, "--out", &out], b"");
    let (code, _, told) = resume("2");
    assert_eq!((code, told.contains("begin with their vector")), (0, false), "{told}");
    folder.write("v.vec", "glad 0.5 2\n");
    check(&resume("3"), 1, "does not hold the vectors that the recipe names", "another file");
    folder.write("v.vec", "glad 0.5 1\nsad 0.5\n");
    let ragged = "v.vec, line 2: it has 1 number(s), but the first line says 2";
    check(&begin(&["--width", "2", "--force"]), 1, ragged, "ragged");
    let (trained, _) = folder.classifier(&[]);
    check(&begin(&[&trained]), 2, "--vectors", "a trained model");
}

#[test]
fn texts_without_labels_are_learnt_from_in_rounds() {
    let folder = Folder::new();
    let (table, out) = (folder.table("train.tsv", 120), folder.path("rounds"));
    // Labels in the file are not read: here they are all wrong.
    let mut texts = fs_err::read_to_string(folder.path("train.tsv")).unwrap();
    for i in 0..40 {
        let word = if i % 2 == 0 { "glad" } else { "sad" };
        texts +=
            &format!("none\t{i}\twe were {word} {}\n", ["here", "there"][i / 2 % 2].repeat(i % 7));
    }
    let texts = folder.write("texts.tsv", &texts);
    let arguments = |further: &[&str]| -> Vec<String> {
        let data = ["finetune", "--task", "classify", "--data", &table, "--test", &table];
        let more = ["--unlabelled", &texts, "--shots", "4", "--epochs", "40", "--threads", "1"];
        let all = [&data[..], &COLUMNS, &more, &["--out", &out], further].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let run = |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        longhand(&arguments, b"")
    };
    let (code, stdout, errors) =
        run(&arguments(&["--rounds", "2", "--threshold", "0.5", "--per-label", "5", "--json"]));
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["done"], &last["end"]), (&true.into(), &"rounds".into()));
    let rounds = last["rounds"].as_array().unwrap();
    assert_eq!(
        (rounds.len(), &rounds[0], &rounds[0]["labelled"]),
        (2, &last["supervised"], &0.into())
    );
    let best = last["best_round"].as_u64().unwrap() as usize;
    assert_eq!(rounds[best - 1]["test"], last["test"]);
    assert_eq!(last["out"], format!("{out}/round-{best:02}"));
    let told = format!(
        "holds the rounds of a self-training, a model each: give the folder of one, \
                        such as {out}/round-{best:02}"
    );
    check(&longhand(&["eval", &out, "--data", &table], b""), 1, &told, "which folder");

    // What is labelled is no text of the labelled examples, each once, with a label of theirs.
    let lines = fs_err::read_to_string(format!("{out}/labelled-02.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rounds[1]["labelled"], lines.len());
    assert!(!lines.is_empty() && lines.len() <= 10, "{lines:?}");
    for (place, line) in lines.iter().enumerate() {
        assert!(line["text"].as_str().unwrap().starts_with("we were"), "{line}");
        assert!(["bad", "good"].iter().any(|label| line["label"] == *label), "{line}");
        assert!(line["probability"].as_f64().unwrap() >= 0.5, "{line}");
        assert!(lines[..place].iter().all(|other| other["text"] != line["text"]), "{line}");
    }
    let read =
        |round: usize, name: &str| fs_err::read(format!("{out}/round-{round:02}/{name}")).unwrap();
    let training: Value = serde_json::from_slice(&read(2, "training.json")).unwrap();
    assert_eq!(training["recipe"]["self_training"]["round"], 2);
    assert_eq!(training["recipe"]["training"]["average"], 0.99);

    // A round that is missing is made again from the same texts, to the same weights.
    let weights = read(2, "model.safetensors");
    fs_err::remove_dir_all(format!("{out}/round-02")).unwrap();
    let (code, _, told) = longhand(&["finetune", "--resume", "--threads", "1", "--out", &out], b"");
    assert_eq!(code, 0, "{told}");
    assert_eq!(read(2, "model.safetensors"), weights);
    assert!(told.contains("round 1, supervised alone: validation accuracy"), "{told}");
    assert!(told.contains(&format!("round 2, {} texts labelled by the one before:", lines.len())));
    assert!(
        told.contains(&format!("the best on the held-out part is round {best}: try")),
        "{told}"
    );
    let other = ["finetune", "--resume", "--threshold", "0.7", "--out", &out];
    check(&longhand(&other, b""), 1, "begun with another self-training", "another threshold");

    let early = folder.path("early");
    let missing =
        ["finetune", "--task", "classify", "--data", &table, "--unlabelled", "absent.tsv"];
    let missing = [&missing[..], &COLUMNS, &["--out", &early]].concat();
    check(&longhand(&missing, b""), 1, "absent.tsv does not exist", "no such texts");
    assert!(!std::path::Path::new(&format!("{early}/round-01")).exists(), "nothing was trained");
    let folds = ["finetune", "--task", "classify", "--data", &table, "--unlabelled", &texts];
    let folds = [&folds[..], &COLUMNS, &["--folds", "3", "--out", &out, "--force"]].concat();
    check(&longhand(&folds, b""), 2, "self-training has no `folds`", "folds");
    check(&run(&arguments(&["--rounds", "1", "--force"])), 2, "must be at least 2", "one round");
    let alone =
        ["finetune", "--task", "classify", "--data", &table, "--rounds", "2", "--out", &out];
    check(&longhand(&alone, b""), 2, "name texts with --unlabelled", "no texts");
}

/// Everything a person needs to see a classifier work, with nothing downloaded.
#[test]
fn a_table_of_the_sample_becomes_a_classifier() {
    let folder = Folder::new();
    let run = |line: &str, input: &[u8]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command.args(line.split(' ')).current_dir(folder.0.path());
        let output = command.write_stdin(input).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("data sample --table topic --language english --rows 120 --out train.tsv", b"");
    let test = run("data sample --table topic --language english --rows 12 --seed 2", b"");
    run("finetune --task classify --data train.tsv --steps 40 --threads 2 --json", b"");
    assert!(folder.0.path().join("classifier/model.safetensors").is_file());
    let texts: Vec<&str> =
        test.lines().skip(1).map(|line| line.split('\t').next().unwrap()).collect();
    let answers = run("predict classifier", texts.join("\n").as_bytes());
    assert_eq!(answers.lines().count(), 12);
    let topics = ["market", "journey", "school", "kitchen", "garden", "harbour"];
    assert!(answers.lines().all(|answer| topics.contains(&answer)), "{answers}");
}

#[test]
fn a_text_without_spaces_is_read_by_characters_unless_a_tokeniser_is_named() {
    let folder = Folder::new();
    let rows: String = (0..20).map(|i| format!("好,很好吃{i}\n差,太难吃{i}\n")).collect();
    let table = folder.write("table.csv", &format!("label,text\n{rows} 好 ,好\n"));
    let finetune = |further: &[&str]| {
        let out = folder.path("out");
        let arguments = ["finetune", "--task", "classify", "--data", &table, "--out", &out];
        let budget = ["--valid-fraction", "0", "--steps", "2", "--threads", "1", "--force"];
        let (code, _, errors) = longhand(&[&arguments[..], &budget, further].concat(), b"");
        assert_eq!(code, 0, "{errors}");
        errors
    };
    let told = finetune(&[]);
    assert!(told.contains("tokeniser char: ") && told.contains("has no spaces"), "{told}");
    assert!(told.contains("examples of each label: 好 21, 差 20"), "{told}");
    assert!(told.contains("1 label(s) lost the white space"), "{told}");
    let recipe = fs_err::read_to_string(folder.path("out/training.json")).unwrap();
    assert!(recipe.contains("\"kind\": \"char\""), "{recipe}");
    let told = finetune(&["--tokenizer", "word"]);
    assert!(!told.contains("tokeniser char"), "{told}");
    let marked =
        longhand(&["predict", &folder.path("out"), "--json"], "\u{feff}很好吃1\n".as_bytes());
    let plain = longhand(&["predict", &folder.path("out"), "--json"], "很好吃1\n".as_bytes());
    assert_eq!(marked, plain);
}

#[test]
fn the_first_row_of_a_table_is_a_header_where_it_is_one() {
    let folder = Folder::new();
    let rows = "up\tgood day\ndown\tbad day\n".repeat(6);
    let named = folder.write("named.tsv", &format!("label\ttext\n{rows}"));
    let strange = folder.write("strange.tsv", &format!("mood\twords\n{rows}"));
    let finetune = |table: &str, further: &[&str]| {
        let out = folder.path("out");
        let arguments = ["finetune", "--task", "classify", "--data", table, "--out", &out];
        let columns = ["--text-column", "1", "--label-column", "0", "--valid-fraction", "0"];
        let budget = ["--steps", "1", "--threads", "1", "--force"];
        longhand(&[&arguments[..], &columns, &budget, further].concat(), b"")
    };
    let twelve = "examples of each label: down 6, up 6";
    let told = finetune(&named, &[]).2;
    assert!(told.contains(twelve), "{told}");
    check(&finetune(&strange, &[]), 1, "row 1: it may name the columns", "asks");
    check(&finetune(&strange, &[]), 1, "pass --header yes or --header no", "hints");
    let told = finetune(&strange, &["--header", "yes"]).2;
    assert!(told.contains(twelve), "{told}");
    let told = finetune(&strange, &["--header", "no"]).2;
    assert!(told.contains("down 6, mood 1, up 6"), "{told}");
    check(&finetune(&strange, &["--header", "maybe"]), 2, "auto, yes or no", "refuses");
}

#[test]
fn a_recipe_with_a_task_runs_by_either_verb() {
    let folder = Folder::new();
    folder.table("train.tsv", 60);
    let recipe = folder.write(
        "recipe.toml",
        "[data]\ntrain = ['train.tsv']\ntest = ['train.tsv']\ntext_column = 'sentence'\n\
         [task]\ntype = 'classify'\nlabel_column = 'mood'\npooling = 'max'\n\
         [tokenizer]\nkind = 'word'\n[model]\npreset = 'stacked-lstm-classifier'\n\
         [training]\nbatch = 16\nbudget = { steps = 5 }\nevaluations = 1\n",
    );
    let data = folder.path("");
    let mut models = Vec::new();
    for verb in ["train", "finetune"] {
        let out = folder.path(verb);
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        let arguments = [verb, "--recipe", &recipe, "--threads", "1", "--json", "--out", &out];
        let output = command.args(arguments).env("LONGHAND_DATA", &data).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        assert!(last["test"]["accuracy"].is_f64() && last["test"]["loss"].is_f64(), "{last}");
        models.push(fs_err::read(format!("{out}/model.safetensors")).unwrap());
    }
    assert!(models[0] == models[1], "the same run by both verbs");
}

#[test]
fn bad_input_gets_one_sentence() {
    let folder = Folder::new();
    let good = folder.table("good.tsv", 60);
    let empty = folder.write("empty.tsv", "");
    let header = folder.write("header.tsv", "mood\tid\tsentence\n");
    let one =
        folder.write("one.tsv", &format!("mood\tid\tsentence\n{}", "good\t1\ta\n".repeat(20)));
    let strange = folder.write("strange.tsv", "mood\tid\tsentence\nodd\t1\ta\n");
    let blank = folder.write("blank.tsv", "mood\tid\tsentence\ngood\t1\ta\nbad\t2\t \n");
    let few = folder.write("few.tsv", "mood\tid\tsentence\ngood\t1\ta\nbad\t2\tb\n");
    let out = folder.path("out");
    let columns = COLUMNS.join(" ");
    let full = folder.path("full");
    fs_err::create_dir(&full).unwrap();
    fs_err::write(format!("{full}/notes.txt"), "mine").unwrap();
    let cases = [
        (format!("--data {good} --text-column sentence"), 1, "no column \"label\""),
        (format!("--data {good} {columns} --test {good} --label-column 9"), 2, "--label-column"),
        (format!("--data {good} --text-column sentence --label-column 9"), 1, "no column 9"),
        (format!("--data {empty} {columns}"), 1, "is empty"),
        (format!("--data {header} {columns}"), 1, "is empty"),
        (format!("--data {one} {columns}"), 1, "at least two labels"),
        (format!("--data {blank} {columns}"), 1, "example 2 of"),
        (format!("--data {few} {columns}"), 1, "give more examples"),
        (format!("--data {good} {columns} --test {strange}"), 1, "\"odd\""),
        (format!("--data {good} {columns} --valid {strange}"), 1, "\"odd\""),
        (format!("--data no.tsv {columns}"), 1, "no.tsv"),
        (format!("--data {good} {columns} --valid-fraction 1.5"), 2, "--valid-fraction"),
        (format!("--data {good} {columns} --epochs -1"), 2, "-1"),
        (format!("--data {good} {columns} --preset none"), 2, "none"),
        (columns.clone(), 2, "pass --data"),
        (format!("nowhere --data {good} {columns}"), 1, "nowhere: give the folder that"),
        (format!("--data {good} {columns} --out {full}"), 1, "--force"),
    ];
    for (arguments, expected, words) in &cases {
        let mut line = vec!["finetune", "--task", "classify", "--steps", "1"];
        if arguments.contains("--epochs") {
            line.truncate(3);
        }
        line.extend(arguments.split(' '));
        if !arguments.contains("--out") {
            line.extend(["--out", &out]);
        }
        check(&longhand(&line, b""), *expected, words, arguments);
    }
    let result = longhand(&["finetune", "--data", &good, "--out", &out], b"");
    check(&result, 2, "--task classify", "no task");
    assert!(!std::path::Path::new(&out).exists(), "nothing is written for bad input");
}

#[test]
fn lines_of_prose_are_told_wherever_labels_are_looked_for() {
    let folder = Folder::new();
    let train: String =
        (0..60).map(|i| ["good it was glad\n", "bad it was sad\n"][i % 2]).collect();
    let train = folder.write("train.txt", &train);
    let words = "it was on a day when nobody had seen any cloud";
    let prose: String = words.split(' ').map(|word| format!("{word} came to pass\n")).collect();
    let prose = folder.write("prose.txt", &prose);
    let out = folder.path("out");
    let learn = ["finetune", "--task", "classify", "--steps", "1", "--threads", "1", "--out", &out];
    let told = "prose.txt begin with 11 different words, 11 of them only once";
    for files in [
        &["--data", &prose][..],
        &["--data", &train, "--valid", &prose],
        &["--data", &train, "--test", &prose],
    ] {
        let result = longhand(&[&learn[..], files].concat(), b"");
        check(&result, 1, told, "finetune");
        check(&result, 1, "begin each line with its label", "finetune");
    }
    let (code, _, errors) = longhand(&[&learn[..], &["--data", &train]].concat(), b"");
    assert_eq!(code, 0, "{errors}");
    check(&longhand(&["eval", &out, "--data", &prose], b""), 1, told, "eval");
    // One label that is unknown among labels that come again is that label's fault.
    let odd = folder.write("odd.txt", "good it was\nbad it was\nodd it was\n");
    check(&longhand(&["eval", &out, "--data", &odd], b""), 1, "the label \"odd\"", "odd");
}

#[test]
fn a_table_of_another_name_wants_its_format() {
    let folder = Folder::new();
    let lines = "good glad then\nbad it was sad\n";
    let train = folder.write("train.txt", &lines.repeat(30));
    let out = folder.path("out");
    let learn = ["finetune", "--task", "classify", "--steps", "1", "--threads", "1", "--data"];
    let (code, _, errors) = longhand(&[&learn[..], &[&train, "--out", &out]].concat(), b"");
    assert_eq!(code, 0, "{errors}");
    let new = folder.write("new.txt", lines);
    let predict = ["predict", &out, "--data", &new];
    let result = longhand(&predict, b"");
    check(&result, 2, "labelled, if each line begins with its label", "no format");
    let (code, answers, errors) =
        longhand(&[&predict[..], &["--format", "labelled", "--json"]].concat(), b"");
    assert_eq!(code, 0, "{errors}");
    let texts: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert_eq!((&texts[0]["text"], &texts[1]["text"]), (&"glad then".into(), &"it was sad".into()));
    let table = folder.write("table.txt", "label\tid\ttext\ngood\t1\tglad then\n");
    let result = longhand(&[&learn[..], &[&table, "--out", &out, "--force"]].concat(), b"");
    check(&result, 1, "pass --format tsv if it is a table", "a table");
}

#[test]
fn predict_refuses_what_it_cannot_answer() {
    let folder = Folder::new();
    let (classifier, _) = folder.classifier(&[]);
    // A blank line is answered by one, and lines before a bad one keep their answers.
    let (code, answers, errors) = longhand(&["predict", &classifier], b"glad\n\n  \nsad\n");
    assert_eq!((code, answers.as_str(), errors.as_str()), (0, "good\n\n\nbad\n", ""));
    let (_, answers, _) = longhand(&["predict", &classifier, "--json"], b" \n");
    let nothing = r#"{"label":null,"probabilities":null,"probability":null,"text":" "}"#;
    let (found, expected): (Value, Value) =
        (serde_json::from_str(&answers).unwrap(), serde_json::from_str(nothing).unwrap());
    assert_eq!((found, answers.lines().count()), (expected, 1));
    let result = longhand(&["predict", &classifier], b"glad\nsa\xffd\nsad\n");
    check(&result, 1, "line 2 of the standard input is not valid UTF-8", "predict");
    assert_eq!(result.1, "good\n");
    let (code, answers, _) = longhand(&["predict", &classifier, "--lossy"], b"sad \xff\n");
    assert_eq!((code, answers.as_str()), (0, "bad\n"));
    check(&longhand(&["predict", "nowhere"], b"a\n"), 1, "there is no folder nowhere", "folder");

    let text = folder.write("text.txt", &"One day she was glad.\n".repeat(200));
    let writer = folder.path("writer");
    let train = ["train", &text, "--steps", "1", "--batch", "2", "--chunk", "8", "--out", &writer];
    let (code, _, errors) = longhand(&train, b"");
    assert_eq!(code, 0, "{errors}");
    let result = longhand(&["predict", &writer], b"a\n");
    check(&result, 1, "is a language model, not a classifier", "a language model");
    let generate = ["generate", &classifier, "--prompt", "a", "--max-tokens", "1"];
    assert_eq!(longhand(&generate, b"").0, 1);

    fs_err::remove_file(format!("{classifier}/task.json")).unwrap();
    check(&longhand(&["predict", &classifier], b"a\n"), 1, "task.json is not usable", "no labels");
}
