//! Weights of a pass: a parameter as it is, or a matrix that the pass computes from parameters.

use std::ops::Deref;

use longhand_kernel::dropout::{self, Mask, Pattern};
use longhand_kernel::low_rank::{self, LowRank};
use longhand_kernel::{Buffer, Cpu, elementwise, singular};

use super::{Backward, Operation, SpanId, Tape, Var};
use crate::weights::{ParameterId, Weights};

/// A weight that an operation reads.
#[derive(Clone, Copy)]
pub(crate) enum Operand {
    /// A parameter of the model, used as it is.
    Parameter(ParameterId),
    /// A parameter with its change of low rank. It is made for each reader and given back: from
    /// the forward to the backward pass it takes no memory.
    Changed(Changed),
    /// A value of the pass, computed from parameters.
    Made(Var),
}

/// A weight with its change of low rank, W + s·B·A.
#[derive(Clone, Copy)]
pub(crate) struct Changed {
    weight: ParameterId,
    /// The dropped elements of A: the weight is used at every position, and has no input of its own
    /// whose elements could be dropped.
    mask: Option<Mask>,
}

/// The values of a weight while an operation reads them.
pub(super) enum Values<'a> {
    Held(&'a [f32]),
    Made(Buffer),
}

/// A weight with some of its elements dropped.
pub(super) struct Dropped {
    mask: Mask,
    whole: Operand,
    pub(super) y: Var,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Values::Held(values) => values,
            Values::Made(values) => values,
        }
    }
}

impl Values<'_> {
    pub(super) fn release(self, cpu: &Cpu) {
        if let Values::Made(values) = self {
            cpu.buffers().give(values);
        }
    }
}

impl Tape {
    /// The weight that a parameter is used as: the parameter, or W + s·B·A where it has a change of
    /// low rank. In training a share of A's elements is dropped, at the rate of the change.
    pub(super) fn weight(&mut self, weights: &Weights, id: ParameterId) -> Operand {
        let Some(change) = weights.low_rank(id) else { return Operand::Parameter(id) };
        Operand::Changed(Changed { weight: id, mask: self.draw(change.dropout) })
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
        dropout::forward(&self.cpu, mask, Pattern::Elements, &values, &mut data);
        values.release(&self.cpu);
        let (width, needed) = (data.len(), self.operand_needs(weights, whole));
        let y = self.push(span, data, width, needed);
        self.record_with(weights, y, Operation::Dropped(Dropped { mask, whole, y }));
        Operand::Made(y)
    }

    /// The values of a weight, to be released behind their reader.
    pub(super) fn operand<'a>(&'a self, weights: &'a Weights, operand: Operand) -> Values<'a> {
        match operand {
            Operand::Parameter(id) => Values::Held(weights.values(id)),
            Operand::Made(var) => Values::Held(self.data(var)),
            Operand::Changed(Changed { weight, mask }) => {
                let whole = weights.values(weight);
                let mut data = self.cpu.buffers().take(whole.len());
                with_change(&self.cpu, weights, weight, |change| {
                    with_dropped(&self.cpu, mask, change, |change| {
                        low_rank::weight(&self.cpu, change, whole, &mut data);
                    });
                });
                Values::Made(data)
            }
        }
    }

    /// Whether a weight needs a gradient.
    pub(super) fn operand_needs(&self, weights: &Weights, operand: Operand) -> bool {
        match operand {
            Operand::Parameter(id) => weights.is_trainable(id),
            Operand::Changed(changed) => weights.is_weight_trainable(changed.weight),
            Operand::Made(var) => self.needs(var),
        }
    }

    /// Gives back the values of a made weight, which the backward pass needs no more.
    fn discard(&mut self, made: Var) {
        let data = std::mem::take(&mut self.values[made.0].data);
        self.cpu.buffers().give(data);
    }
}

