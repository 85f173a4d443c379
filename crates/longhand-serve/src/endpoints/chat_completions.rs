//! `POST /v1/chat/completions`: what an assistant says next in a conversation.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use longhand_sessions::Outcome;
use longhand_text::corpus::dialogues::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::completions::{StreamOptions, check_stream_options};
use crate::answer::{Piece, Pieces, check_whole, finish_reason, streamed_reason};
use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::conversation::{MessageField, Turn, end_answer};
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::Running;
use crate::ids::{random_id, unix_time};
use crate::log_probabilities::{ChatLogProbabilities, Told, chat};
use crate::memory::{Memory, MemoryFields, NAME, encoded};
use crate::memory_shares::{self, TokenShares};
use crate::models::Language;
use crate::response_format::{ResponseFormat, rules};
use crate::sampling::{Drawing, Stops, alternatives, choices, token_count};
use crate::sse::{self, Gone, Writer};
use crate::together;
use crate::usage::Usage;

#[cfg(test)]
mod tests;

/// A request for what an assistant says next.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ChatRequest", extend("allOf" = together::of_chats()))]
pub(crate) struct Request {
    /// The conversation. With `session_id` or `state`, the new messages alone.
    #[schemars(length(min = 1))]
    messages: Vec<MessageField>,
    /// The name of the model.
    model: String,
    /// Lowers the logit of a token for each time that the answer has it.
    #[schemars(range(min = -2.0, max = 2.0))]
    frequency_penalty: Option<f64>,
    /// Added to the logits of tokens, by their ids.
    #[schemars(extend(
        "propertyNames" = {"pattern": "^[0-9]{1,10}$"},
        "additionalProperties" = {"type": "number", "minimum": -100, "maximum": 100}
    ))]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Tells each token's log-probability.
    logprobs: Option<bool>,
    /// The most tokens of an answer (default: the model's own).
    #[schemars(range(max = 1_048_576))]
    max_completion_tokens: Option<u32>,
    /// The older name of the same.
    #[schemars(range(max = 1_048_576))]
    max_tokens: Option<u32>,
    /// Tells what share each kind of memory had in each token, as `memory_shares` of the choices. Each
    /// token then takes four steps instead of one.
    memory_shares: Option<bool>,
    /// Takes only tokens at least this many times as probable as the most probable one.
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f64>,
    /// How many answers are given.
    #[schemars(range(min = 1, max = 16))]
    n: Option<u32>,
    /// Lowers the logit of each token that the answer has.
    #[schemars(range(min = -2.0, max = 2.0))]
    presence_penalty: Option<f64>,
    /// Any text: requests with one key share what was read of their conversation.
    #[schemars(length(min = 1, max = 512))]
    prompt_cache_key: Option<String>,
    /// Makes the tokens read last less probable, if greater than 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    repetition_penalty: Option<f64>,
    /// What the answer must look like.
    response_format: Option<ResponseFormat>,
    /// Gives the state of the model after the answer, sealed, as `state`.
    return_state: Option<bool>,
    /// Who asks, in words of the client's own; nothing is done with it.
    #[expect(dead_code, reason = "it is taken, and nothing is done with it")]
    safety_identifier: Option<String>,
    /// Seed of the random numbers; without one they differ each time.
    seed: Option<i64>,
    /// A session of the server, which remembers all turns before.
    #[schemars(extend("pattern" = NAME))]
    session_id: Option<String>,
    /// A sealed state that an answer had, which remembers all turns before.
    state: Option<String>,
    /// Texts that end the answer and are left out.
    stop: Option<Stops>,
    /// Gives the answer as it comes.
    stream: Option<bool>,
    /// What a stream tells beside the answer.
    stream_options: Option<StreamOptions>,
    /// Divides the logits; 0 takes the most probable token always (default: the model's own).
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f64>,
    /// Draws from this many of the most probable tokens; 0 for all.
    top_k: Option<u32>,
    /// How many alternatives are told of each token; `logprobs` must be true.
    #[schemars(range(max = 20))]
    top_logprobs: Option<u32>,
    /// Draws from the most probable tokens that together have this probability.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    top_p: Option<f64>,
    /// The same as `safety_identifier`, by its older name.
    #[expect(dead_code, reason = "it is taken, and nothing is done with it")]
    user: Option<String>,
}

