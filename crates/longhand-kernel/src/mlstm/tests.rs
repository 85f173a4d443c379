use super::*;
use crate::testing::memory::{Inputs as Tensors, Memory, Outcome, seven_properties};
use crate::testing::{close, levels, values, wide};

/// A row of x is [q | k | v | input gates | forget gates].
fn columns(sizes: &Sizes) -> [usize; 5] {
    let values = sizes.heads * sizes.width;
    [values, values, values, sizes.heads, sizes.heads]
}

fn take_apart<R: Copy>(sizes: &Sizes, x: &[R]) -> [Vec<R>; 5] {
    let row: usize = columns(sizes).iter().sum();
    let mut start = 0;
    columns(sizes).map(|count| {
        let part = start..start + count;
        start = part.end;
        x.chunks(row).flat_map(|row| &row[part.clone()]).copied().collect()
    })
}

fn put_together<R: Copy>(sizes: &Sizes, parts: &[Vec<R>; 5]) -> Vec<R> {
    let rows = parts[3].len() / sizes.heads;
    let part = |r: usize, i: usize| {
        let count = columns(sizes)[i];
        parts[i][r * count..(r + 1) * count].iter().copied()
    };
    (0..rows).flat_map(|r| (0..5).flat_map(move |i| part(r, i))).collect()
}

fn read<R>([q, k, v, input_gate, forget_gate]: &[Vec<R>; 5]) -> Inputs<'_, R> {
    Inputs { q, k, v, input_gate, forget_gate }
}

fn state<R>(state: &[Vec<R>]) -> State<'_, R> {
    let [c, n, m] = state else { unreachable!() };
    State { c, n, m }
}

fn state_mut<R>(state: &mut [Vec<R>]) -> StateMut<'_, R> {
    let [c, n, m] = state else { unreachable!() };
    StateMut { c, n, m }
}

fn gradients<'a, R>(parts: &'a mut [Vec<R>; 5], state: &'a mut [Vec<R>]) -> Gradients<'a, R> {
    let [q, k, v, input_gate, forget_gate] = parts;
    Gradients {
        q: Some(q),
        k: Some(k),
        v: Some(v),
        input_gate: Some(input_gate),
        forget_gate: Some(forget_gate),
        state: Some(state_mut(state)),
    }
}

impl Memory for Sizes {
    fn widths(&self) -> (usize, usize) {
        (columns(self).iter().sum(), self.heads * self.width)
    }
    fn weights(&self) -> Vec<usize> {
        Vec::new()
    }
    fn states(&self) -> Vec<usize> {
        vec![self.heads * self.width * self.width, self.heads * self.width, self.heads]
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Tensors<f32>) -> Outcome<f32> {
        let parts = take_apart(self, &inputs.x);
        let mut y = vec![f32::NAN; sequence.rows() * self.heads * self.width];
        let mut saved = vec![f32::NAN; saved_len(*self, sequence)];
        let mut next = inputs.state.clone();
        let before = state(&inputs.state);
        let into = state_mut(&mut next);
        let call = Call::new(cpu, *self, sequence);
        super::forward(call, read(&parts), before, &mut y, into, &mut saved);
        Outcome { y, next, saved }
    }

    fn backward(
        &self,
        cpu: &Cpu,
        sequence: &Sequence,
        inputs: &Tensors<f32>,
        outcome: &mut Outcome<f32>,
        d_y: &[f32],
        d_next: &[Vec<f32>],
    ) -> Tensors<f32> {
        let parts = take_apart(self, &inputs.x);
        let (mut d_parts, mut d_state) = (parts.clone(), inputs.state.clone());
        super::backward(
            Call::new(cpu, *self, sequence),
            read(&parts),
            state(&inputs.state),
            Kept { y: &outcome.y, saved: &outcome.saved },
            d_y,
            Some(state(d_next)),
            gradients(&mut d_parts, &mut d_state),
        );
        let x = put_together(self, &d_parts);
        Tensors { weights: Vec::new(), x, state: d_state }.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Tensors<f64>) -> Outcome<f64> {
        let parts = take_apart(self, &inputs.x);
        let mut y = vec![0.0; sequence.rows() * self.heads * self.width];
        let mut next = inputs.state.clone();
        let (before, into) = (state(&inputs.state), state_mut(&mut next));
        reference::forward(*self, sequence, read(&parts), before, &mut y, into);
        Outcome { y, next, saved: Vec::new() }
    }

