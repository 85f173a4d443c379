//! Knowledge beside the model: a datastore of what followed each place of a text, and the mixture of
//! it with the model's own probabilities (kNN-LM; Khandelwal et al., "Generalization through
//! memorization: nearest neighbor language models", 2020).
//!
//! A datastore holds an entry for each token of a text: the key is the body's output before it, the
//! hidden state that the head reads, and the value is the token. Where the model is to predict,
//! the K entries nearest to its hidden state q vote for their tokens (equation 2), and their votes are
//! mixed with what the head says (equation 3):
//!
//! ```text
//! p_knn(v) ∝ Σ exp(−‖q − kᵢ‖² / τ) over the entries i whose token is v
//! p(v) = λ · p_knn(v) + (1 − λ) · p_model(v)
//! ```
//!
//! Of a model that writes from a source, the keys are the decoder's hidden states before the tokens of
//! targets (kNN-MT; Khandelwal et al., "Nearest neighbor machine translation", 2021).
//!
//! On disk it is a folder. A file that differs in one bit is refused by name, and so is the datastore
//! of another model or tokeniser:
//!
//! ```text
//! datastore.json        sizes, λ, τ, K, hashes of the model, the tokeniser, the text and the files
//! index.safetensors     centroids [C, D], and where each list of entries begins [C + 1]
//! keys.bin              [N, D] hidden states in bf16, list after list
//! values.bin            [N] tokens as u32
//! ```
//!
//! The lists are those of an inverted file ([`nearest`](longhand_model::nearest)). Only the lists that
//! queries look into are read, by position and not by a memory map, which is a crash where another
//! process shortens the file; memory does not grow with the text.
//!
//! The path of the data:
//! 1. [`DatastoreWriter`] takes hidden states and tokens, parts them into lists and writes the files;
//! 2. [`Tuner`] finds λ and τ on held-out text;
//! 3. [`Datastore`] is an open folder, and [`Neighbours`] searches it and mixes.

mod build;
mod files;
mod header;
mod index;
mod lock;
mod mix;
mod mixture;
mod neighbours;
#[cfg(test)]
mod tests;
mod tune;

pub use crate::datastore_error::{DatastoreError, VERSION};
pub use build::{BuildStep, DatastoreWriter, Unpublished};
pub use files::Datastore;
pub use header::{DATASTORE_FILE, DatastoreHeader, Owner};
pub use mixture::{MOST_NEIGHBOURS, Mixture};
pub use neighbours::Neighbours;
pub use tune::{Tuned, Tuner};
