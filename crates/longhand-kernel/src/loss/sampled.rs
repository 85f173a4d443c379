//! Cross-entropy over some entries of a large vocabulary, in training.
//!
//! A batch is compared with the targets of all its rows and a random sample of the other entries
//! (Bengio and Senécal, "Adaptive importance sampling to accelerate training of a neural
//! probabilistic language model", 2008; Jean et al., "On using very large target vocabulary for
//! neural machine translation", 2015, section 3). Each logit is lowered by ln π, where π is the
//! probability that its entry is among the candidates of a row that it is not the target of. Given the
//! candidates, the softmax of these logits is the probability of each to be the target wherever the
//! softmax over the whole vocabulary is right, so that the two have the same optimum.

use std::ops::Deref;

use super::{Gradient, IGNORE, Layer, Size, Targets, Total, cross_entropy};
use crate::cpu::Cpu;
use crate::random::split_mix64;
use crate::scratch;

/// Entries are drawn by their frequency to this power: rare ones come more often than in text, so
/// that their vectors are told apart from others too (Mikolov et al., "Distributed representations of
/// words and phrases", 2013, section 2.2).
const POWER: f64 = 0.75;

/// The probabilities with which the entries of a vocabulary are drawn.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// `[V]`: the share of each entry among all targets.
    shares: Vec<f64>,
    /// `[V]`: the probability that an entry is drawn.
    drawn: Vec<f64>,
}

/// The entries that the targets of a batch are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidates {
    /// Rising ids, those of all targets among them.
    pub ids: Vec<u32>,
    /// ln π of each id, which its logit is lowered by; 0 for an entry that is always drawn.
    pub log_inclusion: Vec<f32>,
}

impl Sampler {
    /// Draws `samples` entries on average, by how often each entry is the target of a row: `counts`
    /// `[V]`. With as many samples as entries all are drawn.
    pub fn new(counts: &[u64], samples: usize) -> Self {
        // An entry that was never counted can be a target all the same.
        let counts = counts.iter().map(|&count| count as f64 + 1.0).collect::<Vec<_>>();
        let all: f64 = counts.iter().sum();
        let weights: Vec<f64> = counts.iter().map(|count| count.powf(POWER)).collect();
        let factor = factor(&weights, samples as f64);
        let drawn = weights.iter().map(|weight| (weight * factor).min(1.0)).collect();
        Self { shares: counts.iter().map(|count| count / all).collect(), drawn }
    }

    /// The candidates of a batch with these targets. The same seed draws the same entries.
    ///
    /// # Panics
    /// If a target is neither [`IGNORE`] nor below V.
    pub fn candidates(&self, targets: &[u32], seed: u64) -> Candidates {
        let mut is_target = vec![false; self.drawn.len()];
        let mut rows = 0usize;
        for &target in targets.iter().filter(|&&target| target != IGNORE) {
            is_target[target as usize] = true;
            rows += 1;
        }
        let others = rows.saturating_sub(1) as f64;
        let seed = split_mix64(seed);
        let (mut ids, mut log_inclusion) = (Vec::new(), Vec::new());
        for (id, (&drawn, &share)) in self.drawn.iter().zip(&self.shares).enumerate() {
            if is_target[id] || unit(split_mix64(seed ^ id as u64)) < drawn {
                ids.push(id as u32);
                // Neither drawn nor the target of another row.
                let left_out = (-drawn).ln_1p() + others * (-share).ln_1p();
                log_inclusion.push((-left_out.exp_m1()).ln() as f32);
            }
        }
        Candidates { ids, log_inclusion }
    }
}

/// The factor of weights with which the sum of the probabilities min(1, factor × weight) is `samples`.
fn factor(weights: &[f64], samples: f64) -> f64 {
    if samples >= weights.len() as f64 {
        return f64::INFINITY;
    }
    let mut falling = weights.to_vec();
    falling.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut rest: f64 = falling.iter().sum();
    for (certain, weight) in falling.iter().enumerate() {
        let factor = (samples - certain as f64) / rest;
        if factor * weight < 1.0 {
            return factor.max(0.0);
        }
        rest -= weight;
    }
    f64::INFINITY
}

