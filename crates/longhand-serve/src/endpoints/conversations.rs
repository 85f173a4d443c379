//! `/v1/conversations`: messages that several responses share.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use longhand_sessions::{Name, Owner, SessionError, Sessions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::responses::object::{ItemList, ItemQuery, Order};
use crate::address::{Named, Queried};
use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::blocking;
use crate::ids::{random_id, unix_time};
use crate::items::{InputItem, Item};

#[cfg(test)]
mod tests;

/// The kind of the documents that conversations are kept as.
const CONVERSATION: &str = "conversation";
/// The most messages that one request adds.
const MOST_ADDED: usize = 20;

/// A conversation as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    created_at: u64,
    metadata: BTreeMap<String, String>,
    /// The messages, the first one first.
    pub(crate) items: Vec<Item>,
}

/// A request for a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConversationRequest")]
struct CreateRequest {
    /// The messages that it begins with, at most 20.
    #[schemars(length(max = 20))]
    items: Option<Vec<InputItem>>,
    /// Words of the client's own, which are kept.
    metadata: Option<BTreeMap<String, String>>,
}

/// What is changed of a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConversationChange")]
struct ChangeRequest {
    /// Words of the client's own, in place of those that were kept.
    metadata: Option<BTreeMap<String, String>>,
}

/// Messages to add to a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ConversationItems")]
struct AddRequest {
    /// The messages, 1 to 20.
    #[schemars(length(min = 1, max = 20))]
    items: Vec<InputItem>,
}

/// A conversation as clients are shown it.
#[derive(Serialize, JsonSchema)]
struct ConversationObject {
    /// A name that no other conversation has.
    id: String,
    /// Always the word `conversation`.
    object: &'static str,
    /// When it began, in seconds since 1970.
    created_at: u64,
    /// Words of the client's own.
    metadata: BTreeMap<String, String>,
}

/// A conversation was erased.
#[derive(Serialize, JsonSchema)]
struct ConversationDeleted {
    /// The name that it had.
    id: String,
    /// Always the word `conversation.deleted`.
    object: &'static str,
    /// Always true: it is gone.
    deleted: bool,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let one = |operation: Operation| operation.with_path("conversation", "The conversation's id.");
    let item = |operation: Operation| one(operation).with_path("item", "The id of the message.");
    let make = Operation::post("createConversation", "A conversation.");
    let show_one = one(Operation::get("getConversation", "One conversation."));
    let change = one(Operation::post("changeConversation", "Other words of the client's own."));
    let erase = one(Operation::delete("deleteConversation", "Erases a conversation."));
    let list = one(Operation::get("listConversationItems", "The messages of a conversation."))
        .with_query::<ItemQuery>();
    let add = one(Operation::post("createConversationItems", "More messages."));
    let show_item = item(Operation::get("getConversationItem", "One message."));
    let erase_item = item(Operation::delete("deleteConversationItem", "Erases a message."));
    vec![
        Endpoint::at("/v1/conversations")
            .on(make.takes::<CreateRequest>().gives::<ConversationObject>(), create),
        Endpoint::at("/v1/conversations/{conversation}")
            .on(show_one.gives::<ConversationObject>(), show)
            .on(change.takes::<ChangeRequest>().gives::<ConversationObject>(), alter)
            .on(erase.gives::<ConversationDeleted>(), remove),
        Endpoint::at("/v1/conversations/{conversation}/items")
            .on(list.gives::<ItemList>(), list_items)
            .on(add.takes::<AddRequest>().gives::<ItemList>(), add_items),
        Endpoint::at("/v1/conversations/{conversation}/items/{item}")
            .on(show_item.gives::<Item>(), show_one_item)
            .on(erase_item.gives::<ConversationObject>(), remove_item),
    ]
}

impl Conversation {
    /// A conversation that was kept.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] for one that is none of the key's.
    pub(crate) async fn load(app: &App, caller: &Caller, id: &str) -> Result<Self, ApiError> {
        let (sessions, owner, id) = (app.sessions().clone(), caller.owner.clone(), id.to_owned());
        blocking(move || Self::find(&sessions, &owner, &id)).await
    }

    /// As [`Conversation::load`]. It may wait for a disk.
    ///
    /// # Errors
    /// The errors of [`Conversation::load`], for the same causes.
    pub(crate) fn find(sessions: &Sessions, owner: &Owner, id: &str) -> Result<Self, ApiError> {
        Self::name(id)?;
        Self::of(id, sessions.document(owner, CONVERSATION, id)?)
    }

    fn of(id: &str, bytes: Option<Vec<u8>>) -> Result<Self, ApiError> {
        serde_json::from_slice(&bytes.ok_or_else(|| unknown(id))?).map_err(|error| {
            ApiError::Internal(format!("the conversation `{id}` is damaged ({error}): erase it"))
        })
    }

