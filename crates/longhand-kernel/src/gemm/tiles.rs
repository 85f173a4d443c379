//! The inner loops in tile registers: up to four tiles of C over a block of K.

use crate::amx::{Columns, Left, SIDE, Sums, Tiles};

/// Rows and columns of C that are computed together.
const STEP: usize = 2 * SIDE;

/// A panel of B, and the part of C that it belongs to.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) b: *const f32,
    pub(super) b_row: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
    /// Rows of C.
    pub(super) m: usize,
    /// Columns of C, and of B without its padding.
    pub(super) width: usize,
}

/// C = A·B or C += A·B over the first lanes of K, as many as are whole tiles; gives their
/// number. Nothing is done where it is 0. Row i of A is at `a + i · a_row`, in lanes.
///
/// A row's sums do not depend on the number of rows: rows that are missing to a whole tile are read,
/// but their sums are not kept.
///
/// # Safety
/// `a` has rows for whole steps of `m`, `b` columns for whole tiles of `width`; C can be written.
pub(super) unsafe fn add_tiles(
    tiles: &Tiles,
    lanes: usize,
    a: *const f32,
    a_row: usize,
    part: Part,
    add: bool,
) -> usize {
    let steps = lanes / SIDE;
    if steps == 0 {
        return 0;
    }
    let Part { b, b_row, c, c_row, m, width } = part;
    // SAFETY: as the caller promised; what is not whole goes through a place of its own.
    unsafe {
        for j in (0..width).step_by(STEP) {
            for i in (0..m).step_by(STEP) {
                let left = Left { from: a.add(i * a_row), stride: a_row };
                let columns = Columns { from: b.add(j), stride: b_row, next: SIDE };
                let (rows, width) = ((m - i).min(STEP), (width - j).min(STEP));
                let c = c.add(i * c_row + j);
                if rows.is_multiple_of(SIDE) && width.is_multiple_of(SIDE) {
                    let sums = Sums { to: c, stride: c_row };
                    multiply(tiles, steps, left, columns, (rows, width), sums, add);
                    continue;
                }
                // As whole tiles do it: the sums begin with C.
                let mut place = [0.0f32; STEP * STEP];
                let sums = Sums { to: place.as_mut_ptr(), stride: STEP };
                for row in 0..if add { rows } else { 0 } {
                    sums.to.add(row * STEP).copy_from(c.add(row * c_row), width);
                }
                multiply(tiles, steps, left, columns, (rows, width), sums, add);
                for row in 0..rows {
                    c.add(row * c_row).copy_from(sums.to.add(row * STEP), width);
                }
            }
        }
    }
    steps * SIDE
}

/// As [`Tiles::multiply`], for one or two tiles in each direction.
unsafe fn multiply(
    tiles: &Tiles,
    steps: usize,
    left: Left,
    columns: Columns,
    (rows, width): (usize, usize),
    sums: Sums,
    add: bool,
) {
    // SAFETY: as the caller promised.
    unsafe {
        match (rows > SIDE, width > SIDE) {
            (false, false) => tiles.multiply::<1, 1>(steps, left, columns, sums, add),
            (false, true) => tiles.multiply::<1, 2>(steps, left, columns, sums, add),
            (true, false) => tiles.multiply::<2, 1>(steps, left, columns, sums, add),
            (true, true) => tiles.multiply::<2, 2>(steps, left, columns, sums, add),
        }
    }
}
