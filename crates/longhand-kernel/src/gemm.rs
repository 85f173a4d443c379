//! Matrix products: C = A·B or C += A·B, in `f32`.
//!
//! B is packed into panels as wide as one tile and A is read in strips of a few rows, so that a
//! tile of C stays in registers over a block of K (the scheme of Goto and van de Geijn, "Anatomy
//! of high-performance matrix multiplication", 2008). Products with few rows, as in decoding,
//! read B where it lies. The order of summation over K does not depend on the number of threads.

use crate::buffer::Buffers;
use crate::cpu::{Cpu, share};
use crate::simd::{Kernel, Level, Vector};

/// Columns of K summed before a tile of C goes back to memory: a panel of B stays in L2.
const K_BLOCK: usize = 256;
/// Columns of B packed at a time: 768 · 256 floats fit in L2.
const N_BLOCK: usize = 768;
/// Rows of A packed at a time, where A needs packing.
const M_BLOCK: usize = 192;
/// Up to this many rows, packing B costs more than it gains.
const FEW_ROWS: usize = 24;
/// Below this many multiplications a second thread costs more than it gains.
const SERIAL_PRODUCTS: usize = 1 << 17;

/// A matrix that is only read: any row and column stride over a slice.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × cols`, row after row.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} × {cols} matrix");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// `rows × cols` with `row_stride` elements from row to row; `data` begins at the first one.
    ///
    /// # Panics
    /// If the last row does not fit.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix out of bounds");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the rows.
    pub fn rows(self, range: std::ops::Range<usize>) -> Self {
        assert!(range.end <= self.rows, "rows out of bounds");
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// Some of the columns.
    pub fn columns(self, range: std::ops::Range<usize>) -> Self {
        self.t().rows(range).t()
    }
}

/// A matrix that is written: rows of adjacent elements.
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `rows × cols`, row after row.
    ///
    /// # Panics
    /// If `data` has another length.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a {rows} × {cols} matrix");
        Self { data, rows, cols, row_stride: cols }
    }

    /// `rows × cols` with `row_stride` elements from row to row; `data` begins at the first one.
    ///
    /// # Panics
    /// If the last row does not fit.
    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix out of bounds");
        Self { data, rows, cols, row_stride }
    }
}

/// Whether a product replaces C or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// C = A·B.
    Replace,
    /// C += A·B.
    Add,
}

/// C = A·B or C += A·B over the threads of `cpu`; A is M×K, B is K×N, C is M×N.
///
/// # Panics
/// If the shapes do not agree.
pub fn gemm(cpu: &Cpu, a: Matrix, b: Matrix, c: MatrixMut, into: Into) {
    let product = Product::new(a, b, c, into);
    if cpu.threads() == 1 || product.m * product.n * product.k < SERIAL_PRODUCTS {
        return cpu.for_each(1, |worker, _| product.run(worker.level, worker.buffers));
    }
    cpu.run(|worker| {
        product.share(worker.index, worker.threads).run(worker.level, worker.buffers);
    });
}

/// As [`gemm`], on the calling thread: for use inside a region.
pub fn gemm_serial(
    level: Level,
    buffers: &mut Buffers,
    a: Matrix,
    b: Matrix,
    c: MatrixMut,
    into: Into,
) {
    Product::new(a, b, c, into).run(level, buffers);
}

/// The plain form.
pub mod reference {
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
}

/// A checked product, as pointers that threads may share: each writes its own part of C.
#[derive(Clone, Copy)]
struct Product {
    a: *const f32,
    a_row: usize,
    a_col: usize,
    b: *const f32,
    b_row: usize,
    b_col: usize,
    c: *mut f32,
    c_row: usize,
    m: usize,
    n: usize,
    k: usize,
    add: bool,
}

// SAFETY: A and B are only read, and `share` gives each thread rows or columns of C of its own.
unsafe impl Sync for Product {}

impl Product {
    fn new(a: Matrix, b: Matrix, c: MatrixMut, into: Into) -> Self {
        assert_eq!(a.cols, b.rows, "the inner sizes of a product");
        assert_eq!((a.rows, b.cols), (c.rows, c.cols), "the outer sizes of a product");
        Self {
            a: a.data.as_ptr(),
            a_row: a.row_stride,
            a_col: a.col_stride,
            b: b.data.as_ptr(),
            b_row: b.row_stride,
            b_col: b.col_stride,
            c: c.data.as_mut_ptr(),
            c_row: c.row_stride,
            m: a.rows,
            n: b.cols,
            k: a.cols,
            add: into == Into::Add,
        }
    }

