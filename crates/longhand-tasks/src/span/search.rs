//! From scores of positions to a span of the text.

use std::ops::Range;

use longhand_model::IGNORE;
use longhand_text::Tokenizer;

use super::words::Words;
use crate::error::TaskError;

/// A token with its place in the text and its word.
pub(super) struct Token {
    pub(super) id: u32,
    /// Its bytes in the text, without white space before it.
    pub(super) bytes: Range<usize>,
    pub(super) word: usize,
}

/// The best span of a window, and how sure the model is.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its bytes in the context; none where the window holds no token of it.
    pub bytes: Option<Range<usize>>,
    /// The logarithm of its probability.
    pub score: f32,
    /// The logarithm of the probability that the window has no answer.
    pub none: f32,
}

/// The tokens of a text, word by word. A word that follows a space is encoded with it, as in running
/// text; tokens of white space alone are left out.
pub(super) fn tokens(tokenizer: &Tokenizer, words: &Words<'_>) -> Result<Vec<Token>, TaskError> {
    let mut tokens = Vec::with_capacity(words.len());
    for (word, range) in words.ranges.iter().enumerate() {
        let start = range.start - leading(words.text, range);
        let encoding = tokenizer.encode_with_offsets(&words.text[start..range.end])?;
        for (id, place) in encoding.ids.into_iter().zip(encoding.offsets) {
            let bytes = (start + place.bytes.start).max(range.start)..start + place.bytes.end;
            if bytes.start < bytes.end {
                tokens.push(Token { id, bytes, word });
            }
        }
    }
    Ok(tokens)
}

/// The words of a text, each with the space before it, as [`tokens`] encodes them.
pub(super) fn encoded_words(text: &str) -> impl Iterator<Item = &str> {
    let ranges = super::words::words(text).into_iter();
    ranges.map(|range| &text[range.start - leading(text, &range)..range.end])
}

/// Bytes of the space before a word.
fn leading(text: &str, word: &Range<usize>) -> usize {
    usize::from(text[..word.start].ends_with(' '))
}

/// Windows of at most `length` tokens that begin `stride` tokens apart and cover all of them.
pub(super) fn windows(tokens: usize, length: usize, stride: usize) -> Vec<Range<usize>> {
    let mut windows = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + length).min(tokens);
        windows.push(start..end);
        if end == tokens {
            return windows;
        }
        start += stride;
    }
}

/// The first and the last of some tokens that share a byte with an answer.
pub(super) fn tokens_of(bytes: &Range<usize>, tokens: &[Token]) -> Option<(usize, usize)> {
    let shares = |token: &Token| token.bytes.start < bytes.end && bytes.start < token.bytes.end;
    let first = tokens.iter().position(shares)?;
    let last = tokens.iter().rposition(shares)?;
    Some((first, last))
}

/// The best span of a sequence of `length` positions, of which the context begins at `context`: of
/// at most `longest` positions. `scores` gives the scores of being first and last at a position. The
/// position before the context says that there is no answer.
pub(super) fn best_span(
    length: usize,
    context: usize,
    longest: usize,
    scores: impl Fn(usize) -> [f32; 2],
) -> Option<(Range<usize>, f32, f32)> {
    let logs = [0, 1].map(|end| log_softmax((0..length).map(|at| scores(at)[end])));
    let [first, last] = &logs;
    let none = context.checked_sub(1).map_or(f32::NEG_INFINITY, |at| first[at] + last[at]);
    let mut best: Option<(Range<usize>, f32)> = None;
    for start in context..length {
        let end = start.saturating_add(longest).min(length);
        for (at, score) in last[start..end].iter().enumerate() {
            let score = first[start] + score;
            if best.as_ref().is_none_or(|&(_, most)| score > most) {
                best = Some((start..start + at + 1, score));
            }
        }
    }
    best.map(|(span, score)| (span, score, none))
}

fn log_softmax(scores: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut scores: Vec<f32> = scores.collect();
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|&score| f64::from(score - most).exp()).sum();
    let shift = most + sum.ln() as f32;
    scores.iter_mut().for_each(|score| *score -= shift);
    scores
}

/// The answer of the windows of a context: the most probable span, and the smallest probability that
/// a window has no answer.
pub(super) fn combined(answers: &[Answer]) -> Option<Answer> {
    let best = answers.iter().max_by(|a, b| a.score.total_cmp(&b.score))?;
    let none = answers.iter().map(|answer| answer.none).fold(f32::INFINITY, f32::min);
    Some(Answer { none, ..best.clone() })
}

/// The target of an answer that is not known: it is no part of the loss.
pub(super) const UNKNOWN: (u32, u32) = (IGNORE, IGNORE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_token() {
        assert_eq!(windows(5, 5, 2).first(), Some(&(0..5)));
        assert_eq!(windows(0, 5, 2).first(), Some(&(0..0)));
        assert_eq!(windows(10, 5, 3), [0..5, 3..8, 6..10]);
        for tokens in 0..40 {
            for length in 1..12 {
                for stride in 1..=length {
                    let windows = windows(tokens, length, stride);
                    let covered = |token| windows.iter().any(|window| window.contains(&token));
                    assert!((0..tokens).all(covered), "{tokens} {length} {stride}");
                    assert!(windows.iter().all(|w| w.len() <= length && w.end <= tokens));
                }
            }
        }
    }

    #[test]
    fn the_best_span_is_that_of_a_search_of_all() {
        let score = |at: usize| {
            let wave = |x: f32| (x * 12.9898).sin() * 3.0;
            [wave(at as f32 + 0.3), wave(at as f32 * 1.7 + 0.1)]
        };
        for (length, context, longest) in [(9, 3, 4), (9, 1, 100), (5, 4, 1), (30, 2, 3)] {
            let (span, best, _) = best_span(length, context, longest, score).unwrap();
            let sum = |axis: usize| {
                (0..length).map(|at| f64::from(score(at)[axis]).exp()).sum::<f64>().ln() as f32
            };
            let all = (context..length)
                .flat_map(|i| (i..length.min(i + longest)).map(move |j| (i, j)))
                .map(|(i, j)| (score(i)[0] + score(j)[1] - sum(0) - sum(1), i..j + 1));
            let (most, expected) = all.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            assert_eq!(span, expected);
            assert!((best - most).abs() < 1e-4);
            assert!(span.start >= context && span.len() <= longest);
        }
        assert_eq!(best_span(3, 3, 4, score), None);
    }
}
