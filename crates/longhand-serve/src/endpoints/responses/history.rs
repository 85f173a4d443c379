//! What came before a response: its own messages and those of the responses that it follows, of which
//! each keeps its own.

use std::collections::HashSet;
use std::time::Instant;

use longhand_sessions::Owner;
use longhand_text::corpus::dialogues::Message;

use super::find;
use super::object::Stored;
use crate::app::App;
use crate::endpoints::conversations::Conversation;
use crate::error::ApiError;
use crate::items::Item;

/// All that a response has read and written, the first message first. It may wait for a disk, once
/// for each response before.
///
/// # Errors
/// [`ApiError::NotFound`] names a response, or a conversation, that came before and is gone;
/// [`ApiError::Overdue`] where there are so many that a request has no time to read them.
pub(super) fn history(app: &App, owner: &Owner, last: &Stored) -> Result<Vec<Message>, ApiError> {
    let (mut seen, deadline) = (HashSet::new(), app.deadline());
    // The last turn first.
    let (mut turns, mut before) = step(app, owner, last)?;
    while let Some(id) = before {
        if deadline <= Instant::now() {
            return Err(ApiError::Overdue);
        }
        // Only another program could have made a circle.
        let found = if seen.insert(id.clone()) { find(app, owner, &id)? } else { None };
        let found = found.ok_or_else(|| gone("response", &id))?;
        let (earlier, next) = step(app, owner, &found)?;
        turns.extend(earlier);
        before = next;
    }
    Ok(turns.into_iter().rev().flatten().collect())
}

/// The messages of one turn, or of a whole conversation, and the response before it.
type Step = (Vec<Vec<Message>>, Option<String>);

fn step(app: &App, owner: &Owner, stored: &Stored) -> Result<Step, ApiError> {
    // What earlier versions kept has all that came before.
    if !stored.messages.is_empty() {
        return Ok((vec![stored.own()], None));
    }
    let Some(conversation) = &stored.response.conversation else {
        return Ok((vec![stored.own()], stored.response.previous_response_id.clone()));
    };
    let id = &conversation.id;
    let items = Conversation::find(app.sessions(), owner, id)
        .map_err(|error| match error {
            ApiError::NotFound { .. } => gone("conversation", id),
            error => error,
        })?
        .items;
    let messages = |items: &[Item]| items.iter().map(Item::message).collect::<Vec<_>>();
    let Some(answer) = stored.response.output.last() else {
        // Nothing of it is in the conversation before it has an answer.
        return Ok((vec![stored.own(), messages(&items)], None));
    };
    let place = items.iter().rposition(|item| item.id == answer.id);
    let place = place.ok_or_else(|| gone("conversation", id))?;
    Ok((vec![messages(&items[..=place])], None))
}

fn gone(what: &'static str, id: &str) -> ApiError {
    ApiError::NotFound {
        what,
        name: id.to_owned(),
        param: Some("previous_response_id"),
        remedy: " any more, and no state that has read it: send all messages of the conversation as \
                 `input`",
    }
}
