//! Convolution over time (Kim, "Convolutional neural networks for sentence classification", 2014,
//! equation 2), as the product of a matrix with the window of inputs around each position:
//!
//! > y\[t\] = W·\[x\[t−k+1+a\] | … | x\[t+a\]\] + b
//!
//! with k inputs in a window, of which a stand behind the present one. This file makes the windows
//! and takes their gradient apart; the product is that of any linear layer ([`crate::linear`], or
//! packed weights), with W [N, k·D]: PyTorch's [N, D, k] with its last two axes exchanged.
//!
//! With a = 0 it is a memory of the last k positions: its state is the k−1 inputs before the first
//! one. With a > 0 a window sees the future, and sequences are read whole. A window never leaves the
//! document of its position: inputs beyond it, and beyond the sequence, are zeros.

#[cfg(test)]
mod tests;

use crate::call::Call;
use crate::cpu::Shards;
use crate::pointwise::{apply_serial, for_rows, pointwise};
use crate::sequence::Sequence;

/// Sizes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// D: elements of an input.
    pub width: usize,
    /// k: inputs in a window, at least 1.
    pub kernel: usize,
    /// a: how many of them are read after the present one; less than k.
    pub ahead: usize,
}

impl Sizes {
    /// How many inputs of a window are read before the present one, k−1−a: the length of the state.
    pub fn behind(&self) -> usize {
        self.kernel - 1 - self.ahead
    }

    /// k·D: elements of a window.
    pub fn window(&self) -> usize {
        self.kernel * self.width
    }
}

/// The inputs before a sequence, and those before the next one: each `[B, k−1−a, D]`, in the order
/// of reading. An input that no window of this document saw is zeros.
pub struct State<'a> {
    /// Before the first position.
    pub before: &'a [f32],
    /// Behind the last one; written.
    pub next: &'a mut [f32],
}

/// Writes the windows `[T·B, k·D]` of `x` (`[T·B, D]`). A padded position has zeros. Without a
/// state, the sequence begins empty.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn unfold(call: Call<Sizes>, x: &[f32], state: Option<State>, windows: &mut [f32]) {
    let Call { cpu, sizes, sequence } = call;
    let (width, behind) = (sizes.width, sizes.behind());
    check(sizes, sequence, x, windows);
    let (before, next) = match state {
        Some(State { before, next }) => (Some(before), Some(next)),
        None => (None, None),
    };
    for state in before.iter().copied().chain(next.as_deref()) {
        assert_eq!(state.len(), sequence.batch * behind * width, "a state is [B, k−1−a, D]");
    }
    let windows = Shards::new(windows);
    for_rows(cpu, sequence.rows(), sizes.window(), |_, rows| {
        for row in rows {
            // SAFETY: each row belongs to one thread.
            let window = unsafe { windows.part(row * sizes.window()..(row + 1) * sizes.window()) };
            let stream = Stream { sequence, b: row % sequence.batch };
            match stream.index(row / sequence.batch) {
                Some(index) => {
                    let (past, rest) = window.split_at_mut(behind * width);
                    stream.copy_past(width, x, before, index, past);
                    let (own, ahead) = rest.split_at_mut(width);
                    own.copy_from_slice(&x[row * width..(row + 1) * width]);
                    stream.copy_ahead(width, x, index, ahead);
                }
                None => window.fill(0.0),
            }
        }
    });
    let Some(next) = next else { return };
    for (b, next) in next.chunks_exact_mut((behind * width).max(1)).enumerate() {
        let stream = Stream { sequence, b };
        stream.copy_past(width, x, before, sequence.real(b), next);
    }
}

/// The gradient of [`unfold`]: adds to `d_x` `[T·B, D]` and `d_state` `[B, k−1−a, D]`, given the
/// gradient of the windows and that of the next state, if there is one.
///
/// # Panics
/// If a slice has not the length its shape says.
pub fn fold(
    call: Call<Sizes>,
    d_windows: &[f32],
    d_next: Option<&[f32]>,
    d_x: Option<&mut [f32]>,
    d_state: Option<&mut [f32]>,
) {
    pointwise!(Add {} [x] [y] { [y.add(x)] });
    let Call { cpu, sizes, sequence } = call;
    let (width, behind) = (sizes.width, sizes.behind());
    for state in d_next.iter().copied().chain(d_state.as_deref()) {
        assert_eq!(state.len(), sequence.batch * behind * width, "a state is [B, k−1−a, D]");
    }
    let gradients = Gradients { sizes, d_windows, d_next };
    if let Some(d_x) = d_x {
        check(sizes, sequence, d_x, d_windows);
        let d_x = Shards::new(d_x);
        for_rows(cpu, sequence.rows(), sizes.window(), |worker, rows| {
            for row in rows {
                let stream = Stream { sequence, b: row % sequence.batch };
                let Some(index) = stream.index(row / sequence.batch) else { continue };
                // SAFETY: each row belongs to one thread.
                let d_x = unsafe { d_x.part(row * width..(row + 1) * width) };
                gradients.of_input(stream, index, |d| {
                    apply_serial(worker.level, Add {}, [d], [&mut *d_x]);
                });
            }
        });
    }
    let Some(d_state) = d_state else { return };
    for (place, to) in d_state.chunks_exact_mut(width.max(1)).enumerate() {
        let (b, slot) = (place / behind, place % behind);
        let stream = Stream { sequence, b };
        gradients.of_state(stream, slot, |d| to.iter_mut().zip(d).for_each(|(to, d)| *to += d));
    }
}

