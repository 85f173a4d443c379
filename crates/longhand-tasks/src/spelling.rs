//! What the spelling of a word tells of it, whoever reads the word.

/// The longest prefix and suffix that are features.
pub(crate) const AFFIX: usize = 4;

/// The word in lower case, each digit as 0.
pub(crate) fn lower(word: &str) -> String {
    let lower = word.chars().flat_map(char::to_lowercase);
    lower.map(|c| if c.is_numeric() { '0' } else { c }).collect()
}

/// The class of each character, equal ones beside each other once; punctuation stays as it is.
pub(crate) fn shape(word: &str) -> String {
    let mut shape = String::new();
    for c in word.chars() {
        let class = match c {
            _ if c.is_uppercase() => 'X',
            _ if c.is_lowercase() => 'x',
            _ if c.is_numeric() => '0',
            _ if c.is_alphabetic() => 'c',
            _ => c,
        };
        if !shape.ends_with(class) {
            shape.push(class);
        }
    }
    shape
}

/// The first characters of a word, with their number; none where it has fewer, or for none of them.
pub(crate) fn prefix(word: &str, length: usize) -> Option<&str> {
    let mut characters = word.char_indices();
    characters.nth(length.checked_sub(1)?)?;
    let end = characters.next().map_or(word.len(), |(at, _)| at);
    Some(&word[..end])
}

/// The last characters of a word, with their number; none where it has fewer, or for none of them.
pub(crate) fn suffix(word: &str, length: usize) -> Option<&str> {
    let (start, _) = word.char_indices().nth_back(length.checked_sub(1)?)?;
    Some(&word[start..])
}
