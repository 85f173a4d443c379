//! `longhand index` and `--knn`, through the real binary.

use crate::place::Place;
use serde_json::Value;

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

/// The words of the base model in an order that it learnt nothing of, where each has one successor.
const NEWS: &str = "sad she he glad was then. ";

#[test]
fn an_indexed_text_is_known_wherever_the_model_reads_and_writes() {
    let place = Place::with_models();
    place.write("news.txt", &NEWS.repeat(60));
    place.write("held.txt", &NEWS.repeat(9));
    let built =
        place.done("index news.txt --model base --out store --tune held.txt --threads 1 --json");
    let entries = number(&built, "entries");
    assert!(entries > 300.0 && number(&built, "lists") == 1.0, "{built}");
    let tuned = &built["tuned"];
    assert!(number(tuned, "perplexity") < 0.5 * number(tuned, "perplexity_without"), "{built}");
    for name in ["datastore.json", "index.safetensors", "keys.bin", "values.bin"] {
        assert!(place.has(&format!("store/{name}")), "{name}");
    }

    let eval =
        |flags: &str| place.done(&format!("eval base --data held.txt --threads 1 --json {flags}"));
    let (alone, beside) = (eval(""), eval("--knn store"));
    let knn = &beside["knn"];
    let without = number(knn, "loss_without");
    assert!((without - number(&alone, "loss")).abs() < 1e-6, "one run tells both: {beside}");
    assert!((number(&beside, "loss") - number(tuned, "loss")).abs() < 1e-3, "{beside} {built}");
    assert_eq!(number(knn, "entries"), entries);
    assert_eq!(knn["lambda"], built["lambda"]);
    assert_eq!(knn["temperature"], built["temperature"]);
    let none = eval("--knn store --lambda 0");
    assert_eq!(none["loss"], none["knn"]["loss_without"], "no share: the same to the last digit");
    assert!((number(&none, "loss") - number(&alone, "loss")).abs() < 1e-6, "{none} {alone}");
    let few = eval("--knn store --neighbours 1 --knn-temperature 1 --lambda 0.5 --window 16");
    assert_eq!(number(&few["knn"], "neighbours"), 1.0);
    let (_, told, _) = place.run("eval base --data held.txt --knn store", "");
    assert!(told.contains("without the datastore: loss"), "{told}");

    // What is scored is what is measured.
    let scored = |flags: &str| {
        let (code, _, told) =
            place.run(&format!("score base --threads 1 {flags}"), &NEWS.repeat(9));
        assert_eq!(code, 0, "{told}");
        let perplexity = told.split("perplexity ").nth(1).unwrap();
        perplexity.split([',', '\n']).next().unwrap().parse::<f64>().unwrap()
    };
    let exact = eval("--knn store --exact");
    assert!((scored("--knn store") / number(&exact, "perplexity") - 1.0).abs() < 1e-2, "{exact}");
    assert!(scored("--by line --knn store") < scored("--by line"));

    // And what is written is the text that was indexed.
    let text = |flags: &str| {
        let line = "generate base --prompt sad --max-tokens 8 --threads 1 --json";
        let written = place.done(&format!("{line} {flags}"))["text"].as_str().unwrap().to_owned();
        written.replace(' ', "")
    };
    for how in ["--temperature 0", "--beam 2"] {
        let written = text(&format!("{how} --knn store --lambda 0.95"));
        assert_eq!(written, "shehegladwasthen.sadshehe", "{how}");
        assert_eq!(text(&format!("{how} --knn store --lambda 0")), text(how), "{how}");
    }

    // A datastore that exists is tuned on another text.
    let again = place.done("index --model base --out store --tune text.txt --threads 1 --json");
    assert_eq!(number(&again, "entries"), entries);
    assert!(number(&again["tuned"], "loss") <= number(&again["tuned"], "loss_without") + 1e-9);
    assert_eq!(eval("--knn store")["knn"]["lambda"], again["lambda"]);
}

