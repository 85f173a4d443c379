//! Text to ids and back.
//!
//! Six kinds, each saved as one `tokenizer.json` of the Hugging Face layout. The Python
//! `tokenizers` package reads the file and encodes with it identically.
//!
//! A text that spells a special token never becomes that token by accident:
//! [`Tokenizer::encode`] reads plain text, and [`Tokenizer::encode_with_special_tokens`] reads a
//! text that names special tokens. The `word` kind alone reads the word `<eos>` as the end of a
//! line, since its tokens are all that is written between white space.

mod byte_pairs;
mod choice;
mod cuts;
mod decode;
mod direct;
mod encode;
mod encoding;
pub(crate) mod fault;
mod kind;
mod layout;
mod model;
mod pattern;
mod special;
#[cfg(test)]
mod tests;
mod train;
mod words;
mod workers;
mod written;

pub use choice::{TokenizerChoice, Writing, is_unspaced};
pub use cuts::settled;
pub use decode::Decoder;
pub use encoding::{Encoding, Offsets};
pub use fault::{TokenizerFault, TrainingFault};
pub use kind::{END, TokenizerKind, UNKNOWN, UnknownTokenizer};
pub use model::{TOKENIZER_FILE, Tokenizer};
pub use special::SpecialTokens;
pub use train::{TrainingProgress, TrainingSettings, TrainingStage};
pub use words::WordParts;
pub use written::WrittenBytes;

pub(crate) use cuts::{last_common_cut, last_safe_cut};
