//! What the first layers make of each token, kept from pass to pass while the weights stay.

use std::collections::HashMap;

use longhand_kernel::Cpu;
use longhand_kernel::weights::{Memo, Panels};

use crate::weights::{ParameterId, Weights};

/// A table for each packed matrix that reads what depends on a token alone.
#[derive(Default)]
pub(super) struct Memos {
    /// The tokens of the running pass.
    ids: Vec<u32>,
    vocabulary: usize,
    /// The weights that the tables belong to.
    version: u64,
    tables: HashMap<ParameterId, Memo>,
}

impl Memos {
    /// A pass begins: its tokens, of so many that there are.
    pub(super) fn begin(&mut self, weights: &Weights, vocabulary: usize, ids: &[u32]) {
        if (self.version, self.vocabulary) != (weights.version(), vocabulary) {
            self.tables.clear();
            (self.version, self.vocabulary) = (weights.version(), vocabulary);
        }
        self.ids.clear();
        self.ids.extend_from_slice(ids);
    }

    /// The first `columns` places of x·Wᵀ: see [`Memo::project`].
    pub(super) fn project(
        &mut self,
        cpu: &Cpu,
        weight: ParameterId,
        panels: &Panels,
        x: &[f32],
        columns: usize,
        to: &mut [f32],
    ) {
        let vocabulary = self.vocabulary;
        let memo = self.tables.entry(weight).or_insert_with(|| Memo::new(panels, vocabulary));
        memo.project(cpu, panels, &self.ids, x, columns, to);
    }

    /// What [`Memos::project`] would give in all places where the pass reads one token that was read
    /// before, without copying it.
    pub(super) fn known(&self, weight: ParameterId, panels: &Panels) -> Option<&[f32]> {
        match self.ids[..] {
            [id] => self.tables.get(&weight)?.row(panels, id),
            _ => None,
        }
    }
}
