//! How votes are mixed: the settings.

use serde::{Deserialize, Serialize};

use crate::datastore_error::DatastoreError;

/// The most neighbours that are asked for.
pub const MOST_NEIGHBOURS: usize = 1 << 14;

/// How the votes of neighbours are mixed with a model's probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture {
    /// λ: the share of the neighbours in the probabilities, from 0 to below 1.
    pub lambda: f64,
    /// τ: a neighbour's vote falls by e where its squared distance grows by this.
    pub temperature: f64,
    /// K: how many neighbours vote.
    pub neighbours: usize,
    /// P: how many lists are looked into; with all of them the search is exact.
    pub probes: usize,
}

impl Mixture {
    /// Refuses settings that a datastore with this number of entries cannot have.
    ///
    /// # Errors
    /// [`DatastoreError::Setting`] names the setting, [`DatastoreError::Neighbours`] the
    /// number of entries that there are.
    pub fn check(&self, entries: u64) -> Result<(), DatastoreError> {
        let Self { lambda, temperature, neighbours, probes } = *self;
        let setting =
            |name, value: String, allowed| DatastoreError::Setting { name, value, allowed };
        if !(0.0..1.0).contains(&lambda) {
            return Err(setting("lambda", lambda.to_string(), "at least 0 and below 1"));
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            let allowed = "a number above 0";
            return Err(setting("the temperature of neighbours", temperature.to_string(), allowed));
        }
        if !(1..=MOST_NEIGHBOURS).contains(&neighbours) {
            let allowed = "at least 1 and at most 16384";
            return Err(setting("the number of neighbours", neighbours.to_string(), allowed));
        }
        if neighbours as u64 > entries {
            return Err(DatastoreError::Neighbours { neighbours, entries });
        }
        if probes == 0 {
            return Err(setting("the number of probes", probes.to_string(), "at least 1"));
        }
        Ok(())
    }
}
