//! The small matrix products inside attention: a block of queries against its keys.
//!
//! The rows of B are adjacent in memory and padded to whole vectors, and A is broadcast element by
//! element, so that nothing has to be packed: scores and their gradients keep one query per lane,
//! outputs one feature per lane.

use crate::simd::{Kernel, Level, Vector};

/// Rows of B and C are padded to this many elements, the longest vector.
pub(super) const LANES: usize = 16;

/// C = A·B or C += A·B. A is m×k with any strides, B is k×n and C is m×n with adjacent columns.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) a: &'a [f32],
    pub(super) a_row: usize,
    pub(super) a_col: usize,
    pub(super) b: &'a [f32],
    pub(super) m: usize,
    pub(super) k: usize,
    /// Columns of B and C and their row stride: a multiple of [`LANES`].
    pub(super) n: usize,
    pub(super) add: bool,
}

impl Product<'_> {
    pub(super) fn run(self, level: Level, c: &mut [f32]) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        assert!(self.n.is_multiple_of(LANES) && self.m * self.n <= c.len(), "product: C");
        assert!(self.k * self.n <= self.b.len(), "product: B");
        assert!(
            self.k == 0 || (self.m - 1) * self.a_row + (self.k - 1) * self.a_col < self.a.len(),
            "product: A"
        );
        level.run(Tiles { product: self, c });
    }
}

struct Tiles<'a> {
    product: Product<'a>,
    c: &'a mut [f32],
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let p = self.product;
        // Sixteen lanes come with thirty-two registers.
        let (most_rows, most_vectors) = if V::LANES == 16 { (8, 3) } else { (V::TILE_ROWS, 2) };
        let vectors = p.n / V::LANES;
        let panels = vectors.div_ceil(most_vectors);
        let strips = p.m.div_ceil(most_rows);
        // SAFETY: `Product::run` has checked the sizes; tiles stay within m and n.
        unsafe {
            for panel in 0..panels {
                // Of nearly equal sizes: a last tile of one row would wait for its own sums.
                let (v0, v1) = (vectors * panel / panels, vectors * (panel + 1) / panels);
                for strip in 0..strips {
                    let (i0, i1) = (p.m * strip / strips, p.m * (strip + 1) / strips);
                    let a = p.a.as_ptr().wrapping_add(i0 * p.a_row);
                    let b = p.b.as_ptr().wrapping_add(v0 * V::LANES);
                    let c = self.c.as_mut_ptr().add(i0 * p.n + v0 * V::LANES);
                    match v1 - v0 {
                        1 => tile_of::<V, 1>(&p, i1 - i0, a, b, c),
                        2 => tile_of::<V, 2>(&p, i1 - i0, a, b, c),
                        _ => tile_of::<V, 3>(&p, i1 - i0, a, b, c),
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile_of<V: Vector, const M: usize>(
    p: &Product,
    rows: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
) {
    // SAFETY: the caller's promise for the tile.
    unsafe {
        match rows {
            1 => tile::<V, 1, M>(p, a, b, c),
            2 => tile::<V, 2, M>(p, a, b, c),
            3 => tile::<V, 3, M>(p, a, b, c),
            4 => tile::<V, 4, M>(p, a, b, c),
            5 => tile::<V, 5, M>(p, a, b, c),
            6 => tile::<V, 6, M>(p, a, b, c),
            7 => tile::<V, 7, M>(p, a, b, c),
            _ => tile::<V, 8, M>(p, a, b, c),
        }
    }
}

/// R rows and M vectors of C, held in registers over k.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const M: usize>(
    p: &Product,
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
) {
    // SAFETY: the caller gives R rows of A and C and M vectors of each row of B and C.
    unsafe {
        let mut sums = [[V::zero(); M]; R];
        for _ in 0..p.k {
            let mut row = [V::zero(); M];
            for (v, x) in row.iter_mut().enumerate() {
                *x = V::load(b.add(v * V::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::splat(*a.add(r * p.a_row));
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = row.mul_add(x, *sum);
                }
            }
            a = a.wrapping_add(p.a_col);
            b = b.wrapping_add(p.n);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let to = c.add(r * p.n + v * V::LANES);
                let sum = if p.add { V::load(to).add(*sum) } else { *sum };
                sum.store(to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::reference;
    use crate::testing::{close, levels, values, wide};

    #[test]
    fn every_tile_equals_the_reference() {
        for level in levels() {
            for n in [16, 32, 48, 64, 128] {
                for m in [0, 1, 2, 7, 8, 9, 16, 79] {
                    for k in [0, 1, 16, 33] {
                        for transposed in [false, true] {
                            let (a, b) = (values(m * k, 1), values(k * n, 2));
                            let mut c = values(m * n, 3);
                            let mut exact = wide(&c);
                            reference::gemm(&wide(&a), &wide(&b), &mut exact, m, k, n);
                            let (a, a_row, a_col) = if transposed {
                                let t = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
                                (t, 1, m)
                            } else {
                                (a, k, 1)
                            };
                            let p = Product { a: &a, a_row, a_col, b: &b, m, k, n, add: true };
                            p.run(level, &mut c);
                            close("c", &c, &exact, 1e-5);
                        }
                    }
                }
            }
        }
    }
}
