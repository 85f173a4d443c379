//! Questions of files, each with its context and the measure of answers to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use longhand_text::corpus::questions::{Question, Questions, Repairs};
use longhand_text::tokenizer::Writing;

use super::metric::{Measures, Right, Rules};
use super::words::{Words, best_sentence};
use crate::error::TaskError;
use crate::task::{Read, Reading};

/// A question about a context.
#[derive(Clone, Debug)]
pub struct Example {
    pub(super) context: Arc<str>,
    pub(super) question: Arc<Question>,
    pub(super) right: Arc<Right>,
    baseline: Arc<OnceLock<Measures>>,
}

/// The share of characters without spaces between words from which a file is measured as Chinese.
const UNSPACED: f64 = 0.2;

impl Example {
    /// How well the sentence that shares most words with the question answers it.
    pub(super) fn baseline(&self) -> Measures {
        *self.baseline.get_or_init(|| {
            let (question, context) = (Words::of(&self.question.text), Words::of(&self.context));
            self.right.measure(best_sentence(&question, &context))
        })
    }

    /// Whether the question has an answer in the context.
    pub(super) fn has_answer(&self) -> bool {
        !self.question.answers.is_empty()
    }
}

/// Reads the questions of a file.
pub(super) fn read(file: &Path, reading: &Reading) -> Result<Read<Example>, TaskError> {
    let file = Questions::read(file, reading.lossy)?;
    let examples = examples(&file);
    if !reading.unlabelled && !examples.iter().any(Example::has_answer) {
        return Err(TaskError::NoAnswers(file.name().into()));
    }
    let Repairs { moved, absent, empty } = file.repairs();
    let notes = [
        ("answer(s) were not at their offset and were moved to the nearest place", moved),
        ("answer(s) occur nowhere in their context and are not learnt", absent),
        ("answer(s) had no text and were dropped", empty),
    ];
    let notes = notes.into_iter().filter(|&(_, count)| count > 0);
    let notes: BTreeMap<String, usize> =
        notes.map(|(note, count)| (note.to_owned(), count)).collect();
    Ok(Read { examples, notes })
}

/// The questions of a file that is read. The writing of its contexts, and whether a question has no
/// answer, decide by which rules answers are measured.
pub(super) fn examples(file: &Questions) -> Vec<Example> {
    let paragraphs = file.articles().iter().flat_map(|article| &article.paragraphs);
    let writing = Writing::of(paragraphs.map(|paragraph| &*paragraph.context));
    let rules = if writing.unspaced_share() > UNSPACED {
        Rules::Cmrc
    } else if file.iter().any(|(_, question)| question.answers.is_empty()) {
        Rules::Squad2
    } else {
        Rules::Squad1
    };
    let example = |(context, question): (&Arc<str>, &Question)| {
        let answers = question.answers.iter().map(|answer| answer.text.as_str());
        Example {
            context: context.clone(),
            question: Arc::new(question.clone()),
            right: Arc::new(Right::new(rules, answers)),
            baseline: Arc::default(),
        }
    };
    file.iter().map(example).collect()
}
