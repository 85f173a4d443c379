//! Stories with questions, in the form of the bAbI tasks (Weston et al. 2016):
//!
//! ```text
//! 1 Mary moved to the bathroom.
//! 2 John went to the hallway.
//! 3 Where is Mary?<TAB>bathroom<TAB>1
//! ```
//!
//! Each line has a number, and number 1 begins a story. A line with tabs is a question with its answer
//! and the numbers of the lines that it follows from; all others are sentences of the story.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use super::fault::StoryFault;
use super::source::{Source, unwrap_error};
use crate::error::TextError;

/// A question about the beginning of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryQuestion {
    /// The sentences before the question, first to last, with spaces between them; may be empty.
    pub story: Arc<str>,
    /// The question itself, without white space around it.
    pub question: String,
    /// The answer; empty where the file gives none.
    pub answer: String,
    /// The numbers of the lines that the answer follows from.
    pub supports: Vec<u64>,
}

/// Reads the questions of a file, or with `-` of the standard input, compressed or not.
///
/// # Errors
/// A file that is missing or not text; [`TextError::Story`] names a line of another form;
/// [`TextError::NoStory`] for a file without a question.
pub fn read_stories(path: &Path, lossy: bool) -> Result<Vec<StoryQuestion>, TextError> {
    stories(&Source::open(path)?, lossy)
}

/// The questions of a file whose bytes are given; `name` is for messages.
///
/// # Errors
/// As [`read_stories`], apart from a missing file.
pub fn parse_stories(
    name: &str,
    bytes: Vec<u8>,
    lossy: bool,
) -> Result<Vec<StoryQuestion>, TextError> {
    stories(&Source::memory(name, bytes), lossy)
}

/// Whether a line has the form of a story's first one: number 1, a space, and text.
pub fn begins_story(line: &str) -> bool {
    matches!(numbered(line), Some((1, text)) if !text.trim().is_empty())
}

fn stories(source: &Source, lossy: bool) -> Result<Vec<StoryQuestion>, TextError> {
    let (mut questions, mut story, mut last) = (Vec::new(), String::new(), 0);
    for (line, place) in BufReader::new(source.text(lossy)?).lines().zip(1..) {
        let line = line.map_err(unwrap_error)?;
        if line.trim().is_empty() {
            continue;
        }
        let fail = |fault| TextError::Story { name: source.name().to_owned(), line: place, fault };
        let (number, text) = numbered(&line).ok_or_else(|| fail(StoryFault::NoNumber))?;
        match number {
            1 => story.clear(),
            number if number > last => {}
            number => return Err(fail(StoryFault::Order { number, last })),
        }
        last = number;
        let mut cells = text.split('\t');
        let text = cells.next().unwrap_or_default().trim();
        if text.is_empty() {
            return Err(fail(StoryFault::NoText));
        }
        let Some(answer) = cells.next() else {
            if !story.is_empty() {
                story.push(' ');
            }
            story.push_str(text);
            continue;
        };
        let supports = cells.next().unwrap_or_default().split_whitespace();
        let support = |cell: &str| cell.parse().map_err(|_| fail(StoryFault::Support(cell.into())));
        questions.push(StoryQuestion {
            story: story.as_str().into(),
            question: text.to_owned(),
            answer: answer.trim().to_owned(),
            supports: supports.map(support).collect::<Result<_, _>>()?,
        });
    }
    match questions.is_empty() {
        true => Err(TextError::NoStory(source.name().to_owned())),
        false => Ok(questions),
    }
}

/// The number of a line, and its text.
fn numbered(line: &str) -> Option<(u64, &str)> {
    let (number, text) = line.split_once(' ')?;
    Some((number.trim_start_matches('\u{feff}').parse().ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<StoryQuestion>, TextError> {
        parse_stories("it", text.as_bytes().to_vec(), false)
    }

    #[test]
    fn a_question_is_about_all_before_it_in_its_story() {
        let text = "1 Mary moved.\n2 John sat.\n3 Where is Mary? \tbathroom\t1\n4 He left.\n\n5 \
                    Who left?\tJohn\t2 4\n1 A dog.\n2 What?\ta dog\n";
        let read = parse(text).unwrap();
        let told = |place: usize| {
            let StoryQuestion { story, question, answer, supports } = &read[place];
            (&**story, question.as_str(), answer.as_str(), supports.as_slice())
        };
        assert_eq!(told(0), ("Mary moved. John sat.", "Where is Mary?", "bathroom", &[1][..]));
        assert_eq!(told(1), ("Mary moved. John sat. He left.", "Who left?", "John", &[2, 4][..]));
        assert_eq!(told(2), ("A dog.", "What?", "a dog", &[][..]));
        assert_eq!(read.len(), 3);
        assert!(begins_story("1 Mary moved.") && !begins_story("2 a") && !begins_story("1"));
    }

    #[test]
    fn a_line_of_another_form_is_refused_in_a_sentence() {
        let sentence = |text| parse(text).unwrap_err().to_string();
        assert_eq!(
            sentence("1 A.\nB.\n"),
            "it, line 2: it does not begin with its number and a space, as each line of a story does"
        );
        assert_eq!(
            sentence("1 A.\n3 B.\n2 C?\tx\t1\n"),
            "it, line 3: it has the number 2 behind number 3: number a story's lines upwards from 1"
        );
        assert_eq!(sentence("1 \tx\t1\n"), "it, line 1: it has a number, but no text");
        assert_eq!(
            sentence("1 A?\tx\t1,2\n"),
            "it, line 1: \"1,2\" is not the number of a line that the answer follows from"
        );
        assert_eq!(
            sentence("1 A.\n"),
            "it holds no question: give stories in the form of bAbI, a question with a tab before \
             its answer"
        );
    }
}
