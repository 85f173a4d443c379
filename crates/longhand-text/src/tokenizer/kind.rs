//! The six kinds of tokeniser.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The token at the end of a line (`word`) or of a document (`bpe`, `wordpiece`, `unigram`).
pub const END: &str = "<eos>";
/// The token for text that the vocabulary lacks.
pub const UNKNOWN: &str = "<unk>";

/// How a text is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// The 256 bytes; the id of a byte is its value.
    Byte,
    /// Unicode characters, by code point, then `<unk>`.
    Char,
    /// Words between white space, `<eos>` at the end of each line, `<unk>`.
    Word,
    /// Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019).
    Bpe,
    /// WordPiece as in BERT (Devlin et al. 2019), cased; each Chinese character alone.
    Wordpiece,
    /// Unigram language model (Kudo 2018) with byte fallback; each line alone.
    Unigram,
}

impl TokenizerKind {
    /// The six kinds in their usual order.
    pub const ALL: [Self; 6] =
        [Self::Byte, Self::Char, Self::Word, Self::Bpe, Self::Wordpiece, Self::Unigram];

    /// The name on the command line and in files.
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

/// A name that none of the tokenisers has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown tokeniser `{0}`: use byte, char, word, bpe, wordpiece or unigram")]
pub struct UnknownTokenizer(pub String);

impl FromStr for TokenizerKind {
    type Err = UnknownTokenizer;

    fn from_str(name: &str) -> Result<Self, UnknownTokenizer> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownTokenizer(name.to_owned()))
    }
}
