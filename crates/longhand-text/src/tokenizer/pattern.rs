//! The pre-token pattern of GPT-2 (Radford et al. 2019), as a scanner.
//!
//! The pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`. The
//! scanner takes the classes of characters from the tables of the regular expressions, so that it
//! agrees with the library on every text, and runs many times faster.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// The class of a character in the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CharacterClass {
    /// Anything else: punctuation, symbols, marks.
    Other,
    /// A letter of any script, `\p{L}`.
    Letter,
    /// A number or digit, `\p{N}`.
    Number,
    /// White space of any kind, `\s`.
    Space,
}

impl CharacterClass {
    /// The class of a character.
    pub(super) fn of(character: char) -> Self {
        let code = character as usize;
        match (table()[code / 4] >> (code % 4 * 2)) & 3 {
            1 => Self::Letter,
            2 => Self::Number,
            3 => Self::Space,
            _ => Self::Other,
        }
    }
}

/// The pre-tokens of a text, which one after the other are the whole text.
pub(super) fn pre_tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let length = first(rest)?;
        let (token, tail) = rest.split_at(length);
        rest = tail;
        Some(token)
    })
}

/// The length of the first pre-token in bytes; none for an empty text.
fn first(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let first = characters.next()?;
    if first == '\''
        && let Some(length) = contraction(text)
    {
        return Some(length);
    }
    let class = CharacterClass::of(first);
    if class != CharacterClass::Space {
        return Some(run(text, class));
    }
    if first == ' '
        && let Some(next) = characters.next()
        && CharacterClass::of(next) != CharacterClass::Space
    {
        return Some(1 + run(&text[1..], CharacterClass::of(next)));
    }
    let space = run(text, CharacterClass::Space);
    let last = text[..space].chars().next_back().map_or(0, char::len_utf8);
    // `\s+(?!\S)` leaves the last white space before a word to what follows.
    if space < text.len() && space > last { Some(space - last) } else { Some(space) }
}

/// The length of the contraction that a text begins with.
fn contraction(text: &str) -> Option<usize> {
    let ends = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    ends.iter().find(|end| text.starts_with(*end)).map(|end| end.len())
}

/// Bytes at the beginning whose characters are of a class.
fn run(text: &str, class: CharacterClass) -> usize {
    let end = text.char_indices().find(|&(_, character)| CharacterClass::of(character) != class);
    end.map_or(text.len(), |(at, _)| at)
}

/// The classes of all code points, two bits each.
fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![0; (char::MAX as usize + 4) / 4];
        for (pattern, class) in [(r"\p{L}", 1), (r"\p{N}", 2), (r"\s", 3)] {
            for code in ranges(pattern).into_iter().flatten() {
                table[code as usize / 4] |= class << (code % 4 * 2);
            }
        }
        table
    })
}

/// The code points of a pattern that is one class of characters.
fn ranges(pattern: &str) -> Vec<std::ops::RangeInclusive<u32>> {
    let Ok(parsed) = regex_syntax::parse(pattern) else { return Vec::new() };
    let HirKind::Class(Class::Unicode(class)) = parsed.kind() else { return Vec::new() };
    class.ranges().iter().map(|range| range.start() as u32..=range.end() as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pre_tokens_are_those_of_the_pattern() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(pre_tokens(text).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", &[]);
        check("a  b", &["a", " ", " b"]);
        check("it's 'round 's", &["it", "'s", " '", "round", " '", "s"]);
        check("we'll!'s", &["we", "'ll", "!'", "s"]);
        check("x\r\ny \n z\t\tw ", &["x", "\r", "\n", "y", " \n", " z", "\t", "\t", "w", " "]);
        check("12 ab3,中文。é\u{301}", &["12", " ab", "3", ",", "中文", "。", "é", "\u{301}"]);
        check("a\u{a0}\u{3000}b", &["a", "\u{a0}", "\u{3000}", "b"]);
        check(" \n\n", &[" \n\n"]);
    }

    #[test]
    fn classes_are_those_of_unicode() {
        for character in ['a', 'é', '中', 'ª', '𝒜', 'ﬀ'] {
            assert_eq!(CharacterClass::of(character), CharacterClass::Letter, "{character}");
        }
        for character in ['0', '²', '½', 'Ⅷ', '٣'] {
            assert_eq!(CharacterClass::of(character), CharacterClass::Number, "{character}");
        }
        for character in [' ', '\t', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}'] {
            assert_eq!(CharacterClass::of(character), CharacterClass::Space, "{character:?}");
        }
        for character in ['_', '\'', '\u{301}', '👨', '\u{200d}', '\u{feff}', '\0', char::MAX] {
            assert_eq!(CharacterClass::of(character), CharacterClass::Other, "{character:?}");
        }
    }
}
