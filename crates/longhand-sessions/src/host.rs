//! One model and its worker: where jobs are given in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use longhand_engine::session::CHUNK;
use longhand_engine::{Cpu, Engine, EngineError, Reader, Streams};

use crate::cache::{StateCache, ends};
use crate::counters::Counters;
use crate::error::{JobError, SealError, SessionError};
use crate::job::{Job, Keep, Score, Sink, Start, Work, Write};
use crate::lru::bytes_of;
use crate::name::random;
use crate::sealed::Sealer;
use crate::sessions::Sessions;
use crate::sessions::begin::{Beginning, Opened, Origin};
use crate::worker::accepted::{Accepted, Common, Teller};
use crate::worker::gate::Gate;
use crate::worker::{Command, Worker};

/// How much a host does at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostSettings {
    /// The most texts that are written side by side. Default: 64.
    pub streams: usize,
    /// The most jobs that wait or run; more are refused. Default: 256.
    pub queue: usize,
    /// The most prompt tokens that are read between two decode steps, at least [`CHUNK`]. Default: as
    /// few as can be, [`CHUNK`].
    pub prefill: usize,
    /// The share of restored states, of sessions and of the state cache, from 0 to 1, that are recomputed
    /// from their tokens and compared bit for bit. One that differs is counted, and the job goes on from
    /// the recomputed state. Default: 0, none of them.
    pub verify: f64,
}

/// A model that jobs can be given to. Dropping it interrupts those that run.
pub struct Host {
    engine: Arc<Engine>,
    sessions: Arc<Sessions>,
    sealer: Option<Arc<Sealer>>,
    settings: HostSettings,
    gate: Arc<Gate>,
    /// None after the host was drained.
    commands: Mutex<Option<Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The right to a running job. Dropping it cancels the job.
#[derive(Debug)]
pub struct Ticket {
    cancelled: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    detached: bool,
}

/// What a host has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Jobs that have not begun.
    pub waiting: usize,
    /// Jobs that read their prompt, or have read it and wait for a place.
    pub reading: usize,
    /// Texts that are being written.
    pub writing: usize,
    /// How many can be.
    pub streams: usize,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self { streams: 64, queue: 256, prefill: CHUNK, verify: 0.0 }
    }
}

