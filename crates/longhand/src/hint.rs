//! What to do about an error, in terms of the command line's verbs and flags.

use std::error::Error;

use longhand_engine::{DatastoreError, EngineError, SnapshotError};
use longhand_run::RunError;
use longhand_tasks::TaskError;
use longhand_tasks::baseline::BASELINE_FILE;
use longhand_text::TextError;
use longhand_text::corpus::RowFault;
use longhand_train::TrainError;

/// The remedy for an error, where a verb or a flag is one.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(of)
}

fn of(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref() {
        return of_run(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_text(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_engine(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_task(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_train(error);
    }
    if let Some(error) = error.downcast_ref() {
        return of_datastore(error);
    }
    error.downcast_ref().and_then(of_snapshot)
}

fn of_run(error: &RunError) -> Option<String> {
    let hint = match error {
        RunError::Named { source, .. } => return of_run(source),
        RunError::Text(error) => return of_text(error),
        RunError::Task(error) => return of_task(error),
        RunError::Train(error) => return of_train(error),
        RunError::Engine(error) => return of_engine(error),
        RunError::OutputIsFile(_) => "pass it with --out",
        RunError::OutputNotEmpty(_) => {
            "pass --force to overwrite it, --resume to go on with its run, or another --out"
        }
        RunError::OutputLocked { .. } => "wait for it or stop it, or name another --out",
        RunError::OutputForeign { .. } | RunError::OutputIsOneRun(_) => "name another --out",
        RunError::BaselineResumed => "pass --force to train it anew",
        RunError::OutputIsBase(_) => "name another --out, so that it stays",
        RunError::VectorsOfWords(_) => "pass --tokenizer word or --tokenizer char",
        RunError::VectorWidth { found, .. } => return Some(format!("pass --width {found}")),
        RunError::NoTable { .. } => {
            "say with --format which one the text is, or leave out --text-column"
        }
        _ => return None,
    };
    Some(hint.into())
}

fn of_text(error: &TextError) -> Option<String> {
    let hint = match error {
        TextError::NoFolder(_) => "give the folder that `longhand train` wrote",
        TextError::InvalidUtf8 { .. } => "convert it, or pass --lossy to replace invalid bytes",
        TextError::Binary { .. } => "pass --lossy to replace such bytes",
        TextError::Row { fault: RowFault::LoneSurrogate, .. } => {
            "correct it, or pass --lossy to replace it"
        }
        TextError::Row { fault: RowFault::NotAnObject, .. } => {
            "give one object a line, or say with --format which table it is"
        }
        TextError::Row { fault: RowFault::MaybeHeader(_), .. } => {
            "pass --header yes or --header no"
        }
        TextError::NoLabelWords { .. } => {
            "begin each line with its label, say with --format which table it is, or pass --format \
             labelled if the words are labels"
        }
        TextError::Tabbed(_) => {
            "pass --format tsv if it is a table, or --format labelled if each line begins with its label"
        }
        TextError::Row { fault: RowFault::SeveralLabels, .. } => {
            "leave one, or pass --multi-label to learn them all"
        }
        TextError::NoTokenizer(path)
            if path.parent().is_some_and(|folder| folder.join(BASELINE_FILE).is_file()) =>
        {
            "the folder holds a baseline of a task: use `longhand predict` with it"
        }
        TextError::TooShortToSplit { .. } => "give a longer text, or pass --valid-fraction 0",
        _ => return None,
    };
    Some(hint.into())
}

fn of_engine(error: &EngineError) -> Option<String> {
    match error {
        EngineError::Text(error) => of_text(error),
        EngineError::Snapshot(error) => of_snapshot(error),
        EngineError::Datastore(error) => of_datastore(error),
        EngineError::NotLanguageModel => Some("use `longhand predict` with it".into()),
        _ => None,
    }
}

fn of_snapshot(error: &SnapshotError) -> Option<String> {
    match error {
        SnapshotError::Form(_) | SnapshotError::Damaged(_) => {
            Some("`longhand memory save` writes one".into())
        }
        _ => None,
    }
}

fn of_datastore(error: &DatastoreError) -> Option<String> {
    match error {
        DatastoreError::Missing(_) => Some("`longhand index` writes one".into()),
        DatastoreError::Occupied(_) => {
            Some("name another --out, or pass --force to replace a datastore".into())
        }
        _ => None,
    }
}

fn of_task(error: &TaskError) -> Option<String> {
    match error {
        TaskError::NoSecondText => Some("pass --pair-column".into()),
        TaskError::NoTargets(_) => Some("pass --targets, or --format and the columns".into()),
        TaskError::NothingHeldOut => Some("pass --valid, or another --valid-fraction".into()),
        TaskError::Text(error) => of_text(error),
        TaskError::NotATask(folder) => Some(format!(
            "make one of it with `longhand finetune {} --task classify`",
            folder.display()
        )),
        _ => None,
    }
}

fn of_train(error: &TrainError) -> Option<String> {
    match error {
        TrainError::Text(error) => of_text(error),
        TrainError::NotFinite { checkpoint: Some(_), .. } => Some("pass --resume".into()),
        _ => None,
    }
}
