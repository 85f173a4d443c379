//! The format of the KV cache: `f32`, or bf16 with two features in a word of 32 bits.
//!
//! In bf16, word i of a head holds feature i in its lower half and feature i + K/2 in its upper
//! half, so that vectors of words become vectors of adjacent features.

use crate::level::Level;
use crate::precision::Precision;
use crate::simd::{Kernel, Vector};

/// Words of 32 bits that store a head of `width` features.
pub fn words(cache: Precision, width: usize) -> usize {
    match cache {
        Precision::F32 => width,
        Precision::Bf16 => width / 2,
    }
}

/// Stores adjacent heads of `width` features: `words` from `values`, rounded to the format.
///
/// # Panics
/// If the two lengths are not the same whole number of heads.
pub fn encode(level: Level, cache: Precision, width: usize, values: &[f32], words: &mut [f32]) {
    check(cache, width, values.len(), words.len());
    match cache {
        Precision::F32 => words.copy_from_slice(values),
        Precision::Bf16 => level.run(Encode { width, values, words }),
    }
}

/// Reads adjacent heads back: `values` from `words`, exactly.
///
/// # Panics
/// If the two lengths are not the same whole number of heads.
pub fn decode(level: Level, cache: Precision, width: usize, words: &[f32], values: &mut [f32]) {
    check(cache, width, values.len(), words.len());
    match cache {
        Precision::F32 => values.copy_from_slice(words),
        Precision::Bf16 => level.run(Decode { width, words, values }),
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

struct Encode<'a> {
    width: usize,
    values: &'a [f32],
    words: &'a mut [f32],
}

impl Kernel for Encode<'_> {
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

struct Decode<'a> {
    width: usize,
    words: &'a [f32],
    values: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let half = self.width / 2;
        let heads = self.words.chunks_exact(half).zip(self.values.chunks_exact_mut(self.width));
        for (words, values) in heads {
            let (to_lower, to_upper) = values.split_at_mut(half);
            for i in (0..half).step_by(V::LANES) {
                // SAFETY: as in `Encode`.
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

/// The reading of a stored head in place, by a decode step.
pub(super) trait Held {
    /// One vector of the lower half from feature i on, and one of the upper half. Where they are not
    /// the `last` of their half they have all lanes; lanes past the end of a half are zero.
    ///
    /// # Safety
    /// The machine has the instruction set of `V`, and `head` points to a head of `width` features.
    unsafe fn halves<V: Vector>(head: *const f32, i: usize, width: usize, last: bool) -> [V; 2];
}

/// Features in the lower half of a head.
pub(super) fn lower_half(width: usize) -> usize {
    width.div_ceil(2)
}

/// Heads stored in `f32`, one word per feature.
pub(super) struct Whole;

impl Held for Whole {
    #[inline(always)]
    unsafe fn halves<V: Vector>(head: *const f32, i: usize, width: usize, last: bool) -> [V; 2] {
        let half = lower_half(width);
        // SAFETY: the lanes that are touched are the head's.
        unsafe {
            if !last {
                return [V::load(head.add(i)), V::load(head.add(half + i))];
            }
            [
                V::load_first(head.add(i), half - i),
                V::load_first(head.wrapping_add(half + i), (width - half).saturating_sub(i)),
            ]
        }
    }
}

/// Heads stored in bf16, two features per word.
pub(super) struct Halves;

impl Held for Halves {
    #[inline(always)]
    unsafe fn halves<V: Vector>(head: *const f32, i: usize, width: usize, last: bool) -> [V; 2] {
        // SAFETY: as above.
        unsafe {
            let at = head.add(i);
            if last { V::load_first(at, width / 2 - i) } else { V::load(at) }.split_bf16()
        }
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
                    encode(level, cache, width, &given, &mut held);
                    let mut back = vec![f32::NAN; given.len()];
                    decode(level, cache, width, &held, &mut back);
                    let rounded: Vec<f32> = given.iter().map(|&x| cache.round(x)).collect();
                    assert_eq!(back, rounded, "{level:?} {cache} {width}");
                    let before = held.clone();
                    encode(level, cache, width, &back, &mut held);
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
        encode(Level::detect(), Precision::Bf16, 4, &[0.0; 8], &mut [0.0; 3]);
    }
}
