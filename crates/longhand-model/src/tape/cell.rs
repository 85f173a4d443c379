//! The kernel's recurrence with the parameters of a layer.

use longhand_kernel::recurrence::{
    self, CellKind, CellPanels, Changes, Input, Kept, MAX_STATES, OutputGradients, Sizes,
    WeightGradients,
};
use longhand_kernel::weights::Gathered;
use longhand_kernel::{Buffer, Call, Cpu, Sequence};

use crate::weights::{Gradients, ParameterId, Weights};

/// A recurrence over hidden units, with its parameters.
#[derive(Clone, Copy)]
pub(crate) struct LongCell {
    pub(crate) kind: CellKind,
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    /// `weight_ih`, from the input to the gates.
    pub(crate) input: ParameterId,
    /// `weight_hh`, from the hidden state to the gates.
    pub(crate) recurrent: ParameterId,
    /// `bias_ih` and `bias_hh`; an sLSTM has the first alone.
    pub(crate) biases: [Option<ParameterId>; 2],
    /// Reads from the last position to the first.
    pub(crate) reverse: bool,
}

/// The hidden state and the cell states of a recurrence; unused places are empty.
pub(super) type States = [Buffer; 1 + MAX_STATES];

/// The inputs that the forward and the backward pass share.
pub(super) struct Reading<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) sequence: Sequence<'a>,
    pub(super) weights: &'a Weights,
    /// Values of `weight_ih` or of the matrix in its place.
    pub(super) input: &'a [f32],
    /// Values of `weight_hh` or of the matrix in its place.
    pub(super) recurrent: &'a [f32],
    /// Width of a row of `x`.
    pub(super) width: usize,
    pub(super) x: Input<'a>,
    pub(super) before: &'a States,
    /// The input's part of the gates, if the memos have it.
    pub(super) projected: Option<Gathered<'a>>,
}

impl LongCell {
    /// How many state tensors it carries.
    pub(super) fn states(&self) -> usize {
        self.kind.states().len()
    }

    pub(super) fn saved_len(&self, input: usize, sequence: &Sequence) -> usize {
        recurrence::saved_len(self.sizes(input), sequence)
    }

    pub(super) fn forward(
        &self,
        read: &Reading,
        y: &mut [f32],
        after: &mut States,
        saved: Option<&mut [f32]>,
    ) {
        let Reading { cpu, ref sequence, weights, x, .. } = *read;
        let before = read.before.each_ref().map(|state| &state[..]);
        let mut after = after.each_mut().map(|state| &mut state[..]);
        let (before, after) = (&before[..self.states()], &mut after[..self.states()]);
        let call = Call::new(cpu, self.sizes(read.width), sequence);
        let outputs = recurrence::Outputs { y, next: after, saved };
        let (Some(input), Some(recurrent)) =
            (weights.panels(self.input), weights.panels(self.recurrent))
        else {
            let weights = self.weights(read);
            return recurrence::forward(call, weights, x, before, outputs);
        };
        let Input::Rows(x) = x else {
            unreachable!("a packed table is not read by token: `projected` has what is made of one")
        };
        let (biases, projected) = (self.biases(weights), read.projected);
        let panels = CellPanels { input, recurrent, biases, projected };
        recurrence::forward_packed(call, panels, x, before, outputs);
    }

    /// The input and the forget gates of every unit at each real position, where there are any.
    pub(super) fn gates(
        &self,
        cpu: &Cpu,
        sequence: &Sequence,
        input: usize,
        saved: &[f32],
    ) -> Option<[Vec<f32>; 2]> {
        // An Elman cell's only gate is its output.
        (self.kind != CellKind::Rnn).then(|| {
            [0, 1].map(|gate| {
                let mut out = vec![0.0; sequence.real_rows().count() * self.hidden];
                recurrence::gate(cpu, self.sizes(input), sequence, saved, gate, &mut out);
                out
            })
        })
    }

    /// The backward pass over the positions, and the gradients of the biases. The other gradients
    /// follow in [`LongCell::products`], which no longer needs `dy`.
    pub(super) fn through_time(
        &self,
        read: &Reading,
        saved: &mut [f32],
        dy: &[f32],
        gradients: &mut Gradients,
    ) {
        let before = read.before.each_ref().map(|state| &state[..]);
        let mut d_biases = self.biases.map(|id| gradients.take(id?));
        recurrence::through_time(
            Call::new(read.cpu, self.sizes(read.width), &read.sequence),
            read.recurrent,
            &before[..self.states()],
            saved,
            OutputGradients { y: dy, next: &[] },
            d_biases.each_mut().map(Option::as_deref_mut),
            None,
        );
        for (id, d) in self.biases.into_iter().zip(d_biases) {
            if let Some(id) = id {
                gradients.put(id, d);
            }
        }
    }

    /// Gradients of the two matrices, and `dx` of the rows or of the table of `read.x`.
    pub(super) fn products(
        &self,
        read: &Reading,
        y: &[f32],
        saved: &mut [f32],
        dx: Option<&mut [f32]>,
        wanted: WeightGradients,
    ) {
        recurrence::products(
            Call::new(read.cpu, self.sizes(read.width), &read.sequence),
            read.input,
            read.x,
            &read.before[0],
            Kept { y, saved },
            wanted,
            dx,
        );
    }

    /// Gradients of the factors of the matrices' changes of low rank, before
    /// [`LongCell::products`], which overwrites `saved`.
    pub(super) fn factors(&self, read: &Reading, y: &[f32], saved: &mut [f32], changes: Changes) {
        let call = Call::new(read.cpu, self.sizes(read.width), &read.sequence);
        recurrence::factors(call, read.x, &read.before[0], Kept { y, saved }, changes);
    }

    fn sizes(&self, input: usize) -> Sizes {
        Sizes { cell: self.kind, input, hidden: self.hidden, heads: self.heads }
    }

    fn weights<'a>(&self, read: &Reading<'a>) -> recurrence::Weights<'a> {
        recurrence::Weights {
            input: read.input,
            recurrent: read.recurrent,
            biases: self.biases(read.weights),
        }
    }

    fn biases<'a>(&self, weights: &'a Weights) -> [&'a [f32]; 2] {
        self.biases.map(|id| id.map_or(&[][..], |id| weights.values(id)))
    }
}
