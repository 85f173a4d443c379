//! Places where a text can be cut without changing its tokens.

use super::kind::TokenizerKind;
use super::pattern::CharacterClass;

/// Cuts a text into parts of at least `size` bytes (the last excepted). The tokens of the whole
/// are the tokens of the parts, one after the other.
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

/// The first safe cut at or after `from`, before the end of the text.
fn first_safe_cut(text: &str, kind: TokenizerKind, from: usize) -> Option<usize> {
    let from = text.ceil_char_boundary(from.max(1).min(text.len()));
    let places = text[from..].char_indices().map(|(at, _)| from + at);
    places.into_iter().find(|&at| is_safe(text, kind, at))
}

/// The last safe cut of a text, before its end.
pub(crate) fn last_safe_cut(text: &str, kind: TokenizerKind) -> Option<usize> {
    last_safe_cut_from(text, kind, 0)
}

/// The last safe cut at a byte or after it.
fn last_safe_cut_from(text: &str, kind: TokenizerKind, from: usize) -> Option<usize> {
    let places = text.char_indices().rev().map(|(at, _)| at);
    places.take_while(|&at| at >= from.max(1)).find(|&at| is_safe(text, kind, at))
}

/// Bytes behind a cut on which its safety depends: two characters.
const CONTEXT: usize = 2 * 4;

/// How much of a text that goes on can be encoded now, whatever follows: every byte for the kinds
/// without context, all but the last word or run of white space for the others. Of its first
/// `before` bytes, nothing was settled before the others came: they are not looked at again.
pub fn settled(text: &str, kind: TokenizerKind, before: usize) -> usize {
    let ended = match kind {
        TokenizerKind::Byte | TokenizerKind::Char => true,
        TokenizerKind::Word => text.ends_with(char::is_whitespace),
        TokenizerKind::Wordpiece => text.ends_with(stands_alone),
        TokenizerKind::Unigram => text.ends_with('\n'),
        TokenizerKind::Bpe => false,
    };
    if ended {
        return text.len();
    }
    last_safe_cut_from(text, kind, before.saturating_sub(CONTEXT)).unwrap_or(0)
}

/// The last cut that is safe for every kind: beside a lone space or line break where there is one,
/// as foreign tokenisers agree there too, and else within a run of white space.
pub(crate) fn last_common_cut(text: &str) -> Option<usize> {
    let mut within_run = None;
    let mut after: Option<char> = None;
    let mut characters = text.char_indices().rev().peekable();
    while let Some((at, character)) = characters.next() {
        let before_word = after.is_some_and(|after| !after.is_whitespace());
        if matches!(character, ' ' | '\n') && before_word && at > 0 {
            let lone = characters.peek().is_some_and(|(_, before)| !before.is_whitespace());
            match (lone, character) {
                (true, '\n') => return Some(at + 1),
                (true, _) => return Some(at),
                (false, _) => within_run = within_run.or(Some(at)),
            }
        }
        after = Some(character);
    }
    within_run
}

/// Whether the tokens of both sides of a cut are those of the whole, whatever follows the text.
/// `at` is a character's beginning, neither 0 nor the end.
fn is_safe(text: &str, kind: TokenizerKind, at: usize) -> bool {
    let mut before = text[..at].chars().rev();
    let mut after = text[at..].chars();
    let (Some(left), Some(right)) = (before.next(), after.next()) else { return false };
    match kind {
        TokenizerKind::Byte | TokenizerKind::Char => true,
        TokenizerKind::Word => left.is_whitespace() || right.is_whitespace(),
        TokenizerKind::Wordpiece => stands_alone(left) || stands_alone(right),
        // Pieces begin with a space; line breaks are pieces of their own.
        TokenizerKind::Unigram => left == '\n' || right == '\n' || right == ' ',
        TokenizerKind::Bpe => is_boundary(before.next(), left, right, after.next()),
    }
}

/// Whether the pattern of `pattern.rs` ends a pre-token between two characters, and would end it
/// if the text ended there.
fn is_boundary(earlier: Option<char>, left: char, right: char, next: Option<char>) -> bool {
    use CharacterClass::Space;
    let class = CharacterClass::of;
    match (class(left), class(right)) {
        // A run of white space gives its last character away if a word follows.
        (Space, Space) => next.is_some_and(|next| class(next) != Space),
        (_, Space) => true,
        // One that is no space stays alone, but two or more at an end would be one pre-token.
        (Space, _) => left != ' ' && earlier.is_none_or(|earlier| class(earlier) != Space),
        // After an apostrophe a letter may be part of a contraction.
        (before, after) => before != after && left != '\'',
    }
}

/// Whether a character is a token by itself, or white space, for the `wordpiece` kind. Control
/// characters are not: they are left out, which joins their neighbours.
fn stands_alone(character: char) -> bool {
    let space = character.is_whitespace() && !character.is_control();
    space || matches!(character, '\t' | '\n' | '\r' | '\u{4e00}'..='\u{9fff}')
}
