//! Operations that treat each row by itself.

use longhand_kernel::dropout::{self, Mask, Pattern};
use longhand_kernel::linear::{self, Size};
use longhand_kernel::norm::{self, Norm as NormForm};
use longhand_kernel::{Buffer, elementwise, embedding, low_rank, weights as packed};

use super::operand::with_change;
use super::profile::{Cost, Way};
use super::{Ablation, Backward, Mode, Operation, SpanId, Tape, Tokens, Var};
use crate::weights::{LowRank, ParameterId, Weights};

/// Added under the root of every norm.
const EPSILON: f32 = 1e-6;

pub(super) struct Embedding {
    tokens: Tokens,
    mask: Option<Mask>,
    /// The rows of B where the table has a change of low rank, else empty.
    pub(super) hidden: Buffer,
    pub(super) y: Var,
}

pub(super) struct Linear {
    pub(super) parts: [Option<Var>; 2],
    weight: ParameterId,
    bias: Option<ParameterId>,
    /// The inputs of the weight's change of low rank: `parts`, or those with elements dropped.
    pub(super) change_parts: [Option<Var>; 2],
    /// x·Aᵀ where the weight has a change of low rank, else empty.
    pub(super) hidden: Buffer,
    pub(super) y: Var,
}

pub(super) struct Norm {
    form: NormForm,
    x: Var,
    weight: ParameterId,
    bias: Option<ParameterId>,
    pub(super) saved: Buffer,
    pub(super) y: Var,
}

pub(super) struct Add {
    a: Var,
    b: Var,
    pub(super) y: Var,
}

pub(super) struct SwiGlu {
    x: Var,
    pub(super) y: Var,
}

pub(super) struct Gate {
    g: Var,
    a: Var,
    b: Var,
    pub(super) y: Var,
}

pub(super) struct Modulate {
    x: Var,
    g: Var,
    pub(super) y: Var,
}

impl Tape {
    /// y = `W[id]`; tokens are dropped whole in training.
    pub(crate) fn embedding(
        &mut self,
        weights: &Weights,
        weight: ParameterId,
        ids: &[u32],
        span: SpanId,
        share: f32,
    ) -> Var {
        let table = weights.get(weight);
        let width = table.shape[1];
        let mut data = self.cpu.buffers().take(ids.len() * width);
        match table.packed.as_ref().and_then(|packed| packed.rows.as_ref()) {
            Some(rows) => rows.gather(&self.cpu, ids, &mut data),
            None => embedding::gather(&self.cpu, width, ids, &table.data, &mut data),
        }
        let mut hidden = Buffer::default();
        if let Some(LowRank { rank, .. }) = weights.low_rank(weight) {
            hidden = self.cpu.buffers().take(ids.len() * rank);
            with_change(&self.cpu, weights, weight, |change| {
                low_rank::add_rows(&self.cpu, change, ids, &mut hidden, &mut data);
            });
        }
        let mask = self.draw(share);
        if let Some(mask) = mask {
            let mut dropped = self.cpu.buffers().take(data.len());
            dropout::forward(&self.cpu, mask, Pattern::Tokens { ids, width }, &data, &mut dropped);
            self.cpu.buffers().give(std::mem::replace(&mut data, dropped));
        }
        let y = self.push(span, data, width, weights.is_weight_trainable(weight));
        if table.packed.is_some() && self.mode == Mode::Read {
            self.memos.begin(weights, table.shape[0], ids);
            self.values[y.0].of_tokens = true;
        }
        let tokens = Tokens { table: weight, first: self.ids.len(), count: ids.len() };
        self.ids.extend_from_slice(ids);
        // The rows are the table's own.
        let own = mask.is_none() && weights.low_rank(weight).is_none();
        self.values[y.0].tokens = own.then_some(tokens);
        if self.needs(y) {
            self.record_with(
                weights,
                y,
                Operation::Embedding(Embedding { tokens, mask, hidden, y }),
            );
        } else {
            self.cpu.buffers().give(hidden);
            self.timed(Way::Forward, || Cost::unknown(format!("embedding {width}")));
        }
        y
    }

    pub(super) fn ids(&self, tokens: Tokens) -> &[u32] {
        &self.ids[tokens.first..tokens.first + tokens.count]
    }

