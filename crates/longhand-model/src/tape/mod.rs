//! A tape of coarse operations: what a forward pass did, so that gradients can run back over it.
//!
//! A pass begins with [`Tape::begin`], which says what is read and how ([`Mode`]); each operation
//! then appends its result as a [`Var`]. With [`Mode::Read`] nothing is recorded, which is
//! decoding; otherwise [`Tape::backward`] adds the gradient of every trainable parameter to
//! [`Gradients`]. Buffers return to a free list when the next pass begins, so that a loop of equal
//! passes allocates in its first round only.

mod cell;
mod dense;
mod dropout;
mod loss;
mod memory;
mod memos;
mod profile;
mod reduce;

use std::cell::RefCell;
use std::sync::Arc;

use longhand_kernel::{Buffer, Cpu, Sequence};

use crate::weights::{Gradients, ParameterId, Weights};

pub(crate) use cell::LongCell;
pub use loss::{IGNORE, Total};
pub use memory::Gates;
use profile::Way;
pub use profile::{Entry, Profile};

/// How a pass is run.
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

/// A memory taken out of every block, to see what it contributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ablation {
    /// Working memories give zeros.
    Working,
    /// Long memories give zeros.
    Long,
}

/// A value on the tape: rows in time-major order, each of one width.
#[derive(Clone, Copy, Debug)]
pub struct Var(usize);

/// The tape.
pub struct Tape {
    cpu: Arc<Cpu>,
    values: Vec<Value>,
    operations: Vec<Operation>,
    mode: Mode,
    ablation: Option<Ablation>,
    draws: u64,
    span: Span,
    memos: memos::Memos,
    /// The ids of the pass's embeddings, one after another.
    ids: Vec<u32>,
    /// What attention works on while its ring advances.
    rings: memory::Rings,
    /// Time by operation, where it is taken. A cell: reading logits borrows the tape only.
    profile: RefCell<Option<Profile>>,
}

struct Value {
    data: Buffer,
    width: usize,
    needs_gradient: bool,
    /// Whether each row depends on the pass's token there alone, the weights aside.
    of_tokens: bool,
    /// Empty until something flows back.
    gradient: Buffer,
    /// The table and the place of the ids among the pass's, where the rows are those of an
    /// embedding as they are.
    tokens: Option<Tokens>,
}

/// Rows of an embedding.
#[derive(Clone, Copy)]
struct Tokens {
    table: ParameterId,
    first: usize,
    count: usize,
}

/// The sequence of the pass, kept for the way back.
#[derive(Default)]
struct Span {
    time: usize,
    batch: usize,
    resets: Vec<bool>,
    lengths: Vec<u32>,
}

