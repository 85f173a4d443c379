//! The windows that a convolution multiplies, and its ReLU.

use longhand_kernel::convolution::{self, Sizes};
use longhand_kernel::{Call, elementwise};

use super::{Backward, Operation, Tape, Var};
use crate::state::{State, StateId};

pub(super) struct Unfold {
    sizes: Sizes,
    x: Var,
    pub(super) y: Var,
}

pub(super) struct Relu {
    x: Var,
    pub(super) y: Var,
}

impl Tape {
    /// y `[T·B, k·D]` = the inputs around each position of x `[T·B, D]`, of which those before the
    /// first one are in the state.
    pub(crate) fn windows_with_state(
        &mut self,
        sizes: Sizes,
        x: Var,
        state: &mut State,
        inputs: StateId,
    ) -> Var {
        let before = state.take(inputs);
        let mut after = self.cpu.buffers().take_whole(before.len());
        let both = convolution::State { before: &before, next: &mut after };
        let y = self.unfold(sizes, x, Some(both));
        self.cpu.buffers().give(before);
        state.put(inputs, after);
        y
    }

    /// As [`Tape::windows_with_state`], for a sequence that begins empty and carries nothing.
    pub(crate) fn windows(&mut self, sizes: Sizes, x: Var) -> Var {
        self.unfold(sizes, x, None)
    }

    fn unfold(&mut self, sizes: Sizes, x: Var, state: Option<convolution::State<'_>>) -> Var {
        let span = self.span(x);
        let sequence = self.spans.sequence(span, false);
        let mut data = self.cpu.buffers().take(sequence.rows() * sizes.window());
        let call = Call::new(&self.cpu, sizes, &sequence);
        convolution::unfold(call, &self.values[x.0].data, state, &mut data);
        let y = self.push(span, data, sizes.window(), self.needs(x));
        self.record(y, Operation::Unfold(Unfold { sizes, x, y }));
        y
    }

    /// y = max(x, 0).
    pub(crate) fn relu(&mut self, x: Var) -> Var {
        let mut data = self.cpu.buffers().take(self.data(x).len());
        elementwise::relu(&self.cpu, self.data(x), &mut data);
        let y = self.push(self.span(x), data, self.width(x), self.needs(x));
        self.record(y, Operation::Relu(Relu { x, y }));
        y
    }
}

impl Unfold {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let sequence = pass.tape.sequence(self.x, false);
            let call = Call::new(&pass.tape.cpu, self.sizes, &sequence);
            convolution::fold(call, &dy, None, Some(dx), None);
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Relu {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            elementwise::relu_backward(&pass.tape.cpu, pass.tape.data(self.y), &dy, dx);
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}
