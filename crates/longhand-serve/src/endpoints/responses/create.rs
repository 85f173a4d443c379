//! How a response is made: what it goes on from, what is kept, and how it is given.

use std::sync::Arc;

use axum::response::Response;
use longhand_engine::FinishReason;
use longhand_sessions::{Finish, Job, Keep, Name, Outcome, Start, Whole, Work, Write};
use longhand_text::corpus::dialogues::{Message, Role};
use serde_json::json;
use tokio::sync::oneshot;

use super::events::{Events, ResponseEvent};
use super::history::history;
use super::object::{
    ConversationId, Includable, IncompleteDetails, Request, ResponseObject, Stored, TextObject,
};
use super::{LOOK, RESPONSE, load, store};
use crate::answer::{Piece, Pieces, check_whole};
use crate::app::App;
use crate::auth::Caller;
use crate::background::Listed;
use crate::conversation::{Turn, behind_answer, end_answer, whole, whole_apart};
use crate::endpoints::conversations::Conversation;
use crate::error::{ApiError, json_body};
use crate::generation::{Running, blocking};
use crate::ids::{random_id, unix_time};
use crate::items::{Input, Item, ItemPart, Status};
use crate::log_probabilities::{ChatLogProbability, chat};
use crate::memory::{Hold, Memory, MemoryFields, encoded, hint};
use crate::models::Language;
use crate::response_format::{ResponseFormat, rules};
use crate::sampling::{Drawing, alternatives};
use crate::sse::{Gone, Writer};

/// A response that is being made.
pub(super) struct Making {
    app: App,
    caller: Caller,
    language: Arc<Language>,
    pub(super) stored: Stored,
    /// The name of the message that is written.
    item_id: String,
    tells: bool,
    /// Whether the request itself says that the response is to be kept.
    must_store: bool,
    conversation: Option<(Conversation, Hold)>,
    /// The turn in a session that the request named, or in a state that its client holds.
    turn: Option<Turn>,
}

/// What a response goes on from.
struct Origin {
    start: Start,
    keep: Keep,
    ids: Vec<u32>,
    /// Gives the tokens of all where the state is gone when the job is given in.
    whole: Option<Whole>,
    goes_on: bool,
    conversation: Option<(Conversation, Hold)>,
    turn: Option<Turn>,
}

impl Making {
    /// Checks a request, and hands it to the model.
    pub(super) async fn begin(
        app: &App,
        caller: &Caller,
        request: Request,
    ) -> Result<(Self, Pieces), ApiError> {
        let language = app.models_for_work()?.language(&request.model)?.clone();
        check(&request)?;
        let includes = request.include.as_deref().unwrap_or_default();
        let tells = includes.contains(&Includable::LogProbabilities);
        let count = alternatives("top_logprobs", request.top_logprobs.unwrap_or(0))?;
        let format = request.text.as_ref().and_then(|text| text.format.clone());
        let rules = rules("text.format", format.map(ResponseFormat::from)).await?;
        let id = random_id("resp_");
        let input = request.input.clone().into_items();
        let mut origin = origin(app, caller, &language, &request, &id, &input).await?;
        let drawing = Drawing {
            temperature: request.temperature,
            top_p: request.top_p,
            seed: request.seed,
            max_tokens: request.max_output_tokens.map(|count| ("max_output_tokens", count)),
            ..Drawing::default()
        };
        let mut write: Write = drawing.write(language.engine(), origin.goes_on)?;
        write.options.rules = rules;
        end_answer(&language, &mut write);
        write.options.log_probabilities = tells.then_some(count);
        let mut job = Job::new(caller.owner.clone(), origin.ids.clone(), Work::Write(write));
        let (noting, said) = origin.turn.as_mut().and_then(Turn::noting).unzip();
        (job.start, job.keep, job.noting) = (origin.start, origin.keep, noting);
        job.whole = origin.whole;
        let running = Running::start_noted(app, caller, &language, job, said).await?;
        let pieces = Pieces::new(running, &language, &origin.ids, 1, tells)?;
        let must_store = request.store == Some(true) || request.background == Some(true);
        let response = response(&language, request, id);
        let making = Self {
            app: app.clone(),
            caller: caller.clone(),
            language,
            stored: Stored { response, input, messages: Vec::new(), server: None },
            item_id: random_id("msg_"),
            tells,
            must_store,
            conversation: origin.conversation,
            turn: origin.turn,
        };
        Ok((making, pieces))
    }

