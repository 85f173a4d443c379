//! The recurrences as memories under test, and what holds whatever the cell. Each cell's own tests
//! are beside its equations.

use std::iter::repeat_n;

use super::*;
use crate::low_rank::{self, LowRank};
use crate::precision::Precision;
use crate::testing::memory::{Case, Inputs, Memory, Outcome, inputs};
use crate::testing::{close, levels, values, wide};

impl Memory for Sizes {
    fn widths(&self) -> (usize, usize) {
        (self.input, self.hidden)
    }
    fn weights(&self) -> Vec<usize> {
        let columns = self.cell.gates() * self.hidden;
        // PyTorch's layers have two biases, those of the `xlstm` package one.
        let biases = if self.cell == CellKind::Slstm { 1 } else { 2 };
        let matrices = [columns * self.input, columns * self.hidden / self.heads];
        matrices.into_iter().chain(repeat_n(columns, biases)).collect()
    }
    fn states(&self) -> Vec<usize> {
        vec![self.hidden; self.cell.states().len()]
    }
    fn admit_state(&self, state: &mut [Vec<f32>]) {
        if self.cell == CellKind::Slstm {
            state[2].iter_mut().for_each(|n| *n = n.abs() + 0.5);
        }
    }
    fn admit_gradient(&self, next: &[Vec<f64>], d_next: &mut [Vec<f64>]) {
        // As the gradient of anything that does not change with the stabiliser: d m = 0 here.
        if self.cell == CellKind::Slstm {
            for i in 0..next[1].len() {
                d_next[2][i] = -d_next[1][i] * next[1][i] / next[2][i];
                d_next[3][i] = 0.0;
            }
        }
    }

    fn forward(&self, cpu: &Cpu, sequence: &Sequence, inputs: &Inputs<f32>) -> Outcome<f32> {
        read(*self, cpu, sequence, inputs, Input::Rows(&inputs.x))
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
        gradients(&mut to, |gradients| {
            super::backward(
                Call::new(cpu, *self, sequence),
                weights(inputs),
                Input::Rows(&inputs.x),
                &slices(&inputs.state),
                Kept { y: &outcome.y, saved: &mut outcome.saved },
                OutputGradients { y: d_y, next: &slices(d_next) },
                gradients,
            );
        });
        to.minus(inputs)
    }

    fn reference(&self, sequence: &Sequence, inputs: &Inputs<f64>) -> Outcome<f64> {
        let mut y = vec![0.0; sequence.rows() * self.hidden];
        let mut next = inputs.state.clone();
        let (weights, state) = (weights(inputs), slices(&inputs.state));
        let to = &mut slices_mut(&mut next);
        reference::forward(*self, sequence, weights, &inputs.x, &state, &mut y, to);
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
        let (weights, state, d_next) = (weights(inputs), slices(&inputs.state), slices(d_next));
        gradients(&mut to, |gradients| {
            let d = OutputGradients { y: d_y, next: &d_next };
            reference::backward(*self, sequence, weights, &inputs.x, &state, d, gradients);
        });
        to
    }
}

/// Forward over `x` in the place of the inputs' own.
fn read(
    sizes: Sizes,
    cpu: &Cpu,
    sequence: &Sequence,
    inputs: &Inputs<f32>,
    x: Input,
) -> Outcome<f32> {
    let mut y = vec![f32::NAN; sequence.rows() * sizes.hidden];
    let mut saved = vec![f32::NAN; saved_len(sizes, sequence)];
    let mut next = inputs.state.clone();
    let (weights, state) = (weights(inputs), slices(&inputs.state));
    let to = &mut slices_mut(&mut next);
    let outputs = Outputs { y: &mut y, next: to, saved: Some(&mut saved) };
    super::forward(Call::new(cpu, sizes, sequence), weights, x, &state, outputs);
    Outcome { y, next, saved }
}

fn weights<R>(inputs: &Inputs<R>) -> Weights<'_, R> {
    let [input, recurrent, biases @ ..] = &inputs.weights[..] else { unreachable!() };
    let bias = |i: usize| biases.get(i).map(Vec::as_slice).unwrap_or_default();
    Weights { input, recurrent, biases: [0, 1].map(bias) }
}

