//! The tokens of a sentence's words, where a word may have several.

use std::borrow::Cow;
use std::ops::Range;

use longhand_model::IGNORE;
use longhand_text::batch::LabelledBatch;
use longhand_text::tokenizer::Writing;
use longhand_text::{Tokenizer, TokenizerKind};

use super::Target;
use crate::error::TaskError;

/// Characters of a mean word up to which words are written without spaces: they are Chinese or
/// single signs.
const SHORT: f64 = 2.0;

/// The tokens of a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// At least one id for any word.
    pub(super) ids: Vec<u32>,
    /// For each word its first token, and the one behind its last. Words may share tokens, and
    /// tokens between two words belong to neither.
    pub(super) words: Vec<(u32, u32)>,
}

/// Whether words that are written like these have spaces between them.
pub(super) fn are_spaced<'a>(words: impl IntoIterator<Item = &'a str>) -> bool {
    let writing = Writing::of(words);
    writing.has_spaces() && writing.mean_word() > SHORT
}

/// The text of a sentence.
pub(super) fn text(words: &[&str], spaced: bool) -> String {
    words.join(if spaced { " " } else { "" })
}

/// The number of words of each sequence.
pub(super) fn numbers_of_words(batch: &LabelledBatch<Target>) -> Vec<u32> {
    batch.labels.iter().map(|target| target.tags.len() as u32).collect()
}

/// The number of words of the sequence that has most.
pub(super) fn words_of_longest(batch: &LabelledBatch<Target>) -> usize {
    batch.labels.iter().map(|target| target.tags.len()).max().unwrap_or(0)
}

/// `[S·B]`: the tags of a batch's words; nothing where a sequence has no such word.
pub(super) fn rows_of_tags(batch: &LabelledBatch<Target>) -> Vec<u32> {
    let mut tags = vec![IGNORE; words_of_longest(batch) * batch.batch];
    for (b, target) in batch.labels.iter().enumerate() {
        for (t, &tag) in target.tags.iter().enumerate() {
            tags[t * batch.batch + b] = tag;
        }
    }
    tags
}

impl Tokens {
    /// The tokens of words, which a tokeniser of the kind `word` knows one by one, and any other
    /// one reads as a text.
    pub(super) fn of(
        tokenizer: &Tokenizer,
        words: &[&str],
        spaced: bool,
    ) -> Result<Self, TaskError> {
        if tokenizer.kind() != TokenizerKind::Word {
            return Self::of_text(tokenizer, words, spaced);
        }
        let mut tokens = Self::default();
        for (place, word) in (0..).zip(words) {
            // The first token of a word with white space in it.
            tokens.ids.push(tokenizer.encode(word)?.first().copied().unwrap_or(0));
            tokens.words.push((place, place + 1));
        }
        Ok(tokens)
    }

    fn of_text(tokenizer: &Tokenizer, words: &[&str], spaced: bool) -> Result<Self, TaskError> {
        let encoding = tokenizer.encode_with_offsets(&text(words, spaced))?;
        let places: Vec<Range<usize>> = encoding.offsets.into_iter().map(|o| o.bytes).collect();
        let mut ids = encoding.ids;
        if ids.is_empty() {
            // A row for the words: the unknown token, or any.
            ids.push(0);
        }
        let last = ids.len() as u32 - 1;
        let (mut start, mut first) = (0, 0);
        let of_word = |word: &&str| {
            let end = start + word.len();
            while places.get(first).is_some_and(|place| place.end <= start) {
                first += 1;
            }
            let own = places[first..].iter().take_while(|place| place.start < end).count();
            start = end + usize::from(spaced);
            match own {
                // The tokeniser leaves the word out: it has the token before it.
                0 => {
                    let before = (first as u32).saturating_sub(1).min(last);
                    (before, before + 1)
                }
                own => (first as u32, (first + own) as u32),
            }
        };
        let words = words.iter().map(of_word).collect();
        Ok(Self { ids, words })
    }

    /// The word of each token, the first one of several; none between words.
    pub(super) fn owners(&self) -> Vec<Option<usize>> {
        let mut owners = vec![None; self.ids.len()];
        for (word, &(start, end)) in self.words.iter().enumerate().rev() {
            owners[start as usize..end as usize].fill(Some(word));
        }
        owners
    }

