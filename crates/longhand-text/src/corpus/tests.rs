use std::io::Write;

use super::table::{Example, Labels, TableOptions, parse_examples, read_table};
use super::*;

fn read(paths: &[&Path], options: CorpusOptions) -> Result<Vec<Piece>, TextError> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    Corpus::open(&paths, options)?.pieces().collect()
}

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn text(text: &str) -> Piece {
    Piece { text: text.into(), starts_document: true }
}

fn message(result: Result<Vec<Piece>, TextError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn folders_are_walked_in_order_and_decompressed() {
    let folder = tempfile::tempdir().unwrap();
    file(&folder, "b.txt.gz", &gzip("bé".as_bytes()));
    file(&folder, "a/z.txt", b"\xef\xbb\xbfz");
    file(&folder, "c.txt.zst", &zstd::encode_all(&b"c"[..], 1).unwrap());
    // Parallel compressors write a frame to be skipped before each frame.
    let frame = zstd::encode_all(&b"k"[..], 1).unwrap();
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &frame].concat();
    file(&folder, "c2.txt.zst", &skipped.repeat(2));
    file(&folder, "d.jsonl.gz", &gzip(b"{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n"));
    file(&folder, ".hidden", b"\0");
    file(&folder, "empty.txt", b"");
    let pieces = read(&[folder.path()], CorpusOptions::default()).unwrap();
    assert_eq!(pieces, ["z", "bé", "c", "kk", "one", "two"].map(text));
}

#[cfg(unix)]
#[test]
fn links_lead_to_each_folder_once() {
    let folder = tempfile::tempdir().unwrap();
    file(&folder, "a/one.txt", b"one");
    file(&folder, "b/two.txt", b"two");
    for (target, link) in [(".", "a/again"), ("..", "a/up"), ("../b", "a/beside"), ("../a", "b/a")]
    {
        std::os::unix::fs::symlink(target, folder.path().join(link)).unwrap();
    }
    // Through the links of `a` everything is reached from there.
    let pieces = read(&[folder.path()], CorpusOptions::default()).unwrap();
    assert_eq!(pieces, ["two", "one"].map(text));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_like_a_file_and_passed_over_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    file(&folder, "a.txt", b"a");
    let pipe = folder.path().join("rows.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pieces = read(&[folder.path()], CorpusOptions::default()).unwrap();
    assert_eq!(pieces, [text("a")]);
    let to = pipe.clone();
    let writer = std::thread::spawn(move || fs_err::write(to, b"{\"text\": \"b\"}\n").unwrap());
    let corpus = Corpus::open(&[pipe], CorpusOptions::default()).unwrap();
    writer.join().unwrap();
    for _ in 0..2 {
        assert_eq!(corpus.pieces().collect::<Result<Vec<_>, _>>().unwrap(), [text("b")]);
    }
}

#[test]
fn a_format_may_be_said_where_no_name_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let rows = file(&folder, "rows", b"{\"body\": \"one\"}\n{\"body\": \"two\"}\n");
    let options = |format| CorpusOptions {
        text_column: Some("body".into()),
        format,
        ..CorpusOptions::default()
    };
    let open = |format| Corpus::open(std::slice::from_ref(&rows), options(format)).unwrap();
    assert!(!open(None).holds_table() && open(Some(TableFormat::JsonLines)).holds_table());
    let pieces = read(&[&rows], options(Some(TableFormat::JsonLines))).unwrap();
    assert_eq!(pieces, ["one", "two"].map(text));
    let lines = file(&folder, "lines", b"0 one\n1 two\n");
    let format = Some(TableFormat::Labelled);
    let pieces = read(&[&lines], CorpusOptions { format, ..CorpusOptions::default() }).unwrap();
    assert_eq!(pieces, ["one", "two"].map(text));
    assert!("xml".parse::<TableFormat>().is_err());
}

#[test]
fn the_hash_tells_texts_and_ways_of_reading_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.txt", b"0123456789");
    let hash =
        |options| Corpus::open(std::slice::from_ref(&path), options).unwrap().hash().unwrap();
    let plain = hash(CorpusOptions::default());
    assert_eq!(plain, hash(CorpusOptions::default()));
    assert_ne!(plain, hash(CorpusOptions { lossy: true, ..CorpusOptions::default() }));
    let csv = CorpusOptions { format: Some(TableFormat::Csv), ..CorpusOptions::default() };
    assert_ne!(plain, hash(csv));
    let corpus = Corpus::open(std::slice::from_ref(&path), CorpusOptions::default()).unwrap();
    let (train, valid) = corpus.split_valid(0.5).unwrap();
    assert_ne!(train.hash().unwrap(), valid.hash().unwrap());
    file(&folder, "a.txt", b"012345678x");
    assert_ne!(plain, hash(CorpusOptions::default()));
}

