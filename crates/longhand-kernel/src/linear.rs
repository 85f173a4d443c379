//! Linear layers y = [x₁ | x₂ | …]·Wᵀ + b over one input or several side by side.
//!
//! W is [output, input] as in PyTorch. Several inputs are read in place, each by its columns
//! of W: the fusion of two memories by concatenation copies nothing.

use crate::cpu::{Cpu, Shards};
use crate::elementwise::sum_rows;
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::pointwise::for_rows;

/// Sizes of a linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// R: rows of x and y.
    pub rows: usize,
    /// Columns of all inputs together, and of W.
    pub input: usize,
    /// Columns of y, rows of W.
    pub output: usize,
}

/// The wanted gradients of a linear layer; each is added to.
#[derive(Default)]
pub struct Gradients<'a, 'b> {
    /// For each input, [R, its columns].
    pub inputs: &'b mut [Option<&'a mut [f32]>],
    /// `[output, input]`: gradient of the weight.
    pub weight: Option<&'a mut [f32]>,
    /// `[output]`: gradient of the bias.
    pub bias: Option<&'a mut [f32]>,
}

/// y [R, output] = [x₁ | x₂ | …]·Wᵀ + b; each x is [R, its columns].
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn forward(
    cpu: &Cpu,
    size: Size,
    inputs: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let Size { rows, input, output } = size;
    let mut into = begin(cpu, rows, output, bias, y);
    let weight = Matrix::new(weight, output, input);
    if input == 0 && into == Into::Replace {
        y.fill(0.0);
    }
    for (_, x, columns) in parts(size, inputs) {
        let x = Matrix::new(x, rows, columns.len());
        gemm(cpu, x, weight.columns(columns).t(), MatrixMut::new(y, rows, output), into);
        into = Into::Add;
    }
}

/// dx += dy·W, dW += dyᵀ·x, db += the sum of dy's rows.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn backward(
    cpu: &Cpu,
    size: Size,
    inputs: &[&[f32]],
    weight: &[f32],
    dy: &[f32],
    mut gradients: Gradients,
) {
    let Size { rows, input, output } = size;
    if let Some(bias) = gradients.bias {
        sum_rows(cpu, dy, bias);
    }
    let dy = Matrix::new(dy, rows, output);
    let weight = Matrix::new(weight, output, input);
    for (i, x, columns) in parts(size, inputs) {
        if let Some(dx) = gradients.inputs.get_mut(i).and_then(Option::as_deref_mut) {
            let dx = MatrixMut::new(dx, rows, columns.len());
            gemm(cpu, dy, weight.columns(columns.clone()), dx, Into::Add);
        }
        if let Some(dweight) = gradients.weight.as_deref_mut() {
            assert_eq!(dweight.len(), output * input, "the weight's gradient");
            let dweight = dweight.get_mut(columns.start..).unwrap_or_default();
            let dweight = MatrixMut::strided(dweight, output, columns.len(), input);
            gemm(cpu, dy.t(), Matrix::new(x, rows, columns.len()), dweight, Into::Add);
        }
    }
}

