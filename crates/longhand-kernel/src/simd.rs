//! Vectors of `f32` in three forms (AVX-512, AVX2 with FMA, portable) behind one trait, chosen at
//! run time; and `exp`, `tanh` and σ written once over it.
//!
//! A hot loop is a struct that implements `Kernel`; `Level::run` enters it through a function
//! compiled for the chosen instruction set, into which the loop and its vectors are inlined.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod functions;
mod portable;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(test)]
pub(crate) use functions::tanh_slice;
pub(crate) use functions::{exp, log_sigmoid, sigmoid, tanh};
pub(crate) use functions::{exp_slice, log_sigmoid_slice, sigmoid_slice};
pub(crate) use portable::Portable;

use crate::level::{InstructionSet, Level};

impl Level {
    /// Runs a kernel in this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.set() {
            // SAFETY: only detection makes a level, so this machine has its instruction set.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Amx | InstructionSet::Avx512Bf16 | InstructionSet::Avx512 => unsafe {
                run_avx512(kernel)
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: the portable form needs no instruction set.
            _ => unsafe { kernel.run::<Portable>() },
        }
    }
}

/// Brings a cache line, if there is one at this address, from farther caches to the second one.
#[inline(always)]
pub(crate) fn fetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which touches no memory that the program could see and takes any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// A loop over vectors, written once for every instruction set. Implementations mark `run` with
/// `#[inline(always)]`, so that it is compiled inside the function that enables the instructions.
pub(crate) trait Kernel {
    type Output;

    /// # Safety
    /// The machine must have the instruction set of `V`.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

/// Runs plain loops compiled for an instruction set: a [`Kernel`] whose fields are the variables
/// that the loops read and write. A closure would not do: the compiler may compile it by
/// itself, without the instructions.
macro_rules! plain_loops {
    ($level:expr, $life:lifetime { $($name:ident: $type:ty),* $(,)? } $body:block) => {{
        struct Loops<$life> { $($name: $type),* }
        impl $crate::simd::Kernel for Loops<'_> {
            type Output = ();
            #[inline(always)]
            unsafe fn run<V: $crate::simd::Vector>(self) {
                let Self { $($name),* } = self;
                $body
            }
        }
        $level.run(Loops { $($name),* })
    }};
}
pub(crate) use plain_loops;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller checked the instruction set.
    unsafe { kernel.run::<Avx512>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller checked the instruction set.
    unsafe { kernel.run::<Avx2>() }
}

/// A vector of `LANES` values of `f32`.
///
/// # Safety
/// Every method needs the vector's instruction set. Loads and stores need valid memory for
/// all lanes they touch.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Vector: Copy {
    const LANES: usize;
    /// Rows of a matrix product's tile in registers.
    const TILE_ROWS: usize;
    /// Vectors in a row of that tile. Its rows × vectors sums, one row of B and one element of A
    /// fit in the registers.
    const TILE_VECTORS: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `count` lanes; the others are zero.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    unsafe fn store_first(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + addend`.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger one; `other` where either is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// The smaller one; `other` where either is not a number.
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    unsafe fn sqrt(self) -> Self;
    /// To the nearest integer.
    unsafe fn round(self) -> Self;
    /// `self` · 2ⁿ, rounded once, for integer-valued `n` of −252 to 254.
    unsafe fn times_power_of_two(self, n: Self) -> Self;
    /// `yes` where `self < bound`, else `no`.
    unsafe fn select_less(self, bound: Self, yes: Self, no: Self) -> Self;
    /// The nearest bf16 value, ties to even.
    unsafe fn round_bf16(self) -> Self;
    unsafe fn sum(self) -> f32;
    /// Stores the sums of four vectors side by side: four times [`Vector::sum`], but cheaper.
    unsafe fn store_sums(vectors: [Self; 4], to: *mut f32);
    unsafe fn largest(self) -> f32;
    /// Stores integer-valued lanes in −128..=127 as bytes.
    unsafe fn store_bytes(self, to: *mut i8);
    /// Stores the lanes rounded to bf16, to nearest even.
    unsafe fn store_bf16(self, to: *mut u16);
    /// Splits lanes that hold two bf16 each: the lower halves, then the upper halves, as `f32`.
    unsafe fn split_bf16(self) -> [Self; 2];
    /// The inverse: lanes rounded to bf16 as the lower halves, and others as the upper ones.
    unsafe fn join_bf16(self, upper: Self) -> Self;
    /// Transposes a square of LANES × LANES elements. Its rows begin `row` elements apart, and the
    /// rows of the result `to_row` elements.
    unsafe fn transpose(from: *const f32, row: usize, to: *mut f32, to_row: usize);

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::splat(0.0) }
    }
}
