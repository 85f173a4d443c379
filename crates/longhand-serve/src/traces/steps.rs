//! The steps of a job as spans, from the times of its events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use longhand_sessions::{Event, Job, JobError, Keep, Start, Usage};
use opentelemetry::KeyValue;

use super::Trace;

/// When the steps of a job were; nothing where its request is not traced. A clone notes the same job;
/// the spans are made at its end.
#[derive(Clone)]
pub(crate) struct StepTimes(Option<Arc<Mutex<Option<Steps>>>>);

struct Steps {
    request: Trace,
    model: String,
    /// Whether it begins with a state that is kept, and whether it keeps one.
    loads: bool,
    keeps: bool,
    /// The same moment on both clocks: of the one that may be set only the first reading counts.
    begun: (SystemTime, Instant),
    loaded: Option<Instant>,
    reading: Option<Instant>,
    first_token: Option<Instant>,
    /// The last event before the end.
    last: Option<Instant>,
    reused: u64,
    written: u64,
    end: Result<(Usage, u64), &'static str>,
}

impl StepTimes {
    /// The times of a job that is about to be given in.
    pub(crate) fn of(request: &Trace, model: &str, job: &Job) -> Self {
        if !request.is_recorded() {
            return Self(None);
        }
        let steps = Steps {
            request: request.clone(),
            model: model.to_owned(),
            loads: job.start != Start::Fresh,
            keeps: job.keep != Keep::Nothing,
            begun: (SystemTime::now(), Instant::now()),
            loaded: None,
            reading: None,
            first_token: None,
            last: None,
            reused: 0,
            written: 0,
            // What ends without a word was given up.
            end: Err("cancelled"),
        };
        Self(Some(Arc::new(Mutex::new(Some(steps)))))
    }

    /// The state that it begins with was found, and it waits for its turn.
    pub(crate) fn loaded(&self) {
        self.note(|steps, now| steps.loaded = Some(now));
    }

    /// It was not taken.
    pub(crate) fn refused(&self, error: &JobError) {
        self.ended(Err(kind(error)));
    }

    /// It told something.
    pub(crate) fn event(&self, event: &Event) {
        match event {
            Event::Done(outcome) => return self.ended(Ok((outcome.usage, outcome.position))),
            Event::Failed(error) => return self.ended(Err(kind(error))),
            _ => {}
        }
        self.note(|steps, now| match event {
            Event::Started { reused, .. } => {
                (steps.reading, steps.reused) = (Some(now), *reused);
            }
            Event::Token { .. } => {
                steps.first_token.get_or_insert(now);
                (steps.last, steps.written) = (Some(now), steps.written + 1);
            }
            _ => steps.last = Some(now),
        });
    }

    fn note(&self, note: impl FnOnce(&mut Steps, Instant)) {
        if let Some(mut place) = self.place()
            && let Some(steps) = &mut *place
        {
            note(steps, Instant::now());
        }
    }

    fn ended(&self, end: Result<(Usage, u64), &'static str>) {
        let steps = self.place().and_then(|mut place| place.take());
        if let Some(mut steps) = steps {
            steps.end = end;
        }
    }

    fn place(&self) -> Option<MutexGuard<'_, Option<Steps>>> {
        let place = self.0.as_ref()?;
        Some(place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let now = Instant::now();
        let job = self.request.begin("job", self.time(self.begun.1));
        let fault = self.end.err();
        let (usage, position) = self.end.unwrap_or_default();
        let step = |name, from: Instant, to: Instant, counts: &[(&'static str, u64)]| {
            let counts = counts.iter().map(|&(name, count)| number(name, count));
            job.begin(name, self.time(from)).end(self.time(to.max(from)), counts, None);
        };
        // The worker may have begun before whoever gave the job in has noted it.
        let loaded = self.loaded.or(self.reading).unwrap_or(now);
        let loaded = self.reading.map_or(loaded, |reading| loaded.min(reading));
        if self.loads {
            step("session.load", self.begun.1, loaded, &[("longhand.tokens.reused", self.reused)]);
        }
        if self.loaded.is_some() || self.reading.is_some() {
            step("queue", loaded, self.reading.unwrap_or(now), &[]);
        }
        let last = self.last.unwrap_or(now);
        if let Some(reading) = self.reading {
            let until = self.first_token.unwrap_or(last);
            step("prefill", reading, until, &[("longhand.tokens.read", usage.read)]);
        }
        if let Some(first) = self.first_token {
            step("decode", first, last, &[("longhand.tokens.written", self.written)]);
        }
        if self.keeps && fault.is_none() {
            step("session.save", last, now, &[("longhand.tokens.position", position)]);
        }
        let attributes = [
            KeyValue::new("gen_ai.request.model", self.model.clone()),
            number("gen_ai.usage.input_tokens", usage.prompt),
            number("gen_ai.usage.output_tokens", self.written.max(usage.generated)),
            number("gen_ai.usage.cache_read.input_tokens", self.reused),
            number("gen_ai.usage.cache_creation.input_tokens", usage.cache_written),
        ];
        job.end(self.time(now), attributes, fault);
    }
}

impl Steps {
    /// A moment as the time of day.
    fn time(&self, at: Instant) -> SystemTime {
        self.begun.0 + at.saturating_duration_since(self.begun.1)
    }
}

fn number(name: &'static str, count: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX))
}

/// The kind of an error. Its message could hold the name of a session.
fn kind(error: &JobError) -> &'static str {
    match error {
        JobError::Busy { .. } | JobError::Memory { .. } => "busy",
        JobError::Draining => "draining",
        JobError::Deadline => "deadline",
        JobError::Cancelled => "cancelled",
        JobError::Session(_) => "session",
        JobError::Seal(_) => "sealed_state",
        JobError::Engine(_) => "model",
        _ => "invalid",
    }
}