    /// y = [parts side by side]·Wᵀ + b.
    pub(crate) fn linear(
        &mut self,
        weights: &Weights,
        parts: &[Var],
        weight: ParameterId,
        bias: Option<ParameterId>,
    ) -> Var {
        let size = self.linear_size(weights, parts, weight);
        let mut data = self.cpu.buffers().take(size.rows * size.output);
        let first = &self.values[parts[0].0];
        let bias_values = bias.map(|bias| weights.values(bias));
        match weights.panels(weight) {
            Some(panels) if first.of_tokens && parts.len() == 1 && bias.is_none() => {
                self.memos.look_up(&self.cpu, weight, panels, &first.data);
                if let Some(rows) = self.memos.rows(weight) {
                    packed::gather(&self.cpu, rows, size.output, &mut data);
                }
            }
            Some(panels) => {
                let inputs = &self.inputs(parts)[..parts.len()];
                packed::linear(&self.cpu, size.rows, inputs, panels, bias_values, &mut data);
            }
            None => {
                let values = weights.values(weight);
                let inputs = &self.inputs(parts)[..parts.len()];
                linear::forward(&self.cpu, size, inputs, values, bias_values, &mut data);
            }
        }
        let mut hidden = Buffer::default();
        let mut change_parts = [parts.first().copied(), parts.get(1).copied()];
        if let Some(LowRank { rank, dropout, .. }) = weights.low_rank(weight) {
            change_parts = change_parts.map(|part| Some(self.dropout(part?, dropout, false)));
            let dropped: Vec<Var> = change_parts.into_iter().flatten().collect();
            hidden = self.cpu.buffers().take(size.rows * rank);
            let inputs = &self.inputs(&dropped)[..dropped.len()];
            with_change(&self.cpu, weights, weight, |change| {
                low_rank::add(&self.cpu, change, inputs, &mut hidden, &mut data);
            });
        }
        let needed = parts.iter().any(|&part| self.needs(part))
            || weights.is_weight_trainable(weight)
            || Self::trains(weights, &[bias]);
        let y = self.push(self.span(parts[0]), data, size.output, needed);
        let parts = [parts.first().copied(), parts.get(1).copied()];
        let linear = Linear { parts, weight, bias, change_parts, hidden, y };
        self.record_with(weights, y, Operation::Linear(linear));
        y
    }

    fn linear_size(&self, weights: &Weights, parts: &[Var], weight: ParameterId) -> Size {
        let shape = &weights.get(weight).shape;
        let rows = self.data(parts[0]).len() / self.width(parts[0]);
        Size { rows, input: shape[1], output: shape[0] }
    }

    /// The values of one input or two.
    fn inputs(&self, parts: &[Var]) -> [&[f32]; 2] {
        [0, 1].map(|i| parts.get(i).map_or(&[][..], |&part| self.data(part)))
    }

    /// Root-mean-square norm of each row, scaled by `weight`.
    pub(crate) fn rms_norm(&mut self, weights: &Weights, x: Var, weight: ParameterId) -> Var {
        let form = NormForm::root_mean_square(self.width(x), EPSILON);
        self.norm(weights, x, form, weight, None)
    }

    /// Layer norm of each row, scaled and shifted.
    pub(crate) fn layer_norm(
        &mut self,
        weights: &Weights,
        x: Var,
        weight: ParameterId,
        bias: ParameterId,
    ) -> Var {
        let form = NormForm::layer(self.width(x), EPSILON);
        self.norm(weights, x, form, weight, Some(bias))
    }

    /// Layer norm of each head's part of a row.
    pub(crate) fn head_norm(
        &mut self,
        weights: &Weights,
        x: Var,
        heads: usize,
        weight: ParameterId,
    ) -> Var {
        let form = NormForm::multi_head(heads, self.width(x) / heads, EPSILON);
        self.norm(weights, x, form, weight, None)
    }

    fn norm(
        &mut self,
        weights: &Weights,
        x: Var,
        form: NormForm,
        weight: ParameterId,
        bias: Option<ParameterId>,
    ) -> Var {
        let width = self.width(x);
        let len = self.data(x).len();
        let mut data = self.cpu.buffers().take(len);
        let mut saved = self.cpu.buffers().take(form.saved_len(len / width));
        let bias_values = bias.map(|bias| weights.values(bias));
        let weight_values = Some(weights.values(weight));
        let input = self.data(x);
        norm::forward(&self.cpu, form, input, weight_values, bias_values, &mut data, &mut saved);
        let needed = self.needs(x) || Self::trains(weights, &[Some(weight), bias]);
        let y = self.push(self.span(x), data, width, needed);
        self.values[y.0].of_tokens = self.values[x.0].of_tokens;
        self.record_with(weights, y, Operation::Norm(Norm { form, x, weight, bias, saved, y }));
        y
    }

    /// y = a + b.
    pub(crate) fn add(&mut self, a: Var, b: Var) -> Var {
        let mut data = self.cpu.buffers().take(self.data(a).len());
        elementwise::add(&self.cpu, self.data(a), self.data(b), &mut data);
        let needed = self.needs(a) || self.needs(b);
        let y = self.push(self.span(a), data, self.width(a), needed);
        self.record(y, Operation::Add(Add { a, b, y }));
        y
    }

