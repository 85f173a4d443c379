//! Ranks that follow from importance: the singular values of changes of low rank compete for a budget
//! that shrinks during the run (Zhang et al., "Adaptive budget allocation for parameter-efficient
//! fine-tuning", 2023), by the settings in this file.

pub(crate) mod allocator;

use serde::{Deserialize, Serialize};

use crate::bounds::{SettingsError, bound, not_negative, positive, share};

/// How the ranks of changes with singular values are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RankSettings {
    /// The rank that each change begins with (one and a half times the mean rank at the end).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<usize>,
    /// γ: weight of the term that keeps the vectors of the factors orthonormal, a mean over all of
    /// the factors (0.5).
    pub orthogonality: f64,
    /// β₁: decay of the mean sensitivity of the loss to a weight (0.85).
    pub beta1: f64,
    /// β₂: decay of the mean uncertainty of that sensitivity (0.85).
    pub beta2: f64,
    /// Share of the budget until which all singular values are trained (0.1).
    pub begin: f64,
    /// Share of the budget from which only those of the final ranks are trained (0.5).
    pub end: f64,
    /// Steps between two choices (1).
    pub every: u64,
}

/// The ranks that a run ends with, and how they are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankBudget {
    /// The mean rank of the changes at the end.
    pub mean: usize,
    /// How they are found.
    pub settings: RankSettings,
}

impl Default for RankSettings {
    fn default() -> Self {
        let (beta1, beta2) = (0.85, 0.85);
        Self { initial: None, orthogonality: 0.5, beta1, beta2, begin: 0.1, end: 0.5, every: 1 }
    }
}

impl RankSettings {
    /// The rank that each change begins with, of which `mean` are left at the end.
    pub fn initial(&self, mean: usize) -> usize {
        self.initial.unwrap_or(mean.saturating_add(mean.div_ceil(2)))
    }
}

impl RankBudget {
    /// Checks every bound; the error is the first setting that is out of its bounds.
    ///
    /// # Errors
    /// [`SettingsError`] names that setting and what it may be.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Self { mean, settings } = *self;
        let RankSettings { orthogonality, beta1, beta2, begin, end, every, .. } = settings;
        let initial = settings.initial(mean);
        let allowed = "at least the rank at the end";
        bound("adalora.initial", initial as f64, initial >= mean, allowed)?;
        not_negative("adalora.orthogonality", orthogonality)?;
        share("adalora.beta1", beta1)?;
        share("adalora.beta2", beta2)?;
        share("adalora.begin", begin)?;
        let allowed = "at least `adalora.begin` and less than 1";
        bound("adalora.end", end, (begin..1.0).contains(&end), allowed)?;
        positive("adalora.every", every as f64)
    }

    /// Singular values of `changes` changes that are kept when a share of the run's budget is spent:
    /// all of them at first, and from `begin` to `end` fewer by a cubic law (section 3.3).
    pub fn values(&self, changes: usize, spent: f64) -> usize {
        let RankSettings { begin, end, .. } = self.settings;
        let (first, last) = (self.settings.initial(self.mean) * changes, self.mean * changes);
        if spent >= end {
            return last;
        }
        let left = 1.0 - (spent - begin).max(0.0) / (end - begin);
        last + ((first - last) as f64 * left.powi(3)) as usize
    }
}
