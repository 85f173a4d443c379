//! A tape of coarse operations: what a forward pass computed, so that a backward pass can follow.
//!
//! [`Tape::pass`] begins a pass, in which any number of models read any number of sequences. Each
//! sequence opens a span of the tape; each operation appends its result as a [`Var`], which belongs
//! to a span. [`Mode::Read`] records nothing and serves decoding. Otherwise [`Tape::backward`] adds
//! the gradient of every trainable parameter to [`Gradients`]. The next pass returns all buffers to
//! a free list, so that a loop of equal passes allocates in its first round only.

mod cell;
mod convolution;
mod cross;
mod dense;
mod dropout;
mod loss;
mod memory;
mod memos;
mod operand;
mod perturb;
mod pointer;
mod profile;
mod reduce;
mod reverse;
mod span;

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use longhand_kernel::weights::Format;
use longhand_kernel::{Buffer, Cpu, Sequence};

use crate::error::ModelError;
use crate::weights::{Gradients, ParameterId, Weights};

pub(crate) use cell::LongCell;
pub(crate) use loss::{Crf, Output, best_tags, crf_loss_of, tag_probabilities};
pub use loss::{IGNORE, LossOptions, Sampler, Total};
pub use memory::Gates;
pub(crate) use memory::MatrixMemory;
pub(crate) use perturb::Embedded;
pub(crate) use pointer::{PointerKeys, PointerQueries};
use profile::Way;
pub use profile::{Entry, Profile};
pub(crate) use reverse::reversed_row;
pub(crate) use span::SpanId;
use span::Spans;

/// The purpose of a pass, which decides on recording and dropout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing recorded, nothing dropped: decoding and evaluation.
    Read,
    /// Recorded, nothing dropped: gradients of the model as it is.
    Record,
    /// Recorded, with dropout drawn from a seed: training.
    Train {
        /// Seed of the pass's dropout masks.
        seed: u64,
    },
}

/// A memory that gives zeros in every block, to see what it contributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ablation {
    /// The working memories: attention and tanh.
    Working,
    /// The long memories: LSTM and its relatives.
    Long,
}

/// A value on the tape: rows of one width, in the time-major order of the span it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Var(usize);

/// A running pass: several sequences, of one model or of several, on one tape. It gives all that
/// its [`Tape`] has, and it ends when the tape begins the next pass.
pub struct Pass<'t> {
    tape: &'t mut Tape,
}

/// The values and operations of one pass, and the memory that passes share.
pub struct Tape {
    cpu: Arc<Cpu>,
    values: Vec<Value>,
    operations: Vec<Recorded>,
    mode: Mode,
    ablation: Option<Ablation>,
    draws: u64,
    spans: Spans,
    memos: memos::Memos,
    perturbation: perturb::Perturbation,
    /// The ids of all embeddings of the pass, one embedding after another.
    ids: Vec<u32>,
    /// The segments of all values of the pass that are made of them.
    segments: Vec<(u32, u32)>,
    /// The queries that last read kept sources.
    asked: Option<cross::Asked>,
    /// The pointers of the pass, by the values whose answers they are mixed with.
    pointed: Vec<pointer::Pointed>,
    /// The form of packed weights whose gradient the pass was asked for (none).
    packed: Option<Format>,
    /// Buffers that attention uses while it advances a KV cache.
    rings: memory::Rings,
    /// Time by operation, if it is measured. A cell, because reading logits borrows the tape.
    profile: RefCell<Option<Profile>>,
}

struct Value {
    data: Buffer,
    width: usize,
    span: SpanId,
    needs_gradient: bool,
    /// Whether each row depends on its token alone, and not on other positions.
    of_tokens: bool,
    /// Empty until the backward pass reaches it.
    gradient: Buffer,
    /// The table and the ids, if the rows are an embedding's own rows.
    tokens: Option<Tokens>,
}

/// Which rows of which embedding: `count` ids of the pass from `first` on.
#[derive(Clone, Copy)]
struct Tokens {
    table: ParameterId,
    first: usize,
    count: usize,
}

