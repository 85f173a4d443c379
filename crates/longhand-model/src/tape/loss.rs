//! The head's linear layer, softmax and cross-entropy in one operation.

use longhand_kernel::loss::{self, Gradient, Size};
use longhand_kernel::weights as packed;

use super::profile::{Cost, Way};
use super::{Tape, Var};
use crate::weights::{Gradients, ParameterId, Weights};

pub use longhand_kernel::loss::{IGNORE, Total};

impl Tape {
    /// Logits `[rows, outputs]` of rows that lie in `x`.
    pub(crate) fn logits(
        &self,
        weights: &Weights,
        x: &[f32],
        weight: ParameterId,
        bias: Option<ParameterId>,
        out: &mut [f32],
    ) {
        let size = size(weights, weight, x.len());
        let bias = bias.map(|bias| weights.values(bias));
        match weights.panels(weight) {
            Some(panels) => packed::linear(&self.cpu, size.rows, &[x], panels, bias, out),
            None => loss::logits(&self.cpu, size, x, weights.values(weight), bias, out),
        }
        self.timed(Way::Forward, || cost("logits", size));
    }

    /// Cross-entropy of softmax(x·Wᵀ + b) against `targets`, summed. The gradient of `scale` times
    /// the sum is taken in the same pass, so that the logits of a batch never stand in memory:
    /// it flows into `gradients` and begins the way back at `x`.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn cross_entropy(
        &mut self,
        weights: &Weights,
        x: Var,
        weight: ParameterId,
        bias: Option<ParameterId>,
        targets: &[u32],
        smoothing: f32,
        losses: Option<&mut [f32]>,
        gradients: Option<(f32, &mut Gradients)>,
    ) -> Total {
        let size = size(weights, weight, self.data(x).len());
        let values = weights.values(weight);
        let bias_values = bias.map(|bias| weights.values(bias));
        if let Some(panels) = weights.panels(weight) {
            // Packed weights have no gradient: the backward pass says so.
            self.packed = gradients.is_some().then(|| panels.format());
            let (cpu, x) = (&self.cpu, self.data(x));
            let total =
                packed::cross_entropy(cpu, x, panels, bias_values, targets, smoothing, losses);
            self.timed(Way::Forward, || cost("loss", size));
            return total;
        }
        let Some((scale, gradients)) = gradients else {
            let x = self.data(x);
            let total = loss::cross_entropy(
                &self.cpu,
                size,
                x,
                values,
                bias_values,
                targets,
                smoothing,
                losses,
                None,
            );
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
        let total = loss::cross_entropy(
            &self.cpu,
            size,
            &self.values[x.0].data,
            values,
            bias_values,
            targets,
            smoothing,
            losses,
            Some(gradient),
        );
        gradients.put(weight, weight_gradient);
        if let Some(id) = bias {
            gradients.put(id, bias_gradient);
        }
        self.close(x, dx);
        self.timed(Way::Forward, || cost("loss, both ways", size).at_once());
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
