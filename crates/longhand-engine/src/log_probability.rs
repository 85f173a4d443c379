//! Log-probabilities of tokens, from logits.

/// −ln `softmax(logits)[id]` in nats. The largest logit is subtracted first, so that nothing
/// overflows; the sum is in double precision.
pub fn surprisal(logits: &[f32], id: u32) -> f32 {
    (log_sum(logits) - f64::from(logits[id as usize])) as f32
}

/// ln `softmax(logits)[id]`, and the `count` most probable ids with theirs, best first. Among
/// equals the smaller id comes first. Where `id` is among them, both values have the same bits.
///
/// # Panics
/// If `id` is not an index of `logits`.
pub fn log_probabilities(logits: &[f32], id: u32, count: usize) -> (f32, Vec<(u32, f32)>) {
    let sum = log_sum(logits);
    let of = |logit: f32| (f64::from(logit) - sum) as f32;
    let mut top: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if (1..top.len()).contains(&count) {
        top.select_nth_unstable_by(count - 1, order);
    }
    top.truncate(count);
    top.sort_unstable_by(order);
    top.iter_mut().for_each(|(_, logit)| *logit = of(*logit));
    (of(logits[id as usize]), top)
}

/// ln Σ exp(logit) over all logits, summed in `f64`.
pub(crate) fn log_sum(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    sum.ln() + f64::from(most)
}
