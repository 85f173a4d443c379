//! Longhand: language models whose every layer fuses a working memory with a long short-term memory.

pub mod plot;
