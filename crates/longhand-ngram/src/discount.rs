//! What is taken from the counts of seen n-grams, for the unseen.

use serde::{Deserialize, Serialize};

/// D1, D2 and D3+: what is taken from an n-gram that counts 1, 2, or 3 and more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discounts {
    /// The three discounts, in this order.
    pub amounts: [f64; 3],
    /// Whether they are [`Discounts::FALLBACK`], as the counts of counts gave none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fallback: bool,
}

impl Discounts {
    /// What is taken where a text is too small, or too regular, to estimate it: the values that
    /// KenLM's `lmplz --discount_fallback` takes.
    pub const FALLBACK: [f64; 3] = [0.5, 1.0, 1.5];

    /// D_j = j − (j+1) Y n_{j+1} / n_j with Y = n_1 / (n_1 + 2 n_2), where `n[j-1]` n-grams count j
    /// (Chen and Goodman 1998, equation 26). The fallback where one of them would not be above 0,
    /// or cannot be computed.
    pub fn estimate(n: [u64; 4]) -> Self {
        let n = n.map(|count| count as f64);
        let y = n[0] / (n[0] + 2.0 * n[1]);
        let amount = |j: usize| j as f64 - (j + 1) as f64 * y * n[j] / n[j - 1];
        let amounts = [amount(1), amount(2), amount(3)];
        // A division by 0 is not a number, or infinite, and fails here.
        let fits = |(amount, most): (&f64, f64)| *amount > 0.0 && *amount <= most;
        match n.iter().all(|&n| n > 0.0) && amounts.iter().zip([1.0, 2.0, 3.0]).all(fits) {
            true => Self { amounts, fallback: false },
            false => Self { amounts: Self::FALLBACK, fallback: true },
        }
    }

    /// What is taken from an n-gram that counts `count`; never more than the count.
    pub fn of(&self, count: u64) -> f64 {
        match count {
            0 => 0.0,
            count => self.amounts[count.min(3) as usize - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discounts_are_those_of_the_formula_or_the_fallback() {
        // By hand: Y = 8 / (8 + 2 · 4) = ½; D1 = 1 − 2 · ½ · 4/8, D2 = 2 − 3 · ½ · 2/4,
        // D3+ = 3 − 4 · ½ · 1/2.
        let discounts = Discounts::estimate([8, 4, 2, 1]);
        assert_eq!(discounts, Discounts { amounts: [0.5, 1.25, 2.0], fallback: false });
        assert_eq!([0, 1, 2, 3, 9].map(|count| discounts.of(count)), [0.0, 0.5, 1.25, 2.0, 2.0]);
        // No n-gram counts 3, or D2 would be negative.
        for n in [[8, 4, 0, 1], [0; 4], [8, 1, 8, 1]] {
            let fallback = Discounts { amounts: Discounts::FALLBACK, fallback: true };
            assert_eq!(Discounts::estimate(n), fallback);
        }
    }
}
