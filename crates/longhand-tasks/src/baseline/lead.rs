//! The beginning of a text as its summary: what a model that summarises must be better than.

use longhand_text::tokenizer::Writing as Script;

use super::error::BaselineError;
use super::learning::{Learning, Right};
use super::settings::{LeadSettings, LeadUnit};
use super::tensors::Tensors;

/// How long the beginning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The number of units, at least 1.
    size: usize,
    /// Whether a word is a character, as of a language without spaces between words.
    unspaced: bool,
}

/// The longest beginning, in units: larger numbers have no `f32` of their own.
const LONGEST: usize = 1 << 24;

impl Lead {
    /// As long as the settings say, or else as the right texts of training are on average.
    pub(crate) fn fit(settings: &LeadSettings, learning: &Learning<'_>) -> Self {
        let targets = || {
            learning.train.iter().filter_map(|example| match example.right {
                Right::Text(text) => Some(text),
                Right::Class(_) | Right::Labels(_) | Right::Tags(_) => None,
            })
        };
        let unspaced = !Script::of(targets()).has_spaces();
        let size = match (settings.size, settings.unit) {
            (Some(size), _) => size.get(),
            (None, LeadUnit::Sentences) => 1,
            (None, LeadUnit::Words) => mean_words(targets(), unspaced),
        };
        Self { size: size.min(LONGEST), unspaced }
    }

    /// The beginning of a text, without white space around it.
    pub(crate) fn of<'a>(&self, unit: LeadUnit, text: &'a str) -> &'a str {
        let text = text.trim();
        match unit {
            LeadUnit::Words => beginning(text, self.size, self.unspaced),
            LeadUnit::Sentences => {
                let end = sentence_ends(text).nth(self.size - 1);
                end.map_or(text, |end| text[..end].trim_end())
            }
        }
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        let unspaced = f32::from(u8::from(self.unspaced));
        tensors.add("lead", &[2], vec![self.size as f32, unspaced]);
    }

    pub(crate) fn read(tensors: &Tensors) -> Result<Self, BaselineError> {
        let (_, values) = tensors.floats("lead", &[Some(2)])?;
        let (size, unspaced) = (values[0], values[1] != 0.0);
        match (1.0..=LONGEST as f32).contains(&size) && size.fract() == 0.0 {
            true => Ok(Self { size: size as usize, unspaced }),
            false => Err(tensors.wrong("`lead` is no length".into())),
        }
    }
}

/// The mean number of words of some texts, or of their characters without spaces, at least 1.
pub(crate) fn mean_words<'a>(texts: impl Iterator<Item = &'a str>, unspaced: bool) -> usize {
    let (mut words, mut count) = (0, 0);
    for text in texts {
        words += word_ends(text, unspaced).count();
        count += 1;
    }
    (words as f64 / f64::from(count.max(1))).round().max(1.0) as usize
}

/// The first `size` words of a text, or its first characters that are no white space.
pub(crate) fn beginning(text: &str, size: usize, unspaced: bool) -> &str {
    let end = word_ends(text, unspaced).nth(size.saturating_sub(1));
    end.map_or(text, |end| &text[..end])
}

/// The ends of the words of a text, or of its characters where it has no spaces between words.
fn word_ends(text: &str, unspaced: bool) -> impl Iterator<Item = usize> {
    let is_solid = |c: &char| !c.is_whitespace();
    text.char_indices()
        .filter(move |&(at, c)| {
            let next = text[at + c.len_utf8()..].chars().next();
            is_solid(&c) && (unspaced || !next.as_ref().is_some_and(is_solid))
        })
        .map(|(at, c)| at + c.len_utf8())
}

/// The ends of the sentences of a text: before a line break, behind `.`, `!` or `?` before white space
/// or the end, and behind their Chinese forms. Of several marks in a row the last one ends it.
fn sentence_ends(text: &str) -> impl Iterator<Item = usize> {
    text.char_indices().filter_map(|(at, c)| {
        let behind = at + c.len_utf8();
        let next = text[behind..].chars().next();
        let ends = match c {
            '。' | '！' | '？' => !matches!(next, Some('。' | '！' | '？')),
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
            _ => next == Some('\n'),
        };
        (ends && !c.is_whitespace()).then_some(behind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_has_as_many_words_or_sentences_as_asked_for() {
        let of = |unit, size, unspaced, text| Lead { size, unspaced }.of(unit, text);
        let text = " Dr. No came. He left!  Who?\nNobody knows";
        let sentences = |size| of(LeadUnit::Sentences, size, false, text);
        assert_eq!(sentences(2), "Dr. No came.");
        assert_eq!(sentences(3), "Dr. No came. He left!");
        assert_eq!(sentences(4), "Dr. No came. He left!  Who?");
        assert_eq!(sentences(9), text.trim());
        assert_eq!(of(LeadUnit::Sentences, 1, false, "a title\n\nwords"), "a title");
        assert_eq!(of(LeadUnit::Sentences, 1, true, "你好！！再见。"), "你好！！");
        assert_eq!(of(LeadUnit::Words, 3, false, text), "Dr. No came.");
        assert_eq!(of(LeadUnit::Words, 3, true, "你 好再见"), "你 好再");
        assert_eq!(of(LeadUnit::Words, 3, false, ""), "");
        assert_eq!(mean_words(["a b", "a b c", "a"].into_iter(), false), 2);
        assert_eq!(mean_words([].into_iter(), false), 1);
    }
}
