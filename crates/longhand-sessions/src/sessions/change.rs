//! Changes of sessions that no job makes: each is one commit under the session's lease.

use std::sync::Arc;
use std::time::Duration;

use longhand_engine::{Engine, Snapshot};

use super::save::put;
use super::shelf::{Shelf, key, put_record};
use super::snapshot::checked;
use crate::backend::{Batch, RecordKey, Table};
use crate::clock::milliseconds;
use crate::error::SessionError;
use crate::name::{Name, Owner};
use crate::record::{Blob, Record, Saved, Segment, SessionInfo};

impl Shelf {
    /// Copies a checkpoint of a session, its history and its note under another name.
    pub(crate) fn fork(
        &self,
        owner: &Owner,
        from: &Name,
        to: &Name,
        at: Option<u64>,
    ) -> Result<SessionInfo, SessionError> {
        self.refuse_itself(owner, from, to)?;
        let lease = self.lease(owner, to)?;
        let mut batch = self.in_place(owner, to)?;
        // Nobody may drop the state while it is copied.
        let held = self.lease(owner, from)?;
        let source = self.require(owner, from)?;
        let place = at.map_or(Ok(source.saved.len() - 1), |position| source.place(position))?;
        let mut record = source.clone();
        let copy = |batch: &mut Batch, blob: Blob| put(batch, self.blob(&source, blob.id)?);
        let saved = Saved { segments: 0, ..source.saved[place].clone() };
        record.saved = vec![Saved { state: copy(&mut batch, saved.state)?, ..saved }];
        record.history = match self.history(&source, place) {
            Some(history) => {
                let tokens = history.tokens() as u64;
                record.saved[0].segments = 1;
                let passes = put(&mut batch, history.to_bytes())?;
                Some(vec![Segment { passes, tokens }])
            }
            None => None,
        };
        record.note = source.note.map(|note| copy(&mut batch, note)).transpose()?;
        (record.name, record.used) = (to.clone(), self.clock.now());
        record.created = record.used;
        record.claim(self.quotas.ttl());
        batch.guards.extend([lease.guard(), held.guard()]);
        self.commit_another(batch, &record)?;
        Ok(record.info())
    }

    /// Puts a record under another name, and changes its time to live where one is given.
    pub(crate) fn rename(
        &self,
        owner: &Owner,
        from: &Name,
        to: &Name,
        ttl: Option<Option<Duration>>,
    ) -> Result<SessionInfo, SessionError> {
        self.refuse_itself(owner, from, to)?;
        let leases = [self.lease(owner, to)?, self.lease(owner, from)?];
        let mut record = self.require(owner, from)?;
        let mut batch = self.in_place(owner, to)?;
        record.name = to.clone();
        record.claim(self.quotas.ttl());
        if let Some(ttl) = ttl {
            (record.ttl, record.used) = (ttl.map(milliseconds), self.clock.now());
        }
        batch.guards.extend(leases.iter().map(|lease| lease.guard()));
        batch.delete.push(key(owner, from));
        put_record(&mut batch, &record);
        self.commit(batch)?;
        Ok(record.info())
    }

    /// Erases a session. Of a damaged one those states go with it that its record still names.
    pub(crate) fn erase(&self, owner: &Owner, name: &Name) -> Result<(), SessionError> {
        let lease = self.lease(owner, name)?;
        let mut batch = Batch::new(owner);
        match self.require(owner, name) {
            Ok(record) => drop_record(&mut batch, &record),
            Err(SessionError::Damaged { .. }) => batch.drop_blobs = self.leftovers(owner, name),
            Err(error) => return Err(error),
        }
        batch.guards.push(lease.guard());
        batch.delete.push(key(owner, name));
        self.commit(batch)
    }

