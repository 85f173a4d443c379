use proptest::prelude::*;

use super::cuts::{safe_chunks, settled};
use super::*;
use crate::{Corpus, CorpusOptions, TextError};

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
    fn cuts_keep_the_tokens(text in hard_text()) {
        for kind in TokenizerKind::ALL {
            let tokenizer = cached(kind);
            let whole = tokenizer.encode_whole(&text).unwrap();
            let joined = |cut: usize| {
                let (left, right) = text.split_at(cut);
                let right = tokenizer.encode_whole(right).unwrap();
                [tokenizer.encode_whole(left).unwrap(), right].concat()
            };
            for size in [1, 5] {
                let parts: Vec<u32> = safe_chunks(&text, kind, size)
                    .flat_map(|chunk| tokenizer.encode_whole(chunk).unwrap())
                    .collect();
                prop_assert_eq!(&parts, &whole, "{}", kind);
            }
            prop_assert_eq!(&tokenizer.encode(&text).unwrap(), &whole, "{}", kind);
            for cut in [last_safe_cut(&text, kind), last_common_cut(&text)].into_iter().flatten() {
                prop_assert!(0 < cut && cut < text.len());
                prop_assert_eq!(&joined(cut), &whole, "{} cut at {}", kind, cut);
            }
        }
    }

    #[test]
    fn what_is_settled_does_not_depend_on_what_follows(
        text in hard_text(),
        tail in hard_text(),
    ) {
        for kind in TokenizerKind::ALL {
            let tokenizer = cached(kind);
            let cut = settled(&text, kind, 0);
            let rest = format!("{}{tail}", &text[cut..]);
            let mut parts = tokenizer.encode_whole(&text[..cut]).unwrap();
            parts.extend(tokenizer.encode_whole(&rest).unwrap());
            let whole = tokenizer.encode_whole(&format!("{text}{tail}")).unwrap();
            prop_assert_eq!(parts, whole, "{} settled to {}", kind, cut);
        }
    }

    #[test]
    fn what_is_settled_is_found_without_looking_twice(text in hard_text(), tail in hard_text()) {
        let whole = format!("{text}{tail}");
        for kind in TokenizerKind::ALL {
            if settled(&text, kind, 0) == 0 {
                let again = settled(&whole, kind, text.len());
                prop_assert_eq!(again, settled(&whole, kind, 0), "{}", kind);
            }
        }
    }

    #[test]
    fn offsets_are_those_of_the_library_and_cover_the_text(text in hard_text()) {
        for kind in TokenizerKind::ALL {
            let tokenizer = cached(kind);
            let encoding = tokenizer.encode_with_offsets(&text).unwrap();
            prop_assert_eq!(&encoding.ids, &tokenizer.encode(&text).unwrap(), "{}", kind);
            let (ids, spans) = encode::library_spans(&tokenizer.inner, &text).unwrap();
            prop_assert_eq!(&encoding, &Encoding::new(&text, ids, &spans), "{}", kind);
            let mut covered = vec![false; text.len()];
            for Offsets { bytes, characters } in &encoding.offsets {
                // Slicing would panic at a byte within a character.
                let part = &text[bytes.clone()];
                prop_assert_eq!(part.chars().count(), characters.len());
                prop_assert_eq!(text[..bytes.start].chars().count(), characters.start);
                covered[bytes.clone()].fill(true);
            }
            for (at, character) in text.char_indices() {
                let dropped = match kind {
                    TokenizerKind::Word => character.is_whitespace() && character != '\n',
                    // It leaves out white space and control characters.
                    TokenizerKind::Wordpiece => !character.is_alphanumeric(),
                    _ => false,
                };
                prop_assert!(dropped || covered[at], "{} lacks {:?}", kind, character);
            }
        }
    }

    #[test]
    fn special_tokens_never_come_from_plain_text(text in marked_text()) {
        for kind in TokenizerKind::ALL {
            let (plain, special) = (cached(kind), cached_special(kind));
            prop_assert_eq!(&special.encode(&text).unwrap(), &plain.encode(&text).unwrap());
            let marked = special.encode_with_special_tokens(&text).unwrap();
            // As the library reads the file.
            let mut library = special.inner.clone();
            library.set_encode_special_tokens(false);
            let (ids, spans) = encode::library_spans(&library, &text).unwrap();
            prop_assert_eq!(&marked, &Encoding::new(&text, ids, &spans), "{}", kind);
            for (id, offsets) in marked.ids.iter().zip(&marked.offsets) {
                if let Some(name) = special.special_tokens().name(*id) {
                    prop_assert_eq!(&text[offsets.bytes.clone()], name);
                }
            }
            let names = special.special_tokens().iter().any(|(name, _)| text.contains(name));
            let found = marked.ids.iter().any(|&id| special.special_tokens().name(id).is_some());
            prop_assert_eq!(names, found);
        }
    }
}

