//! Carried keys and values as they are held: in `f32`, or in bf16 with two features to a word of 32
//! bits. Word i of a head holds feature i in its lower half and feature i + K/2 in its upper one, so
//! that vectors of words become vectors of adjacent features.

use crate::level::Level;
use crate::precision::Precision;
use crate::simd::{Kernel, Vector};

/// Words that hold a head of `width` features.
pub fn words(cache: Precision, width: usize) -> usize {
    match cache {
        Precision::F32 => width,
        Precision::Bf16 => width / 2,
    }
}

/// Holds heads of `width` features that stand side by side: `words` from `values`, rounded.
///
/// # Panics
/// If a length is not a whole number of heads, or not of as many as the other.
pub fn hold(level: Level, cache: Precision, width: usize, values: &[f32], words: &mut [f32]) {
    check(cache, width, values.len(), words.len());
    match cache {
        Precision::F32 => words.copy_from_slice(values),
        Precision::Bf16 => level.run(Hold { width, values, words }),
    }
}

/// What is held: `values` from `words`, exactly.
///
/// # Panics
/// As [`hold`].
pub fn recall(level: Level, cache: Precision, width: usize, words: &[f32], values: &mut [f32]) {
    check(cache, width, values.len(), words.len());
    match cache {
        Precision::F32 => values.copy_from_slice(words),
        Precision::Bf16 => level.run(Recall { width, words, values }),
    }
}

fn check(cache: Precision, width: usize, values: usize, held: usize) {
    let per_head = words(cache, width);
    assert!(cache == Precision::F32 || width.is_multiple_of(2), "halves of {width} features");
    assert!(
        values.checked_div(width) == held.checked_div(per_head)
            && values.is_multiple_of(width.max(1))
            && held.is_multiple_of(per_head.max(1)),
        "whole heads: {values} values in {held} words"
    );
}

struct Hold<'a> {
    width: usize,
    values: &'a [f32],
    words: &'a mut [f32],
}

impl Kernel for Hold<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let half = self.width / 2;
        let heads = self.values.chunks_exact(self.width).zip(self.words.chunks_exact_mut(half));
        for (values, words) in heads {
            let (lower, upper) = values.split_at(half);
            for i in (0..half).step_by(V::LANES) {
                // SAFETY: the caller has the instruction set; all three hold `half` elements.
                unsafe {
                    let lower = V::load_first(lower.as_ptr().add(i), half - i);
                    let upper = V::load_first(upper.as_ptr().add(i), half - i);
                    lower.join_bf16(upper).store_first(words.as_mut_ptr().add(i), half - i);
                }
            }
        }
    }
}

struct Recall<'a> {
    width: usize,
    words: &'a [f32],
    values: &'a mut [f32],
}

impl Kernel for Recall<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let half = self.width / 2;
        let heads = self.words.chunks_exact(half).zip(self.values.chunks_exact_mut(self.width));
        for (words, values) in heads {
            let (to_lower, to_upper) = values.split_at_mut(half);
            for i in (0..half).step_by(V::LANES) {
                // SAFETY: as in `Hold`.
                unsafe {
                    let [lower, upper] =
                        V::load_first(words.as_ptr().add(i), half - i).split_bf16();
                    lower.store_first(to_lower.as_mut_ptr().add(i), half - i);
                    upper.store_first(to_upper.as_mut_ptr().add(i), half - i);
                }
            }
        }
    }
}

/// How a step reads a head where it lies.
pub(super) trait Held {
    /// Features from i on, and from `half` + i on: as many as there are in either half of the head,
    /// and zeros.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`, and a head of `width` features is held there.
    unsafe fn halves<V: Vector>(head: *const f32, i: usize, width: usize) -> [V; 2];
}

/// The features of a head that are its lower half.
pub(super) fn lower_half(width: usize) -> usize {
    width.div_ceil(2)
}

/// In `f32`.
pub(super) struct Whole;

impl Held for Whole {
    #[inline(always)]
    unsafe fn halves<V: Vector>(head: *const f32, i: usize, width: usize) -> [V; 2] {
        let half = lower_half(width);
        // SAFETY: the lanes that are touched are the head's.
        unsafe {
            [
                V::load_first(head.add(i), half - i),
                V::load_first(head.wrapping_add(half + i), (width - half).saturating_sub(i)),
            ]
        }
    }
}

/// In bf16.
pub(super) struct Halves;

impl Held for Halves {
    #[inline(always)]
    unsafe fn halves<V: Vector>(head: *const f32, i: usize, width: usize) -> [V; 2] {
        // SAFETY: as above.
        unsafe { V::load_first(head.add(i), width / 2 - i).split_bf16() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{levels, values};

    #[test]
    fn what_is_held_comes_back_rounded_once() {
        for level in levels() {
            for cache in Precision::ALL {
                for width in [2, 6, 32, 40, 64] {
                    let given = values(3 * width, width as u64);
                    let mut held = vec![f32::NAN; 3 * words(cache, width)];
                    hold(level, cache, width, &given, &mut held);
                    let mut back = vec![f32::NAN; given.len()];
                    recall(level, cache, width, &held, &mut back);
                    let rounded: Vec<f32> = given.iter().map(|&x| cache.round(x)).collect();
                    assert_eq!(back, rounded, "{level:?} {cache} {width}");
                    let before = held.clone();
                    hold(level, cache, width, &back, &mut held);
                    let bits =
                        |words: &[f32]| words.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&held), bits(&before), "{level:?} {cache} {width}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "whole heads")]
    fn half_a_head_is_refused() {
        hold(Level::detect(), Precision::Bf16, 4, &[0.0; 8], &mut [0.0; 3]);
    }
}
