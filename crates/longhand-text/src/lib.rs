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
pub mod sample;
pub mod shard;
pub mod tokenizer;
mod tokens;

pub use corpus::{Corpus, CorpusOptions, Piece};
pub use error::TextError;
pub use tokenizer::{Decoder, TOKENIZER_FILE, Tokenizer, TokenizerKind};
pub use tokens::{EncodeProgress, TokenSink, Tokens, encode_corpus};

use std::io::Write;
use std::path::Path;

/// Writes a file beside its place and renames it, so that no one ever reads half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TextError> {
    let mut file = file_beside(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A temporary file in the folder of a path, readable by whom the user's mask allows.
pub(crate) fn file_beside(path: &Path) -> Result<tempfile::NamedTempFile, TextError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    Ok(builder.tempfile_in(folder.unwrap_or(Path::new(".")))?)
}