    /// Adds sines and cosines of each row's place in its document to `x`, in place.
    pub(crate) fn add_sinusoids(&mut self, x: Var, places: &[u64]) {
        let width = self.width(x);
        let value = &mut self.values[x.0];
        value.of_tokens = false;
        value.tokens = None;
        embedding::add_sinusoids(&self.cpu, width, places, &mut value.data);
        self.timed(Way::Forward, || Cost::unknown(format!("sinusoids {width}")));
    }

    /// y = silu(first half) ∘ second half.
    pub(crate) fn swiglu(&mut self, x: Var) -> Var {
        let width = self.width(x) / 2;
        let mut data = self.cpu.buffers().take(self.data(x).len() / 2);
        elementwise::swiglu(&self.cpu, width, self.data(x), &mut data);
        let y = self.push(self.span(x), data, width, self.needs(x));
        self.record(y, Operation::SwiGlu(SwiGlu { x, y }));
        y
    }

    /// y = σ(g) ∘ a + (1 − σ(g)) ∘ b.
    pub(crate) fn gate(&mut self, g: Var, a: Var, b: Var) -> Var {
        let mut data = self.cpu.buffers().take(self.data(a).len());
        elementwise::gate_fusion(&self.cpu, self.data(g), self.data(a), self.data(b), &mut data);
        let needed = self.needs(g) || self.needs(a) || self.needs(b);
        let y = self.push(self.span(a), data, self.width(a), needed);
        self.record(y, Operation::Gate(Gate { g, a, b, y }));
        y
    }

    /// y = σ(g) ∘ x. With x for g it is silu(x).
    pub(crate) fn modulate(&mut self, x: Var, g: Var) -> Var {
        let mut data = self.cpu.buffers().take(self.data(x).len());
        elementwise::sigmoid_gate(&self.cpu, self.data(g), self.data(x), &mut data);
        let needed = self.needs(x) || self.needs(g);
        let y = self.push(self.span(x), data, self.width(x), needed);
        self.record(y, Operation::Modulate(Modulate { x, g, y }));
        y
    }

    /// Sets a memory's output to zero where that memory is taken out.
    pub(crate) fn silence_if(&mut self, x: Var, memory: Ablation) {
        if self.ablation == Some(memory) {
            self.values[x.0].tokens = None;
            self.values[x.0].data.fill(0.0);
        }
    }
}

