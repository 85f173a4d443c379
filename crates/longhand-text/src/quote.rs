//! Strings of files and users in messages, kept short.

/// Characters of a string that a message repeats.
const SHOWN: usize = 80;

/// A string in quotes, cut after 80 characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// A string, cut after 80 characters.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Strings in quotes, parted by commas: the first ones, and how many more there are.
pub(crate) fn listed<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    const LISTED: usize = 20;
    let mut texts = texts.into_iter();
    let shown: Vec<String> = texts.by_ref().take(LISTED).map(quoted).collect();
    match texts.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_are_cut() {
        assert_eq!(quoted("a\"b"), r#""a\"b""#);
        assert_eq!(shortened(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(shortened(&"é".repeat(100_000)), "é".repeat(80) + "…");
        assert_eq!(listed(["a", "b"]), r#""a", "b""#);
        assert!(listed(["a"; 25]).ends_with(r#""a" and 5 more"#));
    }
}
