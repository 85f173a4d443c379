//! Element-by-element operations: sums, ReLU, σ-gates, SwiGLU; the sum of rows.
//!
//! Unless said otherwise all slices of a call have one length, and `d…` arguments are gradients:
//! those that are written are added to, those that are `None` cost no work.

use crate::cpu::{Cpu, Shards};
use crate::pointwise::{apply, apply_serial, for_columns, for_rows, pointwise};
use crate::simd::{Kernel, Vector, sigmoid as vector_sigmoid};

/// y = a + b: a residual connection, or the fusion of two memories by their sum. The gradient of
/// each part is that of y ([`accumulate`]).
pub fn add(cpu: &Cpu, a: &[f32], b: &[f32], y: &mut [f32]) {
    pointwise!(Add {} [a, b] [_y] { [a.add(b)] });
    apply(cpu, Add {}, [a, b], [y]);
}

/// y += x, element by element.
pub fn accumulate(cpu: &Cpu, x: &[f32], y: &mut [f32]) {
    pointwise!(Accumulate {} [x] [y] { [y.add(x)] });
    apply(cpu, Accumulate {}, [x], [y]);
}

/// y = max(x, 0).
pub fn relu(cpu: &Cpu, x: &[f32], y: &mut [f32]) {
    pointwise!(Relu {} [x] [_y] { [x.max(V::zero())] });
    apply(cpu, Relu {}, [x], [y]);
}

/// dx += dy where the output y of [`relu`] is above 0.
pub fn relu_backward(cpu: &Cpu, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    pointwise!(ReluBackward {} [y, dy] [dx] {
        let zero = V::zero();
        [dx.add(zero.select_less(y, dy, zero))]
    });
    apply(cpu, ReluBackward {}, [y, dy], [dx]);
}

/// y = σ(g) ∘ x: an output gate.
pub fn sigmoid_gate(cpu: &Cpu, g: &[f32], x: &[f32], y: &mut [f32]) {
    pointwise!(SigmoidGate {} [g, x] [_y] { [vector_sigmoid(g).mul(x)] });
    apply(cpu, SigmoidGate {}, [g, x], [y]);
}

/// dg += dy ∘ x ∘ σ(g)(1 − σ(g)) and dx += dy ∘ σ(g).
pub fn sigmoid_gate_backward(
    cpu: &Cpu,
    g: &[f32],
    x: &[f32],
    dy: &[f32],
    dg: Option<&mut [f32]>,
    dx: Option<&mut [f32]>,
) {
    pointwise!(ByGate {} [g, x, dy] [dg] {
        let s = vector_sigmoid(g);
        [dy.mul(x).mul_add(s.mul(V::splat(1.0).sub(s)), dg)]
    });
    pointwise!(ByInput {} [g, dy] [dx] { [vector_sigmoid(g).mul_add(dy, dx)] });
    pointwise!(ByBoth {} [g, x, dy] [dg, dx] {
        let s = vector_sigmoid(g);
        [dy.mul(x).mul_add(s.mul(V::splat(1.0).sub(s)), dg), s.mul_add(dy, dx)]
    });
    match (dg, dx) {
        (Some(dg), Some(dx)) => apply(cpu, ByBoth {}, [g, x, dy], [dg, dx]),
        (Some(dg), None) => apply(cpu, ByGate {}, [g, x, dy], [dg]),
        (None, Some(dx)) => apply(cpu, ByInput {}, [g, dy], [dx]),
        (None, None) => {}
    }
}

/// y = σ(g) ∘ a + (1 − σ(g)) ∘ b: the fusion of two memories by a learned gate.
pub fn gate_fusion(cpu: &Cpu, g: &[f32], a: &[f32], b: &[f32], y: &mut [f32]) {
    pointwise!(GateFusion {} [g, a, b] [_y] { [vector_sigmoid(g).mul_add(a.sub(b), b)] });
    apply(cpu, GateFusion {}, [g, a, b], [y]);
}

