//! The plain form, generic over the number type.

use super::{IGNORE, Layer, Size, Targets};
use crate::real::Real;

/// Each row's loss in nats (0 where ignored); with `gradients`, dx [R, D], dW [V, D] and db `[V]`
/// of their sum times `scale` are added to.
pub fn cross_entropy<R: Real>(
    size: Size,
    layer: Layer<R>,
    targets: Targets<R>,
    losses: &mut [R],
    gradients: Option<(R, [&mut [R]; 3])>,
) {
    let Size { rows, width, vocabulary } = size;
    let Layer { x, weight, bias } = layer;
    let Targets { ids: targets, smoothing } = targets;
    let entries = R::from_f64(vocabulary as f64);
    let (scale, mut into) = match gradients {
        Some((scale, into)) => (scale, Some(into)),
        None => (R::zero(), None),
    };
    for r in 0..rows {
        losses[r] = R::zero();
        if targets[r] == IGNORE {
            continue;
        }
        let x = &x[r * width..(r + 1) * width];
        let mut logits: Vec<R> = (0..vocabulary)
            .map(|v| {
                bias.map_or(R::zero(), |bias| bias[v])
                    + (0..width).map(|d| x[d] * weight[v * width + d]).sum()
            })
            .collect();
        log_softmax(&mut logits);
        for v in 0..vocabulary {
            let on_target = if v == targets[r] as usize { R::one() - smoothing } else { R::zero() };
            let wanted = on_target + smoothing / entries;
            losses[r] += -(wanted * logits[v]);
            if let Some([dx, dweight, dbias]) = &mut into {
                let dlogit = (logits[v].exp() - wanted) * scale;
                dbias[v] += dlogit;
                for d in 0..width {
                    dx[r * width + d] += dlogit * weight[v * width + d];
                    dweight[v * width + d] += dlogit * x[d];
                }
            }
        }
    }
}

/// Replaces logits by the logarithm of their softmax.
pub fn log_softmax<R: Real>(logits: &mut [R]) {
    let largest = logits.iter().copied().reduce(R::max).unwrap_or_default();
    let sum: R = logits.iter().map(|&x| (x - largest).exp()).sum();
    for x in logits {
        *x = (*x - largest) - sum.ln();
    }
}
