//! The parts of signatures that all metrics share.

/// A signature in sacrebleu's form: the number of references of each output (`var` if it varies),
/// the settings of the metric, and this program's name and version in place of sacrebleu's.
pub(crate) fn signature<R, S>(references: &[R], settings: &str) -> String
where
    R: AsRef<[S]>,
{
    let mut numbers = references.iter().map(|texts| texts.as_ref().len());
    let first = numbers.next();
    let number = match first {
        Some(first) if numbers.all(|number| number == first) => first.to_string(),
        _ => "var".to_owned(),
    };
    format!("nrefs:{number}|{settings}|version:longhand-{}", env!("CARGO_PKG_VERSION"))
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

    #[test]
    fn the_number_of_references_is_told_if_it_is_the_same() {
        let start = |references: &[Vec<&str>]| {
            signature(references, "x").split('|').next().unwrap().to_owned()
        };
        assert_eq!(start(&[vec!["a", "b"], vec!["c", "d"]]), "nrefs:2");
        assert_eq!(start(&[vec!["a", "b"], vec!["c"]]), "nrefs:var");
    }
}
