//! Vectors of `f32` in three forms (AVX-512, AVX2 with FMA, portable) behind one trait, chosen at
//! run time; and `exp`, `tanh` and σ written once over it.
//!
//! A hot loop is a struct that implements `Kernel`; `Level::run` enters it through a function
//! compiled for the chosen instruction set, into which the loop and its vectors are inlined.

mod functions;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(test)]
pub(crate) use functions::tanh_slice;
pub(crate) use functions::{exp, log_sigmoid, sigmoid, tanh};
pub(crate) use functions::{exp_slice, log_sigmoid_slice, sigmoid_slice};

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As [`Level::Avx512`], with dot products of bf16 pairs.
    Avx512Bf16,
    /// 512-bit vectors with masks.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// What every machine has.
    Portable,
}

impl Level {
    /// Every level, best first.
    pub const ALL: [Level; 4] = [Level::Avx512Bf16, Level::Avx512, Level::Avx2, Level::Portable];

    /// The best level of this machine.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|level| level.available()).unwrap_or(Level::Portable)
    }

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => {
                Level::Avx512.available() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Level::Avx2.available()
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx512Bf16 | Level::Avx512 | Level::Avx2 => false,
            Level::Portable => true,
        }
    }

    /// How many `f32` one vector holds.
    pub fn lanes(self) -> usize {
        match self {
            Level::Avx512Bf16 | Level::Avx512 => 16,
            Level::Avx2 | Level::Portable => 8,
        }
    }

    /// Runs a kernel in this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        debug_assert!(self.available());
        match self {
            // SAFETY: levels come from `Cpu`, which refuses one that this machine lacks; no function
            // outside this crate runs one otherwise.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 | Level::Avx512 => unsafe { run_avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: the portable form needs no instruction set.
            _ => unsafe { kernel.run::<Portable>() },
        }
    }
}

/// A loop over vectors, written once for every instruction set. Implementations mark `run` with
/// `#[inline(always)]`, so that it is compiled inside the function that enables the instructions.
pub(crate) trait Kernel {
    type Output;

    /// # Safety
    /// The machine must have the instruction set of `V`.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

/// Runs plain loops compiled for an instruction set: a [`Kernel`] whose fields are the variables that
/// the loops read and write. A closure would not do: it may be compiled by itself, without the
/// instructions.
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

/// `LANES` values of `f32`.
///
/// # Safety
/// Every method needs the vector's instruction set; loads and stores need valid memory for the
/// lanes they touch.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Vector: Copy {
    const LANES: usize;
    /// Rows of a matrix product's tile in registers.
    const TILE_ROWS: usize;
    /// Vectors in a row of that tile: rows × vectors sums, one row of B and one element of A fit
    /// in the registers.
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
    /// 2ⁿ for an integer-valued vector with every n in -126..=127.
    unsafe fn power_of_two(self) -> Self;
    /// `yes` where `self < bound`, else `no`.
    unsafe fn select_less(self, bound: Self, yes: Self, no: Self) -> Self;
    /// The nearest bf16 value, ties to even.
    unsafe fn round_bf16(self) -> Self;
    unsafe fn sum(self) -> f32;
    unsafe fn largest(self) -> f32;
    /// Stores integer-valued lanes in −128..=127 as bytes.
    unsafe fn store_bytes(self, to: *mut i8);
    /// Stores the lanes rounded to bf16, to nearest even.
    unsafe fn store_bf16(self, to: *mut u16);
    /// From `LANES` pairs of bf16: the first of each pair, and the second.
    unsafe fn load_bf16_pairs(from: *const u16) -> (Self, Self);
    /// A square of LANES × LANES elements, whose rows lie `row` apart, becomes one of its columns,
    /// `to_row` apart.
    unsafe fn transpose(from: *const f32, row: usize, to: *mut f32, to_row: usize);

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { Self::splat(0.0) }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(crate) __m512);

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1u16 << count) - 1 }
}