    /// Part `index` of `parts`: rows of C where there are many, else columns.
    fn share(self, index: usize, parts: usize) -> Self {
        let mut part = self;
        if self.m >= 64 && 2 * self.m >= self.n {
            let rows = share(self.m, 6, index, parts);
            part.m = rows.len();
            part.a = self.a.wrapping_add(rows.start * self.a_row);
            part.c = self.c.wrapping_add(rows.start * self.c_row);
        } else {
            let cols = share(self.n, 16, index, parts);
            part.n = cols.len();
            part.b = self.b.wrapping_add(cols.start * self.b_col);
            part.c = self.c.wrapping_add(cols.start);
        }
        part
    }

    fn run(self, level: Level, buffers: &mut Buffers) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        if self.k == 0 {
            if !self.add {
                for i in 0..self.m {
                    // SAFETY: row i of C is within the checked bounds.
                    unsafe { std::slice::from_raw_parts_mut(self.c.add(i * self.c_row), self.n) }
                        .fill(0.0);
                }
            }
            return;
        }
        if self.m <= FEW_ROWS && self.a_col == 1 && self.b_row == 1 {
            return level.run(Dots(self));
        }
        let packed_a = (self.a_col != 1).then(|| buffers.take(M_BLOCK * K_BLOCK));
        let few_rows = self.m <= FEW_ROWS && self.b_col == 1;
        let packed_b = (!few_rows).then(|| {
            let width = self.n.min(N_BLOCK).next_multiple_of(64);
            buffers.take(width * self.k.min(K_BLOCK))
        });
        let mut blocked = Blocked { product: self, packed_a, packed_b };
        level.run(&mut blocked);
        blocked.packed_a.into_iter().chain(blocked.packed_b).for_each(|b| buffers.give(b));
    }
}

/// The blocked product.
struct Blocked {
    product: Product,
    packed_a: Option<crate::buffer::Buffer>,
    packed_b: Option<crate::buffer::Buffer>,
}

