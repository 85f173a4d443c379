//! The most probable entries of rows of logits, with their log-probabilities: what a
//! beam search chooses from.

use crate::cpu::{Cpu, Shards};
use crate::pointwise::for_rows;
use crate::simd::{Kernel, Vector, exp};

pub mod reference;
#[cfg(test)]
mod tests;

/// The id of a place without a candidate.
pub const NO_CANDIDATE: u32 = u32::MAX;

/// Entries whose largest one is found at once. The candidates of a row are then looked for in the
/// few blocks that have a large one.
const BLOCK: usize = 128;
/// Vectors summed in registers before they are added to the total, which is in `f64`.
const SUMMED: usize = 32;

/// Entries of the vocabulary that are no candidates. They count in the sum of the
/// probabilities all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excluded<'a> {
    /// Ids that are excluded in every row.
    pub everywhere: &'a [u32],
    /// Ids that are excluded in one row each, those of the first row first.
    pub in_rows: &'a [u32],
    /// `[R]`: where each row's ids end among `in_rows`; empty if there are none.
    pub ends: &'a [usize],
}

/// Where [`candidates`] writes what it finds.
#[derive(Debug)]
pub struct Candidates<'a> {
    /// `[R, K]`: ids of each row's candidates, the most probable first and of equal ones the
    /// smaller id; [`NO_CANDIDATE`] where there are fewer.
    pub ids: &'a mut [u32],
    /// `[R, K]`: ln p of each candidate; −∞ where there is none.
    pub log_probabilities: &'a mut [f32],
    /// `[R]`: ln Σ e^logit of each row. It is not finite for a row with a logit that is not
    /// a number or +∞.
    pub log_sums: &'a mut [f64],
}

/// ln p of an entry, given its logit and its row's ln Σ e^logit. At most 0.
pub fn log_probability(logit: f32, log_sum: f64) -> f32 {
    (f64::from(logit) - log_sum).min(0.0) as f32
}

/// Finds the K most probable entries of each row of `logits` `[R, V]`, with
/// `ln p = logit − ln Σ e^logit` (in nats). K is the number of ids for each row.
///
/// The largest logit is subtracted before the exponentials, so that nothing overflows, and the sum
/// is in `f64`. Nothing is sorted: the K-th largest of the maxima of blocks bounds the K-th largest
/// entry from below, so that only blocks above it are searched. A row's result does not depend on
/// the other rows, nor on the number of threads. The logits of excluded entries are overwritten.
///
/// # Panics
/// If a slice's length is not that of its shape, or an excluded id is not below V.
pub fn candidates(
    cpu: &Cpu,
    vocabulary: usize,
    logits: &mut [f32],
    excluded: Excluded<'_>,
    to: Candidates<'_>,
) {
    let Candidates { ids, log_probabilities, log_sums } = to;
    let rows = log_sums.len();
    assert_eq!(logits.len(), rows * vocabulary, "a row of logits for each sum");
    assert_eq!(ids.len(), log_probabilities.len(), "a log-probability for each candidate");
    let count = ids.len().checked_div(rows).unwrap_or(0);
    assert_eq!(ids.len(), rows * count, "as many candidates for each row");
    let Excluded { everywhere, in_rows, ends } = excluded;
    assert!(ends.is_empty() || ends.len() == rows, "the excluded entries of each row");
    let logits = Shards::new(logits);
    let (ids, log_probabilities) = (Shards::new(ids), Shards::new(log_probabilities));
    let log_sums = Shards::new(log_sums);
    for_rows(cpu, rows, vocabulary, |worker, range| {
        let mut maxima = worker.buffers.take(vocabulary.div_ceil(BLOCK));
        for r in range {
            let own = match ends {
                [] => &[],
                ends => &in_rows[r.checked_sub(1).map_or(0, |before| ends[before])..ends[r]],
            };
            // SAFETY: each row belongs to one thread.
            let (row, ids, log_probabilities, log_sum) = unsafe {
                (
                    logits.part(r * vocabulary..(r + 1) * vocabulary),
                    ids.part(r * count..(r + 1) * count),
                    log_probabilities.part(r * count..(r + 1) * count),
                    log_sums.part(r..r + 1),
                )
            };
            log_sum[0] = worker.level.run(LogSum(row));
            for &id in everywhere.iter().chain(own) {
                row[id as usize] = f32::NEG_INFINITY;
            }
            worker.level.run(Maxima { row, maxima: &mut maxima });
            find(row, &maxima, ids, log_probabilities);
            for value in log_probabilities.iter_mut() {
                *value = log_probability(*value, log_sum[0]);
            }
        }
        worker.buffers.give(maxima);
    });
}

