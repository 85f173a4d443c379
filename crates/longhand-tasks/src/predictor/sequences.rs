//! The sequences of examples, and the answers to them.

use longhand_model::Tape;
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;

use crate::batches::{Taken, in_batches, padding, rows_of_sequences};
use crate::ensemble::Ensemble;
use crate::error::TaskError;
use crate::network::Network;
use crate::search::Pace;
use crate::task::{At, Task};
use crate::written::{Writer, write};

/// The answers of each example, and how fast they were written.
type Written<A> = (Vec<Vec<A>>, Pace);

/// Sequences of examples, in the order of the examples.
pub(super) struct Sequences<'a, T: Task> {
    examples: &'a [T::Example],
    /// Where the first example is from.
    first: At<'a>,
    items: Vec<LabelledIds<T::Target>>,
    /// The example of each sequence.
    owners: Vec<usize>,
}

impl<'a, T: Task> Sequences<'a, T> {
    pub(super) fn of(
        task: &T,
        tokenizer: &Tokenizer,
        examples: &'a [T::Example],
        first: At<'a>,
    ) -> Result<Self, TaskError> {
        let mut items = Vec::with_capacity(examples.len());
        let mut owners = Vec::with_capacity(examples.len());
        for (place, example) in examples.iter().enumerate() {
            let encoded = task.encode(tokenizer, example)?.items;
            owners.resize(owners.len() + encoded.len(), place);
            items.extend(encoded);
        }
        Ok(Self { examples, first, items, owners })
    }

    /// The number of tokens, with those of sources.
    pub(super) fn tokens(&self) -> u64 {
        let size = |item: &LabelledIds<T::Target>| item.ids.len() + T::beside(&item.label);
        self.items.iter().map(size).sum::<usize>() as u64
    }

    /// The answers that a search writes, parted by examples, and how fast it did.
    pub(super) fn written(
        &self,
        task: &T,
        writer: Writer<'_>,
    ) -> Result<Written<T::Answer>, TaskError> {
        let items: Vec<&LabelledIds<T::Target>> = self.items.iter().collect();
        let unheard = |_| Ok::<(), TaskError>(());
        let (found, pace) = write(task, writer, &items, unheard).map_err(|error| match error {
            TaskError::NoAnswer { example: item, fault, .. } => {
                let (name, example) = self.at(self.owners[item - 1]);
                TaskError::NoAnswer { name, example, fault }
            }
            error => error,
        })?;
        let answers = self.of_examples(found);
        let is_finite = |answers: &Vec<T::Answer>| {
            task.ranked(answers).iter().all(|text| text.log_probability.is_finite())
        };
        match answers.iter().position(|answers| !is_finite(answers)) {
            None => Ok((answers, pace)),
            Some(place) => Err(self.not_finite(place)),
        }
    }

    /// The answers that are read off the logits of the sequences, parted by examples.
    pub(super) fn answered(
        &self,
        task: &T,
        network: &Network,
        tapes: &mut [Tape],
    ) -> Result<Vec<Vec<T::Answer>>, TaskError> {
        let Network { model, tokenizer, ensemble } = network;
        let items: Vec<&LabelledIds<T::Target>> = self.items.iter().collect();
        let mut found: Vec<Option<T::Answer>> = vec![None; items.len()];
        let models = Ensemble::models(ensemble.as_ref(), model);
        let answering = Ensemble::answering(ensemble.as_ref(), model);
        let width = model.outputs();
        let joint = ensemble.as_ref().map(|ensemble| ensemble.hear(task, self.by_examples()));
        let joint = joint.transpose()?.flatten();
        in_batches(task, (&models, tapes), &items, padding(tokenizer), |taken| {
            self.check_finite(task, &taken, width)?;
            let Taken { pass, logits, batch, .. } = taken;
            if let Some((exponents, opinions)) = &joint {
                opinions.join(task, *exponents, logits, batch);
            }
            let answers = task.answers(answering, pass, logits, batch);
            for (answer, &place) in answers.into_iter().zip(&batch.examples) {
                found[place] = Some(answer);
            }
            Ok::<(), TaskError>(())
        })?;
        Ok(self.of_examples(found.into_iter().flatten().collect()))
    }

    /// Refuses logits of a batch, `width` in a row, that are not finite.
    fn check_finite(
        &self,
        task: &T,
        taken: &Taken<'_, '_, T>,
        width: usize,
    ) -> Result<(), TaskError> {
        let (logits, batch) = (&taken.logits[..], taken.batch);
        let rows = logits.len() / width.max(1);
        let is_finite =
            |row: usize| logits[row * width..(row + 1) * width].iter().all(|x| x.is_finite());
        let own = rows_of_sequences(task, batch, rows);
        let is_real = |row: usize| row / batch.batch < own[row % batch.batch];
        match (0..rows).find(|&row| is_real(row) && !is_finite(row)) {
            None => Ok(()),
            Some(row) => Err(self.not_finite(self.owners[batch.examples[row % batch.batch]])),
        }
    }

    /// Each example that has sequences, and these.
    fn by_examples(&self) -> impl Iterator<Item = (&T::Example, &[LabelledIds<T::Target>])> {
        let mut items = &self.items[..];
        self.owners.chunk_by(|a, b| a == b).map(move |owners| {
            let (own, others) = items.split_at(owners.len());
            items = others;
            (&self.examples[owners[0]], own)
        })
    }

    /// The answers to the sequences of each example.
    fn of_examples(&self, found: Vec<T::Answer>) -> Vec<Vec<T::Answer>> {
        let mut answers = vec![Vec::new(); self.examples.len()];
        for (answer, &owner) in found.into_iter().zip(&self.owners) {
            answers[owner].push(answer);
        }
        answers
    }

    /// Where the example of a place, from 0, is from, and its number there.
    fn at(&self, place: usize) -> (String, usize) {
        (self.first.name.into(), self.first.example + place)
    }

    fn not_finite(&self, place: usize) -> TaskError {
        let (name, example) = self.at(place);
        TaskError::NotFinite { name, example }
    }
}
