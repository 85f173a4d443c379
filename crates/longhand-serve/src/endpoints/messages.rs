//! `POST /v1/messages` and `/v1/messages/count_tokens`, in the form of Anthropic.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use longhand_engine::FinishReason;
use longhand_sessions::{Finish, Outcome, Usage as Counted};
use longhand_text::corpus::dialogues::{Message, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{Piece, Pieces, check_whole};
use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::conversation::{Turn, end_answer, whole_apart};
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::Running;
use crate::ids::random_id;
use crate::memory::Memory;
use crate::models::Language;
use crate::sampling::{Drawing, Stops, check_stops};
use crate::sse::{self, Gone, Writer};

#[cfg(test)]
mod tests;

/// A request for what an assistant says next, in the form of Anthropic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessagesRequest")]
struct Request {
    /// The name of the model.
    model: String,
    /// The conversation; the last message is the user's.
    #[schemars(length(min = 1))]
    messages: Vec<MessageParam>,
    /// The most tokens of the answer.
    #[schemars(range(max = 1_048_576))]
    max_tokens: u32,
    /// Who asks, in words of the client's own; nothing is done with it.
    #[expect(dead_code, reason = "it is taken, and nothing is done with it")]
    metadata: Option<Metadata>,
    /// Texts that end the answer and are left out.
    #[schemars(length(max = 16), inner(length(min = 1)))]
    stop_sequences: Option<Vec<String>>,
    /// Gives the answer as it comes.
    stream: Option<bool>,
    /// What the assistant is to be.
    system: Option<Blocks>,
    /// Divides the logits; 0 takes the most probable token always (default: the model's own).
    #[schemars(range(min = 0.0, max = 1.0))]
    temperature: Option<f64>,
    /// Draws from this many of the most probable tokens; 0 for all.
    top_k: Option<u32>,
    /// Draws from the most probable tokens that together have this probability.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    top_p: Option<f64>,
}

/// Who asks, as the client says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MessagesMetadata")]
struct Metadata {
    /// A name of the client's own.
    #[expect(dead_code, reason = "it is taken, and nothing is done with it")]
    user_id: Option<String>,
}

/// A request to count the tokens of a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountRequest {
    /// The name of the model.
    model: String,
    /// The conversation; the last message is the user's.
    #[schemars(length(min = 1))]
    messages: Vec<MessageParam>,
    /// What the assistant is to be.
    system: Option<Blocks>,
}

/// A message of a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MessageParam {
    /// Who speaks in this message.
    role: Side,
    /// What is said in it, as text.
    content: Blocks,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Side {
    /// The person who asks.
    User,
    /// The model that is meant.
    Assistant,
}

/// What is said, as one text or in blocks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, or a list of blocks of type text")]
enum Blocks {
    /// A text by itself.
    Text(String),
    /// Blocks, which follow one another.
    Blocks(Vec<TextBlock>),
}

/// A block of text. Images, documents and tools are not supported.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TextBlock {
    /// Always the word `text`.
    #[serde(rename = "type")]
    #[expect(dead_code, reason = "only one value is taken")]
    kind: BlockKind,
    /// The text of the block.
    text: String,
}

/// The kind of a block.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum BlockKind {
    /// A text, and nothing else.
    Text,
}

/// What the assistant says.
#[derive(Clone, Serialize, JsonSchema)]
struct MessageObject {
    /// A name that no other answer has.
    id: String,
    /// Always the word `message`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Always the word `assistant`.
    role: &'static str,
    /// The name of the model.
    model: String,
    /// One block with the text; none where a stream begins.
    content: Vec<ContentBlock>,
    /// `end_turn`, `max_tokens` or `stop_sequence`; null where a stream begins.
    stop_reason: Option<&'static str>,
    /// The text that ended the answer, if one did.
    stop_sequence: Option<String>,
    /// The tokens of the request.
    usage: MessagesUsage,
}

/// A block of an answer.
#[derive(Clone, Serialize, JsonSchema)]
struct ContentBlock {
    /// Always the word `text`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The text of the block.
    text: String,
}

/// Tokens of a request in the form of Anthropic: the first three are the whole prompt together.
#[derive(Clone, Default, Serialize, JsonSchema)]
struct MessagesUsage {
    /// Tokens of the prompt that were read and that no kept state holds.
    input_tokens: u64,
    /// Tokens of the prompt that were read and that a kept state holds from now on.
    cache_creation_input_tokens: u64,
    /// Tokens of the prompt that a state had read before.
    cache_read_input_tokens: u64,
    /// Tokens that were written.
    output_tokens: u64,
}

