//! The shape of a memory's input: sizes, direction, document starts and the
//! lengths of padded examples.

/// A batch of sequences. Row `t * batch + b` of an activation belongs to time `t`, sequence `b`.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// T: positions per sequence.
    pub time: usize,
    /// B: sequences side by side.
    pub batch: usize,
    /// `[T·B]`: true where a document starts. The memory is empty there: it forgets every earlier
    /// position, and the state before the sequence.
    pub resets: Option<&'a [bool]>,
    /// `[B]`: how many positions of each sequence are real, the first ones. At the others a
    /// memory keeps its state and gives zeros, and they are never attended to.
    pub lengths: Option<&'a [u32]>,
    /// From the last position to the first.
    pub reverse: bool,
}

impl<'a> Sequence<'a> {
    /// Forward, one document, nothing padded.
    pub fn new(time: usize, batch: usize) -> Self {
        Self { time, batch, resets: None, lengths: None, reverse: false }
    }

    /// T·B: rows of an activation.
    pub fn rows(&self) -> usize {
        self.time * self.batch
    }

    /// How many positions of a sequence are real, the first ones.
    pub fn real(&self, b: usize) -> usize {
        self.lengths.map_or(self.time, |lengths| (lengths[b] as usize).min(self.time))
    }

    /// Whether the position is a real one.
    pub fn is_real(&self, t: usize, b: usize) -> bool {
        t < self.real(b)
    }

    /// The rows of the real positions, in order.
    pub fn real_rows(&self) -> impl Iterator<Item = usize> {
        (0..self.rows()).filter(|row| self.is_real(row / self.batch, row % self.batch))
    }

    /// Whether the memory is emptied before it reads this position. In reverse a document is
    /// entered at its last position, the one before another document's start.
    pub fn starts_empty(&self, t: usize, b: usize) -> bool {
        let at = if self.reverse { t + 1 } else { t };
        at < self.time && self.resets.is_some_and(|resets| resets[at * self.batch + b])
    }

    /// The positions in the order they are read.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = usize> + use<'a> {
        let (time, reverse) = (self.time, self.reverse);
        (0..time).map(move |i| if reverse { time - 1 - i } else { i })
    }
}
