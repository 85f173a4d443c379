//! Reading, generating, memories, scores and inspection through the real binary.

use longhand_model::{Model, Preset};
use longhand_text::{Tokenizer, TokenizerKind};
use serde_json::Value;
use tempfile::TempDir;

use crate::longhand;

/// The characters that the test's models know: no line break, so that texts stay on one line.
const CHARACTERS: &str = "abcdefghijklmnopqrstuvwxyz .,小梅灯笼";

/// The output of a command that must succeed.
fn stdout(arguments: &[&str], input: &[u8]) -> String {
    let (code, out, error) = longhand(arguments, input);
    assert_eq!(code, 0, "{arguments:?}: {error}");
    out
}

/// Width and height of a PNG file, which its first chunk holds.
fn png_size(path: &str) -> (u32, u32) {
    let bytes = fs_err::read(path).unwrap();
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// A folder with a model of random weights, and room for other files.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(preset: Preset, seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let texts = std::iter::once(Ok(CHARACTERS.to_owned()));
        let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
        tokenizer.save(&folder.path().join("tokenizer.json")).unwrap();
        Model::new(preset.config(tokenizer.vocab_size()), seed)
            .unwrap()
            .save(folder.path())
            .unwrap();
        Self { folder }
    }

    fn model(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs_err::write(self.folder.path().join(name), bytes).unwrap();
        self.file(name)
    }
}

#[test]
fn a_memory_saved_and_loaded_writes_the_same_thousand_tokens() {
    for preset in [Preset::LonghandNano, Preset::Xlstm] {
        let place = Place::new(preset, 1);
        let (model, prompt) = (&place.model()[..], "小梅 had the 灯笼.");
        let tail = ["--max-tokens", "1000", "--seed", "5", "--repetition-penalty", "1.1"];
        let straight = stdout(&[&["generate", model, "--prompt", prompt], &tail[..]].concat(), b"");
        // A token is a character here, or `<unk>`.
        assert!(straight.chars().count() >= 1000);

        let (text, memory) = (place.write("prompt.txt", prompt), place.file("m.safetensors"));
        let saved = stdout(&["memory", "save", model, "--text", &text, "--out", &memory], b"");
        assert_eq!(saved, "");
        let again = stdout(&[&["generate", model, "--memory", &memory], &tail[..]].concat(), b"");
        assert!(again == straight);

        // In two processes: the first keeps what it has, the second goes on from there.
        let halves = |count: &'static str| ["--max-tokens", count, "--save-memory", &memory];
        let first = stdout(
            &[
                &["generate", model, "--memory", &memory, "--seed", "5"][..],
                &["--repetition-penalty", "1.1"],
                &halves("400"),
            ]
            .concat(),
            b"",
        );
        let second =
            stdout(&[&["generate", model, "--memory", &memory][..], &halves("600")].concat(), b"");
        assert!(first + &second == straight);
    }
}

#[test]
fn a_prompt_comes_from_stdin_too() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let tail = ["--max-tokens", "20"];
    let given = stdout(&[&["generate", model, "--prompt", "abc"], &tail[..]].concat(), b"");
    let piped = stdout(&[&["generate", model, "--prompt", "-"], &tail[..]].concat(), b"abc");
    assert_eq!(given, piped);
    let other = [&["generate", model, "--prompt", "abc", "--seed", "1"], &tail[..]].concat();
    assert_ne!(stdout(&other, b""), given);
    let stop: String = given.chars().skip(4).take(2).collect();
    let stopped = stdout(
        &[&["generate", model, "--prompt", "abc", "--stop", &stop], &tail[..]].concat(),
        b"",
    );
    assert_eq!(stopped, given[..given.find(&stop).unwrap()]);
    // The memory holds the prompt and the text that was written, and nothing of the stop text. It
    // begins with a token here: it has no character of `<unk>`.
    let characters: Vec<char> = given.chars().collect();
    let whole = |pair: &&[char]| pair.iter().all(|&character| !"<unk>".contains(character));
    let stop: String = characters.windows(2).find(whole).unwrap().iter().collect();
    let memory = place.file("stopped.safetensors");
    let saving = ["--stop", &stop, "--save-memory", &memory];
    let saved = [&["generate", model, "--prompt", "abc"], &saving[..], &tail[..]].concat();
    let stopped = stdout(&saved, b"");
    assert_eq!(stopped, given[..given.find(&stop).unwrap()]);
    let shown = stdout(&["memory", "show", &memory, "--json"], b"");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let written = stopped.replace("<unk>", "?").chars().count();
    assert_eq!(shown["header"]["position"], 3 + written);
}