// SAFETY for the three implementations below: each body is one or two intrinsics whose needs are
// exactly the trait's contract.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Avx512 {
    const LANES: usize = 16;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        unsafe { Self(_mm512_maskz_loadu_ps(first(count), from)) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { Self(_mm512_abs_ps(self.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { Self(_mm512_sqrt_ps(self.0)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { Self(_mm512_roundscale_ps::<0x08>(self.0)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe { Self(_mm512_scalef_ps(_mm512_set1_ps(1.0), self.0)) }
    }
    #[inline(always)]
    unsafe fn select_less(self, bound: Self, yes: Self, no: Self) -> Self {
        unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, bound.0);
            Self(_mm512_mask_blend_ps(mask, no.0, yes.0))
        }
    }
    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7FFF));
            let rounded = _mm512_and_si512(up, _mm512_set1_epi32(!0xFFFF));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            Self(_mm512_mask_mov_ps(_mm512_castsi512_ps(rounded), nan, self.0))
        }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(self.0))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(rounded));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u16) -> (Self, Self) {
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            let low = _mm512_slli_epi32::<16>(pairs);
            (Self(_mm512_castsi512_ps(low)), Self(_mm512_castsi512_ps(high)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, row: usize, to: *mut f32, to_row: usize) {
        unsafe {
            for half in [0, 8] {
                let from = from.add(half);
                let q0 = four_rows(from, row);
                let q1 = four_rows(from.add(4 * row), row);
                let q2 = four_rows(from.add(8 * row), row);
                let q3 = four_rows(from.add(12 * row), row);
                for c in 0..4 {
                    let upper = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(q0[c]), q1[c]);
                    let lower = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(q2[c]), q3[c]);
                    let first = _mm512_shuffle_f32x4::<0x88>(upper, lower);
                    let second = _mm512_shuffle_f32x4::<0xdd>(upper, lower);
                    _mm512_storeu_ps(to.add((half + c) * to_row), first);
                    _mm512_storeu_ps(to.add((half + 4 + c) * to_row), second);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(crate) __m256);

#[cfg(target_arch = "x86_64")]
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first_avx2(count: usize) -> __m256i {
    // SAFETY: the offset is in 0..=8, so that eight values remain.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count.min(8)).cast()) }
}

/// The columns c and c + 4 of four rows of eight elements, for each c below 4.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn four_rows(from: *const f32, row: usize) -> [__m256; 4] {
    // SAFETY: the caller gives the rows, and has the instructions.
    unsafe {
        let (first, second) = (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(row)));
        let (third, fourth) =
            (_mm256_loadu_ps(from.add(2 * row)), _mm256_loadu_ps(from.add(3 * row)));
        let (a, b) = (_mm256_unpacklo_ps(first, second), _mm256_unpacklo_ps(third, fourth));
        let (c, d) = (_mm256_unpackhi_ps(first, second), _mm256_unpackhi_ps(third, fourth));
        [
            _mm256_shuffle_ps::<0x44>(a, b),
            _mm256_shuffle_ps::<0xee>(a, b),
            _mm256_shuffle_ps::<0x44>(c, d),
            _mm256_shuffle_ps::<0xee>(c, d),
        ]
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Avx2 {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        unsafe { Self(_mm256_maskload_ps(from, first_avx2(count))) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        unsafe { _mm256_maskstore_ps(to, first_avx2(count), self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm256_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm256_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self(_mm256_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self(_mm256_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Self(_mm256_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { Self(_mm256_sqrt_ps(self.0)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { Self(_mm256_round_ps::<0x08>(self.0)) }
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        unsafe {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(n)))
        }
    }
    #[inline(always)]
    unsafe fn select_less(self, bound: Self, yes: Self, no: Self) -> Self {
        unsafe {
            let mask = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, bound.0);
            Self(_mm256_blendv_ps(no.0, yes.0, mask))
        }
    }
    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7FFF));
            let rounded = _mm256_and_si256(up, _mm256_set1_epi32(!0xFFFF));
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
            Self(_mm256_blendv_ps(_mm256_castsi256_ps(rounded), self.0, nan))
        }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let s = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let s = _mm_add_ps(s, _mm_movehl_ps(s, s));
            _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps::<1>(s, s)))
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe {
            let s = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let s = _mm_max_ps(s, _mm_movehl_ps(s, s));
            _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps::<1>(s, s)))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) {
        unsafe {
            let whole = _mm256_cvtps_epi32(self.0);
            let (low, high) = (_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            let words = _mm_packs_epi32(low, high);
            _mm_storel_epi64(to.cast(), _mm_packs_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, up));
            let low = _mm256_castsi256_si128(rounded);
            _mm_storeu_si128(
                to.cast(),
                _mm_packus_epi32(low, _mm256_extracti128_si256::<1>(rounded)),
            );
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u16) -> (Self, Self) {
        unsafe {
            let pairs = _mm256_loadu_si256(from.cast());
            let high = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
            let low = _mm256_slli_epi32::<16>(pairs);
            (Self(_mm256_castsi256_ps(low)), Self(_mm256_castsi256_ps(high)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, row: usize, to: *mut f32, to_row: usize) {
        unsafe {
            let (upper, lower) = (four_rows(from, row), four_rows(from.add(4 * row), row));
            for c in 0..4 {
                let first = _mm256_permute2f128_ps::<0x20>(upper[c], lower[c]);
                let second = _mm256_permute2f128_ps::<0x31>(upper[c], lower[c]);
                _mm256_storeu_ps(to.add(c * to_row), first);
                _mm256_storeu_ps(to.add((4 + c) * to_row), second);
            }
        }
    }
}

/// Eight values that the compiler turns into whatever vectors the machine has.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(crate) [f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i])))
    }
}

#[allow(clippy::undocumented_unsafe_blocks)]
impl Vector for Portable {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 2;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(from.cast::<[f32; 8]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        unsafe { Self(std::array::from_fn(|i| if i < count { *from.add(i) } else { 0.0 })) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for i in 0..count.min(8) {
            unsafe { *to.add(i) = self.0[i] }
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + addend.0[i]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and taking away 1.5 · 2²³ rounds to even for |x| < 2²², and needs no instruction
        // that an old machine lacks.
        self.map(|x| (x + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        self.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn select_less(self, bound: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] < bound.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        self.map(|x| {
            let bits = x.to_bits();
            let up = bits.wrapping_add((bits >> 16) & 1).wrapping_add(0x7FFF);
            if x.is_nan() { x } else { f32::from_bits(up & !0xFFFF) }
        })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut i8) {
        unsafe { to.cast::<[i8; 8]>().write_unaligned(self.0.map(|x| x as i8)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        unsafe { to.cast::<[u16; 8]>().write_unaligned(self.0.map(crate::weights::bf16)) }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u16) -> (Self, Self) {
        let pairs = unsafe { from.cast::<[[u16; 2]; 8]>().read_unaligned() };
        let wide = |x: u16| f32::from_bits(u32::from(x) << 16);
        (Self(pairs.map(|pair| wide(pair[0]))), Self(pairs.map(|pair| wide(pair[1]))))
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, row: usize, to: *mut f32, to_row: usize) {
        for r in 0..Self::LANES {
            for c in 0..Self::LANES {
                // SAFETY: the caller gives both squares.
                unsafe { *to.add(c * to_row + r) = *from.add(r * row + c) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::Real;

    /// Distance in units of the last place of the exact value rounded to `f32`.
    fn ulps(got: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        if got == rounded {
            return 0.0;
        }
        let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
        (f64::from(got) - exact).abs() / ulp
    }

    fn check(
        name: &str,
        tolerance: f64,
        range: std::ops::Range<f64>,
        fast: fn(Level, &mut [f32]),
        exact: fn(f64) -> f64,
    ) {
        let inputs: Vec<f32> = (0..200_003)
            .map(|i| (range.start + (range.end - range.start) * f64::from(i) / 200_002.0) as f32)
            .chain((0..2_000).map(|i| (f64::from(i - 1000) * 1e-6) as f32))
            .collect();
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            let mut outputs = inputs.clone();
            fast(level, &mut outputs);
            for (&x, &y) in inputs.iter().zip(&outputs) {
                let error = ulps(y, exact(f64::from(x)));
                assert!(error <= tolerance, "{name}({x}) = {y} at {level:?}: off by {error} ulp");
            }
        }
    }

    #[test]
    fn a_transpose_puts_every_element_in_its_place() {
        struct Square<'a>(&'a [f32], &'a mut [f32]);
        impl Kernel for Square<'_> {
            type Output = usize;
            #[inline(always)]
            unsafe fn run<V: Vector>(self) -> usize {
                // SAFETY: both hold 16 rows, 19 and 17 apart.
                unsafe { V::transpose(self.0.as_ptr(), 19, self.1.as_mut_ptr(), 17) }
                V::LANES
            }
        }
        let from: Vec<f32> = (0..16 * 19).map(|i| i as f32).collect();
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            let mut to = vec![0.0; 16 * 17];
            let lanes = level.run(Square(&from, &mut to));
            for (i, value) in to.iter().enumerate() {
                let (row, column) = (i / 17, i % 17);
                let inside = row < lanes && column < lanes;
                assert_eq!(*value, if inside { from[column * 19 + row] } else { 0.0 }, "{level:?}");
            }
        }
    }

    #[test]
    fn exp_is_within_two_ulp_over_the_whole_range() {
        check("exp", 2.0, -110.0..88.7, exp_slice, f64::exp);
    }

    #[test]
    fn tanh_is_within_two_ulp_over_the_whole_range() {
        check("tanh", 2.0, -20.0..20.0, tanh_slice, f64::tanh);
        check("tanh", 2.0, -1.0..1.0, tanh_slice, f64::tanh);
    }

    #[test]
    fn log_sigmoid_is_within_four_ulp_over_the_whole_range() {
        fn exact(x: f64) -> f64 {
            x.min(0.0) - (-x.abs()).exp().ln_1p()
        }
        check("log_sigmoid", 4.0, -1e4..80.0, log_sigmoid_slice, exact);
        check("log_sigmoid", 4.0, -20.0..20.0, log_sigmoid_slice, exact);
    }

    #[test]
    fn sigmoid_is_within_two_ulp_over_the_whole_range() {
        for range in [-110.0..110.0, -20.0..20.0, -2.0..2.0] {
            check("sigmoid", 2.0, range, sigmoid_slice, Real::sigmoid);
        }
    }

    #[test]
    fn extremes_stay_defined() {
        for level in Level::ALL.into_iter().filter(|level| level.available()) {
            let mut values = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY, f32::NAN];
            exp_slice(level, &mut values);
            assert_eq!(values[..4], [0.0, 0.0, f32::INFINITY, f32::INFINITY]);
            assert!(values[4].is_nan());
            let mut values = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
            tanh_slice(level, &mut values);
            assert_eq!(values, [-1.0, -1.0, 1.0, 1.0]);
            let mut values = [f32::NEG_INFINITY, -1e30, 1e30, f32::INFINITY];
            sigmoid_slice(level, &mut values);
            assert_eq!(values, [0.0, 0.0, 1.0, 1.0]);
        }
    }
}
