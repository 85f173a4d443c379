//! How surprising each token was.

use crate::engine::Reader;
use crate::error::EngineError;
pub use crate::log_probability::{log_probabilities, surprisal};
use crate::session::{CHUNK, Session};

impl Session {
    /// Reads tokens and gives each one's surprisal −ln p(token | all before it), in nats; none
    /// for the first token of an empty session, which nothing predicted. Reads [`CHUNK`] tokens
    /// at a time, so that scratch memory does not grow with the text.
    ///
    /// # Errors
    /// [`EngineError::OtherModel`] for a reader of another model, [`EngineError::Model`] for a
    /// token id out of range. No token was read then.
    pub fn score(
        &mut self,
        reader: &mut Reader,
        ids: &[u32],
        mut each: impl FnMut(u32, Option<f32>),
    ) -> Result<(), EngineError> {
        self.check(reader, ids)?;
        let mut losses = Vec::with_capacity(CHUNK);
        for chunk in ids.chunks(CHUNK) {
            let logits = self.logits();
            let first = (!logits.is_empty()).then(|| surprisal(logits, chunk[0]));
            self.advance(reader, chunk, Some(&mut losses))?;
            each(chunk[0], first);
            chunk[1..].iter().zip(&losses).for_each(|(&id, &loss)| each(id, Some(loss)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
