//! n-grams as numbers, so that sorting numbers sorts n-grams.
//!
//! A key of order N holds N symbols of equal width in the lower bits of a `u128`. The symbol of word
//! w is w + 1; 0 is no word, which comes before all others. Words are the ids below V, and V itself:
//! the start of a document, which contexts alone can hold.

use crate::error::NgramError;

/// The width of the symbols of a vocabulary, and how many of them a key holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packing {
    bits: usize,
    order: usize,
}

impl Packing {
    /// The highest order whose keys fit 128 bits.
    pub(crate) fn most(vocabulary: usize) -> usize {
        128 / bits(vocabulary)
    }

    /// # Errors
    /// [`NgramError::Order`] for an order of 0, or above [`Packing::most`].
    pub(crate) fn new(vocabulary: usize, order: usize) -> Result<Self, NgramError> {
        let most = Self::most(vocabulary);
        if !(1..=most).contains(&order) {
            return Err(NgramError::Order { order, most, vocabulary });
        }
        Ok(Self { bits: bits(vocabulary), order })
    }

    /// N: the longest n-gram, in tokens.
    pub(crate) fn order(self) -> usize {
        self.order
    }

    /// The reversed key of the last N words, after one more word. The last word is the highest.
    pub(crate) fn push(self, reversed: u128, word: u32) -> u128 {
        let symbol = u128::from(word) + 1;
        reversed >> self.bits | symbol << ((self.order - 1) * self.bits)
    }

    /// How many of the last words two reversed keys have in common.
    pub(crate) fn shared(self, one: u128, other: u128) -> usize {
        match one ^ other {
            0 => self.order,
            different => {
                let unused = 128 - self.order * self.bits;
                (different.leading_zeros() as usize - unused) / self.bits
            }
        }
    }

    /// How many words a reversed key holds: fewer than N near the start of a document.
    pub(crate) fn length(self, reversed: u128) -> usize {
        self.order - (reversed.trailing_zeros() as usize / self.bits).min(self.order)
    }

    /// The last k words of a reversed key, as the key of a k-gram in the text's order.
    pub(crate) fn forward(self, reversed: u128, k: usize) -> u128 {
        let symbol = |place| (reversed >> (place * self.bits)) & self.mask();
        (self.order - k..self.order).fold(0, |key, place| key << self.bits | symbol(place))
    }

    /// The key of a k-gram without its last word, and that word.
    pub(crate) fn split(self, key: u128) -> (u128, u32) {
        (key >> self.bits, self.word(key))
    }

    /// The key of a k-gram with one more word behind it.
    pub(crate) fn append(self, key: u128, word: u32) -> u128 {
        key << self.bits | (u128::from(word) + 1)
    }

    /// The k words of a key, in the text's order.
    pub(crate) fn words(self, key: u128, k: usize, words: &mut Vec<u32>) {
        words.clear();
        words.extend((0..k).rev().map(|place| self.word(key >> (place * self.bits))));
    }

    fn word(self, key: u128) -> u32 {
        ((key & self.mask()) as u32).wrapping_sub(1)
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }
}

/// Bits of the largest symbol, V + 1.
fn bits(vocabulary: usize) -> usize {
    (usize::BITS - (vocabulary + 1).leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_words_and_sort_as_they_do() {
        for (vocabulary, order) in [(2, 3), (65, 18), (50_000, 8), (1 << 20, 6)] {
            let packing = Packing::new(vocabulary, order).unwrap();
            let start = vocabulary as u32;
            // A document's start and one word: N − 2 places are empty.
            let short = packing.push(packing.push(0, start), 1);
            assert_eq!(packing.length(short), 2);
            let mut key = short;
            let last: Vec<u32> = (0..order as u32).map(|i| i * 7 % start).collect();
            last.iter().for_each(|&word| key = packing.push(key, word));
            assert_eq!(packing.length(key), order);
            assert!(packing.shared(key, key) == order);
            for k in 1..=order {
                let forward = packing.forward(key, k);
                let mut words = Vec::new();
                packing.words(forward, k, &mut words);
                assert_eq!(words, last[order - k..]);
                assert_eq!(packing.split(forward).1, last[order - 1]);
            }
            let other = packing.push(key, (last[order - 1] + 1) % start);
            assert_eq!(packing.shared(key, other), 0);
        }
        assert_eq!(Packing::most(50_000), 8);
        assert!(Packing::new(50_000, 9).is_err() && Packing::new(50_000, 0).is_err());
    }
}