/// The object holds the text that is otherwise written, its tokens and the reason of its end.
#[test]
fn a_generation_is_written_as_json_too() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let generate = |flags: &[&str]| {
        stdout(
            &[&["generate", model, "--prompt", "abc", "--max-tokens", "20"], flags].concat(),
            b"",
        )
    };
    let json = |flags: &[&str]| -> Value {
        serde_json::from_str(&generate(&[&["--json"], flags].concat())).unwrap()
    };
    let (plain, object) = (generate(&[]), json(&[]));
    assert_eq!(object["text"], plain);
    assert_eq!(object["finish"], "length");
    assert_eq!(object["ids"].as_array().unwrap().len(), 20);
    let surprises = object["log_probabilities"].as_array().unwrap();
    assert_eq!(surprises.len(), 20);
    assert!(surprises.iter().all(|x| x.as_f64().is_some_and(|x| x <= 0.0)));
    assert_eq!(generate(&["--echo"]), format!("abc{plain}"));
    assert_eq!(json(&["--echo"])["text"], format!("abc{plain}"));
    let characters: Vec<char> = plain.chars().collect();
    let whole = |pair: &&[char]| pair.iter().all(|&character| !"<unk>".contains(character));
    let stop: String = characters.windows(2).find(whole).unwrap().iter().collect();
    let stopped = json(&["--stop", &stop]);
    let text = &plain[..plain.find(&stop).unwrap()];
    assert_eq!((&stopped["text"], &stopped["finish"]), (&text.into(), &"stop".into()));
    assert_eq!(stopped["stop"], stop);
    // One token for each character, `<unk>` included.
    let count = text.replace("<unk>", "?").chars().count();
    assert_eq!(stopped["ids"].as_array().unwrap().len(), count);
}

/// A beam of one is greedy; a wider one gives texts in the order of their scores.
#[test]
fn the_most_probable_text_is_searched_for() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let generate = |flags: &[&str]| {
        let own = ["generate", model, "--prompt", "abc", "--max-tokens", "12"];
        stdout(&[&own[..], flags].concat(), b"")
    };
    assert_eq!(generate(&["--beam", "1"]), generate(&["--temperature", "0"]));
    let best = generate(&["--beam", "4"]);
    assert_eq!(generate(&["--beam", "4", "--echo"]), format!("abc{best}"));
    let lines = generate(&["--beam", "4", "--nbest", "3", "--json", "--length-penalty", "0.6"]);
    let texts: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((texts.len(), &texts[0]["text"]), (3, &Value::from(best.clone())));
    let scores: Vec<f64> = texts.iter().map(|text| text["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let memory = place.file("m.safetensors");
    generate(&["--beam", "4", "--save-memory", &memory]);
    let shown = stdout(&["memory", "show", &memory, "--json"], b"");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["header"]["position"], 3 + texts[0]["ids"].as_array().unwrap().len());
    let diverse = ["--beam", "4", "--groups", "2", "--diversity", "3", "--no-repeat", "1"];
    assert_ne!(generate(&diverse), "");
}

/// Flags go before the model folder's file, and the file before the default.
#[test]
fn a_model_folder_says_how_its_text_is_drawn() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let generate = |flags: &[&str]| {
        stdout(&[&["generate", model, "--prompt", "abc"][..], flags].concat(), b"")
    };
    assert_eq!(generate(&[]), generate(&["--temperature", "0.8", "--max-tokens", "256"]));
    place.write("generation_config.json", r#"{"do_sample": false, "max_new_tokens": 30}"#);
    let greedy = generate(&[]);
    assert_eq!(greedy, generate(&["--temperature", "0", "--max-tokens", "30"]));
    let hot = generate(&["--temperature", "1.5", "--max-tokens", "30"]);
    assert_ne!(hot, greedy);
    place.write("generation_config.json", r#"{"temperature": 1.5}"#);
    assert_eq!(generate(&["--max-tokens", "30"]), hot);
    // A memory keeps what it was saved with.
    let memory = place.file("m.safetensors");
    let text = place.write("text.txt", "abc");
    stdout(&["memory", "save", model, "--text", &text, "--out", &memory], b"");
    let shown = stdout(&["memory", "show", &memory, "--json"], b"");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["header"]["sampler"]["settings"]["temperature"], 1.5);
}

