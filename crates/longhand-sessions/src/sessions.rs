//! Named states of owners: hot in memory up to a budget, durable in a store.
//!
//! A session is a record with the states of its last turns, each a snapshot. Every change is one
//! commit: a reader, or a restart after a kill, finds the session before it or after it. What is in
//! memory is a copy of what is in the store, so that dropping it loses nothing.
//!
//! One job, or one call, at a time may change a session: it has the session's lease. Whoever only
//! reads needs no lease.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longhand_engine::Engine;

use crate::backend::disk::Disk;
use crate::backend::memory::Memory;
use crate::backend::shared::{LEASE, Shared};
use crate::backend::{Backend, Table};
use crate::clock::{Clock, milliseconds};
use crate::counters::Counters;
use crate::error::SessionError;
use crate::name::{Name, Owner};
use crate::record::{Record, SessionInfo, Used};

pub(crate) mod begin;
mod change;
mod documents;
mod quota;
mod room;
pub(crate) mod save;
pub(crate) mod shelf;
mod snapshot;

pub use quota::Quota;
use save::{Writer, put};
pub use shelf::SessionsSettings;
use shelf::Shelf;

/// A store of sessions, of any number of owners and models.
pub struct Sessions {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) writer: Writer,
}

/// What was found when a store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sessions in the store.
    pub sessions: u64,
    /// Bytes of those sessions, checkpoints and notes included.
    pub bytes: u64,
    /// What cannot be read any more, a sentence for each.
    pub damaged: Vec<String>,
    /// Bytes of the file before and after its free space was given back, where that was much.
    pub compacted: Option<(u64, u64)>,
}

impl Sessions {
    /// A store that ends with the process. It holds no more than its part of
    /// [`SessionsSettings::memory`]: where that is not enough hints go, the longest unused first, and
    /// then [`SessionError::Memory`] refuses what is new.
    ///
    /// # Errors
    /// [`SessionError::Setting`] for a setting out of range, [`SessionError::Storage`] if the thread
    /// that saves cannot be started.
    pub fn in_memory(settings: SessionsSettings) -> Result<Arc<Self>, SessionError> {
        let memory = settings.memory / 4;
        let store = Arc::new(Memory::new(settings.memory - memory));
        let settings = SessionsSettings { memory, ..settings };
        Self::with(store, settings, Clock::new(0), &Counters::new())
    }

    /// A store in a database file, which is made if there is none. Its records are read. A file that
    /// is no whole database is put aside, under its name with `damaged` and the time behind it, and
    /// another one is begun; what of a readable database is not whole is named, and the rest is
    /// served. A file that is mostly free space is made smaller.
    ///
    /// # Errors
    /// [`SessionError::Full`] or [`SessionError::Storage`] if the file cannot be opened, as when
    /// another process has it, and the errors of [`Sessions::in_memory`].
    pub fn open(
        path: &Path,
        settings: SessionsSettings,
    ) -> Result<(Arc<Self>, Report), SessionError> {
        let mut report = Report::default();
        let disk = match Disk::open(path) {
            Err(SessionError::Damaged { what, .. }) => {
                let aside = put_aside(path)?;
                report.damaged.push(format!(
                    "{} is no whole database ({what}): it was put aside as {}, and a new one begun",
                    path.display(),
                    aside.display()
                ));
                Disk::open(path)?
            }
            disk => disk?,
        };
        let counted = disk.count();
        let size = || fs_err::metadata(path).map_or(0, |data| data.len());
        let before = size();
        // A file that is not whole stays as it is.
        if counted.damaged.is_empty() && Disk::is_sparse(before, &counted) && disk.compact().is_ok()
        {
            report.compacted = Some((before, size()));
        }
        let Used { sessions, bytes } = counted.all();
        (report.sessions, report.bytes) = (sessions, bytes);
        report.damaged.extend(counted.damaged);
        let counters = Counters::new();
        counters.sessions_stored.set(report.sessions);
        counters.sessions_stored_bytes.set(report.bytes);
        Ok((Self::with(Arc::new(disk), settings, Clock::new(counted.newest), &counters)?, report))
    }

