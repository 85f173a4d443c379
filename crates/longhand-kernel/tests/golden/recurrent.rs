//! `nn.RNN` and `nn.LSTM`: one layer and stacked, in one direction and in both, padded.

use longhand_kernel::{Cpu, Sequence, lstm, rnn};

use crate::{Case, processors};

const LSTM: &[u8] = include_bytes!("lstm.safetensors");
const RNN: &[u8] = include_bytes!("rnn.safetensors");

#[test]
fn elman() {
    let case = Case::new(RNN, "rnn");
    let (x, d_y, h0) = (case.values("x"), case.values("d_y"), case.values("h0"));
    let [input, recurrent, bias_input, bias_recurrent] = names(0, false).map(|n| case.values(&n));
    let shape = case.shape("x");
    let sequence = Sequence::new(shape[0], shape[1]);
    let sizes = rnn::Sizes { input: shape[2], hidden: case.shape("y")[2] };
    let weights = rnn::Weights {
        input: &input,
        recurrent: &recurrent,
        bias_input: &bias_input,
        bias_recurrent: &bias_recurrent,
    };
    for cpu in processors() {
        let (mut y, mut h) = (vec![0.0; d_y.len()], vec![0.0; h0.len()]);
        let mut saved = vec![0.0; rnn::saved_len(sizes, &sequence)];
        rnn::forward(&cpu, sizes, &sequence, weights, &x, &h0, &mut y, &mut h, &mut saved);
        case.check("y", &y);
        case.check("h", &h);
        let (mut d_x, mut d_h0) = (vec![0.0; x.len()], vec![0.0; h0.len()]);
        let mut to = [&input, &recurrent, &bias_input, &bias_recurrent].map(|w| vec![0.0; w.len()]);
        let [to_input, to_recurrent, to_bias_input, to_bias_recurrent] = &mut to;
        let gradients = rnn::Gradients {
            weights: rnn::WeightGradients {
                input: Some(to_input),
                recurrent: Some(to_recurrent),
                bias_input: Some(to_bias_input),
                bias_recurrent: Some(to_bias_recurrent),
            },
            x: Some(&mut d_x),
            state: Some(&mut d_h0),
        };
        let d_h = case.values("d_h");
        let d_h = Some(&d_h[..]);
        rnn::backward(
            &cpu, sizes, &sequence, weights, &x, &h0, &y, &mut saved, &d_y, d_h, gradients,
        );
        case.check("d_x", &d_x);
        case.check("d_h0", &d_h0);
        for (name, got) in names(0, false).iter().zip(&to) {
            case.check(&format!("d_{name}"), got);
        }
    }
}

#[test]
fn stacked() {
    check_lstm("stacked", 2, false);
}

#[test]
fn bidirectional() {
    check_lstm("bidirectional", 2, true);
}

#[test]
fn padded() {
    check_lstm("padded", 1, true);
}

fn check_lstm(name: &'static str, layers: usize, bidirectional: bool) {
    let case = Case::new(LSTM, name);
    let shape = case.shape("x");
    let (time, batch) = (shape[0], shape[1]);
    let lengths = (name == "padded").then(|| case.numbers("lengths"));
    let sequence = Sequence { lengths: lengths.as_deref(), ..Sequence::new(time, batch) };
    let directions = if bidirectional { &[false, true][..] } else { &[false] };
    for cpu in processors() {
        let mut x = case.values("x");
        let mut passes: Vec<Pass> = Vec::new();
        for layer in 0..layers {
            let read: Vec<Pass> = directions
                .iter()
                .map(|&reverse| {
                    Pass::forward(&cpu, &case, Sequence { reverse, ..sequence }, layer, &x)
                })
                .collect();
            let hidden = read[0].sizes.hidden;
            let outputs: Vec<&[f32]> = read.iter().map(|pass| &pass.y[..]).collect();
            x = beside(&outputs, hidden);
            passes.extend(read);
        }
        case.check("y", &x);
        let [h, c] = states(&passes);
        case.check("h", &h);
        case.check("c", &c);

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
        let [d_h, d_c] = states(&passes);
        case.check("d_h0", &d_h);
        case.check("d_c0", &d_c);
    }
}

