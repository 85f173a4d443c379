//! Eight values in a vector of AVX2, with fused multiply-add.

use std::arch::x86_64::*;

use super::Vector;

#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(crate) __m256);

static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first_avx2(count: usize) -> __m256i {
    // SAFETY: the offset is in 0..=8, so that eight values remain.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count.min(8)).cast()) }
}

/// 2ⁿ for every n in −126 to 127.
#[inline(always)]
unsafe fn power_of_two(n: __m256i) -> __m256 {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let exponents = _mm256_add_epi32(n, _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponents))
    }
}

/// The columns c and c + 4 of four rows of eight elements, for each c below 4.
#[inline(always)]
pub(super) unsafe fn four_rows(from: *const f32, row: usize) -> [__m256; 4] {
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

// SAFETY: each body below is one or a few intrinsics whose needs are exactly the trait's contract.
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
    unsafe fn times_power_of_two(self, n: Self) -> Self {
        unsafe {
            // In two halves, so that neither power overflows.
            let n = _mm256_cvtps_epi32(n.0);
            let half = _mm256_srai_epi32::<1>(n);
            let first = _mm256_mul_ps(self.0, power_of_two(half));
            Self(_mm256_mul_ps(first, power_of_two(_mm256_sub_epi32(n, half))))
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
    unsafe fn store_sums([a, b, c, d]: [Self; 4], to: *mut f32) {
        unsafe {
            let (ab, cd) = (_mm256_hadd_ps(a.0, b.0), _mm256_hadd_ps(c.0, d.0));
            let sums = _mm256_hadd_ps(ab, cd);
            let upper = _mm256_extractf128_ps::<1>(sums);
            _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(sums), upper));
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
    unsafe fn split_bf16(self) -> [Self; 2] {
        unsafe {
            let pairs = _mm256_castps_si256(self.0);
            let upper = _mm256_and_si256(pairs, _mm256_set1_epi32(!0xFFFF));
            let lower = _mm256_slli_epi32::<16>(pairs);
            [Self(_mm256_castsi256_ps(lower)), Self(_mm256_castsi256_ps(upper))]
        }
    }
    #[inline(always)]
    unsafe fn join_bf16(self, upper: Self) -> Self {
        unsafe {
            let lower = _mm256_castps_si256(self.round_bf16().0);
            let upper = _mm256_castps_si256(upper.round_bf16().0);
            let upper = _mm256_and_si256(upper, _mm256_set1_epi32(!0xFFFF));
            Self(_mm256_castsi256_ps(_mm256_or_si256(_mm256_srli_epi32::<16>(lower), upper)))
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
