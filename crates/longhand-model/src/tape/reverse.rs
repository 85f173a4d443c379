//! The rows of each sequence from its last real position to its first.

use longhand_kernel::Sequence;

use super::{Backward, Operation, Tape, Var};

pub(super) struct Reverse {
    x: Var,
    pub(super) y: Var,
}

impl Tape {
    /// y = the rows of x, which another stack read in reverse, at their places in the sequence of
    /// `like`. Padding stays behind each sequence.
    pub(crate) fn reverse(&mut self, x: Var, like: Var) -> Var {
        let (span, width) = (self.span(like), self.width(x));
        let mut data = self.cpu.buffers().take(self.data(x).len());
        let sequence = self.sequence(like, false);
        for (row, to) in data.chunks_exact_mut(width).enumerate() {
            let from = reversed_row(&sequence, row) * width;
            to.copy_from_slice(&self.data(x)[from..from + width]);
        }
        let y = self.push(span, data, width, self.needs(x));
        self.record(y, Operation::Reverse(Reverse { x, y }));
        y
    }
}

impl Reverse {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let width = pass.tape.width(self.y);
            let sequence = pass.tape.sequence(self.y, false);
            // The reversal is its own inverse.
            for (row, into) in dx.chunks_exact_mut(width).enumerate() {
                let from = reversed_row(&sequence, row) * width;
                into.iter_mut().zip(&dy[from..from + width]).for_each(|(dx, dy)| *dx += dy);
            }
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}

/// The row that comes to a row's place when each sequence is reversed within its own length.
pub(crate) fn reversed_row(sequence: &Sequence, row: usize) -> usize {
    let (t, b) = (row / sequence.batch, row % sequence.batch);
    let real = sequence.real(b);
    if t < real { (real - 1 - t) * sequence.batch + b } else { row }
}
