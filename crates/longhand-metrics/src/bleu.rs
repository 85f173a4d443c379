use crate::metric::{Metric, case, yes_no};
use crate::ngrams;
use crate::tokenizer::Tokenizer;

/// N, the length of the longest n-grams of BLEU.
pub const BLEU_ORDER: usize = 4;

/// What replaces a precision of 0, whose logarithm would make the whole score 0. The methods are those
/// of Chen and Cherry 2014, section 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Smoothing {
    /// `exp`, method 3: the k-th precision without a match is 1/(2ᵏ·total).
    #[default]
    Exp,
    /// `floor`, method 1: no matches count as 0.1 of a match.
    Floor,
    /// `add-k`, method 2: from bigrams on, 1 is added to matches and to totals.
    AddK,
    /// `none`: the score is 0 if any precision is.
    None,
}

impl Smoothing {
    /// What `floor` counts in place of no matches.
    const FLOOR: f64 = 0.1;
    /// What `add-k` adds to matches and totals.
    const ADDED: f64 = 1.0;

    /// Every way of smoothing, the default first.
    pub const ALL: [Self; 4] = [Self::Exp, Self::Floor, Self::AddK, Self::None];

    /// The name in signatures, with the value that the way needs.
    pub fn name(self) -> String {
        match self {
            Self::Exp => "exp".into(),
            Self::Floor => format!("floor[{:.2}]", Self::FLOOR),
            Self::AddK => format!("add-k[{:.2}]", Self::ADDED),
            Self::None => "none".into(),
        }
    }
}

/// BLEU (Papineni et al. 2002, section 2.3), with the digits of sacrebleu (Post 2018):
///
/// BLEU = 100 · BP · exp(1/N · Σₙ ln pₙ), n = 1 … N = 4
///
/// pₙ is the share of the outputs' n-grams that match: an n-gram matches as often as it stands in the
/// reference that has it most often. The brevity penalty BP is 1, or exp(1 − r/c) where the outputs'
/// length c is below r, the sum of the lengths of the references closest to each output (the shorter
/// of two that are equally close). 0 is the worst score and 100 the best one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    /// How texts are parted into tokens; `13a` by default, `zh` or `char` for Chinese.
    pub tokenizer: Tokenizer,
    /// Whether texts are put into lower case first; no by default.
    pub lowercase: bool,
    /// What replaces precisions of 0; `exp` by default.
    pub smoothing: Smoothing,
    /// Whether N is the length of the longest n-grams that the output has, where it has fewer than
    /// four tokens. No by default; single sentences need it.
    pub effective_order: bool,
}

/// What outputs contribute to BLEU. The counts of a corpus are the sums of those of its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BleuCounts {
    /// The n-grams that match, n = 1 … 4.
    pub matches: [u64; BLEU_ORDER],
    /// All n-grams of the outputs, n = 1 … 4.
    pub totals: [u64; BLEU_ORDER],
    /// c, the tokens of the outputs.
    pub output_length: u64,
    /// r, the tokens of the references that are closest in length.
    pub reference_length: u64,
}

impl BleuCounts {
    fn plus(mut self, other: &Self) -> Self {
        for order in 0..BLEU_ORDER {
            self.matches[order] += other.matches[order];
            self.totals[order] += other.totals[order];
        }
        self.output_length += other.output_length;
        self.reference_length += other.reference_length;
        self
    }
}

/// BLEU and what it was made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BleuScore {
    /// BLEU, from 0 to 100.
    pub score: f64,
    /// 100·pₙ after smoothing, n = 1 … 4: from 0 to 100. All are 0 where nothing matches.
    pub precisions: [f64; BLEU_ORDER],
    /// BP, from 0 to 1.
    pub brevity_penalty: f64,
    /// The counts before smoothing.
    pub counts: BleuCounts,
}

impl Bleu {
    /// The settings for single sentences: the default ones with the effective order.
    pub fn of_sentences() -> Self {
        Self { effective_order: true, ..Self::default() }
    }
}

impl Metric for Bleu {
    type Counts = BleuCounts;
    type Score = BleuScore;

