use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{StorageBackend, backends::InMemoryBackend};

use super::*;
use crate::backend::Lease;
use crate::backend::memory::Memory;
use crate::testing::owner;

/// Memory of a bounded size, which outlives the database.
#[derive(Clone, Debug)]
struct Bounded {
    memory: Arc<InMemoryBackend>,
    most: Arc<AtomicU64>,
}

impl StorageBackend for Bounded {
    fn len(&self) -> std::io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        if len > self.most.load(Ordering::SeqCst) && len > self.memory.len()? {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// A database that ends with the test, and the store that is in memory by itself.
fn both() -> [Arc<dyn Backend>; 2] {
    let open = || Builder::new().create_with_backend(InMemoryBackend::new());
    [Arc::new(Disk::with(Box::new(open)).unwrap()), Arc::new(Memory::new(u64::MAX))]
}

fn key(item: &str) -> RecordKey {
    RecordKey { table: Table::Sessions, owner: owner("a"), item: item.into() }
}

fn batch(item: &str, id: u128, bytes: usize) -> Batch {
    let mut batch = Batch::new(&owner("a"));
    batch.put.push(Put { key: key(item), value: item.as_bytes().to_vec(), expires: None });
    batch.blobs.push((id, vec![id as u8; bytes]));
    (batch.sessions, batch.bytes) = (1, bytes as i64);
    batch
}

#[test]
fn a_full_disk_stops_writing_alone_and_loses_nothing() {
    let most = Arc::new(AtomicU64::new(48 << 20));
    let bounded = Bounded { memory: Arc::default(), most: most.clone() };
    let open = move || Builder::new().create_with_backend(bounded.clone());
    let disk = Disk::with(Box::new(open)).unwrap();
    let mut kept = 0u128;
    let error = loop {
        match disk.commit(&[batch(&format!("s{kept}"), kept, 1 << 20)]).remove(0) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "the disk has no end");
    };
    assert!(matches!(error, SessionError::Full { .. }), "{error}");
    assert!(kept > 2);
    let whole = |disk: &Disk, kept: u128| {
        for id in 0..kept {
            let item = format!("s{id}");
            assert_eq!(disk.record(&key(&item)).unwrap().unwrap(), item.as_bytes());
            let blob = disk.blob(&owner("a"), id).unwrap().unwrap();
            assert_eq!(blob, vec![id as u8; 1 << 20]);
        }
        assert_eq!(disk.blob(&owner("a"), kept).unwrap(), None);
        assert_eq!(disk.record(&key(&format!("s{kept}"))).unwrap(), None);
        assert_eq!(disk.used(&owner("a")).unwrap().sessions, kept as u64);
    };
    whole(&disk, kept);
    // Of several together the small ones are written.
    let large = || batch(&format!("s{kept}"), kept, 40 << 20);
    let outcomes = disk.commit(&[large(), batch("small", 1000, 10), large()]);
    assert!(matches!(outcomes[0], Err(SessionError::Full { .. })));
    assert!(matches!(outcomes[2], Err(SessionError::Full { .. })));
    if outcomes[1].is_ok() {
        assert_eq!(disk.blob(&owner("a"), 1000).unwrap().unwrap().len(), 10);
        let mut gone = Batch::new(&owner("a"));
        gone.delete.push(key("small"));
        gone.sessions = -1;
        assert!(disk.commit(&[gone]).remove(0).is_ok());
    }
    whole(&disk, kept);
    // With space again it goes on.
    most.store(512 << 20, Ordering::SeqCst);
    assert!(disk.commit(&[batch(&format!("s{kept}"), kept, 1 << 20)]).remove(0).is_ok());
    whole(&disk, kept + 1);
}

#[test]
fn a_lease_is_held_once_and_guards_writes() {
    both().into_iter().for_each(hold_and_guard);
}

fn hold_and_guard(disk: Arc<dyn Backend>) {
    let lease = Lease::take(&disk, key("s")).unwrap();
    assert!(matches!(Lease::take(&disk, key("s")), Err(SessionError::InUse { .. })));
    let guard = lease.guard();
    drop(lease);
    let mut late = batch("s", 1, 10);
    late.guards.push(guard.clone());
    let second = Lease::take(&disk, key("s")).unwrap();
    assert!(matches!(disk.commit(&[late])[0], Err(SessionError::LeaseLost { .. })));
    // One that was given back frees nothing of another.
    disk.release(&guard.0, guard.1);
    assert!(Lease::take(&disk, key("s")).is_err());
    let mut good = batch("s", 1, 10);
    good.guards.push(second.guard());
    assert!(disk.commit(&[good])[0].is_ok());
    assert_eq!(disk.owners().unwrap(), [owner("a")]);
}

#[test]
fn records_of_one_owner_and_kind_stand_together() {
    both().into_iter().for_each(stand_together);
}

fn stand_together(disk: Arc<dyn Backend>) {
    let mut batch = Batch::new(&owner("a"));
    for (table, of, item) in [
        (Table::Sessions, "a", "x"),
        (Table::Sessions, "a", "xy"),
        (Table::Sessions, "a", "z"),
        (Table::Sessions, "ab", "x"),
        (Table::Sessions, "b", "x"),
        (Table::Documents, "a", "x"),
    ] {
        let key = RecordKey { table, owner: owner(of), item: item.into() };
        batch.put.push(Put { key, value: vec![1], expires: None });
    }
    assert!(disk.commit(&[batch])[0].is_ok());
    let items = |table, of: &str, prefix| {
        let found = disk.records(table, &owner(of), prefix).unwrap();
        found.into_iter().map(|(item, _)| item).collect::<Vec<_>>()
    };
    assert_eq!(items(Table::Sessions, "a", ""), ["x", "xy", "z"]);
    assert_eq!(items(Table::Sessions, "a", "x"), ["x", "xy"]);
    assert_eq!(items(Table::Sessions, "ab", ""), ["x"]);
    assert_eq!(items(Table::Documents, "a", ""), ["x"]);
    assert!(items(Table::Documents, "b", "").is_empty());
    assert_eq!(disk.owners().unwrap().len(), 3);
}

#[test]
fn a_store_in_memory_counts_what_it_holds() {
    let memory = Memory::new(100);
    let held = || memory.bound().unwrap().held;
    let mut first = batch("s", 1, 10);
    first.put[0].expires = Some(5);
    assert!(memory.commit(&[first, batch("t", 2, 20)])[0].is_ok());
    assert_eq!(held(), 1 + 10 + 1 + 20);
    assert_eq!(memory.used(&owner("a")).unwrap(), Used { sessions: 2, bytes: 30 });
    assert!(memory.expired(None, 4).unwrap().is_empty());
    assert_eq!(memory.expired(Some(&owner("a")), 5).unwrap(), [key("s")]);
    assert!(memory.expired(Some(&owner("b")), 5).unwrap().is_empty());
    // Another value in the place of the first one, and a blob less.
    let mut second = Batch::new(&owner("a"));
    second.put.push(Put { key: key("s"), value: vec![0; 4], expires: None });
    second.drop_blobs.push(1);
    second.delete.push(key("t"));
    (second.sessions, second.bytes) = (-1, -10);
    assert!(memory.commit(&[second])[0].is_ok());
    assert_eq!(held(), 4 + 20);
    assert_eq!(memory.record(&key("s")).unwrap().unwrap(), [0u8; 4]);
    assert_eq!(memory.record(&key("t")).unwrap(), None);
    assert_eq!(memory.blob(&owner("a"), 1).unwrap(), None);
    assert!(memory.expired(None, 9).unwrap().is_empty());
}

#[test]
fn what_is_kept_stays_when_the_rest_of_the_file_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let disk = Disk::open(&path).unwrap();
    let size = || fs_err::metadata(&path).unwrap().len();
    for id in 0..16 {
        assert!(disk.commit(&[batch(&format!("s{id}"), id, 1 << 20)])[0].is_ok());
    }
    // All but the newest, which is after the free space.
    for id in 0..15 {
        let mut gone = Batch::new(&owner("a"));
        gone.delete.push(key(&format!("s{id}")));
        gone.drop_blobs.push(id);
        assert!(disk.commit(&[gone])[0].is_ok());
    }
    let before = size();
    disk.compact().unwrap();
    assert!(size() <= before && size() < 8 << 20, "{before}, {}", size());
    assert_eq!(disk.blob(&owner("a"), 15).unwrap().unwrap(), vec![15; 1 << 20]);
    assert_eq!(disk.record(&key("s15")).unwrap().unwrap(), b"s15");
    assert!(disk.commit(&[batch("new", 100, 10)])[0].is_ok());
    let counted = |bytes| {
        let mut counted = count::Counted::default();
        counted.used.insert(owner("a"), Used { sessions: 1, bytes });
        counted
    };
    assert!(Disk::is_sparse(64 << 20, &counted(8 << 20)));
    assert!(!Disk::is_sparse(64 << 20, &counted(20 << 20)));
    assert!(!Disk::is_sparse(8 << 20, &counted(0)), "a small file is left alone");
}

