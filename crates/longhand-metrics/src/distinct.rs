use std::collections::HashSet;

use crate::error::MetricsError;
use crate::tokenizer::Tokenizer;

/// The length of the longest n-grams whose variety is counted.
pub const DISTINCT_ORDER: usize = 3;

/// How varied outputs are: different n-grams among all that they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distinct {
    /// The different n-grams, n = 1 … 3.
    pub different: [u64; DISTINCT_ORDER],
    /// All n-grams, n = 1 … 3. None spans two outputs.
    pub ngrams: [u64; DISTINCT_ORDER],
    /// The tokens of all outputs.
    pub tokens: u64,
}

impl Distinct {
    /// distinct-n of Li et al. 2016 (section 5.1): different n-grams / tokens, from 0 to 1, for n = 1,
    /// 2, 3. Each is 0 if the outputs are empty.
    pub fn per_token(&self) -> [f64; DISTINCT_ORDER] {
        self.different.map(|different| share(different, self.tokens))
    }

    /// Different n-grams / n-grams, from 0 to 1, for n = 1, 2, 3: what many programs call distinct-n. It
    /// is above the paper's value for n > 1. Each is 0 if the outputs have no n-gram.
    pub fn per_ngram(&self) -> [f64; DISTINCT_ORDER] {
        std::array::from_fn(|n| share(self.different[n], self.ngrams[n]))
    }
}

/// Counts the different n-grams of all outputs together. Refuses a corpus without outputs.
pub fn distinct<H: AsRef<str>>(
    outputs: &[H],
    tokenizer: Tokenizer,
) -> Result<Distinct, MetricsError> {
    if outputs.is_empty() {
        return Err(MetricsError::NoOutputs);
    }
    let outputs: Vec<_> = outputs.iter().map(|text| tokenizer.tokenize(text.as_ref())).collect();
    let tokens = outputs.iter().map(|tokens| tokens.len() as u64).sum();
    let mut counts = Distinct { tokens, ..Distinct::default() };
    for n in 0..DISTINCT_ORDER {
        let ngrams = outputs.iter().flat_map(|tokens| tokens.windows(n + 1));
        counts.ngrams[n] = ngrams.clone().count() as u64;
        counts.different[n] = ngrams.collect::<HashSet<_>>().len() as u64;
    }
    Ok(counts)
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ngrams_are_counted_over_all_outputs_but_span_none() {
        let counts = distinct(&["i do not know", "i do not", "", "yes"], Tokenizer::None).unwrap();
        assert_eq!(counts.tokens, 8);
        assert_eq!(counts.different, [5, 3, 2]);
        assert_eq!(counts.ngrams, [8, 5, 3]);
        assert_eq!(counts.per_token(), [5.0 / 8.0, 3.0 / 8.0, 2.0 / 8.0]);
        assert_eq!(counts.per_ngram(), [5.0 / 8.0, 3.0 / 5.0, 2.0 / 3.0]);
    }

    #[test]
    fn empty_outputs_have_no_variety_and_no_outputs_are_refused() {
        assert_eq!(distinct(&[""], Tokenizer::Char).unwrap().per_ngram(), [0.0; 3]);
        assert_eq!(distinct::<&str>(&[], Tokenizer::Char), Err(MetricsError::NoOutputs));
    }
}
