//! The words of a text and its sentences, which need no tokeniser.

use std::collections::HashSet;
use std::ops::Range;

/// A text's words with their places, and its sentences.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    /// The whole text.
    pub text: &'a str,
    /// The bytes of each word, see [`words`].
    pub ranges: Vec<Range<usize>>,
    /// Each word in lower case.
    pub lower: Vec<String>,
}

/// The bytes of each word: a run of letters and digits, a character of a script without spaces, or a
/// mark of punctuation alone. A number holds its points and commas.
pub fn words(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((start, first)) = characters.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut end = start + first.len_utf8();
        let mut last = first;
        while is_part(last)
            && let Some(&(at, next)) = characters.peek()
        {
            let mut after = text[at + next.len_utf8()..].chars();
            let in_number = matches!(next, '.' | ',')
                && last.is_ascii_digit()
                && after.next().is_some_and(|c| c.is_ascii_digit());
            if !is_part(next) && !in_number {
                break;
            }
            // A point leads to its digit.
            last = if in_number { '0' } else { next };
            end = at + next.len_utf8();
            characters.next();
        }
        ranges.push(start..end);
    }
    ranges
}

impl<'a> Words<'a> {
    /// The words of a text.
    pub fn of(text: &'a str) -> Self {
        let ranges = words(text);
        let lower = ranges.iter().map(|range| text[range.clone()].to_lowercase()).collect();
        Self { text, ranges, lower }
    }

    /// The number of words.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The words as the text has them.
    pub fn words(&self) -> Vec<&'a str> {
        self.ranges.iter().map(|range| &self.text[range.clone()]).collect()
    }

    /// Whether a word is a mark of punctuation or a symbol.
    pub fn is_mark(&self, word: usize) -> bool {
        self.lower.get(word).is_none_or(|lower| !lower.contains(char::is_alphanumeric))
    }

    /// The words of each sentence. A sentence ends with `.`, `!` or `?` before white space, or with
    /// a Chinese stop. A point after a single letter ends none.
    pub fn sentences(&self) -> Vec<Range<usize>> {
        let mut sentences = Vec::new();
        let mut start = 0;
        for (word, range) in self.ranges.iter().enumerate() {
            let before_space =
                self.text[range.end..].chars().next().is_none_or(char::is_whitespace);
            let initial = word > 0
                && self.ranges[word - 1].end == range.start
                && self.lower[word - 1].chars().count() == 1;
            let ends = match &self.text[range.clone()] {
                "." => before_space && !initial,
                "!" | "?" => before_space,
                "。" | "！" | "？" | "；" => true,
                _ => false,
            };
            if ends || word + 1 == self.len() {
                sentences.push(start..word + 1);
                start = word + 1;
            }
        }
        sentences
    }
}

/// The sentence of `context` that shares most different words with `question`, marks aside; the
/// first of equal ones. Empty for a context without words.
pub fn best_sentence<'a>(question: &Words<'_>, context: &Words<'a>) -> &'a str {
    let asked: HashSet<&str> = (0..question.len())
        .filter(|&word| !question.is_mark(word))
        .map(|word| question.lower[word].as_str())
        .collect();
    let shared = |sentence: &Range<usize>| {
        let own: HashSet<&str> =
            context.lower[sentence.clone()].iter().map(String::as_str).collect();
        own.intersection(&asked).count()
    };
    let mut best: Option<(usize, Range<usize>)> = None;
    for sentence in context.sentences() {
        let count = shared(&sentence);
        if best.as_ref().is_none_or(|&(most, _)| count > most) {
            best = Some((count, sentence));
        }
    }
    let Some((_, sentence)) = best else { return "" };
    &context.text[context.ranges[sentence.start].start..context.ranges[sentence.end - 1].end]
}

/// Whether a character is a part of a longer word.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() && !is_ideograph(c)
}

/// Characters that are words by themselves: Chinese, and Japanese kana.
pub fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(Words::of(text).words(), expected, "{text}");
        };
        check(
            "Khan's 1,862.5 men, e.g. I.",
            &["Khan", "'", "s", "1,862.5", "men", ",", "e", ".", "g", ".", "I", "."],
        );
        check("in 1862. Zürich—3,a", &["in", "1862", ".", "Zürich", "—", "3", ",", "a"]);
        check("苏黎世2019年", &["苏", "黎", "世", "2019", "年"]);
        check(" \n", &[]);
    }

    #[test]
    fn sentences_are_parted() {
        let check = |text: &str, expected: &[&str]| {
            let words = Words::of(text);
            let of =
                |s: &Range<usize>| &text[words.ranges[s.start].start..words.ranges[s.end - 1].end];
            assert_eq!(words.sentences().iter().map(of).collect::<Vec<_>>(), expected);
        };
        check("He ran. J. F. K. won! Why?Yes", &["He ran.", "J. F. K. won!", "Why?Yes"]);
        check("他跑。她胜？好", &["他跑。", "她胜？", "好"]);
        check("", &[]);
    }

    #[test]
    fn the_sentence_that_shares_most_words_is_found() {
        let find = |question: &str, context: &'static str| {
            best_sentence(&Words::of(question), &Words::of(context))
        };
        let context = "A cat sat. The dog ran home, fast. It slept.";
        assert_eq!(find("Where did the DOG run?", context), "The dog ran home, fast.");
        assert_eq!(find("Who?", context), "A cat sat.");
        assert_eq!(find("Who?", ""), "");
        assert_eq!(find("谁跑了？", "他睡。我跑了。"), "我跑了。");
    }
}
