//! Vocabularies from a corpus.
//!
//! Each kind counts its units in one pass over the corpus and then builds a vocabulary from the
//! counts alone, in an order that does not depend on hashing: the same corpus gives the same file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer,
};

use super::layout::{self, byte_characters, characters_model, words_model};
use super::{END, Tokenizer, TokenizerKind, UNKNOWN};
use crate::TextError;

/// What training a tokeniser is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingProgress {
    /// The stage.
    pub stage: TrainingStage,
    /// Bytes of text read so far.
    pub bytes: u64,
    /// Distinct units (characters, words, lines) seen so far.
    pub units: usize,
}

/// The stages of training a tokeniser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingStage {
    /// Reading the corpus and counting.
    Counting,
    /// Building the vocabulary from the counts.
    Building,
    /// Done.
    Done,
}

/// Trains a kind and gives the content of its `tokenizer.json`.
pub(super) fn train(
    kind: TokenizerKind,
    vocabulary: Option<usize>,
    corpus: impl Iterator<Item = Result<String, TextError>>,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<Value, TextError> {
    if kind == TokenizerKind::Byte {
        let vocabulary = numbered(byte_characters().iter().map(char::to_string));
        return Ok(layout::file(kind, characters_model(vocabulary, None)));
    }
    let size = vocabulary.unwrap_or(match kind {
        TokenizerKind::Char | TokenizerKind::Word => usize::MAX,
        _ => Tokenizer::DEFAULT_VOCABULARY,
    });
    let fail = |reason: String| TextError::Training { kind, reason };
    let least = least_vocabulary(kind);
    if size < least {
        return Err(fail(format!(
            "a vocabulary of {size} is too small, it needs at least {least}"
        )));
    }
    if vocabulary.is_some() && size > LARGEST_VOCABULARY {
        return Err(fail(format!(
            "a vocabulary of {size} is too large, it may have at most {LARGEST_VOCABULARY}"
        )));
    }
    let mut report = TrainingProgress { stage: TrainingStage::Counting, bytes: 0, units: 0 };
    let counts = count(kind, corpus, &mut |bytes, units| {
        report.bytes = bytes;
        report.units = units;
        progress(report);
    })?;
    if counts.is_empty() {
        return Err(fail("the corpus holds no text".into()));
    }
    report.stage = TrainingStage::Building;
    progress(report);
    let model = match kind {
        TokenizerKind::Byte => Ok(Value::Null),
        TokenizerKind::Char => Ok(characters(counts, size)),
        TokenizerKind::Word => Ok(words(counts, size)),
        TokenizerKind::Bpe => bpe(counts, size),
        TokenizerKind::Wordpiece => wordpiece(counts, size),
        TokenizerKind::Unigram => unigram(counts, size),
    }
    .map_err(fail)?;
    report.stage = TrainingStage::Done;
    progress(report);
    Ok(layout::file(kind, model))
}

/// Units with their numbers of occurrences, in the units' order.
type Counts = BTreeMap<String, u64>;

/// The smallest vocabulary that a kind can be trained to.
pub(super) fn least_vocabulary(kind: TokenizerKind) -> usize {
    match kind {
        TokenizerKind::Byte => 256,
        TokenizerKind::Char => 2,
        TokenizerKind::Word => 3,
        TokenizerKind::Bpe => 257,
        TokenizerKind::Wordpiece => 16,
        // Two special tokens, 256 bytes, the printable ASCII characters and some room.
        TokenizerKind::Unigram => 400,
    }
}

/// The largest vocabulary that is trained to: that of the largest model. The library sets memory
/// aside for as many tokens as it is asked for.
const LARGEST_VOCABULARY: usize = 1 << 20;

/// Distinct text that `unigram` looks at: each of its expectation steps walks through all of it,
/// and Chinese, whose lines hardly repeat, took 97 seconds for 11.7 MB on two cores (LOG.md, "How
/// much text the unigram tokeniser looks at").
const UNIGRAM_BYTES: usize = 4 << 20;

/// Frequent substrings that `unigram` starts from, for each piece that it ends with. The library's
/// own million takes half as long again and led to the same number of tokens on WikiText-2 (LOG.md,
/// as above).
const UNIGRAM_SEEDS: usize = 10;

fn count(
    kind: TokenizerKind,
    corpus: impl Iterator<Item = Result<String, TextError>>,
    report: &mut dyn FnMut(u64, usize),
) -> Result<Counts, TextError> {
    let mut units = Units::default();
    let distinct_bytes = if kind == TokenizerKind::Unigram { UNIGRAM_BYTES } else { usize::MAX };
    let pre_tokens = PreTokens::new(kind)?;
    let mut bytes = 0_u64;
    for piece in corpus {
        let piece = piece?;
        match kind {
            TokenizerKind::Byte => {}
            TokenizerKind::Char => units.add_characters(&piece),
            TokenizerKind::Word => {
                piece.split_whitespace().for_each(|word| units.add(word, distinct_bytes));
            }
            TokenizerKind::Bpe | TokenizerKind::Wordpiece | TokenizerKind::Unigram => {
                for chunk in super::safe_chunks(&piece, kind, 1 << 16) {
                    pre_tokens.each(chunk, &mut |unit| units.add(unit, distinct_bytes))?;
                }
            }
        }
        bytes += piece.len() as u64;
        report(bytes, units.len());
    }
    Ok(units.into_counts())
}

/// What has been counted. Characters have a table of their own, which is faster.
#[derive(Default)]
struct Units {
    strings: HashMap<String, u64>,
    string_bytes: usize,
    characters: HashMap<char, u64>,
}

impl Units {
    /// Counts a string; a new one only while the strings have fewer than `most` bytes.
    fn add(&mut self, unit: &str, most: usize) {
        if let Some(count) = self.strings.get_mut(unit) {
            *count += 1;
        } else if self.string_bytes < most {
            self.string_bytes += unit.len();
            self.strings.insert(unit.to_owned(), 1);
        }
    }

    fn add_characters(&mut self, text: &str) {
        for character in text.chars() {
            *self.characters.entry(character).or_default() += 1;
        }
    }

    fn len(&self) -> usize {
        self.strings.len() + self.characters.len()
    }

    fn into_counts(self) -> Counts {
        let characters = self.characters.into_iter();
        let characters = characters.map(|(character, count)| (character.to_string(), count));
        self.strings.into_iter().chain(characters).collect()
    }
}

/// The library's normaliser and pre-tokeniser of a kind, as an encoder will apply them.
struct PreTokens {
    frame: tokenizers::Tokenizer,
    kind: TokenizerKind,
}

impl PreTokens {
    fn new(kind: TokenizerKind) -> Result<Self, TextError> {
        let model = characters_model(json!({}), None);
        let frame = layout::file(kind, model).to_string();
        let frame = tokenizers::Tokenizer::from_bytes(frame.as_bytes())
            .map_err(|error| TextError::Training { kind, reason: error.to_string() })?;
        Ok(Self { frame, kind })
    }

    fn each(&self, text: &str, add: &mut impl FnMut(&str)) -> Result<(), TextError> {
        let fail = |error: tokenizers::Error| TextError::Training {
            kind: self.kind,
            reason: error.to_string(),
        };
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = self.frame.get_normalizer() {
            normalizer.normalize(&mut normalized).map_err(fail)?;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = self.frame.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(fail)?;
        }
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if !piece.is_empty() {
                add(piece);
            }
        }
        Ok(())
    }
}

