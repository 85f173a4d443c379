//! Cross-attention: a sequence reads another one of the same pass, or sources that are kept.

use longhand_kernel::attention::cross;
use longhand_kernel::{Buffer, Call};

use super::profile::{Cost, Way};
use super::{Backward, Operation, Tape, Var};
use crate::source::Source;

pub(super) struct Cross {
    pub(super) sizes: cross::Sizes,
    pub(super) queries: Var,
    pub(super) keys_values: Var,
    pub(super) saved: Buffer,
    pub(super) y: Var,
}

/// The queries of a layer that read kept sources.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    sizes: cross::Sizes,
    queries: Var,
    /// The layer's place among those of its kind.
    place: usize,
}

impl Tape {
    /// y `[T·B, H·K]`: each of the `queries [T·B, H·K]` reads all real positions of its sequence's
    /// source, whose `keys_values [S·B, 2·G·K]` belong to a span of their own.
    pub(crate) fn cross_attention(
        &mut self,
        sizes: cross::Sizes,
        queries: Var,
        keys_values: Var,
    ) -> Var {
        let span = self.span(queries);
        let sequence = self.spans.sequence(span, false);
        let source = self.spans.sequence(self.span(keys_values), false);
        let width = sizes.heads * sizes.width;
        let mut data = self.cpu.buffers().take(sequence.rows() * width);
        let mut saved = self.cpu.buffers().take(cross::saved_len(sizes, &sequence));
        let inputs = cross::Inputs { q: self.data(queries), kv: self.data(keys_values) };
        let call = Call::new(&self.cpu, sizes, &sequence);
        cross::forward(call, &source, inputs, &mut data, &mut saved);
        let needed = self.needs(queries) || self.needs(keys_values);
        let y = self.push(span, data, width, needed);
        self.record(y, Operation::Cross(Cross { sizes, queries, keys_values, saved, y }));
        y
    }

    /// y `[R, H·K]`: row r of the `queries [R, H·K]` reads source r mod S of those that are kept,
    /// whose keys and values for the layer are at `place`. Without a backward pass.
    pub(crate) fn kept_cross_attention(
        &mut self,
        sizes: cross::Sizes,
        queries: Var,
        source: &Source,
        place: usize,
    ) -> Var {
        let q = self.data(queries);
        let mut data = self.cpu.buffers().take(q.len());
        cross::kept::read(&self.cpu, sizes, source.kept(place), q, &mut data);
        let width = self.width(queries);
        self.timed(Way::Forward, || Cost::unknown(format!("kept cross-attention {width}")));
        self.asked = Some(Asked { sizes, queries, place });
        self.push(self.span(queries), data, width, false)
    }

    /// Writes the weights of the last layer of this pass that read kept sources into `out`, the mean
    /// over its heads: `[R, T]` for sources of up to T positions. False if no layer did.
    pub(crate) fn kept_weights(&self, source: &Source, out: &mut Vec<f32>) -> bool {
        let Some(Asked { sizes, queries, place }) = self.asked else { return false };
        let (q, columns) = (self.data(queries), source.time());
        let rows = q.len() / self.width(queries).max(1);
        out.clear();
        out.resize(rows * columns, 0.0);
        cross::kept::mean_weights(&self.cpu, sizes, source.kept(place), q, columns, out);
        true
    }

    /// Queries of the last layer that read kept sources; 0 if none did.
    pub(crate) fn asked_rows(&self) -> usize {
        self.asked
            .map_or(0, |asked| self.data(asked.queries).len() / self.width(asked.queries).max(1))
    }
}

impl Cross {
    pub(super) fn backward(self, pass: &mut Backward) {
        if let Some(dy) = pass.tape.finish(self.y) {
            let mut dq = pass.tape.open(self.queries);
            let mut dkv = pass.tape.open(self.keys_values);
            let tape = &*pass.tape;
            let inputs =
                cross::Inputs { q: tape.data(self.queries), kv: tape.data(self.keys_values) };
            cross::backward(
                Call::new(&tape.cpu, self.sizes, &tape.sequence(self.queries, false)),
                &tape.sequence(self.keys_values, false),
                inputs,
                &self.saved,
                &dy,
                cross::Gradients { q: dq.as_deref_mut(), kv: dkv.as_deref_mut() },
            );
            pass.tape.close(self.queries, dq);
            pass.tape.close(self.keys_values, dkv);
            pass.tape.cpu.buffers().give(dy);
        }
        pass.tape.cpu.buffers().give(self.saved);
    }
}
