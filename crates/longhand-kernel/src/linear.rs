//! Linear layers y = x·Wᵀ + b, alone or over two inputs side by side.
//!
//! W is [output, input] as in PyTorch. The form over a pair reads [a | b] without putting them
//! together: the fusion of two memories by concatenation.

use crate::cpu::{Cpu, Shards};
use crate::elementwise::sum_rows;
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::pointwise::for_rows;

/// Sizes of [`forward`] and [`backward`].
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// R: rows of x and y.
    pub rows: usize,
    /// Columns of x and of W.
    pub input: usize,
    /// Columns of y, rows of W.
    pub output: usize,
}

/// Sizes of [`forward_pair`] and [`backward_pair`].
#[derive(Clone, Copy, Debug)]
pub struct PairSize {
    /// R: rows of a, b and y.
    pub rows: usize,
    /// Columns of a; W's first columns belong to it.
    pub first: usize,
    /// Columns of b.
    pub second: usize,
    /// Columns of y, rows of W.
    pub output: usize,
}

/// The wanted gradients of a linear layer; each is added to.
#[derive(Default)]
pub struct Gradients<'a> {
    /// [R, input].
    pub x: Option<&'a mut [f32]>,
    /// [output, input].
    pub weight: Option<&'a mut [f32]>,
    /// [output].
    pub bias: Option<&'a mut [f32]>,
}

/// The wanted gradients of a linear layer over two inputs; each is added to.
#[derive(Default)]
pub struct PairGradients<'a> {
    /// [R, first].
    pub a: Option<&'a mut [f32]>,
    /// [R, second].
    pub b: Option<&'a mut [f32]>,
    /// [output, first + second].
    pub weight: Option<&'a mut [f32]>,
    /// [output].
    pub bias: Option<&'a mut [f32]>,
}

/// y [R, output] = x [R, input] · Wᵀ + b.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn forward(
    cpu: &Cpu,
    size: Size,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let Size { rows, input, output } = size;
    let into = begin(cpu, rows, output, bias, y);
    let weight = Matrix::new(weight, output, input);
    gemm(cpu, Matrix::new(x, rows, input), weight.t(), MatrixMut::new(y, rows, output), into);
}

/// dx += dy·W, dW += dyᵀ·x, db += the sum of dy's rows.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn backward(
    cpu: &Cpu,
    size: Size,
    x: &[f32],
    weight: &[f32],
    dy: &[f32],
    gradients: Gradients,
) {
    let Size { rows, input, output } = size;
    if let Some(bias) = gradients.bias {
        sum_rows(cpu, dy, bias);
    }
    let dy = Matrix::new(dy, rows, output);
    if let Some(dx) = gradients.x {
        let weight = Matrix::new(weight, output, input);
        gemm(cpu, dy, weight, MatrixMut::new(dx, rows, input), Into::Add);
    }
    if let Some(dweight) = gradients.weight {
        let dweight = MatrixMut::new(dweight, output, input);
        gemm(cpu, dy.t(), Matrix::new(x, rows, input), dweight, Into::Add);
    }
}

/// y [R, output] = [a | b]·Wᵀ + bias, for a [R, first] and b [R, second].
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn forward_pair(
    cpu: &Cpu,
    size: PairSize,
    [a, b]: [&[f32]; 2],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let PairSize { rows, first, second, output } = size;
    let into = begin(cpu, rows, output, bias, y);
    let weight = Matrix::new(weight, output, first + second);
    let of_a = weight.columns(0..first).t();
    let of_b = weight.columns(first..first + second).t();
    gemm(cpu, Matrix::new(a, rows, first), of_a, MatrixMut::new(y, rows, output), into);
    gemm(cpu, Matrix::new(b, rows, second), of_b, MatrixMut::new(y, rows, output), Into::Add);
}

/// Gradients of [`forward_pair`].
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn backward_pair(
    cpu: &Cpu,
    size: PairSize,
    [a, b]: [&[f32]; 2],
    weight: &[f32],
    dy: &[f32],
    gradients: PairGradients,
) {
    let PairSize { rows, first, second, output } = size;
    let input = first + second;
    if let Some(bias) = gradients.bias {
        sum_rows(cpu, dy, bias);
    }
    let dy = Matrix::new(dy, rows, output);
    let weight = Matrix::new(weight, output, input);
    if let Some(da) = gradients.a {
        gemm(cpu, dy, weight.columns(0..first), MatrixMut::new(da, rows, first), Into::Add);
    }
    if let Some(db) = gradients.b {
        gemm(cpu, dy, weight.columns(first..input), MatrixMut::new(db, rows, second), Into::Add);
    }
    if let Some(dweight) = gradients.weight {
        assert_eq!(dweight.len(), output * input, "the weight's gradient");
        let of_a = MatrixMut::strided(dweight, output, first, input);
        gemm(cpu, dy.t(), Matrix::new(a, rows, first), of_a, Into::Add);
        let behind = dweight.get_mut(first..).unwrap_or_default();
        let of_b = MatrixMut::strided(behind, output, second, input);
        gemm(cpu, dy.t(), Matrix::new(b, rows, second), of_b, Into::Add);
    }
}

/// Puts the bias into every row of y, and says how the product then gets there.
fn begin(cpu: &Cpu, rows: usize, output: usize, bias: Option<&[f32]>, y: &mut [f32]) -> Into {
    assert_eq!(y.len(), rows * output, "the output of a linear layer");
    let Some(bias) = bias else { return Into::Replace };
    assert_eq!(bias.len(), output, "the bias of a linear layer");
    let y = Shards::new(y);
    for_rows(cpu, rows, output, |_, range| {
        for r in range {
            // SAFETY: each row belongs to one thread.
            unsafe { y.part(r * output..(r + 1) * output) }.copy_from_slice(bias);
        }
    });
    Into::Add
}

