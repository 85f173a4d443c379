//! The answer of a pointer-generator: a mixture of a softmax over the vocabulary and of a distribution
//! over the tokens of a source (See et al., "Get to the point: summarization with pointer-generator
//! networks", 2017, equation 9).
//!
//! ```text
//! P[v] = g · softmax(logits)[v] + (1 − g) · Σ a[s] over the positions s whose token is v,   g = σ(z)
//! ```
//!
//! All is computed from logarithms, so that neither share vanishes before the other takes over.

use super::passes::LogSoftmax;
use super::{IGNORE, Targets, Total, target_out_of_range};
use crate::buffer::Buffer;
use crate::cpu::{Cpu, Shards, Worker};
use crate::pointwise::for_rows;
use crate::simd::exp_slice;

/// What is mixed with the softmax of the logits of R rows.
#[derive(Clone, Copy, Debug)]
pub struct Mixture<'a> {
    /// V: entries of the vocabulary.
    pub vocabulary: usize,
    /// `[R]`: z, the logit of generating.
    pub gates: &'a [f32],
    /// `[R, columns]`: a, the distribution over the positions of the row's source.
    pub attention: &'a [f32],
    /// Columns of `attention`, at least the positions of the longest source.
    pub columns: usize,
    /// The tokens of the sources.
    pub sources: Tokens<'a>,
    /// The number of the first row among those of the sequences; row r reads source r mod S.
    pub first: usize,
}

/// The tokens of S sources. Position p of source s is `ids[starts[s] + p · step]`.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// The tokens of all sources, each below V.
    pub ids: &'a [u32],
    /// `[S]`: where each source begins.
    pub starts: &'a [usize],
    /// `[S]`: positions of each source.
    pub lengths: &'a [usize],
    /// From one position of a source to its next.
    pub step: usize,
}

/// The wanted gradients of the sum of the losses times `scale`; each is added to.
pub struct Gradient<'a> {
    /// Usually 1 / the number of targets, so that the gradient is that of the mean.
    pub scale: f32,
    /// `[R, V]`: gradient of the logits.
    pub logits: Option<&'a mut [f32]>,
    /// `[R]`: gradient of z.
    pub gates: Option<&'a mut [f32]>,
    /// `[R, columns]`: gradient of the distribution over the source.
    pub attention: Option<&'a mut [f32]>,
}

/// The largest exponent of a slope by an attention weight: a token of probability 0 has none.
const STEEPEST: f64 = 60.0;

/// Replaces each row of logits `[R, V]` by ln P, whose softmax is P.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn log_probabilities(cpu: &Cpu, mixture: Mixture, logits: &mut [f32]) {
    let vocabulary = mixture.vocabulary;
    mixture.check(logits.len());
    let logits = Shards::new(logits);
    for_rows(cpu, mixture.gates.len(), vocabulary, |worker, range| {
        for r in range {
            // SAFETY: each row belongs to one thread.
            let row = unsafe { logits.part(r * vocabulary..(r + 1) * vocabulary) };
            worker.level.run(LogSoftmax(&mut *row));
            let [generate, copy] = mixture.shares(r);
            row.iter_mut().for_each(|x| *x = (f64::from(*x) + generate) as f32);
            for (id, a) in mixture.copied(r) {
                // Once for each position: the logarithm of a sum of as many terms.
                let sum = log_sum(f64::from(row[id]), copy + f64::from(a).ln());
                row[id] = sum as f32;
            }
        }
    });
}