    /// Changes what is kept, as it is now: other servers may have changed it since it was loaded. It is
    /// durable when this returns.
    ///
    /// # Errors
    /// Those of `what`, and nothing has changed then; [`ApiError::NotFound`] for one that was erased, and
    /// the errors of the store.
    pub(crate) async fn update<R: Send + 'static>(
        app: &App,
        caller: &Caller,
        id: &str,
        what: impl FnOnce(&mut Self) -> Result<R, ApiError> + Send + 'static,
    ) -> Result<(Self, R), ApiError> {
        Self::name(id)?;
        let (sessions, owner, id) = (app.sessions().clone(), caller.owner.clone(), id.to_owned());
        let ttl = app.limits().ttl;
        blocking(move || {
            let mut changed = None;
            sessions.update_document(&owner, CONVERSATION, &id, ttl, |bytes| {
                let mut conversation = Self::of(&id, bytes)?;
                let result = what(&mut conversation)?;
                let bytes = serde_json::to_vec(&conversation).map_err(ApiError::internal)?;
                changed = Some((conversation, result));
                Ok::<_, ApiError>(bytes)
            })?;
            changed.ok_or_else(|| ApiError::internal("nothing was changed"))
        })
        .await
    }

    /// The name of its session.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]: one that could never be is as unknown as any other.
    pub(crate) fn name(id: &str) -> Result<Name, ApiError> {
        Name::new(id).map_err(|_| unknown(id))
    }

    /// Keeps a new one: it is durable when this returns.
    ///
    /// # Errors
    /// If the store fails.
    async fn save(&self, app: &App, caller: &Caller) -> Result<(), ApiError> {
        let bytes = serde_json::to_vec(self).map_err(ApiError::internal)?;
        let (sessions, owner, id) = (app.sessions().clone(), caller.owner.clone(), self.id.clone());
        let ttl = app.limits().ttl;
        blocking(move || Ok(sessions.put_document(&owner, CONVERSATION, &id, &bytes, ttl)?)).await
    }

    fn object(self) -> ConversationObject {
        let Self { id, created_at, metadata, .. } = self;
        ConversationObject { id, object: CONVERSATION, created_at, metadata }
    }

    fn place(&self, id: &str) -> Result<usize, ApiError> {
        self.items.iter().position(|item| item.id == id).ok_or_else(|| ApiError::NotFound {
            what: "item",
            name: id.chars().take(200).collect(),
            param: Some("item"),
            remedy: "",
        })
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound {
        what: "conversation",
        name: id.chars().take(200).collect(),
        param: Some("conversation"),
        remedy: "",
    }
}

fn added(items: Vec<InputItem>) -> Result<Vec<Item>, ApiError> {
    match items.len() {
        0..=MOST_ADDED => Ok(items.into_iter().map(Item::from).collect()),
        count => {
            let message = format!("`items` has {count} messages, but may have {MOST_ADDED}");
            Err(ApiError::invalid("items", message))
        }
    }
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<CreateRequest>,
) -> Result<Response, ApiError> {
    let items = added(request.items.unwrap_or_default())?;
    let (id, created_at) = (random_id("conv_"), unix_time());
    let metadata = request.metadata.unwrap_or_default();
    let conversation = Conversation { id, created_at, metadata, items };
    conversation.save(&app, &caller).await?;
    Ok(json_body(&conversation.object()))
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, ApiError> {
    Ok(json_body(&Conversation::load(&app, &caller, &id).await?.object()))
}

/// Changes a conversation that no response is being added to.
async fn change<R: Send + 'static>(
    app: &App,
    caller: &Caller,
    id: &str,
    what: impl FnOnce(&mut Conversation) -> Result<R, ApiError> + Send + 'static,
) -> Result<(Conversation, R), ApiError> {
    let hold = app.in_use().take(&caller.owner, &Conversation::name(id)?)?;
    let changed = Conversation::update(app, caller, id, what).await?;
    drop(hold);
    Ok(changed)
}

async fn alter(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
    JsonBody(request): JsonBody<ChangeRequest>,
) -> Result<Response, ApiError> {
    let (conversation, ()) = change(&app, &caller, &id, move |conversation| {
        conversation.metadata = request.metadata.unwrap_or_default();
        Ok(())
    })
    .await?;
    Ok(json_body(&conversation.object()))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Response, ApiError> {
    Conversation::load(&app, &caller, &id).await?;
    let hold = app.in_use().take(&caller.owner, &Name::new(id.as_str())?)?;
    let (sessions, owner, erased) = (app.sessions().clone(), caller.owner, id.clone());
    blocking(move || {
        match sessions.erase(&owner, &Name::new(erased.as_str())?) {
            Ok(()) | Err(SessionError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        // The document goes last: until all is gone, another attempt finds it.
        sessions.erase_document(&owner, CONVERSATION, &erased)?;
        Ok(())
    })
    .await?;
    drop(hold);
    Ok(json_body(&ConversationDeleted { id, object: "conversation.deleted", deleted: true }))
}

async fn list_items(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
    Queried(query): Queried<ItemQuery>,
) -> Result<Response, ApiError> {
    let limit = query.limit()?;
    let conversation = Conversation::load(&app, &caller, &id).await?;
    Ok(json_body(&ItemList::page(conversation.items, &query, limit)))
}

async fn add_items(
    State(app): State<App>,
    caller: Caller,
    Named(id): Named<String>,
    JsonBody(request): JsonBody<AddRequest>,
) -> Result<Response, ApiError> {
    if request.items.is_empty() {
        return Err(ApiError::invalid("items", "`items` is empty: give at least one message"));
    }
    let items = added(request.items)?;
    let (_, items) = change(&app, &caller, &id, move |conversation| {
        conversation.items.extend(items.iter().cloned());
        Ok(items)
    })
    .await?;
    let query = ItemQuery { limit: None, order: Some(Order::Asc), after: None };
    Ok(json_body(&ItemList::page(items, &query, MOST_ADDED)))
}

async fn show_one_item(
    State(app): State<App>,
    caller: Caller,
    Named((id, item)): Named<(String, String)>,
) -> Result<Response, ApiError> {
    let mut conversation = Conversation::load(&app, &caller, &id).await?;
    let place = conversation.place(&item)?;
    Ok(json_body(&conversation.items.swap_remove(place)))
}

async fn remove_item(
    State(app): State<App>,
    caller: Caller,
    Named((id, item)): Named<(String, String)>,
) -> Result<Response, ApiError> {
    let (conversation, _) = change(&app, &caller, &id, move |conversation| {
        let place = conversation.place(&item)?;
        Ok(conversation.items.remove(place))
    })
    .await?;
    Ok(json_body(&conversation.object()))
}
