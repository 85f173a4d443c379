//! Faults of the rows of a table, and of the lines of a CoNLL file, of a story, of a file of vectors and
//! of one of dialogues.

use crate::quote::{quoted, shortened};

/// Why a row of a table cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// The line is no JSON.
    #[error("{} at its column {column}", shortened(reason))]
    Json {
        /// The words of the JSON reader.
        reason: String,
        /// The column in the line, counted from 1.
        column: usize,
    },
    /// A `\ud800` escape without its other half.
    #[error("its text has half a character, the escape of a lone surrogate")]
    LoneSurrogate,
    /// Another JSON value than an object.
    #[error("it is not a JSON object, but each line must be one")]
    NotAnObject,
    /// A list, a map or bytes where a text belongs.
    #[error("{0} is neither text nor a number")]
    NotText(String),
    /// A quote without its end.
    #[error(
        "the quote that opens here is never closed: close it, and double each quote within a text"
    )]
    OpenQuote,
    /// More columns than the header or the first row has.
    #[error(
        "it has {found} columns, but the first row has {expected}: put a text that holds a \
         {separator} in quotes, or use another format"
    )]
    TooMany {
        /// The columns of this row.
        found: usize,
        /// The columns of the first row.
        expected: usize,
        /// The name of the separator.
        separator: &'static str,
    },
    /// Fewer columns than were asked for.
    #[error("it has only {0} column(s)")]
    TooFew(usize),
    /// A fastText line with several labels.
    #[error("it has several labels, but one is learnt for each text")]
    SeveralLabels,
    /// A line without a mark among those of fastText.
    #[error(
        "it has no __label__ before its label, as the first line has: write it there, or remove the \
         line"
    )]
    NoMark,
    /// There is no label.
    #[error("its label is empty")]
    NoLabel,
    /// The first row may name the columns or be an example.
    #[error("it may name the columns or be an example: no other row has the label {}", quoted(.0))]
    MaybeHeader(String),
    /// The line is no tree of rated nodes.
    #[error("{reason} at its column {column}")]
    Tree {
        /// The fault.
        reason: &'static str,
        /// The column in the line, counted from 1.
        column: usize,
    },
    /// The Parquet reader failed.
    #[error("{}", shortened(.0))]
    Parquet(String),
}

/// Why a line of a CoNLL file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// More or fewer cells than the first token has.
    #[error(
        "it has {found} column(s), but the first token has {expected}: give every token the same \
         columns"
    )]
    Ragged {
        /// The cells of this line.
        found: usize,
        /// The cells of the first token's line.
        expected: usize,
    },
    /// A cell without a label.
    #[error("its label is empty")]
    NoLabel,
}

/// Why a line of a file of word vectors cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorFault {
    /// The first line leaves nothing for a vector.
    #[error("it says that a vector has no numbers: give a word and its numbers in each line")]
    NoNumbers,
    /// More or fewer numbers than the header or the first word has.
    #[error("it has {found} number(s), but the first line says {expected}")]
    Ragged {
        /// The numbers of this line.
        found: usize,
        /// The numbers of a vector.
        expected: usize,
    },
    /// A field that is no number, or infinite.
    #[error("{} is not a finite number", quoted(.0))]
    NotANumber(String),
}

/// Why a line is no dialogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialogueFault {
    /// The line is no JSON.
    #[error("{} at its column {column}", shortened(reason))]
    Json {
        /// The words of the JSON reader.
        reason: String,
        /// The column in the line, counted from 1.
        column: usize,
    },
    /// Another JSON value than a list of turns, or an object that has one.
    #[error(
        "it has no list `messages`: give {{\"messages\": [{{\"role\": \"user\", \"content\": \"…\"}}, …]}} \
         on each line"
    )]
    NoMessages,
    /// A list without a turn.
    #[error("it has no turn: give at least one, or remove the line")]
    NoTurn,
    /// A turn that does not say who speaks.
    #[error("turn {turn} has no role: name system, user or assistant")]
    NoRole {
        /// The turn, counted from 1.
        turn: usize,
    },
    /// A turn of an unknown speaker.
    #[error("the role of turn {turn} is {}, but must be system, user or assistant", quoted(role))]
    Role {
        /// The turn, counted from 1.
        turn: usize,
        /// The role that was given.
        role: String,
    },
    /// A content that is no text.
    #[error("the content of turn {turn} is not a text, and nothing else can be read")]
    Content {
        /// The turn, counted from 1.
        turn: usize,
    },
    /// A turn that says nothing.
    #[error("turn {turn} is empty: give it a content, or remove it")]
    Empty {
        /// The turn, counted from 1.
        turn: usize,
    },
    /// Two turns of the assistant behind each other.
    #[error(
        "turns {} and {turn} are both the assistant's: join them, or put the user's turn between \
         them",
        turn - 1
    )]
    Repeated {
        /// The second of both turns, counted from 1.
        turn: usize,
    },
    /// A dialogue in which the assistant says nothing.
    #[error("no turn is the assistant's, so that there is nothing to learn: remove the dialogue")]
    NoAssistant,
    /// A line without the mark of DailyDialog.
    #[error(
        "it has no __eou__, which ends each utterance in DailyDialog's form: give that form, or \
         lines of JSON with `messages`"
    )]
    NoMark,
    /// Text behind the last mark of DailyDialog.
    #[error("its last utterance lacks the __eou__ at its end")]
    Unended,
}

/// Why a line of a story cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoryFault {
    /// The line does not begin with a number.
    #[error("it does not begin with its number and a space, as each line of a story does")]
    NoNumber,
    /// The number is not above the one before it.
    #[error(
        "it has the number {number} behind number {last}: number a story's lines upwards from 1"
    )]
    Order {
        /// The number of this line.
        number: u64,
        /// The number of the line before it.
        last: u64,
    },
    /// Nothing follows the number.
    #[error("it has a number, but no text")]
    NoText,
    /// A supporting line that is no number.
    #[error("{} is not the number of a line that the answer follows from", quoted(.0))]
    Support(String),
}
