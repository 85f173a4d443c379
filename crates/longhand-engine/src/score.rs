//! How surprising each token was.

use crate::engine::Reader;
use crate::error::EngineError;
use crate::session::{CHUNK, Session};

impl Session {
    /// Reads tokens and gives each one's surprisal −ln p(token | all before it), in nats; none
    /// for the first token of an empty session, which nothing predicted. Memory stays flat: the
    /// text is read [`CHUNK`] tokens at a time.
    ///
    /// # Errors
    /// A token id out of range; nothing was read then.
    pub fn score(
        &mut self,
        reader: &mut Reader,
        ids: &[u32],
        mut each: impl FnMut(u32, Option<f32>),
    ) -> Result<(), EngineError> {
        self.check(reader, ids)?;
        let mut losses = Vec::with_capacity(CHUNK);
        for chunk in ids.chunks(CHUNK) {
            let first = (!self.logits.is_empty()).then(|| surprisal(&self.logits, chunk[0]));
            self.advance(reader, chunk, Some(&mut losses))?;
            each(chunk[0], first);
            chunk[1..].iter().zip(&losses).for_each(|(&id, &loss)| each(id, Some(loss)));
        }
        Ok(())
    }
}

/// −ln `softmax(logits)[id]` in nats, summed in double precision after the largest logit is taken
/// away, so that nothing overflows.
pub fn surprisal(logits: &[f32], id: u32) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    (sum.ln() + f64::from(most) - f64::from(logits[id as usize])) as f32
}

#[cfg(test)]
mod tests;
