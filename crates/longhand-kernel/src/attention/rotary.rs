//! Rotary positions (Su et al., "RoFormer", 2021): features i and i + K/2 of a query or key are
//! rotated by the angle `position · base^(−2i/K)`, so that their product depends on the distance
//! alone. The pairing of halves is that of GPT-NeoX and of Llama on the hub.

use crate::level::Level;
use crate::real::Real;
use crate::simd::{Kernel, Vector};

/// The frequencies of rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// The slowest feature turns about once in 2π · base positions.
    pub base: f64,
}

impl Default for Rotary {
    fn default() -> Self {
        Self { base: 10_000.0 }
    }
}

impl Rotary {
    /// Radians per position of feature pair i of a head of `width` features.
    pub(super) fn frequency(self, i: usize, width: usize) -> f64 {
        self.base.powf(-2.0 * i as f64 / width as f64)
    }

    /// Cosines, then sines, of the K/2 angles of each position from `start` on. `table` has `width`
    /// elements for each position.
    ///
    /// The first position's angles are computed in double precision, and the next are rotated
    /// from it in double precision: callers start anew every few dozen positions, so that the
    /// result is the nearest `f32` or one beside it at any position a stream can reach.
    pub(super) fn fill(self, start: u64, width: usize, table: &mut [f32]) {
        // Pairs beside each other, so that one rotation need not wait for the one before.
        const PAIRS: usize = 16;
        let (half, turns) = (width / 2, table.len() > width);
        for from in (0..half).step_by(PAIRS) {
            let count = PAIRS.min(half - from);
            let [mut sin, mut cos, mut step_sin, mut step_cos] = [[0.0f64; PAIRS]; 4];
            for i in 0..count {
                let frequency = self.frequency(from + i, width);
                if turns {
                    (step_sin[i], step_cos[i]) = frequency.sin_cos();
                }
                (sin[i], cos[i]) = (start as f64 * frequency).sin_cos();
            }
            for angles in table.chunks_exact_mut(width) {
                let (cosines, sines) = angles.split_at_mut(half);
                for (i, to) in cosines[from..from + count].iter_mut().enumerate() {
                    *to = cos[i] as f32;
                }
                for (i, to) in sines[from..from + count].iter_mut().enumerate() {
                    *to = sin[i] as f32;
                }
                for i in 0..PAIRS {
                    let (s, c) = (sin[i], cos[i]);
                    cos[i] = c * step_cos[i] - s * step_sin[i];
                    sin[i] = s * step_cos[i] + c * step_sin[i];
                }
            }
        }
    }
}

/// The rotary angles of the current positions, computed once and reused by every layer.
#[derive(Default)]
pub struct Angles {
    /// K and the frequencies that `table` was filled for; none before the first use.
    of: Option<(usize, Rotary)>,
    positions: Vec<u64>,
    /// `[B, K]`: the angles of each position, as [`Rotary::fill`] writes them.
    table: Vec<f32>,
}

impl Angles {
    /// The angles of these positions, as [`Rotary::fill`] writes them.
    pub(super) fn at(&mut self, rotary: Rotary, width: usize, positions: &[u64]) -> &[f32] {
        if self.of != Some((width, rotary)) || self.positions != positions {
            self.of = Some((width, rotary));
            self.positions.clear();
            self.positions.extend_from_slice(positions);
            self.table.resize(positions.len() * width, 0.0);
            for (&position, table) in positions.iter().zip(self.table.chunks_exact_mut(width)) {
                rotary.fill(position, width, table);
            }
        }
        &self.table
    }
}

/// [`Vector::load_first`] without a mask where whole vectors are left.
#[inline(always)]
unsafe fn load<V: Vector>(from: *const f32, left: usize) -> V {
    // SAFETY: as the caller promises.
    unsafe { if left >= V::LANES { V::load(from) } else { V::load_first(from, left) } }
}

/// [`Vector::store_first`] without a mask where whole vectors are left.
#[inline(always)]
unsafe fn store<V: Vector>(value: V, to: *mut f32, left: usize) {
    // SAFETY: as the caller promises.
    unsafe { if left >= V::LANES { value.store(to) } else { value.store_first(to, left) } }
}

/// `to = scale · R x`, for the angles of one position: K/2 cosines, then K/2 sines; without
/// angles `to = scale · x`.
///
/// # Safety
/// The machine must have the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn rotate<V: Vector>(
    x: &[f32],
    angles: Option<&[f32]>,
    scale: f32,
    to: &mut [f32],
) {
    let width = x.len();
    assert!(to.len() == width && angles.is_none_or(|angles| angles.len() == width));
    let (x, to, half) = (x.as_ptr(), to.as_mut_ptr(), width / 2);
    // SAFETY: all have `width` elements, and only the lanes within are touched.
    unsafe {
        let scale = V::splat(scale);
        let Some(angles) = angles else {
            for i in (0..width).step_by(V::LANES) {
                let x = load::<V>(x.add(i), width - i);
                store(x.mul(scale), to.add(i), width - i);
            }
            return;
        };
        for i in (0..half).step_by(V::LANES) {
            let n = half - i;
            let cos = load::<V>(angles.as_ptr().add(i), n).mul(scale);
            let sin = load::<V>(angles.as_ptr().add(half + i), n).mul(scale);
            let (x1, x2) = (load::<V>(x.add(i), n), load::<V>(x.add(half + i), n));
            store(x1.mul(cos).sub(x2.mul(sin)), to.add(i), n);
            store(x2.mul_add(cos, x1.mul(sin)), to.add(half + i), n);
        }
    }
}

