//! Dialogues: the turns of a person and an assistant.
//!
//! - Lines of JSON in the form of OpenAI's `messages`: `{"messages": [{"role", "content"}, …]}`, or the
//!   list alone. A content is a text, or a list of parts of type `text`. Further keys are passed over.
//! - DailyDialog (Li et al., 2017): one dialogue a line, whose utterances each end with `__eou__`. The
//!   first speaker is the user, the second one the assistant.
//!
//! The first line that is not empty tells the form of a file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::DialogueFault;
use super::source::Source;
use crate::error::TextError;

#[cfg(test)]
mod tests;

/// What ends an utterance in DailyDialog's form.
pub const UTTERANCE_END: &str = "__eou__";

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever tells the assistant what it is to be.
    System,
    /// The person who asks or tells something.
    User,
    /// The model, which answers the user.
    Assistant,
}

/// One turn of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks in this turn.
    pub role: Role,
    /// What is said, as plain text.
    pub content: String,
}

/// The turns of a conversation, at least one, none of them empty. No turn of the
/// assistant follows another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    messages: Vec<Message>,
}

/// The dialogues of a file, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogues {
    /// The name of the file.
    pub name: String,
    /// Each dialogue with its line, counted from 1.
    pub dialogues: Vec<(u64, Dialogue)>,
}

