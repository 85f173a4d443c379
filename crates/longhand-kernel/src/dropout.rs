//! Dropout in the forms recurrent networks need.
//!
//! No mask is stored: whether an element is kept is a hash of (seed, place), computed again in the
//! backward pass, the same on every machine and for any number of threads. Kept elements are scaled
//! by 1 / (1 − p), so that evaluation needs no dropout and no scaling.
//!
//! Weight-drop (Merity et al., "Regularizing and optimizing LSTM language models", 2018) is
//! [`Pattern::Elements`] on a recurrent weight matrix: [`forward`] makes the masked copy, and
//! [`backward`] masks the gradient of that copy and adds it to the weight's.

use crate::cpu::{Cpu, Shards};
use crate::pointwise::{SERIAL_ELEMENTS, for_parts, for_rows};
use crate::random::split_mix64;
use crate::simd::{Kernel, Vector};

/// Which elements are dropped together.
#[derive(Clone, Copy, Debug)]
pub enum Pattern<'a> {
    /// Each one by itself.
    Elements,
    /// x is [T·B, D]: one choice per sequence and feature, held over time (Gal & Ghahramani, "A
    /// theoretically grounded application of dropout in recurrent neural networks", 2016).
    Locked {
        /// B: sequences side by side.
        batch: usize,
        /// D: features of a row.
        width: usize,
    },
    /// x is [T·B, D]: whole sequences.
    Sequences {
        /// B: sequences side by side.
        batch: usize,
        /// D: features of a row.
        width: usize,
    },
    /// x is [R, D]: whole rows, all of one token alike, as if rows of the embedding were dropped.
    Tokens {
        /// `[R]`: the token of each row.
        ids: &'a [u32],
        /// D: features of a row.
        width: usize,
    },
}

/// Which places are kept, and by what they are scaled.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    keys: [u32; 2],
    /// Hashes below it are dropped.
    threshold: u32,
    scale: f32,
}

impl Mask {
    /// Drops with `probability`, differently for each `seed`.
    ///
    /// # Panics
    /// If the probability is not in [0, 1).
    pub fn new(seed: u64, probability: f32) -> Self {
        assert!((0.0..1.0).contains(&probability), "a dropout of {probability} is not in [0, 1)");
        let key = split_mix64(seed);
        Self {
            keys: [key as u32, (key >> 32) as u32],
            threshold: (f64::from(probability) * f64::from(u32::MAX)) as u32,
            scale: 1.0 / (1.0 - probability),
        }
    }

    /// The same choices, what is kept unscaled: for training in which something may be missing as
    /// a whole, rather than noise around a mean.
    pub fn unscaled(self) -> Self {
        Self { scale: 1.0, ..self }
    }

    /// The factor of the element at `place`: 0, or 1 / (1 − p), or 1 if unscaled.
    #[inline(always)]
    pub fn factor(self, place: u32) -> f32 {
        let hash = mix(mix(place ^ self.keys[0]).wrapping_add(self.keys[1]));
        if hash < self.threshold { 0.0 } else { self.scale }
    }
}

/// y = x ∘ mask.
///
/// # Panics
/// If the lengths differ, are not whole rows of the pattern, or exceed 2³² elements.
pub fn forward(cpu: &Cpu, mask: Mask, pattern: Pattern, x: &[f32], y: &mut [f32]) {
    apply::<false>(cpu, mask, pattern, x, y);
}

/// dx += dy ∘ mask.
///
/// # Panics
/// The panics of [`forward`] for these sizes.
pub fn backward(cpu: &Cpu, mask: Mask, pattern: Pattern, dy: &[f32], dx: &mut [f32]) {
    apply::<true>(cpu, mask, pattern, dy, dx);
}

/// A bijection of 32 bits in which each input bit turns about half of the output bits (the
/// constants of Wellons' search for such functions, "lowbias32", 2018).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

fn apply<const ADD: bool>(cpu: &Cpu, mask: Mask, pattern: Pattern, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "dropout keeps the size");
    assert!(u32::try_from(x.len()).is_ok(), "dropout of more than 2³² elements");
    let (rows, width) = match pattern {
        Pattern::Elements => {
            let y = Shards::new(y);
            return for_parts(cpu, x.len(), 16, SERIAL_ELEMENTS, |worker, range| {
                // SAFETY: the parts are disjoint.
                let y = unsafe { y.part(range.clone()) };
                let start = range.start as u32;
                worker.level.run(Places::<ADD> { mask, start, x: &x[range], y });
            });
        }
        Pattern::Locked { batch, width } | Pattern::Sequences { batch, width } => {
            let rows = x.len().checked_div(width).unwrap_or(0);
            assert!(batch == 0 || rows % batch == 0, "{rows} rows are not whole steps of {batch}");
            (rows, width)
        }
        Pattern::Tokens { ids, width } => (ids.len(), width),
    };
    assert_eq!(x.len(), rows * width, "whole rows of {width}");
    let y = Shards::new(y);
    for_rows(cpu, rows, width, |worker, range| {
        for r in range {
            let x = &x[r * width..(r + 1) * width];
            // SAFETY: each row belongs to one thread.
            let y = unsafe { y.part(r * width..(r + 1) * width) };
            match pattern {
                Pattern::Tokens { ids, .. } => {
                    worker.level.run(Row::<ADD> { factor: mask.factor(ids[r]), x, y });
                }
                Pattern::Sequences { batch, .. } => {
                    let factor = mask.factor((r % batch) as u32);
                    worker.level.run(Row::<ADD> { factor, x, y });
                }
                Pattern::Locked { batch, .. } => {
                    let start = (r % batch * width) as u32;
                    worker.level.run(Places::<ADD> { mask, start, x, y });
                }
                Pattern::Elements => {}
            }
        }
    });
}

