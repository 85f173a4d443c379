//! Changes of low rank: a few numbers beside a matrix that are trained in its place.

use longhand_kernel::low_rank::reference;

use crate::error::ModelError;
use crate::model::Model;
use crate::weights::{Builder, Init, LowRank, Role, Weights};

/// The size of changes of low rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRankSettings {
    /// r: rows of A and columns of B, at least 1.
    pub rank: usize,
    /// α: the change is α / r · B·A.
    pub alpha: f32,
    /// Seed of A's first values; B begins as zeros, so that the model is at first unchanged.
    pub seed: u64,
}

impl Model {
    /// Gives every matrix between layers whose name is `wanted` a change of low rank (Hu et al.,
    /// "LoRA: Low-rank adaptation of large language models", 2021): W is used as W + α/r·B·A. A
    /// and B are parameters of their own, `NAME.lora_a` `[r, columns]` and `NAME.lora_b`
    /// `[rows, r]`. Which parameters are trained is left as it is. Gives the names of the
    /// matrices; embeddings, heads and vectors are never among them.
    ///
    /// # Errors
    /// If the weights are packed for reading, a matrix has a change already, or none is wanted.
    pub fn add_low_rank(
        &mut self,
        settings: LowRankSettings,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ModelError> {
        self.check_trainable()?;
        let names = self.weights.add_low_rank(settings, wanted);
        if settings.rank == 0 || names.is_empty() {
            return Err(ModelError::NoMatrix);
        }
        Ok(names)
    }

    /// Adds every change of low rank to its matrix, and removes the change.
    pub fn merge_low_rank(&mut self) {
        self.weights.merge_low_rank();
    }
}

impl Weights {
    fn add_low_rank(
        &mut self,
        LowRankSettings { rank, alpha, seed }: LowRankSettings,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut names = Vec::new();
        if rank == 0 {
            return names;
        }
        let mut builder = Builder::of(std::mem::take(self), seed);
        for id in builder.weights().ids() {
            let parameter = builder.weights().get(id);
            let between = matches!(parameter.role, Role::Matrix | Role::Gates { .. });
            if !between || parameter.low_rank.is_some() || !wanted(&parameter.name) {
                continue;
            }
            let (name, [rows, columns]) = (parameter.name.clone(), parameter.matrix());
            let init = Init::Uniform(1.0 / (columns as f32).sqrt());
            let a = builder.add(format!("{name}.lora_a"), &[rank, columns], init);
            let b = builder.add(format!("{name}.lora_b"), &[rows, rank], Init::Zeros);
            // Neither is a matrix between layers: an optimiser takes them as they are.
            [a, b].into_iter().for_each(|id| builder.role(id, Role::Factor));
            builder.change(id, LowRank { rank, a, b, scale: alpha / rank as f32 });
            names.push(name);
        }
        *self = builder.finish().0;
        names
    }

    pub(crate) fn merge_low_rank(&mut self) {
        if !self.has_low_rank() {
            return;
        }
        let merged =
            self.ids().map(|id| Some(reference::weight(self.change(id)?, self.values(id))));
        let merged = merged.collect();
        self.replace_changed(merged);
    }
}
