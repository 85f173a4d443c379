//! The search for neighbours of hidden states, and what they change.

use std::sync::Arc;

use longhand_model::nearest::{Found, Nearest, Part, nearest_lists, scan};
use longhand_model::{Cpu, IGNORE};

use super::files::Datastore;
use super::mix::{Shares, mix_row, vote};
use super::mixture::Mixture;
use crate::datastore_error::DatastoreError;

/// Queries that are searched for together: bounds the memory of what is found.
const QUERIES: usize = 2048;
/// Distances of one part: a list that many queries look into is cut, so that every thread has one.
const PART: usize = 1 << 19;
/// The fewest and the most keys of a part.
const KEYS: std::ops::RangeInclusive<usize> = 64..=4096;
/// Distances, and bytes of keys, that are held at once.
const DISTANCES: usize = 1 << 22;
const BYTES: usize = 1 << 25;

/// A search of a datastore, with the memory that it needs. A clone searches by itself.
#[derive(Clone)]
pub struct Neighbours {
    store: Arc<Datastore>,
    mixture: Mixture,
    found: Vec<Nearest>,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// The losses of the last rows by the model alone.
    alone: Vec<f32>,
}

/// A stretch of a list that some queries look into.
struct Stretch {
    entries: std::ops::Range<u64>,
    /// Which of the pairs of a list and a query belong to its list.
    pairs: std::ops::Range<usize>,
}

impl Neighbours {
    /// A search of a datastore, mixed as its header says.
    pub fn new(store: Arc<Datastore>) -> Self {
        let mixture = store.header().mixture;
        let (found, keys, values) = (Vec::new(), Vec::new(), Vec::new());
        Self { store, mixture, found, keys, values, alone: Vec::new() }
    }

    /// As [`Neighbours::new`], mixed in another way.
    ///
    /// # Errors
    /// As [`Mixture::check`], for the entries of this datastore.
    pub fn with_mixture(store: Arc<Datastore>, mixture: Mixture) -> Result<Self, DatastoreError> {
        mixture.check(store.header().entries)?;
        Ok(Self { mixture, ..Self::new(store) })
    }

    /// The datastore that is searched.
    pub fn store(&self) -> &Arc<Datastore> {
        &self.store
    }

    /// How votes are mixed.
    pub fn mixture(&self) -> Mixture {
        self.mixture
    }

    /// The losses of the rows of the last [`Neighbours::mix_losses`] by the model alone, in nats.
    pub fn alone(&self) -> &[f32] {
        &self.alone
    }

    /// Replaces the losses of the model `[R]`, −ln p in nats, by those of the mixture, where `hidden`
    /// `[R, D]` are the hidden states and `targets` `[R]` the tokens that followed. A target that is
    /// [`IGNORE`] is not looked up, and its loss stays.
    ///
    /// # Errors
    /// [`DatastoreError::Io`] if the datastore cannot be read, [`DatastoreError::NotFinite`] for a
    /// hidden state that is not finite.
    pub fn mix_losses(
        &mut self,
        cpu: &Cpu,
        hidden: &[f32],
        targets: &[u32],
        losses: &mut [f32],
    ) -> Result<(), DatastoreError> {
        self.alone.clear();
        self.alone.extend_from_slice(losses);
        let Mixture { lambda, temperature, .. } = self.mixture;
        if lambda == 0.0 {
            return Ok(());
        }
        let shares = Shares::new(lambda);
        self.each(cpu, hidden, targets, |found, row, target| {
            let neighbours = vote(found, temperature, target);
            losses[row] = -shares.mix(neighbours, -f64::from(losses[row])) as f32;
        })
    }

    /// Replaces logits `[R, V]` of the model by the logarithms of the mixed probabilities, which sum
    /// to 1; leaves them as they are where λ is 0. `hidden` `[R, D]` are the hidden states of the rows.
    ///
    /// # Errors
    /// As [`Neighbours::mix_losses`], for the rows and the datastore.
    pub fn mix_logits(
        &mut self,
        cpu: &Cpu,
        hidden: &[f32],
        logits: &mut [f32],
    ) -> Result<(), DatastoreError> {
        let Mixture { lambda, temperature, .. } = self.mixture;
        let rows = hidden.len() / self.store.header().width;
        if lambda == 0.0 || rows == 0 {
            return Ok(());
        }
        let (vocabulary, shares) = (logits.len() / rows, Shares::new(lambda));
        self.each(cpu, hidden, &vec![0; rows], |found, row, _| {
            let logits = &mut logits[row * vocabulary..(row + 1) * vocabulary];
            mix_row(found, temperature, shares, logits);
        })
    }

