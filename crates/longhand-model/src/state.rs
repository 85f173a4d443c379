//! The state that a model carries from pass to pass for each stream: KV caches,
//! hidden and cell states.
//!
//! Each layer declares its tensors once, when the model is laid out; together they are the model's
//! [`StateLayout`]. A [`State`] holds their values for B streams. Its size is constant: a stream is
//! a slot, and [`State::insert`] and [`State::extract`] copy one slot of each tensor. The coverage of
//! a pointer, a number for each token of a stream's source, goes with the slot and into no file.

use std::borrow::Cow;
use std::sync::Arc;

use longhand_kernel::attention::cache;
use longhand_kernel::{Buffer, Level, Precision, Sequence};

mod rows;

/// A tensor's place in the layout that declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateId(usize);

/// Every tensor that a model carries, in the order of its layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateLayout {
    tensors: Vec<Declared>,
}

/// The state of B streams after the tokens read so far.
#[derive(Clone)]
pub struct State {
    layout: Arc<StateLayout>,
    /// `[B]` tokens read by each stream.
    pub(crate) positions: Vec<u64>,
    /// `[B]` tokens since each stream's last document start.
    pub(crate) since_reset: Vec<u64>,
    /// The words of each tensor of the layout, stream after stream.
    tensors: Vec<Buffer>,
    /// The rows of the KV caches that the streams have, if those are of a larger state.
    lent: Option<Vec<usize>>,
    /// `[B]`: how much each stream has copied from each position of its source, where its model has
    /// a pointer with coverage.
    pub(crate) coverage: Vec<Vec<f32>>,
}

/// A view of one tensor of a state.
#[derive(Clone, Copy)]
pub struct StateTensor<'a> {
    /// Its name, as `blocks.0.lstm.c`.
    pub name: &'a str,
    /// Its shape for one stream.
    pub shape: &'a [usize],
    /// The precision of its values in memory and on disk.
    pub precision: Precision,
    words: &'a [f32],
}

/// One tensor of a state outside of any model: what checkpoints and snapshots write and read.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor<'a> {
    /// Its name, as `blocks.0.lstm.c`.
    pub name: Cow<'a, str>,
    /// `[B, shape…]`; of a single stream the leading 1 may be missing.
    pub shape: Vec<usize>,
    /// Its values, in row-major order.
    pub values: Cow<'a, [f32]>,
    /// The precision of its values.
    pub precision: Precision,
}

/// Why a state is refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum StateError {
    /// A tensor that the model carries is not there.
    #[error("the state has no tensor `{0}`, which this model carries")]
    Missing(String),
    /// A tensor that the model does not carry, or one that is there twice.
    #[error("the state has a tensor `{0}`, which this model does not carry")]
    Unknown(String),
    /// A tensor of another shape.
    #[error("the state's tensor `{name}` has shape {got:?}; this model needs {expected:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// `[B, shape…]` of the model.
        expected: Vec<usize>,
        /// The shape that was given.
        got: Vec<usize>,
    },
    /// A tensor whose values do not fill its shape.
    #[error("the state's tensor `{name}` has {got} values where its shape needs {expected}")]
    Length {
        /// Name of the tensor.
        name: String,
        /// The product of its shape.
        expected: usize,
        /// How many values were given.
        got: usize,
    },
    /// A tensor with a value that is not finite.
    #[error("the state's tensor `{0}` has a value that is not finite")]
    NotFinite(String),
    /// A counter is missing for some streams.
    #[error("the state of {expected} streams has {got} counters of tokens since the last reset")]
    Streams {
        /// Number of streams in the state.
        expected: usize,
        /// Number of counters that were given.
        got: usize,
    },
    /// A state whose tensors are not this one's.
    #[error("the state belongs to a model that carries other tensors")]
    Layout,
    /// A slot that the state does not have.
    #[error("slot {slot} is out of range: the state has {slots}")]
    Slot {
        /// The slot that was asked for.
        slot: usize,
        /// B: number of slots in the state.
        slots: usize,
    },
    /// A state of several streams or of none where one is needed.
    #[error("a slot takes the state of one stream, not of {0}")]
    One(usize),
}

/// A tensor as its layer declared it.
#[derive(Clone, Debug, PartialEq)]
struct Declared {
    name: String,
    /// For one stream; the last size is never 0.
    shape: Vec<usize>,
    precision: Precision,
    /// A KV cache, which a decode step reads where it is.
    cache: bool,
}

impl StateLayout {
    /// The layout of a model without layers that carries one tensor of `f32`, such as a stream's
    /// last tokens. The last size of its shape is not 0.
    pub fn single(name: &str, shape: &[usize]) -> Arc<Self> {
        let mut layout = Self::default();
        layout.carry(name.into(), shape, Precision::F32);
        Arc::new(layout)
    }

