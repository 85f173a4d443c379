//! The two memories of a block and their settings.

use longhand_kernel::recurrence::CellKind;
use serde::{Deserialize, Serialize};

use super::fields;

/// A memory of the recent past.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkingMemory {
    /// Attention over a sliding window.
    Attention {
        /// H: number of query heads.
        heads: usize,
        /// G: number of key and value heads; each serves `heads / kv_heads` query heads.
        kv_heads: usize,
        /// K: width of a head.
        head_width: usize,
        /// W: positions that are visible, the present one included.
        window: usize,
        /// Whether queries and keys are rotated by position (Su et al., 2021; default: true).
        #[serde(default = "fields::yes")]
        rotary: bool,
        /// Whether the whole sequence is visible, the future included, as
        /// in encoders (default: false).
        #[serde(default)]
        bidirectional: bool,
    },
    /// Convolution over the positions around each one (Kim, 2014), and ReLU.
    Convolution(Filters),
    /// `WM[t] = tanh(x[t] + WM[t−1])`.
    Tanh {},
}

/// The filters of a convolution: some of each width from the shortest to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filters {
    /// N: filters of each width.
    pub filters: usize,
    /// Positions that the narrowest filters see.
    pub shortest: usize,
    /// Positions that the widest filters see.
    pub longest: usize,
    /// Whether they see positions before and behind the present one, as in encoders; else they see
    /// the last ones, the present one included (default: false).
    #[serde(default)]
    pub bidirectional: bool,
}

/// A memory of the whole past. `bidirectional` memories read the sequence in both directions, each
/// direction with `hidden` units of its own, and concatenate the outputs (default: false).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LongMemory {
    /// Long short-term memory with a forget gate (Hochreiter and Schmidhuber, 1997; Gers et al.,
    /// 2000), in PyTorch's layout.
    Lstm {
        /// N: hidden units in each direction.
        hidden: usize,
        /// Whether it reads both directions.
        #[serde(default)]
        bidirectional: bool,
        /// The longest time, in tokens, that a unit's initial biases let it remember (default:
        /// none). Forget biases are ln u with u drawn from 1 to one less than this, input biases
        /// their negatives (Tallec and Ollivier, "Can recurrent neural networks warp time?", 2018,
        /// equation 16). Without it forget biases begin at 1, and a gradient fades
        /// within about 20 tokens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timescale: Option<u32>,
    },
    /// Scalar memory with exponential gates (Beck et al., "xLSTM", 2024).
    Slstm {
        /// N: hidden units in each direction.
        hidden: usize,
        /// H: heads that divide the units (default: 1).
        #[serde(default = "fields::one")]
        heads: usize,
        /// Whether it reads both directions.
        #[serde(default)]
        bidirectional: bool,
    },
    /// Matrix memory (Beck et al., 2024).
    Mlstm {
        /// N: hidden units in each direction.
        hidden: usize,
        /// H: heads that divide the units (default: 1).
        #[serde(default = "fields::one")]
        heads: usize,
        /// Whether it reads both directions.
        #[serde(default)]
        bidirectional: bool,
    },
    /// Elman's recurrence, a baseline.
    Rnn {
        /// N: hidden units in each direction.
        hidden: usize,
        /// Whether it reads both directions.
        #[serde(default)]
        bidirectional: bool,
    },
}

/// The recurrence of a long memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// Long short-term memory, see [`LongMemory::Lstm`].
    Lstm,
    /// Scalar memory with exponential gates, see [`LongMemory::Slstm`].
    Slstm,
    /// Matrix memory, see [`LongMemory::Mlstm`].
    Mlstm,
    /// Elman's recurrence, see [`LongMemory::Rnn`].
    Rnn,
}

impl WorkingMemory {
    /// Width of its output for an input of the given width.
    pub fn output_width(&self, input: usize) -> usize {
        match *self {
            WorkingMemory::Attention { heads, head_width, .. } => heads * head_width,
            WorkingMemory::Convolution(filters) => filters.output_width(),
            WorkingMemory::Tanh {} => input,
        }
    }

