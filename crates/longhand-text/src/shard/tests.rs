use super::*;
use crate::{Corpus, CorpusOptions, EncodeProgress, Spill, TokenizerKind, Tokens};

fn written(folder: &Path) -> PathBuf {
    let path = folder.join("tokens.shard");
    let mut writer = ShardWriter::create(&path, &Tokenizer::byte().unwrap()).unwrap();
    writer.start_document();
    writer.push(&[1, 2, 3]).unwrap();
    assert!(!path.exists());
    writer.start_document();
    writer.push(&[255]).unwrap();
    assert!(matches!(writer.push(&[256]), Err(TextError::TokenId { .. })));
    writer.finish("hash", 4, 2).unwrap();
    path
}

#[test]
fn a_shard_holds_what_memory_holds() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        let text = format!("{name} file of words, 中文\n\n").repeat(3000);
        fs_err::write(folder.path().join(name), text).unwrap();
    }
    fs_err::write(folder.path().join("blank"), "  ").unwrap();
    let corpus = Corpus::open(&[folder.path().to_owned()], CorpusOptions::default()).unwrap();
    for kind in [TokenizerKind::Byte, TokenizerKind::Word, TokenizerKind::Bpe] {
        let tokenizer = Tokenizer::train(kind, Some(300), corpus.texts(), &mut |_| {}).unwrap();
        let memory = Tokens::encode(&corpus, &tokenizer, &mut |_| {}).unwrap();
        // Nothing fits; some does, the rest spills.
        for most_in_memory in [0, memory.len() as usize / 2] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("within/tokens.shard");
            let spill = Spill { shard: &path, most_in_memory };
            let shard = Tokens::encode_or_spill(&corpus, &tokenizer, spill, &mut |_| {}).unwrap();
            same(&shard, &memory, kind);
            let header = validate(&fs_err::read(&path).unwrap()).unwrap();
            assert_eq!(header.tokenizer, tokenizer.hash());
            assert_eq!(header.count, memory.len());
        }
    }
}

fn same(shard: &Tokens, memory: &Tokens, kind: TokenizerKind) {
    assert!(shard.shard().is_some() && memory.shard().is_none());
    assert_eq!(shard.len(), memory.len());
    assert_eq!(shard.documents(), memory.documents(), "{kind}");
    let all = |tokens: &Tokens| {
        let mut ids = vec![0; tokens.len() as usize];
        tokens.copy(0, &mut ids).unwrap();
        ids
    };
    assert_eq!(all(shard), all(memory));
    let mut some = [0; 5];
    shard.copy(shard.len() - 5, &mut some).unwrap();
    assert_eq!(some, all(memory)[memory.len() as usize - 5..]);
    for tokens in [shard, memory] {
        for start in [tokens.len() - 4, u64::MAX - 2] {
            let error = tokens.copy(start, &mut some).unwrap_err();
            assert!(matches!(error, TextError::TokenRange { .. }));
        }
    }
}

#[test]
fn a_shard_is_used_again_for_the_same_text_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (text, shard) = (folder.path().join("a.txt"), folder.path().join("a.tokens"));
    let tokenizer = Tokenizer::byte().unwrap();
    let encode = |options: CorpusOptions| {
        let corpus = Corpus::open(std::slice::from_ref(&text), options).unwrap();
        let mut last = EncodeProgress::default();
        let spill = Spill { shard: &shard, most_in_memory: 10 };
        let mut progress = |progress| last = progress;
        let tokens = Tokens::encode_or_spill(&corpus, &tokenizer, spill, &mut progress).unwrap();
        let mut ids = vec![0; tokens.len() as usize];
        tokens.copy(0, &mut ids).unwrap();
        (tokenizer.decode(&ids).unwrap(), last.bytes)
    };
    fs_err::write(&text, "the first of two texts").unwrap();
    let first = encode(CorpusOptions::default());
    assert_eq!(first, ("the first of two texts".to_owned(), 22));
    let written = || fs_err::metadata(&shard).unwrap().modified().unwrap();
    let before = written();
    assert_eq!(encode(CorpusOptions::default()), first);
    assert_eq!(written(), before, "it is not written again");
    fs_err::write(&text, "another of their lengt").unwrap();
    assert_eq!(encode(CorpusOptions::default()).0, "another of their lengt");
    fs_err::write(&shard, "damaged").unwrap();
    assert_eq!(encode(CorpusOptions::default()).0, "another of their lengt");
    let mut bytes = fs_err::read(&shard).unwrap();
    bytes[DATA_OFFSET as usize] ^= 1;
    fs_err::write(&shard, bytes).unwrap();
    assert_eq!(encode(CorpusOptions::default()).0, "another of their lengt");
}