/// The plain form, generic over the number type.
pub mod reference {
    use super::Sizes;
    use crate::real::Real;
    use crate::sequence::Sequence;

    /// What a window may hold: an input of the state, or one of the sequence.
    enum Origin {
        State(usize),
        Row(usize),
    }

    /// Everything that a stream reads, each with the number of its document: first the rows of the
    /// state, then the real positions in the order of reading.
    fn inputs(sizes: Sizes, sequence: &Sequence, b: usize) -> Vec<(usize, Origin)> {
        let behind = sizes.behind();
        let mut all: Vec<_> =
            (0..behind).map(|slot| (0, Origin::State(b * behind + slot))).collect();
        let mut document = 0;
        for t in sequence.steps().filter(|&t| sequence.is_real(t, b)) {
            document += usize::from(sequence.starts_empty(t, b));
            all.push((document, Origin::Row(t * sequence.batch + b)));
        }
        all
    }

    /// Calls `visit(row of the windows, or none for the next state, slot, origin)` for every input
    /// that a window or the next state holds.
    fn visit(
        sizes: Sizes,
        sequence: &Sequence,
        mut visit: impl FnMut(Option<usize>, usize, &Origin),
    ) {
        let behind = sizes.behind();
        for b in 0..sequence.batch {
            let all = inputs(sizes, sequence, b);
            for (place, (document, origin)) in all.iter().enumerate() {
                let Origin::Row(row) = origin else { continue };
                for slot in 0..sizes.kernel {
                    match all.get(place + slot - behind) {
                        Some((other, from)) if other == document => visit(Some(*row), slot, from),
                        _ => {}
                    }
                }
            }
            let last = all.last().map_or(0, |(document, _)| *document);
            for (slot, (document, from)) in all[all.len() - behind..].iter().enumerate() {
                if *document == last {
                    visit(None, b * behind + slot, from);
                }
            }
        }
    }

    /// The windows and the next state, as [`unfold`](super::unfold).
    pub fn unfold<R: Real>(
        sizes: Sizes,
        sequence: &Sequence,
        x: &[R],
        state: &[R],
    ) -> (Vec<R>, Vec<R>) {
        let width = sizes.width;
        let mut windows = vec![R::zero(); sequence.rows() * sizes.window()];
        let mut next = vec![R::zero(); state.len()];
        visit(sizes, sequence, |row, slot, origin| {
            let from = match *origin {
                Origin::State(row) => &state[row * width..][..width],
                Origin::Row(row) => &x[row * width..][..width],
            };
            let to = match row {
                Some(row) => &mut windows[(row * sizes.kernel + slot) * width..][..width],
                None => &mut next[slot * width..][..width],
            };
            to.copy_from_slice(from);
        });
        (windows, next)
    }

    /// The gradients of the inputs and of the state, as [`fold`](super::fold).
    pub fn fold<R: Real>(
        sizes: Sizes,
        sequence: &Sequence,
        d_windows: &[R],
        d_next: &[R],
    ) -> (Vec<R>, Vec<R>) {
        let width = sizes.width;
        let mut d_x = vec![R::zero(); sequence.rows() * width];
        let mut d_state = vec![R::zero(); d_next.len()];
        visit(sizes, sequence, |row, slot, origin| {
            let from = match row {
                Some(row) => &d_windows[(row * sizes.kernel + slot) * width..][..width],
                None => &d_next[slot * width..][..width],
            };
            let to = match *origin {
                Origin::State(row) => &mut d_state[row * width..][..width],
                Origin::Row(row) => &mut d_x[row * width..][..width],
            };
            to.iter_mut().zip(from).for_each(|(to, &d)| *to += d);
        });
        (d_x, d_state)
    }
}

