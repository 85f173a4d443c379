//! How each instruction set multiplies one step of sixteen rows of weights with one step of a row
//! of activations.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::product::Task;
use super::{Format, product::LANES};
use crate::level::{InstructionSet, Level};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Vector};

/// Sixteen floats: one vector of sixteen, or two of eight.
#[derive(Clone, Copy)]
pub(super) struct Sixteen<V>(pub(super) [V; 2]);

/// The innermost arithmetic of a product. All methods need the form's instructions.
#[allow(clippy::missing_safety_doc)]
pub(super) trait Dot {
    /// Rows of a tile.
    const ROWS: usize;
    /// Sixteens side by side in a tile: 4, 2 or 1.
    const VECTORS: usize;
    /// Bytes of a row of activations in a step.
    const INPUT_BYTES: usize;
    /// Whether activations come with a scale and corrections.
    const INTEGER: bool;
    type Weights: Copy;
    type Input: Copy;
    /// Sixteen sums, one for each row of weights.
    type Sums: Copy;
    type Floats: Vector;

    unsafe fn start(correction: i32) -> Self::Sums;
    unsafe fn weights(from: *const f32) -> Self::Weights;
    unsafe fn input(from: *const u8) -> Self::Input;
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, input: Self::Input) -> Self::Sums;
    /// The sums as floats, times the weights' scales where there are any.
    unsafe fn floats(sums: Self::Sums, scales: *const f32) -> Sixteen<Self::Floats>;
}

