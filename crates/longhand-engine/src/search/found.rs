//! What is found for each hypothesis: its candidates, and what it attends to.

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
}

impl Found<'_> {
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
