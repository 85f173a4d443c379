//! Muon: momentum whose directions all count the same (Jordan et al., "Muon: An optimizer for
//! hidden layers in neural networks", 2024), for matrices between hidden layers.
//!
//! The momentum of a matrix is replaced by the nearest matrix whose singular values are about one.
//! A Newton–Schulz iteration finds it with products alone, in the precision of the processor.

use super::squared_norm;
use crate::cpu::Cpu;
use crate::gemm::{Into, Matrix, MatrixMut, gemm};
use crate::pointwise::{apply, pointwise};
use crate::scratch;

/// Muon, scaled so that a step is as long as one of AdamW (Liu et al., "Muon is scalable for LLM
/// training", 2025, equation 4): one learning rate and one weight decay serve both.
#[derive(Clone, Copy, Debug)]
pub struct Muon {
    /// Step size of this step: the root mean square of a change is a fifth of it.
    pub learning_rate: f64,
    /// Decay of the running sum of gradients (usually 0.95). The step looks ahead along this sum,
    /// as in Nesterov's method.
    pub momentum: f64,
    /// Weights shrink by learning rate × this, apart from the gradient. 0 for none.
    pub weight_decay: f64,
}

/// The quintic of an iteration, aX + bXXᵀX + c(XXᵀ)²X, that moves singular values towards one
/// fastest and leaves them within about 0.7 to 1.2.
const QUINTIC: [f32; 3] = [3.4445, -4.775, 2.0315];
/// Newton–Schulz iterations of a step.
const ITERATIONS: usize = 5;
/// Root mean square of an AdamW step of learning rate one.
const ADAMW_STEP: f64 = 0.2;
/// Keeps a momentum of zero from dividing.
const TINY: f64 = 1e-20;

/// One step for `parts` matrices of `rows × cols`, one after another. With
/// g = `gradient_scale` · gradient: b = μb + g, O = orthogonal(g + μb),
/// w = (1 − ηλ)w − 0.2 η √max(rows, cols) · O.
///
/// # Panics
/// If the lengths differ.
pub fn muon(
    cpu: &Cpu,
    settings: Muon,
    gradient_scale: f32,
    gradient: &[f32],
    [parts, rows, cols]: [usize; 3],
    weights: &mut [f32],
    momentum: &mut [f32],
) {
    let len = rows * cols;
    assert_eq!(weights.len(), parts * len, "{parts} matrices of {rows} × {cols}");
    if len == 0 {
        return;
    }
    pointwise!(Look { scale, decay } [g] [b, _ahead] {
        let g = g.mul(scale);
        let b = b.mul_add(decay, g);
        [b, b.mul_add(decay, g)]
    });
    pointwise!(Step { keep, rate } [o] [w] { [w.mul(keep).sub(o.mul(rate))] });
    let Muon { learning_rate, momentum: decay, weight_decay } = settings;
    let look = Look { scale: gradient_scale, decay: decay as f32 };
    let length = ADAMW_STEP * (rows.max(cols) as f64).sqrt();
    let step = Step {
        keep: (1.0 - learning_rate * weight_decay) as f32,
        rate: (learning_rate * length) as f32,
    };
    let side = rows.min(cols);
    let mut buffer = scratch::take(cpu, 2 * len + 2 * side * side);
    let (x, rest) = buffer.split_at_mut(len);
    let (next, squares) = rest.split_at_mut(len);
    let parts = gradient.chunks(len).zip(weights.chunks_mut(len)).zip(momentum.chunks_mut(len));
    for ((gradient, weights), momentum) in parts {
        apply(cpu, look, [gradient], [momentum, x]);
        let x = orthogonalize(cpu, [rows, cols], x, next, squares);
        apply(cpu, step, [x], [weights]);
    }
    scratch::give(cpu, buffer);
}

