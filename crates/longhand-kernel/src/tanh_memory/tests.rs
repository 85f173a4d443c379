use super::*;
use crate::testing::memory::{
    Inputs, Memory, Outcome, fast_equals_reference as equal, seven_properties,
};

struct Width(usize);

impl Memory for Width {
    fn widths(&self) -> (usize, usize) {
        (self.0, self.0)
    }
    fn weights(&self) -> Vec<usize> {
        Vec::new()
    }
    fn states(&self) -> Vec<usize> {
        vec![self.0]
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32> {
        let mut y = vec![f32::NAN; inputs.x.len()];
        let mut next = inputs.state.clone();
        let state = &inputs.state[0];
        super::forward(Call::new(cpu, self.0, sequence), &inputs.x, state, &mut y, &mut next[0]);
        Outcome { y, next, saved: Vec::new() }
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
        let (d_next, d_x, d_state) = (Some(&*d_next[0]), Some(&mut *to.x), &mut to.state[0]);
        let call = Call::new(cpu, self.0, sequence);
        super::backward(call, &outcome.y, d_y, d_next, d_x, Some(d_state));
        to.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64> {
        let mut y = vec![0.0; inputs.x.len()];
        let mut next = inputs.state.clone();
        let state = &inputs.state[0];
        reference::forward(self.0, sequence, &inputs.x, state, &mut y, &mut next[0]);
        Outcome { y, next, saved: Vec::new() }
    }

    fn reference_backward(
        &self,
        sequence: &Sequence,
        inputs: &Inputs<f64>,
        d_y: &[f64],
        d_next: &[Vec<f64>],
    ) -> Inputs<f64> {
        let y = self.reference(sequence, inputs).y;
        let mut to = inputs.zeros_like();
        let (d_next, d_x, d_state) = (Some(&*d_next[0]), Some(&mut *to.x), &mut to.state[0]);
        reference::backward(self.0, sequence, &y, d_y, d_next, d_x, Some(d_state));
        to
    }
}

seven_properties!(Width(37), Width(3), [(1, 1), (5, 1), (13, 5), (2, 53)]);

#[test]
fn awkward_widths_equal_the_reference() {
    for width in [0, 1, 64, 65, 1000] {
        equal(&Width(width), &[(7, 4), (0, 2), (3, 0), (40, 2)]);
    }
}
