//! What the store knows of a session beside its states.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::clock::milliseconds;
use crate::error::SessionError;
use crate::name::{Name, Owner};

/// The version of the records that this program writes and reads.
const VERSION: u32 = 1;
/// Bytes of the hash behind a record.
const HASH: usize = 32;
/// Bytes before those of a document: when it expires, in milliseconds since 1970; 0 is never.
pub(crate) const EXPIRES: usize = 8;

/// A number for each stored state, history or note; random, so that several servers need not agree.
pub(crate) type BlobId = u128;

/// A session as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// Its name among those of its owner.
    pub name: Name,
    /// Hash of its model.
    pub model: String,
    /// Hash of its tokeniser.
    pub tokenizer: String,
    /// Tokens that it has read.
    pub position: u64,
    /// How many jobs have advanced it.
    pub turns: u64,
    /// Bytes that it takes in the store, with its checkpoints.
    pub bytes: u64,
    /// When it was begun, in seconds since 1970.
    pub created: u64,
    /// When it was last advanced or changed, in seconds since 1970.
    pub used: u64,
    /// When it expires, in seconds since 1970, if it does.
    pub expires: Option<u64>,
    /// Where it can go back to, oldest first; the last one is where it is.
    pub checkpoints: Vec<Checkpoint>,
}

/// A place that a session can go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// Tokens that the session has read there.
    pub position: u64,
    /// Bytes of its state.
    pub bytes: u64,
}

/// What an owner has in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// How many sessions, expired ones included.
    pub sessions: u64,
    /// Bytes of the sessions, their checkpoints and notes, and of documents.
    pub bytes: u64,
}

/// A session in the store. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    pub(crate) owner: Owner,
    pub(crate) name: Name,
    pub(crate) model: String,
    pub(crate) tokenizer: String,
    pub(crate) created: u64,
    pub(crate) used: u64,
    /// Time after the last use at which it expires.
    pub(crate) ttl: Option<u64>,
    /// Oldest first, never empty; the last one is the session's state.
    pub(crate) saved: Vec<Saved>,
    /// The passes of each turn, if all are known and short enough.
    pub(crate) history: Option<Vec<Segment>>,
    pub(crate) note: Option<Blob>,
    /// Whether it only spares work, and makes room for others. It has a time to live then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hint: bool,
}

/// A state in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    pub(crate) position: u64,
    pub(crate) turns: u64,
    pub(crate) state: Blob,
    /// The tokens read, if all are known.
    pub(crate) chain: Option<Chain>,
    /// How many segments of the history lead to it.
    pub(crate) segments: usize,
}

/// The passes of a turn in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    pub(crate) passes: Blob,
    pub(crate) tokens: u64,
}

/// Bytes in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blob {
    pub(crate) id: BlobId,
    pub(crate) bytes: u64,
}

impl Record {
    /// A session without states, which does not exist before it has one.
    pub(crate) fn new(owner: &Owner, name: &Name, model: (&str, &str), now: u64) -> Self {
        Self {
            version: VERSION,
            owner: owner.clone(),
            name: name.clone(),
            model: model.0.to_owned(),
            tokenizer: model.1.to_owned(),
            created: now,
            used: now,
            ttl: None,
            saved: Vec::new(),
            history: Some(Vec::new()),
            note: None,
            hint: false,
        }
    }

    /// Makes a session as any other of a hint, with this time to live: somebody wants it kept.
    pub(crate) fn claim(&mut self, ttl: Option<Duration>) {
        if std::mem::take(&mut self.hint) {
            self.ttl = ttl.map(milliseconds);
        }
    }

    /// The state that it goes on from.
    pub(crate) fn last(&self) -> Result<&Saved, SessionError> {
        self.saved.last().ok_or_else(|| self.damaged("it has no state"))
    }

