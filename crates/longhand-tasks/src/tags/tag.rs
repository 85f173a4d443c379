//! One tag of an entity scheme.

use std::fmt;

/// A tag of an entity scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag<'a> {
    /// Outside of every entity.
    Outside,
    /// A token of an entity, and the entity's type.
    Inside(Place, &'a str),
}

/// The place of a token in an entity, as its tag says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first token: `B`.
    Begin,
    /// A token between both ends: `I` or `M`.
    Middle,
    /// The last token: `E` or `L`.
    End,
    /// The only token: `S`, `U` or `W`.
    Single,
}

impl<'a> Tag<'a> {
    /// Reads a tag; none if it has no prefix of a scheme. A prefix alone marks the empty type.
    pub fn parse(tag: &'a str) -> Option<Self> {
        if tag == "O" {
            return Some(Self::Outside);
        }
        let (prefix, kind) = tag.split_once('-').unwrap_or((tag, ""));
        let place = match prefix {
            "B" => Place::Begin,
            "I" | "M" => Place::Middle,
            "E" | "L" => Place::End,
            "S" | "U" | "W" => Place::Single,
            _ => return None,
        };
        Some(Self::Inside(place, kind))
    }

    /// The type of its entity; none outside.
    pub(super) fn kind(self) -> Option<&'a str> {
        match self {
            Self::Outside => None,
            Self::Inside(_, kind) => Some(kind),
        }
    }
}

impl fmt::Display for Tag<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Inside(place, kind) = self else { return formatter.write_str("O") };
        let prefix = match place {
            Place::Begin => 'B',
            Place::Middle => 'I',
            Place::End => 'E',
            Place::Single => 'S',
        };
        let dash = if kind.is_empty() { "" } else { "-" };
        write!(formatter, "{prefix}{dash}{kind}")
    }
}
