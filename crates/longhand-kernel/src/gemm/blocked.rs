//! The loops over blocks of B and A.

use crate::amx::Tiles;
use crate::buffer::Buffer;
use crate::cpu::{Shards, Worker, share};
use crate::gemm::pack::{pack_across, pack_panels, pack_rows, pack_turned, panel_width};
use crate::gemm::tile::{Tile, run_tile};
use crate::gemm::tiles::{Part, add_tiles};
use crate::gemm::{FEW_ROWS, K_BLOCK, M_BLOCK, N_BLOCK, N_BLOCK_TOGETHER, PAD, Product};
use crate::level::Level;
use crate::operand::{Operand, ProductKernel, run_product};
use crate::simd::{Vector, fetch};

/// Where packed blocks of B come from.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    /// This thread packs them.
    Alone,
    /// All threads of the region pack each block together, in turns into two places: while some
    /// still read one, others write the other.
    Together(&'a Shards<'a, f32>),
    /// B was packed before.
    Packed(&'a [f32]),
}

/// Rows farther apart than this, at a multiple of it, push each other out of the first cache.
const FAR_APART: usize = 512;

/// Elements of a cache line.
const LINE: usize = 16;

/// How many elements the largest block of a K×N operand takes.
pub(super) fn block_len(level: Level, k: usize, n: usize, n_block: usize) -> usize {
    k.min(K_BLOCK) * n.min(n_block).next_multiple_of(level.lanes())
}

/// Computes one thread's part of a product.
pub(super) fn run(product: Product, right: Right, worker: &mut Worker) {
    let (level, precision) = (worker.level, worker.precision);
    let left = worker.buffers.take((M_BLOCK + PAD) * (K_BLOCK + PAD));
    let alone = match right {
        Right::Alone => block_len(level, product.k, product.n, N_BLOCK),
        Right::Together(_) | Right::Packed(_) => 0,
    };
    let block = worker.buffers.take(alone);
    let tiles = Tiles::of(level, precision);
    let mut walk = Walk { product, right, worker, left, block, tiles };
    run_product(level, precision, &mut walk);
    let Walk { left, block, .. } = walk;
    worker.buffers.give(left);
    worker.buffers.give(block);
}

struct Walk<'a, 'b> {
    product: Product,
    right: Right<'a>,
    worker: &'a mut Worker<'b>,
    /// Packed rows of A.
    left: Buffer,
    /// The packed block of B of a thread alone.
    block: Buffer,
    /// Tile registers, where the machine has them for this precision.
    tiles: Option<Tiles>,
}

/// Columns `n0..n0 + n` and elements `k0..k0 + k` along K.
#[derive(Clone, Copy)]
struct Block {
    n0: usize,
    n: usize,
    k0: usize,
    k: usize,
}

impl ProductKernel for &mut Walk<'_, '_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let p = self.product;
        let n_block = match self.right {
            Right::Alone => N_BLOCK,
            Right::Together(_) => N_BLOCK_TOGETHER,
            Right::Packed(_) => p.n.max(1),
        };
        let k_block = K_BLOCK * O::DEPTH;
        let mut turn = 0;
        for n0 in (0..p.n).step_by(n_block) {
            let n = n_block.min(p.n - n0);
            for k0 in (0..p.k).step_by(k_block) {
                let block = Block { n0, n, k0, k: k_block.min(p.k - k0) };
                // SAFETY: every block is within the sizes that `Product::new` checked, and the
                // packing buffers were sized for one block.
                unsafe {
                    let right = self.right_block::<V, O>(block, turn);
                    for m0 in (0..p.m).step_by(M_BLOCK) {
                        self.rows::<V, O>(block, right, m0, M_BLOCK.min(p.m - m0));
                    }
                }
                turn += 1;
            }
        }
    }
}

impl Walk<'_, '_> {
    /// The packed panels of a block of B; none where B is read in place.
    #[inline(always)]
    unsafe fn right_block<V: Vector, O: Operand<V>>(
        &mut self,
        block: Block,
        turn: usize,
    ) -> Option<*const f32> {
        let p = self.product;
        let Block { n0, n, k0, k } = block;
        let panels = n.div_ceil(panel_width::<V>());
        // SAFETY: the block is within the product.
        unsafe {
            let b = p.b.wrapping_add(n0 * p.b_col + k0 * p.b_row);
            match self.right {
                Right::Alone => {
                    if O::IN_PLACE && p.m <= FEW_ROWS && p.b_col == 1 {
                        return None;
                    }
                    let to = self.block.as_mut_ptr();
                    pack_panels::<V, O>(b, p.b_row, p.b_col, k, n, 0..panels, to);
                    Some(to)
                }
                Right::Together(blocks) => {
                    let len = block_len(self.worker.level, p.k, p.n, N_BLOCK_TOGETHER);
                    let place = turn % 2 * len;
                    // SAFETY: threads write panels of their own, and read all of them after the
                    // barrier; nobody still reads this place, since all threads have met since.
                    let own = share(panels, 1, self.worker.index, self.worker.threads);
                    assert!(place + len <= blocks.len(), "room for two packed blocks");
                    let to = blocks.pointer().add(place);
                    pack_panels::<V, O>(b, p.b_row, p.b_col, k, n, own, to);
                    self.worker.barrier();
                    Some(to)
                }
                Right::Packed(packed) => {
                    let before = k0 / O::DEPTH * p.n.next_multiple_of(V::LANES);
                    Some(packed.as_ptr().add(before))
                }
            }
        }
    }