    /// Declares a tensor of `shape` for each stream.
    pub(crate) fn carry(&mut self, name: String, shape: &[usize], precision: Precision) -> StateId {
        self.tensors.push(Declared { name, shape: shape.to_vec(), precision, cache: false });
        StateId(self.tensors.len() - 1)
    }

    /// As [`StateLayout::carry`], for a KV cache.
    pub(crate) fn cache(&mut self, name: String, shape: &[usize], precision: Precision) -> StateId {
        let id = self.carry(name, shape, precision);
        self.tensors[id.0].cache = true;
        id
    }

    /// How many numbers one stream carries.
    pub fn count(&self) -> u128 {
        let count =
            |declared: &Declared| declared.shape.iter().map(|&n| n as u128).product::<u128>();
        self.tensors.iter().map(count).sum()
    }
}

impl State {
    /// The empty state of `batch` streams.
    pub fn new(layout: &Arc<StateLayout>, batch: usize) -> Self {
        let empty = |declared: &Declared| Buffer::zeros(batch * declared.words());
        Self {
            layout: layout.clone(),
            positions: vec![0; batch],
            since_reset: vec![0; batch],
            tensors: layout.tensors.iter().map(empty).collect(),
            lent: None,
            coverage: vec![Vec::new(); batch],
        }
    }

    /// A state of the given tensors, in any order, and counters: the inverse of
    /// [`State::to_tensors`], [`State::positions`] and [`State::since_reset`].
    ///
    /// # Errors
    /// [`StateError`] names a tensor that is missing, unknown, of another shape or not finite.
    pub fn from_tensors<'a>(
        layout: &Arc<StateLayout>,
        positions: &[u64],
        since_reset: &[u64],
        tensors: impl IntoIterator<Item = NamedTensor<'a>>,
    ) -> Result<Self, StateError> {
        let batch = positions.len();
        if since_reset.len() != batch {
            return Err(StateError::Streams { expected: batch, got: since_reset.len() });
        }
        let mut given = vec![None; layout.tensors.len()];
        for tensor in tensors {
            let known = |declared: &Declared| declared.name == *tensor.name;
            let place = layout.tensors.iter().position(known);
            match place.map(|place| &mut given[place]) {
                Some(place) if place.is_none() => *place = Some(tensor),
                _ => return Err(StateError::Unknown(tensor.name.into_owned())),
            }
        }
        // Every size is checked before the state takes any memory.
        for (declared, given) in layout.tensors.iter().zip(&given) {
            match given {
                Some(tensor) => declared.check(batch, tensor)?,
                None => return Err(StateError::Missing(declared.name.clone())),
            }
        }
        let mut state = Self::new(layout, batch);
        state.positions.copy_from_slice(positions);
        state.since_reset.copy_from_slice(since_reset);
        let tensors = layout.tensors.iter().zip(given.iter().flatten());
        for ((declared, tensor), words) in tensors.zip(&mut state.tensors) {
            let (precision, head) = (declared.precision, declared.head());
            cache::encode(Level::detect(), precision, head, &tensor.values, words);
        }
        Ok(state)
    }

    /// Every tensor with its values `[B, shape…]`, to be written.
    pub fn to_tensors(&self) -> Vec<NamedTensor<'_>> {
        let tensors = self.tensors().map(|tensor| NamedTensor {
            name: Cow::Borrowed(tensor.name),
            shape: [&[self.batch()], tensor.shape].concat(),
            values: tensor.values(),
            precision: tensor.precision,
        });
        tensors.collect()
    }

    /// B: how many streams.
    pub fn batch(&self) -> usize {
        self.positions.len()
    }

    /// The tensors that its model carries.
    pub fn layout(&self) -> &Arc<StateLayout> {
        &self.layout
    }

    /// `[B]` tokens read by each stream.
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// `[B]` tokens since each stream's last document start.
    pub fn since_reset(&self) -> &[u64] {
        &self.since_reset
    }

    /// Every tensor, in the order of the layers.
    pub fn tensors(&self) -> impl Iterator<Item = StateTensor<'_>> {
        self.layout.tensors.iter().zip(&self.tensors).map(|(declared, words)| StateTensor {
            name: &declared.name,
            shape: &declared.shape,
            precision: declared.precision,
            words,
        })
    }

    /// Size of the tensors and counters in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let covered: usize = self.coverage.iter().map(Vec::len).sum();
        let words: usize = self.tensors.iter().map(|words| words.len()).sum();
        4 * (words + covered) + 16 * self.batch()
    }

    /// Copies the state of one stream into a slot.
    ///
    /// # Errors
    /// [`StateError::Slot`] if the slot does not exist, [`StateError::One`] or
    /// [`StateError::Layout`] if `one` has not one stream or another layout.
    pub fn insert(&mut self, slot: usize, one: &State) -> Result<(), StateError> {
        if one.batch() != 1 {
            return Err(StateError::One(one.batch()));
        }
        self.copy_slot(slot, one, 0)
    }

    /// A copy of one slot, as the state of a single stream.
    ///
    /// # Errors
    /// [`StateError::Slot`] if the slot does not exist.
    pub fn extract(&self, slot: usize) -> Result<State, StateError> {
        let mut one = Self::new(&self.layout, 1);
        one.copy_slot(0, self, slot)?;
        Ok(one)
    }

    /// Copies of some slots, in the given order; a slot may come several times.
    ///
    /// # Errors
    /// [`StateError::Slot`] if a slot does not exist.
    pub fn select(&self, slots: &[usize]) -> Result<State, StateError> {
        let mut some = Self::new(&self.layout, slots.len());
        for (to, &from) in slots.iter().enumerate() {
            some.copy_slot(to, self, from)?;
        }
        Ok(some)
    }

    /// Whether two states have the same layout: their models carry the same tensors.
    pub fn has_layout(&self, layout: &Arc<StateLayout>) -> bool {
        Arc::ptr_eq(&self.layout, layout) || self.layout == *layout
    }

    fn copy_slot(&mut self, to: usize, other: &State, from: usize) -> Result<(), StateError> {
        if !self.has_layout(&other.layout) {
            return Err(StateError::Layout);
        }
        self.check_slot(to)?;
        other.check_slot(from)?;
        let tensors = self.layout.tensors.iter().zip(&other.tensors);
        for ((declared, source), target) in tensors.zip(&mut self.tensors) {
            let words = declared.words();
            target[to * words..][..words].copy_from_slice(&source[from * words..][..words]);
        }
        self.positions[to] = other.positions[from];
        self.since_reset[to] = other.since_reset[from];
        self.coverage[to].clone_from(&other.coverage[from]);
        Ok(())
    }

    fn check_slot(&self, slot: usize) -> Result<(), StateError> {
        let slots = self.batch();
        if slot < slots { Ok(()) } else { Err(StateError::Slot { slot, slots }) }
    }

    /// The values `[B, shape…]` of the only tensor of a [`StateLayout::single`], to be advanced; none
    /// of a layout with several.
    pub fn single_mut(&mut self) -> Option<&mut [f32]> {
        match (&self.layout.tensors[..], &mut self.tensors[..]) {
            ([Declared { precision: Precision::F32, .. }], [words]) => Some(words),
            _ => None,
        }
    }

    /// Counts the real positions of a pass.
    pub fn advance(&mut self, sequence: &Sequence) {
        for (b, (position, since)) in
            self.positions.iter_mut().zip(&mut self.since_reset).enumerate()
        {
            let real = sequence.real(b);
            *position += real as u64;
            let last_start = match sequence.resets {
                Some(_) => (0..real).rev().find(|&t| sequence.starts_empty(t, b)),
                None => None,
            };
            *since = match last_start {
                Some(start) => (real - start) as u64,
                None => *since + real as u64,
            };
        }
    }

    /// Takes a tensor's words out, for an operation to advance; [`State::put`] brings them back.
    pub(crate) fn take(&mut self, id: StateId) -> Buffer {
        std::mem::take(&mut self.tensors[id.0])
    }

    pub(crate) fn put(&mut self, id: StateId, words: Buffer) {
        self.tensors[id.0] = words;
    }
}

