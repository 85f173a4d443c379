use proptest::prelude::*;

use super::*;
use crate::{Corpus, CorpusOptions};

const SAMPLE: &str = "The cat sat on the mat.\nThe mat sat on the cat , \"quite\" alone .\n\n  \
    A second paragraph, naïve façade — and 中文字符，還有一行。\n\tTabs\tand  spaces \n\n\n end";

fn trained(kind: TokenizerKind) -> Tokenizer {
    trained_on(kind, None, SAMPLE)
}

fn trained_on(kind: TokenizerKind, vocabulary: Option<usize>, text: &str) -> Tokenizer {
    let corpus = std::iter::once(Ok(text.to_owned()));
    Tokenizer::train(kind, vocabulary, corpus, &mut |_| {}).unwrap()
}

fn data(path: &str) -> Option<Corpus> {
    Some(Corpus::open(&[crate::testing::data(path)?], CorpusOptions::default()).unwrap())
}

fn text_of(corpus: &Corpus) -> String {
    corpus.texts().collect::<Result<String, _>>().unwrap()
}

#[test]
fn byte_ids_are_the_bytes() {
    let tokenizer = Tokenizer::byte().unwrap();
    assert_eq!(tokenizer.vocab_size(), 256);
    assert_eq!(tokenizer.encode("Aé\n").unwrap(), [65, 0xc3, 0xa9, 10]);
    assert_eq!(tokenizer.encode_whole("Aé\n").unwrap(), [65, 0xc3, 0xa9, 10]);
    assert_eq!(tokenizer.decode(&[65, 0xc3, 0xa9, 10]).unwrap(), "Aé\n");
}

#[test]
fn every_kind_comes_back_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for kind in TokenizerKind::ALL {
        let tokenizer = trained(kind);
        assert!(tokenizer.own_layout, "{kind}");
        assert_eq!(tokenizer.kind(), kind);
        let path = folder.path().join(format!("{kind}.json"));
        tokenizer.save(&path).unwrap();
        let loaded = Tokenizer::load(&path).unwrap();
        assert!(loaded.own_layout, "{kind}");
        assert_eq!(loaded.kind(), kind);
        assert_eq!(loaded.hash(), tokenizer.hash(), "{kind}");
        assert_eq!(loaded.encode(SAMPLE).unwrap(), tokenizer.encode(SAMPLE).unwrap());
    }
}

#[test]
fn training_twice_gives_the_same_file() {
    for kind in TokenizerKind::ALL {
        assert_eq!(trained(kind).hash(), trained(kind).hash(), "{kind}");
    }
}

#[test]
fn the_fast_path_and_the_chunks_agree_with_the_library() {
    for kind in TokenizerKind::ALL {
        let tokenizer = trained(kind);
        for text in
            [SAMPLE, "", "\n", "\n\n", " ", "a", "x\r\ny<eos>z <eos> <unk>", "㊙ new\u{a0}words"]
        {
            let whole = tokenizer.encode_whole(text).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), whole, "{kind} {text:?}");
            let parts: Vec<u32> = safe_chunks(text, kind, 1)
                .flat_map(|chunk| tokenizer.encode_whole(chunk).unwrap())
                .collect();
            assert_eq!(parts, whole, "{kind} {text:?}");
        }
    }
}

#[test]
fn plain_kinds_read_back_what_was_written() {
    for kind in
        [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Unigram]
    {
        let tokenizer = trained(kind);
        let ids = tokenizer.encode(SAMPLE).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), SAMPLE, "{kind}");
    }
    let word = trained(TokenizerKind::Word);
    let ids = word.encode("The  cat\n\nsat").unwrap();
    assert_eq!(word.decode(&ids).unwrap(), "The cat\n\nsat");
    let pieces = trained(TokenizerKind::Wordpiece);
    let ids = pieces.encode("The cat sat").unwrap();
    assert_eq!(pieces.decode(&ids).unwrap(), "The cat sat");
}

