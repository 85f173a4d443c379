//! What a search finds.

/// What a hypothesis is made of, for whoever asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The tokens, those that were forced included and the end token not.
    pub ids: Vec<u32>,
    /// ln p of each token, and then of the end token if there is one, in nats.
    pub log_probabilities: Vec<f32>,
    /// The token that ended it; none where it reached the maximum.
    pub end: Option<u32>,
    /// The sum of [`Hypothesis::log_probabilities`].
    pub log_probability: f64,
    /// `log_probability / divisor + coverage penalty`: what hypotheses are ordered by.
    pub score: f64,
    /// The position of the source that each token attends to most, the first of equal ones; empty
    /// unless [`SearchSettings::align`](super::SearchSettings::align) asks for it.
    pub alignment: Vec<u32>,
    /// Whether its text matches the rules; none without
    /// [`SearchSettings::constraint`](super::SearchSettings::constraint), which holds them.
    pub matches: Option<bool>,
    /// Whether it ended without an end token, as nothing longer matches.
    pub is_complete: bool,
}

impl Hypothesis {
    /// Whether an end token ended it, or nothing longer matches.
    pub fn is_finished(&self) -> bool {
        self.end.is_some() || self.is_complete
    }
}
