//! The settings of a task whose answers are written.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::measures::BleuTokens;
use crate::error::TaskError;
use crate::search::SearchOptions;

/// How the source is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// An encoder reads the source, and a decoder with cross-attention writes.
    EncoderDecoder,
    /// One stream reads the source and goes on with the target.
    #[default]
    Stream,
}

/// The directions that one model writes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directions {
    /// From the source to the target.
    #[default]
    One,
    /// From the target to the source too.
    Both,
}

/// Where a question about a text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionPlace {
    /// Behind the text.
    #[default]
    Behind,
    /// Before the text and behind it: a recurrence then knows from the beginning what to look for, as
    /// in query-reduction networks (Seo et al. 2017).
    Both,
}

impl QuestionPlace {
    /// Whether the question is read behind the text alone.
    pub fn is_behind(&self) -> bool {
        *self == Self::Behind
    }
}

/// What is read, and how it is written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How the source is read (default: as one stream with the target).
    pub form: Form,
    /// The column of the source in a table (default: the task's own name for it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// The column of the target in a table (default: the task's own name for it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_column: Option<String>,
    /// The column of a text that a question is about (default: none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_column: Option<String>,
    /// The column of further right texts, which count beside the target where the model is measured: a
    /// list in JSON, or a cell with `|||` between them (default: none). The file to learn from is
    /// read without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references_column: Option<String>,
    /// The column of what an answer must begin with, where answers are predicted (default: none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_column: Option<String>,
    /// Where a question about a text is read (default: behind the text).
    #[serde(skip_serializing_if = "QuestionPlace::is_behind")]
    pub question: QuestionPlace,
    /// Whether each character of a source is read as a word of its own (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spelled: bool,
    /// Whether answers are symbols between white space, such as phonemes, whose error rates are
    /// measured (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub symbols: bool,
    /// Whether sources have a tokeniser of their own, of the kind and size of the targets', and an
    /// embedding of their own; with an encoder alone (default: false).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub separate_vocabularies: bool,
    /// The number of first tokens of a source that are read (default: the task's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_source: Option<NonZeroUsize>,
    /// The number of first tokens of a target that are learnt, and the most that are written
    /// (default: the task's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_target: Option<NonZeroUsize>,
    /// Whether texts are put into lower case (default: false).
    pub lowercase: bool,
    /// The directions of a translation (default: one).
    pub directions: Directions,
    /// The languages of the source and of the target, such as `["de", "en"]` (default: none).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub languages: Vec<String>,
    /// How texts are parted for BLEU (default: by the script of the targets).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bleu_tokenizer: Option<BleuTokens>,
    /// How answers are searched for.
    pub search: SearchOptions,
}

impl Settings {
    /// Checks what does not depend on the examples.
    pub(super) fn check<K: Kind>(&self) -> Result<(), TaskError> {
        let (task, has_directions) = (K::NAME, K::HAS_DIRECTIONS);
        let refused = |key: &str, value: String, reason: &str| TaskError::Setting {
            task,
            key: key.into(),
            value,
            reason: reason.into(),
        };
        let is_both = self.directions == Directions::Both;
        if is_both && !has_directions {
            let reason = "only a translation has another direction";
            return Err(refused("directions", "both".into(), reason));
        }
        if self.question != QuestionPlace::Behind && K::FIELDS.context.is_none() {
            let reason = "only a task of questions about texts has a place for them";
            return Err(refused("question", "both".into(), reason));
        }
        if self.symbols && !K::HAS_SYMBOLS {
            let reason = "only the task answer measures symbols";
            return Err(refused("symbols", "true".into(), reason));
        }
        if self.separate_vocabularies && self.form != Form::EncoderDecoder {
            let reason = "one stream has one vocabulary: use form = \"encoder-decoder\"";
            return Err(refused("separate_vocabularies", "true".into(), reason));
        }
        if self.separate_vocabularies && is_both {
            let reason = "each language is read and written where directions = \"both\"";
            return Err(refused("separate_vocabularies", "true".into(), reason));
        }
        let named = self.languages.join(",");
        match &self.languages[..] {
            [] if is_both => {
                let reason = "each direction needs a name: give the two languages, as in \
                              --languages de,en";
                return Err(refused("directions", "both".into(), reason));
            }
            [] => {}
            [one, other] if one != other => {
                let is_name = |name: &String| {
                    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    !name.is_empty() && name.chars().all(is_part)
                };
                if !self.languages.iter().all(is_name) {
                    let reason = "a language is named by ASCII letters, digits and underscores";
                    return Err(refused("languages", named, reason));
                }
            }
            _ => {
                let reason = "there are two: that of the source and that of the target";
                return Err(refused("languages", named, reason));
            }
        }
        self.search.check().map_err(|(key, value, reason)| refused(key, value, reason))?;
        let longest = self.longest_target.map_or(K::LONGEST[1], NonZeroUsize::get);
        let minimum = self.search.minimum;
        match self.search.maximum {
            None if minimum > longest => {
                let reason = format!(
                    "targets are learnt up to {longest} tokens, so raise longest_target or give a \
                     maximum"
                );
                Err(refused("minimum", minimum.to_string(), &reason))
            }
            _ => Ok(()),
        }
    }
}
