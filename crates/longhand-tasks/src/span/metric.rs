//! How near an answer is to the right ones, as the scripts of SQuAD and CMRC 2018 measure it.
//!
//! - SQuAD (Rajpurkar et al. 2016, 2018): lower case without ASCII punctuation, without `a`, `an` and
//!   `the`, and with single spaces. F1 is that of the words as a bag. By the rules of 2.0, right
//!   answers of which nothing is left do not count beside others, and nothing equals nothing.
//! - CMRC 2018 (Cui et al. 2019): lower case without the script's list of marks. F1 is that of the
//!   longest common run of segments: each Chinese character is one, and what is between them is parted
//!   by white space.
//!
//! An answer's measure is its best over the right answers.

use std::collections::HashMap;

/// The script whose measures are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// SQuAD 1.1: every question has an answer.
    Squad1,
    /// SQuAD 2.0: a question may have none.
    Squad2,
    /// CMRC 2018, for Chinese.
    Cmrc,
}

/// The right answers of a question, prepared for comparison.
#[derive(Clone, Debug)]
pub struct Right {
    rules: Rules,
    /// Whether the question has no answer.
    none: bool,
    /// The normal form and the segments of each.
    answers: Vec<(String, Vec<String>)>,
}

/// The measures of an answer, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// 1 where the normal forms are equal, else 0.
    pub exact: f64,
    /// The harmonic mean of precision and recall of the segments.
    pub f1: f64,
}

impl Right {
    /// Prepares right answers; none for a question that has no answer.
    pub fn new<'a>(rules: Rules, answers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().map(|text| prepared(rules, text)).collect();
        if rules == Rules::Squad2 && answers.iter().any(|(normal, _)| !normal.is_empty()) {
            answers.retain(|(normal, _)| !normal.is_empty());
        }
        let none = answers.is_empty();
        if none {
            answers.push((String::new(), Vec::new()));
        }
        Self { rules, none, answers }
    }

    /// Measures an answer; an empty one says that there is no answer.
    pub fn measure(&self, answer: &str) -> Measures {
        let (normal, segments) = prepared(self.rules, answer);
        let mut best = Measures::default();
        for (right, own) in &self.answers {
            best.exact = best.exact.max(f64::from(u8::from(*right == normal)));
            best.f1 = best.f1.max(self.f1(own, &segments));
        }
        best
    }

    fn f1(&self, right: &[String], found: &[String]) -> f64 {
        // A question without an answer is one of 2.0, whatever the rules of the others.
        let may_be_none = self.none || self.rules == Rules::Squad2;
        if may_be_none && right.is_empty() && found.is_empty() {
            return 1.0;
        }
        let shared = match self.rules {
            Rules::Squad1 | Rules::Squad2 => shared_words(right, found),
            Rules::Cmrc => longest_run(right, found),
        };
        if shared == 0 {
            return 0.0;
        }
        let precision = shared as f64 / found.len() as f64;
        let recall = shared as f64 / right.len() as f64;
        2.0 * precision * recall / (precision + recall)
    }
}

fn prepared(rules: Rules, text: &str) -> (String, Vec<String>) {
    match rules {
        Rules::Squad1 | Rules::Squad2 => {
            let words = squad_words(text);
            (words.join(" "), words)
        }
        Rules::Cmrc => {
            let text = text.to_lowercase();
            let kept = text.trim().chars().filter(|&c| !is_cmrc_mark(c));
            let kept: String = kept.collect();
            let segments = cmrc_segments(&kept);
            (kept, segments)
        }
    }
}

/// The words of SQuAD's normal form.
fn squad_words(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut words = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // A run of letters and digits, then one of anything else.
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        words.push_str(if matches!(&rest[..end], "a" | "an" | "the") { " " } else { &rest[..end] });
        rest = &rest[end..];
        let end = rest.find(char::is_alphanumeric).unwrap_or(rest.len());
        words.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    // Python's white space has four control characters more.
    let is_space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    words.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The segments of a text in lower case and without marks.
fn cmrc_segments(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if is_cmrc_character(first) {
            segments.push(first.to_string());
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(is_cmrc_character).unwrap_or(rest.len());
        segments.extend(rest[..end].split_whitespace().map(str::to_owned));
        rest = &rest[end..];
    }
    segments
}

fn is_cmrc_character(c: char) -> bool {
    ('\u{4e00}'..='\u{9fa5}').contains(&c)
}

fn is_cmrc_mark(c: char) -> bool {
    "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』".contains(c)
}

/// The size of the intersection of two bags of words.
fn shared_words(right: &[String], found: &[String]) -> usize {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in right {
        *counts.entry(word).or_default() += 1;
    }
    let mut shared = 0;
    for word in found {
        if let Some(count) = counts.get_mut(word.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            shared += 1;
        }
    }
    shared
}

/// The length of the longest run of segments that both have.
fn longest_run(right: &[String], found: &[String]) -> usize {
    // Lengths of the common runs that end at each segment of `found`, and at the one before of `right`.
    let mut before: Vec<usize> = vec![0; found.len() + 1];
    let mut longest = 0;
    for own in right {
        let mut lengths = Vec::with_capacity(found.len() + 1);
        lengths.push(0);
        for (place, other) in found.iter().enumerate() {
            let length = if own == other { before[place] + 1 } else { 0 };
            longest = longest.max(length);
            lengths.push(length);
        }
        before = lengths;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: Rules, right: &[&str], found: &str, exact: f64, f1: f64) {
        let measures = Right::new(rules, right.iter().copied()).measure(found);
        assert_eq!(measures.exact, exact, "{right:?} {found}");
        assert!((measures.f1 - f1).abs() < 1e-12, "{right:?} {found}: {}", measures.f1);
    }

    #[test]
    fn squad_is_measured_by_words() {
        use Rules::{Squad1, Squad2};
        for rules in [Squad1, Squad2] {
            check(rules, &["the Mongol Empire"], "Mongol empire.", 1.0, 1.0);
            check(rules, &["Mongol Empire", "an empire"], "The Empire", 1.0, 1.0);
            check(rules, &["red red blue"], "red green", 0.0, 0.4);
            check(rules, &["well-known"], "well known", 0.0, 0.0);
            check(rules, &["“a” b"], "“ ” B", 1.0, 1.0);
            check(rules, &["x"], "", 0.0, 0.0);
            check(rules, &[], "", 1.0, 1.0);
            check(rules, &[], "x", 0.0, 0.0);
        }
        // Only an article: nothing is left, which 1.1 counts as no word in common.
        check(Squad1, &["the"], "The", 1.0, 0.0);
        check(Squad1, &["the", "x"], "the", 1.0, 0.0);
        check(Squad2, &["the", "x"], "the", 0.0, 0.0);
        check(Squad2, &["the"], "The", 1.0, 1.0);
    }

    #[test]
    fn cmrc_is_measured_by_characters() {
        let check = |right: &[&str], found: &str, exact: f64, f1: f64| {
            check(Rules::Cmrc, right, found, exact, f1);
        };
        check(&["《苏黎世》"], "苏黎世", 1.0, 1.0);
        check(&["苏黎世大学"], "苏黎世的大学", 0.0, 2.0 * 0.5 * 0.6 / 1.1);
        check(&["2019年", "去年"], "在2019年", 0.0, 0.8);
        check(&["New  York市"], "new york", 0.0, 0.8);
        check(&["苏"], "黎", 0.0, 0.0);
        check(&["。"], "", 1.0, 0.0);
    }
}
