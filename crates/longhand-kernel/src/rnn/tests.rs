use super::*;
use crate::testing::memory::{Inputs, Memory, Outcome, seven_properties};

impl Memory for Sizes {
    fn widths(&self) -> (usize, usize) {
        (self.input, self.hidden)
    }
    fn weights(&self) -> Vec<usize> {
        let n = self.hidden;
        vec![n * self.input, n * n, n, n]
    }
    fn states(&self) -> Vec<usize> {
        vec![self.hidden]
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32> {
        let mut y = vec![f32::NAN; sequence.rows() * self.hidden];
        let mut saved = vec![f32::NAN; saved_len(*self, sequence)];
        let mut next = inputs.state.clone();
        let (weights, state) = (weights(inputs), &inputs.state[0]);
        super::forward(
            cpu,
            *self,
            sequence,
            weights,
            &inputs.x,
            state,
            &mut y,
            &mut next[0],
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
            &inputs.state[0],
            &outcome.y,
            &mut outcome.saved,
            d_y,
            Some(&d_next[0]),
            gradients(&mut to),
        );
        to.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64> {
        let mut y = vec![0.0; sequence.rows() * self.hidden];
        let mut next = inputs.state.clone();
        let (weights, state) = (weights(inputs), &inputs.state[0]);
        reference::forward(*self, sequence, weights, &inputs.x, state, &mut y, &mut next[0]);
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
        let (weights, state) = (weights(inputs), &inputs.state[0]);
        let (d_next, gradients) = (Some(d_next[0].as_slice()), gradients(&mut to));
        reference::backward(*self, sequence, weights, &inputs.x, state, d_y, d_next, gradients);
        to
    }
}

fn weights<R>(inputs: &Inputs<R>) -> Weights<'_, R> {
    let [input, recurrent, bias_input, bias_recurrent] = inputs.weights.as_slice() else {
        unreachable!()
    };
    Weights { input, recurrent, bias_input, bias_recurrent }
}

fn gradients<R>(to: &mut Inputs<R>) -> Gradients<'_, R> {
    let [input, recurrent, bias_input, bias_recurrent] = to.weights.as_mut_slice() else {
        unreachable!()
    };
    Gradients {
        weights: WeightGradients {
            input: Some(input),
            recurrent: Some(recurrent),
            bias_input: Some(bias_input),
            bias_recurrent: Some(bias_recurrent),
        },
        x: Some(&mut to.x),
        state: Some(&mut to.state[0]),
    }
}

seven_properties!(
    Sizes { input: 19, hidden: 37 },
    Sizes { input: 2, hidden: 3 },
    [(1, 1), (5, 1), (13, 5), (2, 53)]
);

#[test]
fn awkward_sizes_equal_the_reference() {
    for (input, hidden) in [(0, 3), (3, 0), (1, 1), (5, 200), (4, 512)] {
        let sizes = Sizes { input, hidden };
        crate::testing::memory::fast_equals_reference(&sizes, &[(7, 4), (0, 2), (3, 0)]);
    }
}