/// Texts of everything that has led tokenisers apart: line ends, white space of all kinds,
/// apostrophes, combining marks, ideographs, emoji, control characters.
fn hard_text() -> impl Strategy<Value = String> {
    let parts = [
        "a",
        "b",
        "The",
        "cat",
        "s",
        "ll",
        "7",
        "42",
        ",",
        "!",
        "'",
        "'s",
        " ",
        " ",
        "  ",
        "\n",
        "\n",
        "\r\n",
        "\r\n\r\n",
        " \n",
        "\t",
        "\u{a0}",
        "\u{3000}",
        "\u{2028}",
        "\u{85}",
        "\u{b}",
        "é",
        "e\u{301}",
        "中",
        "文字",
        "。",
        "👨\u{200d}👩",
        "🇨🇳",
        "\u{1}",
        "\u{200b}",
        "\u{feff}",
        "▁",
        "㊙",
        "<eos>",
        "##",
        "½",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..24).prop_map(|v| v.concat())
}

/// Texts that spell special tokens, or nearly so.
fn marked_text() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["<mask>", "<mask", "<sep>", "<", ">", " ", ""]);
    let parts = prop::collection::vec((hard_text(), names), 0..4);
    parts.prop_map(|parts| parts.into_iter().map(|(text, name)| text + name).collect())
}

const SPECIAL: [&str; 3] = [SpecialTokens::MASK, SpecialTokens::SEPARATOR, "<mask>>"];

fn cached_special(kind: TokenizerKind) -> &'static Tokenizer {
    static ALL: std::sync::OnceLock<Vec<Tokenizer>> = std::sync::OnceLock::new();
    let special = |kind| cached(kind).with_special_tokens(&SPECIAL).unwrap();
    &ALL.get_or_init(|| TokenizerKind::ALL.map(special).into())[kind as usize]
}

#[test]
fn special_tokens_follow_the_vocabulary_and_stay_in_the_file() {
    for kind in TokenizerKind::ALL {
        let (plain, special) = (cached(kind), cached_special(kind));
        let first = plain.vocab_size() as u32;
        let named: Vec<_> = special.special_tokens().iter().collect();
        assert_eq!(named, SPECIAL.into_iter().zip(first..).collect::<Vec<_>>());
        assert_eq!(special.vocab_size(), plain.vocab_size() + 3);
        let json = special.to_json().unwrap();
        let again = Tokenizer::from_bytes(json.as_bytes(), "again").unwrap();
        assert!(again.own_layout && again.kind() == kind, "{kind}");
        assert_eq!(again.special_tokens(), special.special_tokens());
        assert_eq!(again.hash(), special.hash());
        assert_ne!(again.hash(), plain.hash());
        let ids = again.encode_with_special_tokens("The<mask>>cat<sep>").unwrap().ids;
        assert_eq!((ids[ids.len() - 1], ids.contains(&(first + 2))), (first + 1, true), "{kind}");
        let decoded = again.decode(&ids).unwrap();
        assert_eq!(decoded.replace(' ', ""), "The<mask>>cat<sep>", "{kind}");
        assert_eq!(decoded, again.inner.decode(&ids, false).unwrap(), "{kind}");
        for bad in ["", "<mask>", "a b", "中", "##a", "<0x41>", "a\n"] {
            assert!(special.with_special_tokens(&[bad]).is_err(), "{kind} {bad:?}");
        }
        assert!(plain.with_special_tokens(&["<a>", "<a>"]).is_err());
        let padded = plain.with_special_tokens(&[SpecialTokens::PADDING]).unwrap();
        assert_eq!(padded.padding_id(), Some(first));
    }
}

#[test]
fn special_tokens_of_a_foreign_file_are_read_where_asked_for() {
    let mut file: serde_json::Value =
        serde_json::from_str(&Tokenizer::byte().unwrap().to_json().unwrap()).unwrap();
    file["normalizer"] = serde_json::json!({"type": "NFC"});
    file["added_tokens"] = serde_json::json!([{"id": 256, "content": "<s>", "single_word": false,
        "lstrip": true, "rstrip": false, "normalized": false, "special": true}]);
    let tokenizer = Tokenizer::from_bytes(file.to_string().as_bytes(), "t.json").unwrap();
    assert!(!tokenizer.own_layout);
    assert_eq!(tokenizer.special_tokens().id("<s>"), Some(256));
    assert!(!tokenizer.encode("a <s>").unwrap().contains(&256));
    let marked = tokenizer.encode_with_special_tokens("é <s>").unwrap();
    assert_eq!(marked.ids, [0xc3, 0xa9, 256]);
    assert_eq!(marked.offsets[2], Offsets { bytes: 2..6, characters: 1..5 });
}

