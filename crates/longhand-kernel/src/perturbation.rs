//! Adversarial perturbations of embedded sequences (Miyato, Dai and Goodfellow, "Adversarial
//! training methods for semi-supervised text classification", 2017, equations 5 and 6).
//!
//! x is [T·B, D]: sequence b embedded, and g its loss's gradient. The loss rises fastest, to first
//! order, in the direction of g; of all r with ‖r⁽ᵇ⁾‖₂ = ε·σ that is
//!
//! > r⁽ᵇ⁾ = ε·σ·g⁽ᵇ⁾ / ‖g⁽ᵇ⁾‖₂
//!
//! over the real positions of sequence b. The paper normalises each column of the embedding to a
//! variance of 1, weighted by how frequent a token is, so that the model cannot make r small beside x.
//! Here x stays as it is, and r is scaled by σ, the standard deviation of all numbers of the batch:
//! the same for a common scale of all columns. No gradient flows through σ.

use crate::cpu::{Cpu, Shards};
use crate::pooling::for_sequences;
use crate::sequence::Sequence;

/// Turns the gradient g [T·B, D] into the perturbation r of x [T·B, D]. It is zero at padded
/// positions, and in a sequence whose gradient is zero. Sums are f64, so that squares of small
/// gradients do not vanish.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn direction(
    cpu: &Cpu,
    epsilon: f32,
    sequence: Sequence,
    width: usize,
    x: &[f32],
    g: &mut [f32],
) {
    assert_eq!(x.len(), sequence.rows() * width, "the embedded sequences");
    assert_eq!(g.len(), x.len(), "the gradient of the embedded sequences");
    let length = f64::from(epsilon) * deviation(sequence, width, x);
    let g = Shards::new(g);
    for_sequences(cpu, sequence, width, |_, b| {
        let row = |t: usize| {
            let from = (t * sequence.batch + b) * width;
            // SAFETY: each sequence belongs to one thread, which holds one row at a time.
            unsafe { g.part(from..from + width) }
        };
        let real = sequence.real(b);
        let squares: f64 = (0..real).map(|t| sum_of_squares(row(t))).sum();
        let scale = if squares > 0.0 { length / squares.sqrt() } else { 0.0 };
        (0..real).for_each(|t| row(t).iter_mut().for_each(|g| *g = (f64::from(*g) * scale) as f32));
        (real..sequence.time).for_each(|t| row(t).fill(0.0));
    });
}

fn sum_of_squares(row: &[f32]) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

/// The standard deviation of all numbers at real positions.
fn deviation(sequence: Sequence, width: usize, x: &[f32]) -> f64 {
    let (mut count, mut sum, mut squares) = (0, 0.0, 0.0);
    for (r, row) in x.chunks_exact(width.max(1)).enumerate() {
        if sequence.is_real(r / sequence.batch, r % sequence.batch) {
            count += width;
            sum += row.iter().map(|&x| f64::from(x)).sum::<f64>();
            squares += sum_of_squares(row);
        }
    }
    let count = count.max(1) as f64;
    (squares / count - (sum / count).powi(2)).max(0.0).sqrt()
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::Sequence;
    use crate::real::Real;

    /// r from g and x, see [`super::direction`].
    pub fn direction<R: Real>(
        epsilon: R,
        sequence: Sequence,
        width: usize,
        x: &[R],
        g: &[R],
        r: &mut [R],
    ) {
        let places = |b: usize| {
            let rows = (0..sequence.real(b)).map(move |t| (t * sequence.batch + b) * width);
            rows.flat_map(move |from| from..from + width)
        };
        let all = || (0..sequence.batch).flat_map(places);
        let count = R::from_f64(all().count().max(1) as f64);
        let mean = all().map(|i| x[i]).sum::<R>() / count;
        let variance = all().map(|i| (x[i] - mean) * (x[i] - mean)).sum::<R>() / count;
        r.fill(R::zero());
        for b in 0..sequence.batch {
            let norm = places(b).map(|i| g[i] * g[i]).sum::<R>().sqrt();
            if norm > R::zero() {
                places(b).for_each(|i| r[i] = epsilon * variance.sqrt() * g[i] / norm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, levels, values, wide};

    /// Each batch with its lengths.
    const LENGTHS: [&[u32]; 5] = [&[], &[0], &[1], &[3, 0, 5, 1], &[9; 7]];

    fn sequence(lengths: &[u32]) -> Sequence<'_> {
        let time = lengths.iter().copied().max().unwrap_or(0) as usize;
        Sequence { lengths: Some(lengths), ..Sequence::new(time, lengths.len()) }
    }

    #[test]
    fn it_follows_the_reference() {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (lengths, width) in LENGTHS.iter().flat_map(|l| [1, 5, 300].map(|w| (l, w))) {
                    let sequence = sequence(lengths);
                    let len = sequence.rows() * width;
                    // Squares of these gradients are zero in f32.
                    let small: Vec<f32> = values(len, 2).iter().map(|g| g * 1e-30).collect();
                    for mut g in [values(len, 1), small, vec![0.0; len]] {
                        let x = values(len, 3);
                        let mut exact = vec![0.0; len];
                        let (x64, g64) = (wide(&x), wide(&g));
                        reference::direction(2.5, sequence, width, &x64, &g64, &mut exact);
                        direction(&cpu, 2.5, sequence, width, &x, &mut g);
                        close("r", &g, &exact, 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn no_other_direction_of_its_length_rises_faster() {
        let (lengths, width) = ([4, 2, 3], 6);
        let sequence = sequence(&lengths);
        let len = sequence.rows() * width;
        let (x, g) = (wide(&values(len, 1)), wide(&values(len, 2)));
        let mut r = vec![0.0; len];
        reference::direction(0.5, sequence, width, &x, &g, &mut r);
        let rise = |r: &[f64]| r.iter().zip(&g).map(|(r, g)| r * g).sum::<f64>();
        for seed in 3..30 {
            // A random direction of the same length in each sequence.
            let mut other = vec![0.0; len];
            reference::direction(0.5, sequence, width, &x, &wide(&values(len, seed)), &mut other);
            let norm = |r: &[f64]| r.iter().map(|r| r * r).sum::<f64>();
            assert!((norm(&other) - norm(&r)).abs() < 1e-12);
            assert!(rise(&r) > rise(&other), "{seed}");
        }
    }

    #[test]
    fn its_length_follows_the_scale_of_the_embedding() {
        let (lengths, width) = ([4, 2], 3);
        let sequence = sequence(&lengths);
        let len = sequence.rows() * width;
        let (x, g) = (wide(&values(len, 1)), wide(&values(len, 2)));
        let of = |x: &[f64], g: &[f64]| {
            let mut r = vec![0.0; len];
            reference::direction(1.0, sequence, width, x, g, &mut r);
            r
        };
        let expected: Vec<f64> = of(&x, &g).iter().map(|r| 7.0 * r).collect();
        let scaled: Vec<f64> = x.iter().map(|x| 7.0 * x + 3.0).collect();
        let smaller: Vec<f64> = g.iter().map(|g| g / 7.0).collect();
        let got: Vec<f32> = of(&scaled, &smaller).iter().map(|&r| r as f32).collect();
        close("r", &got, &expected, 1e-6);
    }
}
