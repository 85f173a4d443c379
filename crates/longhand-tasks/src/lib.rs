//! Tasks beside language modelling: examples → ids and targets → metric.
//!
//! The path of a run:
//! 1. [`TaskSettings`] says what is learnt, as a recipe writes it; [`tasks`] lists the tasks, and
//!    [`Task`] is the trait of each.
//! 2. [`examples`] reads labelled examples, and holds some out.
//! 3. [`ids`] turns them into token ids and targets.
//! 4. [`start`] makes the model: with new weights, or with the body of a trained model.
//! 5. [`TaskObjective`] is what the training loop learns from.
//! 6. [`Predictor`] answers, and [`score`] measures the answers.
//!
//! Answers are read off the model's output, or [`writing`] them is a [`search`].
//!
//! A [`baseline`] takes the place of steps 3 to 5, as [`plain`] says, or answers beside the
//! network in an [`ensemble`].
//!
//! [`tags`] knows how the tags of tokens mark entities.

pub mod answer;
pub mod baseline;
mod batches;
mod calibration;
pub mod characters;
pub mod chat;
mod classes;
pub mod classify;
pub mod confusion;
pub mod ensemble;
mod error;
pub mod examples;
pub mod explain;
mod hold_out;
pub mod ids;
pub mod intervals;
pub mod matches;
pub mod multi_label;
mod network;
mod objective;
pub mod plain;
pub mod predictor;
mod ranking;
pub mod score;
pub mod search;
pub mod span;
mod spelling;
pub mod start;
pub mod summarize;
pub mod tag;
pub mod tags;
pub mod task;
mod task_file;
pub mod tasks;
pub mod translate;
pub mod wording;
pub mod writing;
mod written;

pub use baseline::{BASELINE_FILE, Baseline, BaselineError, BaselineSettings};
pub use classify::Classify;
pub use confusion::Confusion;
pub use ensemble::Ensemble;
pub use error::TaskError;
pub use examples::{Examples, Files};
pub use explain::{Explainer, Explanation};
pub use ids::{Data, Measured};
pub use multi_label::MultiLabel;
pub use network::Network;
pub use objective::TaskObjective;
pub use predictor::Predictor;
pub use score::{Evaluation, evaluate};
pub use search::SearchOptions;
pub use span::Spans;
pub use tag::Tagging;
pub use task::Task;
pub use task_file::{TASK_FILE, TASK_FILES};
pub use tasks::{Listed, TaskFile, TaskSettings, VisitSettings, VisitTask};
pub use writing::Writing;
