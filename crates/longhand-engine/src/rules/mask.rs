//! The set of tokens that may come next.

use toktrie::SimpleVob;

/// The tokens that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    bits: SimpleVob,
    /// Where the bit of the token 0 is.
    first: u32,
    tokens: u32,
}

impl Mask {
    /// The `tokens` bits from `first` on.
    pub(super) fn new(bits: SimpleVob, first: u32, tokens: u32) -> Self {
        Self { bits, first, tokens }
    }

    pub(super) fn set(&mut self, id: u32, allowed: bool) {
        if id < self.tokens {
            self.bits.set((self.first + id) as usize, allowed);
        }
    }

    /// Whether a token may come next.
    pub fn allows(&self, id: u32) -> bool {
        id < self.tokens && self.bits.is_allowed(self.first + id)
    }

    /// The number of tokens V.
    pub fn tokens(&self) -> usize {
        self.tokens as usize
    }

    /// The tokens that may come next, ascending.
    pub fn allowed(&self) -> impl Iterator<Item = u32> {
        (0..self.tokens).filter(|&id| self.allows(id))
    }

    /// Whether no token may come next.
    pub fn is_empty(&self) -> bool {
        self.allowed().next().is_none()
    }
}
