//! How well tags were found: entities as a whole, or raw tags one by one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, json};

use super::Tagging;
use crate::confusion::{ClassScore, Confusion, class_report, macro_means};
use crate::tags::{Entity, EntityCounts, EntityScores, Scheme};
use crate::task::{Report, Scored};

/// The name of all tags together that training lacks, in a report.
const UNKNOWN: &str = "(not in training)";

impl Tagging {
    /// What metrics count in each example, by place: tags that are right, all tags, and of each type of
    /// entity, or of each raw tag, how many are in the data, were found, and are right. Types lie in
    /// the order of their names, and behind the raw tags are those that training lacks.
    pub(super) fn tallies_of(&self, scored: &[Scored<'_, Self>]) -> Vec<Vec<(usize, u64)>> {
        let kinds: Vec<BTreeMap<String, EntityCounts>> = match self.scheme {
            Scheme::Raw => Vec::new(),
            _ => scored.iter().map(|one| self.scores(&[*one]).types().clone()).collect(),
        };
        let names: BTreeSet<&String> = kinds.iter().flat_map(BTreeMap::keys).collect();
        let places: BTreeMap<&String, usize> = names.into_iter().zip(0..).collect();
        let unknown = self.tags.len();
        let of_example = |(example, one): (usize, &Scored<'_, Self>)| {
            let truth = self.numbers(one.example);
            let all = truth.len() as u64;
            let found = one.answers.iter().flat_map(|answer| &answer.tags);
            let (mut right, mut counts) = (0, BTreeMap::<usize, EntityCounts>::new());
            for (truth, &found) in truth.iter().zip(found) {
                let is_right = *truth == Some(found);
                right += u64::from(is_right);
                if self.scheme == Scheme::Raw {
                    let truth = truth.map_or(unknown, |truth| truth as usize);
                    let of_truth = counts.entry(truth).or_default();
                    of_truth.truth += 1;
                    of_truth.right += u64::from(is_right);
                    counts.entry(found as usize).or_default().found += 1;
                }
            }
            let kinds = kinds.get(example).into_iter().flatten();
            counts.extend(kinds.map(|(name, of)| (places[name], *of)));
            let of_kinds = counts.into_iter().flat_map(|(place, of)| {
                let first = 2 + 3 * place;
                [(first, of.truth), (first + 1, of.found), (first + 2, of.right)]
            });
            [(0, right), (1, all)].into_iter().chain(of_kinds).collect()
        };
        scored.iter().enumerate().map(of_example).collect()
    }

    /// Every metric by its key, from the sums of [`Tagging::tallies_of`].
    pub(super) fn measures(&self, sums: &[u64]) -> BTreeMap<String, f64> {
        let at = |place: usize| sums.get(place).copied().unwrap_or(0);
        let kinds = sums.get(2..).unwrap_or_default().chunks_exact(3);
        let kinds = kinds.map(|of| EntityCounts { truth: of[0], found: of[1], right: of[2] });
        let mut metrics = vec![("accuracy", at(0) as f64 / at(1).max(1) as f64)];
        match self.scheme {
            Scheme::Raw => {
                let names = self.tags.iter().map(String::as_str).chain([UNKNOWN]);
                let tags: Vec<(&str, EntityCounts)> = names.zip(kinds).collect();
                let [precision, recall, f1] = macro_means(&self.told(&tags));
                metrics.extend([
                    ("macro_f1", f1),
                    ("macro_precision", precision),
                    ("macro_recall", recall),
                ]);
                if let Some(roles) = self.roles(&tags) {
                    metrics.extend([
                        ("f1", roles.f1()),
                        ("precision", roles.precision()),
                        ("recall", roles.recall()),
                    ]);
                }
            }
            _ => {
                // A type that a sample lacks has no share in the mean.
                let kinds: Vec<EntityCounts> = kinds.filter(|of| of.truth + of.found > 0).collect();
                let mut overall = EntityCounts::default();
                kinds.iter().for_each(|of| overall += *of);
                let sum: f64 = kinds.iter().map(EntityCounts::f1).sum();
                metrics.extend([
                    ("entity_f1", overall.f1()),
                    ("entity_precision", overall.precision()),
                    ("entity_recall", overall.recall()),
                    ("entity_macro_f1", sum / kinds.len().max(1) as f64),
                ]);
            }
        }
        metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The scores of each type of entity; of raw tags those of each tag, and what was taken for what.
    pub(super) fn report_of(&self, scored: &[Scored<'_, Self>]) -> Report {
        if self.scheme == Scheme::Raw {
            let (names, confusion) = self.confusion(scored);
            let (text, tags) = class_report(&names, &confusion.classes());
            let json = Map::from_iter([("classes".to_owned(), tags.into())]);
            let classes = names.iter().cloned().zip(confusion.classes()).collect();
            return Report { confusion: Some((names, confusion)), classes, json, text };
        }
        let scores = self.scores(scored);
        let json = Map::from_iter([("entities".to_owned(), json!(scores))]);
        let score = |(name, counts): (&String, &EntityCounts)| {
            (name.clone(), ClassScore::of(counts.right, counts.truth, counts.found))
        };
        let classes = scores.types().iter().map(score).collect();
        Report { text: scores.table(), classes, json, ..Report::default() }
    }

    /// How often each raw tag was taken for each, and the names of the tags. Tags that training lacks
    /// are one more, where an example has one.
    fn confusion(&self, scored: &[Scored<'_, Self>]) -> (Vec<String>, Confusion) {
        let unknown = self.tags.len() as u32;
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        for Scored { example, answers, .. } in scored {
            let truth = self.numbers(example).into_iter().map(|truth| truth.unwrap_or(unknown));
            let found = answers.iter().flat_map(|answer| &answer.tags).copied();
            pairs.extend(truth.zip(found));
        }
        let mut names = self.tags.clone();
        if pairs.iter().any(|&(truth, _)| truth == unknown) {
            names.push(UNKNOWN.to_owned());
        }
        let mut confusion = Confusion::new(names.len());
        pairs.into_iter().for_each(|(truth, found)| confusion.add(truth, found));
        (names, confusion)
    }

    /// The scores of the tags whose mean is told: of roles without those that are none.
    fn told(&self, tags: &[(&str, EntityCounts)]) -> Vec<ClassScore> {
        let is_told = |name: &str| self.columns.predicate.is_none() || self.speaks(name);
        let told = tags.iter().filter(|(name, _)| is_told(name));
        told.map(|(_, of)| ClassScore::of(of.right, of.truth, of.found)).collect()
    }

    /// How well roles were found, without the tags of tokens that have none, and of the predicates
    /// themselves. None without a column of predicates, where every tag says something. A role that
    /// training lacks is never found.
    fn roles(&self, tags: &[(&str, EntityCounts)]) -> Option<EntityCounts> {
        self.columns.predicate?;
        let mut counts = EntityCounts::default();
        tags.iter().filter(|(name, _)| self.speaks(name)).for_each(|(_, of)| counts += *of);
        Some(counts)
    }

    /// How well entities were found, those of each predicate by themselves. The predicate is known, and
    /// so is no entity.
    fn scores(&self, scored: &[Scored<'_, Self>]) -> EntityScores {
        let mut scores = EntityScores::default();
        for Scored { example, answers, .. } in scored {
            let found = self.written(example, answers);
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            let found = example.by_predicate(&found).map(|tags| example.entities_of(tags));
            for (truth, found) in example.entities().into_iter().zip(found) {
                scores.add(&self.without_predicates(truth), &self.without_predicates(found));
            }
        }
        scores
    }

    fn without_predicates<'a>(&self, mut entities: Vec<Entity<'a>>) -> Vec<Entity<'a>> {
        entities.retain(|entity| !self.is_predicate(entity.kind));
        entities
    }
}
