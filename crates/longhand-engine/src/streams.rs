//! Many streams side by side, with slots that they take and leave.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longhand_model::{Cpu, Sequence, State, Tape};

use crate::engine::{Engine, Reader};
use crate::error::EngineError;
use crate::session::{CHUNK, Session, StreamEnd};
pub use crate::slot::{MOST_STREAMS, Slot, StreamsError};

/// A batch of streams of one engine. Its capacity, and so its memory, is fixed when it is made.
/// Sessions are admitted to slots and released from them at any time; admitting or releasing one
/// copies its state once.
///
/// A stream's logits do not depend on the other streams: they are bit for bit those of the session
/// read alone with the same calls.
pub struct Streams {
    reader: Reader,
    /// One row for each slot.
    state: State,
    slots: Vec<Option<Occupant>>,
    /// `[n, V]` logits of the last decode pass.
    logits: Vec<f32>,
    /// How many calls of [`Streams::step`] there were.
    calls: u64,
    /// The rows of the last call, in its order.
    called: Vec<usize>,
    batch: Batch,
}

/// The rows of a decode pass, ascending, and their tokens. Kept for their memory.
#[derive(Default)]
struct Batch {
    tokens: Vec<(usize, u32)>,
    rows: Vec<usize>,
    ids: Vec<u32>,
}

struct Occupant {
    serial: u64,
    /// The last call that named it.
    called: u64,
    /// Where its logits are among those of the last decode pass; otherwise they are in `end`.
    decoded: Option<Range<usize>>,
    end: StreamEnd,
}

/// The result of one call of [`Streams::step`]: logits of the next token for each piece of work,
/// in the order of the call.
pub struct Rows<'s> {
    streams: &'s Streams,
}

/// A session that was not admitted.
#[derive(thiserror::Error)]
#[error("{source}")]
pub struct NotAdmitted {
    /// The refused session, unchanged.
    pub session: Box<Session>,
    /// Why it was refused.
    pub source: EngineError,
}

/// Numbers slots over all batches of the process.
static SERIAL: AtomicU64 = AtomicU64::new(1);

impl Streams {
    /// An empty batch that computes on `cpu`.
    ///
    /// # Errors
    /// [`StreamsError::Capacity`] for a capacity of 0 or of more than [`MOST_STREAMS`].
    pub fn new(
        engine: &Arc<Engine>,
        cpu: &Arc<Cpu>,
        capacity: usize,
    ) -> Result<Self, StreamsError> {
        if !(1..=MOST_STREAMS).contains(&capacity) {
            return Err(StreamsError::Capacity(capacity));
        }
        let slots = std::iter::repeat_with(|| None).take(capacity).collect();
        let (reader, state) = (engine.reader(cpu), engine.model().state(capacity));
        let (logits, called, batch) = (Vec::new(), Vec::new(), Batch::default());
        Ok(Self { reader, state, slots, logits, calls: 0, called, batch })
    }

    /// The engine of all its streams.
    pub fn engine(&self) -> &Arc<Engine> {
        self.reader.engine()
    }

    /// How many slots there are.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many slots are taken.
    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Whether no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tape, to time its operations.
    pub fn tape(&mut self) -> &mut Tape {
        self.reader.tape()
    }

    /// Takes a session in.
    ///
    /// # Errors
    /// [`NotAdmitted`] for a full batch or a session of another model. It gives the session back.
    pub fn admit(&mut self, session: Session) -> Result<Slot, NotAdmitted> {
        let row = match self.take_in(&session) {
            Ok(row) => row,
            Err(source) => return Err(NotAdmitted { session: Box::new(session), source }),
        };
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let end = session.end;
        self.slots[row] = Some(Occupant { serial, called: 0, decoded: None, end });
        Ok(Slot { row, serial })
    }

    /// Copies a session's state into a free row.
    fn take_in(&mut self, session: &Session) -> Result<usize, EngineError> {
        self.engine().check_same(&session.engine)?;
        let full = StreamsError::Full { capacity: self.capacity() };
        let row = self.slots.iter().position(Option::is_none).ok_or(full)?;
        self.state.insert(row, &session.state)?;
        Ok(row)
    }

