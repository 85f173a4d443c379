//! What a baseline says of the sequences of examples, added to the logits of networks.

use longhand_text::batch::{LabelledBatch, LabelledIds};

use super::Exponents;
use crate::baseline::{Baseline, BaselineError, Form, Right};
use crate::batches::rows_of_sequences;
use crate::classes::{logits_of, right_of};
use crate::error::TaskError;
use crate::task::Task;

/// A baseline's logits for the sequences of some examples. They are found once, however often and in
/// whatever batches networks read the sequences.
pub(crate) struct Opinions {
    /// K: the number of classes or tags.
    width: usize,
    /// `[n, K]`: a row for each example, or for each word of them where tags are the answer.
    logits: Vec<f32>,
    /// The first row of each sequence: that of its example, or of its own first word.
    first: Vec<usize>,
}

impl Opinions {
    /// What a baseline says of sequences, which `examples` gives with the example that they are of.
    ///
    /// The words of a tagger's example follow one another in its sequences as in what a baseline reads of
    /// it: window by window and, where there are predicates, for one predicate after another.
    ///
    /// # Errors
    /// [`BaselineError::Task`] if the right answers have another form than the baseline's.
    pub(crate) fn of<'a, T: Task + 'a>(
        task: &T,
        baseline: &Baseline,
        examples: impl IntoIterator<Item = (&'a T::Example, &'a [LabelledIds<T::Target>])>,
    ) -> Result<Self, TaskError>
    where
        T::Example: 'a,
        T::Target: 'a,
    {
        let width = baseline.classes();
        let (mut logits, mut first) = (Vec::new(), Vec::new());
        for (example, items) in examples {
            if items.is_empty() {
                continue;
            }
            let mut row = logits.len() / width;
            logits.extend(logits_of(task, baseline, example));
            for item in items {
                first.push(row);
                row += match (baseline.form(), right_of(task, &item.label)?) {
                    (Form::Tags, Right::Tags(tags)) => tags.len(),
                    // Every sequence of the example has the same answer.
                    (Form::Class, Right::Class(_)) => 0,
                    _ => return Err(BaselineError::Task(T::NAME).into()),
                };
            }
        }
        Ok(Self { width, logits, first })
    }

    /// Row t of a sequence, by its place among all of them.
    pub(super) fn row(&self, place: usize, t: usize) -> &[f32] {
        &self.logits[(self.first[place] + t) * self.width..][..self.width]
    }

    /// Turns the networks' logits of a batch into those of all: a·x + b·y. Row t·B + b of the networks is
    /// of sequence b, and the `examples` of the batch are the places of its sequences.
    pub(crate) fn join<T: Task>(
        &self,
        task: &T,
        exponents: Exponents,
        logits: &mut [f32],
        batch: &LabelledBatch<T::Target>,
    ) {
        let Exponents { network: a, baseline: b } = exponents;
        let rows = rows_of_sequences(task, batch, logits.len() / self.width);
        for (row, logits) in logits.chunks_exact_mut(self.width).enumerate() {
            let (t, sequence) = (row / batch.batch, row % batch.batch);
            // Padding has no row.
            if t < rows[sequence] {
                let own = self.row(batch.examples[sequence], t);
                for (x, &y) in logits.iter_mut().zip(own) {
                    *x = (a * f64::from(*x) + b * f64::from(y)) as f32;
                }
            }
        }
    }
}