    /// What is in a database file that nobody has open, and which of its sessions are not whole. The
    /// file is only read, each state included.
    ///
    /// # Errors
    /// [`SessionError::Damaged`] for a file that is no whole database, [`SessionError::Storage`] for one
    /// that another process has, or that was not closed in order.
    pub fn examine(path: &Path) -> Result<Report, SessionError> {
        let counted = Disk::examine(path)?;
        let Used { sessions, bytes } = counted.all();
        Ok(Report { sessions, bytes, damaged: counted.damaged, compacted: None })
    }

    /// A store in a Redis or Valkey server that any number of processes share, as
    /// `redis://[:password@]host[:port][/database]`. It is as durable as that server: with
    /// `appendfsync always` a session is on its disk before a job that keeps it is done.
    ///
    /// # Errors
    /// [`SessionError::Storage`] if the server cannot be reached, and
    /// the errors of [`Sessions::in_memory`].
    pub fn shared(url: &str, settings: SessionsSettings) -> Result<Arc<Self>, SessionError> {
        let shared = Shared::connect(url, LEASE)?;
        let clock = Clock::of_store(shared.time()?.unwrap_or_default());
        let sessions = Self::with(Arc::new(shared), settings, clock, &Counters::new())?;
        sessions.shelf.recount()?;
        Ok(sessions)
    }

    pub(crate) fn with(
        backend: Arc<dyn Backend>,
        settings: SessionsSettings,
        clock: Clock,
        counters: &Arc<Counters>,
    ) -> Result<Arc<Self>, SessionError> {
        if settings.checkpoints == 0 {
            let (name, value) = ("the number of checkpoints", "0".into());
            return Err(SessionError::Setting { name, value, allowed: "at least 1" });
        }
        let shelf = Arc::new(Shelf::new(backend, settings, clock, counters));
        let writer = Writer::start(&shelf)?;
        Ok(Arc::new(Self { shelf, writer }))
    }

    /// An owner's sessions by name. Those that are damaged are left out,
    /// and told by [`Sessions::newly_damaged`].
    ///
    /// # Errors
    /// The errors of the store: [`SessionError::Storage`] and [`SessionError::Damaged`].
    pub fn list(&self, owner: &Owner) -> Result<Vec<SessionInfo>, SessionError> {
        let now = self.shelf.clock.now();
        let mut listed = Vec::new();
        for (item, bytes) in self.shelf.backend.records(Table::Sessions, owner, "")? {
            match Record::from_bytes(&bytes) {
                Ok(record) if record.is_expired(now) => {}
                Ok(record) => listed.push(record.info()),
                Err(what) => self.shelf.note_damage(owner, item, &what),
            }
        }
        Ok(listed)
    }

    /// The damaged sessions that lists have left out since this was asked last, a sentence for each;
    /// none is told twice. To be called now and then by whoever writes a log.
    pub fn newly_damaged(&self) -> Vec<String> {
        self.shelf.newly_damaged()
    }

    /// What is known of one session.
    ///
    /// # Errors
    /// [`SessionError::NotFound`] if the owner has none of this name, and the errors of the store.
    pub fn show(&self, owner: &Owner, name: &Name) -> Result<SessionInfo, SessionError> {
        Ok(self.shelf.require(owner, name)?.info())
    }

    /// The caller's own bytes that were kept with a session.
    ///
    /// # Errors
    /// The errors of [`Sessions::show`], for the same causes.
    pub fn note(&self, owner: &Owner, name: &Name) -> Result<Option<Vec<u8>>, SessionError> {
        let record = self.shelf.require(owner, name)?;
        record.note.map(|note| self.shelf.blob(&record, note.id)).transpose()
    }

    /// Replaces the caller's own bytes, or erases them.
    ///
    /// # Errors
    /// [`SessionError::InUse`] while a job has the session, [`SessionError::Quota`],
    /// [`SessionError::Full`] or [`SessionError::Memory`], and the errors of [`Sessions::show`].
    pub fn set_note(
        &self,
        owner: &Owner,
        name: &Name,
        note: Option<Vec<u8>>,
    ) -> Result<SessionInfo, SessionError> {
        self.shelf.change(owner, name, |record, batch| {
            batch.drop_blobs.extend(record.note.take().map(|old| old.id));
            record.note = note.map(|note| put(batch, note)).transpose()?;
            Ok(())
        })
    }