/// Characters by code point, the most frequent where there are too many, then `<unk>`.
fn characters(counts: Counts, size: usize) -> Value {
    let kept = most_frequent(counts, size - 1);
    let mut kept: Vec<String> = kept.into_iter().map(|(character, _)| character).collect();
    kept.sort_unstable();
    let vocabulary = numbered(kept.into_iter().chain([UNKNOWN.to_owned()]));
    characters_model(vocabulary, Some(UNKNOWN))
}

/// `<unk>`, `<eos>`, then words from the most frequent on.
fn words(mut counts: Counts, size: usize) -> Value {
    counts.remove(UNKNOWN);
    counts.remove(END);
    let kept = most_frequent(counts, size - 2).into_iter().map(|(word, _)| word);
    words_model(numbered([UNKNOWN.to_owned(), END.to_owned()].into_iter().chain(kept)))
}

fn bpe(counts: Counts, size: usize) -> Result<Value, String> {
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(byte_characters().into())
        .build();
    let mut model = BPE::default();
    let counts = counts.into_iter().map(|(word, count)| (word.into(), count)).collect();
    trainer.do_train(&counts, &mut model).map_err(|error| error.to_string())?;
    model_json(&model)
}

fn wordpiece(counts: Counts, size: usize) -> Result<Value, String> {
    // A quarter of the vocabulary is left for pieces of several characters. The trainer takes each
    // character as the beginning of a word, and those within words as `##` pieces too.
    let within: HashSet<char> = counts.keys().flat_map(|word| word.chars().skip(1)).collect();
    let mut room = size * 3 / 4 - 2;
    let alphabet: HashSet<char> = by_frequency(&counts)
        .map_while(|character| {
            room = room.checked_sub(1 + usize::from(within.contains(&character)))?;
            Some(character)
        })
        .collect();
    let counts: Counts = counts
        .into_iter()
        .filter(|(word, _)| word.chars().all(|character| alphabet.contains(&character)))
        .collect();
    let continued: BTreeSet<char> = counts.keys().flat_map(|word| word.chars().skip(1)).collect();
    // The trainer would number the continued characters in the order of a hash map; given as
    // special tokens they come first and in order.
    let special = [UNKNOWN.to_owned(), END.to_owned()]
        .into_iter()
        .chain(continued.into_iter().map(|character| format!("##{character}")))
        .map(|token| AddedToken::from(token, true))
        .collect();
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .special_tokens(special)
        .continuing_subword_prefix("##".into())
        .build();
    let mut model = BPE::default();
    let counts = counts.into_iter().map(|(word, count)| (word.into(), count)).collect();
    trainer.do_train(&counts, &mut model).map_err(|error| error.to_string())?;
    let mut model = WordPiece::from_bpe(&model);
    model.unk_token = UNKNOWN.into();
    model.continuing_subword_prefix = "##".into();
    model_json(&model)
}

