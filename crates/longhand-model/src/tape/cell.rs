//! The recurrences as one: which operation of the kernel a [`LongCell`] calls, with which weights.

use longhand_kernel::weights::CellPanels;
use longhand_kernel::{Buffer, Cpu, Input, Sequence, lstm, rnn, slstm};

use super::memory::States;
use crate::weights::{Gradients, ParameterId, Weights};

/// A recurrence over hidden units, with its parameters.
#[derive(Clone, Copy)]
pub(crate) enum LongCell {
    /// `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    Lstm { hidden: usize, weights: [ParameterId; 4] },
    /// `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    Rnn { hidden: usize, weights: [ParameterId; 4] },
    /// `weight_ih`, `weight_hh`, `bias_ih`.
    Slstm { hidden: usize, heads: usize, weights: [ParameterId; 3] },
}

/// What both directions of a pass read.
pub(super) struct Reading<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) sequence: &'a Sequence<'a>,
    pub(super) weights: &'a Weights,
    /// The recurrent weights, or a copy with some dropped.
    pub(super) recurrent: &'a [f32],
    /// Width of a row of `x`.
    pub(super) width: usize,
    pub(super) x: Input<'a>,
    pub(super) before: &'a States,
    /// The input's part of the gates, where it is known already.
    pub(super) projected: Option<&'a [f32]>,
}

impl LongCell {
    pub(super) fn gates_of_a_unit(&self) -> usize {
        match self {
            LongCell::Rnn { .. } => 1,
            LongCell::Lstm { .. } | LongCell::Slstm { .. } => 4,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            LongCell::Lstm { .. } => "lstm",
            LongCell::Rnn { .. } => "rnn",
            LongCell::Slstm { .. } => "slstm",
        }
    }

    pub(crate) fn hidden(&self) -> usize {
        match *self {
            LongCell::Lstm { hidden, .. }
            | LongCell::Rnn { hidden, .. }
            | LongCell::Slstm { hidden, .. } => hidden,
        }
    }

    pub(crate) fn heads(&self) -> usize {
        match *self {
            LongCell::Slstm { heads, .. } => heads,
            LongCell::Lstm { .. } | LongCell::Rnn { .. } => 1,
        }
    }

    /// How many tensors it carries.
    pub(super) fn states(&self) -> usize {
        match self {
            LongCell::Rnn { .. } => 1,
            LongCell::Lstm { .. } => 2,
            LongCell::Slstm { .. } => 4,
        }
    }

    /// The input weights.
    pub(super) fn input(&self) -> ParameterId {
        self.parameters()[0]
    }

    /// The recurrent weights.
    pub(super) fn recurrent(&self) -> ParameterId {
        self.parameters()[1]
    }

    pub(super) fn parameters(&self) -> &[ParameterId] {
        match self {
            LongCell::Lstm { weights, .. } | LongCell::Rnn { weights, .. } => weights,
            LongCell::Slstm { weights, .. } => weights,
        }
    }

    pub(super) fn saved_len(&self, input: usize, sequence: &Sequence) -> usize {
        match *self {
            LongCell::Lstm { hidden, .. } => {
                lstm::saved_len(lstm::Sizes { input, hidden }, sequence)
            }
            LongCell::Rnn { hidden, .. } => rnn::saved_len(rnn::Sizes { input, hidden }, sequence),
            LongCell::Slstm { hidden, heads, .. } => {
                slstm::saved_len(slstm::Sizes { input, hidden, heads }, sequence)
            }
        }
    }

    pub(super) fn forward(
        &self,
        read: &Reading,
        y: &mut [f32],
        after: &mut States,
        saved: &mut [f32],
    ) {
        let Reading { cpu, sequence, recurrent, width: input, x, .. } = *read;
        let value = |id: ParameterId| read.weights.values(id);
        if let Some(panels) = self.panels(read.weights) {
            let panels = CellPanels { projected: read.projected, ..panels };
            return self.forward_packed(read, panels, y, after, saved);
        }
        let [h, c, n, m] = read.before;
        let [next_h, next_c, next_n, next_m] = after;
        match *self {
            LongCell::Lstm { hidden, weights: [w, _, b1, b2] } => lstm::forward(
                cpu,
                lstm::Sizes { input, hidden },
                sequence,
                lstm_weights(value(w), recurrent, value(b1), value(b2)),
                x,
                lstm::State { h, c },
                y,
                lstm::StateMut { h: next_h, c: next_c },
                saved,
            ),
            LongCell::Rnn { hidden, weights: [w, _, b1, b2] } => rnn::forward(
                cpu,
                rnn::Sizes { input, hidden },
                sequence,
                rnn_weights(value(w), recurrent, value(b1), value(b2)),
                x,
                h,
                y,
                next_h,
                saved,
            ),
            LongCell::Slstm { hidden, heads, weights: [w, _, b] } => slstm::forward(
                cpu,
                slstm::Sizes { input, hidden, heads },
                sequence,
                slstm::Weights { input: value(w), recurrent, bias: value(b) },
                x,
                slstm::State { h, c, n, m },
                y,
                slstm::StateMut { h: next_h, c: next_c, n: next_n, m: next_m },
                saved,
            ),
        }
    }