/// h and c of all passes, as PyTorch has them.
fn states(passes: &[Pass]) -> [Vec<f32>; 2] {
    let h = passes.iter().flat_map(|pass| &pass.h).copied();
    let c = passes.iter().flat_map(|pass| &pass.c).copied();
    [h.collect(), c.collect()]
}

/// One layer in one direction.
struct Pass<'a> {
    sizes: lstm::Sizes,
    sequence: Sequence<'a>,
    names: [String; 4],
    weights: [Vec<f32>; 4],
    /// Which of the states `[layers · directions, B, N]` is its own.
    state: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    /// The state after the sequence; once backward has run, the gradient of the one before.
    h: Vec<f32>,
    c: Vec<f32>,
    saved: Vec<f32>,
}

impl<'a> Pass<'a> {
    fn forward(cpu: &Cpu, case: &Case, sequence: Sequence<'a>, layer: usize, x: &[f32]) -> Self {
        let hidden = case.shape("h")[2];
        let names = names(layer, sequence.reverse);
        let sizes = lstm::Sizes { input: case.shape(&names[0])[1], hidden };
        let directions = case.shape("y")[2] / hidden;
        let state = layer * directions + usize::from(sequence.reverse);
        let mut pass = Self {
            sizes,
            sequence,
            weights: names.each_ref().map(|name| case.values(name)),
            names,
            state,
            x: x.to_vec(),
            y: vec![0.0; sequence.rows() * hidden],
            h: vec![0.0; sequence.batch * hidden],
            c: vec![0.0; sequence.batch * hidden],
            saved: vec![0.0; lstm::saved_len(sizes, &sequence)],
        };
        let [h0, c0] = pass.states(case, ["h0", "c0"]);
        let weights = weights(&pass.weights);
        let next = lstm::StateMut { h: &mut pass.h, c: &mut pass.c };
        let state = lstm::State { h: &h0, c: &c0 };
        let (y, saved) = (&mut pass.y, &mut pass.saved);
        lstm::forward(cpu, sizes, &sequence, weights, x, state, y, next, saved);
        pass
    }

    fn backward(&mut self, cpu: &Cpu, case: &Case, d_y: &[f32], d_x: &mut [f32]) {
        let [h0, c0] = self.states(case, ["h0", "c0"]);
        let [d_h, d_c] = self.states(case, ["d_h", "d_c"]);
        let mut to = self.weights.each_ref().map(|w| vec![0.0; w.len()]);
        let [input, recurrent, bias_input, bias_recurrent] = &mut to;
        self.h.fill(0.0);
        self.c.fill(0.0);
        let gradients = lstm::Gradients {
            weights: lstm::WeightGradients {
                input: Some(input),
                recurrent: Some(recurrent),
                bias_input: Some(bias_input),
                bias_recurrent: Some(bias_recurrent),
            },
            x: Some(d_x),
            state: Some(lstm::StateMut { h: &mut self.h, c: &mut self.c }),
        };
        lstm::backward(
            cpu,
            self.sizes,
            &self.sequence,
            weights(&self.weights),
            &self.x,
            lstm::State { h: &h0, c: &c0 },
            &self.y,
            &mut self.saved,
            d_y,
            Some(lstm::State { h: &d_h, c: &d_c }),
            gradients,
        );
        for (name, got) in self.names.iter().zip(&to) {
            case.check(&format!("d_{name}"), got);
        }
    }

    /// This pass's part of two state tensors.
    fn states(&self, case: &Case, names: [&str; 2]) -> [Vec<f32>; 2] {
        let len = self.sequence.batch * self.sizes.hidden;
        names.map(|name| case.values(name)[self.state * len..(self.state + 1) * len].to_vec())
    }
}

fn weights(weights: &[Vec<f32>; 4]) -> lstm::Weights<'_> {
    let [input, recurrent, bias_input, bias_recurrent] = weights;
    lstm::Weights { input, recurrent, bias_input, bias_recurrent }
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
