//! States in memory up to a budget; the least recently used ones go.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use longhand_engine::Session;

/// States by key. A state larger than the whole budget is not taken.
pub(crate) struct Lru<K> {
    budget: u64,
    /// Bytes of the budget that others use.
    taken: u64,
    bytes: u64,
    /// Counts the uses of all states.
    clock: u64,
    entries: HashMap<K, Entry>,
    /// Keys by their last use.
    order: BTreeMap<u64, K>,
}

struct Entry {
    session: Arc<Session>,
    bytes: u64,
    used: u64,
}

impl<K: Clone + Eq + Hash> Lru<K> {
    pub(crate) fn new(budget: u64) -> Self {
        let (entries, order) = (HashMap::new(), BTreeMap::new());
        Self { budget, taken: 0, bytes: 0, clock: 0, entries, order }
    }

    /// The state of a key, which is used now.
    pub(crate) fn get(&mut self, key: &K) -> Option<Arc<Session>> {
        let entry = self.entries.get_mut(key)?;
        self.clock += 1;
        self.order.remove(&entry.used);
        entry.used = self.clock;
        self.order.insert(self.clock, key.clone());
        Some(entry.session.clone())
    }

    /// Takes a state in, and says how many others went.
    pub(crate) fn insert(&mut self, key: K, session: Arc<Session>) -> usize {
        self.remove(&key);
        let bytes = bytes_of(&session);
        if bytes > self.room() {
            return 0;
        }
        self.clock += 1;
        self.bytes += bytes;
        self.order.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { session, bytes, used: self.clock });
        self.shrink()
    }

    /// Leaves bytes of the budget to others; the least recently used states go for it.
    pub(crate) fn leave(&mut self, taken: u64) {
        self.taken = taken;
        self.shrink();
    }

    fn room(&self) -> u64 {
        self.budget.saturating_sub(self.taken)
    }

    fn shrink(&mut self) -> usize {
        let mut gone = 0;
        while self.bytes > self.room()
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= entry.bytes;
                gone += 1;
            }
        }
        gone
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
            self.order.remove(&entry.used);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
        self.bytes = 0;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all states.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Memory of a state: its tensors, logits and the small things beside them.
pub(crate) fn bytes_of(session: &Session) -> u64 {
    const BESIDE: usize = 2048;
    (session.state().bytes() + 4 * session.logits().len() + BESIDE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::nano;

    #[test]
    fn the_least_recently_used_goes_first() {
        let session = Arc::new(nano(1).session(Default::default()).unwrap());
        let bytes = bytes_of(&session);
        let mut lru = Lru::new(3 * bytes);
        for key in 0..3 {
            assert_eq!(lru.insert(key, session.clone()), 0);
        }
        assert!(lru.get(&0).is_some());
        assert_eq!(lru.insert(3, session.clone()), 1);
        assert!(lru.get(&0).is_some() && lru.get(&1).is_none() && lru.get(&3).is_some());
        assert_eq!((lru.bytes(), lru.len()), (3 * bytes, 3));
        lru.insert(3, session.clone());
        lru.remove(&7);
        lru.leave(2 * bytes - 1);
        assert_eq!((lru.bytes(), lru.len()), (bytes, 1));
        assert_eq!(lru.insert(4, session.clone()), 1);
        lru.leave(4 * bytes);
        assert_eq!((lru.insert(5, session.clone()), lru.len()), (0, 0));
        lru.leave(0);
        (0..3).for_each(|key| assert_eq!(lru.insert(key, session.clone()), 0));
        assert_eq!((lru.bytes(), lru.len()), (3 * bytes, 3));
        let mut small = Lru::new(bytes - 1);
        assert_eq!(small.insert(0, session), 0);
        assert_eq!((small.bytes(), small.len()), (0, 0));
    }
}
