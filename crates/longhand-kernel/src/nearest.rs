//! The rows of a large set that are nearest to some queries, by the squared distance ‖q − k‖².
//!
//! The set is an inverted file: its rows, the keys, are parted into lists, one for each of C
//! centroids, and a query looks into the P lists whose centroids are nearest to it (Jégou, Douze and
//! Schmid, "Product quantization for nearest neighbor search", 2011, section IV). Within a list every
//! distance is computed, so with P = C the search is exact. Keys are bf16, and are stored in lists one after
//! the other, so that a list can be read from a file when it is needed.
//!
//! Graphs of neighbours (HNSW) need fewer distances for each query. They are not used here, because
//! building one inserts each key by a search of its own: for millions of keys that takes the most of
//! an hour on two cores, where centroids and lists are matrix products of a minute. A graph also has
//! to be in memory, and its form depends on the order in which threads insert.
//!
//! ‖q − k‖² = ‖q‖² + ‖k‖² − 2·q·k, which is a matrix product. Where q and k are nearly equal the
//! difference loses digits: the error is about 10⁻⁶ of ‖q‖² in `f32`, and never makes a distance
//! negative. Operands have the [`Precision`](crate::Precision) of the processor.

use std::cmp::Ordering;

use crate::cpu::{Cpu, Shards, Worker};
use crate::gemm::{Into, Matrix, MatrixMut, gemm_serial};
use crate::pointwise::for_rows;
use crate::precision::{bf16, from_bf16};
use crate::scratch;
use crate::simd::{Kernel, Vector};

mod means;
pub mod reference;
#[cfg(test)]
mod tests;

pub use means::{Assigned, assign, k_means, spread};

/// Queries that are multiplied with keys at once. Products of so few rows read the keys in place
/// and sum each distance in one order, so that it does not depend on the other queries.
const QUERIES: usize = 24;
/// Sums of a norm that go on side by side.
const LANES: usize = 16;

/// A key that was found near a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// ‖q − k‖², at least 0.
    pub distance: f32,
    /// The key's number in the set.
    pub entry: u32,
    /// The value that is stored with the key.
    pub value: u32,
}

/// The keys nearest to one query so far.
#[derive(Clone, Debug)]
pub struct Nearest {
    most: usize,
    /// At most twice as many as are wanted, so that one selection serves many that come.
    found: Vec<Found>,
    /// No key farther than this is among the nearest.
    bound: f32,
}

/// A stretch of keys within a list, and the queries that look into it.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The number of the first key.
    pub first: u32,
    /// `[N, D]`: keys as little-endian bf16.
    pub keys: &'a [u8],
    /// `[N]`: their values as little-endian `u32`.
    pub values: &'a [u8],
    /// Rows of the queries, ascending.
    pub queries: &'a [u32],
}

impl Nearest {
    /// Nothing found yet; at most `most` keys are kept, and at least one.
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { most, found: Vec::new(), bound: f32::INFINITY }
    }

    /// Forgets what was found.
    pub fn clear(&mut self) {
        self.found.clear();
        self.bound = f32::INFINITY;
    }

    /// Takes a key in, if it is among the nearest.
    pub fn push(&mut self, found: Found) {
        if found.distance > self.bound {
            return;
        }
        self.found.push(found);
        if self.found.len() >= 2 * self.most {
            self.select();
        }
    }

    /// What was found, the nearest first; of equally near ones the smaller number.
    pub fn sorted(&mut self) -> &[Found] {
        self.select();
        self.found.sort_unstable_by(by_distance);
        &self.found
    }

    /// Drops what is not among the nearest.
    fn select(&mut self) {
        if self.found.len() > self.most {
            let (_, last, _) = self.found.select_nth_unstable_by(self.most - 1, by_distance);
            self.bound = last.distance;
            self.found.truncate(self.most);
        }
    }
}

/// Rows as little-endian bf16, rounded to the nearest, appended to `to`.
pub fn encode_keys(rows: &[f32], to: &mut Vec<u8>) {
    to.extend(rows.iter().flat_map(|&x| bf16(x).to_le_bytes()));
}

