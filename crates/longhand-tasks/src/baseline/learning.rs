//! What every baseline learns from, and the log-probabilities that all of them give.

use longhand_model::Cpu;

/// A text, or several of one example, and the right class or the right text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled<'a> {
    /// The texts of the example.
    pub texts: Vec<&'a str>,
    /// The class, from 0; 0 where a text is the answer.
    pub class: u32,
    /// The right answer as text: the name of the class, or the text to write.
    pub target: &'a str,
}

/// The examples of a run.
pub struct Learning<'a> {
    /// Number of classes, at least 2; 0 where a text is the answer.
    pub classes: usize,
    /// Examples to learn from.
    pub train: &'a [Labelled<'a>],
    /// Examples that choose a setting; may be empty.
    pub valid: &'a [Labelled<'a>],
    /// Seed of the order of the examples and of the first weights.
    pub seed: u64,
    /// The processor whose threads train.
    pub cpu: &'a Cpu,
}

impl Learning<'_> {
    /// How many of the held-out examples have the class that `logits` finds for their place.
    pub(crate) fn right(&self, mut logits: impl FnMut(usize) -> Vec<f32>) -> usize {
        let is_right = |(place, example): (usize, &Labelled<'_>)| {
            largest(&logits(place)) == example.class as usize
        };
        self.valid.iter().enumerate().map(is_right).filter(|right| *right).count()
    }
}

/// The place of the largest value, the first of equal ones; 0 for none.
pub(crate) fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}
