//! Where the time of passes goes: the tape takes the time between one operation and the next.
//! Off, it costs a look at one flag for each operation.

use std::time::{Duration, Instant};

use longhand_kernel::attention::Mask;

use super::{Operation, Tape, Var};

/// Time by operation, in the order in which they were first met.
#[derive(Clone, Debug)]
pub struct Profile {
    entries: Vec<Entry>,
    mark: Instant,
}

/// The time of all operations of one kind and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name with its sizes: `linear 160→480`.
    pub operation: String,
    /// How often it ran forward.
    pub calls: u64,
    /// Time of the forward pass.
    pub forward: Duration,
    /// Time of the backward pass.
    pub backward: Duration,
    /// Multiplications and additions of its products, both ways, as few as they can be; 0 where
    /// there are no products.
    pub operations: f64,
    /// Bytes of what it reads and writes, both ways, each counted once in a call.
    pub bytes: f64,
}

/// The name of an operation, and the least work it needs, forward and backward.
pub(super) struct Cost {
    label: String,
    operations: [f64; 2],
    bytes: [f64; 2],
}

/// Which way a pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Backward,
}

impl Profile {
    /// The operations that took time.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All time that was taken.
    pub fn total(&self) -> Duration {
        self.entries.iter().map(|entry| entry.forward + entry.backward).sum()
    }

    /// Adds the time since the last operation, or since [`Profile::mark`], as one more call of
    /// `operation`, which is not on the tape: an optimiser's step.
    pub fn lap(&mut self, operation: &str) {
        self.add(Cost::unknown(operation.to_owned()), Way::Forward);
    }

    /// Forgets the time since the last operation.
    pub fn mark(&mut self) {
        self.mark = Instant::now();
    }

    fn new() -> Self {
        Self { entries: Vec::new(), mark: Instant::now() }
    }