#[test]
fn of_a_page_that_cannot_be_read_the_records_before_and_behind_are_named() {
    // A panic prints its message, and tests say what they say on their own.
    const CHILD: &str = "LONGHAND_DAMAGED_PAGE";
    let test = "backend::disk::tests::of_a_page_that_cannot_be_read_the_records_before_and_behind_\
                are_named";
    if std::env::var_os(CHILD).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&child.stderr).into_owned();
        assert!(child.status.success(), "{}: {told}", child.status);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let disk = Disk::open(&path).unwrap();
    let mut all = Batch::new(&owner("a"));
    let item = |at: usize| format!("session-{at:04}");
    for at in 0..2000 {
        // Each item has its own record, so that its page is found by it.
        let value = format!("{} is here", item(at)).into_bytes();
        all.put.push(Put { key: key(&item(at)), value, expires: None });
    }
    assert!(disk.commit(&[all])[0].is_ok());
    assert!(disk.count().damaged.iter().all(|what| what.starts_with("the session `session-")));
    drop(disk);
    let whole = fs_err::read(&path).unwrap();
    // Pages have 4 KiB, and begin with their kind. Of those that hold this record one is in use; the
    // others are free, or have become pages of something else.
    let needle = b"session-1000 is here";
    let places: Vec<usize> = (0..whole.len() - needle.len())
        .filter(|&at| whole[at..].starts_with(needle))
        .map(|at| at - at % 4096)
        .collect();
    let gaps: Vec<(Disk, String)> = places
        .iter()
        .filter_map(|&at| {
            let path = folder.path().join(format!("damaged-{at}.redb"));
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            fs_err::write(&path, bytes).unwrap();
            let disk = Disk::open(&path).ok()?;
            let damaged = disk.count().damaged;
            let gap = damaged.into_iter().find(|what| what.starts_with("what stood between"))?;
            Some((disk, gap))
        })
        .collect();
    let [(disk, gap)] = &gaps[..] else {
        panic!("{} gaps of {} damaged pages", gaps.len(), places.len())
    };
    let named: Vec<usize> =
        gap.split('`').filter_map(|word| word.strip_prefix("session-")?.parse().ok()).collect();
    assert_eq!(named.len(), 2, "{gap}");
    assert!((1..1000).contains(&named[0]) && (1001..1999).contains(&named[1]), "{gap}");
    // What is behind the gap is found as before.
    assert!(disk.record(&key(&item(1999))).unwrap().is_some());
    assert!(disk.record(&key(&item(0))).unwrap().is_some());
}