impl Embedding {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(mut dy) = pass.tape.finish(self.y) else {
            pass.tape.cpu.buffers().give(self.hidden);
            return;
        };
        let table = self.tokens.table;
        let width = pass.tape.width(self.y);
        if let Some(mask) = self.mask {
            let mut kept = pass.tape.cpu.zeros(dy.len());
            let pattern = Pattern::Tokens { ids: pass.tape.ids(self.tokens), width };
            dropout::backward(&pass.tape.cpu, mask, pattern, &dy, &mut kept);
            pass.tape.cpu.buffers().give(std::mem::replace(&mut dy, kept));
        }
        if let Some(mut gradient) = pass.gradients.take(table) {
            let ids = pass.tape.ids(self.tokens);
            embedding::scatter_add(&pass.tape.cpu, width, ids, &dy, &mut gradient);
            pass.gradients.put(table, Some(gradient));
        }
        pass.factors(table, |tape, change, wanted| {
            let ids = tape.ids(self.tokens);
            low_rank::add_rows_backward(&tape.cpu, change, ids, &self.hidden, &dy, wanted);
        });
        pass.tape.cpu.buffers().give(self.hidden);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Linear {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else {
            pass.tape.cpu.buffers().give(self.hidden);
            return;
        };
        let [first, second] = self.parts;
        let mut dx = self.parts.map(|part| part.and_then(|part| pass.tape.open(part)));
        let mut weight = pass.gradients.take(self.weight);
        let mut bias = self.bias.and_then(|bias| pass.gradients.take(bias));
        let parts: &[Var] = match (&first, second) {
            (Some(first), Some(second)) => &[*first, second],
            (first, _) => first.as_slice(),
        };
        let size = pass.tape.linear_size(pass.weights, parts, self.weight);
        linear::backward(
            &pass.tape.cpu,
            size,
            &pass.tape.inputs(parts)[..parts.len()],
            pass.weights.values(self.weight),
            &dy,
            linear::Gradients {
                inputs: &mut dx.each_mut().map(Option::as_deref_mut),
                weight: weight.as_deref_mut(),
                bias: bias.as_deref_mut(),
            },
        );
        pass.gradients.put(self.weight, weight);
        if let Some(id) = self.bias {
            pass.gradients.put(id, bias);
        }
        for (part, dx) in self.parts.into_iter().zip(dx) {
            if let Some(part) = part {
                pass.tape.close(part, dx);
            }
        }
        self.change_backward(pass, &dy);
        pass.tape.cpu.buffers().give(self.hidden);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Linear {
    /// The part of the backward pass that goes through the change of low rank, if there is one.
    fn change_backward(&self, pass: &mut Backward, dy: &[f32]) {
        if pass.weights.low_rank(self.weight).is_none() {
            return;
        }
        let [first, second] = self.change_parts;
        let parts: &[Var] = match (&first, second) {
            (Some(first), Some(second)) => &[*first, second],
            (first, _) => first.as_slice(),
        };
        let mut dx = self.change_parts.map(|part| pass.tape.open(part?));
        pass.factors(self.weight, |tape, change, wanted| {
            let inputs = &tape.inputs(parts)[..parts.len()];
            let d_inputs = &mut dx.each_mut().map(Option::as_deref_mut)[..parts.len()];
            low_rank::add_backward(&tape.cpu, change, inputs, &self.hidden, dy, d_inputs, wanted);
        });
        for (part, dx) in self.change_parts.into_iter().zip(dx) {
            if let Some(part) = part {
                pass.tape.close(part, dx);
            }
        }
    }
}

impl Norm {
    pub(super) fn backward(self, pass: &mut Backward) {
        if let Some(dy) = pass.tape.finish(self.y) {
            let mut dx = pass.tape.open(self.x);
            let mut weight = pass.gradients.take(self.weight);
            let mut bias = self.bias.and_then(|bias| pass.gradients.take(bias));
            norm::backward(
                &pass.tape.cpu,
                self.form,
                pass.tape.data(self.x),
                Some(pass.weights.values(self.weight)),
                &self.saved,
                &dy,
                norm::Gradients {
                    x: dx.as_deref_mut(),
                    weight: weight.as_deref_mut(),
                    bias: bias.as_deref_mut(),
                },
            );
            pass.gradients.put(self.weight, weight);
            if let Some(id) = self.bias {
                pass.gradients.put(id, bias);
            }
            pass.tape.close(self.x, dx);
            pass.tape.cpu.buffers().give(dy);
        }
        pass.tape.cpu.buffers().give(self.saved);
    }
}

impl Add {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        for part in [self.a, self.b] {
            let mut dx = pass.tape.open(part);
            if let Some(dx) = &mut dx {
                elementwise::accumulate(&pass.tape.cpu, &dy, dx);
            }
            pass.tape.close(part, dx);
        }
        pass.tape.cpu.buffers().give(dy);
    }
}

impl SwiGlu {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let mut dx = pass.tape.open(self.x);
        if let Some(dx) = &mut dx {
            let width = pass.tape.width(self.y);
            elementwise::swiglu_backward(&pass.tape.cpu, width, pass.tape.data(self.x), &dy, dx);
        }
        pass.tape.close(self.x, dx);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Gate {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let (g, a, b) = (self.g, self.a, self.b);
        let (mut dg, mut da, mut db) = (pass.tape.open(g), pass.tape.open(a), pass.tape.open(b));
        let tape = &*pass.tape;
        elementwise::gate_fusion_backward(
            &tape.cpu,
            [tape.data(g), tape.data(a), tape.data(b)],
            &dy,
            dg.as_deref_mut(),
            da.as_deref_mut(),
            db.as_deref_mut(),
        );
        pass.tape.close(g, dg);
        pass.tape.close(a, da);
        pass.tape.close(b, db);
        pass.tape.cpu.buffers().give(dy);
    }
}

impl Modulate {
    pub(super) fn backward(self, pass: &mut Backward) {
        let Some(dy) = pass.tape.finish(self.y) else { return };
        let (mut dx, mut dg) = (pass.tape.open(self.x), pass.tape.open(self.g));
        let tape = &*pass.tape;
        elementwise::sigmoid_gate_backward(
            &tape.cpu,
            tape.data(self.g),
            tape.data(self.x),
            &dy,
            dg.as_deref_mut(),
            dx.as_deref_mut(),
        );
        if self.x.0 == self.g.0
            && let (Some(dx), Some(dg)) = (&mut dx, dg.take())
        {
            elementwise::accumulate(&pass.tape.cpu, &dg, dx);
            pass.tape.cpu.buffers().give(dg);
        }
        pass.tape.close(self.x, dx);
        pass.tape.close(self.g, dg);
        pass.tape.cpu.buffers().give(dy);
    }
}