    /// The product of `m` rows of A from `m0` on with a block of B.
    #[inline(always)]
    unsafe fn rows<V: Vector, O: Operand<V>>(
        &mut self,
        block: Block,
        right: Option<*const f32>,
        m0: usize,
        m: usize,
    ) {
        let p = self.product;
        let Block { n0, n, k0, k } = block;
        let lanes = k.div_ceil(O::DEPTH);
        // SAFETY: rows and block are within the product.
        unsafe {
            let a = p.a.add(m0 * p.a_row + k0 * p.a_col);
            let far_apart = p.a_row.is_multiple_of(FAR_APART) && p.m > FEW_ROWS;
            let left = if p.a_col != 1 {
                assert!(p.a_row == 1 || p.m == 1, "rows or columns of adjacent elements");
                let to = self.left.as_mut_ptr();
                if self.tiles.is_some() {
                    pack_turned::<V, O>(a, p.a_col, k, m, to, K_BLOCK + PAD);
                    Left::Rows
                } else {
                    pack_across::<V, O>(a, p.a_col, k, m, to, M_BLOCK + PAD);
                    Left::Across
                }
            } else if !O::IN_PLACE || far_apart {
                let to = self.left.as_mut_ptr();
                pack_rows::<V, O>(a, p.a_row, k, m, to, K_BLOCK + PAD);
                Left::Rows
            } else {
                Left::InPlace
            };
            let packed_a = self.left.as_ptr();
            let tiles = n.div_ceil(panel_width::<V>()) * m.div_ceil(V::TILE_ROWS);
            let mut ahead = match left {
                Left::InPlace => Ahead::default(),
                _ => Ahead::new(&p, block, m0 + m, tiles),
            };
            for j in (0..n).step_by(panel_width::<V>()) {
                let width = panel_width::<V>().min(n - j);
                let (b, b_row) = match right {
                    Some(b) => (b.add(j * lanes), width.next_multiple_of(V::LANES)),
                    None => (p.b.add((n0 + j) * p.b_col + k0 * p.b_row), p.b_row),
                };
                let c = p.c.add(m0 * p.c_row + n0 + j);
                let add = p.add || k0 > 0;
                // Tiles take sixteen lanes at a time; vectors take the rest.
                let mut done = 0;
                if let Some(tiles) = &self.tiles {
                    let part = Part { b, b_row, c, c_row: p.c_row, m, width };
                    done = add_tiles(tiles, lanes, packed_a, K_BLOCK + PAD, part, add);
                    if done == lanes {
                        continue;
                    }
                }
                for i in (0..m).step_by(V::TILE_ROWS) {
                    let rows = V::TILE_ROWS.min(m - i);
                    let (a, a_row, a_col) = match left {
                        Left::Across => (packed_a.add(i), 1, M_BLOCK + PAD),
                        Left::Rows => (packed_a.add(i * (K_BLOCK + PAD)), K_BLOCK + PAD, 1),
                        Left::InPlace => (a.add(i * p.a_row), p.a_row, 1),
                    };
                    let (a, b) = (a.add(done * a_col), b.add(done * b_row));
                    let (c, c_row) = (c.add(i * p.c_row), p.c_row);
                    let tile = Tile { k: lanes - done, a, a_row, a_col, b, b_row, c, c_row };
                    ahead.fetch();
                    run_tile::<V, O>(&tile, rows, width, right.is_some(), add || done > 0);
                }
            }
        }
    }
}

/// How the tiles read A.
#[derive(Clone, Copy)]
enum Left {
    InPlace,
    Rows,
    Across,
}

/// The rows of A that are packed next: each tile before prefetches a part of them.
#[derive(Clone, Copy)]
struct Ahead {
    from: *const f32,
    stride: usize,
    /// Rows that are left, and below the elements of one.
    rows: usize,
    len: usize,
    /// The place in the row at `from`.
    at: usize,
    /// Cache lines for each tile.
    lines: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { from: std::ptr::null(), stride: 0, rows: 0, len: 0, at: 0, lines: 0 }
    }
}

impl Ahead {
    /// The rows that follow `m0` in a block, cut into parts for `tiles` tiles.
    fn new(p: &Product, block: Block, m0: usize, tiles: usize) -> Self {
        let (m0, k0) = if m0 < p.m { (m0, block.k0) } else { (0, block.k0 + block.k) };
        let (m, k) = ((p.m - m0).min(M_BLOCK), p.k.saturating_sub(k0).min(block.k));
        let from = p.a.wrapping_add(m0 * p.a_row + k0 * p.a_col);
        let (stride, rows, len) = if p.a_col == 1 { (p.a_row, m, k) } else { (p.a_col, k, m) };
        let lines = (rows * len.div_ceil(LINE)).div_ceil(tiles.max(1));
        Self { from, stride, rows: if len == 0 { 0 } else { rows }, len, at: 0, lines }
    }

    /// Prefetches the cache lines of one tile.
    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.lines {
            if self.rows == 0 {
                return;
            }
            fetch(self.from.wrapping_add(self.at));
            self.at += LINE;
            if self.at >= self.len {
                self.from = self.from.wrapping_add(self.stride);
                (self.rows, self.at) = (self.rows - 1, 0);
            }
        }
    }
}
