//! The memories: each reads a sequence after the state before it, and advances the state.

use longhand_kernel::recurrence::{Change, Changes, Input, WeightGradients};
use longhand_kernel::{Buffer, Call, Cpu, attention, mlstm, tanh_memory};

use super::cell::{LongCell, Reading, States};
use super::operand::Operand;
use super::{Backward, Operation, Recorded, Tape, Tokens, Var};
use crate::state::{State, StateId};
use crate::weights::{ParameterId, Weights};

pub(super) struct Attention {
    pub(super) sizes: attention::Sizes,
    pub(super) qkv: Var,
    pub(super) saved: Buffer,
    pub(super) y: Var,
}

pub(super) struct Tanh {
    x: Var,
    pub(super) before: Buffer,
    pub(super) y: Var,
}

pub(super) struct Recurrence {
    pub(super) cell: LongCell,
    pub(super) x: Var,
    /// The embedding that receives the gradient of the rows directly, if the rows are its own.
    tokens: Option<Tokens>,
    before: States,
    saved: Buffer,
    /// `weight_ih`, which multiplies the input.
    input: Operand,
    /// `weight_hh`, which multiplies the hidden state.
    recurrent: Operand,
    pub(super) y: Var,
}

/// A matrix memory: what its operation needs besides its inputs.
#[derive(Clone, Copy)]
pub(crate) struct MatrixMemory {
    /// H: heads of equal width.
    pub(crate) heads: usize,
    /// The input gate's weights, whose name begins with the memory's.
    pub(crate) gate: ParameterId,
    /// Reads from the last position to the first.
    pub(crate) reverse: bool,
    /// Cell state C, normaliser n and stabiliser m. Without them it begins empty and carries
    /// nothing to the next pass.
    pub(crate) state: Option<[StateId; 3]>,
}

pub(super) struct Mlstm {
    pub(super) sizes: mlstm::Sizes,
    memory: MatrixMemory,
    inputs: [Var; 5],
    before: [Buffer; 3],
    saved: Buffer,
    pub(super) y: Var,
}

/// The gates of a long memory over a recorded pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// Which memory, as `blocks.0.lstm`.
    pub memory: String,
    /// Gates at each position: N of an LSTM or sLSTM, H of an mLSTM.
    pub width: usize,
    /// `[R, width]`: input gates at the R positions that are no padding. Exponential gates have no
    /// upper end: an sLSTM's are stabilised, and an mLSTM's are replaced by the logistic function
    /// of the same preactivations.
    pub input: Vec<f32>,
    /// `[R, width]`: forget gates, from 0 (forget) to 1 (keep).
    pub forget: Vec<f32>,
}

/// Counters of a KV cache while it advances, and the rotary angles of the positions, which all
/// layers of a step share.
#[derive(Default)]
pub(super) struct Rings {
    positions: Vec<u64>,
    filled: Vec<u32>,
    angles: attention::Angles,
}

