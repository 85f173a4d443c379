//! The examples of a run: which files, and what is held out.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_text::TableFormat;
use longhand_text::corpus::table::check_labels;

use crate::error::TaskError;
use crate::hold_out::{few, fold, hold_out, hold_out_groups};
use crate::task::{At, Read, Reading, Task};

/// What is told of training examples that [`Files::distinct`] drops.
const REPEATED: &str = "training examples repeat an earlier text and are dropped";
/// What is told of those of them whose label is another one than the first text's.
const CONTRADICTING: &str =
    "training examples that are dropped have another label than the first of their text";
/// What is told of examples to measure on that [`Files::distinct`] drops.
const LEARNT: &str =
    "examples to validate or test on have a text that is learnt from and are dropped";

/// The files of a task's examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Files {
    /// Files to learn from.
    pub train: Vec<PathBuf>,
    /// Files to validate on; with none, a part of `train` is held out.
    pub valid: Vec<PathBuf>,
    /// Files to test on.
    pub test: Vec<PathBuf>,
    /// Share of the training examples that is held out to validate on, from 0 to 1 (default: 0).
    pub valid_fraction: f64,
    /// Share of the training examples that is tested on, of a task whose examples have a
    /// [`Task::key`], without files to test on (default: 0).
    pub test_fraction: f64,
    /// The fold of `train` that is the test, in place of files to test on (default: none).
    pub fold: Option<Fold>,
    /// Examples of each [`Task::stratum`] to learn from, drawn by the seed (default: all). What is
    /// held out is not changed by it.
    pub shots: Option<NonZeroUsize>,
    /// A file of further examples to learn from, none of which is held out: the task's default
    /// settings say how it is read (default: none).
    pub further: Option<PathBuf>,
    /// Whether each text counts once: of equal texts in `train` the first is kept, and texts of `train`
    /// are dropped from `valid` and `test` (default: false).
    pub distinct: bool,
    /// How each file is read.
    pub reading: Reading,
}

/// One of the parts that cross-validation tests on in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The number of this fold, counted from 1.
    pub number: NonZeroUsize,
    /// The number of folds, at least 2.
    pub of: NonZeroUsize,
}

/// The examples of a run, and what is learnt.
pub struct Examples<T: Task> {
    /// The meaning of the model's answers.
    pub task: T,
    /// Repairs to the examples of all files, each with the number of times it was made.
    pub notes: BTreeMap<String, usize>,
    /// Examples to learn from.
    pub train: Vec<T::Example>,
    /// Examples to validate on; may be empty.
    pub valid: Vec<T::Example>,
    /// Examples to test on; may be empty.
    pub test: Vec<T::Example>,
}