#[test]
fn offsets_count_bytes_and_characters() {
    let tokenizer = trained(TokenizerKind::Word);
    let encoding = tokenizer.encode_with_offsets("é The\ncat").unwrap();
    let places = encoding.offsets.iter().map(|o| (o.bytes.clone(), o.characters.clone()));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [(0..2, 0..1), (3..6, 2..5), (6..7, 5..6), (7..10, 6..9)]
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let long = SAMPLE.repeat(3000).replace("mat", "mat\r\n");
    for kind in TokenizerKind::ALL {
        let settings = |threads| TrainingSettings {
            kind,
            vocabulary: Some(500),
            threads: std::num::NonZeroUsize::new(threads),
        };
        let corpus = || std::iter::once(Ok(long.clone()));
        let one = Tokenizer::train_with(settings(1), corpus(), &mut |_| {}).unwrap();
        let three = Tokenizer::train_with(settings(3), corpus(), &mut |_| {}).unwrap();
        if kind == TokenizerKind::Unigram {
            // Its scores are sums of one part for each thread.
            let three = one.clone().with_threads(std::num::NonZeroUsize::new(3));
            assert_eq!(one.encode(&long).unwrap(), three.encode(&long).unwrap());
            continue;
        }
        assert_eq!(one.hash(), three.hash(), "{kind}");
        assert_eq!(one.encode(&long).unwrap(), three.encode(&long).unwrap(), "{kind}");
    }
}

#[test]
fn a_unigram_vocabulary_is_learnt_from_one_very_long_line() {
    let text = "牀前明月光疑是地上霜".repeat(3000);
    let tokenizer = trained_on(TokenizerKind::Unigram, Some(450), &text);
    let ids = tokenizer.encode(&text).unwrap();
    assert!(ids.len() < 30_000);
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
}

#[test]
fn long_texts_are_cut_whatever_their_line_ends() {
    let words = "a few words that make a line of text";
    for kind in TokenizerKind::ALL {
        for end in ["\n", "\r\n", " \n", "\n\n", "\r\n\r\n", " "] {
            let text = format!("{words}{end}").repeat(200);
            let longest = safe_chunks(&text, kind, 64).map(str::len).max().unwrap();
            assert!(longest < 128, "{kind} with {end:?}: {longest} bytes");
            assert!(settled(&text, kind, 0) > text.len() - 16, "{kind} with {end:?}");
            assert!(last_common_cut(&text).unwrap() > text.len() - 64, "{end:?}");
        }
    }
}

#[test]
fn the_first_token_has_its_bytes() {
    let bytes = |kind, text: &str| cached(kind).first_token_bytes(text).unwrap();
    assert_eq!(bytes(TokenizerKind::Byte, "éa"), 1);
    assert_eq!(bytes(TokenizerKind::Char, "éa"), 2);
    assert_eq!(bytes(TokenizerKind::Char, "é"), 2);
    assert_eq!(bytes(TokenizerKind::Word, "  The cat"), 6);
    assert_eq!(bytes(TokenizerKind::Word, &format!("{} cat", "x".repeat(40_000))), 40_001);
    assert_eq!(bytes(TokenizerKind::Bpe, ""), 0);
}

#[test]
fn unknown_tokens_are_counted() {
    let tokenizer = trained(TokenizerKind::Word);
    let ids = tokenizer.encode("The dog sat beside the cat").unwrap();
    assert_eq!(tokenizer.count_unknown(&ids), 2);
    assert_eq!(Tokenizer::byte().unwrap().count_unknown(&[0, 255]), 0);
}

#[test]
fn the_bytes_of_a_token_are_told_where_it_is_no_character() {
    assert_eq!(Tokenizer::byte().unwrap().token_bytes(0xc3), Some(vec![0xc3]));
    let bpe = cached_special(TokenizerKind::Bpe);
    let ids = bpe.encode("㊙").unwrap();
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| bpe.token_bytes(id).unwrap()).collect();
    assert_eq!(bytes, "㊙".as_bytes());
    assert_eq!(bpe.token_bytes(bpe.special_tokens().id("<sep>").unwrap()).unwrap(), b"<sep>");
    assert_eq!(trained(TokenizerKind::Char).token_bytes(0), None);
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

#[test]
fn the_bytes_of_tokens_are_what_a_decoder_writes() {
    let mut random = 7_u32;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    for kind in TokenizerKind::ALL {
        let tokenizer = trained(kind).with_special_tokens(&[SpecialTokens::MASK]).unwrap();
        let WrittenBytes { first, after, starts } = tokenizer.written_bytes();
        assert_eq!(first.len(), tokenizer.vocab_size());
        let special = tokenizer.vocab_size() - 1;
        let end = tokenizer.document_end_id().map(|id| id as usize);
        assert!([Some(special), end].into_iter().flatten().all(|id| first[id].is_empty()));
        let mut seen = 0;
        for _ in 0..200 {
            let (mut ids, mut bytes, mut is_first) = (Vec::new(), Vec::new(), true);
            for _ in 0..draw(12) {
                let id = draw(tokenizer.vocab_size());
                let written = match &after {
                    Some(after) if !is_first => &after[id],
                    _ => &first[id],
                };
                if !written.is_empty() {
                    ids.push(id as u32);
                    bytes.extend_from_slice(written);
                    is_first = starts.contains(&(id as u32));
                    seen += 1;
                }
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{kind} {ids:?}");
        }
        assert!(seen > 500, "{kind}");
    }
}
