//! The number format of the operands of matrix products.

use std::fmt;
use std::str::FromStr;

/// In what form matrix products read their operands. Sums, states, reductions and everything that
/// is not a matrix product are `f32` in both, and so is the attention of one decoded position; packed
/// weights have formats of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to the nearest bf16 value, ties to even: the range of `f32` with 8 bits of
    /// precision. A product of two is exact in `f32`. Values below the smallest normal number may
    /// count as zero.
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

impl fmt::Display for Precision {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| format!("`{name}` is no precision: there are f32 and bf16"))
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
        assert!("fp16".parse::<Precision>().unwrap_err().contains("fp16"));
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
