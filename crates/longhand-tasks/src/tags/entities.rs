//! The entities that the tags of a sentence mark.

use super::tag::{Place, Tag};

/// An entity: tokens of one type, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity<'a> {
    /// The type in its tags, such as `PER`.
    pub kind: &'a str,
    /// The first token of the sentence in it, counted from 0.
    pub first: usize,
    /// The last token of the sentence in it.
    pub last: usize,
}

/// The entities of a sentence in order, of any scheme and legal or not, as the program `conlleval`
/// of the CoNLL shared tasks reads them: an entity begins at a `B` or `S`, after an `E` or `S`, and
/// wherever the type changes. It ends where another one begins and before an `O`.
pub fn entities<'a>(tags: &[Tag<'a>]) -> Vec<Entity<'a>> {
    let mut found: Vec<Entity<'a>> = Vec::new();
    let mut open = false;
    let mut before = Tag::Outside;
    for (at, &tag) in tags.iter().enumerate() {
        match (tag, found.last_mut()) {
            (Tag::Outside, _) => open = false,
            (Tag::Inside(..), Some(entity)) if open && !begins(before, tag) => entity.last = at,
            (Tag::Inside(_, kind), _) => {
                found.push(Entity { kind, first: at, last: at });
                open = true;
            }
        }
        before = tag;
    }
    found
}

/// Whether the second of two tags inside of entities begins one.
fn begins(before: Tag<'_>, tag: Tag<'_>) -> bool {
    let (Tag::Inside(earlier, other), Tag::Inside(place, kind)) = (before, tag) else {
        return true;
    };
    matches!(place, Place::Begin | Place::Single)
        || matches!(earlier, Place::End | Place::Single)
        || kind != other
}
