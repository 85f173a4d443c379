//! Whether a run has diverged: its loss, though finite, is far above the loss it began with.

use serde::{Deserialize, Serialize};

/// A loss this many times the first one is no longer noise.
const FACTOR: f64 = 20.0;
/// Nats. A first loss below it, as of a model that is trained already, counts as this much.
const LEAST: f64 = 1.0;
/// Share of the running mean that each step keeps.
const DECAY: f64 = 0.9;

/// The losses that a run is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Mean loss of the first step, in nats.
    pub first: f64,
    /// Running mean of the steps' losses, in nats; it begins at the first one.
    pub recent: f64,
}

impl Losses {
    /// The losses after a first step.
    pub fn new(first: f64) -> Self {
        Self { first, recent: first }
    }

    /// Takes in the loss of a step. Gives the running mean if the run has diverged.
    pub(crate) fn push(&mut self, loss: f64) -> Option<f64> {
        self.recent = DECAY * self.recent + (1.0 - DECAY) * loss;
        self.has_diverged(self.recent).then_some(self.recent)
    }

    /// Whether a mean over steps, or a validation loss, shows that the run has diverged.
    pub(crate) fn has_diverged(&self, loss: f64) -> bool {
        loss > FACTOR * self.first.max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_far_above_the_first_is_divergence_and_a_short_peak_is_none() {
        let mut losses = Losses::new(4.0);
        assert_eq!(losses.push(4.5), None);
        assert_eq!(losses.push(60.0), None, "one step of fifteen times the first loss");
        assert!(losses.push(21_700.0).is_some_and(|mean| mean > 2_000.0));
        assert!(losses.has_diverged(80.1) && !losses.has_diverged(79.9));
        let mut slow = Losses::new(4.0);
        let steps = (1..100).find(|_| slow.push(100.0).is_some());
        assert!(steps.is_some_and(|steps| steps > 5), "{steps:?}");
    }

    #[test]
    fn a_small_first_loss_leaves_room() {
        let mut losses = Losses::new(0.01);
        assert!((0..100).all(|_| losses.push(2.0).is_none()));
    }
}
