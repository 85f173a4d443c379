//! The adapters that a model is read with.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_model::adapter::AdapterChoice;
use longhand_tasks::TASK_FILE;

use crate::talk::say;

/// The form of one choice, in messages.
const FORM: &str = "[NAME=]DIR[@WEIGHT]";

/// The adapters of a model.
#[derive(Args)]
pub(crate) struct AdapterArguments {
    /// The folder of an adapter of the model; given several times, the changes of all are added,
    /// each times its weight, and one of them may bring a task
    #[arg(long = "adapter", value_name = FORM, value_parser = choice)]
    pub(crate) chosen: Vec<AdapterChoice>,
}

impl AdapterArguments {
    /// The folder that holds the task, if any does: an adapter's, or the model's.
    pub(crate) fn task_folder<'a>(&'a self, model: &'a Path) -> &'a Path {
        let folders = || self.chosen.iter().map(|choice| choice.folder.as_path());
        let mut all = folders().chain([model]);
        let holds = all.find(|folder| folder.join(TASK_FILE).is_file());
        holds.or(folders().next()).unwrap_or(model)
    }

    /// The flags that choose them, each with a space before it.
    pub(crate) fn as_typed(&self) -> String {
        let flag = |AdapterChoice { name, folder, weight }: &AdapterChoice| {
            let weight = if *weight == 1.0 { String::new() } else { format!("@{weight}") };
            format!(" --adapter {name}={}{weight}", folder.display())
        };
        self.chosen.iter().map(flag).collect()
    }

    /// Their names, where there is more than one.
    pub(crate) fn names(&self) -> Option<Vec<&str>> {
        let names = self.chosen.iter().map(|choice| choice.name.as_str());
        (self.chosen.len() > 1).then(|| names.collect())
    }

    /// Says which are applied, where there is more than one.
    pub(crate) fn tell(&self) {
        if self.names().is_some() {
            let each = self.chosen.iter().map(|AdapterChoice { name, weight, .. }| match weight {
                1.0 => name.clone(),
                weight => format!("{name} × {weight}"),
            });
            say!("adapters: {}", each.collect::<Vec<_>>().join(", "));
        }
    }
}

/// Reads a choice. A folder whose own name has a `=` or an `@` is taken as it is.
pub(crate) fn choice(text: &str) -> Result<AdapterChoice, String> {
    let is_folder = |text: &str| Path::new(text).is_dir();
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if !is_folder(text) && !name.contains('/') => (Some(name), rest),
        _ => (None, text),
    };
    let (folder, weight) = match rest.rsplit_once('@') {
        Some((folder, weight)) if !is_folder(rest) && !weight.contains('/') => (folder, weight),
        _ => (rest, "1"),
    };
    let weight = weight.parse().ok().filter(|weight: &f32| weight.is_finite());
    let weight = weight.ok_or_else(|| {
        format!("the weight behind @ is no number between -3.4e38 and 3.4e38: write {FORM}")
    })?;
    let folder = PathBuf::from(folder);
    let own = || folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let name = name.map_or_else(own, str::to_owned);
    match name.is_empty() || folder.as_os_str().is_empty() {
        true => Err(format!("a name or a folder is missing: write {FORM}")),
        false => Ok(AdapterChoice { name, folder, weight }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_has_a_name_a_folder_and_a_weight() {
        for (text, name, folder, weight) in [
            ("a/tone", "tone", "a/tone", 1.0),
            ("a/tone/", "tone", "a/tone/", 1.0),
            ("t=a/tone", "t", "a/tone", 1.0),
            ("a/tone@0.5", "tone", "a/tone", 0.5),
            ("t=tone@-2", "t", "tone", -2.0),
            ("a=b/c=d", "a", "b/c=d", 1.0),
            ("x@y/tone", "tone", "x@y/tone", 1.0),
        ] {
            let expected = AdapterChoice { name: name.into(), folder: folder.into(), weight };
            assert_eq!(choice(text).unwrap(), expected);
        }
        for (text, part) in [
            ("tone@half", "no number"),
            ("tone@nan", "no number"),
            ("=tone", "missing"),
            ("t=", "missing"),
        ] {
            let refused = choice(text).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn a_folder_that_is_there_is_taken_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("t=one@2");
        fs_err::create_dir(&folder).unwrap();
        let choice = choice(folder.to_str().unwrap()).unwrap();
        assert_eq!((choice.folder, choice.weight), (folder, 1.0));
    }
}
