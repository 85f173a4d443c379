//! Jobs on their way through a model's host.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use longhand_sessions::{Backlog, Event, Host, Job, JobError, Outcome, Sink, Ticket, TokenScore};
use tokio::sync::mpsc;

use crate::app::App;
use crate::auth::Caller;
use crate::charge::Charge;
use crate::error::ApiError;
use crate::models::Language;
use crate::sse::{Gone, PING, Writer};
use crate::traces::StepTimes;

/// What the first text of a job says so far.
pub(crate) type Said = Arc<Mutex<String>>;

/// A job that runs. Dropped, it is cancelled, and its slot is free before the next step.
pub(crate) struct Running {
    events: mpsc::UnboundedReceiver<Event>,
    /// Has the job wait while too many events do.
    backlog: Backlog,
    /// Cancels the job when the last one that has it drops it.
    ticket: Arc<Ticket>,
}

impl Running {
    /// Hands a job to a model. It has the time of a whole request, or until a deadline of its own.
    ///
    /// # Errors
    /// What the host refuses: a full queue, a session in use, a setting out of range.
    pub(crate) async fn start(
        app: &App,
        caller: &Caller,
        language: &Language,
        job: Job,
    ) -> Result<Self, ApiError> {
        Self::start_noted(app, caller, language, job, None).await
    }

    /// As [`Running::start`], with a place for what is said, which a job's `noting` reads.
    ///
    /// # Errors
    /// Those of [`Running::start`], for the same causes.
    pub(crate) async fn start_noted(
        app: &App,
        caller: &Caller,
        language: &Language,
        mut job: Job,
        said: Option<Said>,
    ) -> Result<Self, ApiError> {
        app.models_for_work()?;
        job.deadline.get_or_insert_with(|| app.deadline());
        let backlog = Backlog::default();
        job.backlog = Some(backlog.clone());
        let (sender, events) = mpsc::unbounded_channel();
        let client = sender.clone();
        let times = StepTimes::of(&caller.trace, &language.name, &job);
        let told = times.clone();
        let mut charge = Charge::of(&job.work, &caller.rate, app.metrics());
        let witness = language.liveness.witness();
        let sink: Sink = Box::new(move |event| {
            // It is dropped with the sink.
            let _ = &witness;
            charge.event(&event);
            told.event(&event);
            if let Some(said) = &said {
                hear(said, &event);
            }
            match sender.send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let host: Arc<Host> = language.host.clone();
        // A session's state may come from a disk or over a network.
        let submitted = blocking(move || {
            if client.is_closed() {
                // Its client left while the job waited for a thread.
                return Ok(Err(JobError::Cancelled));
            }
            let submitted = host.submit(job, sink);
            match &submitted {
                Ok(_) => times.loaded(),
                Err(error) => times.refused(error),
            }
            Ok(submitted)
        })
        .await?;
        let takes_work = app.models_for_work().is_ok();
        let ticket = submitted.map_err(|error| language.refused(error, takes_work))?;
        Ok(Self { events, backlog, ticket: Arc::new(ticket) })
    }

    /// The right to the job, for whoever may give it up too.
    pub(crate) fn ticket(&self) -> Arc<Ticket> {
        self.ticket.clone()
    }

    /// Waits for the next event of the job.
    ///
    /// # Errors
    /// What the job failed with.
    pub(crate) async fn next(&mut self) -> Result<Event, ApiError> {
        let event = self.events.recv().await;
        self.taken(event)
    }

    /// The next event of the job, where it has come already.
    pub(crate) fn next_waiting(&mut self) -> Option<Result<Event, ApiError>> {
        let event = self.events.try_recv().ok()?;
        Some(self.taken(Some(event)))
    }

    /// An event of the job, or why there is none.
    fn taken(&self, event: Option<Event>) -> Result<Event, ApiError> {
        // Only a panic drops a job without a word.
        let what = "the answer was broken off by a fault of the server: ask again";
        let event = event.ok_or_else(|| ApiError::internal(what))?;
        self.backlog.taken(&event);
        match event {
            Event::Failed(error) => Err(error.into()),
            event => Ok(event),
        }
    }

    /// The next event but for those that only say that the prompt is being read: of these, and of
    /// time that passes, the client gets comments.
    ///
    /// # Errors
    /// [`Gone`] if the client has left.
    pub(crate) async fn next_streamed(
        &mut self,
        writer: &Writer,
    ) -> Result<Result<Event, ApiError>, Gone> {
        loop {
            match tokio::time::timeout(PING, self.next()).await {
                Err(_) => writer.comment("ping").await?,
                Ok(Ok(Event::Read { done, of })) => {
                    writer
                        .comment(&format!("{done} of {of} tokens of the prompt are read"))
                        .await?;
                }
                Ok(event) => return Ok(event),
            }
        }
    }

    /// Waits for the end of a job that writes nothing.
    ///
    /// # Errors
    /// What the job failed with.
    pub(crate) async fn finish(&mut self) -> Result<Answered, ApiError> {
        let (mut scores, mut embedding) = (Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                Event::Scored { continuation, scores: found } => scores.push((continuation, found)),
                Event::Embedding(found) => embedding = found,
                Event::Done(outcome) => {
                    scores.sort_by_key(|(continuation, _)| *continuation);
                    let scores = scores.into_iter().map(|(_, scores)| scores).collect();
                    return Ok(Answered { scores, embedding, outcome });
                }
                _ => {}
            }
        }
    }
}

/// Adds what an event says in the first text.
fn hear(said: &Said, event: &Event) {
    let text = match event {
        Event::Token { branch: 0, next, .. } => &next.text,
        Event::Ended { branch: 0, text, .. } => text,
        _ => return,
    };
    said.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
}

/// What a job gave that writes nothing.
pub(crate) struct Answered {
    /// For each continuation the scores of its tokens.
    pub(crate) scores: Vec<Vec<TokenScore>>,
    /// `[D]`, empty where none was asked for.
    pub(crate) embedding: Vec<f32>,
    /// What was read, as text.
    pub(crate) outcome: Box<Outcome>,
}

/// Runs what may wait for a disk, away from the threads that serve connections.
///
/// # Errors
/// Those of `work`; [`ApiError::Internal`] if it panicked.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, ApiError> + Send + 'static,
) -> Result<R, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}
