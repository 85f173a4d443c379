//! Matrix products: C = A·B or C += A·B, of operands in the [`Precision`](crate::Precision) of the
//! processor, summed in `f32`.
//!
//! 1. `pack`: B becomes panels as wide as one tile, in the form of the precision; A becomes rows of
//!    lanes along K, or across it if its columns are adjacent. Threads that share the rows of C
//!    pack each block of B together. `f32` rows of A are read in place.
//! 2. `blocked`: walks blocks of K and N that stay in the caches (the scheme of Goto and van de
//!    Geijn, "Anatomy of high-performance matrix multiplication", 2008).
//! 3. `tile`: a tile of C stays in registers over a block of K; `tiles`: the same in the tile
//!    registers of `amx`.
//!
//! Products with few rows, as in decoding, read B in place (`dots`). The order of summation
//! over K does not depend on the number of threads.

mod blocked;
mod dots;
mod matrix;
mod pack;
pub mod reference;
#[cfg(test)]
mod tests;
mod tile;
mod tiles;

pub use matrix::{Matrix, MatrixMut};

use crate::cpu::{Cpu, Shards, Worker, share};
use crate::operand::{self, run_product};
use crate::scratch;
use blocked::Right;
use dots::Dots;
use pack::{PackColumns, PackPanels};

/// Lanes of K summed before a tile of C goes back to memory: a panel of B stays in L1 and L2.
const K_BLOCK: usize = 256;
/// Columns of B packed at a time by one thread alone: 768 · 256 lanes fit in L2.
const N_BLOCK: usize = 768;
/// Columns of B packed at a time by all threads: 12 MiB for both blocks fit in the last cache,
/// and A is packed less often.
const N_BLOCK_TOGETHER: usize = 6 * 1024;
/// Rows of A packed at a time, where A needs packing.
const M_BLOCK: usize = 192;
/// Added to the distance of packed rows, which would be a power of two.
const PAD: usize = 16;
/// Up to this many rows, packing B costs more than it gains.
const FEW_ROWS: usize = 24;
/// Below this many multiplications a second thread costs more than it gains.
const SERIAL_PRODUCTS: usize = 1 << 17;

/// Whether a product replaces C or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// C = A·B; the old C is not read.
    Replace,
    /// C += A·B, summed in `f32`.
    Add,
}

/// C = A·B or C += A·B over the threads of `cpu`; A is M×K, B is K×N, C is M×N.
///
/// # Panics
/// If the shapes do not agree.
pub fn gemm(cpu: &Cpu, a: Matrix, b: Matrix, c: MatrixMut, into: Into) {
    let product = Product::new(a, b, c, into);
    if cpu.threads() == 1 || product.m * product.n * product.k < SERIAL_PRODUCTS {
        return cpu.for_each(1, |worker, _| product.run(Right::Alone, worker));
    }
    let by_rows = product.m >= 64 && 2 * product.m >= product.n;
    if !by_rows {
        return cpu.run(|worker| {
            let part = product.share(false, worker.index, worker.threads);
            part.run(Right::Alone, worker);
        });
    }
    let block = blocked::block_len(cpu.level(), product.k, product.n, N_BLOCK_TOGETHER);
    let mut blocks = scratch::take(cpu, 2 * block);
    let shared = Shards::new(&mut blocks);
    cpu.run(|worker| {
        let part = product.share(true, worker.index, worker.threads);
        part.run(Right::Together(&shared), worker);
    });
    scratch::give(cpu, blocks);
}

/// As [`gemm`], on the calling thread: for use inside a region.
pub(crate) fn gemm_serial(worker: &mut Worker, a: Matrix, b: Matrix, c: MatrixMut, into: Into) {
    Product::new(a, b, c, into).run(Right::Alone, worker);
}

/// The right operand of several products, packed once: K×N.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// How many elements K×N takes when it is packed.
pub(crate) fn packed_len(worker: &Worker, k: usize, n: usize) -> usize {
    let lanes = k.div_ceil(operand::depth(worker.level, worker.precision));
    lanes * n.next_multiple_of(worker.level.lanes())
}

/// As [`packed_len`], before a region, with room for fewer columns as well.
pub(crate) fn packed_room(cpu: &Cpu, k: usize, n: usize) -> usize {
    k.div_ceil(operand::depth(cpu.level(), cpu.precision()))
        * n.next_multiple_of(cpu.level().lanes())
}

