//! Operations that join the rows of two values, or make one row of several of a sequence.

use std::ops::Range;

use longhand_kernel::segments::{self, Reduction, Segments};
use longhand_kernel::{Sequence, join, pooling};

use super::{Backward, Operation, SpanId, Tape, Var};
use crate::config::Pooling;

pub(super) struct Join {
    a: Var,
    b: Var,
    pub(super) y: Var,
}

pub(super) struct Pool {
    pooling: pooling::Pooling,
    x: Var,
    pub(super) y: Var,
}

pub(super) struct Segment {
    reduction: Reduction,
    /// The place of the segments among those of the pass.
    ranges: Range<usize>,
    x: Var,
    pub(super) y: Var,
}

impl Tape {
    /// y = [a | b].
    pub(crate) fn join(&mut self, a: Var, b: Var) -> Var {
        let widths = [self.width(a), self.width(b)];
        let mut data = self.cpu.buffers().take(self.data(a).len() + self.data(b).len());
        join::forward(&self.cpu, widths, self.data(a), self.data(b), &mut data);
        let needed = self.needs(a) || self.needs(b);
        let y = self.push(self.span(a), data, widths[0] + widths[1], needed);
        self.record(y, Operation::Join(Join { a, b, y }));
        y
    }

    /// `b` behind `a`, or `b` alone where there is no `a`.
    pub(crate) fn join_behind(&mut self, a: Option<Var>, b: Var) -> Var {
        a.map_or(b, |a| self.join(a, b))
    }

    /// y `[B, D]` = one row for each sequence of x `[T·B, D]`.
    pub(crate) fn pool(&mut self, x: Var, pooling: Pooling) -> Var {
        let pooling = match pooling {
            Pooling::Last => pooling::Pooling::Last,
            Pooling::Mean => pooling::Pooling::Mean,
            Pooling::Max => pooling::Pooling::Max,
        };
        let (sequence, width) = (self.sequence(x, false), self.width(x));
        let mut data = self.cpu.buffers().take(sequence.batch * width);
        let input = &self.values[x.0].data;
        pooling::forward(&self.cpu, pooling, sequence, width, input, &mut data);
        // The rows of the result are one position of each sequence.
        let span = self.spans.open(&Sequence::new(1, sequence.batch));
        let y = self.push(span, data, width, self.needs(x));
        self.record(y, Operation::Pool(Pool { pooling, x, y }));
        y
    }

    /// y `[S·B, D]` = one row of the span for each segment of x `[T·B, D]`, see [`Segments`].
    pub(crate) fn segment(
        &mut self,
        x: Var,
        ranges: &[(u32, u32)],
        reduction: Reduction,
        span: SpanId,
    ) -> Var {
        let (batch, width) = (self.sequence(x, false).batch, self.width(x));
        let mut data = self.cpu.buffers().take(ranges.len() * width);
        let segments = Segments { batch, ranges };
        segments::forward(&self.cpu, reduction, segments, width, self.data(x), &mut data);
        let y = self.push(span, data, width, self.needs(x));
        let first = self.segments.len();
        self.segments.extend_from_slice(ranges);
        let ranges = first..self.segments.len();
        self.record(y, Operation::Segment(Segment { reduction, ranges, x, y }));
        y
    }
}

impl Join {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let (mut da, mut db) = (pass.tape.open(self.a), pass.tape.open(self.b));
        let widths = [pass.tape.width(self.a), pass.tape.width(self.b)];
        join::backward(&pass.tape.cpu, widths, &dy, da.as_deref_mut(), db.as_deref_mut());
        pass.tape.close(self.a, da);
        pass.tape.close(self.b, db);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Pool {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let tape = &*pass.tape;
            let sequence = tape.sequence(self.x, false);
            let values = [tape.data(self.x), tape.data(self.y)];
            let width = tape.width(self.x);
            pooling::backward(&tape.cpu, self.pooling, sequence, width, values, &dy, dx);
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Segment {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let tape = &*pass.tape;
            let batch = tape.sequence(self.x, false).batch;
            let segments = Segments { batch, ranges: &tape.segments[self.ranges] };
            let values = [tape.data(self.x), tape.data(self.y)];
            let width = tape.width(self.y);
            segments::backward(&tape.cpu, self.reduction, segments, width, values, &dy, dx);
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}
