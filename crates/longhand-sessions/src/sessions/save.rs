//! Keeps states: one thread encodes them and makes them durable, as many in one commit as there are.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use longhand_engine::{Session, Snapshot};

use super::begin::{Origin, Place};
use super::shelf::{Shelf, put_record};
use crate::backend::{Batch, Lease};
use crate::chain::Chain;
use crate::clock::milliseconds;
use crate::error::SessionError;
use crate::history::History;
use crate::job::{KeepSession, Noting};
use crate::name::{Owner, random};
use crate::record::{Blob, BlobId, Record, Saved, Segment, SessionInfo};

/// The time to live of a hint that has none of its own.
const HINT: Duration = Duration::from_secs(24 * 60 * 60);
/// States of one commit; what comes later waits for the next one.
const MOST_TOGETHER: usize = 64;

/// A state to keep.
pub(crate) struct Save {
    pub(crate) owner: Owner,
    pub(crate) keep: KeepSession,
    pub(crate) place: Place,
    pub(crate) origin: Origin,
    pub(crate) session: Session,
    pub(crate) chain: Option<Chain>,
    /// The passes that led from the origin to the state.
    pub(crate) turn: History,
    /// Gives the note, in place of that of `keep`.
    pub(crate) noting: Option<Noting>,
    /// Learns what came of it, on the thread that saves.
    pub(crate) done: Box<dyn FnOnce(Result<SessionInfo, SessionError>) + Send>,
}

/// What the thread does.
enum Task {
    Save(Box<Save>),
    Run(Box<dyn FnOnce() + Send>),
}

/// The thread that saves. Dropping it waits until all is saved.
pub(crate) struct Writer {
    tasks: Option<Sender<Task>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A save that is ready to be committed.
struct Ready {
    record: Record,
    gone: Vec<BlobId>,
    state: BlobId,
    session: Session,
    /// Held until the commit is over.
    lease: Lease,
    done: Box<dyn FnOnce(Result<SessionInfo, SessionError>) + Send>,
}

impl Writer {
    pub(crate) fn start(shelf: &Arc<Shelf>) -> Result<Self, SessionError> {
        let (tasks, received) = channel();
        let shelf = shelf.clone();
        let thread = std::thread::Builder::new()
            .name("longhand-save".into())
            .spawn(move || work(&shelf, &received))
            .map_err(|error| SessionError::Storage { what: error.to_string() })?;
        Ok(Self { tasks: Some(tasks), thread: Mutex::new(Some(thread)) })
    }

    /// Keeps a state. Does not block.
    pub(crate) fn save(&self, save: Save) {
        self.send(Task::Save(Box::new(save)));
    }

    /// Runs something that takes its time. Does not block.
    pub(crate) fn run(&self, task: Box<dyn FnOnce() + Send>) {
        self.send(Task::Run(task));
    }

