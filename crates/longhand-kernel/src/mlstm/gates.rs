//! The gates of one chunk, summed in double precision: only the differences of long sums of
//! logarithms enter the results.

use super::{CHUNK, Head, Inputs};
use crate::level::Level;
use crate::simd::{exp_slice, log_sigmoid_slice, sigmoid_slice};

pub(super) struct Gates {
    pub(super) len: usize,
    /// Preactivations i\[t\] of the input gate.
    pub(super) input: [f32; CHUNK],
    /// ln σ(f\[t\]) of the forget gate.
    pub(super) forget: [f32; CHUNK],
    /// m\[t\], as the state keeps it.
    m: [f32; CHUNK],
    /// m before the chunk.
    m_before: f32,
    /// b: the share of the state before the chunk that remains at each position.
    pub(super) remains_at: [f32; CHUNK],
    /// g: the share of each position's key and value that remains after the chunk.
    pub(super) remains_after: [f32; CHUNK],
    /// e^−m\[t\], the least denominator.
    pub(super) least: [f32; CHUNK],
    /// The sum of ln σ(f) from the chunk's start to t, less m\[t\].
    pub(super) reads: Sums,
    /// The same sum, less i\[t\].
    pub(super) writes: Sums,
}

/// Sums in double precision, as the nearest single one and what is left.
pub(super) struct Sums {
    pub(super) high: [f32; CHUNK],
    pub(super) rest: [f32; CHUNK],
}

impl Sums {
    fn set(&mut self, j: usize, sum: f64) {
        self.high[j] = sum as f32;
        self.rest[j] = (sum - f64::from(self.high[j])) as f32;
    }
}

impl Gates {
    pub(super) fn new(
        level: Level,
        head: &Head,
        inputs: &Inputs,
        chunk: std::ops::Range<usize>,
        m_before: f32,
    ) -> Self {
        let len = chunk.len();
        let none = [0.0f32; CHUNK];
        let mut gates = Self {
            len,
            input: none,
            forget: none,
            m: none,
            m_before,
            remains_at: none,
            remains_after: none,
            least: none,
            reads: Sums { high: none, rest: none },
            writes: Sums { high: none, rest: none },
        };
        for (j, p) in chunk.enumerate() {
            let at = head.gate(p);
            (gates.input[j], gates.forget[j]) = (inputs.input_gate[at], inputs.forget_gate[at]);
        }
        log_sigmoid_slice(level, &mut gates.forget[..len]);
        let (mut total, mut m) = (0.0f64, m_before);
        let mut written = [0.0f64; CHUNK];
        for j in 0..len {
            let (input, forget) = (f64::from(gates.input[j]), f64::from(gates.forget[j]));
            total += forget;
            m = (forget + f64::from(m)).max(input) as f32;
            gates.m[j] = m;
            gates.reads.set(j, total - f64::from(m));
            gates.writes.set(j, total - input);
            written[j] = total - input;
            gates.least[j] = -m;
            gates.remains_at[j] = (total + f64::from(m_before) - f64::from(m)) as f32;
        }
        for j in 0..len {
            gates.remains_after[j] = (total - f64::from(m) - written[j]) as f32;
        }
        for exponents in [&mut gates.remains_at, &mut gates.remains_after, &mut gates.least] {
            exp_slice(level, &mut exponents[..len]);
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

    /// 1 − σ(f\[t\]): the slope of ln σ.
    pub(super) fn slopes(
        &self,
        level: Level,
        head: &Head,
        inputs: &Inputs,
        start: usize,
    ) -> [f32; CHUNK] {
        let mut slopes = [0.0; CHUNK];
        for (j, slope) in slopes[..self.len].iter_mut().enumerate() {
            *slope = -inputs.forget_gate[head.gate(start + j)];
        }
        sigmoid_slice(level, &mut slopes[..self.len]);
        slopes
    }
}
