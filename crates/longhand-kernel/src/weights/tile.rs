//! The tiles of a product: sums of some rows by some vectors of weights, held in registers.

use std::mem::MaybeUninit;

use super::dot::{Dot, Sixteen};
use super::operand::Row;
use super::{LANES, Operand};
use crate::simd::fetch;

/// Fewer tiles than this read a panel too fast to fetch another one meanwhile.
const FEWEST_FETCHING: usize = 4;

/// The part of the next panel that a tile prefetches, step by step.
#[derive(Clone, Copy)]
struct Ahead {
    from: *const f32,
    /// Bytes from step to step; 0 for nothing.
    step: usize,
}

/// A product whose sizes were checked, as pointers.
pub(super) struct Task<'a> {
    /// Groups × steps × width words.
    pub(super) words: *const f32,
    /// Where the next panel's words begin, if there is one.
    pub(super) behind: *const f32,
    /// `[groups, width]`: the scales of the weights.
    pub(super) scales: *const f32,
    /// Places of the panel.
    pub(super) width: usize,
    pub(super) groups: usize,
    /// Steps of a group.
    pub(super) steps: usize,
    pub(super) operand: &'a Operand,
    pub(super) rows: [usize; 3],
    /// Rows like those of `to`; `addend_stride` elements from row to row.
    pub(super) addend: *const f32,
    pub(super) addend_stride: usize,
    pub(super) to: *mut f32,
    pub(super) to_stride: usize,
    pub(super) places: usize,
}

impl Task<'_> {
    /// Cuts the task into tiles. Each of many tiles also prefetches its part of the panel behind
    /// this one, which is probably the next to be read.
    ///
    /// # Safety
    /// The machine has the instructions of `D`, and the task was checked.
    #[inline(always)]
    pub(super) unsafe fn run<D: Dot>(&self) {
        let count = self.rows[2];
        let vectors = self.places.div_ceil(LANES);
        // Tiles of nearly equal height: a low one at the end would read the panel for little.
        let tiles = count.div_ceil(D::ROWS);
        let mut from = 0;
        for tile in 0..tiles {
            let to = count * (tile + 1) / tiles;
            let fetched = if tiles < FEWEST_FETCHING { 0 } else { 4 * self.width / tiles };
            let ahead = Ahead {
                from: self.behind.wrapping_byte_add(tile * self.groups * self.steps * fetched),
                step: fetched,
            };
            let mut vector = 0;
            while vector < vectors {
                // SAFETY: rows and vectors are within the task.
                unsafe {
                    if vector + D::VECTORS <= vectors {
                        match D::VECTORS {
                            4 => self.by_rows::<D, 4>(from, to - from, vector, ahead),
                            2 => self.by_rows::<D, 2>(from, to - from, vector, ahead),
                            _ => self.by_rows::<D, 1>(from, to - from, vector, ahead),
                        }
                        vector += D::VECTORS;
                    } else {
                        self.by_rows::<D, 1>(from, to - from, vector, ahead);
                        vector += 1;
                    }
                }
            }
            from = to;
        }
    }

    #[inline(always)]
    unsafe fn by_rows<D: Dot, const M: usize>(
        &self,
        first: usize,
        rows: usize,
        vector: usize,
        ahead: Ahead,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            match rows {
                1 => self.tile::<D, 1, M>(first, vector, ahead),
                2 => self.tile::<D, 2, M>(first, vector, ahead),
                3 if D::ROWS >= 3 => self.tile::<D, 3, M>(first, vector, ahead),
                4 if D::ROWS >= 4 => self.tile::<D, 4, M>(first, vector, ahead),
                5 if D::ROWS >= 5 => self.tile::<D, 5, M>(first, vector, ahead),
                6 if D::ROWS >= 6 => self.tile::<D, 6, M>(first, vector, ahead),
                _ => unreachable!("tiles have at most {} rows", D::ROWS),
            }
        }
    }

    /// R rows by M vectors.
    #[inline(always)]
    unsafe fn tile<D: Dot, const R: usize, const M: usize>(
        &self,
        first: usize,
        vector: usize,
        mut ahead: Ahead,
    ) {
        // SAFETY: as `run`; every step has `width` words, and every row as many inputs as steps.
        unsafe {
            let rows: [Row; R] = std::array::from_fn(|r| {
                self.operand.row(self.rows[0] + (first + r) * self.rows[1])
            });
            let mut inputs = rows.map(|row| row.codes);
            let mut words = self.words.add(vector * LANES);
            // In memory, since the sums take all registers; the first group writes it, as clearing it
            // takes as long as a step.
            let mut totals = [[const { MaybeUninit::<[f32; LANES]>::uninit() }; M]; R];
            if self.groups == 0 {
                totals.iter_mut().flatten().for_each(|total| _ = total.write([0.0; LANES]));
            }
            for group in 0..self.groups {
                let mut sums: [[D::Sums; M]; R] = std::array::from_fn(|r| {
                    [D::start(if D::INTEGER { rows[r].correction(group) } else { 0 }); M]
                });
                for _ in 0..self.steps {
                    // No closure: one was compiled apart, without the instruction set.
                    let mut weights = [D::weights(words); M];
                    for (v, weights) in weights.iter_mut().enumerate().skip(1) {
                        *weights = D::weights(words.add(v * LANES));
                    }
                    for r in 0..R {
                        let input = D::input(inputs[r]);
                        for v in 0..M {
                            sums[r][v] = D::add(sums[r][v], weights[v], input);
                        }
                        inputs[r] = inputs[r].add(D::INPUT_BYTES);
                    }
                    // After the last step it points behind the weights.
                    words = words.wrapping_add(self.width);
                    // A tile of one row is one of too few to have anything to fetch.
                    if R > 1 {
                        fetch(ahead.from);
                        ahead.from = ahead.from.wrapping_byte_add(ahead.step);
                    }
                }
                for v in 0..M {
                    // Without integers there are none, and none are read.
                    let at = group * self.width + (vector + v) * LANES;
                    let scales = self.scales.wrapping_add(at);
                    for r in 0..R {
                        let total = totals[r][v].as_mut_ptr().cast();
                        D::floats(sums[r][v], scales).put(total, group == 0);
                    }
                }
            }
            for r in 0..R {
                let to = self.to.add((first + r) * self.to_stride);
                let addend = self.addend.add((first + r) * self.addend_stride);
                for v in 0..M {
                    let mut total = Sixteen::<D::Floats>::load(totals[r][v].as_ptr().cast());
                    if D::INTEGER {
                        total = total.scale(rows[r].scale());
                    }
                    let at = (vector + v) * LANES;
                    total.store_sum(addend.add(at), to.add(at), self.places - at);
                }
            }
        }
    }
}