impl Tape {
    /// Attention over `qkv`, a row of queries, keys and values, and over the KV cache, which it
    /// advances. Without a cache it sees the rows of the span alone.
    pub(crate) fn attention(
        &mut self,
        sizes: attention::Sizes,
        qkv: Var,
        state: &mut State,
        cache: Option<[StateId; 2]>,
    ) -> Var {
        let span = self.span(qkv);
        let sequence = self.spans.sequence(span, false);
        let width = sizes.heads * sizes.width;
        let mut data = self.cpu.buffers().take(sequence.rows() * width);
        let step = cache.is_some() && sequence.time == 1 && !self.records();
        let saved_len = if step { 0 } else { attention::saved_len(sizes, &sequence) };
        let mut saved = self.cpu.buffers().take(saved_len);
        let input = &self.values[qkv.0].data;
        match cache {
            Some(ids) => {
                let [mut keys, mut values] = ids.map(|id| state.take(id));
                // Attention advances copies: every block begins at the state's own counters.
                let Rings { positions, filled, angles } = &mut self.rings;
                positions.clear();
                positions.extend_from_slice(&state.positions);
                let window = sizes.window() as u64;
                filled.clear();
                filled.extend(state.since_reset.iter().map(|&since| since.min(window) as u32));
                let carried = attention::State {
                    keys: &mut keys,
                    values: &mut values,
                    rows: state.lent(),
                    position: positions,
                    filled,
                };
                let call = Call::new(&self.cpu, sizes, &sequence);
                if step {
                    attention::step(call, input, carried, angles, &mut data);
                } else {
                    attention::forward(call, input, Some(carried), &mut data, &mut saved);
                }
                state.put(ids[0], keys);
                state.put(ids[1], values);
            }
            None => {
                let call = Call::new(&self.cpu, sizes, &sequence);
                attention::forward(call, input, None, &mut data, &mut saved);
            }
        }
        let y = self.push(span, data, width, self.needs(qkv));
        self.record(y, Operation::Attention(Attention { sizes, qkv, saved, y }));
        y
    }

    /// `y[t] = tanh(x[t] + y[t−1])`.
    pub(crate) fn tanh_memory(&mut self, x: Var, state: &mut State, hidden: StateId) -> Var {
        let (span, width) = (self.span(x), self.width(x));
        let sequence = self.spans.sequence(span, false);
        let mut data = self.cpu.buffers().take(sequence.rows() * width);
        let before = state.take(hidden);
        let mut after = self.cpu.buffers().take_whole(before.len());
        let input = &self.values[x.0].data;
        let call = Call::new(&self.cpu, width, &sequence);
        tanh_memory::forward(call, input, &before, &mut data, &mut after);
        state.put(hidden, after);
        let y = self.push(span, data, width, self.needs(x));
        self.record(y, Operation::Tanh(Tanh { x, before, y }));
        y
    }

    /// A recurrence over `x`. `carried` are its hidden state and cell states; without them it
    /// begins empty and carries nothing. In training, `weight_drop` is the share of the recurrent
    /// weights that is dropped for the whole pass.
    pub(crate) fn recurrence(
        &mut self,
        weights: &Weights,
        cell: LongCell,
        x: Var,
        state: &mut State,
        carried: &[StateId],
        weight_drop: f32,
    ) -> Var {
        let hidden = cell.hidden;
        let span = self.span(x);
        let input = self.weight(weights, cell.input);
        let recurrent = self.weight(weights, cell.recurrent);
        let recurrent = self.drop_weight(weights, recurrent, weight_drop, span);
        let sequence = self.spans.sequence(span, cell.reverse);
        let len = sequence.batch * hidden;
        let mut before = States::default();
        let mut after = States::default();
        for i in 0..cell.states() {
            before[i] = match carried.get(i) {
                Some(&id) => state.take(id),
                None => self.cpu.zeros(len),
            };
            after[i] = self.cpu.buffers().take_whole(len);
        }
        let width = self.width(x);
        let mut data = self.cpu.buffers().take(sequence.rows() * hidden);
        let records = self.records();
        let saved_len = if records { cell.saved_len(width, &sequence) } else { 0 };
        let mut saved = self.cpu.buffers().take(saved_len);
        let panels = weights.panels(cell.input).filter(|_| self.values[x.0].of_tokens);
        if let Some(panels) = panels {
            self.memos.look_up(&self.cpu, cell.input, panels, &self.values[x.0].data);
        }
        let tokens = self.tokens_of(weights, x);
        let matrices = [input, recurrent].map(|operand| self.operand(weights, operand));
        let read = Reading {
            cpu: &self.cpu,
            sequence,
            weights,
            input: &matrices[0],
            recurrent: &matrices[1],
            width,
            x: self.recurrence_input(weights, x, tokens),
            before: &before,
            projected: panels.and_then(|_| self.memos.rows(cell.input)),
        };
        cell.forward(&read, &mut data, &mut after, records.then_some(&mut saved));
        matrices.into_iter().for_each(|matrix| matrix.release(&self.cpu));
        for (i, after) in after.into_iter().take(cell.states()).enumerate() {
            match carried.get(i) {
                Some(&id) => state.put(id, after),
                None => self.cpu.buffers().give(after),
            }
        }
        let needed = self.needs(x)
            || [input, recurrent].into_iter().any(|weight| self.operand_needs(weights, weight))
            || Self::trains(weights, &cell.biases);
        let y = self.push(span, data, hidden, needed);
        let operation = Recurrence { cell, x, tokens, before, saved, input, recurrent, y };
        self.record_with(weights, y, Operation::Recurrence(operation));
        y
    }

