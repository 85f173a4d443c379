//! What a model remembers of a stream: constant in size, passed in and handed back.

use std::borrow::Cow;

use longhand_kernel::attention::cache;
use longhand_kernel::{Buffer, Level, Precision, Sequence};

use crate::config::{Config, WorkingMemory};

/// The memories of B streams after the tokens read so far.
#[derive(Clone)]
pub struct State {
    batch: usize,
    /// `[B]` tokens read by each stream.
    pub(crate) positions: Vec<u64>,
    /// `[B]` tokens since each stream's last document start.
    pub(crate) since_reset: Vec<u64>,
    tensors: Vec<StateTensor>,
}

/// One memory's contents, `[B, shape…]`.
#[derive(Clone)]
pub struct StateTensor {
    /// Where it belongs, as `blocks.0.lstm.c`.
    pub name: String,
    /// Its shape for one stream.
    pub shape: Vec<usize>,
    /// How its values are held.
    pub precision: Precision,
    /// Values that are held together: those of a head.
    width: usize,
    /// `[B, …]`: the words that hold them.
    data: Buffer,
}

/// Why a state cannot be made of given parts.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum StateError {
    /// A tensor is missing or of another shape.
    #[error("the memory `{name}` has {got} values; this model needs {expected}")]
    Shape {
        /// Which tensor.
        name: String,
        /// How many values it needs.
        expected: usize,
        /// How many were given.
        got: usize,
    },
    /// A tensor holds something that is not a number.
    #[error("the memory `{0}` holds a value that is not finite")]
    NotFinite(String),
    /// The counters do not describe as many streams as the state has.
    #[error("{got} positions were given for {expected} streams")]
    Streams {
        /// How many streams.
        expected: usize,
        /// How many positions.
        got: usize,
    },
}

impl State {
    /// The empty memory of `batch` streams.
    pub fn new(config: &Config, batch: usize) -> Self {
        let mut tensors = Vec::new();
        for (index, block) in config.blocks.iter().enumerate() {
            let mut held = |name: String, shape: &[usize], precision: Precision, width: usize| {
                let count = batch * shape.iter().product::<usize>();
                let data = Buffer::zeros(count / width * cache::words(precision, width));
                let name = format!("blocks.{index}.{name}");
                tensors.push(StateTensor { name, shape: shape.to_vec(), precision, width, data });
            };
            match block.working {
                Some(WorkingMemory::Attention {
                    kv_heads,
                    head_width,
                    window,
                    bidirectional,
                    ..
                }) if !bidirectional => {
                    for name in ["attention.keys", "attention.values"] {
                        let shape = [kv_heads, window, head_width];
                        held(name.into(), &shape, config.kv_cache, head_width);
                    }
                }
                Some(WorkingMemory::Tanh {}) => {
                    let shape = [working_input(config, index)];
                    held("tanh.memory".into(), &shape, Precision::F32, 1);
                }
                _ => {}
            }
            let mut add = |name: String, shape: &[usize]| held(name, shape, Precision::F32, 1);
            let Some(long) = block.long.filter(|long| !long.bidirectional) else { continue };
            let (n, heads) = (long.hidden, long.heads);
            match long.cell.kind() {
                Some(kind) => {
                    for state in kind.states() {
                        add(format!("{}.{state}", kind.name()), &[n]);
                    }
                }
                None => {
                    add("mlstm.c".into(), &[heads, n / heads, n / heads]);
                    add("mlstm.n".into(), &[heads, n / heads]);
                    add("mlstm.m".into(), &[heads]);
                }
            }
        }
        Self { batch, positions: vec![0; batch], since_reset: vec![0; batch], tensors }
    }

