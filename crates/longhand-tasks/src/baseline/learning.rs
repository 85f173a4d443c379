//! What every baseline learns from, and the log-probabilities that all of them give.

use std::borrow::Cow;

use longhand_model::Cpu;

/// A text, or several of one example, and the right answer. For a baseline that reads chains, each chain
/// of an example has an answer of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled<'a> {
    /// The texts of the example; where tags are the answer, one for each of them.
    pub texts: Vec<Cow<'a, str>>,
    /// What is to be answered.
    pub right: Right<'a>,
}

/// The right answer of an example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right<'a> {
    /// A class, from 0.
    Class(u32),
    /// Any number of labels, from 0, each once.
    Labels(Vec<u32>),
    /// A tag for each text, from 0.
    Tags(Vec<u32>),
    /// The text to write.
    Text(&'a str),
}

/// The form of right answers, and of a baseline's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One of several classes.
    Class,
    /// Any number of labels.
    Labels,
    /// A tag for each text of an example.
    Tags,
    /// A text that is written.
    Text,
}

impl Right<'_> {
    /// The form that it has.
    pub fn form(&self) -> Form {
        match self {
            Self::Class(_) => Form::Class,
            Self::Labels(_) => Form::Labels,
            Self::Tags(_) => Form::Tags,
            Self::Text(_) => Form::Text,
        }
    }
}

impl Labelled<'_> {
    /// The texts, as a trained baseline reads them.
    pub(crate) fn read(&self) -> Vec<&str> {
        self.texts.iter().map(AsRef::as_ref).collect()
    }

    /// The class, from 0; 0 where the answer has another form.
    pub(crate) fn class(&self) -> u32 {
        match self.right {
            Right::Class(class) => class,
            Right::Labels(_) | Right::Tags(_) | Right::Text(_) => 0,
        }
    }
}

/// The examples of a run.
pub struct Learning<'a> {
    /// Number of classes or of tags, at least 2, or of labels, at least 1; 0 where a text is the answer.
    pub classes: usize,
    /// Examples to learn from.
    pub train: &'a [Labelled<'a>],
    /// Examples that choose a setting; may be empty.
    pub valid: &'a [Labelled<'a>],
    /// Seed of the order of the examples and of the first weights.
    pub seed: u64,
    /// The processor whose threads train.
    pub cpu: &'a Cpu,
}

impl Learning<'_> {
    /// How many of the held-out examples have the class that `logits` finds for their place.
    pub(crate) fn right(&self, mut logits: impl FnMut(usize) -> Vec<f32>) -> usize {
        let is_right = |(place, example): (usize, &Labelled<'_>)| {
            largest(&logits(place)) == example.class() as usize
        };
        self.valid.iter().enumerate().map(is_right).filter(|right| *right).count()
    }
}

/// The place of the largest value, the first of equal ones; 0 for none.
pub(crate) fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

/// `[K]`: ln of the share of each of K answers among some, with 1 added to each count.
pub(crate) fn log_shares(count: usize, answers: impl Iterator<Item = u32>) -> Vec<f32> {
    let mut counts = vec![1.0_f64; count];
    answers.for_each(|answer| counts[answer as usize] += 1.0);
    let all: f64 = counts.iter().sum();
    counts.iter().map(|count| (count / all).ln() as f32).collect()
}
