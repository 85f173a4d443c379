//! Eight values that the compiler turns into what the machine has.

use super::Vector;

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

// SAFETY: each body below reads and writes the lanes of the trait's contract, and no others.
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
    unsafe fn times_power_of_two(self, n: Self) -> Self {
        // In two halves, so that neither power overflows.
        let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
        Self(std::array::from_fn(|i| {
            let n = n.0[i] as i32;
            self.0[i] * power(n >> 1) * power(n - (n >> 1))
        }))
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
    unsafe fn store_sums(vectors: [Self; 4], to: *mut f32) {
        let sums = vectors.map(|vector| vector.0.iter().sum::<f32>());
        unsafe { to.cast::<[f32; 4]>().write_unaligned(sums) }
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
        unsafe { to.cast::<[u16; 8]>().write_unaligned(self.0.map(crate::precision::bf16)) }
    }
    #[inline(always)]
    unsafe fn split_bf16(self) -> [Self; 2] {
        let lower = |pair: f32| f32::from_bits(pair.to_bits() << 16);
        let upper = |pair: f32| f32::from_bits(pair.to_bits() & !0xFFFF);
        [self.map(lower), self.map(upper)]
    }
    #[inline(always)]
    unsafe fn join_bf16(self, upper: Self) -> Self {
        let (lower, upper) = unsafe { (self.round_bf16(), upper.round_bf16()) };
        lower.zip(upper, |a, b| f32::from_bits(a.to_bits() >> 16 | b.to_bits() & !0xFFFF))
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