impl<'a> StateTensor<'a> {
    /// `[B, shape…]`: its values for all streams.
    pub fn values(&self) -> Cow<'a, [f32]> {
        if self.precision == Precision::F32 {
            return Cow::Borrowed(self.words);
        }
        let head = self.shape.last().copied().unwrap_or(1);
        let heads = self.words.len() / cache::words(self.precision, head).max(1);
        let mut values = vec![0.0; heads * head];
        cache::decode(Level::detect(), self.precision, head, self.words, &mut values);
        Cow::Owned(values)
    }
}

impl Declared {
    /// Values that are stored together: the last size of the shape.
    fn head(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// `f32` words that hold the values of one stream.
    fn words(&self) -> usize {
        let heads = self.shape.iter().rev().skip(1).product::<usize>();
        heads * cache::words(self.precision, self.head())
    }

    fn check(&self, batch: usize, given: &NamedTensor<'_>) -> Result<(), StateError> {
        let name = || self.name.clone();
        let whole = [&[batch], &self.shape[..]].concat();
        let got = given.shape.clone();
        if got != whole && !(batch == 1 && got == self.shape) {
            return Err(StateError::Shape { name: name(), expected: whole, got });
        }
        let (expected, got) = (whole.iter().product(), given.values.len());
        if got != expected {
            return Err(StateError::Length { name: name(), expected, got });
        }
        // A value may be finite in `f32` and overflow when it is rounded.
        if !given.values.iter().all(|&x| self.precision.round(x).is_finite()) {
            return Err(StateError::NotFinite(name()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