/// Gradients of [`gate_fusion`]: dg += dy ∘ (a − b) ∘ σ(g)(1 − σ(g)), da += dy ∘ σ(g),
/// db += dy ∘ (1 − σ(g)).
pub fn gate_fusion_backward(
    cpu: &Cpu,
    [g, a, b]: [&[f32]; 3],
    dy: &[f32],
    dg: Option<&mut [f32]>,
    da: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
) {
    pointwise!(ByGate {} [g, a, b, dy] [dg] {
        let s = vector_sigmoid(g);
        [dy.mul(a.sub(b)).mul_add(s.mul(V::splat(1.0).sub(s)), dg)]
    });
    pointwise!(ByFirst {} [g, dy] [da] { [vector_sigmoid(g).mul_add(dy, da)] });
    pointwise!(BySecond {} [g, dy] [db] {
        [V::splat(1.0).sub(vector_sigmoid(g)).mul_add(dy, db)]
    });
    pointwise!(ByAll {} [g, a, b, dy] [dg, da, db] {
        let s = vector_sigmoid(g);
        let rest = V::splat(1.0).sub(s);
        [dy.mul(a.sub(b)).mul_add(s.mul(rest), dg), s.mul_add(dy, da), rest.mul_add(dy, db)]
    });
    match (dg, da, db) {
        (Some(dg), Some(da), Some(db)) => apply(cpu, ByAll {}, [g, a, b, dy], [dg, da, db]),
        (dg, da, db) => {
            if let Some(dg) = dg {
                apply(cpu, ByGate {}, [g, a, b, dy], [dg]);
            }
            if let Some(da) = da {
                apply(cpu, ByFirst {}, [g, dy], [da]);
            }
            if let Some(db) = db {
                apply(cpu, BySecond {}, [g, dy], [db]);
            }
        }
    }
}

/// SwiGLU (Shazeer, "GLU variants improve transformer", 2020): `x` is [R, 2F], gate beside up;
/// y [R, F] = silu(gate) ∘ up with silu(g) = g · σ(g).
///
/// # Panics
/// If `x` is not twice as long as `y`, or `y` is not whole rows of `width` F.
pub fn swiglu(cpu: &Cpu, width: usize, x: &[f32], y: &mut [f32]) {
    pointwise!(SwiGlu {} [gate, up] [_y] { [gate.mul(vector_sigmoid(gate)).mul(up)] });
    let rows = rows_of(width, y.len());
    assert_eq!(x.len(), 2 * y.len(), "SwiGLU reads two values for each it gives");
    let y = Shards::new(y);
    for_rows(cpu, rows, width, |worker, range| {
        for r in range {
            let (gate, up) = x[2 * r * width..2 * (r + 1) * width].split_at(width);
            // SAFETY: each row belongs to one thread.
            let y = unsafe { y.part(r * width..(r + 1) * width) };
            apply_serial(worker.level, SwiGlu {}, [gate, up], [y]);
        }
    });
}

/// Gradient of [`swiglu`]: dx [R, 2F] is added to.
///
/// # Panics
/// The panics of [`swiglu`] for these lengths.
pub fn swiglu_backward(cpu: &Cpu, width: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    pointwise!(SwiGluBackward {} [gate, up, dy] [dgate, dup] {
        let s = vector_sigmoid(gate);
        let silu = gate.mul(s);
        let slope = silu.mul(V::splat(1.0).sub(s)).add(s);
        [dy.mul(up).mul_add(slope, dgate), dy.mul_add(silu, dup)]
    });
    let rows = rows_of(width, dy.len());
    assert_eq!(x.len(), 2 * dy.len(), "SwiGLU reads two values for each it gives");
    assert_eq!(x.len(), dx.len(), "the gradient of SwiGLU's input");
    let dx = Shards::new(dx);
    for_rows(cpu, rows, width, |worker, range| {
        for r in range {
            let (gate, up) = x[2 * r * width..2 * (r + 1) * width].split_at(width);
            // SAFETY: each row belongs to one thread.
            let dx = unsafe { dx.part(2 * r * width..2 * (r + 1) * width) };
            let (dgate, dup) = dx.split_at_mut(width);
            let dy = &dy[r * width..(r + 1) * width];
            apply_serial(worker.level, SwiGluBackward {}, [gate, up, dy], [dgate, dup]);
        }
    });
}

