//! What a database holds, counted record by record when it is opened or only examined; and its file made
//! smaller.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::PoisonError;

use longhand_engine::Snapshot;
use redb::{Builder, ReadableDatabase, ReadableTableMetadata};

use super::{BLOBS, Disk, Failure, PAGES, RECORDS, guarded, lock};
use crate::backend::{RecordKey, Table};
use crate::error::SessionError;
use crate::name::Owner;
use crate::record::{Record, Used, document_expires};

/// Free space is worth the time to give it back where the file has at least this many bytes, and this
/// many times those that are kept. Pages are powers of two, so that twice as many are no sign of it.
const LARGE: u64 = 16 << 20;
const TIMES: u64 = 4;

/// What was found in a database.
#[derive(Default)]
pub(crate) struct Counted {
    /// What each owner has.
    pub(crate) used: HashMap<Owner, Used>,
    /// What cannot be read, a sentence for each.
    pub(crate) damaged: Vec<String>,
    /// The newest use of a session, in milliseconds since 1970.
    pub(crate) newest: u64,
    /// When records expire, of those that do.
    expiries: HashMap<RecordKey, u64>,
    found: u64,
}

/// The last record before a place that cannot be read, or the first one behind it.
struct Place(Option<RecordKey>);

impl Disk {
    /// Counts what each owner has, and names what cannot be read. To be called once, before writing.
    pub(crate) fn count(&self) -> Counted {
        let mut counted = Counted::default();
        let gap = self.scan(&mut counted);
        let is_whole = gap.is_none();
        counted.damaged.extend(gap);
        match self.access(|database| Ok(database.begin_read()?.open_table(RECORDS)?.len()?)) {
            Ok(kept) if is_whole && kept != counted.found => counted.damaged.push(format!(
                "of {kept} sessions and documents {} are found: the pages that lead to the others are \
                 not whole",
                counted.found
            )),
            Ok(_) => {}
            Err(error) => counted.damaged.push(format!("the number of sessions: {error}")),
        }
        *lock(&self.used) = counted.used.clone();
        *lock(&self.expiries) = std::mem::take(&mut counted.expiries);
        counted
    }

    /// Counts what a file holds, and names what of it is not whole, its states included. The file is only
    /// read, and must have been closed in order.
    pub(crate) fn examine(path: &Path) -> Result<Counted, SessionError> {
        let opened = guarded(|| Ok(Builder::new().set_cache_size(PAGES).open_read_only(path)?));
        let database = opened.map_err(Failure::into_error)?;
        let mut counted = Counted::default();
        let walked = guarded(|| {
            let transaction = database.begin_read()?;
            let (records, blobs) =
                (transaction.open_table(RECORDS)?, transaction.open_table(BLOBS)?);
            for entry in records.range::<&[u8]>(..)? {
                let (key, value) = entry?;
                let Some(record) = counted.add(key.value(), value.value()) else { continue };
                let mut is_whole = true;
                for blob in record.blobs() {
                    let is_state = record.saved.iter().any(|saved| saved.state == blob);
                    is_whole &= match blobs.get(blob.id)? {
                        Some(bytes) => !is_state || Snapshot::from_bytes(bytes.value()).is_ok(),
                        None => false,
                    };
                }
                if !is_whole {
                    let Record { owner, name, .. } = &record;
                    let what =
                        format!("the session `{name}` of `{owner}`: its bytes are not whole");
                    counted.damaged.push(what);
                }
            }
            Ok(())
        });
        if let Err(failure) = walked {
            counted.damaged.push(failure.into_error().to_string());
        }
        // After a panic this may panic once more.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        Ok(counted)
    }

