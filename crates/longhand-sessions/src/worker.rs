//! The worker of one model: a thread that reads prompts and writes texts.
//!
//! It goes in rounds. In each, first every text that is being written gets its next token, all in one
//! decode step; then prompts are read, in turns, a piece of at most 128 tokens each, as long as
//! the pieces of the round have at most [`HostSettings::prefill`](crate::HostSettings) tokens. So
//! between two decode steps no more prompt tokens are read than that, however long the prompts are
//! and however many, and no prompt waits for the whole of another.
//!
//! Jobs join and leave between rounds. Whatever happens to one of them, its places are free in
//! the round after it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use longhand_engine::{EngineError, Reader, Slot, Streams};

use crate::cache::StateCache;
use crate::counters::Counters;
use crate::error::JobError;
use crate::job::{Event, Finish, Work};
use crate::sealed::Sealer;
use crate::sessions::Sessions;

pub(crate) mod accepted;
mod finish;
pub(crate) mod gate;
mod reading;
pub(crate) mod verify;
mod writing;

use accepted::Accepted;
use finish::{Ended, Finisher};
use gate::{Gate, Permit};
use reading::{Progress, Reading};
use writing::{Settling, Writing};

/// What a host tells its worker.
pub(crate) enum Command {
    Job(Box<Accepted>),
    Run(Box<dyn FnOnce(&mut Reader) + Send>, Permit),
    /// Looks whether it was interrupted.
    Wake,
}

/// How long the worker sleeps where all jobs wait for whoever takes their events.
const STALL: Duration = Duration::from_millis(1);
/// Decode steps of one stream alone that a round does for streams that settle.
const STEPS: usize = 8;

pub(crate) struct Worker {
    reader: Reader,
    streams: Streams,
    cache: Arc<StateCache>,
    counters: Arc<Counters>,
    gate: Arc<Gate>,
    finisher: Finisher,
    /// The most prompt tokens of a round.
    prefill: usize,
    /// Jobs in the order of their coming.
    waiting: VecDeque<Accepted>,
    /// Prompts in the order of their turns.
    reading: VecDeque<Reading>,
    /// Prompts that were read and wait for places.
    ready: VecDeque<Reading>,
    writing: Vec<Writing>,
    settling: VecDeque<Settling>,
}

impl Worker {
    pub(crate) fn new(
        (reader, streams): (Reader, Streams),
        cache: &Arc<StateCache>,
        sessions: &Arc<Sessions>,
        sealer: Option<Arc<Sealer>>,
        gate: &Arc<Gate>,
        prefill: usize,
    ) -> Self {
        let counters = sessions.counters().clone();
        Self {
            reader,
            streams,
            cache: cache.clone(),
            counters,
            gate: gate.clone(),
            finisher: Finisher::new(sessions, sealer),
            prefill,
            waiting: VecDeque::new(),
            reading: VecDeque::new(),
            ready: VecDeque::new(),
            writing: Vec::new(),
            settling: VecDeque::new(),
        }
    }

