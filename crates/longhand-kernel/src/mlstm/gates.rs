//! The gates of one chunk, summed in double precision: the differences of long sums of logarithms
//! are what matters.

use super::{CHUNK, Head, Inputs};
use crate::simd::{Level, exp_slice};

pub(super) struct Gates {
    len: usize,
    /// i\[t\].
    pub(super) input: [f64; CHUNK],
    /// ln σ(f\[t\]).
    pub(super) forget: [f64; CHUNK],
    /// The sum of ln σ(f) from the chunk's start to t.
    total: [f64; CHUNK],
    /// m\[t\], as the state keeps it.
    pub(super) m: [f32; CHUNK],
    /// m before the chunk.
    m_before: f32,
}

impl Gates {
    pub(super) fn new(
        head: &Head,
        inputs: &Inputs,
        chunk: std::ops::Range<usize>,
        m_before: f32,
    ) -> Self {
        let mut gates = Self {
            len: chunk.len(),
            input: [0.0; CHUNK],
            forget: [0.0; CHUNK],
            total: [0.0; CHUNK],
            m: [0.0; CHUNK],
            m_before,
        };
        let (mut total, mut m) = (0.0, m_before);
        for (j, p) in chunk.enumerate() {
            let at = head.gate(p);
            let (input, forget) =
                (f64::from(inputs.input_gate[at]), log_sigmoid(inputs.forget_gate[at]));
            total += forget;
            m = (forget + f64::from(m)).max(input) as f32;
            (gates.input[j], gates.forget[j]) = (input, forget);
            (gates.total[j], gates.m[j]) = (total, m);
        }
        gates
    }

    /// m before position j.
    pub(super) fn m_before(&self, j: usize) -> f32 {
        if j == 0 { self.m_before } else { self.m[j - 1] }
    }

    /// m after the chunk.
    pub(super) fn m_after(&self) -> f32 {
        self.m_before(self.len)
    }

    /// What remains at position j of the state before the chunk.
    pub(super) fn remains_at(&self, j: usize) -> f32 {
        (self.total[j] + f64::from(self.m_before) - f64::from(self.m[j])).exp() as f32
    }

    /// What remains after the chunk of what position s wrote.
    pub(super) fn remains_after(&self, s: usize) -> f32 {
        let last = self.len - 1;
        let kept = self.total[last] - self.total[s];
        (kept + self.input[s] - f64::from(self.m[last])).exp() as f32
    }

    /// What remains at position j (row) of what position s (column) wrote; zero for s > j.
    /// `[len, len]`.
    pub(super) fn decays(&self, level: Level, into: &mut [f32]) {
        for (j, row) in into.chunks_exact_mut(self.len).enumerate() {
            let from_here = self.total[j] - f64::from(self.m[j]);
            for (s, decay) in row[..=j].iter_mut().enumerate() {
                *decay = (from_here - (self.total[s] - self.input[s])) as f32;
            }
            exp_slice(level, &mut row[..=j]);
            row[j + 1..].fill(0.0);
        }
    }
}

/// ln σ(x) = −ln(1 + e^−x), without overflow.
fn log_sigmoid(x: f32) -> f64 {
    let x = f64::from(x);
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