/// An operation that the backward pass runs.
struct Recorded {
    /// [`Weights::version`] of the weights whose parameters it reads, if it reads any.
    weights: Option<u64>,
    operation: Operation,
}

enum Operation {
    Embedding(dense::Embedding),
    Linear(dense::Linear),
    Norm(dense::Norm),
    Add(dense::Add),
    SwiGlu(dense::SwiGlu),
    Gate(dense::Gate),
    Modulate(dense::Modulate),
    Perturb(perturb::Perturb),
    Dropout(dropout::Dropout),
    Attention(memory::Attention),
    Tanh(memory::Tanh),
    Recurrence(memory::Recurrence),
    Mlstm(memory::Mlstm),
    Cross(cross::Cross),
    Pointer(pointer::Pointer),
    Dropped(operand::Dropped),
    Unfold(convolution::Unfold),
    Relu(convolution::Relu),
    Join(reduce::Join),
    Pool(reduce::Pool),
    Segment(reduce::Segment),
    Reverse(reverse::Reverse),
}

/// A running backward pass.
struct Backward<'a> {
    tape: &'a mut Tape,
    weights: &'a Weights,
    gradients: &'a mut Gradients,
}

impl Tape {
    /// An empty tape that computes on `cpu`.
    pub fn new(cpu: Arc<Cpu>) -> Self {
        Self {
            cpu,
            values: Vec::new(),
            operations: Vec::new(),
            mode: Mode::Read,
            ablation: None,
            draws: 0,
            spans: Spans::default(),
            memos: memos::Memos::default(),
            perturbation: perturb::Perturbation::default(),
            ids: Vec::new(),
            segments: Vec::new(),
            asked: None,
            pointed: Vec::new(),
            packed: None,
            rings: memory::Rings::default(),
            profile: RefCell::new(None),
        }
    }

    /// The processor it computes on.
    pub fn cpu(&self) -> &Arc<Cpu> {
        &self.cpu
    }

    /// Silences one kind of memory in every block from now on, or none.
    pub fn ablate(&mut self, ablation: Option<Ablation>) {
        self.ablation = ablation;
    }

