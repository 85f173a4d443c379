//! Tasks beside language modelling: examples → ids and targets → metric.
//!
//! The path of a run:
//! 1. [`Task`] says what is learnt, as a recipe writes it.
//! 2. [`tables`] reads labelled examples, and holds some out.
//! 3. [`ids`] turns texts into token ids and labels into targets.
//! 4. [`start`] makes the model: with new weights, or with the body of a trained model.
//! 5. [`classify::Classification`] is what the training loop learns from.
//! 6. [`classify::Classifier`] answers, and [`confusion`] measures the answers.

pub mod tags;

mod batches;
pub mod classify;
pub mod confusion;
mod error;
mod hold_out;
pub mod ids;
pub mod start;
pub mod tables;
mod task;
mod task_file;

pub use classify::{Classification, Classifier};
pub use confusion::Confusion;
pub use error::TaskError;
pub use ids::Data;
pub use tables::{Examples, Tables};
pub use task::Task;
pub use task_file::{TASK_FILE, TaskFile};
