//! Tags of tokens: their schemes, the entities that they mark, and how well entities were found.

mod entities;
mod scheme;
mod score;
mod tag;
#[cfg(test)]
mod tests;

pub use entities::{Entity, entities};
pub use scheme::{Scheme, UnknownScheme};
pub use score::{EntityCounts, EntityScores};
pub use tag::{Place, Tag};