#[test]
fn bytes_are_scored_that_a_token_before_them_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    fs_err::write(&rows, "{\"text\":\"ab\"}\n".repeat(50)).unwrap();
    let shard = folder.path().join("rows.tokens");
    let corpus = Corpus::open(&[rows], CorpusOptions::default()).unwrap();
    let tokenizer = Tokenizer::byte().unwrap();
    for most_in_memory in [0, 1000] {
        let spill = Spill { shard: &shard, most_in_memory };
        for _ in 0..2 {
            let tokens = Tokens::encode_or_spill(&corpus, &tokenizer, spill, &mut |_| {}).unwrap();
            assert_eq!(tokens.scored_bytes(), Some(50));
            let counts = tokens.counts().unwrap();
            assert_eq!((counts[97], counts[99]), (50, 0));
        }
    }
    let text = Corpus::from_text("it", "The cat\nsat");
    let texts = text.texts();
    let words = Tokenizer::train(TokenizerKind::Word, None, texts, &mut |_| {}).unwrap();
    let tokens = Tokens::encode(&text, &words, &mut |_| {}).unwrap();
    assert_eq!(tokens.scored_bytes(), Some("cat\nsat".len() as u64));
    let unknown = Tokens::from_ids(vec![1, 2], vec![0], 3).unwrap();
    assert_eq!(unknown.scored_bytes(), None);
}

#[test]
fn wide_vocabularies_take_four_bytes() {
    assert_eq!(TokenType::for_vocabulary(1 << 16), TokenType::U16);
    assert_eq!(TokenType::for_vocabulary((1 << 16) + 1), TokenType::U32);
}

#[test]
fn hostile_shards_get_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs_err::read(written(folder.path())).unwrap();
    assert_eq!(validate(&good).unwrap().documents, 2);
    let path = folder.path().join("bad.shard");
    let check = |bytes: &[u8], expected: &str| {
        fs_err::write(&path, bytes).unwrap();
        let opened = Shard::open(&path).and_then(|shard| {
            shard.copy(0, &mut vec![0; shard.len() as usize])?;
            shard.verify()
        });
        for error in [opened.unwrap_err(), validate(bytes).unwrap_err()] {
            let message = error.to_string();
            assert!(message.contains(expected), "{message}");
        }
    };
    check(b"", "shorter than its header");
    check(&good[..100], "shorter than its header");
    check(&good[..good.len() - 1], "bytes, but 4 tokens and 2 documents need");
    check(&[&good[..], &[0]].concat(), "bytes, but 4 tokens");
    let mut bytes = good.clone();
    bytes[0] = b'X';
    check(&bytes, "does not begin as a shard does");
    bytes.clone_from(&good);
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    check(&bytes, "its header is longer");
    bytes[8..12].copy_from_slice(&3_u32.to_le_bytes());
    check(&bytes, "its header is wrong");
    for bit in 0..8 * (good.len() - DATA_OFFSET as usize) {
        bytes.clone_from(&good);
        bytes[DATA_OFFSET as usize + bit / 8] ^= 1 << (bit % 8);
        check(&bytes, "is not a usable token shard");
    }
    bytes.clone_from(&good);
    bytes[DATA_OFFSET as usize] ^= 1;
    check(&bytes, "it is damaged");
    let header = |edit: &dyn Fn(&mut ShardHeader)| {
        let mut header = validate(&good).unwrap();
        edit(&mut header);
        let json = serde_json::to_vec(&header).unwrap();
        let mut bytes = good.clone();
        bytes[8..12].copy_from_slice(&(json.len() as u32).to_le_bytes());
        bytes[12..12 + json.len()].copy_from_slice(&json);
        bytes
    };
    check(&header(&|header| header.version = 2), "its version is 2, but 3 is needed");
    check(&header(&|header| header.count = u64::MAX), "more than can be counted");
    check(&header(&|header| header.documents = 1 << 61), "more than can be counted");
    check(&header(&|header| header.count = 1 << 40), "1099511627776 tokens and");
    check(&header(&|header| header.vocabulary = 0), "vocabulary has 0 tokens");
    check(&header(&|header| header.vocabulary = 255), "id");
    let documents = DATA_OFFSET as usize + 8;
    bytes.clone_from(&good);
    bytes[documents] = 1;
    check(&bytes, "does not start at its first token");
    bytes.clone_from(&good);
    bytes[documents + 8] = 0;
    check(&bytes, "do not rise");
    bytes[documents + 8] = 4;
    check(&bytes, "starts beyond its last token");
}
