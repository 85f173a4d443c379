//! `/v1/sessions`: what the server remembers of texts and conversations.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use longhand_sessions::{Name, Owner, SessionInfo, Sessions};
use longhand_text::corpus::dialogues::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{Named, Queried, at_most};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, RawBody};
use crate::conversation::{Note, ttl};
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::blocking;
use crate::memory::{NAME, named};

#[cfg(test)]
mod tests;

/// The kind of bytes that a snapshot is.
const SNAPSHOT: &str = "application/octet-stream";

/// A session as clients are shown it.
#[derive(Serialize, JsonSchema)]
struct SessionObject {
    /// The name in requests.
    id: String,
    /// Always the word `session`.
    object: &'static str,
    /// The same as `id`.
    name: String,
    /// The name of its model; null where no model of the server fits it.
    model: Option<String>,
    /// The hash of its model.
    model_hash: String,
    /// Tokens that it has read and written.
    position: u64,
    /// How often it was continued.
    turns: u64,
    /// Bytes of its states.
    bytes: u64,
    /// When it began, in seconds since 1970.
    created_at: u64,
    /// When it was last used, in seconds since 1970.
    updated_at: u64,
    /// When it will be forgotten unless it is used; null for never.
    expires_at: Option<u64>,
    /// Positions that it can go back to, the first one first.
    checkpoints: Vec<CheckpointObject>,
    /// The messages of a conversation, where one session is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<MessageObject>>,
}

/// A place that a session can go back to.
#[derive(Serialize, JsonSchema)]
struct CheckpointObject {
    /// Tokens that were read and written up to there.
    position: u64,
    /// Bytes of its state.
    bytes: u64,
}

/// A message that a session has read or written.
#[derive(Serialize, JsonSchema)]
struct MessageObject {
    /// Who speaks in this message.
    role: &'static str,
    /// What is said in it, as text.
    content: String,
}

/// Which sessions of a key are listed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The name of the last session of the page before.
    after: Option<String>,
    /// How many there are on a page (default: all).
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

/// The most sessions on a page that names how many it has.
const MOST_LISTED: usize = 1000;

/// Sessions of a key.
#[derive(Serialize, JsonSchema)]
struct SessionList {
    /// Always the word `list`, as OpenAI has it.
    object: &'static str,
    /// The sessions by name.
    data: Vec<SessionObject>,
    /// Whether there are more behind the last one.
    has_more: bool,
}

/// A session was erased.
#[derive(Serialize, JsonSchema)]
struct SessionDeleted {
    /// The name that it had.
    id: String,
    /// Always the word `session.deleted`.
    object: &'static str,
    /// Always true: it is gone.
    deleted: bool,
}

/// How a session is branched.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForkRequest {
    /// The name of the new session (default: a random one).
    #[schemars(extend("pattern" = NAME))]
    name: Option<String>,
    /// The position of the checkpoint that it begins at (default: the last one).
    position: Option<u64>,
}

/// What is changed of a session.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeRequest {
    /// The new name of the session.
    #[schemars(extend("pattern" = NAME))]
    name: Option<String>,
    /// Seconds after the last use at which it is forgotten; 0 for never.
    ttl: Option<u64>,
}

/// Where a session is cut.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TruncateRequest {
    /// The position of a checkpoint.
    position: u64,
}