    /// A state from what [`State::tensors`], [`State::positions`] and [`State::since_reset`] gave.
    /// `find` returns the values of a named tensor.
    pub fn from_parts(
        config: &Config,
        positions: &[u64],
        since_reset: &[u64],
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<Self, StateError> {
        let mut state = Self::new(config, positions.len());
        if since_reset.len() != positions.len() {
            let (expected, got) = (positions.len(), since_reset.len());
            return Err(StateError::Streams { expected, got });
        }
        state.positions.copy_from_slice(positions);
        state.since_reset.copy_from_slice(since_reset);
        for tensor in &mut state.tensors {
            let values = find(&tensor.name).unwrap_or_default();
            let StateTensor { name, shape, precision, width, data } = tensor;
            let expected = positions.len() * shape.iter().product::<usize>();
            if values.len() != expected {
                let (name, got) = (name.clone(), values.len());
                return Err(StateError::Shape { name, expected, got });
            }
            if !values.iter().all(|&x| precision.round(x).is_finite()) {
                return Err(StateError::NotFinite(name.clone()));
            }
            cache::hold(Level::detect(), *precision, *width, &values, data);
        }
        Ok(state)
    }

    /// B: how many streams.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// `[B]` tokens read by each stream.
    pub fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// `[B]` tokens since each stream's last document start.
    pub fn since_reset(&self) -> &[u64] {
        &self.since_reset
    }

    /// Every memory's contents, in the order of the blocks.
    pub fn tensors(&self) -> impl Iterator<Item = &StateTensor> {
        self.tensors.iter()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(|t| 4 * t.data.len()).sum::<usize>() + 16 * self.batch
    }

    /// Some of the streams, in the given order.
    ///
    /// # Panics
    /// If a stream is out of range.
    pub fn select(&self, streams: &[usize]) -> Self {
        let pick = |values: &[u64]| streams.iter().map(|&b| values[b]).collect();
        let tensors = self.tensors.iter().map(|tensor| {
            let words = tensor.data.len().checked_div(self.batch).unwrap_or(0);
            let mut data = Buffer::zeros(streams.len() * words);
            for (to, &from) in streams.iter().enumerate() {
                data[to * words..][..words].copy_from_slice(&tensor.data[from * words..][..words]);
            }
            tensor.with(data)
        });
        Self {
            batch: streams.len(),
            positions: pick(&self.positions),
            since_reset: pick(&self.since_reset),
            tensors: tensors.collect(),
        }
    }

    /// Streams of several states side by side.
    ///
    /// # Panics
    /// If the states belong to different models.
    pub fn join(states: &[&State]) -> Self {
        let Some(first) = states.first() else {
            return Self {
                batch: 0,
                positions: Vec::new(),
                since_reset: Vec::new(),
                tensors: Vec::new(),
            };
        };
        let tensors = first.tensors.iter().enumerate().map(|(i, tensor)| {
            let parts: Vec<f32> = states
                .iter()
                .flat_map(|state| {
                    assert_eq!(state.tensors[i].name, tensor.name, "states of one model");
                    state.tensors[i].data.iter().copied()
                })
                .collect();
            tensor.with(Buffer::from(&parts[..]))
        });
        Self {
            batch: states.iter().map(|state| state.batch).sum(),
            positions: states.iter().flat_map(|s| s.positions.iter().copied()).collect(),
            since_reset: states.iter().flat_map(|s| s.since_reset.iter().copied()).collect(),
            tensors: tensors.collect(),
        }
    }

    /// Counts the positions of a pass.
    pub(crate) fn advance(&mut self, sequence: &Sequence) {
        for b in 0..self.batch {
            for t in (0..sequence.time).filter(|&t| sequence.is_real(t, b)) {
                self.since_reset[b] =
                    if sequence.starts_empty(t, b) { 1 } else { self.since_reset[b] + 1 };
                self.positions[b] += 1;
            }
        }
    }

    /// Takes a tensor's buffer out, to be handed to an operation; `put` brings the next one back.
    pub(crate) fn take(&mut self, index: usize) -> Buffer {
        std::mem::take(&mut self.tensors[index].data)
    }

    pub(crate) fn put(&mut self, index: usize, data: Buffer) {
        self.tensors[index].data = data;
    }

    /// The index of a named tensor. Layers look theirs up once, when the model is laid out.
    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor.name == name)
    }
}

impl StateTensor {
    /// `[B, shape…]`: its values for all streams.
    pub fn values(&self) -> Cow<'_, [f32]> {
        if self.precision == Precision::F32 {
            return Cow::Borrowed(&self.data);
        }
        let heads = self.data.len() / cache::words(self.precision, self.width).max(1);
        let mut values = vec![0.0; heads * self.width];
        cache::recall(Level::detect(), self.precision, self.width, &self.data, &mut values);
        Cow::Owned(values)
    }

    /// The same of other streams.
    fn with(&self, data: Buffer) -> Self {
        let Self { name, shape, precision, width, .. } = self;
        let (name, shape) = (name.clone(), shape.clone());
        Self { name, shape, precision: *precision, width: *width, data }
    }
}

/// Width of what block `index`'s working memory reads.
fn working_input(config: &Config, index: usize) -> usize {
    let input = config.blocks[..index].iter().fold(config.width, |w, b| b.output_width(w));
    let block = &config.blocks[index];
    match (block.order, block.long) {
        (crate::config::Order::LongFirst, Some(long)) => long.output_width(),
        _ => input,
    }
}