fn unigram(counts: Counts, size: usize) -> Result<Value, String> {
    let ascii = || (' '..='~').chain(['\n']).map(|c| if c == ' ' { '▁' } else { c });
    let pieces = size - 258;
    // As many characters are kept for sure as leave a quarter to longer pieces.
    let mut alphabet: HashSet<char> = ascii().collect();
    for character in by_frequency(&counts) {
        if alphabet.len() >= pieces * 3 / 4 {
            break;
        }
        alphabet.insert(character);
    }
    // Lines are cut at rare characters, which byte fallback spells.
    let mut sentences = Counts::new();
    for (line, count) in counts {
        for part in line.split(|character| !alphabet.contains(&character)) {
            if !part.is_empty() {
                *sentences.entry(part.to_owned()).or_default() += count;
            }
        }
    }
    // The trainer sums the counts in 32 bits.
    let total: u64 = sentences.values().sum();
    let scale = total.div_ceil(u64::from(u32::MAX) / 2).max(1);
    let sentences =
        sentences.into_iter().map(|(part, count)| (part, count.div_ceil(scale) as u32)).collect();
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(pieces as u32)
        .seed_size(pieces.saturating_mul(UNIGRAM_SEEDS))
        .initial_alphabet(ascii().collect())
        .build()
        .map_err(|error| error.to_string())?;
    let mut model = Unigram::default();
    trainer.do_train(sentences, &mut model).map_err(|error| error.to_string())?;
    let mut pieces: Vec<(String, f64)> =
        model.iter().filter(|(piece, _)| piece != UNKNOWN).cloned().collect();
    settle_scores(&mut pieces);
    // Control pieces and bytes score so low that a text spelling one of them is never read as it.
    let special = [UNKNOWN, END].map(|token| (token.to_owned(), CONTROL_SCORE));
    let bytes = (0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), CONTROL_SCORE));
    let vocabulary: Vec<(String, f64)> = special.into_iter().chain(bytes).chain(pieces).collect();
    Ok(json!({"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": true}))
}

/// Far below any log-probability of a piece, and still exact when added to some.
const CONTROL_SCORE: f64 = -1e6;

/// The trainer gives the characters that it must keep, but found too rare, a ladder of lowest
/// scores in the order of a hash set. Put the ladder in the characters' order, and the pieces in
/// the order of their scores.
fn settle_scores(pieces: &mut [(String, f64)]) {
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let ladder_end = lowest + 1e-4 * (pieces.len() as f64 + 1.0);
    let mut ladder: Vec<&mut (String, f64)> = pieces
        .iter_mut()
        .filter(|(piece, score)| *score <= ladder_end && piece.chars().count() == 1)
        .collect();
    let mut scores: Vec<f64> = ladder.iter().map(|piece| piece.1).collect();
    scores.sort_unstable_by(|left, right| right.total_cmp(left));
    ladder.sort_unstable_by(|left, right| left.0.cmp(&right.0));
    for (piece, score) in ladder.into_iter().zip(scores) {
        piece.1 = score;
    }
    for (_, score) in pieces.iter_mut() {
        *score = (*score * 1e6).round() / 1e6;
    }
    pieces.sort_unstable_by(|left, right| {
        right.1.total_cmp(&left.1).then_with(|| left.0.cmp(&right.0))
    });
}

/// The most frequent units, from the most frequent on; those of equal count in their own order.
fn most_frequent(counts: Counts, limit: usize) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(limit);
    counts
}

/// The characters of units, from the most frequent on.
fn by_frequency(counts: &Counts) -> impl Iterator<Item = char> + use<> {
    let mut characters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in counts {
        for character in word.chars() {
            *characters.entry(character).or_default() += count;
        }
    }
    let mut characters: Vec<_> = characters.into_iter().collect();
    characters.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    characters.into_iter().map(|(character, _)| character)
}

fn model_json(model: &impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(model).map_err(|error| error.to_string())
}

fn numbered(tokens: impl Iterator<Item = String>) -> Value {
    Value::Object(tokens.zip(0_u32..).map(|(token, id)| (token, id.into())).collect())
}
