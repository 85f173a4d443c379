//! The product inside the time loop: a few vectors of packed weights against the batch's rows.

use std::mem::MaybeUninit;

use crate::amx::{Columns, Left, SIDE, Sums, Tiles};
use crate::operand::Operand;
use crate::simd::Vector;

/// Vectors side by side in one tile.
pub(super) const TILE_VECTORS: usize = 4;
/// Rows whose sums are in the scratch buffer at a time: with four vectors of 64 bytes it stays in
/// the first cache beside the operands.
pub(super) const ROW_GROUP: usize = 48;
/// Lanes of the inner size between visits to the scratch buffer, so that the panels are read from a
/// near cache for every tile of rows after the first.
const INNER_BLOCK: usize = 256;

/// `sums[i][v] += Σ_k row(i)[k] · panels[v][k]` for `count` rows and `vectors` vectors,
/// over `inner` lanes k. `tiles` does it sixteen lanes at a time, where the machine has them for `O`.
///
/// # Safety
/// The machine has the instruction set of `V` and `O`; `row(i)` gives `inner` lanes, vector `v` of
/// row `k` of the panels is at `panels + v · panel_stride + k · LANES`, and `sums` holds `count`
/// rows of `vectors` vectors, with room for [`ROW_GROUP`] rows.
#[inline(always)]
pub(super) unsafe fn add_product<V: Vector, O: Operand<V>>(
    tiles: Option<&Tiles>,
    vectors: usize,
    count: usize,
    row: impl Fn(usize) -> *const f32,
    inner: usize,
    (panels, panel_stride): (*const f32, usize),
    sums: *mut f32,
) {
    // Rows × vectors sums, one row of the panels and one element fit in the registers: 32 with
    // AVX-512, 16 otherwise.
    let most_rows = if V::LANES == 16 || vectors <= 2 { 6 } else { 3 };
    // Tiles of nearly equal sizes: a last tile of one row would wait for its own sums.
    let tile_rows = count.div_ceil(count.div_ceil(most_rows).max(1)).max(1);
    // SAFETY: the blocks are within the sizes that the caller promised.
    unsafe {
        let done = match tiles {
            Some(tiles) => {
                add_tiles(tiles, vectors, count, &row, inner, (panels, panel_stride), sums)
            }
            None => 0,
        };
        for from in (done..inner).step_by(INNER_BLOCK) {
            let inner = INNER_BLOCK.min(inner - from);
            let panels = panels.add(from * V::LANES);
            for i in (0..count).step_by(tile_rows) {
                let rows = tile_rows.min(count - i);
                let row = |r: usize| row(i + r).add(from);
                let sums = sums.add(i * vectors * V::LANES);
                macro_rules! by_rows {
                    ($vectors:literal) => {
                        match rows {
                            1 => tile::<V, O, 1, $vectors>(row, inner, panels, panel_stride, sums),
                            2 => tile::<V, O, 2, $vectors>(row, inner, panels, panel_stride, sums),
                            3 => tile::<V, O, 3, $vectors>(row, inner, panels, panel_stride, sums),
                            4 => tile::<V, O, 4, $vectors>(row, inner, panels, panel_stride, sums),
                            5 => tile::<V, O, 5, $vectors>(row, inner, panels, panel_stride, sums),
                            _ => tile::<V, O, 6, $vectors>(row, inner, panels, panel_stride, sums),
                        }
                    };
                }
                match vectors {
                    1 => by_rows!(1),
                    2 => by_rows!(2),
                    3 => by_rows!(3),
                    _ => by_rows!(4),
                }
            }
        }
    }
}