/// `sums` `[D]` += the sum of the rows of `x` [R, D]: a bias's gradient. The order of summation
/// does not depend on the number of threads.
///
/// # Panics
/// If `x` is not whole rows.
pub fn sum_rows(cpu: &Cpu, x: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    let rows = rows_of(width, x.len());
    let sums = Shards::new(sums);
    for_columns(cpu, rows, width, |worker, columns| {
        // SAFETY: each column belongs to one thread.
        let sums = unsafe { sums.part(columns.clone()) };
        worker.level.run(SumRows { x: x.get(columns.start..).unwrap_or(&[]), rows, width, sums });
    });
}

fn rows_of(width: usize, len: usize) -> usize {
    let rows = len.checked_div(width).unwrap_or(0);
    assert_eq!(rows * width, len, "{len} elements are not whole rows of {width}");
    rows
}

/// `x` begins at the first of the columns that `sums` covers.
struct SumRows<'a> {
    x: &'a [f32],
    rows: usize,
    width: usize,
    sums: &'a mut [f32],
}

/// Rows summed in registers before they are added to the total, which keeps rounding errors from
/// growing with the number of rows.
const SUM_BLOCK: usize = 64;

impl Kernel for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { x, rows, width, sums } = self;
        for start in (0..rows).step_by(SUM_BLOCK) {
            let end = (start + SUM_BLOCK).min(rows);
            for c in (0..sums.len()).step_by(V::LANES) {
                let lanes = V::LANES.min(sums.len() - c);
                // SAFETY: rows × width elements follow `x`, less those before its start, and
                // only `lanes` of them are touched.
                unsafe {
                    let mut sum = V::zero();
                    for r in start..end {
                        sum = sum.add(V::load_first(x.as_ptr().add(r * width + c), lanes));
                    }
                    let to = sums.as_mut_ptr().add(c);
                    V::load_first(to, lanes).add(sum).store_first(to, lanes);
                }
            }
        }
    }
}

/// The plain forms, one element at a time.
pub mod reference {
    use crate::real::Real;

    /// The gated value σ(g) · x.
    pub fn sigmoid_gate<R: Real>(g: R, x: R) -> R {
        g.sigmoid() * x
    }

    /// (dg, dx) of [`sigmoid_gate`].
    pub fn sigmoid_gate_backward<R: Real>(g: R, x: R, dy: R) -> (R, R) {
        let s = g.sigmoid();
        (dy * x * s * (R::one() - s), dy * s)
    }

    /// σ(g) · a + (1 − σ(g)) · b.
    pub fn gate_fusion<R: Real>(g: R, a: R, b: R) -> R {
        g.sigmoid() * a + (R::one() - g.sigmoid()) * b
    }

    /// (dg, da, db) of [`gate_fusion`].
    pub fn gate_fusion_backward<R: Real>(g: R, a: R, b: R, dy: R) -> (R, R, R) {
        let s = g.sigmoid();
        (dy * (a - b) * s * (R::one() - s), dy * s, dy * (R::one() - s))
    }

    /// g · σ(g) · up.
    pub fn swiglu<R: Real>(gate: R, up: R) -> R {
        gate * gate.sigmoid() * up
    }

    /// (dgate, dup) of [`swiglu`].
    pub fn swiglu_backward<R: Real>(gate: R, up: R, dy: R) -> (R, R) {
        let s = gate.sigmoid();
        (dy * up * (s + gate * s * (R::one() - s)), dy * gate * s)
    }
}

#[cfg(test)]
mod tests;
