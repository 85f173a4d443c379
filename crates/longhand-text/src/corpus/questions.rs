//! Questions about texts, answered by spans of them: SQuAD's JSON, versions 1.1 and 2.0, and lines of
//! JSON with a context and a question each.
//!
//! - `{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}`; an
//!   answer has a `text` and an `answer_start` in characters. Further keys are passed over.
//! - `{"context", "question", "answers", "id"}` on each line. `answer`, or a text in `answers`, has no
//!   place: it is searched for.
//! - An answer whose text is elsewhere in the context is moved to the nearest such place. One that the
//!   context lacks keeps its text alone.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::source::Source;
use crate::error::TextError;
use crate::tokenizer::Offsets;

mod json;
#[cfg(test)]
mod tests;

/// The paragraphs of a file with their questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Questions {
    name: String,
    articles: Vec<Article>,
    repairs: Repairs,
}

/// Paragraphs of one article.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Article {
    /// The title; may be empty.
    pub title: String,
    /// The paragraphs, in the order of the text.
    pub paragraphs: Vec<Paragraph>,
}

/// A text and the questions about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paragraph {
    /// The text that holds the answers.
    pub context: Arc<str>,
    /// The questions; may be empty.
    pub questions: Vec<Question>,
}

/// A question about a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its name in predictions. A question without one has its number, from 1.
    pub id: String,
    /// The question itself.
    pub text: String,
    /// The right answers; none where the context has no answer, or where they are unknown.
    pub answers: Vec<KnownAnswer>,
    /// Whether the file says that the context has no answer (default: false).
    pub is_impossible: bool,
}

/// A right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAnswer {
    /// Its text, as the file has it; never empty.
    pub text: String,
    /// Its place in the context, whose text is then equal; none where the context lacks the text.
    pub place: Option<Offsets>,
}

/// Faults of answers, by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Answers whose text was not at their offset, but elsewhere in the context.
    pub moved: usize,
    /// Answers whose text the context lacks.
    pub absent: usize,
    /// Answers without text, which were dropped.
    pub empty: usize,
}

impl Questions {
    /// Reads a file, or with `-` the standard input, compressed or not.
    ///
    /// # Errors
    /// A file that is missing, not text or of another form: [`TextError::Questions`] names the line
    /// and the column. [`TextError::NoQuestion`] for a file without a question.
    pub fn read(path: &Path, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::open(path)?, lossy)
    }

    /// Reads bytes as a file; `name` is for messages.
    ///
    /// # Errors
    /// As [`Questions::read`], apart from a missing file.
    pub fn parse(name: &str, bytes: Vec<u8>, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::memory(name, bytes), lossy)
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The articles, in the order of the file.
    pub fn articles(&self) -> &[Article] {
        &self.articles
    }

    /// Each question with its context, in the order of the file; there is at least one.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Question)> {
        let paragraphs = self.articles.iter().flat_map(|article| &article.paragraphs);
        paragraphs.flat_map(|paragraph| {
            paragraph.questions.iter().map(|question| (&paragraph.context, question))
        })
    }

    /// The faults that were found.
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// Writes SQuAD's JSON: version 2.0 where a context lacks an answer, else 1.1. An answer without
    /// a place has the offset −1.
    ///
    /// # Errors
    /// Whatever error `out` reports while it is written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(&self.articles, out)
    }

    fn of(source: &Source, lossy: bool) -> Result<Self, TextError> {
        let mut text = String::new();
        let mut reader = source.text(lossy)?;
        while let Some(block) = reader.next_block()? {
            text.push_str(&block);
        }
        let name = source.name().to_owned();
        let mut repairs = Repairs::default();
        let articles = json::articles(&name, &text, &mut repairs)?;
        let read = Self { name, articles, repairs };
        let is_empty = read.iter().next().is_none();
        if is_empty { Err(TextError::NoQuestion(read.name)) } else { Ok(read) }
    }
}

impl Article {
    /// An article without a title.
    fn untitled(paragraphs: Vec<Paragraph>) -> Self {
        Self { title: String::new(), paragraphs }
    }
}

impl KnownAnswer {
    /// An answer at its place in a context. `start` is its offset in characters, none where the file
    /// names no offset. None for an answer without text.
    fn find(
        context: &str,
        text: String,
        start: Option<i64>,
        repairs: &mut Repairs,
    ) -> Option<Self> {
        if text.is_empty() {
            repairs.empty += 1;
            return None;
        }
        let at = start.and_then(|start| at_character(context, start));
        if let (Some(at), Some(start)) = (at, start)
            && context[at..].starts_with(&text)
        {
            let place = Some(offsets(at, start.unsigned_abs() as usize, &text));
            return Some(Self { text, place });
        }
        let wanted = start.unwrap_or(0);
        // The number of characters grows with the bytes: each is counted once.
        let (mut before, mut characters) = (0, 0);
        let found = context.match_indices(&text).map(|(at, _)| {
            characters += context[before..at].chars().count();
            before = at;
            (at, characters)
        });
        let nearest = found.min_by_key(|&(_, characters)| (characters as i64).abs_diff(wanted));
        match nearest {
            Some(_) => repairs.moved += usize::from(start.is_some()),
            None => repairs.absent += 1,
        }
        let place = nearest.map(|(at, characters)| offsets(at, characters, &text));
        Some(Self { text, place })
    }
}

/// The byte of a character; none outside the text.
fn at_character(text: &str, character: i64) -> Option<usize> {
    let character = usize::try_from(character).ok()?;
    text.char_indices().map(|(at, _)| at).nth(character)
}

fn offsets(at: usize, character: usize, text: &str) -> Offsets {
    Offsets { bytes: at..at + text.len(), characters: character..character + text.chars().count() }
}
