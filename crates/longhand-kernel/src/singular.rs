//! Changes of low rank in the form of a singular value decomposition, W' = W + s·P·diag(λ)·Q (Zhang
//! et al., "Adaptive budget allocation for parameter-efficient fine-tuning", 2023), with P = B and
//! Q = A of a [`LowRank`](crate::low_rank::LowRank).
//!
//! The change is used with diag(λ)·Q in the place of A, which [`scaled`] makes. [`penalty`] keeps P
//! and Q orthogonal, and [`importance`] measures what the loss owes to each element.

use crate::cpu::Cpu;
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::pointwise::{apply, pointwise};
use crate::scratch;

/// Which vectors of a matrix are to be orthonormal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// Its rows: Q·Qᵀ = I.
    Rows,
    /// Its columns: Pᵀ·P = I.
    Columns,
}

/// Decays of the two running means of [`importance`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// β₁: decay of the sensitivity (usually 0.85).
    pub beta1: f32,
    /// β₂: decay of its uncertainty (usually 0.85).
    pub beta2: f32,
}

/// `out` `[r, I]` = diag(λ)·Q, of λ `[r]` and Q `[r, I]`.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn scaled(cpu: &Cpu, values: &[f32], q: &[f32], out: &mut [f32]) {
    pointwise!(Scaled { scale } [x] [_y] { [x.mul(scale)] });
    let columns = columns(values.len(), q.len());
    assert_eq!(out.len(), q.len(), "the scaled factor is as large as the factor");
    let rows = q.chunks_exact(columns).zip(out.chunks_exact_mut(columns));
    for (&scale, (row, out)) in values.iter().zip(rows) {
        apply(cpu, Scaled { scale }, [row], [out]);
    }
}

/// Gradients of [`scaled`], each added to where it is wanted: dQ += diag(λ)·d, and dλₖ is the
/// product of the rows k of d and Q, summed in double precision. Panics as [`scaled`] does for these
/// sizes.
pub fn scaled_backward(
    cpu: &Cpu,
    values: &[f32],
    q: &[f32],
    d_out: &[f32],
    [d_values, dq]: [Option<&mut [f32]>; 2],
) {
    pointwise!(AddScaled { scale } [x] [y] { [x.mul_add(scale, y)] });
    let columns = columns(values.len(), q.len());
    assert_eq!(d_out.len(), q.len(), "the gradient is as large as the factor");
    if let Some(dq) = dq {
        let rows = d_out.chunks_exact(columns).zip(dq.chunks_exact_mut(columns));
        for (&scale, (d, dq)) in values.iter().zip(rows) {
            apply(cpu, AddScaled { scale }, [d], [dq]);
        }
    }
    if let Some(d_values) = d_values {
        let rows = d_out.chunks_exact(columns).zip(q.chunks_exact(columns));
        for (d_value, (d, row)) in d_values.iter_mut().zip(rows) {
            let products = d.iter().zip(row).map(|(&d, &q)| f64::from(d) * f64::from(q));
            *d_value += products.sum::<f64>() as f32;
        }
    }
}

/// ‖Q·Qᵀ − I‖² or ‖Pᵀ·P − I‖², squared Frobenius norms (section 3.1), of a matrix with that many rows.
/// Panics if the matrix is not of whole rows.
pub fn penalty(cpu: &Cpu, vectors: Vectors, rows: usize, matrix: &[f32]) -> f64 {
    let matrix = Matrix::new(matrix, rows, columns(rows, matrix.len()));
    let excess = excess(cpu, vectors, matrix);
    let value = excess.iter().map(|&x| f64::from(x).powi(2)).sum();
    scratch::give(cpu, excess);
    value
}

/// Adds `weight` times the gradient of [`penalty`], 4·(Q·Qᵀ − I)·Q or 4·P·(Pᵀ·P − I), to `d_matrix`.
/// Panics as it does, and if the gradient has another length.
pub fn penalty_backward(
    cpu: &Cpu,
    vectors: Vectors,
    rows: usize,
    matrix: &[f32],
    weight: f32,
    d_matrix: &mut [f32],
) {
    pointwise!(Scale { scale } [] [x] { [x.mul(scale)] });
    let columns = columns(rows, matrix.len());
    let matrix = Matrix::new(matrix, rows, columns);
    let mut excess = excess(cpu, vectors, matrix);
    apply(cpu, Scale { scale: 4.0 * weight }, [], [&mut excess]);
    let into = MatrixMut::new(d_matrix, rows, columns);
    match vectors {
        Vectors::Rows => gemm(cpu, Matrix::new(&excess, rows, rows), matrix, into, Into::Add),
        Vectors::Columns => {
            gemm(cpu, matrix, Matrix::new(&excess, columns, columns), into, Into::Add);
        }
    }
    scratch::give(cpu, excess);
}

