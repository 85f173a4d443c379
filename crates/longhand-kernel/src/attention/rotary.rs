//! Rotary positions (Su et al., "RoFormer", 2021): features i and i + K/2 of a query or key are
//! turned by the angle `position · base^(−2i/K)`, so that their product depends on the distance
//! alone. The pairing of halves is that of GPT-NeoX and of Llama on the hub.

use crate::real::Real;

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

    /// Cosines, then sines, of the K/2 angles of each position from `start` on; `width` elements
    /// per position.
    ///
    /// The first position's angles are computed in double precision, and the next are turned
    /// from it in double precision: callers start anew every few dozen positions, so that the
    /// result is the nearest `f32` or one beside it at any position a stream can reach.
    pub(super) fn fill(self, start: u64, width: usize, table: &mut [f32]) {
        for i in 0..width / 2 {
            let frequency = self.frequency(i, width);
            let (step_sin, step_cos) = frequency.sin_cos();
            let (mut sin, mut cos) = (start as f64 * frequency).sin_cos();
            for angles in table.chunks_exact_mut(width) {
                angles[i] = cos as f32;
                angles[width / 2 + i] = sin as f32;
                (cos, sin) = (cos * step_cos - sin * step_sin, sin * step_cos + cos * step_sin);
            }
        }
    }
}

/// `to = scale · R x`, for the angles of one position.
#[inline(always)]
pub(super) fn rotate(x: &[f32], angles: &[f32], scale: f32, to: &mut [f32]) {
    let half = x.len() / 2;
    let (x1, x2) = x.split_at(half);
    let (cos, sin) = angles.split_at(half);
    let (to1, to2) = to.split_at_mut(half);
    for i in 0..half {
        to1[i] = (x1[i] * cos[i] - x2[i] * sin[i]) * scale;
        to2[i] = (x2[i] * cos[i] + x1[i] * sin[i]) * scale;
    }
}

/// `to += scale · Rᵀ x`: the gradient of [`rotate`], and its inverse.
#[inline(always)]
pub(super) fn add_rotated_back(x: &[f32], angles: &[f32], scale: f32, to: &mut [f32]) {
    let half = x.len() / 2;
    let (x1, x2) = x.split_at(half);
    let (cos, sin) = angles.split_at(half);
    let (to1, to2) = to.split_at_mut(half);
    for i in 0..half {
        to1[i] += (x1[i] * cos[i] + x2[i] * sin[i]) * scale;
        to2[i] += (x2[i] * cos[i] - x1[i] * sin[i]) * scale;
    }
}

/// The plain form: turns `x` in place; `direction` is 1, or −1 for the inverse.
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
    use crate::testing::{close, values, wide};

    #[test]
    fn the_table_is_exact_far_into_a_stream() {
        for start in [0, 7, 1_000_000, 1 << 28] {
            let (width, positions) = (32, 64);
            let mut table = vec![0.0; positions * width];
            Rotary::default().fill(start, width, &mut table);
            for (p, angles) in table.chunks(width).enumerate() {
                let x = values(width, p as u64);
                let mut exact = wide(&x);
                rotate_reference(Rotary::default(), start + p as u64, 1.0, &mut exact);
                let mut got = vec![0.0; width];
                rotate(&x, angles, 1.0, &mut got);
                close("rotated", &got, &exact, 3e-7);
                let mut back = vec![0.0; width];
                add_rotated_back(&got, angles, 1.0, &mut back);
                close("turned back", &back, &wide(&x), 5e-7);
            }
        }
    }
}
