//! An n-gram model in a folder: its arrays in `ngram.safetensors`, with checksums, and their sizes
//! and settings in `ngram.json`.

use std::borrow::Cow;
use std::path::Path;

use longhand_model::{checksum, file};
use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::discount::Discounts;
use crate::error::NgramError;
use crate::model::{Level, Ngram};

/// The file that says what the model is.
pub const NGRAM_FILE: &str = "ngram.json";
/// The file of its arrays.
pub const WEIGHTS_FILE: &str = "ngram.safetensors";
/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// The largest vocabulary: a state holds ids as `f32`, exactly.
const MOST_TOKENS: usize = (1 << 24) - 2;

/// What is in [`NGRAM_FILE`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    /// N: the longest n-gram, in tokens.
    order: usize,
    /// V: the number of tokens of the vocabulary.
    vocab_size: usize,
    /// How many n-grams there are of each length.
    counts: Vec<usize>,
    /// What was taken from the counts of each length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    discounts: Vec<Discounts>,
}

/// An array of four-byte numbers, to be written.
enum Array<'a> {
    Words([usize; 1], &'a [u32]),
    Values([usize; 1], &'a [f32]),
}

impl Ngram {
    /// Whether a folder holds an n-gram model.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(NGRAM_FILE).is_file()
    }

    /// Reads a model folder.
    ///
    /// # Errors
    /// [`NgramError::Io`] for a missing file, [`NgramError::Damaged`] or [`NgramError::Form`] for one
    /// that is not as it was written.
    pub fn load(folder: &Path) -> Result<Self, NgramError> {
        let header = fs_err::read(folder.join(NGRAM_FILE))?;
        Self::from_bytes(&header, &fs_err::read(folder.join(WEIGHTS_FILE))?, folder)
    }

    /// A model from the bytes of both files, which are those of `folder`.
    ///
    /// # Errors
    /// The errors of [`Ngram::load`] for their contents.
    pub fn from_bytes(header: &[u8], weights: &[u8], folder: &Path) -> Result<Self, NgramError> {
        let form = |name: &str, reason| NgramError::Form { path: folder.join(name), reason };
        let header = parse(header).map_err(|reason| form(NGRAM_FILE, reason))?;
        let damaged = |source| NgramError::Damaged { path: folder.join(WEIGHTS_FILE), source };
        let arrays = checksum::from_bytes(weights).map_err(damaged)?;
        read(header, &arrays).map_err(|reason| form(WEIGHTS_FILE, reason))
    }

    /// Writes the files of the model into a folder that exists, each beside and renamed.
    ///
    /// # Errors
    /// [`NgramError::File`] if one cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), NgramError> {
        file::write(&folder.join(WEIGHTS_FILE), &self.weights())?;
        Ok(file::write(&folder.join(NGRAM_FILE), &self.header())?)
    }

    /// The bytes of [`NGRAM_FILE`].
    pub fn header(&self) -> Vec<u8> {
        let header = Header {
            version: VERSION,
            order: self.order(),
            vocab_size: self.vocabulary,
            counts: self.counts().collect(),
            discounts: self.discounts.clone(),
        };
        // Plain data with string keys: serialising it cannot fail.
        serde_json::to_vec_pretty(&header).unwrap_or_default()
    }

    /// The bytes of [`WEIGHTS_FILE`].
    pub fn weights(&self) -> Vec<u8> {
        let levels = self.levels.iter().enumerate().flat_map(|(k, level)| {
            let Level { words, log_probabilities, backoffs, children } = level;
            let arrays = [
                (LOG_PROBABILITIES, Array::Values([log_probabilities.len()], log_probabilities)),
                (WORDS, Array::Words([words.len()], words)),
                (BACKOFFS, Array::Values([backoffs.len()], backoffs)),
                (CHILDREN, Array::Words([children.len()], children)),
            ];
            let filled = arrays.into_iter().filter(|(_, array)| array.data_len() > 0);
            filled.map(move |(name, array)| (key(k, name), array))
        });
        checksum::to_bytes(levels, [])
    }

    /// The hash of both files. Models with equal hashes give the same probabilities.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.header());
        hasher.update(&self.weights());
        hasher.finalize().to_hex().to_string()
    }
}

