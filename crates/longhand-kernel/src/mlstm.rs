//! Matrix memory, the mLSTM of Beck et al., "xLSTM: Extended long short-term memory" (2024),
//! equations 19–27, stabilised as in their appendix and their `xlstm` package.
//!
//! Per head, with k' = k/√K, the forget gate σ and the input gate exponential:
//!
//! m\[t\] = max(ln σ(f\[t\]) + m\[t−1\], i\[t\]), f' = e^(ln σ(f\[t\]) + m\[t−1\] − m\[t\]),
//! i' = e^(i\[t\] − m\[t\]), C\[t\] = f'·C\[t−1\] + i'·k'\[t\]·v\[t\]ᵀ,
//! n\[t\] = f'·n\[t−1\] + i'·k'\[t\], h\[t\] = Cᵀq / (max(|n·q|, e^−m) + ε).
//!
//! C and n are kept scaled by e^−m, so that no exponential overflows whatever the gates are; the
//! stabiliser m itself changes h only through ε. The caller adds the output gate and the
//! norm of each head.
//!
//! Sequences are read in chunks ("chunkwise form", Beck et al., "Tiled flash linear attention",
//! 2025): within a chunk the outputs are those of an attention whose scores are multiplied by
//! decays, and the state is touched once per chunk. A chunk ends where a document does, so that
//! nothing needs masking across documents. A chunk of one position takes the recurrent step,
//! like a decode step.
//!
//! A chunk's products read their operands in the precision of the processor; gates, decays, sums
//! and the state are `f32`, and so is the step.

use crate::call::Call;
use crate::cpu::{Cpu, Shards};
use crate::sequence::Sequence;
use crate::simd::{fetch, sigmoid_slice};
use crate::small_product::LANES;

mod backward;
mod chunk;
mod gates;
pub mod reference;
mod scores;
mod step;
#[cfg(test)]
mod tests;

/// Most positions of a chunk.
pub(crate) const CHUNK: usize = 64;
/// ε of the denominator, as in the `xlstm` package.
const EPSILON: f32 = 1e-6;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// H: heads of a layer.
    pub heads: usize,
    /// K: elements of a head's query, key and value.
    pub width: usize,
}

/// The inputs of the memory.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, R = f32> {
    /// `[T·B, H·K]`: queries q.
    pub q: &'a [R],
    /// `[T·B, H·K]`: keys, not yet divided by √K.
    pub k: &'a [R],
    /// `[T·B, H·K]`: values v.
    pub v: &'a [R],
    /// `[T·B, H]`: preactivations of the input gate, its logarithm.
    pub input_gate: &'a [R],
    /// `[T·B, H]`: preactivations of the forget gate.
    pub forget_gate: &'a [R],
}

/// The state between two positions; all zeros where nothing was read.
#[derive(Clone, Copy, Debug)]
pub struct State<'a, R = f32> {
    /// `[B, H, K, K]`: the memory, keys by values.
    pub c: &'a [R],
    /// `[B, H, K]`: the normaliser.
    pub n: &'a [R],
    /// `[B, H]`: the stabiliser.
    pub m: &'a [R],
}

/// Where a state, or the gradient of one, is written.
#[derive(Debug)]
pub struct StateMut<'a, R = f32> {
    /// `[B, H, K, K]`.
    pub c: &'a mut [R],
    /// `[B, H, K]`: the normaliser n.
    pub n: &'a mut [R],
    /// `[B, H]`: the stabiliser m, a logarithm.
    pub m: &'a mut [R],
}

/// The results of the forward pass that [`backward()`] reads.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// `[T·B, H·K]`: the outputs of [`forward`].
    pub y: &'a [f32],
    /// The buffer that [`forward`] filled, [`saved_len`] elements.
    pub saved: &'a [f32],
}

/// Where gradients are added, in the shapes of [`Inputs`].
#[derive(Debug, Default)]
pub struct Gradients<'a, R = f32> {
    /// `[T·B, H·K]`: gradient of the queries.
    pub q: Option<&'a mut [R]>,
    /// `[T·B, H·K]`: gradient of the keys.
    pub k: Option<&'a mut [R]>,
    /// `[T·B, H·K]`: gradient of the values.
    pub v: Option<&'a mut [R]>,
    /// `[T·B, H]`: gradient of the input gate's preactivations.
    pub input_gate: Option<&'a mut [R]>,
    /// `[T·B, H]`: gradient of the forget gate's preactivations.
    pub forget_gate: Option<&'a mut [R]>,
    /// Gradient of the state before the first position.
    pub state: Option<StateMut<'a, R>>,
}

/// How many elements `saved` has.
pub fn saved_len(sizes: Sizes, sequence: &Sequence) -> usize {
    sequence.batch * sizes.heads * saved_per_head(sizes, sequence)
}

