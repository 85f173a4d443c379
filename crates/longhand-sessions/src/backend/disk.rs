//! Records and blobs in a `redb` database.
//!
//! A failed write leaves the database as it was at the last commit; it is opened again then, because
//! `redb` refuses everything after an error of the file. So a full disk stops writing and not
//! reading. A page that is not whole can make `redb` panic; that is caught and told as damage.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition};

use super::leases::Leases;
use super::{Backend, Batch, Put, RecordKey, Table};
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{BlobId, Used};

mod count;

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const BLOBS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("blobs");
/// Memory for pages of the file.
const PAGES: usize = 32 << 20;

/// Opens the database, the first time and after each failure.
type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

pub(crate) struct Disk {
    open: Open,
    /// None after a failure, until it is opened again.
    database: RwLock<Option<Database>>,
    used: Mutex<HashMap<Owner, Used>>,
    /// When records expire, of those that do.
    expiries: Mutex<HashMap<RecordKey, u64>>,
    leases: Leases,
}

/// Why an access failed.
enum Failure {
    Redb(redb::Error),
    /// `redb` met a page that cannot be.
    Panic,
}

impl Disk {
    /// A database of a file, which is made if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, SessionError> {
        let path = path.to_owned();
        // Without quick repair, which spares the walk through the whole file after a kill: the last
        // commit must have it, so all would; each waits for the disk twice and writes 64 KiB per GiB.
        Self::with(Box::new(move || Builder::new().set_cache_size(PAGES).create(&path)))
    }

    pub(crate) fn with(open: Open) -> Result<Self, SessionError> {
        let (used, expiries, leases) = (Mutex::default(), Mutex::default(), Leases::default());
        let disk = Self { open, database: RwLock::new(None), used, expiries, leases };
        disk.reopen()?;
        Ok(disk)
    }

    /// Closes the database if it is open, and opens it as it was at the last commit.
    fn reopen(&self) -> Result<(), SessionError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // It locks its file, so the old one goes first.
        if let Some(old) = database.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        }
        let opened = guarded(|| {
            let opened = (self.open)().map_err(redb::Error::from)?;
            let transaction = opened.begin_write()?;
            let lacks = transaction.list_tables()?.count() < 2;
            if lacks {
                transaction.open_table(RECORDS)?;
                transaction.open_table(BLOBS)?;
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok(opened)
        });
        *database = Some(opened.map_err(Failure::into_error)?);
        Ok(())
    }

    /// Runs an access, and once more with the database opened again if the first one failed.
    fn access<T>(
        &self,
        run: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, SessionError> {
        let once = || {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match &*database {
                Some(database) => guarded(|| run(database)),
                None => Err(Failure::Redb(redb::Error::PreviousIo)),
            }
        };
        let failure = match once() {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        if !failure.breaks() {
            return Err(failure.into_error());
        }
        self.reopen()?;
        match failure {
            // What failed before does so again; its own message is the better one.
            Failure::Redb(redb::Error::PreviousIo) => once().map_err(Failure::into_error),
            failure => Err(failure.into_error()),
        }
    }

    /// One transaction for all of these batches.
    fn write(&self, batches: &[&Batch]) -> Result<(), SessionError> {
        self.access(|database| {
            let transaction = database.begin_write()?;
            {
                let mut records = transaction.open_table(RECORDS)?;
                let mut blobs = transaction.open_table(BLOBS)?;
                for batch in batches {
                    for key in &batch.delete {
                        records.remove(&key.bytes()[..])?;
                    }
                    for Put { key, value, .. } in &batch.put {
                        records.insert(&key.bytes()[..], &value[..])?;
                    }
                    for &id in &batch.drop_blobs {
                        blobs.remove(id)?;
                    }
                    for (id, bytes) in &batch.blobs {
                        blobs.insert(*id, &bytes[..])?;
                    }
                }
            }
            // Durability::Immediate is the default: it is on disk when this returns.
            transaction.commit()?;
            Ok(())
        })?;
        let mut used = lock(&self.used);
        for batch in batches {
            let of = used.entry(batch.owner.clone()).or_default();
            of.sessions = of.sessions.saturating_add_signed(batch.sessions);
            of.bytes = of.bytes.saturating_add_signed(batch.bytes);
        }
        drop(used);
        let mut expiries = lock(&self.expiries);
        for batch in batches {
            for key in &batch.delete {
                expiries.remove(key);
            }
            for Put { key, expires, .. } in &batch.put {
                match *expires {
                    Some(expires) => expiries.insert(key.clone(), expires),
                    None => expiries.remove(key),
                };
            }
        }
        Ok(())
    }
}

impl Backend for Disk {
    fn record(&self, key: &RecordKey) -> Result<Option<Vec<u8>>, SessionError> {
        self.access(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            Ok(records.get(&key.bytes()[..])?.map(|value| value.value().to_vec()))
        })
    }

    fn records(
        &self,
        table: Table,
        owner: &Owner,
        prefix: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, SessionError> {
        let first = RecordKey { table, owner: owner.clone(), item: prefix.to_owned() }.bytes();
        let skip = first.len() - prefix.len();
        self.access(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut found = Vec::new();
            for entry in records.range(&first[..]..)? {
                let (key, value) = entry?;
                let key = key.value();
                if !key.starts_with(&first) {
                    break;
                }
                let item = String::from_utf8_lossy(&key[skip..]).into_owned();
                found.push((item, value.value().to_vec()));
            }
            Ok(found)
        })
    }

    fn expired(&self, owner: Option<&Owner>, now: u64) -> Result<Vec<RecordKey>, SessionError> {
        let expiries = lock(&self.expiries);
        let is_asked = |key: &RecordKey| owner.is_none_or(|owner| key.owner == *owner);
        let over = expiries.iter().filter(|&(key, &expires)| expires <= now && is_asked(key));
        Ok(over.map(|(key, _)| key.clone()).collect())
    }

    fn owners(&self) -> Result<Vec<Owner>, SessionError> {
        self.access(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut owners: Vec<Owner> = Vec::new();
            for entry in records.range::<&[u8]>(..)? {
                let (key, _) = entry?;
                let key = key.value().get(1..).unwrap_or_default();
                let owner = key.split(|&byte| byte == 0).next().unwrap_or_default();
                let owner = String::from_utf8_lossy(owner);
                if let Ok(owner) = Owner::new(owner)
                    && !owners.contains(&owner)
                {
                    owners.push(owner);
                }
            }
            Ok(owners)
        })
    }

    fn blob(&self, _: &Owner, id: BlobId) -> Result<Option<Vec<u8>>, SessionError> {
        self.access(|database| {
            let blobs = database.begin_read()?.open_table(BLOBS)?;
            Ok(blobs.get(id)?.map(|value| value.value().to_vec()))
        })
    }

    fn used(&self, owner: &Owner) -> Result<Used, SessionError> {
        Ok(lock(&self.used).get(owner).copied().unwrap_or_default())
    }

    fn commit(&self, batches: &[Batch]) -> Vec<Result<(), SessionError>> {
        let held: Vec<Result<(), SessionError>> =
            batches.iter().map(|batch| self.leases.check(batch)).collect();
        let pairs = || batches.iter().zip(&held).filter(|(_, held)| held.is_ok());
        let valid: Vec<&Batch> = pairs().map(|(batch, _)| batch).collect();
        let together = if valid.is_empty() { Ok(()) } else { self.write(&valid) };
        let alone = valid.len() > 1;
        let outcome = |(batch, held): (&Batch, Result<(), SessionError>)| {
            held?;
            match &together {
                Ok(()) => Ok(()),
                // One that cannot be written takes none of the others with it.
                Err(_) if alone => self.write(&[batch]),
                Err(SessionError::Full { what }) => Err(SessionError::Full { what: what.clone() }),
                Err(error) => Err(SessionError::Storage { what: error.to_string() }),
            }
        };
        batches.iter().zip(held).map(outcome).collect()
    }

    fn lease(&self, key: &RecordKey) -> Result<Option<u64>, SessionError> {
        Ok(self.leases.take(key))
    }

    fn release(&self, key: &RecordKey, fence: u64) {
        self.leases.give_back(key, fence);
    }
}

