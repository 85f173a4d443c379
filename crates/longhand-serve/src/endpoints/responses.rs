//! `/v1/responses`: answers that are kept, and that the next one goes on from.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use longhand_sessions::{Name, Owner, SessionError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::create::Making;
use self::events::NumberedEvent;
use self::object::{
    ConversationField, ItemList, ItemQuery, Request, ResponseDeleted, ResponseObject, Stored,
};
use crate::address::{Named, Queried};
use crate::app::App;
use crate::auth::Caller;
use crate::background::Background;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::blocking;
use crate::items::{Input, Status};
use crate::{sse, together};

mod create;
mod events;
mod history;
pub(super) mod object;
#[cfg(test)]
mod tests;

/// The kind of the documents that responses are kept as.
const RESPONSE: &str = "response";
/// How long another server is given to end a response.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a server looks whether another one has ended a response, or wants one ended.
const LOOK: Duration = Duration::from_millis(250);

/// A request to count the tokens of a response's input.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("allOf" = together::of_counts()))]
pub(super) struct CountRequest {
    /// The name of the model; none where there is only one language model.
    pub(super) model: Option<String>,
    /// What is said in it, as text.
    pub(super) input: Option<Input>,
    /// The conversation that it belongs to.
    pub(super) conversation: Option<ConversationField>,
    /// What the assistant is to be.
    pub(super) instructions: Option<String>,
    /// The response that it follows.
    pub(super) previous_response_id: Option<String>,
}

/// The tokens of a response's input.
#[derive(Serialize, JsonSchema)]
struct InputTokens {
    /// Always the word `response.input_tokens`.
    object: &'static str,
    /// How many there are, with all that came before.
    input_tokens: usize,
}

/// A query without any parameter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = |operation: Operation| operation.with_path("response", "The id of the response.");
    let post = Operation::post("createResponse", "What an assistant says next, to be kept.")
        .takes::<Request>()
        .gives::<ResponseObject>()
        .streams::<NumberedEvent<'static>>();
    let count = Operation::post("countResponseTokens", "The tokens of a response's input.")
        .takes::<CountRequest>()
        .gives::<InputTokens>();
    let show_one = one(Operation::get("getResponse", "A response that was kept."));
    let erase = one(Operation::delete("deleteResponse", "Erases a response and its state."));
    let cancel_one = one(Operation::post("cancelResponse", "Gives up one in the background."));
    let items = one(Operation::get("listInputItems", "What a response has read."))
        .with_query::<ItemQuery>();
    vec![
        Endpoint::at("/v1/responses").on(post, make),
        Endpoint::at("/v1/responses/input_tokens").on(count, count_tokens),
        Endpoint::at("/v1/responses/{response}")
            .on(show_one.gives::<ResponseObject>(), show)
            .on(erase.gives::<ResponseDeleted>(), remove),
        Endpoint::at("/v1/responses/{response}/cancel")
            .on(cancel_one.gives::<ResponseObject>(), cancel),
        Endpoint::at("/v1/responses/{response}/input_items")
            .on(items.gives::<ItemList>(), list_items),
    ]
}

async fn make(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let (streams, in_background) = (request.stream == Some(true), request.background == Some(true));
    let (making, pieces) = Making::begin(&app, &caller, request).await?;
    if streams {
        return Ok(sse::stream(|writer| making.stream(pieces, writer)));
    }
    if !in_background {
        return making.whole(pieces).await;
    }
    let shown = json_body(&making.stored.response);
    let (begun, is_begun) = oneshot::channel();
    // What is kept of it is written by a task of its own: of a client that leaves now, no response stays
    // in progress for ever.
    tokio::spawn(making.in_background(pieces, begun));
    let fault = "the response was given up by a fault of the server: ask again";
    is_begun.await.map_err(|_| ApiError::internal(fault))??;
    Ok(shown)
}

