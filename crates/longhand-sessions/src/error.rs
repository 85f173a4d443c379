//! Why a job, a session or a sealed state is refused.

use std::time::Duration;

use longhand_engine::{EngineError, SamplerError, SnapshotError, StreamsError};

/// Why a job was not accepted, or ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// As many jobs as the host takes are waiting or running.
    #[error("the model is busy with as many requests as it takes: ask again in {wait:?}")]
    Busy {
        /// After this time a place is probably free.
        wait: Duration,
    },
    /// The states of jobs that wait leave no memory for the state that this one begins with.
    #[error("the states of waiting requests fill the memory for states: ask again in {wait:?}")]
    Memory {
        /// After this time some of it is probably free.
        wait: Duration,
    },
    /// The host takes no more jobs, because it is being stopped.
    #[error("the server is being stopped: ask another one, or this one after its restart")]
    Draining,
    /// The job's time is over.
    #[error("the request took longer than its time limit: ask for less, or raise the limit")]
    Deadline,
    /// The job was given up by whoever asked for it.
    #[error("the request was cancelled")]
    Cancelled,
    /// A setting out of its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Setting {
        /// Name of the refused setting.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The allowed values, in words.
        allowed: &'static str,
    },
    /// Neither a prompt nor a session.
    #[error("there is nothing to continue: give a prompt, or a session that has read something")]
    NothingToRead,
    /// The session it begins with or is kept in.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The sealed state it begins with.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The model, its tokeniser or its sampler.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a session cannot be read, changed or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A name that is not one.
    #[error("{what} is `{value}`, but must be {allowed}")]
    Name {
        /// What has the name.
        what: &'static str,
        /// The beginning of the name that was given.
        value: String,
        /// The allowed names, in words.
        allowed: &'static str,
    },
    /// There is none of this name, or it is another owner's, or it has expired.
    #[error("there is no session `{name}`: it was never begun, was erased, or has expired")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// A name that is taken.
    #[error("there is a session `{name}` already: choose another name, or erase that one")]
    Exists {
        /// The name that is taken.
        name: String,
    },
    /// A session that is being advanced or changed.
    #[error("the session `{name}` is in use by another request: wait until that one has ended")]
    InUse {
        /// Name of the session.
        name: String,
    },
    /// A session of another model.
    #[error(
        "the session `{name}` belongs to another model ({got:.12}…, this one is {expected:.12}…): \
         name the model that it was begun with"
    )]
    OtherModel {
        /// Name of the session.
        name: String,
        /// Hash of the model that was asked to continue it.
        expected: String,
        /// Hash of the session's model.
        got: String,
    },
    /// A position without a checkpoint.
    #[error(
        "the session `{name}` has no checkpoint at position {position}: it can go back to {have}"
    )]
    NoCheckpoint {
        /// Name of the session.
        name: String,
        /// The position that was asked for.
        position: u64,
        /// The positions that have one.
        have: String,
    },
    /// More than an owner may have.
    #[error(
        "this would be more than the {limit} {what} that one key may keep: erase some sessions"
    )]
    Quota {
        /// What is counted: sessions or bytes.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// The disk, or the server's memory, is full.
    #[error("there is no space left to keep sessions ({what}): those that are kept can be read")]
    Full {
        /// The message of the system or the server.
        what: String,
    },
    /// More than a store in memory may hold.
    #[error("the sessions in memory would have more than {limit} bytes together: erase some")]
    Memory {
        /// How many there may be.
        limit: u64,
    },
    /// A session that is not whole any more.
    #[error("the session `{name}` is damaged ({what}): erase it and begin again")]
    Damaged {
        /// Name of the session.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another server took the session over.
    #[error("another server has taken over the session `{name}`: ask again")]
    LeaseLost {
        /// Name of the session.
        name: String,
    },
    /// A snapshot from outside that is not usable.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// What is noted in a snapshot from outside does not fit it.
    #[error("what is noted in the snapshot does not fit its session: export it again")]
    Note,
    /// A snapshot that this program would write otherwise.
    #[error("the snapshot was altered or written by another program: export it again")]
    Altered,
    /// Bytes from outside that are too many.
    #[error("{bytes} bytes are too many: at most {limit} are taken")]
    TooLarge {
        /// How many were given.
        bytes: u64,
        /// How many are taken.
        limit: u64,
    },
    /// A setting out of its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Setting {
        /// Name of the refused setting.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The allowed values, in words.
        allowed: &'static str,
    },
    /// The database or the shared store does not answer as it should.
    #[error("the sessions cannot be reached ({what})")]
    Storage {
        /// The message of what failed.
        what: String,
    },
}

/// Why a sealed state is refused, or cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Bytes that are no sealed state.
    #[error("these bytes are no sealed state of a session ({0}): give them back as they came")]
    Form(&'static str),
    /// A key that this server does not have.
    #[error("the state was sealed with the key `{id}`, which this server does not have (any more)")]
    UnknownKey {
        /// The id of the key, as the state names it.
        id: String,
    },
    /// Altered bytes, or another owner's.
    #[error("the sealed state was altered, or belongs to another owner: give it back as it came")]
    Authentication,
    /// A state that is too old.
    #[error("the sealed state has expired: begin again")]
    Expired,
    /// A state of another model.
    #[error("the sealed state belongs to another model or tokeniser: name the model it came from")]
    OtherModel,
    /// Keys that cannot be used.
    #[error("the keys for sealing cannot be used: {0}")]
    Keys(String),
    /// This server has no keys.
    #[error("this server has no keys for sealing, so it neither gives nor takes sealed states")]
    NoKeys,
    /// The sealed snapshot is not usable.
    #[error(transparent)]
    Snapshot(SnapshotError),
}

impl From<SamplerError> for JobError {
    fn from(error: SamplerError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<StreamsError> for JobError {
    fn from(error: StreamsError) -> Self {
        Self::Engine(error.into())
    }
}
