//! A job: what it reads, where it begins, what it writes and what is kept of it; and what it tells.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use longhand_engine::{FinishReason, GenerateOptions, Next, SamplerSettings, TokenMemory};

use crate::error::JobError;
use crate::name::{Name, Owner};
use crate::record::SessionInfo;

/// One request to a model.
pub struct Job {
    /// Whose sessions it may see, and who is charged for what is kept.
    pub owner: Owner,
    /// What was read before its own tokens.
    pub start: Start,
    /// The tokens to read.
    pub ids: Vec<u32>,
    /// What is made of them.
    pub work: Work,
    /// What is kept of the stream afterwards.
    pub keep: Keep,
    /// Looks for the beginning of the prompt in the state cache, and puts it there. Only where the
    /// job begins fresh. Default: true.
    pub cache: bool,
    /// When it is given up. Nothing is kept then. Default: never.
    pub deadline: Option<Instant>,
    /// Gives the note of the session that is kept, in place of [`KeepSession::note`], where it depends
    /// on what the job writes. Default: none.
    pub noting: Option<Noting>,
    /// Where the session that the job begins with only spares work: the tokens to begin an empty state
    /// with if it cannot be had; what is kept under its name then takes its place. Default: none, and the
    /// job fails without it.
    pub whole: Option<Whole>,
    /// Counts the events that nobody has taken yet, so that the job waits for whoever takes them.
    /// Default: none, and it waits for nobody.
    pub backlog: Option<Backlog>,
}

/// Where a job begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With an empty state.
    Fresh,
    /// Behind all that a session has read; the job's tokens are those of the turn.
    Session {
        /// Name of the session.
        name: Name,
        /// Whether an unknown name begins fresh. Otherwise it is an error.
        or_new: bool,
    },
    /// The job's tokens are the whole prompt. It begins with the newest checkpoint of the session
    /// whose tokens are the prompt's first ones, and reads only the others. Where none fits, and
    /// where there is no such session, it begins fresh.
    Prefix {
        /// Name of the session.
        name: Name,
    },
    /// With a sealed state, which [`Outcome::sealed`] gave.
    Sealed(Vec<u8>),
    /// With a snapshot, which [`Sessions::export`](crate::Sessions::export) gave.
    Snapshot(Vec<u8>),
}

/// What a job does after it has begun.
pub enum Work {
    /// Reads the tokens and writes others.
    Write(Write),
    /// Reads the tokens and scores what could follow them.
    Score(Score),
    /// Reads the tokens and gives the mean of the body's output.
    Embed,
}

/// How a text is written.
pub struct Write {
    /// How tokens are drawn. The k-th branch, counted from 0, draws with the seed plus k. Default: as
    /// the session did, or as the model folder says.
    pub sampler: Option<SamplerSettings>,
    /// When to stop, what the text must match, and what to tell of each token. With `max_tokens` 0
    /// the job only reads.
    pub options: GenerateOptions,
    /// How many texts are written. They share the reading of the prompt; what is kept is the first
    /// one of them. Default: 1.
    pub branches: usize,
    /// What is added to the logits of some tokens. Log-probabilities stay those of the model.
    pub bias: Vec<(u32, f32)>,
    /// Subtracted from the logit of each token that the text has (OpenAI's `presence_penalty`).
    pub presence_penalty: f32,
    /// Subtracted from a token's logit for each time that the text has it (`frequency_penalty`).
    pub frequency_penalty: f32,
    /// Gives a score of each of the job's tokens, with this many of the most probable ones. The
    /// state cache is not looked into then. Default: none.
    pub prompt_scores: Option<usize>,
    /// Tells of each token what share each kind of memory had in it. Each step is then taken three
    /// times more. Only a network has memories. Default: false.
    pub memory_shares: bool,
}

/// Texts to score, each after the same prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// The tokens of each text.
    pub continuations: Vec<Vec<u32>>,
    /// How many of the most probable tokens are given at each position.
    pub top: usize,
}

/// What is kept of a job's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// No state is kept of it.
    Nothing,
    /// The state under a name.
    Session(KeepSession),
    /// The state, given to the client in sealed form.
    Sealed {
        /// How long it can be given back. Default: for ever.
        ttl: Option<Duration>,
    },
}

/// How a session is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepSession {
    /// The session's name. If the job begins with that session, it is advanced. Otherwise this is
    /// another session, and the one that the job begins with stays as it is.
    pub name: Name,
    /// Time after its last use at which it expires. Default: what it was, or what the store says; a
    /// day for a hint.
    pub ttl: Option<Duration>,
    /// Bytes of the caller's own, saved in the same commit. Default: those it has.
    pub note: Option<Vec<u8>>,
    /// Whether another session of that name is replaced. Default: it is an error.
    pub replace: bool,
    /// Whether it only spares work. Where it cannot be kept, for want of room, by a fault of the store
    /// or because someone else has it, the job is done all the same, without [`Outcome::session`].
    /// Where its owner, or a store in memory, has no room for others, hints go, the longest unused
    /// first. A job without this, another name, a copy or a time to live makes a session as any other
    /// of it. Default: false.
    pub hint: bool,
}

