//! Items of responses and conversations: messages, as OpenAI's Responses API has them.

use longhand_text::corpus::dialogues::{Message, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conversation::{PartKind, RoleField};
use crate::ids::random_id;
use crate::log_probabilities::ChatLogProbability;

/// What a response reads: a text, or items.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of messages")]
pub(crate) enum Input {
    /// What the user says.
    Text(String),
    /// Messages, which follow one another.
    Items(#[schemars(length(min = 1))] Vec<InputItem>),
}

/// A message that is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputItem {
    /// Always the word `message`.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "only one value is taken")]
    pub(crate) kind: Option<ItemKind>,
    /// Who speaks in this message.
    pub(crate) role: RoleField,
    /// What is said in it, as text.
    pub(crate) content: InputContent,
    /// The name of an item that a response gave; a new one has none.
    pub(crate) id: Option<String>,
    /// How far an item had come that a response gave.
    #[expect(dead_code, reason = "an item that is given back is complete")]
    pub(crate) status: Option<Status>,
}

/// The kind of an item.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ItemKind {
    /// A message: what somebody says.
    Message,
}

/// What is said in a message that is read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, or a list of parts of text")]
pub(crate) enum InputContent {
    /// A text by itself.
    Text(String),
    /// Parts, which follow one another.
    Parts(Vec<InputPart>),
}

/// A part of a message that is read. Images, sounds and files are not supported.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputPart {
    /// `input_text`, or `output_text` in what a response gave.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "all of them are texts")]
    pub(crate) kind: PartKind,
    /// The text of the part.
    pub(crate) text: String,
    /// What a response gave beside its text.
    #[expect(dead_code, reason = "it is no part of what is said")]
    pub(crate) annotations: Option<Vec<Value>>,
    /// What a response gave beside its text.
    #[expect(dead_code, reason = "it is no part of what is said")]
    pub(crate) logprobs: Option<Vec<Value>>,
}

/// How far something has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It waits to be written.
    Queued,
    /// It is being written.
    InProgress,
    /// It is whole: the model ended it.
    Completed,
    /// It was broken off by its longest length.
    Incomplete,
    /// It was given up.
    Cancelled,
    /// It failed, and has no answer.
    Failed,
}

/// A message as it is kept and given.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// A name that no other item has.
    pub(crate) id: String,
    /// Always the word `message`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// How far it has come.
    pub(crate) status: Status,
    /// Who speaks in this message.
    pub(crate) role: String,
    /// What is said in it, as text.
    pub(crate) content: Vec<ItemPart>,
}

/// A part of a message as it is kept and given.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ItemPart {
    /// What was read, as text.
    InputText {
        /// The text itself, as a whole.
        text: String,
    },
    /// What was written by the model.
    OutputText {
        /// The text itself, as a whole.
        text: String,
        /// Always empty: nothing is cited.
        annotations: Vec<Never>,
        /// Log-probabilities of its tokens, where they were asked for.
        logprobs: Vec<ChatLogProbability>,
    },
}

/// What never is: nothing has this type.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Never {}

impl Input {
    /// The messages as items.
    pub(crate) fn into_items(self) -> Vec<Item> {
        match self {
            Self::Text(text) => vec![Item::read(Role::User, text, None)],
            Self::Items(items) => items.into_iter().map(Item::from).collect(),
        }
    }
}

impl From<InputItem> for Item {
    fn from(item: InputItem) -> Self {
        let text = match item.content {
            InputContent::Text(text) => text,
            InputContent::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
        };
        Self::read(item.role.into(), text, item.id)
    }
}

impl Item {
    /// A message that was read.
    pub(crate) fn read(role: Role, text: String, id: Option<String>) -> Self {
        let part = match role {
            Role::Assistant => {
                ItemPart::OutputText { text, annotations: Vec::new(), logprobs: Vec::new() }
            }
            Role::System | Role::User => ItemPart::InputText { text },
        };
        let id = id.unwrap_or_else(|| random_id("msg_"));
        let (kind, role) = ("message".to_owned(), role.name().to_owned());
        Self { id, kind, status: Status::Completed, role, content: vec![part] }
    }

    /// A message that was written.
    pub(crate) fn written(
        id: String,
        status: Status,
        text: String,
        logprobs: Vec<ChatLogProbability>,
    ) -> Self {
        let part = ItemPart::OutputText { text, annotations: Vec::new(), logprobs };
        let (kind, role) = ("message".to_owned(), Role::Assistant.name().to_owned());
        Self { id, kind, status, role, content: vec![part] }
    }

    /// What is said, as a model reads it.
    pub(crate) fn message(&self) -> Message {
        let text = self.content.iter().map(|part| match part {
            ItemPart::InputText { text } | ItemPart::OutputText { text, .. } => text.as_str(),
        });
        let role = Role::ALL.into_iter().find(|role| role.name() == self.role);
        Message::new(role.unwrap_or(Role::User), text.collect::<String>())
    }
}
