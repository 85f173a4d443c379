//! States at the beginnings of prompts, so that a repeated beginning is not read again.
//!
//! A prompt is read in passes of [`CHUNK`] tokens from its start. States are kept at some ends of such
//! passes: each [`CacheSettings::every`] tokens, where a prompt parts from one that was read before,
//! and at the prompt's end. Each holds the last logits, so that a prompt that is asked again exactly
//! is not read at all.
//!
//! A hit has the bits of a cold reading. Therefore a longer prompt begins only with states at
//! multiples of [`CHUNK`]: from one at another place its passes would have other borders, and so
//! other rounding. At most [`CHUNK`] − 1 tokens more than necessary are read for that.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

use longhand_engine::Session;
use longhand_engine::session::CHUNK;

use crate::chain::Chain;
use crate::counters::Counters;
use crate::error::SessionError;
use crate::lru::Lru;
use crate::name::Owner;

/// How much is kept, and who shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Bytes of all states; 0 keeps none. Default: 256 MiB.
    pub bytes: u64,
    /// Tokens from one state of a long prompt to the next, a multiple of [`CHUNK`]. Default: 1024.
    pub every: usize,
    /// Who finds a state. Default: its owner alone.
    pub sharing: Sharing,
}

/// Who finds the states of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// The owner whose job made it: nobody learns from the tokens reused, or from the time,
    /// what others have asked.
    PerOwner,
    /// Everybody who asks with the same beginning.
    All,
}

/// The states, for any number of models. The key of each is a hash chain over its model, its
/// tokeniser and all of its tokens.
pub struct StateCache {
    settings: CacheSettings,
    counters: Arc<Counters>,
    /// Makes marks of ends, which nobody outside can foresee.
    marks: RandomState,
    kept: Mutex<Kept>,
}

struct Kept {
    states: Lru<Key>,
    /// Marks of the ends of passes of earlier prompts, with states or without: in two generations, of
    /// which the older one is forgotten when the younger one is full. Where two ends have one mark, a
    /// state is kept that nobody asks for.
    seen: [HashSet<u64>; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// None where all owners share.
    owner: Option<Owner>,
    chain: Chain,
}

/// The ends of a prompt's passes, in the order of reading; position and chain of each.
pub(crate) type Ends = Vec<(usize, Chain)>;

/// Ends of passes in one generation: as many as a table of 32,768 places takes before it grows. Both
/// generations have at most 0.6 MiB, which do not count in [`CacheSettings::bytes`].
const MOST_SEEN: usize = 7 << 12;

impl Default for CacheSettings {
    fn default() -> Self {
        Self { bytes: 256 << 20, every: 8 * CHUNK, sharing: Sharing::PerOwner }
    }
}

impl StateCache {
    /// A cache that holds no state yet.
    ///
    /// # Errors
    /// [`SessionError::Setting`] if [`CacheSettings::every`] is no multiple of [`CHUNK`].
    pub fn new(
        settings: CacheSettings,
        counters: &Arc<Counters>,
    ) -> Result<Arc<Self>, SessionError> {
        if settings.every == 0 || !settings.every.is_multiple_of(CHUNK) {
            let (value, allowed) = (settings.every.to_string(), "a multiple of 128 tokens");
            let name = "the distance of cached states";
            return Err(SessionError::Setting { name, value, allowed });
        }
        let kept = Kept { states: Lru::new(settings.bytes), seen: Default::default() };
        let (counters, marks) = (counters.clone(), RandomState::new());
        Ok(Arc::new(Self { settings, counters, marks, kept: Mutex::new(kept) }))
    }

    /// Forgets all states, and where prompts have parted.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.states.clear();
        kept.seen = Default::default();
        self.counters.cache_bytes.set(0);
    }

    /// Bytes of all states.
    pub fn bytes(&self) -> u64 {
        self.lock().states.bytes()
    }

    /// The state that spares most of a prompt, and how many of its tokens that state has read.
    pub(crate) fn find(&self, owner: &Owner, ends: &Ends) -> Option<(usize, Arc<Session>)> {
        let mut kept = self.lock();
        let found = ends.iter().rev().find_map(|&(position, chain)| {
            kept.states.get(&self.key(owner, chain)).map(|session| (position, session))
        });
        drop(kept);
        match found {
            Some(_) => self.counters.cache_hits.add(1),
            None => self.counters.cache_misses.add(1),
        }
        found
    }

    /// At which of the ends behind `from` states should be kept while a prompt is read. Notes that
    /// the prompt was here.
    pub(crate) fn plan(&self, owner: &Owner, ends: &Ends, from: usize) -> Vec<usize> {
        if self.settings.bytes == 0 {
            return Vec::new();
        }
        let mut kept = self.lock();
        let marks = ends.iter().map(|&(position, chain)| (position, self.mark(owner, chain)));
        let marks: Vec<(usize, u64)> = marks.collect();
        let parts = marks.iter().rev().find(|&&(_, mark)| kept.has_seen(mark)).map(|&(at, _)| at);
        let last = marks.last().map(|&(at, _)| at);
        let wanted = |at: usize| {
            at > from
                && (at.is_multiple_of(self.settings.every) || Some(at) == parts || Some(at) == last)
        };
        let plan = marks.iter().map(|&(at, _)| at).filter(|&at| wanted(at)).collect();
        marks.into_iter().for_each(|(_, mark)| kept.note(mark));
        plan
    }

