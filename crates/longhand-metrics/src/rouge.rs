mod lcs;
mod porter;

use crate::metric::Metric;
use crate::ngrams;
use crate::white_space::is_white_space;

pub use porter::stem;

/// What ROUGE compares: what the tokens of a text are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RougeTokens {
    /// Runs of the letters a to z and of digits, in lower case. Texts in other scripts have none.
    #[default]
    Words,
    /// The same, each word of more than three letters cut to its [`stem`].
    Stems,
    /// Characters in lower case but white space, as is usual for Chinese.
    Characters,
}

/// ROUGE (Lin 2004), with the digits of the Python package rouge-score: how much of a reference an
/// output holds, and how much of the output is in the reference.
///
/// The four scores differ in what matches: n-grams ([`RougeScores::rouge1`], [`RougeScores::rouge2`],
/// section 2) or longest common subsequences ([`RougeScores::rouge_l`], [`RougeScores::rouge_lsum`],
/// section 3). Each is the [`Overlap`] of tokens that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rouge {
    /// What is compared: words by default.
    pub tokens: RougeTokens,
}

/// Shares of what matches; 1 is best. Each is 0 where it would be a share of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Matches / what the output has, from 0 to 1.
    pub precision: f64,
    /// Matches / what the reference has, from 0 to 1.
    pub recall: f64,
    /// 2·P·R/(P + R), from 0 to 1. Of several outputs it is the mean of their F-scores, not that of the
    /// mean precision and recall.
    pub f1: f64,
}

/// The four scores of ROUGE.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RougeScores {
    /// ROUGE-1: single tokens match.
    pub rouge1: Overlap,
    /// ROUGE-2: pairs of neighbouring tokens match.
    pub rouge2: Overlap,
    /// ROUGE-L (section 3.1): the longest common subsequence of both texts matches.
    pub rouge_l: Overlap,
    /// ROUGE-Lsum (section 3.2): for each sentence of the reference, the union of its longest common
    /// subsequences with the output's sentences matches. A sentence is a line.
    pub rouge_lsum: Overlap,
}

impl Metric for Rouge {
    /// The scores of one output. Of several references, each score is that of the reference with which
    /// its F-score is best.
    type Counts = RougeScores;
    /// The means over the outputs of precision, recall and F-score.
    type Score = RougeScores;

    fn count(&self, output: &str, references: &[&str]) -> RougeScores {
        let scores: Vec<_> = references.iter().map(|text| self.against(output, text)).collect();
        RougeScores {
            rouge1: best(scores.iter().map(|scores| scores.rouge1)),
            rouge2: best(scores.iter().map(|scores| scores.rouge2)),
            rouge_l: best(scores.iter().map(|scores| scores.rouge_l)),
            rouge_lsum: best(scores.iter().map(|scores| scores.rouge_lsum)),
        }
    }

    fn score<'a>(&self, counts: impl IntoIterator<Item = &'a RougeScores>) -> RougeScores {
        let scores: Vec<_> = counts.into_iter().collect();
        RougeScores {
            rouge1: mean(scores.iter().map(|scores| scores.rouge1)),
            rouge2: mean(scores.iter().map(|scores| scores.rouge2)),
            rouge_l: mean(scores.iter().map(|scores| scores.rouge_l)),
            rouge_lsum: mean(scores.iter().map(|scores| scores.rouge_lsum)),
        }
    }

    fn settings(&self) -> String {
        let tokens = match self.tokens {
            RougeTokens::Words => "words",
            RougeTokens::Stems => "stems",
            RougeTokens::Characters => "characters",
        };
        format!("case:lc|tok:{tokens}")
    }
}

impl Rouge {
    fn against(&self, output: &str, reference: &str) -> RougeScores {
        let lines = [output, reference].map(|text| {
            let lines = text.split('\n').map(|line| self.tokenize(line));
            lines.collect::<Vec<_>>()
        });
        // A line's end parts tokens, so that the tokens of a text are those of its lines.
        let [output, reference] = [lines[0].concat(), lines[1].concat()];
        let of = |matches| Overlap::new(matches, output.len(), reference.len());
        RougeScores {
            rouge1: shared_ngrams(&output, &reference, 1),
            rouge2: shared_ngrams(&output, &reference, 2),
            rouge_l: of(lcs::length(&output, &reference)),
            rouge_lsum: of(lcs::union_matches(&lines[0], &lines[1])),
        }
    }

