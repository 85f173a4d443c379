//! The gates of one chunk, summed in double precision: the differences of long sums of logarithms
//! are what matters.

use super::{CHUNK, Head, Inputs};
use crate::simd::{Kernel, Level, Vector, exp, exp_slice, log_sigmoid_slice, sigmoid_slice};

pub(super) struct Gates {
    len: usize,
    /// i\[t\].
    pub(super) input: [f32; CHUNK],
    /// ln σ(f\[t\]).
    pub(super) forget: [f32; CHUNK],
    /// m\[t\], as the state keeps it.
    m: [f32; CHUNK],
    /// m before the chunk.
    m_before: f32,
    /// What remains at each position of the state before the chunk.
    pub(super) remains_at: [f32; CHUNK],
    /// What remains after the chunk of what each position wrote.
    pub(super) remains_after: [f32; CHUNK],
    /// e^−m\[t\].
    pub(super) least: [f32; CHUNK],
    /// The sum of ln σ(f) from the chunk's start to t, less m\[t\].
    reads: [f64; CHUNK],
    /// The same sum, less i\[t\].
    writes: [f64; CHUNK],
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
            reads: [0.0; CHUNK],
            writes: [0.0; CHUNK],
        };
        for (j, p) in chunk.enumerate() {
            let at = head.gate(p);
            (gates.input[j], gates.forget[j]) = (inputs.input_gate[at], inputs.forget_gate[at]);
        }
        log_sigmoid_slice(level, &mut gates.forget[..len]);
        let (mut total, mut m) = (0.0f64, m_before);
        for j in 0..len {
            let (input, forget) = (f64::from(gates.input[j]), f64::from(gates.forget[j]));
            total += forget;
            m = (forget + f64::from(m)).max(input) as f32;
            gates.m[j] = m;
            gates.reads[j] = total - f64::from(m);
            gates.writes[j] = total - input;
            gates.least[j] = -m;
            gates.remains_at[j] = (total + f64::from(m_before) - f64::from(m)) as f32;
        }
        for j in 0..len {
            gates.remains_after[j] = (total - f64::from(m) - gates.writes[j]) as f32;
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

/// What remains at position j (row) of what position s (column) wrote, times `scores`; zero for
/// s > j. The rows of both lie `stride` apart.
pub(super) struct Decays<'a> {
    pub(super) gates: &'a Gates,
    pub(super) stride: usize,
    /// `[len, stride]`: multiplied by the decays.
    pub(super) scores: &'a mut [f32],
    /// `[len, stride]`: the decays themselves, where wanted.
    pub(super) decays: Option<&'a mut [f32]>,
    /// `[len]`: the sums of the rows of `scores`.
    pub(super) sums: &'a mut [f32],
}

impl Kernel for Decays<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(mut self) {
        let Gates { len, reads, writes, .. } = self.gates;
        let (len, stride) = (*len, self.stride);
        assert!(len <= stride && stride <= CHUNK && stride.is_multiple_of(V::LANES));
        assert!(self.scores.len() >= len * stride && self.sums.len() >= len);
        assert!(self.decays.as_ref().is_none_or(|decays| decays.len() >= len * stride));
        let count = std::array::from_fn::<f32, CHUNK, _>(|s| s as f32);
        for j in 0..len {
            let mut exponents = [0.0f32; CHUNK];
            let seen = (j + 1).next_multiple_of(V::LANES);
            for (exponent, write) in exponents[..seen].iter_mut().zip(&writes[..seen]) {
                *exponent = (reads[j] - write) as f32;
            }
            // SAFETY: rows of `stride` elements, within the lengths asserted above.
            unsafe {
                let (end, mut sum) = (V::splat((j + 1) as f32), V::zero());
                let scores = self.scores.as_mut_ptr().add(j * stride);
                for s in (0..stride).step_by(V::LANES) {
                    let mut decay = V::zero();
                    let mut score = V::zero();
                    if s < seen {
                        decay = exp(V::load(exponents.as_ptr().add(s)));
                        decay = V::load(count.as_ptr().add(s)).select_less(end, decay, V::zero());
                        // What stands above the diagonal may be anything.
                        score = V::load(scores.add(s));
                        score = V::load(count.as_ptr().add(s)).select_less(end, score, V::zero());
                        score = score.mul(decay);
                        sum = sum.add(score);
                    }
                    score.store(scores.add(s));
                    if let Some(decays) = &mut self.decays {
                        decay.store(decays.as_mut_ptr().add(j * stride + s));
                    }
                }
                self.sums[j] = sum.sum();
            }
        }
    }
}
