//! The commonest answer to every text, or of each word: what a model must be better than.

use super::error::BaselineError;
use super::learning::{Form, Learning, Right, log_shares};
use super::tensors::Tensors;
use super::word_tags::WordTags;

/// How common each answer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Majority {
    /// `[K]`: ln of each class's share of the examples, with 1 added to each count.
    Classes(Vec<f32>),
    /// `[K]`: the log-odds of each label: ln((n + 1) / (N − n + 1)) where n of N examples have it.
    Labels(Vec<f32>),
    /// The tags of each word.
    Tags(WordTags),
}

/// The tensor of the shares of classes.
const SHARES: &str = "shares";
/// The tensor of the log-odds of labels.
const ODDS: &str = "odds";

impl Majority {
    pub(crate) fn fit(learning: &Learning<'_>) -> Self {
        match learning.train.first().map(|example| example.right.form()) {
            Some(Form::Labels) => Self::Labels(odds(learning)),
            Some(Form::Tags) => Self::Tags(WordTags::fit(learning)),
            Some(Form::Class | Form::Text) | None => {
                let classes = learning.train.iter().map(|example| example.class());
                Self::Classes(log_shares(learning.classes, classes))
            }
        }
    }

    /// The form of its answers.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Classes(_) => Form::Class,
            Self::Labels(_) => Form::Labels,
            Self::Tags(_) => Form::Tags,
        }
    }

    /// `[K]`, whatever the texts are; of tags `[n, K]` for n words.
    pub(crate) fn logits(&self, texts: &[&str]) -> Vec<f32> {
        match self {
            Self::Classes(logits) | Self::Labels(logits) => logits.clone(),
            Self::Tags(tags) => texts.iter().flat_map(|word| tags.logits(word)).collect(),
        }
    }

    /// The number of classes, labels or tags K.
    pub(crate) fn classes(&self) -> usize {
        match self {
            Self::Classes(logits) | Self::Labels(logits) => logits.len(),
            Self::Tags(tags) => tags.tags(),
        }
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        match self {
            Self::Classes(logits) => tensors.add(SHARES, &[logits.len()], logits.clone()),
            Self::Labels(logits) => tensors.add(ODDS, &[logits.len()], logits.clone()),
            Self::Tags(tags) => tags.write(tensors),
        }
    }

    pub(crate) fn read(tensors: &Tensors) -> Result<Self, BaselineError> {
        if let Some(tags) = WordTags::read(tensors)? {
            return Ok(Self::Tags(tags));
        }
        Ok(match tensors.has(ODDS) {
            true => Self::Labels(tensors.floats(ODDS, &[None])?.1),
            false => Self::Classes(tensors.floats(SHARES, &[None])?.1),
        })
    }
}

/// The log-odds of each label.
fn odds(learning: &Learning<'_>) -> Vec<f32> {
    let mut counts = vec![0.0_f64; learning.classes];
    for example in learning.train {
        if let Right::Labels(labels) = &example.right {
            labels.iter().for_each(|&label| counts[label as usize] += 1.0);
        }
    }
    let all = learning.train.len() as f64;
    counts.iter().map(|count| ((count + 1.0) / (all - count + 1.0)).ln() as f32).collect()
}
