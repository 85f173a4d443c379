//! Responses that are written in the background: to be given up, to be waited for at the end, and to be
//! told from those that a server left behind when it was killed.
//!
//! A response in progress is kept with the id of the server that writes it, which is another one after
//! each start. As long as a server writes, it has a document of this id beside the responses, its sign,
//! which expires soon where it is not renewed. So every server of a store can tell whether a response
//! that it finds in progress still has a writer. How old a sign is, the store's clock says, whatever the
//! clocks of the servers show.
//!
//! A server that is asked to end a response of another one keeps that wish beside the response, where its
//! writer looks now and then.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longhand_sessions::{Owner, SessionError, Sessions, Ticket};
use tokio::sync::Notify;

use crate::ids::random_id;

/// How often a sign is renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(10);
/// How long a sign is good for, as a lease of a session is.
const SIGN: Duration = Duration::from_secs(30);
/// How long another server's wish to end a response is kept.
const WISH: Duration = Duration::from_secs(60);
/// The kind of the documents that are such wishes, by the ids of the responses.
const END: &str = "end";
/// The kind of the documents that are signs.
pub(crate) const SERVER: &str = "server";

/// What this server writes in the background. A clone is the same list.
#[derive(Clone)]
pub(crate) struct Background(Arc<Inner>);

struct Inner {
    /// The id of this server.
    server: String,
    written: Mutex<Written>,
    /// Told whenever a response leaves the list.
    left: Notify,
    /// One at a time renews signs: the store would refuse a second one.
    signing: Mutex<()>,
}

/// Responses that are being written, by owner and id.
type Written = HashMap<(Owner, String), Arc<Job>>;

/// The job of a response.
struct Job {
    ticket: Arc<Ticket>,
    is_given_up: AtomicBool,
}

/// The place of a response on the list, which it leaves when this is dropped.
pub(crate) struct Listed {
    list: Background,
    key: (Owner, String),
    job: Arc<Job>,
}

impl Default for Background {
    fn default() -> Self {
        Self(Arc::new(Inner {
            server: random_id("server_"),
            written: Mutex::default(),
            left: Notify::new(),
            signing: Mutex::default(),
        }))
    }
}

impl Background {
    /// The id of this server.
    pub(crate) fn server(&self) -> &str {
        &self.0.server
    }

    /// Puts a response on the list before anything is kept of it.
    pub(crate) fn list(&self, owner: &Owner, id: &str, ticket: Arc<Ticket>) -> Listed {
        let key = (owner.clone(), id.to_owned());
        let job = Arc::new(Job { ticket, is_given_up: AtomicBool::new(false) });
        self.written().insert(key.clone(), job.clone());
        Listed { list: self.clone(), key, job }
    }

    /// Whether this server is writing a response. What has left the list has kept its last word.
    pub(crate) fn has(&self, owner: &Owner, id: &str) -> bool {
        self.written().contains_key(&(owner.clone(), id.to_owned()))
    }

    /// Gives a response up, if it is on the list, and waits until it is not: then its job has ended,
    /// its sessions are free, and what is left of it is kept.
    pub(crate) async fn give_up(&self, owner: &Owner, id: &str) {
        let key = (owner.clone(), id.to_owned());
        let job = self.written().get(&key).cloned();
        if let Some(job) = job {
            job.give_up();
        }
        self.until(|written| !written.contains_key(&key)).await;
    }

    /// Waits until no response is on the list.
    pub(crate) async fn ended(&self) {
        self.until(Written::is_empty).await;
    }

    async fn until(&self, holds: impl Fn(&Written) -> bool) {
        loop {
            // It is made before the look, so that nothing that leaves in between is missed.
            let left = self.0.left.notified();
            if holds(&self.written()) {
                return;
            }
            left.await;
        }
    }

    /// Shows that this server writes for an owner. It may wait for a disk.
    ///
    /// # Errors
    /// The errors of the store, such as [`SessionError::Storage`].
    pub(crate) fn sign(&self, sessions: &Sessions, owner: &Owner) -> Result<(), SessionError> {
        let _one = self.0.signing.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.put_document(owner, SERVER, &self.0.server, &[], Some(SIGN))
    }

    /// Renews the signs of all owners that this server writes for. It may wait for a disk.
    pub(crate) fn renew(&self, sessions: &Sessions) {
        let owners: HashSet<Owner> =
            self.written().keys().map(|(owner, _)| owner.clone()).collect();
        for owner in owners {
            if let Err(error) = self.sign(sessions, &owner) {
                tracing::error!(%error, "it cannot be shown that responses are being written");
            }
        }
    }

    /// Whether a server has a sign that has not expired. It may wait for a disk.
    ///
    /// # Errors
    /// The errors of the store, such as [`SessionError::Storage`].
    pub(crate) fn writes(
        sessions: &Sessions,
        owner: &Owner,
        server: &str,
    ) -> Result<bool, SessionError> {
        Ok(sessions.document(owner, SERVER, server)?.is_some())
    }

    /// Asks the server that writes a response to end it. It may wait for a disk.
    ///
    /// # Errors
    /// The errors of the store, such as [`SessionError::Storage`].
    pub(crate) fn ask_to_end(
        sessions: &Sessions,
        owner: &Owner,
        id: &str,
    ) -> Result<(), SessionError> {
        // Several may ask at once.
        sessions.update_document(owner, END, id, Some(WISH), |_| Ok(Vec::new()))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        self.ticket.cancel();
    }
}

impl Listed {
    /// Gives the response up if another server asks for its end. It may wait for a disk.
    pub(crate) fn heed(&self, sessions: &Sessions) {
        let (owner, id) = &self.key;
        // What cannot be read now is read again.
        if let Ok(Some(_)) = sessions.document(owner, END, id) {
            self.job.give_up();
        }
    }

    /// Whether somebody gave the response up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.job.is_given_up.load(Ordering::Relaxed)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.list.written().remove(&self.key);
        self.list.0.left.notify_waiters();
    }
}