    /// Gives a session back, and frees its slot.
    ///
    /// # Errors
    /// [`EngineError::Streams`] for a slot without a stream.
    pub fn release(&mut self, slot: Slot) -> Result<Session, EngineError> {
        let row = self.row(slot)?;
        let (engine, state) = (self.engine().clone(), self.state.extract(row)?);
        let mut occupant = self.slots[row].take().ok_or(StreamsError::Vacant(slot))?;
        occupant.keep_logits(&self.logits);
        Ok(Session { engine, state, end: occupant.end })
    }

    /// A copy of a stream, to branch it or to save it while it goes on.
    ///
    /// # Errors
    /// [`EngineError::Streams`] for a slot without a stream.
    pub fn copy(&self, slot: Slot) -> Result<Session, EngineError> {
        let occupant = self.occupant(slot)?;
        let mut end = occupant.end.clone();
        end.logits = occupant.logits(&self.logits).to_vec();
        let (engine, state) = (self.engine().clone(), self.state.extract(slot.row)?);
        Ok(Session { engine, state, end })
    }

    /// `[V]` logits of a stream's next token; empty until something was read.
    ///
    /// # Errors
    /// [`StreamsError::Vacant`] for a slot without a stream.
    pub fn logits(&self, slot: Slot) -> Result<&[f32], StreamsError> {
        Ok(self.occupant(slot)?.logits(&self.logits))
    }

    /// How many tokens a stream has read.
    ///
    /// # Errors
    /// [`StreamsError::Vacant`] for a slot without a stream.
    pub fn position(&self, slot: Slot) -> Result<u64, StreamsError> {
        Ok(self.state.positions()[self.row(slot)?])
    }