/// Each input that is not empty, with its place and its columns of W.
fn parts<'a>(
    size: Size,
    inputs: &'a [&'a [f32]],
) -> impl Iterator<Item = (usize, &'a [f32], std::ops::Range<usize>)> {
    let total: usize = inputs.iter().map(|x| x.len()).sum();
    assert_eq!(total, size.rows * size.input, "the inputs of a linear layer");
    let mut start = 0;
    inputs.iter().enumerate().filter(|(_, x)| !x.is_empty()).map(move |(i, x)| {
        let columns = start..start + x.len() / size.rows;
        start = columns.end;
        (i, *x, columns)
    })
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

/// The plain form, generic over the number type.
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
    use crate::precision::Precision;
    use crate::testing::{check_gradient, close, levels, rounded, values, wide};

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
        let sizes = [(1, 1, 1, 1), (5, 7, 9, 3), (70, 33, 40, 65), (200, 64, 64, 80)];
        for level in levels() {
            for (threads, precision) in
                [(1, Precision::F32), (3, Precision::F32), (3, Precision::Bf16)]
            {
                let cpu = Cpu::with(threads, level, precision);
                for (rows, first, second, output) in sizes {
                    check(&cpu, rows, first, second, output);
                }
            }
        }
    }

    #[test]
    fn no_rows_give_the_empty_result() {
        let size = Size { rows: 0, input: 3, output: 2 };
        forward(&Cpu::new(1), size, &[&[]], &[1.0; 6], None, &mut []);
        backward(&Cpu::new(1), size, &[&[]], &[1.0; 6], &[], Gradients::default());
    }

    #[test]
    fn an_input_without_columns_keeps_its_place() {
        let cpu = Cpu::new(1);
        let size = Size { rows: 2, input: 1, output: 1 };
        let (x, mut y, mut dx) = ([3.0, 4.0], [9.0; 2], [0.0; 2]);
        forward(&cpu, size, &[&[], &x], &[2.0], None, &mut y);
        assert_eq!(y, [6.0, 8.0]);
        let inputs = &mut [Some(&mut [][..]), Some(&mut dx[..])];
        let gradients = Gradients { inputs, weight: None, bias: None };
        backward(&cpu, size, &[&[], &x], &[2.0], &[1.0, 10.0], gradients);
        assert_eq!(dx, [2.0, 20.0]);
        let nothing = Size { input: 0, ..size };
        forward(&cpu, nothing, &[&[]], &[], None, &mut y);
        assert_eq!(y, [0.0; 2]);
    }

    fn check(cpu: &Cpu, rows: usize, first: usize, second: usize, output: usize) {
        let input = first + second;
        let size = Size { rows, input, output };
        // Exact in the precision: the rest is the error of sums in `f32`.
        let values = |len: usize, seed: u64| rounded(cpu.precision(), &values(len, seed));
        let (a, b) = (values(rows * first, 1), values(rows * second, 2));
        let (w, bias) = (values(output * input, 3), values(output, 4));
        let dy = values(rows * output, 5);
        let beside = |a: &[f32], b: &[f32]| -> Vec<f32> {
            let rows = a.chunks(first).zip(b.chunks(second));
            rows.flat_map(|(a, b)| a.iter().chain(b).copied()).collect()
        };
        let x = beside(&a, &b);
        let tolerance = 2e-6 * ((rows.max(input).max(output)) as f64).sqrt();

        let mut exact = vec![0.0; rows * output];
        reference::forward(size, &wide(&x), &wide(&w), &wide(&bias), &mut exact);
        let (mut dx, mut dw) = (vec![1.0; rows * input], vec![2.0; output * input]);
        let mut db = vec![3.0; output];
        let into = [&mut dx[..], &mut dw, &mut db];
        reference::backward(size, &wide(&x), &wide(&w), &wide(&dy), into);

        for inputs in [&[&x[..]][..], &[&a, &b]] {
            let mut y = vec![9.0; rows * output];
            forward(cpu, size, inputs, &w, Some(&bias), &mut y);
            close("y", &y, &exact, tolerance);
            let mut got: Vec<Vec<f32>> = inputs.iter().map(|x| vec![1.0; x.len()]).collect();
            let (mut gw, mut gb) = (vec![2.0; output * input], vec![3.0; output]);
            let mut wanted: Vec<_> = got.iter_mut().map(|dx| Some(&mut dx[..])).collect();
            let into =
                Gradients { inputs: &mut wanted, weight: Some(&mut gw), bias: Some(&mut gb) };
            backward(cpu, size, inputs, &w, &dy, into);
            let got = if got.len() == 1 { got[0].clone() } else { beside(&got[0], &got[1]) };
            close("dx", &got, &dx, tolerance);
            close("dW", &gw, &dw, tolerance);
            close("db", &gb, &db, tolerance);
        }
    }
}
