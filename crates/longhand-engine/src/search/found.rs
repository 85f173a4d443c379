//! What is found for each hypothesis: its candidates, and what it attends to.

use longhand_model::{Candidates, Excluded, NO_CANDIDATE, candidates, log_probability};

use super::network::Network;
use crate::error::EngineError;

/// The place of a token that nothing comes before.
pub(super) const NOTHING: u32 = u32::MAX;

/// The candidates of the rows of a pass.
pub(super) struct Found<'a> {
    /// Where each row of the state is in the pass.
    pub(super) places: &'a [usize],
    /// K: candidates of each row.
    pub(super) count: usize,
    /// `[R, K]`: ids of the candidates.
    pub(super) ids: &'a [u32],
    /// `[R, K]`: ln p of each.
    pub(super) log_probabilities: &'a [f32],
    /// `[R, S]`: the attention of each row to the source; empty without one.
    pub(super) attention: &'a [f32],
    /// What read the pass.
    pub(super) network: &'a mut dyn Network,
    /// Logits of the only row, where something else than the network read it; else empty.
    pub(super) given: &'a [f32],
    /// Tokens that are candidates of no row.
    pub(super) forbidden: &'a [u32],
}

impl Found<'_> {
    /// The candidates of a row behind the K that were looked for: all that are left, the most probable
    /// first, with ln p of each. `excluded` are the tokens that are no candidates of this row.
    pub(super) fn further(
        &mut self,
        row: usize,
        excluded: &[u32],
    ) -> Result<Vec<(u32, f32)>, EngineError> {
        let (ids, place) = (self.ids, self.places[row]);
        let own = &ids[place * self.count..(place + 1) * self.count];
        if own.last() == Some(&NO_CANDIDATE) {
            return Ok(Vec::new());
        }
        let (logits, log_sum) = self.logits(row, excluded)?;
        let is_left = |id: u32| logits[id as usize] > f32::NEG_INFINITY && !own.contains(&id);
        let mut left: Vec<u32> = (0..logits.len() as u32).filter(|&id| is_left(id)).collect();
        // Stable: of equal ones the smaller id comes first, as among those that were looked for.
        left.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        let pair = |id: u32| (id, log_probability(logits[id as usize], log_sum));
        Ok(left.into_iter().map(pair).collect())
    }

    /// The logits of a row, −∞ for the tokens that are no candidates of it, and ln Σ e^logit of all.
    pub(super) fn logits(
        &mut self,
        row: usize,
        excluded: &[u32],
    ) -> Result<(Vec<f32>, f64), EngineError> {
        let place = self.places[row];
        let mut logits = self.given.to_vec();
        if logits.is_empty() {
            self.network.logits(place..place + 1, &mut logits)?;
        }
        let cpu = self.network.tape().cpu().clone();
        // One candidate is there already: what is asked for is the sum, by the same operation as before.
        let (mut id, mut value, mut log_sum) = ([NO_CANDIDATE], [0.0], [0.0]);
        let ends = [excluded.len()];
        let excluded = Excluded { everywhere: self.forbidden, in_rows: excluded, ends: &ends };
        let to = Candidates { ids: &mut id, log_probabilities: &mut value, log_sums: &mut log_sum };
        candidates(&cpu, logits.len(), &mut logits, excluded, to);
        Ok((logits, log_sum[0]))
    }

    /// The attention of a row to `positions` of the source.
    pub(super) fn attention_of(&self, row: usize, positions: usize) -> &[f32] {
        let width = self.attention.len() / (self.ids.len() / self.count.max(1)).max(1);
        &self.attention[self.places[row] * width..][..positions]
    }
}

pub(super) fn covered(coverage: &[f32], attention: &[f32]) -> Vec<f32> {
    coverage.iter().zip(attention).map(|(sum, weight)| sum + weight).collect()
}

/// The first of the largest values; [`NOTHING`] where there is none.
pub(super) fn largest(values: &[f32]) -> u32 {
    let mut best = (NOTHING, f32::NEG_INFINITY);
    for (i, &value) in (0..).zip(values) {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}