#[test]
fn unknown_characters_survive() {
    let char = trained(TokenizerKind::Char);
    assert_eq!(char.encode("T㊙").unwrap()[1], char.unknown_id().unwrap());
    assert_eq!(char.unknown_id().unwrap() as usize, char.vocab_size() - 1);
    let unigram = trained(TokenizerKind::Unigram);
    for text in ["㊙ T", "<0x41> <eos> <unk>"] {
        let ids = unigram.encode(text).unwrap();
        assert_eq!(unigram.decode(&ids).unwrap(), text);
    }
}

#[test]
fn the_decoder_never_gives_half_a_character() {
    let tokenizer = Tokenizer::byte().unwrap();
    let mut decoder = tokenizer.decoder();
    let pieces: Vec<String> =
        "é中".bytes().map(|byte| decoder.push(byte.into()).unwrap()).collect();
    assert_eq!(pieces, ["", "é", "", "", "中"]);
    assert_eq!(decoder.push(0xe4).unwrap(), "");
    assert_eq!(decoder.push(b'a'.into()).unwrap(), "\u{fffd}a");
    assert_eq!(decoder.push(0xe4).unwrap(), "");
    assert_eq!(decoder.finish(), "\u{fffd}");
}

#[test]
fn a_vocabulary_can_be_limited() {
    let rich: String = ('a'..='z').chain('α'..='ω').chain('а'..='я').collect();
    let rich = format!("{rich} {} {SAMPLE}", rich.chars().rev().collect::<String>());
    for kind in TokenizerKind::ALL {
        let least = train::least_vocabulary(kind);
        for size in [least, least + 1, least + 7, 2 * least, 420] {
            let size = size.max(least);
            let tokenizer = trained_on(kind, Some(size), &rich);
            let count = tokenizer.vocab_size();
            assert!(count <= size, "{kind}: {count} instead of {size}");
            let ids = tokenizer.encode(&rich).unwrap();
            assert!(ids.iter().all(|&id| (id as usize) < count), "{kind}");
        }
    }
    assert_eq!(
        trained_on(TokenizerKind::Char, Some(3), "aaabbc").encode("abc").unwrap(),
        [0, 1, 2]
    );
}

#[test]
fn what_has_been_counted_is_told_as_it_is() {
    for kind in [TokenizerKind::Char, TokenizerKind::Word, TokenizerKind::Bpe] {
        let corpus = ["one two\n", "three four five\n"].map(|text| Ok(text.to_owned()));
        let mut units = Vec::new();
        Tokenizer::train(kind, Some(300), corpus.into_iter(), &mut |progress| {
            units.push(progress.units);
        })
        .unwrap();
        assert!(units[0] > 0 && units[0] < units[1], "{kind}: {units:?}");
    }
}

#[test]
fn a_foreign_file_neither_cuts_nor_fills_up_texts() {
    let own = Tokenizer::byte().unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&own.to_json().unwrap()).unwrap();
    file["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    });
    file["padding"] = serde_json::json!({
        "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    });
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes(), "t.json").unwrap();
    for text in ["a text of some length", "ab"] {
        assert_eq!(tokenizer.encode(text).unwrap(), own.encode(text).unwrap());
        assert_eq!(tokenizer.encode_whole(text).unwrap(), own.encode(text).unwrap());
    }
    assert_eq!(tokenizer.hash(), own.hash());
}

#[test]
fn a_foreign_decoder_holds_back_a_bounded_number_of_ids() {
    let mut file: serde_json::Value =
        serde_json::from_str(&Tokenizer::byte().unwrap().to_json().unwrap()).unwrap();
    // Any other normaliser than none makes the layout a foreign one.
    file["normalizer"] = serde_json::json!({"type": "NFC"});
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes(), "t.json").unwrap();
    assert!(!tokenizer.own_layout);
    let mut decoder = tokenizer.decoder();
    let mut text = String::new();
    for _ in 0..1000 {
        text.push_str(&decoder.push(0xe4).unwrap());
        assert!(decoder.held_ids() <= 65, "{}", decoder.held_ids());
    }
    for byte in "中 end".bytes() {
        text.push_str(&decoder.push(byte.into()).unwrap());
    }
    text.push_str(&decoder.finish());
    assert_eq!(text.trim_start_matches('\u{fffd}'), "中 end");
    assert_eq!(text.chars().filter(|&c| c == '\u{fffd}').count(), 1000);
}

