//! A task from a recipe, learnt by a baseline: examples → n-grams → model → test.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use longhand_model::{Cpu, file};
use longhand_tasks::predictor::Trained;
use longhand_tasks::{
    Baseline, BaselineError, BaselineSettings, Examples, Listed, Measured, TASK_FILE, Task,
    TaskError, TaskFile, VisitSettings, baseline::Learning, plain,
};
use longhand_train::{End, Score, Watch as Hearer};
use serde_json::{Map, Value};

use crate::card::{CARD_FILE, card};
use crate::error::RunError;
use crate::execute::{Place, folder_name};
use crate::finished::Finished;
use crate::output::{self, Existing, Ready};
use crate::recipe::Recipe;
use crate::tasks::{files, hashes};
use crate::training::{DataFacts, LabelCounts, PartFacts, Results, Training};
use crate::watch::{DataSize, Introduction, Preparation, Watch};

/// A run of a recipe that names a baseline.
pub(crate) struct BaselineRun<'a> {
    pub(crate) recipe: Recipe,
    pub(crate) settings: BaselineSettings,
    pub(crate) place: &'a Place<'a>,
    pub(crate) cpu: &'a Arc<Cpu>,
    pub(crate) watch: &'a mut dyn Watch,
}

impl VisitSettings for BaselineRun<'_> {
    type Output = Result<Finished, RunError>;

    fn visit<T: Listed>(self, task: &T::Settings) -> Result<Finished, RunError> {
        let since = Instant::now();
        let Self { recipe, settings, place, cpu, watch } = self;
        if recipe.data.train.is_empty() {
            return Err(RunError::NoExamples);
        }
        let examples = Examples::<T>::read(task, &files(&recipe), recipe.training.seed)?;
        let Examples { task, train, valid, test, .. } = &examples;
        let learnt = plain::labelled(task, &settings, train)?;
        check(&recipe, &settings)?;
        let held_out = plain::labelled(task, &settings, valid)?;
        let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
        if begun {
            return Err(RunError::BaselineResumed);
        }
        if place.existing == Existing::Resume {
            watch.prepare(&Preparation::NothingToResume(place.out));
        }
        introduce(&recipe, &examples, cpu, watch);
        let facts = DataFacts {
            train: part::<T>(train),
            valid: (!valid.is_empty()).then(|| part::<T>(valid)),
            sha256: hashes(&recipe)?,
            ..DataFacts::default()
        };
        let classes = task.counts(&[]).len();
        let seed = recipe.training.seed;
        let learning = Learning { classes, train: &learnt, valid: &held_out, seed, cpu };
        let mut unheard = |_| Ok(());
        let hearer = &mut Hearer::new(place.stop, &mut unheard);
        let baseline = Baseline::fit(&settings, &learning, hearer)?;
        let mut score = |examples: &[T::Example]| {
            let examples = plain::measured(task, examples.to_vec())?;
            score(task, &baseline, &examples, hearer)
        };
        let (valid, test) = (score(valid)?, score(test)?);
        let file: TaskFile = task.clone().into();
        let mut training = Training::new(recipe, facts);
        let Tested { score: test, labels, report } = test.unwrap_or_default();
        training.results = Some(Results {
            parameters: baseline.parameters(),
            trainable_parameters: Some(baseline.parameters()),
            steps: 0,
            tokens: training.data.train.tokens,
            seconds: since.elapsed().as_secs_f64(),
            best_step: None,
            valid: valid.and_then(|tested| tested.score),
            test,
            forgetting: None,
            labels,
            report,
            calibration: BTreeMap::new(),
            members: Vec::new(),
        });
        output::clear(place.out)?;
        write(&training, &baseline, &file, place.out)?;
        let (trained, cpu) = (Trained::Baseline(Box::new(baseline)).into(), cpu.clone());
        let (end, is_whole, prompt) = (End::Budget, true, None);
        Ok(Finished { training, trained, end, is_whole, prompt, cpu })
    }
}

/// Settings of tasks that say how a network learns or answers.
const OF_NETWORKS: [&str; 9] = [
    "class_weights",
    "calibrate",
    "ordinal",
    "pooling",
    "crf",
    "characters",
    "words",
    "matches",
    "outside_bias",
];

/// Refuses settings of the task that a baseline does not use.
fn check(recipe: &Recipe, settings: &BaselineSettings) -> Result<(), RunError> {
    let task = serde_json::to_value(&recipe.task).map_err(RunError::Record)?;
    match OF_NETWORKS.into_iter().find(|&key| task.get(key).is_some()) {
        Some(key) => {
            let unused = BaselineError::Unused { baseline: settings.name(), key };
            Err(TaskError::from(unused).into())
        }
        None => Ok(()),
    }
}

/// Tells what is about to be learnt.
fn introduce<T: Task>(recipe: &Recipe, examples: &Examples<T>, cpu: &Cpu, watch: &mut dyn Watch) {
    let counts = examples.task.counts(&examples.train);
    let data = DataSize::Examples {
        train: examples.train.len(),
        valid: examples.valid.len(),
        test: examples.test.len(),
        counts: &counts,
        notes: &examples.notes,
        unknown: 0.0,
        vocabulary: 0,
        cut: 0,
        longest: examples.task.longest(),
        cut_targets: 0,
        longest_target: examples.task.most_written().get(),
    };
    let (threads, precision) = (cpu.threads(), cpu.precision());
    let begins = Introduction { recipe, parameters: 0, threads, precision, data };
    watch.prepare(&Preparation::Begins(begins));
}

/// What was measured on a part of the examples.
#[derive(Default)]
struct Tested {
    score: Option<Score>,
    labels: Option<LabelCounts>,
    report: Map<String, Value>,
}

/// What is measured on examples, if there are any.
fn score<T: Task>(
    task: &T,
    baseline: &Baseline,
    examples: &Measured<T>,
    hearer: &mut Hearer<'_>,
) -> Result<Option<Tested>, RunError> {
    if examples.is_empty() {
        return Ok(None);
    }
    let result = plain::evaluate(task, baseline, examples, hearer)?;
    let report = result.report();
    let labels = report.confusion.map(|(labels, counts)| LabelCounts { labels, counts });
    Ok(Some(Tested { score: Some(result.score()), labels, report: report.json }))
}

/// Writes the model folder. The record of the run comes first: it says whose folder it is.
fn write(
    training: &Training,
    baseline: &Baseline,
    task: &TaskFile,
    out: &Path,
) -> Result<(), RunError> {
    training.save(out)?;
    file::write(&out.join(TASK_FILE), &task.to_json())?;
    for (name, content) in baseline.files() {
        file::write(&out.join(name), &content)?;
    }
    Ok(file::write(&out.join(CARD_FILE), card(&folder_name(out), training).as_bytes())?)
}

/// Words and bytes of examples, and a hash of their texts.
fn part<T: Task>(examples: &[T::Example]) -> PartFacts {
    let (mut hasher, mut words, mut bytes) = (blake3::Hasher::new(), 0, 0);
    for text in examples.iter().flat_map(T::texts) {
        words += text.split_whitespace().count() as u64;
        bytes += text.len() as u64;
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    PartFacts { tokens: words, bytes, blake3: hasher.finalize().to_hex().to_string() }
}