/// Keys `[N, D]` in little-endian bf16 as `f32`.
///
/// # Panics
/// If `to` has another number of elements.
pub fn decode_keys(keys: &[u8], to: &mut [f32]) {
    let halves = keys.as_chunks::<2>().0;
    assert_eq!(halves.len(), to.len(), "an element for each bf16");
    for (half, to) in halves.iter().zip(to) {
        *to = from_bf16(u16::from_le_bytes(*half));
    }
}

/// Writes the P lists nearest to each query of `queries` `[Q, D]` into `to` `[Q, P]`, ascending by
/// their number, where `centroids` are `[C, D]` and P is at most C. A query's lists do
/// not depend on the other queries.
///
/// # Panics
/// If the lengths do not agree.
pub fn nearest_lists(
    cpu: &Cpu,
    width: usize,
    centroids: &[f32],
    queries: &[f32],
    probes: usize,
    to: &mut [u32],
) {
    let (lists, count) = (centroids.len() / width, queries.len() / width);
    assert!(probes <= lists && to.len() == count * probes, "P lists for each query");
    if probes == lists {
        to.chunks_mut(probes.max(1)).for_each(|row| {
            row.iter_mut().zip(0..).for_each(|(to, list)| *to = list);
        });
        return;
    }
    let mut norms = scratch::take(cpu, lists);
    squares(cpu, width, centroids, &mut norms);
    let to = Shards::new(to);
    cpu.for_each(count.div_ceil(QUERIES), |worker, block| {
        let range = block * QUERIES..count.min((block + 1) * QUERIES);
        let mut distances = worker.buffers.take(range.len() * lists);
        let own = &queries[range.start * width..range.end * width];
        distances_of(worker, width, own, (centroids, &norms[..]), &mut distances);
        // SAFETY: each block of queries has rows of its own.
        let to = unsafe { to.part(range.start * probes..range.end * probes) };
        let mut order: Vec<(f32, u32)> = Vec::with_capacity(lists);
        for (row, to) in distances.chunks(lists).zip(to.chunks_mut(probes.max(1))) {
            order.clear();
            order.extend(row.iter().copied().zip(0..));
            let by = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            order.select_nth_unstable_by(probes - 1, by);
            to.iter_mut().zip(&order).for_each(|(to, &(_, list))| *to = list);
            to.sort_unstable();
        }
        worker.buffers.give(distances);
    });
    scratch::give(cpu, norms);
}

/// Compares queries `[Q, D]` with the keys of some parts, and takes the nearest into `to` `[Q]`. What
/// is found for a query does not depend on the other queries, on the order of the parts,
/// nor on the number of threads.
///
/// It needs memory for the keys of a part in `f32` on each thread, and for a distance for each key of
/// a part and each of its queries.
///
/// # Panics
/// If the lengths do not agree, or a part names a query that there is not.
pub fn scan(cpu: &Cpu, width: usize, queries: &[f32], parts: &[Part<'_>], to: &mut [Nearest]) {
    assert_eq!(queries.len(), to.len() * width, "a result for each query");
    let mut ends = Vec::with_capacity(parts.len());
    let mut total = 0;
    for part in parts {
        assert_eq!(part.keys.len(), 2 * width * part.len(), "a value for each key");
        total += part.len() * part.queries.len();
        ends.push(total);
    }
    let mut distances = scratch::take(cpu, total);
    let all = Shards::new(&mut distances);
    cpu.for_each(parts.len(), |worker, index| {
        let part = &parts[index];
        let size = part.len() * part.queries.len();
        // SAFETY: each part has distances of its own.
        let to = unsafe { all.part(ends[index] - size..ends[index]) };
        part.compare(worker, width, queries, to);
    });
    let to = Shards::new(to);
    for_rows(cpu, to.len(), total / to.len().max(1), |_, range| {
        for query in range {
            // SAFETY: each query belongs to one thread.
            let nearest = unsafe { &mut to.part(query..query + 1)[0] };
            for (part, end) in parts.iter().zip(&ends) {
                let Ok(place) = part.queries.binary_search(&(query as u32)) else { continue };
                let begin = end - part.len() * (part.queries.len() - place);
                part.take(&distances[begin..begin + part.len()], nearest);
            }
        }
    });
    scratch::give(cpu, distances);
}

impl Part<'_> {
    /// N: how many keys it has.
    fn len(&self) -> usize {
        self.values.len() / 4
    }

    /// Writes the distances of its keys from its queries, `[q, N]`.
    fn compare(&self, worker: &mut Worker, width: usize, queries: &[f32], to: &mut [f32]) {
        let count = self.len();
        if count == 0 {
            return;
        }
        let mut keys = worker.buffers.take(count * width);
        let mut norms = worker.buffers.take(count);
        let decode = Decode { from: self.keys, width, to: &mut keys, norms: &mut norms };
        worker.level.run(decode);
        let mut own = worker.buffers.take(QUERIES * width);
        for (rows, to) in self.queries.chunks(QUERIES).zip(to.chunks_mut(QUERIES * count)) {
            for (to, &row) in own.chunks_mut(width).zip(rows) {
                to.copy_from_slice(&queries[row as usize * width..][..width]);
            }
            distances_of(worker, width, &own[..rows.len() * width], (&keys[..], &norms[..]), to);
        }
        worker.buffers.give(own);
        worker.buffers.give(norms);
        worker.buffers.give(keys);
    }

    /// Takes in its keys, given their distances from one query.
    fn take(&self, distances: &[f32], nearest: &mut Nearest) {
        let values = self.values.as_chunks::<4>().0;
        for (place, &distance) in distances.iter().enumerate() {
            if distance <= nearest.bound {
                let entry = self.first + place as u32;
                let value = u32::from_le_bytes(values[place]);
                nearest.push(Found { distance, entry, value });
            }
        }
    }
}

