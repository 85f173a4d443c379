//! Schemes that mark entities by tags of single tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::entities::{Entity, entities};
use super::tag::{Place, Tag};

/// How tags mark entities. Each tag is `O`, or a prefix and the entity's type: `B-PER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `I` for each token; `B` for the first one right after another entity of the same type.
    Iob1,
    /// `B` for the first token, `I` for the others.
    Iob2,
    /// `S` for an entity of one token; else `B`, `I` … and `E`. BMES and BILOU are read as this.
    Bioes,
    /// Tags without a structure, such as parts of speech. Each is an answer by itself.
    Raw,
}

/// A name that none of the schemes has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown tag scheme `{0}`: use iob1, iob2, bioes or raw")]
pub struct UnknownScheme(pub String);

impl Scheme {
    /// The names on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iob1 => "iob1",
            Self::Iob2 => "iob2",
            Self::Bioes => "bioes",
            Self::Raw => "raw",
        }
    }

    /// The scheme of sentences: raw if a tag has no prefix, BIOES if one is an end or a single
    /// token. Else it is IOB1 if more entities begin with `I` than with `B` where the two schemes
    /// differ, so that a slip in IOB2 changes nothing, and IOB2 if not.
    pub fn of<'a>(sentences: impl IntoIterator<Item = &'a [&'a str]>) -> Self {
        // Entities that touch none of their type before them: IOB1 begins these with `I`.
        let (mut with_begin, mut with_middle) = (0, 0);
        let mut bioes = false;
        for sentence in sentences {
            let mut before = Tag::Outside;
            for tag in sentence {
                let Some(tag) = Tag::parse(tag) else { return Self::Raw };
                let apart = before.kind() != tag.kind();
                match tag {
                    Tag::Inside(Place::Begin, _) if apart => with_begin += 1,
                    Tag::Inside(Place::Middle, _) if apart => with_middle += 1,
                    Tag::Inside(Place::End | Place::Single, _) => bioes = true,
                    _ => {}
                }
                before = tag;
            }
        }
        match (bioes, with_middle > with_begin) {
            (true, _) => Self::Bioes,
            (false, true) => Self::Iob1,
            (false, false) => Self::Iob2,
        }
    }

    /// Whether a sequence of the scheme may begin with the tag.
    pub fn may_begin(self, tag: Tag<'_>) -> bool {
        self.may_follow(Tag::Outside, tag)
    }

    /// Whether a sequence of the scheme may end with the tag.
    pub fn may_end(self, tag: Tag<'_>) -> bool {
        self.may_follow(tag, Tag::Outside)
    }

    /// Whether a tag of the scheme may come right after another one.
    pub fn may_follow(self, before: Tag<'_>, tag: Tag<'_>) -> bool {
        let same = before.kind() == tag.kind();
        let open = matches!(before, Tag::Inside(Place::Begin | Place::Middle, _));
        let goes_on = matches!(tag, Tag::Inside(Place::Middle | Place::End, _));
        match self {
            Self::Raw => true,
            Self::Iob1 => !matches!(tag, Tag::Inside(Place::Begin, _)) || same,
            Self::Iob2 => !goes_on || (before != Tag::Outside && same),
            Self::Bioes => goes_on == open && (!goes_on || same),
        }
    }

    /// The number of tags that may not follow the tag before, the ends of the sentence included.
    pub fn violations(self, tags: &[Tag<'_>]) -> usize {
        let ends = [Tag::Outside];
        let all: Vec<Tag<'_>> = ends.iter().chain(tags).chain(&ends).copied().collect();
        all.windows(2).filter(|pair| !self.may_follow(pair[0], pair[1])).count()
    }

    /// The tags of `count` tokens with these entities, which are in order and do not overlap.
    pub fn tags<'a>(self, count: usize, entities: &[Entity<'a>]) -> Vec<Tag<'a>> {
        let mut tags = vec![Tag::Outside; count];
        for &Entity { kind, first, last } in entities {
            let before = first.checked_sub(1).and_then(|at| tags.get(at)).copied();
            let touches = before.and_then(Tag::kind) == Some(kind);
            for at in first..=last {
                let place = match self {
                    Self::Iob1 if at > first || !touches => Place::Middle,
                    Self::Bioes if first == last => Place::Single,
                    Self::Bioes if at == last => Place::End,
                    _ if at == first => Place::Begin,
                    _ => Place::Middle,
                };
                if let Some(tag) = tags.get_mut(at) {
                    *tag = Tag::Inside(place, kind);
                }
            }
        }
        tags
    }

    /// The tags of a sentence in another scheme. Illegal tags are read as [`entities`] reads them.
    /// Raw tags, and tags that become raw, stay as they are.
    pub fn convert(self, tags: &[&str], to: Self) -> Vec<String> {
        let parsed: Option<Vec<Tag<'_>>> = tags.iter().map(|tag| Tag::parse(tag)).collect();
        match parsed {
            Some(parsed) if self != Self::Raw && to != Self::Raw => {
                let converted = to.tags(parsed.len(), &entities(&parsed));
                converted.iter().map(Tag::to_string).collect()
            }
            _ => tags.iter().map(|&tag| tag.to_owned()).collect(),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Self, UnknownScheme> {
        let all = [Self::Iob1, Self::Iob2, Self::Bioes, Self::Raw];
        let found = all.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| UnknownScheme(name.to_owned()))
    }
}
