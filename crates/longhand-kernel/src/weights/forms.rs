//! The forms of a product: how each instruction set multiplies one step of sixteen rows of weights
//! with one step of a row of activations.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::dot::{Dot, Sixteen};
use super::tile::Task;
use super::{Format, LANES};
use crate::level::{InstructionSet, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Vector};

/// Runs a task in the best form of a level.
///
/// # Safety
/// The machine has the level, and the task was checked.
pub(super) unsafe fn run(level: Level, format: Format, task: &Task) {
    // Beyond vectors of 512 bits the machine itself is asked, format by format.
    let set = match level.set() {
        InstructionSet::Amx | InstructionSet::Avx512Bf16 => InstructionSet::Avx512,
        set => set,
    };
    // SAFETY: each form is entered through a function that enables what it needs, after the level
    // or the machine was asked for it.
    unsafe {
        match (set, format) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Format::F32) => avx512::<F32<Avx512, 6, 4>>(task),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Format::Bf16) if is_x86_feature_detected!("avx512bf16") => {
                avx512_bf16::<Bf16Dot>(task);
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Format::Bf16) => avx512::<Bf16<Avx512, 5, 4>>(task),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Format::Int8) if is_x86_feature_detected!("avx512vnni") => {
                avx512_vnni::<Int8Vnni>(task);
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, Format::Int4) if is_x86_feature_detected!("avx512vnni") => {
                avx512_vnni::<Int4Vnni>(task);
            }
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512 | InstructionSet::Avx2, Format::Int8) => avx2::<Int8Avx2>(task),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512 | InstructionSet::Avx2, Format::Int4) => avx2::<Int4Avx2>(task),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Format::F32) => avx2::<F32<Avx2, 3, 2>>(task),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, Format::Bf16) => avx2::<Bf16<Avx2, 3, 1>>(task),
            (_, Format::F32) => task.run::<F32<Portable, 2, 1>>(),
            (_, Format::Bf16) => task.run::<Bf16<Portable, 2, 1>>(),
            (_, Format::Int8) => task.run::<Int8Portable>(),
            (_, Format::Int4) => task.run::<Int4Portable>(),
        }
    }
}

macro_rules! entrance {
    ($name:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<D: Dot>(task: &Task) {
            // SAFETY: the caller asked for the instructions.
            unsafe { task.run::<D>() }
        }
    };
}

