//! How much each feature counts.

use crate::error::NbestError;

/// A weight for each feature, in the order of the features.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    names: Vec<String>,
    values: Vec<f64>,
}

impl Weights {
    /// The given weights; a feature that is not named has the weight 0. The last one of a name counts.
    ///
    /// # Errors
    /// [`NbestError::Unknown`] for a feature that is not there, [`NbestError::Weight`] for a weight
    /// that is no finite number.
    pub fn of<'a>(
        features: &[String],
        given: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<Self, NbestError> {
        let mut weights = Self { names: features.to_vec(), values: vec![0.0; features.len()] };
        for (name, value) in given {
            weights.set(name, value)?;
        }
        Ok(weights)
    }

    /// Sets one weight.
    ///
    /// # Errors
    /// The errors of [`Weights::of`] for this one.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), NbestError> {
        if !value.is_finite() {
            return Err(NbestError::Weight { name: name.to_owned(), value });
        }
        match self.names.iter().position(|known| known == name) {
            Some(place) => self.values[place] = value,
            None => {
                let (name, known) = (name.to_owned(), self.names.join(", "));
                return Err(NbestError::Unknown { name, known });
            }
        }
        Ok(())
    }

    /// The same features with other weights, one for each.
    pub(crate) fn with(&self, values: Vec<f64>) -> Self {
        Self { names: self.names.clone(), values }
    }

    /// The weights by feature.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Each feature's name and weight.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.names.iter().map(String::as_str).zip(self.values.iter().copied())
    }

    /// Σ weight · value over the features. Missing values count as 0.
    pub fn total(&self, values: &[f64]) -> f64 {
        self.values.iter().zip(values).map(|(weight, value)| weight * value).sum()
    }
}
