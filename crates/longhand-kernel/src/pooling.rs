//! One row per sequence from its rows over time: the last, the mean, or the largest of each column.
//!
//! x is [T·B, D], y [B, D]. Only real positions count; a sequence without any gives zeros.

use crate::cpu::{Cpu, Shards, Worker};
use crate::pointwise::{SERIAL_ELEMENTS, apply_serial, for_parts, pointwise};
use crate::sequence::Sequence;

/// How a sequence becomes one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The position read last: where a memory has seen the whole sequence.
    Last,
    /// The mean over the real positions.
    Mean,
    /// The largest value of each column; its gradient goes to the earliest position that has it.
    Max,
}

/// y [B, D] from x [T·B, D].
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn forward(
    cpu: &Cpu,
    pooling: Pooling,
    sequence: Sequence,
    width: usize,
    x: &[f32],
    y: &mut [f32],
) {
    pointwise!(Add {} [x] [y] { [y.add(x)] });
    pointwise!(Max {} [x] [y] { [x.max(y)] });
    pointwise!(Scale { factor } [] [y] { [y.mul(factor)] });
    assert_eq!(x.len(), sequence.rows() * width, "the input of pooling");
    assert_eq!(y.len(), sequence.batch * width, "the output of pooling");
    let y = Shards::new(y);
    for_sequences(cpu, sequence, width, |worker, b| {
        // SAFETY: each sequence belongs to one thread.
        let y = unsafe { y.part(b * width..(b + 1) * width) };
        let row = |t: usize| &x[(t * sequence.batch + b) * width..][..width];
        let real = sequence.real(b);
        if real == 0 {
            y.fill(0.0);
            return;
        }
        match pooling {
            Pooling::Last => y.copy_from_slice(row(last(sequence, real))),
            Pooling::Mean => {
                y.copy_from_slice(row(0));
                (1..real).for_each(|t| apply_serial(worker.level, Add {}, [row(t)], [&mut *y]));
                apply_serial(worker.level, Scale { factor: 1.0 / real as f32 }, [], [y]);
            }
            Pooling::Max => {
                y.copy_from_slice(row(0));
                (1..real).for_each(|t| apply_serial(worker.level, Max {}, [row(t)], [&mut *y]));
            }
        }
    });
}

/// dx [T·B, D] += the gradient of [`forward`], from its input x and output y.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn backward(
    cpu: &Cpu,
    pooling: Pooling,
    sequence: Sequence,
    width: usize,
    [x, y]: [&[f32]; 2],
    dy: &[f32],
    dx: &mut [f32],
) {
    pointwise!(AddScaled { factor } [dy] [dx] { [dy.mul_add(factor, dx)] });
    assert_eq!(x.len(), sequence.rows() * width, "the input of pooling");
    assert_eq!(dx.len(), x.len(), "the gradient of pooling's input");
    assert_eq!(y.len(), sequence.batch * width, "the output of pooling");
    assert_eq!(dy.len(), y.len(), "the gradient of pooling's output");
    let dx = Shards::new(dx);
    for_sequences(cpu, sequence, width, |worker, b| {
        let rows =
            |t: usize| (t * sequence.batch + b) * width..(t * sequence.batch + b + 1) * width;
        let (y, dy) = (&y[b * width..(b + 1) * width], &dy[b * width..(b + 1) * width]);
        let real = sequence.real(b);
        let add = |t: usize, factor: f32| {
            // SAFETY: each sequence belongs to one thread.
            let dx = unsafe { dx.part(rows(t)) };
            apply_serial(worker.level, AddScaled { factor }, [dy], [dx]);
        };
        match pooling {
            _ if real == 0 => {}
            Pooling::Last => add(last(sequence, real), 1.0),
            Pooling::Mean => (0..real).for_each(|t| add(t, 1.0 / real as f32)),
            Pooling::Max => {
                for (column, &largest) in y.iter().enumerate() {
                    let place = |t: usize| (t * sequence.batch + b) * width + column;
                    if let Some(t) = (0..real).find(|&t| x[place(t)] == largest) {
                        // SAFETY: each sequence belongs to one thread.
                        unsafe { dx.part(place(t)..place(t) + 1)[0] += dy[column] };
                    }
                }
            }
        }
    });
}

/// The position read last, of `real` ones.
fn last(sequence: Sequence, real: usize) -> usize {
    if sequence.reverse { 0 } else { real - 1 }
}