/// Packs this thread's share of `b`. All of it is packed when every thread of the region has called
/// this function. Panics if `to` is shorter than [`packed_len`] says.
pub(crate) fn pack_together(worker: &Worker, b: Matrix, to: &Shards<f32>) {
    assert!(to.len() >= packed_len(worker, b.rows, b.cols), "room for a packed operand");
    run_product(
        worker.level,
        worker.precision,
        PackPanels {
            b: b.data.as_ptr(),
            row: b.row_stride,
            col: b.col_stride,
            k: b.rows,
            n: b.cols,
            to: to.pointer(),
            index: worker.index,
            parts: worker.threads,
        },
    );
}

/// Packs one vector of columns of a right operand: `rows` has `k` elements for each column, and
/// `to` receives one vector for every lane of K. Missing columns are zero. Panics if `to` is too
/// short for these vectors.
pub(crate) fn pack_columns(worker: &Worker, rows: &[f32], k: usize, to: &mut [f32]) {
    let columns = rows.len().checked_div(k).unwrap_or(0);
    let lanes = k.div_ceil(operand::depth(worker.level, worker.precision));
    assert!(to.len() >= lanes * worker.level.lanes() && columns <= worker.level.lanes());
    let lanes = worker.level.lanes();
    let kernel =
        PackColumns { from: rows.as_ptr(), k, columns, column: 0, n: lanes, to: to.as_mut_ptr() };
    run_product(worker.level, worker.precision, kernel);
}

/// As [`pack_columns`], for the columns from `column` on of an operand of `n` columns that is to
/// be packed as [`pack_together`] packs it. `column` is a multiple of a vector's length. Panics if
/// `to` is shorter than [`packed_len`] says.
pub(crate) fn pack_columns_of(
    worker: &Worker,
    rows: &[f32],
    k: usize,
    column: usize,
    n: usize,
    to: &Shards<f32>,
) {
    let columns = rows.len().checked_div(k).unwrap_or(0);
    assert!(columns <= worker.level.lanes() && column + columns <= n);
    assert!(to.len() >= packed_len(worker, k, n), "room for a packed operand");
    let to = to.pointer();
    let kernel = PackColumns { from: rows.as_ptr(), k, columns, column, n, to };
    run_product(worker.level, worker.precision, kernel);
}

/// As [`gemm_serial`] with a right operand that is packed already.
pub(crate) fn gemm_packed(worker: &mut Worker, a: Matrix, b: Packed, c: MatrixMut, into: Into) {
    b.run(b.product(a, c, into), worker);
}

/// As [`gemm`] with a right operand that is packed already.
pub(crate) fn gemm_with_packed(cpu: &Cpu, a: Matrix, b: Packed, c: MatrixMut, into: Into) {
    let product = b.product(a, c, into);
    if cpu.threads() == 1 || product.m * product.n * product.k < SERIAL_PRODUCTS {
        return cpu.for_each(1, |worker, _| b.run(product, worker));
    }
    cpu.run(|worker| b.run(product.share(true, worker.index, worker.threads), worker));
}

impl Packed<'_> {
    fn product(&self, a: Matrix, c: MatrixMut, into: Into) -> Product {
        let place = Matrix { data: &[], rows: self.k, cols: self.n, row_stride: 0, col_stride: 1 };
        Product::new(a, place, c, into)
    }

    fn run(&self, product: Product, worker: &mut Worker) {
        assert!(self.data.len() >= packed_len(worker, self.k, self.n), "a packed operand");
        product.run(Right::Packed(self.data), worker);
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

    /// Part `index` of `parts`: rows of C, or columns.
    fn share(self, by_rows: bool, index: usize, parts: usize) -> Self {
        let mut part = self;
        if by_rows {
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

    /// Whether it is computed as dot products of adjacent elements.
    fn in_dots(&self) -> bool {
        self.m <= FEW_ROWS && self.a_col == 1 && self.b_row == 1
    }

    fn run(self, right: Right, worker: &mut Worker) {
        let empty = self.m == 0 || self.n == 0 || self.k == 0;
        if empty && !self.add {
            for i in 0..self.m {
                // SAFETY: row i of C is within the checked bounds.
                unsafe { std::slice::from_raw_parts_mut(self.c.add(i * self.c_row), self.n) }
                    .fill(0.0);
            }
        }
        let (level, precision) = (worker.level, worker.precision);
        match right {
            Right::Alone if empty => {}
            Right::Packed(_) if empty => {}
            Right::Alone if self.in_dots() => run_product(level, precision, Dots(self)),
            // Without rows of its own, a thread still packs its share.
            right => blocked::run(self, right, worker),
        }
    }
}
