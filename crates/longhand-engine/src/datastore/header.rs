//! `datastore.json`: what a datastore is and whose.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::index::{Index, Sizes};
use super::mixture::{MOST_NEIGHBOURS, Mixture};
use crate::datastore_error::{DatastoreError, VERSION};

/// The file of a datastore that says what the others are.
pub const DATASTORE_FILE: &str = "datastore.json";
pub(super) const INDEX_FILE: &str = "index.safetensors";
pub(super) const KEYS_FILE: &str = "keys.bin";
pub(super) const VALUES_FILE: &str = "values.bin";

/// The most bytes of a [`DATASTORE_FILE`].
const LARGEST: usize = 1 << 20;
/// The most entries: each has a number of 32 bits.
pub(super) const MOST_ENTRIES: u64 = u32::MAX as u64;
/// The widest hidden state, and the most lists.
const WIDEST: usize = 1 << 20;
const MOST_LISTS: usize = 1 << 24;

/// The model and the tokeniser that a datastore belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Hash of the model, see [`LanguageModel::hash`](crate::LanguageModel::hash).
    pub model: String,
    /// Hash of the tokeniser, in hexadecimal digits.
    pub tokenizer: String,
}

/// The facts about a datastore that its `datastore.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatastoreHeader {
    /// The format's version, [`VERSION`].
    pub version: u32,
    /// Hash of the model whose hidden states are the keys.
    pub model: String,
    /// Hash of the tokeniser whose tokens are the values.
    pub tokenizer: String,
    /// BLAKE3 hash of the entries in the order of the text.
    pub text: String,
    /// D: numbers in a hidden state.
    pub width: usize,
    /// N: entries, one for each token.
    pub entries: u64,
    /// C: lists that the entries are parted into.
    pub lists: usize,
    /// The mean of ‖k − c‖² over the keys, where c is the centroid of a key's list.
    pub spread: f64,
    /// How its votes are mixed with a model's probabilities where nothing else is said.
    pub mixture: Mixture,
    /// Whether λ and the temperature were found on held-out text.
    pub tuned: bool,
    /// Bytes and BLAKE3 hash of each other file, by name.
    pub files: BTreeMap<String, FileFacts>,
    /// BLAKE3 hash of this file with nothing in the place of this hash.
    pub checksum: String,
}

/// Length and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its BLAKE3 hash, in hexadecimal digits.
    pub blake3: String,
}

impl DatastoreHeader {
    /// Reads and checks a `datastore.json`; `path` is its name in errors.
    ///
    /// # Errors
    /// [`DatastoreError::Version`] for another version, [`DatastoreError::Damaged`] for a file that
    /// differs from what was written, [`DatastoreError::Form`] for sizes or settings that no
    /// datastore has, and for what is not JSON.
    pub fn from_json(path: &Path, bytes: &[u8]) -> Result<Self, DatastoreError> {
        let form = |what: String| DatastoreError::Form { path: path.into(), what };
        if bytes.len() > LARGEST {
            return Err(form(format!("it has {} bytes, more than any", bytes.len())));
        }
        // The version first: another one has other keys.
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } =
            serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
        if version != u64::from(VERSION) {
            return Err(DatastoreError::Version { path: path.into(), got: version });
        }
        let header: Self =
            serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
        // Compared as text, so that every byte of the file counts.
        if header.clone().to_json() != bytes {
            return Err(DatastoreError::Damaged(path.into()));
        }
        header.check().map_err(form)?;
        Ok(header)
    }

    /// As JSON, with its checksum filled in.
    pub fn to_json(mut self) -> Vec<u8> {
        // Plain data with string keys: serialising it cannot fail.
        let json = |header: &Self| serde_json::to_string_pretty(header).unwrap_or_default() + "\n";
        self.checksum = String::new();
        self.checksum = blake3::hash(json(&self).as_bytes()).to_hex().to_string();
        json(&self).into_bytes()
    }

    /// Refuses sizes that do not belong together.
    fn check(&self) -> Result<(), String> {
        let Self { width, entries, lists, mixture, .. } = self;
        if !(1..=WIDEST).contains(width) || !(1..=MOST_LISTS).contains(lists) {
            return Err(format!("it has {lists} lists of keys of width {width}"));
        }
        if !(1..=MOST_ENTRIES).contains(entries) || *lists as u64 > *entries {
            return Err(format!("it has {entries} entries in {lists} lists"));
        }
        if !self.spread.is_finite() || self.spread < 0.0 {
            return Err(format!("its spread is {}", self.spread));
        }
        mixture.check(*entries).map_err(|error| error.to_string())?;
        for (name, bytes) in [
            (KEYS_FILE, Some(entries * 2 * *width as u64)),
            (VALUES_FILE, Some(entries * 4)),
            (INDEX_FILE, None),
        ] {
            let facts = self.files.get(name).ok_or_else(|| format!("it does not name {name}"))?;
            if bytes.is_some_and(|bytes| bytes != facts.bytes) {
                return Err(format!("{name} has {} bytes for {entries} entries", facts.bytes));
            }
        }
        Ok(())
    }

    /// Checks the bytes of the `index.safetensors` that belongs to it; `path` is its name in errors.
    ///
    /// # Errors
    /// [`DatastoreError::Form`] for bytes that are no whole index of these sizes.
    pub fn check_index(&self, path: &Path, bytes: &[u8]) -> Result<(), DatastoreError> {
        Index::from_bytes(path, bytes, self.sizes()).map(|_| ())
    }

    /// Refuses another model or tokeniser than its own; `folder` is its name in errors.
    pub(super) fn check_owner(&self, folder: &Path, owner: &Owner) -> Result<(), DatastoreError> {
        let (got, expected, folder) = (self.model.clone(), owner.model.clone(), folder.into());
        if got != expected {
            return Err(DatastoreError::Model { folder, expected, got });
        }
        let (got, expected) = (self.tokenizer.clone(), owner.tokenizer.clone());
        match got == expected {
            true => Ok(()),
            false => Err(DatastoreError::Tokenizer { folder, expected, got }),
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes { lists: self.lists, width: self.width, entries: self.entries }
    }

    /// K where nothing is said: 256, or as many as there are.
    pub(super) fn usual_neighbours(entries: u64) -> usize {
        usize::try_from(entries).unwrap_or(usize::MAX).min(256).min(MOST_NEIGHBOURS)
    }
}
