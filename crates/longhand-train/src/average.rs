//! Averages of the weights over the steps, which are evaluated and kept in the weights' place.

use longhand_model::optimizer as kernel;
use longhand_model::{Buffer, Cpu, Weights};
use serde::{Deserialize, Serialize};

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
    count: u64,
    values: Vec<Buffer>,
}

impl Average {
    /// An average of nothing yet.
    pub fn new(kind: AverageKind, weights: &Weights) -> Self {
        let zeros = |n: usize| Buffer::zeros(n);
        let values = weights.iter().map(|p| zeros(if p.trainable { p.data.len() } else { 0 }));
        Self { kind, count: 0, values: values.collect() }
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
    /// The first name that is missing or of another length.
    pub fn restore(
        &mut self,
        count: u64,
        weights: &Weights,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), String> {
        self.count = count;
        for (parameter, value) in weights.iter().zip(&mut self.values) {
            if !value.is_empty() {
                let name = format!("average.{}", parameter.name);
                fill(value, &name, find(&name))?;
            }
        }
        Ok(())
    }
}
