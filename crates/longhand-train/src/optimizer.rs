//! The rules that change the weights, and what they keep from step to step.

use longhand_model::optimizer as kernel;
use longhand_model::{Buffer, Cpu, Gradients, Parameter, Weights};

use crate::settings::{
    AdamWSettings, MuonSettings, NtAsgdSettings, OptimizerSettings, SgdSettings,
};

/// A rule with its buffers.
pub struct Optimizer {
    rule: OptimizerSettings,
    step: u64,
    slots: Vec<Slot>,
}

/// What the rule keeps for one parameter; buffers it does not need are empty.
#[derive(Default)]
struct Slot {
    /// AdamW's first mean, or the momentum of Muon or gradient descent.
    first: Buffer,
    /// AdamW's second mean.
    second: Buffer,
}

/// A named part of an optimiser's state.
pub struct NamedBuffer<'a> {
    /// The buffer's name, a dot, and the parameter's: `first.head.weight`.
    pub name: String,
    /// The parameter's shape.
    pub shape: &'a [usize],
    /// The values.
    pub data: &'a [f32],
}

impl Optimizer {
    /// A rule that has made no step yet, for the trainable parameters of a model.
    pub fn new(rule: OptimizerSettings, weights: &Weights) -> Self {
        let kept = |parameter: &Parameter| match rule {
            OptimizerSettings::Muon(_) if parameter.hidden_matrices() > 0 => 1,
            OptimizerSettings::AdamW(_) | OptimizerSettings::Muon(_) => 2,
            OptimizerSettings::Sgd(SgdSettings { momentum, .. }) if momentum > 0.0 => 1,
            OptimizerSettings::Sgd(_) | OptimizerSettings::NtAsgd(_) => 0,
        };
        let zeros = |parameter: &Parameter, wanted: bool| {
            Buffer::zeros(if wanted && parameter.trainable { parameter.data.len() } else { 0 })
        };
        let slots = weights
            .iter()
            .map(|p| Slot { first: zeros(p, kept(p) > 0), second: zeros(p, kept(p) > 1) })
            .collect();
        Self { rule, step: 0, slots }
    }

    /// Changes the weights by `scale` · gradient. Weight decay acts on matrices alone.
    ///
    /// # Panics
    /// If weights or gradients are of another model.
    pub fn step(
        &mut self,
        cpu: &Cpu,
        weights: &mut Weights,
        gradients: &Gradients,
        learning_rate: f64,
        scale: f32,
    ) {
        self.step += 1;
        let step = self.step;
        assert_eq!(weights.len(), self.slots.len(), "weights of the optimiser's model");
        let parameters = weights.iter_mut().zip(gradients.iter()).zip(&mut self.slots);
        for ((parameter, gradient), slot) in parameters {
            let Some(gradient) = gradient.filter(|_| parameter.trainable) else { continue };
            let matrix = parameter.shape.len() >= 2;
            let decay = |decay: f64| if matrix { decay } else { 0.0 };
            let (first, second) = (&mut slot.first[..], &mut slot.second[..]);
            let adamw = |rule, parameter: &mut Parameter, first, second| {
                let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = rule;
                let weight_decay = decay(weight_decay);
                let settings =
                    kernel::AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step };
                let data = &mut parameter.data;
                kernel::adamw(cpu, settings, scale, gradient, data, first, second);
            };
            match self.rule {
                OptimizerSettings::Muon(rule) if parameter.hidden_matrices() > 0 => {
                    let parts = parameter.hidden_matrices();
                    let [rows, cols] = parameter.matrix();
                    let shape = [parts, rows / parts, cols];
                    let MuonSettings { momentum, weight_decay, .. } = rule;
                    let settings = kernel::Muon { learning_rate, momentum, weight_decay };
                    kernel::muon(cpu, settings, scale, gradient, shape, &mut parameter.data, first);
                }
                OptimizerSettings::AdamW(rule) => adamw(rule, parameter, first, second),
                OptimizerSettings::Muon(rule) => adamw(rule.adamw(), parameter, first, second),
                OptimizerSettings::Sgd(SgdSettings {
                    momentum, nesterov, weight_decay, ..
                }) => {
                    let weight_decay = decay(weight_decay);
                    let settings = kernel::Sgd { learning_rate, momentum, nesterov, weight_decay };
                    let buffer = (!first.is_empty()).then_some(first);
                    kernel::sgd(cpu, settings, scale, gradient, &mut parameter.data, buffer);
                }
                OptimizerSettings::NtAsgd(NtAsgdSettings { weight_decay, .. }) => {
                    let (momentum, nesterov) = (0.0, false);
                    let weight_decay = decay(weight_decay);
                    let settings = kernel::Sgd { learning_rate, momentum, nesterov, weight_decay };
                    kernel::sgd(cpu, settings, scale, gradient, &mut parameter.data, None);
                }
            }
        }
    }

    /// The state by name, to be saved.
    pub fn buffers<'a>(&'a self, weights: &'a Weights) -> Vec<NamedBuffer<'a>> {
        let mut buffers = Vec::new();
        for (parameter, slot) in weights.iter().zip(&self.slots) {
            for (kind, data) in [("first", &slot.first), ("second", &slot.second)] {
                if !data.is_empty() {
                    let name = format!("{kind}.{}", parameter.name);
                    buffers.push(NamedBuffer { name, shape: &parameter.shape, data });
                }
            }
        }
        buffers
    }

    /// Takes up a saved state; `find` gives the values of a name.
    ///
    /// # Errors
    /// The first name that is missing or of another length.
    pub fn restore(
        &mut self,
        step: u64,
        weights: &Weights,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), String> {
        self.step = step;
        for (parameter, slot) in weights.iter().zip(&mut self.slots) {
            for (kind, data) in [("first", &mut slot.first), ("second", &mut slot.second)] {
                if !data.is_empty() {
                    let name = format!("{kind}.{}", parameter.name);
                    fill(data, &name, find(&name))?;
                }
            }
        }
        Ok(())
    }
}

/// Copies saved values into a buffer of the same length.
pub(crate) fn fill(data: &mut [f32], name: &str, values: Option<Vec<f32>>) -> Result<(), String> {
    match values {
        Some(values) if values.len() == data.len() => {
            data.copy_from_slice(&values);
            Ok(())
        }
        Some(values) => {
            Err(format!("`{name}` has {} values instead of {}", values.len(), data.len()))
        }
        None => Err(format!("`{name}` is missing")),
    }
}

/// The Euclidean norm of all gradients together.
pub fn gradient_norm(cpu: &Cpu, gradients: &Gradients) -> f64 {
    let squares = gradients.iter().flatten().map(|g| kernel::squared_norm(cpu, g));
    squares.sum::<f64>().sqrt()
}
