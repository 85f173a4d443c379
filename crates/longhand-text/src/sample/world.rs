//! The world of a story: who holds what.

use super::event::{Event, Kind};
use super::lexicon::THINGS;

/// Who holds each of the things; the truth that questions are answered from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct World {
    holders: [Option<usize>; THINGS.len()],
}

impl World {
    /// The index of the person who holds `thing`.
    pub(super) fn holder(&self, thing: usize) -> Option<usize> {
        self.holders[thing]
    }

    /// Lets an event happen. Only takings and givings change who holds what.
    pub(super) fn apply(&mut self, event: &Event) {
        match event.kind {
            Kind::Take { person, thing, .. } => self.holders[thing] = Some(person),
            Kind::Give { receiver, thing, .. } => self.holders[thing] = Some(receiver),
            _ => {}
        }
    }
}