/// What the assistant says next.
#[derive(Serialize, JsonSchema)]
struct ChatCompletion {
    /// A name that no other answer has.
    id: String,
    /// Always the word `chat.completion`.
    object: &'static str,
    /// When the answer began, in seconds since 1970.
    created: u64,
    /// The name of the model.
    model: String,
    /// The hash of the model, shortened: equal ones write equal texts for equal seeds.
    system_fingerprint: String,
    /// The answers, in their order.
    choices: Vec<Choice>,
    /// The tokens of the request.
    usage: Usage,
    /// The session that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// The sealed state after the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// One answer of a chat.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatChoice")]
struct Choice {
    /// Its place among all.
    index: usize,
    /// What is said in it, as text.
    message: AnswerMessage,
    /// Log-probabilities of its tokens; null where none were asked for.
    logprobs: Option<ChatLogProbabilities>,
    /// What share each kind of memory had in each of its tokens, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_shares: Option<Vec<TokenShares>>,
    /// Why the answer ended: `stop` or `length`.
    finish_reason: &'static str,
}

/// The message of an answer.
#[derive(Serialize, JsonSchema)]
struct AnswerMessage {
    /// Always the word `assistant`.
    role: &'static str,
    /// The text of the answer.
    content: String,
    /// Always null: nothing is refused.
    refusal: Option<()>,
}

/// A piece of what the assistant says.
#[derive(Serialize, JsonSchema)]
struct Chunk {
    /// The same for all pieces.
    id: String,
    /// Always the word `chat.completion.chunk`.
    object: &'static str,
    /// When the answer began, in seconds since 1970.
    created: u64,
    /// The name of the model.
    model: String,
    /// The hash of the model, shortened.
    system_fingerprint: String,
    /// The piece; none in the event that has the usage.
    choices: Vec<ChunkChoice>,
    /// The tokens of the request, in the last event that was asked for; null before it.
    usage: Option<Usage>,
    /// The session that was kept, in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// The sealed state after the answer, in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// A piece of one answer.
#[derive(Serialize, JsonSchema)]
struct ChunkChoice {
    /// The place of the answer among all.
    index: usize,
    /// What is new since the piece before.
    delta: Delta,
    /// Log-probabilities of the new tokens; null where none were asked for.
    logprobs: Option<ChatLogProbabilities>,
    /// What share each kind of memory had in the new tokens, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_shares: Option<Vec<TokenShares>>,
    /// `stop` or `length`; null before the end.
    finish_reason: Option<&'static str>,
}

/// What is new in an answer.
#[derive(Default, Serialize, JsonSchema)]
struct Delta {
    /// `assistant`, in the first piece alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Text that follows what was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// A request that was checked and is being answered.
struct Asked {
    language: Arc<Language>,
    turn: Turn,
    count: usize,
    tells: bool,
    tells_memory: bool,
    includes_usage: bool,
    id: String,
    created: u64,
}

pub(crate) fn endpoint() -> Endpoint {
    let operation = Operation::post("createChatCompletion", "What an assistant says next.")
        .takes::<Request>()
        .gives::<ChatCompletion>()
        .streams::<Chunk>();
    Endpoint::at("/v1/chat/completions").on(operation, create)
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let language = app.models_for_work()?.language(&request.model)?.clone();
    let streams = request.stream == Some(true);
    let (asked, pieces) = begin(&app, &caller, language, request).await?;
    match streams {
        true => Ok(sse::stream(|writer| asked.stream(pieces, writer))),
        false => asked.whole(pieces).await,
    }
}

/// Checks a request, and hands its turn to the model.
async fn begin(
    app: &App,
    caller: &Caller,
    language: Arc<Language>,
    request: Request,
) -> Result<(Asked, Pieces), ApiError> {
    let streams = request.stream == Some(true);
    check_stream_options(streams, request.stream_options.as_ref())?;
    let count = choices("n", request.n)?;
    let alternatives = told_alternatives(request.logprobs, request.top_logprobs)?;
    let tells_memory = memory_shares::asked(request.memory_shares, &language)?;
    let rules = rules("response_format", request.response_format).await?;
    let memory = Memory::of(&MemoryFields {
        session_id: request.session_id,
        prompt_cache_key: request.prompt_cache_key,
        state: request.state,
        return_state: request.return_state == Some(true),
    })?;
    let newer = request.max_completion_tokens.map(|count| ("max_completion_tokens", count));
    let older = request.max_tokens.map(|count| ("max_tokens", count));
    // The newer field decides; the older one must be right all the same.
    older.map(|(field, count)| token_count(field, count)).transpose()?;
    let most_tokens = newer.or(older);
    let drawing = Drawing {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        repetition_penalty: request.repetition_penalty,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        seed: request.seed,
        logit_bias: request.logit_bias,
        stop: request.stop,
        max_tokens: most_tokens,
    };
    let messages: Vec<Message> = request.messages.into_iter().map(Message::from).collect();
    let mut turn = Turn::prepare(app, caller, &language, messages, memory).await?;
    let mut write = drawing.write(language.engine(), turn.goes_on)?;
    write.options.rules = rules;
    end_answer(&language, &mut write);
    write.branches = count;
    write.options.log_probabilities = alternatives;
    write.memory_shares = tells_memory;
    let ids = turn.ids.clone();
    let (job, said) = turn.job(caller, write);
    let running = Running::start_noted(app, caller, &language, job, said).await?;
    let tells = alternatives.is_some();
    let pieces = Pieces::new(running, &language, &ids, count, tells || tells_memory)?;
    let includes_usage =
        request.stream_options.and_then(|options| options.include_usage) == Some(true);
    let (id, created) = (random_id("chatcmpl-"), unix_time());
    let asked = Asked { language, turn, count, tells, tells_memory, includes_usage, id, created };
    Ok((asked, pieces))
}

/// How many alternatives are told of each token; none where no log-probability is.
pub(crate) fn told_alternatives(
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
) -> Result<Option<usize>, ApiError> {
    match (logprobs == Some(true), top_logprobs) {
        (true, count) => alternatives("top_logprobs", count.unwrap_or(0)).map(Some),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            let message = "`top_logprobs` needs `logprobs`: set it to true";
            Err(ApiError::invalid("top_logprobs", message))
        }
    }
}

impl Asked {
    fn logprobs(&self, told: &[Told]) -> Option<ChatLogProbabilities> {
        self.tells.then(|| {
            let content = chat(self.language.engine().tokenizer(), told);
            ChatLogProbabilities { content, refusal: None }
        })
    }