/// Elements at places from `start` on. Written over plain integers, which the compiler turns into
/// vectors of the instruction set it is entered with.
struct Places<'a, const ADD: bool> {
    mask: Mask,
    start: u32,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<const ADD: bool> Kernel for Places<'_, ADD> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (i, (y, &x)) in self.y.iter_mut().zip(self.x).enumerate() {
            write::<ADD>(y, x, self.mask.factor(self.start.wrapping_add(i as u32)));
        }
    }
}

struct Row<'a, const ADD: bool> {
    factor: f32,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<const ADD: bool> Kernel for Row<'_, ADD> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            write::<ADD>(y, x, self.factor);
        }
    }
}

/// A dropped element becomes zero, even if it was infinite.
#[inline(always)]
fn write<const ADD: bool>(y: &mut f32, x: f32, factor: f32) {
    let value = if factor == 0.0 { 0.0 } else { x * factor };
    *y = if ADD { *y + value } else { value };
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::{Mask, Pattern};
    use crate::real::Real;

    /// The factor of each of `len` elements, by which y = x ∘ factors and dx += dy ∘ factors.
    pub fn factors<R: Real>(mask: Mask, pattern: Pattern, len: usize) -> Vec<R> {
        let place = |i: usize| match pattern {
            Pattern::Elements => i as u32,
            Pattern::Locked { batch, width } => (i % (batch * width)) as u32,
            Pattern::Sequences { batch, width } => (i / width % batch) as u32,
            Pattern::Tokens { ids, width } => ids[i / width],
        };
        (0..len).map(|i| R::from_f64(f64::from(mask.factor(place(i))))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{levels, values};

    #[test]
    fn every_pattern_follows_the_reference_everywhere() {
        let ids: Vec<u32> = (0..700).map(|i| i * i % 13).collect();
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (rows, batch, width) in [(0, 1, 3), (1, 1, 1), (12, 3, 17), (700, 7, 70)] {
                    let (x, start) = (values(rows * width, 1), values(rows * width, 2));
                    for pattern in [
                        Pattern::Elements,
                        Pattern::Locked { batch, width },
                        Pattern::Sequences { batch, width },
                        Pattern::Tokens { ids: &ids[..rows], width },
                    ] {
                        let mask = Mask::new(5, 0.3);
                        let factors: Vec<f32> = reference::factors(mask, pattern, x.len());
                        let mut y = vec![9.0; x.len()];
                        forward(&cpu, mask, pattern, &x, &mut y);
                        assert!((0..x.len()).all(|i| y[i] == x[i] * factors[i]));
                        let mut dx = start.clone();
                        backward(&cpu, mask, pattern, &x, &mut dx);
                        let sum = |i: usize| start[i] + x[i] * factors[i];
                        assert!((0..x.len()).all(|i| (dx[i] - sum(i)).abs() < 1e-6));
                    }
                }
            }
        }
    }

    #[test]
    fn a_locked_choice_holds_over_time_and_differs_between_sequences() {
        let (time, batch, width) = (5, 4, 100);
        let factors: Vec<f64> = reference::factors(
            Mask::new(1, 0.5),
            Pattern::Locked { batch, width },
            time * batch * width,
        );
        let steps: Vec<_> = factors.chunks(batch * width).collect();
        assert!(steps.iter().all(|step| *step == steps[0]));
        assert_ne!(factors[..width], factors[width..2 * width]);
    }

    #[test]
    fn the_share_dropped_is_the_probability() {
        let count = 1 << 20;
        for (seed, probability) in [(0, 0.0), (1, 0.1), (2, 0.5), (3, 0.9)] {
            let factors: Vec<f64> =
                reference::factors(Mask::new(seed, probability), Pattern::Elements, count);
            let dropped = factors.iter().filter(|&&factor| factor == 0.0).count() as f64;
            let (n, p) = (count as f64, f64::from(probability));
            assert!((dropped - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt(), "{dropped}");
            // Neighbours and the same place under the next seed are independent.
            let other: Vec<f64> =
                reference::factors(Mask::new(seed + 1, probability), Pattern::Elements, count);
            let both = |pairs: usize| pairs as f64 - n * p * p;
            let next = factors.windows(2).filter(|pair| pair[0] + pair[1] == 0.0).count();
            let same = factors.iter().zip(&other).filter(|(a, b)| **a + **b == 0.0).count();
            let bound = 5.0 * (n * p * p).sqrt();
            assert!(both(next).abs() <= bound && both(same).abs() <= bound, "{next} {same}");
        }
    }

    #[test]
    fn what_is_dropped_is_zero_whatever_it_was() {
        let mask = Mask::new(1, 0.5);
        let x = [f32::INFINITY; 64];
        let mut y = [1.0; 64];
        forward(&Cpu::new(1), mask, Pattern::Elements, &x, &mut y);
        assert!(y.iter().all(|&y| y == 0.0 || y == f32::INFINITY) && y.contains(&0.0));
    }
}
