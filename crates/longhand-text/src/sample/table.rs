//! The sample's labels as tables: what tasks learn from with nothing downloaded.

use std::io::{self, Write};

use super::{LONGEST_DISTANCE, Language, Story, pairs, recall_question, story};

/// A table of the sample's stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Stories and how they feel: `text`, `label`.
    Sentiment,
    /// Stories and what they are about: `text`, `label`.
    Topic,
    /// Stories in one sentence: `text`, `summary`.
    Summaries,
    /// Sentences in both languages: `english`, `chinese`.
    Pairs,
    /// Who has what: `text`, `question`, `answer`, and the `distance` in characters from the fact
    /// to the place of the answer, which is within 10 % of the one asked for.
    Questions {
        /// The distance asked for, at most [`LONGEST_DISTANCE`].
        distance: usize,
    },
}

/// Which rows of a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// The seed; the rows of one seed are told apart from those of another.
    pub seed: u64,
    /// The number of rows.
    pub count: usize,
    /// The language of the stories; where none is given, four in five are English.
    pub language: Option<Language>,
}

/// Writes a table: columns set apart by tabs, their names in the first line. Each
/// text takes one line.
///
/// # Errors
/// The errors of writing into `out`.
pub fn write_table(out: &mut impl Write, table: Table, rows: TableRows) -> io::Result<()> {
    let TableRows { seed, count, language } = rows;
    let numbers = 0..count as u64;
    let mut labelled = |column: &str, label: fn(&Story) -> &str| {
        writeln!(out, "text\t{column}")?;
        for number in numbers.clone() {
            let story = story(seed, number, language);
            writeln!(out, "{}\t{}", line(&story.text, story.language), label(&story))?;
        }
        Ok(())
    };
    match table {
        Table::Sentiment => labelled("label", |story| story.sentiment.name()),
        Table::Topic => labelled("label", |story| story.topic.name()),
        Table::Summaries => labelled("summary", |story| &story.summary),
        Table::Pairs => {
            writeln!(out, "english\tchinese")?;
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
    }
}

/// A text in one line: Chinese has no spaces between sentences.
fn line(text: &str, language: Language) -> String {
    let space = match language {
        Language::English => " ",
        Language::Chinese => "",
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(space)
}
