//! Outputs side by side with their references.

use crate::error::MetricsError;

/// What `measure` gives for each output and its references, in the order of the outputs.
///
/// # Errors
/// There are no outputs, not as many lists of references, or an output without a reference.
pub(crate) fn measure_each<H, R, S, C>(
    outputs: &[H],
    references: &[R],
    measure: impl Fn(&str, &[&str]) -> C,
) -> Result<Vec<C>, MetricsError>
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
    let measured = outputs.iter().zip(references).enumerate().map(|(place, (output, texts))| {
        let texts: Vec<&str> = texts.as_ref().iter().map(AsRef::as_ref).collect();
        if texts.is_empty() {
            return Err(MetricsError::NoReferences { output: place + 1 });
        }
        Ok(measure(output.as_ref(), &texts))
    });
    measured.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(outputs: &[&str], references: &[Vec<&str>]) -> Result<Vec<usize>, String> {
        let measured =
            measure_each(outputs, references, |output, texts| output.len() + texts.len());
        measured.map_err(|error| error.to_string())
    }

    #[test]
    fn each_output_is_measured_with_its_references() {
        assert_eq!(lengths(&["abc", ""], &[vec!["", ""], vec![""]]), Ok(vec![5, 1]));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_a_sentence() {
        let sentence =
            |outputs: &[&str], references: &[Vec<&str>]| lengths(outputs, references).unwrap_err();
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
}