/// Takes one step's gradient into the running means of each weight's importance. With the
/// sensitivity I = |w · `gradient_scale` · gradient| (section 3.2):
/// Ī = β₁Ī + (1−β₁)I and Ū = β₂Ū + (1−β₂)|I − Ī|; the importance is Ī·Ū.
///
/// # Panics
/// If the lengths differ.
pub fn importance(
    cpu: &Cpu,
    smoothing: Smoothing,
    gradient_scale: f32,
    [weights, gradient]: [&[f32]; 2],
    [sensitivity, uncertainty]: [&mut [f32]; 2],
) {
    pointwise!(Step { scale, beta1, rest1, beta2, rest2 } [w, g] [mean, spread] {
        let now = w.mul(g).mul(scale).abs();
        let mean = mean.mul_add(beta1, now.mul(rest1));
        [mean, spread.mul_add(beta2, now.sub(mean).abs().mul(rest2))]
    });
    let Smoothing { beta1, beta2 } = smoothing;
    let (rest1, rest2) = (1.0 - beta1, 1.0 - beta2);
    let op = Step { scale: gradient_scale, beta1, rest1, beta2, rest2 };
    apply(cpu, op, [weights, gradient], [sensitivity, uncertainty]);
}

/// The products of all pairs of vectors, less those of orthonormal ones.
fn excess(cpu: &Cpu, vectors: Vectors, matrix: Matrix) -> crate::Buffer {
    let matrix = if vectors == Vectors::Rows { matrix } else { matrix.t() };
    let count = matrix.row_count();
    let mut products = scratch::take(cpu, count * count);
    let into = MatrixMut::new(&mut products, count, count);
    gemm(cpu, matrix, matrix.t(), into, Into::Replace);
    for k in 0..count {
        products[k * count + k] -= 1.0;
    }
    products
}

/// Columns of a matrix; at least 1, so that an empty one has no rows to visit.
fn columns(rows: usize, len: usize) -> usize {
    let columns = len.checked_div(rows).unwrap_or(0).max(1);
    assert!(len == 0 || len == rows * columns, "{len} values are no matrix of {rows} rows");
    columns
}

/// The plain form, for tests.
pub mod reference {
    use super::Vectors;
    use crate::real::Real;

    /// diag(λ)·Q, element by element.
    pub fn scaled<R: Real>(values: &[R], q: &[R]) -> Vec<R> {
        let columns = super::columns(values.len(), q.len());
        q.iter().enumerate().map(|(i, &x)| values[i / columns] * x).collect()
    }

    /// (dλ, dQ), summed in the order of the elements of Q.
    pub fn scaled_backward<R: Real>(values: &[R], q: &[R], d_out: &[R]) -> [Vec<R>; 2] {
        let columns = super::columns(values.len(), q.len());
        let mut d_values = vec![R::zero(); values.len()];
        let mut dq = vec![R::zero(); q.len()];
        for i in 0..q.len() {
            d_values[i / columns] += d_out[i] * q[i];
            dq[i] += d_out[i] * values[i / columns];
        }
        [d_values, dq]
    }

    /// The sum of the squares of Q·Qᵀ − I, or of Pᵀ·P − I.
    pub fn penalty<R: Real>(vectors: Vectors, rows: usize, matrix: &[R]) -> R {
        let squares = excess(vectors, rows, matrix).into_iter().flatten().map(|x| x * x);
        squares.sum()
    }

    /// 4·(Q·Qᵀ − I)·Q, or 4·P·(Pᵀ·P − I).
    pub fn penalty_backward<R: Real>(vectors: Vectors, rows: usize, matrix: &[R]) -> Vec<R> {
        let columns = super::columns(rows, matrix.len());
        let excess = excess(vectors, rows, matrix);
        let mut out = vec![R::zero(); matrix.len()];
        for row in 0..rows {
            for column in 0..columns {
                let to = &mut out[row * columns + column];
                let (one, stride, first) = match vectors {
                    Vectors::Rows => (row, columns, column),
                    Vectors::Columns => (column, 1, row * columns),
                };
                for (other, &excess) in excess[one].iter().enumerate() {
                    *to += R::from_f64(4.0) * excess * matrix[first + other * stride];
                }
            }
        }
        out
    }

    /// (Ī, Ū) after a step.
    pub fn importance<R: Real>(betas: [R; 2], [w, g]: [R; 2], [mean, spread]: [R; 2]) -> [R; 2] {
        let [beta1, beta2] = betas;
        let now = (w * g).abs();
        let mean = beta1 * mean + (R::one() - beta1) * now;
        [mean, beta2 * spread + (R::one() - beta2) * (now - mean).abs()]
    }

