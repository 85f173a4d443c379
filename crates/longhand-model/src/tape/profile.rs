//! Where the time of passes goes: the tape takes the time between one operation and the next.
//! Off, it costs a look at one flag for each operation.

use std::time::{Duration, Instant};

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
    /// What it is, with its sizes: `linear 160→480`.
    pub operation: String,
    /// How often it ran forward.
    pub calls: u64,
    /// Time spent forward.
    pub forward: Duration,
    /// Time spent backward.
    pub backward: Duration,
}

/// Which way a pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Backward,
}

impl Profile {
    /// What took time.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All time that was taken.
    pub fn total(&self) -> Duration {
        self.entries.iter().map(|entry| entry.forward + entry.backward).sum()
    }

    /// Adds the time since the last operation, or since [`Profile::mark`], as one more call of
    /// `operation`, which stands outside the tape: an optimiser's step.
    pub fn lap(&mut self, operation: &str) {
        self.add(operation, Way::Forward);
    }

    /// Forgets the time since the last operation.
    pub fn mark(&mut self) {
        self.mark = Instant::now();
    }

    fn new() -> Self {
        Self { entries: Vec::new(), mark: Instant::now() }
    }

    fn add(&mut self, operation: &str, way: Way) {
        let now = Instant::now();
        let spent = now - self.mark;
        self.mark = now;
        let known = self.entries.iter().position(|entry| entry.operation == operation);
        let index = known.unwrap_or_else(|| {
            let operation = operation.to_owned();
            let (forward, backward) = (Duration::ZERO, Duration::ZERO);
            self.entries.push(Entry { operation, calls: 0, forward, backward });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[index];
        match way {
            Way::Forward => {
                entry.forward += spent;
                entry.calls += 1;
            }
            Way::Backward => entry.backward += spent,
        }
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

    /// The time until now was spent on what `label` says.
    pub(super) fn timed(&self, way: Way, label: impl FnOnce() -> String) {
        if let Some(profile) = &mut *self.profile.borrow_mut() {
            profile.add(&label(), way);
        }
    }

    /// What an operation is called in a profile.
    pub(super) fn label(&self, operation: &Operation) -> String {
        let width = |var: Var| self.width(var);
        match operation {
            Operation::Embedding(op) => format!("embedding {}", width(op.y)),
            Operation::Linear(op) => {
                let input: usize = op.parts.iter().flatten().map(|&part| width(part)).sum();
                format!("linear {input}→{}", width(op.y))
            }
            Operation::Norm(op) => format!("norm {}", width(op.y)),
            Operation::Add(op) => format!("add {}", width(op.y)),
            Operation::SwiGlu(op) => format!("swiglu {}", width(op.y)),
            Operation::Gate(op) => format!("gate fusion {}", width(op.y)),
            Operation::Modulate(op) => format!("output gate {}", width(op.y)),
            Operation::Dropout(op) => format!("dropout {}", width(op.y)),
            Operation::Attention(op) => format!("attention {}", width(op.y)),
            Operation::Tanh(op) => format!("tanh memory {}", width(op.y)),
            Operation::Recurrence(op) => {
                format!("{} {}→{}", op.cell.name(), width(op.x), width(op.y))
            }
            Operation::Mlstm(op) => format!("mlstm {}", width(op.y)),
            Operation::Join(op) => format!("join {}", width(op.y)),
            Operation::Pool(op) => format!("pool {}", width(op.y)),
        }
    }
}