impl<T: Task> Examples<T> {
    /// Reads whole files. Without a file to validate on, it holds out a share of the training
    /// examples, the same share of each [`Task::stratum`], drawn by `seed`. What the answers mean is
    /// learnt from all other examples, and from none that is held out; one that is held out and has a label
    /// that they lack is dropped.
    ///
    /// # Errors
    /// A file that cannot be read; examples that cannot be learnt from or measured on; too few
    /// to hold some out.
    pub fn read(settings: &T::Settings, files: &Files, seed: u64) -> Result<Self, TaskError> {
        if !T::WRITES
            && let Some(targets) = files.reading.targets.values().next()
        {
            let (task, name) = (T::NAME, targets.display().to_string());
            return Err(TaskError::NeedlessTargets { task, name });
        }
        let Read { examples: mut train, mut notes } = read_all::<T>(settings, &files.train, files)?;
        if files.distinct {
            let [repeated, other] = drop_repeated::<T>(&mut train);
            tell(&mut notes, REPEATED, repeated);
            tell(&mut notes, CONTRADICTING, other);
        }
        // What is dropped of other files follows from all texts of these, held out or not.
        let texts: Option<BTreeSet<Vec<String>>> =
            files.distinct.then(|| train.iter().map(text_of::<T>).collect());
        let valid = read_each::<T>(settings, &files.valid, files, &mut notes)?;
        let test = read_each::<T>(settings, &files.test, files, &mut notes)?;
        let HeldOut { mut train, valid: mut own_valid, test: mut own_test } =
            held_out::<T>(train, files, seed)?;
        // A few examples need not have every answer, and what is measured does not depend on them.
        let mut task = T::learn(settings, &train, &names(&files.train))?;
        if let Some(shots) = files.shots {
            train = few(train, T::stratum, shots.get(), seed).map_err(|(label, examples)| {
                let (name, shots) = (names(&files.train), shots.get());
                TaskError::TooFewShots { name, label, examples, shots }
            })?;
        }
        for (path, examples) in files.valid.iter().zip(&valid).chain(files.test.iter().zip(&test)) {
            check_known(&task, examples, (path, &files.reading))?;
        }
        let mut valid: Vec<T::Example> = valid.into_iter().flatten().collect();
        let mut test: Vec<T::Example> = test.into_iter().flatten().collect();
        if let Some(texts) = &texts {
            drop_learnt::<T>(texts, files, [&mut valid, &mut test], &mut notes)?;
        }
        for part in [&mut own_valid, &mut own_test] {
            drop_unseen(&task, part, files, &mut notes)?;
        }
        let valid = if files.valid.is_empty() { own_valid } else { valid };
        let test = if files.test.is_empty() || files.fold.is_some() { own_test } else { test };
        if let Some(path) = &files.further {
            let own = T::Settings::default();
            let read = read_known(&task, &own, path, &Reading::default())?;
            train.extend(read.examples);
            add_notes(&mut notes, read.notes);
        }
        task.weigh(settings, &train);
        Ok(Self { task, notes, train, valid, test })
    }

    /// The texts to learn from, on which a tokeniser of whole words is trained.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.train.iter().flat_map(T::texts)
    }

    /// The texts to learn from, on which any other tokeniser is trained.
    pub fn running_texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.train.iter().flat_map(|example| self.task.running_texts(example))
    }

    /// The texts to validate on.
    pub fn held_out_texts(&self) -> impl Iterator<Item = &str> {
        self.valid.iter().flat_map(T::texts)
    }
}

/// Examples to learn from, and those of the same files that are held out of them.
struct HeldOut<E> {
    train: Vec<E>,
    /// Examples to validate on; none where files are named for it.
    valid: Vec<E>,
    /// Examples to test on; none where files are named for it.
    test: Vec<E>,
}

/// Holds examples out as the settings say.
fn held_out<T: Task>(
    train: Vec<T::Example>,
    files: &Files,
    seed: u64,
) -> Result<HeldOut<T::Example>, TaskError> {
    let (train, test) = match (files.fold, files.test_fraction) {
        (Some(fold), _) => parted::<T>(train, fold, files, seed)?,
        (None, share) if share > 0.0 && files.test.is_empty() => {
            not_empty(hold_out_groups(train, T::key, share, "test"), files, share, "test")?
        }
        (None, _) => (train, Vec::new()),
    };
    let fraction = files.valid_fraction;
    let (train, valid) = if files.valid.is_empty() && fraction > 0.0 {
        let has_groups = train.first().is_some_and(|example| T::key(example).is_some());
        let parted = match has_groups {
            true => hold_out_groups(train, T::key, fraction, "valid"),
            false => hold_out(train, T::stratum, fraction, seed),
        };
        not_empty(parted, files, fraction, "validate")?
    } else {
        (train, Vec::new())
    };
    Ok(HeldOut { train, valid, test })
}

/// Examples to learn from, and examples of the same file that are kept apart.
type Parted<E> = (Vec<E>, Vec<E>);

