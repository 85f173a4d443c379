//! Records and states of sessions: found in memory or in the store, checked before use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhand_engine::{Engine, Session, Snapshot};

use super::quota::Quotas;
use crate::backend::{Backend, Batch, Lease, Put, RecordKey, Table};
use crate::clock::Clock;
use crate::counters::Counters;
use crate::error::SessionError;
use crate::history::History;
use crate::lru::Lru;
use crate::name::{Name, Owner};
use crate::record::{BlobId, Record, Used};

/// How much is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsSettings {
    /// Bytes of states in memory. All are in the store too; the least recently used ones leave
    /// memory. A store that ends with the process has three quarters of these bytes for all that it
    /// holds. Default: 512 MiB.
    pub memory: u64,
    /// The most sessions of an owner. Default: 10,000.
    pub sessions_per_owner: u64,
    /// The most bytes of an owner's sessions and documents in the store. Default: 16 GiB.
    pub bytes_per_owner: u64,
    /// Time after its last use at which a session expires, where none is asked for. Default: never.
    pub ttl: Option<Duration>,
    /// How many turns of each session can be gone back to, the last one included. Default: 4.
    pub checkpoints: usize,
    /// The longest session, in tokens, whose passes are kept, so that its state can be recomputed; 0
    /// keeps none. Default: 16,384 tokens.
    pub history: usize,
    /// The largest snapshot that is imported, in bytes. Default: 256 MiB.
    pub snapshot_bytes: u64,
}

impl Default for SessionsSettings {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            sessions_per_owner: 10_000,
            bytes_per_owner: 16 << 30,
            ttl: None,
            checkpoints: 4,
            history: 16_384,
            snapshot_bytes: 256 << 20,
        }
    }
}

/// The sessions of a store, and those of their states that are in memory.
pub(crate) struct Shelf {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) settings: SessionsSettings,
    pub(crate) quotas: Quotas,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    hot: Mutex<Hot>,
    /// What is wrong with sessions that a list left out, each until it is told.
    damaged: Mutex<HashMap<RecordKey, Option<String>>>,
    /// Whoever has it finds room for what is kept.
    pub(super) finding: Mutex<()>,
}

/// States in memory: copies of those in the store, and those of jobs.
struct Hot {
    states: Lru<BlobId>,
    /// States of jobs that are not in a batch, and their bytes. They count in the budget of the copies.
    held: usize,
    held_bytes: u64,
}

/// A state of a job that is not in a batch: it counts among those in memory until this is dropped.
pub(crate) struct Held {
    shelf: Arc<Shelf>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut hot = self.shelf.hot();
        hot.held -= 1;
        hot.held_bytes -= self.bytes;
        let taken = hot.held_bytes;
        hot.states.leave(taken);
    }
}

