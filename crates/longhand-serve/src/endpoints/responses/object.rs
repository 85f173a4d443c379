//! What a response is asked for and what it is, as JSON.

use std::collections::BTreeMap;

use longhand_sessions::Usage as Counted;
use longhand_text::corpus::dialogues::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address::at_most;
use crate::error::ApiError;
use crate::items::{Input, Item, Never, Status};
use crate::memory::NAME;
use crate::response_format::TextFormat;
use crate::together;

/// A request for a response.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ResponseRequest", extend("allOf" = together::of_responses()))]
pub(crate) struct Request {
    /// The name of the model.
    pub(crate) model: String,
    /// What is said in it, as text.
    pub(crate) input: Input,
    /// Whether the answer is written while the client does something else (default: false).
    pub(crate) background: Option<bool>,
    /// The conversation that the response belongs to.
    pub(crate) conversation: Option<ConversationField>,
    /// What is told beside the text.
    pub(crate) include: Option<Vec<Includable>>,
    /// What the assistant is to be; it is not taken over from a response before.
    pub(crate) instructions: Option<String>,
    /// The most tokens of the answer (default: the model's own).
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) max_output_tokens: Option<u32>,
    /// Words of the client's own, which are kept.
    pub(crate) metadata: Option<BTreeMap<String, String>>,
    /// The response that this one follows.
    pub(crate) previous_response_id: Option<String>,
    /// Any text: requests with one key share what was read of their conversation.
    #[schemars(length(min = 1, max = 512))]
    pub(crate) prompt_cache_key: Option<String>,
    /// Gives the state of the model after the answer, sealed, as `state`. Nothing is kept then, so that
    /// `store` must be false.
    pub(crate) return_state: Option<bool>,
    /// Who asks, in words of the client's own; nothing is done with it.
    pub(crate) safety_identifier: Option<String>,
    /// Seed of the random numbers; without one they differ each time.
    pub(crate) seed: Option<i64>,
    /// A session of the server, which remembers all turns before.
    #[schemars(extend("pattern" = NAME))]
    pub(crate) session_id: Option<String>,
    /// A sealed state that a response had, which remembers all turns before.
    pub(crate) state: Option<String>,
    /// Whether the response is kept, to be shown and followed (default: true).
    pub(crate) store: Option<bool>,
    /// Gives the answer as it comes.
    pub(crate) stream: Option<bool>,
    /// Divides the logits; 0 takes the most probable token always (default: the model's own).
    #[schemars(range(min = 0.0, max = 2.0))]
    pub(crate) temperature: Option<f64>,
    /// What the text must look like.
    pub(crate) text: Option<TextField>,
    /// How many alternatives are told of each token.
    #[schemars(range(max = 20))]
    pub(crate) top_logprobs: Option<u32>,
    /// Draws from the most probable tokens that together have this probability.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub(crate) top_p: Option<f64>,
    /// What is done with a long conversation. Both are the same here: nothing has to be left out.
    pub(crate) truncation: Option<Truncation>,
    /// The same as `safety_identifier`, by its older name.
    pub(crate) user: Option<String>,
}

/// A conversation by its name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected the id of a conversation")]
pub(crate) enum ConversationField {
    /// The name of the conversation alone.
    Id(String),
    /// An object with the name.
    Object(ConversationId),
}

/// A conversation by its name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConversationId {
    /// The name of the conversation.
    pub(crate) id: String,
}

impl ConversationField {
    pub(crate) fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Object(ConversationId { id }) => id,
        }
    }
}

/// What can be told beside the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Includable {
    /// The log-probabilities of the tokens.
    #[serde(rename = "message.output_text.logprobs")]
    LogProbabilities,
}

/// What is done with a long conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Truncation {
    /// Messages may be left out.
    Auto,
    /// No message is left out.
    #[default]
    Disabled,
}

/// What a text must look like.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextField {
    /// The form of the text.
    pub(crate) format: Option<TextFormat>,
}

/// A response as clients are shown it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseObject {
    /// A name that no other response has.
    pub(crate) id: String,
    /// Always the word `response`.
    pub(crate) object: String,
    /// When it began, in seconds since 1970.
    pub(crate) created_at: u64,
    /// When it was complete.
    pub(crate) completed_at: Option<u64>,
    /// How far it has come.
    pub(crate) status: Status,
    /// Whether it is written in the background.
    pub(crate) background: bool,
    /// Why it failed, if it did; null otherwise.
    pub(crate) error: Option<ResponseFault>,
    /// Why it is not whole.
    pub(crate) incomplete_details: Option<IncompleteDetails>,
    /// What the assistant was told to be.
    pub(crate) instructions: Option<String>,
    /// The most tokens of the answer.
    pub(crate) max_output_tokens: Option<u32>,
    /// The name of the model.
    pub(crate) model: String,
    /// What the assistant says.
    pub(crate) output: Vec<Item>,
    /// The response that this one follows.
    pub(crate) previous_response_id: Option<String>,
    /// The conversation that it belongs to.
    pub(crate) conversation: Option<ConversationId>,
    /// The session that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    /// The sealed state after the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// The key of the request.
    pub(crate) prompt_cache_key: Option<String>,
    /// The words of the request.
    pub(crate) safety_identifier: Option<String>,
    /// The words of the request.
    pub(crate) user: Option<String>,
    /// Whether it is kept.
    pub(crate) store: bool,
    /// What divided the logits.
    pub(crate) temperature: f32,
    /// The share of probability that tokens were drawn from.
    pub(crate) top_p: f32,
    /// How many alternatives are told of each token.
    pub(crate) top_logprobs: u32,
    /// What the text must look like.
    pub(crate) text: TextObject,
    /// What was done with a long conversation.
    pub(crate) truncation: Truncation,
    /// Always false: there are no tools.
    pub(crate) parallel_tool_calls: bool,
    /// Always the word `none`.
    pub(crate) tool_choice: String,
    /// Always empty: there are no tools.
    pub(crate) tools: Vec<Never>,
    /// Always null: there are no tools.
    pub(crate) max_tool_calls: Option<u32>,
    /// Always null: nothing is written that is not told.
    pub(crate) reasoning: Option<Never>,
    /// Always 0: there is nothing to count.
    pub(crate) presence_penalty: f32,
    /// Always 0: there is nothing to count.
    pub(crate) frequency_penalty: f32,
    /// Always the word `default`.
    pub(crate) service_tier: String,
    /// The tokens of the request; null before the end.
    pub(crate) usage: Option<ResponseUsage>,
    /// The words of the request.
    pub(crate) metadata: BTreeMap<String, String>,
}

