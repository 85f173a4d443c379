//! Changes of low rank: two small matrices that are trained in place of a large one.

use longhand_kernel::low_rank::{LowRank as Values, reference};
use longhand_kernel::singular::reference::scaled;

use crate::error::ModelError;
use crate::model::Model;
use crate::weights::{Builder, Change, Factor, Init, LowRank, ParameterId, Singular, Weights};

/// Added to the rank that divides α where there are singular values, as in the PEFT library.
const EPSILON: f32 = 1e-5;

/// The size and the form of changes of low rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRankSettings {
    /// r: rows of A and columns of B, at least 1.
    pub rank: usize,
    /// The factors of a change.
    pub form: LowRankForm,
    /// α: the change is α / r times the product of its factors.
    pub alpha: f32,
    /// Share of the change's input that is dropped in training, at least 0 and less than 1.
    pub dropout: f32,
    /// Seed of the first values. One factor begins as zeros: the model is at first unchanged.
    pub seed: u64,
}

/// The factors of a change of low rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LowRankForm {
    /// B·A (Hu et al., "LoRA: Low-rank adaptation of large language models", 2021); B begins as zeros.
    #[default]
    Product,
    /// B·diag(e)·A, with singular values e of which some may be zero (Zhang et al., "Adaptive budget
    /// allocation for parameter-efficient fine-tuning", 2023). e begins as zeros, and the vectors of
    /// A and B at a length near 1.
    Singular,
}

/// The parameters of a change of low rank that has singular values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingularChange {
    /// A, whose r rows are to be orthonormal: `[r, columns]`.
    pub a: ParameterId,
    /// B, whose r columns are to be orthonormal: `[rows, r]`.
    pub b: ParameterId,
    /// e, the r singular values: `[r, 1]`.
    pub e: ParameterId,
}

impl SingularChange {
    /// A, B and e, in this order.
    pub fn parameters(&self) -> [ParameterId; 3] {
        [self.a, self.b, self.e]
    }
}

