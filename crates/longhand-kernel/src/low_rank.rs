//! A weight with a change of low rank, W' = W + s·B·A (Hu et al., "LoRA: Low-rank adaptation of
//! large language models", 2021).
//!
//! Three forms of one function. [`weight`] makes W' itself, for an operation that reads a weight in
//! every step. [`add`] adds s·(x·Aᵀ)·Bᵀ to the result of a linear layer and [`add_rows`] adds rows of
//! s·B·A to looked-up rows of a table: neither makes W', and their cost grows with the rank alone.

use crate::cpu::Cpu;
use crate::embedding;
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::pointwise::{apply, pointwise};
use crate::{linear, scratch};

/// The two factors of a change, and its scale.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a, R = f32> {
    /// O: rows of W and of B.
    pub output: usize,
    /// I: columns of W and of A.
    pub input: usize,
    /// r: rows of A, columns of B.
    pub rank: usize,
    /// s, usually α / r.
    pub scale: R,
    /// A: the inner factor, [r, I].
    pub a: &'a [R],
    /// B: the outer factor, [O, r].
    pub b: &'a [R],
}

/// The wanted gradients of the two factors; each is added to.
#[derive(Default)]
pub struct Gradients<'a> {
    /// [r, I]: gradient of A.
    pub a: Option<&'a mut [f32]>,
    /// [O, r]: gradient of B.
    pub b: Option<&'a mut [f32]>,
}

/// `out` [O, I] = W + s·B·A.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn weight(cpu: &Cpu, change: LowRank, whole: &[f32], out: &mut [f32]) {
    let LowRank { output, input, rank, .. } = change;
    out.copy_from_slice(whole);
    let scaled = change.scaled(cpu);
    let b = Matrix::new(&scaled, output, rank);
    gemm(cpu, b, change.a(), MatrixMut::new(out, output, input), Into::Add);
    scratch::give(cpu, scaled);
}

/// Gradients of [`weight`] through A and B: dA += s·Bᵀ·dW', dB += s·dW'·Aᵀ. The gradient of
/// W is dW' itself.
///
/// # Panics
/// The panics of [`weight`] for these sizes.
pub fn weight_backward(cpu: &Cpu, change: LowRank, d_out: &[f32], gradients: Gradients) {
    let LowRank { output, input, rank, scale, .. } = change;
    let d_out = Matrix::new(d_out, output, input);
    if let Some(da) = gradients.a {
        let scaled = change.scaled(cpu);
        let b = Matrix::new(&scaled, output, rank);
        gemm(cpu, b.t(), d_out, MatrixMut::new(da, rank, input), Into::Add);
        scratch::give(cpu, scaled);
    }
    if let Some(db) = gradients.b {
        let mut product = scratch::take(cpu, output * rank);
        let to = MatrixMut::new(&mut product, output, rank);
        gemm(cpu, d_out, change.a().t(), to, Into::Replace);
        pointwise!(AddScaled { scale } [x] [y] { [x.mul_add(scale, y)] });
        apply(cpu, AddScaled { scale }, [&product], [db]);
        scratch::give(cpu, product);
    }
}

/// y [R, O] += s·(x·Aᵀ)·Bᵀ for x = [x₁ | x₂ | …], each [R, its columns]. `hidden` [R, r] receives
/// x·Aᵀ, which [`add_backward`] reads.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn add(cpu: &Cpu, change: LowRank, inputs: &[&[f32]], hidden: &mut [f32], y: &mut [f32]) {
    let LowRank { output, rank, .. } = change;
    let size = change.inner(y.len());
    linear::forward(cpu, size, inputs, change.a, None, hidden);
    let scaled = change.scaled(cpu);
    let b = Matrix::new(&scaled, output, rank);
    let hidden = Matrix::new(hidden, size.rows, rank);
    gemm(cpu, hidden, b.t(), MatrixMut::new(y, size.rows, output), Into::Add);
    scratch::give(cpu, scaled);
}

