//! The plain forms: every query asks every position whether it may be seen.

use super::rotary::rotate_reference;
use super::{Mask, Sizes, cross};
use crate::precision::Precision;
use crate::real::Real;
use crate::sequence::Sequence;

/// The state of windowed attention, owned; as [`State`](super::State).
#[derive(Clone, Debug, PartialEq)]
pub struct Carried<R> {
    /// `[B, G, W, K]`, rotated by their positions.
    pub keys: Vec<R>,
    /// `[B, G, W, K]`.
    pub values: Vec<R>,
    /// `[B]`: positions read so far.
    pub position: Vec<u64>,
    /// `[B]`: how many of the last positions belong to the current document.
    pub filled: Vec<u32>,
}

impl<R: Real> Carried<R> {
    /// The state before the first position: all zeros.
    pub fn empty(sizes: Sizes, batch: usize) -> Self {
        Self {
            keys: vec![R::zero(); batch * sizes.ring_values()],
            values: vec![R::zero(); batch * sizes.ring_values()],
            position: vec![0; batch],
            filled: vec![0; batch],
        }
    }
}

/// y, and the state advanced, as [`forward`](super::forward).
pub fn forward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[R],
    state: &mut Carried<R>,
) -> Vec<R> {
    let width = sizes.width;
    let mut y = vec![R::zero(); sequence.rows() * sizes.heads * width];
    for b in 0..sequence.batch {
        for group in 0..sizes.groups {
            let entries = entries(sizes, sequence, qkv, state, b, group);
            for head in heads_of(sizes.heads, sizes.groups, group) {
                for asking in &entries {
                    let Origin::Time(t) = asking.origin else { continue };
                    let query = query(sizes, sequence, qkv, b, head, asking);
                    let seen = seen_by(sizes, &entries, asking);
                    let row = t * sequence.batch + b;
                    let y = &mut y[(row * sizes.heads + head) * width..][..width];
                    for (weight, entry) in softmax(&query, &seen).into_iter().zip(&seen) {
                        y.iter_mut().zip(&entry.value).for_each(|(y, &v)| *y += weight * v);
                    }
                }
            }
        }
    }
    if let Mask::Window(window) = sizes.mask {
        let before = state.clone();
        for b in 0..sequence.batch {
            for group in 0..sizes.groups {
                for entry in entries(sizes, sequence, qkv, &before, b, group) {
                    let slot = (entry.position % window as u64) as usize;
                    let at = slot_at(sizes, b, group, slot);
                    state.keys[at..at + width].copy_from_slice(&entry.key);
                    state.values[at..at + width].copy_from_slice(&entry.value);
                }
            }
            for t in sequence.steps().filter(|&t| sequence.is_real(t, b)) {
                state.position[b] += 1;
                let kept = if sequence.starts_empty(t, b) { 0 } else { state.filled[b] };
                state.filled[b] = (kept + 1).min(window as u32);
            }
        }
    }
    y
}

/// d_qkv and the gradients of the cached keys and values, given the state before forward.
pub fn backward<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[R],
    state: &Carried<R>,
    dy: &[R],
) -> (Vec<R>, Vec<R>, Vec<R>) {
    let Sizes { heads, groups, width, .. } = sizes;
    let scale = R::from_f64(1.0 / (width as f64).sqrt());
    let mut d_qkv = vec![R::zero(); qkv.len()];
    let mut d_keys = vec![R::zero(); state.keys.len()];
    let mut d_values = vec![R::zero(); state.values.len()];
    for b in 0..sequence.batch {
        for group in 0..groups {
            let entries = entries(sizes, sequence, qkv, state, b, group);
            for head in heads_of(heads, groups, group) {
                for asking in &entries {
                    let Origin::Time(t) = asking.origin else { continue };
                    let row = t * sequence.batch + b;
                    let dy = &dy[(row * heads + head) * width..][..width];
                    let query = query(sizes, sequence, qkv, b, head, asking);
                    let seen = seen_by(sizes, &entries, asking);
                    let weights = softmax(&query, &seen);
                    let d_weights: Vec<R> = seen.iter().map(|e| dot(&e.value, dy)).collect();
                    let mean = dot(&weights, &d_weights);
                    let mut d_query = vec![R::zero(); width];
                    for (i, entry) in seen.iter().enumerate() {
                        let d_score = weights[i] * (d_weights[i] - mean);
                        let mut d_key: Vec<R> = query.iter().map(|&q| d_score * q).collect();
                        let (to_keys, to_values) = match entry.origin {
                            Origin::Carried { slot } => {
                                let at = slot_at(sizes, b, group, slot);
                                (&mut d_keys[at..], &mut d_values[at..])
                            }
                            Origin::Time(t) => {
                                rotate(sizes, entry.position, -1.0, &mut d_key);
                                let row = (t * sequence.batch + b) * sizes.row();
                                d_qkv[row + (heads + group) * width..].split_at_mut(groups * width)
                            }
                        };
                        for k in 0..width {
                            d_query[k] += d_score * entry.key[k];
                            to_keys[k] += d_key[k];
                            to_values[k] += weights[i] * dy[k];
                        }
                    }
                    rotate(sizes, asking.position, -1.0, &mut d_query);
                    let to = &mut d_qkv[row * sizes.row() + head * width..];
                    to.iter_mut().zip(d_query).for_each(|(to, x)| *to += x * scale);
                }
            }
        }
    }
    (d_qkv, d_keys, d_values)
}