async fn count_tokens(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<CountRequest>,
) -> Result<Response, ApiError> {
    let input_tokens = create::count(&app, &caller, request).await?;
    Ok(json_body(&InputTokens { object: "response.input_tokens", input_tokens }))
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
    Queried(NoQuery {}): Queried<NoQuery>,
) -> Result<Response, ApiError> {
    Ok(json_body(&load(&app, &caller, &id, "response").await?.response))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, ApiError> {
    let stored = load(&app, &caller, &id, "response").await?;
    ended(&app, &caller, stored).await?;
    let (sessions, owner, erased) = (app.sessions().clone(), caller.owner, id.clone());
    blocking(move || {
        match sessions.erase(&owner, &Name::new(erased.as_str())?) {
            Ok(()) | Err(SessionError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // The document goes last: until all is gone, another attempt finds it.
        sessions.erase_document(&owner, RESPONSE, &erased)?;
        Ok(())
    })
    .await?;
    Ok(json_body(&ResponseDeleted { id, object: "response.deleted", deleted: true }))
}

async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, ApiError> {
    let stored = load(&app, &caller, &id, "response").await?;
    if !stored.response.background {
        let message = "only a response in the background can be cancelled";
        return Err(ApiError::invalid("response", message));
    }
    Ok(json_body(&ended(&app, &caller, stored).await?.response))
}

/// A response that nobody writes any more: one in progress is given up, and its last word awaited.
///
/// # Errors
/// [`ApiError::Conflict`] for one that another server writes and does not end in time.
async fn ended(app: &App, caller: &Caller, stored: Stored) -> Result<Stored, ApiError> {
    if stored.response.status != Status::InProgress {
        return Ok(stored);
    }
    let id = stored.response.id;
    app.background().give_up(&caller.owner, &id).await;
    let mut stored = load(app, caller, &id, "response").await?;
    if stored.response.status != Status::InProgress {
        return Ok(stored);
    }
    // Another server writes it, which looks for this now and then.
    let (sessions, owner, asked) = (app.sessions().clone(), caller.owner.clone(), id.clone());
    blocking(move || Ok(Background::ask_to_end(&sessions, &owner, &asked)?)).await?;
    let patience = Instant::now() + PATIENCE;
    while stored.response.status == Status::InProgress {
        if patience <= Instant::now() {
            return Err(ApiError::Conflict(format!(
                "the response `{id}` is being written by another server, which was asked to end it and \
                 has not yet: ask again"
            )));
        }
        tokio::time::sleep(LOOK).await;
        stored = load(app, caller, &id, "response").await?;
    }
    Ok(stored)
}

async fn list_items(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
    Queried(query): Queried<ItemQuery>,
) -> Result<Response, ApiError> {
    let limit = query.limit()?;
    let stored = load(&app, &caller, &id, "response").await?;
    Ok(json_body(&ItemList::page(stored.input, &query, limit)))
}

/// A response that was kept. One that was in progress when its server was killed has failed.
async fn load(
    app: &App,
    caller: &Caller,
    id: &str,
    param: &'static str,
) -> Result<Stored, ApiError> {
    let not_found = || ApiError::NotFound {
        what: "response",
        name: id.chars().take(200).collect(),
        param: Some(param),
        remedy: ": it was never kept, was erased, or has expired",
    };
    // A name that could never be is as unknown as any other.
    if Name::new(id).is_err() {
        return Err(not_found());
    }
    let (app, owner, name) = (app.clone(), caller.owner.clone(), id.to_owned());
    blocking(move || find(&app, &owner, &name)).await?.ok_or_else(not_found)
}

/// A response that was kept, if it is there. It may wait for a disk.
fn find(app: &App, owner: &Owner, id: &str) -> Result<Option<Stored>, ApiError> {
    // Asked first: what this server does not write now has its last word in the store.
    let is_own = app.background().has(owner, id);
    let Some(bytes) = app.sessions().document(owner, RESPONSE, id)? else {
        return Ok(None);
    };
    let mut stored: Stored = serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::Internal(format!("the response `{id}` is damaged ({error}): erase it"))
    })?;
    if stored.response.status == Status::InProgress && !is_own && !is_written(app, owner, &stored)?
    {
        let message = "the response was broken off, because its server stopped or could not keep it: \
                       ask again";
        stored.response.fail(message.into());
    }
    Ok(Some(stored))
}

/// Whether another server writes a response that is in progress. What fails here is only shown: a server
/// that was cut off from the store for long may still keep the end of it.
fn is_written(app: &App, owner: &Owner, stored: &Stored) -> Result<bool, SessionError> {
    match &stored.server {
        Some(server) if server != app.background().server() => {
            Background::writes(app.sessions(), owner, server)
        }
        _ => Ok(false),
    }
}

/// Keeps a response, durably.
async fn store(app: &App, caller: &Caller, stored: &Stored) -> Result<(), ApiError> {
    let bytes = serde_json::to_vec(stored).map_err(ApiError::internal)?;
    let (sessions, owner) = (app.sessions().clone(), caller.owner.clone());
    let (id, ttl) = (stored.response.id.clone(), Some(app.limits().response_ttl));
    blocking(move || Ok(sessions.put_document(&owner, RESPONSE, &id, &bytes, ttl)?)).await
}
