//! The forms in which the inner loops of matrix products read their operands: a lane of 32 bits
//! holds one element, or two neighbours along the inner size as bf16.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::level::{InstructionSet, Level};
use crate::precision::Precision;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512;
use crate::simd::{Kernel, Vector};

/// A form of operands.
///
/// # Safety
/// Every method needs the instruction set of `V`, and [`Pairs`] that of
/// [`InstructionSet::Avx512Bf16`]; loads and stores need valid memory for the elements they touch.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Operand<V: Vector>: Copy {
    /// Elements along the inner size in one lane.
    const DEPTH: usize;
    /// Whether a lane is the element itself, so that operands are read in place.
    const IN_PLACE: bool;

    /// `sum + a·b`, lane by lane.
    unsafe fn multiply(a: V, b: V, sum: V) -> V;
    /// Lanes from elements at one place along the inner size, and at the next place if a
    /// lane holds two elements.
    unsafe fn join(first: V, second: V) -> V;
    /// Lanes along the inner size from `count` adjacent elements, at most one vector of lanes; the
    /// other lanes are zero.
    unsafe fn along(from: *const f32, count: usize) -> V;
    /// One vector of adjacent elements, as LANES / DEPTH lanes.
    unsafe fn store_along(elements: V, to: *mut f32);
    /// The elements in the precision of the operands.
    unsafe fn round(elements: V) -> V;
}

/// A loop over vectors and operands, written once for all forms, in the manner of [`Kernel`].
pub(crate) trait ProductKernel {
    type Output;

    /// # Safety
    /// The machine must have the instruction set of `V` and `O`.
    unsafe fn run<V: Vector, O: Operand<V>>(self) -> Self::Output;
}

/// Elements along the inner size in one lane, in the form that [`run_product`] chooses.
pub(crate) fn depth(level: Level, precision: Precision) -> usize {
    match (precision, level.set()) {
        (Precision::Bf16, InstructionSet::Amx | InstructionSet::Avx512Bf16) => 2,
        _ => 1,
    }
}

/// Runs a kernel in an instruction set, in the fastest form of a precision.
pub(crate) fn run_product<K: ProductKernel>(
    level: Level,
    precision: Precision,
    kernel: K,
) -> K::Output {
    match (precision, level.set()) {
        // SAFETY: only detection makes a level, so this machine has its instruction set.
        #[cfg(target_arch = "x86_64")]
        (Precision::Bf16, InstructionSet::Amx | InstructionSet::Avx512Bf16) => unsafe {
            run_pairs(kernel)
        },
        (Precision::Bf16, _) => level.run(WithRounded(kernel)),
        (Precision::F32, _) => level.run(WithPlain(kernel)),
    }
}

/// [`run_product`] for a kernel whose operands are packed in their lanes already and whose results
/// are `f32`: rounded elements are multiplied without rounding again.
pub(crate) fn run_lanes<K: ProductKernel>(
    level: Level,
    precision: Precision,
    kernel: K,
) -> K::Output {
    match depth(level, precision) {
        // SAFETY: only a level with bf16 pairs has this depth.
        #[cfg(target_arch = "x86_64")]
        2 => unsafe { run_pairs(kernel) },
        _ => level.run(WithPlain(kernel)),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn run_pairs<K: ProductKernel>(kernel: K) -> K::Output {
    // SAFETY: the caller checked the instruction set.
    unsafe { kernel.run::<Avx512, Pairs>() }
}

struct WithPlain<K>(K);

impl<K: ProductKernel> Kernel for WithPlain<K> {
    type Output = K::Output;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> K::Output {
        // SAFETY: the caller has the instruction set.
        unsafe { self.0.run::<V, Plain>() }
    }
}

struct WithRounded<K>(K);

impl<K: ProductKernel> Kernel for WithRounded<K> {
    type Output = K::Output;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> K::Output {
        // SAFETY: the caller has the instruction set.
        unsafe { self.0.run::<V, Rounded>() }
    }
}

/// Elements multiplied in `f32`.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

// SAFETY for the three implementations below: each body is a few vector operations whose needs
// are exactly the trait's contract.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<V: Vector> Operand<V> for Plain {
    const DEPTH: usize = 1;
    const IN_PLACE: bool = true;

    #[inline(always)]
    unsafe fn multiply(a: V, b: V, sum: V) -> V {
        unsafe { a.mul_add(b, sum) }
    }
    #[inline(always)]
    unsafe fn join(first: V, _second: V) -> V {
        first
    }
    #[inline(always)]
    unsafe fn along(from: *const f32, count: usize) -> V {
        unsafe { V::load_first(from, count) }
    }
    #[inline(always)]
    unsafe fn store_along(elements: V, to: *mut f32) {
        unsafe { elements.store(to) }
    }
    #[inline(always)]
    unsafe fn round(elements: V) -> V {
        elements
    }
}

/// bf16 values widened to `f32`: the fastest form on a machine without dot products of bf16 pairs.
#[derive(Clone, Copy)]
pub(crate) struct Rounded;

#[allow(clippy::undocumented_unsafe_blocks)]
impl<V: Vector> Operand<V> for Rounded {
    const DEPTH: usize = 1;
    const IN_PLACE: bool = false;

    #[inline(always)]
    unsafe fn multiply(a: V, b: V, sum: V) -> V {
        unsafe { a.mul_add(b, sum) }
    }
    #[inline(always)]
    unsafe fn join(first: V, _second: V) -> V {
        unsafe { first.round_bf16() }
    }
    #[inline(always)]
    unsafe fn along(from: *const f32, count: usize) -> V {
        unsafe { V::load_first(from, count).round_bf16() }
    }
    #[inline(always)]
    unsafe fn store_along(elements: V, to: *mut f32) {
        unsafe { elements.round_bf16().store(to) }
    }
    #[inline(always)]
    unsafe fn round(elements: V) -> V {
        unsafe { elements.round_bf16() }
    }
}

/// Pairs of bf16 values, the earlier one in the lower half.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Operand<Avx512> for Pairs {
    const DEPTH: usize = 2;
    const IN_PLACE: bool = false;

    #[inline(always)]
    unsafe fn multiply(a: Avx512, b: Avx512, sum: Avx512) -> Avx512 {
        unsafe {
            let a = std::mem::transmute::<__m512, __m512bh>(a.0);
            let b = std::mem::transmute::<__m512, __m512bh>(b.0);
            Avx512(_mm512_dpbf16_ps(sum.0, a, b))
        }
    }
    #[inline(always)]
    unsafe fn join(first: Avx512, second: Avx512) -> Avx512 {
        unsafe {
            let low = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(first.0));
            let high = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(second.0));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
            Avx512(_mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(low), high)))
        }
    }
    #[inline(always)]
    unsafe fn along(from: *const f32, count: usize) -> Avx512 {
        unsafe {
            let first = Avx512::load_first(from, count);
            let second = Avx512::load_first(from.wrapping_add(16), count.saturating_sub(16));
            Avx512(std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second.0, first.0)))
        }
    }
    #[inline(always)]
    unsafe fn store_along(elements: Avx512, to: *mut f32) {
        unsafe {
            let bits = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(elements.0));
            _mm256_storeu_si256(to.cast(), bits);
        }
    }
    #[inline(always)]
    unsafe fn round(elements: Avx512) -> Avx512 {
        unsafe { elements.round_bf16() }
    }
}
