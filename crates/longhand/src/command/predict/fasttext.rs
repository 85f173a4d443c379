//! Labels in fastText's form, `__label__NAME`.

use longhand_tasks::Task;
use serde_json::{Map, Value};

use crate::error::Usage;

/// The fields of answers that are labels.
const LABELS: [&str; 2] = ["label", "labels"];

/// Refuses a task whose answers are no labels, or one of whose labels would be read in two parts.
pub(super) fn check<T: Task>(task: &T) -> Result<(), Usage> {
    if !T::COLUMNS.iter().any(|name| LABELS.contains(name)) {
        let text = "--fasttext is for the labels of texts, not for the task";
        return Err(Usage(format!("{text} {}: leave it out", T::NAME)));
    }
    let is_parted = |(name, _): &(String, usize)| name.contains(char::is_whitespace);
    match task.counts(&[]).into_iter().find(is_parted) {
        Some((name, _)) => Err(Usage(format!(
            "a label of fastText ends at white space, which {name:?} has: leave out --fasttext"
        ))),
        None => Ok(()),
    }
}

/// The labels among the fields of an answer, with spaces between them; nothing where there are none.
pub(super) fn line(fields: &Map<String, Value>) -> String {
    let values = LABELS.iter().filter_map(|name| fields.get(*name));
    let names = values.flat_map(|value| match value {
        Value::Array(names) => names.as_slice(),
        name => std::slice::from_ref(name),
    });
    let names = names.filter_map(Value::as_str).map(|name| format!("__label__{name}"));
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_label_is_marked() {
        let line = |fields: Value| super::line(fields.as_object().unwrap());
        assert_eq!(line(json!({ "text": "a", "label": "good" })), "__label__good");
        assert_eq!(line(json!({ "labels": ["a", "b"], "text": "c" })), "__label__a __label__b");
        assert_eq!(line(json!({ "label": null })), "");
        assert_eq!(line(json!({ "labels": [] })), "");
    }
}
