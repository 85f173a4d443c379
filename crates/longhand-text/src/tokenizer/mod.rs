//! Text to ids and back.
//!
//! Six kinds, each saved as one `tokenizer.json` of the Hugging Face layout that the Python
//! `tokenizers` package reads and encodes with identically. There are no added tokens: a text
//! that spells `<eos>` never becomes a control token by accident, except in the `word` kind,
//! whose tokens are whatever stands between spaces.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{TextError, file};

mod chunks;
mod decode;
mod direct;
mod layout;
#[cfg(test)]
mod tests;
mod train;

pub use chunks::settled;
pub use decode::Decoder;
pub use train::{TrainingProgress, TrainingStage};

pub(crate) use chunks::{last_safe_cut, safe_chunks};
use direct::Direct;

/// The tokeniser's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The token at the end of a line (`word`) or of a document (`bpe`, `wordpiece`, `unigram`).
pub const END: &str = "<eos>";
/// The token for what the vocabulary lacks.
pub const UNKNOWN: &str = "<unk>";

/// How a text is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// The 256 bytes; a byte's id is its value.
    Byte,
    /// Unicode characters, by code point, then `<unk>`.
    Char,
    /// What stands between white space, `<eos>` at each line's end, `<unk>`.
    Word,
    /// Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019).
    Bpe,
    /// WordPiece as in BERT (Devlin et al. 2019), cased; each Chinese character alone.
    Wordpiece,
    /// Unigram language model (Kudo 2018) with byte fallback; each line alone.
    Unigram,
}

impl TokenizerKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Byte, Self::Char, Self::Word, Self::Bpe, Self::Wordpiece, Self::Unigram];

    /// The kind's name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Byte => "byte",
            Self::Char => "char",
            Self::Word => "word",
            Self::Bpe => "bpe",
            Self::Wordpiece => "wordpiece",
            Self::Unigram => "unigram",
        }
    }
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for TokenizerKind {
    type Err = TextError;

    fn from_str(name: &str) -> Result<Self, TextError> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| TextError::Setting {
            what: "the tokeniser",
            value: name.to_owned(),
            allowed: "byte, char, word, bpe, wordpiece or unigram",
        })
    }
}

/// A tokeniser, trained or read from a `tokenizer.json`.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    kind: TokenizerKind,
    /// Tokens by id.
    tokens: Vec<String>,
    hash: String,
    /// Set where the file has exactly the layout that training writes; everything else is left
    /// to the library.
    direct: Option<Direct>,
    own_layout: bool,
    end: Option<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tokenizer({}, {} tokens)", self.kind, self.tokens.len())
    }
}

impl Tokenizer {
    /// Trains a tokeniser of a kind on a corpus given piece by piece.
    ///
    /// `vocabulary` limits the number of tokens: required by none, ignored by `byte`; without it
    /// `char` and `word` keep all they see and the others take
    /// [`Tokenizer::DEFAULT_VOCABULARY`]. `unigram` looks at the first 4 MiB of distinct words
    /// and lines.
    ///
    /// # Errors
    /// What the corpus reports, an empty corpus, or a vocabulary too small for the kind.
    pub fn train(
        kind: TokenizerKind,
        vocabulary: Option<usize>,
        corpus: impl Iterator<Item = Result<String, TextError>>,
        progress: &mut dyn FnMut(TrainingProgress),
    ) -> Result<Self, TextError> {
        let json = train::train(kind, vocabulary, corpus, progress)?;
        Self::from_bytes(json.to_string().as_bytes(), kind.name())
    }

    /// Tokens of a trained `bpe`, `wordpiece` or `unigram` vocabulary where no number is given.
    pub const DEFAULT_VOCABULARY: usize = 8192;

