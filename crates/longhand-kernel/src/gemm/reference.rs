//! The plain form, generic over the number type.

use crate::real::Real;

/// C += A·B for row-major A (M×K), B (K×N), C (M×N).
pub fn gemm<R: Real>(a: &[R], b: &[R], c: &mut [R], m: usize, k: usize, n: usize) {
    for i in 0..m {
        for j in 0..n {
            for l in 0..k {
                c[i * n + j] += a[i * k + l] * b[l * n + j];
            }
        }
    }
}
