//! `F.scaled_dot_product_attention` with grouped heads, and the rotary positions of Hugging Face's
//! Llama: 4 query heads of 6 features over 2 key heads, two streams.

use longhand_kernel::attention::{self, Angles, Mask, Rotary, Sizes, State, cross};
use longhand_kernel::{Call, Cpu, Precision, Sequence};

use crate::{Case, processors};

const FILE: &[u8] = include_bytes!("attention.safetensors");
const BATCH: usize = 2;
const WINDOW: usize = 5;
const HEADS: usize = 4;
const GROUPS: usize = 2;
const WIDTH: usize = 6;

#[test]
fn sliding_window() {
    let case = Case::new(FILE, "window");
    for cpu in processors() {
        let time = case.shape("y")[0];
        let run = Run::new(&cpu, &case, Mask::Window(WINDOW), &Sequence::new(time, BATCH), None);
        case.check("y", &run.y);
        case.check("d_qkv", &run.d_qkv);
    }
}

#[test]
fn sliding_window_in_chunks_and_step_by_step() {
    let case = Case::new(FILE, "window");
    let time = case.shape("y")[0];
    for cpu in processors() {
        for chunks in [&[5, 7][..], &[1, 2, 8, 1], &vec![1; time]] {
            let mut ring = Ring::empty();
            let mut angles = Angles::default();
            let mut y = Vec::new();
            let mut from = &case.values("qkv")[..];
            for &chunk in chunks {
                let sequence = Sequence::new(chunk, BATCH);
                let (qkv, rest) = from.split_at(chunk * BATCH * sizes(Mask::Full).row());
                from = rest;
                let mut out = vec![0.0; chunk * BATCH * HEADS * WIDTH];
                let sizes = sizes(Mask::Window(WINDOW));
                let call = Call::new(&cpu, sizes, &sequence);
                if chunk == 1 {
                    let angles = &mut angles;
                    attention::step(call, qkv, ring.state(), angles, &mut out);
                } else {
                    let mut saved = vec![0.0; attention::saved_len(sizes, &sequence)];
                    let state = Some(ring.state());
                    attention::forward(call, qkv, state, &mut out, &mut saved);
                }
                y.extend(out);
            }
            case.check("y", &y);
            ring.check(&case, time);
        }
    }
}

#[test]
fn documents() {
    let case = Case::new(FILE, "documents");
    let time = case.shape("y")[0];
    let mut resets = vec![false; time * BATCH];
    for (b, &start) in case.numbers("starts").iter().enumerate() {
        resets[start as usize * BATCH + b] = true;
    }
    let sequence = Sequence { resets: Some(&resets), ..Sequence::new(time, BATCH) };
    for cpu in processors() {
        // PyTorch counts the positions on from document to document, too.
        let run = Run::new(&cpu, &case, Mask::Window(WINDOW), &sequence, None);
        case.check("y", &run.y);
        case.check("d_qkv", &run.d_qkv);
    }
}

#[test]
fn carried_keys_and_values() {
    let case = Case::new(FILE, "carried");
    let (time, before) = (case.shape("y")[0], 7);
    for cpu in processors() {
        let mut ring = Ring::empty();
        ring.place(before - WINDOW, &case.values("old_keys"), &case.values("old_values"));
        ring.position.fill(before as u64);
        ring.filled.fill(WINDOW as u32);
        let sequence = Sequence::new(time, BATCH);
        let run = Run::new(&cpu, &case, Mask::Window(WINDOW), &sequence, Some(&mut ring));
        case.check("y", &run.y);
        case.check("d_qkv", &run.d_qkv);
        // In the order of the positions, as PyTorch had them.
        let [keys, values] = run.d_carried.each_ref().map(|ring| {
            let rows = (before - WINDOW..before).flat_map(|p| (0..BATCH).map(move |b| (p, b)));
            rows.flat_map(|(p, b)| slots(p, b).flat_map(|slot| ring[slot].to_vec()))
                .collect::<Vec<f32>>()
        });
        case.check("d_old_keys", &keys);
        case.check("d_old_values", &values);
    }
}

#[test]
fn whole_examples() {
    let case = Case::new(FILE, "full");
    let lengths = case.numbers("lengths");
    let time = case.shape("y")[0];
    let sequence = Sequence { lengths: Some(&lengths), ..Sequence::new(time, BATCH) };
    for cpu in processors() {
        let run = Run::new(&cpu, &case, Mask::Full, &sequence, None);
        case.check("y", &run.y);
        case.check("d_qkv", &run.d_qkv);
    }
}