    /// The bytes of a session's last state, which are whole, with the caller's own bytes where these
    /// are text.
    pub(crate) fn export(&self, owner: &Owner, name: &Name) -> Result<Vec<u8>, SessionError> {
        let mut record = self.require(owner, name)?;
        loop {
            let blob = self.blob(&record, record.last()?.state.id).and_then(|bytes| {
                let mut snapshot = Snapshot::from_bytes(&bytes)
                    .map_err(|error| record.damaged(error.to_string()))?;
                let note = record.note.map(|note| self.blob(&record, note.id)).transpose()?;
                snapshot.note = note.and_then(|note| String::from_utf8(note).ok());
                Ok(if snapshot.note.is_some() { snapshot.to_bytes() } else { bytes })
            });
            match blob {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    // Someone may have advanced it meanwhile.
                    let again = self.require(owner, name)?;
                    if again == record {
                        return Err(error);
                    }
                    record = again;
                }
            }
        }
    }

    /// Makes a session of a snapshot from outside.
    pub(crate) fn import(
        &self,
        owner: &Owner,
        name: &Name,
        bytes: &[u8],
        engine: &Arc<Engine>,
        ttl: Option<Duration>,
        check: impl FnOnce(&[u8], u64) -> Option<Vec<u8>>,
    ) -> Result<SessionInfo, SessionError> {
        let (session, note) = checked(bytes, engine, self.settings.snapshot_bytes)?;
        let position = session.position();
        let note = match note {
            Some(note) => Some(check(note.as_bytes(), position).ok_or(SessionError::Note)?),
            None => None,
        };
        let lease = self.lease(owner, name)?;
        let mut batch = self.in_place(owner, name)?;
        let hashes = (engine.model_hash(), engine.tokenizer().hash());
        let mut record = Record::new(owner, name, hashes, self.clock.now());
        // Turns of a conversation, which only the command line reads, stay behind.
        let state = put(&mut batch, Snapshot::of(&session).to_bytes())?;
        record.note = note.map(|note| put(&mut batch, note)).transpose()?;
        record.saved.push(Saved { position, turns: 0, state, chain: None, segments: 0 });
        record.history = None;
        record.ttl = ttl.or(self.quotas.ttl()).map(milliseconds);
        batch.guards.push(lease.guard());
        self.commit_another(batch, &record)?;
        self.take_in(state.id, Arc::new(session));
        Ok(record.info())
    }

    /// Erases what has expired, of one owner or of all, and says how much that was.
    pub(crate) fn sweep(&self, owner: Option<&Owner>) -> Result<usize, SessionError> {
        let mut gone = 0;
        for key in self.backend.expired(owner, self.clock.now())? {
            let swept = match key.table {
                Table::Sessions => self.sweep_session(&key),
                Table::Documents => self.sweep_document(key),
            };
            match swept {
                Ok(swept) => gone += usize::from(swept),
                // Someone has it, or nobody can read it any more.
                Err(SessionError::InUse { .. } | SessionError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Erases a session that has expired, unless it was replaced or erased since.
    fn sweep_session(&self, place: &RecordKey) -> Result<bool, SessionError> {
        let (owner, name) = (&place.owner, Name::new(place.item.as_str())?);
        let lease = self.lease(owner, &name)?;
        let now = self.clock.now();
        let Some(record) = self.stored(owner, &name)?.filter(|record| record.is_expired(now))
        else {
            return Ok(false);
        };
        let mut batch = Batch::new(owner);
        drop_record(&mut batch, &record);
        batch.guards.push(lease.guard());
        batch.delete.push(key(owner, &name));
        self.commit(batch)?;
        Ok(true)
    }

    /// Reads all that is kept, and names what is not whole.
    pub(crate) fn check(&self) -> Result<Vec<String>, SessionError> {
        let mut damaged = Vec::new();
        for owner in self.backend.owners()? {
            for (item, bytes) in self.backend.records(Table::Sessions, &owner, "")? {
                let outcome = Record::from_bytes(&bytes).and_then(|record| self.check_one(&record));
                if let Err(what) = outcome {
                    damaged.push(format!("the session `{item}` of `{owner}`: {what}"));
                }
            }
        }
        Ok(damaged)
    }

    fn check_one(&self, record: &Record) -> Result<(), String> {
        for saved in &record.saved {
            let bytes = self.blob(record, saved.state.id).map_err(|error| error.to_string())?;
            Snapshot::from_bytes(&bytes).map_err(|error| error.to_string())?;
        }
        let last = record.saved.len() - 1;
        match record.history.is_some() && self.history(record, last).is_none() {
            true => Err("the passes that led to its state are not whole".into()),
            false => Ok(()),
        }
    }

    /// Changes a session's record in one commit.
    pub(crate) fn change(
        &self,
        owner: &Owner,
        name: &Name,
        change: impl FnOnce(&mut Record, &mut Batch) -> Result<(), SessionError>,
    ) -> Result<SessionInfo, SessionError> {
        let lease = self.lease(owner, name)?;
        let mut record = self.require(owner, name)?;
        let mut batch = Batch::new(owner);
        let before = record.bytes();
        change(&mut record, &mut batch)?;
        record.used = self.clock.now();
        batch.bytes = record.bytes() as i64 - before as i64;
        self.find_room(owner, 0, batch.bytes)?;
        batch.guards.push(lease.guard());
        put_record(&mut batch, &record);
        self.commit(batch)?;
        Ok(record.info())
    }

    /// Refuses to put a session in its own place, which would wait for its own lease.
    fn refuse_itself(&self, owner: &Owner, from: &Name, to: &Name) -> Result<(), SessionError> {
        if from == to {
            self.require(owner, from)?;
            return Err(SessionError::Exists { name: to.to_string() });
        }
        Ok(())
    }

    /// A batch for a record under a name that is free; what is there and has expired goes with it.
    fn in_place(&self, owner: &Owner, name: &Name) -> Result<Batch, SessionError> {
        let mut batch = Batch::new(owner);
        match self.stored(owner, name)? {
            None => {}
            Some(record) if record.is_expired(self.clock.now()) => drop_record(&mut batch, &record),
            Some(_) => return Err(SessionError::Exists { name: name.to_string() }),
        }
        Ok(batch)
    }

    /// Commits a record of one more session.
    fn commit_another(&self, mut batch: Batch, record: &Record) -> Result<(), SessionError> {
        batch.sessions += 1;
        batch.bytes += record.bytes() as i64;
        self.find_room(&record.owner, batch.sessions, batch.bytes)?;
        put_record(&mut batch, record);
        self.commit(batch)
    }
}

/// Has all go that belongs to a session.
pub(super) fn drop_record(batch: &mut Batch, record: &Record) {
    batch.drop_blobs.extend(record.blobs().map(|blob| blob.id));
    batch.sessions -= 1;
    batch.bytes -= record.bytes() as i64;
}
