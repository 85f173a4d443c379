//! Weights of a pass: a parameter as it is, or a matrix that the pass computes from parameters.

use longhand_kernel::dropout::{self, Mask, Pattern};
use longhand_kernel::low_rank::{self, LowRank};
use longhand_kernel::{Buffer, Cpu, elementwise};

use super::{Backward, Operation, SpanId, Tape, Var};
use crate::weights::{ParameterId, Weights};

/// A weight that an operation reads.
#[derive(Clone, Copy)]
pub(crate) enum Operand {
    /// A parameter of the model, used as it is.
    Parameter(ParameterId),
    /// A value of the pass, computed from parameters.
    Made(Var),
}

/// A weight with some of its elements dropped.
pub(super) struct Dropped {
    mask: Mask,
    whole: Operand,
    pub(super) y: Var,
}

/// A weight with its change of low rank.
pub(super) struct Changed {
    weight: ParameterId,
    /// The dropped elements of A: the weight is used at every position, and has no input of its own
    /// whose elements could be dropped.
    mask: Option<Mask>,
    pub(super) y: Var,
}

impl Tape {
    /// The weight that a parameter is used as: the parameter, or W + s·B·A where it has a change of
    /// low rank, which then belongs to `span`. In training a share of A's elements is dropped, at
    /// the rate of the change.
    pub(super) fn weight(&mut self, weights: &Weights, id: ParameterId, span: SpanId) -> Operand {
        let Some(change) = weights.change(id) else { return Operand::Parameter(id) };
        let whole = weights.values(id);
        let mask = self.draw(weights.low_rank(id).map_or(0.0, |change| change.dropout));
        let mut data = self.cpu.buffers().take(whole.len());
        with_dropped(&self.cpu, mask, change, |change| {
            low_rank::weight(&self.cpu, change, whole, &mut data);
        });
        let y = self.push(span, data, change.input, weights.is_weight_trainable(id));
        self.record_with(weights, y, Operation::Changed(Changed { weight: id, mask, y }));
        Operand::Made(y)
    }

    /// A weight with a share of its elements zero and the others scaled up, in training.
    pub(super) fn drop_weight(
        &mut self,
        weights: &Weights,
        whole: Operand,
        share: f32,
        span: SpanId,
    ) -> Operand {
        let Some(mask) = self.draw(share) else { return whole };
        let values = self.operand(weights, whole);
        // Packed weights are for reading alone.
        if values.is_empty() {
            return whole;
        }
        let mut data = self.cpu.buffers().take(values.len());
        dropout::forward(&self.cpu, mask, Pattern::Elements, values, &mut data);
        let (width, needed) = (data.len(), self.operand_needs(weights, whole));
        let y = self.push(span, data, width, needed);
        self.record_with(weights, y, Operation::Dropped(Dropped { mask, whole, y }));
        Operand::Made(y)
    }

    /// The values of a weight.
    pub(super) fn operand<'a>(&'a self, weights: &'a Weights, operand: Operand) -> &'a [f32] {
        match operand {
            Operand::Parameter(id) => weights.values(id),
            Operand::Made(var) => self.data(var),
        }
    }

    /// Whether a weight needs a gradient.
    pub(super) fn operand_needs(&self, weights: &Weights, operand: Operand) -> bool {
        match operand {
            Operand::Parameter(id) => weights.is_trainable(id),
            Operand::Made(var) => self.needs(var),
        }
    }

    /// Gives back the values of a made weight, which the backward pass needs no more.
    fn discard(&mut self, made: Var) {
        let data = std::mem::take(&mut self.values[made.0].data);
        self.cpu.buffers().give(data);
    }
}

/// Gives `run` a change of low rank, with elements of A dropped where there is a mask.
fn with_dropped(cpu: &Cpu, mask: Option<Mask>, change: LowRank<'_>, run: impl FnOnce(LowRank<'_>)) {
    let Some(mask) = mask else { return run(change) };
    let mut a = cpu.buffers().take(change.a.len());
    dropout::forward(cpu, mask, Pattern::Elements, change.a, &mut a);
    run(LowRank { a: &a, ..change });
    cpu.buffers().give(a);
}

impl Backward<'_> {
    /// Takes out the gradient of a weight, to be added to; none where none is needed.
    pub(super) fn open_operand(&mut self, operand: Operand) -> Option<Buffer> {
        match operand {
            Operand::Parameter(id) => self.gradients.take(id),
            Operand::Made(var) => self.tape.open(var),
        }
    }

    /// Lets `flow` add to the gradients of a matrix's change of low rank, if it has one.
    pub(super) fn factors(
        &mut self,
        id: ParameterId,
        flow: impl FnOnce(&Tape, LowRank<'_>, low_rank::Gradients<'_>),
    ) {
        let weights = self.weights;
        let (Some(change), Some(factors)) = (weights.change(id), weights.low_rank(id)) else {
            return;
        };
        let (mut a, mut b) = (self.gradients.take(factors.a), self.gradients.take(factors.b));
        let wanted = low_rank::Gradients { a: a.as_deref_mut(), b: b.as_deref_mut() };
        flow(self.tape, change, wanted);
        self.gradients.put(factors.a, a);
        self.gradients.put(factors.b, b);
    }

    /// Puts the gradient of a weight back.
    pub(super) fn close_operand(&mut self, operand: Operand, gradient: Option<Buffer>) {
        match operand {
            Operand::Parameter(id) => self.gradients.put(id, gradient),
            Operand::Made(var) => self.tape.close(var, gradient),
        }
    }
}

impl Dropped {
    pub(super) fn backward(self, pass: &mut Backward) {
        pass.tape.discard(self.y);
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut whole = pass.open_operand(self.whole);
        if let Some(whole) = &mut whole {
            dropout::backward(&pass.tape.cpu, self.mask, Pattern::Elements, &dy, whole);
        }
        pass.close_operand(self.whole, whole);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Changed {
    pub(super) fn backward(self, pass: &mut Backward) {
        pass.tape.discard(self.y);
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let id = self.weight;
        pass.factors(id, |tape, change, mut wanted| {
            let Some(mask) = self.mask else {
                return low_rank::weight_backward(&tape.cpu, change, &dy, wanted);
            };
            let da = wanted.a.take();
            let mut dropped = tape.cpu.zeros(change.a.len());
            with_dropped(&tape.cpu, self.mask, change, |change| {
                wanted.a = da.is_some().then_some(&mut *dropped);
                low_rank::weight_backward(&tape.cpu, change, &dy, wanted);
            });
            if let Some(da) = da {
                dropout::backward(&tape.cpu, mask, Pattern::Elements, &dropped, da);
            }
            tape.cpu.buffers().give(dropped);
        });
        let mut whole = pass.gradients.take(id);
        if let Some(whole) = &mut whole {
            elementwise::accumulate(&pass.tape.cpu, &dy, whole);
        }
        pass.gradients.put(id, whole);
        pass.tape.cpu.buffers().give(dy);
    }
}