/// Calls `body` for each sequence, on one thread for each of several stretches of them.
pub(crate) fn for_sequences(
    cpu: &Cpu,
    sequence: Sequence,
    width: usize,
    body: impl Fn(&mut Worker, usize) + Sync,
) {
    let serial = SERIAL_ELEMENTS / (sequence.time * width).max(1);
    for_parts(cpu, sequence.batch, 1, serial, |worker, range| {
        range.for_each(|b| body(worker, b));
    });
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::{Pooling, Sequence, last};
    use crate::real::Real;

    /// y [B, D] from x [T·B, D].
    pub fn forward<R: Real>(
        pooling: Pooling,
        sequence: Sequence,
        width: usize,
        x: &[R],
        y: &mut [R],
    ) {
        for b in 0..sequence.batch {
            let real = sequence.real(b);
            for d in 0..width {
                let at = |t: usize| x[(t * sequence.batch + b) * width + d];
                y[b * width + d] = match pooling {
                    _ if real == 0 => R::zero(),
                    Pooling::Last => at(last(sequence, real)),
                    Pooling::Mean => (0..real).map(at).sum::<R>() / R::from_f64(real as f64),
                    Pooling::Max => (1..real).map(at).fold(at(0), R::max),
                };
            }
        }
    }

    /// dx += the gradient.
    pub fn backward<R: Real>(
        pooling: Pooling,
        sequence: Sequence,
        width: usize,
        x: &[R],
        dy: &[R],
        dx: &mut [R],
    ) {
        for b in 0..sequence.batch {
            let real = sequence.real(b);
            for d in 0..width {
                let at = |t: usize| (t * sequence.batch + b) * width + d;
                let dy = dy[b * width + d];
                match pooling {
                    _ if real == 0 => {}
                    Pooling::Last => dx[at(last(sequence, real))] += dy,
                    Pooling::Mean => {
                        (0..real).for_each(|t| dx[at(t)] += dy / R::from_f64(real as f64));
                    }
                    Pooling::Max => {
                        let better = |best, t| if x[at(t)] > x[at(best)] { t } else { best };
                        dx[at((0..real).fold(0, better))] += dy;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, close, levels, values, wide};

    const ALL: [Pooling; 3] = [Pooling::Last, Pooling::Mean, Pooling::Max];

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        for pooling in ALL {
            for reverse in [false, true] {
                let sequence =
                    Sequence { lengths: Some(&[4, 0, 2]), reverse, ..Sequence::new(4, 3) };
                let (x, dy) = (wide(&values(24, 1)), wide(&values(6, 2)));
                let mut dx = [0.0; 24];
                reference::backward(pooling, sequence, 2, &x, &dy, &mut dx);
                check_gradient("x", &x, &dx, |x| {
                    let mut y = [0.0; 6];
                    reference::forward(pooling, sequence, 2, x, &mut y);
                    y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
                });
            }
        }
    }

    #[test]
    fn every_pooling_follows_the_reference() {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (time, batch, width) in [(0, 2, 3), (1, 1, 1), (5, 3, 17), (40, 20, 33)] {
                    let lengths: Vec<u32> =
                        (0..batch).map(|b| (7 * b + 2) as u32 % (time as u32 + 1)).collect();
                    for pooling in ALL {
                        for lengths in [None, Some(&lengths[..])] {
                            let sequence = Sequence { lengths, ..Sequence::new(time, batch) };
                            check(&cpu, pooling, sequence, width);
                        }
                    }
                }
            }
        }
    }

    fn check(cpu: &Cpu, pooling: Pooling, sequence: Sequence, width: usize) {
        let (rows, batch) = (sequence.rows(), sequence.batch);
        let (x, dy) = (values(rows * width, 1), values(batch * width, 2));
        let (mut y, mut dx) = (vec![9.0; batch * width], vec![1.0; rows * width]);
        forward(cpu, pooling, sequence, width, &x, &mut y);
        backward(cpu, pooling, sequence, width, [&x, &y], &dy, &mut dx);
        let (mut y_exact, mut dx_exact) = (vec![0.0; batch * width], vec![1.0; rows * width]);
        let (x, dy) = (wide(&x), wide(&dy));
        reference::forward(pooling, sequence, width, &x, &mut y_exact);
        reference::backward(pooling, sequence, width, &x, &dy, &mut dx_exact);
        close("y", &y, &y_exact, 1e-6);
        close("dx", &dx, &dx_exact, 1e-6);
    }
}
