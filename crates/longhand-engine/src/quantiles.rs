//! The quantile of a value among those of a reference.

/// The values of a reference, by which others are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantiles {
    /// Rising; none is NaN.
    sorted: Vec<f64>,
}

impl Quantiles {
    /// Of some values; those that are no numbers are left out. None where no value is left.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        (!sorted.is_empty()).then_some(Self { sorted })
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The share of the reference's values that are below `value`, from 0 to 1.
    pub fn below(&self, value: f64) -> f64 {
        self.sorted.partition_point(|&other| other < value) as f64 / self.sorted.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_below_counts_no_equals() {
        let quantiles = Quantiles::of([3.0, 1.0, f64::NAN, 2.0, 2.0]).unwrap();
        assert_eq!(quantiles.count(), 4);
        let shares = [0.5, 1.0, 2.0, 2.5, 3.0, f64::INFINITY].map(|value| quantiles.below(value));
        assert_eq!(shares, [0.0, 0.0, 0.25, 0.75, 0.75, 1.0]);
        assert_eq!(Quantiles::of([f64::NAN]), None);
    }
}