/// The tokens of a conversation.
#[derive(Serialize, JsonSchema)]
struct TokenCount {
    /// How many there are.
    input_tokens: usize,
}

/// An event of a stream.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StreamEvent {
    /// The answer without its text.
    MessageStart {
        /// The answer so far.
        message: MessageObject,
    },
    /// A block of the answer begins.
    ContentBlockStart {
        /// Its place in the list, counted from 0.
        index: usize,
        /// The block so far.
        content_block: ContentBlock,
    },
    /// More of a block.
    ContentBlockDelta {
        /// Its place in the list, counted from 0.
        index: usize,
        /// What is new since the piece before.
        delta: ContentBlock,
    },
    /// A block has ended.
    ContentBlockStop {
        /// Its place in the list, counted from 0.
        index: usize,
    },
    /// Why the answer ended.
    MessageDelta {
        /// The reason why the answer ended.
        delta: StopDelta,
        /// The tokens of the request.
        usage: MessagesUsage,
    },
    /// The end of the answer and of the stream.
    MessageStop {},
}

/// Why an answer ended.
#[derive(Serialize, JsonSchema)]
struct StopDelta {
    /// `end_turn`, `max_tokens` or `stop_sequence`.
    stop_reason: &'static str,
    /// The text that ended it, if one did.
    stop_sequence: Option<String>,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let message =
        Operation::post("createMessage", "What an assistant says next, as Anthropic has it.")
            .takes::<Request>()
            .gives::<MessageObject>()
            .streams::<StreamEvent>()
            .refuses_in_messages_form();
    let count = Operation::post("countMessageTokens", "The tokens of a conversation.")
        .takes::<CountRequest>()
        .gives::<TokenCount>()
        .refuses_in_messages_form();
    vec![
        Endpoint::at("/v1/messages").on(message, create),
        Endpoint::at("/v1/messages/count_tokens").on(count, count_tokens),
    ]
}

impl Blocks {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Blocks(blocks) => blocks.into_iter().map(|block| block.text).collect(),
        }
    }
}

/// The messages of a request, instructions first.
fn messages(system: Option<Blocks>, messages: Vec<MessageParam>) -> Result<Vec<Message>, ApiError> {
    if messages.last().is_none_or(|last| last.role == Side::Assistant) {
        let text = "the last of `messages` must be the user's: an answer that was begun is not \
                    continued";
        return Err(ApiError::invalid("messages", text));
    }
    let system = system.map(|system| Message::new(Role::System, system.into_text()));
    let messages = messages.into_iter().map(|message| {
        let role = match message.role {
            Side::User => Role::User,
            Side::Assistant => Role::Assistant,
        };
        Message::new(role, message.content.into_text())
    });
    Ok(system.into_iter().chain(messages).collect())
}

async fn count_tokens(
    State(app): State<App>,
    JsonBody(request): JsonBody<CountRequest>,
) -> Result<Response, ApiError> {
    let language = app.models()?.language(&request.model)?;
    let messages = messages(request.system, request.messages)?;
    let ids = whole_apart(language, messages).await?;
    Ok(json_body(&TokenCount { input_tokens: ids.len() }))
}

/// A request that was checked and is being answered.
struct Asked {
    language: Arc<Language>,
    /// The stop texts of the request; the template may have one of its own.
    stops: Vec<String>,
    id: String,
    prompt: u64,
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let language = app.models_for_work()?.language(&request.model)?.clone();
    if let Some(temperature) = request.temperature
        && !(0.0..=1.0).contains(&temperature)
    {
        let message = format!("`temperature` is {temperature}, but must be from 0 to 1");
        return Err(ApiError::invalid("temperature", message));
    }
    let messages = messages(request.system, request.messages)?;
    let stops = request.stop_sequences.unwrap_or_default();
    check_stops("stop_sequences", &stops)?;
    let drawing = Drawing {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop: Some(Stops::Several(stops.clone())),
        max_tokens: Some(("max_tokens", request.max_tokens)),
        ..Drawing::default()
    };
    let mut write = drawing.write(language.engine(), false)?;
    end_answer(&language, &mut write);
    let mut turn = Turn::prepare(&app, &caller, &language, messages, Memory::None).await?;
    let ids = turn.ids.clone();
    // It has no session, and so no note.
    let (job, _) = turn.job(&caller, write);
    let running = Running::start(&app, &caller, &language, job).await?;
    let pieces = Pieces::new(running, &language, &ids, 1, false)?;
    let asked = Asked { language, stops, id: random_id("msg_"), prompt: ids.len() as u64 };
    match request.stream {
        Some(true) => Ok(sse::stream(|writer| asked.stream(pieces, writer))),
        _ => asked.whole(pieces).await,
    }
}

