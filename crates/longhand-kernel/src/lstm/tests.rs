use super::*;
use crate::testing::memory::{Inputs, Memory, Outcome, seven_properties};

impl Memory for Sizes {
    fn widths(&self) -> (usize, usize) {
        (self.input, self.hidden)
    }
    fn weights(&self) -> Vec<usize> {
        let columns = 4 * self.hidden;
        vec![columns * self.input, columns * self.hidden, columns, columns]
    }
    fn states(&self) -> Vec<usize> {
        vec![self.hidden; 2]
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32> {
        let mut y = vec![f32::NAN; sequence.rows() * self.hidden];
        let mut saved = vec![f32::NAN; saved_len(*self, sequence)];
        let mut next = inputs.state.clone();
        let [h, c] = next.as_mut_slice() else { unreachable!() };
        let (h, c) = (h.as_mut_slice(), c.as_mut_slice());
        super::forward(
            cpu,
            *self,
            sequence,
            weights(inputs),
            &inputs.x,
            state(&inputs.state),
            &mut y,
            StateMut { h, c },
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
            Some(state(d_next)),
            gradients(&mut to),
        );
        to.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64> {
        let mut y = vec![0.0; sequence.rows() * self.hidden];
        let mut next = inputs.state.clone();
        let [h, c] = next.as_mut_slice() else { unreachable!() };
        reference::forward(
            *self,
            sequence,
            weights(inputs),
            &inputs.x,
            state(&inputs.state),
            &mut y,
            StateMut { h, c },
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
            Some(state(d_next)),
            gradients(&mut to),
        );
        to
    }
}

fn weights<R>(inputs: &Inputs<R>) -> Weights<'_, R> {
    let [input, recurrent, bias_input, bias_recurrent] = inputs.weights.as_slice() else {
        unreachable!()
    };
    Weights { input, recurrent, bias_input, bias_recurrent }
}

fn state<R>(state: &[Vec<R>]) -> State<'_, R> {
    State { h: &state[0], c: &state[1] }
}

fn gradients<R>(to: &mut Inputs<R>) -> Gradients<'_, R> {
    let [input, recurrent, bias_input, bias_recurrent] = to.weights.as_mut_slice() else {
        unreachable!()
    };
    let [h, c] = to.state.as_mut_slice() else { unreachable!() };
    Gradients {
        weights: WeightGradients {
            input: Some(input),
            recurrent: Some(recurrent),
            bias_input: Some(bias_input),
            bias_recurrent: Some(bias_recurrent),
        },
        x: Some(&mut to.x),
        state: Some(StateMut { h, c }),
    }
}

seven_properties!(
    Sizes { input: 19, hidden: 37 },
    Sizes { input: 2, hidden: 3 },
    [(1, 1), (5, 1), (13, 5), (2, 53)]
);

#[test]
fn awkward_sizes_equal_the_reference() {
    for (input, hidden) in [(0, 3), (3, 0), (1, 1), (40, 16), (7, 17), (5, 128)] {
        crate::testing::memory::fast_equals_reference(
            &Sizes { input, hidden },
            &[(7, 4), (0, 2), (3, 0)],
        );
    }
}

#[test]
fn tokens_equal_the_rows_that_they_stand_for() {
    let (vocabulary, time, batch) = (7, 9, 5);
    let sizes = Sizes { input: 11, hidden: 21 };
    let sequence = Sequence::new(time, batch);
    let table = crate::testing::values(vocabulary * sizes.input, 3);
    let ids: Vec<u32> = (0..time * batch).map(|i| (i * i % vocabulary) as u32).collect();
    let mut inputs = crate::testing::memory::inputs(&sizes, time, batch, 1);
    inputs.x = ids.iter().flat_map(|&id| &table[id as usize * 11..][..11]).copied().collect();
    for level in crate::testing::levels() {
        for precision in crate::Precision::ALL {
            let cpu = Cpu::with(2, level, precision);
            let by_rows = Memory::forward(&sizes, &cpu, &sequence, &inputs);
            let mut by_tokens = by_rows.clone();
            let tokens = Input::Tokens { ids: &ids, table: &table };
            let [h, c] = by_tokens.next.as_mut_slice() else { unreachable!() };
            super::forward(
                &cpu,
                sizes,
                &sequence,
                weights(&inputs),
                tokens,
                state(&inputs.state),
                &mut by_tokens.y,
                StateMut { h, c },
                &mut by_tokens.saved,
            );
            assert_eq!(by_tokens.y, by_rows.y);
            assert_eq!(by_tokens.next, by_rows.next);

            let d_y = crate::testing::values(by_rows.y.len(), 2);
            let mut rows = inputs.clone();
            let mut all = inputs.clone();
            all.x.clone_from(&table);
            for (saved, x, to) in [
                (by_rows.saved, Input::Rows(&inputs.x), &mut rows),
                (by_tokens.saved, tokens, &mut all),
            ] {
                super::backward(
                    &cpu,
                    sizes,
                    &sequence,
                    weights(&inputs),
                    x,
                    state(&inputs.state),
                    &by_rows.y,
                    &mut saved.clone(),
                    &d_y,
                    None,
                    gradients(to),
                );
            }
            let tolerance = if precision == crate::Precision::F32 { 1e-5 } else { 2e-2 };
            let mut expected = crate::testing::wide(&table);
            for ((&id, got), x) in ids.iter().zip(rows.x.chunks(11)).zip(inputs.x.chunks(11)) {
                let to = &mut expected[id as usize * 11..][..11];
                to.iter_mut()
                    .zip(got.iter().zip(x))
                    .for_each(|(to, (g, x))| *to += f64::from(g - x));
            }
            crate::testing::close("table", &all.x, &expected, tolerance);
            for (got, exact) in all.weights.iter().zip(&rows.weights) {
                crate::testing::close("weight", got, &crate::testing::wide(exact), tolerance);
            }
        }
    }
}

