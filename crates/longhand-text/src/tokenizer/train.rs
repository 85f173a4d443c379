//! Vocabularies from a corpus.
//!
//! Each kind counts its units in one pass over the corpus and then builds a vocabulary from the
//! counts alone, in an order that does not depend on hashing: the same corpus gives the same file.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::num::NonZeroUsize;

use ahash::AHashMap;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString,
    PreTokenizer,
};

use super::cuts::safe_chunks;
use super::fault::TrainingFault;
use super::kind::{END, TokenizerKind, UNKNOWN};
use super::layout::{self, byte_characters, characters_model, words_model};
use super::model::Tokenizer;
use super::pattern::pre_tokens;
use super::workers::Workers;
use crate::error::TextError;

/// The settings of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingSettings {
    /// The kind of tokeniser.
    pub kind: TokenizerKind,
    /// The most tokens. `byte` ignores it. Without it `char` and `word` keep all units, and the
    /// other kinds take [`Tokenizer::DEFAULT_VOCABULARY`].
    pub vocabulary: Option<usize>,
    /// The most threads that training and the tokeniser use; one for each core where not given.
    pub threads: Option<NonZeroUsize>,
}

/// How far training a tokeniser has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingProgress {
    /// The stage of the training.
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
    /// The vocabulary is built.
    Done,
}

impl Tokenizer {
    /// Tokens of a trained `bpe`, `wordpiece` or `unigram` vocabulary where no number is given.
    pub const DEFAULT_VOCABULARY: usize = 8192;

    /// Trains a tokeniser of a kind on a corpus given piece by piece, on
    /// all cores. See [`Tokenizer::train_with`].
    ///
    /// # Errors
    /// The errors of [`Tokenizer::train_with`] for this corpus.
    pub fn train(
        kind: TokenizerKind,
        vocabulary: Option<usize>,
        corpus: impl Iterator<Item = Result<String, TextError>>,
        progress: &mut dyn FnMut(TrainingProgress),
    ) -> Result<Self, TextError> {
        let settings = TrainingSettings { kind, vocabulary, threads: None };
        Self::train_with(settings, corpus, progress)
    }

    /// Trains a tokeniser on a corpus given piece by piece. The same corpus gives the same
    /// tokeniser on any number of threads, except for `unigram`: its scores are sums of one part
    /// for each thread, and their last digits depend on the number. `unigram` looks at the first
    /// 4 MiB of distinct words and lines.
    ///
    /// # Errors
    /// [`TextError::Training`] for an empty corpus or a vocabulary too small for the kind, and any
    /// error of the corpus.
    pub fn train_with(
        settings: TrainingSettings,
        corpus: impl Iterator<Item = Result<String, TextError>>,
        progress: &mut dyn FnMut(TrainingProgress),
    ) -> Result<Self, TextError> {
        let kind = settings.kind;
        let workers = Workers::new(settings.threads);
        let json = trained(settings, &workers, corpus, progress)?;
        let mut tokenizer = Self::from_bytes(json.to_string().as_bytes(), kind.name())?;
        tokenizer.workers = workers;
        Ok(tokenizer)
    }

    /// The tokeniser of the 256 bytes, which needs no training.
    ///
    /// # Errors
    /// None that is known: the library reads its file.
    pub fn byte() -> Result<Self, TextError> {
        Self::train(TokenizerKind::Byte, None, std::iter::empty(), &mut |_| {})
    }
}

