//! `POST /v1/completions`: texts that continue prompts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use longhand_engine::Rules;
use longhand_sessions::{Job, Outcome, Usage as Counted, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::answer::{Answer, Piece, Pieces, check_whole, finish_reason, streamed_reason};
use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::{Running, blocking};
use crate::ids::{random_id, unix_time};
use crate::log_probabilities::{TextLogProbabilities, Told};
use crate::memory::{Hold, Memory, MemoryFields, NAME, encoded};
use crate::memory_shares::{self, TokenShares};
use crate::models::Language;
use crate::response_format::{ResponseFormat, rules};
use crate::sampling::{Drawing, Stops, alternatives, choices};
use crate::sse::{self, Gone, Writer};
use crate::together;
use crate::usage::Usage;

#[cfg(test)]
mod tests;

/// Tokens of an answer where the request says nothing, as OpenAI has it.
const MAX_TOKENS: u32 = 16;
/// Prompts of one request that the model reads side by side.
const SIDE_BY_SIDE: usize = 32;
/// The most prompts of one request.
const MOST_PROMPTS: usize = 2048;

/// A request for texts that continue prompts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "CompletionRequest", extend("allOf" = together::of_completions()))]
pub(crate) struct Request {
    /// The name of the model.
    model: String,
    /// A text, tokens, or a list of either; nothing is the beginning of a document.
    prompt: Option<Prompt>,
    /// How many texts are written for each prompt, of which the `n` most probable ones are given.
    #[schemars(range(min = 1, max = 16))]
    best_of: Option<u32>,
    /// Gives the prompt before each text.
    echo: Option<bool>,
    /// Lowers the logit of a token for each time that the text has it.
    #[schemars(range(min = -2.0, max = 2.0))]
    frequency_penalty: Option<f64>,
    /// Added to the logits of tokens, by their ids.
    #[schemars(extend(
        "propertyNames" = {"pattern": "^[0-9]{1,10}$"},
        "additionalProperties" = {"type": "number", "minimum": -100, "maximum": 100}
    ))]
    logit_bias: Option<BTreeMap<String, f64>>,
    /// Tells each token's log-probability, and those of this many alternatives.
    #[schemars(range(max = 20))]
    logprobs: Option<u32>,
    /// The most tokens of each text (default: 16).
    #[schemars(range(max = 1_048_576))]
    max_tokens: Option<u32>,
    /// Tells what share each kind of memory had in each written token, as `memory_shares` of the
    /// choices. Each token then takes four steps instead of one.
    memory_shares: Option<bool>,
    /// Takes only tokens at least this many times as probable as the most probable one.
    #[schemars(range(min = 0.0, max = 1.0))]
    min_p: Option<f64>,
    /// How many texts are given for each prompt.
    #[schemars(range(min = 1, max = 16))]
    n: Option<u32>,
    /// Lowers the logit of each token that the text has.
    #[schemars(range(min = -2.0, max = 2.0))]
    presence_penalty: Option<f64>,
    /// Any text: requests with one key share what was read of their prompts.
    #[schemars(length(min = 1, max = 512))]
    prompt_cache_key: Option<String>,
    /// Makes the tokens read last less probable, if greater than 1.
    #[schemars(extend("exclusiveMinimum" = 0))]
    repetition_penalty: Option<f64>,
    /// What the text must look like.
    response_format: Option<ResponseFormat>,
    /// Gives the state of the model after the text, sealed, as `state`.
    return_state: Option<bool>,
    /// Seed of the random numbers; without one they differ each time.
    seed: Option<i64>,
    /// A session of the server: the prompt continues it.
    #[schemars(extend("pattern" = NAME))]
    session_id: Option<String>,
    /// A sealed state that an answer had: the prompt goes on there.
    state: Option<String>,
    /// Texts that end the answer and are left out.
    stop: Option<Stops>,
    /// Gives the text as it comes.
    stream: Option<bool>,
    /// What a stream tells beside the text.
    stream_options: Option<StreamOptions>,
    /// Divides the logits; 0 takes the most probable token always (default: the model's own).
    #[schemars(range(min = 0.0, max = 2.0))]
    temperature: Option<f64>,
    /// Draws from this many of the most probable tokens; 0 for all.
    top_k: Option<u32>,
    /// Draws from the most probable tokens that together have this probability.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    top_p: Option<f64>,
    /// Who asks, in words of the client's own; nothing is done with it.
    #[expect(dead_code, reason = "it is taken, and nothing is done with it")]
    user: Option<String>,
}

