//! Places where a text can be cut without changing its tokens.

use super::TokenizerKind;

/// Cuts a text into chunks of at least `size` bytes (the last excepted), only where the tokens of
/// the whole are the tokens of the parts, one after the other.
pub(crate) fn safe_chunks(
    text: &str,
    kind: TokenizerKind,
    size: usize,
) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = first_safe_cut(rest, kind, size).unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(cut);
        rest = tail;
        Some(chunk)
    })
}

/// The first safe cut at or after `from`, before the text's end.
pub(crate) fn first_safe_cut(text: &str, kind: TokenizerKind, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = from.max(1);
    while at < bytes.len() {
        at += bytes[at - 1..].iter().position(|&byte| byte == b'\n')?;
        if at >= bytes.len() {
            return None;
        }
        if is_safe(text, kind, at) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The last safe cut of a text, before its end.
pub(crate) fn last_safe_cut(text: &str, kind: TokenizerKind) -> Option<usize> {
    last_cut(text, kind, text.len().saturating_sub(1))
}

/// How much of a text that goes on can be encoded now, whatever follows: up to a character for
/// the kinds without context, up to a safe cut for the others.
pub fn settled(text: &str, kind: TokenizerKind) -> usize {
    match kind {
        TokenizerKind::Byte | TokenizerKind::Char => text.len(),
        _ => last_cut(text, kind, text.len()).unwrap_or(0),
    }
}

/// The last safe cut after a line break in the first `end` bytes.
fn last_cut(text: &str, kind: TokenizerKind, mut end: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    while let Some(newline) = bytes[..end].iter().rposition(|&byte| byte == b'\n') {
        if is_safe(text, kind, newline + 1) {
            return Some(newline + 1);
        }
        end = newline;
    }
    None
}

/// Whether a cut right after the line break that ends at `at` keeps the tokens.
fn is_safe(text: &str, kind: TokenizerKind, at: usize) -> bool {
    match kind {
        // Line breaks are tokens, or separators, of their own.
        TokenizerKind::Byte
        | TokenizerKind::Char
        | TokenizerKind::Word
        | TokenizerKind::Wordpiece
        | TokenizerKind::Unigram => true,
        // The pre-tokeniser's pattern joins runs of white space and looks one character ahead;
        // a lone line break between two other characters is always a piece of its own.
        TokenizerKind::Bpe => {
            let before = text[..at - 1].chars().next_back();
            let after = text[at..].chars().next();
            let solid = |character: Option<char>| {
                character.is_some_and(|character| !character.is_whitespace())
            };
            solid(before) && solid(after)
        }
    }
}
