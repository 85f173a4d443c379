//! Training: optimisers, schedules, the loop, checkpoints and logs.
//!
//! The path of a run:
//! 1. [`Settings`] say how it trains; each is checked once.
//! 2. An [`Objective`] reads one batch after another and says what their loss is;
//!    [`LanguageModelling`] is the one for raw text.
//! 3. [`Trainer`] runs the steps, each by a [`Learner`]: [`schedule`] gives the learning rate,
//!    [`groups`] say which parameters are trained, [`optimizer`] changes them, [`ranks`] choose among
//!    the singular values of changes of low rank, and [`average`] keeps the mean of the weights.
//! 4. [`evaluate`] scores a model on a text, whole or in a seeded sample.
//! 5. [`checkpoint`] saves everything from which the run goes on bit for bit.
//! 6. [`progress`] tells whoever watches; [`record`] writes it down through [`log`].
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::AtomicBool;
//!
//! use longhand_model::{Model, Preset};
//! use longhand_text::{Corpus, Tokenizer, Tokens};
//! use longhand_train::{Budget, LanguageModelling, Settings, Trainer};
//!
//! let corpus = Corpus::from_text("example", "one two three ".repeat(20));
//! let tokenizer = Tokenizer::byte()?;
//! let tokens = Arc::new(Tokens::encode(&corpus, &tokenizer, &mut |_| {})?);
//! let budget = Budget::Steps(2);
//! let settings = Settings { batch: 2, chunk: 8, budget, threads: 1, ..Settings::default() };
//! let model = Model::new(Preset::Lstm.config(tokenizer.vocab_size()), settings.seed)?;
//! let objective = LanguageModelling::new(&settings, tokens, None)?;
//! let trainer = Trainer::new(settings.clone(), model, objective, settings.cpu())?;
//! let outcome = trainer.run(&mut (), &AtomicBool::new(false))?;
//! assert_eq!(outcome.steps, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod average;
pub mod bicausal;
mod bounds;
pub mod checkpoint;
pub mod divergence;
mod error;
pub mod evaluate;
pub mod groups;
mod language;
mod learner;
pub mod log;
pub mod masked;
pub mod objective;
pub mod optimizer;
mod pairs;
pub mod passages;
pub mod progress;
mod random;
pub mod ranks;
pub mod record;
mod rehearsal;
pub mod saved;
pub mod schedule;
pub mod settings;
mod trainer;

#[cfg(test)]
mod tests;

pub use bicausal::Bicausal;
pub use bounds::SettingsError;
pub use checkpoint::Checkpoints;
pub use error::{RestoreError, TrainError};
pub use groups::GroupSettings;
pub use language::LanguageModelling;
pub use learner::{Learner, Plan, Step};
pub use masked::{MaskedTokens, Masking, NEXT_SENTENCE};
pub use objective::{Objective, Part, Pass, Score, Watch};
pub use passages::PassageObjective;
pub use progress::{Event, Progress};
pub use ranks::{RankBudget, RankSettings};
pub use record::RunLog;
pub use rehearsal::Rehearsal;
pub use settings::{Adversarial, Budget, PrecisionSetting, Settings};
pub use trainer::{End, Outcome, Trainer};
