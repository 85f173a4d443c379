//! The share of each memory in a token that a stream is about to write.
//!
//! [`inspect`](crate::inspect) silences a memory through a whole text that is known beforehand. A
//! text that is being written is told of as it comes: the step that makes the logits of the next
//! token is taken three times more, from a copy of the state. Once every working memory gives zeros
//! in this step, once every long memory does, and once the gates are recorded. What the stream read
//! before is in its memories in each case. A token so costs four decode steps instead of one, and
//! the stream's own bits stay what they are.

use longhand_model::{Ablation, Mode, Sequence, State};
use serde::Serialize;

use crate::engine::Reader;
use crate::error::EngineError;
use crate::inspect::{Losses, MeanGates, mean};
use crate::log_probability::surprisal;
use crate::session::Session;
use crate::streams::{Slot, Streams};

/// The logits that follow a token where a memory is silent while it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Silenced {
    /// `[V]` logits with every working memory silenced.
    pub without_working: Vec<f32>,
    /// `[V]` logits with every long memory silenced.
    pub without_long: Vec<f32>,
    /// The gates of every long memory that has some, in the order of the blocks, at this token.
    pub gates: Vec<StepGates>,
}

/// How open the gates of one long memory were at one token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepGates {
    /// Which memory, as `blocks.0.lstm`.
    pub memory: String,
    /// Means over its units or heads, from 0 (shut) to 1 (open).
    #[serde(flatten)]
    pub mean: MeanGates,
}

/// What one written token came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TokenMemory {
    /// The working memory's share, from 0 to 1; none if neither memory helped, or nothing was
    /// silenced for this token.
    pub working: Option<f32>,
    /// The long memory's share: the rest.
    pub long: Option<f32>,
    /// The gates of the step that led to it, in the order of the blocks.
    pub gates: Vec<StepGates>,
}

impl Silenced {
    /// What the token came from that was drawn from `logits`, see [`Silenced::losses`].
    ///
    /// # Errors
    /// [`EngineError::Model`] for an id out of range.
    pub fn token(self, logits: &[f32], next: u32) -> Result<TokenMemory, EngineError> {
        let Losses { working_share, long_share, .. } = self.losses(logits, next)?;
        Ok(TokenMemory { working: working_share, long: long_share, gates: self.gates })
    }

    /// Losses of the token that was drawn from `logits`, `[V]`, which follow the same step with no
    /// memory silenced, and the shares that follow from them.
    ///
    /// # Errors
    /// [`EngineError::Model`] for an id out of range.
    pub fn losses(&self, logits: &[f32], next: u32) -> Result<Losses, EngineError> {
        let rows = [logits, &self.without_working, &self.without_long];
        if let Some(row) = rows.iter().find(|row| row.len() <= next as usize) {
            let (id, vocab_size) = (next, row.len());
            return Err(longhand_model::ModelError::Token { id, vocab_size }.into());
        }
        let [loss, without_working, without_long] = rows.map(|row| surprisal(row, next));
        Ok(Losses::new(loss, without_working, without_long))
    }
}

impl Session {
    /// What would follow `id` with each memory silenced while it is read. The session does not
    /// read it. The reader silences nothing afterwards.
    ///
    /// # Errors
    /// [`EngineError::OtherModel`] for a reader of another model, [`EngineError::Model`] for an id
    /// out of range, [`EngineError::NotNetwork`] for an n-gram model, which has no memories.
    pub fn silenced(&self, reader: &mut Reader, id: u32) -> Result<Silenced, EngineError> {
        self.check(reader, &[id])?;
        silenced(reader, self.state.clone(), id)
    }
}

impl Streams {
    /// What would follow `id` in a stream with each memory silenced while it is read. The stream
    /// does not read it: call [`Streams::step`] with the same id next. No other stream is touched.
    ///
    /// # Errors
    /// [`EngineError::Streams`] for a slot without a stream, [`EngineError::Model`] for an id out
    /// of range, [`EngineError::NotNetwork`] for an n-gram model, which has no memories.
    pub fn silenced(&mut self, slot: Slot, id: u32) -> Result<Silenced, EngineError> {
        let state = self.state_of(slot)?;
        self.engine().check_ids(&[id])?;
        silenced(self.reader(), state, id)
    }
}

/// Three passes over one token, each from the same state of one stream.
fn silenced(reader: &mut Reader, state: State, id: u32) -> Result<Silenced, EngineError> {
    reader.engine().model().network()?;
    let mut without = |ablation| {
        reader.ablate(Some(ablation));
        let mut logits = Vec::new();
        let passed = reader.pass(&[id], &Sequence::new(1, 1), &mut state.clone());
        reader.ablate(None);
        passed?;
        reader.logits(0..1, &mut logits)?;
        Ok::<_, EngineError>(logits)
    };
    let (without_working, without_long) = (without(Ablation::Working)?, without(Ablation::Long)?);
    let gates = step_gates(reader, state, id)?;
    Ok(Silenced { without_working, without_long, gates })
}

