//! A session as a file: one safetensors file with every memory, the last logits, and a header
//! that says which model and tokeniser it belongs to, where it stands and how it samples.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use longhand_model::checksum;
use longhand_model::file::{Values, values, write};
use longhand_model::{NamedTensor, Precision, State, WeightsError};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::sampler::{Sampler, SamplerState};
use crate::session::{RECENT, Session, StreamEnd};
use crate::snapshot_error::LARGEST;
pub use crate::snapshot_error::{SnapshotError, VERSION};

/// The key of the header in the file's metadata. The header is one JSON object, so that equal
/// sessions give equal files.
const HEADER: &str = "longhand.snapshot";
/// The key of the turns of a conversation.
const CONVERSATION: &str = "longhand.conversation";
/// The key of the header of what a conversation begins with.
const BEGINNING_HEADER: &str = "longhand.beginning";
/// The key of what a program noted beside the session.
const NOTE: &str = "longhand.note";
/// The tensor of the last logits; memories are named [`MEMORY`] and their name in the model.
const LOGITS: &str = "logits";
const MEMORY: &str = "memory.";
/// What the names of the tensors begin with that a conversation begins with.
const BEGINNING: &str = "beginning.";
/// More tokens or draws than any session reaches: what counts on from there does not overflow.
const MOST_COUNTED: u64 = 1 << 60;
/// A session outside of any model.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Model, tokeniser, position and sampler of the session.
    pub header: Header,
    /// The turns of a conversation as JSON, if the session is one; see [`Chat`](crate::Chat).
    pub(crate) conversation: Option<String>,
    /// The session before the first turn of the conversation, if it had read anything. Conversation,
    /// note and beginning of its own it has none.
    pub(crate) beginning: Option<Box<Snapshot>>,
    /// What a program noted beside the session, such as the messages that a server showed. Nothing
    /// here reads it.
    pub note: Option<String>,
    /// The memories in the order of their names.
    memories: BTreeMap<String, Memory>,
    /// `[V]`, empty if nothing was read.
    logits: Vec<f32>,
}

/// The facts about a session that its snapshot stores beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format's version, [`VERSION`].
    pub version: u32,
    /// Hash of the model, see [`Engine::model_hash`].
    pub model: String,
    /// Hash of the tokeniser, in hexadecimal digits.
    pub tokenizer: String,
    /// Tokens that the session has read.
    pub position: u64,
    /// Tokens read since the last document's start.
    pub since_reset: u64,
    /// The sampler's settings and place.
    pub sampler: SamplerState,
    /// The last tokens read, oldest first.
    pub recent: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq)]
struct Memory {
    shape: Vec<usize>,
    data: Vec<f32>,
    /// How the model holds it.
    precision: Precision,
}

/// One memory's contents in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemorySummary {
    /// Its name in the model, as `blocks.0.lstm.c`.
    pub name: String,
    /// Sizes of the tensor's axes.
    pub shape: Vec<usize>,
    /// Mean of its values.
    pub mean: f64,
    /// Root of the mean square.
    pub rms: f64,
    /// The largest magnitude of its values.
    pub most: f32,
}

/// How one memory differs between two snapshots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryDifference {
    /// Its name in the model.
    pub name: String,
    /// The largest absolute difference.
    pub most: f32,
    /// The mean absolute difference.
    pub mean: f64,
    /// Cosine of the angle between the two; none if one of them is all zeros.
    pub cosine: Option<f64>,
}

impl Snapshot {
    /// Takes a session, which knows its model and tokeniser.
    pub fn of(session: &Session) -> Self {
        let (engine, state) = (session.engine(), session.state());
        let header = Header {
            version: VERSION,
            model: engine.model_hash().to_owned(),
            tokenizer: engine.tokenizer().hash().to_owned(),
            position: session.position(),
            since_reset: state.since_reset()[0],
            sampler: session.sampler(),
            recent: session.recent().collect(),
        };
        let memories = state.to_tensors().into_iter().map(|tensor| {
            // A snapshot is of one stream, and its shapes leave that 1 out.
            let (shape, data) = (tensor.shape[1..].to_vec(), tensor.values.into_owned());
            (tensor.name.into_owned(), Memory { shape, data, precision: tensor.precision })
        });
        let (memories, logits) = (memories.collect(), session.logits().to_vec());
        Self { memories, logits, ..Self::bare(header) }
    }

    /// A snapshot that holds its header alone.
    fn bare(header: Header) -> Self {
        let (memories, logits) = (BTreeMap::new(), Vec::new());
        Self { header, conversation: None, beginning: None, note: None, memories, logits }
    }