/// The name and the model of what is imported.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ImportQuery {
    /// The name of the model, where there are several.
    model: Option<String>,
    /// The name of the session (default: a random one).
    #[schemars(extend("pattern" = NAME))]
    name: Option<String>,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let session = |operation: Operation| operation.with_path("session", "The name of the session.");
    let one = |operation: Operation| session(operation.gives::<SessionObject>());
    let list = Operation::get("listSessions", "The sessions of the key.")
        .gives::<SessionList>()
        .with_query::<ListQuery>();
    let import = Operation::post("importSession", "A session from a snapshot.")
        .takes_bytes(SNAPSHOT)
        .gives::<SessionObject>()
        .with_query::<ImportQuery>();
    let show_one = one(Operation::get("getSession", "One session."));
    let change = one(Operation::patch("changeSession", "Another name or time to live."));
    let erase = session(Operation::delete("deleteSession", "Erases a session."));
    let fork = one(Operation::post("forkSession", "A branch of a session."));
    let cut = one(Operation::post("truncateSession", "Takes a session back to a checkpoint."));
    let export = session(Operation::get("exportSession", "A session as a snapshot."));
    vec![
        Endpoint::at("/v1/sessions").on(list, list_all),
        Endpoint::at("/v1/sessions/import").on(import, take_in),
        Endpoint::at("/v1/sessions/{session}")
            .on(show_one, show)
            .on(change.takes::<ChangeRequest>(), alter)
            .on(erase.gives::<SessionDeleted>(), remove),
        Endpoint::at("/v1/sessions/{session}/fork").on(fork.takes::<ForkRequest>(), branch),
        Endpoint::at("/v1/sessions/{session}/truncate")
            .on(cut.takes::<TruncateRequest>(), truncate),
        Endpoint::at("/v1/sessions/{session}/export").on(export.gives_bytes(SNAPSHOT), give_out),
    ]
}

/// A session as JSON.
fn object(app: &App, info: SessionInfo, messages: Option<Vec<Message>>) -> SessionObject {
    let model = app.models().ok().and_then(|models| {
        models.iter().find_map(|(name, served)| match served {
            crate::models::Served::Language(language)
                if language.engine().model_hash() == info.model =>
            {
                Some(name.to_owned())
            }
            _ => None,
        })
    });
    let checkpoints = info.checkpoints.iter().map(|checkpoint| CheckpointObject {
        position: checkpoint.position,
        bytes: checkpoint.bytes,
    });
    let message =
        |message: Message| MessageObject { role: message.role.name(), content: message.content };
    SessionObject {
        id: info.name.to_string(),
        object: "session",
        name: info.name.to_string(),
        model,
        model_hash: info.model.clone(),
        position: info.position,
        turns: info.turns,
        bytes: info.bytes,
        created_at: info.created,
        updated_at: info.used,
        expires_at: info.expires,
        checkpoints: checkpoints.collect(),
        messages: messages.map(|messages| messages.into_iter().map(message).collect()),
    }
}

/// Does something with the store, away from the threads that serve connections.
async fn with_store<R: Send + 'static>(
    app: &App,
    caller: Caller,
    work: impl FnOnce(&Arc<Sessions>, &Owner) -> Result<R, ApiError> + Send + 'static,
) -> Result<R, ApiError> {
    let sessions = app.sessions().clone();
    blocking(move || work(&sessions, &caller.owner)).await
}

