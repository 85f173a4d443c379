//! The importance of singular values during a run, and the choice among them.

use longhand_kernel::singular::{self, Smoothing, Vectors};
use longhand_model::{Buffer, Cpu, Gradients, SingularChange, Weights};

use super::{RankBudget, RankSettings};
use crate::TrainError;
use crate::average::Average;
use crate::error::RestoreError;
use crate::optimizer::{NamedBuffer, fill};

/// The importance of singular values during a run, and which are kept.
pub(crate) struct RankAllocator {
    budget: RankBudget,
    changes: Vec<Allocated>,
    /// Whether the ranks are final.
    settled: bool,
}

/// One change of low rank with singular values.
struct Allocated {
    ids: SingularChange,
    /// Of A, of B and of the singular values; empty once the ranks are final.
    means: [Means; 3],
    /// 1 for each singular value that is kept, 0 for the others.
    kept: Vec<f32>,
}

/// The running means of the importance of a parameter's elements.
#[derive(Default)]
struct Means {
    sensitivity: Buffer,
    uncertainty: Buffer,
}

impl RankAllocator {
    /// An allocator that has seen nothing and keeps all singular values;
    /// [`TrainError::NoSingularValues`] if no change of the model has some.
    pub(crate) fn new(budget: RankBudget, weights: &Weights) -> Result<Self, TrainError> {
        let changes = weights.singular_changes().into_iter().map(|ids| Allocated {
            ids,
            means: ids.parameters().map(|id| Means::new(weights.get(id).data.len())),
            kept: vec![1.0; weights.get(ids.e).data.len()],
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            return Err(TrainError::NoSingularValues);
        }
        Ok(Self { budget, changes, settled: false })
    }

    /// Whether the ranks are final.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Adds `weight` times the gradient of the orthogonality term, γ times the mean of the squared
    /// distances of QQᵀ and PᵀP from I over all factors.
    pub(crate) fn regularize(
        &self,
        cpu: &Cpu,
        weights: &Weights,
        gradients: &mut Gradients,
        weight: f64,
    ) {
        let factors = 2.0 * self.changes.len() as f64;
        let weight = (weight * self.budget.settings.orthogonality / factors) as f32;
        for SingularChange { a, b, .. } in self.changes.iter().map(|change| change.ids) {
            for (id, vectors) in [(a, Vectors::Rows), (b, Vectors::Columns)] {
                let [rows, _] = weights.get(id).matrix();
                let data = &weights.get(id).data;
                gradients.add(id, |gradient| {
                    singular::penalty_backward(cpu, vectors, rows, data, weight, gradient);
                });
            }
        }
    }

    /// Takes in the gradients of a step, times `scale`, before the weights change.
    pub(crate) fn observe(
        &mut self,
        cpu: &Cpu,
        weights: &Weights,
        gradients: &Gradients,
        scale: f32,
    ) {
        if self.settled {
            return;
        }
        let RankSettings { beta1, beta2, .. } = self.budget.settings;
        let smoothing = Smoothing { beta1: beta1 as f32, beta2: beta2 as f32 };
        for Allocated { ids, means, .. } in &mut self.changes {
            for (id, Means { sensitivity, uncertainty }) in ids.parameters().into_iter().zip(means)
            {
                let Some(gradient) = gradients.get(id) else { continue };
                let pair = [&weights.get(id).data[..], gradient];
                singular::importance(cpu, smoothing, scale, pair, [sensitivity, uncertainty]);
            }
        }
    }

    /// Sets the least important singular values to zero behind a step, as many as the budget says when
    /// that share of the run is spent. The average of the weights follows. True if the ranks have
    /// become final by it.
    pub(crate) fn allocate(
        &mut self,
        weights: &mut Weights,
        mut average: Option<&mut Average>,
        step: u64,
        spent: f64,
    ) -> bool {
        let RankSettings { begin, end, every, .. } = self.budget.settings;
        let settles = !self.settled && spent >= end;
        if settles || (!self.settled && spent > begin && step.is_multiple_of(every)) {
            self.keep(weights, self.budget.values(self.changes.len(), spent));
        } else if !self.settled {
            return false;
        }
        for Allocated { ids, kept, .. } in &self.changes {
            clear(&mut weights.get_mut(ids.e).data, kept);
            if let Some(values) = average.as_mut().and_then(|average| average.of(ids.e)) {
                clear(values, kept);
            }
        }
        if settles {
            self.settle();
        }
        settles
    }

    /// The state by name, to be saved.
    pub(crate) fn buffers<'a>(&'a self, weights: &'a Weights) -> Vec<NamedBuffer<'a>> {
        let mut buffers = Vec::new();
        for Allocated { ids, means, kept } in &self.changes {
            let e = weights.get(ids.e);
            let name = format!("kept.{}", e.name);
            buffers.push(NamedBuffer { name, shape: &e.shape, data: kept });
            for (id, Means { sensitivity, uncertainty }) in ids.parameters().into_iter().zip(means)
            {
                let parameter = weights.get(id);
                for (kind, data) in [(SENSITIVITY, sensitivity), (UNCERTAINTY, uncertainty)] {
                    if !self.settled {
                        let name = format!("{kind}.{}", parameter.name);
                        buffers.push(NamedBuffer { name, shape: &parameter.shape, data });
                    }
                }
            }
        }
        buffers
    }

    /// Takes up a saved state; `find` gives the values of a name. Without a first sensitivity the ranks
    /// are final. [`RestoreError`] gives the first name that is missing or of another length.
    pub(crate) fn restore(
        &mut self,
        weights: &Weights,
        mut find: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), RestoreError> {
        let mut settled = None;
        for Allocated { ids, means, kept } in &mut self.changes {
            let name = format!("kept.{}", weights.get(ids.e).name);
            fill(kept, &name, find(&name))?;
            for (id, Means { sensitivity, uncertainty }) in ids.parameters().into_iter().zip(means)
            {
                for (kind, data) in [(SENSITIVITY, sensitivity), (UNCERTAINTY, uncertainty)] {
                    let name = format!("{kind}.{}", weights.get(id).name);
                    let values = find(&name);
                    if !*settled.get_or_insert(values.is_none()) {
                        fill(data, &name, values)?;
                    }
                }
            }
        }
        if settled == Some(true) {
            self.settle();
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.settled = true;
        self.changes.iter_mut().for_each(|change| change.means = Default::default());
    }

    /// Keeps the most important singular values; of equal ones the first.
    fn keep(&mut self, weights: &Weights, count: usize) {
        let mut scores = Vec::new();
        for (place, change) in self.changes.iter().enumerate() {
            let of_change = change.scores(weights).into_iter().enumerate();
            scores.extend(of_change.map(|(k, score)| (score, place, k)));
        }
        scores.sort_by(|one, other| other.0.total_cmp(&one.0));
        for (rank, (_, place, k)) in scores.into_iter().enumerate() {
            self.changes[place].kept[k] = if rank < count { 1.0 } else { 0.0 };
        }
    }
}

const SENSITIVITY: &str = "sensitivity";
const UNCERTAINTY: &str = "uncertainty";

impl Means {
    fn new(len: usize) -> Self {
        Self { sensitivity: Buffer::zeros(len), uncertainty: Buffer::zeros(len) }
    }

    /// The importance of an element.
    fn at(&self, place: usize) -> f64 {
        f64::from(self.sensitivity[place]) * f64::from(self.uncertainty[place])
    }
}

impl Allocated {
    /// The importance of each singular value (section 3.2): its own, and the means over its two
    /// vectors, one in each factor.
    fn scores(&self, weights: &Weights) -> Vec<f64> {
        let [a, b, e] = &self.means;
        let [rank, columns] = weights.get(self.ids.a).matrix();
        let [rows, _] = weights.get(self.ids.b).matrix();
        let mean = |places: &mut dyn Iterator<Item = usize>, of: &Means, count: usize| {
            places.map(|place| of.at(place)).sum::<f64>() / count as f64
        };
        let score = |k: usize| {
            let of_a = mean(&mut (k * columns..(k + 1) * columns), a, columns);
            let of_b = mean(&mut (0..rows).map(|row| row * rank + k), b, rows);
            e.at(k) + of_a + of_b
        };
        (0..rank).map(score).collect()
    }
}

/// Sets the values that are not kept to zero.
fn clear(values: &mut [f32], kept: &[f32]) {
    let dropped = values.iter_mut().zip(kept).filter(|(_, kept)| **kept == 0.0);
    dropped.for_each(|(value, _)| *value = 0.0);
}

#[cfg(test)]
mod tests;
