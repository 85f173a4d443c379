//! The events of a run before its first step, and the trait of whoever watches it.

use std::collections::BTreeMap;
use std::path::Path;

use longhand_model::Precision;
use longhand_text::EncodeProgress;
use longhand_text::tokenizer::{TokenizerChoice, TrainingProgress};
use longhand_train::Progress;

use crate::recipe::Recipe;

/// Watches a run from its text to its last step; [`Progress`] receives the events of training.
pub trait Watch: Progress {
    /// Takes notice of a step before training. Does nothing unless it is replaced.
    fn prepare(&mut self, preparation: &Preparation<'_>) {
        let _ = preparation;
    }
}

/// The watcher that ignores every event.
impl Watch for () {}

/// Something that happens before the first training step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Preparation<'a> {
    /// The folder holds no run to resume, so a new one starts.
    NothingToResume(&'a Path),
    /// A time budget does not suffice to prepare the whole text: a seeded sample is read.
    Sampled {
        /// The share that is read, 0 to 1.
        share: f64,
        /// Bytes of the whole text as it is stored.
        bytes: u64,
    },
    /// No tokeniser was named, and the text decided.
    Chosen(TokenizerChoice),
    /// The tokeniser is being trained.
    Tokenizer(TrainingProgress),
    /// The text is being encoded.
    Encoding(EncodeProgress),
    /// The embedding begins with the vectors of a file.
    Vectors {
        /// The file.
        path: &'a Path,
        /// Tokens whose vector was found.
        found: usize,
        /// Those of them that were found in lower case alone.
        in_lower_case: usize,
        /// Tokens of the vocabulary.
        vocabulary: usize,
    },
    /// The base model lacks these weights, so they are drawn at random.
    Drawn(&'a [String]),
    /// Everything is ready, and training begins.
    Begins(Introduction<'a>),
}

/// The facts of a run that is about to begin.
#[derive(Debug)]
pub struct Introduction<'a> {
    /// The recipe, with every path absolute.
    pub recipe: &'a Recipe,
    /// Numbers in the model.
    pub parameters: usize,
    /// Threads that training runs on.
    pub threads: usize,
    /// Operands of its matrix products.
    pub precision: Precision,
    /// Size of the data.
    pub data: DataSize<'a>,
}

/// Size of a run's data.
#[derive(Clone, Copy, Debug)]
pub enum DataSize<'a> {
    /// A text, in tokens.
    Tokens {
        /// Tokens to train on.
        train: u64,
        /// Tokens held out for validation.
        valid: u64,
    },
    /// Number and labels of classified examples.
    Examples {
        /// Examples to train on.
        train: usize,
        /// Examples held out for validation.
        valid: usize,
        /// Examples to test on at the end.
        test: usize,
        /// The names of the answers with their numbers among the training examples; empty where
        /// answers have no names.
        counts: &'a [(String, usize)],
        /// Repairs to the examples of all files, each with the number of times it was made.
        notes: &'a BTreeMap<String, usize>,
        /// Share of the tokens to train on that the vocabulary lacks, 0 to 1.
        unknown: f64,
        /// Tokens of the tokeniser.
        vocabulary: usize,
        /// Texts of which only the first `longest` tokens are read.
        cut: usize,
        /// Most tokens of a text that are read.
        longest: usize,
        /// Right texts of which only the first `longest_target` tokens are learnt; 0 of a task that
        /// writes none.
        cut_targets: usize,
        /// Most tokens of a right text that are learnt.
        longest_target: usize,
    },
}