#[test]
fn memories_are_shown_compared_and_read_on() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let text = place.write("text.txt", "a lantern in the garden. ".repeat(8));
    let (one, two) = (place.file("one.safetensors"), place.file("two.safetensors"));
    let saved = stdout(&["memory", "save", model, "--text", &text, "--out", &one, "--json"], b"");
    let saved: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved["position"], 200);
    let loaded =
        stdout(&["memory", "load", model, &one, "--text", &text, "--out", &two, "--json"], b"");
    let loaded: Value = serde_json::from_str(&loaded).unwrap();
    assert_eq!((&loaded["loaded_position"], &loaded["position"]), (&200.into(), &400.into()));
    assert_eq!(loaded["next"].as_array().unwrap().len(), 5);
    assert_eq!(loaded["memory_bytes"], saved["memory_bytes"]);

    let shown: Value =
        serde_json::from_str(&stdout(&["memory", "show", &two, "--json"], b"")).unwrap();
    assert_eq!(shown["header"]["position"], 400);
    let names = shown["memories"].as_array().unwrap().len();
    let diff = stdout(&["memory", "diff", &one, &two, "--json"], b"");
    let diff: Value = serde_json::from_str(&diff).unwrap();
    assert_eq!(diff["memories"].as_array().unwrap().len(), names);
    assert_eq!(diff["positions"], serde_json::json!([200, 400]));
    let table =
        stdout(&["memory", "show", &one], b"") + &stdout(&["memory", "diff", &one, &two], b"");
    assert!(table.contains("blocks.0.lstm.c"), "{table}");
}

#[test]
fn scores_are_those_of_the_inspection() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let text = "小梅 had a lantern. ".repeat(20);
    let scores = stdout(&["score", model, "--json"], text.as_bytes());
    let scores: Vec<Value> =
        scores.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(scores.len(), text.chars().count());
    let file = place.write("text.txt", &text);
    let plot = place.file("plot.png");
    let inspection = stdout(&["inspect", model, "--text", &file, "--json", "--plot", &plot], b"");
    let inspection: Value = serde_json::from_str(&inspection).unwrap();
    let tokens = inspection["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), scores.len());
    assert!(scores[0]["surprisal"].is_null() && tokens[0]["losses"].is_null());
    for ((position, score), token) in scores.iter().enumerate().zip(tokens).skip(1) {
        assert_eq!(score["position"], position);
        assert_eq!(score["token"], token["token"]);
        let (a, b) =
            (score["surprisal"].as_f64().unwrap(), token["losses"]["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-3, "{score} {token}");
    }
    assert!(fs_err::read(&plot).unwrap().starts_with(b"\x89PNG"));
    for gates in inspection["gates"].as_array().unwrap() {
        for gate in ["input", "forget"] {
            let values = gates[gate].as_array().unwrap().iter().map(|x| x.as_f64().unwrap());
            let mean = values.sum::<f64>() / tokens.len() as f64;
            assert!((gates["mean"][gate].as_f64().unwrap() - mean).abs() < 1e-5, "{gates}");
        }
    }
    // One panel for the rise in loss, one for the shares, one for each long memory's gates.
    let (width, height) = png_size(&plot);
    assert_eq!(width, 1800);
    assert!(height > 220 + 3 * 110, "{height}");
    let plain = stdout(&["score", model], text.as_bytes());
    assert_eq!(plain.lines().next(), Some("0\t小\t-"));
    assert!(stdout(&["inspect", model, "--text", &file], b"").lines().count() > scores.len());
}

#[test]
fn a_score_goes_on_from_a_memory() {
    let place = Place::new(Preset::Lstm, 1);
    let model = &place.model()[..];
    let memory = place.file("m.safetensors");
    let whole = stdout(&["score", model, "--json"], b"one lantern two lanterns");
    let first = stdout(&["score", model, "--json", "--save-memory", &memory], b"one lantern");
    let second = stdout(&["score", model, "--json", "--memory", &memory], b" two lanterns");
    let numbers = |text: &str| -> Vec<f64> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| line["surprisal"].as_f64().unwrap_or(0.0)).collect()
    };
    let (whole, parts) = (numbers(&whole), [numbers(&first), numbers(&second)].concat());
    assert_eq!(whole.len(), parts.len());
    assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-3));
}

