//! One row for each segment of a sequence, such as a word of several tokens: the segment's first
//! row, its last row, the sum of its rows, or the largest value of each column.
//!
//! x is [T·B, D], y [S·B, D] for S segments of each sequence. Segments may overlap; an empty one,
//! which fills a shorter sequence up, gives zeros.

use crate::cpu::{Cpu, Shards, Worker};
use crate::pointwise::{SERIAL_ELEMENTS, apply_serial, for_parts, pointwise};

/// How the rows of a segment become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The row of the first position.
    First,
    /// The row of the last position.
    Last,
    /// The sum of all rows.
    Sum,
    /// The largest value of each column; its gradient goes to the earliest row that has it.
    Max,
}

/// The segments of B sequences.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// B: sequences side by side.
    pub batch: usize,
    /// `[S·B]`, row s·B + b: the first position of segment s of sequence b, and the one behind its
    /// last.
    pub ranges: &'a [(u32, u32)],
}

impl Segments<'_> {
    /// The positions of x whose rows make up row `r` of y.
    fn positions(&self, reduction: Reduction, r: usize) -> std::ops::Range<usize> {
        let (start, end) = (self.ranges[r].0 as usize, self.ranges[r].1 as usize);
        match reduction {
            _ if start >= end => 0..0,
            Reduction::First => start..start + 1,
            Reduction::Last => end - 1..end,
            Reduction::Sum | Reduction::Max => start..end,
        }
    }

    fn rows(&self, b: usize) -> impl Iterator<Item = usize> {
        (b..self.ranges.len()).step_by(self.batch.max(1))
    }
}

/// y [S·B, D] from x [T·B, D].
///
/// # Panics
/// If the length of y is not that of its shape, or a segment is beyond x.
pub fn forward(
    cpu: &Cpu,
    reduction: Reduction,
    segments: Segments,
    width: usize,
    x: &[f32],
    y: &mut [f32],
) {
    pointwise!(Add {} [x] [y] { [y.add(x)] });
    pointwise!(Max {} [x] [y] { [x.max(y)] });
    assert_eq!(y.len(), segments.ranges.len() * width, "the rows of segments");
    let y = Shards::new(y);
    for_sequences(cpu, segments, width, |worker, b| {
        for r in segments.rows(b) {
            // SAFETY: each sequence belongs to one thread.
            let y = unsafe { y.part(r * width..(r + 1) * width) };
            let mut positions = segments.positions(reduction, r);
            let row = |t: usize| &x[(t * segments.batch + b) * width..][..width];
            match positions.next() {
                None => y.fill(0.0),
                Some(first) => y.copy_from_slice(row(first)),
            }
            positions.for_each(|t| match reduction {
                Reduction::Max => apply_serial(worker.level, Max {}, [row(t)], [&mut *y]),
                _ => apply_serial(worker.level, Add {}, [row(t)], [&mut *y]),
            });
        }
    });
}

/// dx [T·B, D] += the gradient of [`forward`], from its input x and output y, which
/// [`Reduction::Max`] alone reads.
///
/// # Panics
/// If the length of dy is not that of its shape, or a segment is beyond x.
pub fn backward(
    cpu: &Cpu,
    reduction: Reduction,
    segments: Segments,
    width: usize,
    [x, y]: [&[f32]; 2],
    dy: &[f32],
    dx: &mut [f32],
) {
    pointwise!(Add {} [dy] [dx] { [dx.add(dy)] });
    assert_eq!(dy.len(), segments.ranges.len() * width, "the gradient of segments");
    let dx = Shards::new(dx);
    for_sequences(cpu, segments, width, |worker, b| {
        for r in segments.rows(b) {
            let dy = &dy[r * width..(r + 1) * width];
            if reduction == Reduction::Max {
                for (column, &dy) in dy.iter().enumerate() {
                    let place = |t: usize| (t * segments.batch + b) * width + column;
                    let largest = y[r * width + column];
                    let mut positions = segments.positions(reduction, r);
                    if let Some(t) = positions.find(|&t| x[place(t)] == largest) {
                        // SAFETY: each sequence belongs to one thread.
                        unsafe { dx.part(place(t)..place(t) + 1)[0] += dy };
                    }
                }
                continue;
            }
            for t in segments.positions(reduction, r) {
                let row = t * segments.batch + b;
                // SAFETY: each sequence belongs to one thread.
                let dx = unsafe { dx.part(row * width..(row + 1) * width) };
                apply_serial(worker.level, Add {}, [dy], [dx]);
            }
        }
    });
}