const WORDS: &str = "words";
const LOG_PROBABILITIES: &str = "log_probabilities";
const BACKOFFS: &str = "backoffs";
const CHILDREN: &str = "children";

/// The name of an array, as `2.words` of the n-grams of two words.
fn key(k: usize, name: &str) -> String {
    format!("{}.{name}", k + 1)
}

fn parse(json: &[u8]) -> Result<Header, String> {
    let header: Header = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let Header { version, order, vocab_size, counts, discounts } = &header;
    let checks = [
        (*version == VERSION, "its version is not 1"),
        (*order > 0, "its order is 0"),
        ((1..=MOST_TOKENS).contains(vocab_size), "its vocabulary is empty or too large"),
        (counts.len() == *order, "its counts are not those of its order"),
        (counts.iter().all(|&count| count <= u32::MAX as usize), "one of its counts is too large"),
        (counts.first() == Some(&(vocab_size + 1)), "its first count is not V + 1"),
        (discounts.is_empty() || discounts.len() == *order, "its discounts are not of its order"),
    ];
    match checks.iter().find(|check| !check.0) {
        Some((_, reason)) => Err((*reason).into()),
        None => Ok(header),
    }
}

/// A model of arrays, all of whose numbers a look-up can trust.
fn read(header: Header, arrays: &SafeTensors) -> Result<Ngram, String> {
    let Header { order, vocab_size, counts, discounts, .. } = header;
    let mut levels = Vec::with_capacity(order);
    for k in 0..order {
        let mut level = Level {
            log_probabilities: values(arrays, &key(k, LOG_PROBABILITIES), counts[k])?,
            ..Level::default()
        };
        if k > 0 {
            level.words = words(arrays, &key(k, WORDS), counts[k])?;
        }
        if k + 1 < order {
            level.backoffs = values(arrays, &key(k, BACKOFFS), counts[k])?;
            level.children = words(arrays, &key(k, CHILDREN), counts[k] + 1)?;
            let ends = [level.children[0] as usize, level.children[counts[k]] as usize];
            let rising = level.children.is_sorted();
            if !rising || ends != [0, counts[k + 1]] {
                return Err(format!("`{}` does not fit", key(k, CHILDREN)));
            }
        }
        levels.push(level);
    }
    let model = Ngram { vocabulary: vocab_size, levels, discounts };
    for k in 1..order {
        let siblings = model.levels[k - 1].children.windows(2);
        let words = &model.levels[k].words;
        let sorted = |range: &[u32]| {
            let siblings = &words[range[0] as usize..range[1] as usize];
            siblings.is_sorted_by(|a, b| a < b)
                && siblings.last().is_none_or(|&word| (word as usize) < vocab_size)
        };
        if !siblings.into_iter().all(sorted) {
            return Err(format!("`{}` is not sorted", key(k, WORDS)));
        }
    }
    Ok(model)
}

/// The bytes of an array of `count` numbers.
fn bytes<'a>(
    arrays: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    count: usize,
) -> Result<&'a [[u8; 4]], String> {
    if count == 0 {
        // Empty arrays are left out.
        return Ok(&[]);
    }
    let array = arrays.tensor(name).map_err(|_| format!("`{name}` is missing"))?;
    if array.dtype() != dtype || array.shape() != [count] {
        return Err(format!("`{name}` has another form than {NGRAM_FILE} says"));
    }
    Ok(array.data().as_chunks::<4>().0)
}

fn words(arrays: &SafeTensors, name: &str, count: usize) -> Result<Vec<u32>, String> {
    let bytes = bytes(arrays, name, Dtype::U32, count)?;
    Ok(bytes.iter().map(|&word| u32::from_le_bytes(word)).collect())
}

fn values(arrays: &SafeTensors, name: &str, count: usize) -> Result<Vec<f32>, String> {
    let bytes = bytes(arrays, name, Dtype::F32, count)?;
    let values: Vec<f32> = bytes.iter().map(|&word| f32::from_le_bytes(word)).collect();
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(format!("`{name}` holds a value that is not finite")),
    }
}

impl View for Array<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Array::Words(..) => Dtype::U32,
            Array::Values(..) => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Array::Words(shape, _) | Array::Values(shape, _) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self {
            Array::Words(_, words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Array::Values(_, values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        4 * self.shape()[0]
    }
}
