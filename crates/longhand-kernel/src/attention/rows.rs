//! Rows of one head: gathered from the rows of a batch, and scattered back.

use std::ops::Range;

use super::rotary::{add_rotated_back, rotate};
use crate::cpu::Shards;
use crate::simd::{self, Kernel, Vector};

/// Gathers the rows of one head; rows past `count` become zeros.
pub(super) struct Gather<'a, At> {
    pub(super) dy: &'a [f32],
    pub(super) width: usize,
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) at: At,
    pub(super) to: &'a mut [f32],
}

impl<At: Fn(usize) -> usize> Kernel for Gather<'_, At> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (r, to) in self.to.chunks_exact_mut(self.stride).enumerate() {
            let to = &mut to[..self.width];
            if r < self.count {
                let from = &self.dy[(self.at)(r)..][..self.width];
                // SAFETY: the caller has the instruction set.
                unsafe { rotate::<V>(from, None, 1.0, to) }
            } else {
                to.fill(0.0);
            }
        }
    }
}

/// Scatters rows, each times its scale: row r goes to `to[at(r)..]`.
pub(super) struct Normalise<'a, 'b, At> {
    /// `[count, stride]`: the rows to scale.
    pub(super) from: &'a [f32],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) scales: &'a [f32],
    pub(super) to: &'a Shards<'b, f32>,
    pub(super) at: At,
}

impl<At: Fn(usize) -> usize> Kernel for Normalise<'_, '_, At> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (r, &scale) in self.scales.iter().enumerate().take(self.count) {
            let from = &self.from[r * self.stride..][..self.width];
            let at = (self.at)(r);
            // SAFETY: the task that runs this alone writes these features of this position, and
            // the caller has the instruction set.
            unsafe { rotate::<V>(from, None, scale, self.to.part(at..at + self.width)) }
        }
    }
}

/// Rotates rows back and adds them to the rows of a batch: row r goes to `to[at(r)..]`.
pub(super) struct AddRows<'a, 'b, At> {
    /// `[count, stride]`: the rows to add.
    pub(super) from: &'a [f32],
    pub(super) stride: usize,
    pub(super) width: usize,
    pub(super) count: usize,
    /// `[count, K]`: the angles by which the rows were rotated, if they were.
    pub(super) angles: Option<&'a [f32]>,
    pub(super) scale: f32,
    pub(super) to: &'a Shards<'b, f32>,
    pub(super) at: At,
}

impl<At: Fn(usize) -> usize> Kernel for AddRows<'_, '_, At> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let width = self.width;
        for r in 0..self.count {
            let from = &self.from[r * self.stride..][..width];
            let at = (self.at)(r);
            // SAFETY: the task that runs this alone writes these features of this position.
            let to = unsafe { self.to.part(at..at + width) };
            let angles = self.angles.map(|angles| &angles[r * width..][..width]);
            // SAFETY: the caller has the instruction set.
            unsafe { add_rotated_back::<V>(from, angles, self.scale, to) }
        }
    }
}

/// Asks the caches for elements that will soon be read.
pub(super) fn fetch(elements: &[f32]) {
    for element in elements.iter().step_by(LINE) {
        simd::fetch(element);
    }
}

/// Asks the caches for elements that will soon be written.
pub(super) fn fetch_to_write(elements: &Shards<f32>, range: Range<usize>) {
    for at in range.step_by(LINE) {
        simd::fetch(elements.pointer().wrapping_add(at));
    }
}

/// Elements of a cache line.
const LINE: usize = 16;
