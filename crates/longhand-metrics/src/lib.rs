//! The metrics of written text that papers quote, with the digits of the programs that print them.
//!
//! | metric | source | the same as |
//! |---|---|---|
//! | [`Bleu`] | Papineni et al. 2002, Post 2018 | `BLEU` of sacrebleu |
//! | [`Chrf`] | Popović 2015, Popović 2017 (chrF++) | `CHRF` of sacrebleu |
//! | [`Ter`] | Snover et al. 2006 | `TER` of sacrebleu |
//! | [`Rouge`] | Lin 2004 | `RougeScorer` of rouge-score |
//! | [`distinct`] | Li et al. 2016, section 5.1 | counts of n-grams |
//!
//! The path of the data:
//! 1. Outputs and references are slices of texts: output i is compared with every text of
//!    `references[i]`. A [`Metric`] checks first that they fit ([`MetricsError`]).
//! 2. A [`Tokenizer`] parts each text as the other programs do. Where they follow Python's notion of
//!    white space and of lower case, so does this crate.
//! 3. [`Metric::counts`] gives the counts of each output: all that its texts contribute. A resampled
//!    corpus is a choice of these, so that intervals do not read texts again.
//! 4. [`Metric::score`] makes one score of any counts; `corpus` and `sentence` are short for both steps.
//!    Of ROUGE, the counts of an output are its scores, and the score of a corpus is their mean.
//! 5. [`Metric::signature`] names every setting that a score depends on, in the form that sacrebleu
//!    prints.
//!
//! ```
//! use longhand_metrics::{Bleu, Metric, Tokenizer};
//!
//! let bleu = Bleu { tokenizer: Tokenizer::Mteval13a, ..Bleu::default() };
//! let references = [["The cat sat on the mat."], ["It rained all day, and all night."]];
//! let score = bleu.corpus(&["The cat sat on a mat.", "It rained all day."], &references)?;
//! assert_eq!(format!("{:.2}", score.score), "40.98");
//! let signature = bleu.signature(&references);
//! assert!(signature.starts_with("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:longhand-"));
//! # Ok::<(), longhand_metrics::MetricsError>(())
//! ```

mod bleu;
mod chrf;
mod distinct;
mod error;
mod metric;
mod ngrams;
mod rouge;
mod ter;
mod tokenizer;
mod white_space;

pub use bleu::{BLEU_ORDER, Bleu, BleuCounts, BleuScore, Smoothing};
pub use chrf::{Chrf, ChrfCounts, OrderCounts};
pub use distinct::{DISTINCT_ORDER, Distinct, distinct};
pub use error::MetricsError;
pub use metric::Metric;
pub use rouge::{Overlap, Rouge, RougeScores, RougeTokens, stem};
pub use ter::{Ter, TerCounts, TerScore};
pub use tokenizer::Tokenizer;
