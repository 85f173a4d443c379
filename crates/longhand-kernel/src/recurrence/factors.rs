//! Gradients of changes of low rank in the two matrices of a recurrence.
//!
//! The gradient of a matrix W + s·B·A is dᵀ·x, of the gates' gradients d and the rows x that it
//! multiplied. Through the factors it is dB = s·dᵀ·(x·Aᵀ) and dA = s·(d·B)ᵀ·x, products whose
//! cost grows with the rank: dᵀ·x itself is never made.

use super::layout::Shape;
use super::{Input, Kept, backward, pack};
use crate::call::Call;
use crate::cpu::Cpu;
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::low_rank::{self, LowRank};
use crate::pointwise::{apply, pointwise};
use crate::scratch;

/// A change of low rank, and where the gradients of its factors are added.
pub struct Change<'a> {
    /// The factors: of W `[G·N, D]`, or of U as one matrix `[G·N, P]`, head after head.
    pub change: LowRank<'a>,
    /// The gradients that are wanted.
    pub wanted: low_rank::Gradients<'a>,
}

/// The changes of the two matrices of [`Weights`](super::Weights).
#[derive(Default)]
pub struct Changes<'a> {
    /// Of the input weights.
    pub input: Option<Change<'a>>,
    /// Of the recurrent weights.
    pub recurrent: Option<Change<'a>>,
}

pub(super) fn factors(call: Call<Shape>, x: Input, hidden: &[f32], kept: Kept, changes: Changes) {
    let Call { cpu, sizes: shape, sequence } = call;
    let Kept { y, saved } = kept;
    let (rows, columns, stride) = (sequence.rows(), shape.gate_columns(), shape.gate_stride());
    assert_eq!(saved.len(), shape.saved_len(sequence), "saved is as long as `saved_len` says");
    assert_eq!(y.len(), rows * shape.hidden(), "y is [T·B, N]");
    assert_eq!(hidden.len(), sequence.batch * shape.hidden(), "states are [B, N]");
    x.check(rows, shape.input);
    let gates = &saved[..rows * stride];
    if let Some(change) = changes.input {
        change.check(&shape, shape.input);
        backward::with_input(cpu, &shape, x, gates, |x, d_gates| {
            let x = Matrix::new(x, d_gates.row_count(), shape.input);
            input(cpu, &shape, (d_gates, x), change);
        });
    }
    if let Some(change) = changes.recurrent {
        change.check(&shape, shape.units);
        let d_gates = Matrix::strided(gates, rows, columns, stride);
        backward::with_previous(&call, d_gates, hidden, y, |parts| {
            recurrent(cpu, &shape, parts, change);
        });
    }
}

impl Change<'_> {
    fn check(&self, shape: &Shape, columns: usize) {
        let LowRank { output, input, .. } = self.change;
        assert_eq!([output, input], [shape.gates * shape.hidden(), columns], "a change's matrix");
    }
}

fn input(cpu: &Cpu, shape: &Shape, part: (Matrix, Matrix), change: Change) {
    let Change { change, wanted: low_rank::Gradients { a, b } } = change;
    let columns = shape.gate_columns();
    let narrow = Shape { input: change.rank, ..*shape };
    if let Some(db) = b {
        let mut product = scratch::take(cpu, columns * change.rank);
        outer(cpu, change, [part].into_iter(), &mut product);
        pack::add_rows(cpu, shape, change.rank, 0..columns, &product, db);
        scratch::give(cpu, product);
    }
    if let Some(da) = a {
        let mut rows = scratch::take(cpu, columns * change.rank);
        pack::input_rows(cpu, &narrow, change.b, 0..columns, &mut rows);
        inner(cpu, change, [part].into_iter(), &rows, da);
        scratch::give(cpu, rows);
    }
}

fn recurrent<'b>(cpu: &Cpu, shape: &Shape, parts: &[(Matrix<'b>, Matrix<'b>)], change: Change) {
    let Change { change, wanted: low_rank::Gradients { mut a, mut b } } = change;
    let (columns, rank) = (shape.gates * shape.padded_units(), change.rank);
    let mut rows = scratch::take(cpu, columns * rank);
    for head in 0..shape.heads {
        let (gates, units) = (head * columns, head * shape.units);
        let own = || {
            let of_head = |(d, h): &(Matrix<'b>, Matrix<'b>)| {
                (d.columns(gates..gates + columns), h.columns(units..units + shape.units))
            };
            parts.iter().map(of_head)
        };
        if let Some(db) = &mut b {
            outer(cpu, change, own(), &mut rows);
            pack::add_recurrent(cpu, shape, (head, rank), 0..columns, &rows, db);
        }
        if let Some(da) = &mut a {
            pack::recurrent_rows(cpu, shape, head, (change.b, rank), &mut rows);
            inner(cpu, change, own(), &rows, da);
        }
    }
    scratch::give(cpu, rows);
}

/// `to` `[gate columns, r]` = s·dᵀ·(x·Aᵀ), summed over the parts (d, x).
fn outer<'b>(
    cpu: &Cpu,
    change: LowRank,
    parts: impl Iterator<Item = (Matrix<'b>, Matrix<'b>)>,
    to: &mut [f32],
) {
    let LowRank { input, rank, a, .. } = change;
    let a = Matrix::new(a, rank, input);
    let mut into = Into::Replace;
    for (d, x) in parts {
        let (count, columns) = (x.row_count(), to.len() / rank.max(1));
        let mut hidden = scratch::take(cpu, count * rank);
        gemm(cpu, x, a.t(), MatrixMut::new(&mut hidden, count, rank), Into::Replace);
        scale(cpu, change.scale, &mut hidden);
        let hidden_rows = Matrix::new(&hidden, count, rank);
        gemm(cpu, d.t(), hidden_rows, MatrixMut::new(to, columns, rank), into);
        scratch::give(cpu, hidden);
        into = Into::Add;
    }
}

/// `to` `[r, columns of x]` += s·(d·B)ᵀ·x, summed over the parts (d, x); `b` is B with its rows
/// interleaved as d's columns are.
fn inner<'b>(
    cpu: &Cpu,
    change: LowRank,
    parts: impl Iterator<Item = (Matrix<'b>, Matrix<'b>)>,
    b: &[f32],
    to: &mut [f32],
) {
    let LowRank { input, rank, .. } = change;
    let b = Matrix::new(b, b.len() / rank.max(1), rank);
    for (d, x) in parts {
        let count = d.row_count();
        let mut hidden = scratch::take(cpu, count * rank);
        gemm(cpu, d, b, MatrixMut::new(&mut hidden, count, rank), Into::Replace);
        scale(cpu, change.scale, &mut hidden);
        let hidden_rows = Matrix::new(&hidden, count, rank);
        gemm(cpu, hidden_rows.t(), x, MatrixMut::new(to, rank, input), Into::Add);
        scratch::give(cpu, hidden);
    }
}

fn scale(cpu: &Cpu, scale: f32, values: &mut [f32]) {
    pointwise!(Scale { scale } [] [x] { [x.mul(scale)] });
    apply(cpu, Scale { scale }, [], [values]);
}