#[test]
fn long_texts_come_in_pieces_that_join_again() {
    let line = "A line of some words, 中文, and a number.\n";
    let whole = line.repeat(250_000);
    let corpus = Corpus::from_text("memory", whole.clone());
    let pieces: Vec<Piece> = corpus.pieces().collect::<Result<_, _>>().unwrap();
    assert!(pieces.len() > 1);
    assert!(pieces.iter().skip(1).all(|piece| !piece.starts_document));
    assert_eq!(pieces.iter().map(|piece| &*piece.text).collect::<String>(), whole);
    let no_lines = Corpus::from_text("memory", "界".repeat(30_000_000));
    let lengths: usize = no_lines.texts().map(|text| text.unwrap().chars().count()).sum();
    assert_eq!(lengths, 30_000_000);
}

#[test]
fn the_split_counts_characters() {
    let corpus = Corpus::from_text("memory", "0123456789中文字符四個五六七八");
    let (train, valid) = corpus.split_valid(0.25).unwrap();
    let join = |corpus: &Corpus| corpus.texts().map(Result::unwrap).collect::<String>();
    assert_eq!(
        (join(&train).as_str(), join(&valid).as_str()),
        ("0123456789中文字符四", "個五六七八")
    );
    assert!(valid.pieces().next().unwrap().unwrap().starts_document);
    let (first, second) = valid.split_valid(0.4).unwrap();
    assert_eq!((join(&first).as_str(), join(&second).as_str()), ("個五六", "七八"));
    for fraction in [0.0, 1.0, -1.0, f64::NAN, 1e-9] {
        assert!(corpus.split_valid(fraction).is_err(), "{fraction}");
    }
}

#[test]
fn bad_files_get_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = file(&folder, name, bytes);
        let message = message(read(&[&path], CorpusOptions::default()));
        assert!(message.contains(expected) && message.contains(name), "{message}");
    };
    check("empty.txt", b"", "is empty");
    check("binary.txt", b"abc\0def", "binary file (byte 0 at offset 3)");
    check("latin.txt", b"caf\xe9 au lait", "not valid UTF-8 at byte offset 3");
    check("wide.txt", b"\xff\xfea\0b\0", "is UTF-16 text: convert it");
    check("cut.txt", b"abc\xe4\xb8", "not valid UTF-8 at byte offset 3");
    let mut far = vec![b'a'; 300_000];
    far[299_998] = 0xff;
    check("far.txt", &far, "byte offset 299998");
    check("cut.txt.gz", &gzip(b"some text")[..20], "could not be decompressed");
    let frame = zstd::encode_all(&b"some text"[..], 1).unwrap();
    check("cut.txt.zst", &frame[..frame.len() - 3], "could not be decompressed");
    check("rows.jsonl", b"{\"text\": \"a\"}\n{\"text\": }\n", "row 2");
    check("latin.jsonl", b"{\"text\": \"\xe9\"}\n", "byte offset 10");
    check("list.jsonl", b"[1]\n", "row 1: it is not a JSON object");
    check(
        "column.jsonl",
        b"{\"body\": \"a\"}\n",
        "has no column \"text\": its columns are \"body\"",
    );
    check(
        "column.csv",
        b"id,body\n1,a\n",
        "has no column \"text\": its columns are \"id\", \"body\"",
    );
    check("rows.csv", b"id,text\n1,a\n2\n", "row 3: it has only 1 column(s)");
    check("header.tsv", b"text\n", "is empty");
    check("not.parquet", b"PAR1 nothing PAR1", "cannot be read as a table");
    let missing = folder.path().join("missing");
    assert!(message(read(&[&missing], CorpusOptions::default())).contains("does not exist"));
    let error = super::table::read_examples(folder.path(), &TableOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("is a folder: name a file"), "{error}");
    let nothing = folder.path().join("nothing");
    fs_err::create_dir_all(&nothing).unwrap();
    assert!(message(read(&[&nothing], CorpusOptions::default())).contains("holds no file"));
}

