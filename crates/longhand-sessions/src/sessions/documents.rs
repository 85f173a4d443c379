//! Small documents of the caller beside the sessions, such as stored answers.

use std::time::Duration;

use super::shelf::Shelf;
use crate::backend::{Batch, Lease, RecordKey, Table};
use crate::clock::milliseconds;
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{hashed, unhashed};

/// The header of a document's bytes: when it expires, in milliseconds since 1970; 0 is never.
const EXPIRES: usize = 8;

impl Shelf {
    pub(crate) fn put_document(
        &self,
        owner: &Owner,
        (kind, id): (&str, &str),
        bytes: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), SessionError> {
        let key = document_key(owner, kind, id)?;
        let lease = Lease::take(&self.backend, key.clone())?;
        let expires = ttl.map_or(0, |ttl| self.clock.now().saturating_add(milliseconds(ttl)));
        let value = hashed([&expires.to_le_bytes()[..], bytes].concat());
        let old = self.backend.record(&key)?.map_or(0, |old| old.len());
        let mut batch = Batch::new(owner);
        batch.bytes = value.len() as i64 - old as i64;
        self.check_quota(owner, 0, batch.bytes)?;
        batch.guards.push(lease.guard());
        batch.put.push((key, value));
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
        let what = "its bytes do not match their hash".into();
        let damaged = || SessionError::Damaged { name: id.to_owned(), what };
        let (expires, bytes) = unhashed(&value)
            .and_then(|value| value.split_first_chunk::<EXPIRES>())
            .ok_or_else(damaged)?;
        Ok(self.is_living(*expires).then(|| bytes.to_vec()))
    }

    pub(crate) fn documents(&self, owner: &Owner, kind: &str) -> Result<Vec<String>, SessionError> {
        let prefix = document_key(owner, kind, "x")?.item;
        let prefix = &prefix[..prefix.len() - 1];
        let found = self.backend.records(Table::Documents, owner, prefix)?;
        let living = found.into_iter().filter(|(_, value)| {
            value.first_chunk::<EXPIRES>().is_some_and(|&expires| self.is_living(expires))
        });
        Ok(living.map(|(item, _)| item[prefix.len()..].to_owned()).collect())
    }

    pub(crate) fn erase_document(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
    ) -> Result<bool, SessionError> {
        let key = document_key(owner, kind, id)?;
        self.erase_document_at(key)
    }

    /// Erases a document, if there is one.
    fn erase_document_at(&self, key: RecordKey) -> Result<bool, SessionError> {
        let lease = Lease::take(&self.backend, key.clone())?;
        let Some(old) = self.backend.record(&key)? else { return Ok(false) };
        let mut batch = Batch::new(&key.owner);
        batch.bytes = -(old.len() as i64);
        batch.guards.push(lease.guard());
        batch.delete.push(key);
        self.commit(batch)?;
        Ok(true)
    }

    /// Erases an owner's documents that have expired, and says how many.
    pub(crate) fn sweep_documents(&self, owner: &Owner) -> Result<usize, SessionError> {
        let mut gone = 0;
        for (item, value) in self.backend.records(Table::Documents, owner, "")? {
            let expires = value.first_chunk::<EXPIRES>().copied().unwrap_or_default();
            if self.is_living(expires) {
                continue;
            }
            let key = RecordKey { table: Table::Documents, owner: owner.clone(), item };
            match self.erase_document_at(key) {
                Ok(erased) => gone += usize::from(erased),
                Err(SessionError::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    fn is_living(&self, expires: [u8; EXPIRES]) -> bool {
        let expires = u64::from_le_bytes(expires);
        expires == 0 || expires > self.clock.now()
    }

    /// Commits one batch, and counts what it changed.
    pub(crate) fn commit(&self, batch: Batch) -> Result<(), SessionError> {
        let (sessions, bytes) = (batch.sessions, batch.bytes);
        let outcome = self.backend.commit(&[batch]).pop();
        let lacking = || Err(SessionError::Storage { what: "nothing was written".into() });
        outcome.unwrap_or_else(lacking)?;
        self.counters.commits.add(1);
        self.counters.sessions_stored.change(sessions);
        self.counters.sessions_stored_bytes.change(bytes);
        Ok(())
    }
}

/// The place of a document. Kinds and ids are names, which have no slash.
fn document_key(owner: &Owner, kind: &str, id: &str) -> Result<RecordKey, SessionError> {
    let part = |text: &str| crate::name::Name::new(text);
    let item = format!("{}/{}", part(kind)?, part(id)?);
    Ok(RecordKey { table: Table::Documents, owner: owner.clone(), item })
}