/// Examples and those held out of them; refused where one of the sides has none. `aim` is what is done
/// on those held out: test or validate.
fn not_empty<E>(
    (train, held_out): Parted<E>,
    files: &Files,
    fraction: f64,
    aim: &'static str,
) -> Result<Parted<E>, TaskError> {
    if train.is_empty() || held_out.is_empty() {
        let (name, examples) = (names(&files.train), train.len() + held_out.len());
        return Err(TaskError::TooFew { name, examples, fraction, aim });
    }
    Ok((train, held_out))
}

/// The examples of the other folds, and those of a fold. Those of one [`Task::key`] are in one fold.
fn parted<T: Task>(
    train: Vec<T::Example>,
    Fold { number, of }: Fold,
    files: &Files,
    seed: u64,
) -> Result<Parted<T::Example>, TaskError> {
    let (number, folds) = (number.get() - 1, of.get());
    let too_few = |(label, examples), what| {
        let name = names(&files.train);
        TaskError::TooFewForFolds { name, label, examples, what, folds }
    };
    if train.first().is_none_or(|example| T::key(example).is_none()) {
        let parted = fold(train, T::stratum, (number, folds), seed);
        return parted.map_err(|found| too_few(found, "examples"));
    }
    let (others, own) = fold(groups::<T>(train), |_| "", (number, folds), seed)
        .map_err(|found| too_few(found, "groups of examples that stay together"))?;
    Ok((others.into_iter().flatten().collect(), own.into_iter().flatten().collect()))
}

/// The examples of each [`Task::key`]; one without a key is a group of its own.
fn groups<T: Task>(examples: Vec<T::Example>) -> Vec<Vec<T::Example>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<Vec<T::Example>> = Vec::new();
    for example in examples {
        let next = groups.len();
        let place =
            T::key(&example).map_or(next, |key| *places.entry(key.into_owned()).or_insert(next));
        match groups.get_mut(place) {
            Some(group) => group.push(example),
            None => groups.push(vec![example]),
        }
    }
    groups
}

/// Keeps the first of equal texts; how many are dropped, and how many of those have another stratum than
/// the one that is kept.
fn drop_repeated<T: Task>(train: &mut Vec<T::Example>) -> [usize; 2] {
    let mut kept: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let (mut repeated, mut other) = (0, 0);
    train.retain(|example| match kept.entry(text_of::<T>(example)) {
        Entry::Vacant(place) => {
            place.insert(T::stratum(example).to_owned());
            true
        }
        Entry::Occupied(first) => {
            repeated += 1;
            other += usize::from(first.get() != T::stratum(example));
            false
        }
    });
    [repeated, other]
}

/// Drops the examples to measure on whose texts are learnt from.
fn drop_learnt<T: Task>(
    texts: &BTreeSet<Vec<String>>,
    files: &Files,
    [valid, test]: [&mut Vec<T::Example>; 2],
    notes: &mut BTreeMap<String, usize>,
) -> Result<(), TaskError> {
    for (paths, part) in [(&files.valid, valid), (&files.test, test)] {
        let before = part.len();
        part.retain(|example| !texts.contains(&text_of::<T>(example)));
        if part.len() < before && part.is_empty() {
            return Err(TaskError::AllLearnt(names(paths)));
        }
        tell(notes, LEARNT, before - part.len());
    }
    Ok(())
}

/// Drops the held-out examples whose right answer the model can never give, as no training example has it.
fn drop_unseen<T: Task>(
    task: &T,
    held_out: &mut Vec<T::Example>,
    files: &Files,
    notes: &mut BTreeMap<String, usize>,
) -> Result<(), TaskError> {
    let at = At { name: "the held-out part", example: 1 };
    let (before, mut first) = (held_out.len(), None);
    held_out.retain(|example| match task.check(example, at) {
        Ok(()) => true,
        Err(error) => {
            first.get_or_insert(error);
            false
        }
    });
    let such = match first {
        None => return Ok(()),
        Some(TaskError::UnknownLabel { label, .. }) => format!(", such as {label:?},"),
        Some(_) => String::new(),
    };
    if held_out.is_empty() {
        return Err(TaskError::AllUnseen(names(&files.train)));
    }
    let note = format!(
        "held-out examples have a label{such} that no training example has: they are not measured"
    );
    tell(notes, &note, before - held_out.len());
    Ok(())
}

