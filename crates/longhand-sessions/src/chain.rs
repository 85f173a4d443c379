//! A hash chain over the tokens of a stream.

use longhand_engine::Engine;
use serde::{Deserialize, Serialize};

/// The hash of all tokens that a stream has read, of its model and of its tokeniser. Equal chains
/// mean equal texts of one model, adapters included: they are part of a model's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Chain([u8; 32]);

impl Chain {
    /// The chain of a stream that has read nothing.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("longhand 2026 chain of tokens");
        for part in [engine.model_hash(), engine.tokenizer().hash()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The chain after one more token.
    pub(crate) fn push(self, id: u32) -> Self {
        let mut block = [0; 36];
        block[..32].copy_from_slice(&self.0);
        block[32..].copy_from_slice(&id.to_le_bytes());
        Self(*blake3::hash(&block).as_bytes())
    }

    /// The chain after more tokens.
    pub(crate) fn extend(self, ids: &[u32]) -> Self {
        ids.iter().fold(self, |chain, &id| chain.push(id))
    }
}
