//! Room for what is kept, within the limits of its owner and of a store in memory. What has expired goes
//! first, then hints, the longest unused first.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use super::change::drop_record;
use super::shelf::{Shelf, key};
use crate::backend::{Batch, Bound, Table};
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{Record, Used};

/// One part in so many of a limit becomes free beyond what is needed, so that the next jobs find room.
const SPARE: u64 = 100;

/// What is too much, and what is said of it where nothing can go.
struct Over {
    sessions: Excess,
    bytes: Excess,
    error: SessionError,
}

/// A number above its limit.
#[derive(Clone, Copy, Default)]
struct Excess {
    /// By how much it is above; 0 where it is not.
    by: u64,
    limit: u64,
}

impl Shelf {
    /// Finds room for changes of what an owner has, or refuses them.
    pub(crate) fn find_room(
        &self,
        owner: &Owner,
        sessions: i64,
        bytes: i64,
    ) -> Result<(), SessionError> {
        self.find_owners_room(owner, sessions, bytes)?;
        self.find_memory(bytes)
    }

    /// Finds room for changes within the limits of their owner.
    pub(crate) fn find_owners_room(
        &self,
        owner: &Owner,
        sessions: i64,
        bytes: i64,
    ) -> Result<(), SessionError> {
        self.make_room(Some(owner), || self.over_quota(owner, sessions, bytes))
    }

    /// Finds room for changes of what all owners have, where the store is in memory.
    pub(crate) fn find_memory(&self, bytes: i64) -> Result<(), SessionError> {
        self.make_room(None, || Ok(self.over_memory(bytes)))
    }

    /// Makes room among what one owner has, or all have, where something is over.
    fn make_room(
        &self,
        of: Option<&Owner>,
        over: impl Fn() -> Result<Option<Over>, SessionError>,
    ) -> Result<(), SessionError> {
        if over()?.is_none() {
            return Ok(());
        }
        // One at a time finds room; the others then see what it found.
        let _one = self.finding.lock().unwrap_or_else(PoisonError::into_inner);
        if over()?.is_none() {
            return Ok(());
        }
        // What has expired counts until it is erased.
        self.sweep(of)?;
        let Some(most) = over()? else { return Ok(()) };
        self.evict(of, &most)?;
        match over()? {
            None => Ok(()),
            Some(Over { error, .. }) => Err(error),
        }
    }

    /// What of an owner's would be too much, by what the store counts.
    fn over_quota(
        &self,
        owner: &Owner,
        sessions: i64,
        bytes: i64,
    ) -> Result<Option<Over>, SessionError> {
        let used: Used = self.backend.used(owner)?;
        let (most_sessions, most_bytes) = self.quotas.of(owner);
        let sessions = Excess::of(used.sessions, sessions, most_sessions);
        let bytes = Excess::of(used.bytes, bytes, most_bytes);
        let (what, limit) = match (sessions.by, bytes.by) {
            (0, 0) => return Ok(None),
            (0, _) => ("bytes", most_bytes),
            _ => ("sessions", most_sessions),
        };
        Ok(Some(Over { sessions, bytes, error: SessionError::Quota { what, limit } }))
    }

    /// What of all owners' would be too much for a store in memory.
    fn over_memory(&self, bytes: i64) -> Option<Over> {
        let Bound { held, limit } = self.backend.bound()?;
        let bytes = Excess::of(held, bytes, limit);
        let error = SessionError::Memory { limit };
        (bytes.by > 0).then(|| Over { sessions: Excess::default(), bytes, error })
    }

    /// Erases hints, the longest unused first, until there is room, and some more. Where all of them are
    /// not enough, none goes.
    fn evict(&self, of: Option<&Owner>, over: &Over) -> Result<(), SessionError> {
        let (mut sessions, mut bytes) = (0, 0);
        let (mut batches, mut leases) = (Vec::new(), Vec::new());
        for hint in self.hints(of)? {
            if sessions >= over.sessions.wanted() && bytes >= over.bytes.wanted() {
                break;
            }
            let (owner, name) = (&hint.owner, &hint.name);
            let lease = match self.lease(owner, name) {
                Err(SessionError::InUse { .. }) => continue,
                lease => lease?,
            };
            // Someone may have advanced it since it was read.
            if self.stored(owner, name).ok().flatten().as_ref() != Some(&hint) {
                continue;
            }
            (sessions, bytes) = (sessions + 1, bytes + hint.bytes());
            let mut batch = Batch::new(owner);
            drop_record(&mut batch, &hint);
            batch.guards.push(lease.guard());
            batch.delete.push(key(owner, name));
            batches.push(batch);
            leases.push(lease);
        }
        if sessions < over.sessions.by || bytes < over.bytes.by {
            return Ok(());
        }
        for outcome in self.commit_all(&batches) {
            match outcome {
                // What another server took is still counted.
                Ok(()) | Err(SessionError::LeaseLost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The hints of one owner or of all, the longest unused first.
    fn hints(&self, of: Option<&Owner>) -> Result<Vec<Record>, SessionError> {
        // Hints expire: who has nothing that does has none of them, and need not be read.
        let expiring = self.backend.expired(of, u64::MAX)?.into_iter();
        let expiring = expiring.filter(|key| key.table == Table::Sessions);
        let owners: BTreeSet<Owner> = expiring.map(|key| key.owner).collect();
        let mut hints = Vec::new();
        for owner in &owners {
            for (item, bytes) in self.backend.records(Table::Sessions, owner, "")? {
                match Record::from_bytes(&bytes) {
                    Ok(record) if record.hint => hints.push(record),
                    Ok(_) => {}
                    Err(what) => self.note_damage(owner, item, &what),
                }
            }
        }
        hints.sort_by_key(|record| record.used);
        Ok(hints)
    }
}

impl Excess {
    /// By how much a change takes a number above its limit. One that makes nothing more is let through.
    fn of(have: u64, more: i64, limit: u64) -> Self {
        let by = match more > 0 {
            true => have.saturating_add_signed(more).saturating_sub(limit),
            false => 0,
        };
        Self { by, limit }
    }

    /// How much goes, where that much can.
    fn wanted(self) -> u64 {
        match self.by {
            0 => 0,
            by => by.saturating_add(self.limit / SPARE),
        }
    }
}
