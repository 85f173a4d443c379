//! How written text is measured, as its language decides.

use longhand_metrics::{Bleu, Chrf, Rouge, RougeTokens, Ter, Tokenizer, distinct};
use serde::{Deserialize, Serialize};

use super::is_unspaced;
use crate::baseline::lead;

/// How texts are parted for BLEU, by the names of sacrebleu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BleuTokens {
    /// As the script `mteval-v13a` does.
    #[serde(rename = "13a")]
    Mteval13a,
    /// Each Chinese character alone, the rest as `13a`.
    #[serde(rename = "zh")]
    Zh,
    /// Each character but white space alone.
    #[serde(rename = "char")]
    Char,
    /// At white space alone: for texts that are parted already.
    #[serde(rename = "none")]
    None,
}

/// How the texts of one language are measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    /// How texts are parted for BLEU.
    pub bleu: BleuTokens,
    /// Whether the language has no spaces between words: ROUGE then compares characters.
    pub unspaced: bool,
    /// Whether texts are compared in lower case.
    pub lowercase: bool,
    /// The length of the beginning of a source that is compared as a summary: the mean length of the
    /// right texts of training, in words, or in characters without spaces.
    pub lead: usize,
    /// Whether texts are symbols between white space, such as phonemes (default: false).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub symbols: bool,
}

impl From<BleuTokens> for Tokenizer {
    fn from(tokens: BleuTokens) -> Self {
        match tokens {
            BleuTokens::Mteval13a => Self::Mteval13a,
            BleuTokens::Zh => Self::Zh,
            BleuTokens::Char => Self::Char,
            BleuTokens::None => Self::None,
        }
    }
}

impl Measures {
    /// The measures of a language, told by the right texts of training where `bleu` does not say
    /// how texts are parted.
    pub(super) fn learn(bleu: Option<BleuTokens>, lowercase: bool, texts: &[String]) -> Self {
        let unspaced = is_unspaced(texts.iter().map(String::as_str));
        let own = if unspaced { BleuTokens::Zh } else { BleuTokens::Mteval13a };
        let lead = lead::mean_words(texts.iter().map(String::as_str), unspaced);
        Self { bleu: bleu.unwrap_or(own), unspaced, lowercase, lead, symbols: false }
    }

    /// The settings of BLEU.
    pub fn bleu(&self) -> Bleu {
        Bleu { tokenizer: self.bleu.into(), lowercase: self.lowercase, ..Bleu::default() }
    }

    /// The settings of chrF++, or without spaces between words those of chrF.
    pub fn chrf(&self) -> Chrf {
        let word_order = if self.unspaced { 0 } else { 2 };
        Chrf { word_order, lowercase: self.lowercase, ..Chrf::default() }
    }

    /// The settings of TER; none for a language without spaces between words, whose
    /// edits it cannot count.
    pub fn ter(&self) -> Option<Ter> {
        (!self.unspaced).then_some(Ter { case_sensitive: !self.lowercase })
    }

    /// The settings of ROUGE.
    pub fn rouge(&self) -> Rouge {
        let tokens = if self.unspaced { RougeTokens::Characters } else { RougeTokens::Words };
        Rouge { tokens }
    }

    /// The share of different bigrams among all bigrams of some outputs; none without outputs.
    pub fn distinct2(&self, outputs: &[&str]) -> Option<f64> {
        distinct(outputs, self.bleu.into()).ok().map(|counts| counts.per_ngram()[1])
    }

    /// The beginning of a text, as long as the right texts are on average.
    pub fn lead<'a>(&self, text: &'a str) -> &'a str {
        lead::beginning(text, self.lead, self.unspaced)
    }
}