#[test]
fn frozen_parts_get_no_gradient_and_change_nothing_else() {
    let sizes = Sizes { input: 11, hidden: 21 };
    let sequence = Sequence::new(9, 4);
    let cpu = Cpu::new(2);
    let inputs = crate::testing::memory::inputs(&sizes, 9, 4, 1);
    let outcome = Memory::forward(&sizes, &cpu, &sequence, &inputs);
    let d_y = crate::testing::values(outcome.y.len(), 2);
    let run = |gradients: Gradients| {
        super::backward(
            &cpu,
            sizes,
            &sequence,
            weights(&inputs),
            &inputs.x,
            state(&inputs.state),
            &outcome.y,
            &mut outcome.saved.clone(),
            &d_y,
            None,
            gradients,
        );
    };
    let mut all = inputs.clone();
    run(gradients(&mut all));
    let mut x_only = inputs.x.clone();
    let weights = WeightGradients::default();
    run(Gradients { weights, x: Some(&mut x_only), state: None });
    assert_eq!(x_only, all.x);
    let mut weights_only = inputs.clone();
    run(Gradients { x: None, state: None, ..gradients(&mut weights_only) });
    assert_eq!(weights_only.weights, all.weights);
    assert_eq!((weights_only.x, weights_only.state), (inputs.x.clone(), inputs.state.clone()));
    for only in 0..4 {
        let mut to = inputs.clone();
        let mut each = to.weights.iter_mut().enumerate();
        let mut next = || each.next().filter(|(i, _)| *i == only).map(|(_, to)| &mut to[..]);
        let weights = WeightGradients {
            input: next(),
            recurrent: next(),
            bias_input: next(),
            bias_recurrent: next(),
        };
        run(Gradients { weights, x: None, state: None });
        for (i, got) in to.weights.iter().enumerate() {
            assert_eq!(got, if i == only { &all.weights[i] } else { &inputs.weights[i] });
        }
    }
}

#[test]
fn gates_are_read_in_the_order_of_units() {
    // One unit's own weight in each gate tells where it lies.
    for level in crate::testing::levels() {
        let cpu = Cpu::with_level(2, level);
        let sizes = Sizes { input: 1, hidden: 21 };
        let input: Vec<f32> = (0..84).map(|row| row as f32 / 20.0 - 2.0).collect();
        let (zeros, recurrent) = ([0.0; 84], vec![0.0; 84 * 21]);
        let weights = Weights {
            input: &input,
            recurrent: &recurrent,
            bias_input: &zeros,
            bias_recurrent: &zeros,
        };
        for (batch, padded) in [(1, false), (9, false), (1, true), (9, true)] {
            let lengths: Vec<u32> = (0..batch as u32).map(|b| (b + 2) % 4).collect();
            let lengths = padded.then_some(&lengths[..]);
            let sequence = Sequence { lengths, ..Sequence::new(3, batch) };
            let state = vec![0.0; batch * 21];
            let (mut h, mut c) = (state.clone(), state.clone());
            let (mut y, mut saved) =
                (vec![0.0; 3 * batch * 21], vec![9.0; saved_len(sizes, &sequence)]);
            let x = vec![1.0; 3 * batch];
            let (before, after) =
                (State { h: &state, c: &state }, StateMut { h: &mut h, c: &mut c });
            super::forward(&cpu, sizes, &sequence, weights, &x, before, &mut y, after, &mut saved);
            for gate in 0..4 {
                let mut out = vec![0.0; sequence.real_rows().count() * 21];
                super::gate(&cpu, sizes, &sequence, &saved, gate, &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let raw = f64::from(input[gate * 21 + i % 21]);
                    let exact = if gate == 2 { raw.tanh() } else { 1.0 / (1.0 + (-raw).exp()) };
                    assert!((f64::from(got) - exact).abs() < 1e-6, "{level:?}, gate {gate}, {i}");
                }
            }
        }
    }
}