    fn send(&self, task: Task) {
        if let Some(tasks) = &self.tasks
            && let Err(refused) = tasks.send(task)
        {
            // The thread is gone, which only a panic in it can cause.
            match refused.0 {
                Task::Save(save) => {
                    let what = "the thread that saves has ended".into();
                    (save.done)(Err(SessionError::Storage { what }));
                }
                Task::Run(run) => run(),
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tasks = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last user may be a task of the thread itself, which cannot wait for its own end.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn work(shelf: &Shelf, tasks: &Receiver<Task>) {
    while let Ok(first) = tasks.recv() {
        let (mut saves, mut runs) = (Vec::new(), Vec::new());
        let mut sort = |task| match task {
            Task::Save(save) => saves.push(*save),
            Task::Run(run) => runs.push(run),
        };
        sort(first);
        tasks.try_iter().take(MOST_TOGETHER - 1).for_each(&mut sort);
        commit(shelf, saves);
        runs.into_iter().for_each(|run| run());
    }
}

/// Encodes states and commits them together.
fn commit(shelf: &Shelf, saves: Vec<Save>) {
    let (mut batches, mut ready) = (Vec::new(), Vec::new());
    // What this commit adds to an owner's, which the store does not count before its end.
    let mut pending: HashMap<Owner, (i64, i64)> = HashMap::new();
    for save in saves {
        let mut save = save;
        let done = std::mem::replace(&mut save.done, Box::new(|_| {}));
        match prepare(shelf, save, &mut pending) {
            Ok((batch, prepared)) => {
                batches.push(batch);
                ready.push(Ready { done, ..prepared });
            }
            // The lease went with the save.
            Err(error) => done(Err(error)),
        }
    }
    if batches.is_empty() {
        return;
    }
    let outcomes = shelf.backend.commit(&batches);
    shelf.counters.commits.add(1);
    for ((ready, outcome), batch) in ready.into_iter().zip(outcomes).zip(&batches) {
        let Ready { record, gone, state, session, lease, done } = ready;
        let outcome = outcome.map(|()| {
            shelf.counters.session_saves.add(1);
            shelf.counters.sessions_stored.change(batch.sessions);
            shelf.counters.sessions_stored_bytes.change(batch.bytes);
            shelf.forget(&gone);
            shelf.take_in(state, Arc::new(session));
            record.info()
        });
        // First the right goes back: whoever hears of the end may go on at once.
        drop(lease);
        done(outcome);
    }
}

fn prepare(
    shelf: &Shelf,
    save: Save,
    pending: &mut HashMap<Owner, (i64, i64)>,
) -> Result<(Batch, Ready), SessionError> {
    let Save { owner, keep, place, origin, session, chain, turn, noting, done } = save;
    let Place { lease, taken, lost } = place;
    let engine = session.engine().clone();
    let now = shelf.clock.now();
    let mut batch = Batch::new(&owner);
    let before = taken.as_ref().map_or(0, |record| record.bytes());
    batch.sessions = i64::from(taken.is_none());
    let (mut record, mut gone) = match (taken, &origin) {
        // The session goes on, from one of its checkpoints.
        (Some(record), Origin::Checkpoint(from, place))
            if from.name == record.name && from.saved.get(*place).is_some() =>
        {
            let mut record = *record;
            let position = from.saved[*place].position;
            let gone = record.truncate(position)?;
            (record, gone)
        }
        (taken, _) => {
            let gone = taken.iter().flat_map(|record| record.blobs()).map(|blob| blob.id).collect();
            let hashes = (engine.model_hash(), engine.tokenizer().hash());
            (Record::new(&owner, &keep.name, hashes, now), gone)
        }
    };
    gone.extend(lost);
    add_history(shelf, &mut record, &origin, turn, &mut batch, &mut gone)?;
    let bytes = Snapshot::of(&session).to_bytes();
    let state = put(&mut batch, bytes)?;
    let turns = record.saved.last().map_or(0, |saved| saved.turns) + 1;
    let segments = record.history.as_ref().map_or(0, Vec::len);
    record.saved.push(Saved { position: session.position(), turns, state, chain, segments });
    gone.extend(record.keep_last(shelf.settings.checkpoints));
    let note = match noting {
        Some(noting) => Some(noting(session.position())),
        None => keep.note,
    };
    if let Some(note) = note {
        gone.extend(record.note.map(|old| old.id));
        record.note = Some(put(&mut batch, note)?);
    }
    record.used = now;
    let ttl = match keep.hint {
        true => {
            record.hint = true;
            keep.ttl.or(Some(HINT))
        }
        false => {
            record.claim(shelf.quotas.ttl());
            keep.ttl.or(shelf.quotas.ttl().filter(|_| turns == 1))
        }
    };
    record.ttl = ttl.map(milliseconds).or(record.ttl);
    batch.bytes = record.bytes() as i64 - before as i64;
    let all: i64 = pending.values().map(|(_, bytes)| bytes).sum();
    let (sessions, more) = pending.entry(owner.clone()).or_default();
    shelf.find_owners_room(&owner, batch.sessions + *sessions, batch.bytes + *more)?;
    // What the commit adds of others' counts in memory too. Nothing that becomes smaller needs room.
    if batch.bytes > 0 {
        shelf.find_memory(batch.bytes + all)?;
    }
    (*sessions, *more) = (*sessions + batch.sessions, *more + batch.bytes);
    batch.guards.push(lease.guard());
    put_record(&mut batch, &record);
    batch.drop_blobs.clone_from(&gone);
    Ok((batch, Ready { record, gone, state: state.id, session, lease, done }))
}

/// Adds the passes of a turn, if all passes before it are known and there are not too many.
fn add_history(
    shelf: &Shelf,
    record: &mut Record,
    origin: &Origin,
    turn: History,
    batch: &mut Batch,
    gone: &mut Vec<BlobId>,
) -> Result<(), SessionError> {
    let passes = match origin {
        Origin::Outside => None,
        Origin::Fresh => Some(turn),
        // Its own passes are there already.
        Origin::Checkpoint(from, _) if from.name == record.name && !record.saved.is_empty() => {
            record.history.is_some().then_some(turn)
        }
        Origin::Checkpoint(from, place) => shelf.history(from, *place).map(|mut passes| {
            passes.append(turn);
            passes
        }),
    };
    let old: u64 = record.history.iter().flatten().map(|segment| segment.tokens).sum();
    match passes {
        Some(passes) if old + passes.tokens() as u64 <= shelf.settings.history as u64 => {
            let (tokens, passes) = (passes.tokens() as u64, put(batch, passes.to_bytes())?);
            record.history.get_or_insert_default().push(Segment { passes, tokens });
        }
        _ => {
            let all = record.history.take().into_iter().flatten();
            gone.extend(all.map(|segment| segment.passes.id));
            record.saved.iter_mut().for_each(|saved| saved.segments = 0);
        }
    }
    Ok(())
}

/// Puts bytes into a batch under a new number.
pub(crate) fn put(batch: &mut Batch, bytes: Vec<u8>) -> Result<Blob, SessionError> {
    let id = u128::from_le_bytes(random()?);
    let blob = Blob { id, bytes: bytes.len() as u64 };
    batch.blobs.push((id, bytes));
    Ok(blob)
}