    /// Keeps a state of an owner, for whoever may find it.
    pub(crate) fn insert(&self, owner: &Owner, chain: Chain, session: Arc<Session>) {
        let mut kept = self.lock();
        let gone = kept.states.insert(self.key(owner, chain), session);
        self.counters.cache_evictions.add(gone as u64);
        self.counters.cache_bytes.set(kept.states.bytes());
    }

    fn key(&self, owner: &Owner, chain: Chain) -> Key {
        let owner = match self.settings.sharing {
            Sharing::PerOwner => Some(owner.clone()),
            Sharing::All => None,
        };
        Key { owner, chain }
    }

    /// The end of a pass among those that were seen; another one for each owner that shares nothing.
    fn mark(&self, owner: &Owner, chain: Chain) -> u64 {
        self.marks.hash_one(self.key(owner, chain))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Kept {
    fn has_seen(&self, mark: u64) -> bool {
        self.seen.iter().any(|seen| seen.contains(&mark))
    }

    fn note(&mut self, mark: u64) {
        if self.has_seen(mark) {
            return;
        }
        if self.seen[0].len() == MOST_SEEN {
            self.seen[1] = std::mem::take(&mut self.seen[0]);
        }
        self.seen[0].insert(mark);
    }
}

/// The ends of the passes that read a prompt from an empty state.
pub(crate) fn ends(start: Chain, ids: &[u32]) -> Ends {
    let mut chain = start;
    let mut ends = Vec::with_capacity(ids.len().div_ceil(CHUNK));
    for (position, &id) in (1..).zip(ids) {
        chain = chain.push(id);
        if position % CHUNK == 0 || position == ids.len() {
            ends.push((position, chain));
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::nano;

    /// Ends of a text of `len` tokens that begins with `shared` zeros.
    fn text(shared: usize, len: usize, seed: u32) -> Ends {
        let ids: Vec<u32> = (0..len).map(|i| if i < shared { 0 } else { seed }).collect();
        ends(Chain::new(&nano(1)), &ids)
    }

    #[test]
    fn states_are_planned_at_each_distance_at_the_end_and_where_prompts_part() {
        let settings = CacheSettings { every: 2 * CHUNK, ..CacheSettings::default() };
        let cache = StateCache::new(settings, &Counters::new()).unwrap();
        let owner = Owner::new("a").unwrap();
        let first = text(5 * CHUNK, 5 * CHUNK + 9, 1);
        let positions = |plan: Vec<usize>| plan;
        assert_eq!(positions(cache.plan(&owner, &first, 0)), [2 * CHUNK, 4 * CHUNK, 5 * CHUNK + 9]);
        // Another text parts from it somewhere in its fourth pass: the last common end is the third.
        let second = text(3 * CHUNK + 50, 4 * CHUNK + 3, 2);
        assert_eq!(
            positions(cache.plan(&owner, &second, 0)),
            [2 * CHUNK, 3 * CHUNK, 4 * CHUNK, 4 * CHUNK + 3]
        );
        // The exact prompt again ends where it did.
        let session = Arc::new(nano(1).session(Default::default()).unwrap());
        cache.insert(&owner, second[4].1, session.clone());
        cache.insert(&owner, second[1].1, session);
        assert_eq!(cache.find(&owner, &second).unwrap().0, 4 * CHUNK + 3);
        assert_eq!(cache.find(&owner, &first).unwrap().0, 2 * CHUNK);
        // A longer one may not begin at another place than a multiple of the chunk.
        let longer = text(3 * CHUNK + 50, 4 * CHUNK + 4, 2);
        assert_eq!(cache.find(&owner, &longer).unwrap().0, 2 * CHUNK);
        let other = Owner::new("b").unwrap();
        assert!(cache.find(&other, &second).is_none());
        let wrong = CacheSettings { every: CHUNK + 1, ..settings };
        assert!(StateCache::new(wrong, &Counters::new()).is_err());
    }

    #[test]
    fn where_prompts_part_is_an_owners_own_and_bounded() {
        let settings = CacheSettings { every: 8 * CHUNK, ..CacheSettings::default() };
        let cache = StateCache::new(settings, &Counters::new()).unwrap();
        let (a, b) = (Owner::new("a").unwrap(), Owner::new("b").unwrap());
        let (first, second) = (text(CHUNK, 2 * CHUNK, 1), text(CHUNK, 2 * CHUNK, 2));
        assert_eq!(cache.plan(&a, &first, 0), [2 * CHUNK]);
        assert_eq!(cache.plan(&b, &second, 0), [2 * CHUNK]);
        assert_eq!(cache.plan(&a, &second, 0), [CHUNK, 2 * CHUNK]);
        let mut kept = cache.lock();
        let marks = 0..3 * MOST_SEEN as u64;
        marks.clone().for_each(|mark| kept.note(mark));
        assert!(kept.seen.iter().all(|seen| seen.len() <= MOST_SEEN));
        assert!(kept.has_seen(marks.end - 1) && kept.has_seen(marks.end - MOST_SEEN as u64));
        assert!(!kept.has_seen(0));
    }
}
