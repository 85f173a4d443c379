//! Tasks beside language modelling, one file for each: examples → ids and targets → metric.
//!
//! The path of a run:
//! 1. a [`Task`] says what is learnt, as a recipe writes it;
//! 2. [`classify::Data`] makes ids and labels of tables;
//! 3. [`start`] makes the model: from nothing, or from one that was trained before;
//! 4. [`classify::Classification`] is what the training loop learns from;
//! 5. [`classify::Classifier`] answers, and [`confusion`] says how well.

pub mod classify;
pub mod confusion;
mod error;
pub mod start;
mod task;

pub use classify::{Classification, Classifier};
pub use confusion::Confusion;
pub use error::TaskError;
pub use task::{TASK_FILE, Task, TaskFile};