    fn add(&mut self, cost: Cost, way: Way) {
        let now = Instant::now();
        let spent = now - self.mark;
        self.mark = now;
        let known = self.entries.iter().position(|entry| entry.operation == cost.label);
        let index = known.unwrap_or_else(|| {
            self.entries.push(Entry {
                operation: cost.label,
                calls: 0,
                forward: Duration::ZERO,
                backward: Duration::ZERO,
                operations: 0.0,
                bytes: 0.0,
            });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[index];
        entry.operations += cost.operations[way as usize];
        entry.bytes += cost.bytes[way as usize];
        match way {
            Way::Forward => {
                entry.forward += spent;
                entry.calls += 1;
            }
            Way::Backward => entry.backward += spent,
        }
    }
}

impl Cost {
    /// Work that is not counted.
    pub(super) fn unknown(label: String) -> Self {
        Self { label, operations: [0.0; 2], bytes: [0.0; 2] }
    }

    /// An operation without products that moves these numbers of values forward and backward.
    fn pointwise(label: String, forward: usize, backward: usize) -> Self {
        let bytes = [4.0 * forward as f64, 4.0 * backward as f64];
        Self { label, operations: [0.0; 2], bytes }
    }

    /// A product of unpacked `rows × inner` by `inner × outer`, with twice as much
    /// in the backward pass.
    pub(super) fn product(label: String, rows: usize, inner: usize, outer: usize) -> Self {
        let operations = 2.0 * rows as f64 * inner as f64 * outer as f64;
        let numbers = (rows * inner + rows * outer + inner * outer) as f64;
        let bytes = [4.0 * numbers, 8.0 * numbers];
        Self { label, operations: [operations, 2.0 * operations], bytes }
    }

    /// Both ways in one.
    pub(super) fn at_once(self) -> Self {
        let sum = |[forward, backward]: [f64; 2]| [forward + backward, 0.0];
        Self { label: self.label, operations: sum(self.operations), bytes: sum(self.bytes) }
    }
}

impl Tape {
    /// Takes the time of each operation from now on.
    pub fn start_profile(&mut self) {
        *self.profile.get_mut() = Some(Profile::new());
    }

    /// The profile that is being taken, if one is.
    pub fn profile(&mut self) -> Option<&mut Profile> {
        self.profile.get_mut().as_mut()
    }

    /// Ends taking time; what was taken.
    pub fn end_profile(&mut self) -> Option<Profile> {
        self.profile.get_mut().take()
    }

    /// The time until now was spent on what `cost` names.
    pub(super) fn timed(&self, way: Way, cost: impl FnOnce() -> Cost) {
        if let Some(profile) = &mut *self.profile.borrow_mut() {
            profile.add(cost(), way);
        }
    }

    /// The cost of an operation.
    pub(super) fn cost(&self, operation: &Operation) -> Cost {
        let width = |var: Var| self.width(var);
        let len = |var: Var| self.data(var).len();
        let rows = |var: Var| len(var) / width(var).max(1);
        let pointwise = |name: &str, y: Var, forward: usize, backward: usize| {
            Cost::pointwise(format!("{name} {}", width(y)), forward * len(y), backward * len(y))
        };
        match operation {
            Operation::Embedding(op) => pointwise("embedding", op.y, 2, 3),
            Operation::Linear(op) => {
                let input: usize = op.parts.iter().flatten().map(|&part| width(part)).sum();
                let label = format!("linear {input}→{}", width(op.y));
                Cost::product(label, rows(op.y), input, width(op.y))
            }
            Operation::Norm(op) => pointwise("norm", op.y, 2, 4),
            Operation::Add(op) => pointwise("add", op.y, 3, 6),
            Operation::SwiGlu(op) => pointwise("swiglu", op.y, 3, 7),
            Operation::Gate(op) => pointwise("gate fusion", op.y, 4, 10),
            Operation::Modulate(op) => pointwise("output gate", op.y, 3, 7),
            Operation::Perturb(op) => pointwise("perturbation", op.y, 2, 4),
            Operation::Dropout(op) => pointwise("dropout", op.y, 2, 3),
            Operation::Attention(op) => {
                let seen = match op.sizes.mask {
                    // As many as there are, once a stream is under way.
                    Mask::Window(window) => window as f64,
                    Mask::Full => self.sequence(op.y, false).time as f64,
                };
                let products = 2.0 * seen * len(op.y) as f64;
                let numbers = 4.0 * (len(op.qkv) + len(op.y)) as f64;
                Cost {
                    label: format!("attention {}", width(op.y)),
                    // Scores and their sum over values; then five products of the same size.
                    operations: [2.0 * products, 5.0 * products],
                    bytes: [numbers, 2.0 * numbers],
                }
            }
            Operation::Cross(op) => {
                let source = self.sequence(op.keys_values, false).time as f64;
                let products = 2.0 * source * len(op.y) as f64;
                let numbers = 4.0 * (len(op.queries) + len(op.keys_values) + len(op.y)) as f64;
                Cost {
                    label: format!("cross-attention {}", width(op.y)),
                    // As for self-attention.
                    operations: [2.0 * products, 5.0 * products],
                    bytes: [numbers, 2.0 * numbers],
                }
            }
            Operation::Pointer(op) => pointwise("pointer", op.y, 2, 4),
            Operation::Tanh(op) => pointwise("tanh memory", op.y, 2, 4),
            Operation::Recurrence(op) => {
                let (input, hidden) = (width(op.x), width(op.y));
                let inner = input + hidden / op.cell.heads.max(1);
                let label = format!("{} {input}→{hidden}", op.cell.kind.name());
                Cost::product(label, rows(op.y), inner, op.cell.kind.gates() * hidden)
            }
            Operation::Mlstm(op) => {
                let [head, all] = [op.sizes.width as f64, len(op.y) as f64];
                // The state of each head takes a rank-one update and gives a product with it;
                // the backward pass needs twice as many.
                let products = 2.0 * head * all;
                Cost {
                    label: format!("mlstm {}", width(op.y)),
                    operations: [2.0 * products, 4.0 * products],
                    bytes: [16.0 * all, 32.0 * all],
                }
            }
            Operation::Dropped(op) => pointwise("weight drop", op.y, 2, 3),
            Operation::Unfold(op) => pointwise("windows", op.y, 2, 3),
            Operation::Relu(op) => pointwise("relu", op.y, 2, 3),
            Operation::Join(op) => pointwise("join", op.y, 2, 3),
            Operation::Reverse(op) => pointwise("reverse", op.y, 2, 3),
            Operation::Pool(op) => pointwise("pool", op.y, 2, 3),
            Operation::Segment(op) => pointwise("words", op.y, 2, 3),
        }
    }
}
