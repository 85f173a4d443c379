//! A prefill that gives more than the last logits: those of each position, or the body's output.

use longhand_model::Sequence;

use crate::engine::Reader;
use crate::error::EngineError;
use crate::session::{CHUNK, Session};

/// Positions whose logits are computed at once, so that memory does not grow with the chunk.
const ROWS: usize = 64;

impl Session {
    /// Reads tokens as [`Session::read`] does, to the same bits, and gives for each token the `[V]`
    /// logits that predicted it; empty ones for the first token of an empty session.
    ///
    /// # Errors
    /// The errors of [`Session::read`], for an id out of range or another reader. No token was read
    /// then.
    pub fn read_scored(
        &mut self,
        reader: &mut Reader,
        ids: &[u32],
        each: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<(), EngineError> {
        self.check(reader, ids)?;
        let mut logits = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            each(chunk[0], self.logits());
            self.advance(reader, chunk, None)?;
            let predicted = &chunk[1..];
            for (group, ids) in predicted.chunks(ROWS).enumerate() {
                let first = group * ROWS;
                reader.logits(first..first + ids.len(), &mut logits)?;
                let width = logits.len() / ids.len();
                ids.iter().zip(logits.chunks_exact(width)).for_each(|(&id, row)| each(id, row));
            }
        }
        Ok(())
    }

    /// Reads tokens as [`Session::read`] does, and adds to `sum` `[D]` the body's output at each of
    /// them: the sum over the text, of which the mean is an embedding. An empty `sum` begins with
    /// zeros.
    ///
    /// # Errors
    /// [`EngineError::NotNetwork`] for an n-gram model, and the errors of [`Session::read`].
    pub fn read_summed(
        &mut self,
        reader: &mut Reader,
        ids: &[u32],
        sum: &mut Vec<f64>,
    ) -> Result<(), EngineError> {
        self.check(reader, ids)?;
        self.engine().model().network()?;
        for chunk in ids.chunks(CHUNK) {
            let sequence = Sequence::new(chunk.len(), 1);
            reader.pass(chunk, &sequence, &mut self.state)?;
            let (rows, width) = reader.output()?;
            sum.resize(width, 0.0);
            for row in rows.chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            reader.logits(chunk.len() - 1..chunk.len(), &mut self.end.logits)?;
            self.end.extend(chunk);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longhand_model::Preset;

    use super::*;
    use crate::sampler::SamplerSettings;
    use crate::score::surprisal;
    use crate::testing::{cpu, engine, ids};

    #[test]
    fn a_scored_reading_has_the_bits_of_a_plain_one_and_every_row() {
        let engine = engine(Preset::LonghandNano, 3);
        let mut reader = engine.reader(&cpu());
        let ids = ids(CHUNK + 70, 4);
        let mut plain = engine.session(SamplerSettings::default()).unwrap();
        let (mut scored, mut summed) = (plain.clone(), plain.clone());
        plain.read(&mut reader, &ids).unwrap();
        let mut rows = Vec::new();
        scored
            .read_scored(&mut reader, &ids, &mut |id, row| rows.push((id, row.to_vec())))
            .unwrap();
        assert_eq!(plain.logits(), scored.logits());
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ids);
        assert!(rows[0].1.is_empty());
        // Each row is the last row of the text before it.
        for at in [1, 2, 65, CHUNK, CHUNK + 1, CHUNK + 69] {
            let mut short = engine.session(SamplerSettings::default()).unwrap();
            short.read(&mut reader, &ids[..at]).unwrap();
            let (a, b) = (surprisal(short.logits(), ids[at]), surprisal(&rows[at].1, ids[at]));
            assert!((a - b).abs() < 1e-4, "{at}: {a} {b}");
        }
        let mut sum = Vec::new();
        summed.read_summed(&mut reader, &ids, &mut sum).unwrap();
        assert_eq!(plain.logits(), summed.logits());
        assert!(!sum.is_empty() && sum.iter().all(|x| x.is_finite()));
    }
}
