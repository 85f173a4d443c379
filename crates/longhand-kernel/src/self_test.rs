//! The fast forms against their plain references on the machine at hand, in well under a second.
//!
//! The tests of this crate compare far more. This is for the machine that they did not run on: a
//! processor whose vector instructions compute something else, or memory that does not keep what was
//! written, shows here.

use crate::attention::{self, Mask, Rotary};
use crate::gemm::{self, Into, Matrix, MatrixMut};
use crate::mlstm;
use crate::random::split_mix64;
use crate::recurrence::{self, CellKind, Input, Outputs, Sizes, Weights};
use crate::{Call, Cpu, InstructionSet, Level, Precision, Sequence};

/// The largest error that rounding to `f32` explains in the operations below, as a part of
/// 1 + |exact|. The sums have a few hundred terms of at most 1.
const TOLERANCE: f64 = 1e-4;
/// B: sequences side by side.
const BATCH: usize = 3;
/// T: positions, one past a block of attention.
const TIME: usize = 17;

/// One operation of one instruction set beside its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was computed, such as `lstm`.
    pub operation: &'static str,
    /// The instructions that computed it.
    pub set: InstructionSet,
    /// The form of the operands of its matrix products.
    pub precision: Precision,
    /// The largest |got − exact| / (1 + |exact|); infinite where a result is no number.
    pub error: f64,
    /// The largest error that rounding explains.
    pub tolerance: f64,
}

