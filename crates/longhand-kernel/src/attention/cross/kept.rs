//! Cross-attention to sources whose keys and values are kept while a decoder writes: read in place,
//! without a backward pass.
//!
//! Row r of the queries reads source r mod S. The K candidates of a search are rows k·S + s, so that
//! all candidates of a sentence read its source without copies of it. A row has the same bits
//! whatever other rows and sources are beside it.

use std::marker::PhantomData;
use std::ops::Range;

use super::super::cache::Whole;
use super::super::rotary::rotate_heads;
use super::super::step::{As, Read, exponentials, for_each_group, scores_of};
use super::Sizes;
use crate::cpu::{Cpu, Shards, Worker};
use crate::scratch;
use crate::simd::{Kernel, Vector};
use crate::small_product::LANES;

/// The keys and values of S sources.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// `[N, 2·G·K]`: G key heads, then G value heads, at the positions of one source after another.
    pub kv: &'a [f32],
    /// `[S + 1]`: the row of `kv` where each source begins, and N.
    pub starts: &'a [usize],
}

/// `y [R, H·K]`: row r of the queries `q [R, H·K]` over every position of source r mod S, as
/// [`forward`](super::forward) over a sequence of R / S positions. y is zero where the source is empty.
///
/// # Panics
/// If a length does not fit the sizes.
pub fn read(cpu: &Cpu, sizes: Sizes, kept: Kept, q: &[f32], y: &mut [f32]) {
    let Sizes { heads, groups, width } = sizes;
    let rows = kept.check(sizes, q);
    assert_eq!(y.len(), q.len(), "cross-attention: the length of y");
    if rows == 0 || width == 0 {
        return;
    }
    let query = scaled(cpu, width, q);
    let (row, shared, held) = (heads * width, heads / groups * width, 2 * groups * width);
    let y = Shards::new(y);
    let attend = |worker: &mut Worker, r: usize, group: usize| {
        let source = kept.source(r);
        let heads = r * row + group * shared..r * row + (group + 1) * shared;
        // SAFETY: each group of each row is visited by one thread.
        let y = unsafe { y.part(heads.clone()) };
        if source.is_empty() {
            return y.fill(0.0);
        }
        let mut scores = worker.buffers.take(source.len().next_multiple_of(LANES));
        let kv = &kept.kv[source.start * held..source.end * held];
        let read = Read {
            width,
            query: &query[heads],
            held,
            keys: &kv[group * width..],
            values: &kv[(groups + group) * width..],
            spans: [0..source.len(), 0..0],
            scores: &mut scores,
            y,
        };
        worker.level.run(As::<Whole>(read, PhantomData));
        worker.buffers.give(scores);
    };
    let products = (0..rows).map(|r| kept.source(r).len() * row).sum();
    for_each_group(cpu, products, [rows, groups], attend);
    scratch::give(cpu, query);
}

/// `weights [R, columns]`: the mean over the heads of the softmax by which [`read`] sums values. A row
/// sums to 1 over the positions of its source, and is zero beyond them.
///
/// # Panics
/// If a length does not fit the sizes, or a source is longer than `columns`.
pub fn mean_weights(
    cpu: &Cpu,
    sizes: Sizes,
    kept: Kept,
    q: &[f32],
    columns: usize,
    weights: &mut [f32],
) {
    let Sizes { heads, groups, width } = sizes;
    let rows = kept.check(sizes, q);
    assert_eq!(weights.len(), rows * columns, "cross-attention: the length of the weights");
    if rows == 0 || columns == 0 || width == 0 {
        return;
    }
    let query = scaled(cpu, width, q);
    let (row, held) = (heads * width, 2 * groups * width);
    let weights = Shards::new(weights);
    let write = |worker: &mut Worker, r: usize, _: usize| {
        let source = kept.source(r);
        let mut scores = worker.buffers.take(source.len().next_multiple_of(LANES));
        worker.level.run(Mean {
            sizes,
            query: &query[r * row..(r + 1) * row],
            keys: &kept.kv[source.start * held..source.end * held],
            scores: &mut scores,
            // SAFETY: each row is visited by one thread.
            means: unsafe { weights.part(r * columns..(r + 1) * columns) },
        });
        worker.buffers.give(scores);
    };
    let products = (0..rows).map(|r| kept.source(r).len() * row).sum();
    for_each_group(cpu, products, [rows, 1], write);
    scratch::give(cpu, query);
}

