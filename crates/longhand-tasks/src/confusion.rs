//! How well labels were told apart.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How often each label was taken for each: rows are the true labels, columns the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(labels: usize) -> Self {
        Self { counts: vec![vec![0; labels]; labels] }
    }

    /// Counts an answer.
    ///
    /// # Panics
    /// If a label is out of range.
    pub fn add(&mut self, truth: u32, answer: u32) {
        self.counts[truth as usize][answer as usize] += 1;
    }

    /// The counts: `[truth][answer]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Share of answers that are right; 0 where there is none.
    pub fn accuracy(&self) -> f64 {
        let all: u64 = self.counts.iter().flatten().sum();
        let right: u64 = (0..self.counts.len()).map(|label| self.counts[label][label]).sum();
        right as f64 / all.max(1) as f64
    }

    /// Mean of the labels' F1 = 2·right / (true + answered), over the labels that occur as truth
    /// or as an answer; 0 where none does.
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> = (0..self.counts.len())
            .filter_map(|label| {
                let truths: u64 = self.counts[label].iter().sum();
                let answers: u64 = self.counts.iter().map(|row| row[label]).sum();
                let right = self.counts[label][label];
                (truths + answers > 0).then(|| 2.0 * right as f64 / (truths + answers) as f64)
            })
            .collect();
        scores.iter().sum::<f64>() / scores.len().max(1) as f64
    }

    /// A table for people: a row for each true label, a column for each answer. Names beyond the labels, and labels beyond the names, are left out.
    pub fn table(&self, names: &[String]) -> String {
        let cells = self.counts.iter().flatten().map(|count| count.to_string().len());
        let wide = |name: &String| name.chars().count();
        let widest = names.iter().map(wide).max().unwrap_or(0);
        let width = cells.max().unwrap_or(0).max(widest.min(LONGEST_NAME));
        let first = widest.max("true ↓ answer →".chars().count());
        let mut table = format!("{:<first$}", "true ↓ answer →");
        for name in names.iter().take(self.counts.len()) {
            // Long names are cut above their columns; their own row names them whole.
            let short: String = name.chars().take(width).collect();
            // Writing to a string cannot fail.
            let _ = write!(table, "  {short:>width$}");
        }
        for (name, row) in names.iter().zip(&self.counts) {
            let _ = write!(table, "\n{name:<first$}");
            for count in row {
                let _ = write!(table, "  {count:>width$}");
            }
        }
        table
    }
}

/// Characters of a label's name above its column.
const LONGEST_NAME: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_of_the_definition() {
        let mut confusion = Confusion::new(4);
        for (truth, answer, count) in [(0, 0, 3), (0, 1, 1), (1, 1, 2), (1, 0, 2), (2, 2, 2)] {
            (0..count).for_each(|_| confusion.add(truth, answer));
        }
        assert_eq!(confusion.accuracy(), 0.7);
        // F1: 6/9, 4/7, 1; the fourth label never occurs.
        let expected = (6.0 / 9.0 + 4.0 / 7.0 + 1.0) / 3.0;
        assert!((confusion.macro_f1() - expected).abs() < 1e-12);
        assert_eq!((Confusion::new(2).accuracy(), Confusion::new(2).macro_f1()), (0.0, 0.0));
    }

    #[test]
    fn the_table_has_a_row_and_a_column_for_each_label() {
        let mut confusion = Confusion::new(2);
        confusion.add(0, 1);
        let table = confusion.table(&["good".into(), "a very long name indeed".into()]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("a very long "), "{table}");
        assert!(lines[1].starts_with("good") && lines[1].ends_with('1'), "{table}");
        let widths: Vec<usize> = lines.iter().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [widths[0]; 3]);
    }
}