    /// Forgets the last pass and begins another one. Each [`Model::forward`](crate::Model::forward)
    /// then reads one more sequence in it.
    pub fn pass(&mut self, mode: Mode) -> Pass<'_> {
        self.begin(mode);
        Pass { tape: self }
    }

    /// Forgets the last pass.
    fn begin(&mut self, mode: Mode) {
        self.clear();
        self.mode = mode;
        self.draws = 0;
        if let Some(profile) = self.profile() {
            profile.lap("beginning a pass");
        }
    }

    /// The values of a result, row after row.
    pub fn data(&self, var: Var) -> &[f32] {
        &self.values[var.0].data
    }

    /// Width of a row.
    pub fn width(&self, var: Var) -> usize {
        self.values[var.0].width
    }

    /// Runs the backward pass of a pass in which one model was recorded, and
    /// adds to its `gradients`.
    ///
    /// # Errors
    /// The errors of [`Tape::backward_all`] for one model.
    pub fn backward(
        &mut self,
        weights: &Weights,
        gradients: &mut Gradients,
    ) -> Result<(), ModelError> {
        self.backward_all(&mut [(weights, gradients)])
    }

    /// As [`Tape::backward`], for all the models that were recorded in the pass.
    ///
    /// # Errors
    /// [`ModelError::Backward`] if an operation read weights that are not among `models`, and
    /// [`ModelError::Frozen`] if a gradient of packed weights was asked for;
    /// nothing was added then.
    pub fn backward_all(
        &mut self,
        models: &mut [(&Weights, &mut Gradients)],
    ) -> Result<(), ModelError> {
        if let Some(format) = self.packed {
            return Err(ModelError::Frozen(format.name()));
        }
        let index = |version: Option<u64>, models: &[(&Weights, &mut Gradients)]| match version {
            Some(version) => models.iter().position(|(weights, _)| weights.version() == version),
            // It reads no parameters: any model's will do.
            None => (!models.is_empty()).then_some(0),
        };
        if self.operations.iter().any(|recorded| index(recorded.weights, models).is_none()) {
            return Err(ModelError::Backward);
        }
        let mut operations = std::mem::take(&mut self.operations);
        while let Some(Recorded { weights, operation }) = operations.pop() {
            let Some(index) = index(weights, models) else { continue };
            let (weights, gradients) = &mut models[index];
            self.run_back(operation, weights, gradients);
        }
        for (_, gradients) in models {
            gradients.complete();
        }
        // Keeps the list's memory for the next pass.
        self.operations = operations;
        Ok(())
    }

    fn run_back(&mut self, operation: Operation, weights: &Weights, gradients: &mut Gradients) {
        let mut pass = Backward { tape: self, weights, gradients };
        let cost = pass.tape.profile.get_mut().is_some().then(|| pass.tape.cost(&operation));
        match operation {
            Operation::Embedding(op) => op.backward(&mut pass),
            Operation::Linear(op) => op.backward(&mut pass),
            Operation::Norm(op) => op.backward(&mut pass),
            Operation::Add(op) => op.backward(&mut pass),
            Operation::SwiGlu(op) => op.backward(&mut pass),
            Operation::Gate(op) => op.backward(&mut pass),
            Operation::Modulate(op) => op.backward(&mut pass),
            Operation::Perturb(op) => op.backward(&mut pass),
            Operation::Dropout(op) => op.backward(&mut pass),
            Operation::Attention(op) => op.backward(&mut pass),
            Operation::Tanh(op) => op.backward(&mut pass),
            Operation::Recurrence(op) => op.backward(&mut pass),
            Operation::Mlstm(op) => op.backward(&mut pass),
            Operation::Cross(op) => op.backward(&mut pass),
            Operation::Pointer(op) => op.backward(&mut pass),
            Operation::Dropped(op) => op.backward(&mut pass),
            Operation::Unfold(op) => op.backward(&mut pass),
            Operation::Relu(op) => op.backward(&mut pass),
            Operation::Join(op) => op.backward(&mut pass),
            Operation::Pool(op) => op.backward(&mut pass),
            Operation::Segment(op) => op.backward(&mut pass),
            Operation::Reverse(op) => op.backward(&mut pass),
        }
        if let Some(cost) = cost {
            pass.tape.timed(Way::Backward, || cost);
        }
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.segments.clear();
        self.asked = None;
        self.pointed.clear();
        self.packed = None;
        self.spans.clear();
        self.perturbation.clear(&self.cpu);
        for recorded in self.operations.drain(..) {
            recorded.operation.release(&self.cpu);
        }
        for value in self.values.drain(..) {
            self.cpu.buffers().give(value.data);
            self.cpu.buffers().give(value.gradient);
        }
    }

    /// Whether the pass is recorded.
    pub(crate) fn records(&self) -> bool {
        self.mode != Mode::Read
    }

    /// Appends a result to a span.
    fn push(&mut self, span: SpanId, data: Buffer, width: usize, needs_gradient: bool) -> Var {
        let needs_gradient = needs_gradient && self.records();
        let (gradient, tokens) = (Buffer::default(), None);
        let value = Value { data, width, span, needs_gradient, of_tokens: false, gradient, tokens };
        self.values.push(value);
        Var(self.values.len() - 1)
    }

    /// Records an operation without parameters.
    fn record(&mut self, output: Var, operation: Operation) {
        self.keep(output, None, operation);
    }

    /// Records an operation that reads parameters of `weights`.
    fn record_with(&mut self, weights: &Weights, output: Var, operation: Operation) {
        self.keep(output, Some(weights.version()), operation);
    }

    fn keep(&mut self, output: Var, weights: Option<u64>, operation: Operation) {
        self.timed(Way::Forward, || self.cost(&operation));
        // A recorded pass keeps every operation for inspection, even where nothing is trained.
        if self.values[output.0].needs_gradient || self.mode == Mode::Record {
            self.operations.push(Recorded { weights, operation });
        } else {
            operation.release(&self.cpu);
        }
    }

    /// The span that a value belongs to.
    pub(crate) fn span(&self, var: Var) -> SpanId {
        self.values[var.0].span
    }

    /// The sequence that a value's rows belong to.
    pub(crate) fn sequence(&self, var: Var, reverse: bool) -> Sequence<'_> {
        self.spans.sequence(self.span(var), reverse)
    }

    fn needs(&self, var: Var) -> bool {
        self.values[var.0].needs_gradient
    }

    /// Takes out the gradient of an input, to be added to: zeros before anything reached it, none
    /// if the input needs none.
    fn open(&mut self, var: Var) -> Option<Buffer> {
        let value = &mut self.values[var.0];
        if !value.needs_gradient {
            return None;
        }
        let gradient = std::mem::take(&mut value.gradient);
        if gradient.is_empty() {
            Some(self.cpu.zeros(self.values[var.0].data.len()))
        } else {
            Some(gradient)
        }
    }

    fn close(&mut self, var: Var, gradient: Option<Buffer>) {
        if let Some(gradient) = gradient {
            self.values[var.0].gradient = gradient;
        }
    }

    /// Takes out the complete gradient of an output; none if the backward pass did not reach it.
    fn finish(&mut self, var: Var) -> Option<Buffer> {
        let gradient = std::mem::take(&mut self.values[var.0].gradient);
        (!gradient.is_empty()).then_some(gradient)
    }

    /// Gives back values of a block that nothing is trained below: the backward pass stops above
    /// `last`, and only `last` is read further on. `first` is the number of
    /// values before the block.
    pub(crate) fn settle(&mut self, first: usize, last: Var) {
        if self.needs(last) || !matches!(self.mode, Mode::Train { .. }) {
            return;
        }
        let Self { cpu, values, .. } = self;
        // A block without layers gives what it reads.
        for value in values.get_mut(first..last.0).unwrap_or_default() {
            cpu.buffers().give(std::mem::take(&mut value.data));
        }
    }

    /// How many numbers the pass holds.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.values.iter().map(|value| value.data.len()).sum()
    }

    /// How many values the pass has.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    fn trains(weights: &Weights, ids: &[Option<ParameterId>]) -> bool {
        ids.iter().flatten().any(|&id| weights.is_trainable(id))
    }
}

