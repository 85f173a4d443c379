use crate::error::MetricsError;

/// A metric of outputs against their references. Output i is compared with every text of
/// `references[i]`; an output can have another number of references than the next one.
pub trait Metric {
    /// What one output contributes to the score of a corpus.
    type Counts;
    /// The score of an output or of a corpus.
    type Score;

    /// The counts of one output and its references.
    fn count(&self, output: &str, references: &[&str]) -> Self::Counts;

    /// The score of all outputs that have these counts, in any order: of a corpus, of a part of it or
    /// of a resampled one. Nothing scores as an empty output does.
    fn score<'a>(&self, counts: impl IntoIterator<Item = &'a Self::Counts>) -> Self::Score
    where
        Self::Counts: 'a;

    /// The settings that a score depends on, as the middle part of a signature.
    fn settings(&self) -> String;

    /// The counts of each output, in the order of the outputs. Refuses a corpus without outputs, lists
    /// of references that are more or fewer than the outputs, and an output without a reference.
    fn counts<H, R, S>(
        &self,
        outputs: &[H],
        references: &[R],
    ) -> Result<Vec<Self::Counts>, MetricsError>
    where
        H: AsRef<str>,
        R: AsRef<[S]>,
        S: AsRef<str>,
    {
        if outputs.len() != references.len() {
            let (outputs, references) = (outputs.len(), references.len());
            return Err(MetricsError::UnequalCounts { outputs, references });
        }
        if outputs.is_empty() {
            return Err(MetricsError::NoOutputs);
        }
        let pairs = outputs.iter().zip(references).zip(1..);
        let counts = pairs.map(|((text, references), output)| {
            let references: Vec<&str> = references.as_ref().iter().map(AsRef::as_ref).collect();
            if references.is_empty() {
                return Err(MetricsError::NoReferences { output });
            }
            Ok(self.count(text.as_ref(), &references))
        });
        counts.collect()
    }

    /// The score of all outputs together. Only for ROUGE it is the mean of the outputs' scores. What
    /// `counts` refuses is refused.
    fn corpus<H, R, S>(&self, outputs: &[H], references: &[R]) -> Result<Self::Score, MetricsError>
    where
        H: AsRef<str>,
        R: AsRef<[S]>,
        S: AsRef<str>,
    {
        Ok(self.score(&self.counts(outputs, references)?))
    }

    /// The score of one output, which needs a reference.
    fn sentence<S: AsRef<str>>(
        &self,
        output: &str,
        references: &[S],
    ) -> Result<Self::Score, MetricsError> {
        self.corpus(&[output], &[references])
    }

    /// The signature in sacrebleu's form: the number of references of each output (`var` if it varies),
    /// the settings, and this program's name and version in place of sacrebleu's, such as
    /// `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:longhand-0.1.0` of BLEU.
    fn signature<R, S>(&self, references: &[R]) -> String
    where
        R: AsRef<[S]>,
    {
        let mut numbers = references.iter().map(|texts| texts.as_ref().len());
        let number = match numbers.next() {
            Some(first) if numbers.all(|number| number == first) => first.to_string(),
            _ => "var".to_owned(),
        };
        let version = env!("CARGO_PKG_VERSION");
        format!("nrefs:{number}|{}|version:longhand-{version}", self.settings())
    }
}

/// `yes` or `no`, the values of switches.
pub(crate) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// The value of `case`: texts are compared in lower case, or as they are.
pub(crate) fn case(lowercase: bool) -> &'static str {
    if lowercase { "lc" } else { "mixed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length of an output and the number of its references, added.
    struct Sizes;

    impl Metric for Sizes {
        type Counts = usize;
        type Score = usize;

        fn count(&self, output: &str, references: &[&str]) -> usize {
            output.len() + references.len()
        }

        fn score<'a>(&self, counts: impl IntoIterator<Item = &'a usize>) -> usize {
            counts.into_iter().sum()
        }

        fn settings(&self) -> String {
            "x".into()
        }
    }

    #[test]
    fn each_output_is_measured_with_its_references() {
        let (outputs, references) = (["abc", ""], [vec!["", ""], vec![""]]);
        assert_eq!(Sizes.counts(&outputs, &references), Ok(vec![5, 1]));
        assert_eq!(Sizes.corpus(&outputs, &references), Ok(6));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_a_sentence() {
        let sentence = |outputs: &[&str], references: &[Vec<&str>]| {
            Sizes.corpus(outputs, references).unwrap_err().to_string()
        };
        assert_eq!(
            sentence(&["a", "b"], &[vec!["a"]]),
            "there are 2 outputs but references for 1; give references for each output, in the same \
             order"
        );
        assert_eq!(
            sentence(&[], &[]),
            "there are no outputs to measure; give at least one output with its references"
        );
        assert_eq!(
            sentence(&["a", "b"], &[vec!["a"], vec![]]),
            "output 2 has no reference; give each output at least one, even if it is empty"
        );
    }

    #[test]
    fn the_number_of_references_is_told_if_it_is_the_same() {
        let start = |references: &[Vec<&str>]| {
            Sizes.signature(references).split("|version").next().unwrap().to_owned()
        };
        assert_eq!(start(&[vec!["a", "b"], vec!["c", "d"]]), "nrefs:2|x");
        assert_eq!(start(&[vec!["a", "b"], vec!["c"]]), "nrefs:var|x");
    }
}