impl Shelf {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        settings: SessionsSettings,
        clock: Clock,
        counters: &Arc<Counters>,
    ) -> Self {
        let states = Lru::new(settings.memory);
        let hot = Mutex::new(Hot { states, held: 0, held_bytes: 0 });
        let counters = counters.clone();
        let SessionsSettings { sessions_per_owner, bytes_per_owner, ttl, .. } = settings;
        let quotas = Quotas::new(sessions_per_owner, bytes_per_owner, ttl);
        let (damaged, finding) = (Mutex::default(), Mutex::default());
        Self { backend, settings, quotas, clock, counters, hot, damaged, finding }
    }

    /// A session's record, if there is one and it has not expired.
    pub(crate) fn find(&self, owner: &Owner, name: &Name) -> Result<Option<Record>, SessionError> {
        let now = self.clock.now();
        Ok(self.stored(owner, name)?.filter(|record| !record.is_expired(now)))
    }

    /// A session's record in the store, expired or not.
    pub(crate) fn stored(
        &self,
        owner: &Owner,
        name: &Name,
    ) -> Result<Option<Record>, SessionError> {
        let named = |what: String| SessionError::Damaged { name: name.to_string(), what };
        let bytes = self.backend.record(&key(owner, name)).map_err(|error| match error {
            SessionError::Damaged { what, .. } => named(what),
            error => error,
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let record = Record::from_bytes(&bytes).map_err(named)?;
        if (&record.owner, &record.name) != (owner, name) {
            return Err(named("its place holds the record of another".into()));
        }
        Ok(Some(record))
    }

    /// A session's record, or an error where there is none.
    pub(crate) fn require(&self, owner: &Owner, name: &Name) -> Result<Record, SessionError> {
        let unknown = || SessionError::NotFound { name: name.to_string() };
        self.find(owner, name)?.ok_or_else(unknown)
    }

    /// States of a damaged session that its record still names, if it is its own.
    pub(crate) fn leftovers(&self, owner: &Owner, name: &Name) -> Vec<BlobId> {
        let bytes = self.backend.record(&key(owner, name)).ok().flatten();
        let record = bytes.and_then(|bytes| Record::salvaged(&bytes));
        let own = record.filter(|record| (&record.owner, &record.name) == (owner, name));
        own.iter().flat_map(Record::blobs).map(|blob| blob.id).collect()
    }

    /// Notes a session that cannot be listed.
    pub(crate) fn note_damage(&self, owner: &Owner, item: String, what: &str) {
        let sentence = format!("the session `{item}` of `{owner}`: {what}");
        let place = RecordKey { table: Table::Sessions, owner: owner.clone(), item };
        self.damaged().entry(place).or_insert(Some(sentence));
    }

    /// The damaged sessions that were noted since this was asked last, a sentence for each.
    pub(crate) fn newly_damaged(&self) -> Vec<String> {
        self.damaged().values_mut().filter_map(Option::take).collect()
    }

    /// Counts anew what is stored, where other processes change it too.
    pub(crate) fn recount(&self) -> Result<(), SessionError> {
        if let Some(Used { sessions, bytes }) = self.backend.used_by_all()? {
            self.counters.sessions_stored.set(sessions);
            self.counters.sessions_stored_bytes.set(bytes);
        }
        Ok(())
    }

    /// The right to change a session.
    pub(crate) fn lease(&self, owner: &Owner, name: &Name) -> Result<Lease, SessionError> {
        Lease::take(&self.backend, key(owner, name))
    }

    /// A session's state at one of its checkpoints.
    pub(crate) fn load(
        &self,
        record: &Record,
        place: usize,
        engine: &Arc<Engine>,
    ) -> Result<Arc<Session>, SessionError> {
        let hash = engine.model_hash();
        if record.model != hash || record.tokenizer != engine.tokenizer().hash() {
            let (expected, got) = (hash.to_owned(), record.model.clone());
            return Err(SessionError::OtherModel { name: record.name.to_string(), expected, got });
        }
        let saved = record.saved.get(place).ok_or_else(|| record.damaged("it has no state"))?;
        let hot = self.hot().states.get(&saved.state.id);
        if let Some(session) = hot {
            return Ok(session);
        }
        let bytes = self.blob(record, saved.state.id)?;
        let damaged = |what: String| record.damaged(what);
        let snapshot = Snapshot::from_bytes(&bytes).map_err(|e| damaged(e.to_string()))?;
        let session = snapshot.session(engine).map_err(|e| damaged(e.to_string()))?;
        if session.position() != saved.position {
            return Err(damaged("its state is at another position than its record".into()));
        }
        self.counters.session_loads.add(1);
        let session = Arc::new(session);
        self.take_in(saved.state.id, session.clone());
        Ok(session)
    }

    /// Bytes that belong to a session.
    pub(crate) fn blob(&self, record: &Record, id: BlobId) -> Result<Vec<u8>, SessionError> {
        match self.backend.blob(&record.owner, id) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(record.damaged("some of its bytes are not there")),
            Err(SessionError::Damaged { what, .. }) => Err(record.damaged(what)),
            Err(error) => Err(error),
        }
    }

    /// The passes that led to a checkpoint, if all are known and whole.
    pub(crate) fn history(&self, record: &Record, place: usize) -> Option<History> {
        let segments = record.saved.get(place)?.segments;
        let mut whole = History::default();
        for segment in record.history.as_ref()?.get(..segments)? {
            let bytes = self.blob(record, segment.passes.id).ok()?;
            whole.append(History::from_bytes(&bytes)?);
        }
        (whole.tokens() as u64 == record.saved.get(place)?.position).then_some(whole)
    }

    /// Keeps a state in memory.
    pub(crate) fn take_in(&self, id: BlobId, session: Arc<Session>) {
        let mut hot = self.hot();
        hot.states.insert(id, session);
        self.tell(&hot);
    }

    /// Counts the state of a job that is not in a batch. Copies of stored states make room for it. None where
    /// there are `few` such states or more, and this one would exceed the budget together with them.
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64, few: usize) -> Option<Held> {
        let mut hot = self.hot();
        let all = hot.held_bytes + bytes;
        if hot.held >= few && all > self.settings.memory {
            return None;
        }
        hot.held += 1;
        hot.held_bytes = all;
        hot.states.leave(all);
        self.tell(&hot);
        drop(hot);
        Some(Held { shelf: self.clone(), bytes })
    }

    /// Drops states from memory that the store has no more.
    pub(crate) fn forget(&self, gone: &[BlobId]) {
        let mut hot = self.hot();
        gone.iter().for_each(|id| hot.states.remove(id));
        self.tell(&hot);
    }

    /// Drops all states from memory. The store has them.
    pub(crate) fn forget_all(&self) {
        let mut hot = self.hot();
        hot.states.clear();
        self.tell(&hot);
    }

    fn hot(&self) -> MutexGuard<'_, Hot> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self) -> MutexGuard<'_, HashMap<RecordKey, Option<String>>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, Hot { states, .. }: &Hot) {
        self.counters.sessions_hot.set(states.len() as u64);
        self.counters.sessions_hot_bytes.set(states.bytes());
    }
}

/// The place of a session's record.
pub(crate) fn key(owner: &Owner, name: &Name) -> RecordKey {
    RecordKey { table: Table::Sessions, owner: owner.clone(), item: name.to_string() }
}

/// Puts a session's record into a batch.
pub(crate) fn put_record(batch: &mut Batch, record: &Record) {
    let key = key(&record.owner, &record.name);
    batch.put.push(Put { key, value: record.to_bytes(), expires: record.expires() });
}