    /// Works until no more jobs can come and none is left.
    pub(crate) fn work(mut self, commands: &Receiver<Command>) {
        loop {
            if self.is_idle() {
                match commands.recv() {
                    Ok(command) => self.take(command),
                    Err(_) => return,
                }
            } else if self.is_stalled()
                && let Ok(command) = commands.recv_timeout(STALL)
            {
                self.take(command);
            }
            while let Ok(command) = commands.try_recv() {
                self.take(command);
            }
            self.round();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Job(job) => self.waiting.push_back(*job),
            Command::Run(task, permit) => {
                task(&mut self.reader);
                drop(permit);
            }
            Command::Wake => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.reading.is_empty()
            && self.ready.is_empty()
            && self.writing.is_empty()
            && self.settling.is_empty()
    }

    /// Whether all that is left to do waits for whoever takes its events.
    fn is_stalled(&self) -> bool {
        let room = self.streams.capacity();
        let fits = |job: &Reading| match &job.work {
            Work::Write(write) => write.branches <= room - self.streams.len(),
            Work::Score(_) | Work::Embed => true,
        };
        self.settling.is_empty()
            && self.writing.iter().all(|job| job.common.teller.waits())
            && self.reading.iter().all(|job| job.common.teller.waits())
            && (self.waiting.is_empty() || self.reading.len() >= room)
            && !self.ready.front().is_some_and(fits)
    }

    fn round(&mut self) {
        if self.gate.is_interrupted() {
            self.interrupt();
        }
        self.drop_given_up();
        self.start_writing();
        self.step();
        self.settle();
        self.read();
        self.tell_load();
    }

    /// Ends jobs that nobody waits for any more, and those whose time is over.
    fn drop_given_up(&mut self) {
        for job in drain_if(&mut self.waiting, |job| job.common.given_up().is_some()) {
            fail(job.common, None);
        }
        for queue in [&mut self.reading, &mut self.ready] {
            for job in drain_if(queue, |job| job.common.given_up().is_some()) {
                fail(job.common, None);
            }
        }
        for job in drain_if(&mut self.settling, |job| job.writing.common.given_up().is_some()) {
            fail(job.writing.common, None);
        }
        let mut at = 0;
        while at < self.writing.len() {
            if self.writing[at].common.given_up().is_some() {
                let mut job = self.writing.swap_remove(at);
                job.abandon(&mut self.streams);
                fail(job.common, None);
            } else {
                at += 1;
            }
        }
    }

    /// Ends all jobs: those that write are kept where they are, the others have nothing to keep.
    fn interrupt(&mut self) {
        self.waiting.drain(..).for_each(|job| fail(job.common, Some(JobError::Draining)));
        let reading = self.reading.drain(..).chain(self.ready.drain(..));
        reading.for_each(|job| fail(job.common, Some(JobError::Draining)));
        self.writing.iter_mut().for_each(Writing::interrupt);
    }

    /// Moves jobs whose prompt is read into the batch, in their order.
    fn start_writing(&mut self) {
        while let Some(job) = self.ready.front()
            && let Work::Write(write) = &job.work
            && write.branches <= self.streams.capacity() - self.streams.len()
            && let Some(job) = self.ready.pop_front()
        {
            let Reading { common, session, work, usage, turn, .. } = job;
            let Work::Write(write) = work else { return };
            match Writing::begin(common, session, write, (usage, turn), &mut self.streams) {
                Ok(writing) => self.writing.push(writing),
                Err(failed) => fail(failed.0, Some(failed.1)),
            }
        }
    }

    /// Draws the next token of each text, and reads them all in one decode step.
    fn step(&mut self) {
        let mut at = 0;
        while at < self.writing.len() {
            // A stream whose reader is slow stays where it is.
            let drawn = match self.writing[at].common.teller.waits() {
                true => Ok(()),
                false => self.writing[at].draw(&self.streams, &self.counters),
            };
            at = self.go_on(at, drawn);
        }
        self.decode();
        at = 0;
        while at < self.writing.len() {
            match self.writing[at].leave(&mut self.streams) {
                Ok(Some(session)) => {
                    let settled = self.writing.swap_remove(at).settle(session);
                    match settled {
                        Ok(settling) => self.settling.push_back(settling),
                        Err(failed) => fail(failed.0, Some(failed.1)),
                    }
                }
                Ok(None) => at += 1,
                Err(error) => at = self.go_on(at, Err(error)),
            }
        }
    }

    /// One decode step of all streams that have a token to read.
    fn decode(&mut self) {
        self.silence();
        let mut work: Vec<(usize, Slot, u32)> = Vec::new();
        for (job, writing) in self.writing.iter_mut().enumerate() {
            for branch in &mut writing.branches {
                if let (Some(slot), Some(id)) = (branch.slot, branch.pending.take()) {
                    work.push((job, slot, id));
                }
            }
        }
        if work.is_empty() {
            return;
        }
        self.counters.steps.add(1);
        self.counters.step_rows.add(work.len() as u64);
        let all: Vec<(Slot, &[u32])> =
            work.iter().map(|(_, slot, id)| (*slot, std::slice::from_ref(id))).collect();
        if self.streams.step(&all).is_ok() {
            return;
        }
        // Nothing was read. Whichever job causes it ends, the others go on.
        let mut failed: Vec<(usize, EngineError)> = Vec::new();
        for (job, slot, id) in &work {
            if let Err(error) = self.streams.step(&[(*slot, std::slice::from_ref(id))]) {
                failed.push((*job, error));
            }
        }
        failed.dedup_by_key(|(job, _)| *job);
        // From the last one: removing a job moves only those behind it.
        for (job, error) in failed.into_iter().rev() {
            self.go_on(job, Err(error.into()));
        }
    }

    /// Takes the next step of each stream whose memories are told of, once with each of them silenced.
    /// The streams stay as they are.
    fn silence(&mut self) {
        let mut at = 0;
        while at < self.writing.len() {
            let silenced = self.writing[at].silence(&mut self.streams);
            at = self.go_on(at, silenced);
        }
    }

    /// Ends a job that writes if it failed, and gives the place of the next one.
    fn go_on(&mut self, at: usize, outcome: Result<(), JobError>) -> usize {
        match outcome {
            Ok(()) => at + 1,
            Err(error) => {
                let mut job = self.writing.swap_remove(at);
                job.abandon(&mut self.streams);
                fail(job.common, Some(error));
                at
            }
        }
    }

    /// Reads what is missing in streams that have ended, a few steps in each round.
    fn settle(&mut self) {
        let mut steps = STEPS;
        while let Some(mut job) = self.settling.pop_front() {
            let mut outcome = Ok(());
            while outcome.is_ok()
                && steps > 0
                && let Some(id) = job.steps.pop()
            {
                steps -= 1;
                outcome = job.session.step(&mut self.reader, id);
            }
            if outcome.is_ok() && !job.steps.is_empty() {
                self.settling.push_front(job);
                return;
            }
            let Settling { writing, mut session, tail, .. } = job;
            if outcome.is_ok() && !tail.is_empty() {
                outcome = session.read(&mut self.reader, &tail);
            }
            let finishes = writing.finishes();
            let Writing { common, usage, turn, .. } = writing;
            match outcome {
                Ok(()) => self.finisher.finish(Ended { common, session, usage, turn, finishes }),
                Err(error) => fail(common, Some(error.into())),
            }
        }
    }

    /// Reads pieces of prompts, in turns.
    fn read(&mut self) {
        let mut spent = 0;
        loop {
            // As many prompts at a time as there are places: each has a state of its own.
            while self.reading.len() < self.streams.capacity()
                && let Some(job) = self.waiting.pop_front()
            {
                let parts = (self.reader.engine(), &self.finisher.sessions.shelf);
                match Reading::begin(job, parts, &self.cache) {
                    Ok(reading) => self.reading.push_back(reading),
                    Err(failed) => fail(failed.0, Some(failed.1)),
                }
            }
            let Some(at) = self.reading.iter().position(|job| !job.common.teller.waits()) else {
                return;
            };
            let next = self.reading.get(at).map_or(0, Reading::next_piece);
            if spent > 0 && spent + next > self.prefill {
                return;
            }
            let Some(mut job) = self.reading.remove(at) else { return };
            spent += next.max(1);
            let before = job.session.position();
            let progress = job.read(&mut self.reader, &self.cache, &self.counters);
            self.counters.tokens_read.add(job.session.position().saturating_sub(before));
            match progress {
                Ok(Progress::More) => self.reading.push_back(job),
                Ok(Progress::Write) => self.written(job),
                Ok(Progress::Done) => self.end(job, Vec::new()),
                Err(error) => fail(job.common, Some(error)),
            }
        }
    }

    /// A job whose prompt is read: it waits for places, or has nothing to write.
    fn written(&mut self, mut job: Reading) {
        let Work::Write(write) = &job.work else { return self.end(job, Vec::new()) };
        if write.options.max_tokens > 0 {
            self.ready.push_back(job);
            return;
        }
        let finish = Finish::Reason(longhand_engine::FinishReason::Length);
        let finishes = vec![finish.clone(); write.branches];
        for branch in 0..finishes.len() {
            let (finish, text) = (finish.clone(), String::new());
            job.common.teller.tell(Event::Ended { branch, finish, text });
        }
        self.end(job, finishes);
    }

    fn end(&mut self, job: Reading, finishes: Vec<Finish>) {
        let Reading { common, session, usage, turn, .. } = job;
        self.finisher.finish(Ended { common, session, usage, turn, finishes });
    }

    fn tell_load(&self) {
        self.gate.waiting.store(self.waiting.len(), Ordering::Relaxed);
        self.gate.reading.store(self.reading.len() + self.ready.len(), Ordering::Relaxed);
        self.gate.writing.store(self.streams.len(), Ordering::Relaxed);
        self.counters.streams.set(self.streams.len() as u64);
    }
}

/// Takes the elements out that a test holds for.
fn drain_if<T>(queue: &mut VecDeque<T>, test: impl Fn(&T) -> bool) -> Vec<T> {
    if !queue.iter().any(&test) {
        return Vec::new();
    }
    let (out, rest): (Vec<T>, Vec<T>) = std::mem::take(queue).into_iter().partition(test);
    *queue = rest.into();
    out
}

/// Ends a job without a result: by an error, or because it was given up.
fn fail(common: accepted::Common, error: Option<JobError>) {
    let error = error.or_else(|| common.given_up()).unwrap_or(JobError::Cancelled);
    let accepted::Common { teller, place, held, .. } = common;
    // The right to its session goes back first: whoever hears of the end may go on at once.
    drop((place, held));
    teller.failed(error);
}
