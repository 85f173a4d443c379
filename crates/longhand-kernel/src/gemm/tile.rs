//! The inner loop: a tile of C in registers.

use crate::operand::Operand;
use crate::simd::{Vector, fetch};

/// One tile of C, and the parts of A and B that it is the product of; `k` counts lanes.
pub(super) struct Tile {
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) a_row: usize,
    pub(super) a_col: usize,
    pub(super) b: *const f32,
    pub(super) b_row: usize,
    pub(super) c: *mut f32,
    pub(super) c_row: usize,
}

/// Picks the tile of the right size.
#[inline(always)]
pub(super) unsafe fn run_tile<V: Vector, O: Operand<V>>(
    tile: &Tile,
    rows: usize,
    width: usize,
    padded: bool,
    add: bool,
) {
    macro_rules! by_rows {
        ($vectors:literal) => {
            match rows {
                1 => product_tile::<V, O, 1, $vectors>(tile, width, padded, add),
                2 => product_tile::<V, O, 2, $vectors>(tile, width, padded, add),
                3 => product_tile::<V, O, 3, $vectors>(tile, width, padded, add),
                4 => product_tile::<V, O, 4, $vectors>(tile, width, padded, add),
                5 => product_tile::<V, O, 5, $vectors>(tile, width, padded, add),
                _ => product_tile::<V, O, 6, $vectors>(tile, width, padded, add),
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
unsafe fn product_tile<V: Vector, O: Operand<V>, const R: usize, const M: usize>(
    tile: &Tile,
    width: usize,
    padded: bool,
    add: bool,
) {
    let last = width - (M - 1) * V::LANES;
    let whole = last == V::LANES;
    // SAFETY: the caller gives k × R elements of A, k × width of B (or padded), R × width of C.
    unsafe {
        for r in 0..R {
            for v in 0..M {
                fetch(tile.c.wrapping_add(r * tile.c_row + v * V::LANES));
            }
        }
        let mut sums = [[V::zero(); M]; R];
        if padded || whole {
            accumulate::<V, O, R, M>(tile, &mut sums, |from| V::load(from));
        } else {
            accumulate::<V, O, R, M>(tile, &mut sums, |from| V::load_first(from, last));
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
unsafe fn accumulate<V: Vector, O: Operand<V>, const R: usize, const M: usize>(
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
                    sums[r][v] = O::multiply(row[v], x, sums[r][v]);
                }
            }
            a = a.wrapping_add(tile.a_col);
            b = b.wrapping_add(tile.b_row);
        }
    }
}
