//! `nn.RNN` and `nn.LSTM`: one layer and stacked, in one direction and in both, padded.

use longhand_kernel::recurrence::{
    CellKind, Gradients, Input, Kept, OutputGradients, Outputs, Sizes, WeightGradients, Weights,
    backward, forward, saved_len,
};
use longhand_kernel::{Call, Cpu, Sequence};

use crate::{Case, processors};

const LSTM: &[u8] = include_bytes!("lstm.safetensors");
const RNN: &[u8] = include_bytes!("rnn.safetensors");

#[test]
fn elman() {
    check(CellKind::Rnn, Case::new(RNN, "rnn"), 1, false);
}

#[test]
fn stacked() {
    check(CellKind::Lstm, Case::new(LSTM, "stacked"), 2, false);
}

#[test]
fn bidirectional() {
    check(CellKind::Lstm, Case::new(LSTM, "bidirectional"), 2, true);
}

#[test]
fn padded() {
    check(CellKind::Lstm, Case::new(LSTM, "padded"), 1, true);
}

fn check(cell: CellKind, case: Case, layers: usize, bidirectional: bool) {
    let shape = case.shape("x");
    let (time, batch) = (shape[0], shape[1]);
    let lengths = (case.name == "padded").then(|| case.numbers("lengths"));
    let sequence = Sequence { lengths: lengths.as_deref(), ..Sequence::new(time, batch) };
    let directions = if bidirectional { &[false, true][..] } else { &[false] };
    for cpu in processors() {
        let mut x = case.values("x");
        let mut passes: Vec<Pass> = Vec::new();
        for layer in 0..layers {
            let read: Vec<Pass> = directions
                .iter()
                .map(|&reverse| {
                    Pass::forward(&cpu, &case, cell, Sequence { reverse, ..sequence }, layer, &x)
                })
                .collect();
            let hidden = read[0].sizes.hidden;
            let outputs: Vec<&[f32]> = read.iter().map(|pass| &pass.y[..]).collect();
            x = beside(&outputs, hidden);
            passes.extend(read);
        }
        case.check("y", &x);
        for (i, name) in cell.states().iter().enumerate() {
            case.check(name, &state(&passes, i));
        }

        let mut d_y = case.values("d_y");
        for read in passes.chunks_mut(directions.len()).rev() {
            let hidden = read[0].sizes.hidden;
            let mut d_x = vec![0.0; read[0].x.len()];
            for (direction, pass) in read.iter_mut().enumerate() {
                let rows = d_y.chunks(hidden * directions.len());
                let own = direction * hidden..(direction + 1) * hidden;
                let d_y: Vec<f32> = rows.flat_map(|row| row[own.clone()].to_vec()).collect();
                pass.backward(&cpu, &case, &d_y, &mut d_x);
            }
            d_y = d_x;
        }
        case.check("d_x", &d_y);
        for (i, name) in cell.states().iter().enumerate() {
            case.check(&format!("d_{name}0"), &state(&passes, i));
        }
    }
}

/// One of the states of all passes, as PyTorch has it.
fn state(passes: &[Pass], index: usize) -> Vec<f32> {
    passes.iter().flat_map(|pass| &pass.states[index]).copied().collect()
}

/// One layer in one direction.
struct Pass<'a> {
    sizes: Sizes,
    sequence: Sequence<'a>,
    names: [String; 4],
    weights: [Vec<f32>; 4],
    /// Which part of the states `[layers · directions, B, N]` is its own.
    own: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    /// The states after the sequence; once backward has run, the gradients of those before.
    states: Vec<Vec<f32>>,
    saved: Vec<f32>,
}

