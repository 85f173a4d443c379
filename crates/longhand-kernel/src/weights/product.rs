//! One panel of weights against some rows of activations: tiles of sums held in registers.

use std::mem::MaybeUninit;

use super::forms::{self, Dot, Sixteen};
use super::operand::Row;
use super::{Format, GROUP, Operand, Panels};
use crate::level::Level;
use crate::simd::{Vector, fetch};

/// Rows of a matrix that stand side by side.
pub(super) const LANES: usize = 16;
/// Rows of a matrix in a panel.
pub(crate) const PANEL: usize = 64;

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Addend<'a> {
    /// What stands there.
    There,
    /// For every row, these values, one for each place.
    Row(&'a [f32]),
}

/// Zeros as an [`Addend`].
pub(crate) const NOTHING_ADDED: Addend = Addend::Row(&[0.0; PANEL]);

/// `to[i][place] = addend + Σ_k W[place][k] · x_i[k]` for `count` rows x and the first `places` of
/// a panel. Row i of the operand is `first + i · step`.
///
/// # Safety
/// `to` holds `count` rows of `places` elements, `to_stride` apart, which nothing else touches.
///
/// # Panics
/// If format or columns of operand and panels differ, or a row or place is out of range.
pub(crate) unsafe fn add_product(
    level: Level,
    panels: &Panels,
    panel: usize,
    operand: &Operand,
    [first, step, count]: [usize; 3],
    addend: Addend,
    to: *mut f32,
    to_stride: usize,
    places: usize,
) {
    let columns = panels.shape()[1];
    assert!(operand.format() == panels.format() && operand.columns() == columns);
    assert!(places <= panels.width(panel));
    if count == 0 || places == 0 {
        return;
    }
    assert!(first + (count - 1) * step < operand.rows());
    let (addend, addend_stride) = match addend {
        Addend::There => (to.cast_const(), to_stride),
        Addend::Row(row) => {
            assert!(row.len() >= places, "a value for each place");
            (row.as_ptr(), 0)
        }
    };
    let groups = if panels.format() == Format::Int4 { columns.div_ceil(GROUP) } else { 1 };
    let task = Task {
        words: panels.words(panel).as_ptr(),
        behind: panels.words(panel).as_ptr_range().end,
        scales: panels.scales(panel).as_ptr(),
        width: panels.width(panel),
        groups,
        steps: panels.format().steps(columns).checked_div(groups).unwrap_or(0),
        operand,
        rows: [first, step, count],
        addend,
        addend_stride,
        to,
        to_stride,
        places,
    };
    // SAFETY: the sizes are checked above, and the level by the processor.
    unsafe { forms::run(level, panels.format(), &task) }
}

/// Fewer tiles than this read a panel too fast to fetch another one meanwhile.
const FEWEST_FETCHING: usize = 4;

/// What is brought nearer step by step.
#[derive(Clone, Copy)]
struct Ahead {
    from: *const f32,
    /// Bytes from step to step; 0 for nothing.
    step: usize,
}

/// A checked call.
pub(super) struct Task<'a> {
    /// Groups × steps × width words.
    words: *const f32,
    /// Where the next panel's words begin, if there is one.
    behind: *const f32,
    /// Groups × width.
    scales: *const f32,
    /// Places of the panel.
    width: usize,
    groups: usize,
    /// Steps of a group.
    steps: usize,
    operand: &'a Operand,
    rows: [usize; 3],
    /// Rows like those of `to`, so far apart.
    addend: *const f32,
    addend_stride: usize,
    to: *mut f32,
    to_stride: usize,
    places: usize,
}

impl Task<'_> {
    /// Cuts the task into tiles. Each of many tiles also fetches its part of the panel that lies
    /// behind this one, which is probably the next to be read, from farther caches.
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
                    // After the last step it stands behind the weights.
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

impl<V: Vector> Sixteen<V> {
    const PARTS: usize = LANES / V::LANES;

    #[inline(always)]
    pub(super) unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction set, here and below.
        unsafe { Self([V::zero(); 2]) }
    }

    #[inline(always)]
    pub(super) unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives sixteen values.
        unsafe {
            let mut all = Self::zero();
            for i in 0..Self::PARTS {
                all.0[i] = V::load(from.add(i * V::LANES));
            }
            all
        }
    }

    #[inline(always)]
    pub(super) unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut all = self;
        for i in 0..Self::PARTS {
            // SAFETY: as in `zero`.
            all.0[i] = unsafe { self.0[i].mul_add(factor.0[i], addend.0[i]) };
        }
        all
    }

    #[inline(always)]
    pub(super) unsafe fn splat(value: f32) -> Self {
        // SAFETY: as in `zero`.
        unsafe { Self([V::splat(value); 2]) }
    }

    #[inline(always)]
    pub(super) unsafe fn mul(self, other: Self) -> Self {
        let mut all = self;
        for i in 0..Self::PARTS {
            // SAFETY: as in `zero`.
            all.0[i] = unsafe { self.0[i].mul(other.0[i]) };
        }
        all
    }

    #[inline(always)]
    unsafe fn scale(self, factor: f32) -> Self {
        // SAFETY: as in `zero`.
        unsafe { self.mul(Self::splat(factor)) }
    }

    /// Becomes what stands there, or is added to it.
    #[inline(always)]
    unsafe fn put(self, to: *mut f32, replace: bool) {
        for i in 0..Self::PARTS {
            // SAFETY: the caller gives room for sixteen values, and values unless they are replaced.
            unsafe {
                let to = to.add(i * V::LANES);
                let sum = if replace { self.0[i] } else { V::load(to).add(self.0[i]) };
                sum.store(to);
            }
        }
    }

    /// Stores the sum with the first `count` of other values.
    #[inline(always)]
    unsafe fn store_sum(self, other: *const f32, to: *mut f32, count: usize) {
        for i in 0..Self::PARTS {
            let at = i * V::LANES;
            // SAFETY: the caller gives `count` values of both.
            unsafe {
                let (other, to) = (other.add(at), to.add(at));
                if count >= at + V::LANES {
                    V::load(other).add(self.0[i]).store(to);
                } else if count > at {
                    V::load_first(other, count - at).add(self.0[i]).store_first(to, count - at);
                }
            }
        }
    }
}