    fn score<'a>(&self, counts: impl IntoIterator<Item = &'a BleuCounts>) -> BleuScore {
        let counts = counts.into_iter().fold(BleuCounts::default(), BleuCounts::plus);
        let brevity_penalty = brevity_penalty(&counts);
        let mut precisions = [0.0; BLEU_ORDER];
        if counts.matches == [0; BLEU_ORDER] {
            return BleuScore { score: 0.0, precisions, brevity_penalty, counts };
        }
        let (mut order, mut without_match) = (BLEU_ORDER, 1.0);
        for (n, precision) in precisions.iter_mut().enumerate() {
            let added = match self.smoothing {
                Smoothing::AddK if n > 0 => Smoothing::ADDED,
                _ => 0.0,
            };
            let matches = counts.matches[n] as f64 + added;
            let total = counts.totals[n] as f64 + added;
            if total == 0.0 {
                break;
            }
            if self.effective_order {
                order = n + 1;
            }
            *precision = match self.smoothing {
                _ if matches > 0.0 => 100.0 * matches / total,
                Smoothing::Exp => {
                    without_match *= 2.0;
                    100.0 / (without_match * total)
                }
                Smoothing::Floor => 100.0 * Smoothing::FLOOR / total,
                Smoothing::AddK | Smoothing::None => 0.0,
            };
        }
        // ln 0 = −∞, and exp(−∞) = 0: a precision of 0 makes the score 0.
        let logarithms: f64 = precisions[..order].iter().map(|precision| precision.ln()).sum();
        let score = brevity_penalty * (logarithms / order as f64).exp();
        BleuScore { score, precisions, brevity_penalty, counts }
    }

    fn count(&self, output: &str, references: &[&str]) -> BleuCounts {
        let output = self.tokens(output);
        let references: Vec<_> = references.iter().map(|text| self.tokens(text)).collect();
        let closest = references.iter().map(Vec::len);
        let closest = closest.min_by_key(|&length| (length.abs_diff(output.len()), length));
        let mut counts = BleuCounts {
            output_length: output.len() as u64,
            reference_length: closest.unwrap_or(0) as u64,
            ..BleuCounts::default()
        };
        for n in 0..BLEU_ORDER {
            let mut most = ngrams::Counts::new();
            for tokens in &references {
                for (ngram, count) in ngrams::count(tokens, n + 1) {
                    let most = most.entry(ngram).or_insert(0);
                    *most = count.max(*most);
                }
            }
            counts.matches[n] = ngrams::matches(&ngrams::count(&output, n + 1), &most);
            counts.totals[n] = output.len().saturating_sub(n) as u64;
        }
        counts
    }

    fn settings(&self) -> String {
        format!(
            "case:{}|eff:{}|tok:{}|smooth:{}",
            case(self.lowercase),
            yes_no(self.effective_order),
            self.tokenizer.name(),
            self.smoothing.name()
        )
    }
}

impl Bleu {
    fn tokens(&self, text: &str) -> Vec<String> {
        if self.lowercase {
            self.tokenizer.tokenize(&text.to_lowercase())
        } else {
            self.tokenizer.tokenize(text)
        }
    }
}

/// 1, or exp(1 − r/c) where c < r, or 0 where c is 0 and r is not.
fn brevity_penalty(counts: &BleuCounts) -> f64 {
    let (output, reference) = (counts.output_length, counts.reference_length);
    match output {
        _ if output >= reference => 1.0,
        0 => 0.0,
        _ => (1.0 - reference as f64 / output as f64).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Bleu = Bleu {
        tokenizer: Tokenizer::None,
        lowercase: false,
        smoothing: Smoothing::None,
        effective_order: false,
    };

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    /// The second example of Papineni et al. 2002, section 2.1: "the" matches twice, not seven times.
    #[test]
    fn matches_are_clipped_to_the_reference_that_has_most() {
        let references = ["The cat is on the mat .", "There is a cat on the mat ."];
        let bleu = Bleu { lowercase: true, ..PLAIN };
        let score = bleu.sentence("the the the the the the the", &references).unwrap();
        assert_eq!(score.counts.matches, [2, 0, 0, 0]);
        assert_eq!(score.counts.totals, [7, 6, 5, 4]);
        near(score.precisions[0], 200.0 / 7.0);
        near(score.score, 0.0);
    }

    /// Precisions 4/5, 2/4, 1/3 and 0/2, and lengths 5 and 6.
    #[test]
    fn each_smoothing_agrees_with_its_equation() {
        let score = |smoothing| {
            let bleu = Bleu { smoothing, ..PLAIN };
            bleu.sentence("a b c x d", &["a b c d e f"]).unwrap()
        };
        let penalty = (1.0_f64 - 6.0 / 5.0).exp();
        let mean = |product: f64| 100.0 * penalty * product.powf(0.25);
        near(score(Smoothing::None).score, 0.0);
        near(score(Smoothing::None).brevity_penalty, penalty);
        near(score(Smoothing::Exp).score, mean(0.8 * 0.5 / 3.0 / 4.0));
        near(score(Smoothing::Floor).score, mean(0.8 * 0.5 / 3.0 * 0.05));
        near(score(Smoothing::AddK).score, mean(0.8 * (3.0 / 5.0) * (2.0 / 4.0) / 3.0));
    }

    #[test]
    fn short_sentences_need_the_effective_order() {
        let sentence = |bleu: Bleu| bleu.sentence("a b", &["a b"]).unwrap().score;
        near(sentence(PLAIN), 0.0);
        near(sentence(Bleu::of_sentences()), 100.0);
        near(Bleu::of_sentences().sentence("", &["a b"]).unwrap().score, 0.0);
    }

    #[test]
    fn the_closest_reference_gives_the_length_and_the_shorter_of_two() {
        let length = |references: &[&str]| {
            PLAIN.sentence("a b c", references).unwrap().counts.reference_length
        };
        assert_eq!(length(&["a b c d e f", "a b", "a b c d"]), 2);
        assert_eq!(length(&["a", "a b c d"]), 4);
    }

    #[test]
    fn the_signature_names_every_setting() {
        let signature = |bleu: Bleu| bleu.signature(&[["a", "b"]]);
        let version = concat!("|version:longhand-", env!("CARGO_PKG_VERSION"));
        let bleu = Bleu { smoothing: Smoothing::Floor, lowercase: true, ..Bleu::of_sentences() };
        assert_eq!(
            signature(bleu),
            format!("nrefs:2|case:lc|eff:yes|tok:13a|smooth:floor[0.10]{version}")
        );
        let bleu = Bleu { smoothing: Smoothing::AddK, tokenizer: Tokenizer::Zh, ..PLAIN };
        assert_eq!(
            signature(bleu),
            format!("nrefs:2|case:mixed|eff:no|tok:zh|smooth:add-k[1.00]{version}")
        );
    }
}