    fn reference_backward(
        &self,
        sequence: &Sequence,
        inputs: &Tensors<f64>,
        d_y: &[f64],
        d_next: &[Vec<f64>],
    ) -> Tensors<f64> {
        let parts = take_apart(self, &inputs.x);
        let mut to = inputs.zeros_like();
        let mut d_parts = take_apart(self, &to.x);
        let into = gradients(&mut d_parts, &mut to.state);
        let before = state(&inputs.state);
        let d_next = state(d_next);
        reference::backward(*self, sequence, read(&parts), before, d_y, d_next, into);
        to.x = put_together(self, &d_parts);
        to
    }
}

seven_properties!(
    Sizes { heads: 3, width: 7 },
    Sizes { heads: 2, width: 3 },
    [(1, 1), (2, 3), (5, 2), (70, 2), (200, 1)]
);

#[test]
fn awkward_widths_equal_the_reference() {
    for width in [1, 16, 33, 64] {
        crate::testing::memory::fast_equals_reference(&Sizes { heads: 1, width }, &[(66, 2)]);
    }
}

#[test]
fn wide_heads_step_as_they_read_in_chunks() {
    let sizes = Sizes { heads: 1, width: 150 };
    for level in levels() {
        let cpu = Cpu::with_level(2, level);
        let inputs = crate::testing::memory::inputs(&sizes, 5, 2, 1);
        let whole = sizes.forward(&cpu, &Sequence::new(5, 2), &inputs);
        let exact = sizes.reference(
            &Sequence::new(5, 2),
            &Tensors {
                weights: Vec::new(),
                x: wide(&inputs.x),
                state: inputs.state.iter().map(|s| wide(s)).collect(),
            },
        );
        close("y", &whole.y, &exact.y, 2e-5);
        let row = 2 * sizes.widths().0;
        let mut at = inputs.clone();
        for (t, x) in inputs.x.chunks(row).enumerate() {
            at.x = x.to_vec();
            let step = sizes.forward(&cpu, &Sequence::new(1, 2), &at);
            close("y", &step.y, &exact.y[t * 300..(t + 1) * 300], 2e-5);
            at.state = step.next;
        }
        close("c", &at.state[0], &exact.next[0], 2e-5);
    }
}

#[test]
fn strong_gates_follow_the_reference() {
    let (sizes, time, batch) = (Sizes { heads: 2, width: 8 }, 150, 2);
    let sequence = Sequence::new(time, batch);
    let mut inputs = crate::testing::memory::inputs(&sizes, time, batch, 3);
    let mut parts = take_apart(&sizes, &inputs.x);
    // Forgetting nearly nothing and nearly everything; input gates over many orders of magnitude.
    parts[3].iter_mut().for_each(|i| *i *= 20.0);
    parts[4].iter_mut().for_each(|f| *f *= 12.0);
    inputs.x = put_together(&sizes, &parts);
    let wide_inputs = Tensors {
        weights: Vec::new(),
        x: wide(&inputs.x),
        state: inputs.state.iter().map(|s| wide(s)).collect(),
    };
    let exact = sizes.reference(&sequence, &wide_inputs);
    let d_y = values(exact.y.len(), 4);
    let d_next: Vec<Vec<f32>> = exact.next.iter().map(|s| vec![0.0; s.len()]).collect();
    let wide_next: Vec<Vec<f64>> = d_next.iter().map(|d| wide(d)).collect();
    let exact_gradient = sizes.reference_backward(&sequence, &wide_inputs, &wide(&d_y), &wide_next);
    // Where n·q is nearly zero, h and its gradients are large; errors are relative to the largest.
    let largest = |v: &[f64]| v.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for level in levels() {
        let cpu = Cpu::with_level(2, level);
        let mut outcome = sizes.forward(&cpu, &sequence, &inputs);
        close("y", &outcome.y, &exact.y, 1e-5 * largest(&exact.y));
        let got = sizes.backward(&cpu, &sequence, &inputs, &mut outcome, &d_y, &d_next);
        close("dx", &got.x, &exact_gradient.x, 1e-5 * largest(&exact_gradient.x));
    }
}
