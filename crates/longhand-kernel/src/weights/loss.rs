//! The loss of a language model whose output matrix is packed.

use super::{Panels, linear};
use crate::cpu::{Cpu, Shards};
use crate::loss::{IGNORE, Total, log_softmax};
use crate::pointwise::for_rows;
use crate::scratch;

/// Rows whose logits are in memory at a time.
const ROWS: usize = 64;

/// Softmax cross-entropy of x·Wᵀ + b against the targets, as
/// [`loss::cross_entropy`](crate::loss::cross_entropy) without gradients: x is [R, D], `bias`
/// `[V]`, `targets` `[R]`; `losses` `[R]` receives each row's loss in nats.
///
/// # Panics
/// The panics of that function for these targets and lengths.
pub fn cross_entropy(
    cpu: &Cpu,
    x: &[f32],
    weight: &Panels,
    bias: Option<&[f32]>,
    targets: &[u32],
    smoothing: f32,
    losses: Option<&mut [f32]>,
) -> Total {
    let [vocabulary, width] = weight.shape();
    assert_eq!(x.len(), targets.len() * width, "the input of the last layer");
    assert!(losses.as_ref().is_none_or(|losses| losses.len() == targets.len()), "a loss per row");
    let in_range = |&target: &u32| target == IGNORE || (target as usize) < vocabulary;
    assert!(targets.iter().all(in_range), "targets are in the vocabulary");
    let mut total = Total::default();
    let mut logits = scratch::take(cpu, ROWS.min(targets.len()) * vocabulary);
    let mut kept = losses;
    for (block, targets) in targets.chunks(ROWS).enumerate() {
        let first = block * ROWS;
        let mut found = [(0.0, false); ROWS];
        if targets.iter().any(|&target| target != IGNORE) {
            let logits = &mut logits[..targets.len() * vocabulary];
            let x = &x[first * width..(first + targets.len()) * width];
            linear(cpu, targets.len(), &[x], weight, bias, logits);
            log_softmax(cpu, vocabulary, logits);
            let (logits, shards) = (&*logits, Shards::new(&mut found));
            for_rows(cpu, targets.len(), vocabulary, |_, range| {
                for r in range.filter(|&r| targets[r] != IGNORE) {
                    let row = &logits[r * vocabulary..(r + 1) * vocabulary];
                    // SAFETY: each row belongs to one thread.
                    let found = unsafe { shards.part(r..r + 1) };
                    found[0] = loss(row, targets[r], smoothing);
                }
            });
        }
        for (r, &target) in targets.iter().enumerate() {
            if target != IGNORE {
                let (nats, correct) = found[r];
                total.nats += nats;
                total.count += 1;
                total.correct += usize::from(correct);
            }
            if let Some(losses) = &mut kept {
                losses[first + r] = found[r].0 as f32;
            }
        }
    }
    scratch::give(cpu, logits);
    total
}

/// Loss of one row of log-probabilities, and whether the target has the largest.
fn loss(row: &[f32], target: u32, smoothing: f32) -> (f64, bool) {
    let at_target = row[target as usize];
    let mut nats = -f64::from(at_target);
    if smoothing > 0.0 {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
        nats = (1.0 - f64::from(smoothing)) * nats - f64::from(smoothing) * mean;
    }
    (nats, row.iter().all(|&x| x <= at_target))
}
