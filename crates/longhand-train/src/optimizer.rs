//! The rules that change the weights, and what they keep from step to step.

use longhand_kernel::optimizer as kernel;
use longhand_kernel::{Buffer, Cpu};
use longhand_model::{Gradients, Parameter, Weights};

use crate::error::RestoreError;
use crate::settings::{
    AdamWSettings, MuonSettings, NtAsgdSettings, OptimizerSettings, SgdSettings,
};

/// A rule with its buffers.
pub struct Optimizer {
    rule: OptimizerSettings,
    step: u64,
    /// One for each parameter; none for a frozen one.
    slots: Vec<Option<Slot>>,
}

/// The state of the rule for one parameter. Buffers that the rule does not need are empty.
struct Slot {
    /// Steps of the optimiser before the parameter was trained (0).
    begun: u64,
    /// AdamW's first mean, or the momentum of Muon or gradient descent.
    first: Buffer,
    /// AdamW's mean of squared gradients.
    second: Buffer,
}

/// A named part of an optimiser's state.
pub struct NamedBuffer<'a> {
    /// The buffer's name, a dot, and the parameter's: `first.head.weight`.
    pub name: String,
    /// Sizes of the parameter's axes.
    pub shape: &'a [usize],
    /// The values, in row-major order.
    pub data: &'a [f32],
}

impl Optimizer {
    /// A rule that has taken no step, for the trainable parameters of a model.
    pub fn new(rule: OptimizerSettings, weights: &Weights) -> Self {
        let mut optimizer = Self { rule, step: 0, slots: Vec::new() };
        optimizer.refit(weights);
        optimizer
    }

    /// Follows a change of the parameters' groups: a frozen parameter has no state, and a parameter
    /// that is trained from now on begins with an empty one.
    pub fn refit(&mut self, weights: &Weights) {
        let Self { rule, step, slots } = self;
        slots.resize_with(weights.len(), || None);
        for (parameter, slot) in weights.iter().zip(slots) {
            if !parameter.group.trainable {
                *slot = None;
            } else if slot.is_none() {
                *slot = Some(Slot::new(*rule, parameter, *step));
            }
        }
    }

    /// Steps before each parameter was trained, in the parameters' order; 0 for a frozen one.
    pub(crate) fn begun(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().map(|slot| slot.as_ref().map_or(0, |slot| slot.begun))
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
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
        assert_eq!(weights.len(), self.slots.len(), "weights of the optimiser's model");
        let parameters = weights.iter_mut().zip(gradients.iter()).zip(&mut self.slots);
        for ((parameter, gradient), slot) in parameters {
            let (Some(gradient), Some(slot)) = (gradient, slot) else { continue };
            let group = parameter.group;
            let learning_rate = learning_rate * f64::from(group.rate);
            let matrix = parameter.shape.len() >= 2;
            let decay = |decay: f64| if matrix { decay * f64::from(group.decay) } else { 0.0 };
            // The means are corrected for the steps since the parameter is trained.
            let step = self.step - slot.begun;
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
                    let weight_decay = decay(weight_decay);
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
            let Some(slot) = slot else { continue };
            for (kind, data) in [("first", &slot.first), ("second", &slot.second)] {
                if !data.is_empty() {
                    let name = format!("{kind}.{}", parameter.name);
                    buffers.push(NamedBuffer { name, shape: &parameter.shape, data });
                }
            }
        }
        buffers
    }

    /// Takes up a saved state for the parameters that are trainable. `find` gives the values of a
    /// name, `begun` the steps before a parameter was trained.
    ///
    /// # Errors
    /// [`RestoreError`] gives the first name that is missing or of another length.
    pub fn restore(
        &mut self,
        step: u64,
        weights: &Weights,
        begun: impl Fn(&str) -> u64,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), RestoreError> {
        self.step = step;
        self.refit(weights);
        for (parameter, slot) in weights.iter().zip(&mut self.slots) {
            let Some(slot) = slot else { continue };
            slot.begun = begun(&parameter.name).min(step);
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
pub(crate) fn fill(
    data: &mut [f32],
    name: &str,
    values: Option<Vec<f32>>,
) -> Result<(), RestoreError> {
    match values {
        Some(values) if values.len() == data.len() => {
            data.copy_from_slice(&values);
            Ok(())
        }
        Some(values) => {
            let (got, expected) = (values.len(), data.len());
            Err(RestoreError::Length { name: name.into(), got, expected })
        }
        None => Err(RestoreError::Missing { name: name.into() }),
    }
}

impl Slot {
    fn new(rule: OptimizerSettings, parameter: &Parameter, begun: u64) -> Self {
        let buffers = match rule {
            OptimizerSettings::Muon(_) if parameter.hidden_matrices() > 0 => 1,
            OptimizerSettings::AdamW(_) | OptimizerSettings::Muon(_) => 2,
            OptimizerSettings::Sgd(SgdSettings { momentum, .. }) if momentum > 0.0 => 1,
            OptimizerSettings::Sgd(_) | OptimizerSettings::NtAsgd(_) => 0,
        };
        let len = parameter.data.len();
        let zeros = |wanted| Buffer::zeros(if wanted { len } else { 0 });
        Self { begun, first: zeros(buffers > 0), second: zeros(buffers > 1) }
    }
}

/// The Euclidean norm of all gradients together.
pub fn gradient_norm(cpu: &Cpu, gradients: &Gradients) -> f64 {
    let squares = gradients.iter().flatten().map(|g| kernel::squared_norm(cpu, g));
    squares.sum::<f64>().sqrt()
}