#[test]
fn bad_input_gets_one_sentence_and_leaves_nothing() {
    let place = Place::with_models();
    place.write("empty.txt", "");
    place.done("index text.txt --model base --out store --threads 1 --json");
    let files = || fs_err::read_dir(place.0.path()).unwrap().count();
    let before = files();
    place.refused("index empty.txt --model base --out fresh", "empty.txt");
    place.refused("index --model base --out fresh", "there is no text to index");
    place.refused("index --model base --out fresh --tune text.txt", "no datastore fresh to tune");
    place.refused("index text.txt --model base --out store", "pass --force to replace");
    place.refused("index text.txt --model base --out base --force", "base is not empty");
    place.refused("index text.txt --model base --out new --neighbours 0", "--neighbours is 0");
    place.refused(
        "index text.txt --model base --out new --neighbours 9999 --threads 1",
        "9999 neighbours are asked for, but the datastore has",
    );
    assert_eq!(files(), before, "nothing half-written is left");
    place.done("index text.txt --model base --out store --force --threads 1 --json");

    place.refused("eval base --data text.txt --knn nowhere", "`longhand index` writes one");
    place.refused("eval other --data text.txt --knn store", "belongs to another model");
    place.refused("generate other --prompt she --knn store", "belongs to another model");
    place.refused("eval base --data text.txt --knn store --lambda 1", "at least 0 and below 1");
    place.refused("eval base --data text.txt --knn store --neighbours 9999", "entries: ask for");
    place.refused("eval base --data text.txt --lambda 0.5", "--knn");
    place.refused("score base --nbest text.txt --knn store", "--knn goes with");
    place.done("train text.txt --preset ngram --tokenizer word --out counts --json --threads 1");
    let sentence = "has no hidden states to keep in a datastore";
    place.refused("index text.txt --model counts --out new", sentence);
    place.refused("eval counts --data text.txt --knn store", sentence);
    place.refused("generate counts --prompt she --knn store", sentence);

    let keys = place.0.path().join("store/keys.bin");
    let mut bytes = fs_err::read(&keys).unwrap();
    bytes[7] ^= 1;
    fs_err::write(&keys, bytes).unwrap();
    place.refused("eval base --data text.txt --knn store", "keys.bin is damaged");
}

/// Pairs whose targets a model that learnt nothing of them cannot guess.
const TERMS: [[&str; 2]; 4] =
    [["Hund", "dog tree"], ["Katze", "cat sun"], ["Haus", "house dog"], ["Baum", "tree cat"]];