/// A number in 0..1 from the bits of another one.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// As [`cross_entropy`], over `candidates` alone. Label smoothing spreads over the candidates. Only
/// their rows of the gradient of the weight and of the bias are added to.
///
/// # Panics
/// As [`cross_entropy`], and if a target is not among the candidates.
pub fn sampled_cross_entropy(
    cpu: &Cpu,
    size: Size,
    layer: Layer,
    targets: Targets,
    candidates: &Candidates,
    losses: Option<&mut [f32]>,
    gradient: Option<Gradient>,
) -> Total {
    let Candidates { ids, log_inclusion } = candidates;
    let Size { width, .. } = size;
    let few = Size { vocabulary: ids.len(), ..size };
    let mut weight = scratch::take(cpu, ids.len() * width);
    for (own, &id) in weight.chunks_exact_mut(width.max(1)).zip(ids) {
        own.copy_from_slice(&layer.weight[id as usize * width..][..width]);
    }
    let of_id = |id: u32| layer.bias.map_or(0.0, |bias| bias[id as usize]);
    let bias: Vec<f32> = ids.iter().zip(log_inclusion).map(|(&id, ln)| of_id(id) - ln).collect();
    let place = |&id: &u32| match ids.binary_search(&id) {
        Ok(place) => place as u32,
        Err(_) => {
            assert_eq!(id, IGNORE, "a target is no candidate");
            IGNORE
        }
    };
    let places: Vec<u32> = targets.ids.iter().map(place).collect();
    let own_layer = Layer { x: layer.x, weight: &weight[..], bias: Some(&bias[..]) };
    let own_targets = Targets { ids: &places, ..targets };
    let total = match gradient {
        None => cross_entropy(cpu, few, own_layer, own_targets, losses, None),
        Some(Gradient { scale, x, weight: into_weight, bias: into_bias }) => {
            let mut dweight = scratch::take(cpu, ids.len() * width);
            dweight.fill(0.0);
            let mut dbias = vec![0.0; ids.len()];
            let own = Gradient {
                scale,
                x,
                weight: into_weight.is_some().then_some(&mut dweight[..]),
                bias: into_bias.is_some().then_some(&mut dbias[..]),
            };
            let total = cross_entropy(cpu, few, own_layer, own_targets, losses, Some(own));
            for (into, own, width) in
                [(into_weight, dweight.deref(), width), (into_bias, &dbias, 1)]
            {
                if let Some(into) = into {
                    add_rows(into, own, ids, width);
                }
            }
            scratch::give(cpu, dweight);
            total
        }
    };
    scratch::give(cpu, weight);
    total
}