    /// The tokens of `x`, if `x` is an embedding whose table has so few rows that multiplying each
    /// of them once is less work than multiplying every row of `x`.
    fn tokens_of(&self, weights: &Weights, x: Var) -> Option<Tokens> {
        let few = |tokens: &Tokens| {
            let table = weights.get(tokens.table);
            table.packed.is_none() && 2 * table.shape[0] <= tokens.count
        };
        self.values[x.0].tokens.filter(few)
    }

    fn recurrence_input<'a>(
        &'a self,
        weights: &'a Weights,
        x: Var,
        tokens: Option<Tokens>,
    ) -> Input<'a> {
        match tokens {
            Some(tokens) => {
                Input::Tokens { ids: self.ids(tokens), table: weights.values(tokens.table) }
            }
            None => Input::Rows(self.data(x)),
        }
    }

    /// Matrix memory over queries, keys and values, and the preactivations of its two gates.
    pub(crate) fn mlstm(
        &mut self,
        weights: &Weights,
        memory: MatrixMemory,
        [q, k, v]: [Var; 3],
        [input_gate, forget_gate]: [Var; 2],
        state: &mut State,
    ) -> Var {
        let MatrixMemory { heads, reverse, state: ids, .. } = memory;
        let span = self.span(q);
        let sequence = self.spans.sequence(span, reverse);
        let hidden = self.width(q);
        let sizes = mlstm::Sizes { heads, width: hidden / heads };
        let mut data = self.cpu.buffers().take(sequence.rows() * hidden);
        let mut saved = self.cpu.buffers().take(mlstm::saved_len(sizes, &sequence));
        let lens = [hidden * sizes.width, hidden, heads].map(|len| len * sequence.batch);
        let mut after = lens.map(|len| self.cpu.buffers().take_whole(len));
        let before = match ids {
            Some(ids) => ids.map(|id| state.take(id)),
            None => lens.map(|len| self.cpu.zeros(len)),
        };
        let inputs = [q, k, v, input_gate, forget_gate];
        let [c, n, m] = &mut after;
        mlstm::forward(
            Call::new(&self.cpu, sizes, &sequence),
            self.mlstm_inputs(inputs),
            mlstm_state(&before),
            &mut data,
            mlstm::StateMut { c, n, m },
            &mut saved,
        );
        match ids {
            Some(ids) => ids.into_iter().zip(after).for_each(|(id, after)| state.put(id, after)),
            None => after.into_iter().for_each(|buffer| self.cpu.buffers().give(buffer)),
        }
        let needed = inputs.iter().any(|&input| self.needs(input));
        let y = self.push(span, data, hidden, needed);
        let operation = Mlstm { sizes, memory, inputs, before, saved, y };
        self.record_with(weights, y, Operation::Mlstm(operation));
        y
    }

    /// The gates of every long memory of a model that has some, in the order of the blocks. The
    /// pass must have been recorded, and its backward pass not run yet.
    pub fn gates(&self, weights: &Weights) -> Vec<Gates> {
        let name = |parameter: ParameterId, part: &str| {
            let name = &weights.get(parameter).name;
            name.split(part).next().unwrap_or(name).trim_end_matches('.').to_string()
        };
        let read = |operation: &Operation| match operation {
            Operation::Recurrence(op) => {
                let sequence = self.sequence(op.y, op.cell.reverse);
                let width = self.width(op.x);
                let [input, forget] = op.cell.gates(&self.cpu, &sequence, width, &op.saved)?;
                let memory = name(op.cell.recurrent, "weight_hh");
                Some(Gates { memory, width: op.cell.hidden, input, forget })
            }
            Operation::Mlstm(op) => {
                let sequence = self.sequence(op.y, op.memory.reverse);
                let squashed = |gate: Var| {
                    let mut out = vec![0.0; sequence.real_rows().count() * op.sizes.heads];
                    mlstm::gate(&self.cpu, op.sizes, &sequence, self.data(gate), &mut out);
                    out
                };
                let [.., input, forget] = op.inputs;
                let (input, forget) = (squashed(input), squashed(forget));
                let memory = name(op.memory.gate, "igate_preact");
                Some(Gates { memory, width: op.sizes.heads, input, forget })
            }
            _ => None,
        };
        let own = |recorded: &&Recorded| recorded.weights == Some(weights.version());
        let own = self.operations.iter().filter(own);
        own.filter_map(|recorded| read(&recorded.operation)).collect()
    }

    fn mlstm_inputs(&self, [q, k, v, input_gate, forget_gate]: [Var; 5]) -> mlstm::Inputs<'_> {
        mlstm::Inputs {
            q: self.data(q),
            k: self.data(k),
            v: self.data(v),
            input_gate: self.data(input_gate),
            forget_gate: self.data(forget_gate),
        }
    }
}

