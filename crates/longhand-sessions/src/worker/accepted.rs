//! A job inside a host: what it is to do, and whom it tells.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use longhand_engine::{Engine, SamplerSettings, Session};

use super::gate::Permit;
use crate::cache::Ends;
use crate::chain::Chain;
use crate::counters::Counters;
use crate::error::JobError;
use crate::history::History;
use crate::job::{Backlog, Event, Keep, Noting, Outcome, Sink, Work};
use crate::lru::bytes_of;
use crate::name::Owner;
use crate::sessions::begin::{Origin, Place};
use crate::sessions::shelf::{Held, Shelf};

/// A job whose state has been found.
pub(crate) struct Accepted {
    pub(crate) common: Common,
    /// The state that it begins with; none for an empty one, which is made when its turn comes.
    pub(crate) state: Option<Arc<Session>>,
    /// How it draws tokens; none as the state does.
    pub(crate) sampler: Option<SamplerSettings>,
    pub(crate) ids: Vec<u32>,
    pub(crate) work: Work,
    /// Where the state cache may be looked into: the ends of the prompt's passes.
    pub(crate) ends: Option<Ends>,
    /// The passes that led to the state, if it is to be recomputed.
    pub(crate) replay: Option<History>,
    /// Whether a state of the cache is to be.
    pub(crate) verifies: bool,
}

/// What a job has from its acceptance to its end.
pub(crate) struct Common {
    pub(crate) owner: Owner,
    pub(crate) keep: Keep,
    pub(crate) noting: Option<Noting>,
    pub(crate) origin: Origin,
    /// Of the tokens read before the job's own.
    pub(crate) chain: Option<Chain>,
    pub(crate) place: Option<Place>,
    pub(crate) deadline: Option<Instant>,
    /// Counts its state among those in memory, until it is in a batch.
    pub(crate) held: Option<Held>,
    pub(crate) teller: Teller,
}

/// Whom a job tells. Its end gives the job's place in the host back.
pub(crate) struct Teller {
    /// None after the sink broke off.
    sink: Option<Sink>,
    backlog: Option<Backlog>,
    cancelled: Arc<AtomicBool>,
    pub(crate) ended: Arc<AtomicBool>,
    counters: Arc<Counters>,
    pub(crate) accepted: Instant,
    /// The last field: whoever waits for the end of all jobs finds their sinks dropped.
    _permit: Permit,
}

impl Accepted {
    /// Makes the state that the job reads with.
    pub(crate) fn session(
        &mut self,
        engine: &Arc<Engine>,
        shelf: &Arc<Shelf>,
    ) -> Result<Session, JobError> {
        let Some(state) = self.state.take() else {
            let settings = self.sampler.unwrap_or(engine.generation().sampler);
            let session = engine.session(settings)?;
            // What has its turn is counted and never refused.
            self.common.held = shelf.hold(bytes_of(&session), usize::MAX);
            return Ok(session);
        };
        let mut session = Arc::unwrap_or_clone(state);
        if let Some(settings) = self.sampler {
            session.set_sampler(settings)?;
        }
        Ok(session)
    }
}

impl Common {
    /// Why the job must end now, if it must.
    pub(crate) fn given_up(&self) -> Option<JobError> {
        if self.teller.is_cancelled() {
            return Some(JobError::Cancelled);
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        late.then_some(JobError::Deadline)
    }
}

impl Teller {
    pub(crate) fn new(
        (sink, backlog): (Sink, Option<Backlog>),
        (cancelled, ended): (&Arc<AtomicBool>, &Arc<AtomicBool>),
        counters: &Arc<Counters>,
        permit: Permit,
    ) -> Self {
        Self {
            sink: Some(sink),
            backlog,
            cancelled: cancelled.clone(),
            ended: ended.clone(),
            counters: counters.clone(),
            accepted: Instant::now(),
            _permit: permit,
        }
    }

    /// Tells an event, and cancels the job if nobody listens.
    pub(crate) fn tell(&mut self, event: Event) {
        if let Some(backlog) = &self.backlog {
            backlog.told(&event);
        }
        if let Some(sink) = &mut self.sink
            && let ControlFlow::Break(()) = sink(event)
        {
            self.sink = None;
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the job waits for whoever takes its events.
    pub(crate) fn waits(&self) -> bool {
        self.backlog.as_ref().is_some_and(Backlog::is_full)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Tells the result, and ends the job.
    pub(crate) fn done(mut self, outcome: Outcome) {
        self.counters.finished.add(1);
        self.ended.store(true, Ordering::Relaxed);
        self.tell(Event::Done(Box::new(outcome)));
    }

    /// Tells why there is no result, and ends the job.
    pub(crate) fn failed(mut self, error: JobError) {
        let counter = match error {
            JobError::Cancelled => &self.counters.cancelled,
            JobError::Deadline => &self.counters.deadline,
            _ => &self.counters.failed,
        };
        counter.add(1);
        self.ended.store(true, Ordering::Relaxed);
        self.tell(Event::Failed(error));
    }
}