/// −ln P of the targets, and its gradient in the same pass.
///
/// With label smoothing ε the target distribution q is (1 − ε) on the target plus ε / V on every
/// entry, and the loss is −Σᵥ qᵥ·ln Pᵥ. With rᵥ the share of Pᵥ that is generated and R = Σᵥ qᵥ·rᵥ,
/// the gradients are softmax(logits)·R − q·r by the logits, g − R by z, and by a weight of a
/// position with token v −qᵥ·(1 − g)/Pᵥ. `losses` `[R]` receives each row's loss in nats, 0 for
/// ignored rows. Stable for any finite logits and gates.
///
/// # Panics
/// If a target is neither below V nor [`IGNORE`], or a slice's length is not that of its shape.
pub fn cross_entropy(
    cpu: &Cpu,
    mixture: Mixture,
    logits: &[f32],
    targets: Targets,
    losses: Option<&mut [f32]>,
    gradient: Option<Gradient>,
) -> Total {
    let Mixture { vocabulary, columns, gates, .. } = mixture;
    let rows = gates.len();
    mixture.check(logits.len());
    assert_eq!(targets.ids.len(), rows, "one target per row");
    if let Some((row, target)) = target_out_of_range(targets.ids, vocabulary) {
        panic!("target {target} of row {row} is not below {vocabulary}");
    }
    let mut nats = vec![0.0_f64; rows];
    let mut correct = vec![false; rows];
    let (own_nats, own_correct) = (Shards::new(&mut nats), Shards::new(&mut correct));
    let scale = gradient.as_ref().map_or(0.0, |gradient| gradient.scale);
    let [d_logits, d_gates, d_attention] = match gradient {
        Some(Gradient { logits, gates, attention, .. }) => [logits, gates, attention],
        None => [None, None, None],
    }
    .map(|d| d.map(Shards::new));
    let lengths = [(&d_logits, logits.len()), (&d_gates, rows), (&d_attention, rows * columns)];
    for (d, len) in lengths {
        assert!(d.as_ref().is_none_or(|d| d.len() == len), "a pointer: the length of a gradient");
    }
    for_rows(cpu, rows, vocabulary, |worker, range| {
        let mut room = Room::take(worker, vocabulary);
        for r in range.filter(|&r| targets.ids[r] != IGNORE) {
            let target = targets.ids[r] as usize;
            let smoothing = f64::from(targets.smoothing);
            let one = One { mixture, r, target, smoothing, scale: f64::from(scale) };
            let row = r * vocabulary..(r + 1) * vocabulary;
            // SAFETY: each row belongs to one thread.
            unsafe {
                let into = Into {
                    logits: d_logits.as_ref().map(|d| d.part(row.clone())),
                    gate: d_gates.as_ref().map(|d| &mut d.part(r..r + 1)[0]),
                    attention: (d_attention.as_ref())
                        .map(|d| d.part(r * columns..(r + 1) * columns)),
                };
                let (loss, is_correct) = one.run(worker, &mut room, &logits[row], into);
                own_nats.part(r..r + 1)[0] = loss;
                own_correct.part(r..r + 1)[0] = is_correct;
            }
        }
        room.give(worker);
    });
    if let Some(losses) = losses {
        assert_eq!(losses.len(), rows, "one loss per row");
        losses.iter_mut().zip(&nats).for_each(|(loss, &nats)| *loss = nats as f32);
    }
    Total {
        nats: nats.iter().sum(),
        count: targets.ids.iter().filter(|&&id| id != IGNORE).count(),
        correct: correct.iter().filter(|&&is_correct| is_correct).count(),
    }
}

impl Mixture<'_> {
    fn check(&self, logits: usize) {
        let Self { vocabulary, gates, attention, columns, sources, .. } = self;
        let rows = gates.len();
        assert_eq!(logits, rows * vocabulary, "a pointer: the length of the logits");
        assert_eq!(attention.len(), rows * columns, "a pointer: the length of the attention");
        let Tokens { starts, lengths, .. } = sources;
        assert_eq!(starts.len(), lengths.len(), "a pointer: a length for each source");
        assert!(rows == 0 || !starts.is_empty(), "a pointer: {rows} rows without a source");
        assert!(lengths.iter().all(|len| len <= columns), "a pointer: columns for each position");
    }

    /// ln g and ln (1 − g) of a row. Without a source all is generated.
    fn shares(&self, r: usize) -> [f64; 2] {
        match self.sources.lengths[self.source(r)] {
            0 => [0.0, f64::NEG_INFINITY],
            _ => [self.gates[r], -self.gates[r]].map(|z| log_sigmoid(f64::from(z))),
        }
    }

    fn source(&self, r: usize) -> usize {
        (self.first + r) % self.sources.lengths.len()
    }

    /// The tokens of a row's source, each with its weight.
    fn copied(&self, r: usize) -> impl Iterator<Item = (usize, f32)> {
        let Tokens { ids, starts, lengths, step } = self.sources;
        let s = self.source(r);
        let own = &self.attention[r * self.columns..][..lengths[s]];
        own.iter().enumerate().map(move |(p, &a)| (ids[starts[s] + p * step] as usize, a))
    }
}

/// Room of a thread for one row.
struct Room {
    /// `[V]`: logarithms of the softmax, then the softmax.
    generated: Buffer,
    /// `[V]`: what is copied of each token; zeros between rows, and −1 once it was counted.
    mass: Buffer,
    /// `[V]`: slopes by the attention weights of each token.
    slopes: Buffer,
}

impl Room {
    fn take(worker: &mut Worker, vocabulary: usize) -> Self {
        let buffers = &mut *worker.buffers;
        Self {
            generated: buffers.take(vocabulary),
            mass: buffers.take_zeros(vocabulary),
            slopes: buffers.take(vocabulary),
        }
    }