#[test]
fn bad_input_gets_a_sentence() {
    let message = |error: TextError| error.to_string();
    let tokenizer = Tokenizer::byte().unwrap();
    assert_eq!(
        message(tokenizer.decode(&[256]).unwrap_err()),
        "the token id 256 is out of range: the vocabulary has 256 tokens"
    );
    for bytes in [
        &b""[..],
        b"[]",
        b"{}",
        br#"{"model": 3}"#,
        br#"{"model": {"type": "BPE", "vocab": {"a": 7}, "merges": []}}"#,
        br#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]}}"#,
        br#"{"model": {"type": "Unigram", "unk_id": 9, "vocab": [["a", 0.0]]}}"#,
        br#"{"model": {"type": "Unigram", "unk_id": null, "vocab": []}}"#,
    ] {
        let error = message(Tokenizer::from_bytes(bytes, "t.json").unwrap_err());
        assert!(error.starts_with("t.json is not a usable tokenizer.json"), "{error}");
    }
    let empty = Tokenizer::train(TokenizerKind::Bpe, None, std::iter::empty(), &mut |_| {});
    assert!(message(empty.unwrap_err()).contains("holds no text"));
    let corpus = std::iter::once(Ok("abc".to_owned()));
    let small = Tokenizer::train(TokenizerKind::Bpe, Some(10), corpus, &mut |_| {});
    assert!(message(small.unwrap_err()).contains("needs at least 257"));
    for kind in [TokenizerKind::Bpe, TokenizerKind::Wordpiece, TokenizerKind::Word] {
        let corpus = std::iter::once(Ok("abc".to_owned()));
        let large = Tokenizer::train(kind, Some(4_000_000_000), corpus, &mut |_| {});
        assert!(message(large.unwrap_err()).contains("at most 1048576"));
    }
    assert!("words".parse::<TokenizerKind>().is_err());
}

#[test]
fn tinyshakespeare_has_65_characters() {
    let Some(corpus) = data("tinyshakespeare/input.txt.gz") else { return };
    let tokenizer =
        Tokenizer::train(TokenizerKind::Char, None, corpus.texts(), &mut |_| {}).unwrap();
    assert_eq!(tokenizer.vocab_size(), 66);
    let (train, valid) = corpus.split_valid(0.1).unwrap();
    let count = |part: &Corpus| tokenizer.encode(&text_of(part)).unwrap().len();
    assert_eq!((count(&train), count(&valid)), (1_003_854, 111_540));
    let ids = tokenizer.encode(&text_of(&train)).unwrap();
    assert!(!ids.contains(&65));
}

#[test]
fn wikitext_has_the_published_counts() {
    let parts = ["train", "valid", "test"].map(|part| data(&format!("wikitext-2/{part}.txt.gz")));
    let [Some(train), Some(valid), Some(test)] = parts else { return };
    let all = train.texts().chain(valid.texts()).chain(test.texts());
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, all, &mut |_| {}).unwrap();
    assert_eq!(tokenizer.vocab_size(), 33_278);
    let counts = [train, valid, test].map(|part| tokenizer.encode(&text_of(&part)).unwrap().len());
    assert_eq!(counts, [2_088_628, 217_646, 245_569]);
}

#[test]
fn tang_poems_in_characters_and_pieces() {
    let Some(corpus) = data("poetry-tang/valid.txt") else { return };
    let text = text_of(&corpus);
    let char = trained_on(TokenizerKind::Char, None, &text);
    let ids = char.encode(&text).unwrap();
    assert_eq!(ids.len(), 232_361);
    assert_eq!(char.decode(&ids).unwrap(), text);
    let unigram = trained_on(TokenizerKind::Unigram, Some(6000), &text);
    let ids = unigram.encode(&text).unwrap();
    assert!(ids.len() < 232_361);
    assert_eq!(unigram.decode(&ids).unwrap(), text);
}