impl Comparison {
    /// Whether the operation computes what its reference does.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Compares matrix products, recurrences and attention with their references in double precision,
/// on every instruction set that this machine has, with `threads` threads.
pub fn compare(threads: usize) -> Vec<Comparison> {
    let mut found = Vec::new();
    for level in Level::available() {
        for precision in Precision::ALL {
            let cpu = Cpu::with(threads, level, precision);
            let mut add = |operation, error| {
                let (set, tolerance) = (level.set(), TOLERANCE);
                found.push(Comparison { operation, set, precision, error, tolerance });
            };
            add("matrix product", product(&cpu, 70));
            add("matrix product of few rows", product(&cpu, 3));
            if precision == Precision::F32 {
                add("lstm", recurrent(&cpu, CellKind::Lstm));
                add("slstm", recurrent(&cpu, CellKind::Slstm));
                add("rnn", recurrent(&cpu, CellKind::Rnn));
                add("mlstm", matrix_memory(&cpu));
                add("attention", attend(&cpu));
            }
        }
    }
    found
}

/// `len` values in −1..1, the same for the same seed.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let draw = |i: u64| (split_mix64(split_mix64(seed).wrapping_add(i)) >> 40) as f32;
    (0..len as u64).map(|i| draw(i) / (1 << 23) as f32 - 1.0).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// The largest |got − exact| / (1 + |exact|).
fn error(got: &[f32], exact: &[f64]) -> f64 {
    let errors = got.iter().zip(exact).map(|(&got, &exact)| {
        let error = (f64::from(got) - exact).abs() / (1.0 + exact.abs());
        if error.is_finite() { error } else { f64::INFINITY }
    });
    errors.fold(0.0, f64::max)
}

fn product(cpu: &Cpu, m: usize) -> f64 {
    let (k, n) = (130, 90);
    // Operands as the product reads them: what it then rounds are its sums alone.
    let operand = |len, seed| -> Vec<f32> {
        values(len, seed).iter().map(|&x| cpu.precision().round(x)).collect()
    };
    let (a, b) = (operand(m * k, 1), operand(k * n, 2));
    let (mut c, mut exact) = (vec![f32::NAN; m * n], vec![0.0; m * n]);
    let to = MatrixMut::new(&mut c, m, n);
    gemm::gemm(cpu, Matrix::new(&a, m, k), Matrix::new(&b, k, n), to, Into::Replace);
    gemm::reference::gemm(&wide(&a), &wide(&b), &mut exact, m, k, n);
    error(&c, &exact)
}

fn recurrent(cpu: &Cpu, cell: CellKind) -> f64 {
    let sizes = Sizes { cell, input: 20, hidden: 24, heads: 1 };
    let sequence = Sequence::new(TIME, BATCH);
    let (columns, rows) = (cell.gates() * sizes.hidden, sequence.rows());
    let halves = |len, seed| -> Vec<f32> { values(len, seed).iter().map(|x| x * 0.5).collect() };
    let (input, recurrent) = (halves(columns * sizes.input, 3), halves(columns * sizes.hidden, 4));
    let (bias, x) = (halves(columns, 5), values(rows * sizes.input, 6));
    let empty = vec![0.0; BATCH * sizes.hidden];
    let states = cell.states().len();
    let before = vec![&empty[..]; states];

    let mut y = vec![f32::NAN; rows * sizes.hidden];
    let mut after = vec![vec![f32::NAN; empty.len()]; states];
    let mut saved = vec![f32::NAN; recurrence::saved_len(sizes, &sequence)];
    let mut next: Vec<&mut [f32]> = after.iter_mut().map(|state| &mut state[..]).collect();
    let outputs = Outputs { y: &mut y, next: &mut next, saved: Some(&mut saved) };
    let weights = Weights { input: &input, recurrent: &recurrent, biases: [&bias, &[]] };
    recurrence::forward(
        Call::new(cpu, sizes, &sequence),
        weights,
        Input::Rows(&x),
        &before,
        outputs,
    );

    let (input, recurrent, bias) = (wide(&input), wide(&recurrent), wide(&bias));
    let weights = Weights { input: &input, recurrent: &recurrent, biases: [&bias, &[]] };
    let (x, empty) = (wide(&x), wide(&empty));
    let before = vec![&empty[..]; states];
    let mut exact = vec![0.0; y.len()];
    let mut after = vec![vec![0.0; empty.len()]; states];
    let mut next: Vec<&mut [f64]> = after.iter_mut().map(|state| &mut state[..]).collect();
    let (sequence, exact_y) = (&sequence, &mut exact[..]);
    recurrence::reference::forward(sizes, sequence, weights, &x, &before, exact_y, &mut next);
    error(&y, &exact)
}

fn matrix_memory(cpu: &Cpu) -> f64 {
    let sizes = mlstm::Sizes { heads: 2, width: 12 };
    let sequence = Sequence::new(TIME, BATCH);
    let (wide_row, narrow_row) = (sequence.rows() * 24, sequence.rows() * 2);
    let read = [(wide_row, 7), (wide_row, 8), (wide_row, 9), (narrow_row, 10), (narrow_row, 11)]
        .map(|(len, seed)| values(len, seed));
    let lens = [BATCH * 2 * 12 * 12, BATCH * 2 * 12, BATCH * 2];
    let empty = lens.map(|len| vec![0.0; len]);

    let (mut y, mut after) = (vec![f32::NAN; wide_row], lens.map(|len| vec![f32::NAN; len]));
    let mut saved = vec![f32::NAN; mlstm::saved_len(sizes, &sequence)];
    let [q, k, v, input_gate, forget_gate] = &read;
    let inputs = mlstm::Inputs { q, k, v, input_gate, forget_gate };
    let state = mlstm::State { c: &empty[0], n: &empty[1], m: &empty[2] };
    let [c, n, m] = &mut after;
    let next = mlstm::StateMut { c, n, m };
    mlstm::forward(Call::new(cpu, sizes, &sequence), inputs, state, &mut y, next, &mut saved);

    let (read, empty) = (read.map(|x| wide(&x)), empty.map(|x| wide(&x)));
    let [q, k, v, input_gate, forget_gate] = &read;
    let inputs = mlstm::Inputs { q, k, v, input_gate, forget_gate };
    let state = mlstm::State { c: &empty[0], n: &empty[1], m: &empty[2] };
    let (mut exact, mut after) = (vec![0.0; y.len()], lens.map(|len| vec![0.0; len]));
    let [c, n, m] = &mut after;
    let next = mlstm::StateMut { c, n, m };
    mlstm::reference::forward(sizes, &sequence, inputs, state, &mut exact, next);
    error(&y, &exact)
}

fn attend(cpu: &Cpu) -> f64 {
    let (mask, rotary, cache) = (Mask::Window(9), Some(Rotary::default()), Precision::F32);
    let sizes = attention::Sizes { heads: 4, groups: 2, width: 10, mask, rotary, cache };
    let sequence = Sequence::new(TIME, BATCH);
    let qkv = values(sequence.rows() * sizes.row(), 12);
    let mut y = vec![f32::NAN; sequence.rows() * sizes.heads * sizes.width];
    let mut saved = vec![f32::NAN; attention::saved_len(sizes, &sequence)];
    attention::forward(Call::new(cpu, sizes, &sequence), &qkv, None, &mut y, &mut saved);
    let mut carried = attention::reference::Carried::empty(sizes, BATCH);
    let exact = attention::reference::forward(sizes, &sequence, &wide(&qkv), &mut carried);
    error(&y, &exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_holds_on_every_instruction_set_of_this_machine() {
        let found = compare(2);
        assert_eq!(found.len(), Level::available().count() * (7 + 2));
        for comparison in found {
            assert!(comparison.holds(), "{comparison:?}");
            assert!(comparison.error > 0.0, "two forms never round alike: {comparison:?}");
        }
    }

    #[test]
    fn a_wrong_result_and_one_that_is_no_number_do_not_hold() {
        let with = |got: &[f32]| Comparison {
            operation: "test",
            set: InstructionSet::Portable,
            precision: Precision::F32,
            error: error(got, &[1.0, -2.0]),
            tolerance: TOLERANCE,
        };
        assert!(with(&[1.0, -2.0]).holds());
        assert!(!with(&[1.0, -2.001]).holds());
        assert!(!with(&[f32::NAN, -2.0]).holds());
        assert!(!with(&[1.0, f32::INFINITY]).holds());
    }
}
