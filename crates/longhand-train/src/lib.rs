//! Training: optimisers, schedules, the loop, checkpoints and logs.
//!
//! The path of a run:
//! 1. [`Settings`] say how it trains; each is checked once.
//! 2. An [`Objective`] turns data into losses and gradients, batch by batch;
//!    [`LanguageModelling`] is the one for raw text.
//! 3. [`Trainer`] makes the steps: [`schedule`] gives the learning rate, [`optimizer`] changes the
//!    weights, [`average`] keeps their mean.
//! 4. [`evaluate`] scores a model on a whole text.
//! 5. [`checkpoint`] saves everything from which the run goes on bit for bit.
//! 6. [`progress`] tells whoever watches; [`record`] writes it down through [`log`].

pub mod average;
pub mod checkpoint;
mod error;
pub mod evaluate;
mod language;
pub mod log;
pub mod objective;
pub mod optimizer;
pub mod progress;
pub mod record;
pub mod schedule;
pub mod settings;
mod trainer;

#[cfg(test)]
mod tests;

pub use checkpoint::Checkpoints;
pub use error::TrainError;
pub use language::LanguageModelling;
pub use longhand_model as model;
pub use objective::{Objective, Part, Pass, Score};
pub use progress::{Event, Progress};
pub use record::RunLog;
pub use settings::{Budget, PrecisionSetting, Settings};
pub use trainer::{End, Outcome, Trainer};