/// y of cross-attention, as [`cross::forward`].
pub fn cross_forward<R: Real>(
    sizes: cross::Sizes,
    sequence: &Sequence,
    source: &Sequence,
    q: &[R],
    kv: &[R],
) -> Vec<R> {
    let width = sizes.width;
    let mut y = vec![R::zero(); q.len()];
    for_each_query(sizes, sequence, |b, group, at| {
        let entries = source_entries(sizes, source, kv, b, group);
        let seen: Vec<_> = entries.iter().collect();
        let weights = softmax(&scaled(&q[at..at + width]), &seen);
        for (weight, entry) in weights.into_iter().zip(&seen) {
            for k in 0..width {
                y[at + k] += weight * entry.value[k];
            }
        }
    });
    y
}

/// `[T·B, S]`: the mean over the heads of the weights of cross-attention; zeros for padding.
pub fn cross_weights<R: Real>(
    sizes: cross::Sizes,
    sequence: &Sequence,
    source: &Sequence,
    q: &[R],
    kv: &[R],
) -> Vec<R> {
    let share = R::from_f64(1.0 / sizes.heads as f64);
    let mut means = vec![R::zero(); sequence.rows() * source.time];
    for_each_query(sizes, sequence, |b, group, at| {
        let entries = source_entries(sizes, source, kv, b, group);
        let seen: Vec<_> = entries.iter().collect();
        let row = at / (sizes.heads * sizes.width);
        let weights = softmax(&scaled(&q[at..at + sizes.width]), &seen);
        let means = &mut means[row * source.time..];
        means.iter_mut().zip(weights).for_each(|(mean, weight)| *mean += share * weight);
    });
    means
}

/// dq and dkv of cross-attention.
pub fn cross_backward<R: Real>(
    sizes: cross::Sizes,
    sequence: &Sequence,
    source: &Sequence,
    q: &[R],
    kv: &[R],
    dy: &[R],
) -> (Vec<R>, Vec<R>) {
    let cross::Sizes { groups, width, .. } = sizes;
    let scale = R::from_f64(1.0 / (width as f64).sqrt());
    let (mut dq, mut dkv) = (vec![R::zero(); q.len()], vec![R::zero(); kv.len()]);
    for_each_query(sizes, sequence, |b, group, at| {
        let entries = source_entries(sizes, source, kv, b, group);
        let seen: Vec<_> = entries.iter().collect();
        let query = scaled(&q[at..at + width]);
        let dy = &dy[at..at + width];
        let weights = softmax(&query, &seen);
        let d_weights: Vec<R> = seen.iter().map(|entry| dot(&entry.value, dy)).collect();
        let mean = dot(&weights, &d_weights);
        for (s, entry) in seen.iter().enumerate() {
            let d_score = weights[s] * (d_weights[s] - mean);
            let to = ((s * source.batch + b) * 2 * groups + group) * width;
            for k in 0..width {
                dq[at + k] += d_score * entry.key[k] * scale;
                dkv[to + k] += d_score * query[k];
                dkv[to + groups * width + k] += weights[s] * dy[k];
            }
        }
    });
    (dq, dkv)
}

/// A key and its value, and where they came from.
struct Entry<R> {
    key: Vec<R>,
    value: Vec<R>,
    /// Position in the stream.
    position: u64,
    /// The number of its document in the stream, 0 for the one that the cache belongs to.
    document: usize,
    origin: Origin,
}

#[derive(Clone, Copy)]
enum Origin {
    Carried { slot: usize },
    Time(usize),
}

