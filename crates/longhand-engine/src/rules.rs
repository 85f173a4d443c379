//! Rules that what is written always matches: a JSON schema, a regular expression, a
//! grammar, or lists of words.
//!
//! The path of the data:
//! 1. [`Rules`] are parsed and checked once, from a file ([`Rules::load`]) or a text;
//! 2. a [`Vocabulary`] knows the bytes that each token of a tokeniser writes; an engine makes
//!    it once, on first use ([`Engine::vocabulary`](crate::Engine::vocabulary));
//! 3. a [`Constraint`] follows one text: it says which tokens may come next ([`Mask`]), and whether the
//!    text may end, or must.
//!
//! Rules see the text that is written, byte by byte and from its first token on: neither the prompt,
//! nor the space that some decoders put between the prompt and the first word. They hold for a text
//! that ends by itself. One that is cut, by the most tokens or by a stop text, is the beginning of a
//! match, and [`Constraint::may_end`] says whether it is one already. A token is allowed if a match may
//! go on behind it; a tokeniser without a token for every byte may then be unable
//! to go on, which is an error ([`RulesError::DeadEnd`]).
//!
//! A constraint begins anew with each text. It is part of no snapshot and of no session.

mod constraint;
mod fault;
mod form;
mod grammar;
mod mask;
#[cfg(test)]
mod random_schema;
#[cfg(test)]
mod tests;
mod vocabulary;
mod words;

pub use constraint::Constraint;
pub use fault::RulesError;
pub use form::Rules;
pub use grammar::{Grammar, Schema};
pub use mask::Mask;
pub use vocabulary::Vocabulary;
pub use words::Words;
