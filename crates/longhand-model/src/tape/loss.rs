//! The answers of heads and their losses. A softmax over the outputs, its cross-entropy and the
//! head's linear layer are one operation, so that the logits of a batch are never whole in memory.

use longhand_kernel::loss::{self, Gradient, Layer, Size, Targets, binary, span};
use longhand_kernel::weights as packed;

use super::profile::{Cost, Way};
use super::{Tape, Var};
use crate::weights::{Gradients, ParameterId, Weights};

pub use longhand_kernel::loss::{IGNORE, Total};

/// The linear layer of a head.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    /// `[outputs, D]`: rows of the linear layer.
    pub(crate) weight: ParameterId,
    /// `[outputs]`: added to the product, if given.
    pub(crate) bias: Option<ParameterId>,
}

/// How a loss is measured, and what is wanted beside its sum.
#[derive(Default)]
pub struct LossOptions<'a> {
    /// ε of label smoothing: the share of the target distribution that is spread evenly over
    /// all answers (default: 0).
    pub smoothing: f32,
    /// Receives each row's loss in nats: `[T·B]` for tokens and tags, `[B]` otherwise.
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
        let LossOptions { smoothing, losses, gradients } = options;
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
        let total = loss::cross_entropy(&self.cpu, size, layer, targets, losses, Some(gradient));
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

    /// Binary cross-entropy of σ(logits) against `flags`, summed. The gradient begins the backward
    /// pass at the logits.
    pub(crate) fn flag_cross_entropy(
        &mut self,
        logits: Var,
        flags: &[f32],
        options: LossOptions<'_>,
    ) -> Total {
        self.loss_of_logits(logits, options, |tape, smoothing, losses, gradient| {
            let (width, logits) = (tape.width(logits), tape.data(logits));
            binary::cross_entropy(width, logits, flags, smoothing, losses, gradient)
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
        self.loss_of_logits(scores, options, |tape, smoothing, losses, gradient| {
            let (sequence, scores) = (tape.sequence(scores, false), tape.data(scores));
            span::cross_entropy(sequence, scores, spans, smoothing, losses, gradient)
        })
    }

    fn loss_of_logits(
        &mut self,
        logits: Var,
        options: LossOptions<'_>,
        loss: impl FnOnce(&Self, f32, Option<&mut [f32]>, Option<(f32, &mut [f32])>) -> Total,
    ) -> Total {
        let LossOptions { smoothing, losses, gradients } = options;
        let scale = gradients.map(|(scale, _)| scale);
        let mut gradient = scale.and_then(|_| self.open(logits));
        let into = scale.zip(gradient.as_deref_mut());
        let total = loss(self, smoothing, losses, into);
        self.close(logits, gradient);
        total
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
