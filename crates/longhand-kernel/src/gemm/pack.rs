//! Packing: operands in the order in which the tiles read them.

use crate::cpu::share;
use crate::gemm::K_BLOCK;
use crate::operand::{Operand, ProductKernel};
use crate::simd::{Vector, fetch};

/// Rows of B that are prefetched before they are packed: panel by panel they are too far apart for
/// the processor to foresee them.
const AHEAD: usize = 16;

/// Columns of B in one panel.
pub(super) const fn panel_width<V: Vector>() -> usize {
    V::TILE_VECTORS * V::LANES
}

/// Panels of B side by side, from `panels.start` on: for each panel, a row of its width, rounded
/// up to whole vectors, for every lane of K. `b` is the block's first element, `k × n` its size.
///
/// # Safety
/// The block is readable, `to` has room for all its panels, and the machine has `V` and `O`.
#[inline(always)]
pub(super) unsafe fn pack_panels<V: Vector, O: Operand<V>>(
    b: *const f32,
    row: usize,
    col: usize,
    k: usize,
    n: usize,
    panels: std::ops::Range<usize>,
    to: *mut f32,
) {
    let lanes = k.div_ceil(O::DEPTH);
    // SAFETY: as the caller promised.
    unsafe {
        for panel in panels {
            let j = panel * panel_width::<V>();
            let width = panel_width::<V>().min(n - j);
            let padded = width.next_multiple_of(V::LANES);
            let (from, to) = (b.add(j * col), to.add(j * lanes));
            if col == 1 {
                for l in 0..lanes {
                    let from = from.add(l * O::DEPTH * row);
                    let paired = O::DEPTH == 2 && 2 * l + 1 < k;
                    for v in (0..width).step_by(V::LANES) {
                        for r in 0..O::DEPTH {
                            fetch(from.wrapping_add((AHEAD + r) * row + v));
                        }
                        let first = V::load_first(from.add(v), width - v);
                        let second = if paired {
                            V::load_first(from.add(row + v), width - v)
                        } else {
                            V::zero()
                        };
                        O::join(first, second).store(to.add(l * padded + v));
                    }
                }
            } else {
                assert!(row == 1 || k == 1, "rows or columns of adjacent elements");
                for v in (0..width).step_by(V::LANES) {
                    let columns = (width - v).min(V::LANES);
                    let from = from.add(v * col);
                    transpose::<V, O>(from, col, k, columns, to.add(v), padded);
                }
            }
        }
    }
}

/// Up to LANES columns of B, each of `k` adjacent elements, as rows of one vector.
#[inline(always)]
unsafe fn transpose<V: Vector, O: Operand<V>>(
    from: *const f32,
    col: usize,
    k: usize,
    columns: usize,
    to: *mut f32,
    to_row: usize,
) {
    // Columns that are padding stay zero.
    let mut square = [0.0f32; 16 * 16];
    // SAFETY: as promised to `pack_panels`; a square holds LANES vectors.
    unsafe {
        for k0 in (0..k).step_by(V::LANES * O::DEPTH) {
            let count = (k - k0).min(V::LANES * O::DEPTH);
            for x in 0..columns {
                O::along(from.add(x * col + k0), count)
                    .store(square.as_mut_ptr().add(x * V::LANES));
            }
            let to = to.add(k0 / O::DEPTH * to_row);
            let lanes = count.div_ceil(O::DEPTH);
            if lanes == V::LANES {
                V::transpose(square.as_ptr(), V::LANES, to, to_row);
            } else {
                let mut turned = [0.0f32; 16 * 16];
                V::transpose(square.as_ptr(), V::LANES, turned.as_mut_ptr(), V::LANES);
                for l in 0..lanes {
                    V::load(turned.as_ptr().add(l * V::LANES)).store(to.add(l * to_row));
                }
            }
        }
    }
}

/// Rows of A whose elements are adjacent: lanes one after another, `to_row` from row to row.
///
/// # Safety
/// As [`pack_panels`]; a row of `to` holds whole vectors of lanes.
#[inline(always)]
pub(super) unsafe fn pack_rows<V: Vector, O: Operand<V>>(
    a: *const f32,
    row: usize,
    k: usize,
    m: usize,
    to: *mut f32,
    to_row: usize,
) {
    let step = V::LANES * O::DEPTH;
    // SAFETY: as the caller promised.
    unsafe {
        for i in 0..m {
            let (from, to) = (a.add(i * row), to.add(i * to_row));
            for l in (0..k).step_by(step) {
                O::along(from.add(l), (k - l).min(step)).store(to.add(l / O::DEPTH));
            }
        }
    }
}

