use super::*;
use crate::testing::memory::{Inputs, Memory, Outcome, seven_properties};

impl Memory for Sizes {
    fn widths(&self) -> (usize, usize) {
        (self.input, self.hidden)
    }
    fn weights(&self) -> Vec<usize> {
        let columns = 4 * self.hidden;
        vec![columns * self.input, columns * self.hidden / self.heads, columns]
    }
    fn states(&self) -> Vec<usize> {
        vec![self.hidden; 4]
    }
    fn admit_state(&self, state: &mut [Vec<f32>]) {
        state[2].iter_mut().for_each(|n| *n = n.abs() + 0.5);
    }
    fn admit_gradient(&self, next: &[Vec<f64>], d_next: &mut [Vec<f64>]) {
        // As the gradient of anything that does not change with the stabiliser: d m = 0 here.
        for i in 0..next[1].len() {
            d_next[2][i] = -d_next[1][i] * next[1][i] / next[2][i];
            d_next[3][i] = 0.0;
        }
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32> {
        let mut y = vec![f32::NAN; sequence.rows() * self.hidden];
        let mut saved = vec![f32::NAN; saved_len(*self, sequence)];
        let mut next = inputs.state.clone();
        super::forward(
            cpu,
            *self,
            sequence,
            weights(inputs),
            &inputs.x,
            state(&inputs.state),
            &mut y,
            state_mut(&mut next),
            &mut saved,
        );
        Outcome { y, next, saved }
    }

    fn backward(
        &self,
        cpu: &Cpu,
        sequence: &Sequence,
        inputs: &Inputs<f32>,
        outcome: &mut Outcome<f32>,
        d_y: &[f32],
        d_next: &[Vec<f32>],
    ) -> Inputs<f32> {
        let mut to = inputs.clone();
        super::backward(
            cpu,
            *self,
            sequence,
            weights(inputs),
            &inputs.x,
            state(&inputs.state),
            &outcome.y,
            &mut outcome.saved,
            d_y,
            Some(StateGradient { h: &d_next[0], c: &d_next[1], n: &d_next[2] }),
            gradients(&mut to),
        );
        to.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64> {
        let mut y = vec![0.0; sequence.rows() * self.hidden];
        let mut next = inputs.state.clone();
        reference::forward(
            *self,
            sequence,
            weights(inputs),
            &inputs.x,
            state(&inputs.state),
            &mut y,
            state_mut(&mut next),
        );
        Outcome { y, next, saved: Vec::new() }
    }

    fn reference_backward(
        &self,
        sequence: &Sequence,
        inputs: &Inputs<f64>,
        d_y: &[f64],
        d_next: &[Vec<f64>],
    ) -> Inputs<f64> {
        let mut to = inputs.zeros_like();
        reference::backward(
            *self,
            sequence,
            weights(inputs),
            &inputs.x,
            state(&inputs.state),
            d_y,
            Some(StateGradient { h: &d_next[0], c: &d_next[1], n: &d_next[2] }),
            gradients(&mut to),
        );
        to
    }
}

fn weights<R>(inputs: &Inputs<R>) -> Weights<'_, R> {
    Weights { input: &inputs.weights[0], recurrent: &inputs.weights[1], bias: &inputs.weights[2] }
}

fn state<R>(state: &[Vec<R>]) -> State<'_, R> {
    State { h: &state[0], c: &state[1], n: &state[2], m: &state[3] }
}

fn state_mut<R>(state: &mut [Vec<R>]) -> StateMut<'_, R> {
    let [h, c, n, m] = state else { unreachable!() };
    StateMut { h, c, n, m }
}

fn gradients<R>(to: &mut Inputs<R>) -> Gradients<'_, R> {
    let [input, recurrent, bias] = to.weights.as_mut_slice() else { unreachable!() };
    Gradients {
        weights: WeightGradients {
            input: Some(input),
            recurrent: Some(recurrent),
            bias: Some(bias),
        },
        x: Some(&mut to.x),
        state: Some(state_mut(&mut to.state)),
    }
}

seven_properties!(
    Sizes { input: 19, hidden: 42, heads: 2 },
    Sizes { input: 2, hidden: 4, heads: 2 },
    [(1, 1), (5, 1), (13, 5), (2, 53)]
);

#[test]
fn heads_of_awkward_sizes_equal_the_reference() {
    for (hidden, heads) in [(3, 3), (5, 1), (48, 3), (128, 1), (0, 1)] {
        let sizes = Sizes { input: 5, hidden, heads };
        crate::testing::memory::fast_equals_reference(&sizes, &[(7, 4), (0, 2), (3, 0)]);
    }
}

#[test]
fn outputs_do_not_change_with_the_stabiliser() {
    let sizes = Sizes { input: 3, hidden: 8, heads: 2 };
    let (cpu, sequence) = (Cpu::new(1), Sequence::new(30, 2));
    let mut inputs = crate::testing::memory::inputs(&sizes, 30, 2, 1);
    let before = Memory::forward(&sizes, &cpu, &sequence, &inputs);
    let factor = (-3.0f32).exp();
    for s in [1, 2] {
        inputs.state[s].iter_mut().for_each(|x| *x *= factor);
    }
    inputs.state[3].iter_mut().for_each(|m| *m += 3.0);
    let after = Memory::forward(&sizes, &cpu, &sequence, &inputs);
    crate::testing::close("y", &after.y, &crate::testing::wide(&before.y), 1e-5);
}