/// Gradients of [`add`]: dB += s·dyᵀ·h, and with dh = s·dy·B those of x·Aᵀ. `d_inputs` holds, for
/// each input, [R, its columns] where it is wanted.
///
/// # Panics
/// The panics of [`add`] for these sizes.
pub fn add_backward<'a>(
    cpu: &Cpu,
    change: LowRank,
    inputs: &[&[f32]],
    hidden: &[f32],
    dy: &[f32],
    d_inputs: &mut [Option<&'a mut [f32]>],
    gradients: Gradients<'a>,
) {
    let LowRank { output, rank, scale, .. } = change;
    let size = change.inner(dy.len());
    let dy = Matrix::new(dy, size.rows, output);
    pointwise!(Scaled { scale } [x] [_y] { [x.mul(scale)] });
    let mut rows = scratch::take(cpu, size.rows * rank);
    if let Some(db) = gradients.b {
        apply(cpu, Scaled { scale }, [hidden], [&mut rows]);
        let hidden = Matrix::new(&rows, size.rows, rank);
        gemm(cpu, dy.t(), hidden, MatrixMut::new(db, output, rank), Into::Add);
    }
    if gradients.a.is_some() || d_inputs.iter().any(Option::is_some) {
        let scaled = change.scaled(cpu);
        let b = Matrix::new(&scaled, output, rank);
        gemm(cpu, dy, b, MatrixMut::new(&mut rows, size.rows, rank), Into::Replace);
        let wanted = linear::Gradients { inputs: d_inputs, weight: gradients.a, bias: None };
        linear::backward(cpu, size, inputs, change.a, &rows, wanted);
        scratch::give(cpu, scaled);
    }
    scratch::give(cpu, rows);
}

/// Adds s·(B's rows `ids`)·A to `y` `[R, I]`: the change of the rows of a table that `ids` `[R]` name.
/// `hidden` `[R, r]` receives those rows of B, which [`add_rows_backward`] reads.
///
/// # Panics
/// If a slice's length is not that of its shape, or an id is not less than O.
pub fn add_rows(cpu: &Cpu, change: LowRank, ids: &[u32], hidden: &mut [f32], y: &mut [f32]) {
    pointwise!(Scaled { scale } [x] [_y] { [x.mul(scale)] });
    let LowRank { input, rank, scale, .. } = change;
    embedding::gather(cpu, rank, ids, change.b, hidden);
    let mut scaled = scratch::take(cpu, hidden.len());
    apply(cpu, Scaled { scale }, [hidden], [&mut scaled]);
    let rows = Matrix::new(&scaled, ids.len(), rank);
    gemm(cpu, rows, change.a(), MatrixMut::new(y, ids.len(), input), Into::Add);
    scratch::give(cpu, scaled);
}

/// Gradients of [`add_rows`]: dA += s·hᵀ·dy, and s·dy·Aᵀ is added to the rows of dB. Panics as it does
/// for these sizes.
pub fn add_rows_backward(
    cpu: &Cpu,
    change: LowRank,
    ids: &[u32],
    hidden: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    pointwise!(Scaled { scale } [x] [_y] { [x.mul(scale)] });
    pointwise!(Scale { scale } [] [x] { [x.mul(scale)] });
    let LowRank { input, rank, scale, .. } = change;
    let dy = Matrix::new(dy, ids.len(), input);
    let mut rows = scratch::take(cpu, hidden.len());
    if let Some(da) = gradients.a {
        apply(cpu, Scaled { scale }, [hidden], [&mut rows]);
        let hidden = Matrix::new(&rows, ids.len(), rank);
        gemm(cpu, hidden.t(), dy, MatrixMut::new(da, rank, input), Into::Add);
    }
    if let Some(db) = gradients.b {
        let into = MatrixMut::new(&mut rows, ids.len(), rank);
        gemm(cpu, dy, change.a().t(), into, Into::Replace);
        apply(cpu, Scale { scale }, [], [&mut rows]);
        embedding::scatter_add(cpu, rank, ids, &rows, db);
    }
    scratch::give(cpu, rows);
}

impl<'a> LowRank<'a> {
    fn a(&self) -> Matrix<'a> {
        Matrix::new(self.a, self.rank, self.input)
    }

    /// s·B, in a buffer of scratch memory.
    fn scaled(&self, cpu: &Cpu) -> crate::Buffer {
        pointwise!(Scaled { scale } [x] [_y] { [x.mul(scale)] });
        assert_eq!(self.b.len(), self.output * self.rank, "the second factor of a change");
        let mut scaled = scratch::take(cpu, self.b.len());
        apply(cpu, Scaled { scale: self.scale }, [self.b], [&mut scaled]);
        scaled
    }

    /// Sizes of x·Aᵀ, for a result of `values` numbers.
    fn inner(&self, values: usize) -> linear::Size {
        let rows = values.checked_div(self.output).unwrap_or(0);
        linear::Size { rows, input: self.input, output: self.rank }
    }
}

/// The plain form, for tests.
pub mod reference {
    use super::LowRank;
    use crate::real::Real;

