//! Sixteen values in a vector of AVX-512.

use std::arch::x86_64::*;

use super::Vector;
use super::avx2::four_rows;

#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(crate) __m512);

#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 { !0 } else { (1u16 << count) - 1 }
}

// SAFETY: each body below is one or a few intrinsics whose needs are exactly the trait's contract.
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
    unsafe fn times_power_of_two(self, n: Self) -> Self {
        unsafe { Self(_mm512_scalef_ps(self.0, n.0)) }
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
    unsafe fn store_sums([a, b, c, d]: [Self; 4], to: *mut f32) {
        unsafe {
            let (a, b, c, d) = (a.0, b.0, c.0, d.0);
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (first, second) =
                (_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
            let sums = _mm512_add_ps(first, second);
            let upper = _mm512_extractf32x8_ps::<1>(sums);
            let sums = _mm256_add_ps(_mm512_castps512_ps256(sums), upper);
            let upper = _mm256_extractf128_ps::<1>(sums);
            _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(sums), upper));
        }
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
    unsafe fn split_bf16(self) -> [Self; 2] {
        unsafe {
            let pairs = _mm512_castps_si512(self.0);
            let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(!0xFFFF));
            let lower = _mm512_slli_epi32::<16>(pairs);
            [Self(_mm512_castsi512_ps(lower)), Self(_mm512_castsi512_ps(upper))]
        }
    }
    #[inline(always)]
    unsafe fn join_bf16(self, upper: Self) -> Self {
        unsafe {
            let lower = _mm512_castps_si512(self.round_bf16().0);
            let upper = _mm512_castps_si512(upper.round_bf16().0);
            let upper = _mm512_and_si512(upper, _mm512_set1_epi32(!0xFFFF));
            Self(_mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32::<16>(lower), upper)))
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