fn for_sequences(
    cpu: &Cpu,
    segments: Segments,
    width: usize,
    body: impl Fn(&mut Worker, usize) + Sync,
) {
    let of_one = segments.ranges.len() / segments.batch.max(1) * width;
    let serial = SERIAL_ELEMENTS / of_one.max(1);
    for_parts(cpu, segments.batch, 1, serial, |worker, range| {
        range.for_each(|b| body(worker, b));
    });
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::{Reduction, Segments};
    use crate::real::Real;

    /// y [S·B, D] from x [T·B, D].
    pub fn forward<R: Real>(
        reduction: Reduction,
        segments: Segments,
        width: usize,
        x: &[R],
        y: &mut [R],
    ) {
        for (r, y) in y.chunks_mut(width.max(1)).enumerate() {
            let b = r % segments.batch;
            for (d, y) in y.iter_mut().enumerate() {
                let at = |t: usize| x[(t * segments.batch + b) * width + d];
                let values = segments.positions(reduction, r).map(at);
                *y = match reduction {
                    Reduction::Max => values.reduce(R::max).unwrap_or(R::zero()),
                    _ => values.sum(),
                };
            }
        }
    }

    /// dx += the gradient.
    pub fn backward<R: Real>(
        reduction: Reduction,
        segments: Segments,
        width: usize,
        x: &[R],
        dy: &[R],
        dx: &mut [R],
    ) {
        for (r, dy) in dy.chunks(width.max(1)).enumerate() {
            let b = r % segments.batch;
            for (d, &dy) in dy.iter().enumerate() {
                let at = |t: usize| (t * segments.batch + b) * width + d;
                let positions = segments.positions(reduction, r);
                if reduction == Reduction::Max {
                    let better = |best, t| if x[at(t)] > x[at(best)] { t } else { best };
                    positions.reduce(better).into_iter().for_each(|t| dx[at(t)] += dy);
                } else {
                    positions.for_each(|t| dx[at(t)] += dy);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradient, close, levels, values, wide};

    const ALL: [Reduction; 4] = [Reduction::First, Reduction::Last, Reduction::Sum, Reduction::Max];

    /// Segments of both sequences in turns: apart, beside each other, overlapping and empty.
    const RANGES: [(u32, u32); 8] =
        [(0, 2), (1, 4), (2, 3), (0, 1), (2, 4), (3, 4), (0, 0), (1, 4)];

    #[test]
    fn the_rows_of_words_are_found() {
        let segments = Segments { batch: 2, ranges: &RANGES };
        let x: Vec<f64> = (0..8).map(f64::from).collect();
        let rows = |reduction| {
            let mut y = vec![9.0; 8];
            reference::forward(reduction, segments, 1, &x, &mut y);
            y
        };
        assert_eq!(rows(Reduction::First), [0.0, 3.0, 4.0, 1.0, 4.0, 7.0, 0.0, 3.0]);
        assert_eq!(rows(Reduction::Last), [2.0, 7.0, 4.0, 1.0, 6.0, 7.0, 0.0, 7.0]);
        assert_eq!(rows(Reduction::Sum), [2.0, 15.0, 4.0, 1.0, 10.0, 7.0, 0.0, 15.0]);
        assert_eq!(rows(Reduction::Max), [2.0, 7.0, 4.0, 1.0, 6.0, 7.0, 0.0, 7.0]);
    }

    #[test]
    fn the_reference_has_the_gradient_of_its_function() {
        let segments = Segments { batch: 2, ranges: &RANGES };
        for reduction in ALL {
            let (x, dy) = (wide(&values(24, 1)), wide(&values(24, 2)));
            let mut dx = [0.0; 24];
            reference::backward(reduction, segments, 3, &x, &dy, &mut dx);
            check_gradient("x", &x, &dx, |x| {
                let mut y = [0.0; 24];
                reference::forward(reduction, segments, 3, x, &mut y);
                y.iter().zip(&dy).map(|(y, dy)| y * dy).sum()
            });
        }
    }

    #[test]
    fn every_reduction_follows_the_reference() {
        for level in levels() {
            for threads in [1, 3] {
                let cpu = Cpu::with_level(threads, level);
                for (time, batch, width) in [(0, 2, 3), (1, 1, 1), (5, 3, 17), (40, 20, 33)] {
                    let start = |r: usize| (r / batch * 2).min(time);
                    let ranges: Vec<(u32, u32)> = (0..time.div_ceil(2) * batch)
                        .map(|r| (start(r) as u32, (start(r) + r % 4).min(time) as u32))
                        .collect();
                    for reduction in ALL {
                        check(&cpu, reduction, Segments { batch, ranges: &ranges }, time, width);
                    }
                }
            }
        }
    }

    fn check(cpu: &Cpu, reduction: Reduction, segments: Segments, time: usize, width: usize) {
        let (rows, words) = (time * segments.batch, segments.ranges.len());
        let (x, dy) = (values(rows * width, 1), values(words * width, 2));
        let (mut y, mut dx) = (vec![9.0; words * width], vec![1.0; rows * width]);
        forward(cpu, reduction, segments, width, &x, &mut y);
        backward(cpu, reduction, segments, width, [&x, &y], &dy, &mut dx);
        let (mut y_exact, mut dx_exact) = (vec![0.0; words * width], vec![1.0; rows * width]);
        reference::forward(reduction, segments, width, &wide(&x), &mut y_exact);
        reference::backward(reduction, segments, width, &wide(&x), &wide(&dy), &mut dx_exact);
        close("y", &y, &y_exact, 1e-6);
        close("dx", &dx, &dx_exact, 1e-6);
    }
}