    /// Answers with all at once.
    pub(super) async fn whole(mut self, pieces: Pieces) -> Result<Response, ApiError> {
        self.finish(pieces).await?;
        Ok(json_body(&self.stored.response))
    }

    /// Keeps the response as one that has begun, tells of it, and writes it to its end. Until then it is
    /// on the list of what this server writes.
    pub(super) async fn in_background(
        mut self,
        pieces: Pieces,
        begun: oneshot::Sender<Result<(), ApiError>>,
    ) {
        let list = self.app.background().clone();
        let (owner, id) = (&self.caller.owner, &self.stored.response.id);
        let listed = Arc::new(list.list(owner, id, pieces.ticket()));
        let kept = self.keep_begun().await;
        let is_kept = kept.is_ok();
        // A client that has left does not hear of it; the response comes to its end all the same.
        let _ = begun.send(kept);
        if !is_kept {
            return;
        }
        if let Err(error) = self.finish_or_heed(pieces, &listed).await {
            match listed.is_given_up() {
                true => self.stored.response.status = Status::Cancelled,
                false => self.stored.response.fail(error.to_string()),
            }
            keep_end(&self.app, &self.caller, &self.stored).await;
        }
        // A conversation and a session are free before anybody hears that the response has ended.
        drop(self);
        drop(listed);
    }

    /// Waits for the answer, and keeps it, unless another server asks meanwhile for the response's end.
    async fn finish_or_heed(
        &mut self,
        pieces: Pieces,
        listed: &Arc<Listed>,
    ) -> Result<(), ApiError> {
        let sessions = self.app.sessions().clone();
        let finished = self.finish(pieces);
        tokio::pin!(finished);
        loop {
            if let Ok(finished) = tokio::time::timeout(LOOK, &mut finished).await {
                return finished;
            }
            let (listed, sessions) = (listed.clone(), sessions.clone());
            blocking(move || {
                listed.heed(&sessions);
                Ok(())
            })
            .await?;
        }
    }

    /// Keeps the response as one that this server writes, and shows that it does.
    async fn keep_begun(&mut self) -> Result<(), ApiError> {
        let (app, owner) = (self.app.clone(), self.caller.owner.clone());
        blocking(move || Ok(app.background().sign(app.sessions(), &owner)?)).await?;
        self.stored.server = Some(self.app.background().server().to_owned());
        let kept = store(&self.app, &self.caller, &self.stored).await;
        // What is kept later has an end, and nobody writes it any more.
        self.stored.server = None;
        kept
    }

    /// Waits for the answer, and keeps it.
    async fn finish(&mut self, pieces: Pieces) -> Result<(), ApiError> {
        let (_, answers, outcome) = pieces.collect().await?;
        let answer = answers.into_iter().next();
        let answer = answer.ok_or_else(|| ApiError::internal("there is no answer"))?;
        let logprobs = match self.tells {
            true => chat(self.language.engine().tokenizer(), &answer.told),
            false => Vec::new(),
        };
        self.close(answer.text, logprobs, &answer.finish, &outcome).await
    }

