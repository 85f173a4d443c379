//! Metrics of groups of examples, such as the tasks of bAbI, each of which has files of its own.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

/// The key of the groups in a report.
pub(super) const KEY: &str = "by_group";
/// From this share of right answers on a task of bAbI counts as solved (Weston et al. 2016).
const SOLVED: f64 = 0.95;

/// The metrics of one group.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) examples: usize,
    pub(super) metrics: BTreeMap<&'static str, f64>,
}

/// The metrics of every group, in the order of the files.
pub(super) struct Groups {
    /// The metric that is told: its key, and the words for it.
    key: &'static str,
    words: &'static str,
    groups: Vec<Group>,
}

impl Groups {
    /// Groups of which the metric `key` is told; none for no group.
    pub(super) fn new(key: &'static str, words: &'static str, groups: Vec<Group>) -> Option<Self> {
        (!groups.is_empty()).then_some(Self { key, words, groups })
    }

    /// The mean of the metric over the groups, each of which counts once, and the number of groups in
    /// which it is at least 95 %.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let [mean, solved] = self.summary();
        BTreeMap::from([("group_mean".to_owned(), mean), ("groups_at_least_95".to_owned(), solved)])
    }

    /// Each group with its metrics, then the mean and the number of solved ones.
    pub(super) fn json(&self) -> Value {
        let group = |group: &Group| {
            let mut fields = Map::new();
            fields.insert("name".to_owned(), group.name.as_str().into());
            fields.insert("examples".to_owned(), group.examples.into());
            let metrics = group.metrics.iter();
            fields.extend(metrics.map(|(key, value)| ((*key).to_owned(), json!(value))));
            Value::Object(fields)
        };
        let [mean, solved] = self.summary();
        json!({
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
            "mean": mean,
            "at_least_95": solved as usize,
        })
    }

    /// A line for each group, and one for all of them.
    pub(super) fn text(&self) -> String {
        let line = |group: &Group| {
            let Group { name, examples, .. } = group;
            format!("{name}: {} {:.2} % of {examples}\n", self.words, 100.0 * self.value(group))
        };
        let [mean, solved] = self.summary();
        let all = self.groups.len();
        let lines: String = self.groups.iter().map(line).collect();
        format!("{lines}mean of {all} group(s) {:.2} %, {solved} at 95 % or more", 100.0 * mean)
    }

    /// The mean, and the number of groups that are solved.
    fn summary(&self) -> [f64; 2] {
        let values = || self.groups.iter().map(|group| self.value(group));
        let mean = values().sum::<f64>() / self.groups.len() as f64;
        // 950 of 1,000 is 95 %, whatever the last digit of the quotient.
        let solved = values().filter(|value| *value >= SOLVED - 1e-9).count();
        [mean, solved as f64]
    }

    fn value(&self, group: &Group) -> f64 {
        group.metrics.get(self.key).copied().unwrap_or_default()
    }
}

/// The group of a file's examples: its name without what says its format, its compression, or the part
/// that it is of, so that `qa1_single-supporting-fact_test.txt.gz` is `qa1_single-supporting-fact`.
pub(super) fn of_file(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let stem = name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(&name);
    let parts = ["train", "valid", "validation", "dev", "test"];
    let bare = parts.iter().find_map(|part| stem.strip_suffix(part)?.strip_suffix(['_', '-']));
    bare.filter(|bare| !bare.is_empty()).unwrap_or(stem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_the_name_of_its_file_in_every_part() {
        for (file, name) in [
            ("data/qa1_single-supporting-fact_test.txt.gz", "qa1_single-supporting-fact"),
            ("qa1_single-supporting-fact_train.txt", "qa1_single-supporting-fact"),
            ("qa20-dev.txt.zst", "qa20"),
            ("stories.txt", "stories"),
            ("_test.txt", "_test"),
            ("contest.txt", "contest"),
            (".hidden", ".hidden"),
        ] {
            assert_eq!(of_file(Path::new(file)), name);
        }
    }

    #[test]
    fn each_group_counts_once_whatever_its_size() {
        let group = |name: &str, examples, value| Group {
            name: name.into(),
            examples,
            metrics: BTreeMap::from([("exact_match", value), ("f1", 1.0)]),
        };
        let groups = vec![group("qa1", 1000, 0.95), group("qa2", 10, 0.5)];
        let groups = Groups::new("exact_match", "exact match", groups).unwrap();
        let metrics = groups.metrics();
        assert_eq!((metrics["group_mean"], metrics["groups_at_least_95"]), (0.725, 1.0));
        let json = groups.json();
        assert_eq!(json["groups"][1]["exact_match"], 0.5);
        assert_eq!(
            (&json["groups"][0]["examples"], &json["at_least_95"]),
            (&1000.into(), &1.into())
        );
        let text = groups.text();
        assert!(text.starts_with("qa1: exact match 95.00 % of 1000\n"), "{text}");
        assert!(text.ends_with("mean of 2 group(s) 72.50 %, 1 at 95 % or more"), "{text}");
        assert!(Groups::new("exact_match", "exact match", Vec::new()).is_none());
    }
}
