//! Models from outside: their forms, their files and what they compute. One test program, which is linked
//! once.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bicausal;
mod characters;
mod files;
mod format_1;
mod heads;
mod moved;
mod packed;
mod pass;
mod words;