/// Gives `run` the change of low rank of a matrix, if it has one, in the form in which it is used:
/// with the rows of A scaled by the singular values, where there are some.
pub(super) fn with_change(
    cpu: &Cpu,
    weights: &Weights,
    id: ParameterId,
    run: impl FnOnce(LowRank<'_>),
) {
    let Some(change) = weights.change(id) else { return };
    let Some(values) = weights.singular_values(id) else { return run(change) };
    let mut a = cpu.buffers().take(change.a.len());
    singular::scaled(cpu, values, change.a, &mut a);
    run(LowRank { a: &a, ..change });
    cpu.buffers().give(a);
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
    /// Takes out the gradient of a weight, to be added to; none where none is needed. A change of
    /// low rank has gradients of its own, see [`Backward::change`].
    pub(super) fn open_operand(&mut self, operand: Operand) -> Option<Buffer> {
        match operand {
            Operand::Parameter(id) | Operand::Changed(Changed { weight: id, .. }) => {
                self.gradients.take(id)
            }
            Operand::Made(var) => self.tape.open(var),
        }
    }

    /// Lets `flow` add to the gradients of the factors that a weight was made with, if it was.
    pub(super) fn change(
        &mut self,
        operand: Operand,
        flow: impl FnOnce(&Tape, LowRank<'_>, low_rank::Gradients<'_>),
    ) {
        let Operand::Changed(Changed { weight, mask }) = operand else { return };
        self.factors(weight, |tape, change, mut wanted| {
            let Some(mask) = mask else { return flow(tape, change, wanted) };
            let da = wanted.a.take();
            let mut dropped = tape.cpu.zeros(change.a.len());
            with_dropped(&tape.cpu, Some(mask), change, |change| {
                wanted.a = da.is_some().then_some(&mut *dropped);
                flow(tape, change, wanted);
            });
            if let Some(da) = da {
                dropout::backward(&tape.cpu, mask, Pattern::Elements, &dropped, da);
            }
            tape.cpu.buffers().give(dropped);
        });
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
        if let (Some(singular), Some(values)) = (factors.singular, weights.singular_values(id)) {
            let mut e = self.gradients.take(singular.e);
            let cpu = &self.tape.cpu;
            let mut scaled = cpu.zeros(change.a.len());
            with_change(cpu, weights, id, |change| {
                let wanted = (a.is_some() || e.is_some()).then_some(&mut *scaled);
                let wanted = low_rank::Gradients { a: wanted, b: b.as_deref_mut() };
                flow(self.tape, change, wanted);
            });
            let into = [e.as_deref_mut(), a.as_deref_mut()];
            singular::scaled_backward(cpu, values, change.a, &scaled, into);
            cpu.buffers().give(scaled);
            self.gradients.put(singular.e, e);
        } else {
            let wanted = low_rank::Gradients { a: a.as_deref_mut(), b: b.as_deref_mut() };
            flow(self.tape, change, wanted);
        }
        self.gradients.put(factors.a, a);
        self.gradients.put(factors.b, b);
    }

    /// Puts the gradient of a weight back.
    pub(super) fn close_operand(&mut self, operand: Operand, gradient: Option<Buffer>) {
        match operand {
            Operand::Parameter(id) | Operand::Changed(Changed { weight: id, .. }) => {
                self.gradients.put(id, gradient);
            }
            Operand::Made(var) => self.tape.close(var, gradient),
        }
    }
}

impl Dropped {
    pub(super) fn backward(self, pass: &mut Backward) {
        pass.tape.discard(self.y);
        let Some(mut dy) = pass.tape.finish(self.y) else { return };
        let mut kept = pass.tape.cpu.zeros(dy.len());
        dropout::backward(&pass.tape.cpu, self.mask, Pattern::Elements, &dy, &mut kept);
        std::mem::swap(&mut dy, &mut kept);
        pass.tape.cpu.buffers().give(kept);
        pass.change(self.whole, |tape, change, wanted| {
            low_rank::weight_backward(&tape.cpu, change, &dy, wanted);
        });
        let mut whole = pass.open_operand(self.whole);
        if let Some(whole) = &mut whole {
            elementwise::accumulate(&pass.tape.cpu, &dy, whole);
        }
        pass.close_operand(self.whole, whole);
        pass.tape.cpu.buffers().give(dy);
    }
}
