//! The small matrix products inside attention and the matrix memory, such as a block of
//! queries against its keys.
//!
//! The rows of B are adjacent in memory and padded to whole vectors, and A is broadcast element by
//! element, so that nothing has to be packed. The product skips tiles of a triangular matrix
//! that hold only zeros.
//!
//! Operands are `f32`, or packed in the lanes of a precision (see [`Operand`]): then all sizes
//! along K and strides count lanes. C is `f32`.

use crate::level::Level;
use crate::operand::{Operand, ProductKernel, run_lanes};
use crate::precision::Precision;
use crate::simd::{Kernel, Vector};

/// Rows of B and C are padded to this many elements, the longest vector.
pub(crate) const LANES: usize = 16;

/// The strides of A's rows and columns.
#[derive(Clone, Copy)]
pub(crate) enum Strides {
    /// Rows of adjacent elements, this far apart.
    Rows(usize),
    /// Columns of adjacent elements, this far apart.
    Columns(usize),
    /// Columns of [`LANES`] adjacent elements.
    LaneColumns,
}

/// Which entries of a product survive the causal mask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Triangle {
    /// Every entry is computed.
    None,
    /// A is zero above its diagonal.
    Lower,
    /// A is zero below its diagonal.
    Upper,
    /// C is only needed on and below its diagonal: the rest is left in any state.
    Result,
}

/// C = A·B or C += A·B. A is m×k, B is k×n and C is m×n, the last two with adjacent columns.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) strides: Strides,
    pub(crate) b: &'a [f32],
    pub(crate) m: usize,
    pub(crate) k: usize,
    /// Columns of B and C and their row stride: a multiple of [`LANES`].
    pub(crate) n: usize,
    pub(crate) add: bool,
    pub(crate) triangle: Triangle,
}

impl Product<'_> {
    /// Computes the product of operands in the lanes of `precision`.
    pub(crate) fn run_lanes(self, level: Level, precision: Precision, c: &mut [f32]) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        let (row, column) = match self.strides {
            Strides::Rows(stride) => (stride, 1),
            Strides::Columns(stride) => (1, stride),
            Strides::LaneColumns => (1, LANES),
        };
        let last = (self.m - 1) * row + self.k.saturating_sub(1) * column;
        assert!(self.k == 0 || last < self.a.len(), "product: A");
        assert!(self.k * self.n <= self.b.len(), "product: B");
        assert!(self.n.is_multiple_of(LANES) && self.m * self.n <= c.len(), "product: C");
        // Strides that are known when the tiles are compiled cost no address arithmetic in them.
        match self.strides {
            Strides::Rows(_) => {
                run_lanes(level, precision, Tiles::<0, 1> { product: self, row, column, c })
            }
            Strides::Columns(_) => {
                run_lanes(level, precision, Tiles::<1, 0> { product: self, row, column, c })
            }
            Strides::LaneColumns => {
                run_lanes(level, precision, Tiles::<1, LANES> { product: self, row, column, c })
            }
        }
    }
}

/// `[rows, stride]` becomes `[stride, rows]`; both numbers are multiples of [`LANES`].
pub(crate) struct Transpose<'a> {
    pub(crate) from: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) to: &'a mut [f32],
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let stride = self.stride.max(1);
        let rows = self.to.len() / stride;
        assert!(rows.is_multiple_of(LANES) && stride.is_multiple_of(LANES) || self.to.is_empty());
        assert!(self.to.len() == rows * stride && self.from.len() >= rows * stride);
        let (from, to) = (self.from.as_ptr(), self.to.as_mut_ptr());
        for row in (0..rows).step_by(V::LANES) {
            for column in (0..stride).step_by(V::LANES) {
                // SAFETY: whole squares within both, by the assertions.
                unsafe {
                    let from = from.add(row * stride + column);
                    V::transpose(from, stride, to.add(column * rows + row), rows);
                }
            }
        }
    }
}

/// ROW and COLUMN are the strides of A; 0 means the one in `row` or `column`.
struct Tiles<'a, const ROW: usize, const COLUMN: usize> {
    product: Product<'a>,
    row: usize,
    column: usize,
    c: &'a mut [f32],
}