/// Calls with all of `to` as the gradients' destinations.
fn gradients<R>(to: &mut Inputs<R>, call: impl FnOnce(Gradients<R>)) {
    let [input, recurrent, biases @ ..] = &mut to.weights[..] else { unreachable!() };
    let mut biases = biases.iter_mut().map(|bias| &mut bias[..]);
    call(Gradients {
        weights: WeightGradients {
            input: Some(input),
            recurrent: Some(recurrent),
            biases: [biases.next(), biases.next()],
        },
        x: Some(&mut to.x),
        state: Some(&mut slices_mut(&mut to.state)),
    });
}

fn slices<R>(tensors: &[Vec<R>]) -> Vec<&[R]> {
    tensors.iter().map(|tensor| &tensor[..]).collect()
}

fn slices_mut<R>(tensors: &mut [Vec<R>]) -> Vec<&mut [R]> {
    tensors.iter_mut().map(|tensor| &mut tensor[..]).collect()
}

/// Each cell over rows of 11 elements.
fn cells() -> impl Iterator<Item = Sizes> {
    CellKind::ALL.into_iter().map(|cell| {
        let heads = if cell == CellKind::Slstm { 3 } else { 1 };
        Sizes { cell, input: 11, hidden: 21, heads }
    })
}

#[test]
fn tokens_equal_the_rows_that_they_stand_for() {
    cells().for_each(tokens_equal_rows);
}

fn tokens_equal_rows(sizes: Sizes) {
    let (vocabulary, time, batch) = (7, 9, 5);
    let sequence = Sequence::new(time, batch);
    let table = values(vocabulary * sizes.input, 3);
    let ids: Vec<u32> = (0..time * batch).map(|i| (i * i % vocabulary) as u32).collect();
    let mut inputs = inputs(&sizes, time, batch, 1);
    inputs.x = ids.iter().flat_map(|&id| &table[id as usize * 11..][..11]).copied().collect();
    for level in levels() {
        for precision in Precision::ALL {
            let cpu = Cpu::with(2, level, precision);
            let tokens = Input::Tokens { ids: &ids, table: &table };
            let by_rows = sizes.forward(&cpu, &sequence, &inputs);
            let by_tokens = read(sizes, &cpu, &sequence, &inputs, tokens);
            assert_eq!(by_tokens.y, by_rows.y);
            assert_eq!(by_tokens.next, by_rows.next);

            let d_y = values(by_rows.y.len(), 2);
            let mut rows = inputs.clone();
            let mut all = inputs.clone();
            all.x.clone_from(&table);
            for (mut saved, x, to) in [
                (by_rows.saved, Input::Rows(&inputs.x), &mut rows),
                (by_tokens.saved, tokens, &mut all),
            ] {
                gradients(to, |gradients| {
                    super::backward(
                        Call::new(&cpu, sizes, &sequence),
                        weights(&inputs),
                        x,
                        &slices(&inputs.state),
                        Kept { y: &by_rows.y, saved: &mut saved },
                        OutputGradients { y: &d_y, next: &[] },
                        gradients,
                    );
                });
            }
            let tolerance = if precision == Precision::F32 { 1e-5 } else { 2e-2 };
            let mut expected = wide(&table);
            for ((&id, got), x) in ids.iter().zip(rows.x.chunks(11)).zip(inputs.x.chunks(11)) {
                let to = &mut expected[id as usize * 11..][..11];
                to.iter_mut()
                    .zip(got.iter().zip(x))
                    .for_each(|(to, (g, x))| *to += f64::from(g - x));
            }
            close("table", &all.x, &expected, tolerance);
            for (got, exact) in all.weights.iter().zip(&rows.weights) {
                close("weight", got, &wide(exact), tolerance);
            }
        }
    }
}

#[test]
fn frozen_parts_get_no_gradient_and_change_nothing_else() {
    cells().for_each(frozen_parts_get_no_gradient);
}