    /// Notes the answer, and keeps the response where it is to be kept.
    async fn close(
        &mut self,
        text: String,
        logprobs: Vec<ChatLogProbability>,
        finish: &Finish,
        outcome: &Outcome,
    ) -> Result<(), ApiError> {
        let is_cut = matches!(finish, Finish::Reason(FinishReason::Length) | Finish::Interrupted);
        let status = if is_cut { Status::Incomplete } else { Status::Completed };
        let item = Item::written(self.item_id.clone(), status, text, logprobs);
        let response = &mut self.stored.response;
        response.status = status;
        response.completed_at = (!is_cut).then(unix_time);
        response.incomplete_details =
            is_cut.then(|| IncompleteDetails { reason: "max_output_tokens".into() });
        response.output = vec![item.clone()];
        response.usage = Some((&outcome.usage).into());
        response.state = outcome.sealed.as_deref().map(encoded);
        if let Some(turn) = self.turn.take() {
            response.session_id = outcome.session.as_ref().map(|it| it.name.to_string());
            // The session is free before anybody hears of the end.
            drop(turn);
        }
        if let Some((conversation, hold)) = self.conversation.take() {
            self.add_to(conversation, item).await?;
            drop(hold);
        }
        self.store().await?;
        check_whole(outcome)
    }

    /// Adds what was read and written to the conversation, which others may have changed or erased.
    async fn add_to(&self, conversation: Conversation, item: Item) -> Result<(), ApiError> {
        let items: Vec<Item> = self.stored.input.iter().cloned().chain([item]).collect();
        let add = move |conversation: &mut Conversation| {
            conversation.items.extend(items);
            Ok(())
        };
        match Conversation::update(&self.app, &self.caller, &conversation.id, add).await {
            Err(ApiError::NotFound { .. }) => Ok(()),
            added => added.map(|_| ()),
        }
    }

    /// Keeps the response where it is to be kept. Where that cannot be, and the request did not ask for
    /// it, it is answered as one that is not kept.
    async fn store(&mut self) -> Result<(), ApiError> {
        if !self.stored.response.store {
            return Ok(());
        }
        match store(&self.app, &self.caller, &self.stored).await {
            Err(
                error @ (ApiError::Quota(_)
                | ApiError::Storage(_)
                | ApiError::StorageUnavailable { .. }),
            ) if !self.must_store => {
                tracing::warn!(%error, "a response is not kept");
                self.stored.response.store = false;
                Ok(())
            }
            stored => stored,
        }
    }

    /// Writes the answer as it comes.
    pub(super) async fn stream(mut self, mut pieces: Pieces, writer: Writer) -> Result<(), Gone> {
        let mut events = Events::new(writer);
        let response = || Box::new(self.stored.response.clone());
        events.send(ResponseEvent::Created { response: response() }).await?;
        events.send(ResponseEvent::InProgress { response: response() }).await?;
        let (item_id, output_index, content_index) = (self.item_id.clone(), 0, 0);
        let mut item =
            Item::written(item_id.clone(), Status::InProgress, String::new(), Vec::new());
        let parts = std::mem::take(&mut item.content);
        events.send(ResponseEvent::ItemAdded { output_index, item }).await?;
        for part in parts {
            let item_id = item_id.clone();
            let event = ResponseEvent::PartAdded { item_id, output_index, content_index, part };
            events.send(event).await?;
        }
        let (mut text, mut logprobs) = (String::new(), Vec::new());
        let mut ended = Finish::Interrupted;
        let closed = loop {
            let (delta, told) = match pieces.next_streamed(events.writer()).await? {
                Ok(Piece::Prompt(_)) => continue,
                Ok(Piece::Text { text, told, .. }) => (text, told),
                Ok(Piece::End { text, told, finish, .. }) => {
                    ended = finish;
                    (text, told)
                }
                Ok(Piece::Done(outcome)) => {
                    break self.close(text.clone(), logprobs.clone(), &ended, &outcome).await;
                }
                Err(error) => break Err(error),
            };
            if delta.is_empty() && told.is_empty() {
                continue;
            }
            let told = match self.tells {
                true => chat(self.language.engine().tokenizer(), &told),
                false => Vec::new(),
            };
            text.push_str(&delta);
            logprobs.extend(told.iter().cloned());
            let (item_id, logprobs) = (item_id.clone(), told);
            let event =
                ResponseEvent::TextDelta { item_id, output_index, content_index, delta, logprobs };
            events.send(event).await?;
        };
        if let Err(error) = closed {
            self.stored.response.fail(error.to_string());
            keep_end(&self.app, &self.caller, &self.stored).await;
            let response = Box::new(self.stored.response);
            events.send(ResponseEvent::Failed { response }).await?;
            return events.writer().done().await;
        }
        self.end(events, text, logprobs).await
    }