    /// Bytes of all that belongs to it.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs().map(|blob| blob.bytes).sum()
    }

    /// All that belongs to it.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Blob> {
        let states = self.saved.iter().map(|saved| saved.state);
        let history = self.history.iter().flatten().map(|segment| segment.passes);
        states.chain(history).chain(self.note)
    }

    /// When it expires, if it does.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.ttl.map(|ttl| self.used.saturating_add(ttl))
    }

    /// Whether it has expired.
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        self.expires().is_some_and(|expires| expires <= now)
    }

    /// Drops checkpoints before the last `most`, and gives what belonged to them.
    pub(crate) fn keep_last(&mut self, most: usize) -> Vec<BlobId> {
        let surplus = self.saved.len().saturating_sub(most.max(1));
        self.saved.drain(..surplus).map(|saved| saved.state.id).collect()
    }

    /// Goes back to a checkpoint, and gives what belonged to later ones.
    pub(crate) fn truncate(&mut self, position: u64) -> Result<Vec<BlobId>, SessionError> {
        let at = self.place(position)?;
        let mut gone: Vec<BlobId> =
            self.saved.drain(at + 1..).map(|saved| saved.state.id).collect();
        let segments = self.saved[at].segments;
        if let Some(history) = &mut self.history
            && segments <= history.len()
        {
            gone.extend(history.drain(segments..).map(|segment| segment.passes.id));
        }
        Ok(gone)
    }

    /// The checkpoint at a position.
    pub(crate) fn place(&self, position: u64) -> Result<usize, SessionError> {
        self.saved.iter().rposition(|saved| saved.position == position).ok_or_else(|| {
            let have: Vec<String> = self.saved.iter().map(|s| s.position.to_string()).collect();
            let (name, have) = (self.name.to_string(), have.join(", "));
            SessionError::NoCheckpoint { name, position, have }
        })
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> SessionError {
        SessionError::Damaged { name: self.name.to_string(), what: what.into() }
    }

    /// As its owner sees it.
    pub(crate) fn info(&self) -> SessionInfo {
        let checkpoint =
            |saved: &Saved| Checkpoint { position: saved.position, bytes: saved.state.bytes };
        let last = self.saved.last();
        SessionInfo {
            name: self.name.clone(),
            model: self.model.clone(),
            tokenizer: self.tokenizer.clone(),
            position: last.map_or(0, |saved| saved.position),
            turns: last.map_or(0, |saved| saved.turns),
            bytes: self.bytes(),
            created: self.created / 1000,
            used: self.used / 1000,
            expires: self.expires().map(|time| time / 1000),
            checkpoints: self.saved.iter().map(checkpoint).collect(),
        }
    }

    /// As JSON with its hash.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Plain data with string keys: serialising it cannot fail.
        hashed(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads [`Record::to_bytes`]; what is wrong otherwise.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let json = unhashed(bytes).ok_or("its record does not match its hash")?;
        let record: Self = serde_json::from_slice(json).map_err(|e| format!("its record: {e}"))?;
        if record.version != VERSION {
            return Err(format!("its record has the unknown version {}", record.version));
        }
        if record.saved.is_empty() {
            return Err("it has no state".into());
        }
        Ok(record)
    }

    /// What a record says that does not match its hash, where it can still be read: each part of it may
    /// be wrong.
    pub(crate) fn salvaged(bytes: &[u8]) -> Option<Self> {
        let json = bytes.get(..bytes.len().checked_sub(HASH)?)?;
        serde_json::from_slice(json).ok()
    }
}

/// When a document expires, if it does.
pub(crate) fn document_expires(value: &[u8]) -> Option<u64> {
    let expires = u64::from_le_bytes(*value.first_chunk::<EXPIRES>()?);
    (expires > 0).then_some(expires)
}

/// Bytes with their hash behind them.
pub(crate) fn hashed(mut bytes: Vec<u8>) -> Vec<u8> {
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// The bytes before a hash; none if they do not match it.
pub(crate) fn unhashed(bytes: &[u8]) -> Option<&[u8]> {
    let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    (blake3::hash(content).as_bytes() == hash).then_some(content)
}
