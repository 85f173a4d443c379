//! The two memories of a block, as layers: each declares its parameters and its state tensors once,
//! then runs on a tape.

use longhand_kernel::Precision;
use longhand_kernel::attention::{Mask, Rotary, Sizes};
use longhand_kernel::recurrence::CellKind;

use crate::config::{LongMemory, WorkingMemory};
use crate::convolution::Convolution;
use crate::state::{State, StateId};
use crate::tape::{LongCell, MatrixMemory, Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Role, Weights};

/// A working memory: the recent past, exact and bounded.
pub(crate) enum Working {
    /// Attention over a sliding window, with its KV cache; over whole examples there is none.
    Attention { sizes: Sizes, qkv: ParameterId, cache: Option<[StateId; 2]> },
    /// Filters over the last positions.
    Convolution(Convolution),
    /// `WM[t] = tanh(x[t] + WM[t−1])`.
    Tanh { hidden: StateId },
}

/// A long memory in one direction or both.
pub(crate) struct Long {
    directions: Vec<Direction>,
}

/// A recurrence that reads forward, or one that reads backward.
pub(crate) enum Direction {
    Recurrence(Recurrence),
    Mlstm(Mlstm),
}

/// LSTM, sLSTM or Elman's recurrence.
pub(crate) struct Recurrence {
    cell: LongCell,
    /// Hidden state and cell states; nothing where it is bidirectional.
    state: Vec<StateId>,
    norm: Option<ParameterId>,
}

/// The matrix memory with its projections (Beck et al., "xLSTM 7B", 2025, figure 2).
pub(crate) struct Mlstm {
    memory: MatrixMemory,
    query: ParameterId,
    key: ParameterId,
    value: ParameterId,
    output_gate: ParameterId,
    input_gate: (ParameterId, ParameterId),
    forget_gate: (ParameterId, ParameterId),
    norm: ParameterId,
}

impl Working {
    pub(crate) fn new(
        config: &WorkingMemory,
        kv_cache: Precision,
        prefix: &str,
        input: usize,
        builder: &mut Builder,
    ) -> Self {
        let (heads, kv_heads, head_width, window, rotary, bidirectional) = match *config {
            WorkingMemory::Attention {
                heads,
                kv_heads,
                head_width,
                window,
                rotary,
                bidirectional,
            } => (heads, kv_heads, head_width, window, rotary, bidirectional),
            WorkingMemory::Convolution(ref filters) => {
                return Working::Convolution(Convolution::new(filters, prefix, input, builder));
            }
            WorkingMemory::Tanh {} => {
                let name = format!("{prefix}.tanh.memory");
                return Working::Tanh { hidden: builder.carry(name, &[input], Precision::F32) };
            }
        };
        let sizes = Sizes {
            heads,
            groups: kv_heads,
            width: head_width,
            mask: if bidirectional { Mask::Full } else { Mask::Window(window) },
            rotary: rotary.then(Rotary::default),
            cache: if bidirectional { Precision::F32 } else { kv_cache },
        };
        let init = Init::Normal(0.5 / (input as f32).sqrt());
        let name = format!("{prefix}.attention.qkv.weight");
        let qkv = builder.add(name, &[sizes.row(), input], init);
        let mut carry = |name: &str| {
            let shape = [kv_heads, window, head_width];
            builder.cache(format!("{prefix}.attention.{name}"), &shape, kv_cache)
        };
        let cache = (!bidirectional).then(|| ["keys", "values"].map(&mut carry));
        Working::Attention { sizes, qkv, cache }
    }

    pub(crate) fn run(&self, tape: &mut Tape, weights: &Weights, x: Var, state: &mut State) -> Var {
        match self {
            Working::Attention { sizes, qkv, cache } => {
                let qkv = tape.linear(weights, &[x], *qkv, None);
                tape.attention(*sizes, qkv, state, *cache)
            }
            Working::Convolution(convolution) => convolution.run(tape, weights, x, state),
            Working::Tanh { hidden } => tape.tanh_memory(x, state, *hidden),
        }
    }
}

impl Long {
    pub(crate) fn new(
        config: &LongMemory,
        prefix: &str,
        input: usize,
        builder: &mut Builder,
    ) -> Self {
        let reversals: &[bool] = if config.is_bidirectional() { &[false, true] } else { &[false] };
        let directions = reversals.iter().map(|&reverse| match config.cell().kind() {
            Some(kind) => {
                let recurrence = Recurrence::new(config, kind, prefix, input, reverse, builder);
                Direction::Recurrence(recurrence)
            }
            None => Direction::Mlstm(Mlstm::new(config, prefix, input, reverse, builder)),
        });
        Self { directions: directions.collect() }
    }

    pub(crate) fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        x: Var,
        state: &mut State,
        weight_drop: f32,
    ) -> Var {
        let mut joined = None;
        for direction in &self.directions {
            let output = direction.run(tape, weights, x, state, weight_drop);
            joined = Some(tape.join_behind(joined, output));
        }
        joined.unwrap_or(x)
    }

    /// The directions, the forward one first.
    pub(crate) fn directions(&self) -> &[Direction] {
        &self.directions
    }
}

impl Direction {
    pub(crate) fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        x: Var,
        state: &mut State,
        weight_drop: f32,
    ) -> Var {
        match self {
            Self::Recurrence(recurrence) => recurrence.run(tape, weights, x, state, weight_drop),
            Self::Mlstm(mlstm) => mlstm.run(tape, weights, x, state),
        }
    }
}