/// Gives the caller's own bytes that are saved in one commit with a session's state.
///
/// It is called once the sink has had all events but the last one, with the number of tokens that
/// the session has read; on the thread of the store, so it must not block. It is not called where
/// no session is kept.
pub type Noting = Box<dyn FnOnce(u64) -> Vec<u8> + Send>;

/// Gives the tokens of all that a session has read, and of the turn behind it; none where they cannot be
/// had. It is called within [`Host::submit`](crate::Host::submit), on the caller's thread.
pub type Whole = Box<dyn FnOnce() -> Option<Vec<u32>> + Send + Sync>;

/// Events of a job that were told and not taken. While it is full the job reads and writes nothing, and
/// keeps its place; all other jobs go on. A clone counts the same events.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Events that make it full, where each scored token of an event counts as one.
    pub const MOST: usize = 1024;

    /// Whoever takes the events took this one.
    pub fn taken(&self, event: &Event) {
        let left = |count: usize| Some(count.saturating_sub(event.weight()));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    pub(crate) fn told(&self, event: &Event) {
        self.0.fetch_add(event.weight(), Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Self::MOST
    }
}

/// Takes the events of a job.
///
/// It is called on the worker's thread or on that of the store, so it must not block: a channel
/// without bounds, which a [`Backlog`] keeps short, or one whose overflow breaks the job off.
/// [`ControlFlow::Break`] cancels the job, and the sink is not called again.
pub type Sink = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// What a job tells. The last event is one [`Event::Done`] or one [`Event::Failed`].
#[derive(Debug)]
pub enum Event {
    /// It begins to read.
    Started {
        /// Tokens of the prompt, or of the session, that need not be read.
        reused: u64,
        /// Tokens that its state has read so far.
        position: u64,
    },
    /// A piece of the prompt was read.
    Read {
        /// How many of the tokens to read were read.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// Scores of the next of the job's tokens; all such events together have one for each.
    Prompt(Vec<TokenScore>),
    /// A token was written.
    Token {
        /// The branch, from 0.
        branch: usize,
        /// The token and its text.
        next: Next,
        /// What it came from, if the job asks for it. Of the first one, which the prompt led to,
        /// it is not known.
        memory: Option<TokenMemory>,
    },
    /// A branch is at its end.
    Ended {
        /// The branch, from 0.
        branch: usize,
        /// Why it ended here.
        finish: Finish,
        /// Text that had been withheld and is now given out.
        text: String,
    },
    /// A continuation was scored.
    Scored {
        /// Which one, from 0.
        continuation: usize,
        /// One score for each of its tokens.
        scores: Vec<TokenScore>,
    },
    /// `[D]`: the mean of the body's output over the tokens, not normalised.
    Embedding(Vec<f32>),
    /// The job has ended, and what it keeps is durable.
    Done(Box<Outcome>),
    /// The job has ended without a result, and nothing is kept.
    Failed(JobError),
}

impl Event {
    fn weight(&self) -> usize {
        match self {
            Self::Prompt(scores) | Self::Scored { scores, .. } => scores.len().max(1),
            _ => 1,
        }
    }
}

/// How probable a given token was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// Number of the token in the vocabulary.
    pub id: u32,
    /// ln p(token | all before it); none for a stream's first token, which nothing predicted.
    pub log_probability: Option<f32>,
    /// The most probable tokens with their log-probabilities, best first. Where the token itself is
    /// among them, its value has the bits of `log_probability`.
    pub top: Vec<(u32, f32)>,
}

/// Why a branch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// By the options of the generation.
    Reason(FinishReason),
    /// The host was stopped before its end.
    Interrupted,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Why each branch ended.
    pub finishes: Vec<Finish>,
    /// Tokens read, reused and written.
    pub usage: Usage,
    /// Tokens that the stream has read; of several branches, the first one's.
    pub position: u64,
    /// The session that was kept, if one was.
    pub session: Option<SessionInfo>,
    /// The sealed state, if one was asked for.
    pub sealed: Option<Vec<u8>>,
}

/// Tokens of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens before the first written one: those reused and those read.
    pub prompt: u64,
    /// Tokens that were in a state already.
    pub reused: u64,
    /// Tokens that the model read.
    pub read: u64,
    /// Tokens that a state now holds and that none held before: in a session, a sealed state or a
    /// checkpoint of the cache.
    pub cache_written: u64,
    /// Tokens written, of all branches.
    pub generated: u64,
}

impl Job {
    /// A job that begins fresh, looks into the cache, keeps nothing and has no time limit.
    pub fn new(owner: Owner, ids: Vec<u32>, work: Work) -> Self {
        let (start, keep) = (Start::Fresh, Keep::Nothing);
        let (deadline, noting, whole, backlog) = (None, None, None, None);
        Self { owner, start, ids, work, keep, cache: true, deadline, noting, whole, backlog }
    }
}

impl KeepSession {
    /// A session of that name, as it was or as the store says in all else.
    pub fn new(name: Name) -> Self {
        Self { name, ttl: None, note: None, replace: false, hint: false }
    }
}

impl Default for Write {
    fn default() -> Self {
        Self {
            sampler: None,
            options: GenerateOptions::default(),
            branches: 1,
            bias: Vec::new(),
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            prompt_scores: None,
            memory_shares: false,
        }
    }
}
