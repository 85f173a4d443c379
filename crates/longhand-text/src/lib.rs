//! Text in, ids out: tokenisers, corpora, token shards, batches of ids and the built-in sample.
//!
//! The path of the data:
//! 1. [`corpus`]: files, folders, the standard input, compressed or in tables → pieces of text;
//! 2. [`tokenizer`]: text → ids and back, six kinds, one `tokenizer.json`;
//! 3. [`shard`]: ids in a file that may exceed memory, or in memory: [`Tokens`];
//! 4. [`batch`]: ids → batches for training, in time-major order (index t·B + b).
//!
//! [`sample`] makes text from nothing: the stories that every verb runs on without a download.

pub mod batch;
pub mod corpus;
mod error;
mod file;
pub mod sample;
pub mod shard;
#[cfg(test)]
mod testing;
pub mod tokenizer;
mod tokens;
mod utf8;

pub use corpus::{Corpus, CorpusOptions, Piece, TableFormat};
pub use error::TextError;
pub use tokenizer::{Decoder, TOKENIZER_FILE, Tokenizer, TokenizerKind};
pub use tokens::{EncodeProgress, Spill, Tokens};
pub use utf8::Utf8Decoder;
