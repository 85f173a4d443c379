//! Records and blobs in the memory of this process. They end with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::leases::Leases;
use super::{Backend, Batch, Bound, Put, RecordKey, Table};
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{BlobId, Used};

/// A store in memory. Whoever writes keeps to its bound; the store itself only counts.
pub(crate) struct Memory {
    kept: RwLock<Kept>,
    leases: Leases,
    limit: u64,
}

#[derive(Default)]
struct Kept {
    records: BTreeMap<RecordKey, Value>,
    blobs: HashMap<BlobId, Vec<u8>>,
    used: HashMap<Owner, Used>,
    /// Bytes of all records and blobs.
    bytes: u64,
}

/// A record, and when its time is over, if it ever is.
struct Value {
    bytes: Vec<u8>,
    expires: Option<u64>,
}

impl Memory {
    /// An empty store of at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { kept: RwLock::default(), leases: Leases::default(), limit }
    }

    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Memory {
    fn record(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, SessionError> {
        Ok(self.kept().records.get(key).map(|value| value.bytes.clone()))
    }

    fn records(
        &self,
        table: Table,
        owner: &Owner,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, SessionError> {
        let first = RecordKey { table, owner: owner.clone(), item: prefix.to_owned() };
        let is_asked = |key: &RecordKey| {
            key.table == table && key.owner == *owner && key.item.starts_with(prefix)
        };
        let kept = self.kept();
        let found = kept.records.range(first..).take_while(|&(key, _)| is_asked(key));
        Ok(found.map(|(key, value)| (key.item.clone(), value.bytes.clone())).collect())
    }

    fn expired(&self, owner: Option<&Owner>, now: u64) -> Result<Vec<RecordKey>, SessionError> {
        let is_asked = |key: &RecordKey| owner.is_none_or(|owner| key.owner == *owner);
        let kept = self.kept();
        let over = kept.records.iter().filter(|&(key, value)| {
            value.expires.is_some_and(|expires| expires <= now) && is_asked(key)
        });
        Ok(over.map(|(key, _)| key.clone()).collect())
    }

    fn owners(&self) -> Result<Vec<Owner>, SessionError> {
        let owners: BTreeSet<Owner> =
            self.kept().records.keys().map(|key| key.owner.clone()).collect();
        Ok(owners.into_iter().collect())
    }

    fn blob(&self, _: &Owner, id: BlobId) -> Result<Option<Vec<u8>>, SessionError> {
        Ok(self.kept().blobs.get(&id).cloned())
    }

    fn used(&self, owner: &Owner) -> Result<Used, SessionError> {
        Ok(self.kept().used.get(owner).copied().unwrap_or_default())
    }

    fn commit(&self, batches: &[Batch]) -> Vec<Result<(), SessionError>> {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let write = |batch: &Batch| -> Result<(), SessionError> {
            self.leases.check(batch)?;
            kept.write(batch);
            Ok(())
        };
        batches.iter().map(write).collect()
    }

    fn lease(&self, key: &RecordKey) -> Result<Option<u64>, SessionError> {
        Ok(self.leases.take(key))
    }

    fn release(&self, key: &RecordKey, fence: u64) {
        self.leases.give_back(key, fence);
    }

    fn bound(&self) -> Option<Bound> {
        Some(Bound { held: self.kept().bytes, limit: self.limit })
    }
}

impl Kept {
    fn write(&mut self, batch: &Batch) {
        let (mut more, mut less) = (0, 0);
        for key in &batch.delete {
            less += self.records.remove(key).map_or(0, |old| old.bytes.len());
        }
        for Put { key, value, expires } in &batch.put {
            let new = Value { bytes: value.clone(), expires: *expires };
            more += value.len();
            less += self.records.insert(key.clone(), new).map_or(0, |old| old.bytes.len());
        }
        for id in &batch.drop_blobs {
            less += self.blobs.remove(id).map_or(0, |old| old.len());
        }
        for (id, bytes) in &batch.blobs {
            more += bytes.len();
            less += self.blobs.insert(*id, bytes.clone()).map_or(0, |old| old.len());
        }
        self.bytes = self.bytes + more as u64 - less as u64;
        let used = self.used.entry(batch.owner.clone()).or_default();
        used.sessions = used.sessions.saturating_add_signed(batch.sessions);
        used.bytes = used.bytes.saturating_add_signed(batch.bytes);
    }
}
