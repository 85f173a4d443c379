//! `longhand finetune` with the tasks whose answers are written, through the real binary.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::longhand;

fn refused(arguments: &[&str]) -> String {
    let (code, out, errors) = longhand(arguments, "");
    assert!(code != 0 && out.is_empty(), "{arguments:?}: {out}{errors}");
    errors
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs_err::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const WORDS: [[&str; 2]; 6] = [
    ["Hund", "dog"],
    ["Katze", "cat"],
    ["Haus", "house"],
    ["Baum", "tree"],
    ["Sonne", "sun"],
    ["Bach", "brook"],
];

/// Lines of four words in each of two languages: BLEU counts runs of up to four.
fn lines(from: usize, count: usize) -> [String; 2] {
    [0, 1].map(|language| {
        let line = |i: usize| {
            [i, i / 6 + i, i / 36 + 2 * i, i + 1].map(|at| WORDS[at % 6][language]).join(" ")
        };
        (from..from + count).map(|i| line(i) + "\n").collect()
    })
}

const FAST: [&str; 8] =
    ["--threads", "1", "--epochs", "12", "--width", "64", "--learning-rate", "5e-3"];

#[test]
fn two_files_become_a_translator() {
    let folder = TempDir::new().unwrap();
    let [de, en] = lines(0, 1200);
    let train = [write(&folder, "train.de", &de), write(&folder, "train.en", &en)];
    let [de, en] = lines(300, 20);
    let test = [write(&folder, "test.de", &de), write(&folder, "test.en", &en)];
    let out = folder.path().join("translator").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "translate", "--data", &train[0], "--targets", &train[1]][..],
        &["--test", &test[0], "--test-targets", &test[1], "--preset", "longhand-nano"],
        &["--vocab", "300", "--languages", "de,en", "--json", "--out", &out],
        &FAST,
    ];
    let (code, stdout, errors) = longhand(&arguments.concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert!(last["test"]["bleu"].as_f64().unwrap() > 95.0, "{last}");
    assert!(last["test"]["perplexity"].as_f64().unwrap() < 1.5, "{last}");
    assert!(last["valid"]["bleu"].is_null(), "{last}");

    let (code, measured, errors) = longhand(
        &["eval", &out, "--data", &test[0], "--targets", &test[1], "--samples", "50", "--json"],
        "",
    );
    assert_eq!((code, errors.as_str()), (0, ""));
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["bleu"], last["test"]["bleu"]);
    for key in ["chrf", "ter", "perplexity", "seconds", "tokens_per_second"] {
        assert!(measured[key].is_f64(), "{key}: {measured}");
    }
    assert!(measured["intervals"]["bleu"].is_array(), "{measured}");
    let signature = measured["signatures"]["bleu"].as_str().unwrap();
    assert!(signature.contains("tok:13a"), "{signature}");
    let (_, told, _) =
        longhand(&["eval", &out, "--data", &test[0], "--targets", &test[1], "--beam", "2"], "");
    assert!(told.contains("BLEU ") && told.contains("tokens written a second"), "{told}");

    let (code, plain, errors) =
        longhand(&["predict", &out], "Hund Baum Katze Katze\n\nSonne Haus Bach Bach\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(plain, "dog tree cat cat\n\nsun house brook brook\n");
    let flags = ["predict", &out, "--data", &test[0], "--direction", "de-en"];
    let (code, plain, errors) = longhand(&flags, "");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(plain.lines().count(), 20);
    let flags = ["predict", &out, "--beam", "4", "--nbest", "3"];
    let (code, ranked, errors) = longhand(&flags, "Hund Baum Katze Katze\nBach Bach Bach Hund\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    let ids: Vec<&str> = ranked.lines().map(|line| line.split(" ||| ").next().unwrap()).collect();
    assert_eq!(ids, ["0", "0", "0", "1", "1", "1"]);
    assert!(ranked.starts_with("0 ||| dog tree cat cat ||| logprob= -"), "{ranked}");
    let columns = ["predict", &out, "--columns", "text,translation"];
    let (code, cells, errors) = longhand(&columns, "Hund Baum Katze Katze\n\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(cells, "dog tree cat cat\tdog tree cat cat\n\t\n");
    let (_, line, _) =
        longhand(&["predict", &out, "--json", "--nbest", "2"], "Hund Hund Hund Katze\n");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["translation"], line["hypotheses"][0]["text"]);
    assert_eq!(line["hypotheses"].as_array().unwrap().len(), 2);
    assert!(line["score"].is_f64() && line["is_cut"] == false, "{line}");

    let rules = write(&folder, "rules.toml", "forbid = ['dog', 'cat']");
    for further in [&["--json"][..], &["--beam", "1", "--json"]] {
        let flags = [&["predict", &out, "--rules", &rules], further].concat();
        let (code, line, _) = longhand(&flags, "Hund Baum Katze Katze\n");
        let line: Value = serde_json::from_str(&line).unwrap();
        let text = line["translation"].as_str().unwrap();
        assert_eq!(code, 0);
        // Whole words are forbidden: others may begin or end like them.
        let mut words = text.split(|character: char| !character.is_alphanumeric());
        assert!(!text.is_empty() && words.all(|word| word != "dog" && word != "cat"), "{text}");
    }
    let ruled = ["eval", &out, "--data", &test[0], "--targets", &test[1], "--rules", &rules];
    let (code, ruled, errors) =
        longhand(&[&ruled[..], &["--samples", "10", "--json"]].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let ruled: Value = serde_json::from_str(&ruled).unwrap();
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap();
    assert!(of(&ruled, "bleu") < of(&measured, "bleu") - 10.0, "{ruled}");
    // The right texts have the probability that they had.
    assert!((of(&ruled, "perplexity") - of(&measured, "perplexity")).abs() < 1e-6, "{ruled}");

    let flags = ["predict", &out, "--diverse", "2", "--nbest", "4"];
    let (code, spread, errors) = longhand(&flags, "Hund Baum Katze Katze\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    // The groups may find the same texts, and a list has each once.
    let texts: Vec<&str> = spread.lines().map(|line| line.split(" ||| ").nth(1).unwrap()).collect();
    let once: std::collections::BTreeSet<&str> = texts.iter().copied().collect();
    assert!((3..=4).contains(&texts.len()) && once.len() == texts.len(), "{spread}");
    assert!(spread.starts_with("0 ||| dog tree cat cat ||| logprob= -"), "{spread}");
    // Texts are drawn where that is asked for, the same for a source in any company.
    let drawn = |flags: &[&str], input: &str| -> String {
        let all = [&["predict", &out, "--max-length", "12"][..], flags].concat();
        let (code, texts, errors) = longhand(&all, input);
        assert_eq!((code, errors.as_str()), (0, ""), "{flags:?}");
        texts
    };
    let (one, other) = ("Hund Baum Katze Katze\n", "Bach Bach Bach Hund\n");
    let four = ["--temperature", "3", "--seed", "7", "--nbest", "4"];
    let alone = drawn(&four, one);
    let texts: Vec<&str> = alone.lines().collect();
    assert!(texts.len() == 4 && texts.iter().any(|text| *text != texts[0]), "{alone}");
    let together = drawn(&four, &[other, one].concat());
    let of_one: Vec<String> = together
        .lines()
        .filter_map(|line| Some(format!("0 ||| {}", line.strip_prefix("1 ||| ")?)))
        .collect();
    assert_eq!(of_one, texts);
    let first = drawn(&["--temperature", "3", "--seed", "7", "--nbest", "1"], one);
    assert_eq!(first.lines().collect::<Vec<_>>(), texts[..1]);
    assert_ne!(drawn(&["--temperature", "3", "--seed", "8", "--nbest", "4"], one), alone);
    let both = [other, one].concat();
    assert_eq!(drawn(&["--temperature", "0"], &both), drawn(&["--beam", "1"], &both));
    let begun = drawn(&["--temperature", "1", "--prefix", "sun house"], one);
    assert!(begun.starts_with("sun house"), "{begun}");
    let ruled = ["predict", &out, "--temperature", "1", "--rules", &rules, "--json"];
    let (_, ruled, _) = longhand(&ruled, one);
    let ruled: Value = serde_json::from_str(&ruled).unwrap();
    let mut words = ruled["translation"].as_str().unwrap().split(|c: char| !c.is_alphanumeric());
    assert!(words.all(|word| word != "dog" && word != "cat"), "{ruled}");
    let measure = ["eval", &out, "--data", &test[0], "--targets", &test[1], "--samples", "10"];
    let hot = ["--temperature", "4", "--top-k", "50", "--json"];
    let (code, hot, errors) = longhand(&[&measure[..], &hot].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let hot: Value = serde_json::from_str(&hot).unwrap();
    assert!(of(&hot, "bleu") < of(&measured, "bleu") - 10.0, "{hot}");

    let (code, begun, errors) =
        longhand(&["predict", &out, "--prefix", "sun house"], "Hund Baum Katze Katze\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(begun.starts_with("sun house"), "{begun}");
    let rows = write(
        &folder,
        "rows.tsv",
        "source\tfirst\nHund Hund Hund Katze\tcat\nBach Bach Bach Hund\t\n",
    );
    let columns = ["--prefix-column", "first", "--columns", "translation"];
    let flags = [&["predict", &out, "--data", &rows][..], &columns].concat();
    let (code, begun, errors) = longhand(&flags, "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let begun: Vec<&str> = begun.lines().collect();
    assert!(begun[0].starts_with("cat") && begun[1].starts_with("brook"), "{begun:?}");

    // A row whose beginning cannot be written is told, and the others are answered.
    let some = "source\tfirst\nHund Hund Hund Katze\tsun\nBach Bach Bach Hund\tdog sun\nBach\t\n";
    let some = write(&folder, "some.tsv", some);
    for further in [&["--columns", "translation"][..], &["--json"], &[]] {
        let flags =
            ["predict", &out, "--data", &some, "--prefix-column", "first", "--rules", &rules];
        let (code, begun, errors) = longhand(&[&flags[..], further].concat(), "");
        assert_eq!(code, 0, "{errors}");
        let skipped = usize::from(further.is_empty());
        assert_eq!(begun.lines().skip(skipped).count(), 3, "{begun}");
        let refused = errors.lines().filter(|line| line.starts_with("row 2 of ")).count();
        assert!(refused == 1 && errors.contains("1 row(s) have no answer"), "{errors}");
    }

    // Flags that do not fit get one sentence.
    let told = refused(&["predict", &out, "--beam", "4", "--diverse", "3"]);
    assert!(told.contains("--diverse is 3, but the beam must be a multiple of it"), "{told}");
    let told = refused(&["predict", &out, "--diversity", "0.5"]);
    assert!(told.contains("--diversity is 0.5, but it is between groups"), "{told}");
    for flag in ["--beam", "--diverse", "--length-penalty"] {
        let told = refused(&["predict", &out, "--temperature", "1", flag, "2"]);
        assert!(told.contains(flag) && told.contains("texts are drawn: leave one of"), "{told}");
    }
    for flag in ["--top-k", "--seed", "--repetition-penalty"] {
        let told = refused(&["predict", &out, flag, "2"]);
        assert!(told.contains(flag) && told.contains("pass --temperature too"), "{told}");
    }
    let told = refused(&["predict", &out, "--temperature", "1", "--top-p", "2"]);
    assert!(told.contains("the top-p is 2, but must be"), "{told}");
    let told = refused(&["predict", &out, "--temperature", "1", "--nbest", "600"]);
    assert!(told.contains("--nbest is 600, but it must be at most 512"), "{told}");
    let told = refused(&["predict", &out, "--patience", "0"]);
    assert!(told.contains("--patience is 0, but it must be above 0"), "{told}");
    let told = refused(&["predict", &out, "--prefix-column", "first"]);
    assert!(told.contains("--prefix-column is for tables"), "{told}");
    let told = refused(&["predict", &out, "--prefix", "a", "--prefix-column", "b"]);
    assert!(told.contains("cannot be used with"), "{told}");
    let told = refused(&["predict", &out, "--data", &rows, "--prefix-column", "second"]);
    assert!(told.contains("second"), "{told}");
    let (code, _, told) = longhand(&["predict", &out, "--replace-unknown"], "Hund\n");
    assert!(code != 0 && told.contains("--form encoder-decoder"), "{told}");
    let told = refused(&["predict", &out, "--direction", "en-de"]);
    assert!(told.contains("does not know the direction en-de: it has de-en"), "{told}");
    let told = refused(&["predict", &out, "--beam", "2", "--nbest", "3"]);
    assert!(told.contains("--nbest is 3"), "{told}");
    let told = refused(&["predict", &out, "--min-length", "129"]);
    assert!(
        told.contains("--min-length is 129, but the model writes at most 128 tokens"),
        "{told}"
    );
    let told = refused(&["predict", &out, "--length-penalty", "-1"]);
    assert!(told.contains("--length-penalty is -1"), "{told}");
    let told = refused(&["predict", &out, "--explain"]);
    assert!(told.contains("leave out --explain"), "{told}");
    let told = refused(&["eval", &out, "--data", &test[0]]);
    assert!(told.contains("has no texts to write") && told.contains("--targets"), "{told}");
    let told = refused(&["eval", &out, "--data", &test[0], &test[0], "--targets", &test[1]]);
    assert!(told.contains("--targets is given 1 time(s), but --data 2"), "{told}");
}

#[test]
fn files_that_do_not_pair_are_refused() {
    let folder = TempDir::new().unwrap();
    let [de, en] = lines(0, 20);
    let de = write(&folder, "a.de", &de);
    let short =
        write(&folder, "b.en", &en.lines().take(7).map(|l| format!("{l}\n")).collect::<String>());
    let en = write(&folder, "a.en", &en);
    let out = folder.path().join("out").to_str().unwrap().to_owned();
    let told = |flags: &[&str]| {
        refused(
            &[&["finetune", "--task", "translate", "--data", &de, "--out", &out], flags].concat(),
        )
    };
    let sentence = told(&["--targets", &short]);
    assert!(sentence.contains("line 8 of") && sentence.contains("has 7 line(s)"), "{sentence}");
    assert!(told(&[]).contains("has no texts to write"));
    let sentence = told(&["--targets", &en, "--directions", "both"]);
    assert!(sentence.contains("--languages de,en"), "{sentence}");
    let sentence = told(&["--targets", &en, "--languages", "de"]);
    assert!(sentence.contains("there are two"), "{sentence}");
    let sentence = told(&["--targets", &en, "--form", "round"]);
    assert!(sentence.contains("form = \"round\""), "{sentence}");
    let gap =
        write(&folder, "gap.en", &fs_err::read_to_string(&en).unwrap().replacen("cat", "", 0));
    let hole: String = (0..20).map(|i| if i == 4 { "\n" } else { "x\n" }).collect();
    let hole = write(&folder, "hole.en", &hole);
    let sentence = told(&["--targets", &gap, "--test", &de, "--test-targets", &hole]);
    assert!(sentence.contains("example 5 of") && sentence.contains("empty target"), "{sentence}");
    let sentence = refused(&["finetune", "--data", &de, "--targets", &en, "--task", "classify"]);
    assert!(sentence.contains("the task classify has no file of targets"), "{sentence}");
}

#[test]
fn stories_become_a_model_that_answers() {
    let folder = TempDir::new().unwrap();
    let names = ["Mary", "John", "Ann"];
    let rooms = ["kitchen", "garden", "office", "hall"];
    let story = |i: usize| {
        let (one, other) = (i % 3, (i + 1 + i / 3 % 2) % 3);
        let (here, there) = (rooms[i % 4], rooms[(i / 4 + i) % 4]);
        format!(
            "1 {a} went to the {here}.\n2 {b} went to the {there}.\n3 Where is {a}? \t{here}\t1\n",
            a = names[one],
            b = names[other]
        )
    };
    let train = write(&folder, "train.txt", &(0..1500).map(story).collect::<String>());
    let test = write(&folder, "test.txt", &(1500..1520).map(story).collect::<String>());
    let out = folder.path().join("answers").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "answer", "--data", &train, "--test", &test, "--json"][..],
        &["--preset", "longhand-nano", "--vocab", "320", "--out", &out],
        &FAST,
    ];
    let (code, stdout, errors) = longhand(&arguments.concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert!(last["test"]["exact_match"].as_f64().unwrap() > 0.9, "{last}");
    let group = &last["test"]["by_group"]["groups"][0];
    assert_eq!((&group["name"], &group["examples"]), (&"test".into(), &20.into()), "{last}");
    assert_eq!(group["exact_match"], last["test"]["group_mean"]);
    let (code, measured, errors) = longhand(&["eval", &out, "--data", &test, "--json"], "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let measured: Value = serde_json::from_str(&measured).unwrap();
    assert_eq!(measured["by_group"], last["test"]["by_group"]);
    let (code, plain, errors) = longhand(&["predict", &out, "--data", &test], "");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(plain.lines().count(), 20);
    let asked = "Ann went to the hall. John went to the office.\tWhere is Ann?\n";
    let (_, plain, _) = longhand(&["predict", &out], asked);
    assert_eq!(plain, "hall\n");

    // With a datastore beside it.
    let store = folder.path().join("store").to_str().unwrap().to_owned();
    let index = ["index", &test, "--model", &out, "--out", &store, "--threads", "1"];
    let (code, _, errors) = longhand(&index, "");
    assert_eq!(code, 0, "{errors}");
    let (code, plain, errors) = longhand(&["predict", &out, "--knn", &store], asked);
    assert_eq!((code, plain.lines().count(), errors.as_str()), (0, 1, ""));
    let (_, plain, _) = longhand(&["predict", &out, "--knn", &store, "--lambda", "0"], asked);
    assert_eq!(plain, "hall\n");
    let eval = |flags: &[&str]| -> Value {
        let all = ["eval", &out, "--data", &test, "--json", "--threads", "1"];
        let all = [&all[..], flags].concat();
        let (code, told, errors) = longhand(&all, "");
        assert_eq!((code, errors.as_str()), (0, ""));
        serde_json::from_str(&told).unwrap()
    };
    let (alone, beside) = (eval(&[]), eval(&["--knn", &store, "--lambda", "0.4"]));
    let without = beside["knn"]["loss_without"].as_f64().unwrap();
    assert!((without - alone["loss"].as_f64().unwrap()).abs() < 1e-9, "{beside} {alone}");
    assert_ne!(beside["loss"], alone["loss"]);
    let none = eval(&["--knn", &store, "--lambda", "0"]);
    assert!((none["loss"].as_f64().unwrap() - alone["loss"].as_f64().unwrap()).abs() < 1e-6);
    assert_eq!(none["exact_match"], alone["exact_match"]);
    let (_, told, _) = longhand(&["eval", &out, "--data", &test, "--knn", &store], "");
    assert!(told.contains("without the datastore: loss"), "{told}");
}

/// Its tokens stay what they are, also where the output matrix is not the embedding.
#[test]
fn a_model_that_writes_goes_on_with_the_head_of_its_base() {
    let folder = TempDir::new().unwrap();
    let story = |i: usize| {
        let (room, name) = (["hall", "yard"][i % 2], format!("A{i}"));
        format!("1 {name} is in the {room}.\n2 Where is {name}? \t{room}\t1\n")
    };
    let stories = write(&folder, "stories.txt", &(0..100).map(story).collect::<String>());
    let test = write(&folder, "test.txt", &(100..120).map(story).collect::<String>());
    let (base, on) = (folder.path().join("base"), folder.path().join("on"));
    let [base, on] = [&base, &on].map(|path| path.to_str().unwrap());
    let tune = |arguments: &[&str]| -> f64 {
        let data = ["--task", "answer", "--data", &stories, "--test", &test];
        let all = [&["finetune"], arguments, &data[..], &["--json", "--threads", "1"]].concat();
        let (code, told, errors) = longhand(&all, "");
        assert_eq!((code, errors.as_str()), (0, ""));
        let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        last["test"]["loss"].as_f64().unwrap()
    };
    let learnt =
        tune(&["--preset", "lstm", "--steps", "30", "--learning-rate", "1e-2", "--out", base]);
    let still = tune(&[base, "--steps", "1", "--learning-rate", "1e-9", "--out", on]);
    assert!((still - learnt).abs() < 1e-3 && learnt < 3.0, "{learnt} {still}");
    // The head is still what is trained where the body is frozen, and saved beside small changes.
    let rate = ["--steps", "20", "--learning-rate", "1e-2", "--force", "--out", on];
    for method in ["frozen", "lora"] {
        let further = tune(&[&[base, "--method", method], &rate[..]].concat());
        assert!(further < 0.9 * learnt, "{method}: {learnt} {further}");
    }
}

#[test]
fn the_beginning_of_a_text_is_a_baseline_to_compare_with() {
    let folder = TempDir::new().unwrap();
    let row = |i: usize| format!("word{i} two three. four five\tword{i} two\tword{i} two three\n");
    let table = |count: usize| {
        "document\tsummary\tmore\n".to_owned() + &(0..count).map(row).collect::<String>()
    };
    let train = write(&folder, "train.tsv", &table(200));
    let test = write(&folder, "test.tsv", &table(10));
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (words, sentence) = (path("words"), path("sentence"));
    let begin = ["finetune", "--task", "summarize", "--data", &train, "--test", &test];
    let lead = ["--baseline", "lead", "--threads", "1", "--json", "--out"];
    let (code, stdout, errors) = longhand(&[&begin[..], &lead, &[&words]].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["test"]["rouge1"], 1.0, "{last}");
    assert_eq!(last["test"]["rougeL"], last["test"]["lead_rougeL"]);
    // It gives its texts no probability.
    for none in [&last["test"]["perplexity"], &last["test"]["loss"], &last["best_valid_loss"]] {
        assert!(none.is_null(), "{last}");
    }
    let (_, told, _) = longhand(&["eval", &words, "--data", &test], "");
    assert!(told.contains(" over 10 examples") && !told.contains("loss"), "{told}");
    let unit = ["--set", "baseline.unit=sentences"];
    let (code, _, errors) = longhand(&[&begin[..], &lead, &[&sentence], &unit].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let (code, stdout, errors) =
        longhand(&["eval", &words, "--data", &test, "--against", &sentence, "--json"], "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let eval: Value = serde_json::from_str(&stdout).unwrap();
    assert!(eval.get("loss").is_none(), "{eval}");
    let difference = eval["against"]["differences"]["rouge1"]["value"].as_f64().unwrap();
    assert!((difference - 0.2).abs() < 1e-9, "{eval}");
    let column = ["--references-column", "more"];
    let (code, stdout, errors) =
        longhand(&[&["eval", &sentence, "--data", &test, "--json"][..], &column].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let eval: Value = serde_json::from_str(&stdout).unwrap();
    // The sentence is one of two right summaries.
    assert_eq!(eval["rouge1"], 1.0, "{eval}");
    let (code, answers, errors) = longhand(&["predict", &sentence], "A b. C d.\n\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(answers, "A b.\n\n");

    let wrong = |flags: &[&str]| refused(&[&begin[..], flags, &["--out", &path("none")]].concat());
    let told = wrong(&["--baseline", "majority"]);
    assert!(told.contains("not what the task summarize asks for"), "{told}");
    let told = wrong(&["--ensemble", "nb-lr"]);
    assert!(told.contains("not what the task summarize asks for"), "{told}");
    let told = wrong(&["--baseline", "lead", "--set", "baseline.size=0"]);
    assert!(told.contains("lead cannot have this size"), "{told}");
    let rules = write(&folder, "rules.toml", "forbid = ['two']");
    let drawn = ["--temperature", "1"];
    for flags in [["--rules", &rules], ["--prefix", "word"], ["--beam", "2"], drawn] {
        let (code, _, told) = longhand(&[&["predict", &words][..], &flags].concat(), "a b\n");
        assert!(code == 2 && told.contains(flags[0]) && told.contains("a baseline"), "{told}");
    }
    let (code, _, told) = longhand(&["eval", &words, "--data", &test, "--rules", &rules], "");
    assert!(code == 2 && told.contains("--rules") && told.contains("a baseline"), "{told}");
    let told = refused(&["generate", &words, "--prompt", "a"]);
    assert!(told.contains("use `longhand predict` with it"), "{told}");
    let told =
        refused(&["finetune", "--task", "summarize", "--data", "nofile", "--out", &path("zz")]);
    assert!(told.contains("nofile does not exist"), "{told}");
    let told = wrong(&["--baseline", "lead", "--form", "stream"]);
    assert!(told.contains("--form is not for the baseline lead"), "{told}");
}

#[test]
fn sources_have_a_vocabulary_of_their_own_where_asked_for() {
    let folder = TempDir::new().unwrap();
    let [de, en] = lines(0, 60);
    let [de, en] = [write(&folder, "train.de", &de), write(&folder, "train.en", &en)];
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (out, small) = (path("translator"), path("small"));
    let begin = ["finetune", "--task", "translate", "--data", &de, "--targets", &en, "--out", &out];
    let apart =
        ["--separate-vocabularies", "--tokenizer", "word", "--threads", "1", "--epochs", "1"];
    let form = ["--form", "encoder-decoder", "--preset", "encoder-decoder-nano"];
    let (code, _, told) = longhand(&[&begin[..], &apart].concat(), "");
    assert!(code == 2 && told.contains("one stream has one vocabulary"), "{told}");
    let flags = ["finetune", "--task", "classify", "--data", &de, "--separate-vocabularies"];
    let (code, _, told) = longhand(&flags, "");
    assert!(code == 2 && told.contains("for tasks that write with an encoder"), "{told}");
    let both = ["--directions", "both", "--languages", "de,en"];
    let told = refused(&[&begin[..], &apart, &form, &both].concat());
    assert!(told.contains("each language is read and written"), "{told}");
    // The preset has the form.
    let (code, _, errors) = longhand(&[&begin[..], &apart, &form[2..], &["--json"]].concat(), "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let words = |name: &str| {
        let bytes = fs_err::read(folder.path().join("translator").join(name)).unwrap();
        let tokenizer: Value = serde_json::from_slice(&bytes).unwrap();
        ["Hund", "dog"].map(|word| tokenizer["model"]["vocab"][word].is_u64())
    };
    assert_eq!(words("source_tokenizer.json"), [true, false]);
    assert_eq!(words("tokenizer.json"), [false, true]);
    let rules = write(&folder, "rules.toml", "forbid = ['dog']");
    let told = refused(&["predict", &out, "--replace-unknown", "--rules", &rules]);
    assert!(told.contains("need not match --rules"), "{told}");
    // No word of the model can come behind the first one.
    let stuck = write(&folder, "stuck.regex", "(dog|sun) zebra");
    let (code, answers, told) = longhand(&["predict", &out, "--rules", &stuck], "Hund Katze\n");
    assert!(code == 1 && answers.is_empty(), "{answers}{told}");
    assert!(told.contains("no token of the model can go on as the rules ask after"), "{told}");
    let flags = ["predict", &out, "--prefix", "zzz"];
    let (code, _, told) = longhand(&flags, "Hund Katze\n");
    assert!(code == 1 && told.contains("\"zzz\"") && told.contains("does not know"), "{told}");
    let (code, answers, errors) = longhand(&["predict", &out, "--replace-unknown"], "Hund Rex\n");
    assert_eq!((code, errors.as_str(), answers.lines().count()), (0, "", 1));
    // Copies have both.
    let (code, _, errors) =
        longhand(&["quantize", &out, "--weights", "bf16", "--out", &small, "--json"], "");
    assert_eq!(code, 0, "{errors}");
    let (code, answers, errors) = longhand(&["predict", &small], "Hund Katze\n");
    assert_eq!((code, errors.as_str(), answers.lines().count()), (0, "", 1));
    // A run that begins with the model reads sources by its tokeniser, without being told so.
    let (sources, on) = (folder.path().join("translator/source_tokenizer.json"), path("on"));
    let pair = ["--task", "translate", "--data", &de, "--targets", &en, "--steps", "1"];
    let further = ["--form", "encoder-decoder", "--threads", "1", "--json", "--out", &on];
    let go_on = [&["finetune", &out][..], &pair, &further].concat();
    let (code, _, errors) = longhand(&go_on, "");
    assert_eq!((code, errors.as_str()), (0, ""));
    let kept = folder.path().join("on/source_tokenizer.json");
    assert_eq!(fs_err::read(kept).unwrap(), fs_err::read(&sources).unwrap());
    let (code, answers, errors) = longhand(&["predict", &on], "Hund Katze\n");
    assert_eq!((code, errors.as_str(), answers.lines().count()), (0, "", 1));
    longhand_text::Tokenizer::byte().unwrap().save(&sources).unwrap();
    let told = refused(&["predict", &out]);
    assert!(told.contains("source_tokenizer.json") && told.contains("encoder knows"), "{told}");
    fs_err::remove_file(sources).unwrap();
    let told = refused(&["predict", &out]);
    assert!(told.contains("source_tokenizer.json") && told.contains("reads the sources"), "{told}");
}

#[test]
fn sources_and_targets_that_are_cut_are_told() {
    let folder = TempDir::new().unwrap();
    let [de, en] = lines(0, 60);
    let [de, en] = [write(&folder, "train.de", &de), write(&folder, "train.en", &en)];
    let out = folder.path().join("short").to_str().unwrap().to_owned();
    let arguments = [
        &["finetune", "--task", "translate", "--data", &de, "--targets", &en, "--out", &out][..],
        &["--set", "longest_source=3", "--set", "longest_target=2", "--tokenizer", "word"],
        &["--preset", "longhand-nano", "--width", "64", "--steps", "2", "--threads", "1"],
    ];
    let (code, _, told) = longhand(&arguments.concat(), "");
    assert_eq!(code, 0, "{told}");
    let sources = "of 60 texts longer than 3 tokens the first 3 are read";
    let targets =
        "of 60 targets longer than 2 tokens the first 2 are learnt, and the loss is of these";
    assert!(told.contains(sources) && told.contains(targets), "{told}");
    let measure = ["eval", &out, "--data", &de, "--targets", &en, "--samples", "10"];
    let (_, told, _) = longhand(&measure, "");
    assert!(told.contains("of 60 text(s) the first tokens alone were read"), "{told}");
    assert!(told.contains("the loss is of the first tokens alone of 60 target(s)"), "{told}");
    let (_, told, _) = longhand(&[&measure[..], &["--json"]].concat(), "");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["cut"], &told["cut_targets"]), (&60.into(), &60.into()), "{told}");
    let (code, _, told) = longhand(&["predict", &out], "Hund Baum Katze Katze\nBach Bach\n");
    assert_eq!(code, 0);
    assert!(told.contains("of 1 source(s) the first tokens alone were read"), "{told}");
}

#[test]
fn a_decoder_copies_where_asked_for() {
    let folder = TempDir::new().unwrap();
    let [de, en] = lines(0, 60);
    let [de, en] = [write(&folder, "train.de", &de), write(&folder, "train.en", &en)];
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = ["--data", &de, "--targets", &en, "--task", "translate", "--threads", "1"];
    // The pointer of the model that a run of three steps makes.
    let pointer = |name: &str, flags: &[&str]| -> Value {
        let out = path(name);
        let further = ["--form", "encoder-decoder", "--steps", "3", "--json", "--out", &out];
        let all = [&["finetune"], flags, &data[..], &further].concat();
        let (code, _, errors) = longhand(&all, "");
        assert_eq!((code, errors.as_str()), (0, ""), "{flags:?}");
        let config = fs_err::read(folder.path().join(name).join("config.json")).unwrap();
        serde_json::from_slice::<Value>(&config).unwrap()["pointer"].take()
    };
    let new = ["--preset", "encoder-decoder-nano", "--tokenizer", "word"];
    let wide = |coverage: bool| json!({ "width": 128, "coverage": coverage });
    let found = pointer("copies", &[&new[..], &["--copy", "--coverage"]].concat());
    assert_eq!(found, wide(true));
    let (copies, plain) = (path("copies"), path("plain"));
    let (code, answers, errors) = longhand(&["predict", &copies], "Hund Katze\n\nBach\n");
    assert_eq!((code, errors.as_str(), answers.lines().count()), (0, "", 3));
    // A model that goes on copies as it did, unless it is told otherwise.
    assert_eq!(pointer("on", &[&copies]), wide(true));
    assert_eq!(pointer("on-2", &[&copies, "--coverage", "off"]), wide(false));
    assert_eq!(pointer("plain", &[&copies, "--copy", "off"]), Value::Null);
    let (code, _, errors) = longhand(&["predict", &plain], "Hund Katze\n");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(pointer("again", &[&plain, "--copy"]), wide(false));
    // So does a recipe.
    let recipe = "[task]\ntype = 'translate'\nform = 'encoder-decoder'\n[tokenizer]\nkind = 'word'\n\
                  [model]\npreset = 'encoder-decoder-nano'\n[model.overrides]\n\
                  pointer = { width = 16 }\n";
    let recipe = write(&folder, "copies.toml", recipe);
    let of_recipe =
        |name: &str, flags: &[&str]| pointer(name, &[&["--recipe", &recipe][..], flags].concat());
    assert_eq!(of_recipe("r-1", &["--coverage"]), json!({ "width": 16, "coverage": true }));
    assert_eq!(of_recipe("r-2", &["--copy=off"]), Value::Null);

    let none = path("none");
    let told = |flags: &[&str]| {
        let flags = [&["finetune"], &data[..], flags, &["--out", &none]].concat();
        let (code, out, errors) = longhand(&flags, "");
        assert!(code == 2 && out.is_empty(), "{flags:?}: {out}{errors}");
        errors
    };
    let form = ["--form", "encoder-decoder"];
    let with_encoder = |flags: &[&str]| told(&[&form[..], flags].concat());
    let sentence = told(&["--copy", "--form", "stream"]);
    assert!(sentence.contains("--copy is for tasks that write with an encoder"), "{sentence}");
    let sentence = told(&["--coverage"]);
    assert!(sentence.contains("--coverage is for tasks that write with an encoder"), "{sentence}");
    let sentence = with_encoder(&["--copy", "--preset", "longhand-nano"]);
    assert!(sentence.contains("the model has no encoder"), "{sentence}");
    let sentence = with_encoder(&["--coverage"]);
    assert!(sentence.contains("pass --copy too"), "{sentence}");
    let sentence = with_encoder(&["--copy", "off", "--coverage"]);
    assert!(sentence.contains("leave one of them out"), "{sentence}");
    let sentence = with_encoder(&["--copy", "--separate-vocabularies"]);
    assert!(sentence.contains("without --separate-vocabularies"), "{sentence}");
}