entrance!(avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
entrance!(avx512_bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma");
entrance!(avx512_vnni, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma");
entrance!(avx2, "avx2,fma");

/// Implements [`Dot`] for a form: rows and vectors of its tile, the bytes of activations in a step,
/// the types, and the body of each method.
macro_rules! dot {
    (
        [$($generics:tt)*] $form:ty {
            tile: $rows:expr, $vectors:expr;
            input: $bytes:literal bytes, integer: $integer:literal;
            Weights: $weights:ty;
            Input: $input:ty;
            Sums: $sums:ty;
            Floats: $floats:ty;
            start($correction:ident) $start:block
            weights($words:ident) $load:block
            input($codes:ident) $read:block
            add($before:ident, $weight:ident, $x:ident) $add:block
            floats($total:ident, $scales:ident) $finish:block
        }
    ) => {
        // SAFETY: each body is a few intrinsics or loads whose needs are the trait's contract.
        #[allow(clippy::undocumented_unsafe_blocks, unused_unsafe)]
        impl<$($generics)*> Dot for $form {
            const ROWS: usize = $rows;
            const VECTORS: usize = $vectors;
            const INPUT_BYTES: usize = $bytes;
            const INTEGER: bool = $integer;
            type Weights = $weights;
            type Input = $input;
            type Sums = $sums;
            type Floats = $floats;

            #[inline(always)]
            unsafe fn start($correction: i32) -> $sums {
                unsafe { $start }
            }
            #[inline(always)]
            unsafe fn weights($words: *const f32) -> $weights {
                unsafe { $load }
            }
            #[inline(always)]
            unsafe fn input($codes: *const u8) -> $input {
                unsafe { $read }
            }
            #[inline(always)]
            unsafe fn add($before: $sums, $weight: $weights, $x: $input) -> $sums {
                unsafe { $add }
            }
            #[inline(always)]
            unsafe fn floats($total: $sums, $scales: *const f32) -> Sixteen<$floats> {
                unsafe { $finish }
            }
        }
    };
}

/// Products of f32 weights and f32 activations.
struct F32<V, const ROWS: usize, const VECTORS: usize>(PhantomData<V>);

dot! {
    [V: Vector, const R: usize, const M: usize] F32<V, R, M> {
        tile: R, M;
        input: 4 bytes, integer: false;
        Weights: Sixteen<V>;
        Input: Sixteen<V>;
        Sums: Sixteen<V>;
        Floats: V;
        start(_correction) { Sixteen::zero() }
        weights(from) { Sixteen::load(from) }
        input(from) { Sixteen::splat(*from.cast::<f32>()) }
        add(sums, weights, input) { weights.mul_add(input, sums) }
        floats(sums, _scales) { sums }
    }
}

/// bf16 by bf16 without instructions for it: halves become `f32`.
struct Bf16<V, const ROWS: usize, const VECTORS: usize>(PhantomData<V>);

dot! {
    [V: Vector, const R: usize, const M: usize] Bf16<V, R, M> {
        tile: R, M;
        input: 4 bytes, integer: false;
        // The even columns and the odd ones.
        Weights: [Sixteen<V>; 2];
        Input: [Sixteen<V>; 2];
        Sums: Sixteen<V>;
        Floats: V;
        start(_correction) { Sixteen::zero() }
        weights(from) {
            let (mut even, mut odd) = (Sixteen::zero(), Sixteen::zero());
            for i in 0..LANES / V::LANES {
                [even.0[i], odd.0[i]] = V::load(from.add(i * V::LANES)).split_bf16();
            }
            [even, odd]
        }
        input(from) {
            let pair = *from.cast::<u32>();
            let (even, odd) = (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000));
            [Sixteen::splat(even), Sixteen::splat(odd)]
        }
        add(sums, weights, input) { weights[1].mul_add(input[1], weights[0].mul_add(input[0], sums)) }
        floats(sums, _scales) { sums }
    }
}

/// bf16 by bf16 in pairs.
#[cfg(target_arch = "x86_64")]
struct Bf16Dot;

#[cfg(target_arch = "x86_64")]
dot! {
    [] Bf16Dot {
        tile: 6, 4;
        input: 4 bytes, integer: false;
        Weights: __m512i;
        Input: __m512i;
        Sums: __m512;
        Floats: Avx512;
        start(_correction) { _mm512_setzero_ps() }
        weights(from) { _mm512_loadu_si512(from.cast()) }
        input(from) { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        add(sums, weights, input) {
            let pairs = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
            _mm512_dpbf16_ps(sums, pairs(weights), pairs(input))
        }
        floats(sums, _scales) { Sixteen([Avx512(sums), Avx512(_mm512_setzero_ps())]) }
    }
}

/// Sums of products of unsigned and signed bytes by fours.
#[cfg(target_arch = "x86_64")]
pub(super) struct Int8Vnni;

#[cfg(target_arch = "x86_64")]
dot! {
    [] Int8Vnni {
        tile: 6, 4;
        input: 4 bytes, integer: true;
        Weights: __m512i;
        Input: __m512i;
        Sums: __m512i;
        Floats: Avx512;
        start(correction) { _mm512_set1_epi32(correction) }
        weights(from) { _mm512_loadu_si512(from.cast()) }
        input(from) { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        add(sums, weights, input) { _mm512_dpbusd_epi32(sums, weights, input) }
        floats(sums, scales) {
            let floats = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(scales));
            Sixteen([Avx512(floats), Avx512(_mm512_setzero_ps())])
        }
    }
}

/// As [`Int8Vnni`], from the two halves of each byte.
#[cfg(target_arch = "x86_64")]
struct Int4Vnni;

#[cfg(target_arch = "x86_64")]
dot! {
    [] Int4Vnni {
        tile: 3, 4;
        input: 8 bytes, integer: true;
        Weights: [__m512i; 2];
        Input: [__m512i; 2];
        Sums: __m512i;
        Floats: Avx512;
        start(correction) { Int8Vnni::start(correction) }
        weights(from) {
            let (both, low) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
            [_mm512_and_si512(both, low), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low)]
        }
        input(from) { [Int8Vnni::input(from), Int8Vnni::input(from.add(4))] }
        add(sums, weights, input) {
            let sums = _mm512_dpbusd_epi32(sums, weights[0], input[0]);
            _mm512_dpbusd_epi32(sums, weights[1], input[1])
        }
        floats(sums, scales) { Int8Vnni::floats(sums, scales) }
    }
}

/// Bytes widened to sixteen bits, whose products are added by twos. The instruction that
/// multiplies bytes would saturate.
#[cfg(target_arch = "x86_64")]
struct Int8Avx2;

#[cfg(target_arch = "x86_64")]
dot! {
    [] Int8Avx2 {
        tile: 2, 1;
        input: 4 bytes, integer: true;
        // Four vectors, each of four rows of weights.
        Weights: [__m256i; 4];
        Input: __m256i;
        // Two sums for each of four rows; the correction is in the first of the two.
        Sums: [__m256i; 4];
        Floats: Avx2;
        start(correction) { [_mm256_set1_epi64x(i64::from(correction as u32)); 4] }
        weights(from) {
            let from = from.cast::<__m128i>();
            [0, 1, 2, 3].map(|i| _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(i))))
        }
        input(from) {
            _mm256_cvtepi8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned()))
        }
        add(sums, weights, input) {
            let mut all = sums;
            for (sum, weights) in all.iter_mut().zip(weights) {
                *sum = unsafe { _mm256_add_epi32(*sum, _mm256_madd_epi16(weights, input)) };
            }
            all
        }
        floats(sums, scales) {
            let eight = |a: __m256i, b: __m256i, scales: *const f32| {
                let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b));
                Avx2(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scales)))
            };
            Sixteen([eight(sums[0], sums[1], scales), eight(sums[2], sums[3], scales.add(8))])
        }
    }
}

