//! `longhand score` of lines, logs, tables and n-best lists, through the real binary.

use std::sync::Arc;

use longhand_model::{Model, Preset};
use longhand_text::Tokenizer;
use parquet::data_type::{ByteArrayType, Int32Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

use crate::longhand;
use crate::tables::{Folder, check, text};

/// The folder of an n-gram model of words of [`text`].
fn words(folder: &Folder) -> String {
    let (train, out) = (folder.write("train.txt", &text(300)), folder.path("words"));
    let arguments = ["train", &train, "--preset", "ngram", "--tokenizer", "word", "--order", "3"];
    let arguments = [&arguments[..], &["--json", "--threads", "1", "--out", &out]].concat();
    let (code, _, errors) = longhand(&arguments, b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    out
}

/// The folder of an untrained network over bytes.
fn network(folder: &Folder) -> String {
    let out = folder.path("network");
    fs_err::create_dir_all(&out).unwrap();
    let tokenizer = Tokenizer::byte().unwrap();
    tokenizer.save(std::path::Path::new(&format!("{out}/tokenizer.json"))).unwrap();
    Model::new(Preset::Lstm.config(256), 1).unwrap().save(std::path::Path::new(&out)).unwrap();
    out
}

fn done(arguments: &[&str], input: &str) -> (String, String) {
    let (code, out, errors) = longhand(arguments, input.as_bytes());
    assert_eq!(code, 0, "{arguments:?}: {errors}");
    (out, errors)
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn a_line_is_scored_by_its_tokens_and_the_line_break_behind_it() {
    let folder = Folder::new();
    for model in [words(&folder), network(&folder)] {
        let lines = "anna has tea\n\ntea tea\nben has milk and she likes it";
        let (out, errors) =
            done(&["score", &model, "--by", "line", "--carry", "--json", "--threads", "1"], lines);
        assert!(errors.contains("4 lines of "), "{errors}");
        let by_line = objects(&out);
        // The same tokens, one by one, behind a line break.
        let (out, _) =
            done(&["score", &model, "--json", "--threads", "1"], &format!("\n{lines}\n"));
        let tokens = objects(&out);
        let mut tokens = tokens[1..].iter().map(|token| number(token, "surprisal"));
        for (place, line) in by_line.iter().enumerate() {
            let count = number(line, "tokens") as usize;
            let nats: Vec<f64> = tokens.by_ref().take(count).collect();
            let sum: f64 = nats.iter().sum();
            let max = nats.iter().fold(0.0_f64, |most, x| most.max(*x));
            assert_eq!((line["line"].as_u64(), nats.len()), (Some(place as u64 + 1), count));
            assert!((number(line, "sum") - sum).abs() < 1e-2, "{line} {sum}");
            assert!((number(line, "max") - max).abs() < 1e-2, "{line} {max}");
            assert!((number(line, "mean") - sum / count as f64).abs() < 1e-2);
            assert!((number(line, "perplexity").ln() - number(line, "mean")).abs() < 1e-9);
        }
        assert_eq!(tokens.next(), None);

        // A line scored by itself has the same score at any place in the file.
        let alone = |lines: &str| {
            let arguments = ["score", &model, "--by", "line", "--threads", "2"];
            let (out, _) = done(&arguments, lines);
            out.lines().map(|line| line.split_once('\t').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        let all = alone(lines);
        assert_eq!(all[2], alone("tea tea\n")[0]);
        assert_eq!(all[3], alone("ben has milk and she likes it\nx y z\r\nq\n")[0]);
        assert!(all[1].ends_with('\t') && all[1].starts_with("1\t"), "{:?}", all[1]);
    }
}

#[test]
fn files_are_named_and_may_be_compressed_and_a_memory_goes_on() {
    let folder = Folder::new();
    let model = words(&folder);
    let (one, two) = (folder.write("one.log", "anna has tea\n"), folder.write("two.log", "x\ny\n"));
    let (out, _) = done(&["score", &model, "--by", "line", &one, &two], "");
    let starts: Vec<Vec<&str>> =
        out.lines().map(|line| line.split('\t').take(2).collect()).collect();
    assert_eq!(starts, [[&one[..], "1"], [&two[..], "1"], [&two[..], "2"]]);
    let first = out.lines().next().unwrap();
    assert_eq!(first.split('\t').count(), 8);
    assert!(first.ends_with("\tanna has tea"));

    let memory = folder.path("m.safetensors");
    let carry = ["score", &model, "--by", "line", "--carry"];
    let whole = done(&carry, "anna has tea\nben has milk\n").0;
    let first = done(&[&carry[..], &["--save-memory", &memory]].concat(), "anna has tea\n").0;
    let second = done(&[&carry[..], &["--memory", &memory]].concat(), "ben has milk\n").0;
    let fields = |out: &str, line: usize| -> Vec<String> {
        out.lines().nth(line).unwrap().split('\t').skip(1).map(str::to_owned).collect()
    };
    assert_eq!(fields(&whole, 0), fields(&first, 0));
    assert_eq!(fields(&whole, 1), fields(&second, 0));
}

/// A model as KenLM writes it: each line by itself, from `<s>` to `</s>`.
const ARPA: &str = "\\data\\\nngram 1=5\nngram 2=4\n\n\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.3\n-0.8\t</s>\n\
                    -0.6\ta\t-0.2\n-0.7\tb\t-0.1\n\n\\2-grams:\n-0.2\t<s> a\n-0.4\ta b\n-0.3\tb </s>\n\
                    -0.5\ta </s>\n\n\\end\\\n";

#[test]
fn an_arpa_file_without_a_vocabulary_scores_lines_as_its_program_does() {
    let folder = Folder::new();
    let (arpa, model) = (folder.write("kenlm.arpa", ARPA), folder.path("kenlm"));
    done(&["ngram", "import", &arpa, "--out", &model], "");
    let (out, _) = done(&["score", &model, "--by", "line", "--json"], "a b\nb\nq a\n");
    let lines = objects(&out);
    // log10 p: with a bigram, with a backoff, with the unknown word.
    let expected = [-0.2 - 0.4 - 0.3, -0.3 - 0.7 - 0.3, -0.3 - 1.0 - 0.6 - 0.5];
    for (line, log10) in lines.iter().zip(expected) {
        let nats = -log10 * std::f64::consts::LN_10;
        assert!((number(line, "sum") - nats).abs() < 1e-5, "{line} {nats}");
    }
    // The same model with its vocabulary in another order.
    let (counts, again) = (words(&folder), folder.path("again"));
    let exported = folder.path("words.arpa");
    done(&["ngram", "export", &counts, "--out", &exported], "");
    done(&["ngram", "import", &exported, "--out", &again], "");
    let lines = "anna has tea\nx y\n";
    let of = |model: &str| objects(&done(&["score", model, "--by", "line", "--json"], lines).0);
    for (a, b) in of(&counts).iter().zip(&of(&again)) {
        assert!((number(a, "sum") - number(b, "sum")).abs() < 1e-4, "{a} {b}");
    }
    let broken = folder.write("broken.arpa", "\\data\\\nngram 1=1\n\\1-grams:\n-1\n");
    let refused = longhand(&["ngram", "import", &broken, "--out", &folder.path("x")], b"");
    check(&refused, 1, "line 4 of the ARPA file: a logarithm and a word belong here", "import");
}

#[test]
fn unusual_lines_are_found_by_a_reference() {
    let folder = Folder::new();
    let model = words(&folder);
    let reference = folder.write("usual.log", &text(200));
    let odd = "tea has anna likes and it she\n";
    let log = folder.write("new.log", &format!("{}{odd}{}", text(40), text(40)));
    let line = ["score", &model, "--by", "line", &log, "--reference", &reference];
    let (out, _) = done(&[&line[..], &["--above", "1"]].concat(), "");
    let fields: Vec<&str> = out.trim_end().split('\t').collect();
    assert_eq!((fields[1], fields[7], fields[8]), ("41", "1.000000", odd.trim_end()), "{out}");
    for rank in ["max", "sum", "mean"] {
        let further = ["--top", "2", "--rank", rank, "--json"];
        let top = objects(&done(&[&line[..], &further].concat(), "").0);
        assert_eq!((top.len(), top[0]["line"].as_u64()), (2, Some(41)), "{rank}");
        assert!(number(&top[0], rank) >= number(&top[1], rank));
        assert_eq!(number(&top[0], "quantile"), 1.0);
        assert!(number(&top[1], "quantile") < 1.0 && top[0]["max_token"].is_string());
    }
    let (all, _) = done(&[&line[..], &["--above", "0"]].concat(), "");
    assert_eq!(all.lines().count(), 81);
}

#[test]
fn each_key_has_a_memory_and_the_oldest_makes_way() {
    let folder = Folder::new();
    let model = words(&folder);
    let log = "a: anna has\nb: ben has\nno key\na: tea\nc: x\nb: milk\n";
    let key = ["score", &model, "--by", "line", "--json", "--key", "^([a-z]):"];
    let (out, errors) = done(&key, log);
    assert!(!errors.contains("dropped"), "{errors}");
    let lines = objects(&out);
    let keys: Vec<_> = lines.iter().map(|line| line["key"].as_str().unwrap_or("-")).collect();
    assert_eq!(keys, ["a", "b", "-", "a", "c", "b"]);
    // What a key wrote before is what its memory holds, and nothing else.
    let (own, _) =
        done(&["score", &model, "--by", "line", "--json", "--carry"], "a: anna has\na: tea\n");
    let own = objects(&own);
    assert_eq!(number(&own[1], "sum"), number(&lines[3], "sum"));
    let (alone, _) = done(&["score", &model, "--by", "line", "--json"], "no key\n");
    assert_eq!(number(&objects(&alone)[0], "sum"), number(&lines[2], "sum"));
    let (out, errors) = done(&[&key[..], &["--sessions", "2"]].concat(), log);
    assert!(errors.contains("more than 2 keys: the session of b was dropped"), "{errors}");
    assert_eq!(out.lines().count(), 6);
}

#[test]
fn tables_come_out_with_their_scores() {
    let folder = Folder::new();
    let model = words(&folder);
    let csv = folder.write("docs.csv", "id,body\n1,anna has tea\n2,\"it, she\"\n3,\n");
    let line = ["score", &model, "--data", &csv, "--column", "body"];
    let (out, errors) = done(&line, "");
    assert!(errors.contains("3 texts of "), "{errors}");
    let rows: Vec<&str> = out.lines().collect();
    assert_eq!(rows[0], "id,body,tokens,sum,mean,max,perplexity");
    assert!(rows[1].starts_with("1,anna has tea,4,") && rows[2].starts_with("2,\"it, she\",3,"));
    assert_eq!(rows.len(), 4);
    let (judged, _) = done(&[&line[..], &["--reference", &csv]].concat(), "");
    assert!(judged.starts_with("id,body,tokens,sum,mean,max,perplexity,quantile\n"));
    let (prefixed, _) = done(&[&line[..], &["--prefix", "lm_"]].concat(), "");
    assert!(prefixed.starts_with("id,body,lm_tokens,lm_sum,"));

    let json =
        folder.write("docs.jsonl", "{\"text\":\"anna has tea\",\"x\":[1]}\n{\"text\":\"tea\"}\n");
    let out = folder.path("scored.jsonl");
    done(&["score", &model, "--data", &json, "--out", &out], "");
    let scored = objects(&fs_err::read_to_string(&out).unwrap());
    assert_eq!(scored[0]["x"][0], 1);
    assert!(scored[0]["perplexity"].is_f64() && scored[1]["tokens"] == 2);

    let parquet = folder.path("docs.parquet");
    fs_err::write(&parquet, parquet_of(&["anna has tea", "it she"])).unwrap();
    let out = folder.path("scored.parquet");
    done(&["score", &model, "--data", &parquet, "--out", &out], "");
    let bytes = bytes_of(&out);
    let reader = SerializedFileReader::new(bytes).unwrap();
    let rows: Vec<String> =
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    assert!(rows[0].starts_with("{id: 0, text: \"anna has tea\", tokens: 4, sum: "), "{rows:?}");
    assert_eq!(rows.len(), 2);
}

fn bytes_of(path: &str) -> bytes::Bytes {
    fs_err::read(path).unwrap().into()
}

fn parquet_of(texts: &[&str]) -> Vec<u8> {
    let schema = "message m { required int32 id; required binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let ids: Vec<i32> = (0..texts.len() as i32).collect();
    column.typed::<Int32Type>().write_batch(&ids, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let texts: Vec<_> = texts.iter().map(|&text| text.into()).collect();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// Lists whose first hypothesis has its words in a wrong order, and the right ones.
fn lists(count: usize) -> (String, String) {
    let (mut lists, mut references) = (String::new(), String::new());
    for (id, line) in text(count).lines().enumerate() {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.swap(0, 2);
        lists += &format!("{id} ||| {} ||| TM= -1 ||| -1.0\n", words.join(" "));
        lists += &format!("{id} ||| {line} ||| TM= -2 ||| -2.0\n");
        references += &format!("{line}\n");
    }
    (lists, references)
}

#[test]
fn lists_are_put_into_a_better_order() {
    let folder = Folder::new();
    let model = words(&folder);
    let (text, lines) = lists(12);
    let (lists, references) = (folder.write("dev.nbest", &text), folder.write("dev.ref", &lines));
    let nbest = ["score", &model, "--nbest", &lists];
    let (out, errors) =
        done(&[&nbest[..], &["--weight", "lm=0", "--references", &references]].concat(), "");
    assert!(
        errors.contains("as the lists came, ") && errors.contains("weights: score=1.0000"),
        "{errors}"
    );
    assert!(out.starts_with("0 ||| tea has anna and she likes it ||| TM= -1 lm= -"), "{out}");

    let weights = folder.path("w.json");
    let tune = ["--tune", &references, "--metric", "wer", "--save-weights", &weights];
    let (_, errors) = done(&[&nbest[..], &tune].concat(), "");
    assert!(
        errors.contains("word error rate 28.57 as the lists came, 0.00 in their new order"),
        "{errors}"
    );
    let (best, _) = done(&[&nbest[..], &["--weights", &weights, "--best"]].concat(), "");
    assert_eq!(best, lines);
    // A weight that is given is not searched.
    let kept = [&tune[..], &["--weight", "words=0.25", "--force"]].concat();
    let (_, errors) = done(&[&nbest[..], &kept].concat(), "");
    assert!(errors.contains(" words=0.2500\n"), "{errors}");
    // The same model subtracted with its own weight counts for nothing.
    let same = ["--subtract", &model, "--subtract-weight", "0.5", "--with-model", &model];
    let fixed = ["--weight", "lm2=0", "--best"];
    let (undone, _) = done(&[&nbest[..], &same, &fixed].concat(), "");
    assert!(undone.starts_with("tea has anna and she likes it\n"), "{undone}");

    let json = "{\"nbest\":[{\"text\":\"tea has anna\",\"score\":-1},{\"text\":\"anna has tea\",\"score\":-1.5}]}";
    let json = folder.write("one.jsonl", json);
    let (out, _) = done(&["score", &model, "--nbest", &json], "");
    let list = &objects(&out)[0]["nbest"];
    assert_eq!(list[0]["text"], "anna has tea");
    assert!(list[0]["lm"].is_f64() && list[0]["total"].is_f64());
}

/// The score of `predict` is a mean over the tokens, which sums of a language model would drown.
#[test]
fn a_log_probability_counts_in_place_of_the_score() {
    let folder = Folder::new();
    let model = words(&folder);
    let lists = folder.write(
        "predicted.nbest",
        "0 ||| tea has anna ||| logprob= -4 ||| -1\n0 ||| anna has tea ||| logprob= -4.5 ||| -1.5\n",
    );
    let references = folder.write("predicted.ref", "anna has tea\n");
    let line = ["score", &model, "--nbest", &lists, "--references", &references];
    let line = [&line[..], &["--metric", "wer", "--best"]].concat();
    let (best, errors) = done(&line, "");
    assert_eq!(best, "anna has tea\n");
    assert!(errors.contains("weights: logprob=1.0000 lm=0.5000\n"), "{errors}");
    // The lists as they came are in the order of their score.
    let (before, after) = ("66.67 as the lists came", "0.00 in their new order");
    assert!(errors.contains(before) && errors.contains(after), "{errors}");
    let score = ["--weight", "logprob=0", "--weight", "score=1", "--weight", "lm=0"];
    let (best, errors) = done(&[&line[..], &score].concat(), "");
    assert_eq!(best, "tea has anna\n");
    assert!(errors.contains("weights: score=1.0000\n"), "{errors}");
}

#[test]
fn what_makes_no_sense_is_refused_in_a_sentence() {
    let folder = Folder::new();
    let model = words(&folder);
    let log = folder.write("a.log", "anna\n");
    let bad = folder.write("bad.nbest", "just some text\n");
    let lists = folder.write("ok.nbest", "0 ||| a ||| ||| 1\n1 ||| b ||| ||| 2\n");
    let own = folder.write("own.nbest", "0 ||| a ||| lm= -2 ||| 1\n");
    let further = folder.write("further.nbest", "0 ||| a ||| lm2= -2 ||| 1\n");
    let references = folder.write("short.ref", "a\n");
    let empty = folder.write("empty.log", "");
    let csv = folder.write("a.csv", "text,mean\na,1\n");
    let no_weights = folder.write("no.json", "[1]");
    let invalid = folder.path("invalid.log");
    fs_err::write(&invalid, b"fine\n\xff\xfe\n").unwrap();
    let above = ["--by", "line", "--reference", &log, "--above"];
    let found = folder.write("two.ref", "a\nb\n");
    let tune = ["--nbest", &lists, "--tune", &found, "--weight", "score=1", "--weight", "lm=1"];
    let scored: [(&[&str], i32, &str); 31] = [
        (&[&log], 2, "FILE goes with --by line"),
        (&["--carry"], 2, "--carry goes with --by line"),
        (&["--top", "3"], 2, "--top goes with --by line"),
        (&["--by", "line", "--top", "0"], 2, "--top is 0, but must be at least 1"),
        (&["--by", "line", "--above", "0.5"], 2, "--reference"),
        (&[&above[..], &["2"]].concat(), 2, "--above is 2, but must be from 0 to 1"),
        (&["--by", "line", "--key", "("], 2, "regex"),
        (&["--by", "line", "--key", "a", "--sessions", "0"], 2, "--sessions is 0"),
        (&["--by", "line", "--follow"], 2, "--follow needs a file"),
        (&["--by", "line", "--memory", "m"], 2, "--memory goes with --by token or --carry"),
        (&["--by", "line", "--save-memory", "m"], 2, "--save-memory goes with"),
        (&["--by", "line", "nowhere.log"], 1, "nowhere.log does not exist"),
        (&["--by", "line", "-"], 2, "name no file to read stdin"),
        (&["--by", "line", &log, "--reference", &empty], 1, "has no text to compare with"),
        (&["--by", "line", &invalid], 1, "line 2 of"),
        (&["--data", &log], 2, "say with --format"),
        (&["--data", &csv], 1, "has a column \"mean\" already"),
        (&["--data", &csv, "--column", "body", "--prefix", "x"], 1, "body"),
        (&["--data", &csv, "--out", "x.csv.gz"], 2, "leave out .gz"),
        (&["--column", "text"], 2, "--column goes with --data"),
        (&["--nbest", &bad], 1, "line 1: it has no id"),
        (&["--nbest", &own], 1, "own.nbest: the lists have a feature `lm` already"),
        (&["--nbest", &further, "--with-model", "nowhere"], 1, "a feature `lm2` already"),
        (&["--nbest", &lists, "--tune", &references], 1, "has 1 lines, but there are 2 lists"),
        (&[&tune[..], &["--weight", "words=0"]].concat(), 2, "has no weight to find"),
        (&["--nbest", &lists, "--weight", "tm=1"], 2, "there is no feature `tm`"),
        (&["--nbest", &lists, "--weight", "lm"], 2, "such as lm=0.5"),
        (&["--nbest", &lists, "--weights", &no_weights], 1, "holds no weights"),
        (&["--best"], 2, "--best goes with --nbest"),
        (&["--nbest", &lists, "--by", "line"], 2, "--nbest does not go with --by line"),
        (&["--nbest", &lists, "--data", &csv], 2, "--nbest does not go with --data"),
    ];
    for (further, code, words) in scored {
        let arguments = [&["score", &model], further].concat();
        let (got, out, told) = longhand(&arguments, b"anna\n");
        assert_eq!(got, code, "{arguments:?}: {told}");
        assert!(told.contains(words) && !told.contains("panicked"), "{arguments:?}: {told}");
        // The lines before one that cannot be read are counted besides.
        let sentences = told.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(code == 2 || sentences == 1, "{arguments:?}: {out}{told}");
    }
    // The lines before one that cannot be read have their scores.
    let (_, out, _) = longhand(&["score", &model, "--by", "line", &invalid], b"");
    assert_eq!(out.lines().count(), 1);
    let (lossy, _) = done(&["score", &model, "--by", "line", &invalid, "--lossy"], "");
    assert_eq!(lossy.lines().count(), 2);
}

#[cfg(unix)]
#[test]
fn a_log_is_followed_until_ctrl_c() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    let folder = Folder::new();
    let model = words(&folder);
    let log = folder.write("app.log", "old\nold\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_longhand"))
        .args(["score", &model, "--by", "line", "--follow", &log, "--from-start"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = lines.next().unwrap().unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        (fields[1].to_owned(), fields[fields.len() - 1].to_owned())
    };
    let line = |number: &str, text: &str| (number.to_owned(), text.to_owned());
    assert_eq!(next(), line("1", "old"));
    assert_eq!(next(), line("2", "old"));
    let append = |text: &str| {
        let mut file = fs_err::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append("anna has");
    append(" tea\n");
    assert_eq!(next(), line("3", "anna has tea"));
    fs_err::rename(&log, folder.path("app.log.1")).unwrap();
    append("a new file\n");
    assert_eq!(next(), line("1", "a new file"));
    fs_err::write(&log, "short\n").unwrap();
    assert_eq!(next(), line("1", "short"));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("was truncated") && errors.contains("5 lines of"), "{errors}");
}

/// The process takes no more than about two megabytes before it scores lines of them, so that whoever
/// could write more knows that some are scored.
#[cfg(unix)]
#[test]
fn the_most_surprising_lines_of_an_endless_input_are_printed_at_ctrl_c() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let folder = Folder::new();
    let model = words(&folder);
    let mut child = Command::new(env!("CARGO_BIN_EXE_longhand"))
        .args(["score", &model, "--by", "line", "--top", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let line = format!("{}\n", "x".repeat(255));
    input.write_all(line.repeat(5 << 12).as_bytes()).unwrap();
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    drop(input);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("stopping; once more") && errors.contains(" lines of "), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
}
