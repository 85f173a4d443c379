use crate::metric::{Metric, case, yes_no};
use crate::ngrams;
use crate::white_space::{is_white_space, words};

/// The length of the longest n-grams of characters.
const CHAR_ORDER: usize = 6;
/// β, by which recall counts more than precision.
const BETA: u32 = 2;
/// What stands for a precision or recall without n-grams, if the effective order is off.
const EPSILON: f64 = 1e-16;

/// chrF (Popović 2015, equation 1) and chrF++ (Popović 2017), with the digits of sacrebleu:
///
/// chrF = 100 · (1 + β²) · P · R / (β²·P + R), β = 2
///
/// P is the share of the output's n-grams that match a reference, and R the share of the reference's
/// n-grams that match, both averaged over the orders: n-grams of 1 to 6 characters, then of 1 to
/// `word_order` words. Of several references, the one with the best score counts. 0 is the worst score
/// and 100 the best one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chrf {
    /// The length of the longest n-grams of words: 0 is chrF (the default), 2 is chrF++.
    pub word_order: usize,
    /// Whether texts are put into lower case first; no by default.
    pub lowercase: bool,
    /// Whether white space is a character like others; no by default.
    pub whitespace: bool,
    /// Whether the score is the mean of the orders' F-scores, with 10⁻¹⁶ for shares of nothing, as the
    /// script `chrF++.py` has it. By default (no), orders without n-grams do not count.
    pub epsilon_smoothing: bool,
}

/// The n-grams of one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCounts {
    /// The n-grams of the outputs; 0 for an output whose reference has none.
    pub output: u64,
    /// The n-grams of the references.
    pub reference: u64,
    /// The n-grams that match.
    pub matches: u64,
}

/// What outputs contribute to chrF: characters' orders first, then words' orders. The counts of a
/// corpus are the sums of those of its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChrfCounts {
    /// One entry for each order.
    pub orders: Vec<OrderCounts>,
}

impl Chrf {
    /// The settings of chrF++: n-grams of up to two words beside those of characters.
    pub fn plus_plus() -> Self {
        Self { word_order: 2, ..Self::default() }
    }

    /// The name that sacrebleu gives the score: `chrF2`, `chrF2++`.
    pub fn name(&self) -> String {
        format!("chrF{BETA}{}", "+".repeat(self.word_order))
    }
}

impl Metric for Chrf {
    type Counts = ChrfCounts;
    /// chrF, from 0 to 100.
    type Score = f64;

    fn score<'a>(&self, counts: impl IntoIterator<Item = &'a ChrfCounts>) -> f64 {
        let mut sums = vec![OrderCounts::default(); CHAR_ORDER + self.word_order];
        for of_output in counts {
            for (sum, order) in sums.iter_mut().zip(&of_output.orders) {
                sum.output += order.output;
                sum.reference += order.reference;
                sum.matches += order.matches;
            }
        }
        self.f_score(&sums)
    }

    fn count(&self, output: &str, references: &[&str]) -> ChrfCounts {
        let output = Text::new(self, output);
        let output = output.ngrams(self.word_order);
        let mut best = (f64::NEG_INFINITY, ChrfCounts::default());
        for reference in references {
            let reference = Text::new(self, reference);
            let reference = reference.ngrams(self.word_order);
            let pairs = output.iter().zip(&reference);
            let orders: Vec<_> = pairs.map(|(output, text)| output.against(text)).collect();
            let score = self.f_score(&orders);
            if score > best.0 {
                best = (score, ChrfCounts { orders });
            }
        }
        best.1
    }

    fn settings(&self) -> String {
        format!(
            "case:{}|eff:{}|nc:{CHAR_ORDER}|nw:{}|space:{}",
            case(self.lowercase),
            yes_no(!self.epsilon_smoothing),
            self.word_order,
            yes_no(self.whitespace)
        )
    }
}

impl Chrf {
    fn f_score(&self, orders: &[OrderCounts]) -> f64 {
        let factor = f64::from(BETA * BETA);
        let (mut sum, mut precisions, mut recalls, mut effective) = (0.0, 0.0, 0.0, 0.0);
        for order in orders {
            let share = |of: u64| if of > 0 { order.matches as f64 / of as f64 } else { EPSILON };
            let (precision, recall) = (share(order.output), share(order.reference));
            let weighted = factor * precision + recall;
            sum += if weighted > 0.0 {
                (1.0 + factor) * precision * recall / weighted
            } else {
                EPSILON
            };
            if order.output > 0 && order.reference > 0 {
                precisions += precision;
                recalls += recall;
                effective += 1.0;
            }
        }
        if self.epsilon_smoothing {
            return 100.0 * sum / orders.len() as f64;
        }
        if precisions + recalls == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precisions / effective, recalls / effective);
        100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
    }
}

/// A text as its n-grams are cut from it: the characters that count, and the words.
struct Text {
    characters: String,
    /// Where each character begins, and the end of the last one.
    starts: Vec<usize>,
    words: Vec<String>,
}