/// As [`Int8Avx2`], from the two halves of each byte.
#[cfg(target_arch = "x86_64")]
struct Int4Avx2;

#[cfg(target_arch = "x86_64")]
dot! {
    [] Int4Avx2 {
        tile: 2, 1;
        input: 8 bytes, integer: true;
        Weights: [__m256i; 4];
        Input: [__m256i; 2];
        Sums: [__m256i; 4];
        Floats: Avx2;
        start(correction) { Int8Avx2::start(correction) }
        weights(from) { Int8Avx2::weights(from) }
        input(from) { [Int8Avx2::input(from), Int8Avx2::input(from.add(4))] }
        add(sums, weights, input) {
            let mut all = sums;
            for (sum, both) in all.iter_mut().zip(weights) {
                unsafe {
                    let low = _mm256_and_si256(both, _mm256_set1_epi16(15));
                    let high = _mm256_srli_epi16::<4>(both);
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(low, input[0]));
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(high, input[1]));
                }
            }
            all
        }
        floats(sums, scales) { Int8Avx2::floats(sums, scales) }
    }
}

/// Plain loops over bytes.
struct Int8Portable;

dot! {
    [] Int8Portable {
        tile: 2, 1;
        input: 4 bytes, integer: true;
        Weights: [[u8; 4]; LANES];
        Input: [i8; 4];
        Sums: [i32; LANES];
        Floats: Portable;
        start(correction) { [correction; LANES] }
        weights(from) { from.cast::<[[u8; 4]; LANES]>().read_unaligned() }
        input(from) { from.cast::<[i8; 4]>().read_unaligned() }
        add(sums, weights, input) {
            std::array::from_fn(|lane| {
                let products = [0, 1, 2, 3].map(|i| i32::from(weights[lane][i]) * i32::from(input[i]));
                products.into_iter().fold(sums[lane], i32::wrapping_add)
            })
        }
        floats(sums, scales) {
            let floats: [f32; LANES] = sums.map(|sum| sum as f32);
            Sixteen::load(floats.as_ptr()).mul(Sixteen::load(scales))
        }
    }
}

/// As [`Int8Portable`], from the two halves of each byte.
struct Int4Portable;

dot! {
    [] Int4Portable {
        tile: 2, 1;
        input: 8 bytes, integer: true;
        Weights: [[u8; 4]; LANES];
        Input: [i8; 8];
        Sums: [i32; LANES];
        Floats: Portable;
        start(correction) { [correction; LANES] }
        weights(from) { Int8Portable::weights(from) }
        input(from) { from.cast::<[i8; 8]>().read_unaligned() }
        add(sums, weights, input) {
            std::array::from_fn(|lane| {
                (0..4).fold(sums[lane], |sum, i| {
                    let (low, high) = (weights[lane][i] & 15, weights[lane][i] >> 4);
                    let low = i32::from(low) * i32::from(input[i]);
                    sum.wrapping_add(low + i32::from(high) * i32::from(input[i + 4]))
                })
            })
        }
        floats(sums, scales) { Int8Portable::floats(sums, scales) }
    }
}