    fn excess<R: Real>(vectors: Vectors, rows: usize, matrix: &[R]) -> Vec<Vec<R>> {
        let columns = super::columns(rows, matrix.len());
        let (count, length) = match vectors {
            Vectors::Rows => (rows, columns),
            Vectors::Columns => (columns, rows),
        };
        let at = |vector: usize, place: usize| match vectors {
            Vectors::Rows => matrix[vector * columns + place],
            Vectors::Columns => matrix[place * columns + vector],
        };
        let product = |one: usize, other: usize| {
            let sum = (0..length).map(|place| at(one, place) * at(other, place)).sum::<R>();
            if one == other { sum - R::one() } else { sum }
        };
        (0..count).map(|one| (0..count).map(|other| product(one, other)).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Precision;
    use crate::testing::{check_gradient, close, levels, values, wide};

    const SHAPES: [[usize; 2]; 6] = [[1, 1], [0, 3], [3, 5], [4, 16], [12, 67], [5, 9000]];
    const BOTH: [Vectors; 2] = [Vectors::Rows, Vectors::Columns];

    #[test]
    fn the_references_have_the_gradients_of_their_functions() {
        let (e, q, d) = (wide(&values(3, 1)), wide(&values(15, 2)), wide(&values(15, 3)));
        let dot = |a: &[f64]| a.iter().zip(&d).map(|(a, b)| a * b).sum::<f64>();
        let [de, dq] = reference::scaled_backward(&e, &q, &d);
        check_gradient("values", &e, &de, |e| dot(&reference::scaled(e, &q)));
        check_gradient("q", &q, &dq, |q| dot(&reference::scaled(&e, q)));
        for vectors in BOTH {
            let gradient = reference::penalty_backward(vectors, 3, &q);
            check_gradient("penalty", &q, &gradient, |q| reference::penalty(vectors, 3, q));
        }
    }

    #[test]
    fn the_fast_forms_follow_the_references() {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with(threads, level, Precision::F32);
                SHAPES.into_iter().for_each(|shape| check(&cpu, shape));
            }
        }
    }

    fn check(cpu: &Cpu, [rank, columns]: [usize; 2]) {
        let len = rank * columns;
        let (e, q, d) = (values(rank, 1), values(len, 2), values(len, 3));
        let (wide_e, wide_q, wide_d) = (wide(&e), wide(&q), wide(&d));
        let mut out = vec![9.0; len];
        scaled(cpu, &e, &q, &mut out);
        close("scaled", &out, &reference::scaled(&wide_e, &wide_q), 1e-6);
        let [exact_de, exact_dq] = reference::scaled_backward(&wide_e, &wide_q, &wide_d);
        let (mut de, mut dq) = (vec![0.0; rank], vec![0.0; len]);
        scaled_backward(cpu, &e, &q, &d, [Some(&mut de), Some(&mut dq)]);
        scaled_backward(cpu, &e, &q, &d, [None, None]);
        close("d values", &de, &exact_de, 1e-6);
        close("dq", &dq, &exact_dq, 1e-6);
        for vectors in BOTH {
            // The larger side of a wide matrix has too many vectors for the plain form.
            if vectors == Vectors::Columns && columns > 100 {
                continue;
            }
            let exact = reference::penalty(vectors, rank, &wide_q);
            let got = penalty(cpu, vectors, rank, &q);
            assert!((got - exact).abs() <= 1e-5 * (1.0 + exact), "{got} instead of {exact}");
            let mut dq = vec![1.0; len];
            penalty_backward(cpu, vectors, rank, &q, 0.5, &mut dq);
            let exact = reference::penalty_backward(vectors, rank, &wide_q);
            let exact: Vec<f64> = exact.into_iter().map(|d| 1.0 + 0.5 * d).collect();
            close("penalty", &dq, &exact, 1e-4);
        }
    }

    #[test]
    fn orthonormal_vectors_have_no_penalty() {
        let cpu = Cpu::new(1);
        let (sine, cosine) = 0.3f32.sin_cos();
        let rows = [cosine, sine, 0.0, -sine, cosine, 0.0];
        assert!(penalty(&cpu, Vectors::Rows, 2, &rows) < 1e-12);
        // Of the columns one is zero.
        assert!((penalty(&cpu, Vectors::Columns, 2, &rows) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn importance_follows_the_reference_over_steps() {
        let cpu = Cpu::new(2);
        let smoothing = Smoothing { beta1: 0.85, beta2: 0.7 };
        let betas = [smoothing.beta1, smoothing.beta2].map(f64::from);
        let w = values(37, 1);
        let (mut mean, mut spread) = (vec![0.0; 37], vec![0.0; 37]);
        let mut exact = vec![[0.0; 2]; 37];
        for step in 0..5 {
            let g = values(37, 2 + step);
            importance(&cpu, smoothing, 0.5, [&w, &g], [&mut mean, &mut spread]);
            for (i, exact) in exact.iter_mut().enumerate() {
                let pair = [f64::from(w[i]), 0.5 * f64::from(g[i])];
                *exact = reference::importance(betas, pair, *exact);
            }
            let [means, spreads] = [0, 1].map(|i| exact.iter().map(|e| e[i]).collect::<Vec<_>>());
            close("sensitivity", &mean, &means, 1e-6);
            close("uncertainty", &spread, &spreads, 1e-6);
        }
    }
}