#[test]
fn cross_attention() {
    let case = Case::new(FILE, "cross");
    let lengths = case.numbers("lengths");
    let sequence = Sequence::new(case.shape("q")[0], BATCH);
    let source = Sequence { lengths: Some(&lengths), ..Sequence::new(case.shape("kv")[0], BATCH) };
    let sizes = cross::Sizes { heads: HEADS, groups: GROUPS, width: WIDTH };
    let (q, kv, d_y) = (case.values("q"), case.values("kv"), case.values("d_y"));
    for cpu in processors() {
        let mut y = vec![0.0; q.len()];
        let mut saved = vec![0.0; cross::saved_len(sizes, &sequence)];
        let call = Call::new(&cpu, sizes, &sequence);
        let inputs = cross::Inputs { q: &q, kv: &kv };
        cross::forward(call, &source, inputs, &mut y, &mut saved);
        case.check("y", &y);
        let (mut d_q, mut d_kv) = (vec![0.0; q.len()], vec![0.0; kv.len()]);
        let gradients = cross::Gradients { q: Some(&mut d_q), kv: Some(&mut d_kv) };
        cross::backward(call, &source, inputs, &saved, &d_y, gradients);
        case.check("d_q", &d_q);
        case.check("d_kv", &d_kv);
    }
}

fn sizes(mask: Mask) -> Sizes {
    let rotary = Some(Rotary::default());
    Sizes { heads: HEADS, groups: GROUPS, width: WIDTH, mask, rotary, cache: Precision::F32 }
}

/// Forward and backward over the rows `qkv` of a case.
struct Run {
    y: Vec<f32>,
    d_qkv: Vec<f32>,
    /// Gradients of the cached keys and values.
    d_carried: [Vec<f32>; 2],
}

impl Run {
    fn new(
        cpu: &Cpu,
        case: &Case,
        mask: Mask,
        sequence: &Sequence,
        mut ring: Option<&mut Ring>,
    ) -> Self {
        let sizes = sizes(mask);
        let qkv = case.values("qkv");
        let mut y = vec![0.0; sequence.rows() * HEADS * WIDTH];
        let mut saved = vec![0.0; attention::saved_len(sizes, sequence)];
        let state = ring.as_mut().map(|ring| ring.state());
        let call = Call::new(cpu, sizes, sequence);
        attention::forward(call, &qkv, state, &mut y, &mut saved);
        let mut d_qkv = vec![0.0; qkv.len()];
        let mut d_carried = [(); 2].map(|()| vec![0.0; BATCH * sizes.ring_len()]);
        let [keys, values] = &mut d_carried;
        let into = ring.map(|_| (&mut keys[..], &mut values[..]));
        attention::backward(call, &qkv, &saved, &case.values("d_y"), &mut d_qkv, into);
        Self { y, d_qkv, d_carried }
    }
}

/// The places in the ring of the key heads of one position of stream `b`.
fn slots(position: usize, b: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..GROUPS).map(move |group| {
        let slot = (b * GROUPS + group) * WINDOW + position % WINDOW;
        slot * WIDTH..(slot + 1) * WIDTH
    })
}

/// A carried state, owned.
struct Ring {
    keys: Vec<f32>,
    values: Vec<f32>,
    position: Vec<u64>,
    filled: Vec<u32>,
}

impl Ring {
    fn empty() -> Self {
        let len = BATCH * WINDOW * GROUPS * WIDTH;
        Self {
            keys: vec![0.0; len],
            values: vec![0.0; len],
            position: vec![0; BATCH],
            filled: vec![0; BATCH],
        }
    }

    fn state(&mut self) -> State<'_> {
        State {
            keys: &mut self.keys,
            values: &mut self.values,
            rows: None,
            position: &mut self.position,
            filled: &mut self.filled,
        }
    }

    /// Puts rows `[_, B, G·K]` of positions from `first` on where the ring keeps them.
    fn place(&mut self, first: usize, keys: &[f32], values: &[f32]) {
        for (ring, rows) in [(&mut self.keys, keys), (&mut self.values, values)] {
            for (i, from) in rows.chunks(GROUPS * WIDTH).enumerate() {
                for (slot, head) in slots(first + i / BATCH, i % BATCH).zip(from.chunks(WIDTH)) {
                    ring[slot].copy_from_slice(head);
                }
            }
        }
    }

    /// Asserts that the ring holds the last of a case's `keys` and `values` after `time`.
    fn check(&self, case: &Case, time: usize) {
        let row = GROUPS * WIDTH;
        for (name, ring) in [("keys", &self.keys), ("values", &self.values)] {
            let mut all = case.values(name);
            for position in time - WINDOW..time {
                for b in 0..BATCH {
                    let to = (position * BATCH + b) * row;
                    for (slot, head) in slots(position, b).zip(all[to..to + row].chunks_mut(WIDTH))
                    {
                        head.copy_from_slice(&ring[slot]);
                    }
                }
            }
            case.check(name, &all);
        }
        assert!(self.position.iter().all(|&position| position == time as u64));
    }
}