/// Reads the sequence from `state` on; writes the outputs `y` (`[T·B, H·K]`), the state after the
/// last position, and into `saved` what [`backward()`] needs.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn forward(
    call: Call<Sizes>,
    inputs: Inputs,
    state: State,
    y: &mut [f32],
    next: StateMut,
    saved: &mut [f32],
) {
    let Call { cpu, sizes, sequence } = call;
    check(sizes, sequence, &inputs, &state);
    let Sizes { heads, width } = sizes;
    assert_eq!(y.len(), sequence.rows() * heads * width, "the outputs");
    assert_eq!(
        [next.c.len(), next.n.len(), next.m.len()],
        state_lens(sizes, sequence),
        "the next state"
    );
    assert_eq!(saved.len(), saved_len(sizes, sequence), "what is saved for the gradient");
    let per_head = saved_per_head(sizes, sequence);
    let (y, saved) = (Shards::new(y), Shards::new(saved));
    let (c, n, m) = (Shards::new(next.c), Shards::new(next.n), Shards::new(next.m));
    cpu.for_each(sequence.batch * heads, |worker, i| {
        let head = Head::new(sizes, sequence, i);
        // SAFETY: each head of each sequence belongs to one thread.
        let (c, n, m, saved) = unsafe {
            (
                c.part(i * width * width..(i + 1) * width * width),
                n.part(i * width..(i + 1) * width),
                &mut m.part(i..i + 1)[0],
                saved.part(i * per_head..(i + 1) * per_head),
            )
        };
        chunk::forward_head(worker, &head, &inputs, &y, state.of_head(i, width), (c, n, m), saved);
    });
}

/// Adds to `gradients`, given `d_y` (`[T·B, H·K]`) and the gradient of the next state, if any.
/// `call`, `inputs` and `state` are those of [`forward`].
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn backward(
    call: Call<Sizes>,
    inputs: Inputs,
    state: State,
    kept: Kept,
    d_y: &[f32],
    d_next: Option<State>,
    gradients: Gradients,
) {
    let (Call { cpu, sizes, sequence }, Kept { y, saved }) = (call, kept);
    check(sizes, sequence, &inputs, &state);
    let rows = sequence.rows();
    let Sizes { heads, width } = sizes;
    assert_eq!(y.len(), rows * heads * width, "the outputs");
    assert_eq!(d_y.len(), y.len(), "the gradient of the outputs");
    assert_eq!(saved.len(), saved_len(sizes, sequence), "what was saved for the gradient");
    let per_head = saved_per_head(sizes, sequence);
    let Gradients { q, k, v, input_gate, forget_gate, state: d_state } = gradients;
    let [q, k, v] = [q, k, v].map(|d| d.map(|d| sized(d, rows * heads * width)));
    let [input_gate, forget_gate] =
        [input_gate, forget_gate].map(|d| d.map(|d| sized(d, rows * heads)));
    let [c_len, n_len, m_len] = state_lens(sizes, sequence);
    let d_state = d_state.map(|d| (sized(d.c, c_len), sized(d.n, n_len), sized(d.m, m_len)));
    let into = backward::Into { q, k, v, input_gate, forget_gate };
    cpu.for_each(sequence.batch * heads, |worker, i| {
        let head = Head::new(sizes, sequence, i);
        let before = state.of_head(i, width);
        let d_after = d_next.map(|d| d.of_head(i, width));
        let saved = &saved[i * per_head..(i + 1) * per_head];
        let outputs = backward::Outputs { y, d_y, saved };
        let context = backward::Context { head: &head, inputs: &inputs, outputs, into: &into };
        backward::backward_head(worker, &context, before, d_after, |d| {
            let Some((c, n, m)) = &d_state else { return };
            // SAFETY: each head of each sequence belongs to one thread.
            let (c, n, m) = unsafe {
                (
                    c.part(i * width * width..(i + 1) * width * width),
                    n.part(i * width..(i + 1) * width),
                    m.part(i..i + 1),
                )
            };
            let stride = d.n.len();
            for (to, d) in c.chunks_exact_mut(width).zip(d.c.chunks_exact(stride)) {
                to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
            }
            n.iter_mut().zip(d.n).for_each(|(to, d)| *to += d);
            m[0] += d.m;
        });
    });
}

/// `out [R, H]` = σ of a gate's preactivations `[T·B, H]` at each of the R real positions, for
/// plots. For the forget gate that is the gate itself. The input gate is exponential, without an
/// upper bound, so that its σ only shows whether it is open.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn gate(cpu: &Cpu, sizes: Sizes, sequence: &Sequence, preactivations: &[f32], out: &mut [f32]) {
    let heads = sizes.heads;
    assert_eq!(preactivations.len(), sequence.rows() * heads, "a gate's preactivations");
    assert_eq!(out.len(), sequence.real_rows().count() * heads, "a gate is [R, H]");
    for (row, to) in sequence.real_rows().zip(out.chunks_exact_mut(heads)) {
        to.copy_from_slice(&preactivations[row * heads..(row + 1) * heads]);
    }
    sigmoid_slice(cpu.level(), out);
}

