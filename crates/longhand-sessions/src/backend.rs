//! Where records and states are kept: a database of this process, its memory, or a server that several
//! share.

use std::fmt;
use std::sync::Arc;

use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{BlobId, Used};

pub(crate) mod disk;
mod leases;
pub(crate) mod memory;
pub(crate) mod shared;

/// Durable records and blobs, and the right to change them. All methods may block, but for the one
/// that gives a right back.
pub(crate) trait Backend: Send + Sync {
    /// The bytes of one record, if it is there.
    fn record(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, SessionError>;

    /// An owner's records of a kind whose item begins with a prefix, in the order of their items.
    fn records(
        &self,
        table: Table,
        owner: &Owner,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, SessionError>;

    /// Where records are whose time is over, of one owner or of all, by what was said when they were
    /// put. No record is read for it.
    fn expired(&self, owner: Option<&Owner>, now: u64) -> Result<Vec<RecordKey>, SessionError>;

    /// Everybody who has records.
    fn owners(&self) -> Result<Vec<Owner>, SessionError>;

    /// The bytes of one blob, if it is there.
    fn blob(&self, owner: &Owner, id: BlobId) -> Result<Option<Vec<u8>>, SessionError>;

    /// What an owner has in sessions.
    fn used(&self, owner: &Owner) -> Result<Used, SessionError>;

    /// What all owners have in sessions, where other processes change it too.
    fn used_by_all(&self) -> Result<Option<Used>, SessionError> {
        Ok(None)
    }

    /// Writes batches. Each is written whole or not at all, whatever happens to the others, and is
    /// durable when this returns.
    fn commit(&self, batches: &[Batch]) -> Vec<Result<(), SessionError>>;

    /// The right to change a record, and its number; none if someone else has it.
    fn lease(&self, key: &RecordKey) -> Result<Option<u64>, SessionError>;

    /// Gives a right back. Does not block.
    fn release(&self, key: &RecordKey, fence: u64);

    /// How much the store holds of how much it may, where it has a bound of its own.
    fn bound(&self) -> Option<Bound> {
        None
    }

    /// The time of the store in milliseconds since 1970, where it has a clock of its own.
    fn time(&self) -> Result<Option<u64>, SessionError> {
        Ok(None)
    }
}

/// Bytes of all that a store holds, and the most that it may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) held: u64,
    pub(crate) limit: u64,
}

/// A kind of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// Sessions by their names.
    Sessions,
    /// Documents of the caller by kind and id.
    Documents,
}

/// The place of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordKey {
    pub(crate) table: Table,
    pub(crate) owner: Owner,
    pub(crate) item: String,
}

/// A record to write.
pub(crate) struct Put {
    pub(crate) key: RecordKey,
    pub(crate) value: Vec<u8>,
    /// When its time is over, in milliseconds since 1970, if it ever is.
    pub(crate) expires: Option<u64>,
}

/// What is written together, all of one owner.
pub(crate) struct Batch {
    pub(crate) owner: Owner,
    /// Leases that must still be held. A store of several processes ends them with the write.
    pub(crate) guards: Vec<(RecordKey, u64)>,
    pub(crate) put: Vec<Put>,
    pub(crate) delete: Vec<RecordKey>,
    pub(crate) blobs: Vec<(BlobId, Vec<u8>)>,
    pub(crate) drop_blobs: Vec<BlobId>,
    /// Changes of what the owner has.
    pub(crate) sessions: i64,
    pub(crate) bytes: i64,
}

impl Batch {
    pub(crate) fn new(owner: &Owner) -> Self {
        Self {
            owner: owner.clone(),
            guards: Vec::new(),
            put: Vec::new(),
            delete: Vec::new(),
            blobs: Vec::new(),
            drop_blobs: Vec::new(),
            sessions: 0,
            bytes: 0,
        }
    }
}

/// The right to change one record. Dropping it gives the right back.
pub(crate) struct Lease {
    backend: Arc<dyn Backend>,
    pub(crate) key: RecordKey,
    pub(crate) fence: u64,
}

impl Lease {
    /// # Errors
    /// [`SessionError::InUse`] if someone else has the right, and the errors of the store.
    pub(crate) fn take(backend: &Arc<dyn Backend>, key: RecordKey) -> Result<Self, SessionError> {
        match backend.lease(&key)? {
            Some(fence) => Ok(Self { backend: backend.clone(), key, fence }),
            None => Err(SessionError::InUse { name: key.item }),
        }
    }

    pub(crate) fn guard(&self) -> (RecordKey, u64) {
        (self.key.clone(), self.fence)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.release(&self.key, self.fence);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("fence", &self.fence).finish()
    }
}
