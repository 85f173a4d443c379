//! How well labels were told apart.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How often each label was taken for each: rows are the true labels, columns the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

/// How well one label was told from the others. A share of nothing is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScore {
    /// Share of its answers that are right, 0 to 1.
    pub precision: f64,
    /// Share of its examples that are answered so, 0 to 1.
    pub recall: f64,
    /// 2·right / (support + answered), 0 to 1.
    pub f1: f64,
    /// Examples that have the label.
    pub support: u64,
    /// Examples that are answered so.
    pub answered: u64,
}

impl Confusion {
    /// A table in which nothing is counted yet.
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

    /// The counts: a row for each true label, `[truth][answer]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Share of answers that are right; 0 where there is none.
    pub fn accuracy(&self) -> f64 {
        let all: u64 = self.counts.iter().flatten().sum();
        let right: u64 = (0..self.counts.len()).map(|label| self.counts[label][label]).sum();
        right as f64 / all.max(1) as f64
    }

    /// Precision, recall and F1 of each label.
    pub fn classes(&self) -> Vec<ClassScore> {
        let class = |label: usize| {
            let support: u64 = self.counts[label].iter().sum();
            let answered: u64 = self.counts.iter().map(|row| row[label]).sum();
            ClassScore::of(self.counts[label][label], support, answered)
        };
        (0..self.counts.len()).map(class).collect()
    }

    /// Means of the labels' precision, recall and F1, over the labels that occur as truth or as an
    /// answer; 0 where none does.
    pub fn macro_means(&self) -> [f64; 3] {
        macro_means(&self.classes())
    }

    /// The third of [`Confusion::macro_means`].
    pub fn macro_f1(&self) -> f64 {
        self.macro_means()[2]
    }

    /// F1 of the second of two labels, which is the positive one of `0` and `1`; of another number
    /// of labels the macro mean.
    pub fn f1(&self) -> f64 {
        match self.classes().as_slice() {
            [_, positive] => positive.f1,
            _ => self.macro_f1(),
        }
    }

    /// Matthews correlation of any number of labels (Gorodkin 2004, R_K): with s examples, c right
    /// answers, tₖ examples and pₖ answers of label k,
    /// (c·s − Σ tₖpₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)); 0 where the root is 0.
    pub fn matthews(&self) -> f64 {
        let classes = self.classes();
        let sum = |value: fn(&ClassScore) -> f64| classes.iter().map(value).sum::<f64>();
        let all = sum(|class| class.support as f64);
        let right: u64 = (0..self.counts.len()).map(|label| self.counts[label][label]).sum();
        let truths = all * all - sum(|class| (class.support as f64).powi(2));
        let answers = all * all - sum(|class| (class.answered as f64).powi(2));
        let together = sum(|class| class.support as f64 * class.answered as f64);
        let root = (truths * answers).sqrt();
        if root == 0.0 { 0.0 } else { (right as f64 * all - together) / root }
    }

    /// A table for people: a row for each true label, a column for each answer. Names beyond the
    /// labels, and labels beyond the names, are left out.
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

impl ClassScore {
    /// The score of a label that `support` examples have, that `answered` answers give, and that
    /// `right` answers give rightly.
    pub fn of(right: u64, support: u64, answered: u64) -> Self {
        let share = |of: u64| if of == 0 { 0.0 } else { right as f64 / of as f64 };
        let f1 = match support + answered {
            0 => 0.0,
            both => 2.0 * right as f64 / both as f64,
        };
        Self { precision: share(answered), recall: share(support), f1, support, answered }
    }
}

/// Means of precision, recall and F1 over the labels that occur as truth or as an answer;
/// 0 where none does.
pub fn macro_means(classes: &[ClassScore]) -> [f64; 3] {
    let occurs = |class: &&ClassScore| class.support + class.answered > 0;
    let count = classes.iter().filter(occurs).count().max(1) as f64;
    let mean = |value: fn(&ClassScore) -> f64| {
        classes.iter().filter(occurs).map(value).sum::<f64>() / count
    };
    [mean(|class| class.precision), mean(|class| class.recall), mean(|class| class.f1)]
}

/// The scores of labels as a table for people, and by name for programs.
pub(crate) fn class_report(
    names: &[String],
    classes: &[ClassScore],
) -> (String, Map<String, Value>) {
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    let mut text = format!("{:<width$}  precision  recall      F1  examples", "label");
    let mut labels = Map::new();
    for (name, class) in names.iter().zip(classes) {
        let ClassScore { precision, recall, f1, support, .. } = *class;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n{name:<width$}  {precision:>9.4}  {recall:>6.4}  {f1:>6.4}  {support:>8}"
        );
        labels.insert(
            name.clone(),
            json!({ "precision": precision, "recall": recall, "f1": f1, "support": support }),
        );
    }
    (text, labels)
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
        // Precision 3/5, 2/3, 1; recall 3/4, 2/4, 1.
        let [precision, recall, f1] = confusion.macro_means();
        assert!((precision - (3.0 / 5.0 + 2.0 / 3.0 + 1.0) / 3.0).abs() < 1e-12);
        assert!((recall - (0.75 + 0.5 + 1.0) / 3.0).abs() < 1e-12);
        assert_eq!((f1, confusion.f1()), (confusion.macro_f1(), confusion.macro_f1()));
        // c = 7, s = 10, t = (4, 4, 2, 0), p = (5, 3, 2, 0).
        let expected = (70.0 - 36.0) / ((100.0 - 38.0) * (100.0 - 36.0_f64)).sqrt();
        assert!((confusion.matthews() - expected).abs() < 1e-12);
        let last = confusion.classes()[3];
        assert_eq!((last.precision, last.recall, last.f1, last.support), (0.0, 0.0, 0.0, 0));
    }

    #[test]
    fn two_labels_have_the_measures_of_a_positive_one() {
        let mut confusion = Confusion::new(2);
        for (truth, answer, count) in [(0, 0, 5), (0, 1, 1), (1, 0, 2), (1, 1, 4)] {
            (0..count).for_each(|_| confusion.add(truth, answer));
        }
        assert!((confusion.f1() - 8.0 / 11.0).abs() < 1e-12);
        // (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN))
        let expected = (4.0 * 5.0 - 1.0 * 2.0) / (5.0 * 6.0 * 6.0 * 7.0_f64).sqrt();
        assert!((confusion.matthews() - expected).abs() < 1e-12);
        let mut one = Confusion::new(2);
        one.add(0, 0);
        assert_eq!(one.matthews(), 0.0);
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
