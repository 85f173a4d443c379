//! A tokeniser: its file, its vocabulary and its settings.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::direct::Direct;
use super::fault::TokenizerFault;
use super::kind::{END, TokenizerKind, UNKNOWN};
use super::layout;
use super::special::{SpecialTokens, check_name};
use super::workers::Workers;
use crate::error::TextError;
use crate::file;

/// The tokeniser's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A tokeniser, trained or read from a `tokenizer.json`.
#[derive(Clone)]
pub struct Tokenizer {
    /// The library's tokeniser, which takes special tokens in a text for plain text.
    pub(super) inner: tokenizers::Tokenizer,
    /// For files of a foreign layout with special tokens: one that reads them in a text.
    pub(super) marking: Option<Arc<tokenizers::Tokenizer>>,
    pub(super) kind: TokenizerKind,
    /// The tokens by their ids.
    tokens: Vec<String>,
    hash: String,
    /// Encodes without the library if the file has exactly the layout that training writes;
    /// otherwise the library encodes.
    pub(super) direct: Option<Direct>,
    pub(super) own_layout: bool,
    pub(super) workers: Workers,
    special: SpecialTokens,
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
    /// Reads the file of a tokeniser, a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be read, [`TextError::TokenizerFile`] if it is not a
    /// tokeniser with ids 0, 1, …, n−1.
    pub fn load(path: &Path) -> Result<Self, TextError> {
        Self::from_bytes(&fs_err::read(path)?, &path.display().to_string())
    }

    /// Reads the tokeniser of a model folder.
    ///
    /// # Errors
    /// [`TextError::NoFolder`] or [`TextError::NoTokenizer`] if one is missing, and
    /// the errors of [`Tokenizer::load`].
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
    /// The errors of [`Tokenizer::load`], with `name` for the path.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, TextError> {
        let named = |fault| TextError::TokenizerFile { name: name.to_owned(), fault };
        Self::parse(bytes).map_err(named)
    }

    fn parse(bytes: &[u8]) -> Result<Self, TokenizerFault> {
        let mut json: Value = serde_json::from_slice(bytes)?;
        layout::check_shape(&json)?;
        let library = TokenizerFault::Library;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(library)?;
        // Files made for batches of sentences cut each text to a length, or fill it up.
        inner.with_truncation(None).map_err(library)?;
        inner.with_padding(None);
        json["truncation"].take();
        json["padding"].take();
        let tokens = tokens_by_id(&inner)?;
        let canonical = inner.to_string(false).map_err(library)?;
        let own_tokens = inner.get_vocab_size(false);
        let (kind, own_layout) = layout::recognise(&json, own_tokens)?;
        let special = SpecialTokens::of_file(&json);
        let marking = !own_layout && !special.is_empty();
        let marking = marking.then(|| Arc::new(inner.clone()));
        inner.set_encode_special_tokens(true);
        let find = |token: &str| inner.token_to_id(token);
        let (end, unknown, padding) = (find(END), find(UNKNOWN), find(SpecialTokens::PADDING));
        let (end, unknown) = match kind {
            TokenizerKind::Byte if own_layout => (None, None),
            _ => (end, unknown),
        };
        let own = tokens.get(..own_tokens).filter(|_| own_layout);
        let direct = own.and_then(|own| Direct::new(kind, own, &json["model"], unknown, end));
        let hash = blake3::hash(canonical.as_bytes()).to_hex().to_string();
        let workers = Workers::new(None);
        Ok(Self {
            inner,
            marking,
            kind,
            tokens,
            hash,
            direct,
            own_layout,
            workers,
            special,
            end,
            unknown,
            padding,
        })
    }

    /// The content of the `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::TokenizerFile`] if the library cannot write what it has read.
    pub fn to_json(&self) -> Result<String, TextError> {
        self.inner.to_string(true).map_err(|error| TextError::TokenizerFile {
            name: "the tokeniser's own file".into(),
            fault: TokenizerFault::Library(error),
        })
    }

    /// Writes the `tokenizer.json`, beside and renamed.
    ///
    /// # Errors
    /// [`TextError::Io`] if the file cannot be written, and the errors of [`Tokenizer::to_json`].
    pub fn save(&self, path: &Path) -> Result<(), TextError> {
        file::write(path, self.to_json()?.as_bytes())
    }

    /// The same tokeniser on at most `threads` threads; one for each core where none is given.
    #[must_use]
    pub fn with_threads(self, threads: Option<NonZeroUsize>) -> Self {
        Self { workers: Workers::new(threads), ..self }
    }

    /// The same tokeniser with more special tokens, whose ids follow those that there are. The
    /// file holds them as added tokens.
    ///
    /// # Errors
    /// [`TextError::TokenizerFile`] for a name that is a token already, or that a decoder
    /// would take for text.
    pub fn with_special_tokens<S: AsRef<str>>(&self, names: &[S]) -> Result<Self, TextError> {
        let named = |fault| TextError::TokenizerFile { name: self.kind.name().into(), fault };
        let file = || -> Result<Value, TokenizerFault> {
            let text = self.inner.to_string(false).map_err(TokenizerFault::Library)?;
            let mut file: Value = serde_json::from_str(&text)?;
            let mut added = file["added_tokens"].as_array().cloned().unwrap_or_default();
            for (name, id) in names.iter().map(AsRef::as_ref).zip(self.vocab_size() as u64..) {
                let known = self.id(name).is_some() || added.iter().any(|t| t["content"] == name);
                let known = if known { Err("it is a token already") } else { Ok(()) };
                known
                    .and_then(|()| check_name(name))
                    .map_err(|fault| TokenizerFault::Special { name: name.to_owned(), fault })?;
                added.push(SpecialTokens::entry(name, id));
            }
            file["added_tokens"] = added.into();
            Ok(file)
        };
        let mut made = Self::parse(file().map_err(named)?.to_string().as_bytes()).map_err(named)?;
        made.workers = self.workers.clone();
        Ok(made)
    }

    /// The tokens that plain text never becomes.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// Number of tokens V, special ones included; ids are 0..V.
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

    /// A token as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str)
    }

    /// The id of a token as the vocabulary spells it.
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

    /// The id of `<unk>`, the token for text that the vocabulary lacks.
    pub fn unknown_id(&self) -> Option<u32> {
        self.unknown
    }

    /// How many of some ids are `<unk>`.
    pub fn count_unknown(&self, ids: &[u32]) -> usize {
        self.unknown.map_or(0, |unknown| ids.iter().filter(|&&id| id == unknown).count())
    }

    /// The id of `<pad>`; a tokeniser without it pads with id 0, and lengths tell what is text.
    pub fn padding_id(&self) -> Option<u32> {
        self.padding
    }
}

fn tokens_by_id(inner: &tokenizers::Tokenizer) -> Result<Vec<String>, TokenizerFault> {
    let vocabulary = inner.get_vocab(true);
    let count = vocabulary.len();
    if count == 0 {
        return Err(TokenizerFault::Shape("its vocabulary is empty"));
    }
    let mut tokens = vec![None; count];
    for (token, id) in vocabulary {
        match tokens.get_mut(id as usize) {
            Some(slot @ None) => *slot = Some(token),
            Some(Some(_)) => return Err(TokenizerFault::SameId(id)),
            None => return Err(TokenizerFault::Beyond { id, count }),
        }
    }
    let tokens = tokens.into_iter().collect::<Option<_>>();
    tokens.ok_or(TokenizerFault::Shape("its ids have gaps"))
}