/// Keys as `f32`, with ‖k‖² of each.
struct Decode<'a> {
    from: &'a [u8],
    width: usize,
    to: &'a mut [f32],
    norms: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();

    // Plain loops, which the compiler makes vectors of in the instruction set of the caller.
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { from, width, to, norms } = self;
        let rows = from.chunks_exact(2 * width).zip(to.chunks_exact_mut(width));
        for ((from, to), norm) in rows.zip(norms) {
            for (half, to) in from.as_chunks::<2>().0.iter().zip(to.iter_mut()) {
                *to = from_bf16(u16::from_le_bytes(*half));
            }
            *norm = square(to);
        }
    }
}

/// ‖x‖² of each row.
struct Squares<'a> {
    rows: &'a [f32],
    width: usize,
    to: &'a mut [f32],
}

impl Kernel for Squares<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (row, to) in self.rows.chunks_exact(self.width).zip(self.to) {
            *to = square(row);
        }
    }
}

/// ‖x‖² of each of `rows` `[N, D]`.
fn squares(cpu: &Cpu, width: usize, rows: &[f32], to: &mut [f32]) {
    let count = to.len();
    let to = Shards::new(to);
    for_rows(cpu, count, width, |worker, range| {
        // SAFETY: each row belongs to one thread.
        let to = unsafe { to.part(range.clone()) };
        let rows = &rows[range.start * width..range.end * width];
        worker.level.run(Squares { rows, width, to });
    });
}

/// ‖x‖² of one row.
#[inline(always)]
fn square(row: &[f32]) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for part in whole {
        for (sum, x) in sums.iter_mut().zip(part) {
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += x * x;
    }
    sums.iter().sum()
}

/// The distances of keys `[N, D]` with norms `[N]` from at most [`QUERIES`] queries: `[q, N]`.
fn distances_of(
    worker: &mut Worker,
    width: usize,
    queries: &[f32],
    (keys, norms): (&[f32], &[f32]),
    to: &mut [f32],
) {
    let (rows, count) = (queries.len() / width, keys.len() / width);
    let (a, b) = (Matrix::new(queries, rows, width), Matrix::new(keys, count, width).t());
    gemm_serial(worker, a, b, MatrixMut::new(to, rows, count), Into::Replace);
    let mut own = [0.0; QUERIES];
    worker.level.run(Squares { rows: queries, width, to: &mut own[..rows] });
    for (row, own) in to.chunks_exact_mut(count.max(1)).zip(own) {
        for (to, norm) in row.iter_mut().zip(norms) {
            *to = (own + norm - 2.0 * *to).max(0.0);
        }
    }
}

fn by_distance(a: &Found, b: &Found) -> Ordering {
    a.distance.total_cmp(&b.distance).then(a.entry.cmp(&b.entry))
}