impl<const ROW: usize, const COLUMN: usize> ProductKernel for Tiles<'_, ROW, COLUMN> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let p = self.product;
        // Sixteen lanes come with thirty-two registers.
        let (most_rows, most_vectors) = if V::LANES == 16 { (8, 3) } else { (V::TILE_ROWS, 2) };
        let vectors = p.n / V::LANES;
        let panels = vectors.div_ceil(most_vectors);
        let strips = p.m.div_ceil(most_rows);
        // SAFETY: `Product::run_lanes` has checked the sizes; tiles stay within m and n.
        unsafe {
            for panel in 0..panels {
                // Tiles of nearly equal sizes: a last tile of one row would wait for its own sums.
                let (v0, v1) = (vectors * panel / panels, vectors * (panel + 1) / panels);
                let (mut i, mut left) = (0, p.m);
                for strip in 0..strips {
                    let rows = left.div_ceil(strips - strip);
                    let (from, to) = match p.triangle {
                        Triangle::Lower => (0, p.k.min((i + rows).div_ceil(O::DEPTH))),
                        Triangle::Upper => (p.k.min(i / O::DEPTH), p.k),
                        Triangle::None | Triangle::Result => (0, p.k),
                    };
                    if p.triangle == Triangle::Result && v0 * V::LANES >= i + rows {
                        i += rows;
                        left -= rows;
                        continue;
                    }
                    let tile = Tile {
                        k: to - from,
                        a: p.a.as_ptr().wrapping_add(i * self.row + from * self.column),
                        row: self.row,
                        column: self.column,
                        b: p.b.as_ptr().wrapping_add(from * p.n + v0 * V::LANES),
                        c: self.c.as_mut_ptr().add(i * p.n + v0 * V::LANES),
                        n: p.n,
                        add: p.add,
                    };
                    match v1 - v0 {
                        1 => tile.run::<V, O, 1, ROW, COLUMN>(rows),
                        2 => tile.run::<V, O, 2, ROW, COLUMN>(rows),
                        _ => tile.run::<V, O, 3, ROW, COLUMN>(rows),
                    }
                    i += rows;
                    left -= rows;
                }
            }
        }
    }
}

struct Tile {
    k: usize,
    a: *const f32,
    row: usize,
    column: usize,
    b: *const f32,
    c: *mut f32,
    n: usize,
    add: bool,
}

impl Tile {
    #[inline(always)]
    unsafe fn run<
        V: Vector,
        O: Operand<V>,
        const M: usize,
        const ROW: usize,
        const COLUMN: usize,
    >(
        &self,
        rows: usize,
    ) {
        // SAFETY: the caller's promise for the tile.
        unsafe {
            match rows {
                1 => self.sum::<V, O, 1, M, ROW, COLUMN>(),
                2 => self.sum::<V, O, 2, M, ROW, COLUMN>(),
                3 => self.sum::<V, O, 3, M, ROW, COLUMN>(),
                4 => self.sum::<V, O, 4, M, ROW, COLUMN>(),
                5 => self.sum::<V, O, 5, M, ROW, COLUMN>(),
                6 => self.sum::<V, O, 6, M, ROW, COLUMN>(),
                7 => self.sum::<V, O, 7, M, ROW, COLUMN>(),
                _ => self.sum::<V, O, 8, M, ROW, COLUMN>(),
            }
        }
    }

