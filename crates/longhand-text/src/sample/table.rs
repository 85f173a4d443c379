//! The sample's labels as tables: what tasks learn from with nothing downloaded.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde::Serialize;

use super::event::Event;
use super::lexicon::THINGS;
use super::narrator::Narrator;
use super::spans::{Span, passage};
use super::{LONGEST_DISTANCE, Language, Story, pairs, recall_question, story, told};

/// A table of the sample's stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Stories and how they feel: `text`, `label`.
    Sentiment,
    /// Stories and what they are about: `text`, `label`.
    Topic,
    /// Stories in one sentence: `document`, `summary`.
    Summaries,
    /// Sentences in both languages: `source` in English, `target` in Chinese.
    Pairs,
    /// Who has what: `text`, `question`, `answer`, and the `distance` in characters from the fact
    /// to the place of the answer, which is within 10 % of the one asked for.
    Questions {
        /// The distance asked for, at most [`LONGEST_DISTANCE`].
        distance: usize,
    },
    /// Stories with several labels each, in fastText's form `__label__A __label__B text`: what they
    /// are about, how they feel, and each of the things that go from hand to hand.
    Labels,
    /// Sentences with a word and its tag on each line, and an empty line after each sentence: `PER`
    /// for people by name, `THING` for what goes from hand to hand, `LOC` for where something
    /// happens, in IOB2. A row is what is said of one event, and a story is a document.
    Entities,
    /// Questions that a part of a story answers, in lines of JSON: `id`, `context`, `question`,
    /// `answers` with `text` and `answer_start` in characters, and `is_impossible`, as in SQuAD 2.0.
    /// A row is a question: who has a thing in the end, or where it was found.
    Spans,
}

/// Which rows of a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// The seed; the rows of one seed are told apart from those of another.
    pub seed: u64,
    /// The number of rows, whatever a row of the table is.
    pub count: usize,
    /// The language of the stories; where none is given, four in five are English.
    pub language: Option<Language>,
}

/// Writes a table: columns set apart by tabs, their names in the first line, unless the table says
/// otherwise. Each text takes one line.
///
/// # Errors
/// The errors of writing into `out`.
pub fn write_table(out: &mut impl Write, table: Table, rows: TableRows) -> io::Result<()> {
    let TableRows { seed, count, language } = rows;
    let numbers = 0..count as u64;
    let mut labelled = |columns: &str, label: fn(&Story) -> &str| {
        writeln!(out, "{columns}")?;
        for number in numbers.clone() {
            let story = story(seed, number, language);
            writeln!(out, "{}\t{}", line(&story.text, story.language), label(&story))?;
        }
        Ok(())
    };
    match table {
        Table::Sentiment => labelled("text\tlabel", |story| story.sentiment.name()),
        Table::Topic => labelled("text\tlabel", |story| story.topic.name()),
        Table::Summaries => labelled("document\tsummary", |story| &story.summary),
        Table::Pairs => {
            writeln!(out, "source\ttarget")?;
            for pair in pairs(seed, count) {
                writeln!(out, "{}\t{}", pair.english, pair.chinese)?;
            }
            Ok(())
        }
        Table::Questions { distance } => {
            let distance = distance.min(LONGEST_DISTANCE);
            writeln!(out, "text\tquestion\tanswer\tdistance")?;
            for number in numbers {
                let language = language.unwrap_or_else(|| story(seed, number, None).language);
                // Neighbouring seeds lie far apart, so that no two of them share a question.
                let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
                let asked = recall_question(seed, distance, language);
                let before = asked.text_before_answer.trim_end();
                let (text, question) = before.rsplit_once('\n').unwrap_or(("", before));
                let (text, answer) = (line(text, language), asked.answer);
                writeln!(out, "{text}\t{question}\t{answer}\t{}", asked.distance)?;
            }
            Ok(())
        }
        Table::Labels => write_labels(out, rows),
        Table::Entities => write_entities(out, rows),
        Table::Spans => write_spans(out, rows),
    }
}

fn write_labels(out: &mut impl Write, rows: TableRows) -> io::Result<()> {
    for number in 0..rows.count as u64 {
        let Narrator { language, scene, page, events, .. } = told(rows.seed, number, rows.language);
        let things: BTreeSet<usize> = events.iter().filter_map(Event::thing).collect();
        let things = things.into_iter().map(|thing| THINGS[thing].english);
        for label in [scene.topic.name(), scene.sentiment.name()].into_iter().chain(things) {
            write!(out, "__label__{label} ")?;
        }
        writeln!(out, "{}", line(&page.text, language))?;
    }
    Ok(())
}

fn write_entities(out: &mut impl Write, rows: TableRows) -> io::Result<()> {
    let (mut number, mut left) = (0, rows.count);
    while left > 0 {
        let Narrator { language, scene, events, .. } = told(rows.seed, number, rows.language);
        writeln!(out, "-DOCSTART-\tO\n")?;
        for event in events.iter().take(left) {
            for (word, tag) in language.named(event, &scene).tagged() {
                writeln!(out, "{word}\t{tag}")?;
            }
            writeln!(out)?;
        }
        left = left.saturating_sub(events.len());
        number += 1;
    }
    Ok(())
}

/// A row of [`Table::Spans`], by the names that SQuAD's files have.
#[derive(Serialize)]
struct SpanRow<'a> {
    id: String,
    context: &'a str,
    question: &'a str,
    answers: &'a [Span],
    is_impossible: bool,
}

fn write_spans(out: &mut impl Write, rows: TableRows) -> io::Result<()> {
    let (mut number, mut left) = (0, rows.count);
    while left > 0 {
        let passage = passage(told(rows.seed, number, rows.language));
        number += 1;
        for (place, asked) in (1..).zip(passage.questions.iter().take(left)) {
            let row = SpanRow {
                // With the seed, so that tables of several seeds can be read together.
                id: format!("{}-{number}-{place}", rows.seed),
                context: &passage.context,
                question: &asked.text,
                answers: asked.answer.as_slice(),
                is_impossible: asked.answer.is_none(),
            };
            serde_json::to_writer(&mut *out, &row)?;
            writeln!(out)?;
        }
        left = left.saturating_sub(passage.questions.len());
    }
    Ok(())
}

/// A text in one line: Chinese has no spaces between sentences.
fn line(text: &str, language: Language) -> String {
    let space = match language {
        Language::English => " ",
        Language::Chinese => "",
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(space)
}