impl Kernel for &mut Blocked {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let p = self.product;
        let panel = V::TILE_VECTORS * V::LANES;
        // SAFETY: every block below lies within the sizes that `Product::new` checked, and the
        // packing buffers were sized for one block.
        unsafe {
            for n0 in (0..p.n).step_by(N_BLOCK) {
                let n = N_BLOCK.min(p.n - n0);
                for k0 in (0..p.k).step_by(K_BLOCK) {
                    let k = K_BLOCK.min(p.k - k0);
                    let b = p.b.add(n0 * p.b_col + k0 * p.b_row);
                    let packed_b = self.packed_b.as_mut().map(|buffer| {
                        pack_b::<V>(b, p.b_row, p.b_col, k, n, buffer.as_mut_ptr());
                        buffer.as_ptr()
                    });
                    for m0 in (0..p.m).step_by(M_BLOCK) {
                        let m = M_BLOCK.min(p.m - m0);
                        let a = p.a.add(m0 * p.a_row + k0 * p.a_col);
                        let packed_a = self.packed_a.as_mut().map(|buffer| {
                            pack_a::<V>(a, p.a_row, p.a_col, k, m, buffer.as_mut_ptr());
                            buffer.as_ptr()
                        });
                        for j in (0..n).step_by(panel) {
                            let width = panel.min(n - j);
                            let b = packed_b.map_or_else(|| b.add(j * p.b_col), |b| b.add(j * k));
                            let b_row = match packed_b {
                                Some(_) => width.next_multiple_of(V::LANES),
                                None => p.b_row,
                            };
                            for i in (0..m).step_by(V::TILE_ROWS) {
                                let rows = V::TILE_ROWS.min(m - i);
                                let (a, a_row, a_col) = match packed_a {
                                    Some(a) => (a.add(i * k), 1, rows),
                                    None => (a.add(i * p.a_row), p.a_row, 1),
                                };
                                let c = p.c.add((m0 + i) * p.c_row + n0 + j);
                                let tile = Tile { k, a, a_row, a_col, b, b_row, c, c_row: p.c_row };
                                let add = p.add || k0 > 0;
                                run_tile::<V>(&tile, rows, width, packed_b.is_some(), add);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Panels of B side by side: for each panel, `k` rows of its width rounded up to whole vectors.
#[inline(always)]
unsafe fn pack_b<V: Vector>(
    b: *const f32,
    row: usize,
    col: usize,
    k: usize,
    n: usize,
    to: *mut f32,
) {
    let panel = V::TILE_VECTORS * V::LANES;
    // SAFETY: the caller gives k × n readable elements and room for the rounded panels.
    unsafe {
        for j in (0..n).step_by(panel) {
            let width = panel.min(n - j);
            let padded = width.next_multiple_of(V::LANES);
            let (from, to) = (b.add(j * col), to.add(j * k));
            if col == 1 {
                for l in 0..k {
                    for v in (0..width).step_by(V::LANES) {
                        V::load_first(from.add(l * row + v), width - v)
                            .store(to.add(l * padded + v));
                    }
                }
            } else {
                for l0 in (0..k).step_by(16) {
                    let lines = 16.min(k - l0);
                    for x in 0..padded {
                        for l in l0..l0 + lines {
                            *to.add(l * padded + x) =
                                if x < width { *from.add(x * col + l * row) } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}

/// Strips of A one after another: for each strip, `k` groups of its rows' elements.
#[inline(always)]
unsafe fn pack_a<V: Vector>(
    a: *const f32,
    row: usize,
    col: usize,
    k: usize,
    m: usize,
    to: *mut f32,
) {
    // SAFETY: the caller gives m × k readable elements and room for as many.
    unsafe {
        for i in (0..m).step_by(V::TILE_ROWS) {
            let rows = V::TILE_ROWS.min(m - i);
            let (from, to) = (a.add(i * row), to.add(i * k));
            for l in 0..k {
                for r in 0..rows {
                    *to.add(l * rows + r) = *from.add(r * row + l * col);
                }
            }
        }
    }
}

/// One tile of C and what it is made of.
struct Tile {
    k: usize,
    a: *const f32,
    a_row: usize,
    a_col: usize,
    b: *const f32,
    b_row: usize,
    c: *mut f32,
    c_row: usize,
}

/// Picks the tile of the right size.
#[inline(always)]
unsafe fn run_tile<V: Vector>(tile: &Tile, rows: usize, width: usize, padded: bool, add: bool) {
    macro_rules! by_rows {
        ($vectors:literal) => {
            match rows {
                1 => product_tile::<V, 1, $vectors>(tile, width, padded, add),
                2 => product_tile::<V, 2, $vectors>(tile, width, padded, add),
                3 => product_tile::<V, 3, $vectors>(tile, width, padded, add),
                4 => product_tile::<V, 4, $vectors>(tile, width, padded, add),
                5 => product_tile::<V, 5, $vectors>(tile, width, padded, add),
                _ => product_tile::<V, 6, $vectors>(tile, width, padded, add),
            }
        };
    }
    // SAFETY: the caller's promise for the tile; rows and vectors are those of the tile.
    unsafe {
        match width.div_ceil(V::LANES) {
            1 => by_rows!(1),
            2 => by_rows!(2),
            3 => by_rows!(3),
            _ => by_rows!(4),
        }
    }
}

/// A tile of R rows and M vectors held in registers over k.
#[inline(always)]
unsafe fn product_tile<V: Vector, const R: usize, const M: usize>(
    tile: &Tile,
    width: usize,
    padded: bool,
    add: bool,
) {
    let last = width - (M - 1) * V::LANES;
    let whole = last == V::LANES;
    // SAFETY: the caller gives k × R elements of A, k × width of B (or padded), R × width of C.
    unsafe {
        let mut sums = [[V::zero(); M]; R];
        if padded || whole {
            accumulate::<V, R, M>(tile, &mut sums, |from| V::load(from));
        } else {
            accumulate::<V, R, M>(tile, &mut sums, |from| V::load_first(from, last));
        }
        for (r, sums) in sums.iter().enumerate() {
            let c = tile.c.add(r * tile.c_row);
            for (v, sum) in sums.iter().enumerate() {
                let c = c.add(v * V::LANES);
                if v + 1 < M || whole {
                    let sum = if add { V::load(c).add(*sum) } else { *sum };
                    sum.store(c);
                } else {
                    let sum = if add { V::load_first(c, last).add(*sum) } else { *sum };
                    sum.store_first(c, last);
                }
            }
        }
    }
}

/// `sums += A·B` over the tile's k; the last vector of each row of B comes from `load_last`.
#[inline(always)]
unsafe fn accumulate<V: Vector, const R: usize, const M: usize>(
    tile: &Tile,
    sums: &mut [[V; M]; R],
    load_last: impl Fn(*const f32) -> V,
) {
    // SAFETY: as promised to `product_tile`.
    unsafe {
        let (mut a, mut b) = (tile.a, tile.b);
        for _ in 0..tile.k {
            let mut row = [V::zero(); M];
            for (v, x) in row.iter_mut().enumerate() {
                let from = b.add(v * V::LANES);
                *x = if v + 1 < M { V::load(from) } else { load_last(from) };
            }
            for r in 0..R {
                let x = V::splat(*a.add(r * tile.a_row));
                for v in 0..M {
                    sums[r][v] = row[v].mul_add(x, sums[r][v]);
                }
            }
            a = a.wrapping_add(tile.a_col);
            b = b.wrapping_add(tile.b_row);
        }
    }
}

/// Few rows against a transposed B: dot products of adjacent elements.
struct Dots(Product);

impl Kernel for Dots {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
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
                        (4, 4) => dots::<V, 4, 4>(&p, i, j),
                        (3, 4) => dots::<V, 3, 4>(&p, i, j),
                        (2, 4) => dots::<V, 2, 4>(&p, i, j),
                        (1, 4) => dots::<V, 1, 4>(&p, i, j),
                        _ => {
                            for r in 0..rows {
                                for c in 0..cols {
                                    dots::<V, 1, 1>(&p, i + r, j + c);
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
unsafe fn dots<V: Vector, const R: usize, const M: usize>(p: &Product, i: usize, j: usize) {
    // SAFETY: the caller gives R rows from i and M columns from j.
    unsafe {
        let mut sums = [[V::zero(); M]; R];
        let mut l = 0;
        while l < p.k {
            let count = p.k - l;
            let load = |from: *const f32| {
                if count >= V::LANES { V::load(from) } else { V::load_first(from, count) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in −1..1 that differ from place to place.
    fn values(len: usize, seed: u32) -> Vec<f32> {
        let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..len)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn every_form_equals_the_reference_at_awkward_sizes() {
        let sizes = [
            (1, 1, 1),
            (0, 3, 2),
            (3, 0, 5),
            (1, 17, 33),
            (5, 31, 65),
            (6, 64, 64),
            (7, 257, 130),
            (25, 40, 70),
            (33, 300, 20),
            (200, 30, 1),
            (130, 70, 800),
            (65, 513, 66),
        ];
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (m, k, n) in sizes {
                    for form in 0..8 {
                        check(&cpu, (m, k, n), form & 1 == 1, form & 2 == 2, form & 4 == 4);
                    }
                }
            }
        }
    }

    fn check(
        cpu: &Cpu,
        (m, k, n): (usize, usize, usize),
        a_transposed: bool,
        b_transposed: bool,
        add: bool,
    ) {
        let (a, b, c) = (values(m * k, 1), values(k * n, 2), values(m * n, 3));
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let mut exact = if add { wide(&c) } else { vec![0.0; m * n] };
        reference::gemm(&wide(&a), &wide(&b), &mut exact, m, k, n);

        let transpose = |v: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|i| v[i % rows * cols + i / rows]).collect()
        };
        let a_lying = if a_transposed { transpose(&a, m, k) } else { a };
        let b_lying = if b_transposed { transpose(&b, k, n) } else { b };
        let a = if a_transposed {
            Matrix::new(&a_lying, k, m).t()
        } else {
            Matrix::new(&a_lying, m, k)
        };
        let b = if b_transposed {
            Matrix::new(&b_lying, n, k).t()
        } else {
            Matrix::new(&b_lying, k, n)
        };
        let mut got = c;
        let into = if add { Into::Add } else { Into::Replace };
        gemm(cpu, a, b, MatrixMut::new(&mut got, m, n), into);
        let tolerance = 1e-6 * (k as f64).sqrt().max(1.0) + 1e-6;
        for (i, (&got, &exact)) in got.iter().zip(&exact).enumerate() {
            assert!(
                (f64::from(got) - exact).abs() <= tolerance,
                "{m}×{k}×{n} at {i}: {got} instead of {exact} ({:?})",
                cpu.level()
            );
        }
    }

    #[test]
    fn strided_parts_leave_the_rest_alone() {
        let cpu = Cpu::new(2);
        let (a, b) = (values(40 * 50, 4), values(50 * 30, 5));
        let mut c = vec![7.0; 40 * 100];
        let part = MatrixMut::strided(&mut c[10..], 40, 20, 100);
        gemm(
            &cpu,
            Matrix::new(&a, 40, 50).columns(5..45),
            Matrix::new(&b, 50, 30).rows(5..45).columns(3..23),
            part,
            Into::Replace,
        );
        for i in 0..40 {
            for j in 0..100 {
                let exact: f32 = if (10..30).contains(&j) {
                    (5..45).map(|l| a[i * 50 + l] * b[l * 30 + j - 10 + 3]).sum()
                } else {
                    7.0
                };
                assert!((c[i * 100 + j] - exact).abs() < 1e-4);
            }
        }
    }
}