/// Adds each row of `from` `[ids, width]` to the row of its id.
fn add_rows(into: &mut [f32], from: &[f32], ids: &[u32], width: usize) {
    for (from, &id) in from.chunks_exact(width.max(1)).zip(ids) {
        let into = &mut into[id as usize * width..][..width];
        into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{log_softmax, reference};
    use crate::testing::{close, levels, values, wide};

    #[test]
    fn as_many_entries_are_drawn_as_wanted_and_frequent_ones_always() {
        let counts: Vec<u64> = (0..1000u64).map(|id| 200_000 / (id + 1)).collect();
        let sampler = Sampler::new(&counts, 100);
        let expected: f64 = sampler.drawn.iter().sum();
        assert!((expected - 100.0).abs() < 1e-9, "{expected}");
        let mut drawn = vec![0; 1000];
        for seed in 0..2000 {
            let Candidates { ids, log_inclusion } = sampler.candidates(&[IGNORE], seed);
            assert!(ids.is_sorted());
            for (&id, &ln) in ids.iter().zip(&log_inclusion) {
                drawn[id as usize] += 1;
                assert!((f64::from(ln) - sampler.drawn[id as usize].ln()).abs() < 1e-5);
            }
        }
        for (id, &count) in drawn.iter().enumerate() {
            let wanted = sampler.drawn[id];
            let spread = 5.0 * (wanted * (1.0 - wanted) / 2000.0).sqrt();
            assert!((f64::from(count) / 2000.0 - wanted).abs() <= spread, "{id}: {count}");
        }
        assert_eq!(drawn[0], 2000);
        assert_eq!(sampler.candidates(&[7], 3), sampler.candidates(&[7], 3));
    }

    #[test]
    fn with_all_entries_the_loss_and_its_gradient_are_those_of_the_whole_softmax() {
        for level in levels() {
            let cpu = Cpu::with_level(2, level);
            let size = Size { rows: 9, width: 5, vocabulary: 13 };
            let (x, w, b) = (values(45, 1), values(65, 2), values(13, 3));
            let layer = Layer { x: &x, weight: &w, bias: Some(&b) };
            let ids = [0, 12, 4, IGNORE, 4, 7, 1, 2, 11];
            let targets = Targets { ids: &ids, smoothing: 0.1 };
            let candidates = Sampler::new(&[3; 13], 13).candidates(&ids, 1);
            assert_eq!(candidates.ids, (0..13).collect::<Vec<u32>>());
            assert_eq!(candidates.log_inclusion, [0.0; 13]);
            let mut of = [0, 1].map(|_| (vec![1.0; 45], vec![2.0; 65], vec![3.0; 13]));
            let totals = of.each_mut().map(|(x, weight, bias)| {
                let (x, weight, bias) =
                    (Some(&mut x[..]), Some(&mut weight[..]), Some(&mut bias[..]));
                Gradient { scale: 0.5, x, weight, bias }
            });
            let [whole, sampled] = totals;
            let whole = cross_entropy(&cpu, size, layer, targets, None, Some(whole));
            let mut losses = [9.0; 9];
            let into = Some(&mut losses[..]);
            let own = Some(sampled);
            let sampled = sampled_cross_entropy(&cpu, size, layer, targets, &candidates, into, own);
            assert_eq!(whole, sampled);
            assert_eq!(of[0], of[1]);
        }
    }

    #[test]
    fn losses_and_gradients_follow_the_reference_over_the_candidates() {
        let size = Size { rows: 6, width: 4, vocabulary: 40 };
        let (x, w) = (values(24, 1), values(160, 2));
        let ids = [3, 39, IGNORE, 3, 17, 0];
        // Unequal ones: a correction that is the same for all would change no softmax.
        let counts: Vec<u64> = (0..40u64).map(|id| 1 + id * id).collect();
        let candidates = Sampler::new(&counts, 8).candidates(&ids, 2);
        let few = candidates.ids.len();
        assert!((5..40).contains(&few));
        let rows = candidates.ids.iter().flat_map(|&id| &w[id as usize * 4..][..4]);
        let own: Vec<f64> = rows.map(|&x| f64::from(x)).collect();
        let corrections: Vec<f64> =
            candidates.log_inclusion.iter().map(|&ln| -f64::from(ln)).collect();
        let place = |id: &u32| candidates.ids.binary_search(id).map_or(IGNORE, |at| at as u32);
        let places: Vec<u32> = ids.iter().map(place).collect();
        let (mut dx, mut dw, mut db) = (vec![0.0; 24], vec![0.0; few * 4], vec![0.0; few]);
        let mut exact = [0.0; 6];
        let wide_x = wide(&x);
        let layer = Layer { x: &wide_x, weight: &own, bias: Some(&corrections[..]) };
        let targets = Targets { ids: &places, smoothing: 0.0 };
        let into = Some((0.5, [&mut dx[..], &mut dw, &mut db]));
        reference::cross_entropy(
            Size { vocabulary: few, ..size },
            layer,
            targets,
            &mut exact,
            into,
        );
        for level in levels() {
            let cpu = Cpu::with_level(2, level);
            let (mut gx, mut gw) = (vec![0.0; 24], vec![0.0; 160]);
            let gradient =
                Gradient { scale: 0.5, x: Some(&mut gx), weight: Some(&mut gw), bias: None };
            let layer = Layer { x: &x, weight: &w, bias: None };
            let (targets, mut losses) = (Targets { ids: &ids, smoothing: 0.0 }, [9.0; 6]);
            let (into, gradient) = (Some(&mut losses[..]), Some(gradient));
            sampled_cross_entropy(&cpu, size, layer, targets, &candidates, into, gradient);
            close("losses", &losses, &exact, 1e-5);
            close("dx", &gx, &dx, 1e-5);
            for (id, row) in gw.chunks(4).enumerate() {
                match candidates.ids.binary_search(&(id as u32)) {
                    Ok(at) => close("dW", row, &dw[at * 4..][..4], 1e-5),
                    Err(_) => assert_eq!(row, [0.0; 4], "entry {id} was not drawn"),
                }
            }
        }
    }

    /// Of a model whose logits are right, the mean gradient over samples is zero, as
    /// the whole softmax's is.
    #[test]
    fn right_logits_are_the_optimum_of_the_sampled_loss_too() {
        let cpu = Cpu::new(1);
        let vocabulary = 12;
        let counts: Vec<u64> = (0..12u64).map(|id| 4000 / (id + 1)).collect();
        let all: u64 = counts.iter().map(|count| count + 1).sum();
        let mut bias: Vec<f32> =
            counts.iter().map(|&count| ((count + 1) as f32 / all as f32).ln()).collect();
        log_softmax(&cpu, vocabulary, &mut bias);
        let sampler = Sampler::new(&counts, 4);
        let size = Size { rows: 4, width: 0, vocabulary };
        let (mut sum, trials) = (vec![0.0; vocabulary], 40_000);
        for trial in 0..trials {
            let target = |row: u64| {
                let mut at = unit(split_mix64(trial * 8 + row + 1)) * all as f64;
                let passed = |count: &u64| {
                    at -= (*count + 1) as f64;
                    at < 0.0
                };
                counts.iter().position(passed).unwrap_or(vocabulary - 1) as u32
            };
            let ids: Vec<u32> = (0..4).map(target).collect();
            let candidates = sampler.candidates(&ids, trial + 1_000_000);
            let (layer, targets) = (
                Layer { x: &[], weight: &[], bias: Some(&bias) },
                Targets { ids: &ids, smoothing: 0.0 },
            );
            let into = Some(&mut sum[..]);
            let gradient = Some(Gradient { scale: 1.0, x: None, weight: None, bias: into });
            sampled_cross_entropy(&cpu, size, layer, targets, &candidates, None, gradient);
        }
        for (id, gradient) in sum.iter().enumerate() {
            let mean = gradient / (4 * trials) as f32;
            assert!(mean.abs() < 0.003, "entry {id}: {mean}");
        }
    }
}
