//! How a request names what the model is to remember.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use longhand_sessions::{Keep, KeepSession, Name, Owner, Start};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::limits::Limits;

/// The most characters of a `prompt_cache_key`.
const LONGEST_KEY: usize = 512;
/// The names that sessions can have, as the document says it.
pub(crate) const NAME: &str = "^[\\p{L}\\p{N}_.:-]{1,128}$";

/// What a request begins with, and what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing but the state cache.
    None,
    /// A session: the request has the new turns alone.
    Session(Name),
    /// A session that is found by the beginning of the whole prompt, which the request has.
    Prefix(Name),
    /// A state that the client holds; none for a new one.
    Sealed(Option<Vec<u8>>),
}

/// The fields by which requests name a memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryFields {
    pub(crate) session_id: Option<String>,
    pub(crate) prompt_cache_key: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) return_state: bool,
}

impl Memory {
    /// The memory that the fields name.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] for a name that is none, and for fields that exclude each other.
    pub(crate) fn of(fields: &MemoryFields) -> Result<Self, ApiError> {
        let MemoryFields { session_id, prompt_cache_key, state, return_state } = fields;
        let length = prompt_cache_key.as_ref().map(|key| key.chars().count());
        if length.is_some_and(|length| !(1..=LONGEST_KEY).contains(&length)) {
            let message = format!("`prompt_cache_key` must have 1 to {LONGEST_KEY} characters");
            return Err(ApiError::invalid("prompt_cache_key", message));
        }
        if session_id.is_some() && (state.is_some() || *return_state) {
            let message = "a session is held by the server or by the client: give `session_id`, or \
                           `state` and `return_state`";
            return Err(ApiError::invalid("session_id", message));
        }
        if let Some(name) = session_id {
            return Ok(Self::Session(named("session_id", name)?));
        }
        if let Some(state) = state {
            if !return_state {
                let message = "`state` needs `return_state`, so that the next state is not lost";
                return Err(ApiError::invalid("return_state", message));
            }
            let sealed = BASE64_STANDARD.decode(state);
            let fault = || ApiError::invalid("state", "`state` is no base64: give it as it came");
            return Ok(Self::Sealed(Some(sealed.map_err(|_| fault())?)));
        }
        if *return_state {
            return Ok(Self::Sealed(None));
        }
        Ok(match prompt_cache_key {
            None => Self::None,
            Some(key) => Self::Prefix(cache_name(key)?),
        })
    }

    /// Where a job begins.
    pub(crate) fn start(&self) -> Start {
        match self {
            Self::None | Self::Sealed(None) => Start::Fresh,
            Self::Session(name) => Start::Session { name: name.clone(), or_new: true },
            Self::Prefix(name) => Start::Prefix { name: name.clone() },
            Self::Sealed(Some(state)) => Start::Sealed(state.clone()),
        }
    }

    /// What a job keeps, and for how long.
    pub(crate) fn keep(&self, limits: &Limits) -> Keep {
        match self {
            Self::None => Keep::Nothing,
            // A time of its own, or the store's, stays as it is.
            Self::Session(name) => Keep::Session(KeepSession::new(name.clone())),
            Self::Prefix(name) => hint(name.clone(), limits.cache_key_ttl),
            Self::Sealed(_) => Keep::Sealed { ttl: limits.ttl },
        }
    }

    /// Whether the model goes on in something that it has read before.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Self::Sealed(Some(_)))
    }
}

/// Keeps a session that only spares the reading of what the server, or the client, can give again: it
/// makes room for others, and a request goes on without it where there is none.
pub(crate) fn hint(name: Name, ttl: Duration) -> Keep {
    Keep::Session(KeepSession { ttl: Some(ttl), hint: true, ..KeepSession::new(name) })
}

/// A name of a session in a field.
///
/// # Errors
/// [`ApiError::Invalid`] names the field.
pub(crate) fn named(field: &str, name: &str) -> Result<Name, ApiError> {
    Name::new(name)
        .map_err(|error| ApiError::invalid(field, format!("`{field}` is not usable: {error}")))
}

/// A key of a cache may be any text; the name of its session is a hash of it.
fn cache_name(key: &str) -> Result<Name, ApiError> {
    let hash = Sha256::digest(key.as_bytes());
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(Name::new(format!("cache-{digits}"))?)
}

/// A sealed state as JSON holds it.
pub(crate) fn encoded(state: &[u8]) -> String {
    BASE64_STANDARD.encode(state)
}

/// Sessions that a request of this server is about to advance. What is written beside a session, its
/// messages, is read before the host takes its lease; nobody may change it in between.
#[derive(Clone, Default)]
pub(crate) struct InUse(Arc<Mutex<HashSet<(Owner, Name)>>>);

/// A session that nobody else advances until this is dropped.
pub(crate) struct Hold {
    set: InUse,
    session: (Owner, Name),
}

impl InUse {
    /// Takes a session for one request.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if another request has it.
    pub(crate) fn take(&self, owner: &Owner, name: &Name) -> Result<Hold, ApiError> {
        let session = (owner.clone(), name.clone());
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !set.insert(session.clone()) {
            let message = format!(
                "the session `{name}` is in use by another request: wait until that one has ended"
            );
            return Err(ApiError::Conflict(message));
        }
        Ok(Hold { set: self.clone(), session })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_exclude_each_other_are_refused() {
        let field = |fields: MemoryFields| match Memory::of(&fields) {
            Err(ApiError::Invalid { param, .. }) => param.unwrap(),
            other => panic!("{other:?}"),
        };
        let session_id = Some("a".to_owned());
        let both = MemoryFields { session_id, return_state: true, ..MemoryFields::default() };
        assert_eq!(field(both), "session_id");
        let state = Some("AA==".to_owned());
        let lost = MemoryFields { state: state.clone(), ..MemoryFields::default() };
        assert_eq!(field(lost), "return_state");
        let fields = MemoryFields { state, return_state: true, ..MemoryFields::default() };
        assert_eq!(Memory::of(&fields).unwrap(), Memory::Sealed(Some(vec![0])));
        let key = Some("any text, of any kind".to_owned());
        let fields = MemoryFields { prompt_cache_key: key, ..MemoryFields::default() };
        assert!(matches!(Memory::of(&fields).unwrap(), Memory::Prefix(_)));
        // Beside a session nothing comes of a key, and yet it must be one.
        for key in [String::new(), "a".repeat(LONGEST_KEY + 1)] {
            let session_id = Some("a".to_owned());
            let prompt_cache_key = Some(key);
            let fields = MemoryFields { session_id, prompt_cache_key, ..MemoryFields::default() };
            assert_eq!(field(fields), "prompt_cache_key");
        }
    }

    #[test]
    fn a_session_is_advanced_by_one_request_at_a_time() {
        let set = InUse::default();
        let (owner, name) = (Owner::new("o").unwrap(), Name::new("n").unwrap());
        let held = set.take(&owner, &name).unwrap();
        assert!(matches!(set.take(&owner, &name), Err(ApiError::Conflict(_))));
        assert!(set.take(&Owner::new("p").unwrap(), &name).is_ok());
        drop(held);
        assert!(set.take(&owner, &name).is_ok());
    }
}