/// Writes the largest values of a row and their places, given the maxima of its blocks.
fn find(row: &[f32], maxima: &[f32], ids: &mut [u32], values: &mut [f32]) {
    let count = values.len();
    let clear = |ids: &mut [u32], values: &mut [f32]| {
        ids.fill(NO_CANDIDATE);
        values.fill(f32::NEG_INFINITY);
    };
    if count == 0 {
        return;
    }
    // At least `count` blocks have an entry that is as large as this.
    clear(ids, values);
    maxima.iter().for_each(|&most| insert(0, most, ids, values));
    let bound = values[count - 1];
    clear(ids, values);
    for (block, (row, &most)) in row.chunks(BLOCK).zip(maxima).enumerate() {
        // A later entry comes in only if it is larger than the last of those that are in.
        if most >= bound && most > values[count - 1] {
            for (i, &x) in row.iter().enumerate() {
                if x >= bound {
                    insert((block * BLOCK + i) as u32, x, ids, values);
                }
            }
        }
    }
}

/// Puts a value into its place among values in descending order, behind equal ones, if it is
/// larger than the last.
#[inline(always)]
fn insert(id: u32, value: f32, ids: &mut [u32], values: &mut [f32]) {
    let mut at = values.len() - 1;
    // What is not a number is in no order.
    if value.is_nan() || value <= values[at] {
        return;
    }
    while at > 0 && values[at - 1] < value {
        values[at] = values[at - 1];
        ids[at] = ids[at - 1];
        at -= 1;
    }
    values[at] = value;
    ids[at] = id;
}

/// ln Σ e^x of a row.
struct LogSum<'a>(&'a [f32]);

impl Kernel for LogSum<'_> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f64 {
        let row = self.0;
        // SAFETY: each load is within the row.
        unsafe {
            let largest = largest::<V>(row);
            let shift = V::splat(largest);
            let mut total = 0.0f64;
            for block in row.chunks(SUMMED * V::LANES) {
                let mut sums = [V::zero(); 2];
                let mut pairs = block.chunks_exact(2 * V::LANES);
                for pair in &mut pairs {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = sum.add(exp(V::load(pair.as_ptr().add(i * V::LANES)).sub(shift)));
                    }
                }
                let mut rest = pairs.remainder();
                if rest.len() >= V::LANES {
                    sums[0] = sums[0].add(exp(V::load(rest.as_ptr()).sub(shift)));
                    rest = &rest[V::LANES..];
                }
                total += f64::from(sums[0].add(sums[1]).sum());
                for &x in rest {
                    total += f64::from(x - largest).exp();
                }
            }
            f64::from(largest) + total.ln()
        }
    }
}

/// The largest value of each block of a row; what is not a number is passed over.
struct Maxima<'a> {
    row: &'a [f32],
    maxima: &'a mut [f32],
}

impl Kernel for Maxima<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (block, most) in self.row.chunks(BLOCK).zip(self.maxima) {
            // SAFETY: the caller has the instruction set.
            *most = unsafe { largest::<V>(block) };
        }
    }
}

/// The largest value of a slice; −∞ of nothing.
#[inline(always)]
unsafe fn largest<V: Vector>(values: &[f32]) -> f32 {
    let mut parts = values.chunks_exact(4 * V::LANES);
    // SAFETY: whole vectors of each part are read; the caller has the instruction set.
    let most = unsafe {
        let mut most = [V::splat(f32::NEG_INFINITY); 4];
        for part in &mut parts {
            for (i, most) in most.iter_mut().enumerate() {
                *most = V::load(part.as_ptr().add(i * V::LANES)).max(*most);
            }
        }
        most[0].max(most[1]).max(most[2].max(most[3])).largest()
    };
    parts.remainder().iter().fold(most, |most, &x| if x > most { x } else { most })
}
