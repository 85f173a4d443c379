//! Averages of the weights over the steps, which are evaluated and kept in the weights' place.

use longhand_kernel::optimizer as kernel;
use longhand_model::{Buffer, Cpu, ParameterId, Weights};
use serde::{Deserialize, Serialize};

use crate::error::RestoreError;
use crate::optimizer::{NamedBuffer, fill};

/// How weights are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AverageKind {
    /// Exponential moving average with this decay, lower in the first steps.
    Exponential(f64),
    /// The mean since averaging began (Polyak and Juditsky, 1992).
    Mean,
}

/// A running average of the weights.
pub struct Average {
    kind: AverageKind,
    /// Weights averaged so far.
    count: u64,
    /// One for each parameter; empty for one that was never trained, which is its own average.
    values: Vec<Buffer>,
}

impl Average {
    /// An average of nothing yet.
    pub fn new(kind: AverageKind, weights: &Weights) -> Self {
        let mut average = Self { kind, count: 0, values: Vec::new() };
        average.refit(weights);
        average
    }

    /// Follows a change of the parameters' groups. A parameter that is trained from now on begins
    /// with its value, which is the average of all weights before.
    pub fn refit(&mut self, weights: &Weights) {
        self.values.resize_with(weights.len(), Buffer::default);
        for (parameter, value) in weights.iter().zip(&mut self.values) {
            if !parameter.group.trainable || !value.is_empty() {
                continue;
            }
            *value = match self.count {
                0 => Buffer::zeros(parameter.data.len()),
                _ => parameter.data.clone(),
            };
        }
    }

    /// The kind, and how many weights have been taken in.
    pub fn progress(&self) -> (AverageKind, u64) {
        (self.kind, self.count)
    }

    /// Takes in the weights after a step.
    pub fn update(&mut self, cpu: &Cpu, weights: &Weights) {
        let seen = self.count as f64;
        self.count += 1;
        let factor = match self.kind {
            AverageKind::Mean => 1.0 / (seen + 1.0),
            AverageKind::Exponential(_) if self.count == 1 => 1.0,
            AverageKind::Exponential(decay) => 1.0 - decay.min((1.0 + seen) / (10.0 + seen)),
        };
        for (parameter, value) in weights.iter().zip(&mut self.values) {
            if !value.is_empty() {
                kernel::average(cpu, factor as f32, &parameter.data, value);
            }
        }
    }

    /// Puts the average in the weights' place and keeps the weights; again to undo it. Does
    /// nothing while the average is one of nothing.
    pub fn swap(&mut self, weights: &mut Weights) {
        if self.count == 0 {
            return;
        }
        for (parameter, value) in weights.iter_mut().zip(&mut self.values) {
            if !value.is_empty() {
                std::mem::swap(&mut parameter.data, value);
            }
        }
    }

    /// The average of a parameter, to be changed; none where it has none.
    pub(crate) fn of(&mut self, id: ParameterId) -> Option<&mut [f32]> {
        let value = self.values.get_mut(id.place())?;
        (!value.is_empty()).then_some(&mut value[..])
    }

    /// The values by name, to be saved.
    pub fn buffers<'a>(&'a self, weights: &'a Weights) -> Vec<NamedBuffer<'a>> {
        let named = weights.iter().zip(&self.values).filter(|(_, value)| !value.is_empty());
        let named = named.map(|(p, value)| NamedBuffer {
            name: format!("average.{}", p.name),
            shape: &p.shape,
            data: value,
        });
        named.collect()
    }

    /// Takes up a saved average; `find` gives the values of a name.
    ///
    /// # Errors
    /// [`RestoreError`] gives the first name that is missing or of another length.
    pub fn restore(
        &mut self,
        count: u64,
        weights: &Weights,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), RestoreError> {
        self.count = count;
        for (parameter, value) in weights.iter().zip(&mut self.values) {
            let name = format!("average.{}", parameter.name);
            let saved = find(&name);
            // A parameter that was trained and is frozen again has an average too.
            if value.is_empty() && saved.is_some() {
                *value = Buffer::zeros(parameter.data.len());
            }
            if !value.is_empty() {
                fill(value, &name, saved)?;
            }
        }
        Ok(())
    }
}