    /// Whether it sees the future.
    pub fn is_bidirectional(&self) -> bool {
        match *self {
            WorkingMemory::Attention { bidirectional, .. } => bidirectional,
            WorkingMemory::Convolution(filters) => filters.bidirectional,
            WorkingMemory::Tanh {} => false,
        }
    }
}

impl Filters {
    /// Width of the outputs of all filters side by side.
    pub fn output_width(&self) -> usize {
        self.filters * (self.longest + 1).saturating_sub(self.shortest)
    }
}

impl LongMemory {
    /// A memory of one direction with one head and default settings.
    pub fn new(cell: Cell, hidden: usize) -> Self {
        let (heads, bidirectional) = (1, false);
        match cell {
            Cell::Lstm => LongMemory::Lstm { hidden, bidirectional, timescale: None },
            Cell::Slstm => LongMemory::Slstm { hidden, heads, bidirectional },
            Cell::Mlstm => LongMemory::Mlstm { hidden, heads, bidirectional },
            Cell::Rnn => LongMemory::Rnn { hidden, bidirectional },
        }
    }

    /// The recurrence without its sizes.
    pub fn cell(&self) -> Cell {
        match self {
            LongMemory::Lstm { .. } => Cell::Lstm,
            LongMemory::Slstm { .. } => Cell::Slstm,
            LongMemory::Mlstm { .. } => Cell::Mlstm,
            LongMemory::Rnn { .. } => Cell::Rnn,
        }
    }

    /// N: hidden units in each direction.
    pub fn hidden(&self) -> usize {
        let mut copy = *self;
        *copy.hidden_mut()
    }

    /// H: heads that divide the units; 1 for an LSTM and Elman's recurrence.
    pub fn heads(&self) -> usize {
        match *self {
            LongMemory::Slstm { heads, .. } | LongMemory::Mlstm { heads, .. } => heads,
            LongMemory::Lstm { .. } | LongMemory::Rnn { .. } => 1,
        }
    }

    /// Whether it reads both directions.
    pub fn is_bidirectional(&self) -> bool {
        match *self {
            LongMemory::Lstm { bidirectional, .. }
            | LongMemory::Slstm { bidirectional, .. }
            | LongMemory::Mlstm { bidirectional, .. }
            | LongMemory::Rnn { bidirectional, .. } => bidirectional,
        }
    }

    /// The longest time, in tokens, that an LSTM's initial biases let it remember.
    pub fn timescale(&self) -> Option<u32> {
        match *self {
            LongMemory::Lstm { timescale, .. } => timescale,
            _ => None,
        }
    }

    /// N, to be changed.
    pub fn hidden_mut(&mut self) -> &mut usize {
        match self {
            LongMemory::Lstm { hidden, .. }
            | LongMemory::Slstm { hidden, .. }
            | LongMemory::Mlstm { hidden, .. }
            | LongMemory::Rnn { hidden, .. } => hidden,
        }
    }

    /// The same memory with another number of heads, where its recurrence has heads.
    #[must_use]
    pub fn with_heads(mut self, wanted: usize) -> Self {
        if let LongMemory::Slstm { heads, .. } | LongMemory::Mlstm { heads, .. } = &mut self {
            *heads = wanted;
        }
        self
    }

    /// The same memory, reading both directions.
    #[must_use]
    pub fn in_both_directions(mut self) -> Self {
        match &mut self {
            LongMemory::Lstm { bidirectional, .. }
            | LongMemory::Slstm { bidirectional, .. }
            | LongMemory::Mlstm { bidirectional, .. }
            | LongMemory::Rnn { bidirectional, .. } => *bidirectional = true,
        }
        self
    }

    /// Width of its output.
    pub fn output_width(&self) -> usize {
        if self.is_bidirectional() { 2 * self.hidden() } else { self.hidden() }
    }
}

impl Cell {
    /// The kernel's cell; the matrix memory has none.
    pub(crate) fn kind(self) -> Option<CellKind> {
        match self {
            Cell::Lstm => Some(CellKind::Lstm),
            Cell::Slstm => Some(CellKind::Slstm),
            Cell::Rnn => Some(CellKind::Rnn),
            Cell::Mlstm => None,
        }
    }
}