/// Every key and value of one group of stream `b`, in reading order: first the cached ones, then
/// those of the sequence.
fn entries<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[R],
    state: &Carried<R>,
    b: usize,
    group: usize,
) -> Vec<Entry<R>> {
    let width = sizes.width;
    let mut entries = Vec::new();
    let mut position = 0;
    if let Mask::Window(window) = sizes.mask {
        position = state.position[b];
        for back in (1..=u64::from(state.filled[b])).rev() {
            let slot = ((position - back) % window as u64) as usize;
            let at = slot_at(sizes, b, group, slot);
            entries.push(Entry {
                key: state.keys[at..at + width].to_vec(),
                value: state.values[at..at + width].to_vec(),
                position: position - back,
                document: 0,
                origin: Origin::Carried { slot },
            });
        }
    }
    let mut document = 0;
    for t in sequence.steps().filter(|&t| sequence.is_real(t, b)) {
        if sequence.starts_empty(t, b) {
            document += 1;
        }
        let at = (t * sequence.batch + b) * sizes.row() + (sizes.heads + group) * width;
        let mut key = qkv[at..at + width].to_vec();
        rotate(sizes, position, 1.0, &mut key);
        let at = at + sizes.groups * width;
        let mut value = qkv[at..at + width].to_vec();
        if sizes.cache == Precision::Bf16 {
            let round = |x: &R| R::from_f64(sizes.cache.round(x.to_f64() as f32).into());
            (key, value) = (key.iter().map(round).collect(), value.iter().map(round).collect());
        }
        entries.push(Entry { key, value, position, document, origin: Origin::Time(t) });
        position += 1;
    }
    entries
}

fn source_entries<R: Real>(
    sizes: cross::Sizes,
    source: &Sequence,
    kv: &[R],
    b: usize,
    group: usize,
) -> Vec<Entry<R>> {
    let width = sizes.width;
    (0..source.time)
        .filter(|&s| source.is_real(s, b))
        .map(|s| {
            let key = ((s * source.batch + b) * 2 * sizes.groups + group) * width;
            let value = key + sizes.groups * width;
            Entry {
                key: kv[key..key + width].to_vec(),
                value: kv[value..value + width].to_vec(),
                position: s as u64,
                document: 0,
                origin: Origin::Time(s),
            }
        })
        .collect()
}

/// Calls back with the sequence, the group and the first element of each real query.
fn for_each_query(
    sizes: cross::Sizes,
    sequence: &Sequence,
    mut body: impl FnMut(usize, usize, usize),
) {
    for t in 0..sequence.time {
        for b in (0..sequence.batch).filter(|&b| sequence.is_real(t, b)) {
            for head in 0..sizes.heads {
                let at = ((t * sequence.batch + b) * sizes.heads + head) * sizes.width;
                body(b, head / (sizes.heads / sizes.groups), at);
            }
        }
    }
}

fn heads_of(heads: usize, groups: usize, group: usize) -> std::ops::Range<usize> {
    let shared = heads / groups;
    group * shared..(group + 1) * shared
}

/// Where one group of a slot of stream `b`'s ring begins.
fn slot_at(sizes: Sizes, b: usize, group: usize, slot: usize) -> usize {
    ((b * sizes.groups + group) * sizes.window() + slot) * sizes.width
}

/// The query of a position, rotated and divided by √K.
fn query<R: Real>(
    sizes: Sizes,
    sequence: &Sequence,
    qkv: &[R],
    b: usize,
    head: usize,
    asking: &Entry<R>,
) -> Vec<R> {
    let Origin::Time(t) = asking.origin else { return Vec::new() };
    let at = (t * sequence.batch + b) * sizes.row() + head * sizes.width;
    let mut query = scaled(&qkv[at..at + sizes.width]);
    rotate(sizes, asking.position, 1.0, &mut query);
    query
}

fn scaled<R: Real>(x: &[R]) -> Vec<R> {
    let scale = R::from_f64(1.0 / (x.len() as f64).sqrt());
    x.iter().map(|&x| x * scale).collect()
}

fn rotate<R: Real>(sizes: Sizes, position: u64, direction: f64, x: &mut [R]) {
    if let Some(rotary) = sizes.rotary {
        rotate_reference(rotary, position, direction, x);
    }
}

fn seen_by<'a, R: Real>(
    sizes: Sizes,
    entries: &'a [Entry<R>],
    asking: &Entry<R>,
) -> Vec<&'a Entry<R>> {
    let seen = |entry: &&Entry<R>| {
        let near = match sizes.mask {
            Mask::Full => true,
            Mask::Window(window) => {
                entry.position <= asking.position
                    && asking.position - entry.position < window as u64
            }
        };
        near && entry.document == asking.document
    };
    entries.iter().filter(seen).collect()
}

fn softmax<R: Real>(query: &[R], seen: &[&Entry<R>]) -> Vec<R> {
    let scores: Vec<R> = seen.iter().map(|entry| dot(query, &entry.key)).collect();
    let lowest = R::from_f64(f64::from(f32::MIN));
    let largest = scores.iter().copied().fold(lowest, R::max);
    let weights: Vec<R> = scores.iter().map(|&score| (score - largest).exp()).collect();
    let sum: R = weights.iter().copied().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}
