//! The answers of heads and their losses. A softmax over the outputs, its cross-entropy and the
//! head's linear layer are one operation, so that the logits of a batch are never whole in memory.

use longhand_kernel::loss::{
    self, Gradient, Layer, Size, Targets, binary, ordinal, sampled_cross_entropy, span,
};
use longhand_kernel::{Sequence, crf, weights as packed};

use super::profile::{Cost, Way};
use super::{Tape, Var};
use crate::weights::{Gradients, ParameterId, Weights};

pub use longhand_kernel::loss::{IGNORE, Sampler, Total};

/// The linear layer of a head.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// `[outputs, D]`: rows of the linear layer.
    pub(crate) weight: ParameterId,
    /// `[outputs]`: added to the product, if given.
    pub(crate) bias: Option<ParameterId>,
}

/// The scores of a linear-chain CRF beside its emissions, which are a head's logits.
#[derive(Clone, Copy)]
pub(crate) struct Crf {
    /// `[K, K]`: the score of the tag of the column right after the tag of the row.
    pub(crate) transitions: ParameterId,
    /// `[K]`: the score of each first tag.
    pub(crate) start: ParameterId,
    /// `[K]`: the score of each last tag.
    pub(crate) end: ParameterId,
}

/// How a loss is measured, and what is wanted beside its sum.
#[derive(Default)]
pub struct LossOptions<'a> {
    /// ε of label smoothing: the share of the target distribution that is spread evenly over all
    /// answers (default: 0). A CRF ignores it.
    pub smoothing: f32,
    /// Draws the tokens that those of the batch are told apart from, with a seed, where gradients
    /// are wanted (none: the whole vocabulary). The loss is then that over the tokens drawn, which is
    /// lower. A model with a pointer ignores it.
    pub sampler: Option<(&'a Sampler, u64)>,
    /// Receives each loss in nats: `[T·B]` for tokens and for tags without a CRF, `[B]` otherwise.
    pub losses: Option<&'a mut [f32]>,
    /// A scale, and where the gradient of scale × the summed loss is added. It also begins the
    /// backward pass at the head's input.
    pub gradients: Option<(f32, &'a mut Gradients)>,
}

impl Tape {
    /// Logits `[rows, outputs]` of the rows `x`.
    pub(crate) fn logits(&self, weights: &Weights, x: &[f32], output: Output, out: &mut [f32]) {
        let Output { weight, bias } = output;
        let size = size(weights, weight, x.len());
        let bias = bias.map(|bias| weights.values(bias));
        match weights.panels(weight) {
            Some(panels) => packed::linear(&self.cpu, size.rows, &[x], panels, bias, out),
            None => loss::logits(&self.cpu, size, x, weights.values(weight), bias, out),
        }
        self.timed(Way::Forward, || cost("logits", size));
    }

    /// Replaces each row of logits by its softmax.
    pub(crate) fn softmax(&self, outputs: usize, logits: &mut [f32]) {
        loss::softmax(&self.cpu, outputs, logits);
    }

    /// Replaces each logit by the probability of its flag.
    pub(crate) fn flag_probabilities(&self, logits: &mut [f32]) {
        binary::probabilities(logits);
    }

    /// Replaces scores `[T·B, 2]` by the probabilities of the ends of a span in
    /// the sequence of `x`.
    pub(crate) fn span_probabilities(&self, x: Var, scores: &mut [f32]) {
        span::probabilities(self.sequence(x, false), scores);
    }

    /// Cross-entropy of softmax(x·Wᵀ + b) against `targets`, summed.
    pub(crate) fn cross_entropy(
        &mut self,
        weights: &Weights,
        x: Var,
        output: Output,
        targets: &[u32],
        options: LossOptions<'_>,
    ) -> Total {
        let LossOptions { smoothing, sampler, losses, gradients } = options;
        let Output { weight, bias } = output;
        let size = size(weights, weight, self.data(x).len());
        let values = weights.values(weight);
        let bias_values = bias.map(|bias| weights.values(bias));
        if let Some(panels) = weights.panels(weight) {
            if gradients.is_some() {
                // Packed weights have no gradient: the backward pass says so.
                self.packed = Some(panels.format());
            }
            let (cpu, x) = (&self.cpu, self.data(x));
            let total =
                packed::cross_entropy(cpu, x, panels, bias_values, targets, smoothing, losses);
            self.timed(Way::Forward, || cost("loss", size));
            return total;
        }
        let Some((scale, gradients)) = gradients else {
            let x = self.data(x);
            let layer = Layer { x, weight: values, bias: bias_values };
            let targets = Targets { ids: targets, smoothing };
            let total = loss::cross_entropy(&self.cpu, size, layer, targets, losses, None);
            self.timed(Way::Forward, || cost("loss", size));
            return total;
        };
        let mut dx = self.open(x);
        let mut weight_gradient = gradients.take(weight);
        let mut bias_gradient = bias.and_then(|bias| gradients.take(bias));
        let gradient = Gradient {
            scale,
            x: dx.as_deref_mut(),
            weight: weight_gradient.as_deref_mut(),
            bias: bias_gradient.as_deref_mut(),
        };
        let layer = Layer { x: &self.values[x.0].data, weight: values, bias: bias_values };
        let targets = Targets { ids: targets, smoothing };
        let (cpu, wanted) = (&self.cpu, Some(gradient));
        let (total, size) = match sampler {
            None => (loss::cross_entropy(cpu, size, layer, targets, losses, wanted), size),
            Some((sampler, seed)) => {
                let few = sampler.candidates(targets.ids, seed);
                let vocabulary = few.ids.len();
                let total = sampled_cross_entropy(cpu, size, layer, targets, &few, losses, wanted);
                (total, Size { vocabulary, ..size })
            }
        };
        gradients.put(weight, weight_gradient);
        if let Some(id) = bias {
            gradients.put(id, bias_gradient);
        }
        self.close(x, dx);
        self.timed(Way::Forward, || cost("loss and its gradient", size).at_once());
        total
    }

    /// Logits as a value of the pass, for a loss that is an operation of its own. `trains` says
    /// whether that loss wants gradients.
    pub(crate) fn scores(
        &mut self,
        weights: &Weights,
        x: Var,
        output: Output,
        trains: bool,
    ) -> Var {
        let Output { weight, bias } = output;
        if let Some(panels) = weights.panels(weight).filter(|_| trains) {
            self.packed = Some(panels.format());
        }
        self.linear(weights, &[x], weight, bias)
    }

    /// Binary cross-entropy of σ(logits) against `flags`, those that are on times the `weights` of
    /// their labels; summed. The gradient begins the backward pass at the logits.
    pub(crate) fn flag_cross_entropy(
        &mut self,
        logits: Var,
        (flags, weights): (&[f32], Option<&[f32]>),
        options: LossOptions<'_>,
    ) -> Total {
        self.loss_of(logits, options, |tape, smoothing, losses, gradient| {
            let (width, logits) = (tape.width(logits), tape.data(logits));
            binary::cross_entropy(width, logits, flags, weights, smoothing, losses, gradient)
        })
    }

    /// Cross-entropy of the thresholds between ordered classes, summed. The gradient begins the
    /// backward pass at the logits.
    pub(crate) fn ordinal_cross_entropy(
        &mut self,
        logits: Var,
        classes: &[u32],
        options: LossOptions<'_>,
    ) -> Total {
        self.loss_of(logits, options, |tape, smoothing, losses, gradient| {
            let (width, logits) = (tape.width(logits), tape.data(logits));
            ordinal::cross_entropy(width, logits, classes, smoothing, losses, gradient)
        })
    }

    /// Cross-entropy of the ends of `spans` over the positions of each sequence, summed. The
    /// gradient begins the backward pass at the scores.
    pub(crate) fn span_cross_entropy(
        &mut self,
        scores: Var,
        spans: &[(u32, u32)],
        options: LossOptions<'_>,
    ) -> Total {
        self.loss_of(scores, options, |tape, smoothing, losses, gradient| {
            let (sequence, scores) = (tape.sequence(scores, false), tape.data(scores));
            span::cross_entropy(sequence, scores, spans, smoothing, losses, gradient)
        })
    }

    /// Negative log-likelihood of `tags` under a CRF with these emissions, over the paths that are
    /// `legal`; summed. The gradient begins the backward pass at the emissions.
    pub(crate) fn crf_loss(
        &mut self,
        weights: &Weights,
        emissions: Var,
        crf: Crf,
        (tags, legal): (&[u32], Option<crf::Legal<'_>>),
        options: LossOptions<'_>,
    ) -> Total {
        let LossOptions { losses, gradients, .. } = options;
        let Some((scale, gradients)) = gradients else {
            let sequence = self.sequence(emissions, false);
            let scores = crf.scores(weights, self.data(emissions));
            return crf::negative_log_likelihood(sequence, scores, tags, legal, losses, None);
        };
        let mut into_emissions = self.open(emissions);
        let Crf { transitions, start, end } = crf;
        let mut into = [transitions, start, end].map(|id| gradients.take(id));
        let [into_transitions, into_start, into_end] = into.each_mut();
        let gradient = crf::Gradient {
            scale,
            emissions: into_emissions.as_deref_mut(),
            transitions: into_transitions.as_deref_mut(),
            start: into_start.as_deref_mut(),
            end: into_end.as_deref_mut(),
        };
        let sequence = self.sequence(emissions, false);
        let scores = crf.scores(weights, self.data(emissions));
        let wanted = Some(gradient);
        let total = crf::negative_log_likelihood(sequence, scores, tags, legal, losses, wanted);
        for (id, gradient) in [transitions, start, end].into_iter().zip(into) {
            gradients.put(id, gradient);
        }
        self.close(emissions, into_emissions);
        total
    }

    fn loss_of(
        &mut self,
        logits: Var,
        options: LossOptions<'_>,
        loss: impl FnOnce(&Self, f32, Option<&mut [f32]>, Option<(f32, &mut [f32])>) -> Total,
    ) -> Total {
        let LossOptions { smoothing, losses, gradients, .. } = options;
        let scale = gradients.map(|(scale, _)| scale);
        let mut gradient = scale.and_then(|_| self.open(logits));
        let into = scale.zip(gradient.as_deref_mut());
        let total = loss(self, smoothing, losses, into);
        self.close(logits, gradient);
        total
    }
}

/// Negative log-likelihood of `tags` under a CRF with the emissions `[T·B, K]`, over the paths
/// that are `legal`; summed.
pub(crate) fn crf_loss_of(
    weights: &Weights,
    crf: Crf,
    sequence: Sequence<'_>,
    emissions: &[f32],
    (tags, legal): (&[u32], Option<crf::Legal<'_>>),
) -> Total {
    let scores = crf.scores(weights, emissions);
    crf::negative_log_likelihood(sequence, scores, tags, legal, None, None)
}

/// Replaces a head's logits `[T·B, K]` by the probability of each tag over all legal
/// paths; padding gets 0.
pub(crate) fn tag_probabilities(
    weights: &Weights,
    crf: Option<Crf>,
    sequence: &Sequence<'_>,
    legal: Option<crf::Legal<'_>>,
    logits: &mut [f32],
) {
    let emissions = logits.to_vec();
    with_scores(weights, crf, sequence, &emissions, |scores| {
        crf::marginals(*sequence, scores, legal, logits);
    });
}

/// Writes the tags `[T·B]` of the best legal paths for a head's logits `[T·B, K]`.
pub(crate) fn best_tags(
    weights: &Weights,
    crf: Option<Crf>,
    sequence: &Sequence<'_>,
    logits: &[f32],
    legal: Option<crf::Legal<'_>>,
    tags: &mut [u32],
) {
    with_scores(weights, crf, sequence, logits, |scores| {
        crf::viterbi(*sequence, scores, legal, tags);
    });
}

/// Hands on the scores of a CRF, or of one whose transitions are all zero.
fn with_scores(
    weights: &Weights,
    crf: Option<Crf>,
    sequence: &Sequence<'_>,
    emissions: &[f32],
    take: impl FnOnce(crf::Scores<'_>),
) {
    if let Some(crf) = crf {
        return take(crf.scores(weights, emissions));
    }
    let tags = emissions.len() / sequence.rows().max(1);
    let zeros = vec![0.0; tags * tags];
    let (start, end) = (&zeros[..tags], &zeros[..tags]);
    take(crf::Scores { emissions, transitions: &zeros, start, end });
}

impl Crf {
    /// The scores with the emissions `[T·B, K]`.
    fn scores<'a>(&self, weights: &'a Weights, emissions: &'a [f32]) -> crf::Scores<'a> {
        crf::Scores {
            emissions,
            transitions: weights.values(self.transitions),
            start: weights.values(self.start),
            end: weights.values(self.end),
        }
    }
}

fn cost(name: &str, size: Size) -> Cost {
    let Size { rows, width, vocabulary } = size;
    Cost::product(format!("{name} {width}→{vocabulary}"), rows, width, vocabulary)
}

fn size(weights: &Weights, weight: ParameterId, values: usize) -> Size {
    let shape = &weights.get(weight).shape;
    Size { rows: values / shape[1], width: shape[1], vocabulary: shape[0] }
}
