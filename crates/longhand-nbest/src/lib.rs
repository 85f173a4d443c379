//! N-best lists of recognisers and translators, put into a new order by weighted scores.
//!
//! The path of the data:
//! 1. [`Lists::parse`] reads lists in the format of Moses, or as JSON lines. Each hypothesis has a
//!    value for each feature; further ones, such as the log-probability of a language model, are added
//!    with [`Lists::add`].
//! 2. [`Weights`] name how much each feature counts. The total of a hypothesis is the sum of its
//!    values, each times its weight; the best one has the largest total.
//! 3. [`Objective`] measures the best hypotheses against references, by counts that add up.
//! 4. [`tune()`] finds the weights whose best hypotheses measure best, by exact line searches (Och 2003).
//! 5. [`Lists::write`] writes the lists as they came, best hypothesis first, with what was added.
//!
//! ```
//! use longhand_nbest::{Lists, Weights};
//!
//! let text = "0 ||| a cat ||| TM= -2 ||| -2.0\n0 ||| the cat ||| TM= -3 ||| -3.0\n";
//! let mut lists = Lists::parse(text, "example.nbest")?;
//! lists.add("lm", vec![-9.0, -4.0])?;
//! let weights = Weights::of(lists.features(), [("score", 1.0), ("lm", 0.5)])?;
//! let best = lists.order(&weights);
//! let mut out = Vec::new();
//! lists.write(&mut out, &weights, &best)?;
//! assert!(out.starts_with(b"0 ||| the cat ||| TM= -3 lm= -4.0000 ||| -5.0000\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod lists;
mod objective;
mod tune;
mod weights;

pub use error::NbestError;
pub use lists::{Hypothesis, LOG_PROBABILITY, List, Lists, field};
pub use objective::{Objective, Statistics};
pub use tune::{Tuned, Tuning, tune};
pub use weights::Weights;
