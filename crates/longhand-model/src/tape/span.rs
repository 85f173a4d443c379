//! The sequences of a pass, kept for the backward pass.

use longhand_kernel::Sequence;

/// A sequence's place among those of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(usize);

/// Every sequence of the pass. A later pass uses the memory of an earlier one again.
#[derive(Default)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// How many of them belong to the running pass.
    open: usize,
}

#[derive(Default)]
struct Span {
    time: usize,
    batch: usize,
    resets: Vec<bool>,
    lengths: Vec<u32>,
}

impl Spans {
    /// Adds a sequence to the pass. Its direction is not kept: each operation has its own.
    pub(super) fn open(&mut self, sequence: &Sequence) -> SpanId {
        if self.open == self.spans.len() {
            self.spans.push(Span::default());
        }
        let span = &mut self.spans[self.open];
        (span.time, span.batch) = (sequence.time, sequence.batch);
        span.resets.clear();
        span.resets.extend(sequence.resets.unwrap_or_default());
        span.lengths.clear();
        span.lengths.extend(sequence.lengths.unwrap_or_default());
        self.open += 1;
        SpanId(self.open - 1)
    }

    /// Forgets the sequences of the last pass.
    pub(super) fn clear(&mut self) {
        self.open = 0;
    }

    /// The sequence of a span.
    pub(super) fn sequence(&self, id: SpanId, reverse: bool) -> Sequence<'_> {
        let Span { time, batch, ref resets, ref lengths } = self.spans[id.0];
        Sequence {
            time,
            batch,
            resets: (!resets.is_empty()).then_some(&resets[..]),
            lengths: (!lengths.is_empty()).then_some(&lengths[..]),
            reverse,
        }
    }
}