impl Model {
    /// Gives every matrix between layers, and every embedding that is not tied to a head, whose name
    /// is `wanted` a change of low rank: W is used as W + α/r·B·A. A and B are parameters of their
    /// own, `NAME.lora_a` `[r, columns]` and `NAME.lora_b` `[rows, r]`, and so are singular values,
    /// `NAME.lora_e` `[r, 1]`. Which parameters are trained is left as it is. Of an embedding no
    /// input is dropped, and it has no singular values. Returns the names of the matrices; heads and
    /// vectors are never among them.
    ///
    /// # Errors
    /// If the weights are packed for reading, none of the wanted matrices lacks a change, or one of
    /// them is too small for the rank; the model is then unchanged.
    pub fn add_low_rank(
        &mut self,
        settings: LowRankSettings,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ModelError> {
        self.check_trainable()?;
        self.weights.add_low_rank(settings, wanted)
    }

    /// Adds every change of low rank to its matrix, and removes the change.
    pub fn merge_low_rank(&mut self) {
        self.weights.merge_low_rank();
    }

    /// Takes the singular values that are zero, with their vectors, out of the changes of low rank. A
    /// change that has no other values is removed. The model answers as before.
    pub fn prune_low_rank(&mut self) {
        self.weights.prune_low_rank();
    }
}

impl Weights {
    fn add_low_rank(
        &mut self,
        settings: LowRankSettings,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ModelError> {
        let LowRankSettings { rank, form, alpha, dropout, seed } = settings;
        let changes = |id: &_| {
            let parameter = self.get(*id);
            let fits = parameter.can_be_changed()
                && !(parameter.is_table() && form == LowRankForm::Singular);
            fits && parameter.low_rank.is_none() && wanted(&parameter.name)
        };
        let ids: Vec<_> = self.ids().filter(changes).collect();
        if ids.is_empty() {
            return Err(ModelError::NoMatrix);
        }
        ids.iter().try_for_each(|&id| self.get(id).check_rank(rank))?;
        let names = ids.iter().map(|&id| self.get(id).name.clone()).collect();
        let mut builder = Builder::of(std::mem::take(self), seed);
        for id in ids {
            let [rows, columns] = builder.weights().get(id).matrix();
            let [rows, columns] = [rows, columns].map(|count| 1.0 / (count as f32).sqrt());
            let (inits, singular) = match form {
                LowRankForm::Product => ([Init::Uniform(columns), Init::Zeros], None),
                LowRankForm::Singular => {
                    let values = (Factor::Drawn(Init::Zeros), rank);
                    ([Init::Normal(columns), Init::Normal(rows)], Some(values))
                }
            };
            let scale = alpha / divisor(rank, singular.map(|(_, initial)| initial));
            let factors = inits.map(Factor::Drawn);
            builder.change(id, Change { rank, scale, dropout, factors, singular });
        }
        *self = builder.finish().0;
        Ok(names)
    }

    /// The changes of low rank that have singular values, in the order of their matrices.
    pub fn singular_changes(&self) -> Vec<SingularChange> {
        let changes = self.ids().filter_map(|id| {
            let LowRank { a, b, singular, .. } = self.low_rank(id)?;
            Some(SingularChange { a, b, e: singular?.e })
        });
        changes.collect()
    }

    fn prune_low_rank(&mut self) {
        if self.singular_changes().is_empty() {
            return;
        }
        let pruned = self.ids().filter_map(|id| Some((id, self.pruned(id)?)));
        let pruned: Vec<_> = pruned.collect();
        self.remove_changes();
        let mut builder = Builder::of(std::mem::take(self), 0);
        for (id, Pruned { change: LowRank { rank, singular, scale, dropout, .. }, a, b, e }) in
            pruned
        {
            if rank == 0 {
                continue;
            }
            let factors = [&a, &b].map(|values| Factor::Given(values));
            let singular = singular.map(|singular| (Factor::Given(&e), singular.initial));
            builder.change(id, Change { rank, scale, dropout, factors, singular });
        }
        *self = builder.finish().0;
    }

    /// A matrix's change without the singular values that are zero.
    fn pruned(&self, id: ParameterId) -> Option<Pruned> {
        let change = self.low_rank(id)?;
        let Values { rank, input, a, b, .. } = self.change(id)?;
        let e = self.singular_values(id).unwrap_or_default();
        let kept = |k: &usize| e.get(*k).is_none_or(|&value| value != 0.0);
        let kept: Vec<usize> = (0..rank).filter(kept).collect();
        let rows = kept.iter().flat_map(|k| &a[k * input..(k + 1) * input]);
        let columns = b.chunks_exact(rank).flat_map(|row| kept.iter().map(|&k| row[k]));
        Some(Pruned {
            change: LowRank { rank: kept.len(), ..change },
            a: rows.copied().collect(),
            b: columns.collect(),
            e: kept.iter().filter_map(|&k| e.get(k).copied()).collect(),
        })
    }

    pub(crate) fn merge_low_rank(&mut self) {
        if !self.has_low_rank() {
            return;
        }
        let merged = self.ids().map(|id| {
            let change = self.change(id)?;
            let a = self.singular_values(id).map(|e| scaled(e, change.a));
            let a = a.as_deref().unwrap_or(change.a);
            Some(reference::weight(Values { a, ..change }, self.values(id)))
        });
        let merged = merged.collect();
        self.replace_changed(merged);
    }
}

/// A change with fewer singular values.
struct Pruned {
    change: LowRank,
    a: Vec<f32>,
    b: Vec<f32>,
    e: Vec<f32>,
}

impl LowRank {
    /// The number that α is divided by to give the scale.
    pub(crate) fn divisor(&self) -> f32 {
        divisor(self.rank, self.singular.map(|Singular { initial, .. }| initial))
    }
}

/// The number that α is divided by: of singular values those that training began with count.
pub(crate) fn divisor(rank: usize, initial: Option<usize>) -> f32 {
    initial.map_or(rank as f32, |initial| initial as f32 + EPSILON)
}