impl Host {
    /// Starts the worker of a model, which computes on `cpu`. Several hosts may share sessions and
    /// cache, and so one budget.
    ///
    /// # Errors
    /// [`JobError::Setting`] for a setting out of range, [`JobError::Engine`] for a number of streams
    /// that no batch has, [`JobError::Session`] if the thread cannot be started.
    pub fn start(
        engine: &Arc<Engine>,
        cpu: &Arc<Cpu>,
        sessions: &Arc<Sessions>,
        cache: &Arc<StateCache>,
        sealer: Option<Arc<Sealer>>,
        settings: HostSettings,
    ) -> Result<Self, JobError> {
        settings.check()?;
        let streams = Streams::new(engine, cpu, settings.streams)?;
        let gate = Gate::new(settings.queue, settings.streams, sessions.counters());
        let parts = (engine.reader(cpu), streams);
        let worker = Worker::new(parts, cache, sessions, sealer.clone(), &gate, settings.prefill);
        let (commands, received) = channel();
        let thread = std::thread::Builder::new()
            .name("longhand-model".into())
            .spawn(move || worker.work(&received))
            .map_err(|error| SessionError::Storage { what: error.to_string() })?;
        Ok(Self {
            engine: engine.clone(),
            sessions: sessions.clone(),
            sealer,
            settings,
            gate,
            commands: Mutex::new(Some(commands)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Gives a job in. Whether there is a place for it is decided at once. Then the state that it
    /// begins with is found and checked, on the calling thread, which may wait for a disk or a
    /// server. It never waits for the worker. After an error the sink was not called and never will.
    ///
    /// # Errors
    /// [`JobError::Busy`] and [`JobError::Draining`] without a place, [`JobError::Memory`] without memory
    /// for the state while as many jobs wait as streams can be written, [`JobError::Setting`] and
    /// [`JobError::NothingToRead`] for a job that cannot be done, [`JobError::Session`] and
    /// [`JobError::Seal`] for a state that cannot be had or kept.
    pub fn submit(&self, job: Job, sink: Sink) -> Result<Ticket, JobError> {
        let Job { owner, mut start, mut ids, work, keep, cache, deadline, noting, whole, backlog } =
            job;
        let mut keep = keep;
        self.check(&ids, &work, &keep)?;
        let permit = self.gate.enter()?;
        let begin = |start: &Start, ids: &[u32], keep: &Keep| {
            let beginning = Beginning { owner: &owner, start, ids, keep };
            self.sessions.shelf.begin(&beginning, &self.engine, self.sealer.as_deref())
        };
        let opened = match (begin(&start, &ids, &keep), whole) {
            (Err(JobError::Session(error)), Some(whole)) => {
                // The session only spared work: its text is read again. One that is there and cannot be
                // gone on from would stay so if the new one did not take its place.
                ids = whole().ok_or(error)?;
                self.check(&ids, &work, &keep)?;
                if let (Keep::Session(keep), Start::Session { name, .. }) = (&mut keep, &start) {
                    keep.replace |= keep.name == *name;
                }
                start = Start::Fresh;
                begin(&start, &ids, &keep)?
            }
            (opened, _) => opened?,
        };
        let Opened { state, origin, chain, place } = opened;
        let position = state.as_ref().map_or(0, |session| session.position());
        let keep = match keep {
            // A hint that cannot be kept.
            Keep::Session(_) if place.is_none() => Keep::Nothing,
            keep => keep,
        };
        let sampler = match &work {
            Work::Write(write) => write.sampler,
            Work::Score(_) | Work::Embed => None,
        };
        if state.is_none() {
            self.engine.generation().sampler.check()?;
        }
        // A prompt of a prefix start is whole: its first part is in the state.
        let ids = match &start {
            Start::Prefix { .. } => ids.get(position as usize..).unwrap_or_default().to_vec(),
            _ => ids,
        };
        let nothing = ids.is_empty() && position == 0;
        if nothing || (ids.is_empty() && matches!(work, Work::Embed)) {
            return Err(JobError::NothingToRead);
        }
        let ends = match (&origin, &work, chain) {
            (Origin::Fresh, Work::Write(Write { prompt_scores: None, .. }), Some(chain))
            | (Origin::Fresh, Work::Score(_), Some(chain))
                if cache =>
            {
                Some(ends(chain, &ids))
            }
            _ => None,
        };
        let verifies = self.verifies()?;
        let replay = match &origin {
            Origin::Checkpoint(record, place) if verifies => {
                self.sessions.shelf.history(record, *place)
            }
            _ => None,
        };
        let shelf = &self.sessions.shelf;
        let held = match &state {
            Some(session) => match shelf.hold(bytes_of(session), self.settings.streams) {
                None => return Err(permit.refuse()),
                held => held,
            },
            None => None,
        };
        let (cancelled, ended) = (Arc::default(), Arc::default());
        let counters = self.sessions.counters();
        let teller = Teller::new((sink, backlog), (&cancelled, &ended), counters, permit);
        let common = Common { owner, keep, noting, origin, chain, place, deadline, held, teller };
        let accepted = Accepted { common, state, sampler, ids, work, ends, replay, verifies };
        self.send(Command::Job(Box::new(accepted)))?;
        counters.accepted.add(1);
        Ok(Ticket { cancelled, ended, detached: false })
    }

    /// Runs something with a reader of the model on the worker's thread, between two rounds. All
    /// streams wait for it, so it must be short. What it finds out it gives to its caller itself.
    ///
    /// # Errors
    /// [`JobError::Busy`] and [`JobError::Draining`] as for a job.
    pub fn run(&self, task: Box<dyn FnOnce(&mut Reader) + Send>) -> Result<(), JobError> {
        let permit = self.gate.enter()?;
        self.send(Command::Run(task, permit))
    }

    /// The model and its tokeniser.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The store that its sessions are in.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The counters, which all hosts of one store share.
    pub fn counters(&self) -> &Arc<Counters> {
        self.sessions.counters()
    }

    /// What it has to do now.
    pub fn load(&self) -> Load {
        let count = |of: &std::sync::atomic::AtomicUsize| of.load(Ordering::Relaxed);
        Load {
            waiting: count(&self.gate.waiting),
            reading: count(&self.gate.reading),
            writing: count(&self.gate.writing),
            streams: self.settings.streams,
        }
    }

    /// Takes no more jobs, and waits for those that it has. Those that run longer than `within` are
    /// ended where they are: what they keep is kept, with [`Finish::Interrupted`](crate::Finish), and
    /// those that have written nothing fail with [`JobError::Draining`]. Says how many these were. Not
    /// to be called by a sink, whose job it would wait for.
    pub fn drain(&self, within: Duration) -> usize {
        self.gate.close();
        let left = self.gate.wait(within);
        if left > 0 {
            self.gate.interrupt();
            // It may wait for a command.
            let _ = self.send(Command::Wake);
            self.gate.wait(Duration::MAX);
        }
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A sink may hold the last host.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        left
    }

    fn send(&self, command: Command) -> Result<(), JobError> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = commands.as_ref().ok_or(JobError::Draining)?;
        sender.send(command).map_err(|_| JobError::Draining)
    }

    /// Checks what does not depend on any state.
    fn check(&self, ids: &[u32], work: &Work, keep: &Keep) -> Result<(), JobError> {
        let vocab_size = self.engine.model().vocab_size();
        let continuations: &[Vec<u32>] = match work {
            Work::Score(Score { continuations, .. }) => continuations,
            Work::Write(_) | Work::Embed => &[],
        };
        let mut all = ids.iter().chain(continuations.iter().flatten());
        if let Some(&id) = all.find(|&&id| id as usize >= vocab_size) {
            let error = longhand_engine::ModelError::Token { id, vocab_size };
            return Err(EngineError::from(error).into());
        }
        if matches!(keep, Keep::Sealed { .. }) && self.sealer.is_none() {
            return Err(SealError::NoKeys.into());
        }
        match work {
            Work::Write(write) => self.check_write(write),
            Work::Embed => Ok(self.engine.model().network().map(|_| ())?),
            Work::Score(_) => Ok(()),
        }
    }

    fn check_write(&self, write: &Write) -> Result<(), JobError> {
        let most = self.settings.streams;
        if !(1..=most).contains(&write.branches) {
            let (value, allowed) =
                (write.branches.to_string(), "from 1 to the streams of the host");
            return Err(JobError::Setting { name: "the number of texts", value, allowed });
        }
        let penalties = [
            ("the presence penalty", write.presence_penalty),
            ("the frequency penalty", write.frequency_penalty),
        ];
        let biases = write.bias.iter().map(|&(_, bias)| ("a logit's bias", bias));
        for (name, value) in penalties.into_iter().chain(biases) {
            // Far from where a logit would not be finite any more.
            if !(-1e6..=1e6).contains(&value) {
                let (value, allowed) = (value.to_string(), "from -1,000,000 to 1,000,000");
                return Err(JobError::Setting { name, value, allowed });
            }
        }
        let vocab_size = self.engine.model().vocab_size();
        if let Some(&(id, _)) = write.bias.iter().find(|&&(id, _)| id as usize >= vocab_size) {
            let error = longhand_engine::ModelError::Token { id, vocab_size };
            return Err(EngineError::from(error).into());
        }
        if write.options.stop.iter().any(String::is_empty) {
            let (value, allowed) = ("empty".into(), "at least one character");
            return Err(JobError::Setting { name: "the stop text", value, allowed });
        }
        if write.memory_shares {
            // Refuses an n-gram model.
            self.engine.model().network()?;
        }
        if let Some(sampler) = &write.sampler {
            sampler.check()?;
        }
        Ok(())
    }

    /// Whether it falls to a restored state to be recomputed.
    fn verifies(&self) -> Result<bool, JobError> {
        if self.settings.verify == 0.0 {
            return Ok(false);
        }
        let point = u32::from_le_bytes(random()?);
        Ok(f64::from(point) < self.settings.verify * (f64::from(u32::MAX) + 1.0))
    }
}

impl HostSettings {
    fn check(&self) -> Result<(), JobError> {
        let refuse = |name, value: String, allowed| Err(JobError::Setting { name, value, allowed });
        if self.queue == 0 {
            return refuse("the length of the queue", "0".into(), "at least 1");
        }
        if self.prefill < CHUNK {
            let value = self.prefill.to_string();
            return refuse("the prompt tokens between two steps", value, "at least 128");
        }
        if !(0.0..=1.0).contains(&self.verify) {
            let value = self.verify.to_string();
            return refuse("the share of verified sessions", value, "from 0 to 1");
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
    }
}

impl Ticket {
    /// Gives the job up. Its places are free before the next decode step.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Lets the job run on without a ticket.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Whether the job has ended. Its last event may still be on its way.
    pub fn is_done(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.detached {
            self.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