async fn list_all(
    State(app): State<App>,
    caller: Caller,
    Queried(ListQuery { after, limit }): Queried<ListQuery>,
) -> Result<Response, ApiError> {
    let limit = at_most("limit", limit, MOST_LISTED)?;
    let mut all = with_store(&app, caller, |sessions, owner| Ok(sessions.list(owner)?)).await?;
    all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    // The session that ended the page before may have been erased since.
    all.retain(|info| after.as_deref().is_none_or(|after| info.name.as_str() > after));
    let limit = limit.unwrap_or(all.len());
    let has_more = all.len() > limit;
    all.truncate(limit);
    let data = all.into_iter().map(|info| object(&app, info, None)).collect();
    Ok(json_body(&SessionList { object: "list", data, has_more }))
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, ApiError> {
    let name = known(name)?;
    let (info, note) = with_store(&app, caller, move |sessions, owner| {
        let info = sessions.show(owner, &name)?;
        let note = Note::of(sessions, owner, &name, info.position)?;
        Ok((info, note))
    })
    .await?;
    Ok(json_body(&object(&app, info, Some(note.messages))))
}

async fn alter(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
    JsonBody(request): JsonBody<ChangeRequest>,
) -> Result<Response, ApiError> {
    let name = known(name)?;
    let to = request.name.map(|name| named("name", &name)).transpose()?;
    let ttl = request.ttl.map(|seconds| ttl((seconds > 0).then_some(seconds)));
    let info = with_store(&app, caller, move |sessions, owner| {
        Ok(sessions.alter(owner, &name, to.as_ref(), ttl)?)
    })
    .await?;
    Ok(json_body(&object(&app, info, None)))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, ApiError> {
    let name = known(name)?;
    let id = name.to_string();
    with_store(&app, caller, move |sessions, owner| Ok(sessions.erase(owner, &name)?)).await?;
    Ok(json_body(&SessionDeleted { id, object: "session.deleted", deleted: true }))
}

async fn branch(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
    JsonBody(request): JsonBody<ForkRequest>,
) -> Result<Response, ApiError> {
    let name = known(name)?;
    let to = match request.name {
        Some(name) => named("name", &name)?,
        None => Name::random("session-")?,
    };
    let info = with_store(&app, caller, move |sessions, owner| {
        let info = sessions.fork(owner, &name, &to, request.position)?;
        note_at(sessions, owner, &to, info)
    })
    .await?;
    Ok(json_body(&object(&app, info, None)))
}

async fn truncate(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
    JsonBody(request): JsonBody<TruncateRequest>,
) -> Result<Response, ApiError> {
    let name = known(name)?;
    let info = with_store(&app, caller, move |sessions, owner| {
        let info = sessions.truncate(owner, &name, request.position)?;
        note_at(sessions, owner, &name, info)
    })
    .await?;
    Ok(json_body(&object(&app, info, None)))
}

/// Takes the messages beside a session back to where the session is.
fn note_at(
    sessions: &Sessions,
    owner: &Owner,
    name: &Name,
    info: SessionInfo,
) -> Result<SessionInfo, ApiError> {
    let noted = sessions.note(owner, name)?;
    let Some(note) = noted.as_deref().and_then(Note::from_bytes) else { return Ok(info) };
    let at = note.clone().at(info.position);
    match at == note {
        true => Ok(info),
        false => Ok(sessions.set_note(owner, name, Some(at.to_bytes()))?),
    }
}

async fn give_out(
    State(app): State<App>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Response, ApiError> {
    let name = known(name)?;
    let bytes =
        with_store(&app, caller, move |sessions, owner| Ok(sessions.export(owner, &name)?)).await?;
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SNAPSHOT));
    // The name is not given back in a header: it may have letters that none can hold.
    let file = HeaderValue::from_static("attachment; filename=\"session.safetensors\"");
    headers.insert(header::CONTENT_DISPOSITION, file);
    Ok(response)
}

async fn take_in(
    State(app): State<App>,
    caller: Caller,
    Queried(ImportQuery { model, name }): Queried<ImportQuery>,
    RawBody(bytes): RawBody,
) -> Result<Response, ApiError> {
    let engine = app.models_for_work()?.language_or_only(model.as_deref())?.engine().clone();
    let name = match name {
        Some(name) => named("name", &name)?,
        None => Name::random("session-")?,
    };
    let ttl = app.limits().ttl;
    let info = with_store(&app, caller, move |sessions, owner| {
        let messages = |noted: &[u8], position| Some(Note::taken_in(noted, position)?.to_bytes());
        Ok(sessions.import(owner, &name, &bytes, &engine, ttl, messages)?)
    })
    .await?;
    Ok(json_body(&object(&app, info, None)))
}

/// A name of a session in a path. One that could never be is as unknown as any other.
fn known(name: String) -> Result<Name, ApiError> {
    Name::new(name.as_str()).map_err(|_| ApiError::NotFound {
        what: "session",
        name: name.chars().take(200).collect(),
        param: Some("session"),
        remedy: "",
    })
}
