//! Small documents of the caller beside the sessions, such as stored answers.

use std::time::Duration;

use super::shelf::Shelf;
use crate::backend::{Batch, Lease, Put, RecordKey, Table};
use crate::clock::milliseconds;
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{EXPIRES, document_expires, hashed, unhashed};

/// How often a document that someone else is changing is tried again.
const ATTEMPTS: usize = 100;
/// The time between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

impl Shelf {
    pub(crate) fn put_document(
        &self,
        owner: &Owner,
        (kind, id): (&str, &str),
        bytes: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), SessionError> {
        let lease = Lease::take(&self.backend, document_key(owner, kind, id)?)?;
        let old = self.backend.record(&lease.key)?;
        self.replace_document(&lease, old.as_deref(), bytes, ttl)
    }

    /// Makes another document of one, which nobody else changes meanwhile. Others have it for a moment at
    /// most, so that it is waited for.
    pub(crate) fn update_document<E: From<SessionError>>(
        &self,
        owner: &Owner,
        (kind, id): (&str, &str),
        ttl: Option<Duration>,
        update: impl FnOnce(Option<Vec<u8>>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let key = document_key(owner, kind, id)?;
        let mut lease = Lease::take(&self.backend, key.clone());
        for _ in 0..ATTEMPTS {
            if !matches!(lease, Err(SessionError::InUse { .. })) {
                break;
            }
            std::thread::sleep(PAUSE);
            lease = Lease::take(&self.backend, key.clone());
        }
        let lease = lease?;
        let old = self.backend.record(&key)?;
        let before = old.as_deref().map(|old| self.content(id, old)).transpose()?.flatten();
        let bytes = update(before)?;
        Ok(self.replace_document(&lease, old.as_deref(), &bytes, ttl)?)
    }

    /// Writes a document in place of what is there.
    fn replace_document(
        &self,
        lease: &Lease,
        old: Option<&[u8]>,
        bytes: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), SessionError> {
        let (key, owner) = (lease.key.clone(), &lease.key.owner);
        let expires = ttl.map_or(0, |ttl| self.clock.now().saturating_add(milliseconds(ttl)));
        let header: [u8; EXPIRES] = expires.to_le_bytes();
        let value = hashed([&header[..], bytes].concat());
        let mut batch = Batch::new(owner);
        batch.bytes = value.len() as i64 - old.map_or(0, <[u8]>::len) as i64;
        self.find_room(owner, 0, batch.bytes)?;
        batch.guards.push(lease.guard());
        let expires = document_expires(&value);
        batch.put.push(Put { key, value, expires });
        self.commit(batch)
    }

    pub(crate) fn document(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>, SessionError> {
        let Some(value) = self.backend.record(&document_key(owner, kind, id)?)? else {
            return Ok(None);
        };
        self.content(id, &value)
    }

    /// The bytes of a document as it was put, unless it has expired.
    fn content(&self, id: &str, value: &[u8]) -> Result<Option<Vec<u8>>, SessionError> {
        let what = "its bytes do not match their hash".into();
        let damaged = || SessionError::Damaged { name: id.to_owned(), what };
        let bytes = unhashed(value).and_then(|value| value.get(EXPIRES..)).ok_or_else(damaged)?;
        Ok(self.is_living(value).then(|| bytes.to_vec()))
    }

    pub(crate) fn documents(&self, owner: &Owner, kind: &str) -> Result<Vec<String>, SessionError> {
        let prefix = document_key(owner, kind, "x")?.item;
        let prefix = &prefix[..prefix.len() - 1];
        let found = self.backend.records(Table::Documents, owner, prefix)?;
        let living = found.into_iter().filter(|(_, value)| self.is_living(value));
        Ok(living.map(|(item, _)| item[prefix.len()..].to_owned()).collect())
    }

    pub(crate) fn erase_document(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
    ) -> Result<bool, SessionError> {
        self.erase_document_if(document_key(owner, kind, id)?, |_| true)
    }

    /// Erases a document that has expired, unless it was written again since.
    pub(crate) fn sweep_document(&self, key: RecordKey) -> Result<bool, SessionError> {
        self.erase_document_if(key, |value| !self.is_living(value))
    }

    /// Erases a document, if there is one and a test holds for its bytes.
    fn erase_document_if(
        &self,
        key: RecordKey,
        test: impl FnOnce(&[u8]) -> bool,
    ) -> Result<bool, SessionError> {
        let lease = Lease::take(&self.backend, key.clone())?;
        let Some(old) = self.backend.record(&key)?.filter(|old| test(old)) else {
            return Ok(false);
        };
        let mut batch = Batch::new(&key.owner);
        batch.bytes = -(old.len() as i64);
        batch.guards.push(lease.guard());
        batch.delete.push(key);
        self.commit(batch)?;
        Ok(true)
    }

    fn is_living(&self, value: &[u8]) -> bool {
        document_expires(value).is_none_or(|expires| expires > self.clock.now())
    }

    /// Commits one batch, counts what it changed, and drops from memory what is gone.
    pub(crate) fn commit(&self, batch: Batch) -> Result<(), SessionError> {
        let lacking = || Err(SessionError::Storage { what: "nothing was written".into() });
        self.commit_all(&[batch]).pop().unwrap_or_else(lacking)
    }

    /// Commits batches together, each whole or not at all.
    pub(crate) fn commit_all(&self, batches: &[Batch]) -> Vec<Result<(), SessionError>> {
        let outcomes = self.backend.commit(batches);
        self.counters.commits.add(u64::from(outcomes.iter().any(Result::is_ok)));
        for (batch, _) in batches.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()) {
            self.counters.sessions_stored.change(batch.sessions);
            self.counters.sessions_stored_bytes.change(batch.bytes);
            self.forget(&batch.drop_blobs);
        }
        outcomes
    }
}

/// The place of a document. Kinds and ids are names, which have no slash.
fn document_key(owner: &Owner, kind: &str, id: &str) -> Result<RecordKey, SessionError> {
    let part = |text: &str| crate::name::Name::new(text);
    let item = format!("{}/{}", part(kind)?, part(id)?);
    Ok(RecordKey { table: Table::Documents, owner: owner.clone(), item })
}