    /// R rows and M vectors of C, held in registers over k.
    #[inline(always)]
    unsafe fn sum<
        V: Vector,
        O: Operand<V>,
        const R: usize,
        const M: usize,
        const ROW: usize,
        const COLUMN: usize,
    >(
        &self,
    ) {
        let row = if ROW == 0 { self.row } else { ROW };
        let column = if COLUMN == 0 { self.column } else { COLUMN };
        // SAFETY: the caller gives R rows of A and C and M vectors of each row of B and C.
        unsafe {
            let rows: [*const f32; R] = std::array::from_fn(|r| self.a.wrapping_add(r * row));
            let mut sums = [[V::zero(); M]; R];
            let mut b = self.b;
            for l in 0..self.k {
                let mut vectors = [V::zero(); M];
                for (v, x) in vectors.iter_mut().enumerate() {
                    *x = V::load(b.add(v * V::LANES));
                }
                for (sums, a) in sums.iter_mut().zip(rows) {
                    let x = V::splat(*a.add(l * column));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = O::multiply(vector, x, *sum);
                    }
                }
                b = b.wrapping_add(self.n);
            }
            for (r, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let to = self.c.add(r * self.n + v * V::LANES);
                    let sum = if self.add { V::load(to).add(*sum) } else { *sum };
                    sum.store(to);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::reference;
    use crate::operand::depth;
    use crate::testing::{close, levels, rounded, values, wide};

    #[test]
    fn every_tile_equals_the_reference() {
        for level in levels() {
            for n in [16, 32, 48, 64, 128] {
                for m in [0, 1, 2, 7, 8, 9, 16, 79] {
                    for k in [0usize, 1, 16, 33] {
                        let strides = Strides::Rows(k.next_multiple_of(LANES));
                        check(level, m, k, n, strides, Triangle::None);
                        check(level, m, k, n, Strides::Columns(m + 3), Triangle::None);
                        if m <= LANES {
                            check(level, m, k, n, Strides::LaneColumns, Triangle::None);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn triangles_equal_the_reference_where_they_count() {
        for level in levels() {
            for size in [1usize, 5, 16, 17, 48, 64] {
                for triangle in [Triangle::Lower, Triangle::Upper, Triangle::Result] {
                    let n = if triangle == Triangle::Result {
                        size.next_multiple_of(LANES)
                    } else {
                        48
                    };
                    check(level, size, size, n, Strides::Rows(size + 1), triangle);
                    check(level, size, size, n, Strides::Columns(size), triangle);
                }
            }
        }
    }

    /// Two neighbours along K in one lane.
    #[test]
    fn pairs_of_bf16_equal_the_reference() {
        let precision = Precision::Bf16;
        for level in levels().filter(|&level| depth(level, precision) == 2) {
            for (m, k, n) in [(1usize, 1usize, 16), (7, 5, 32), (16, 33, 48), (79, 64, 64)] {
                let lanes = k.div_ceil(2);
                let (a, b) = (values(m * k, 1), values(k * n, 2));
                let (a, b) = (rounded(precision, &a), rounded(precision, &b));
                let lane = |first: f32, second: Option<f32>| {
                    f32::from_bits(first.to_bits() >> 16 | second.map_or(0, f32::to_bits))
                };
                let mut across = Vec::new();
                for l in 0..lanes {
                    across.extend((0..n).map(|j| {
                        lane(b[2 * l * n + j], (2 * l + 1 < k).then(|| b[(2 * l + 1) * n + j]))
                    }));
                }
                for strides in [Strides::Rows(lanes + 1), Strides::Columns(m), Strides::LaneColumns]
                {
                    let (row, column) = match strides {
                        Strides::Rows(stride) => (stride, 1),
                        Strides::Columns(stride) => (1, stride),
                        Strides::LaneColumns if m > LANES => continue,
                        Strides::LaneColumns => (1, LANES),
                    };
                    let mut along = vec![0.0; m * row + lanes * column];
                    for i in 0..m * lanes {
                        let (i, l) = (i / lanes, i % lanes);
                        let second = (2 * l + 1 < k).then(|| a[i * k + 2 * l + 1]);
                        along[i * row + l * column] = lane(a[i * k + 2 * l], second);
                    }
                    let mut exact = vec![0.0; m * n];
                    reference::gemm(&wide(&a), &wide(&b), &mut exact, m, k, n);
                    let mut got = vec![f32::NAN; m * n];
                    let triangle = Triangle::None;
                    Product {
                        a: &along,
                        strides,
                        b: &across,
                        m,
                        k: lanes,
                        n,
                        add: false,
                        triangle,
                    }
                    .run_lanes(level, precision, &mut got);
                    close("c", &got, &exact, 1e-5);
                }
            }
        }
    }

    fn check(level: Level, m: usize, k: usize, n: usize, strides: Strides, triangle: Triangle) {
        let (mut a, b, c) = (values(m * k, 1), values(k * n, 2), values(m * n, 3));
        for i in 0..m * k {
            let (row, column) = (i / k, i % k);
            let zero = match triangle {
                Triangle::Lower => column > row,
                Triangle::Upper => column < row,
                Triangle::None | Triangle::Result => false,
            };
            if zero {
                a[i] = 0.0;
            }
        }
        let (row, column) = match strides {
            Strides::Rows(stride) => (stride, 1),
            Strides::Columns(stride) => (1, stride),
            Strides::LaneColumns => (1, LANES),
        };
        let mut laid = vec![0.0; m * row + k * column];
        for i in 0..m * k {
            laid[i / k * row + i % k * column] = a[i];
        }
        for add in [false, true] {
            let mut got = c.clone();
            let mut exact = if add { wide(&c) } else { vec![0.0; m * n] };
            reference::gemm(&wide(&a), &wide(&b), &mut exact, m, k, n);
            Product { a: &laid, strides, b: &b, m, k, n, add, triangle }.run_lanes(
                level,
                Precision::F32,
                &mut got,
            );
            if triangle == Triangle::Result {
                for i in (0..m * n).filter(|i| i % n > i / n) {
                    (got[i], exact[i]) = (0.0, 0.0);
                }
            }
            close("c", &got, &exact, 1e-5);
        }
    }
}