/// `to += scale · Rᵀ x`: the gradient and the inverse of [`rotate`].
///
/// # Safety
/// The machine must have the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn add_rotated_back<V: Vector>(
    x: &[f32],
    angles: Option<&[f32]>,
    scale: f32,
    to: &mut [f32],
) {
    let width = x.len();
    assert!(to.len() == width && angles.is_none_or(|angles| angles.len() == width));
    let (x, to, half) = (x.as_ptr(), to.as_mut_ptr(), width / 2);
    // SAFETY: all have `width` elements, and only the lanes within are touched.
    unsafe {
        let scale = V::splat(scale);
        let Some(angles) = angles else {
            for i in (0..width).step_by(V::LANES) {
                let value = load::<V>(x.add(i), width - i).mul(scale);
                add(value, to.add(i), width - i);
            }
            return;
        };
        for i in (0..half).step_by(V::LANES) {
            let n = half - i;
            let cos = load::<V>(angles.as_ptr().add(i), n).mul(scale);
            let sin = load::<V>(angles.as_ptr().add(half + i), n).mul(scale);
            let (x1, x2) = (load::<V>(x.add(i), n), load::<V>(x.add(half + i), n));
            add(x1.mul_add(cos, x2.mul(sin)), to.add(i), n);
            add(x2.mul(cos).sub(x1.mul(sin)), to.add(half + i), n);
        }
    }
}

/// Adds to the elements at `to`, of which `left` are left.
#[inline(always)]
unsafe fn add<V: Vector>(value: V, to: *mut f32, left: usize) {
    // SAFETY: as the caller promises.
    unsafe { store(load::<V>(to, left).add(value), to, left) }
}

/// [`rotate`] for a few rows: adjacent heads in `x` and `to`.
pub(super) fn rotate_heads(
    level: Level,
    x: &[f32],
    angles: Option<&[f32]>,
    scale: f32,
    width: usize,
    to: &mut [f32],
) {
    struct Heads<'a>(&'a [f32], Option<&'a [f32]>, f32, usize, &'a mut [f32]);
    impl Kernel for Heads<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            let Self(x, angles, scale, width, to) = self;
            for (x, to) in x.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
                // SAFETY: the caller has the instruction set.
                unsafe { rotate::<V>(x, angles, scale, to) }
            }
        }
    }
    level.run(Heads(x, angles, scale, width, to));
}

/// The plain form: rotates `x` in place; `direction` is 1, or −1 for the inverse.
pub(super) fn rotate_reference<R: Real>(
    rotary: Rotary,
    position: u64,
    direction: f64,
    x: &mut [R],
) {
    let half = x.len() / 2;
    for i in 0..half {
        let angle = position as f64 * rotary.frequency(i, x.len());
        let (sin, cos) = angle.sin_cos();
        let (sin, cos) = (R::from_f64(direction * sin), R::from_f64(cos));
        (x[i], x[i + half]) = (x[i] * cos - x[i + half] * sin, x[i + half] * cos + x[i] * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, levels, values, wide};

    struct Back<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl Kernel for Back<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            // SAFETY: the caller has the instruction set.
            unsafe { add_rotated_back::<V>(self.0, Some(self.1), 1.0, self.2) }
        }
    }

    #[test]
    fn the_table_is_exact_far_into_a_stream() {
        for level in levels() {
            for start in [0, 7, 1_000_000, 1 << 28] {
                for width in [2, 32, 40] {
                    let mut table = vec![0.0; 64 * width];
                    Rotary::default().fill(start, width, &mut table);
                    for (p, angles) in table.chunks(width).enumerate() {
                        let x = values(width, p as u64);
                        let mut exact = wide(&x);
                        rotate_reference(Rotary::default(), start + p as u64, 1.0, &mut exact);
                        let mut got = vec![0.0; width];
                        rotate_heads(level, &x, Some(angles), 1.0, width, &mut got);
                        close("rotated", &got, &exact, 3e-7);
                        let mut back = vec![0.0; width];
                        level.run(Back(&got, angles, &mut back));
                        close("rotated back", &back, &wide(&x), 5e-7);
                    }
                }
            }
        }
    }

    #[test]
    fn kept_angles_are_those_of_what_is_asked_for() {
        let mut kept = Angles::default();
        let slow = Rotary { base: 500_000.0 };
        for (rotary, width, positions) in [
            (Rotary::default(), 8, &[3, 1 << 20][..]),
            (Rotary::default(), 8, &[3, 1 << 20]),
            (Rotary::default(), 8, &[4, 1 << 20]),
            (Rotary::default(), 12, &[4, 1 << 20]),
            (slow, 12, &[4, 1 << 20]),
            (slow, 12, &[4]),
        ] {
            let mut exact = vec![0.0; positions.len() * width];
            for (&position, table) in positions.iter().zip(exact.chunks_mut(width)) {
                rotary.fill(position, width, table);
            }
            assert_eq!(kept.at(rotary, width, positions), exact);
        }
    }
}