/// What a stream tells beside the text.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamOptions {
    /// One more event before the end has the tokens of the whole request.
    pub(crate) include_usage: Option<bool>,
}

/// Prompts in all of their forms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a text, a list of texts, a list of tokens, or a list of such lists"
)]
pub(crate) enum Prompt {
    /// A text by itself.
    Text(String),
    /// Several texts, each with answers of its own.
    Texts(#[schemars(length(min = 1, max = 2048))] Vec<String>),
    /// The tokens of one prompt.
    Tokens(#[schemars(length(min = 1))] Vec<u32>),
    /// The tokens of several prompts.
    Batch(#[schemars(length(min = 1, max = 2048))] Vec<Vec<u32>>),
}

/// Texts that continue prompts.
#[derive(Serialize, JsonSchema)]
struct Completion {
    /// A name that no other answer has.
    id: String,
    /// Always the word `text_completion`.
    object: &'static str,
    /// When the answer began, in seconds since 1970.
    created: u64,
    /// The name of the model.
    model: String,
    /// The hash of the model, shortened: equal ones write equal texts for equal seeds.
    system_fingerprint: String,
    /// The texts, those of the first prompt first.
    choices: Vec<Choice>,
    /// The tokens of the request; null in a stream, but for its last event.
    usage: Option<Usage>,
    /// The session that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// The sealed state after the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// One text that continues a prompt.
#[derive(Serialize, JsonSchema)]
struct Choice {
    /// The text, or the next piece of it.
    text: String,
    /// Its place among all.
    index: usize,
    /// Log-probabilities of its tokens; null where none were asked for.
    logprobs: Option<TextLogProbabilities>,
    /// What share each kind of memory had in each written token, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_shares: Option<Vec<TokenShares>>,
    /// `stop` or `length`; null before the end.
    finish_reason: Option<&'static str>,
}

/// A prompt that is ready to be read.
struct Ready {
    ids: Vec<u32>,
    /// The prompt as text, to be given before the answer.
    echo: String,
    /// Whether the tokens are not the request's: the beginning of a document.
    is_implied: bool,
}

/// A request that was checked.
struct Asked {
    language: Arc<Language>,
    caller: Caller,
    request: Request,
    memory: Memory,
    /// The session that the key of a cache names, while it is in use.
    hold: Option<Hold>,
    rules: Option<Arc<Rules>>,
    prompts: Vec<Ready>,
    /// Texts written and texts given for each prompt.
    branches: usize,
    given: usize,
    alternatives: Option<usize>,
    tells_memory: bool,
    /// When the request is given up, with all of its prompts.
    deadline: Option<Instant>,
    id: String,
    created: u64,
}

/// The texts of one prompt: the tokens of the prompt, the answers, and what was read and kept.
type Texts = (Vec<Told>, Vec<Answer>, Box<Outcome>);

/// Prompts whose texts are written side by side. All of them are listened to: one that is not would wait
/// with its streams, and so keep them from a prompt whose turn is before its own.
#[derive(Default)]
struct SideBySide {
    running: JoinSet<(usize, Result<Texts, ApiError>)>,
    ended: BTreeMap<usize, Texts>,
}

pub(crate) fn endpoint() -> Endpoint {
    let operation = Operation::post("createCompletion", "Texts that continue prompts.")
        .takes::<Request>()
        .gives::<Completion>()
        .streams::<Completion>();
    Endpoint::at("/v1/completions").on(operation, create)
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let language = app.models_for_work()?.language(&request.model)?.clone();
    let format = request.response_format.clone();
    // A long prompt takes its time, and its client may leave meanwhile.
    let mut asked = blocking(move || Asked::check(caller, language, request)).await?;
    asked.rules = rules("response_format", format).await?;
    asked.deadline = Some(app.deadline());
    if let Memory::Prefix(name) = &asked.memory {
        // Requests with one key may come together: one has the session, the others none.
        asked.hold = app.in_use().take(&asked.caller.owner, name).ok();
        if asked.hold.is_none() {
            asked.memory = Memory::None;
        }
    }
    match asked.request.stream {
        Some(true) => {
            // What is refused at once is refused by its status, not within the stream.
            let first = asked.start(&app, 0).await?;
            Ok(sse::stream(|writer| asked.stream(app, first, writer)))
        }
        _ => asked.whole(&app).await,
    }
}

impl Asked {
    fn check(caller: Caller, language: Arc<Language>, request: Request) -> Result<Self, ApiError> {
        let given = choices("n", request.n)?;
        let branches = choices("best_of", request.best_of.or(request.n))?;
        if branches < given {
            let message = "`best_of` must be at least `n`, which chooses among its texts";
            return Err(ApiError::invalid("best_of", message));
        }
        let streams = request.stream == Some(true);
        if streams && branches > given {
            let message = "`best_of` chooses at the end, so that it cannot be streamed";
            return Err(ApiError::invalid("best_of", message));
        }
        check_stream_options(streams, request.stream_options.as_ref())?;
        let alternatives =
            request.logprobs.map(|count| alternatives("logprobs", count)).transpose()?;
        let tells_memory = memory_shares::asked(request.memory_shares, &language)?;
        let memory = Memory::of(&MemoryFields {
            session_id: request.session_id.clone(),
            prompt_cache_key: request.prompt_cache_key.clone(),
            state: request.state.clone(),
            return_state: request.return_state == Some(true),
        })?;
        // What is wrong with a number is told before a long prompt is read.
        drawing(&request, 0).write(language.engine(), false)?;
        let prompts = ready(&language, request.prompt.clone(), &memory)?;
        if prompts.len() > 1 && memory != Memory::None {
            let message = "a session, a state and a cache key go with one prompt: ask for each by \
                           itself";
            return Err(ApiError::invalid("prompt", message));
        }
        let (id, created) = (random_id("cmpl-"), unix_time());
        Ok(Self {
            language,
            caller,
            request,
            memory,
            hold: None,
            rules: None,
            prompts,
            branches,
            given,
            alternatives,
            tells_memory,
            deadline: None,
            id,
            created,
        })
    }

    /// Begins with a prompt.
    async fn start(&self, app: &App, place: usize) -> Result<Pieces, ApiError> {
        let prompt = &self.prompts[place];
        // Prompts of one request draw apart from each other.
        let drawing = drawing(&self.request, place * self.branches);
        let mut write = drawing.write(self.language.engine(), self.memory.goes_on())?;
        write.branches = self.branches;
        // The best is chosen by log-probabilities, whether they are told or not.
        let chooses = self.branches > self.given;
        write.options.log_probabilities = self.alternatives.or(chooses.then_some(0));
        write.prompt_scores = self.alternatives.filter(|_| self.echoes());
        write.options.rules = self.rules.clone();
        write.memory_shares = self.tells_memory;
        let tells = write.options.log_probabilities.is_some() || self.tells_memory;
        let mut job = Job::new(self.caller.owner.clone(), prompt.ids.clone(), Work::Write(write));
        job.start = self.memory.start();
        job.keep = self.memory.keep(&app.limits());
        job.deadline = self.deadline;
        let running = Running::start(app, &self.caller, &self.language, job).await?;
        let pieces = Pieces::new(running, &self.language, &prompt.ids, self.branches, tells)?;
        Ok(pieces.telling_ends())
    }

    fn echoes(&self) -> bool {
        self.request.echo == Some(true)
    }

    /// Answers with all texts at once.
    async fn whole(self, app: &App) -> Result<Response, ApiError> {
        let mut answer = self.chunk(Vec::new());
        let mut usage = Usage::default();
        let mut all = SideBySide::default();
        let mut next = 0;
        for place in 0..self.prompts.len() {
            while next < self.prompts.len() && next < place + SIDE_BY_SIDE {
                all.listen(next, self.start(app, next).await?);
                next += 1;
            }
            let (told, mut answers, outcome) = all.texts(place).await?;
            check_whole(&outcome)?;
            usage.add(&self.counted(place, &outcome.usage));
            answer.session_id = outcome.session.map(|session| session.name.to_string());
            answer.state = outcome.sealed.as_deref().map(encoded);
            if self.branches > self.given {
                // A stable sort: of equals, the first one.
                let value = Answer::mean_log_probability;
                answers.sort_by(|a, b| value(b).total_cmp(&value(a)));
                answers.truncate(self.given);
            }
            for (branch, text) in answers.into_iter().enumerate() {
                let choice = self.choice(place, branch, &told, text);
                answer.choices.push(choice);
            }
        }
        answer.usage = Some(usage);
        Ok(json_body(&answer))
    }

    /// The tokens of a prompt, without what the request does not have.
    fn counted(&self, place: usize, counted: &Counted) -> Counted {
        let implied = u64::from(self.prompts[place].is_implied);
        Counted { prompt: counted.prompt.saturating_sub(implied), ..*counted }
    }

    fn choice(&self, place: usize, branch: usize, prompt: &[Told], answer: Answer) -> Choice {
        let mut characters = 0;
        let mut text = String::new();
        let mut logprobs = self.alternatives.map(|_| TextLogProbabilities::default());
        let tokenizer = self.language.engine().tokenizer();
        if self.echoes() {
            text.push_str(&self.prompts[place].echo);
        }
        if let Some(logprobs) = &mut logprobs {
            if self.echoes() {
                logprobs.extend(tokenizer, self.own(place, prompt), &mut characters);
            }
            logprobs.extend(tokenizer, &answer.told, &mut characters);
        }
        text.push_str(&answer.text);
        let memory_shares = memory_shares::of_tokens(tokenizer, &answer.told, self.tells_memory);
        let finish_reason = Some(finish_reason(&answer.finish));
        let index = place * self.given + branch;
        Choice { text, index, logprobs, memory_shares, finish_reason }
    }

    /// The tokens of the prompt that the request has.
    fn own<'a>(&self, place: usize, prompt: &'a [Told]) -> &'a [Told] {
        &prompt[usize::from(self.prompts[place].is_implied).min(prompt.len())..]
    }

    fn chunk(&self, choices: Vec<Choice>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion",
            created: self.created,
            model: self.language.name.clone(),
            system_fingerprint: self.language.fingerprint.clone(),
            choices,
            usage: None,
            session_id: None,
            state: None,
        }
    }

    /// Writes all texts as they come.
    async fn stream(self, app: App, first: Pieces, writer: Writer) -> Result<(), Gone> {
        let mut usage = Usage::default();
        let mut last = self.chunk(Vec::new());
        let mut first = Some(first);
        for place in 0..self.prompts.len() {
            let pieces = match first.take() {
                Some(pieces) => Ok(pieces),
                None => self.start(&app, place).await,
            };
            let streamed = match pieces {
                Ok(pieces) => {
                    self.stream_prompt(place, pieces, &writer, &mut usage, &mut last).await?
                }
                Err(error) => Err(error),
            };
            if let Err(error) = streamed {
                return writer.data(&error.body()).await;
            }
        }
        let includes_usage =
            self.request.stream_options.and_then(|options| options.include_usage) == Some(true);
        // A client that asked for neither does not expect an event without a choice.
        if includes_usage || last.state.is_some() {
            last.usage = includes_usage.then_some(usage);
            writer.data(&last).await?;
        }
        writer.done().await
    }

    async fn stream_prompt(
        &self,
        place: usize,
        mut pieces: Pieces,
        writer: &Writer,
        usage: &mut Usage,
        last: &mut Completion,
    ) -> Result<Result<(), ApiError>, Gone> {
        let tokenizer = self.language.engine().tokenizer();
        let logprobs = |told: &[Told], characters: &mut usize| {
            self.alternatives.map(|_| {
                let mut lists = TextLogProbabilities::default();
                lists.extend(tokenizer, told, characters);
                lists
            })
        };
        let mut characters = vec![0; self.branches];
        let mut prompt = Vec::new();
        let mut is_echoed = !self.echoes();
        loop {
            let piece = match pieces.next_streamed(writer).await? {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(error)),
            };
            let (branch, text, told, finish) = match piece {
                Piece::Prompt(told) => {
                    prompt.extend(told);
                    continue;
                }
                Piece::Text { branch, text, told } => (branch, text, told, None),
                Piece::End { branch, text, told, finish } => {
                    (branch, text, told, streamed_reason(&finish))
                }
                Piece::Done(outcome) => {
                    if let Err(error) = check_whole(&outcome) {
                        return Ok(Err(error));
                    }
                    usage.add(&self.counted(place, &outcome.usage));
                    last.session_id = outcome.session.map(|session| session.name.to_string());
                    last.state = outcome.sealed.as_deref().map(encoded);
                    return Ok(Ok(()));
                }
            };
            let index = |branch| place * self.given + branch;
            if !std::mem::replace(&mut is_echoed, true) {
                for (branch, characters) in characters.iter_mut().enumerate() {
                    let logprobs = logprobs(self.own(place, &prompt), characters);
                    let (text, index) = (self.prompts[place].echo.clone(), index(branch));
                    let (memory_shares, finish_reason) = (None, None);
                    let choice = Choice { text, index, logprobs, memory_shares, finish_reason };
                    writer.data(&self.chunk(vec![choice])).await?;
                }
            }
            let logprobs = logprobs(&told, &mut characters[branch]);
            let memory_shares = memory_shares::of_tokens(tokenizer, &told, self.tells_memory);
            let (index, finish_reason) = (index(branch), finish);
            let choice = Choice { text, index, logprobs, memory_shares, finish_reason };
            writer.data(&self.chunk(vec![choice])).await?;
        }
    }
}

