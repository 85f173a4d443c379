use thiserror::Error;

/// Why lists cannot be read, or not be put into order. Each message is one sentence for the user.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum NbestError {
    /// A line without an id.
    #[error(
        "{name}, line {line}: it has no id: give lines of `id ||| text ||| features ||| score`, or \
         JSON objects with an id and a text, or with a list of hypotheses"
    )]
    NoId {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A JSON object without a text, or with a text that is none.
    #[error("{name}, line {line}: it has no {what}")]
    Lacks {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// The key that was looked for.
        what: &'static str,
    },
    /// A line that begins as JSON and is none.
    #[error("{name}, line {line}: {reason}")]
    Json {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// The words of the JSON reader.
        reason: String,
    },
    /// A score or a feature that is no finite number.
    #[error("{name}, line {line}: `{value}` is not a finite number")]
    Number {
        /// The name of the file.
        name: String,
        /// The line, counted from 1.
        line: usize,
        /// The text or number that was found.
        value: String,
    },
    /// A file without any hypothesis.
    #[error("{0} holds no hypothesis: give lines of `id ||| text ||| features ||| score`")]
    Empty(String),
    /// A further feature whose name is taken.
    #[error(
        "the lists have a feature `{0}` already, and one of that name is to be added: rename theirs, or \
         leave it out of them"
    )]
    Taken(String),
    /// A further feature with too many or too few values.
    #[error("there are {got} values for {expected} hypotheses")]
    Values {
        /// The number of hypotheses.
        expected: usize,
        /// The number of values.
        got: usize,
    },
    /// A weight of a feature that the lists do not have.
    #[error("there is no feature `{name}`: the lists have {known}")]
    Unknown {
        /// The name of the weight.
        name: String,
        /// The features that there are.
        known: String,
    },
    /// A weight that is no finite number.
    #[error("the weight of {name} is {value}, but must be a finite number")]
    Weight {
        /// The name of the feature.
        name: String,
        /// The weight.
        value: f64,
    },
    /// References that are not one for each list.
    #[error(
        "{references} has {got} lines, but there are {lists} lists: give one reference a line for each \
         list, in their order"
    )]
    References {
        /// The name of the references.
        references: String,
        /// Lines of the references.
        got: usize,
        /// The number of lists.
        lists: usize,
    },
}