proptest! {
    #[test]
    fn byte_level_kinds_read_back_any_text(text in "\\PC*|[\\s\\S]{0,64}") {
        for kind in [TokenizerKind::Byte, TokenizerKind::Bpe] {
            let tokenizer = cached(kind);
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(&tokenizer.decode(&ids).unwrap(), &text);
            prop_assert_eq!(ids, tokenizer.encode_whole(&text).unwrap());
        }
    }

    #[test]
    fn cuts_keep_the_tokens(text in "([a-c ,\n\u{3000}中]|\n\n| \n){0,40}") {
        for kind in TokenizerKind::ALL {
            let tokenizer = cached(kind);
            let parts: Vec<u32> = safe_chunks(&text, kind, 1)
                .flat_map(|chunk| tokenizer.encode_whole(chunk).unwrap())
                .collect();
            prop_assert_eq!(&parts, &tokenizer.encode_whole(&text).unwrap(), "{}", kind);
            prop_assert_eq!(&tokenizer.encode(&text).unwrap(), &parts, "{}", kind);
        }
    }
}

fn cached(kind: TokenizerKind) -> &'static Tokenizer {
    static ALL: std::sync::OnceLock<Vec<Tokenizer>> = std::sync::OnceLock::new();
    &ALL.get_or_init(|| TokenizerKind::ALL.map(trained).into())[kind as usize]
}

/// Every value of each kind's file is once removed and once replaced by a value of another type;
/// whatever still loads must encode and decode, or fail with an error.
#[test]
fn a_damaged_file_never_panics() {
    let text = "ab <eos>中㊙\n";
    let mut loaded = 0;
    for kind in TokenizerKind::ALL {
        let size = if kind == TokenizerKind::Unigram { 400 } else { 300 };
        let file = trained_on(kind, Some(size), "ab ab ba 中\n").inner.to_string(false).unwrap();
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        for path in paths(&file) {
            let others = [
                None,
                Some(serde_json::Value::Null),
                Some((-1).into()),
                Some(4_000_000_000_u64.into()),
                Some("(".into()),
                Some("".into()),
                Some(serde_json::json!([])),
                Some(serde_json::json!({})),
            ];
            for other in others {
                let mut damaged = file.clone();
                replace(&mut damaged, &path, other);
                let bytes = damaged.to_string();
                if let Ok(tokenizer) = Tokenizer::from_bytes(bytes.as_bytes(), "t.json") {
                    loaded += 1;
                    if let Ok(ids) = tokenizer.encode(text) {
                        let _ = tokenizer.decode(&ids);
                    }
                    let _ = tokenizer.decode(&[0, u32::MAX]);
                }
            }
        }
    }
    assert!(loaded > 0);
}

/// The paths to all values of a JSON tree, of long lists and maps only the first few.
fn paths(value: &serde_json::Value) -> Vec<Vec<String>> {
    let children: Vec<(String, &serde_json::Value)> = match value {
        serde_json::Value::Object(map) => {
            map.iter().take(12).map(|(key, child)| (key.clone(), child)).collect()
        }
        serde_json::Value::Array(list) => {
            list.iter().take(3).enumerate().map(|(at, child)| (at.to_string(), child)).collect()
        }
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (key, child) in children {
        all.push(vec![key.clone()]);
        for mut path in paths(child) {
            path.insert(0, key.clone());
            all.push(path);
        }
    }
    all
}

fn replace(value: &mut serde_json::Value, path: &[String], other: Option<serde_json::Value>) {
    let (key, rest) = path.split_first().unwrap();
    if rest.is_empty() {
        match (value, other) {
            (serde_json::Value::Object(map), None) => drop(map.remove(key)),
            (serde_json::Value::Object(map), Some(other)) => drop(map.insert(key.clone(), other)),
            (serde_json::Value::Array(list), None) => {
                drop(list.remove(key.parse::<usize>().unwrap()));
            }
            (serde_json::Value::Array(list), Some(other)) => {
                list[key.parse::<usize>().unwrap()] = other;
            }
            _ => unreachable!(),
        }
        return;
    }
    let child = match value {
        serde_json::Value::Object(map) => map.get_mut(key).unwrap(),
        serde_json::Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
        _ => unreachable!(),
    };
    replace(child, rest, other);
}