/// The gates of one recorded pass over one token.
fn step_gates(
    reader: &mut Reader,
    mut state: State,
    id: u32,
) -> Result<Vec<StepGates>, EngineError> {
    let before = reader.set_mode(Mode::Record);
    let passed = reader.pass(&[id], &Sequence::new(1, 1), &mut state);
    let gates = reader.gates();
    reader.set_mode(before);
    passed?;
    let of = |gates: longhand_model::Gates| StepGates {
        memory: gates.memory,
        mean: MeanGates { input: mean(&gates.input), forget: mean(&gates.forget) },
    };
    Ok(gates.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use longhand_model::Preset;

    use super::*;
    use crate::inspect::contribution;
    use crate::sampler::SamplerSettings;
    use crate::testing::{cpu, engine, ids, relative};

    #[test]
    fn a_stream_is_not_changed_and_gives_the_same_as_its_session() {
        let (engine, cpu) = (engine(Preset::LonghandNano, 1), cpu());
        let mut reader = engine.reader(&cpu);
        let mut session = engine.session(SamplerSettings::greedy()).unwrap();
        session.read(&mut reader, &ids(40, 3)).unwrap();
        let mut plain = session.clone();
        let mut streams = Streams::new(&engine, &cpu, 3).unwrap();
        streams.admit(engine.session(SamplerSettings::greedy()).unwrap()).unwrap();
        let slot = streams.admit(session.clone()).unwrap();
        for id in ids(4, 5) {
            let alone = session.silenced(&mut reader, id).unwrap();
            assert_eq!(streams.silenced(slot, id).unwrap(), alone);
            streams.step(&[(slot, &[id])]).unwrap();
            session.step(&mut reader, id).unwrap();
            plain.step(&mut reader, id).unwrap();
            assert_eq!(session.logits(), plain.logits());
            assert_eq!(streams.logits(slot).unwrap(), plain.logits());
            assert_ne!(alone.without_working, plain.logits());
            assert_ne!(alone.without_long, plain.logits());
        }
    }

    #[test]
    fn losses_are_those_of_an_inspection_of_the_last_two_tokens() {
        let (engine, cpu) = (engine(Preset::LonghandNano, 2), cpu());
        let mut reader = engine.reader(&cpu);
        let mut session = engine.session(SamplerSettings::greedy()).unwrap();
        session.read(&mut reader, &ids(20, 3)).unwrap();
        let expected = contribution(&session, &cpu, &[9, 17], 1).unwrap().unwrap().losses;
        let silenced = session.silenced(&mut reader, 9).unwrap();
        session.step(&mut reader, 9).unwrap();
        let found = silenced.losses(session.logits(), 17).unwrap();
        let token = silenced.clone().token(session.logits(), 17).unwrap();
        assert_eq!((token.working, token.long), (found.working_share, found.long_share));
        assert_eq!(token.gates, silenced.gates);
        let numbers = |l: Losses| [l.loss, l.without_working, l.without_long];
        assert!(relative(&numbers(expected), &numbers(found)) < 1e-4, "{expected:?} {found:?}");
    }

    #[test]
    fn gates_are_between_shut_and_open_and_a_missing_memory_changes_nothing() {
        let cpu = cpu();
        for (preset, memories, working, long) in [
            (Preset::LonghandNano, 2, true, true),
            (Preset::Lstm, 2, false, true),
            (Preset::Transformer, 0, true, false),
        ] {
            let engine = engine(preset, 1);
            let mut reader = engine.reader(&cpu);
            let mut session = engine.session(SamplerSettings::greedy()).unwrap();
            session.read(&mut reader, &ids(9, 3)).unwrap();
            let silenced = session.silenced(&mut reader, 4).unwrap();
            session.step(&mut reader, 4).unwrap();
            assert_eq!(silenced.gates.len(), memories, "{preset}");
            let open = |gates: &StepGates| [gates.mean.input, gates.mean.forget];
            assert!(silenced.gates.iter().flat_map(open).all(|x| (0.0..=1.0).contains(&x)));
            assert_eq!(silenced.without_working != session.logits(), working, "{preset}");
            assert_eq!(silenced.without_long != session.logits(), long, "{preset}");
        }
    }

    #[test]
    fn an_id_out_of_range_is_refused_and_nothing_is_read() {
        let (engine, cpu) = (engine(Preset::Lstm, 1), cpu());
        let mut reader = engine.reader(&cpu);
        let mut session = engine.session(SamplerSettings::greedy()).unwrap();
        session.read(&mut reader, &[1, 2]).unwrap();
        assert!(matches!(session.silenced(&mut reader, 9999), Err(EngineError::Model(_))));
        let silenced = session.silenced(&mut reader, 3).unwrap();
        assert!(matches!(silenced.losses(session.logits(), 9999), Err(EngineError::Model(_))));
        assert_eq!(session.position(), 2);
    }
}