/// Runs a task in the best form of a level.
///
/// # Safety
/// The machine has the level, and the task was checked.
pub(super) unsafe fn run(level: Level, format: Format, task: &Task) {
    // Beyond vectors of 512 bits the machine itself is asked, format by format.
    let set = match level.set() {
        InstructionSet::Avx512Bf16 => InstructionSet::Avx512,
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

/// f32 by f32.
struct F32<V, const ROWS: usize, const VECTORS: usize>(PhantomData<V>);

// SAFETY for all implementations below: each body is a few intrinsics or loads whose needs are the
// trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<V: Vector, const R: usize, const M: usize> Dot for F32<V, R, M> {
    const ROWS: usize = R;
    const VECTORS: usize = M;
    const INPUT_BYTES: usize = 4;
    const INTEGER: bool = false;
    type Weights = Sixteen<V>;
    type Input = Sixteen<V>;
    type Sums = Sixteen<V>;
    type Floats = V;

    #[inline(always)]
    unsafe fn start(_: i32) -> Sixteen<V> {
        unsafe { Sixteen::zero() }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> Sixteen<V> {
        unsafe { Sixteen::load(from) }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> Sixteen<V> {
        unsafe { Sixteen::splat(*from.cast::<f32>()) }
    }
    #[inline(always)]
    unsafe fn add(sums: Sixteen<V>, weights: Sixteen<V>, input: Sixteen<V>) -> Sixteen<V> {
        unsafe { weights.mul_add(input, sums) }
    }
    #[inline(always)]
    unsafe fn floats(sums: Sixteen<V>, _: *const f32) -> Sixteen<V> {
        sums
    }
}

/// bf16 by bf16 without instructions for it: halves become `f32`.
struct Bf16<V, const ROWS: usize, const VECTORS: usize>(PhantomData<V>);

#[allow(clippy::undocumented_unsafe_blocks)]
impl<V: Vector, const R: usize, const M: usize> Dot for Bf16<V, R, M> {
    const ROWS: usize = R;
    const VECTORS: usize = M;
    const INPUT_BYTES: usize = 4;
    const INTEGER: bool = false;
    /// The even columns and the odd ones.
    type Weights = [Sixteen<V>; 2];
    type Input = [Sixteen<V>; 2];
    type Sums = Sixteen<V>;
    type Floats = V;

    #[inline(always)]
    unsafe fn start(_: i32) -> Sixteen<V> {
        unsafe { Sixteen::zero() }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [Sixteen<V>; 2] {
        unsafe {
            let (mut even, mut odd) = (Sixteen::zero(), Sixteen::zero());
            for i in 0..LANES / V::LANES {
                [even.0[i], odd.0[i]] = V::load(from.add(i * V::LANES)).split_bf16();
            }
            [even, odd]
        }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> [Sixteen<V>; 2] {
        unsafe {
            let pair = *from.cast::<u32>();
            let (even, odd) = (f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000));
            [Sixteen::splat(even), Sixteen::splat(odd)]
        }
    }
    #[inline(always)]
    unsafe fn add(
        sums: Sixteen<V>,
        weights: [Sixteen<V>; 2],
        input: [Sixteen<V>; 2],
    ) -> Sixteen<V> {
        unsafe { weights[1].mul_add(input[1], weights[0].mul_add(input[0], sums)) }
    }
    #[inline(always)]
    unsafe fn floats(sums: Sixteen<V>, _: *const f32) -> Sixteen<V> {
        sums
    }
}

/// bf16 by bf16 in pairs.
#[cfg(target_arch = "x86_64")]
struct Bf16Dot;

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Bf16Dot {
    const ROWS: usize = 6;
    const VECTORS: usize = 4;
    const INPUT_BYTES: usize = 4;
    const INTEGER: bool = false;
    type Weights = __m512i;
    type Input = __m512i;
    type Sums = __m512;
    type Floats = Avx512;

    #[inline(always)]
    unsafe fn start(_: i32) -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn add(sums: __m512, weights: __m512i, input: __m512i) -> __m512 {
        unsafe {
            let pairs = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
            _mm512_dpbf16_ps(sums, pairs(weights), pairs(input))
        }
    }
    #[inline(always)]
    unsafe fn floats(sums: __m512, _: *const f32) -> Sixteen<Avx512> {
        unsafe { Sixteen([Avx512(sums), Avx512(_mm512_setzero_ps())]) }
    }
}

/// Sums of products of unsigned and signed bytes by fours.
#[cfg(target_arch = "x86_64")]
struct Int8Vnni;

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Int8Vnni {
    const ROWS: usize = 6;
    const VECTORS: usize = 4;
    const INPUT_BYTES: usize = 4;
    const INTEGER: bool = true;
    type Weights = __m512i;
    type Input = __m512i;
    type Sums = __m512i;
    type Floats = Avx512;

    #[inline(always)]
    unsafe fn start(correction: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(correction) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: __m512i, input: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, input) }
    }
    #[inline(always)]
    unsafe fn floats(sums: __m512i, scales: *const f32) -> Sixteen<Avx512> {
        unsafe {
            let floats = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(scales));
            Sixteen([Avx512(floats), Avx512(_mm512_setzero_ps())])
        }
    }
}

/// As [`Int8Vnni`], from the two halves of each byte.
#[cfg(target_arch = "x86_64")]
struct Int4Vnni;

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Int4Vnni {
    const ROWS: usize = 3;
    const VECTORS: usize = 4;
    const INPUT_BYTES: usize = 8;
    const INTEGER: bool = true;
    type Weights = [__m512i; 2];
    type Input = [__m512i; 2];
    type Sums = __m512i;
    type Floats = Avx512;

    #[inline(always)]
    unsafe fn start(correction: i32) -> __m512i {
        unsafe { Int8Vnni::start(correction) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [__m512i; 2] {
        unsafe {
            let (both, low) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
            [_mm512_and_si512(both, low), _mm512_and_si512(_mm512_srli_epi16::<4>(both), low)]
        }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> [__m512i; 2] {
        unsafe { [Int8Vnni::input(from), Int8Vnni::input(from.add(4))] }
    }
    #[inline(always)]
    unsafe fn add(sums: __m512i, weights: [__m512i; 2], input: [__m512i; 2]) -> __m512i {
        unsafe {
            let sums = _mm512_dpbusd_epi32(sums, weights[0], input[0]);
            _mm512_dpbusd_epi32(sums, weights[1], input[1])
        }
    }
    #[inline(always)]
    unsafe fn floats(sums: __m512i, scales: *const f32) -> Sixteen<Avx512> {
        unsafe { Int8Vnni::floats(sums, scales) }
    }
}

/// Bytes widened to sixteen bits, whose products are added by twos. The instruction that
/// multiplies bytes would saturate.
#[cfg(target_arch = "x86_64")]
struct Int8Avx2;

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Int8Avx2 {
    const ROWS: usize = 2;
    const VECTORS: usize = 1;
    const INPUT_BYTES: usize = 4;
    const INTEGER: bool = true;
    /// Four rows each.
    type Weights = [__m256i; 4];
    type Input = __m256i;
    /// Two sums for each of four rows; the correction stands in the first of them.
    type Sums = [__m256i; 4];
    type Floats = Avx2;

    #[inline(always)]
    unsafe fn start(correction: i32) -> [__m256i; 4] {
        unsafe { [_mm256_set1_epi64x(i64::from(correction as u32)); 4] }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [__m256i; 4] {
        unsafe {
            let from = from.cast::<__m128i>();
            [0, 1, 2, 3].map(|i| _mm256_cvtepu8_epi16(_mm_loadu_si128(from.add(i))))
        }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi16(_mm_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn add(sums: [__m256i; 4], weights: [__m256i; 4], input: __m256i) -> [__m256i; 4] {
        let mut all = sums;
        for (sum, weights) in all.iter_mut().zip(weights) {
            *sum = unsafe { _mm256_add_epi32(*sum, _mm256_madd_epi16(weights, input)) };
        }
        all
    }
    #[inline(always)]
    unsafe fn floats(sums: [__m256i; 4], scales: *const f32) -> Sixteen<Avx2> {
        unsafe {
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
#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Int4Avx2 {
    const ROWS: usize = 2;
    const VECTORS: usize = 1;
    const INPUT_BYTES: usize = 8;
    const INTEGER: bool = true;
    type Weights = [__m256i; 4];
    type Input = [__m256i; 2];
    type Sums = [__m256i; 4];
    type Floats = Avx2;

    #[inline(always)]
    unsafe fn start(correction: i32) -> [__m256i; 4] {
        unsafe { Int8Avx2::start(correction) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [__m256i; 4] {
        unsafe { Int8Avx2::weights(from) }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> [__m256i; 2] {
        unsafe { [Int8Avx2::input(from), Int8Avx2::input(from.add(4))] }
    }
    #[inline(always)]
    unsafe fn add(sums: [__m256i; 4], weights: [__m256i; 4], input: [__m256i; 2]) -> [__m256i; 4] {
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
    #[inline(always)]
    unsafe fn floats(sums: [__m256i; 4], scales: *const f32) -> Sixteen<Avx2> {
        unsafe { Int8Avx2::floats(sums, scales) }
    }
}

/// Plain loops over bytes.
struct Int8Portable;

#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Int8Portable {
    const ROWS: usize = 2;
    const VECTORS: usize = 1;
    const INPUT_BYTES: usize = 4;
    const INTEGER: bool = true;
    type Weights = [[u8; 4]; LANES];
    type Input = [i8; 4];
    type Sums = [i32; LANES];
    type Floats = Portable;

    #[inline(always)]
    unsafe fn start(correction: i32) -> [i32; LANES] {
        [correction; LANES]
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [[u8; 4]; LANES] {
        unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> [i8; 4] {
        unsafe { from.cast::<[i8; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn add(sums: [i32; LANES], weights: [[u8; 4]; LANES], input: [i8; 4]) -> [i32; LANES] {
        std::array::from_fn(|lane| {
            let products = [0, 1, 2, 3].map(|i| i32::from(weights[lane][i]) * i32::from(input[i]));
            products.into_iter().fold(sums[lane], i32::wrapping_add)
        })
    }
    #[inline(always)]
    unsafe fn floats(sums: [i32; LANES], scales: *const f32) -> Sixteen<Portable> {
        unsafe {
            let floats: [f32; LANES] = sums.map(|sum| sum as f32);
            Sixteen::load(floats.as_ptr()).mul(Sixteen::load(scales))
        }
    }
}

/// As [`Int8Portable`], from the two halves of each byte.
struct Int4Portable;

#[allow(clippy::undocumented_unsafe_blocks)]
impl Dot for Int4Portable {
    const ROWS: usize = 2;
    const VECTORS: usize = 1;
    const INPUT_BYTES: usize = 8;
    const INTEGER: bool = true;
    type Weights = [[u8; 4]; LANES];
    type Input = [i8; 8];
    type Sums = [i32; LANES];
    type Floats = Portable;

    #[inline(always)]
    unsafe fn start(correction: i32) -> [i32; LANES] {
        [correction; LANES]
    }
    #[inline(always)]
    unsafe fn weights(from: *const f32) -> [[u8; 4]; LANES] {
        unsafe { Int8Portable::weights(from) }
    }
    #[inline(always)]
    unsafe fn input(from: *const u8) -> [i8; 8] {
        unsafe { from.cast::<[i8; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn add(sums: [i32; LANES], weights: [[u8; 4]; LANES], input: [i8; 8]) -> [i32; LANES] {
        std::array::from_fn(|lane| {
            (0..4).fold(sums[lane], |sum, i| {
                let (low, high) = (weights[lane][i] & 15, weights[lane][i] >> 4);
                let low = i32::from(low) * i32::from(input[i]);
                sum.wrapping_add(low + i32::from(high) * i32::from(input[i + 4]))
            })
        })
    }
    #[inline(always)]
    unsafe fn floats(sums: [i32; LANES], scales: *const f32) -> Sixteen<Portable> {
        unsafe { Int8Portable::floats(sums, scales) }
    }
}