    /// The words of a target: none where each token is one word.
    pub(super) fn target_words(&self) -> Vec<(u32, u32)> {
        let is_one = |(place, &word): (u32, &(u32, u32))| word == (place, place + 1);
        let each = self.ids.len() == self.words.len() && (0..).zip(&self.words).all(is_one);
        if each { Vec::new() } else { self.words.clone() }
    }
}

impl Target {
    /// The tokens of each word.
    pub(super) fn ranges(&self) -> Cow<'_, [(u32, u32)]> {
        match self.words.is_empty() {
            true => (0..self.tags.len() as u32).map(|place| (place, place + 1)).collect(),
            false => Cow::Borrowed(&self.words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(kind: TokenizerKind, size: Option<usize>, text: &str) -> Tokenizer {
        let texts = std::iter::once(Ok(text.to_owned()));
        Tokenizer::train(kind, size, texts, &mut |_| {}).unwrap()
    }

    /// The texts of the tokens of each word.
    fn parts(tokenizer: &Tokenizer, words: &[&str], spaced: bool) -> Vec<String> {
        let tokens = Tokens::of(tokenizer, words, spaced).unwrap();
        assert_eq!(tokens.words.len(), words.len());
        let of = |&(start, end): &(u32, u32)| &tokens.ids[start as usize..end as usize];
        tokens.words.iter().map(|word| tokenizer.decode(of(word)).unwrap()).collect()
    }

    #[test]
    fn a_word_has_the_tokens_that_spell_it() {
        let words = ["The", "unhappily", "tuned", "Zürich", "."];
        let text = "The unhappily tuned Zürich .\n".repeat(3);
        for (kind, size) in [
            (TokenizerKind::Char, None),
            (TokenizerKind::Bpe, Some(270)),
            (TokenizerKind::Wordpiece, Some(60)),
            (TokenizerKind::Unigram, None),
        ] {
            let found = parts(&tokenizer(kind, size, &text), &words, true);
            let found: Vec<&str> = found.iter().map(|word| word.trim()).collect();
            assert_eq!(found, words, "{kind}");
        }
        assert_eq!(parts(&Tokenizer::byte().unwrap(), &words, true), words);
    }

    #[test]
    fn spaces_belong_to_no_word_and_words_of_one_token_need_no_ranges() {
        let byte = Tokenizer::byte().unwrap();
        let tokens = Tokens::of(&byte, &["a", "bc"], true).unwrap();
        assert_eq!(tokens.words, [(0, 1), (2, 4)]);
        assert_eq!(tokens.owners(), [Some(0), None, Some(1), Some(1)]);
        assert_eq!(tokens.target_words(), tokens.words);
        let tokens = Tokens::of(&byte, &["a", "b"], false).unwrap();
        assert_eq!(tokens.target_words(), []);
        let word = tokenizer(TokenizerKind::Word, None, "a bc\n");
        assert_eq!(Tokens::of(&word, &["bc", "?"], true).unwrap().target_words(), []);
    }

    #[test]
    fn words_in_one_token_share_it_and_one_without_a_token_has_that_before() {
        let pairs = tokenizer(TokenizerKind::Bpe, Some(270), &"中国人民\n".repeat(9));
        let tokens = Tokens::of(&pairs, &["中", "国", "人", "民"], false).unwrap();
        assert!(tokens.ids.len() < 4, "{tokens:?}");
        assert!(tokens.words.windows(2).any(|two| two[0] == two[1]), "{tokens:?}");
        let pieces = tokenizer(TokenizerKind::Wordpiece, Some(40), "a b c d\n");
        let tokens = Tokens::of(&pieces, &["\u{3000}", "a", "\u{3000}", "b"], true).unwrap();
        assert_eq!(tokens.words, [(0, 1), (0, 1), (0, 1), (1, 2)]);
        let none = Tokens::of(&pieces, &["\u{3000}"], true).unwrap();
        assert_eq!((none.ids, none.words), (vec![0], vec![(0, 1)]));
    }

    #[test]
    fn the_writing_decides_on_spaces() {
        assert!(are_spaced(["The", "lake", "of", "Zürich"]));
        assert!(!are_spaced(["苏", "黎", "世"]) && !are_spaced(["中华人民共和国", "成立"]));
        assert!(!are_spaced(["A", "C", "G", "T"]));
    }
}
