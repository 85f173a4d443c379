//! What weights are tuned for: a metric of the best hypotheses, by counts that add up.

use longhand_metrics::{BLEU_ORDER, Bleu, BleuCounts, Metric};

/// A metric of a corpus that follows from sums of counts of its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// BLEU of the corpus, from 0 to 100.
    Bleu(Bleu),
    /// Word error rate: substituted, missing and added words of all outputs as a share, in percent, of
    /// the words of the references.
    WordErrors,
    /// The same of characters.
    CharacterErrors,
}

/// Counts of one output, or of several together; whole numbers, whose sums are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics([f64; 2 * BLEU_ORDER + 2]);

impl Statistics {
    /// Takes the counts of an output in, and those of another one out.
    pub(crate) fn replace(&mut self, old: &Self, new: &Self) {
        for (sum, (old, new)) in self.0.iter_mut().zip(old.0.iter().zip(&new.0)) {
            *sum += new - old;
        }
    }

    /// The counts of both together.
    pub fn plus(mut self, other: &Self) -> Self {
        self.replace(&Self::default(), other);
        self
    }
}

impl Objective {
    /// The counts of an output against its references. Of several references an error rate takes the
    /// one that gives the fewest errors, the shorter one among equals.
    pub fn count(&self, output: &str, references: &[&str]) -> Statistics {
        match self {
            Self::Bleu(bleu) => {
                let counts = bleu.count(output, references);
                let lengths = [counts.output_length, counts.reference_length];
                let all = counts.matches.into_iter().chain(counts.totals).chain(lengths);
                let mut statistics = Statistics::default();
                statistics.0.iter_mut().zip(all).for_each(|(to, count)| *to = count as f64);
                statistics
            }
            Self::WordErrors => errors(output, references, |text| {
                text.split_whitespace().map(str::to_owned).collect()
            }),
            Self::CharacterErrors => {
                errors(output, references, |text| text.chars().map(String::from).collect())
            }
        }
    }

    /// The metric of summed counts, in percent.
    pub fn measure(&self, sum: &Statistics) -> f64 {
        match self {
            Self::Bleu(bleu) => {
                let mut counts = BleuCounts::default();
                for n in 0..BLEU_ORDER {
                    counts.matches[n] = sum.0[n] as u64;
                    counts.totals[n] = sum.0[BLEU_ORDER + n] as u64;
                }
                counts.output_length = sum.0[2 * BLEU_ORDER] as u64;
                counts.reference_length = sum.0[2 * BLEU_ORDER + 1] as u64;
                bleu.score([&counts]).score
            }
            Self::WordErrors | Self::CharacterErrors => 100.0 * sum.0[0] / sum.0[1].max(1.0),
        }
    }

    /// The same, the larger the better.
    pub(crate) fn gain(&self, sum: &Statistics) -> f64 {
        match self {
            Self::Bleu(_) => self.measure(sum),
            Self::WordErrors | Self::CharacterErrors => -self.measure(sum),
        }
    }

    /// Its name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bleu(_) => "BLEU",
            Self::WordErrors => "word error rate",
            Self::CharacterErrors => "character error rate",
        }
    }
}

fn errors(output: &str, references: &[&str], parts: impl Fn(&str) -> Vec<String>) -> Statistics {
    let output = parts(output);
    let counts = references.iter().map(|text| {
        let reference = parts(text);
        (edit_distance(&output, &reference), reference.len())
    });
    let (errors, length) = counts.min().unwrap_or((output.len(), 0));
    let mut statistics = Statistics::default();
    statistics.0[0] = errors as f64;
    statistics.0[1] = length as f64;
    statistics
}

/// The fewest substitutions, deletions and insertions that make one sequence
/// the other (Levenshtein 1966).
fn edit_distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_against_the_nearest_reference() {
        let sum = |outputs: &[(&str, &[&str])], objective: Objective| {
            let counts = outputs.iter().map(|(output, texts)| objective.count(output, texts));
            objective.measure(&counts.fold(Statistics::default(), |sum, one| sum.plus(&one)))
        };
        // One substitution, one insertion, one deletion of 3 + 2 + 2 words.
        let outputs: [(&str, &[&str]); 3] =
            [("a x c", &["a b c", "q"]), ("a b c", &["a b"]), ("a", &["b a"])];
        assert!((sum(&outputs, Objective::WordErrors) - 300.0 / 7.0).abs() < 1e-9);
        assert!(
            (sum(&[("kitten", &["sitting"])], Objective::CharacterErrors) - 300.0 / 7.0).abs()
                < 1e-9
        );
        assert_eq!(edit_distance::<u8>(b"", b"abc"), 3);
        assert_eq!(edit_distance::<u8>(b"abc", b""), 3);
        assert_eq!(sum(&[("a", &[""])], Objective::WordErrors), 100.0);
    }

    #[test]
    fn bleu_is_that_of_the_corpus() {
        let bleu = Bleu::default();
        let objective = Objective::Bleu(bleu);
        let outputs = ["the cat sat on a mat today .", "it rained all day ."];
        let references = [["the cat sat on the mat today ."], ["it rained all day and night ."]];
        let counts = outputs.iter().zip(&references).map(|(a, b)| objective.count(a, b));
        let sum = counts.fold(Statistics::default(), |sum, one| sum.plus(&one));
        let expected = bleu.corpus(&outputs, &references).unwrap().score;
        assert!((objective.measure(&sum) - expected).abs() < 1e-12 && expected > 10.0);
    }
}
