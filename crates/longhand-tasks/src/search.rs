//! How the answers of tasks that write are searched for, or drawn, and how fast they were found.

use std::num::NonZeroUsize;

use longhand_engine::SamplerSettings;
use longhand_engine::rules::{Constraint, Rules};
pub use longhand_engine::search::{Hypothesis, Prompt};
use longhand_text::tokenizer::END;
use longhand_text::{SpecialTokens, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::error::TaskError;

/// How an answer is searched for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchOptions {
    /// The partial answers that are kept at each step; 1 takes the most probable
    /// token always (default: 5).
    pub beam: NonZeroUsize,
    /// α: a log-probability is divided by the number of tokens to the power of α; 0 leaves it, which
    /// prefers short answers (default: 1).
    pub length_penalty: f32,
    /// β, by which answers are preferred that attend to all of the source; 0 not at all (default: 0).
    pub coverage_penalty: f32,
    /// The fewest tokens of an answer (default: 0).
    pub minimum: usize,
    /// The most tokens of an answer (default: the longest target that is learnt).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<NonZeroUsize>,
    /// The length of the n-grams that no answer has twice; 0 for none (default: 0).
    pub no_repeat: usize,
    /// Groups of the partial answers that differ from each other (Vijayakumar et al. 2016, "Diverse beam
    /// search"), a divisor of the beam (default: 1).
    #[serde(skip_serializing_if = "is_one")]
    pub groups: NonZeroUsize,
    /// λ: what a token costs for each time that an earlier group chose it in the same step; it needs
    /// several groups (default: 0).
    #[serde(skip_serializing_if = "is_zero")]
    pub diversity: f32,
    /// How many times as many answers as beams must have ended for the search to end (Kasai et al.
    /// 2024); it ends sooner where nothing better can follow (default: 1).
    #[serde(skip_serializing_if = "is_patient")]
    pub patience: f32,
    /// Whether a token that the vocabulary lacks is written as the token of the source that it attends
    /// to most (Luong et al. 2015, "Addressing the rare word problem"). Else it is never written
    /// (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace_unknown: bool,
    /// The number of answers to give, the best first, or to draw (1); never stored.
    #[serde(skip, default = "one")]
    pub hypotheses: NonZeroUsize,
    /// What each answer has to match (anything); never stored.
    #[serde(skip)]
    pub constraint: Option<Constraint>,
    /// How answers are drawn, each by itself, in place of being searched for (not at all); never stored.
    /// Beams, groups and patience do not count then.
    #[serde(skip)]
    pub sampler: Option<SamplerSettings>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            beam: NonZeroUsize::new(5).unwrap_or(NonZeroUsize::MIN),
            length_penalty: 1.0,
            coverage_penalty: 0.0,
            minimum: 0,
            maximum: None,
            no_repeat: 0,
            groups: one(),
            diversity: 0.0,
            patience: 1.0,
            replace_unknown: false,
            hypotheses: one(),
            constraint: None,
            sampler: None,
        }
    }
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn is_one(groups: &NonZeroUsize) -> bool {
    groups.get() == 1
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

fn is_patient(patience: &f32) -> bool {
    *patience == 1.0
}

/// The most beams, or texts that are drawn: more beams find nothing better, and take memory.
const MOST_BEAMS: usize = 512;

impl SearchOptions {
    /// The text of a written answer; white space at its ends is left out, unless it follows an
    /// expression or a grammar, which may ask for it.
    pub(crate) fn text(
        &self,
        tokenizer: &Tokenizer,
        hypothesis: &Hypothesis,
    ) -> Result<String, TaskError> {
        let text = tokenizer.decode(&hypothesis.ids)?;
        let rules = self.constraint.as_ref().map(|constraint| &**constraint.rules());
        Ok(match rules {
            Some(Rules::Regex(_) | Rules::Lark(_)) => text,
            Some(Rules::Schema(_) | Rules::Words(_)) | None => text.trim().to_owned(),
        })
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The key that is wrong, its value, and why it is refused.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let Self { beam, length_penalty, coverage_penalty, minimum, maximum, .. } = *self;
        let (beam, hypotheses) = (beam.get(), self.hypotheses.get());
        let is_wrong = |penalty: f32| !(penalty.is_finite() && penalty >= 0.0);
        let wrong =
            |key, value: &dyn std::fmt::Display, reason| Err((key, value.to_string(), reason));
        if beam > MOST_BEAMS {
            return wrong("beam", &beam, "it must be at most 512");
        }
        if self.sampler.is_some() && hypotheses > MOST_BEAMS {
            return wrong("nbest", &hypotheses, "it must be at most 512");
        }
        if self.sampler.is_none() && hypotheses > beam {
            return wrong("nbest", &hypotheses, "a search finds as many answers as it has beams");
        }
        if is_wrong(length_penalty) {
            return wrong("length_penalty", &length_penalty, "it must be 0 or more");
        }
        if is_wrong(coverage_penalty) {
            return wrong("coverage_penalty", &coverage_penalty, "it must be 0 or more");
        }
        if !beam.is_multiple_of(self.groups.get()) {
            return wrong("groups", &self.groups, "the beam must be a multiple of it");
        }
        if is_wrong(self.diversity) {
            return wrong("diversity", &self.diversity, "it must be 0 or more");
        }
        if self.diversity > 0.0 && self.groups.get() == 1 {
            return wrong("diversity", &self.diversity, "it is between groups: ask for several");
        }
        if self.patience.is_nan() || self.patience <= 0.0 {
            return wrong("patience", &self.patience, "it must be above 0");
        }
        match maximum {
            Some(maximum) if maximum.get() < minimum => {
                wrong("minimum", &minimum, "it must be at most the maximum")
            }
            _ => Ok(()),
        }
    }
}

/// How fast answers were written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Tokens of the best answers.
    pub tokens: usize,
    /// Seconds that the search took.
    pub seconds: f64,
}

impl Pace {
    /// Tokens of the best answers a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// The token that ends a written text: `</s>`, or the end of a document or of a line.
///
/// # Errors
/// [`TaskError::NoEnd`] for a tokeniser that has none of them.
pub(crate) fn end(tokenizer: &Tokenizer) -> Result<u32, TaskError> {
    let found = tokenizer.special_tokens().id(SpecialTokens::END);
    let found = found.or_else(|| tokenizer.document_end_id()).or_else(|| tokenizer.id(END));
    found.ok_or(TaskError::NoEnd(tokenizer.kind()))
}