    /// Writes the last events of a response that is whole.
    async fn end(
        self,
        mut events: Events,
        text: String,
        logprobs: Vec<ChatLogProbability>,
    ) -> Result<(), Gone> {
        let (item_id, output_index, content_index) = (self.item_id, 0, 0);
        let part = ItemPart::OutputText {
            text: text.clone(),
            annotations: Vec::new(),
            logprobs: logprobs.clone(),
        };
        let done = ResponseEvent::TextDone {
            item_id: item_id.clone(),
            output_index,
            content_index,
            text,
            logprobs,
        };
        events.send(done).await?;
        events.send(ResponseEvent::PartDone { item_id, output_index, content_index, part }).await?;
        let response = Box::new(self.stored.response);
        for item in response.output.clone() {
            events.send(ResponseEvent::ItemDone { output_index, item }).await?;
        }
        let last = match response.status {
            Status::Incomplete => ResponseEvent::Incomplete { response },
            _ => ResponseEvent::Completed { response },
        };
        events.send(last).await?;
        events.writer().done().await
    }
}

/// Keeps the end of a response without an answer, where it is to be kept.
async fn keep_end(app: &App, caller: &Caller, stored: &Stored) {
    if stored.response.store
        && let Err(error) = store(app, caller, stored).await
    {
        tracing::error!(%error, "the end of a response cannot be kept");
    }
}

/// Refuses fields that exclude each other.
fn check(request: &Request) -> Result<(), ApiError> {
    let named = [
        ("conversation", request.conversation.is_some()),
        ("previous_response_id", request.previous_response_id.is_some()),
        ("session_id", request.session_id.is_some()),
        ("state", request.state.is_some()),
    ];
    let mut given = named.iter().filter(|(_, is_given)| *is_given).map(|(field, _)| *field);
    let before = given.next();
    if let (Some(first), Some(second)) = (before, given.next()) {
        let message = format!("`{second}` excludes `{first}`: each names what came before");
        return Err(ApiError::invalid(second, message));
    }
    if request.return_state == Some(true) {
        if let Some(field) = before.filter(|field| *field != "state") {
            let message = format!(
                "`return_state` excludes `{field}`: what came before is held by the client or by the \
                 server"
            );
            return Err(ApiError::invalid("return_state", message));
        }
        if request.store != Some(false) {
            let message = "`return_state` needs `store` to be false: the client holds the state, and \
                           the server keeps nothing";
            return Err(ApiError::invalid("store", message));
        }
    }
    if request.background == Some(true) {
        if request.store == Some(false) {
            let message = "`background` needs `store`, so that the response can be shown";
            return Err(ApiError::invalid("store", message));
        }
        if request.stream == Some(true) {
            let message = "a response in the background is not streamed: leave out `stream`";
            return Err(ApiError::unsupported("stream", message));
        }
    }
    if request.top_logprobs.is_some_and(|count| count > 0)
        && request.include.as_deref().is_none_or(<[_]>::is_empty)
    {
        let message = "`top_logprobs` needs `include` with `message.output_text.logprobs`";
        return Err(ApiError::invalid("top_logprobs", message));
    }
    check_input(&request.input)?;
    match request.max_output_tokens {
        Some(0) => {
            Err(ApiError::invalid("max_output_tokens", "`max_output_tokens` is 0: give more"))
        }
        _ => Ok(()),
    }
}

/// Refuses a list of messages that has none.
fn check_input(input: &Input) -> Result<(), ApiError> {
    match input {
        Input::Items(items) if items.is_empty() => {
            Err(ApiError::invalid("input", "`input` is empty: give at least one message"))
        }
        _ => Ok(()),
    }
}

