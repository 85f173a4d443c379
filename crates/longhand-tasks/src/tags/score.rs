//! Precision, recall and F1 of entities.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::entities::Entity;

/// How many entities there are, were found, and were found right: the same type and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntityCounts {
    /// Entities of the data.
    pub truth: u64,
    /// Entities that were found.
    pub found: u64,
    /// Entities of the data that were found.
    pub right: u64,
}

/// The counts of each type of entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntityScores {
    types: BTreeMap<String, EntityCounts>,
}

impl EntityCounts {
    /// Share of the found entities that are right; 0 where none was found.
    pub fn precision(&self) -> f64 {
        share(self.right, self.found)
    }

    /// Share of the data's entities that were found; 0 where there is none.
    pub fn recall(&self) -> f64 {
        share(self.right, self.truth)
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        share(2 * self.right, self.truth + self.found)
    }
}

impl AddAssign for EntityCounts {
    fn add_assign(&mut self, other: Self) {
        self.truth += other.truth;
        self.found += other.found;
        self.right += other.right;
    }
}

impl EntityScores {
    /// Counts the entities of one sentence.
    pub fn add(&mut self, truth: &[Entity<'_>], found: &[Entity<'_>]) {
        let known: BTreeSet<&Entity<'_>> = truth.iter().collect();
        for entity in truth {
            self.of_type(entity.kind).truth += 1;
        }
        for entity in found {
            let counts = self.of_type(entity.kind);
            counts.found += 1;
            counts.right += u64::from(known.contains(entity));
        }
    }

    /// The counts of each type, by its name.
    pub fn types(&self) -> &BTreeMap<String, EntityCounts> {
        &self.types
    }

    /// The counts of all types together.
    pub fn overall(&self) -> EntityCounts {
        let mut sum = EntityCounts::default();
        self.types.values().for_each(|counts| sum += *counts);
        sum
    }

    /// The mean F1 of the types that occur; 0 where none does.
    pub fn macro_f1(&self) -> f64 {
        let sum: f64 = self.types.values().map(EntityCounts::f1).sum();
        sum / self.types.len().max(1) as f64
    }

    /// A line for each type and one for all, in percent, as `conlleval` shows them.
    pub fn table(&self) -> String {
        let width = self.types.keys().map(|kind| kind.chars().count()).max().unwrap_or(0).max(4);
        let mut table = format!("{:width$}  precision  recall      F1  entities  found\n", "type");
        let overall = self.overall();
        let rows = self.types.iter().map(|(kind, counts)| (kind.as_str(), counts));
        for (kind, counts) in rows.chain([("all", &overall)]) {
            let [precision, recall, f1] =
                [counts.precision(), counts.recall(), counts.f1()].map(|share| 100.0 * share);
            let EntityCounts { truth, found, .. } = counts;
            // Writing into a string cannot fail.
            let _ = writeln!(
                table,
                "{kind:width$}  {precision:>9.2}  {recall:>6.2}  {f1:>6.2}  {truth:>8}  {found:>5}"
            );
        }
        table
    }

    fn of_type(&mut self, kind: &str) -> &mut EntityCounts {
        self.types.entry(kind.to_owned()).or_default()
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
