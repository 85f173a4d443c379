//! The rights to change records, where one process has the store alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Batch, RecordKey};
use crate::error::SessionError;

/// Rights by the records that they are for.
#[derive(Default)]
pub(crate) struct Leases(Mutex<Held>);

#[derive(Default)]
struct Held {
    numbers: HashMap<RecordKey, u64>,
    last: u64,
}

impl Leases {
    /// A right, by its number; none if someone has it.
    pub(crate) fn take(&self, key: &RecordKey) -> Option<u64> {
        let mut held = self.held();
        if held.numbers.contains_key(key) {
            return None;
        }
        held.last += 1;
        let fence = held.last;
        held.numbers.insert(key.clone(), fence);
        Some(fence)
    }

    /// Gives a right back, unless another one of the record was given since.
    pub(crate) fn give_back(&self, key: &RecordKey, fence: u64) {
        let mut held = self.held();
        if held.numbers.get(key) == Some(&fence) {
            held.numbers.remove(key);
        }
    }

    /// Refuses a batch that names a right which is not held any more.
    pub(crate) fn check(&self, batch: &Batch) -> Result<(), SessionError> {
        let held = self.held();
        let lost = batch.guards.iter().find(|(key, fence)| held.numbers.get(key) != Some(fence));
        match lost {
            Some((key, _)) => Err(SessionError::LeaseLost { name: key.item.clone() }),
            None => Ok(()),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