impl ResponseObject {
    /// The response failed, as the message says.
    pub(crate) fn fail(&mut self, message: String) {
        self.status = Status::Failed;
        self.incomplete_details = None;
        self.error = Some(ResponseFault { code: "server_error".into(), message });
    }
}

/// Why a response failed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseFault {
    /// A word for programs.
    pub(crate) code: String,
    /// One sentence for people.
    pub(crate) message: String,
}

/// Why a response is not whole.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IncompleteDetails {
    /// Always the word `max_output_tokens`.
    pub(crate) reason: String,
}

/// What a text must look like.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextObject {
    /// The form of the text, as it was asked for.
    pub(crate) format: Value,
}

/// The tokens of a response.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResponseUsage {
    /// Tokens of the conversation, those included that a state had read before.
    pub(crate) input_tokens: u64,
    /// What of them was read before.
    pub(crate) input_tokens_details: InputTokensDetails,
    /// Tokens that were written.
    pub(crate) output_tokens: u64,
    /// What of them is not told.
    pub(crate) output_tokens_details: OutputTokensDetails,
    /// The sum of both.
    pub(crate) total_tokens: u64,
}

/// What was read before.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputTokensDetails {
    /// Tokens that a session or the state cache had read before.
    pub(crate) cached_tokens: u64,
    /// Tokens that a kept state holds from now on.
    pub(crate) cache_write_tokens: u64,
}

/// What is not told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputTokensDetails {
    /// Always 0: there is nothing to count.
    pub(crate) reasoning_tokens: u64,
}

impl From<&Counted> for ResponseUsage {
    fn from(counted: &Counted) -> Self {
        Self {
            input_tokens: counted.prompt,
            input_tokens_details: InputTokensDetails {
                cached_tokens: counted.reused,
                cache_write_tokens: counted.cache_written,
            },
            output_tokens: counted.generated,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: 0 },
            total_tokens: counted.prompt + counted.generated,
        }
    }
}

/// A response as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// The response as it is shown to clients.
    pub(crate) response: ResponseObject,
    /// What it read, without what came before it.
    pub(crate) input: Vec<Item>,
    /// All that its model has read and written, but for the instructions; only in what earlier versions
    /// kept. Now each response has its own messages, and names the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) messages: Vec<Message>,
    /// The server that writes it, while it is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
}

impl Stored {
    /// What it read itself, and its answer.
    pub(crate) fn own(&self) -> Vec<Message> {
        match self.messages.is_empty() {
            true => self.input.iter().chain(&self.response.output).map(Item::message).collect(),
            false => self.messages.clone(),
        }
    }
}

/// A response was erased.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ResponseDeleted {
    /// The name that it had.
    pub(crate) id: String,
    /// Always the word `response.deleted`.
    pub(crate) object: &'static str,
    /// Always true: it is gone.
    pub(crate) deleted: bool,
}

/// Messages of a response or a conversation.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ItemList {
    /// Always the word `list`, as OpenAI has it.
    pub(crate) object: &'static str,
    /// The messages of this page, in the order asked for.
    pub(crate) data: Vec<Item>,
    /// The name of the first one; empty where there is none.
    pub(crate) first_id: String,
    /// The name of the last one.
    pub(crate) last_id: String,
    /// Whether there are more behind it.
    pub(crate) has_more: bool,
}

/// How many messages are given, and from where.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemQuery {
    /// The id of the last message of the page before.
    pub(crate) after: Option<String>,
    /// How many there are on a page (default: 20).
    #[schemars(range(min = 1, max = 100))]
    pub(crate) limit: Option<usize>,
    /// Which one is first (default: desc).
    pub(crate) order: Option<Order>,
}

/// The most messages of a page.
const MOST_LISTED: usize = 100;

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The first one first.
    Asc,
    /// The last one first.
    Desc,
}

impl ItemQuery {
    /// How many there are on a page.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a page of no length, or of one that is too long.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        Ok(at_most("limit", self.limit, MOST_LISTED)?.unwrap_or(20))
    }
}

impl ItemList {
    /// A page of at most `limit` items; by default the last ones, the last one first.
    pub(crate) fn page(mut items: Vec<Item>, query: &ItemQuery, limit: usize) -> Self {
        if query.order != Some(Order::Asc) {
            items.reverse();
        }
        if let Some(after) = &query.after
            && let Some(at) = items.iter().position(|item| item.id == *after)
        {
            items.drain(..=at);
        }
        let has_more = items.len() > limit;
        items.truncate(limit);
        let id = |item: Option<&Item>| item.map_or_else(String::new, |item| item.id.clone());
        let (first_id, last_id) = (id(items.first()), id(items.last()));
        Self { object: "list", data: items, first_id, last_id, has_more }
    }
}