impl Role {
    /// The roles that a turn can have.
    pub const ALL: [Self; 3] = [Self::System, Self::User, Self::Assistant];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Message {
    /// A turn of a speaker.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

impl Dialogue {
    /// Checks the turns of a dialogue.
    ///
    /// # Errors
    /// [`DialogueFault`] for no turn, an empty one, or two of the assistant behind each other.
    pub fn new(messages: Vec<Message>) -> Result<Self, DialogueFault> {
        if messages.is_empty() {
            return Err(DialogueFault::NoTurn);
        }
        if let Some(at) = messages.iter().position(|message| message.content.trim().is_empty()) {
            return Err(DialogueFault::Empty { turn: at + 1 });
        }
        let is_answer = |message: &Message| message.role == Role::Assistant;
        let mut pairs = messages.windows(2);
        if let Some(at) = pairs.position(|pair| pair.iter().all(is_answer)) {
            return Err(DialogueFault::Repeated { turn: at + 2 });
        }
        Ok(Self { messages })
    }

    /// The turns in their order.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The turns up to the assistant's last one: later turns teach nothing.
    ///
    /// # Errors
    /// [`DialogueFault::NoAssistant`] for a dialogue without a turn of the assistant.
    pub fn up_to_last_answer(mut self) -> Result<Self, DialogueFault> {
        let last = self.last_answer().ok_or(DialogueFault::NoAssistant)?;
        self.messages.truncate(last + 1);
        Ok(self)
    }

    /// The turns that the assistant is to answer: without its own at the end, if there are others.
    #[must_use]
    pub fn before_last_answer(mut self) -> Self {
        if self.messages.len() > 1 && self.last_answer() == Some(self.messages.len() - 1) {
            self.messages.pop();
        }
        self
    }

    /// The dialogue with the user and the assistant in each other's place, up to the last answer; none
    /// where nobody would answer, or twice in a row.
    pub fn swapped(&self) -> Option<Self> {
        let other = |message: &Message| Message {
            role: match message.role {
                Role::System => Role::System,
                Role::User => Role::Assistant,
                Role::Assistant => Role::User,
            },
            content: message.content.clone(),
        };
        let swapped = Self::new(self.messages.iter().map(other).collect());
        swapped.and_then(Self::up_to_last_answer).ok()
    }

    /// Reads a line of either form; any other text is one turn of the user, and so is a line that begins
    /// as JSON does and is none, such as `[laughs] Hi`.
    ///
    /// # Errors
    /// The errors of [`Dialogue::from_json`], but for a line that is no JSON, and those of
    /// [`Dialogue::from_utterances`].
    pub fn of_line(line: &str) -> Result<Self, DialogueFault> {
        if is_json(line) {
            match Self::from_json(line) {
                Err(DialogueFault::Json { .. }) => {}
                read => return read,
            }
        }
        match line.contains(UTTERANCE_END) {
            true => Self::from_utterances(line),
            false => Self::new(vec![Message::new(Role::User, line.trim())]),
        }
    }

    fn last_answer(&self) -> Option<usize> {
        self.messages.iter().rposition(|message| message.role == Role::Assistant)
    }

    /// Reads the JSON of one line.
    ///
    /// # Errors
    /// [`DialogueFault`] for JSON of another form, and the errors of [`Dialogue::new`].
    pub fn from_json(line: &str) -> Result<Self, DialogueFault> {
        let value: Value = serde_json::from_str(line).map_err(|error| {
            let words = error.to_string();
            // Every dialogue is line 1 to the JSON reader.
            let reason = words.split(" at line ").next().unwrap_or_default().to_owned();
            DialogueFault::Json { reason, column: error.column() }
        })?;
        let turns = match &value {
            Value::Array(turns) => Some(turns),
            Value::Object(object) => object.get("messages").and_then(Value::as_array),
            _ => None,
        };
        let turns = turns.ok_or(DialogueFault::NoMessages)?;
        let messages = turns.iter().zip(1..).map(|(turn, number)| message(turn, number));
        Self::new(messages.collect::<Result<_, _>>()?)
    }

    /// Reads a line of DailyDialog.
    ///
    /// # Errors
    /// [`DialogueFault::NoMark`] for a line without `__eou__`, and the errors of [`Dialogue::new`].
    pub fn from_utterances(line: &str) -> Result<Self, DialogueFault> {
        let (utterances, rest) = line.rsplit_once(UTTERANCE_END).ok_or(DialogueFault::NoMark)?;
        if !rest.trim().is_empty() {
            return Err(DialogueFault::Unended);
        }
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let utterances = utterances.split(UTTERANCE_END).zip(roles);
        Self::new(utterances.map(|(text, role)| Message::new(role, text.trim())).collect())
    }
}

impl Dialogues {
    /// Reads a file, or with `-` the standard input, compressed or not.
    ///
    /// # Errors
    /// A file that is missing or not text; [`TextError::Dialogue`] names the line and the fault;
    /// [`TextError::NoDialogue`] for a file without any.
    pub fn read(path: &Path, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::open(path)?, lossy)
    }

    /// Reads bytes as a file; `name` is for messages.
    ///
    /// # Errors
    /// As [`Dialogues::read`], apart from a missing file.
    pub fn parse(name: &str, bytes: Vec<u8>, lossy: bool) -> Result<Self, TextError> {
        Self::of(&Source::memory(name, bytes), lossy)
    }

    fn of(source: &Source, lossy: bool) -> Result<Self, TextError> {
        let mut text = String::new();
        let mut reader = source.text(lossy)?;
        while let Some(block) = reader.next_block()? {
            text.push_str(&block);
        }
        let name = source.name().to_owned();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = || text.split('\n').zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let is_json = lines().next().is_some_and(|(line, _)| is_json(line));
        let read = if is_json { Dialogue::from_json } else { Dialogue::from_utterances };
        let dialogues = lines().map(|(text, line)| match read(text) {
            Ok(dialogue) => Ok((line, dialogue)),
            Err(fault) => Err(TextError::Dialogue { name: name.clone(), line, fault }),
        });
        let dialogues: Vec<_> = dialogues.collect::<Result<_, _>>()?;
        if dialogues.is_empty() {
            return Err(TextError::NoDialogue(name));
        }
        Ok(Self { name, dialogues })
    }
}

/// Whether a line begins as JSON does.
fn is_json(line: &str) -> bool {
    line.trim_start().starts_with(['{', '['])
}

/// A turn of the JSON form; `number` is counted from 1.
fn message(turn: &Value, number: usize) -> Result<Message, DialogueFault> {
    let role = match turn.get("role") {
        Some(Value::String(name)) => {
            let found = Role::ALL.into_iter().find(|role| role.name() == name);
            found.ok_or_else(|| DialogueFault::Role { turn: number, role: name.clone() })?
        }
        _ => return Err(DialogueFault::NoRole { turn: number }),
    };
    let part = |part: &Value| match part.get("type").and_then(Value::as_str) {
        Some("text") => part.get("text").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let content = match turn.get("content") {
        Some(Value::String(content)) => Some(content.clone()),
        Some(Value::Array(parts)) => parts.iter().map(part).collect(),
        _ => None,
    };
    let content = content.ok_or(DialogueFault::Content { turn: number })?;
    Ok(Message { role, content })
}
