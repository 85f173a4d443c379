//! Labels that are numbers, such as ratings: what is wrong by more counts for more.

use std::collections::BTreeMap;

use longhand_text::corpus::table::Labels;

use crate::confusion::Confusion;
use crate::error::TaskError;

/// The labels sorted by their values.
///
/// # Errors
/// [`TaskError::NotANumber`] for a label that is no finite number.
pub(super) fn by_value(labels: Labels, files: &str) -> Result<Labels, TaskError> {
    match labels.names().iter().find(|name| value(name).is_none()) {
        Some(label) => Err(TaskError::NotANumber { name: files.into(), label: label.clone() }),
        None => Ok(labels.sorted_by_key(|name| value(name).unwrap_or(0.0))),
    }
}

/// Metrics of ordered labels:
/// - `mean_absolute_error`: the mean distance of answers from the true values, in their unit.
/// - `weighted_kappa`: Cohen's kappa with quadratic weights (Cohen 1968), 1 − Σ w·O / Σ w·E, where
///   w = (i − j)² for the places i and j of the true label and the answer, O counts the examples, and
///   E is what chance would give with the same margins. 1 is best; 0 is chance, and where E is 0.
pub(super) fn measures(labels: &Labels, confusion: &Confusion) -> BTreeMap<String, f64> {
    let values: Vec<f64> = labels.names().iter().map(|name| value(name).unwrap_or(0.0)).collect();
    let classes = confusion.classes();
    let all: f64 = classes.iter().map(|class| class.support as f64).sum();
    let (mut error, mut observed, mut expected) = (0.0, 0.0, 0.0);
    for (truth, row) in confusion.counts().iter().enumerate() {
        for (answer, &count) in row.iter().enumerate() {
            let weight = (truth as f64 - answer as f64).powi(2);
            error += (values[truth] - values[answer]).abs() * count as f64;
            observed += weight * count as f64;
            let chance = classes[truth].support as f64 * classes[answer].answered as f64;
            expected += weight * chance / all.max(1.0);
        }
    }
    let kappa = if expected == 0.0 { 0.0 } else { 1.0 - observed / expected };
    let metrics = [("mean_absolute_error", error / all.max(1.0)), ("weighted_kappa", kappa)];
    metrics.map(|(name, value)| (name.to_owned(), value)).into()
}

fn value(name: &str) -> Option<f64> {
    name.parse().ok().filter(|value: &f64| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_by_value_and_measured_by_distance() {
        let names = ["10", "2.5", "-1", "0.5"].map(str::to_owned);
        let labels = by_value(Labels::of_names(names), "t").unwrap();
        assert_eq!(labels.names(), ["-1", "0.5", "2.5", "10"]);
        let error = by_value(Labels::of_names(["1".into(), "good".into()]), "t.csv").unwrap_err();
        assert!(error.to_string().contains("t.csv has the label \"good\""), "{error}");

        let labels = Labels::of_names(["1", "2", "3"].map(str::to_owned));
        let mut confusion = Confusion::new(3);
        for (truth, answer, count) in [(0, 0, 3), (0, 2, 1), (1, 1, 2), (1, 0, 1), (2, 2, 3)] {
            (0..count).for_each(|_| confusion.add(truth, answer));
        }
        let measures = measures(&labels, &confusion);
        assert!((measures["mean_absolute_error"] - 0.3).abs() < 1e-12);
        // Σ w·O = 4 + 1; margins (4, 3, 3) and (4, 2, 4), so Σ w·E = (8 + 64 + 12 + 12 + 48 + 6) / 10.
        let expected = 1.0 - 5.0 / 15.0;
        assert!((measures["weighted_kappa"] - expected).abs() < 1e-12, "{measures:?}");
        assert_eq!(super::measures(&labels, &Confusion::new(3))["weighted_kappa"], 0.0);
    }
}
