//! What the first layers make of each token, kept from pass to pass while the weights stay.

use std::collections::HashMap;

use longhand_kernel::Cpu;
use longhand_kernel::weights::{Gathered, Memo, Panels};

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

    /// Finds what a packed matrix makes of each token, of which `x` has a row: see
    /// [`Memo::look_up`].
    pub(super) fn look_up(&mut self, cpu: &Cpu, weight: ParameterId, panels: &Panels, x: &[f32]) {
        let vocabulary = self.vocabulary;
        let memo = self.tables.entry(weight).or_insert_with(|| Memo::new(panels, vocabulary));
        memo.look_up(cpu, panels, &self.ids, x);
    }

    /// What was found for a matrix in this pass.
    pub(super) fn rows(&self, weight: ParameterId) -> Option<Gathered<'_>> {
        self.tables.get(&weight).map(Memo::rows)
    }
}