    /// Makes another session of one, at a checkpoint or where it is. The new one has its own state
    /// from then on; earlier checkpoints stay with the old one.
    ///
    /// # Errors
    /// [`SessionError::Exists`] for a name that is taken, [`SessionError::NoCheckpoint`] for a
    /// position without one, and the errors of [`Sessions::set_note`].
    pub fn fork(
        &self,
        owner: &Owner,
        from: &Name,
        to: &Name,
        at: Option<u64>,
    ) -> Result<SessionInfo, SessionError> {
        self.shelf.fork(owner, from, to, at)
    }

    /// Gives a session another name.
    ///
    /// # Errors
    /// [`SessionError::Exists`] for a name that is taken, and the errors of [`Sessions::set_note`].
    pub fn rename(
        &self,
        owner: &Owner,
        from: &Name,
        to: &Name,
    ) -> Result<SessionInfo, SessionError> {
        self.shelf.rename(owner, from, to, None)
    }

    /// Gives a session another name, another time to live as [`Sessions::set_ttl`] does, or both in one
    /// commit. None leaves it as it is, and so does its own name.
    ///
    /// # Errors
    /// The errors of [`Sessions::rename`], for the same causes.
    pub fn alter(
        &self,
        owner: &Owner,
        name: &Name,
        to: Option<&Name>,
        ttl: Option<Option<Duration>>,
    ) -> Result<SessionInfo, SessionError> {
        match (to, ttl) {
            (Some(to), ttl) if to != name => self.shelf.rename(owner, name, to, ttl),
            (_, Some(ttl)) => self.set_ttl(owner, name, ttl),
            (_, None) => self.show(owner, name),
        }
    }

    /// Takes a session back to one of its checkpoints. Later ones are erased.
    ///
    /// # Errors
    /// [`SessionError::NoCheckpoint`] for a position without one, and
    /// the errors of [`Sessions::set_note`].
    pub fn truncate(
        &self,
        owner: &Owner,
        name: &Name,
        position: u64,
    ) -> Result<SessionInfo, SessionError> {
        self.shelf.change(owner, name, |record, batch| {
            batch.drop_blobs.extend(record.truncate(position)?);
            Ok(())
        })
    }

    /// Changes the time after its last use at which a session expires; none is never. The change
    /// counts as a use.
    ///
    /// # Errors
    /// The errors of [`Sessions::set_note`], for the same causes.
    pub fn set_ttl(
        &self,
        owner: &Owner,
        name: &Name,
        ttl: Option<Duration>,
    ) -> Result<SessionInfo, SessionError> {
        self.shelf.change(owner, name, |record, _| {
            (record.ttl, record.hint) = (ttl.map(milliseconds), false);
            Ok(())
        })
    }

    /// Erases a session with all its states. One that is damaged is erased too, with those states that
    /// its record still names.
    ///
    /// # Errors
    /// [`SessionError::InUse`] while a job has the session, and the errors of [`Sessions::show`].
    pub fn erase(&self, owner: &Owner, name: &Name) -> Result<(), SessionError> {
        self.shelf.erase(owner, name)
    }

    /// A snapshot of a session where it is, as a safetensors file with checksums. The caller's own
    /// bytes go with it where they are text in UTF-8.
    ///
    /// # Errors
    /// The errors of [`Sessions::show`], for the same causes.
    pub fn export(&self, owner: &Owner, name: &Name) -> Result<Vec<u8>, SessionError> {
        self.shelf.export(owner, name)
    }

    /// Makes a session of a snapshot, which is checked before a byte of it is used: its size, each of
    /// its checksums, and whether it is a state of this model. The caller's own bytes in it, up to 4 MiB,
    /// are shown to `note` with the state's position, which gives those to keep, or none where they
    /// are no use. All is one commit.
    ///
    /// # Errors
    /// [`SessionError::Snapshot`], [`SessionError::Altered`] and [`SessionError::TooLarge`] for bytes
    /// that are refused, [`SessionError::Note`] for a note that is, [`SessionError::Exists`] for a name
    /// that is taken, [`SessionError::Quota`] and the errors of the store.
    pub fn import(
        &self,
        owner: &Owner,
        name: &Name,
        bytes: &[u8],
        engine: &Arc<Engine>,
        ttl: Option<Duration>,
        note: impl FnOnce(&[u8], u64) -> Option<Vec<u8>>,
    ) -> Result<SessionInfo, SessionError> {
        self.shelf.import(owner, name, bytes, engine, ttl, note)
    }