impl<'a> Pass<'a> {
    fn forward(
        cpu: &Cpu,
        case: &Case,
        cell: CellKind,
        sequence: Sequence<'a>,
        layer: usize,
        x: &[f32],
    ) -> Self {
        let hidden = case.shape("h")[2];
        let names = names(layer, sequence.reverse);
        let sizes = Sizes { cell, input: case.shape(&names[0])[1], hidden, heads: 1 };
        let directions = case.shape("y")[2] / hidden;
        let mut pass = Self {
            sizes,
            sequence,
            weights: names.each_ref().map(|name| case.values(name)),
            names,
            own: layer * directions + usize::from(sequence.reverse),
            x: x.to_vec(),
            y: vec![0.0; sequence.rows() * hidden],
            states: vec![vec![0.0; sequence.batch * hidden]; cell.states().len()],
            saved: vec![0.0; saved_len(sizes, &sequence)],
        };
        let state = pass.states_of(case, |name| format!("{name}0"));
        let (weights, state) = (weights(&pass.weights), slices(&state));
        let (y, next) = (&mut pass.y, &mut slices_mut(&mut pass.states));
        let saved = Some(&mut pass.saved[..]);
        let call = Call::new(cpu, sizes, &sequence);
        forward(call, weights, Input::Rows(x), &state, Outputs { y, next, saved });
        pass
    }

    fn backward(&mut self, cpu: &Cpu, case: &Case, d_y: &[f32], d_x: &mut [f32]) {
        let state = self.states_of(case, |name| format!("{name}0"));
        let d_next = self.states_of(case, |name| format!("d_{name}"));
        let mut to = self.weights.each_ref().map(|w| vec![0.0; w.len()]);
        let [input, recurrent, bias_input, bias_recurrent] = &mut to;
        self.states.iter_mut().for_each(|state| state.fill(0.0));
        let gradients = Gradients {
            weights: WeightGradients {
                input: Some(input),
                recurrent: Some(recurrent),
                biases: [Some(bias_input), Some(bias_recurrent)],
            },
            x: Some(d_x),
            state: Some(&mut slices_mut(&mut self.states)),
        };
        backward(
            Call::new(cpu, self.sizes, &self.sequence),
            weights(&self.weights),
            Input::Rows(&self.x),
            &slices(&state),
            Kept { y: &self.y, saved: &mut self.saved },
            OutputGradients { y: d_y, next: &slices(&d_next) },
            gradients,
        );
        for (name, got) in self.names.iter().zip(&to) {
            case.check(&format!("d_{name}"), got);
        }
    }

    /// This pass's part of the tensors that `name` makes of the states' names.
    fn states_of(&self, case: &Case, name: impl Fn(&str) -> String) -> Vec<Vec<f32>> {
        let len = self.sequence.batch * self.sizes.hidden;
        let own =
            |state: &&str| case.values(&name(state))[self.own * len..(self.own + 1) * len].to_vec();
        self.sizes.cell.states().iter().map(own).collect()
    }
}

fn weights([input, recurrent, bias_input, bias_recurrent]: &[Vec<f32>; 4]) -> Weights<'_> {
    Weights { input, recurrent, biases: [bias_input, bias_recurrent] }
}

fn slices(tensors: &[Vec<f32>]) -> Vec<&[f32]> {
    tensors.iter().map(|tensor| &tensor[..]).collect()
}

fn slices_mut(tensors: &mut [Vec<f32>]) -> Vec<&mut [f32]> {
    tensors.iter_mut().map(|tensor| &mut tensor[..]).collect()
}

/// PyTorch's names of a layer's weights.
fn names(layer: usize, reverse: bool) -> [String; 4] {
    let end = if reverse { "_reverse" } else { "" };
    ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|name| format!("{name}_l{layer}{end}"))
}

/// Rows of `width` of each part, one after another.
fn beside(parts: &[&[f32]], width: usize) -> Vec<f32> {
    let rows = parts[0].len() / width;
    let row = |r: usize| parts.iter().flat_map(move |part| &part[r * width..(r + 1) * width]);
    (0..rows).flat_map(row).copied().collect()
}