#[test]
fn recall_is_measured_by_distance() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let plot = place.file("recall.png");
    let recall = ["inspect", model, "--recall", "--questions", "4", "--distances", "40,90"];
    let json = stdout(&[&recall[..], &["--json", "--plot", &plot]].concat(), b"");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["window"], 256);
    let distances = json["distances"].as_array().unwrap();
    assert_eq!(distances.len(), 2);
    assert_eq!(distances[1]["questions"], 4);
    let table = stdout(&recall, b"");
    for (result, line) in distances.iter().zip(table.lines().skip(2)) {
        assert_eq!(result["chance"], 0.125);
        let distance = result["distance"].as_f64().unwrap();
        assert!((result["mean_distance"].as_f64().unwrap() - distance).abs() <= distance / 10.0);
        // The table says the same.
        let percents: Vec<f64> = line
            .split('|')
            .skip(1)
            .flat_map(|part| part.split('%'))
            .filter_map(|percent| percent.trim().parse().ok())
            .collect();
        let memories = ["whole", "without_working", "without_long"];
        let counts: Vec<f64> = memories
            .iter()
            .flat_map(|which| [&result[which]["recalled"], &result[which]["chosen"]])
            .map(|count| 25.0 * count.as_f64().unwrap())
            .collect();
        assert_eq!(percents, counts, "{line}");
    }
    assert!(fs_err::read(&plot).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(stdout(&recall, b"").lines().count(), 4);
}

#[test]
fn the_promises_are_measured() {
    let place = Place::new(Preset::LonghandNano, 1);
    let model = &place.model()[..];
    let flat = ["bench", "flat", model, "--near", "50", "--far", "500", "--windows", "3", "--json"];
    let flat: Value = serde_json::from_str(&stdout(&flat, b"")).unwrap();
    assert_eq!(flat["state_ratio"], 1.0);
    assert_eq!(flat["far"]["position"], 500);
    let time = |place: &str| flat[place]["nanoseconds_per_token"].as_f64().unwrap();
    let ratio = flat["time_ratio"].as_f64().unwrap();
    assert!((ratio * time("near") / time("far") - 1.0).abs() < 1e-9, "{flat}");
    for which in
        [&["bench", "equality", model][..], &["bench", "equality", "--preset", "tanh-lstm"]]
    {
        let line = stdout(&[which, &["--json"]].concat(), b"");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(line["chunked"].as_f64().unwrap() < 1e-4, "{line}");
        assert!(line["stepwise"].as_f64().unwrap() < 1e-4, "{line}");
    }
}

#[test]
fn served_streams_tell_their_times() {
    let serve = "bench preset longhand-nano --what serve --streams 3 --layers 1 --windows 5 \
                 --window-seconds 0.02";
    let line = stdout(&serve.split_whitespace().collect::<Vec<_>>(), b"");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["bench"], &line["streams"]), (&"preset serve".into(), &3.into()));
    for times in ["ms_per_token", "ms_to_first_token"] {
        let [p50, p99] = ["p50", "p99"].map(|share| line[times][share].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99, "{line}");
    }
}