impl SideBySide {
    /// Collects the texts of a prompt, until this is dropped.
    fn listen(&mut self, place: usize, pieces: Pieces) {
        self.running.spawn(async move { (place, pieces.collect().await) });
    }

    /// Waits for the texts of a prompt.
    ///
    /// # Errors
    /// What any of the jobs failed with.
    async fn texts(&mut self, place: usize) -> Result<Texts, ApiError> {
        loop {
            if let Some(texts) = self.ended.remove(&place) {
                return Ok(texts);
            }
            let ended = self.running.join_next().await;
            let ended = ended.ok_or_else(|| ApiError::internal("a prompt has no texts"))?;
            let (place, texts) = ended.map_err(ApiError::internal)?;
            self.ended.insert(place, texts?);
        }
    }
}

/// Refuses options of a stream where none is asked for.
pub(crate) fn check_stream_options(
    streams: bool,
    options: Option<&StreamOptions>,
) -> Result<(), ApiError> {
    match options {
        Some(_) if !streams => {
            let message =
                "`stream_options` are for a stream: set `stream` to true, or leave them out";
            Err(ApiError::invalid("stream_options", message))
        }
        _ => Ok(()),
    }
}

/// How tokens are drawn, with `shift` added to the seed.
fn drawing(request: &Request, shift: usize) -> Drawing {
    Drawing {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        repetition_penalty: request.repetition_penalty,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        seed: request.seed.map(|seed| seed.wrapping_add(shift as i64)),
        logit_bias: request.logit_bias.clone(),
        stop: request.stop.clone(),
        max_tokens: Some(("max_tokens", request.max_tokens.unwrap_or(MAX_TOKENS))),
    }
}