impl Asked {
    /// Why the answer ended.
    fn stop(&self, finish: &Finish) -> StopDelta {
        let (stop_reason, stop_sequence) = match finish {
            Finish::Reason(FinishReason::Length) | Finish::Interrupted => ("max_tokens", None),
            Finish::Reason(FinishReason::Stop(stop)) if self.stops.contains(stop) => {
                ("stop_sequence", Some(stop.clone()))
            }
            // The model's end, the template's, or the end of what a grammar allows.
            _ => ("end_turn", None),
        };
        StopDelta { stop_reason, stop_sequence }
    }

    fn message(&self, content: Vec<ContentBlock>, usage: MessagesUsage) -> MessageObject {
        MessageObject {
            id: self.id.clone(),
            kind: "message",
            role: "assistant",
            model: self.language.name.clone(),
            content,
            stop_reason: None,
            stop_sequence: None,
            usage,
        }
    }

    async fn whole(self, pieces: Pieces) -> Result<Response, ApiError> {
        let (_, answers, outcome) = pieces.collect().await?;
        check_whole(&outcome)?;
        let answer = answers.into_iter().next();
        let answer = answer.ok_or_else(|| ApiError::internal("there is no answer"))?;
        let StopDelta { stop_reason, stop_sequence } = self.stop(&answer.finish);
        let content = vec![ContentBlock { kind: "text", text: answer.text }];
        let message = self.message(content, usage(&outcome.usage));
        let stop_reason = Some(stop_reason);
        Ok(json_body(&MessageObject { stop_reason, stop_sequence, ..message }))
    }

    async fn stream(self, mut pieces: Pieces, writer: Writer) -> Result<(), Gone> {
        // What was read before is known later, and told at the end.
        let known = MessagesUsage { input_tokens: self.prompt, ..MessagesUsage::default() };
        let message = self.message(Vec::new(), known);
        let index = 0;
        let block = |kind, text| ContentBlock { kind, text };
        writer.event("message_start", &StreamEvent::MessageStart { message }).await?;
        let content_block = block("text", String::new());
        let begin = StreamEvent::ContentBlockStart { index, content_block };
        writer.event("content_block_start", &begin).await?;
        let mut stop = self.stop(&Finish::Interrupted);
        let outcome: Box<Outcome> = loop {
            let text = match pieces.next_streamed(&writer).await? {
                Ok(Piece::Prompt(_)) => continue,
                Ok(Piece::Text { text, .. }) => text,
                Ok(Piece::End { text, finish, .. }) => {
                    stop = self.stop(&finish);
                    text
                }
                Ok(Piece::Done(outcome)) => break outcome,
                Err(error) => return writer.event("error", &error.messages_body()).await,
            };
            if !text.is_empty() {
                let delta = block("text_delta", text);
                let more = StreamEvent::ContentBlockDelta { index, delta };
                writer.event("content_block_delta", &more).await?;
            }
        };
        if let Err(error) = check_whole(&outcome) {
            return writer.event("error", &error.messages_body()).await;
        }
        let end = StreamEvent::ContentBlockStop { index };
        writer.event("content_block_stop", &end).await?;
        let end = StreamEvent::MessageDelta { delta: stop, usage: usage(&outcome.usage) };
        writer.event("message_delta", &end).await?;
        writer.event("message_stop", &StreamEvent::MessageStop {}).await
    }
}

/// Tokens in the form of Anthropic.
fn usage(counted: &Counted) -> MessagesUsage {
    let written = counted.cache_written.min(counted.read);
    MessagesUsage {
        input_tokens: counted.read - written,
        cache_creation_input_tokens: written,
        cache_read_input_tokens: counted.reused,
        output_tokens: counted.generated,
    }
}