    fn give(self, worker: &mut Worker) {
        for buffer in [self.generated, self.mass, self.slopes] {
            worker.buffers.give(buffer);
        }
    }
}

/// The loss of one row.
struct One<'a> {
    mixture: Mixture<'a>,
    r: usize,
    target: usize,
    smoothing: f64,
    scale: f64,
}

/// Where the gradients of one row are added.
struct Into<'a> {
    logits: Option<&'a mut [f32]>,
    gate: Option<&'a mut f32>,
    attention: Option<&'a mut [f32]>,
}

impl One<'_> {
    /// The loss, and whether the target has the largest probability.
    fn run(
        &self,
        worker: &mut Worker,
        room: &mut Room,
        logits: &[f32],
        mut into: Into,
    ) -> (f64, bool) {
        let Self { mixture, r, target, smoothing, scale } = *self;
        let Room { generated, mass, slopes } = room;
        generated.copy_from_slice(logits);
        worker.level.run(LogSoftmax(&mut *generated));
        let [generate, copy] = mixture.shares(r);
        let even = smoothing / logits.len() as f64;
        let wanted = |id: usize| even + if id == target { 1.0 - smoothing } else { 0.0 };
        let largest = generated.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut largest = generate + f64::from(largest);
        let mut of_target = generate + f64::from(generated[target]);
        let mut loss = match even {
            0.0 => 0.0,
            _ => {
                let sum: f64 = generated.iter().map(|&x| f64::from(x)).sum();
                -even * (sum + generate * logits.len() as f64)
            }
        };
        // Σ q·r, the wanted share that is generated.
        let mut share = 1.0;
        for (id, a) in mixture.copied(r) {
            mass[id] += a;
        }
        for (id, _) in mixture.copied(r) {
            let copied = std::mem::replace(&mut mass[id], -1.0);
            if copied < 0.0 {
                continue;
            }
            let alone = generate + f64::from(generated[id]);
            let both = log_sum(alone, copy + f64::from(copied).ln());
            let of_copies = -(alone - both).exp_m1();
            if id == target {
                of_target = both;
            }
            largest = largest.max(both);
            loss -= even * (both - alone);
            share -= wanted(id) * of_copies;
            slopes[id] = (-scale * wanted(id) * (copy - both).min(STEEPEST).exp()) as f32;
            if let Some(d) = &mut into.logits {
                d[id] += (scale * wanted(id) * of_copies) as f32;
            }
        }
        loss -= (1.0 - smoothing) * of_target;
        for (p, (id, _)) in mixture.copied(r).enumerate() {
            mass[id] = 0.0;
            if let Some(d) = &mut into.attention {
                d[p] += slopes[id];
            }
        }
        if let Some(d) = into.gate.filter(|_| copy > f64::NEG_INFINITY) {
            *d += (scale * (generate.exp() - share)) as f32;
        }
        if let Some(d) = into.logits {
            exp_slice(worker.level, generated);
            let (factor, less) = ((scale * share) as f32, (scale * even) as f32);
            d.iter_mut().zip(&**generated).for_each(|(d, p)| *d += factor * p - less);
            d[target] -= (scale * (1.0 - smoothing)) as f32;
        }
        (loss, of_target >= largest)
    }
}

/// ln σ(z).
fn log_sigmoid(z: f64) -> f64 {
    z.min(0.0) - (-z.abs()).exp().ln_1p()
}

