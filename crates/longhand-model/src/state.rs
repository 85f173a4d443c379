//! What a model remembers of a stream: constant in size, passed in and handed back.

use longhand_kernel::{Buffer, Sequence};

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
    /// Its values for all streams.
    pub data: Buffer,
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
            let mut add = |name: String, shape: &[usize]| {
                let count = batch * shape.iter().product::<usize>();
                let data = Buffer::zeros(count);
                let name = format!("blocks.{index}.{name}");
                tensors.push(StateTensor { name, shape: shape.to_vec(), data });
            };
            match block.working {
                Some(WorkingMemory::Attention {
                    kv_heads,
                    head_width,
                    window,
                    bidirectional,
                    ..
                }) if !bidirectional => {
                    add("attention.keys".into(), &[window, kv_heads * head_width]);
                    add("attention.values".into(), &[window, kv_heads * head_width]);
                }
                Some(WorkingMemory::Tanh {}) => {
                    add("tanh.memory".into(), &[working_input(config, index)]);
                }
                _ => {}
            }
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
            if values.len() != tensor.data.len() {
                return Err(StateError::Shape {
                    name: tensor.name.clone(),
                    expected: tensor.data.len(),
                    got: values.len(),
                });
            }
            if !values.iter().all(|x| x.is_finite()) {
                return Err(StateError::NotFinite(tensor.name.clone()));
            }
            tensor.data.copy_from_slice(&values);
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
            let width = tensor.shape.iter().product::<usize>();
            let mut data = Buffer::zeros(streams.len() * width);
            for (to, &from) in streams.iter().enumerate() {
                data[to * width..][..width].copy_from_slice(&tensor.data[from * width..][..width]);
            }
            StateTensor { name: tensor.name.clone(), shape: tensor.shape.clone(), data }
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
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            StateTensor { name, shape, data: Buffer::from(&parts[..]) }
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

/// Width of what block `index`'s working memory reads.
fn working_input(config: &Config, index: usize) -> usize {
    let input = config.blocks[..index].iter().fold(config.width, |w, b| b.output_width(w));
    let block = &config.blocks[index];
    match (block.order, block.long) {
        (crate::config::Order::LongFirst, Some(long)) => long.output_width(),
        _ => input,
    }
}