impl Recurrence {
    fn new(
        config: &LongMemory,
        kind: CellKind,
        prefix: &str,
        input: usize,
        reverse: bool,
        builder: &mut Builder,
    ) -> Self {
        let (n, heads) = (config.hidden(), config.heads());
        let (name, gates) = (kind.name(), kind.gates());
        let suffix = if reverse { "_l0_reverse" } else { "_l0" };
        let mut add = |what: &str, shape: &[usize], init| {
            builder.add(format!("{prefix}.{name}.{what}{suffix}"), shape, init)
        };
        let uniform = |fan: usize| Init::Uniform(1.0 / (fan as f32).sqrt());
        let input_weight = add("weight_ih", &[gates * n, input], uniform(input));
        let recurrent = match kind {
            // Block-diagonal: each head sees its own units only.
            CellKind::Slstm => {
                let units = n / heads;
                add("weight_hh", &[heads, gates * units, units], uniform(units))
            }
            _ => add("weight_hh", &[gates * n, n], uniform(n)),
        };
        // PyTorch has two biases; the forget gate begins open through the first.
        let first = match (config.timescale(), gates) {
            (Some(longest), 4) => Init::Timescales(longest),
            (None, 4) => Init::ForgetOne,
            _ => Init::Zeros,
        };
        let bias_input = add("bias_ih", &[gates * n], first);
        let bias_recurrent =
            (kind != CellKind::Slstm).then(|| add("bias_hh", &[gates * n], Init::Zeros));
        let cell = LongCell {
            kind,
            hidden: n,
            heads,
            input: input_weight,
            recurrent,
            biases: [Some(bias_input), bias_recurrent],
            reverse,
        };
        // xLSTM normalises what its scalar memory gives, head by head.
        let norm = (kind == CellKind::Slstm)
            .then(|| builder.add(format!("{prefix}.slstm.norm{suffix}.weight"), &[n], Init::Ones));
        let units = n / heads;
        for (id, recurrent) in [(input_weight, false), (recurrent, true)] {
            builder.role(id, Role::Gates { gates, heads, units, recurrent });
        }
        // Read in both directions, each example begins and ends empty.
        let names: &[&str] = if config.is_bidirectional() { &[] } else { kind.states() };
        let mut carry =
            |state: &&str| builder.carry(format!("{prefix}.{name}.{state}"), &[n], Precision::F32);
        Self { cell, state: names.iter().map(&mut carry).collect(), norm }
    }

    fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        x: Var,
        state: &mut State,
        weight_drop: f32,
    ) -> Var {
        let y = tape.recurrence(weights, self.cell, x, state, &self.state, weight_drop);
        match self.norm {
            Some(weight) => tape.head_norm(weights, y, self.cell.heads, weight),
            None => y,
        }
    }
}

impl Mlstm {
    fn new(
        config: &LongMemory,
        prefix: &str,
        input: usize,
        reverse: bool,
        builder: &mut Builder,
    ) -> Self {
        let (n, heads) = (config.hidden(), config.heads());
        let suffix = if reverse { "_reverse" } else { "" };
        let mut add = |what: &str, shape: &[usize], init| {
            builder.add(format!("{prefix}.mlstm{suffix}.{what}"), shape, init)
        };
        let dense = Init::Normal(0.5 / (input as f32).sqrt());
        // In the order of the file: drawn values follow it.
        let [query, key, value, output_gate] = ["q", "k", "v", "ogate_preact"]
            .map(|name| add(&format!("{name}.weight"), &[n, input], dense));
        let mut gate = |name: &str, bias| {
            let weight = add(&format!("{name}.weight"), &[heads, input], Init::Normal(0.02));
            (weight, add(&format!("{name}.bias"), &[heads], bias))
        };
        let input_gate = gate("igate_preact", Init::Zeros);
        let forget_gate = gate("fgate_preact", Init::Open);
        let norm = add("multihead_norm.weight", &[n], Init::Ones);
        let mut carry = |name: &str, shape: &[usize]| {
            builder.carry(format!("{prefix}.mlstm.{name}"), shape, Precision::F32)
        };
        let width = n / heads;
        let state = (!config.is_bidirectional()).then(|| {
            [carry("c", &[heads, width, width]), carry("n", &[heads, width]), carry("m", &[heads])]
        });
        let memory = MatrixMemory { heads, gate: input_gate.0, reverse, state };
        Self { memory, query, key, value, output_gate, input_gate, forget_gate, norm }
    }

    fn run(&self, tape: &mut Tape, weights: &Weights, x: Var, state: &mut State) -> Var {
        let mut project = |weight, bias| tape.linear(weights, &[x], weight, bias);
        let (q, k) = (project(self.query, None), project(self.key, None));
        let (v, output_gate) = (project(self.value, None), project(self.output_gate, None));
        let input_gate = project(self.input_gate.0, Some(self.input_gate.1));
        let forget_gate = project(self.forget_gate.0, Some(self.forget_gate.1));
        let gates = [input_gate, forget_gate];
        let h = tape.mlstm(weights, self.memory, [q, k, v], gates, state);
        let h = tape.head_norm(weights, h, self.memory.heads, self.norm);
        tape.modulate(h, output_gate)
    }
}