/// Rows of A whose columns are adjacent: for every lane of K its rows side by side, with `to_row`
/// elements from lane to lane.
///
/// # Safety
/// As [`pack_panels`]; `to_row` holds whole vectors.
#[inline(always)]
pub(super) unsafe fn pack_across<V: Vector, O: Operand<V>>(
    a: *const f32,
    col: usize,
    k: usize,
    m: usize,
    to: *mut f32,
    to_row: usize,
) {
    let lanes = k.div_ceil(O::DEPTH);
    // SAFETY: as the caller promised.
    unsafe {
        for l in 0..lanes {
            let (from, to) = (a.add(l * O::DEPTH * col), to.add(l * to_row));
            let paired = O::DEPTH == 2 && 2 * l + 1 < k;
            for i in (0..m).step_by(V::LANES) {
                let first = V::load_first(from.add(i), m - i);
                let second =
                    if paired { V::load_first(from.add(col + i), m - i) } else { V::zero() };
                O::join(first, second).store(to.add(i));
            }
        }
    }
}

/// As [`pack_across`], as the rows of lanes that [`pack_rows`] makes, in whole squares.
///
/// # Safety
/// As [`pack_rows`]; `to` has rows for whole vectors of `m`.
#[inline(always)]
pub(super) unsafe fn pack_turned<V: Vector, O: Operand<V>>(
    a: *const f32,
    col: usize,
    k: usize,
    m: usize,
    to: *mut f32,
    to_row: usize,
) {
    let lanes = k.div_ceil(O::DEPTH);
    let mut square = [0.0f32; 16 * 16];
    // SAFETY: as the caller promised; a square holds LANES vectors.
    unsafe {
        for i in (0..m).step_by(V::LANES) {
            for l0 in (0..lanes).step_by(V::LANES) {
                for l in l0..lanes.min(l0 + V::LANES) {
                    let from = a.add(l * O::DEPTH * col + i);
                    let first = V::load_first(from, m - i);
                    let paired = O::DEPTH == 2 && 2 * l + 1 < k;
                    let second =
                        if paired { V::load_first(from.add(col), m - i) } else { V::zero() };
                    O::join(first, second).store(square.as_mut_ptr().add((l - l0) * V::LANES));
                }
                V::transpose(square.as_ptr(), V::LANES, to.add(i * to_row + l0), to_row);
            }
        }
    }
}

/// One thread's share of the panels of every block of K.
pub(super) struct PackPanels {
    pub(super) b: *const f32,
    pub(super) row: usize,
    pub(super) col: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) to: *mut f32,
    pub(super) index: usize,
    pub(super) parts: usize,
}

impl ProductKernel for PackPanels {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { b, row, col, k, n, to, index, parts } = self;
        let panels = share(n.div_ceil(panel_width::<V>()), 1, index, parts);
        let padded = n.next_multiple_of(V::LANES);
        // SAFETY: the block is within the checked operand, and `to` holds all of it.
        unsafe {
            for k0 in (0..k).step_by(K_BLOCK * O::DEPTH) {
                let depth = (k - k0).min(K_BLOCK * O::DEPTH);
                let (b, to) = (b.add(k0 * row), to.add(k0 / O::DEPTH * padded));
                pack_panels::<V, O>(b, row, col, depth, n, panels.clone(), to);
            }
        }
    }
}

/// One vector of columns of an operand of `n` columns, from `column` on.
pub(super) struct PackColumns {
    pub(super) from: *const f32,
    pub(super) k: usize,
    pub(super) columns: usize,
    pub(super) column: usize,
    pub(super) n: usize,
    pub(super) to: *mut f32,
}

impl ProductKernel for PackColumns {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector, O: Operand<V>>(self) {
        let Self { from, k, columns, column, n, to } = self;
        let panel = column / panel_width::<V>() * panel_width::<V>();
        let panel_row = panel_width::<V>().min(n - panel).next_multiple_of(V::LANES);
        // SAFETY: the caller checked the lengths.
        unsafe {
            for k0 in (0..k).step_by(K_BLOCK * O::DEPTH) {
                let depth = (k - k0).min(K_BLOCK * O::DEPTH);
                let block = to.add(k0 / O::DEPTH * n.next_multiple_of(V::LANES));
                let to = block.add(panel * depth.div_ceil(O::DEPTH) + column - panel);
                transpose::<V, O>(from.wrapping_add(k0), k, depth, columns, to, panel_row);
            }
        }
    }
}