    /// What an owner has in the store.
    ///
    /// # Errors
    /// The errors of the store, such as [`SessionError::Storage`].
    pub fn used(&self, owner: &Owner) -> Result<Used, SessionError> {
        self.shelf.backend.used(owner)
    }

    /// Takes the limits of an owner and the time to live from these settings, from now on. What is
    /// kept already stays, even where it is more. All else stays as it was opened.
    pub fn renew(&self, settings: &SessionsSettings) {
        let SessionsSettings { sessions_per_owner, bytes_per_owner, ttl, .. } = *settings;
        self.shelf.quotas.renew(sessions_per_owner, bytes_per_owner, ttl);
    }

    /// Gives some owners limits of their own, from now on, in place of all that were given before.
    pub fn set_own_quotas(&self, own: HashMap<Owner, Quota>) {
        self.shelf.quotas.set_own(own);
    }

    /// Erases sessions and documents that have expired, and says how many. To be called now and then;
    /// what has expired is not found even before. Where other processes share the store, the gauges of
    /// what is stored are read from it again.
    ///
    /// # Errors
    /// The errors of the store. What was erased before stays erased.
    pub fn sweep(&self) -> Result<usize, SessionError> {
        let gone = self.shelf.sweep(None)?;
        self.shelf.recount()?;
        Ok(gone)
    }

    /// Keeps a document; durable when this returns. Kind and id are as names of sessions.
    ///
    /// # Errors
    /// [`SessionError::Name`] for a kind or an id that is no name, [`SessionError::Quota`],
    /// [`SessionError::Full`] and the errors of the store.
    pub fn put_document(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
        bytes: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), SessionError> {
        self.shelf.put_document(owner, (kind, id), bytes, ttl)
    }

    /// Makes another document of one: `update` is given its bytes, or none, and gives those to keep, and
    /// nobody else changes it meanwhile, in this process or in another one of the store. Where someone is
    /// changing it, this waits for two seconds. It is durable when this returns.
    ///
    /// # Errors
    /// Those of `update`, and nothing has changed then; [`SessionError::InUse`] where someone else
    /// changes it for longer, [`SessionError::LeaseLost`] where this process stood still meanwhile, and
    /// the errors of [`Sessions::put_document`].
    pub fn update_document<E: From<SessionError>>(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
        ttl: Option<Duration>,
        update: impl FnOnce(Option<Vec<u8>>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        self.shelf.update_document(owner, (kind, id), ttl, update)
    }

    /// A document, if the owner has it.
    ///
    /// # Errors
    /// [`SessionError::Name`] as before, [`SessionError::Damaged`] for bytes that are not whole, and
    /// the errors of the store.
    pub fn document(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
    ) -> Result<Option<Vec<u8>>, SessionError> {
        self.shelf.document(owner, kind, id)
    }

    /// The ids of an owner's documents of a kind, in their order.
    ///
    /// # Errors
    /// The errors of [`Sessions::document`], for the same causes.
    pub fn documents(&self, owner: &Owner, kind: &str) -> Result<Vec<String>, SessionError> {
        self.shelf.documents(owner, kind)
    }

    /// Erases a document, and says whether there was one.
    ///
    /// # Errors
    /// The errors of [`Sessions::put_document`], for the same causes.
    pub fn erase_document(
        &self,
        owner: &Owner,
        kind: &str,
        id: &str,
    ) -> Result<bool, SessionError> {
        self.shelf.erase_document(owner, kind, id)
    }

    /// Reads every state in the store, and names the sessions that are not whole, a sentence for each.
    /// It takes as long as reading all of them; the store serves meanwhile.
    ///
    /// # Errors
    /// The errors of the store, such as [`SessionError::Storage`].
    pub fn check(&self) -> Result<Vec<String>, SessionError> {
        self.shelf.check()
    }

    /// Drops all states from memory. The store has them, and they are read again when asked for.
    pub fn cool(&self) {
        self.shelf.forget_all();
    }

    /// The counters of the store and of all hosts that use it.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shelf.counters
    }
}

/// Renames a file that is no database, and gives its new name.
fn put_aside(path: &Path) -> Result<PathBuf, SessionError> {
    let storage = |error: std::io::Error| SessionError::Storage { what: error.to_string() };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{}", Clock::new(0).now()));
    let aside = path.with_file_name(name);
    fs_err::rename(path, &aside).map_err(storage)?;
    Ok(aside)
}

#[cfg(test)]
mod tests;
