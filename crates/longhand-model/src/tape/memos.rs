//! Products of the first layers with each token, cached until the weights change.

use std::collections::HashMap;

use longhand_kernel::Cpu;
use longhand_kernel::weights::{Gathered, Memo, Panels};

use crate::weights::{ParameterId, Weights};

/// A table for each packed matrix whose input depends on a token alone.
#[derive(Default)]
pub(super) struct Memos {
    /// The tokens of the last embedding.
    ids: Vec<u32>,
    /// How many tokens that embedding has; a matrix reads one embedding alone.
    vocabulary: usize,
    /// The weights that the tables belong to.
    version: u64,
    tables: HashMap<ParameterId, Memo>,
}

impl Memos {
    /// Takes the ids of an embedding of `vocabulary` rows; other weights empty the tables.
    pub(super) fn begin(&mut self, weights: &Weights, vocabulary: usize, ids: &[u32]) {
        if self.version != weights.version() {
            self.tables.clear();
            self.version = weights.version();
        }
        self.vocabulary = vocabulary;
        self.ids.clear();
        self.ids.extend_from_slice(ids);
    }

    /// Finds the product of a packed matrix with each token, whose rows
    /// are `x`; see [`Memo::look_up`].
    pub(super) fn look_up(&mut self, cpu: &Cpu, weight: ParameterId, panels: &Panels, x: &[f32]) {
        let vocabulary = self.vocabulary;
        let memo = self.tables.entry(weight).or_insert_with(|| Memo::new(panels, vocabulary));
        memo.look_up(cpu, panels, &self.ids, x);
    }

    /// The products that the last look-up of a matrix found.
    pub(super) fn rows(&self, weight: ParameterId) -> Option<Gathered<'_>> {
        self.tables.get(&weight).map(Memo::rows)
    }
}