/// The content of the `tokenizer.json` of a trained tokeniser.
fn trained(
    settings: TrainingSettings,
    workers: &Workers,
    corpus: impl Iterator<Item = Result<String, TextError>>,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<Value, TextError> {
    let TrainingSettings { kind, vocabulary, .. } = settings;
    if kind == TokenizerKind::Byte {
        let vocabulary = numbered(byte_characters().iter().map(char::to_string));
        return Ok(layout::file(kind, characters_model(vocabulary, None)));
    }
    let fail = |fault: TrainingFault| TextError::Training { kind: kind.name(), fault };
    let size = checked_size(kind, vocabulary).map_err(fail)?;
    let mut report = TrainingProgress { stage: TrainingStage::Counting, bytes: 0, units: 0 };
    let counts = count(kind, workers, corpus, &mut |bytes, units| {
        report.bytes = bytes;
        report.units = units;
        progress(report);
    })?;
    if counts.is_empty() {
        return Err(fail(TrainingFault::NoText));
    }
    report.stage = TrainingStage::Building;
    progress(report);
    // The library's trainers have parallel loops of their own.
    let model = workers.install(|| match kind {
        TokenizerKind::Byte => Ok(Value::Null),
        TokenizerKind::Char => Ok(characters(counts, size)),
        TokenizerKind::Word => Ok(words(counts, size)),
        TokenizerKind::Bpe => bpe(counts, size),
        TokenizerKind::Wordpiece => wordpiece(counts, size),
        TokenizerKind::Unigram => unigram(counts, size),
    });
    let model = model.map_err(fail)?;
    report.stage = TrainingStage::Done;
    progress(report);
    Ok(layout::file(kind, model))
}

/// The vocabulary that a kind is trained to.
fn checked_size(kind: TokenizerKind, vocabulary: Option<usize>) -> Result<usize, TrainingFault> {
    let size = vocabulary.unwrap_or(match kind {
        TokenizerKind::Char | TokenizerKind::Word => usize::MAX,
        _ => Tokenizer::DEFAULT_VOCABULARY,
    });
    let least = least_vocabulary(kind);
    if size < least {
        return Err(TrainingFault::TooSmall { size, least });
    }
    if vocabulary.is_some() && size > LARGEST_VOCABULARY {
        return Err(TrainingFault::TooLarge { size, most: LARGEST_VOCABULARY });
    }
    Ok(size)
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
/// aside for every token that it is asked for.
const LARGEST_VOCABULARY: usize = 1 << 20;

/// Distinct text that `unigram` looks at: each of its expectation steps walks through all of it,
/// and Chinese, whose lines hardly repeat, took 97 seconds for 11.7 MB on two cores (LOG.md, "How
/// much text the unigram tokeniser looks at").
const UNIGRAM_BYTES: usize = 4 << 20;

/// Frequent substrings that `unigram` starts from, for each piece that it ends with. The library's
/// own million takes half as long again and led to the same number of tokens on WikiText-2
/// (same entry of LOG.md).
const UNIGRAM_SEEDS: usize = 10;

/// Bytes of the longest line that `unigram` looks at as a whole. The library's trainer takes memory
/// for every substring of a line, and gives up on very long ones.
const LONGEST_SENTENCE: usize = 4096;

/// Bytes of text that one thread counts at a time.
const CHUNK: usize = 1 << 17;

fn count(
    kind: TokenizerKind,
    workers: &Workers,
    corpus: impl Iterator<Item = Result<String, TextError>>,
    report: &mut dyn FnMut(u64, usize),
) -> Result<Counts, TextError> {
    let most = if kind == TokenizerKind::Unigram { UNIGRAM_BYTES } else { usize::MAX };
    let fail = |fault| TextError::Training { kind: kind.name(), fault };
    let splitter = Splitter::new(kind).map_err(fail)?;
    let mut units = Units::default();
    let mut bytes = 0_u64;
    for piece in corpus {
        let piece = piece?;
        let chunks: Vec<&str> = safe_chunks(&piece, kind, CHUNK).collect();
        let counted = workers.map(&chunks, |chunk| {
            let mut units = Units::default();
            splitter.each(chunk, &mut |unit| units.add(unit, 1, usize::MAX))?;
            Ok(units)
        });
        // In the order of the text, so that the threads do not decide which units are kept.
        for chunk in counted {
            let chunk: Units = chunk.map_err(fail)?;
            for (unit, count) in &chunk.counts {
                units.add(unit, *count, most);
            }
        }
        bytes += piece.len() as u64;
        report(bytes, units.counts.len());
    }
    let counts = units.counts.into_iter();
    Ok(match kind {
        // Pieces of the byte-level kinds are written in the characters that represent bytes.
        TokenizerKind::Bpe => {
            let characters = byte_characters();
            let written = |unit: &str| unit.bytes().map(|byte| characters[byte as usize]).collect();
            counts.map(|(unit, count)| (written(&unit), count)).collect()
        }
        _ => counts.collect(),
    })
}

/// Units with their numbers of occurrences, in the order in which they came first.
#[derive(Default)]
struct Units {
    places: AHashMap<String, usize>,
    counts: Vec<(String, u64)>,
    bytes: usize,
}

impl Units {
    /// Counts a unit; a new one only while the units have fewer than `most` bytes.
    fn add(&mut self, unit: &str, count: u64, most: usize) {
        if let Some(&place) = self.places.get(unit) {
            self.counts[place].1 += count;
        } else if self.bytes < most {
            self.bytes += unit.len();
            self.places.insert(unit.to_owned(), self.counts.len());
            self.counts.push((unit.to_owned(), count));
        }
    }
}

/// Parts a text into the units of a kind, as an encoder will.
enum Splitter {
    Characters,
    Words,
    Pattern,
    /// The library's normaliser and pre-tokeniser.
    Library(Box<tokenizers::Tokenizer>),
}

impl Splitter {
    fn new(kind: TokenizerKind) -> Result<Self, TrainingFault> {
        Ok(match kind {
            TokenizerKind::Byte | TokenizerKind::Char => Self::Characters,
            TokenizerKind::Word => Self::Words,
            TokenizerKind::Bpe => Self::Pattern,
            TokenizerKind::Wordpiece | TokenizerKind::Unigram => {
                let frame = layout::file(kind, characters_model(json!({}), None)).to_string();
                let frame = tokenizers::Tokenizer::from_bytes(frame.as_bytes()).map_err(library)?;
                Self::Library(Box::new(frame))
            }
        })
    }

    fn each(&self, text: &str, add: &mut impl FnMut(&str)) -> Result<(), TrainingFault> {
        match self {
            Self::Characters => {
                let mut buffer = [0; 4];
                text.chars().for_each(|character| add(character.encode_utf8(&mut buffer)));
            }
            Self::Words => text.split_whitespace().for_each(add),
            Self::Pattern => pre_tokens(text).for_each(add),
            Self::Library(frame) => {
                let mut normalized = NormalizedString::from(text);
                if let Some(normalizer) = frame.get_normalizer() {
                    normalizer.normalize(&mut normalized).map_err(library)?;
                }
                let mut pieces = PreTokenizedString::from(normalized);
                if let Some(pre_tokenizer) = frame.get_pre_tokenizer() {
                    pre_tokenizer.pre_tokenize(&mut pieces).map_err(library)?;
                }
                let pieces = pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
                let pieces = pieces.into_iter().map(|(piece, _, _)| piece);
                pieces.filter(|piece| !piece.is_empty()).for_each(add);
            }
        }
        Ok(())
    }
}

fn library(error: tokenizers::Error) -> TrainingFault {
    TrainingFault::Library(error.to_string())
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

fn bpe(counts: Counts, size: usize) -> Result<Value, TrainingFault> {
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(byte_characters().into())
        .build();
    let mut model = BPE::default();
    let counts = counts.into_iter().map(|(word, count)| (word.into(), count)).collect();
    trainer.do_train(&counts, &mut model).map_err(library)?;
    model_json(&model)
}

fn wordpiece(counts: Counts, size: usize) -> Result<Value, TrainingFault> {
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
    trainer.do_train(&counts, &mut model).map_err(library)?;
    let mut model = WordPiece::from_bpe(&model);
    model.unk_token = UNKNOWN.into();
    model.continuing_subword_prefix = "##".into();
    model_json(&model)
}

fn unigram(counts: Counts, size: usize) -> Result<Value, TrainingFault> {
    let ascii = || (' '..='~').chain(['\n']).map(|c| if c == ' ' { '▁' } else { c });
    let pieces = size - 258;
    // A quarter of the vocabulary is left for longer pieces.
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
            let mut rest = part;
            while !rest.is_empty() {
                let (start, end) = rest.split_at(rest.floor_char_boundary(LONGEST_SENTENCE));
                *sentences.entry(start.to_owned()).or_default() += count;
                rest = end;
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
        .map_err(|error| TrainingFault::Library(error.to_string()))?;
    let mut model = Unigram::default();
    trainer.do_train(sentences, &mut model).map_err(library)?;
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

fn model_json(model: &impl serde::Serialize) -> Result<Value, TrainingFault> {
    serde_json::to_value(model).map_err(|error| TrainingFault::Library(error.to_string()))
}

fn numbered(tokens: impl Iterator<Item = String>) -> Value {
    Value::Object(tokens.zip(0_u32..).map(|(token, id)| (token, id.into())).collect())
}
