//! The commonest label for every text: what a model must be better than.

use super::error::BaselineError;
use super::learning::Learning;
use super::tensors::Tensors;

/// The shares of the labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Majority {
    /// `[K]`: ln of each class's share of the examples, with 1 added to each count.
    shares: Vec<f32>,
}

impl Majority {
    pub(crate) fn fit(learning: &Learning<'_>) -> Self {
        let mut counts = vec![1.0_f64; learning.classes];
        learning.train.iter().for_each(|example| counts[example.class as usize] += 1.0);
        let all: f64 = counts.iter().sum();
        Self { shares: counts.iter().map(|count| (count / all).ln() as f32).collect() }
    }

    pub(crate) fn logits(&self) -> Vec<f32> {
        self.shares.clone()
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        tensors.add("shares", &[self.shares.len()], self.shares.clone());
    }

    pub(crate) fn read(tensors: &Tensors) -> Result<Self, BaselineError> {
        Ok(Self { shares: tensors.floats("shares", &[None])?.1 })
    }
}