#[test]
fn lossy_reading_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = CorpusOptions { lossy: true, ..Default::default() };
    let path = file(&folder, "latin.txt", b"caf\xe9 \xe4\xb8");
    assert_eq!(read(&[&path], options.clone()).unwrap(), [text("caf\u{fffd} \u{fffd}")]);
    let path = file(&folder, "latin.csv", b"text\ncaf\xe9\n");
    assert_eq!(read(&[&path], options.clone()).unwrap(), [text("caf\u{fffd}")]);
    let path = file(&folder, "zero.log", b"a\0b");
    assert_eq!(read(&[&path], options.clone()).unwrap(), [text("a\u{fffd}b")]);
    let path = file(&folder, "half.jsonl", b"{\"text\": \"\\ud83d cut\"}\n");
    assert_eq!(read(&[&path], options).unwrap(), [text("\u{fffd} cut")]);
    let told = message(read(&[&path], CorpusOptions::default()));
    assert!(told.contains("row 1: its text has half a character"), "{told}");
}

#[test]
fn tables_give_examples_by_name_and_by_number() {
    let example = |label: &str, text: &str| Example {
        label: Some(label.into()),
        text: text.into(),
        second: None,
    };
    let both = [example("pos", "a, \"b\""), example("neg", "c")];
    let options = TableOptions::default();
    let parse = |bytes: &str, format, options: &TableOptions| {
        parse_examples("table", bytes.as_bytes().to_vec(), format, options)
    };
    let csv = "label,text\npos,\"a, \"\"b\"\"\"\nneg,c\n";
    assert_eq!(parse(csv, TableFormat::Csv, &options).unwrap(), both);
    let tsv = "text\tlabel\na, \"b\"\tpos\nc\tneg\n";
    assert_eq!(parse(tsv, TableFormat::Tsv, &options).unwrap(), both);
    let json =
        "{\"label\": \"pos\", \"text\": \"a, \\\"b\\\"\"}\n{\"label\": \"neg\", \"text\": \"c\"}";
    assert_eq!(parse(json, TableFormat::JsonLines, &options).unwrap(), both);
    let plain = "pos a, \"b\"\nneg c\n";
    assert_eq!(parse(plain, TableFormat::Labelled, &options).unwrap(), both);
    let fasttext = "__label__pos a, \"b\"\n__label__neg\tc\n";
    assert_eq!(parse(fasttext, TableFormat::Labelled, &options).unwrap(), both);
    let several = "__label__pos a\n__label__pos __label__neg b\n";
    let error = parse(several, TableFormat::Labelled, &options).unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("several labels"), "{error}");
    for column in [Column::Name("mood".into()), Column::Index(2)] {
        let options = TableOptions { label: Some(column), ..Default::default() };
        let error = parse(plain, TableFormat::Labelled, &options).unwrap_err().to_string();
        assert!(error.contains("its columns are 0, the label, and 1, the text"), "{error}");
    }
    let numbered = TableOptions {
        text: Some(Column::Index(0)),
        label: Some(Column::Index(1)),
        ..Default::default()
    };
    let headerless = "a, \"b\"\tpos\nc\tneg\n";
    assert_eq!(parse(headerless, TableFormat::Tsv, &numbered).unwrap(), both);
    let unlabelled = TableOptions { unlabelled: true, ..Default::default() };
    let texts = parse(csv, TableFormat::Csv, &unlabelled).unwrap();
    assert_eq!(texts[1], Example { label: None, text: "c".into(), second: None });
    for bad in ["", "label,text\n", "label,text\n,c\n", "a,b\n"] {
        assert!(parse(bad, TableFormat::Csv, &options).is_err(), "{bad:?}");
    }
}