enum Operation {
    Embedding(dense::Embedding),
    Linear(dense::Linear),
    Norm(dense::Norm),
    Add(dense::Add),
    SwiGlu(dense::SwiGlu),
    Gate(dense::Gate),
    Modulate(dense::Modulate),
    Dropout(dropout::Dropout),
    Attention(memory::Attention),
    Tanh(memory::Tanh),
    Recurrence(memory::Recurrence),
    Mlstm(memory::Mlstm),
    Join(reduce::Join),
    Pool(reduce::Pool),
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
            span: Span::default(),
            memos: memos::Memos::default(),
            ids: Vec::new(),
            rings: memory::Rings::default(),
            profile: RefCell::new(None),
        }
    }

    /// The processor it computes on.
    pub fn cpu(&self) -> &Arc<Cpu> {
        &self.cpu
    }

    /// Takes a memory out of every block from now on, or none.
    pub fn ablate(&mut self, ablation: Option<Ablation>) {
        self.ablation = ablation;
    }

    /// Forgets the last pass and begins another over `sequence`.
    pub fn begin(&mut self, mode: Mode, sequence: &Sequence) {
        self.clear();
        self.mode = mode;
        self.draws = 0;
        self.span.time = sequence.time;
        self.span.batch = sequence.batch;
        self.span.resets.clear();
        self.span.resets.extend(sequence.resets.unwrap_or_default());
        self.span.lengths.clear();
        self.span.lengths.extend(sequence.lengths.unwrap_or_default());
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

    /// Runs back over the recorded operations and adds to `gradients`.
    pub fn backward(&mut self, weights: &Weights, gradients: &mut Gradients) {
        let mut operations = std::mem::take(&mut self.operations);
        let mut pass = Backward { tape: self, weights, gradients };
        while let Some(operation) = operations.pop() {
            let cost = pass.tape.profile.get_mut().is_some().then(|| pass.tape.cost(&operation));
            match operation {
                Operation::Embedding(op) => op.backward(&mut pass),
                Operation::Linear(op) => op.backward(&mut pass),
                Operation::Norm(op) => op.backward(&mut pass),
                Operation::Add(op) => op.backward(&mut pass),
                Operation::SwiGlu(op) => op.backward(&mut pass),
                Operation::Gate(op) => op.backward(&mut pass),
                Operation::Modulate(op) => op.backward(&mut pass),
                Operation::Dropout(op) => op.backward(&mut pass),
                Operation::Attention(op) => op.backward(&mut pass),
                Operation::Tanh(op) => op.backward(&mut pass),
                Operation::Recurrence(op) => op.backward(&mut pass),
                Operation::Mlstm(op) => op.backward(&mut pass),
                Operation::Join(op) => op.backward(&mut pass),
                Operation::Pool(op) => op.backward(&mut pass),
            }
            if let Some(cost) = cost {
                pass.tape.timed(Way::Backward, || cost);
            }
        }
        gradients.complete();
        // Keeps the list's memory for the next pass.
        self.operations = operations;
    }

    fn clear(&mut self) {
        self.ids.clear();
        for operation in self.operations.drain(..) {
            operation.release(&self.cpu);
        }
        for value in self.values.drain(..) {
            self.cpu.buffers().give(value.data);
            self.cpu.buffers().give(value.gradient);
        }
    }

    fn records(&self) -> bool {
        self.mode != Mode::Read
    }

    fn push(&mut self, data: Buffer, width: usize, needs_gradient: bool) -> Var {
        let needs_gradient = needs_gradient && self.records();
        let gradient = Buffer::default();
        let value = Value { data, width, needs_gradient, of_tokens: false, gradient, tokens: None };
        self.values.push(value);
        Var(self.values.len() - 1)
    }

    fn record(&mut self, output: Var, operation: Operation) {
        self.timed(Way::Forward, || self.cost(&operation));
        // A recorded pass is kept whole, to be looked at, even where nothing can be trained.
        if self.values[output.0].needs_gradient || self.mode == Mode::Record {
            self.operations.push(operation);
        } else {
            operation.release(&self.cpu);
        }
    }

    fn needs(&self, var: Var) -> bool {
        self.values[var.0].needs_gradient
    }

    /// Takes out the gradient of an input, to be added to; zeros where nothing has flowed yet,
    /// none where none is needed.
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

    /// Takes out the whole gradient of an output; none where nothing flowed back.
    fn finish(&mut self, var: Var) -> Option<Buffer> {
        let gradient = std::mem::take(&mut self.values[var.0].gradient);
        (!gradient.is_empty()).then_some(gradient)
    }

    fn trains(weights: &Weights, ids: &[Option<ParameterId>]) -> bool {
        ids.iter().flatten().any(|&id| weights.is_trainable(id))
    }
}

impl Span {
    fn sequence(&self, reverse: bool) -> Sequence<'_> {
        Sequence {
            time: self.time,
            batch: self.batch,
            resets: (!self.resets.is_empty()).then_some(&self.resets[..]),
            lengths: (!self.lengths.is_empty()).then_some(&self.lengths[..]),
            reverse,
        }
    }
}

impl Operation {
    /// Gives back the buffers kept for a way back that will not come.
    fn release(self, cpu: &Cpu) {
        match self {
            Operation::Embedding(_)
            | Operation::Linear(_)
            | Operation::Add(_)
            | Operation::SwiGlu(_)
            | Operation::Gate(_)
            | Operation::Modulate(_)
            | Operation::Dropout(_)
            | Operation::Join(_)
            | Operation::Pool(_) => {}
            Operation::Norm(op) => cpu.buffers().give(op.saved),
            Operation::Attention(op) => cpu.buffers().give(op.saved),
            Operation::Tanh(op) => cpu.buffers().give(op.before),
            Operation::Recurrence(op) => op.release(cpu),
            Operation::Mlstm(op) => op.release(cpu),
        }
    }
}