/// As [`add_product`], over as many lanes as are whole tiles; gives their number.
///
/// # Safety
/// As [`add_product`], with vectors of sixteen lanes.
unsafe fn add_tiles(
    tiles: &Tiles,
    vectors: usize,
    count: usize,
    row: &impl Fn(usize) -> *const f32,
    inner: usize,
    (panels, panel_stride): (*const f32, usize),
    sums: *mut f32,
) -> usize {
    let done = inner / SIDE * SIDE;
    let mut copied = MaybeUninit::<[f32; 2 * SIDE * INNER_BLOCK]>::uninit();
    // SAFETY: as the caller promised; rows that are missing to a whole tile are zeros, and their sums
    // are within the room.
    unsafe {
        for i in (0..count).step_by(2 * SIDE) {
            let rows = (count - i).min(2 * SIDE);
            for from in (0..done).step_by(INNER_BLOCK) {
                let lanes = INNER_BLOCK.min(done - from);
                let left = left(copied.as_mut_ptr().cast(), rows, |r| row(i + r).add(from), lanes);
                for v in (0..vectors).step_by(2) {
                    let columns = Columns {
                        from: panels.add(v * panel_stride + from * SIDE),
                        stride: SIDE,
                        next: panel_stride,
                    };
                    let stride = vectors * SIDE;
                    let sums = Sums { to: sums.add(i * stride + v * SIDE), stride };
                    let steps = lanes / SIDE;
                    match (rows > SIDE, v + 1 < vectors) {
                        (false, false) => tiles.multiply::<1, 1>(steps, left, columns, sums, true),
                        (false, true) => tiles.multiply::<1, 2>(steps, left, columns, sums, true),
                        (true, false) => tiles.multiply::<2, 1>(steps, left, columns, sums, true),
                        (true, true) => tiles.multiply::<2, 2>(steps, left, columns, sums, true),
                    }
                }
            }
        }
    }
    done
}

/// Rows at equal distances, copied unless they are so and fill their tiles. `copied` has room for
/// two tiles of rows.
unsafe fn left(
    copied: *mut f32,
    rows: usize,
    row: impl Fn(usize) -> *const f32,
    lanes: usize,
) -> Left {
    let from = row(0);
    let stride = (row(rows.min(2) - 1) as usize).wrapping_sub(from as usize);
    let at = |r: usize| from.wrapping_byte_add(r.wrapping_mul(stride));
    // Rows before the first one would be a negative stride: they are copied.
    let whole =
        rows.is_multiple_of(SIDE) && stride < usize::MAX / 2 && (1..rows).all(|r| row(r) == at(r));
    if whole {
        return Left { from, stride: stride / size_of::<f32>() };
    }
    for r in 0..rows.next_multiple_of(SIDE) {
        // SAFETY: as the caller promised, a row has these lanes, and there is room for them.
        unsafe {
            let to = copied.add(r * INNER_BLOCK);
            if r < rows {
                to.copy_from_nonoverlapping(row(r), lanes);
            } else {
                to.write_bytes(0, lanes);
            }
        }
    }
    Left { from: copied, stride: INNER_BLOCK }
}

/// R rows and M vectors held in registers over the inner size.
#[inline(always)]
unsafe fn tile<V: Vector, O: Operand<V>, const R: usize, const M: usize>(
    row: impl Fn(usize) -> *const f32,
    inner: usize,
    panels: *const f32,
    panel_stride: usize,
    sums: *mut f32,
) {
    // SAFETY: as promised to `add_product`.
    unsafe {
        let rows: [*const f32; R] = std::array::from_fn(row);
        let panels: [*const f32; M] = std::array::from_fn(|v| panels.add(v * panel_stride));
        let mut tile = [[V::zero(); M]; R];
        for (r, tile) in tile.iter_mut().enumerate() {
            for (v, sum) in tile.iter_mut().enumerate() {
                *sum = V::load(sums.add((r * M + v) * V::LANES));
            }
        }
        for k in 0..inner {
            let mut weights = [V::zero(); M];
            for (v, weights) in weights.iter_mut().enumerate() {
                *weights = V::load(panels[v].add(k * V::LANES));
            }
            for r in 0..R {
                let x = V::splat(*rows[r].add(k));
                for v in 0..M {
                    tile[r][v] = O::multiply(weights[v], x, tile[r][v]);
                }
            }
        }
        for (r, tile) in tile.iter().enumerate() {
            for (v, sum) in tile.iter().enumerate() {
                sum.store(sums.add((r * M + v) * V::LANES));
            }
        }
    }
}