/// ln (e^a + e^b) of a finite a.
fn log_sum(a: f64, b: f64) -> f64 {
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    large + (small - large).exp().ln_1p()
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::{IGNORE, Mixture, Targets};
    use crate::real::Real;

    /// P `[R, V]` from logits, gates and attention; the mixture gives the tokens and the sizes.
    pub fn probabilities<R: Real>(
        mixture: Mixture,
        logits: &[R],
        gates: &[R],
        attention: &[R],
    ) -> Vec<R> {
        let (vocabulary, columns) = (mixture.vocabulary, mixture.columns);
        let mut all = logits.to_vec();
        for (r, row) in all.chunks_mut(vocabulary).enumerate() {
            super::super::reference::log_softmax(row);
            let has_source = mixture.copied(r).next().is_some();
            let gate = if has_source { gates[r].sigmoid() } else { R::one() };
            row.iter_mut().for_each(|x| *x = gate * x.exp());
            for (p, (id, _)) in mixture.copied(r).enumerate() {
                row[id] += (R::one() - gate) * attention[r * columns + p];
            }
        }
        all
    }

    /// Each row's loss in nats, 0 where ignored.
    pub fn cross_entropy<R: Real>(
        mixture: Mixture,
        [logits, gates, attention]: [&[R]; 3],
        targets: Targets<R>,
    ) -> Vec<R> {
        let vocabulary = mixture.vocabulary;
        let all = probabilities(mixture, logits, gates, attention);
        let even = targets.smoothing / R::from_f64(vocabulary as f64);
        let loss = |(row, &target): (&[R], &u32)| {
            let wanted = |id: usize| {
                even + if id == target as usize { R::one() - targets.smoothing } else { R::zero() }
            };
            match target {
                IGNORE => R::zero(),
                _ => -row.iter().enumerate().map(|(id, p)| wanted(id) * p.ln()).sum::<R>(),
            }
        };
        all.chunks(vocabulary).zip(targets.ids).map(loss).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, levels, values, wide};

    /// Logits, gates and attention of rows over sources with repeated tokens; one source is empty.
    struct Case {
        vocabulary: usize,
        rows: usize,
        columns: usize,
        ids: Vec<u32>,
        starts: Vec<usize>,
        lengths: Vec<usize>,
        values: [Vec<f32>; 3],
        targets: Vec<u32>,
    }

    impl Case {
        fn new(vocabulary: usize, rows: usize, lengths: &[usize]) -> Self {
            let columns = lengths.iter().max().unwrap() + 1;
            let count: usize = lengths.iter().sum();
            let of = |x: f32| ((x + 1.0) / 2.0 * vocabulary as f32) as u32 % vocabulary as u32;
            let ids: Vec<u32> = values(count, 1).into_iter().map(of).collect();
            let starts = lengths.iter().scan(0, |end, len| {
                *end += len;
                Some(*end - len)
            });
            let starts: Vec<usize> = starts.collect();
            let mut attention: Vec<f32> =
                values(rows * columns, 2).iter().map(|x| (1.5 * x).exp()).collect();
            for (r, row) in attention.chunks_mut(columns).enumerate() {
                let real = lengths[(r + 1) % lengths.len()];
                row[real..].fill(0.0);
                let sum: f32 = row.iter().sum();
                row[..real].iter_mut().for_each(|a| *a /= sum);
            }
            // A source's own token, any token, and a row that is ignored.
            let target = |r: usize| match (r % 4, lengths[(r + 1) % lengths.len()]) {
                (0 | 1, len @ 1..) => ids[starts[(r + 1) % lengths.len()] + r % len],
                (3, _) => IGNORE,
                _ => (r * 5 % vocabulary) as u32,
            };
            let targets = (0..rows).map(target).collect();
            let values = [
                values(rows * vocabulary, 3).iter().map(|x| 4.0 * x).collect(),
                values(rows, 4).iter().map(|x| 3.0 * x).collect(),
                attention,
            ];
            let lengths = lengths.to_vec();
            Self { vocabulary, rows, columns, ids, starts, lengths, values, targets }
        }

        fn mixture(&self) -> Mixture<'_> {
            Mixture {
                vocabulary: self.vocabulary,
                gates: &self.values[1],
                attention: &self.values[2],
                columns: self.columns,
                sources: Tokens {
                    ids: &self.ids,
                    starts: &self.starts,
                    lengths: &self.lengths,
                    step: 1,
                },
                first: 1,
            }
        }
    }

    fn run(cpu: &Cpu, case: &Case, smoothing: f32) -> (Total, Vec<f32>, [Vec<f32>; 3]) {
        let mut losses = vec![f32::NAN; case.rows];
        let mut into = case.values.each_ref().map(|values| vec![1.0; values.len()]);
        let [logits, gates, attention] = into.each_mut().map(|d| Some(&mut d[..]));
        let gradient = Gradient { scale: 0.5, logits, gates, attention };
        let targets = Targets { ids: &case.targets, smoothing };
        let mixture = case.mixture();
        let all = Some(&mut losses[..]);
        let total = cross_entropy(cpu, mixture, &case.values[0], targets, all, Some(gradient));
        let again = cross_entropy(cpu, mixture, &case.values[0], targets, None, None);
        assert_eq!(again, total);
        into.iter_mut().flatten().for_each(|d| *d = (*d - 1.0) / 0.5);
        (total, losses, into)
    }

    #[test]
    fn losses_are_the_references_and_gradients_its_central_differences() {
        for level in levels() {
            let cpu = Cpu::with_level(2, level);
            for (vocabulary, rows, lengths) in
                [(1, 3, vec![2]), (7, 9, vec![5, 0, 9]), (40, 6, vec![3, 30]), (5, 4, vec![0])]
            {
                for smoothing in [0.0, 0.3] {
                    let case = Case::new(vocabulary, rows, &lengths);
                    let (total, losses, gradients) = run(&cpu, &case, smoothing);
                    let [logits, gates, attention] = case.values.each_ref().map(|x| wide(x));
                    let targets = Targets { ids: &case.targets, smoothing: f64::from(smoothing) };
                    let sum = |parts: [&[f64]; 3]| -> f64 {
                        reference::cross_entropy(case.mixture(), parts, targets).iter().sum()
                    };
                    let exact = reference::cross_entropy(
                        case.mixture(),
                        [&logits, &gates, &attention],
                        targets,
                    );
                    close("losses", &losses, &exact, 1e-5);
                    assert!((total.nats - exact.iter().sum::<f64>()).abs() < 1e-4);
                    let [dl, dg, da] = &gradients;
                    near("logits", &logits, dl, |x| sum([x, &gates, &attention]));
                    near("gates", &gates, dg, |x| sum([&logits, x, &attention]));
                    near("attention", &attention, da, |x| sum([&logits, &gates, x]));
                }
            }
        }
    }

    /// The slope of the reference is the gradient, which single precision gives to a few digits.
    fn near(name: &str, at: &[f64], gradient: &[f32], mut f: impl FnMut(&[f64]) -> f64) {
        let (mut point, step) = (at.to_vec(), 1e-6);
        let slopes: Vec<f64> = (0..at.len())
            .map(|i| {
                point[i] = at[i] + step;
                let above = f(&point);
                point[i] = at[i] - step;
                let below = f(&point);
                point[i] = at[i];
                (above - below) / (2.0 * step)
            })
            .collect();
        close(name, gradient, &slopes, 2e-5);
    }

    #[test]
    fn rows_are_distributions_and_their_losses_are_read_from_them() {
        let cpu = Cpu::new(2);
        let case = Case::new(40, 8, &[12, 0, 30]);
        let (_, losses, _) = run(&cpu, &case, 0.0);
        let mut logits = case.values[0].clone();
        log_probabilities(&cpu, case.mixture(), &mut logits);
        let [exact, gates, attention] = case.values.each_ref().map(|x| wide(x));
        let exact = reference::probabilities(case.mixture(), &exact, &gates, &attention);
        for (r, (row, exact)) in logits.chunks(40).zip(exact.chunks(40)).enumerate() {
            let p: Vec<f32> = row.iter().map(|x| x.exp()).collect();
            close("probabilities", &p, exact, 3e-6);
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            if case.targets[r] != IGNORE {
                assert!((losses[r] + row[case.targets[r] as usize]).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_row_is_right_where_its_target_is_most_probable() {
        let cpu = Cpu::new(1);
        let sources = Tokens { ids: &[2, 2], starts: &[0], lengths: &[2], step: 1 };
        let (gates, attention) = ([0.0, 0.0, 20.0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
        let mixture = Mixture {
            vocabulary: 3,
            gates: &gates,
            attention: &attention,
            columns: 2,
            sources,
            first: 0,
        };
        let logits = [0.0; 9];
        let total = |ids: &[u32]| {
            let targets = Targets { ids, smoothing: 0.0 };
            cross_entropy(&cpu, mixture, &logits, targets, None, None)
        };
        let right = total(&[2, 0, 0]);
        assert_eq!((right.count, right.correct), (3, 1));
        assert!((right.nats - (1.5_f64.ln() + 2.0 * 3.0_f64.ln() + 2.0_f64.ln())).abs() < 1e-6);
    }

    /// Property (f): extreme inputs stay finite, and a share of 0 has a finite gradient.
    #[test]
    fn saturated_inputs_stay_finite() {
        for level in levels() {
            let cpu = Cpu::with_level(1, level);
            let mut case = Case::new(9, 12, &[4, 7]);
            for values in &mut case.values[..2] {
                values.iter_mut().for_each(|x| *x = x.signum() * 1e4);
            }
            for row in case.values[2].chunks_mut(8) {
                row[1..].fill(0.0);
                row[0] = 1.0;
            }
            let (total, losses, gradients) = run(&cpu, &case, 0.1);
            assert!(total.nats.is_finite() && losses.iter().all(|x| x.is_finite()));
            assert!(gradients.iter().flatten().all(|x| x.is_finite()));
            let mut logits = case.values[0].clone();
            log_probabilities(&cpu, case.mixture(), &mut logits);
            assert!(logits.iter().all(|x| x.is_finite()));
        }
    }
}
