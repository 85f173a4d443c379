//! The features of texts as numbers: a table from the keys of n-grams, and rows of them.

use super::error::BaselineError;

/// Numbers the keys of features from 0, in the order in which they come. It is a hash table with
/// linear probing whose slots hold numbers; the keys are a list beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Index {
    keys: Vec<u64>,
    /// A number plus 1, or 0 for an empty slot; the length is a power of two.
    slots: Vec<u32>,
}

/// An odd number that spreads keys over the slots (Knuth's multiplicative hashing, 2⁶⁴/φ).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// The most keys of a table.
const MOST: usize = (u32::MAX / 2) as usize;

impl Index {
    /// The table of keys that are all different; none where two are equal.
    pub(crate) fn of(keys: Vec<u64>) -> Option<Self> {
        let mut index = Self::default();
        for &key in &keys {
            index.add(key).ok()?;
        }
        (index.keys.len() == keys.len()).then_some(index)
    }

    pub(crate) fn keys(&self) -> &[u64] {
        &self.keys
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of a key that the table has.
    pub(crate) fn get(&self, key: u64) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots[self.slot(key)].checked_sub(1)
    }

    /// The number of a key, a new one if the table lacks it.
    ///
    /// # Errors
    /// [`BaselineError::TooManyNgrams`] for a full table.
    pub(crate) fn add(&mut self, key: u64) -> Result<u32, BaselineError> {
        if 2 * (self.keys.len() + 1) > self.slots.len() {
            self.grow();
        }
        let slot = self.slot(key);
        if let Some(number) = self.slots[slot].checked_sub(1) {
            return Ok(number);
        }
        if self.keys.len() >= MOST {
            return Err(BaselineError::TooManyNgrams(MOST));
        }
        self.keys.push(key);
        // At most half of u32's range, see above.
        self.slots[slot] = self.keys.len() as u32;
        Ok(self.slots[slot] - 1)
    }

    /// The slot of a key, or the empty one that it would get.
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let shift = self.slots.len().leading_zeros() + 1;
        let mut slot = (key.wrapping_mul(SPREAD) >> shift) as usize & mask;
        loop {
            match self.slots[slot].checked_sub(1) {
                Some(number) if self.keys[number as usize] != key => slot = (slot + 1) & mask,
                _ => return slot,
            }
        }
    }

    fn grow(&mut self) {
        self.slots = vec![0; (2 * self.slots.len()).max(1 << 10)];
        for number in 0..self.keys.len() {
            let slot = self.slot(self.keys[number]);
            self.slots[slot] = number as u32 + 1;
        }
    }
}

/// The features of each text, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// The first place of each row in `features`, and the end of the last.
    bounds: Vec<usize>,
    features: Vec<u32>,
}

impl Default for Rows {
    fn default() -> Self {
        Self { bounds: vec![0], features: Vec::new() }
    }
}

impl Rows {
    pub(crate) fn push(&mut self, row: &[u32]) {
        self.features.extend_from_slice(row);
        self.bounds.push(self.features.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The number of features in all rows.
    pub(crate) fn entries(&self) -> usize {
        self.features.len()
    }

    pub(crate) fn row(&self, place: usize) -> &[u32] {
        &self.features[self.bounds[place]..self.bounds[place + 1]]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|place| self.row(place))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_table_numbers_keys_as_a_map_does() {
        let mut index = Index::default();
        assert_eq!(index.get(7), None);
        let mut known: HashMap<u64, u32> = HashMap::new();
        let mut key = 1_u64;
        for step in 0..5000 {
            // Equal low bits, so that many keys want the same slot.
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (key % 3000) << (20 * (step % 3));
            let next = known.len() as u32;
            let expected = *known.entry(key).or_insert(next);
            assert_eq!(index.add(key).unwrap(), expected);
        }
        assert!(known.iter().all(|(&key, &number)| index.get(key) == Some(number)));
        assert_eq!((index.len(), index.get(u64::MAX)), (known.len(), None));
        assert_eq!(Index::of(index.keys().to_vec()), Some(index));
        assert_eq!(Index::of(vec![3, 4, 3]), None);
    }
}
