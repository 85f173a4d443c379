//! Changes of low rank: two small matrices that are trained in place of a large one.

use longhand_kernel::low_rank::reference;

use crate::error::ModelError;
use crate::model::Model;
use crate::weights::{Builder, Factor, Init, Weights};

/// The size of changes of low rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRankSettings {
    /// r: rows of A and columns of B, at least 1.
    pub rank: usize,
    /// α: the change is α / r · B·A.
    pub alpha: f32,
    /// Share of the change's input that is dropped in training, at least 0 and less than 1.
    pub dropout: f32,
    /// Seed of A's first values; B begins as zeros, so that the model is at first unchanged.
    pub seed: u64,
}

impl Model {
    /// Gives every matrix between layers whose name is `wanted` a change of low rank (Hu et al.,
    /// "LoRA: Low-rank adaptation of large language models", 2021): W is used as W + α/r·B·A. A
    /// and B are parameters of their own, `NAME.lora_a` `[r, columns]` and `NAME.lora_b`
    /// `[rows, r]`. Which parameters are trained is left as it is. Returns the names of the
    /// matrices; embeddings, heads and vectors are never among them.
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
}

impl Weights {
    fn add_low_rank(
        &mut self,
        settings: LowRankSettings,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ModelError> {
        let LowRankSettings { rank, alpha, dropout, seed } = settings;
        let changes = |id: &_| {
            let parameter = self.get(*id);
            parameter.is_between() && parameter.low_rank.is_none() && wanted(&parameter.name)
        };
        let ids: Vec<_> = self.ids().filter(changes).collect();
        if ids.is_empty() {
            return Err(ModelError::NoMatrix);
        }
        ids.iter().try_for_each(|&id| self.get(id).check_rank(rank))?;
        let names = ids.iter().map(|&id| self.get(id).name.clone()).collect();
        let mut builder = Builder::of(std::mem::take(self), seed);
        for id in ids {
            let [_, columns] = builder.weights().get(id).matrix();
            let a = Factor::Drawn(Init::Uniform(1.0 / (columns as f32).sqrt()));
            let size = (rank, alpha / rank as f32, dropout);
            builder.change(id, size, [a, Factor::Drawn(Init::Zeros)]);
        }
        *self = builder.finish().0;
        Ok(names)
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