    /// The tokeniser of the 256 bytes, which needs no training.
    pub fn byte() -> Result<Self, TextError> {
        Self::train(TokenizerKind::Byte, None, std::iter::empty(), &mut |_| {})
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is missing, unreadable, or not a tokeniser with ids 0, 1, …, n−1.
    pub fn load(path: &Path) -> Result<Self, TextError> {
        Self::from_bytes(&fs_err::read(path)?, &path.display().to_string())
    }

    /// Reads a model folder's tokeniser.
    ///
    /// # Errors
    /// A folder that is missing or has none, and as [`Tokenizer::load`].
    pub fn of_folder(folder: &Path) -> Result<Self, TextError> {
        if !folder.is_dir() {
            return Err(TextError::NoFolder(folder.into()));
        }
        let path = folder.join(TOKENIZER_FILE);
        if !path.is_file() {
            return Err(TextError::NoTokenizer(path));
        }
        Self::load(&path)
    }

    /// Reads a `tokenizer.json` given as bytes; `name` is for messages.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, TextError> {
        let fail = |reason: String| TextError::TokenizerFile { name: name.to_owned(), reason };
        let mut json: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
        layout::check_shape(&json).map_err(&fail)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| fail(error.to_string()))?;
        // Files made for batches of sentences cut each text to a length, or fill it up.
        inner.with_truncation(None).map_err(|error| fail(error.to_string()))?;
        inner.with_padding(None);
        json["truncation"].take();
        json["padding"].take();
        let tokens = tokens_by_id(&inner).map_err(&fail)?;
        let canonical = inner.to_string(false).map_err(|error| fail(error.to_string()))?;
        let (kind, own_layout) = layout::recognise(&json).map_err(&fail)?;
        let find = |token: &str| inner.token_to_id(token);
        let (end, unknown, padding) = (find(END), find(UNKNOWN), find("<pad>"));
        let (end, unknown, padding) = if kind == TokenizerKind::Byte && own_layout {
            (None, None, None)
        } else {
            (end, unknown, padding)
        };
        let direct = if own_layout { Direct::new(kind, &tokens, unknown, end) } else { None };
        let hash = blake3::hash(canonical.as_bytes()).to_hex().to_string();
        Ok(Self { inner, kind, tokens, hash, direct, own_layout, end, unknown, padding })
    }

    /// The content of the `tokenizer.json`.
    ///
    /// # Errors
    /// A tokeniser that the library read but cannot write.
    pub fn to_json(&self) -> Result<String, TextError> {
        self.inner.to_string(true).map_err(|error| TextError::TokenizerFile {
            name: "the tokeniser's own file".into(),
            reason: error.to_string(),
        })
    }

    /// Writes the `tokenizer.json`, beside and renamed.
    ///
    /// # Errors
    /// As [`Tokenizer::to_json`], and what the file system reports.
    pub fn save(&self, path: &Path) -> Result<(), TextError> {
        file::write(path, self.to_json()?.as_bytes())
    }

    /// The ids of a text. A text that does not end in a line break gets no `<eos>` at its end.
    ///
    /// # Errors
    /// A tokeniser of a foreign layout that cannot express a text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        if let Some(direct) = &self.direct {
            let mut ids = Vec::with_capacity(text.len() / 2);
            direct.encode(text, &mut ids);
            return Ok(ids);
        }
        if !self.own_layout {
            return self.encode_whole(text);
        }
        // An encoding holds strings and offsets beside each id, so a long text goes in groups.
        let mut ids = Vec::with_capacity(text.len() / 3);
        for group in safe_chunks(text, self.kind, GROUP) {
            let chunks: Vec<&str> = safe_chunks(group, self.kind, CHUNK).collect();
            let encodings = self
                .inner
                .encode_batch_fast(chunks, false)
                .map_err(|error| TextError::Encode(error.to_string()))?;
            for encoding in encodings {
                ids.extend_from_slice(encoding.get_ids());
            }
        }
        Ok(ids)
    }

    /// The text of ids; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TextError::TokenId`] where an id is outside of the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        let mut decoder = self.decoder();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&decoder.push(id)?);
        }
        text.push_str(&decoder.finish());
        Ok(text)
    }

    /// A decoder for ids that arrive one by one.
    pub fn decoder(&self) -> Decoder<&Self> {
        Decoder::new(self)
    }

    /// Number of tokens V; ids are 0..V.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The BLAKE3 hash, in hexadecimal, of the tokeniser's canonical JSON.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The kind; for a file of a foreign layout, the kind of its model.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// A token as it stands in the vocabulary.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The id of a token as it stands in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The id of `<eos>` where it marks the end of a document rather than of a line.
    pub fn document_end_id(&self) -> Option<u32> {
        match self.kind {
            TokenizerKind::Bpe | TokenizerKind::Wordpiece | TokenizerKind::Unigram => self.end,
            TokenizerKind::Byte | TokenizerKind::Char | TokenizerKind::Word => None,
        }
    }

    /// The id of `<unk>`.
    pub fn unknown_id(&self) -> Option<u32> {
        self.unknown
    }

    /// The id of `<pad>`; our own kinds have none and pad with id 0 beside lengths.
    pub fn padding_id(&self) -> Option<u32> {
        self.padding
    }

    /// The ids of a text by the library alone, in one piece.
    fn encode_whole(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| TextError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Bytes of text whose encodings may stand in memory at once.
const GROUP: usize = 4 << 20;
/// Bytes of text that one thread encodes at a time.
const CHUNK: usize = 1 << 16;

fn tokens_by_id(inner: &tokenizers::Tokenizer) -> Result<Vec<String>, String> {
    let vocabulary = inner.get_vocab(true);
    let count = vocabulary.len();
    if count == 0 {
        return Err("its vocabulary is empty".into());
    }
    let mut tokens = vec![None; count];
    for (token, id) in vocabulary {
        match tokens.get_mut(id as usize) {
            Some(slot @ None) => *slot = Some(token),
            Some(Some(_)) => return Err(format!("the id {id} is given to two tokens")),
            None => return Err(format!("the id {id} is beyond its {count} tokens")),
        }
    }
    tokens.into_iter().collect::<Option<_>>().ok_or_else(|| "its ids have gaps".into())
}