impl Pass<'_> {
    /// The sequence of a span.
    pub(crate) fn sequence_of_span(&self, span: SpanId) -> Sequence<'_> {
        self.tape.spans.sequence(span, false)
    }

    /// Opens a span for one more sequence.
    pub(crate) fn open_span(&mut self, sequence: &Sequence) -> SpanId {
        self.tape.spans.open(sequence)
    }
}

impl Deref for Pass<'_> {
    type Target = Tape;

    fn deref(&self) -> &Tape {
        self.tape
    }
}

impl DerefMut for Pass<'_> {
    fn deref_mut(&mut self) -> &mut Tape {
        self.tape
    }
}

impl Operation {
    /// Returns the buffers that the backward pass would have used.
    fn release(self, cpu: &Cpu) {
        match self {
            Operation::Add(_)
            | Operation::SwiGlu(_)
            | Operation::Gate(_)
            | Operation::Modulate(_)
            | Operation::Perturb(_)
            | Operation::Dropout(_)
            | Operation::Dropped(_)
            | Operation::Unfold(_)
            | Operation::Relu(_)
            | Operation::Join(_)
            | Operation::Pool(_)
            | Operation::Segment(_)
            | Operation::Pointer(_)
            | Operation::Reverse(_) => {}
            Operation::Embedding(op) => cpu.buffers().give(op.hidden),
            Operation::Linear(op) => cpu.buffers().give(op.hidden),
            Operation::Norm(op) => cpu.buffers().give(op.saved),
            Operation::Attention(op) => cpu.buffers().give(op.saved),
            Operation::Tanh(op) => cpu.buffers().give(op.before),
            Operation::Cross(op) => cpu.buffers().give(op.saved),
            Operation::Recurrence(op) => op.release(cpu),
            Operation::Mlstm(op) => op.release(cpu),
        }
    }
}