    /// The session, ready to be continued by `engine`.
    ///
    /// # Errors
    /// [`SnapshotError::Model`] and [`SnapshotError::Tokenizer`] for a snapshot of another one;
    /// [`SnapshotError::State`] and [`SnapshotError::Sampler`] for values that no session
    /// of this model has.
    pub fn session(&self, engine: &Arc<Engine>) -> Result<Session, SnapshotError> {
        let header = &self.header;
        let (expected, got) = (engine.model_hash().to_owned(), header.model.clone());
        if expected != got {
            return Err(SnapshotError::Model { expected, got });
        }
        let (expected, got) = (engine.tokenizer().hash().to_owned(), header.tokenizer.clone());
        if expected != got {
            return Err(SnapshotError::Tokenizer { expected, got });
        }
        for (what, count) in [
            ("position", header.position),
            ("place in its document", header.since_reset),
            ("number of draws", header.sampler.draws),
        ] {
            if count > MOST_COUNTED {
                return Err(form(format!("its {what} is {count}, which no session reaches")));
            }
        }
        let (vocab_size, layout) = (engine.model().vocab_size(), engine.model().state_layout());
        let (position, since) = ([header.position], [header.since_reset]);
        let tensors = self.memories.iter().map(|(name, memory)| NamedTensor {
            name: name.into(),
            shape: memory.shape.clone(),
            values: (&memory.data[..]).into(),
            precision: memory.precision,
        });
        let state = State::from_tensors(&layout, &position, &since, tensors)?;
        let expected = if header.position == 0 { 0 } else { vocab_size };
        if self.logits.len() != expected {
            let got = self.logits.len();
            return Err(form(format!("it holds {got} logits where {expected} belong")));
        }
        if !self.logits.iter().all(|x| x.is_finite()) {
            return Err(form("a logit is not finite".into()));
        }
        if header.since_reset > header.position {
            return Err(form("its document begins before its text".into()));
        }
        let recent = &header.recent;
        if recent.len() as u64 != header.position.min(RECENT as u64) {
            return Err(form("its last tokens do not fit its position".into()));
        }
        if let Some(id) = recent.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(form(format!("its token id {id} is out of range")));
        }
        let end = StreamEnd {
            logits: self.logits.clone(),
            recent: recent.iter().copied().collect(),
            sampler: Sampler::resume(header.sampler)?,
        };
        Ok(Session { engine: engine.clone(), state, end })
    }

    /// Reads a snapshot from a file's bytes. Allocates at most a few times their length,
    /// whatever sizes they claim.
    ///
    /// # Errors
    /// [`SnapshotError::Form`] or [`SnapshotError::Damaged`] for bytes that are no whole snapshot,
    /// [`SnapshotError::Version`] for another version of the format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |error: safetensors::SafeTensorError| form(error.to_string());
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let text = |key| metadata.metadata().as_ref().and_then(|metadata| metadata.get(key));
        let (header, conversation) = (text(HEADER), text(CONVERSATION).cloned());
        let note = text(NOTE).cloned();
        let header = header.ok_or_else(|| form("a file without a snapshot's header".into()))?;
        let mut own = Self { conversation, note, ..Self::bare(read_header(header)?) };
        let mut beginning = match text(BEGINNING_HEADER) {
            Some(header) => Some(Self::bare(read_header(header)?)),
            None => None,
        };
        let file = checksum::from_bytes(bytes)?;
        for (name, tensor) in file.tensors() {
            let read = values(&name, &tensor).map_err(|e: WeightsError| form(e.to_string()))?;
            let (data, precision) = read;
            let (of, part) = match (&mut beginning, name.strip_prefix(BEGINNING)) {
                (Some(beginning), Some(name)) => (beginning, name),
                _ => (&mut own, name.as_str()),
            };
            if part == LOGITS {
                of.logits = data;
            } else if let Some(memory) = part.strip_prefix(MEMORY) {
                let shape = tensor.shape().to_vec();
                of.memories.insert(memory.to_owned(), Memory { shape, data, precision });
            } else {
                return Err(form(format!("it holds an unknown tensor `{name}`")));
            }
        }
        Ok(Self { beginning: beginning.map(Box::new), ..own })
    }

    /// As a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let beginning = self.beginning.as_deref();
        let parts = [("", self)].into_iter().chain(beginning.map(|of| (BEGINNING, of)));
        let parts: Vec<_> = parts.map(|(prefix, of)| (prefix, of, [of.logits.len()])).collect();
        let mut tensors = Vec::new();
        for (prefix, of, length) in &parts {
            for (name, Memory { shape, data, precision }) in &of.memories {
                let values = Values { shape, data, precision: *precision };
                tensors.push((format!("{prefix}{MEMORY}{name}"), values));
            }
            tensors.push((format!("{prefix}{LOGITS}"), Values::exact(length, &of.logits)));
        }
        // Plain data with string keys: serialising it cannot fail.
        let header = |of: &Self| serde_json::to_string(&of.header).unwrap_or_default();
        let texts = [
            (HEADER, Some(header(self))),
            (BEGINNING_HEADER, beginning.map(header)),
            (CONVERSATION, self.conversation.clone()),
            (NOTE, self.note.clone()),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?)));
        checksum::to_bytes(tensors, texts)
    }

    /// Reads a snapshot from a file.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] if the file cannot be read, [`SnapshotError::TooLarge`] if it is too
    /// large, and the errors of [`Snapshot::from_bytes`].
    pub fn load(path: &Path) -> Result<Self, SnapshotError> {
        let bytes = fs_err::metadata(path)?.len();
        if bytes > LARGEST {
            return Err(SnapshotError::TooLarge(bytes));
        }
        Self::from_bytes(&fs_err::read(path)?)
    }

    /// Writes the snapshot under another name and renames it. A reader finds the old file or the
    /// new one, never a part.
    ///
    /// # Errors
    /// [`SnapshotError::File`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), SnapshotError> {
        Ok(write(path, &self.to_bytes())?)
    }

    /// The memories in numbers, in the order of their names.
    pub fn summary(&self) -> Vec<MemorySummary> {
        let of = |(name, memory): (&String, &Memory)| {
            let values = || memory.data.iter().map(|&x| f64::from(x));
            let count = memory.data.len().max(1) as f64;
            MemorySummary {
                name: name.clone(),
                shape: memory.shape.clone(),
                mean: values().sum::<f64>() / count,
                rms: (values().map(|x| x * x).sum::<f64>() / count).sqrt(),
                most: memory.data.iter().fold(0.0, |most, x| x.abs().max(most)),
            }
        };
        self.memories.iter().map(of).collect()
    }

    /// Whether the session is a conversation, whose turns the snapshot holds.
    pub fn is_conversation(&self) -> bool {
        self.conversation.is_some()
    }

    /// Bytes of the memories.
    pub fn memory_bytes(&self) -> usize {
        let bytes = |memory: &Memory| memory.precision.bytes() * memory.data.len();
        self.memories.values().map(bytes).sum()
    }

    /// The last logits; empty if nothing was read.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// How each memory differs from another snapshot's of the same model.
    ///
    /// # Errors
    /// [`SnapshotError::Incomparable`] for snapshots of different models.
    pub fn diff(&self, other: &Self) -> Result<Vec<MemoryDifference>, SnapshotError> {
        if self.header.model != other.header.model {
            return Err(SnapshotError::Incomparable("they belong to different models".into()));
        }
        let names = self.memories.keys();
        if !names.eq(other.memories.keys()) {
            return Err(SnapshotError::Incomparable("they hold different memories".into()));
        }
        self.memories
            .iter()
            .zip(other.memories.values())
            .map(|((n, a), b)| differ(n, a, b))
            .collect()
    }
}