    /// Finds the neighbours of each row whose target is not [`IGNORE`], and hands them on
    /// with the row and its target.
    pub(super) fn each(
        &mut self,
        cpu: &Cpu,
        hidden: &[f32],
        targets: &[u32],
        mut take: impl FnMut(&[Found], usize, u32),
    ) -> Result<(), DatastoreError> {
        let width = self.store.header().width;
        let rows: Vec<usize> = (0..targets.len()).filter(|&row| targets[row] != IGNORE).collect();
        let mut queries = Vec::new();
        for rows in rows.chunks(QUERIES) {
            queries.clear();
            for row in rows {
                queries.extend_from_slice(&hidden[row * width..(row + 1) * width]);
            }
            self.search(cpu, &queries)?;
            for (&row, found) in rows.iter().zip(&mut self.found) {
                take(found.sorted(), row, targets[row]);
            }
        }
        Ok(())
    }

    /// Finds the neighbours of `queries` `[Q, D]`.
    fn search(&mut self, cpu: &Cpu, queries: &[f32]) -> Result<(), DatastoreError> {
        if !queries.iter().all(|x| x.is_finite()) {
            return Err(DatastoreError::NotFinite);
        }
        let store = self.store.clone();
        let (header, index) = (store.header(), store.index());
        let width = header.width;
        let count = queries.len() / width;
        let Mixture { neighbours, probes, .. } = self.mixture;
        self.found.resize(count, Nearest::new(neighbours));
        self.found.iter_mut().for_each(Nearest::clear);
        let probes = probes.min(header.lists);
        let mut lists = vec![0; count * probes];
        nearest_lists(cpu, width, &index.centroids, queries, probes, &mut lists);
        // Pairs of a list and a query, list after list.
        let queries_of = lists.chunks(probes).zip(0..);
        let mut pairs: Vec<(u32, u32)> = queries_of
            .flat_map(|(lists, query)| lists.iter().map(move |&list| (list, query)))
            .collect();
        pairs.sort_unstable();
        let rows: Vec<u32> = pairs.iter().map(|&(_, query)| query).collect();
        let mut group: Vec<Stretch> = Vec::new();
        let (mut distances, mut bytes) = (0, 0);
        for stretch in stretches(&pairs, &index.starts) {
            let keys = (stretch.entries.end - stretch.entries.start) as usize;
            distances += keys * stretch.pairs.len();
            bytes += keys * 2 * width;
            group.push(stretch);
            if distances >= DISTANCES || bytes >= BYTES {
                self.compare(cpu, queries, &rows, &group)?;
                group.clear();
                (distances, bytes) = (0, 0);
            }
        }
        self.compare(cpu, queries, &rows, &group)
    }

    /// Reads some stretches, and compares their keys with their queries.
    fn compare(
        &mut self,
        cpu: &Cpu,
        queries: &[f32],
        rows: &[u32],
        group: &[Stretch],
    ) -> Result<(), DatastoreError> {
        let Self { store, found, keys, values, .. } = self;
        let row = 2 * store.header().width;
        keys.clear();
        values.clear();
        for stretch in group {
            store.read(stretch.entries.clone(), keys, values)?;
        }
        let mut at = 0;
        let parts: Vec<Part<'_>> = group
            .iter()
            .map(|Stretch { entries, pairs }| {
                let begin = at;
                at += (entries.end - entries.start) as usize;
                Part {
                    first: entries.start as u32,
                    keys: &keys[begin * row..at * row],
                    values: &values[begin * 4..at * 4],
                    queries: &rows[pairs.clone()],
                }
            })
            .collect();
        scan(cpu, row / 2, queries, &parts, found);
        Ok(())
    }
}

/// Cuts the lists that are named in sorted pairs of a list and a query into stretches.
fn stretches(pairs: &[(u32, u32)], starts: &[u64]) -> impl Iterator<Item = Stretch> {
    let mut at = 0;
    pairs.chunk_by(|a, b| a.0 == b.0).flat_map(move |own| {
        let pairs = at..at + own.len();
        at = pairs.end;
        let list = own[0].0 as usize;
        let (first, end) = (starts[list], starts[list + 1]);
        let keys = (PART / own.len()).clamp(*KEYS.start(), *KEYS.end()) as u64;
        (first..end).step_by(keys as usize).map(move |begin| Stretch {
            entries: begin..end.min(begin + keys),
            pairs: pairs.clone(),
        })
    })
}