fn check(sizes: Sizes, sequence: &Sequence, x: &[f32], windows: &[f32]) {
    assert!(sizes.ahead < sizes.kernel, "a window holds the present position");
    assert_eq!(x.len(), sequence.rows() * sizes.width, "inputs are [T·B, D]");
    assert_eq!(windows.len(), sequence.rows() * sizes.window(), "windows are [T·B, k·D]");
}

/// The real positions of one sequence, numbered from 0 in the order of reading.
#[derive(Clone, Copy)]
struct Stream<'a> {
    sequence: &'a Sequence<'a>,
    b: usize,
}

impl Stream<'_> {
    fn len(self) -> usize {
        self.sequence.real(self.b)
    }

    /// The number of the position at time `t`; none of a padded one.
    fn index(self, t: usize) -> Option<usize> {
        let real = self.len();
        (t < real).then(|| if self.sequence.reverse { real - 1 - t } else { t })
    }

    fn time(self, index: usize) -> usize {
        if self.sequence.reverse { self.len() - 1 - index } else { index }
    }

    fn row(self, index: usize) -> usize {
        self.time(index) * self.sequence.batch + self.b
    }

    /// Whether a document starts at a position; the end of the sequence starts none.
    fn starts(self, index: usize) -> bool {
        index < self.len() && self.sequence.starts_empty(self.time(index), self.b)
    }

    /// Writes the inputs before position `index` of the same document into `past`, the latest last.
    fn copy_past(
        self,
        width: usize,
        x: &[f32],
        before: Option<&[f32]>,
        index: usize,
        past: &mut [f32],
    ) {
        let behind = past.len() / width.max(1);
        let mut seen = 0;
        while seen < behind {
            let to = (behind - 1 - seen) * width;
            if self.starts(index - seen) {
                past[..to + width].fill(0.0);
                return;
            }
            if seen == index {
                // The rest was read before this sequence.
                let rest = to + width;
                match before {
                    Some(before) => {
                        let end = (self.b + 1) * past.len();
                        past[..rest].copy_from_slice(&before[end - rest..end]);
                    }
                    None => past[..rest].fill(0.0),
                }
                return;
            }
            seen += 1;
            let row = self.row(index - seen);
            past[to..to + width].copy_from_slice(&x[row * width..(row + 1) * width]);
        }
    }

    /// Writes the inputs after position `index` of the same document into `ahead`.
    fn copy_ahead(self, width: usize, x: &[f32], index: usize, ahead: &mut [f32]) {
        let mut is_inside = true;
        for (at, to) in (index + 1..).zip(ahead.chunks_exact_mut(width.max(1))) {
            is_inside = is_inside && at < self.len() && !self.starts(at);
            if is_inside {
                let row = self.row(at);
                to.copy_from_slice(&x[row * width..(row + 1) * width]);
            } else {
                to.fill(0.0);
            }
        }
    }
}

/// The gradients that inputs are given.
#[derive(Clone, Copy)]
struct Gradients<'a> {
    sizes: Sizes,
    d_windows: &'a [f32],
    d_next: Option<&'a [f32]>,
}

impl<'a> Gradients<'a> {
    fn window(&self, row: usize, slot: usize) -> &'a [f32] {
        let Sizes { width, kernel, .. } = self.sizes;
        &self.d_windows[(row * kernel + slot) * width..][..width]
    }

    fn next(&self, b: usize, slot: usize) -> Option<&'a [f32]> {
        let width = self.sizes.width;
        Some(&self.d_next?[(b * self.sizes.behind() + slot) * width..][..width])
    }

    /// Gives `add` each part of the gradient of the input at position `index`.
    fn of_input(&self, stream: Stream, index: usize, mut add: impl FnMut(&[f32])) {
        let behind = self.sizes.behind();
        add(self.window(stream.row(index), behind));
        for distance in 1..=self.sizes.ahead.min(index) {
            if stream.starts(index + 1 - distance) {
                break;
            }
            add(self.window(stream.row(index - distance), behind + distance));
        }
        self.after(stream, index + 1, behind, add);
    }

    /// Gives `add` each part of the gradient of a row of the state.
    fn of_state(&self, stream: Stream, slot: usize, add: impl FnMut(&[f32])) {
        self.after(stream, 0, slot + 1, add);
    }

    /// The parts that come from position `first` on, whose window holds the input in the slot
    /// before `end`; later windows hold it further to the left.
    fn after(&self, stream: Stream, first: usize, end: usize, mut add: impl FnMut(&[f32])) {
        for (index, slot) in (first..).zip((0..end).rev()) {
            if stream.starts(index) {
                return;
            }
            if index == stream.len() {
                self.next(stream.b, slot).into_iter().for_each(add);
                return;
            }
            add(self.window(stream.row(index), slot));
        }
    }
}
