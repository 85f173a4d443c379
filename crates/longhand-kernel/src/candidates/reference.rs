//! The plain form, generic over the number type.

use super::NO_CANDIDATE;
use crate::real::Real;

/// One row's candidates by sorting all of its entries: ids, ln p, and ln Σ e^logit.
pub fn candidates<R: Real>(
    logits: &[R],
    excluded: &[u32],
    count: usize,
) -> (Vec<u32>, Vec<Option<R>>, R) {
    let largest = logits.iter().copied().reduce(R::max).unwrap_or_default();
    let sum: R = logits.iter().map(|&x| (x - largest).exp()).sum();
    let log_sum = largest + sum.ln();
    let allowed = (0..logits.len() as u32).filter(|id| !excluded.contains(id));
    let mut ids: Vec<u32> = allowed.collect();
    let logit = |id: u32| logits[id as usize];
    // A stable sort: of equal ones the smaller id stays first.
    ids.sort_by(|&a, &b| logit(b).partial_cmp(&logit(a)).unwrap_or(std::cmp::Ordering::Equal));
    ids.truncate(count);
    let mut values: Vec<Option<R>> = ids.iter().map(|&id| Some(logit(id) - log_sum)).collect();
    ids.resize(count, NO_CANDIDATE);
    values.resize(count, None);
    (ids, values, log_sum)
}