/// The n-grams of one order.
enum Ngrams<'a> {
    Characters(ngrams::Counts<'a, str>),
    Words(ngrams::Counts<'a, [String]>),
}

impl Text {
    fn new(chrf: &Chrf, text: &str) -> Self {
        let text = if chrf.lowercase { text.to_lowercase() } else { text.to_owned() };
        let words = if chrf.word_order > 0 { part_marks(&text) } else { Vec::new() };
        let keep = |c: &char| chrf.whitespace || !is_white_space(*c);
        let characters: String = text.chars().filter(keep).collect();
        let starts = characters.char_indices().map(|(start, _)| start);
        let starts = starts.chain([characters.len()]).collect();
        Self { characters, starts, words }
    }

    fn ngrams(&self, word_order: usize) -> Vec<Ngrams<'_>> {
        let of_characters = (1..=CHAR_ORDER).map(|order| {
            let mut counts = ngrams::Counts::new();
            for span in self.starts.windows(order + 1) {
                *counts.entry(&self.characters[span[0]..span[order]]).or_insert(0) += 1;
            }
            Ngrams::Characters(counts)
        });
        let of_words =
            (1..=word_order).map(|order| Ngrams::Words(ngrams::count(&self.words, order)));
        of_characters.chain(of_words).collect()
    }
}

impl Ngrams<'_> {
    fn against(&self, reference: &Self) -> OrderCounts {
        let matches = match (self, reference) {
            (Self::Characters(output), Self::Characters(reference)) => {
                ngrams::matches(output, reference)
            }
            (Self::Words(output), Self::Words(reference)) => ngrams::matches(output, reference),
            // Both texts list their orders alike.
            _ => 0,
        };
        let in_reference = reference.total();
        let output = if in_reference > 0 { self.total() } else { 0 };
        OrderCounts { output, reference: in_reference, matches }
    }

    fn total(&self) -> u64 {
        match self {
            Self::Characters(counts) => counts.values().sum(),
            Self::Words(counts) => counts.values().sum(),
        }
    }
}

/// Words with one mark of ASCII parted from their end, or else from their beginning.
fn part_marks(text: &str) -> Vec<String> {
    let mut parted = Vec::new();
    for word in words(text) {
        let is_mark = |c: char| c.is_ascii_punctuation();
        let cut = match (word.chars().next(), word.chars().next_back()) {
            (Some(first), _) if first.len_utf8() == word.len() => None,
            (_, Some(last)) if is_mark(last) => Some(word.len() - last.len_utf8()),
            (Some(first), _) if is_mark(first) => Some(first.len_utf8()),
            _ => None,
        };
        let (head, tail) = word.split_at(cut.unwrap_or(word.len()));
        parted.push(head.to_owned());
        if !tail.is_empty() {
            parted.push(tail.to_owned());
        }
    }
    parted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    /// "abc" against "abd": unigrams 2/3, bigrams 1/2, trigrams 0/1, and no longer ones.
    #[test]
    fn orders_without_ngrams_do_not_count() {
        let mean = (2.0 / 3.0 + 0.5) / 3.0;
        near(Chrf::default().sentence("a bc", &["ab d"]).unwrap(), 100.0 * mean);
        let smoothed = Chrf { epsilon_smoothing: true, ..Chrf::default() };
        near(smoothed.sentence("a bc", &["ab d"]).unwrap(), 100.0 * mean / 2.0);
    }

    /// "ab" against "abcd": P = 1 for both orders, R = (2/4 + 1/3)/2 = 5/12.
    #[test]
    fn recall_counts_more_than_precision() {
        let score = Chrf::default().sentence("ab", &["abcd"]).unwrap();
        near(score, 100.0 * 5.0 * (5.0 / 12.0) / (4.0 + 5.0 / 12.0));
        let score = Chrf::default().sentence("abcd", &["ab"]).unwrap();
        near(score, 100.0 * 5.0 * (5.0 / 12.0) / (4.0 * 5.0 / 12.0 + 1.0));
    }

    #[test]
    fn the_best_reference_counts_and_empty_texts_score_nothing() {
        let chrf = Chrf::plus_plus();
        near(chrf.sentence("red hat", &["blue shoe", "red hat"]).unwrap(), 100.0);
        near(chrf.sentence("", &["red hat"]).unwrap(), 0.0);
        near(chrf.sentence("red hat", &[""]).unwrap(), 0.0);
        near(chrf.sentence("", &[""]).unwrap(), 0.0);
    }

    #[test]
    fn one_mark_is_parted_from_a_word() {
        assert_eq!(
            part_marks("(hi) \"so . é! !é e.g.,"),
            ["(hi", ")", "\"", "so", ".", "é", "!", "!", "é", "e.g.", ","]
        );
    }

    #[test]
    fn names_and_signatures_tell_the_orders() {
        assert_eq!(Chrf::default().name(), "chrF2");
        assert_eq!(Chrf::plus_plus().name(), "chrF2++");
        let version = concat!("|version:longhand-", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            Chrf::plus_plus().signature(&[["a"]]),
            format!("nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no{version}")
        );
    }
}
