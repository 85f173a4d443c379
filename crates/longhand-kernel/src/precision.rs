//! The number format of the operands of matrix products.

use std::fmt;
use std::str::FromStr;

/// The number format of the operands of matrix products. Sums, states, reductions and everything
/// that is not a matrix product are `f32` in both, and so is the attention of a decode step. Packed
/// weights have formats of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Operands stay in `f32`. This is the default.
    #[default]
    F32,
    /// Rounded to the nearest bf16 value, ties to even: the range of `f32` with 8 bits of
    /// precision. A product of two is exact in `f32`. Values below the smallest normal number may
    /// be read as zeros.
    Bf16,
}

impl Precision {
    /// Both, the exact one first.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// Its name: `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }

    /// The form in which a product reads this value.
    pub fn round(self, value: f32) -> f32 {
        let bits = value.to_bits();
        match self {
            Precision::F32 => value,
            Precision::Bf16 if value.is_nan() => value,
            Precision::Bf16 => {
                f32::from_bits(bits.wrapping_add((bits >> 16) & 1).wrapping_add(0x7FFF) & !0xFFFF)
            }
        }
    }
}

/// The bf16 nearest to a value, ties to even; what is not a number stays none.
pub(crate) fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// A bf16 as `f32`.
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

impl fmt::Display for Precision {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str(self.name())
    }
}

/// The name of a precision that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPrecision {
    /// The name that was given.
    pub name: String,
}

impl fmt::Display for UnknownPrecision {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "unknown precision `{}`: use f32 or bf16", self.name)
    }
}

impl std::error::Error for UnknownPrecision {}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| UnknownPrecision { name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let unknown = "fp16".parse::<Precision>().unwrap_err();
        assert_eq!(unknown.to_string(), "unknown precision `fp16`: use f32 or bf16");
    }

    #[test]
    fn bf16_keeps_eight_bits_and_rounds_ties_to_even() {
        let round = |x: f32| Precision::Bf16.round(x);
        assert_eq!(round(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(round(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(round(-1.0 - 1.01 / 256.0), -1.0 - 2.0 / 256.0);
        assert_eq!(round(f32::MAX), f32::INFINITY);
        assert_eq!(round(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(round(f32::NAN).is_nan());
    }
}
