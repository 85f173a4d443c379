//! The self-training of a recipe.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a task learns from texts without labels: the table `self_training` of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfTraining {
    /// Files of texts, tables or a text in each line; labels in them are not read. A text that the run
    /// learns from, or is measured on, is passed over.
    pub unlabelled: Vec<PathBuf>,
    /// Rounds, of which the first one learns from the labelled examples alone, at least 2 (3).
    pub rounds: NonZeroUsize,
    /// The least probability of an answer that becomes a label (0.9).
    pub threshold: f64,
    /// The most texts of each label, the most probable ones: for the second round, the third
    /// and so on, the last number for all later ones (none: as many of each as of the label
    /// that is given least often).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_label: Vec<NonZeroUsize>,
    /// The round that this run is, from 1; every round in turns where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<NonZeroUsize>,
    /// The texts that the round before has labelled, as JSON lines; none in the first round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled: Option<PathBuf>,
}

/// The default of [`SelfTraining::rounds`].
const ROUNDS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

impl Default for SelfTraining {
    fn default() -> Self {
        Self {
            unlabelled: Vec::new(),
            rounds: ROUNDS,
            threshold: 0.9,
            per_label: Vec::new(),
            round: None,
            labelled: None,
        }
    }
}

impl SelfTraining {
    /// The most texts of each label that a round, counted from 1, learns from.
    pub(crate) fn most(&self, round: NonZeroUsize) -> Option<NonZeroUsize> {
        let place = round.get().saturating_sub(2);
        self.per_label.get(place).or(self.per_label.last()).copied()
    }

    /// Why the rounds cannot be; none if they can.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let Self { unlabelled, rounds, threshold, round, .. } = self;
        if unlabelled.is_empty() {
            Some("self-training needs a file of `unlabelled` texts")
        } else if rounds.get() < 2 {
            Some("the `rounds` of self-training must be at least 2")
        } else if !(0.0..1.0).contains(threshold) {
            Some("the `threshold` of self-training must be at least 0 and less than 1")
        } else if round.is_some_and(|round| round > *rounds) {
            Some("`round` must be one of the `rounds`")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_its_number_of_texts_and_later_ones_the_last() {
        let number = |n| NonZeroUsize::new(n).unwrap();
        let per_label = vec![number(500), number(2000)];
        let settings = SelfTraining { per_label, ..SelfTraining::default() };
        let most = |round| settings.most(number(round)).map(NonZeroUsize::get);
        assert_eq!([2, 3, 4].map(most), [Some(500), Some(2000), Some(2000)]);
        assert_eq!(SelfTraining::default().most(number(2)), None);
    }
}
