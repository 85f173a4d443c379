//! Responses that are written in the background, to be given up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longhand_sessions::Owner;
use tokio::task::AbortHandle;

/// The tasks that write, each by the owner and the id of its response.
#[derive(Clone, Default)]
pub(crate) struct Background(Arc<Mutex<Tasks>>);

/// Tasks by owner and id.
pub(crate) type Tasks = HashMap<(Owner, String), AbortHandle>;

impl Background {
    /// The list of tasks. Whoever starts one holds it until the task is on it.
    pub(crate) fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a task; says whether there was any. Its job is cancelled as the task is dropped.
    pub(crate) fn give_up(&self, owner: &Owner, id: &str) -> bool {
        let task = self.tasks().remove(&(owner.clone(), id.to_owned()));
        task.map(|task| task.abort()).is_some()
    }
}
