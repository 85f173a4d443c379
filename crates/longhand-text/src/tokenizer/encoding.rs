//! Ids with their places in the text.

use std::ops::Range;

/// The ids of a text, and the part of the text that each comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The ids of the tokens.
    pub ids: Vec<u32>,
    /// The place of each token, in the order of the ids.
    pub offsets: Vec<Offsets>,
}

/// The part of a text that a token comes from. A token that is a part of a character has the whole
/// character, so that the text can be sliced by `bytes`; its neighbours then have the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Bytes from the beginning of the text, at the bounds of characters.
    pub bytes: Range<usize>,
    /// Unicode characters from the beginning of the text.
    pub characters: Range<usize>,
}

impl Encoding {
    /// Ids with their exact bytes, whose starts do not fall.
    pub(super) fn new(text: &str, ids: Vec<u32>, spans: &[Range<usize>]) -> Self {
        // The character in which `place` begins, and its number.
        let (mut place, mut number) = (0, 0);
        let offsets = spans.iter().map(|span| {
            let start = text.floor_char_boundary(span.start);
            let end = text.ceil_char_boundary(span.end.max(span.start));
            if start >= place {
                number += text[place..start].chars().count();
            } else {
                number -= text[start..place].chars().count();
            }
            place = start;
            let characters = number..number + text[start..end].chars().count();
            Offsets { bytes: start..end, characters }
        });
        let offsets = offsets.collect();
        Self { ids, offsets }
    }
}