    /// The weights, where they are packed.
    fn panels<'a>(&self, weights: &'a Weights) -> Option<CellPanels<'a>> {
        let ids = self.parameters();
        Some(CellPanels {
            input: weights.panels(ids[0])?,
            recurrent: weights.panels(ids[1])?,
            biases: [2, 3].map(|i| ids.get(i).map_or(&[][..], |&id| weights.values(id))),
            projected: None,
        })
    }

    fn forward_packed(
        &self,
        read: &Reading,
        panels: CellPanels,
        y: &mut [f32],
        after: &mut States,
        saved: &mut [f32],
    ) {
        let Reading { cpu, sequence, width: input, before: [h, c, n, m], .. } = *read;
        let Input::Rows(x) = read.x else {
            unreachable!("a packed table is not read by token: `projected` has what is made of one")
        };
        let [next_h, next_c, next_n, next_m] = after;
        match *self {
            LongCell::Lstm { hidden, .. } => {
                let sizes = lstm::Sizes { input, hidden };
                let (before, next) =
                    (lstm::State { h, c }, lstm::StateMut { h: next_h, c: next_c });
                lstm::forward_packed(cpu, sizes, sequence, panels, x, before, y, next, saved);
            }
            LongCell::Rnn { hidden, .. } => {
                let sizes = rnn::Sizes { input, hidden };
                rnn::forward_packed(cpu, sizes, sequence, panels, x, h, y, next_h, saved);
            }
            LongCell::Slstm { hidden, heads, .. } => {
                let sizes = slstm::Sizes { input, hidden, heads };
                let before = slstm::State { h, c, n, m };
                let next = slstm::StateMut { h: next_h, c: next_c, n: next_n, m: next_m };
                slstm::forward_packed(cpu, sizes, sequence, panels, x, before, y, next, saved);
            }
        }
    }

    /// The input and the forget gates of every unit at each real position, where there are any.
    pub(super) fn gates(
        &self,
        cpu: &Cpu,
        sequence: &Sequence,
        input: usize,
        saved: &[f32],
    ) -> Option<[Vec<f32>; 2]> {
        let read = |gate: usize| {
            let mut out = vec![0.0; sequence.real_rows().count() * self.hidden()];
            match *self {
                LongCell::Lstm { hidden, .. } => {
                    let sizes = lstm::Sizes { input, hidden };
                    lstm::gate(cpu, sizes, sequence, saved, gate, &mut out);
                }
                LongCell::Slstm { hidden, heads, .. } => {
                    let sizes = slstm::Sizes { input, hidden, heads };
                    slstm::gate(cpu, sizes, sequence, saved, gate, &mut out);
                }
                LongCell::Rnn { .. } => return None,
            }
            Some(out)
        };
        Some([read(0)?, read(1)?])
    }

    /// `dx` is the gradient of the rows or of the table of `read.x`. `d_recurrent` stands in for
    /// the recurrent weights' gradient where some were dropped.
    pub(super) fn backward(
        &self,
        read: &Reading,
        y: &[f32],
        saved: &mut [f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
        gradients: &mut Gradients,
        d_recurrent: Option<&mut [f32]>,
    ) {
        let Reading { cpu, sequence, recurrent, width: input, x, .. } = *read;
        let value = |id: ParameterId| read.weights.values(id);
        let [h, c, n, m] = read.before;
        let ids = self.parameters();
        let mut taken: [Option<Buffer>; 4] =
            std::array::from_fn(|i| ids.get(i).and_then(|&id| gradients.take(id)));
        let mut wanted = taken.each_mut().map(Option::as_deref_mut);
        if d_recurrent.is_some() {
            wanted[1] = d_recurrent;
        }
        let [d_w, d_u, d_b1, d_b2] = wanted;
        match *self {
            LongCell::Lstm { hidden, weights: [w, _, b1, b2] } => {
                let weights = lstm::WeightGradients {
                    input: d_w,
                    recurrent: d_u,
                    bias_input: d_b1,
                    bias_recurrent: d_b2,
                };
                lstm::backward(
                    cpu,
                    lstm::Sizes { input, hidden },
                    sequence,
                    lstm_weights(value(w), recurrent, value(b1), value(b2)),
                    x,
                    lstm::State { h, c },
                    y,
                    saved,
                    dy,
                    None,
                    lstm::Gradients { weights, x: dx, state: None },
                );
            }
            LongCell::Rnn { hidden, weights: [w, _, b1, b2] } => {
                let weights = rnn::WeightGradients {
                    input: d_w,
                    recurrent: d_u,
                    bias_input: d_b1,
                    bias_recurrent: d_b2,
                };
                rnn::backward(
                    cpu,
                    rnn::Sizes { input, hidden },
                    sequence,
                    rnn_weights(value(w), recurrent, value(b1), value(b2)),
                    x,
                    h,
                    y,
                    saved,
                    dy,
                    None,
                    rnn::Gradients { weights, x: dx, state: None },
                );
            }
            LongCell::Slstm { hidden, heads, weights: [w, _, b] } => {
                let weights = slstm::WeightGradients { input: d_w, recurrent: d_u, bias: d_b1 };
                slstm::backward(
                    cpu,
                    slstm::Sizes { input, hidden, heads },
                    sequence,
                    slstm::Weights { input: value(w), recurrent, bias: value(b) },
                    x,
                    slstm::State { h, c, n, m },
                    y,
                    saved,
                    dy,
                    None,
                    slstm::Gradients { weights, x: dx, state: None },
                );
            }
        }
        for (&id, gradient) in ids.iter().zip(taken) {
            gradients.put(id, gradient);
        }
    }
}

fn lstm_weights<'a>(
    input: &'a [f32],
    recurrent: &'a [f32],
    bias_input: &'a [f32],
    bias_recurrent: &'a [f32],
) -> lstm::Weights<'a> {
    lstm::Weights { input, recurrent, bias_input, bias_recurrent }
}

fn rnn_weights<'a>(
    input: &'a [f32],
    recurrent: &'a [f32],
    bias_input: &'a [f32],
    bias_recurrent: &'a [f32],
) -> rnn::Weights<'a> {
    rnn::Weights { input, recurrent, bias_input, bias_recurrent }
}
