//! Transcendental functions of vectors, and of slices.

use super::{Kernel, Vector};
use crate::level::Level;

/// eˣ within 2 ulp, subnormal results included; 0 below −104, infinity above 88.73, NaN stays NaN.
///
/// Range reduction by ln 2 in two parts, then a polynomial of degree 6 on ±½ ln 2.
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let x = V::splat(-104.0).max(V::splat(89.0).min(x));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-0.693_359_4), x);
        let r = n.mul_add(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.mul_add(r, V::splat(c));
        }
        p.mul_add(r.mul(r), r).add(V::splat(1.0)).times_power_of_two(n)
    }
}

/// σ(x) = 1 / (1 + e⁻ˣ) within 2 ulp, written over e^−|x| so that it neither overflows nor loses
/// the precision of small results.
#[inline(always)]
pub(crate) unsafe fn sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let e = exp(V::zero().sub(x.abs()));
        let top = x.select_less(V::zero(), e, V::splat(1.0));
        let share = top.div(e.add(V::splat(1.0)));
        // Below zero e/(1 + e) rounds twice; as e − e·(e/(1 + e)) those roundings shrink with e.
        x.select_less(V::zero(), V::zero().sub(e).mul_add(share, e), share)
    }
}

/// ln σ(x) = min(x, 0) − ln(1 + e^−|x|).
#[inline(always)]
pub(crate) unsafe fn log_sigmoid<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let e = exp(V::zero().sub(x.abs()));
        // ln(1 + e) = 2 artanh(s) with s = e / (2 + e) at most 1/3, where eight terms suffice.
        let s = e.div(e.add(V::splat(2.0)));
        let square = s.mul(s);
        let mut p = V::splat(2.0 / 15.0);
        for divisor in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
            p = p.mul_add(square, V::splat(2.0 / divisor));
        }
        x.min(V::zero()).sub(p.mul(s))
    }
}

/// tanh x: an odd polynomial below 0.625, 1 − 2/(e^2|x| + 1) with the sign of x above.
#[inline(always)]
pub(crate) unsafe fn tanh<V: Vector>(x: V) -> V {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let a = x.abs();
        let z = x.mul(x);
        let mut p = V::splat(-5.704_988_7e-3);
        for c in [2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1] {
            p = p.mul_add(z, V::splat(c));
        }
        let small = p.mul(z).mul_add(x, x);
        let e = exp(a.add(a));
        let large = V::splat(1.0).sub(V::splat(2.0).div(e.add(V::splat(1.0))));
        let signed = x.select_less(V::zero(), V::zero().sub(large), large);
        a.select_less(V::splat(0.625), small, signed)
    }
}

/// Applies a vector function to a slice in place; a partial vector ends it.
macro_rules! slice_function {
    ($(#[$doc:meta])* $name:ident, $kernel:ident, $function:path) => {
        $(#[$doc])*
        pub(crate) fn $name(level: Level, values: &mut [f32]) {
            struct $kernel<'a>(&'a mut [f32]);
            impl Kernel for $kernel<'_> {
                type Output = ();
                #[inline(always)]
                unsafe fn run<V: Vector>(self) {
                    let mut chunks = self.0.chunks_exact_mut(V::LANES);
                    for chunk in &mut chunks {
                        // SAFETY: a chunk has LANES elements.
                        unsafe { $function(V::load(chunk.as_ptr())).store(chunk.as_mut_ptr()) }
                    }
                    let rest = chunks.into_remainder();
                    // SAFETY: only the remaining elements are touched.
                    unsafe {
                        $function(V::load_first(rest.as_ptr(), rest.len()))
                            .store_first(rest.as_mut_ptr(), rest.len());
                    }
                }
            }
            level.run($kernel(values));
        }
    };
}

slice_function!(
    /// Replaces each value by its exponential, within 2 ulp.
    exp_slice, Exp, exp
);
slice_function!(
    /// Replaces each value by its logistic function, within 2 ulp.
    sigmoid_slice, Sigmoid, sigmoid
);
#[cfg(test)]
slice_function!(
    /// Replaces each value by its hyperbolic tangent, within 2 ulp.
    tanh_slice, Tanh, tanh
);
slice_function!(
    /// Replaces each value by the logarithm of its logistic function, within 4 ulp.
    log_sigmoid_slice, LogSigmoid, log_sigmoid
);