impl<'a> State<'a> {
    fn of_head(&self, i: usize, width: usize) -> chunk::HeadState<'a> {
        chunk::HeadState {
            c: &self.c[i * width * width..(i + 1) * width * width],
            n: &self.n[i * width..(i + 1) * width],
            m: self.m[i],
        }
    }
}

/// One head of one sequence: its places in the batch, and its chunks. Positions are
/// counted in the order they are read, padded ones left out.
pub(crate) struct Head<'a> {
    sizes: Sizes,
    sequence: &'a Sequence<'a>,
    b: usize,
    h: usize,
    /// Positions that are not padding.
    real: usize,
}

impl<'a> Head<'a> {
    fn new(sizes: Sizes, sequence: &'a Sequence<'a>, i: usize) -> Self {
        let (b, h) = (i / sizes.heads, i % sizes.heads);
        Self { sizes, sequence, b, h, real: sequence.real(b) }
    }

    fn time(&self, position: usize) -> usize {
        if self.sequence.reverse { self.real - 1 - position } else { position }
    }

    /// The place of a position's gates.
    fn gate(&self, position: usize) -> usize {
        (self.time(position) * self.sequence.batch + self.b) * self.sizes.heads + self.h
    }

    /// The places of a position's query, key, value and output.
    fn row(&self, position: usize) -> std::ops::Range<usize> {
        let start = self.gate(position) * self.sizes.width;
        start..start + self.sizes.width
    }

    /// Brings the row of a position nearer, if there is such a position.
    #[inline(always)]
    fn fetch_row(&self, data: *const f32, position: usize) {
        if position < self.real {
            let row = self.row(position);
            row.step_by(LANES).for_each(|at| fetch(data.wrapping_add(at)));
        }
    }

    /// The places of the outputs at padded positions.
    fn padding(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let Sizes { heads, width } = self.sizes;
        (self.real..self.sequence.time).map(move |t| {
            let start = ((t * self.sequence.batch + self.b) * heads + self.h) * width;
            start..start + width
        })
    }

    fn starts_empty(&self, position: usize) -> bool {
        self.sequence.starts_empty(self.time(position), self.b)
    }

    /// The chunk that begins at `start`.
    fn chunk_from(&self, start: usize) -> std::ops::Range<usize> {
        let most = (start + CHUNK).min(self.real);
        start..(start + 1..most).find(|&p| self.starts_empty(p)).unwrap_or(most)
    }

    /// The chunk that ends before `end`.
    fn chunk_until(&self, end: usize) -> std::ops::Range<usize> {
        let document = match self.sequence.resets {
            None => 0,
            Some(_) => (1..end).rev().find(|&p| self.starts_empty(p)).unwrap_or(0),
        };
        document + (end - 1 - document) / CHUNK * CHUNK..end
    }

    /// Where the state before a chunk is saved, unless the chunk begins empty or the sequence:
    /// such chunks are at least a whole chunk apart.
    fn slot(&self, start: usize) -> std::ops::Range<usize> {
        let len = slot_len(self.sizes);
        let at = self.sequence.time + (start / CHUNK - 1) * len;
        at..at + len
    }
}

/// C and n with their rows padded to whole vectors of lanes of any form, and m.
fn slot_len(sizes: Sizes) -> usize {
    let stride = sizes.width.next_multiple_of(2 * LANES);
    stride * stride + stride + 1
}

/// n·q at each position, then the states between chunks.
fn saved_per_head(sizes: Sizes, sequence: &Sequence) -> usize {
    sequence.time + sequence.time.saturating_sub(1) / CHUNK * slot_len(sizes)
}

fn state_lens(sizes: Sizes, sequence: &Sequence) -> [usize; 3] {
    let heads = sequence.batch * sizes.heads;
    [heads * sizes.width * sizes.width, heads * sizes.width, heads]
}

fn sized(gradient: &mut [f32], len: usize) -> Shards<'_, f32> {
    assert_eq!(gradient.len(), len, "a gradient's length");
    Shards::new(gradient)
}

fn check(sizes: Sizes, sequence: &Sequence, inputs: &Inputs, state: &State) {
    assert!(sizes.width > 0, "a head without elements");
    let gates = sequence.rows() * sizes.heads;
    for values in [inputs.q, inputs.k, inputs.v] {
        assert_eq!(values.len(), gates * sizes.width, "queries, keys and values");
    }
    for gate in [inputs.input_gate, inputs.forget_gate] {
        assert_eq!(gate.len(), gates, "the gates");
    }
    let lens = [state.c.len(), state.n.len(), state.m.len()];
    assert_eq!(lens, state_lens(sizes, sequence), "the state");
}
