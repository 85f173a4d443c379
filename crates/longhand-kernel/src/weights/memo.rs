//! A table of the first layers' products by token, which fills as tokens are read.

use super::linear::whole;
use super::{Operand, Panels};
use crate::cpu::{Cpu, Shards};
use crate::pointwise::for_rows;

/// The most bytes of one table's lasting rows.
const MOST_BYTES: usize = 32 << 20;
/// A token without a lasting row.
const UNKNOWN: u32 = u32::MAX;

/// Rows W·u(token) for the tokens read so far, where u depends on the token alone (its embedding,
/// or the norm of it): the input projection of a first layer then reads one row in place of the
/// whole matrix. The rows are those that would be computed, bit for bit, since a product's row
/// does not depend on the others.
///
/// The table keeps at most 32 MiB: tokens that come after it is full are computed each time.
pub struct Memo {
    /// For each token, its lasting row.
    rows: Vec<u32>,
    /// `places` floats per row: cached rows first, then the rows of the current call. It takes no
    /// memory until a token is read.
    table: Vec<f32>,
    places: usize,
    /// Lasting rows, and those in use.
    lasting: usize,
    used: usize,
    /// Tokens of one call that have no lasting row before it: their ids and their places in it.
    fresh: Vec<(u32, u32)>,
    /// For each token of the last call, its row.
    chosen: Vec<u32>,
}

/// Rows of a table, one for each position.
#[derive(Clone, Copy, Debug)]
pub struct Gathered<'a> {
    pub(crate) table: &'a [f32],
    /// Elements of a row.
    pub(crate) width: usize,
    pub(crate) rows: &'a [u32],
}

impl<'a> Gathered<'a> {
    /// The rows of a table with `width` elements per row.
    ///
    /// # Panics
    /// If a row is not in the table.
    pub fn new(table: &'a [f32], width: usize, rows: &'a [u32]) -> Self {
        let count = table.len().checked_div(width).unwrap_or(usize::MAX);
        assert!(rows.iter().all(|&row| (row as usize) < count), "rows of the table");
        Self { table, width, rows }
    }

    /// The row of a position.
    pub fn row(&self, position: usize) -> &'a [f32] {
        &self.table[self.rows[position] as usize * self.width..][..self.width]
    }
}

impl Memo {
    /// An empty table for a vocabulary.
    pub fn new(panels: &Panels, vocabulary: usize) -> Self {
        let places = panels.places();
        let lasting = (MOST_BYTES / (4 * places.max(1))).min(vocabulary);
        Self {
            rows: vec![UNKNOWN; vocabulary],
            table: vec![0.0; lasting * places],
            places,
            lasting,
            used: 0,
            fresh: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Looks up x·Wᵀ for a row of x for each of the `ids`, and computes what is not known; row r
    /// of x belongs to token `ids[r]`. The panels are those that the table was made for.
    /// [`Memo::rows`] gives what was found.
    ///
    /// # Panics
    /// If the sizes do not agree, or a token is not in the vocabulary.
    pub fn look_up(&mut self, cpu: &Cpu, panels: &Panels, ids: &[u32], x: &[f32]) {
        assert_eq!(panels.places(), self.places, "the panels of the table");
        assert_eq!(x.len(), ids.len() * panels.shape()[1], "a row of x for each token");
        self.fresh.clear();
        for (r, &id) in ids.iter().enumerate() {
            if self.rows[id as usize] == UNKNOWN {
                self.fresh.push((id, r as u32));
            }
        }
        if !self.fresh.is_empty() {
            self.fresh.sort_unstable();
            self.fresh.dedup_by_key(|(id, _)| *id);
            self.learn(cpu, panels, x);
        }
        self.chosen.clear();
        for &id in ids {
            self.chosen.push(match self.rows[id as usize] {
                UNKNOWN => {
                    let at = self.fresh.partition_point(|&(fresh, _)| fresh < id);
                    (self.lasting + at) as u32
                }
                row => row,
            });
        }
    }

    /// The rows that the last call found.
    pub fn rows(&self) -> Gathered<'_> {
        Gathered { table: &self.table, width: self.places, rows: &self.chosen }
    }

    /// Gives rows to the fresh tokens: lasting ones while there are any, in the order of their ids.
    fn learn(&mut self, cpu: &Cpu, panels: &Panels, x: &[f32]) {
        let (places, width) = (self.places, panels.shape()[1]);
        let rows: Vec<f32> = (self.fresh.iter())
            .flat_map(|&(_, r)| &x[r as usize * width..(r as usize + 1) * width])
            .copied()
            .collect();
        let operand = Operand::of_rows(cpu, panels.format(), self.fresh.len(), &[&rows]);
        let mut computed = vec![0.0; self.fresh.len() * places];
        whole(cpu, self.fresh.len(), &operand, panels, places, None, &mut computed);
        operand.give(cpu);
        let lasting = self.fresh.len().min(self.lasting - self.used);
        let (lasts, passes) = computed.split_at(lasting * places);
        self.table[self.used * places..][..lasts.len()].copy_from_slice(lasts);
        for (id, _) in self.fresh.drain(..lasting) {
            self.rows[id as usize] = self.used as u32;
            self.used += 1;
        }
        let behind = self.lasting * places;
        if self.table.len() < behind + passes.len() {
            self.table.resize(behind + passes.len(), 0.0);
        }
        self.table[behind..][..passes.len()].copy_from_slice(passes);
    }
}

/// `to` `[R, columns]` = the first `columns` elements of each row.
///
/// # Panics
/// If a row is shorter, or the sizes do not agree.
pub fn gather(cpu: &Cpu, from: Gathered, columns: usize, to: &mut [f32]) {
    assert_eq!(to.len(), from.rows.len() * columns, "a row of results for each position");
    let shards = Shards::new(to);
    for_rows(cpu, from.rows.len(), columns, |_, range| {
        for r in range {
            // SAFETY: each row belongs to one thread.
            unsafe { shards.part(r * columns..(r + 1) * columns) }
                .copy_from_slice(&from.row(r)[..columns]);
        }
    });
}