/// A matrix with the singular vectors of X and singular values of about one, in `x` or `next`;
/// `squares` has room for two matrices of the smaller side.
fn orthogonalize<'a>(
    cpu: &Cpu,
    [rows, cols]: [usize; 2],
    mut x: &'a mut [f32],
    mut next: &'a mut [f32],
    squares: &mut [f32],
) -> &'a [f32] {
    pointwise!(Scale { factor } [] [x] { [x.mul(factor)] });
    pointwise!(Mix { b, c } [a] [aa] { [aa.mul(c).add(a.mul(b))] });
    let norm = squared_norm(cpu, x).sqrt();
    apply(cpu, Scale { factor: (1.0 / (norm + TINY)) as f32 }, [], [x]);
    let side = rows.min(cols);
    let (a, aa) = squares.split_at_mut(side * side);
    let [first, b, c] = QUINTIC;
    for _ in 0..ITERATIONS {
        // A = XXᵀ or XᵀX, whichever is smaller: the polynomial is the same.
        let matrix = Matrix::new(x, rows, cols);
        let (left, right) = if rows <= cols { (matrix, matrix.t()) } else { (matrix.t(), matrix) };
        gemm(cpu, left, right, MatrixMut::new(a, side, side), Into::Replace);
        let square = Matrix::new(a, side, side);
        gemm(cpu, square, square, MatrixMut::new(aa, side, side), Into::Replace);
        apply(cpu, Mix { b, c }, [a], [aa]);
        aa.iter_mut().step_by(side + 1).for_each(|diagonal| *diagonal += first);
        let mixed = Matrix::new(aa, side, side);
        let (left, right) = if rows <= cols { (mixed, matrix) } else { (matrix, mixed) };
        gemm(cpu, left, right, MatrixMut::new(next, rows, cols), Into::Replace);
        std::mem::swap(&mut x, &mut next);
    }
    x
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::{ADAMW_STEP, ITERATIONS, Muon, QUINTIC, TINY};
    use crate::gemm::reference::gemm;
    use crate::real::Real;

    /// The new (w, b) of one matrix.
    pub fn muon<R: Real>(
        s: Muon,
        g: &[R],
        [rows, cols]: [usize; 2],
        w: &[R],
        b: &[R],
    ) -> (Vec<R>, Vec<R>) {
        let decay = R::from_f64(s.momentum);
        let b: Vec<R> = b.iter().zip(g).map(|(&b, &g)| decay * b + g).collect();
        let ahead: Vec<R> = b.iter().zip(g).map(|(&b, &g)| g + decay * b).collect();
        let o = orthogonal(&ahead, rows, cols);
        let rate = s.learning_rate * ADAMW_STEP * (rows.max(cols) as f64).sqrt();
        let keep = R::from_f64(1.0 - s.learning_rate * s.weight_decay);
        let w = w.iter().zip(&o).map(|(&w, &o)| keep * w - R::from_f64(rate) * o).collect();
        (w, b)
    }

    /// The matrix with singular values of about one.
    pub fn orthogonal<R: Real>(x: &[R], rows: usize, cols: usize) -> Vec<R> {
        let norm = x.iter().fold(R::zero(), |sum, &x| sum + x * x).sqrt() + R::from_f64(TINY);
        let mut x: Vec<R> = x.iter().map(|&x| x / norm).collect();
        let [first, second, third] = QUINTIC.map(|q| R::from_f64(f64::from(q)));
        for _ in 0..ITERATIONS {
            let turned: Vec<R> = (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect();
            let mut a = vec![R::zero(); rows * rows];
            gemm(&x, &turned, &mut a, rows, cols, rows);
            let mut aa = vec![R::zero(); rows * rows];
            gemm(&a, &a, &mut aa, rows, rows, rows);
            let mixed: Vec<R> =
                a.iter().zip(&aa).map(|(&a, &aa)| second * a + third * aa).collect();
            let mut next: Vec<R> = x.iter().map(|&x| first * x).collect();
            gemm(&mixed, &x, &mut next, rows, rows, cols);
            x = next;
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Precision;
    use crate::testing::{close, levels, values, wide};

    const SHAPES: [[usize; 3]; 7] =
        [[1, 0, 5], [1, 1, 1], [1, 17, 33], [1, 33, 17], [3, 8, 8], [4, 65, 20], [1, 130, 300]];

    const SETTINGS: Muon = Muon { learning_rate: 0.02, momentum: 0.95, weight_decay: 0.1 };

    /// The weights and the momentum after three steps, beside the reference's.
    fn three_steps(cpu: &Cpu, shape: [usize; 3]) -> [(Vec<f32>, Vec<f64>); 2] {
        let [parts, rows, cols] = shape;
        let len = rows * cols;
        let (mut w, mut b) = (values(parts * len, 1), vec![0.0; parts * len]);
        let (mut exact_w, mut exact_b) = (wide(&w), vec![0.0; parts * len]);
        for step in 0..3 {
            let g = values(parts * len, 10 + step);
            muon(cpu, SETTINGS, 0.5, &g, shape, &mut w, &mut b);
            let g: Vec<f64> = g.iter().map(|&g| 0.5 * f64::from(g)).collect();
            for part in (0..parts).map(|i| i * len..(i + 1) * len) {
                let (w, b) = (&mut exact_w[part.clone()], &mut exact_b[part.clone()]);
                let next = reference::muon(SETTINGS, &g[part], [rows, cols], w, b);
                w.copy_from_slice(&next.0);
                b.copy_from_slice(&next.1);
            }
        }
        [(w, exact_w), (b, exact_b)]
    }

    #[test]
    fn steps_follow_the_reference() {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for shape in SHAPES {
                    let [w, b] = three_steps(&cpu, shape);
                    close("weights", &w.0, &w.1, 1e-4);
                    close("momentum", &b.0, &b.1, 1e-6);
                }
            }
        }
    }

    #[test]
    fn bf16_operands_turn_the_step_a_little() {
        for level in levels() {
            let cpu = Cpu::with(2, level, Precision::Bf16);
            for shape in SHAPES {
                let [w, b] = three_steps(&cpu, shape);
                // Three steps of 0.004 each at the root mean square, singular values 5 % off.
                close("weights", &w.0, &w.1, 2e-2);
                close("momentum", &b.0, &b.1, 1e-6);
            }
        }
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        for shape in SHAPES {
            let one = three_steps(&Cpu::new(1), shape);
            let three = three_steps(&Cpu::new(3), shape);
            assert_eq!(one[0].0, three[0].0);
        }
    }

    #[test]
    fn singular_values_become_about_one_and_zero_stays_zero() {
        let n = 6;
        let mut x = vec![0.0f64; n * n];
        // A diagonal matrix shows its singular values: from one down to a fiftieth.
        (0..n).for_each(|i| x[i * n + i] = 1.0 / (1.0 + 10.0 * i as f64));
        let o = reference::orthogonal(&x, n, n);
        for (i, &value) in o.iter().enumerate() {
            let diagonal = i % (n + 1) == 0;
            let least = if diagonal { 0.6 } else { -1e-9 };
            let most = if diagonal { 1.3 } else { 1e-9 };
            assert!((least..most).contains(&value), "place {i}: {value}");
        }
        assert!(reference::orthogonal(&[0.0f64; 12], 3, 4).iter().all(|&x| x == 0.0));
        let (mut w, mut b) = (vec![1.0; 12], vec![0.0; 12]);
        muon(&Cpu::new(1), SETTINGS, 1.0, &[0.0; 12], [1, 3, 4], &mut w, &mut b);
        assert!(w.iter().all(|&w| w == 1.0 - 0.002), "{w:?}");
    }
}