fn form(what: String) -> SnapshotError {
    SnapshotError::Form(what)
}

/// Looks at the version first: the rest of another version may look different.
fn read_header(text: &str) -> Result<Header, SnapshotError> {
    let damaged = |error: serde_json::Error| form(format!("its header: {error}"));
    let json: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
    match json.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(got) => return Err(SnapshotError::Version { got }),
        None => return Err(form("its header has no version".into())),
    }
    serde_json::from_value(json).map_err(damaged)
}

fn differ(name: &str, a: &Memory, b: &Memory) -> Result<MemoryDifference, SnapshotError> {
    if a.shape != b.shape {
        let (a, b) = (&a.shape, &b.shape);
        let what = format!("the memory `{name}` has shape {a:?} in one and {b:?} in the other");
        return Err(SnapshotError::Incomparable(what));
    }
    let pairs = || a.data.iter().zip(&b.data).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let (mut most, mut sum) = (0.0f64, 0.0);
    let (mut dot, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (a, b) in pairs() {
        let difference = (a - b).abs();
        most = most.max(difference);
        sum += difference;
        dot += a * b;
        square_a += a * a;
        square_b += b * b;
    }
    let length = square_a.sqrt() * square_b.sqrt();
    Ok(MemoryDifference {
        name: name.to_owned(),
        most: most as f32,
        mean: sum / a.data.len().max(1) as f64,
        cosine: (length > 0.0).then(|| dot / length),
    })
}

#[cfg(test)]
mod tests;