impl RecordKey {
    /// Kind, owner, a zero byte, which no owner has, and the item: owners and items are together.
    fn bytes(&self) -> Vec<u8> {
        let kind = match self.table {
            Table::Sessions => b's',
            Table::Documents => b'd',
        };
        [&[kind], self.owner.as_str().as_bytes(), &[0], self.item.as_bytes()].concat()
    }
}

impl Failure {
    /// Whether the database refuses everything after it.
    fn breaks(&self) -> bool {
        match self {
            Self::Panic => true,
            Self::Redb(error) => {
                matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo)
            }
        }
    }

    fn into_error(self) -> SessionError {
        match self {
            Self::Panic => damaged("a page of the database is not whole".into()),
            Self::Redb(redb::Error::Corrupted(what)) => damaged(what),
            Self::Redb(redb::Error::Io(error)) if is_full(&error) => {
                SessionError::Full { what: error.to_string() }
            }
            Self::Redb(error) if is_damage(&error) => damaged(error.to_string()),
            Self::Redb(redb::Error::DatabaseAlreadyOpen) => {
                SessionError::Storage { what: "another process has the file open".into() }
            }
            Self::Redb(redb::Error::RepairAborted) => {
                let what =
                    "it was not closed in order, and is put right when a server starts with it";
                SessionError::Storage { what: what.into() }
            }
            Self::Redb(error) => SessionError::Storage { what: error.to_string() },
        }
    }
}

/// Damage of what has no name here; whoever asked for it names it.
fn damaged(what: String) -> SessionError {
    SessionError::Damaged { name: String::new(), what }
}

/// Whether the file holds no database of this program, or not a whole one.
fn is_damage(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        redb::Error::Io(error) => matches!(error.kind(), InvalidData | UnexpectedEof),
        redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. } => true,
        _ => false,
    }
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn guarded<T>(run: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    // After a panic the database is opened again, so no half-changed memory is used.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome.map_err(Failure::Redb),
        Err(_) => Err(Failure::Panic),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