#[test]
fn bad_input_gets_one_sentence() {
    let place = Place::new(Preset::LonghandNano, 1);
    let other = Place::new(Preset::LonghandNano, 2);
    let classifier = Place::new(Preset::StackedLstmClassifier, 1);
    let model = &place.model()[..];
    let text = place.write("text.txt", "a lantern");
    let memory = place.file("m.safetensors");
    stdout(&["memory", "save", model, "--text", &text, "--out", &memory], b"");
    let bytes = fs_err::read(&memory).unwrap();
    let cut = place.write("cut.safetensors", &bytes[..bytes.len() / 2]);
    let version = b"\\\"version\\\":2";
    let place_of_version = bytes.windows(version.len()).position(|w| w == version).unwrap();
    let mut newer = bytes.clone();
    newer[place_of_version + version.len() - 1] = b'3';
    let newer = place.write("newer.safetensors", newer);
    let alien = Place::new(Preset::LonghandNano, 1);
    let strange = Place::new(Preset::LonghandNano, 1);
    let texts = std::iter::once(Ok(CHARACTERS.replace('a', "A")));
    let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
    tokenizer.save(&strange.folder.path().join("tokenizer.json")).unwrap();
    let byte = Place::new(Preset::LonghandNano, 1);
    Tokenizer::byte().unwrap().save(&byte.folder.path().join("tokenizer.json")).unwrap();
    alien.write("generation_config.json", r#"{"top_p": 7}"#);
    let (other, classifier) = (&other.model()[..], &classifier.model()[..]);
    let (alien, byte) = (&alien.model()[..], &byte.model()[..]);
    let strange = &strange.model()[..];
    let missing = place.file("missing.safetensors");
    let config = place.file("config.json");
    let generate = ["generate", model, "--prompt", "a"];
    let folder = place.file("");
    let nowhere = place.file("nowhere/m.safetensors");
    let score = ["score", model, "--save-memory"];
    let cases: [(&[&str], &[u8], i32, &str); 37] = [
        (&["generate", "no-such-folder", "--prompt", "a"], b"", 1, "there is no folder"),
        (&["generate", model], b"", 2, "nothing to continue"),
        (&["generate", model, "--prompt", "-", "--echo"], b"a", 2, "--echo writes a prompt"),
        (&["generate", model, "--prompt", ""], b"", 1, "nothing has been read yet"),
        (&[&generate[..], &["--temperature", "-1"]].concat(), b"", 2, "the temperature is -1"),
        (&[&generate[..], &["--top-p", "1.5"]].concat(), b"", 2, "the top-p is 1.5"),
        (&[&generate[..], &["--stop", ""]].concat(), b"", 1, "the stop text is empty"),
        (&[&generate[..], &["--beam", "0"]].concat(), b"", 2, "whole number, 1 or more"),
        (&[&generate[..], &["--beam", "2", "--top-k", "3"]].concat(), b"", 2, "cannot be used"),
        (&[&generate[..], &["--beam", "2", "--stop", "a"]].concat(), b"", 2, "cannot be used"),
        (&[&generate[..], &["--beam", "2", "--nbest", "2"]].concat(), b"", 2, "--json"),
        (&[&generate[..], &["--length-penalty", "1"]].concat(), b"", 2, "--beam"),
        (&[&generate[..], &["--beam", "2", "--patience", "0"]].concat(), b"", 2, "patience is 0"),
        (&["generate", model, "--prompt", "-"], b"ab\xff", 1, "offset 2"),
        (&["generate", other, "--memory", &memory], b"", 1, "belongs to another model"),
        (&["generate", alien, "--prompt", "a"], b"", 1, "generation_config.json: the top-p is 7"),
        (&["generate", strange, "--memory", &memory], b"", 1, "belongs to another tokeniser"),
        (&["generate", byte, "--prompt", "a"], b"", 1, "they do not belong together"),
        (&["generate", classifier, "--prompt", "a"], b"", 1, "is a classifier"),
        (&["generate", model, "--memory", &cut], b"", 1, "not a whole snapshot"),
        (&["generate", model, "--memory", &newer], b"", 1, "format version 3"),
        (&["generate", model, "--memory", &missing], b"", 1, "missing.safetensors"),
        (&["memory", "show", &config], b"", 1, "not a whole snapshot"),
        (&["memory", "save", model, "--text", &text, "--out", &memory], b"", 1, "pass --force"),
        (&["score", model], b"abc\xff\xff", 1, "offset 3"),
        (&["inspect", model, "--recall", "--questions", "0"], b"", 2, "at least 1"),
        (&["bench", "equality", "--preset", "none"], b"", 2, "there is no preset `none`"),
        (&["bench", "equality", model, "--tokens", "0"], b"", 2, "--tokens is 0"),
        (&["bench", "equality", model, "--tokens", "99999999"], b"", 2, "at most 32768"),
        (&["inspect", model, "--recall", "--questions", "99999999"], b"", 2, "at most 100000"),
        (
            &["inspect", model, "--recall", "--distances", "40,18446744073709551615"],
            b"",
            2,
            "at most 100000",
        ),
        // What cannot be written is found out before the work: nothing is printed.
        (&[&score[..], &[&nowhere]].concat(), b"abc", 1, "there is no folder"),
        (&[&score[..], &[&folder]].concat(), b"abc", 1, "is a folder"),
        (&["memory", "save", model, "--text", "-", "--out", &nowhere], b"abc", 1, "no folder"),
        (&["inspect", model, "--text", &text, "--plot", &nowhere], b"", 1, "no folder"),
        (&["inspect", model, "--text", &text, "--plot", &config], b"", 1, "pass --force"),
        (&["inspect", model, "--recall", "--plot", &config], b"", 1, "pass --force"),
    ];
    for (arguments, input, code, message) in cases {
        let (got, out, error) = longhand(arguments, input);
        assert_eq!((got, out.as_str()), (code, ""), "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
        assert!(code == 2 || error.lines().count() == 1, "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}