/// The label cells of a table whose texts may have several labels.
#[test]
fn a_text_has_several_labels_or_none_where_asked_for() {
    let labels = |bytes: &str, format| -> Vec<(String, String)> {
        let options = TableOptions { several: true, ..TableOptions::default() };
        let examples = parse_examples("t", bytes.as_bytes().to_vec(), format, &options).unwrap();
        let pair = |example: Example| (example.label.unwrap(), example.text);
        examples.into_iter().map(pair).collect()
    };
    let pair = |label: &str, text: &str| (label.to_owned(), text.to_owned());
    let fasttext = "__label__a __label__b  one __label__c\nno label here\n__label__b\ttwo\n";
    let expected = [
        pair(r#"["a","b"]"#, "one __label__c"),
        pair("[]", "no label here"),
        pair(r#"["b"]"#, "two"),
    ];
    assert_eq!(labels(fasttext, TableFormat::Labelled), expected);
    let csv = "label,text\n\"a, b\",one\n,two\n";
    assert_eq!(labels(csv, TableFormat::Csv), [pair("a, b", "one"), pair("", "two")]);
    let json =
        "{\"label\": [\"a\", \"b\"], \"text\": \"one\"}\n{\"label\": null, \"text\": \"two\"}";
    assert_eq!(
        labels(json, TableFormat::JsonLines),
        [pair(r#"["a","b"]"#, "one"), pair("", "two")]
    );
}

#[test]
fn an_example_may_have_a_second_text() {
    let parse = |bytes: &str, format, options: &TableOptions| {
        parse_examples("t", bytes.as_bytes().to_vec(), format, options)
    };
    let options = TableOptions {
        text: Some(Column::Index(0)),
        second: Some(Column::Index(1)),
        label: Some(Column::Index(2)),
        ..TableOptions::default()
    };
    let rows = "how much\twhat price\t1\nwho\twhere\t0\nwho\twhen\t0\nwhat\tcost\t1\n";
    let examples = parse(rows, TableFormat::Tsv, &options).unwrap();
    assert_eq!(examples.len(), 4);
    let second = Some("what price".to_owned());
    let expected = Example { label: Some("1".into()), text: "how much".into(), second };
    assert_eq!(examples[0], expected);
    let unlabelled = TableOptions { unlabelled: true, ..options.clone() };
    assert_eq!(
        parse(rows, TableFormat::Tsv, &unlabelled).unwrap()[1].second.as_deref(),
        Some("where")
    );
    let named = TableOptions { second: Some(Column::Name("other".into())), ..Default::default() };
    let json = "{\"text\": \"a\", \"other\": \"b\", \"label\": \"x\"}";
    assert_eq!(
        parse(json, TableFormat::JsonLines, &named).unwrap()[0].second.as_deref(),
        Some("b")
    );
    let error = parse("text\tlabel\na\tx\n", TableFormat::Tsv, &named).unwrap_err().to_string();
    assert!(error.contains("no column \"other\""), "{error}");
    let twice = TableOptions { second: Some(Column::Name("text".into())), ..Default::default() };
    let error = parse(json, TableFormat::JsonLines, &twice).unwrap_err().to_string();
    assert!(error.contains("column \"text\" is named twice"), "{error}");
}

#[test]
fn a_table_that_would_be_read_wrongly_is_refused() {
    let check = |format, bytes: &str, expected: &str| {
        let options = TableOptions::default();
        let error = parse_examples("t", bytes.as_bytes().to_vec(), format, &options).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("t, row ") && message.contains(expected), "{message}");
    };
    let rows = "up,good\n".repeat(9);
    check(TableFormat::Csv, &format!("label,text\nup,\"bad\n{rows}"), "row 2: the quote");
    check(TableFormat::Csv, "label,text\nup,good\nup,good, all\n", "row 3: it has 3 columns");
    check(TableFormat::Tsv, "label\ttext\nup\tgood\tall\n", "row 2: it has 3 columns");
    check(TableFormat::JsonLines, "{\"label\": 1, \"text\": \"a\"}\n{\n", "row 2: EOF while");
    check(TableFormat::JsonLines, "[\n{\"label\": 1}]\n", "row 1: it is not a JSON object");
    let long = format!("{{\"label\": 1, \"text\": \"{}", "x".repeat(100_000));
    check(TableFormat::JsonLines, &long, "row 1: ");
    let same = TableOptions { label: Some(Column::Name("text".into())), ..Default::default() };
    let error = parse_examples("t", b"text\na\n".to_vec(), TableFormat::Csv, &same).unwrap_err();
    assert!(error.to_string().contains("both column \"text\""), "{error}");
    let long = TableOptions { text: Some(Column::Name("x".repeat(9000))), ..Default::default() };
    let error = parse_examples("t", b"text\na\n".to_vec(), TableFormat::Csv, &long).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn lines_that_begin_with_no_labels_are_refused_where_no_format_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let words = "it was on a day when nobody had seen any cloud";
    let plain: String = words.split(' ').map(|word| format!("{word} came to pass\n")).collect();
    let path = file(&folder, "plain.txt", plain.as_bytes());
    let learnt = TableOptions { labels_repeat: true, ..TableOptions::default() };
    let error = read_table(&path, &learnt).unwrap_err().to_string();
    let told = "plain.txt begin with 11 different words, 11 of them only once";
    assert!(error.contains("the 11 lines of ") && error.contains(told), "{error}");
    let labelled = TableOptions { format: Some(TableFormat::Labelled), ..learnt.clone() };
    assert_eq!(read_table(&path, &labelled).unwrap().examples.len(), 11);
    assert_eq!(read_table(&path, &TableOptions::default()).unwrap().examples.len(), 11);
    // Marked labels may be as rare as they like, and others come again.
    let marked: String = plain.lines().map(|line| format!("__label__{line}\n")).collect();
    let path = file(&folder, "marked.txt", marked.as_bytes());
    assert_eq!(read_table(&path, &learnt).unwrap().examples.len(), 11);
    assert_eq!(TableFormat::of_file(&path).unwrap(), Some(TableFormat::Labelled));
    // Words of prose come often too, and still many of them come once.
    let mixed = |often: usize, once: usize| {
        let lines = |letter: char, count: usize| -> String {
            (0..count).map(|i| format!("{letter}{i} came to pass\n")).collect()
        };
        let text = lines('a', often).repeat(3) + &lines('b', once);
        read_table(&file(&folder, "mixed.txt", text.as_bytes()), &learnt)
    };
    assert!(mixed(7, 5).is_err());
    assert_eq!(mixed(8, 4).unwrap().examples.len(), 28);
    let path = file(&folder, "again.txt", plain.repeat(2).as_bytes());
    assert_eq!(read_table(&path, &learnt).unwrap().examples.len(), 22);
    assert_eq!(TableFormat::of_file(&path).unwrap(), None);
}

#[test]
fn lines_without_labels_are_whole_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "plain.txt", b"good films are rare\n\n__label__x so it is\n");
    let options = TableOptions { unlabelled: true, ..TableOptions::default() };
    let texts = |options: &TableOptions| -> Vec<String> {
        let examples = read_table(&path, options).unwrap().examples;
        examples.into_iter().map(|example| example.text).collect()
    };
    assert_eq!(texts(&options), ["good films are rare", "so it is"]);
    let labelled = TableOptions { format: Some(TableFormat::Labelled), ..options };
    assert_eq!(texts(&labelled), ["films are rare", "so it is"]);
}

#[test]
fn a_line_without_a_mark_among_marked_ones_has_no_label() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "mixed.txt", b"__label__x so it is\ngood films are rare\n");
    let options = TableOptions { format: Some(TableFormat::Labelled), ..TableOptions::default() };
    let error = read_table(&path, &options).unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("no __label__"), "{error}");
    let options = TableOptions { unlabelled: true, ..options };
    let texts = read_table(&path, &options).unwrap().examples;
    assert_eq!(texts[1].text, "good films are rare");
}