/// What a response goes on from, and what is kept of it.
async fn origin(
    app: &App,
    caller: &Caller,
    language: &Arc<Language>,
    request: &Request,
    id: &str,
    input: &[Item],
) -> Result<Origin, ApiError> {
    let new: Vec<Message> = input.iter().map(Item::message).collect();
    let limits = app.limits();
    // The messages of a response or a conversation are kept by themselves, so that its state can be had
    // again.
    let own = match request.store {
        Some(false) => Keep::Nothing,
        _ => hint(Name::new(id)?, limits.response_ttl),
    };
    let system = request.instructions.iter().map(|text| Message::new(Role::System, text.as_str()));
    let with_system =
        |messages: &[Message]| system.clone().chain(messages.iter().cloned()).collect::<Vec<_>>();
    // What another field goes on from, the key need not find; it must be one all the same.
    let memory = Memory::of(&MemoryFields {
        session_id: request.session_id.clone(),
        prompt_cache_key: request.prompt_cache_key.clone(),
        state: request.state.clone(),
        return_state: request.return_state == Some(true),
    })?;
    if matches!(memory, Memory::Session(_) | Memory::Sealed(_)) {
        let mut turn = Turn::prepare(app, caller, language, with_system(&new), memory).await?;
        let (start, keep) = (
            std::mem::replace(&mut turn.start, Start::Fresh),
            std::mem::replace(&mut turn.keep, Keep::Nothing),
        );
        let (ids, goes_on) = (turn.ids.clone(), turn.goes_on);
        let (turn, conversation, whole) = (Some(turn), None, None);
        return Ok(Origin { start, keep, ids, whole, goes_on, conversation, turn });
    }
    let plain = |start, keep, ids, goes_on| Origin {
        start,
        keep,
        ids,
        whole: None,
        goes_on,
        conversation: None,
        turn: None,
    };
    if let Some(conversation) = &request.conversation {
        let conversation_id = conversation.clone().into_id();
        let name = Conversation::name(&conversation_id)?;
        let hold = app.in_use().take(&caller.owner, &name)?;
        let conversation = Conversation::load(app, caller, &conversation_id).await?;
        let before = conversation.items.iter().map(Item::message);
        let messages: Vec<Message> = before.chain(new).collect();
        let ids = whole_apart(language, with_system(&messages)).await?;
        let keep = hint(name.clone(), limits.response_ttl);
        let origin = plain(Start::Prefix { name }, keep, ids, false);
        return Ok(Origin { conversation: Some((conversation, hold)), ..origin });
    }
    let Some(previous) = &request.previous_response_id else {
        let ids = whole_apart(language, with_system(&new)).await?;
        let keep = match own {
            Keep::Nothing => memory.keep(&limits),
            own => own,
        };
        return Ok(plain(memory.start(), keep, ids, false));
    };
    let encoder = language.clone();
    let before = load(app, caller, previous, "previous_response_id").await?;
    // The state before has read its own instructions. If they are these, it goes on; otherwise the
    // conversation is read again with the new ones.
    let name = Name::new(previous.as_str())?;
    let is_same = before.response.instructions == request.instructions
        && before.response.model == request.model
        && has_session(app, caller, language, &name).await;
    // What the state has read need not be read from the store.
    let noted = with_system(&before.own());
    let (app, owner, language) = (app.clone(), caller.owner.clone(), language.clone());
    let (system, following) = (with_system(&[]), new.clone());
    let whole_text = move || {
        let before = history(&app, &owner, &before)?;
        let messages: Vec<Message> = system.into_iter().chain(before).chain(following).collect();
        whole(&language, &messages)
    };
    if !is_same {
        let ids = blocking(whole_text).await?;
        return Ok(plain(Start::Fresh, own, ids, false));
    }
    let ids = blocking(move || behind_answer(&encoder, &noted, &new)).await?;
    let start = Start::Session { name, or_new: false };
    let whole: Whole = Box::new(move || whole_text().ok());
    Ok(Origin { whole: Some(whole), ..plain(start, own, ids, true) })
}

