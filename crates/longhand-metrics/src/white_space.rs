//! White space as Python's `str.split` knows it.

/// Whether `c` is white space in Python: Unicode's property, and the four separators of ASCII.
pub(crate) fn is_white_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The words of a text between runs of white space; none is empty.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_white_space).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_of_ascii_and_unicode_part_words() {
        let text = " a\u{1c}b\u{a0}\u{3000}c\td\u{200b}e\u{85}";
        assert_eq!(words(text).collect::<Vec<_>>(), ["a", "b", "c", "d\u{200b}e"]);
    }
}