/// The queries divided by √K.
fn scaled(cpu: &Cpu, width: usize, q: &[f32]) -> crate::Buffer {
    let mut query = scratch::take(cpu, q.len());
    rotate_heads(cpu.level(), q, None, 1.0 / (width as f32).sqrt(), width, &mut query);
    query
}

impl Kept<'_> {
    /// S: the number of sources.
    fn sources(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The rows of the source that a query reads.
    fn source(&self, row: usize) -> Range<usize> {
        let s = row % self.sources();
        self.starts[s]..self.starts[s + 1]
    }

    /// Checks the shapes; R, the number of queries.
    fn check(&self, sizes: Sizes, q: &[f32]) -> usize {
        let Sizes { heads, groups, width } = sizes;
        assert!(
            groups > 0 && heads.is_multiple_of(groups),
            "cross-attention: {heads} heads over {groups} groups"
        );
        let rows = q.len() / (heads * width).max(1);
        assert_eq!(q.len(), rows * heads * width, "cross-attention: the length of q");
        assert!(
            rows == 0 || (self.sources() > 0 && rows.is_multiple_of(self.sources())),
            "cross-attention: {rows} rows over {} sources",
            self.sources()
        );
        assert!(self.starts.is_sorted(), "cross-attention: sources follow one another");
        let end = self.starts.last().copied().unwrap_or(0);
        assert_eq!(self.kv.len(), end * 2 * groups * width, "cross-attention: the length of kv");
        rows
    }
}

/// The weights of one row, averaged over its heads.
struct Mean<'a> {
    sizes: Sizes,
    /// All heads, divided by √K.
    query: &'a [f32],
    /// `[n, 2·G·K]`: the keys and values of the row's source.
    keys: &'a [f32],
    /// Room for n elements, rounded up to whole vectors.
    scores: &'a mut [f32],
    /// At least n columns.
    means: &'a mut [f32],
}