/// The texts of an example, by which it is known again.
fn text_of<T: Task>(example: &T::Example) -> Vec<String> {
    T::texts(example).into_iter().map(str::to_owned).collect()
}

/// Adds a note on a number of examples, if there are any.
fn tell(notes: &mut BTreeMap<String, usize>, note: &str, count: usize) {
    if count > 0 {
        *notes.entry(note.to_owned()).or_default() += count;
    }
}

/// Adds the notes on a further file.
pub fn add_notes(notes: &mut BTreeMap<String, usize>, further: BTreeMap<String, usize>) {
    for (note, count) in further {
        *notes.entry(note).or_default() += count;
    }
}

/// Reads a file that a model's task is measured on.
///
/// # Errors
/// A file that cannot be read; an example whose right answer the model can never give.
pub fn read_known<T: Task>(
    task: &T,
    settings: &T::Settings,
    path: &Path,
    reading: &Reading,
) -> Result<Read<T::Example>, TaskError> {
    let read = T::read(settings, path, reading)?;
    check_known(task, &read.examples, (path, reading))?;
    Ok(read)
}

/// Checks the examples of a file that a model's task is measured on.
///
/// # Errors
/// An example whose right answer the model can never give; lines of prose, whose first words were taken
/// for labels.
pub fn check_known<T: Task>(
    task: &T,
    examples: &[T::Example],
    (path, reading): (&Path, &Reading),
) -> Result<(), TaskError> {
    let name = path.display().to_string();
    for (place, example) in examples.iter().enumerate() {
        let Err(error) = task.check(example, At { name: &name, example: place + 1 }) else {
            continue;
        };
        // Few examples may have each label once. Where most of them are unknown, too, they are words of a
        // text, and otherwise the unknown one has to be told.
        let is_unknown =
            |example: &&T::Example| task.check(example, At { name: &name, example: 1 }).is_err();
        if matches!(error, TaskError::UnknownLabel { .. })
            && 2 * examples.iter().filter(is_unknown).count() > examples.len()
            && is_guessed(path, reading)
        {
            check_labels(&name, examples.iter().map(T::stratum))?;
        }
        return Err(error);
    }
    Ok(())
}

/// Whether nothing says that the lines of a file begin with labels: no format, name or mark.
fn is_guessed(path: &Path, reading: &Reading) -> bool {
    // A pipe can be read once.
    let found = match path.is_file() {
        true => TableFormat::of_file(path).ok().flatten(),
        false => TableFormat::of_path(path),
    };
    reading.format.or(found).is_none()
}

fn read_all<T: Task>(
    settings: &T::Settings,
    paths: &[PathBuf],
    files: &Files,
) -> Result<Read<T::Example>, TaskError> {
    let mut all = Read { examples: Vec::new(), notes: BTreeMap::new() };
    let reading = Reading { to_learn: true, ..files.reading.clone() };
    for path in paths {
        let Read { examples, notes } = T::read(settings, path, &reading)?;
        all.examples.extend(examples);
        add_notes(&mut all.notes, notes);
    }
    Ok(all)
}

/// The examples of each of some files to measure on, whose answers are not checked.
fn read_each<T: Task>(
    settings: &T::Settings,
    paths: &[PathBuf],
    files: &Files,
    notes: &mut BTreeMap<String, usize>,
) -> Result<Vec<Vec<T::Example>>, TaskError> {
    let read = |path: &PathBuf| {
        let read = T::read(settings, path, &files.reading)?;
        add_notes(notes, read.notes);
        Ok(read.examples)
    };
    paths.iter().map(read).collect()
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}
