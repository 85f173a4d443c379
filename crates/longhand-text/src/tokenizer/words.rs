//! Which tokens are parts of one word.

use super::kind::TokenizerKind;
use super::model::Tokenizer;

/// For each token of a vocabulary, whether a word goes on at its two ends. Chinese characters are
/// words of their own, and so are special tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WordParts {
    /// Whether a word before the token goes on in it.
    begins: Vec<bool>,
    /// Whether its last word goes on in a token that follows.
    ends: Vec<bool>,
}

impl WordParts {
    /// Whether the token `id` continues the word of the token `before` it.
    pub fn continues(&self, before: u32, id: u32) -> bool {
        let at = |list: &[bool], id: u32| list.get(id as usize).copied().unwrap_or(false);
        at(&self.begins, id) && at(&self.ends, before)
    }
}

impl Tokenizer {
    /// The parts of words among its tokens. The kinds `word` and `char` have none.
    pub fn word_parts(&self) -> WordParts {
        let ids = 0..self.vocab_size() as u32;
        let parts = ids.map(|id| match self.special_tokens().name(id) {
            Some(_) => [false; 2],
            None => self.joins(id),
        });
        let (begins, ends) = parts.map(|[begins, ends]| (begins, ends)).unzip();
        WordParts { begins, ends }
    }

    /// Whether a word goes on at the beginning and at the end of a token.
    fn joins(&self, id: u32) -> [bool; 2] {
        let token = self.token(id).unwrap_or_default();
        match self.kind() {
            TokenizerKind::Word | TokenizerKind::Char => [false; 2],
            TokenizerKind::Wordpiece => [token.starts_with("##"), true],
            TokenizerKind::Byte | TokenizerKind::Bpe => {
                joins_bytes(&self.token_bytes(id).unwrap_or_default())
            }
            TokenizerKind::Unigram => match byte_piece(token) {
                Some(byte) => joins_bytes(&[byte]),
                None => joins_bytes(token.as_bytes()),
            },
        }
    }
}

/// The byte of a piece such as `<0xE4>`.
fn byte_piece(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// A part of a character joins the parts around it, and a letter or digit the word beside it.
fn joins_bytes(bytes: &[u8]) -> [bool; 2] {
    let is_rest = |byte: &u8| (0x80..0xc0).contains(byte);
    let begins = match bytes.first() {
        Some(byte) if is_rest(byte) => true,
        _ => String::from_utf8_lossy(bytes).chars().next().is_some_and(is_of_word),
    };
    // A character that is cut at the end of the token goes on in the next one.
    let ends = match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().next_back().is_some_and(is_of_word),
        Err(_) => true,
    };
    [begins, ends]
}

fn is_of_word(character: char) -> bool {
    let is_chinese = matches!(character, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}');
    character.is_alphanumeric() && !is_chinese
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a text by the parts of its tokens.
    fn words(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        let (ids, parts) = (tokenizer.encode(text).unwrap(), tokenizer.word_parts());
        let mut words: Vec<Vec<u32>> = Vec::new();
        for (place, &id) in ids.iter().enumerate() {
            match words.last_mut() {
                Some(word) if parts.continues(ids[place - 1], id) => word.push(id),
                _ => words.push(vec![id]),
            }
        }
        words.iter().map(|word| tokenizer.decode(word).unwrap().trim().to_owned()).collect()
    }

    #[test]
    fn tokens_of_one_word_belong_together_and_chinese_characters_do_not() {
        let text = "unhappily tuned 小梅 sat.\n".repeat(3);
        for (kind, size) in [(TokenizerKind::Bpe, 262), (TokenizerKind::Wordpiece, 120)] {
            let texts = std::iter::once(Ok(text.clone()));
            let tokenizer = Tokenizer::train(kind, Some(size), texts, &mut |_| {}).unwrap();
            let found: Vec<String> = words(&tokenizer, "unhappily tuned")
                .into_iter()
                .filter(|word| !word.is_empty())
                .collect();
            assert_eq!(found, ["unhappily", "tuned"], "{kind}");
            let chinese: Vec<String> =
                words(&tokenizer, "小梅").into_iter().filter(|word| !word.is_empty()).collect();
            assert_eq!(chinese.concat(), "小梅");
        }
        for kind in [TokenizerKind::Char, TokenizerKind::Word] {
            let texts = std::iter::once(Ok(text.clone()));
            let tokenizer = Tokenizer::train(kind, None, texts, &mut |_| {}).unwrap();
            let ids = tokenizer.encode(&text).unwrap();
            let parts = tokenizer.word_parts();
            assert!(ids.windows(2).all(|pair| !parts.continues(pair[0], pair[1])), "{kind}");
        }
        let byte = Tokenizer::byte().unwrap().word_parts();
        let [b'a', b'b', b' ', 0xe5, 0xb0, 0x8f] = *"ab 小".as_bytes() else { return };
        let continues = |before: u8, id: u8| byte.continues(before.into(), id.into());
        assert!(continues(b'a', b'b') && !continues(b'a', b' ') && !continues(b' ', b'a'));
        assert!(continues(0xe5, 0xb0) && continues(0xb0, 0x8f) && !continues(b'.', b'a'));
    }
}
