//! Interpolated modified Kneser–Ney n-gram models: the baseline of every recurrent language model.
//!
//! p(w | h) of a context h of N−1 tokens is the discounted share of w among the tokens seen after h,
//! plus what the discounts leave, γ(h), times p(w | h without its first token), down to the uniform
//! distribution over the vocabulary. A shorter n-gram counts once for each different token before it
//! (Chen and Goodman 1998, section 4.1.6; the discounts of equation 26, as Heafield et al. 2013
//! estimate them from counts of counts).
//!
//! The path of the data:
//! 1. [`NgramSettings`] name the order N.
//! 2. [`count()`] reads the tokens once and sorts the n-grams, in files where they exceed memory.
//!    Documents begin with a mark that contexts alone can hold, [`Ngram::start`].
//! 3. `build` gives each n-gram its probability and backoff, order by order, in sorted arrays.
//! 4. [`Ngram`] looks tokens up there; [`Readings`] advance a [`longhand_model::State`] whose only
//!    tensor is each stream's last N−1 tokens, as a network's memories advance theirs.
//! 5. `file` holds the arrays in `ngram.safetensors`, and what they are in `ngram.json`; `arpa` writes
//!    and reads the text format of other programs.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//!
//! use longhand_ngram::count;
//! use longhand_text::{Corpus, Tokenizer, Tokens};
//!
//! let tokenizer = Tokenizer::byte()?;
//! let corpus = Corpus::from_text("example", "abab abba ".repeat(9));
//! let tokens = Tokens::encode(&corpus, &tokenizer, &mut |_| {})?;
//! let model = count(&tokens, 3, &std::env::temp_dir(), &AtomicBool::new(false))?;
//! let [a, b] = [b'a', b'b'].map(u32::from);
//! assert!(model.log_probability(&[a, b], a) > model.log_probability(&[b, a], a));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arpa;
mod build;
mod count;
mod discount;
mod error;
mod file;
mod key;
mod model;
mod readings;
#[cfg(test)]
mod reference;
mod settings;
mod sorter;
#[cfg(test)]
mod tests;

pub use arpa::{ArpaWords, arpa_vocabulary};
pub use count::count;
pub use discount::Discounts;
pub use error::NgramError;
pub use file::{NGRAM_FILE, WEIGHTS_FILE};
pub use model::Ngram;
pub use readings::Readings;
pub use settings::NgramSettings;
