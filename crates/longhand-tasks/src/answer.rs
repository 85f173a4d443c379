//! Answers: a few words that answer a question, alone or about a story or another text.

use std::collections::BTreeMap;

use crate::span::metric::{Measures as Agreement, Right, Rules};
use crate::writing::symbols::Edits;
use crate::writing::{Compared, Fields, Kind, Measures};

/// Answers questions; exact match and the F1 of words measure it, by the rules of SQuAD. Answers of
/// symbols, such as the phonemes of a word, are measured by their error rates instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply;

/// What an answer contributes to its metrics.
#[derive(Clone, Copy, Debug)]
pub enum Counts {
    /// How near words are to the right ones.
    Words(Agreement),
    /// How far symbols are from the right ones.
    Symbols(Edits),
}

impl Kind for Reply {
    const NAME: &'static str = "answer";
    const ABOUT: &'static str = "Words that answer a question, alone or about a text";
    const METRICS: &'static [(&'static str, &'static str)] = &[
        ("exact_match", "exact match"),
        ("f1", "F1"),
        ("group_mean", "mean exact match of the groups"),
        ("word_error_rate", "word error rate"),
        ("phoneme_error_rate", "phoneme error rate"),
    ];
    const NUMBERS: &'static [(&'static str, &'static str)] =
        &[("groups_at_least_95", "groups at 95 % or more"), ("perplexity", "perplexity")];
    const COLUMNS: &'static [&'static str] = &["answer", "score"];
    const FIELDS: Fields =
        Fields { source: "question", target: "answer", context: Some("context") };
    const LONGEST: [usize; 2] = [512, 64];
    const HAS_SYMBOLS: bool = true;

    type Counts = Counts;

    fn count(measures: &Measures, compared: Compared<'_>) -> Counts {
        if measures.symbols {
            return Counts::Symbols(Edits::between(compared.output, compared.references));
        }
        let rules = if measures.unspaced { Rules::Cmrc } else { Rules::Squad1 };
        let right = Right::new(rules, compared.references.iter().copied());
        Counts::Words(right.measure(compared.output))
    }

    fn score(measures: &Measures, counts: &[&Counts]) -> BTreeMap<&'static str, f64> {
        let (mut exact, mut f1) = (0.0, 0.0);
        let mut all = Edits::default();
        for counts in counts {
            match counts {
                Counts::Words(agreement) => {
                    exact += agreement.exact;
                    f1 += agreement.f1;
                }
                Counts::Symbols(edits) => {
                    exact += f64::from(u8::from(edits.edits == 0));
                    all.edits += edits.edits;
                    all.symbols += edits.symbols;
                }
            }
        }
        let examples = counts.len().max(1) as f64;
        let exact = exact / examples;
        match measures.symbols {
            false => BTreeMap::from([("exact_match", exact), ("f1", f1 / examples)]),
            // A word is wrong where it is none of the right ones.
            true => BTreeMap::from([
                ("exact_match", exact),
                ("word_error_rate", 1.0 - exact),
                ("phoneme_error_rate", all.edits as f64 / all.symbols.max(1) as f64),
            ]),
        }
    }

    fn is_right(counts: &Counts) -> Option<bool> {
        Some(match counts {
            Counts::Words(agreement) => agreement.exact == 1.0,
            Counts::Symbols(edits) => edits.edits == 0,
        })
    }
}