/// The tokens of each prompt.
fn ready(
    language: &Language,
    prompt: Option<Prompt>,
    memory: &Memory,
) -> Result<Vec<Ready>, ApiError> {
    let tokenizer = language.engine().tokenizer();
    let text = |echo: String| {
        let ids = tokenizer.encode(&echo)?;
        Ok(Ready { ids, echo, is_implied: false })
    };
    let tokens = |ids: Vec<u32>| {
        let vocab_size = tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            let message = format!("the token {id} is not among the {vocab_size} of the model");
            return Err(ApiError::invalid("prompt", message));
        }
        let echo = tokenizer.decode(&ids)?;
        Ok(Ready { ids, echo, is_implied: false })
    };
    let is_missing = prompt.is_none();
    let prompts: Vec<Ready> = match prompt {
        None => vec![text(String::new())?],
        Some(Prompt::Text(one)) => vec![text(one)?],
        Some(Prompt::Texts(all)) => all.into_iter().map(text).collect::<Result<_, ApiError>>()?,
        Some(Prompt::Tokens(ids)) => vec![tokens(ids)?],
        Some(Prompt::Batch(all)) => all.into_iter().map(tokens).collect::<Result<_, _>>()?,
    };
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
        let message =
            format!("`prompt` has {} prompts, but must have 1 to {MOST_PROMPTS}", prompts.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let goes_on = matches!(memory, Memory::Session(_) | Memory::Sealed(Some(_)));
    let begin = |prompt: Ready| {
        if !prompt.ids.is_empty() || goes_on {
            return Ok(prompt);
        }
        let end = tokenizer.document_end_id();
        let id = end.or_else(|| tokenizer.id(longhand_text::tokenizer::END));
        let missing = || {
            let message = match is_missing {
                true => "`prompt` is missing: give a text, or a session to go on from",
                false => {
                    "`prompt` is empty, and the model has no token that begins a document: give a \
                     text"
                }
            };
            ApiError::invalid("prompt", message)
        };
        Ok(Ready { ids: vec![id.ok_or_else(missing)?], is_implied: true, ..prompt })
    };
    prompts.into_iter().map(begin).collect()
}
