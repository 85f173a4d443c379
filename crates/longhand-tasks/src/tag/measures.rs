//! How well tags were found: entities as a whole, or raw tags one by one.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::Tagging;
use crate::confusion::{ClassScore, Confusion, class_report, macro_means};
use crate::tags::{Entity, EntityCounts, EntityScores, Scheme};
use crate::task::{Report, Scored};

/// The name of all tags together that training lacks, in a report.
const UNKNOWN: &str = "(not in training)";

impl Tagging {
    /// Every metric by its key.
    pub(super) fn measures(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let mut metrics = vec![("accuracy", self.accuracy(scored))];
        match self.scheme {
            Scheme::Raw => {
                let (names, confusion) = self.confusion(scored);
                let [precision, recall, f1] = macro_means(&self.told(&names, &confusion));
                metrics.extend([
                    ("macro_f1", f1),
                    ("macro_precision", precision),
                    ("macro_recall", recall),
                ]);
                if let Some(roles) = self.roles(&names, &confusion) {
                    metrics.extend([
                        ("f1", roles.f1()),
                        ("precision", roles.precision()),
                        ("recall", roles.recall()),
                    ]);
                }
            }
            _ => {
                let scores = self.scores(scored);
                let overall = scores.overall();
                metrics.extend([
                    ("entity_f1", overall.f1()),
                    ("entity_precision", overall.precision()),
                    ("entity_recall", overall.recall()),
                    ("entity_macro_f1", scores.macro_f1()),
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

    /// The share of tags that are right.
    fn accuracy(&self, scored: &[Scored<'_, Self>]) -> f64 {
        let (mut right, mut all) = (0, 0);
        for Scored { example, answers, .. } in scored {
            let truth = self.numbers(example);
            let found = answers.iter().flat_map(|answer| &answer.tags);
            all += truth.len();
            right +=
                truth.iter().zip(found).filter(|(truth, found)| **truth == Some(**found)).count();
        }
        right as f64 / all.max(1) as f64
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
    fn told(&self, names: &[String], confusion: &Confusion) -> Vec<ClassScore> {
        let is_told = |name: &str| self.columns.predicate.is_none() || self.speaks(name);
        let classes = names.iter().zip(confusion.classes());
        classes.filter(|(name, _)| is_told(name)).map(|(_, class)| class).collect()
    }

    /// How well roles were found, without the tags of tokens that have none, and of the predicates
    /// themselves. None without a column of predicates, where every tag says something. A role that
    /// training lacks is never found.
    fn roles(&self, names: &[String], confusion: &Confusion) -> Option<EntityCounts> {
        self.columns.predicate?;
        let mut counts = EntityCounts::default();
        let classes = names.iter().zip(confusion.classes()).enumerate();
        for (place, (_, class)) in classes.filter(|(_, (name, _))| self.speaks(name)) {
            let right = confusion.counts()[place][place];
            counts += EntityCounts { truth: class.support, found: class.answered, right };
        }
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
