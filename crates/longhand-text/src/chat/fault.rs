//! Why a conversation cannot become text.

use crate::quote::{quoted, shortened};

/// Why a chat template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatFault {
    /// The file that holds the template has another form.
    #[error("{}: give the tokenizer_config.json of a model", shortened(.0))]
    Form(String),
    /// The template is no Jinja, or asks for what is not allowed.
    #[error("the chat template is not usable ({})", shortened(reason))]
    Template {
        /// The words of the Jinja engine, with the line.
        reason: String,
    },
    /// The template calls what is not allowed or not there, or fails on these turns.
    #[error("the chat template fails on this conversation ({})", shortened(reason))]
    Fails {
        /// The words of the Jinja engine, with the line.
        reason: String,
    },
    /// The template raised an exception of its own.
    #[error("the chat template refuses this conversation: {}", one_line(.0))]
    Refuses(String),
    /// The template used up what it may use.
    #[error(
        "the chat template takes too long or writes too much for this conversation: give a template \
         without endless loops"
    )]
    TooLong,
    /// The template looks at characters that could make a special token.
    #[error(
        "a turn has characters of the special token {}, and the chat template changes or measures \
         them, so that the token could be forged: leave them out, or use another template",
        quoted(.0)
    )]
    Depends(String),
    /// The template looks at what the assistant says, so that its ends cannot be marked.
    #[error(
        "the chat template changes or measures what the assistant says, so that it cannot be told \
         where an answer ends: use a template that writes it as it is"
    )]
    Measures,
    /// No character is free to mark what messages say.
    #[error("the conversation uses every private-use character: leave some of them out")]
    NoMark,
    /// The template leaves the assistant's turns out.
    #[error("the chat template does not write what the assistant says")]
    NoAnswer,
    /// No token ends an answer.
    #[error("the chat template writes nothing behind an answer, so that nothing can end one")]
    NoEnd,
    /// The template names a special token that the tokeniser lacks.
    #[error("the tokeniser lacks the special token {}: use the tokeniser of the template", quoted(.0))]
    NoToken(String),
}

/// Words on one line, cut after 80 characters.
fn one_line(words: &str) -> String {
    shortened(&words.split_whitespace().collect::<Vec<_>>().join(" "))
}
