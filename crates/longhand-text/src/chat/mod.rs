//! Conversations as text and ids, by a template of the model's own.
//!
//! A template is Jinja, stored as `chat_template` in `tokenizer_config.json` or in
//! `chat_template.jinja` beside it, and [`ChatTemplate::render`] gives the text that
//! `transformers.apply_chat_template` gives. A template is foreign code: the time that it takes and
//! the text that it writes are bounded, and it reaches no file and no other template.
//!
//! What a message says never becomes a special token. A conversation is rendered twice: as it is, and
//! with marks (private-use characters that occur nowhere) beside the characters of the messages that a
//! special token's name could be made of. Names that the second text still spells are the template's
//! own. Without its marks it must be the first text, or the conversation is refused.

mod clock;
mod config;
mod environment;
mod fault;
mod generation;
mod json;
mod marks;
mod rendered;
mod template;
#[cfg(test)]
mod tests;

pub use config::{CHAT_TEMPLATE_FILE, TOKENIZER_CONFIG_FILE, TokenizerConfig};
pub use fault::ChatFault;
pub use rendered::{ConversationIds, Rendered};
pub use template::{AnswerEnd, ChatTemplate};

/// The special tokens of our own template: one for each role, before its turn, and one
/// that ends each turn.
pub const ROLE_TOKENS: [&str; 4] = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"];
/// The token of [`ROLE_TOKENS`] that ends a turn.
pub const END_OF_TURN: &str = ROLE_TOKENS[3];

/// Our own template, for a tokeniser with [`ROLE_TOKENS`].
pub const OWN_TEMPLATE: &str = include_str!("own.jinja");
/// A template of plain lines, `User: …`, for a tokeniser without special tokens. A turn is one line.
pub const PLAIN_TEMPLATE: &str = include_str!("plain.jinja");