    fn tokenize(&self, text: &str) -> Vec<String> {
        let text = text.to_lowercase();
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let words = text.split(|c| !is_word(c)).filter(|word| !word.is_empty());
        match self.tokens {
            RougeTokens::Words => words.map(str::to_owned).collect(),
            RougeTokens::Stems => {
                words.map(|word| if word.len() > 3 { stem(word) } else { word.into() }).collect()
            }
            RougeTokens::Characters => {
                text.chars().filter(|&c| !is_white_space(c)).map(String::from).collect()
            }
        }
    }
}

impl Overlap {
    fn new(matches: usize, in_output: usize, in_reference: usize) -> Self {
        let share = |of: usize| matches as f64 / of.max(1) as f64;
        let (precision, recall) = (share(in_output), share(in_reference));
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f1 }
    }
}

/// The first of those with the greatest F-score.
fn best(overlaps: impl Iterator<Item = Overlap>) -> Overlap {
    overlaps.reduce(|best, other| if other.f1 > best.f1 { other } else { best }).unwrap_or_default()
}

/// The mean of each share; 0 without any.
fn mean(overlaps: impl ExactSizeIterator<Item = Overlap>) -> Overlap {
    let number = overlaps.len().max(1) as f64;
    let sum = overlaps.fold(Overlap::default(), |sum, other| Overlap {
        precision: sum.precision + other.precision,
        recall: sum.recall + other.recall,
        f1: sum.f1 + other.f1,
    });
    let Overlap { precision, recall, f1 } = sum;
    Overlap { precision: precision / number, recall: recall / number, f1: f1 / number }
}

fn shared_ngrams(output: &[String], reference: &[String], order: usize) -> Overlap {
    let counts = [output, reference].map(|tokens| ngrams::count(tokens, order));
    let total = |tokens: &[String]| (tokens.len() + 1).saturating_sub(order);
    let matches = ngrams::matches(&counts[0], &counts[1]) as usize;
    Overlap::new(matches, total(output), total(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Rouge = Rouge { tokens: RougeTokens::Words };

    fn check(found: Overlap, matches: usize, in_output: usize, in_reference: usize) {
        assert_eq!(found, Overlap::new(matches, in_output, in_reference));
    }

    /// The example of Lin 2004, section 3.1: S2 and S3 have the same bigrams, but not the same order.
    #[test]
    fn subsequences_tell_orders_apart() {
        let reference = ["Police killed the gunman."];
        let scores = WORDS.sentence("police kill the gunman", &reference).unwrap();
        check(scores.rouge1, 3, 4, 4);
        check(scores.rouge2, 1, 3, 3);
        check(scores.rouge_l, 3, 4, 4);
        let scores = WORDS.sentence("The gunman kill police", &reference).unwrap();
        check(scores.rouge2, 1, 3, 3);
        check(scores.rouge_l, 2, 4, 4);
    }

    /// The example of Lin 2004, section 3.2: w1 w2 and w1 w3 w5 unite to four words.
    #[test]
    fn common_subsequences_of_sentences_are_united() {
        let scores = WORDS.sentence("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", &["w1 w2 w3 w4 w5"]).unwrap();
        check(scores.rouge_lsum, 4, 10, 5);
        let scores = WORDS.sentence("w5\nw1", &["w1\nw5"]).unwrap();
        check(scores.rouge_lsum, 2, 2, 2);
        check(scores.rouge_l, 1, 2, 2);
    }

    #[test]
    fn words_of_sentences_match_once() {
        let scores = WORDS.sentence("a b", &["a b\nb a"]).unwrap();
        check(scores.rouge_lsum, 2, 2, 4);
    }

    #[test]
    fn the_reference_with_the_best_f_score_counts() {
        let scores = WORDS.sentence("a b c", &["a x", "a b d e", "z"]).unwrap();
        check(scores.rouge1, 2, 3, 4);
        check(scores.rouge2, 1, 2, 3);
    }

    #[test]
    fn stems_and_characters_match_where_words_do_not() {
        let recall = |tokens| {
            let scores = Rouge { tokens }.sentence("She was running 跑步", &["it runs 跑了"]);
            scores.unwrap().rouge1.recall
        };
        assert_eq!(recall(RougeTokens::Words), 0.0);
        assert_eq!(recall(RougeTokens::Stems), 1.0 / 2.0);
        assert_eq!(recall(RougeTokens::Characters), 6.0 / 8.0);
    }

    #[test]
    fn a_corpus_has_the_mean_of_its_outputs() {
        let scores = WORDS.corpus(&["a b", ""], &[["a b"], ["c"]]).unwrap();
        assert_eq!(scores.rouge1, Overlap { precision: 0.5, recall: 0.5, f1: 0.5 });
        assert_eq!(scores.rouge_lsum.f1, 0.5);
    }
}