impl Kernel for Mean<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { sizes: Sizes { heads, groups, width }, query, keys, scores, means } = self;
        let held = 2 * groups * width;
        let count = keys.len() / held;
        means.fill(0.0);
        let means = &mut means[..count];
        let spans = [0..count, 0..0];
        for (head, query) in query.chunks_exact(width).enumerate() {
            if count == 0 {
                return;
            }
            let group = head / (heads / groups);
            let keys = &keys[group * width..];
            // SAFETY: every position has a key of `width` elements from here on, there is room for
            // the scores, and the caller has the instruction set.
            let sum = unsafe {
                let (query, keys, to) = (query.as_ptr(), keys.as_ptr(), scores.as_mut_ptr());
                scores_of::<V, Whole>(query, keys, held, width, &spans, to);
                exponentials::<V>(to, count)
            };
            let factor = 1.0 / (sum * heads as f32);
            means.iter_mut().zip(&*scores).for_each(|(mean, weight)| *mean += factor * weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reference;
    use super::super::super::tests::{everything, tolerance};
    use super::*;
    use crate::Sequence;
    use crate::testing::{close, values, wide};

    /// The rows of real positions, one source after another.
    fn kept(source: &Sequence, kv: &[f32], width: usize) -> (Vec<f32>, Vec<usize>) {
        let (mut rows, mut starts) = (Vec::new(), vec![0]);
        for s in 0..source.batch {
            for t in 0..source.real(s) {
                let row = t * source.batch + s;
                rows.extend_from_slice(&kv[row * width..(row + 1) * width]);
            }
            starts.push(rows.len() / width.max(1));
        }
        (rows, starts)
    }

    #[test]
    fn every_level_equals_the_reference_and_rows_are_the_same_alone() {
        for cpu in everything(2) {
            for (heads, groups, width) in [(1, 1, 5), (4, 2, 16), (3, 3, 40), (2, 1, 1)] {
                for (candidates, lengths) in [
                    (1, vec![7, 0, 3]),
                    (4, vec![1, 70]),
                    (3, vec![33]),
                    (2, vec![0]),
                    (0, vec![4]),
                ] {
                    check(&cpu, Sizes { heads, groups, width }, candidates, &lengths);
                }
            }
        }
    }

    fn check(cpu: &Cpu, sizes: Sizes, candidates: usize, lengths: &[u32]) {
        let Sizes { heads, groups, width } = sizes;
        let (sources, longest) = (lengths.len(), *lengths.iter().max().unwrap() as usize);
        let sequence = Sequence::new(candidates, sources);
        let source = Sequence { lengths: Some(lengths), ..Sequence::new(longest, sources) };
        let (row, kv_row) = (heads * width, 2 * groups * width);
        let q = values(sequence.rows() * row, 1);
        let kv = values(source.rows() * kv_row, 2);
        let (rows, starts) = kept(&source, &kv, kv_row);
        let both = Kept { kv: &rows, starts: &starts };
        let columns = longest + 2;
        let mut y = vec![f32::NAN; q.len()];
        let mut means = vec![f32::NAN; sequence.rows() * columns];
        read(cpu, sizes, both, &q, &mut y);
        mean_weights(cpu, sizes, both, &q, columns, &mut means);

        let exact = reference::cross_forward(sizes, &sequence, &source, &wide(&q), &wide(&kv));
        close("y", &y, &exact, tolerance(cpu, 3e-6));
        let exact = reference::cross_weights(sizes, &sequence, &source, &wide(&q), &wide(&kv));
        let padded = exact.chunks(longest.max(1)).flat_map(|row| {
            let row = &row[..longest];
            row.iter().copied().chain([0.0; 2])
        });
        let padded: Vec<f64> = match longest {
            0 => vec![0.0; means.len()],
            _ => padded.collect(),
        };
        close("the weights", &means, &padded, tolerance(cpu, 3e-6));

        for r in 0..sequence.rows() {
            let s = r % sources;
            let one = [0, starts[s + 1] - starts[s]];
            let rows = &rows[starts[s] * kv_row..starts[s + 1] * kv_row];
            let alone = Kept { kv: rows, starts: &one };
            let q = &q[r * row..(r + 1) * row];
            let (mut own_y, mut own) = (vec![f32::NAN; row], vec![f32::NAN; columns]);
            read(cpu, sizes, alone, q, &mut own_y);
            mean_weights(cpu, sizes, alone, q, columns, &mut own);
            assert_eq!(own_y, y[r * row..(r + 1) * row], "row {r}");
            assert_eq!(own, means[r * columns..(r + 1) * columns], "row {r}");
        }
    }

    /// Property (f): extreme inputs stay finite, and weights stay a distribution.
    #[test]
    fn saturated_inputs_stay_finite() {
        let sizes = Sizes { heads: 2, groups: 1, width: 8 };
        let large = |len: usize, seed: u64| -> Vec<f32> {
            values(len, seed).iter().map(|x| x.signum() * 1e4).collect()
        };
        let (q, kv, starts) = (large(6 * 16, 3), large(30 * 16, 4), [0, 10, 30]);
        for cpu in everything(1) {
            let kept = Kept { kv: &kv, starts: &starts };
            let (mut y, mut means) = (vec![f32::NAN; q.len()], vec![f32::NAN; 6 * 20]);
            read(&cpu, sizes, kept, &q, &mut y);
            mean_weights(&cpu, sizes, kept, &q, 20, &mut means);
            assert!(y.iter().all(|x| x.is_finite()));
            let sums = means.chunks(20).map(|row| row.iter().sum::<f32>());
            assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        }
    }
}