fn mlstm_state([c, n, m]: &[Buffer; 3]) -> mlstm::State<'_> {
    mlstm::State { c, n, m }
}

impl Attention {
    pub(super) fn backward(self, pass: &mut Backward) {
        if let Some(dy) = pass.tape.finish(self.y) {
            let mut d_qkv = pass.tape.open(self.qkv);
            if let Some(d_qkv) = &mut d_qkv {
                let sequence = pass.tape.sequence(self.y, false);
                let call = Call::new(&pass.tape.cpu, self.sizes, &sequence);
                let qkv = pass.tape.data(self.qkv);
                attention::backward(call, qkv, &self.saved, &dy, d_qkv, None);
            }
            pass.tape.close(self.qkv, d_qkv);
            pass.tape.cpu.buffers().give(dy);
        }
        pass.tape.cpu.buffers().give(self.saved);
    }
}

impl Tanh {
    pub(super) fn backward(self, pass: &mut Backward) {
        if let Some(dy) = pass.tape.finish(self.y) {
            let mut dx = pass.tape.open(self.x);
            let tape = &*pass.tape;
            let sequence = tape.sequence(self.y, false);
            let width = tape.width(self.x);
            let y = tape.data(self.y);
            let dx_values = dx.as_deref_mut();
            let call = Call::new(&tape.cpu, width, &sequence);
            tanh_memory::backward(call, y, &dy, None, dx_values, None);
            pass.tape.close(self.x, dx);
            pass.tape.cpu.buffers().give(dy);
        }
        pass.tape.cpu.buffers().give(self.before);
    }
}

impl Recurrence {
    pub(super) fn backward(mut self, pass: &mut Backward) {
        if let Some(dy) = pass.tape.finish(self.y) {
            self.flow(pass, dy);
        }
        self.release(&pass.tape.cpu);
    }

