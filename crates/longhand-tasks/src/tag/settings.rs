//! The settings of a tagger in a recipe.

use std::num::NonZeroUsize;

use longhand_model::WordVector;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::characters::CharacterSettings;
use crate::tags::Scheme;

/// How tokens are tagged. A column is a number from 0, or from −1 on the right, or a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The column of the words (default: 0).
    pub word_column: String,
    /// The column of the tags (default: −1, the last one).
    pub label_column: String,
    /// The column that marks predicates, for semantic roles (default: none). A cell of a token that
    /// is none holds `_`. Each predicate has a column of tags, in order, behind this one, and
    /// `label_column` is not read.
    #[serde(deserialize_with = "column", skip_serializing_if = "Option::is_none")]
    pub predicate_column: Option<String>,
    /// Further columns that the model reads, such as a part of speech (default: none).
    pub feature_columns: Vec<String>,
    /// The scheme of the tags that the model gives (default: the data's own, IOB2 for IOB1). What is
    /// written is in the data's own scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Whether a CRF scores neighbouring tags (default: as the model's own head does, or true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crf: Option<bool>,
    /// Whether the model reads each word's spelling, or the pairs of characters
    /// in Chinese (default: true).
    pub spelling: bool,
    /// What reads the characters of each word, beside its own vector (default: nothing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub characters: Option<CharacterSettings>,
    /// Whether each word ends with its place in a longer word, a digit: `科0 技1` in Weibo NER. The
    /// model reads the digit apart from the word (default: false).
    pub place_digits: bool,
    /// The row of the model's output that a word of several tokens has (default: that of the token
    /// read last where the model's stacks read in one direction, else of the first one).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<WordVector>,
    /// Whether the sentences of a document are read together, so that a name in one of them is known
    /// in the others; not with `predicate_column` (default: false).
    pub document: bool,
    /// What is added to the logit of the tag of nothing, `O`, of a scheme of entities: below 0, more
    /// entities are found, and more of them wrongly (default: the value with the highest F1 on the
    /// held-out part, or 0 without one).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_bias: Option<f32>,
    /// The most words of a sequence (default: 1024). Longer sentences and documents become several.
    pub longest: NonZeroUsize,
}

/// Reads a column that may be written as a number, as `--set KEY=10` hands it over.
fn column<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(from)? {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(D::Error::custom("it must be the name or the number of a column")),
    }
}

/// The default of [`Settings::longest`].
const LONGEST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self {
            word_column: "0".into(),
            label_column: "-1".into(),
            predicate_column: None,
            feature_columns: Vec::new(),
            scheme: None,
            crf: None,
            spelling: true,
            characters: None,
            place_digits: false,
            words: None,
            document: false,
            outside_bias: None,
            longest: LONGEST,
        }
    }
}
