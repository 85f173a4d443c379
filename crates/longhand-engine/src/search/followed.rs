//! The rules that a hypothesis follows.

use std::sync::Arc;

use crate::rules::{Constraint, Mask, RulesError};

/// A constraint behind the last token of a hypothesis, and what it says of the next one.
#[derive(Clone)]
pub(super) struct Followed {
    constraint: Constraint,
    mask: Arc<Mask>,
    may_end: bool,
}

impl Followed {
    /// A constraint and the tokens that may come next; none where it has come to a dead end.
    pub(super) fn new(mut constraint: Constraint) -> Option<Self> {
        let (mask, may_end) = (constraint.mask().ok()?, constraint.may_end());
        Some(Self { constraint, mask, may_end })
    }

    /// The same behind one more token.
    pub(super) fn with(&self, id: u32) -> Result<Self, RulesError> {
        let mut constraint = self.constraint.clone();
        constraint.accept(id)?;
        let (mask, may_end) = (constraint.mask()?, constraint.may_end());
        Ok(Self { constraint, mask, may_end })
    }

    /// Appends the tokens that must not come next.
    pub(super) fn exclude(&self, out: &mut Vec<u32>) {
        out.extend((0..self.mask.tokens() as u32).filter(|&id| !self.mask.allows(id)));
    }

    /// Whether the text matches as it is.
    pub(super) fn may_end(&self) -> bool {
        self.may_end
    }

    /// Whether it matches, and nothing longer does.
    pub(super) fn is_complete(&self) -> bool {
        self.may_end && self.mask.is_empty()
    }
}
