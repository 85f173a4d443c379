//! The passes over a block of logits strides [entries, rows]: one row of x in each lane, so that
//! maxima and sums over the vocabulary need nothing across lanes.

use crate::simd::{Kernel, Vector, exp};

/// Entries summed in registers before they are added to the totals, which keeps rounding errors
/// from growing with the vocabulary.
const BLOCK: usize = 32;

/// Adds the biases, and finds the largest logit of each row. What is not a number is passed over
/// here and found by the sum.
pub(super) struct Largest<'a> {
    pub(super) logits: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) lanes: usize,
    pub(super) largest: &'a mut [f32],
}

impl Kernel for Largest<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { logits, stride, bias, lanes, largest } = self;
        assert!(lanes.next_multiple_of(V::LANES) <= stride && largest.len() >= stride);
        for (b, block) in logits.chunks_mut(BLOCK * stride).enumerate() {
            for lane in (0..lanes).step_by(V::LANES) {
                // SAFETY: a whole vector at `lane` is within `stride`.
                unsafe {
                    let into = largest.as_mut_ptr().add(lane);
                    let mut most = V::load(into);
                    for (e, row) in block.chunks_exact_mut(stride).enumerate() {
                        let at = row.as_mut_ptr().add(lane);
                        let mut x = V::load(at);
                        if let Some(bias) = bias {
                            x = x.add(V::splat(bias[b * BLOCK + e]));
                            x.store(at);
                        }
                        most = x.max(most);
                    }
                    most.store(into);
                }
            }
        }
    }
}

/// Replaces each logit by e^(logit − largest), and adds to the sums.
pub(super) struct Exponentials<'a> {
    pub(super) logits: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) lanes: usize,
    pub(super) largest: &'a [f32],
    pub(super) sums: &'a mut [f32],
    /// Sums of logit − largest, where label smoothing needs them.
    pub(super) logit_sums: Option<&'a mut [f32]>,
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { logits, stride, lanes, largest, sums, mut logit_sums } = self;
        assert!(lanes.next_multiple_of(V::LANES) <= stride && largest.len() >= stride);
        assert!(sums.len() >= stride);
        assert!(logit_sums.as_ref().is_none_or(|sums| sums.len() >= stride));
        for block in logits.chunks_mut(BLOCK * stride) {
            for lane in (0..lanes).step_by(V::LANES) {
                // SAFETY: a whole vector at `lane` is within `stride`.
                unsafe {
                    let largest = V::load(largest.as_ptr().add(lane));
                    let (mut sum, mut logit_sum) = (V::zero(), V::zero());
                    for row in block.chunks_exact_mut(stride) {
                        let at = row.as_mut_ptr().add(lane);
                        let x = V::load(at).sub(largest);
                        logit_sum = logit_sum.add(x);
                        let e = exp(x);
                        sum = sum.add(e);
                        e.store(at);
                    }
                    let into = sums.as_mut_ptr().add(lane);
                    V::load(into).add(sum).store(into);
                    if let Some(sums) = &mut logit_sums {
                        let into = sums.as_mut_ptr().add(lane);
                        V::load(into).add(logit_sum).store(into);
                    }
                }
            }
        }
    }
}

/// values = values · the row's factor − less.
pub(super) struct Scale<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) lanes: usize,
    pub(super) factors: &'a [f32],
    pub(super) less: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { values, stride, lanes, factors, less } = self;
        assert!(lanes.next_multiple_of(V::LANES) <= stride && factors.len() >= stride);
        for row in values.chunks_exact_mut(stride) {
            for lane in (0..lanes).step_by(V::LANES) {
                // SAFETY: a whole vector at `lane` is within `stride`.
                unsafe {
                    let at = row.as_mut_ptr().add(lane);
                    let factor = V::load(factors.as_ptr().add(lane));
                    V::load(at).mul_add(factor, V::splat(-less)).store(at);
                }
            }
        }
    }
}

/// Adds the sum over the rows of x of each entry's values to `sums`.
pub(super) struct SumLanes<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
    pub(super) lanes: usize,
    pub(super) sums: &'a mut [f32],
}

impl Kernel for SumLanes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self { values, stride, lanes, sums } = self;
        assert!(lanes <= stride);
        for (row, total) in values.chunks_exact(stride).zip(sums) {
            // SAFETY: only the first `lanes` of a row are touched.
            unsafe {
                let mut sum = V::zero();
                for lane in (0..lanes).step_by(V::LANES) {
                    sum = sum.add(V::load_first(row.as_ptr().add(lane), lanes - lane));
                }
                *total += sum.sum();
            }
        }
    }
}

/// Replaces one row of logits by the logarithm of its softmax.
pub(super) struct LogSoftmax<'a>(pub(super) &'a mut [f32]);

impl Kernel for LogSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let row = self.0;
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0f64;
        for block in row.chunks(BLOCK * V::LANES) {
            // SAFETY: only the elements of the block are touched.
            unsafe {
                let mut sum = V::zero();
                let mut parts = block.chunks_exact(V::LANES);
                for part in &mut parts {
                    sum = sum.add(exp(V::load(part.as_ptr()).sub(V::splat(largest))));
                }
                total += f64::from(sum.sum());
                for &x in parts.remainder() {
                    total += f64::from(x - largest).exp();
                }
            }
        }
        let shift = total.ln() as f32;
        row.iter_mut().for_each(|x| *x = (*x - largest) - shift);
    }
}

/// Finds the first of the largest values of a row.
pub(super) struct MostProbable<'a>(pub(super) &'a [f32]);

impl Kernel for MostProbable<'_> {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> usize {
        let row = self.0;
        let mut parts = row.chunks_exact(4 * V::LANES);
        // SAFETY: whole vectors of each part are read.
        let most = unsafe {
            let mut most = [V::splat(f32::NEG_INFINITY); 4];
            for part in &mut parts {
                for (i, most) in most.iter_mut().enumerate() {
                    *most = V::load(part.as_ptr().add(i * V::LANES)).max(*most);
                }
            }
            most[0].max(most[1]).max(most[2].max(most[3])).largest()
        };
        let most = parts.remainder().iter().fold(most, |most, &x| if x > most { x } else { most });
        // Block by block, without a branch for each value.
        let found = |block: &[f32]| block.iter().fold(false, |any, &x| any | (x == most));
        let Some(block) = row.chunks(BLOCK * V::LANES).position(found) else { return 0 };
        let start = block * BLOCK * V::LANES;
        start + row[start..].iter().position(|&x| x == most).unwrap_or(0)
    }
}