    /// Reads tokens in some of the streams. All streams with one token share one decode pass. A
    /// stream with more is prefilled in passes of its own, [`CHUNK`] tokens each, in turns with the
    /// other prompts. To let the others go on meanwhile, give a long prompt in pieces of [`CHUNK`]
    /// tokens, one in each call: the result has the same bits.
    ///
    /// # Errors
    /// [`EngineError::Streams`] for a slot without a stream or a slot that is named twice,
    /// [`EngineError::Model`] for a token id out of range. No token was read then.
    pub fn step(&mut self, work: &[(Slot, &[u32])]) -> Result<Rows<'_>, EngineError> {
        self.check(work)?;
        self.batch.tokens.clear();
        for (i, (_, ids)) in work.iter().enumerate() {
            if let &[id] = *ids {
                self.batch.tokens.push((self.called[i], id));
            }
        }
        self.decode()?;
        let longest = work.iter().map(|(_, ids)| ids.len()).max().unwrap_or(0);
        for start in (0..longest).step_by(CHUNK) {
            for (i, (_, ids)) in work.iter().enumerate() {
                if ids.len() <= start.max(1) {
                    continue;
                }
                match &ids[start..ids.len().min(start + CHUNK)] {
                    &[id] => {
                        self.batch.tokens.clear();
                        self.batch.tokens.push((self.called[i], id));
                        self.decode()?;
                    }
                    chunk => self.prefill(self.called[i], chunk)?,
                }
            }
        }
        Ok(Rows { streams: self })
    }

    /// Checks a step, and finds the rows of its slots.
    fn check(&mut self, work: &[(Slot, &[u32])]) -> Result<(), EngineError> {
        self.calls += 1;
        self.called.clear();
        for &(slot, ids) in work {
            let row = self.row(slot)?;
            if let Some(occupant) = &mut self.slots[row]
                && std::mem::replace(&mut occupant.called, self.calls) == self.calls
            {
                return Err(StreamsError::Repeated(slot).into());
            }
            self.engine().check_ids(ids)?;
            self.called.push(row);
        }
        Ok(())
    }

    /// One decode pass over the batch's tokens.
    fn decode(&mut self) -> Result<(), EngineError> {
        let Self { reader, state, slots, logits, batch: Batch { tokens, rows, ids }, .. } = self;
        if tokens.is_empty() {
            return Ok(());
        }
        tokens.sort_unstable();
        rows.clear();
        rows.extend(tokens.iter().map(|&(row, _)| row));
        ids.clear();
        ids.extend(tokens.iter().map(|&(_, id)| id));
        // Logits of streams that are not in this pass leave its buffer.
        for (row, slot) in slots.iter_mut().enumerate() {
            if let Some(occupant) = slot
                && occupant.decoded.is_some()
                && rows.binary_search(&row).is_err()
            {
                occupant.keep_logits(logits);
            }
        }
        let sequence = Sequence::new(1, ids.len());
        if rows.len() == slots.len() {
            reader.pass(ids, &sequence, state)?;
        } else {
            let mut part = state.lend(rows)?;
            let passed = reader.pass(ids, &sequence, &mut part);
            state.take_back(rows, part);
            passed?;
        }
        reader.logits(0..ids.len(), logits)?;
        let width = logits.len() / ids.len();
        for (i, &(row, id)) in tokens.iter().enumerate() {
            if let Some(occupant) = &mut slots[row] {
                occupant.decoded = Some(i * width..(i + 1) * width);
                occupant.end.extend(&[id]);
            }
        }
        Ok(())
    }

    /// One prefill pass of a row over at most [`CHUNK`] tokens.
    fn prefill(&mut self, row: usize, ids: &[u32]) -> Result<(), EngineError> {
        let mut state = self.state.extract(row)?;
        self.reader.pass(ids, &Sequence::new(ids.len(), 1), &mut state)?;
        self.state.insert(row, &state)?;
        if let Some(occupant) = &mut self.slots[row] {
            occupant.decoded = None;
            self.reader.logits(ids.len() - 1..ids.len(), &mut occupant.end.logits)?;
            occupant.end.extend(ids);
        }
        Ok(())
    }

    /// The reader of its passes, which holds no stream.
    pub(crate) fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// A copy of a stream's state.
    pub(crate) fn state_of(&self, slot: Slot) -> Result<State, EngineError> {
        Ok(self.state.extract(self.row(slot)?)?)
    }

    fn occupant(&self, slot: Slot) -> Result<&Occupant, StreamsError> {
        let occupant = self.slots.get(slot.row).and_then(Option::as_ref);
        occupant.filter(|it| it.serial == slot.serial).ok_or(StreamsError::Vacant(slot))
    }

    fn row(&self, slot: Slot) -> Result<usize, StreamsError> {
        self.occupant(slot).map(|_| slot.row)
    }
}

impl Occupant {
    /// Its logits, given those of the last decode pass.
    fn logits<'s>(&'s self, decoded: &'s [f32]) -> &'s [f32] {
        match &self.decoded {
            None => &self.end.logits,
            Some(range) => &decoded[range.clone()],
        }
    }

    /// Copies its logits out of those of the last decode pass.
    fn keep_logits(&mut self, decoded: &[f32]) {
        if let Some(range) = self.decoded.take() {
            self.end.logits.clear();
            self.end.logits.extend_from_slice(&decoded[range]);
        }
    }
}

impl<'s> Rows<'s> {
    /// `[V]` logits after a piece of work, by its place in the call.
    pub fn get(&self, index: usize) -> Option<&'s [f32]> {
        let streams = self.streams;
        let occupant = streams.slots[*streams.called.get(index)?].as_ref()?;
        Some(occupant.logits(&streams.logits))
    }

    /// The logits of each piece of work.
    pub fn iter(&self) -> impl Iterator<Item = &'s [f32]> {
        let rows = Rows { streams: self.streams };
        (0..self.streams.called.len()).filter_map(move |index| rows.get(index))
    }
}

impl fmt::Debug for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotAdmitted").field("source", &self.source).finish_non_exhaustive()
    }
}

impl From<NotAdmitted> for EngineError {
    fn from(refused: NotAdmitted) -> Self {
        refused.source
    }
}

#[cfg(test)]
mod tests;