#[test]
fn an_empty_table_lacks_examples() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.csv", "a.tsv", "a.jsonl", "a.txt"] {
        let error = read_table(&file(&folder, name, b""), &TableOptions::default()).unwrap_err();
        assert!(matches!(error, TextError::NoExamples(_)), "{name}: {error}");
    }
}

#[test]
fn a_header_is_found_or_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let numbered = |header| TableOptions {
        text: Some(Column::Index(1)),
        label: Some(Column::Index(0)),
        header,
        ..Default::default()
    };
    let rows = "up\tgood day\ndown\tbad day\n".repeat(6);
    let named = format!("label\ttext\n{rows}");
    for name in ["a.tsv", "a.tab", "a.txt"] {
        let path = file(&folder, name, named.as_bytes());
        let table = read_table(&path, &numbered(Header::Auto)).unwrap();
        assert!(table.header && table.examples.len() == 12, "{name}");
        assert_eq!(Labels::of(&table.examples).names(), ["down", "up"]);
        assert_eq!(Labels::of(&table.examples).counts(&table.examples), [6, 6]);
        let table = read_table(&path, &numbered(Header::No)).unwrap();
        assert!(!table.header && table.examples.len() == 13, "{name}");
        // No name of a column, but a label that no other row has.
        let path = file(&folder, name, format!("mood\twords\n{rows}").as_bytes());
        let error = read_table(&path, &numbered(Header::Auto)).unwrap_err().to_string();
        assert!(error.contains("row 1: it may name the columns") && error.contains("\"mood\""));
        assert_eq!(read_table(&path, &numbered(Header::Yes)).unwrap().examples.len(), 12);
        assert_eq!(read_table(&path, &numbered(Header::No)).unwrap().examples.len(), 13);
        // Nothing but examples.
        let path = file(&folder, name, rows.as_bytes());
        assert_eq!(read_table(&path, &numbered(Header::Auto)).unwrap().examples.len(), 12);
        let path = file(&folder, name, b"a\tone\nb\ttwo\nc\tthree\n");
        assert_eq!(read_table(&path, &numbered(Header::Auto)).unwrap().examples.len(), 3);
    }
    let path = file(&folder, "b.tsv", b"label\ttext\n");
    assert!(read_table(&path, &numbered(Header::Auto)).unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_table_with_tabs_of_another_name_is_no_labelled_text() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "up\t7\tgood day\ndown\t8\tbad day\n".repeat(6);
    let swapped = "text\tlabel\ngood day\tup\n";
    let named = TableOptions { text: Some(Column::Name("words".into())), ..Default::default() };
    let read = |text: &str, options: &TableOptions| {
        read_table(&file(&folder, "a.txt", text.as_bytes()), options)
    };
    let plain = TableOptions::default();
    let header = |names: &str| format!("{names}\n{rows}");
    for (text, options) in [
        (header("label\tid\ttext"), &plain),
        (header("mood\tid\twords"), &plain),
        (swapped.to_owned(), &plain),
        ("up\tgood day\ndown\tbad day\n".to_owned(), &named),
    ] {
        let error = read(&text, options).unwrap_err();
        assert!(matches!(error, TextError::Tabbed(_)), "{text}: {error}");
        let tsv = TableOptions { format: Some(TableFormat::Tsv), ..options.clone() };
        assert!(!matches!(read(&text, &tsv), Err(TextError::Tabbed(_))), "{text}");
    }
    // No header is looked for, a label and a text have a tab between them, and a text has tabs.
    let none = TableOptions { header: Header::No, ..TableOptions::default() };
    assert_eq!(read(swapped, &none).unwrap().examples.len(), 2);
    assert_eq!(read("label\ttext\nup\tgood day\n", &plain).unwrap().examples.len(), 1);
    assert_eq!(read(&rows, &plain).unwrap().examples.len(), 12);
}

