//! Text in, ids out: tokenisers, corpora, token shards, batches of ids and the built-in sample.
//!
//! The path of the data:
//! 1. [`corpus`]: files, folders, the standard input, compressed or in tables → pieces of text;
//! 2. [`tokenizer`]: text → ids and back, six kinds, one `tokenizer.json`;
//! 3. [`shard`]: ids in a file that may exceed memory, or in memory: [`Tokens`];
//! 4. [`batch`]: ids → batches for training, in time-major order (index t·B + b).
//!
//! [`sample`] makes text from nothing: the stories that every verb runs on without a download.
//!
//! ```
//! use longhand_text::{Corpus, SpecialTokens, Tokenizer, TokenizerKind, Tokens};
//!
//! let corpus = Corpus::from_text("verse", "the sea, the sea and the sky\n");
//! let tokenizer = Tokenizer::train(TokenizerKind::Word, None, corpus.texts(), &mut |_| {})?;
//! let tokens = Tokens::encode(&corpus, &tokenizer, &mut |_| {})?;
//! assert_eq!(tokens.len(), 8);
//!
//! let encoding = tokenizer.encode_with_offsets("the sky")?;
//! assert_eq!(encoding.offsets[1].bytes, 4..7);
//! assert_eq!(tokenizer.decode(&encoding.ids)?, "the sky");
//!
//! // Plain text never becomes a special token; a text that names them does where asked for.
//! let tokenizer = tokenizer.with_special_tokens(&[SpecialTokens::MASK])?;
//! let mask = tokenizer.special_tokens().id(SpecialTokens::MASK);
//! let ids = tokenizer.encode_with_special_tokens("the <mask>")?.ids;
//! assert_eq!(ids.last().copied(), mask);
//! # Ok::<(), longhand_text::TextError>(())
//! ```

pub mod batch;
pub mod chat;
pub mod corpus;
mod error;
mod file;
mod quote;
pub mod sample;
pub mod shard;
#[cfg(test)]
mod testing;
pub mod tokenizer;
mod tokens;
mod utf8;

pub use corpus::{Corpus, CorpusOptions, Piece, TableFormat};
pub use error::TextError;
pub use tokenizer::{
    Decoder, Encoding, Offsets, SpecialTokens, TOKENIZER_FILE, Tokenizer, TokenizerKind,
};
pub use tokens::{EncodeProgress, Spill, Tokens};
pub use utf8::Utf8Decoder;