    /// Counts all records from the first one on; where a page is not whole, from the last one back as
    /// well, and says between which two the others stood.
    fn scan(&self, counted: &mut Counted) -> Option<String> {
        let mut last: Option<Vec<u8>> = None;
        let forward = self.walk(false, |key, value| {
            // Keys of a page that is not whole can be any.
            if last.as_deref().is_some_and(|last| key <= last) {
                return false;
            }
            counted.add(key, value);
            last = Some(key.to_vec());
            true
        });
        let fault = match forward {
            Ok(true) => return None,
            Ok(false) => "a page of the database is not whole".to_owned(),
            Err(failure) => failure.into_error().to_string(),
        };
        // After a panic nothing of the database in memory is used.
        let mut first: Option<Vec<u8>> = None;
        if self.reopen().is_ok() {
            let backward = self.walk(true, |key, value| {
                let is_behind = last.as_deref().is_none_or(|last| key > last);
                let is_before = first.as_deref().is_none_or(|first| key < first);
                if !is_behind || !is_before {
                    return false;
                }
                counted.add(key, value);
                first = Some(key.to_vec());
                true
            });
            if backward.is_err() {
                // What fails here does so again where it is used, and is told there.
                let _ = self.reopen();
            }
        }
        let place = |key: Option<Vec<u8>>| Place(key.and_then(|key| RecordKey::read(&key)));
        let (last, first) = (place(last), place(first));
        Some(format!("what stood between {last:#} and {first} cannot be read ({fault})"))
    }

    /// Shows the records in their order, or from the last one back, until `see` has seen enough. Says
    /// whether it has seen all.
    fn walk(
        &self,
        from_end: bool,
        mut see: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<bool, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            return Err(Failure::Redb(redb::Error::PreviousIo));
        };
        guarded(|| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut range = records.range::<&[u8]>(..)?;
            while let Some(entry) = if from_end { range.next_back() } else { range.next() } {
                let (key, value) = entry?;
                if !see(key.value(), value.value()) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Whether a file of this size has much free space, by what was counted.
    pub(crate) fn is_sparse(file: u64, counted: &Counted) -> bool {
        file >= LARGE && file / TIMES > counted.all().bytes
    }

    /// Moves what is kept together, and gives the rest of the file back. Takes as long as writing what
    /// is kept. Where it fails, the database is as it was.
    pub(crate) fn compact(&self) -> Result<(), SessionError> {
        let compacted = {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            match &mut *database {
                Some(database) => guarded(|| Ok(database.compact()?)),
                None => Err(Failure::Redb(redb::Error::PreviousIo)),
            }
        };
        compacted.map(drop).or_else(|failure| {
            self.reopen()?;
            Err(failure.into_error())
        })
    }
}

impl Counted {
    /// What all owners have together.
    pub(crate) fn all(&self) -> Used {
        Used {
            sessions: self.used.values().map(|used| used.sessions).sum(),
            bytes: self.used.values().map(|used| used.bytes).sum(),
        }
    }

    /// Counts a record, and gives it if it is a session's and can be read.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Option<Record> {
        self.found += 1;
        let Some(key) = RecordKey::read(key) else {
            self.damaged.push("a record has a name that cannot be".into());
            return None;
        };
        let of = self.used.entry(key.owner.clone()).or_default();
        let (record, expires) = match key.table {
            Table::Documents => {
                of.bytes += value.len() as u64;
                (None, document_expires(value))
            }
            Table::Sessions => match Record::from_bytes(value) {
                Ok(record) => {
                    of.sessions += 1;
                    of.bytes += record.bytes();
                    self.newest = self.newest.max(record.used);
                    let expires = record.expires();
                    (Some(record), expires)
                }
                Err(what) => {
                    let RecordKey { owner, item, .. } = &key;
                    self.damaged.push(format!("the session `{item}` of `{owner}`: {what}"));
                    (None, None)
                }
            },
        };
        if let Some(expires) = expires {
            self.expiries.insert(key, expires);
        }
        record
    }
}

impl RecordKey {
    /// The place that the bytes of a key name.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let table = match kind {
            b's' => Table::Sessions,
            b'd' => Table::Documents,
            _ => return None,
        };
        let zero = rest.iter().position(|&byte| byte == 0)?;
        let owner = Owner::new(std::str::from_utf8(&rest[..zero]).ok()?).ok()?;
        let item = std::str::from_utf8(&rest[zero + 1..]).ok()?.to_owned();
        Some(Self { table, owner, item })
    }
}

impl fmt::Display for Place {
    /// In the alternate form as the place before the gap.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None if f.alternate() => f.write_str("the beginning"),
            None => f.write_str("the end"),
            Some(RecordKey { table: Table::Sessions, owner, item }) => {
                write!(f, "the session `{item}` of `{owner}`")
            }
            Some(RecordKey { table: Table::Documents, owner, item }) => {
                write!(f, "the document `{item}` of `{owner}`")
            }
        }
    }
}