/// Whether the state of a response is still there, and is one of this model. It only spares work: what
/// is wrong with it is no matter.
async fn has_session(app: &App, caller: &Caller, language: &Arc<Language>, name: &Name) -> bool {
    let (sessions, owner, name) = (app.sessions().clone(), caller.owner.clone(), name.clone());
    let language = language.clone();
    blocking(move || {
        let found = sessions.show(&owner, &name);
        Ok(found.is_ok_and(|info| info.model == language.engine().model_hash()))
    })
    .await
    .unwrap_or(false)
}

/// A response that has just begun.
fn response(language: &Language, request: Request, id: String) -> ResponseObject {
    let own = language.engine().generation().sampler;
    let conversation =
        request.conversation.map(|conversation| ConversationId { id: conversation.into_id() });
    let format = request.text.and_then(|text| text.format);
    let format = format.map_or_else(|| json!({"type": "text"}), |format| format.to_json());
    ResponseObject {
        id,
        object: RESPONSE.into(),
        created_at: unix_time(),
        completed_at: None,
        status: Status::InProgress,
        background: request.background == Some(true),
        error: None,
        incomplete_details: None,
        instructions: request.instructions,
        max_output_tokens: request.max_output_tokens,
        model: language.name.clone(),
        output: Vec::new(),
        previous_response_id: request.previous_response_id,
        conversation,
        session_id: request.session_id,
        state: None,
        prompt_cache_key: request.prompt_cache_key,
        safety_identifier: request.safety_identifier,
        user: request.user,
        store: request.store != Some(false),
        temperature: request.temperature.map_or(own.temperature, |value| value as f32),
        top_p: request.top_p.map_or(own.top_p, |value| value as f32),
        top_logprobs: request.top_logprobs.unwrap_or(0),
        text: TextObject { format },
        truncation: request.truncation.unwrap_or_default(),
        parallel_tool_calls: false,
        tool_choice: "none".into(),
        tools: Vec::new(),
        max_tool_calls: None,
        reasoning: None,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        service_tier: "default".into(),
        usage: None,
        metadata: request.metadata.unwrap_or_default(),
    }
}

/// The tokens that a request would read, with all that came before it.
pub(super) async fn count(
    app: &App,
    caller: &Caller,
    request: super::CountRequest,
) -> Result<usize, ApiError> {
    let language = app.models()?.language_or_only(request.model.as_deref())?.clone();
    request.input.as_ref().map_or(Ok(()), check_input)?;
    let new = request.input.map(Input::into_items).unwrap_or_default();
    let goes_on = request.previous_response_id.is_some() || request.conversation.is_some();
    let before: Vec<Message> = match (request.previous_response_id, request.conversation) {
        (Some(_), Some(_)) => {
            let message = "`conversation` excludes `previous_response_id`";
            return Err(ApiError::invalid("conversation", message));
        }
        (Some(id), None) => {
            let last = load(app, caller, &id, "previous_response_id").await?;
            let (app, owner) = (app.clone(), caller.owner.clone());
            blocking(move || history(&app, &owner, &last)).await?
        }
        (None, Some(conversation)) => {
            let id = conversation.into_id();
            let conversation = Conversation::load(app, caller, &id).await?;
            conversation.items.iter().map(Item::message).collect()
        }
        (None, None) => Vec::new(),
    };
    let system = request.instructions.map(|text| Message::new(Role::System, text));
    let messages: Vec<Message> =
        system.into_iter().chain(before).chain(new.iter().map(Item::message)).collect();
    match messages.is_empty() {
        false => Ok(whole_apart(&language, messages).await?.len()),
        // A conversation that has just begun.
        true if goes_on => Ok(0),
        true => Err(ApiError::invalid("input", "there is nothing to count: give `input`")),
    }
}
