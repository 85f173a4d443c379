//! From a recipe to a trained model folder.
//!
//! The path of a run:
//! 1. A [`recipe`] describes the run: text, tokeniser, model, training, task.
//! 2. [`Run::start`] reads the text ([`text_data`]) or the files of examples, and trains or loads
//!    the tokeniser that turns them into ids.
//! 3. The trainer makes the steps; checkpoints and logs go into the run's folder ([`output`]).
//! 4. The folder receives the model with the best weights, [`training`]'s record and a model card.
//!
//! Beside runs, [`neighbours`] reads texts for a datastore.
//!
//! A [`Watch`] is told of everything on the way; the crate itself prints nothing.

mod after;
pub mod base;
mod baseline;
mod card;
mod error;
mod execute;
mod finished;
mod folds;
mod lock;
mod members;
pub mod neighbours;
mod ngram;
pub mod objective;
pub mod output;
mod pretrain;
mod pretrained;
pub mod recipe;
mod rehearsal;
mod rounds;
mod run;
mod sample_text;
mod score;
mod several;
mod tasks;
pub mod text_data;
pub mod training;
pub mod tuning;
mod vectors;
mod watch;

pub use card::CARD_FILE;
pub use error::RunError;
pub use finished::{Finished, Learnt};
pub use folds::{FoldState, Folded, Folds, Spread};
pub use lock::FolderLock;
pub use objective::{Pretraining, PretrainingObjective};
pub use output::Existing;
pub use recipe::{Recipe, RecipeError};
pub use rounds::{RoundState, Rounds};
pub use run::Run;
pub use several::check_single;
pub use training::{Forgetting, ORIGIN_FILE, TRAINING_FILE, Training};
pub use tuning::{Tuning, TuningError};
pub use watch::{DataSize, Introduction, Preparation, Watch};