    fn flow(&mut self, pass: &mut Backward, dy: Buffer) {
        let (cell, mut saved) = (self.cell, std::mem::take(&mut self.saved));
        let (tape, weights) = (&*pass.tape, pass.weights);
        let matrix = tape.operand(weights, self.recurrent);
        let read = self.reading(weights, tape, [&[], &matrix]);
        cell.through_time(&read, &mut saved, &dy, pass.gradients);
        matrix.release(&tape.cpu);
        // The next gradients use its memory again.
        tape.cpu.buffers().give(dy);
        self.change(pass, &mut saved);
        let mut dx = match self.tokens {
            Some(tokens) => pass.gradients.take(tokens.table),
            None => pass.tape.open(self.x),
        };
        let mut d_input = pass.open_operand(self.input);
        let mut d_recurrent = pass.open_operand(self.recurrent);
        let tape = &*pass.tape;
        let matrix = tape.operand(weights, self.input);
        let (read, y) = (self.reading(weights, tape, [&matrix, &[]]), tape.data(self.y));
        let wanted = WeightGradients {
            input: d_input.as_deref_mut(),
            recurrent: d_recurrent.as_deref_mut(),
            biases: [None, None],
        };
        cell.products(&read, y, &mut saved, dx.as_deref_mut(), wanted);
        matrix.release(&tape.cpu);
        pass.close_operand(self.input, d_input);
        pass.close_operand(self.recurrent, d_recurrent);
        match self.tokens {
            Some(tokens) => pass.gradients.put(tokens.table, dx),
            None => pass.tape.close(self.x, dx),
        }
        self.saved = saved;
    }

    /// The gradients of the matrices' changes of low rank, where they have some.
    fn change(&self, pass: &mut Backward, saved: &mut [f32]) {
        let weights = pass.weights;
        let mut flow = |tape: &Tape, changes: Changes| {
            let (read, y) = (self.reading(weights, tape, [&[], &[]]), tape.data(self.y));
            self.cell.factors(&read, y, saved, changes);
        };
        pass.change(self.input, |tape, change, wanted| {
            flow(tape, Changes { input: Some(Change { change, wanted }), recurrent: None });
        });
        pass.change(self.recurrent, |tape, change, wanted| {
            flow(tape, Changes { input: None, recurrent: Some(Change { change, wanted }) });
        });
    }

    /// The inputs of the forward pass, with the values of the two matrices where they are read.
    fn reading<'a>(
        &'a self,
        weights: &'a Weights,
        tape: &'a Tape,
        [input, recurrent]: [&'a [f32]; 2],
    ) -> Reading<'a> {
        Reading {
            cpu: &tape.cpu,
            sequence: tape.sequence(self.y, self.cell.reverse),
            weights,
            input,
            recurrent,
            width: tape.width(self.x),
            x: tape.recurrence_input(weights, self.x, self.tokens),
            before: &self.before,
            projected: None,
        }
    }

    pub(super) fn release(self, cpu: &Cpu) {
        cpu.buffers().give(self.saved);
        self.before.into_iter().for_each(|buffer| cpu.buffers().give(buffer));
    }
}

impl Mlstm {
    pub(super) fn backward(self, pass: &mut Backward) {
        if let Some(dy) = pass.tape.finish(self.y) {
            let [mut q, mut k, mut v, mut i, mut f] = self.inputs.map(|x| pass.tape.open(x));
            let tape = &*pass.tape;
            mlstm::backward(
                Call::new(&tape.cpu, self.sizes, &tape.sequence(self.y, self.memory.reverse)),
                tape.mlstm_inputs(self.inputs),
                mlstm_state(&self.before),
                mlstm::Kept { y: tape.data(self.y), saved: &self.saved },
                &dy,
                None,
                mlstm::Gradients {
                    q: q.as_deref_mut(),
                    k: k.as_deref_mut(),
                    v: v.as_deref_mut(),
                    input_gate: i.as_deref_mut(),
                    forget_gate: f.as_deref_mut(),
                    state: None,
                },
            );
            for (x, gradient) in self.inputs.into_iter().zip([q, k, v, i, f]) {
                pass.tape.close(x, gradient);
            }
            pass.tape.cpu.buffers().give(dy);
        }
        self.release(&pass.tape.cpu);
    }

    pub(super) fn release(self, cpu: &Cpu) {
        cpu.buffers().give(self.saved);
        self.before.into_iter().for_each(|buffer| cpu.buffers().give(buffer));
    }
}
