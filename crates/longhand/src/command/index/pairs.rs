//! `longhand index` with a model that writes from a source: pairs, as its task reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use longhand_engine::Neighbours;
use longhand_engine::datastore::{DatastoreWriter, Tuner};
use longhand_tasks::examples::{add_notes, read_known};
use longhand_tasks::predictor::{self, Trained};
use longhand_tasks::task::Reading;
use longhand_tasks::{Listed, Measured, Predictor, Task, VisitTask};
use longhand_train::{TrainError, Watch};

use super::super::writing::with_targets;
use super::{Arguments, Index, Purpose, Reads};
use crate::reading::model_folder;
use crate::talk::say;
use crate::task_data::{self, FileReading, TableArguments};

/// Builds or tunes a datastore of pairs.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let model = model_folder(&arguments.model)?;
    let folder = arguments.adapters.task_folder(model);
    let (file, trained) = predictor::open(folder, model, &arguments.adapters.chosen)?;
    // Columns are those of training.
    let table = TableArguments { header: None, pair_column: None };
    let (task, mut reading) = task_data::reading(folder, &file, &arguments.reading, &table)?;
    let Arguments { text, targets, tune, tune_targets, .. } = arguments;
    for (targets, sources) in [
        (("--targets", &targets[..]), ("TEXT", &text[..])),
        (("--tune-targets", &tune_targets[..]), ("--tune", &tune[..])),
    ] {
        reading.all = with_targets(reading.all, targets, sources)?;
    }
    file.visit(&task, Visit { arguments, folder, trained, reading })
}

/// What is done once the task is known.
struct Visit<'a> {
    arguments: &'a Arguments,
    folder: &'a Path,
    trained: Trained,
    reading: FileReading,
}

/// Pairs of a source and a target.
struct Pairs<'a, T: Task> {
    predictor: Predictor<T>,
    settings: &'a T::Settings,
    reading: FileReading,
}

impl VisitTask for Visit<'_> {
    type Output = Result<()>;

    fn visit<T: Listed>(self, task: T, settings: &T::Settings) -> Result<()> {
        let Self { arguments, folder, trained, reading } = self;
        let cpu = arguments.begin()?;
        let predictor = Predictor::checked(folder, task, trained, cpu.clone())?;
        let (Some(owner), Some(width)) = (predictor.owner(), predictor.hidden_width()) else {
            bail!("a baseline has no hidden states to keep in a datastore: give a network");
        };
        let reads = Pairs { predictor, settings, reading };
        Index { arguments, reads, owner, width, cpu }.run()
    }
}

impl<T: Listed> Reads for Pairs<'_, T> {
    type Data = Measured<T>;

    fn open(&self, sources: &[PathBuf], purpose: Purpose) -> Result<Measured<T>> {
        let (mut examples, mut notes) = (Vec::new(), BTreeMap::new());
        for path in sources {
            let to_learn = purpose == Purpose::Remember;
            let reading = Reading { to_learn, ..self.reading.of(path) };
            let read = read_known(&self.predictor.task, self.settings, path, &reading)?;
            examples.extend(read.examples);
            add_notes(&mut notes, read.notes);
        }
        for (note, count) in &notes {
            say!("{count} {note}");
        }
        let pairs = self.predictor.measured(examples)?;
        if pairs.cut > 0 {
            say!("of {} source(s) the first tokens alone are read", pairs.cut);
        }
        let cut = pairs.cut_targets();
        if cut > 0 {
            say!("of {cut} target(s) the first tokens alone are read");
        }
        Ok(pairs)
    }

    fn remember(
        &mut self,
        pairs: &Measured<T>,
        writer: &mut DatastoreWriter,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError> {
        self.predictor.remember(pairs, writer, watch)
    }

    fn try_mixtures(
        &mut self,
        pairs: &Measured<T>,
        neighbours: &mut Neighbours,
        tuner: &mut Tuner,
        watch: &mut Watch<'_>,
    ) -> Result<(), TrainError> {
        self.predictor.try_mixtures(pairs, neighbours, tuner, watch)
    }
}