/// The plain form.
pub mod reference {
    use super::Size;
    use crate::real::Real;

    /// y = x·Wᵀ + b.
    pub fn forward<R: Real>(size: Size, x: &[R], weight: &[R], bias: &[R], y: &mut [R]) {
        let Size { rows, input, output } = size;
        for r in 0..rows {
            for o in 0..output {
                y[r * output + o] = bias[o];
                for i in 0..input {
                    y[r * output + o] += x[r * input + i] * weight[o * input + i];
                }
            }
        }
    }

    /// (dx, dW, db), each added to.
    pub fn backward<R: Real>(
        size: Size,
        x: &[R],
        weight: &[R],
        dy: &[R],
        [dx, dweight, dbias]: [&mut [R]; 3],
    ) {
        let Size { rows, input, output } = size;
        for r in 0..rows {
            for o in 0..output {
                let dy = dy[r * output + o];
                dbias[o] += dy;
                for i in 0..input {
                    dx[r * input + i] += dy * weight[o * input + i];
                    dweight[o * input + i] += dy * x[r * input + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, close, levels, values, wide};

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        let size = Size { rows: 3, input: 4, output: 5 };
        let (x, w) = (wide(&values(12, 1)), wide(&values(20, 2)));
        let (b, dy) = (wide(&values(5, 3)), wide(&values(15, 4)));
        let value = |x: &[f64], w: &[f64], b: &[f64]| {
            let mut y = [0.0; 15];
            reference::forward(size, x, w, b, &mut y);
            dot(&y, &dy)
        };
        let (mut dx, mut dw, mut db) = ([0.0; 12], [0.0; 20], [0.0; 5]);
        reference::backward(size, &x, &w, &dy, [&mut dx, &mut dw, &mut db]);
        check_gradient("x", &x, &dx, |x| value(x, &w, &b));
        check_gradient("weight", &w, &dw, |w| value(&x, w, &b));
        check_gradient("bias", &b, &db, |b| value(&x, &w, b));
    }

    #[test]
    fn one_input_and_two_follow_the_reference() {
        let sizes = [(0, 3, 2, 4), (1, 1, 0, 1), (5, 7, 9, 3), (70, 33, 40, 65), (200, 64, 64, 80)];
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (rows, first, second, output) in sizes {
                    check(&cpu, PairSize { rows, first, second, output });
                }
            }
        }
    }

    fn check(cpu: &Cpu, pair: PairSize) {
        let PairSize { rows, first, second, output } = pair;
        let input = first + second;
        let size = Size { rows, input, output };
        let (a, b) = (values(rows * first, 1), values(rows * second, 2));
        let (w, bias) = (values(output * input, 3), values(output, 4));
        let dy = values(rows * output, 5);
        let mut x = vec![0.0; rows * input];
        for r in 0..rows {
            x[r * input..r * input + first].copy_from_slice(&a[r * first..(r + 1) * first]);
            x[r * input + first..(r + 1) * input].copy_from_slice(&b[r * second..(r + 1) * second]);
        }
        let tolerance = 2e-6 * ((rows.max(input).max(output)) as f64).sqrt().max(1.0);

        let mut exact = vec![0.0; rows * output];
        reference::forward(size, &wide(&x), &wide(&w), &wide(&bias), &mut exact);
        let (mut y, mut y_pair) = (vec![9.0; rows * output], vec![9.0; rows * output]);
        forward(cpu, size, &x, &w, Some(&bias), &mut y);
        forward_pair(cpu, pair, [&a, &b], &w, Some(&bias), &mut y_pair);
        close("y", &y, &exact, tolerance);
        close("y of two", &y_pair, &exact, tolerance);

        let (mut dx, mut dw) = (vec![1.0; rows * input], vec![2.0; output * input]);
        let mut db = vec![3.0; output];
        let into = [&mut dx[..], &mut dw, &mut db];
        reference::backward(size, &wide(&x), &wide(&w), &wide(&dy), into);
        let (mut gx, mut gw) = (vec![1.0; rows * input], vec![2.0; output * input]);
        let mut gb = vec![3.0; output];
        let into = Gradients { x: Some(&mut gx), weight: Some(&mut gw), bias: Some(&mut gb) };
        backward(cpu, size, &x, &w, &dy, into);
        close("dx", &gx, &dx, tolerance);
        close("dW", &gw, &dw, tolerance);
        close("db", &gb, &db, tolerance);

        let (mut ga, mut gb) = (vec![1.0; rows * first], vec![1.0; rows * second]);
        gw.fill(2.0);
        let mut bias = vec![3.0; output];
        let into = PairGradients {
            a: Some(&mut ga),
            b: Some(&mut gb),
            weight: Some(&mut gw),
            bias: Some(&mut bias),
        };
        backward_pair(cpu, pair, [&a, &b], &w, &dy, into);
        close("dW of two", &gw, &dw, tolerance);
        close("db of two", &bias, &db, tolerance);
        for r in 0..rows {
            let exact = &dx[r * input..(r + 1) * input];
            close("da", &ga[r * first..(r + 1) * first], &exact[..first], tolerance);
            close("db", &gb[r * second..(r + 1) * second], &exact[first..], tolerance);
        }
    }
}