#[test]
fn a_model_that_writes_from_a_source_remembers_pairs() {
    let place = Place::with_models();
    let rows: String =
        TERMS.iter().map(|[source, target]| format!("{source}\t{target}\n")).collect();
    place.write("terms.tsv", &format!("source\ttarget\n{rows}"));
    for (name, side) in [("terms.de", 0), ("terms.en", 1)] {
        place.write(name, &TERMS.map(|pair| pair[side].to_owned() + "\n").concat());
    }
    // It learns from few examples, so that it is sure of nothing.
    let learn = "finetune --task translate --data terms.tsv --preset encoder-decoder-nano --tokenizer word \
                 --valid-fraction 0 --steps 1 --batch 2 --threads 1 --json --out";
    place.done(&format!("{learn} writer"));
    place.done(&format!("{learn} stranger --seed 2"));
    let index = "--model writer --threads 1 --json --out";
    let built = place.done(&format!("index terms.tsv --tune terms.tsv {index} store"));
    // Two words and an end for each pair.
    assert_eq!(number(&built, "entries"), 12.0, "{built}");
    let tuned = &built["tuned"];
    assert_eq!(number(tuned, "tokens"), 12.0, "{built}");
    assert!(number(tuned, "perplexity") < 0.5 * number(tuned, "perplexity_without"), "{built}");
    assert!(number(&built, "lambda") > 0.5, "{built}");

    let eval = |flags: &str| {
        place.done(&format!("eval writer --data terms.tsv --samples 10 --threads 1 --json {flags}"))
    };
    let (alone, beside) = (eval(""), eval("--knn store"));
    assert!((number(&beside["knn"], "loss_without") - number(&alone, "loss")).abs() < 1e-9);
    assert!((number(&beside, "loss") - number(tuned, "loss")).abs() < 1e-3, "{beside} {built}");
    assert!(number(&beside, "chrf") > number(&alone, "chrf"), "{beside} {alone}");

    let sources = TERMS.map(|[source, _]| format!("{source}\n")).concat();
    let targets = TERMS.map(|[_, target]| format!("{target}\n")).concat();
    let knn = "--knn store --lambda 0.99 --knn-temperature 0.01 --threads 1";
    for how in ["", "--beam 1", "--temperature 0.5 --seed 3"] {
        let (code, written, errors) = place.run(&format!("predict writer {knn} {how}"), &sources);
        assert_eq!((code, errors.as_str()), (0, ""), "{how}");
        assert_eq!(written, targets, "{how}");
    }
    let (_, without, _) = place.run("predict writer --threads 1", &sources);
    let (_, none, _) = place.run("predict writer --threads 1 --knn store --lambda 0", &sources);
    assert_eq!(none, without);

    // Files of sources and of targets are read as in training.
    let both = format!("index terms.de --targets terms.en {index} lines");
    assert_eq!(number(&place.done(&both), "entries"), 12.0);
    let again = "index --tune terms.de --tune-targets terms.en";
    assert_eq!(number(&place.done(&format!("{again} {index} lines"))["tuned"], "tokens"), 12.0);

    place.refused("eval stranger --data terms.tsv --knn store", "belongs to another model");
    place.refused("index terms.de --model writer --out no", "pass --targets");
    let twice = "index terms.de --targets terms.en --tune terms.de --tune-targets text.txt";
    place.refused(&format!("{twice} --model writer --out no"), "two files of targets");
    place
        .refused("index terms.de terms.de --targets terms.en --model writer --out no", "--targets");
    place.refused(
        "index text.txt --targets text.txt --model base --out no",
        "--targets is for models that translate",
    );
}

#[test]
fn a_stream_that_writes_from_a_source_remembers_pairs() {
    let place = Place::new();
    let rows: String =
        TERMS.iter().map(|[source, target]| format!("{source}\t{target}\n")).collect();
    place.write("terms.tsv", &format!("source\ttarget\n{rows}"));
    let learn = "finetune --task translate --form stream --data terms.tsv --preset longhand-nano --tokenizer \
                 word --valid-fraction 0 --steps 1 --batch 2 --threads 1 --json --out writer";
    place.done(learn);
    let index = "index terms.tsv --model writer --threads 1 --json";
    let built = place.done(&format!("{index} --out store --tune terms.tsv"));
    // Two words and an end for each pair; the source and the separator are none of them.
    assert_eq!(number(&built, "entries"), 12.0, "{built}");
    assert_eq!(number(&built["tuned"], "tokens"), 12.0, "{built}");

    let eval = |flags: &str| {
        place.done(&format!("eval writer --data terms.tsv --samples 10 --threads 1 --json {flags}"))
    };
    let (alone, beside) = (eval(""), eval("--knn store"));
    assert!(number(&beside, "loss") < number(&alone, "loss") - 0.7, "{beside} {alone}");
    assert!((number(&beside, "loss") - number(&built["tuned"], "loss")).abs() < 1e-3, "{built}");
    let sources = TERMS.map(|[source, _]| format!("{source}\n")).concat();
    let targets = TERMS.map(|[_, target]| format!("{target}\n")).concat();
    let knn = "--knn store --lambda 0.99 --knn-temperature 0.01 --threads 1";
    let (code, written, errors) = place.run(&format!("predict writer {knn}"), &sources);
    assert_eq!((code, errors.as_str(), written), (0, "", targets));

    place.write("terms.de", &sources);
    place.refused("index terms.de --model writer --out no", "pass --targets");
}
