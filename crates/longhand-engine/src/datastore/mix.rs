//! The mixture of a model's probabilities with those of neighbours, in the logarithm.

use longhand_model::nearest::Found;

use crate::log_probability::log_sum;

/// The logarithms of both shares of a mixture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    /// ln λ; −∞ where λ is 0.
    neighbours: f64,
    /// ln(1 − λ), which is finite.
    model: f64,
}

impl Shares {
    pub(super) fn new(lambda: f64) -> Self {
        Self { neighbours: lambda.ln(), model: (-lambda).ln_1p() }
    }

    /// ln(λ·p + (1 − λ)·q), given ln p of the neighbours and ln q of the model. The larger of the two
    /// terms is taken out, so that nothing overflows and the smaller one is not lost; exactly ln q
    /// where λ is 0.
    pub(super) fn mix(self, neighbours: f64, model: f64) -> f64 {
        let (one, other) = (self.neighbours + neighbours, self.model + model);
        if one == f64::NEG_INFINITY {
            return other;
        }
        let (most, least) = if one > other { (one, other) } else { (other, one) };
        most + (least - most).exp().ln_1p()
    }
}

/// ln p of one value among neighbours in ascending order of distance: the logarithm of its share of
/// Σ exp(−distance / τ); −∞ where no neighbour has the value. The nearest neighbour's exponent is 0,
/// so that the sum is never 0.
pub(super) fn vote(found: &[Found], temperature: f64, value: u32) -> f64 {
    let Some(first) = found.first() else { return f64::NEG_INFINITY };
    let (mut own, mut all) = (0.0, 0.0);
    for other in found {
        let weight = weight(first, other, temperature);
        all += weight;
        own += if other.value == value { weight } else { 0.0 };
    }
    f64::ln(own) - f64::ln(all)
}

/// Replaces a row of logits by the logarithms of the mixed probabilities.
pub(super) fn mix_row(found: &[Found], temperature: f64, shares: Shares, logits: &mut [f32]) {
    let Some(first) = found.first() else { return };
    let mut votes: Vec<(u32, f64)> =
        found.iter().map(|other| (other.value, weight(first, other, temperature))).collect();
    // A stable sort: the votes of a value are added in the order of their distances.
    votes.sort_by_key(|&(value, _)| value);
    let all: f64 = found.iter().map(|other| weight(first, other, temperature)).sum();
    let sum = log_sum(logits);
    let mut votes = votes.chunk_by(|a, b| a.0 == b.0).peekable();
    for (logit, id) in logits.iter_mut().zip(0..) {
        let own = votes.next_if(|votes| votes[0].0 == id);
        let own = own.map_or(f64::NEG_INFINITY, |votes| {
            votes.iter().map(|&(_, weight)| weight).sum::<f64>().ln() - all.ln()
        });
        *logit = shares.mix(own, f64::from(*logit) - sum) as f32;
    }
}

fn weight(first: &Found, other: &Found, temperature: f64) -> f64 {
    ((f64::from(first.distance) - f64::from(other.distance)) / temperature).exp()
}
