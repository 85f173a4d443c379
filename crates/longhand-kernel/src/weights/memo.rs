//! What the first layers make of a token, kept: a table that fills as tokens are read.

use super::linear::whole;
use super::{Operand, Panels};
use crate::cpu::{Cpu, Shards};
use crate::pointwise::for_rows;

/// The most bytes of one table.
const MOST_BYTES: usize = 32 << 20;
/// A token without a row.
const UNKNOWN: u32 = u32::MAX;

/// Rows W·u(token) for the tokens read so far, where u depends on the token alone (its embedding,
/// or the norm of it): the input projection of a first layer then reads one row in place of the
/// whole matrix. The rows are those that would be computed, bit for bit, since a product's row
/// does not depend on the others.
///
/// The table holds at most 32 MiB: tokens that come after it is full are computed each time.
pub struct Memo {
    /// For each token, its row.
    rows: Vec<u32>,
    /// Row after row of as many places as the panels have. Left untouched, and so without memory
    /// behind it, until a token is read.
    table: Vec<f32>,
    used: u32,
    /// Rows of the tokens of one call that have none yet: their ids and their places in it.
    fresh: Vec<(u32, u32)>,
}

impl Memo {
    /// An empty table for a vocabulary.
    pub fn new(panels: &Panels, vocabulary: usize) -> Self {
        let row = 4 * panels.places().max(1);
        let count = (MOST_BYTES / row).min(vocabulary);
        let table = vec![0.0; count * panels.places()];
        Self { rows: vec![UNKNOWN; vocabulary], table, used: 0, fresh: Vec::new() }
    }

    /// `to` `[R, columns]` = the first `columns` places of x·Wᵀ, where row r of x is what stands
    /// for token `ids[r]`. `columns` is the panels' rows for a linear layer, and
    /// [`Panels::places`] for a recurrence.
    ///
    /// # Panics
    /// If the sizes do not agree, or a token is not in the vocabulary.
    pub fn project(
        &mut self,
        cpu: &Cpu,
        panels: &Panels,
        ids: &[u32],
        x: &[f32],
        columns: usize,
        to: &mut [f32],
    ) {
        let (places, width) = (panels.places(), panels.shape()[1]);
        assert_eq!(x.len(), ids.len() * width, "a row of x for each token");
        assert_eq!(to.len(), ids.len() * columns, "a row of results for each token");
        assert!(columns <= places);
        self.learn(cpu, panels, ids, x);
        let count = self.fresh.len();
        let table = &self.table[..];
        // Tokens that came when the table was full, once each.
        let extra = (count > 0).then(|| self.compute(cpu, panels, x, width));
        let (rows, fresh) = (&self.rows, &self.fresh);
        let shards = Shards::new(to);
        for_rows(cpu, ids.len(), columns, |_, range| {
            for r in range {
                let from = match rows[ids[r] as usize] {
                    UNKNOWN => {
                        let at = fresh.binary_search_by_key(&ids[r], |&(id, _)| id).unwrap_or(0);
                        &extra.as_deref().unwrap_or_default()[at * places..][..columns]
                    }
                    row => &table[row as usize * places..][..columns],
                };
                // SAFETY: each row belongs to one thread.
                unsafe { shards.part(r * columns..(r + 1) * columns) }.copy_from_slice(from);
            }
        });
    }

    /// The row of a token, where it lies: as many places as the panels have. None where it is not
    /// known yet.
    ///
    /// # Panics
    /// If the token is not in the vocabulary.
    pub fn row(&self, panels: &Panels, id: u32) -> Option<&[f32]> {
        let (row, places) = (self.rows[id as usize], panels.places());
        (row != UNKNOWN).then(|| &self.table[row as usize * places..][..places])
    }

    /// Gives rows to new tokens; those for which there is none are left in `fresh`.
    fn learn(&mut self, cpu: &Cpu, panels: &Panels, ids: &[u32], x: &[f32]) {
        self.fresh.clear();
        for (r, &id) in ids.iter().enumerate() {
            if self.rows[id as usize] == UNKNOWN {
                self.fresh.push((id, r as u32));
            }
        }
        if self.fresh.is_empty() {
            return;
        }
        self.fresh.sort_unstable();
        self.fresh.dedup_by_key(|(id, _)| *id);
        let places = panels.places();
        let room = self.table.len() / places.max(1) - self.used as usize;
        let new = room.min(self.fresh.len());
        if new == 0 {
            return;
        }
        let rest = self.fresh.split_off(new);
        let computed = self.compute(cpu, panels, x, panels.shape()[1]);
        let start = self.used as usize * places;
        self.table[start..start + computed.len()].copy_from_slice(&computed);
        for (id, _) in self.fresh.drain(..) {
            self.rows[id as usize] = self.used;
            self.used += 1;
        }
        self.fresh = rest;
    }

    /// The rows of the fresh tokens.
    fn compute(&self, cpu: &Cpu, panels: &Panels, x: &[f32], width: usize) -> Vec<f32> {
        let count = self.fresh.len();
        let rows: Vec<f32> = (self.fresh.iter())
            .flat_map(|&(_, r)| &x[r as usize * width..(r as usize + 1) * width])
            .copied()
            .collect();
        let mut computed = vec![0.0; count * panels.places()];
        let operand = Operand::of_rows(cpu, panels.format(), count, &[&rows]);
        whole(cpu, count, &operand, panels, panels.places(), None, &mut computed);
        operand.give(cpu);
        computed
    }
}
