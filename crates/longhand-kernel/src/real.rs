//! The two floating-point types that references are written for.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// A floating-point number: `f32`, or `f64` for gradient checks.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + Sum
    + 'static
{
    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// This value in double precision.
    fn to_f64(self) -> f64;
    /// eˣ, the exponential function.
    fn exp(self) -> Self;
    /// ln x, the natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x), accurate near zero.
    fn ln_1p(self) -> Self;
    /// tanh x, the hyperbolic tangent.
    fn tanh(self) -> Self;
    /// √x, the square root.
    fn sqrt(self) -> Self;
    /// |x|, the absolute value.
    fn abs(self) -> Self;
    /// The larger of the two.
    fn max(self, other: Self) -> Self;

    /// 0 as this type.
    fn zero() -> Self {
        Self::from_f64(0.0)
    }
    /// 1 as this type.
    fn one() -> Self {
        Self::from_f64(1.0)
    }
    /// Logistic function σ(x) = 1 / (1 + e⁻ˣ), without overflow for any x.
    fn sigmoid(self) -> Self {
        let e = (-self.abs()).exp();
        let positive = Self::one() / (Self::one() + e);
        if self >= Self::zero() { positive } else { e * positive }
    }
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn abs(self) -> Self {
                self.abs()
            }
            fn max(self, other: Self) -> Self {
                self.max(other)
            }
        }
    };
}

real!(f32);
real!(f64);