#[test]
fn labels_are_trimmed_and_that_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.csv", b"label,text\npos,a\n pos,b\nneg , c\n");
    let table = read_table(&path, &TableOptions::default()).unwrap();
    assert_eq!(table.trimmed, 2);
    assert_eq!(Labels::of(&table.examples).names(), ["neg", "pos"]);
    assert_eq!(table.examples[2].text, " c");
}

#[test]
fn a_json_file_holds_an_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let rows = b"{\"text\": \"a b\", \"label\": 1}\n{\"text\": \"c\", \"label\": 2}\n";
    for (name, bytes) in [("a.json", rows.to_vec()), ("a.json.gz", gzip(rows))] {
        let path = file(&folder, name, &bytes);
        assert_eq!(read(&[&path], CorpusOptions::default()).unwrap(), ["a b", "c"].map(text));
        assert_eq!(read_table(&path, &TableOptions::default()).unwrap().examples.len(), 2);
    }
    let path = file(&folder, "b.json", b"[\n{\"text\": \"a\"}\n]\n");
    let told = message(read(&[&path], CorpusOptions::default()));
    assert!(told.contains("row 1: it is not a JSON object"), "{told}");
}

#[test]
fn labels_are_ordered_and_numbers_by_value() {
    let labels = |names: &[&str]| {
        let examples: Vec<Example> = names
            .iter()
            .map(|name| Example { label: Some((*name).into()), text: String::new(), second: None })
            .collect();
        Labels::of(&examples)
    };
    assert_eq!(labels(&["10", "9", "-1", "9"]).names(), ["-1", "9", "10"]);
    let named = labels(&["b", "a", "10", "9"]);
    assert_eq!(named.names(), ["10", "9", "a", "b"]);
    assert_eq!(named.id("a").unwrap(), 2);
    assert!(named.id("c").unwrap_err().to_string().contains("known labels are 10, 9, a, b"));
}

