//! How much each owner may keep, and for how long: what can change while a store is open.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::name::Owner;

/// Limits of one owner's own, in place of those of the store's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The most sessions; none for as many as any owner may have.
    pub sessions: Option<u64>,
    /// The most bytes of sessions and documents; none as before.
    pub bytes: Option<u64>,
}

/// The limits of all owners.
pub(crate) struct Quotas(RwLock<Limits>);

struct Limits {
    sessions: u64,
    bytes: u64,
    ttl: Option<Duration>,
    own: HashMap<Owner, Quota>,
}

impl Quotas {
    /// The most sessions and bytes of an owner without limits of its own, and the time to live.
    pub(crate) fn new(sessions: u64, bytes: u64, ttl: Option<Duration>) -> Self {
        Self(RwLock::new(Limits { sessions, bytes, ttl, own: HashMap::new() }))
    }

    /// Others, as in [`Quotas::new`]. Limits of owners stay.
    pub(crate) fn renew(&self, sessions: u64, bytes: u64, ttl: Option<Duration>) {
        let mut limits = self.0.write().unwrap_or_else(PoisonError::into_inner);
        (limits.sessions, limits.bytes, limits.ttl) = (sessions, bytes, ttl);
    }

    pub(crate) fn set_own(&self, own: HashMap<Owner, Quota>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).own = own;
    }

    /// Time after its last use at which a session expires, where none is asked for.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).ttl
    }

    /// The most sessions and bytes of an owner.
    pub(crate) fn of(&self, owner: &Owner) -> (u64, u64) {
        let limits = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = limits.own.get(owner).copied().unwrap_or_default();
        (own.sessions.unwrap_or(limits.sessions), own.bytes.unwrap_or(limits.bytes))
    }
}
