//! Sources to text documents, piece by piece.
//!
//! A [`Corpus`] is a list of files, folders or the standard input. It is read as often as needed,
//! never whole: each [`Piece`] is a few megabytes, cut where the tokens of the parts are the
//! tokens of the whole.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::TextError;

mod appended;
pub mod conll;
pub mod dialogues;
mod example;
pub(crate) mod fault;
mod format;
mod further;
mod json;
mod options;
pub mod parallel;
mod parquet;
mod piece_sample;
mod pieces;
pub mod questions;
mod rows;
mod separated;
mod source;
pub mod stories;
pub mod table;
#[cfg(test)]
mod tests;
pub mod treebank;
pub mod vectors;
mod whole_table;

pub use appended::{AppendOptions, append_columns};
pub use fault::{DialogueFault, LineFault, RowFault, StoryFault, VectorFault};
pub use format::{Column, Header, TableFormat};
pub use further::{FurtherCells, FurtherColumn, FurtherValues, NumberKind};
pub use options::CorpusOptions;
pub use pieces::{Piece, Pieces};
pub use source::open_bytes;
pub use whole_table::WholeTable;

use piece_sample::PieceSample;
use source::Source;

/// Texts to read, checked to exist; cheap to clone.
#[derive(Clone, Debug)]
pub struct Corpus {
    sources: Arc<Vec<Source>>,
    options: CorpusOptions,
    /// The characters that this corpus covers, counted over all sources.
    characters: Range<u64>,
    /// The pieces that are read; all where none.
    sample: Option<PieceSample>,
}

impl Corpus {
    /// Opens files and folders. `-` is the standard input; it and pipes are read at once into a
    /// temporary file. Folders are walked recursively in the order of their names, each once
    /// however many links lead to it. Names that begin with a dot, and entries that are neither
    /// file nor folder, are left out.
    ///
    /// # Errors
    /// [`TextError::Missing`] or [`TextError::Io`] for a path that cannot be read,
    /// [`TextError::EmptyFolder`] for a folder without a file.
    pub fn open(paths: &[PathBuf], options: CorpusOptions) -> Result<Self, TextError> {
        let mut sources = Vec::new();
        for path in paths {
            source::expand(path, &mut sources)?;
        }
        Ok(Self { sources: Arc::new(sources), options, characters: 0..u64::MAX, sample: None })
    }

    /// Drops the files whose path does not satisfy `keep`.
    pub fn retain(mut self, mut keep: impl FnMut(&Path) -> bool) -> Self {
        let mut sources = self.sources.to_vec();
        sources.retain(|source| source.path().is_none_or(&mut keep));
        self.sources = Arc::new(sources);
        self
    }

    /// A corpus of one text in memory.
    pub fn from_text(name: &str, text: impl Into<String>) -> Self {
        let sources = vec![Source::memory(name, text.into().into_bytes())];
        Self {
            sources: Arc::new(sources),
            options: CorpusOptions::default(),
            characters: 0..u64::MAX,
            sample: None,
        }
    }

    /// The same corpus with a share of its pieces: stretches of a text of about 4 MiB, or rows of a
    /// table, drawn from a seed. Each stretch begins a document. Ranges of characters count only
    /// the text that is read.
    #[must_use]
    pub fn sampled(&self, share: f64, seed: u64) -> Self {
        Self { sample: Some(PieceSample { share, seed }), ..self.clone() }
    }

    /// Bytes of the files as they are stored; none of what is not a file.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = |path: &Path| fs_err::metadata(path).map_or(0, |metadata| metadata.len());
        self.files().map(bytes).sum()
    }

    /// The text, piece by piece.
    pub fn pieces(&self) -> Pieces {
        let characters = self.characters.clone();
        Pieces::new(self.sources.clone(), self.options.clone(), characters, self.sample)
    }

    /// The pieces' texts alone, as training a tokeniser takes them.
    pub fn texts(&self) -> impl Iterator<Item = Result<String, TextError>> + use<> {
        self.pieces().map(|piece| piece.map(|piece| piece.text))
    }

    /// Reads the corpus once and counts its characters.
    ///
    /// # Errors
    /// Whatever reading reports; [`TextError::Empty`] where there is no character.
    pub fn count_characters(&self) -> Result<u64, TextError> {
        let mut count = 0;
        for piece in self.pieces() {
            count += piece?.text.chars().count() as u64;
        }
        if count == 0 { Err(TextError::Empty(self.name())) } else { Ok(count) }
    }

    /// Parts the last `fraction` of the characters from the rest: the first
    /// ⌊(1 − fraction)·N⌋ characters train, the others validate.
    ///
    /// # Errors
    /// [`TextError::Setting`] for a fraction outside of 0 … 1, [`TextError::TooShortToSplit`] if
    /// one part would be empty, and the errors of reading.
    pub fn split_valid(&self, fraction: f64) -> Result<(Self, Self), TextError> {
        let setting = || TextError::Setting {
            what: "the validation fraction",
            value: fraction.to_string(),
            allowed: "above 0 and below 1, and leave text for both parts",
        };
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(setting());
        }
        let count = self.count_characters()?;
        let train = train_characters(count, fraction);
        if train == 0 || train == count {
            let name = self.name();
            return Err(TextError::TooShortToSplit { name, characters: count, fraction });
        }
        let start = self.characters.start;
        let part = |characters| Self { characters, ..self.clone() };
        Ok((part(start..start + train), part(start + train..start + count)))
    }

    /// The sources' names, for messages.
    pub fn name(&self) -> String {
        match self.sources.as_slice() {
            [only] => only.name().to_owned(),
            [first, rest @ ..] => format!("{} and {} more", first.name(), rest.len()),
            [] => "the corpus".to_owned(),
        }
    }

    /// Whether a source is a table, so that a column means something.
    pub fn holds_table(&self) -> bool {
        self.sources.iter().any(|source| self.options.format_of(source).is_some())
    }

    /// The BLAKE3 hash, in hexadecimal, of all that the text follows from: the sources as they are
    /// stored, how they are read, and the part of them that this corpus is.
    ///
    /// # Errors
    /// [`TextError::Io`] for a source that cannot be read.
    pub fn hash(&self) -> Result<String, TextError> {
        let mut hasher = blake3::Hasher::new();
        let CorpusOptions { text_column, lossy, .. } = &self.options;
        let formats = self.sources.iter().map(|source| self.options.format_of(source));
        let formats: Vec<_> = formats.collect();
        hasher.update(format!("{text_column:?} {lossy} {formats:?}").as_bytes());
        hasher.update(&self.characters.start.to_le_bytes());
        hasher.update(&self.characters.end.to_le_bytes());
        if let Some(PieceSample { share, seed }) = self.sample {
            hasher.update(&share.to_le_bytes());
            hasher.update(&seed.to_le_bytes());
        }
        for source in self.sources.iter() {
            let mut stored = blake3::Hasher::new();
            source.hash_into(&mut stored)?;
            hasher.update(stored.finalize().as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The files that the corpus reads.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().filter_map(Source::path)
    }
}

/// ⌊(1 − fraction)·N⌋, forgiving the rounding of fractions such as 0.1.
fn train_characters(count: u64, fraction: f64) -> u64 {
    let exact = (1.0 - fraction) * count as f64;
    let nearest = exact.round();
    if (exact - nearest).abs() < 1e-6 { nearest as u64 } else { exact.floor() as u64 }
}