    /// W + s·B·A, summed over the rank in order.
    pub fn weight<R: Real>(change: LowRank<R>, whole: &[R]) -> Vec<R> {
        let LowRank { output, input, rank, scale, a, b } = change;
        let mut out = whole.to_vec();
        for o in 0..output {
            for i in 0..input {
                for k in 0..rank {
                    out[o * input + i] += scale * b[o * rank + k] * a[k * input + i];
                }
            }
        }
        out
    }

    /// (dA, dB), each added to.
    pub fn weight_backward<R: Real>(change: LowRank<R>, d_out: &[R], [da, db]: [&mut [R]; 2]) {
        let LowRank { output, input, rank, scale, a, b } = change;
        for o in 0..output {
            for i in 0..input {
                let d = scale * d_out[o * input + i];
                for k in 0..rank {
                    da[k * input + i] += d * b[o * rank + k];
                    db[o * rank + k] += d * a[k * input + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Precision;
    use crate::testing::{check_gradient, close, levels, rounded, values, wide};

    const SHAPES: [[usize; 3]; 5] = [[1, 1, 1], [5, 3, 2], [7, 9, 0], [65, 33, 4], [40, 130, 17]];
    const SCALE: f32 = 0.5;

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn beside(a: &[f32], b: &[f32], [first, second]: [usize; 2]) -> Vec<f32> {
        let rows = a.chunks(first).zip(b.chunks(second));
        rows.flat_map(|(a, b)| a.iter().chain(b).copied()).collect()
    }

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        let [output, input, rank] = [5, 4, 3];
        let (w, d) = (wide(&values(20, 1)), wide(&values(20, 2)));
        let (a, b) = (wide(&values(12, 3)), wide(&values(15, 4)));
        let value = |a: &[f64], b: &[f64]| {
            let change = LowRank { output, input, rank, scale: 0.7, a, b };
            dot(&reference::weight(change, &w), &d)
        };
        let (mut da, mut db) = ([0.0; 12], [0.0; 15]);
        let change = LowRank { output, input, rank, scale: 0.7, a: &a, b: &b };
        reference::weight_backward(change, &d, [&mut da, &mut db]);
        check_gradient("a", &a, &da, |a| value(a, &b));
        check_gradient("b", &b, &db, |b| value(&a, b));
    }

    #[test]
    fn both_forms_follow_the_reference() {
        for level in levels() {
            for (threads, precision) in
                [(1, Precision::F32), (3, Precision::F32), (2, Precision::Bf16)]
            {
                let cpu = Cpu::with(threads, level, precision);
                for shape in SHAPES {
                    check_weight(&cpu, shape);
                    [0, 1, 30, 70].into_iter().for_each(|rows| check_looked_up(&cpu, shape, rows));
                    for rows in [0, 1, 30, 70] {
                        check_rows(&cpu, shape, rows);
                    }
                }
            }
        }
    }

    fn tolerance(cpu: &Cpu) -> f64 {
        // Products of products are rounded twice more in bf16.
        if cpu.precision() == Precision::F32 { 1e-5 } else { 4e-2 }
    }

    fn check_weight(cpu: &Cpu, [output, input, rank]: [usize; 3]) {
        let values = |len: usize, seed: u64| rounded(cpu.precision(), &values(len, seed));
        let (w, d) = (values(output * input, 1), values(output * input, 2));
        let (a, b) = (values(rank * input, 3), values(output * rank, 4));
        let change = LowRank { output, input, rank, scale: SCALE, a: &a, b: &b };
        let (wide_a, wide_b) = (wide(&a), wide(&b));
        let exact =
            LowRank { output, input, rank, scale: f64::from(SCALE), a: &wide_a, b: &wide_b };
        let mut out = vec![9.0; w.len()];
        weight(cpu, change, &w, &mut out);
        close("weight", &out, &reference::weight(exact, &wide(&w)), tolerance(cpu));
        let (mut da, mut db) = (vec![1.0; a.len()], vec![2.0; b.len()]);
        weight_backward(cpu, change, &d, Gradients { a: Some(&mut da), b: Some(&mut db) });
        let (mut exact_a, mut exact_b) = (vec![1.0; a.len()], vec![2.0; b.len()]);
        reference::weight_backward(exact, &wide(&d), [&mut exact_a, &mut exact_b]);
        close("da", &da, &exact_a, tolerance(cpu));
        close("db", &db, &exact_b, tolerance(cpu));
    }

    /// The form over rows is a linear layer of W' less one of W.
    fn check_rows(cpu: &Cpu, [output, input, rank]: [usize; 3], rows: usize) {
        let values = |len: usize, seed: u64| rounded(cpu.precision(), &values(len, seed));
        let (a, b) = (values(rank * input, 3), values(output * rank, 4));
        let columns = [input.div_ceil(2), input / 2];
        let [x, z] = [0, 1].map(|part| values(rows * columns[part], 5 + part as u64));
        let (start, dy) = (values(rows * output, 7), values(rows * output, 8));
        let change = LowRank { output, input, rank, scale: SCALE, a: &a, b: &b };

        let (wide_a, wide_b) = (wide(&a), wide(&b));
        let exact =
            LowRank { output, input, rank, scale: f64::from(SCALE), a: &wide_a, b: &wide_b };
        let product = reference::weight(exact, &vec![0.0; output * input]);
        let size = linear::Size { rows, input, output };
        let joined = if columns[1] == 0 { x.clone() } else { beside(&x, &z, columns) };
        let mut exact_y = vec![0.0; rows * output];
        let none = vec![0.0; output];
        linear::reference::forward(size, &wide(&joined), &product, &none, &mut exact_y);
        exact_y.iter_mut().zip(&start).for_each(|(y, &start)| *y += f64::from(start));
        let (mut exact_dx, mut d_product) = (vec![1.0; rows * input], vec![0.0; output * input]);
        let into = [&mut exact_dx[..], &mut d_product, &mut vec![0.0; output]];
        linear::reference::backward(size, &wide(&joined), &product, &wide(&dy), into);
        let (mut exact_a, mut exact_b) = (vec![1.0; a.len()], vec![2.0; b.len()]);
        reference::weight_backward(exact, &d_product, [&mut exact_a, &mut exact_b]);

        let (mut y, mut hidden) = (start.clone(), vec![9.0; rows * rank]);
        add(cpu, change, &[&x, &z], &mut hidden, &mut y);
        let tolerance = tolerance(cpu) * (1.0 + (rows as f64).sqrt());
        close("y", &y, &exact_y, tolerance);
        let (mut dx, mut dz) = (vec![1.0; x.len()], vec![1.0; z.len()]);
        let (mut da, mut db) = (vec![1.0; a.len()], vec![2.0; b.len()]);
        let gradients = Gradients { a: Some(&mut da), b: Some(&mut db) };
        let d_inputs = &mut [Some(&mut dx[..]), Some(&mut dz[..])];
        add_backward(cpu, change, &[&x, &z], &hidden, &dy, d_inputs, gradients);
        let dx = if columns[1] == 0 { dx } else { beside(&dx, &dz, columns) };
        close("dx", &dx, &exact_dx, tolerance);
        close("da", &da, &exact_a, tolerance);
        close("db", &db, &exact_b, tolerance);
    }

    /// The form over rows of a table is a look-up in W' less one in W.
    fn check_looked_up(cpu: &Cpu, [output, input, rank]: [usize; 3], rows: usize) {
        let values = |len: usize, seed: u64| rounded(cpu.precision(), &values(len, seed));
        let (a, b) = (values(rank * input, 3), values(output * rank, 4));
        let (start, dy) = (values(rows * input, 7), values(rows * input, 8));
        let change = LowRank { output, input, rank, scale: SCALE, a: &a, b: &b };
        // Some rows are looked up again and again.
        let ids: Vec<u32> = (0..rows).map(|row| (row * row % output) as u32).collect();

        let (wide_a, wide_b) = (wide(&a), wide(&b));
        let exact =
            LowRank { output, input, rank, scale: f64::from(SCALE), a: &wide_a, b: &wide_b };
        let product = reference::weight(exact, &vec![0.0; output * input]);
        let (mut exact_y, mut d_product) = (wide(&start), vec![0.0; output * input]);
        for (row, &id) in ids.iter().enumerate() {
            for i in 0..input {
                exact_y[row * input + i] += product[id as usize * input + i];
                d_product[id as usize * input + i] += f64::from(dy[row * input + i]);
            }
        }
        let (mut exact_a, mut exact_b) = (vec![1.0; a.len()], vec![2.0; b.len()]);
        reference::weight_backward(exact, &d_product, [&mut exact_a, &mut exact_b]);

        let (mut y, mut hidden) = (start, vec![9.0; rows * rank]);
        add_rows(cpu, change, &ids, &mut hidden, &mut y);
        let tolerance = tolerance(cpu) * (1.0 + (rows as f64).sqrt());
        close("y", &y, &exact_y, tolerance);
        let (mut da, mut db) = (vec![1.0; a.len()], vec![2.0; b.len()]);
        let gradients = Gradients { a: Some(&mut da), b: Some(&mut db) };
        add_rows_backward(cpu, change, &ids, &hidden, &dy, gradients);
        close("da", &da, &exact_a, tolerance);
        close("db", &db, &exact_b, tolerance);
    }
}
