//! Products with few rows, as in decoding.

use crate::gemm::Product;
use crate::operand::{Operand, ProductKernel};
use crate::simd::Vector;

/// Few rows against a transposed B: dot products of adjacent elements.
pub(super) struct Dots(pub(super) Product);

impl ProductKernel for Dots {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let p = self.0;
        // SAFETY: rows and columns stay within the product's sizes.
        unsafe {
            let mut i = 0;
            while i < p.m {
                let rows = (p.m - i).min(4);
                let mut j = 0;
                while j < p.n {
                    let cols = (p.n - j).min(4);
                    match (rows, cols) {
                        (4, 4) => dots::<V, O, 4, 4>(&p, i, j),
                        (3, 4) => dots::<V, O, 3, 4>(&p, i, j),
                        (2, 4) => dots::<V, O, 2, 4>(&p, i, j),
                        (1, 4) => dots::<V, O, 1, 4>(&p, i, j),
                        _ => {
                            for r in 0..rows {
                                for c in 0..cols {
                                    dots::<V, O, 1, 1>(&p, i + r, j + c);
                                }
                            }
                        }
                    }
                    j += cols;
                }
                i += rows;
            }
        }
    }
}

#[inline(always)]
unsafe fn dots<V: Vector, O: Operand<V>, const R: usize, const M: usize>(
    p: &Product,
    i: usize,
    j: usize,
) {
    // SAFETY: the caller gives R rows from i and M columns from j.
    unsafe {
        let mut sums = [[V::zero(); M]; R];
        let mut l = 0;
        while l < p.k {
            let count = p.k - l;
            let load = |from: *const f32| {
                O::round(if count >= V::LANES { V::load(from) } else { V::load_first(from, count) })
            };
            let mut b = [V::zero(); M];
            for (c, b) in b.iter_mut().enumerate() {
                *b = load(p.b.add((j + c) * p.b_col + l));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = load(p.a.add((i + r) * p.a_row + l));
                for c in 0..M {
                    sums[c] = a.mul_add(b[c], sums[c]);
                }
            }
            l += V::LANES;
        }
        for (r, sums) in sums.iter().enumerate() {
            for (c, sum) in sums.iter().enumerate() {
                let to = p.c.add((i + r) * p.c_row + j + c);
                *to = if p.add { *to + sum.sum() } else { sum.sum() };
            }
        }
    }
}
