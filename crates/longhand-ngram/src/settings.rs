//! The settings of an n-gram model: a recipe's `ngram` table.

use longhand_text::TokenizerKind;
use serde::{Deserialize, Serialize};

use crate::error::NgramError;
use crate::key::Packing;

/// How an n-gram model is made. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NgramSettings {
    /// N: the tokens of the longest n-gram (by default [`NgramSettings::default_order`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<usize>,
}

impl NgramSettings {
    /// The order where none is named: 5 for words and their pieces, more for characters and bytes.
    pub fn default_order(kind: TokenizerKind) -> usize {
        match kind {
            TokenizerKind::Byte | TokenizerKind::Char => 8,
            _ => 5,
        }
    }

    /// The order for a tokeniser's kind and its number of tokens.
    ///
    /// # Errors
    /// [`NgramError::Order`] for an order that the vocabulary does not allow. The default is lowered
    /// to the highest that it allows.
    pub fn order(&self, kind: TokenizerKind, vocabulary: usize) -> Result<usize, NgramError> {
        let most = Packing::most(vocabulary);
        let order = self.order.unwrap_or_else(|| Self::default_order(kind).min(most));
        Packing::new(vocabulary, order).map(|_| order)
    }
}