#[test]
fn parquet_columns_are_read_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    write_parquet(&path);
    let pieces = read(&[&path], CorpusOptions::default()).unwrap();
    assert_eq!(pieces, ["one 中", "two"].map(text));
    let options = TableOptions::default();
    let examples = super::table::read_examples(&path, &options).unwrap();
    assert_eq!(examples[1], Example { label: Some("2".into()), text: "two".into(), second: None });
    let options = CorpusOptions { text_column: Some("body".into()), ..Default::default() };
    let message = message(read(&[&path], options));
    assert!(message.contains("has no column \"body\": its columns are \"label\", \"text\""));
    let bytes = fs_err::read(&path).unwrap();
    for end in (0..bytes.len()).step_by(7) {
        let table = TableFormat::Parquet;
        assert!(parse_examples("t", bytes[..end].to_vec(), table, &Default::default()).is_err());
    }
}

#[test]
fn parquet_of_every_compression_and_structs_are_read() {
    use ::parquet::basic::Compression;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    let compressions = [
        Compression::UNCOMPRESSED,
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
    ];
    for compression in compressions {
        let fields = "required int32 label; required group a { optional binary text (UTF8); }";
        write_parquet_of(&path, fields, compression);
        let column = Some("a.text".to_owned());
        let options = CorpusOptions { text_column: column, ..Default::default() };
        assert_eq!(read(&[&path], options).unwrap(), ["one 中", "two"].map(text), "{compression}");
        for (column, told) in [("a", "\"a\" is neither text"), ("a.b", "\"label\", \"a.text\"")] {
            let column = Some(column.to_owned());
            let options = CorpusOptions { text_column: column, ..Default::default() };
            let message = message(read(&[&path], options));
            assert!(message.contains(told), "{message}");
        }
    }
}

fn write_parquet(path: &Path) {
    let fields = "required int32 label; optional binary text (UTF8);";
    write_parquet_of(path, fields, ::parquet::basic::Compression::SNAPPY);
}

fn write_parquet_of(path: &Path, fields: &str, compression: ::parquet::basic::Compression) {
    use ::parquet::data_type::{ByteArrayType, Int32Type};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    let schema = format!("message rows {{ {fields} }}");
    let schema = ::parquet::schema::parser::parse_message_type(&schema).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let out = fs_err::File::create(path).unwrap().into_parts().0;
    let mut writer = SerializedFileWriter::new(out, schema.into(), properties.into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int32Type>().write_batch(&[1, 2], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values = ["one 中".into(), "two".into()];
    column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 1]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn trec_is_read_as_it_lies() {
    let Some(path) = crate::testing::data("trec/TREC.train.all") else { return };
    let examples = super::table::read_examples(&path, &TableOptions::default()).unwrap();
    assert_eq!(examples.len(), 5452);
    assert_eq!(Labels::of(&examples).names(), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(examples[1].text, "What films featured the character Popeye Doyle ?");
}

#[test]
fn a_sample_is_a_share_of_the_pieces_and_the_same_of_one_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let rows: String = (0..1000).map(|row| format!("{{\"text\": \"row {row}\"}}\n")).collect();
    fs_err::write(&path, rows).unwrap();
    let corpus = Corpus::open(&[path], CorpusOptions::default()).unwrap();
    let texts = |corpus: &Corpus| -> Vec<String> { corpus.texts().map(Result::unwrap).collect() };
    let all = texts(&corpus);
    let sample = corpus.sampled(0.3, 5);
    let taken = texts(&sample);
    assert!((240..360).contains(&taken.len()), "{}", taken.len());
    assert!(taken.iter().all(|row| all.contains(row)));
    assert_eq!(texts(&sample), taken);
    assert_ne!(texts(&corpus.sampled(0.3, 6)), taken);
    assert_ne!(corpus.hash().unwrap(), sample.hash().unwrap());
    assert_eq!(texts(&corpus.sampled(1.0, 5)), all);
    let (train, valid) = sample.split_valid(0.5).unwrap();
    let (train, valid) = (texts(&train).concat(), texts(&valid).concat());
    assert_eq!(train + &valid, taken.concat());
}