    fn shares(&self, told: &[Told]) -> Option<Vec<TokenShares>> {
        memory_shares::of_tokens(self.language.engine().tokenizer(), told, self.tells_memory)
    }

    /// Answers with all at once.
    async fn whole(self, pieces: Pieces) -> Result<Response, ApiError> {
        let (_, answers, outcome) = pieces.collect().await?;
        let choices = answers.iter().enumerate().map(|(index, answer)| Choice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: answer.text.clone(),
                refusal: None,
            },
            logprobs: self.logprobs(&answer.told),
            memory_shares: self.shares(&answer.told),
            finish_reason: finish_reason(&answer.finish),
        });
        let completion = ChatCompletion {
            id: self.id.clone(),
            object: "chat.completion",
            created: self.created,
            model: self.language.name.clone(),
            system_fingerprint: self.language.fingerprint.clone(),
            choices: choices.collect(),
            usage: (&outcome.usage).into(),
            session_id: session_id(&outcome),
            state: outcome.sealed.as_deref().map(encoded),
        };
        // Its session is free before anybody hears of the end.
        drop(self.turn);
        check_whole(&outcome)?;
        Ok(json_body(&completion))
    }

    fn chunk(&self, choices: Vec<ChunkChoice>) -> Chunk {
        Chunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.language.name.clone(),
            system_fingerprint: self.language.fingerprint.clone(),
            choices,
            usage: None,
            session_id: None,
            state: None,
        }
    }

    /// Writes the answers as they come.
    async fn stream(self, mut pieces: Pieces, writer: Writer) -> Result<(), Gone> {
        for index in 0..self.count {
            let delta = Delta { role: Some("assistant"), content: Some(String::new()) };
            let choice = self.choice(index, delta, None);
            writer.data(&self.chunk(vec![choice])).await?;
        }
        let outcome = loop {
            let piece = match pieces.next_streamed(&writer).await? {
                Ok(piece) => piece,
                Err(error) => return writer.data(&error.body()).await,
            };
            let (index, text, told, finish) = match piece {
                Piece::Prompt(_) => continue,
                Piece::Text { branch, text, told } => (branch, text, told, None),
                Piece::End { branch, text, told, finish } => {
                    (branch, text, told, streamed_reason(&finish))
                }
                Piece::Done(outcome) => break outcome,
            };
            if finish.is_some() && (!text.is_empty() || !told.is_empty()) {
                // The last choice of an answer has its reason, and no text.
                writer.data(&self.piece(index, text, &told)).await?;
            } else if finish.is_none() {
                writer.data(&self.piece(index, text, &told)).await?;
            }
            if finish.is_some() {
                let delta = Delta::default();
                let choice = self.choice(index, delta, finish);
                writer.data(&self.chunk(vec![choice])).await?;
            }
        };
        let mut last = self.chunk(Vec::new());
        last.usage = self.includes_usage.then(|| (&outcome.usage).into());
        last.session_id = session_id(&outcome);
        last.state = outcome.sealed.as_deref().map(encoded);
        // Its session is free before anybody hears of the end.
        drop(self.turn);
        if let Err(error) = check_whole(&outcome) {
            return writer.data(&error.body()).await;
        }
        // A client that asked for neither does not expect an event without a choice.
        if last.usage.is_some() || last.state.is_some() {
            writer.data(&last).await?;
        }
        writer.done().await
    }

    fn piece(&self, index: usize, text: String, told: &[Told]) -> Chunk {
        let delta = Delta { role: None, content: Some(text) };
        let (logprobs, memory_shares) = (self.logprobs(told), self.shares(told));
        let finish_reason = None;
        self.chunk(vec![ChunkChoice { index, delta, logprobs, memory_shares, finish_reason }])
    }

    /// A choice without tokens.
    fn choice(
        &self,
        index: usize,
        delta: Delta,
        finish_reason: Option<&'static str>,
    ) -> ChunkChoice {
        ChunkChoice { index, delta, logprobs: None, memory_shares: None, finish_reason }
    }
}

fn session_id(outcome: &Outcome) -> Option<String> {
    outcome.session.as_ref().map(|session| session.name.to_string())
}