fn frozen_parts_get_no_gradient(sizes: Sizes) {
    let sequence = Sequence::new(9, 4);
    let cpu = Cpu::new(2);
    let inputs = inputs(&sizes, 9, 4, 1);
    let outcome = sizes.forward(&cpu, &sequence, &inputs);
    let d_y = values(outcome.y.len(), 2);
    let run = |gradients: Gradients| {
        super::backward(
            Call::new(&cpu, sizes, &sequence),
            weights(&inputs),
            Input::Rows(&inputs.x),
            &slices(&inputs.state),
            Kept { y: &outcome.y, saved: &mut outcome.saved.clone() },
            OutputGradients { y: &d_y, next: &[] },
            gradients,
        );
    };
    let mut all = inputs.clone();
    gradients(&mut all, run);
    let mut x_only = inputs.x.clone();
    let weights = WeightGradients::default();
    run(Gradients { weights, x: Some(&mut x_only), state: None });
    assert_eq!(x_only, all.x);
    let mut weights_only = inputs.clone();
    gradients(&mut weights_only, |gradients| run(Gradients { x: None, state: None, ..gradients }));
    assert_eq!(weights_only.weights, all.weights);
    assert_eq!((weights_only.x, weights_only.state), (inputs.x.clone(), inputs.state.clone()));
    for only in 0..inputs.weights.len() {
        let mut to = inputs.clone();
        let mut each = to.weights.iter_mut().enumerate();
        let mut next = || each.next().filter(|(i, _)| *i == only).map(|(_, to)| &mut to[..]);
        let weights =
            WeightGradients { input: next(), recurrent: next(), biases: [next(), next()] };
        run(Gradients { weights, x: None, state: None });
        for (i, got) in to.weights.iter().enumerate() {
            assert_eq!(got, if i == only { &all.weights[i] } else { &inputs.weights[i] });
        }
    }
}

#[test]
fn gradients_through_factors_are_those_of_the_whole_matrices() {
    for sizes in cells() {
        for case in Case::all(7, 5).into_iter().chain([Case::plain(1, 2), Case::plain(0, 2)]) {
            for (level, precision) in levels().flat_map(|l| Precision::ALL.map(|p| (l, p))) {
                factors_follow(&Cpu::with(2, level, precision), sizes, &case.sequence());
            }
        }
    }
}

/// Against the reference: the gradient of each whole matrix, taken through A and B in `f64`.
fn factors_follow(cpu: &Cpu, sizes: Sizes, sequence: &Sequence) {
    let inputs = inputs(&sizes, sequence.time, sequence.batch, 1);
    let mut outcome = sizes.forward(cpu, sequence, &inputs);
    let d_y = values(outcome.y.len(), 2);
    let exact = sizes.reference_backward(sequence, &inputs.wide(), &wide(&d_y), &[]);
    let rows = sizes.cell.gates() * sizes.hidden;
    let columns = [sizes.input, sizes.hidden / sizes.heads];
    let (rank, scale) = (3, 0.5);
    let a = columns.map(|columns| values(rank * columns, 3));
    let b = values(rows * rank, 4);
    let mut da = columns.map(|columns| vec![1.0; rank * columns]);
    let mut db = [(); 2].map(|()| vec![2.0; rows * rank]);
    let before = slices(&inputs.state);
    let d = OutputGradients { y: &d_y, next: &[] };
    let call = Call::new(cpu, sizes, sequence);
    through_time(
        call,
        weights(&inputs).recurrent,
        &before,
        &mut outcome.saved,
        d,
        [None, None],
        None,
    );
    let [of_input, of_recurrent] =
        [0, 1].map(|i| LowRank { output: rows, input: columns[i], rank, scale, a: &a[i], b: &b });
    let [da_input, da_recurrent] = &mut da;
    let [db_input, db_recurrent] = &mut db;
    let changes = Changes {
        input: Some(Change {
            change: of_input,
            wanted: low_rank::Gradients { a: Some(da_input), b: Some(db_input) },
        }),
        recurrent: Some(Change {
            change: of_recurrent,
            wanted: low_rank::Gradients { a: Some(da_recurrent), b: Some(db_recurrent) },
        }),
    };
    let kept = Kept { y: &outcome.y, saved: &mut outcome.saved };
    factors(call, Input::Rows(&inputs.x), before[0], kept, changes);
    let tolerance = if cpu.precision() == Precision::F32 { 1e-5 } else { 6e-2 };
    for i in 0..2 {
        let (wide_a, wide_b) = (wide(&a[i]), wide(&b));
        let change = LowRank {
            output: rows,
            input: columns[i],
            rank,
            scale: f64::from(scale),
            a: &wide_a,
            b: &wide_b,
        };
        let (mut exact_a, mut exact_b) = (vec![1.0; da[i].len()], vec![2.0; db[i].len()]);
        let into = [&mut exact_a[..], &mut exact_b];
        low_rank::reference::weight_backward(change, &exact.weights[i], into);
        close("da", &da[i], &exact_a, tolerance);
        close("db", &db[i], &exact_b, tolerance);
    }
}

#[test]
#[should_panic(expected = "22 hidden units in 3 heads")]
fn heads_divide_the_units() {
    saved_len(
        Sizes { cell: CellKind::Slstm, input: 1, hidden: 22, heads: 3 },
        &Sequence::new(1, 1),
    );
}
