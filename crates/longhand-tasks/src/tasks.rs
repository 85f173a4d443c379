//! The tasks: the one list that names each of them.

use longhand_model::Preset;
use longhand_text::TokenizerKind;
use serde::{Deserialize, Serialize};

use crate::answer::Reply;
use crate::chat::Chatting;
use crate::classify::Classify;
use crate::error::TaskError;
use crate::multi_label::MultiLabel;
use crate::span::Spans;
use crate::summarize::Summary;
use crate::tag::Tagging;
use crate::task::Task;
use crate::translate::Translation;
use crate::wording;
use crate::writing::Writing;

/// Writes the enums of all tasks, and what is done with whichever it is.
macro_rules! tasks {
    ($($(#[$about:meta])* $variant:ident => $task:ty,)+) => {
        /// A task and its settings: the table `task` of a recipe. Unknown keys are refused.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "kebab-case")]
        pub enum TaskSettings {
            $($(#[$about])* $variant(<$task as Task>::Settings),)+
        }

        /// The meaning of a model's answers, as `task.json` holds it.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "kebab-case")]
        pub enum TaskFile {
            $($(#[$about])* $variant($task),)+
        }

        impl TaskSettings {
            /// Name and description of each task.
            pub const ALL: &'static [(&'static str, &'static str)] =
                &[$((<$task as Task>::NAME, <$task as Task>::ABOUT),)+];

            /// The default settings of the task called `name`.
            pub fn named(name: &str) -> Option<Self> {
                $(if name == <$task as Task>::NAME {
                    return Some(Self::$variant(Default::default()));
                })+
                None
            }

            /// The name of the task, as in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$task as Task>::NAME,)+
                }
            }

            /// The metrics that a person is told ([`Task::METRICS`]).
            pub fn metrics(&self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$variant(_) => <$task as Task>::METRICS,)+
                }
            }

            /// The metrics that are no shares ([`Task::NUMBERS`]).
            pub fn numbers(&self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$variant(_) => <$task as Task>::NUMBERS,)+
                }
            }

            /// A file of examples without answers ([`Task::INPUT`]).
            pub fn input(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$task as Task>::INPUT,)+
                }
            }

            /// The model of a run that names none ([`Task::preset`]).
            pub fn preset(&self) -> Preset {
                match self {
                    $(Self::$variant(settings) => <$task as Task>::preset(settings),)+
                }
            }

            /// The tokeniser of a run that names none ([`Task::TOKENIZER`]).
            pub fn tokenizer(&self) -> TokenizerKind {
                match self {
                    $(Self::$variant(_) => <$task as Task>::TOKENIZER,)+
                }
            }

            /// Whether answers are written in a search ([`Task::WRITES`]).
            pub fn writes(&self) -> bool {
                match self {
                    $(Self::$variant(_) => <$task as Task>::WRITES,)+
                }
            }

            /// Calls `visitor` with the task's type.
            pub fn visit<V: VisitSettings>(&self, visitor: V) -> V::Output {
                match self {
                    $(Self::$variant(settings) => visitor.visit::<$task>(settings),)+
                }
            }
        }

        impl TaskFile {
            /// The name of the task, as in recipes.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$task as Task>::NAME,)+
                }
            }

            /// Calls `visitor` with the task, and with `settings` where they are this task's.
            pub fn visit<V: VisitTask>(self, settings: &TaskSettings, visitor: V) -> V::Output {
                match self {
                    $(Self::$variant(task) => match settings {
                        TaskSettings::$variant(settings) => visitor.visit(task, settings),
                        #[allow(unreachable_patterns)]
                        _ => visitor.visit(task, &Default::default()),
                    },)+
                }
            }
        }

        $(impl From<$task> for TaskFile {
            fn from(task: $task) -> Self {
                Self::$variant(task)
            }
        }

        impl TryFrom<TaskFile> for $task {
            type Error = TaskError;

            fn try_from(file: TaskFile) -> Result<Self, TaskError> {
                let got = file.name();
                match file {
                    TaskFile::$variant(task) => Ok(task),
                    #[allow(unreachable_patterns)]
                    _ => Err(TaskError::OtherTask { expected: <$task as Task>::NAME, got }),
                }
            }
        })+
    };
}

tasks! {
    /// One label for each text.
    Classify => Classify,
    /// Any number of labels for each text.
    MultiLabel => MultiLabel,
    /// One tag for each token.
    Tag => Tagging,
    /// One span of a text for each question.
    Span => Spans,
    /// A text in another language.
    Translate => Writing<Translation>,
    /// A short text that says what a long one is about.
    Summarize => Writing<Summary>,
    /// Words that answer a question.
    Answer => Writing<Reply>,
    /// What an assistant says next in a dialogue.
    Chat => Chatting,
}

/// A task of the list.
pub trait Listed: Task + Into<TaskFile> + TryFrom<TaskFile, Error = TaskError> {}

impl<T: Task + Into<TaskFile> + TryFrom<TaskFile, Error = TaskError>> Listed for T {}

/// Something that is done for a task that a recipe names.
pub trait VisitSettings {
    /// The result of the visit.
    type Output;

    /// Does it for the task `T`.
    fn visit<T: Listed>(self, settings: &T::Settings) -> Self::Output;
}

/// Something that is done with the task of a model folder.
pub trait VisitTask {
    /// The result of the visit.
    type Output;

    /// Does it with `task`, whose files are read as `settings` say.
    fn visit<T: Listed>(self, task: T, settings: &T::Settings) -> Self::Output;
}

impl TaskSettings {
    /// Changes the setting called `key`, as a recipe writes it.
    ///
    /// # Errors
    /// If the task has no such setting, or the setting has no such value.
    pub fn set(&mut self, key: &str, value: serde_json::Value) -> Result<(), TaskError> {
        let wrong = |reason: serde_json::Error| {
            let (task, key, reason) = (self.name(), key.to_owned(), reason.to_string());
            if let Some(known) = wording::known_keys(&reason, &key) {
                return TaskError::NoSetting { task, key, known: known.join(", ") };
            }
            let (value, reason) = (value.to_string(), wording::plain(&reason));
            TaskError::Setting { task, key, value, reason }
        };
        let mut settings = serde_json::to_value(&*self).map_err(wrong)?;
        settings[key] = value.clone();
        *self = serde_json::from_value(settings).map_err(wrong)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_task_is_found_by_its_name_and_refuses_foreign_settings() {
        for &(name, about) in TaskSettings::ALL {
            let mut task = TaskSettings::named(name).unwrap();
            assert_eq!(task.name(), name);
            assert!(!about.is_empty());
            assert!(!task.metrics().is_empty() || !task.numbers().is_empty());
            let json = serde_json::to_value(&task).unwrap();
            assert_eq!(json["type"], name);
            assert_eq!(serde_json::from_value::<TaskSettings>(json).unwrap(), task);
            let error = task.set("colour", json!("red")).unwrap_err().to_string();
            assert!(error.contains("has no setting `colour`: its settings are "), "{error}");
            assert!(error.contains(name) && !error.contains("field"), "{error}");
        }
        assert_eq!(TaskSettings::named("cook"), None);
        let mut task = TaskSettings::named("classify").unwrap();
        task.set("longest", json!(7)).unwrap();
        assert_eq!(serde_json::to_value(&task).unwrap()["longest"], 7);
        let error = task.set("longest", json!(0)).unwrap_err().to_string();
        assert!(error.ends_with("0 is given, but it must be a whole number, 1 or more"), "{error}");
    }
}
