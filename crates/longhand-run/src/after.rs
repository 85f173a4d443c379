//! The work behind a task's training: what answers together is put together, calibrated on the held-out
//! examples, and measured on the test files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::{Cpu, Model};
use longhand_tasks::baseline::{Form, Learning};
use longhand_tasks::ensemble::Exponents;
use longhand_tasks::task::{Calibrates, Scored};
use longhand_tasks::{
    Baseline, BaselineError, BaselineSettings, Ensemble, Examples, Listed, Measured, TASK_FILE,
    Task, TaskError, TaskFile, evaluate, plain,
};
use longhand_text::Tokenizer;

use crate::error::RunError;
use crate::execute::{Ended, Test};
use crate::recipe::Recipe;
use crate::training::{Joint, LabelCounts};

/// The work behind the training of a network.
pub(crate) struct After<'a, T: Task> {
    pub(crate) meaning: T,
    /// What answers beside the networks, if anything does.
    pub(crate) beside: Option<Beside<T>>,
    /// The examples that exponents and thresholds are set on; none where nothing is set.
    pub(crate) held_out: Option<Measured<T>>,
    /// The networks that answer together with this one.
    pub(crate) further: Vec<Ended>,
    pub(crate) test: &'a Measured<T>,
    pub(crate) tokenizer: &'a Tokenizer,
    /// In the precision in which a saved model answers, whatever that of training is.
    pub(crate) cpu: &'a Arc<Cpu>,
}

impl<'a, T: Listed> After<'a, T> {
    /// The test of a network alone.
    pub(crate) fn new(
        meaning: T,
        test: &'a Measured<T>,
        tokenizer: &'a Tokenizer,
        cpu: &'a Arc<Cpu>,
    ) -> Self {
        let (beside, held_out, further) = (None, None, Vec::new());
        Self { meaning, beside, held_out, further, test, tokenizer, cpu }
    }

    /// Puts the networks together, trains the baseline, calibrates the answers, and measures them.
    /// What is not `further` networks' own is of the joint answers.
    pub(crate) fn run(
        self,
        task: &T::Settings,
        model: &Model,
        stop: &AtomicBool,
    ) -> Result<(Test, Option<Ensemble>), RunError> {
        let Self { mut meaning, beside, held_out, further, test: examples, tokenizer, cpu } = self;
        let mut unheard = |_| Ok(());
        let mut watch = longhand_train::Watch::new(stop, &mut unheard);
        let mut test = Test::default();
        let (results, models): (Vec<_>, Vec<_>) =
            further.into_iter().map(|ended| (ended.training.results, ended.model)).unzip();
        let mut ensemble = Ensemble::of_members(model, models);
        let mut joint = None;
        if ensemble.is_some() {
            let own = match examples.is_empty() {
                true => None,
                false => {
                    let network = (model, tokenizer, None);
                    Some(evaluate(&meaning, network, examples, cpu, &mut watch)?.score())
                }
            };
            let further = results.into_iter().flatten().collect();
            joint = Some(Joint { further, own, valid: None });
        }
        if let (Some(beside), Some(held_out)) = (&beside, &held_out) {
            let network = (model, tokenizer, ensemble.take());
            let together = beside.fit(&meaning, network, held_out, cpu, &mut watch)?;
            if let Some(Exponents { network, baseline }) = together.exponents() {
                let figures = [("network_exponent", network), ("baseline_exponent", baseline)];
                test.calibration.extend(figures.map(|(name, value)| (name.to_owned(), value)));
            }
            ensemble = Some(together);
        }
        test.files.extend(ensemble.iter().flat_map(Ensemble::files));
        let network = (model, tokenizer, ensemble.as_ref());
        let calibrates = T::calibrates(task) != Calibrates::Never;
        if let Some(held_out) = held_out.filter(|_| calibrates || joint.is_some()) {
            let first = meaning.clone();
            let answers = evaluate(&first, network, &held_out, cpu, &mut watch)?;
            if let Some(joint) = &mut joint {
                joint.valid = Some(answers.score());
            }
            if calibrates {
                meaning = decided(meaning, task, &answers.scored(), |other| {
                    let answers = evaluate(other, network, &held_out, cpu, &mut watch)?;
                    Ok(other.measure(&answers.scored()))
                })?;
                test.calibration.extend(meaning.calibrate(task, &answers.scored()));
                let file: TaskFile = meaning.clone().into();
                test.files.push((TASK_FILE, file.to_json()));
            }
        }
        if !examples.is_empty() {
            let result = evaluate(&meaning, network, examples, cpu, &mut watch)?;
            let report = result.report();
            test.labels = report.confusion.map(|(labels, counts)| LabelCounts { labels, counts });
            test.report = report.json;
            test.score = Some(result.score());
        }
        test.joint = joint;
        Ok((test, ensemble))
    }
}

/// Of a task and its alternatives, the one whose answers to the held-out examples are best. `answers`
/// are those of the task itself, `measure` measures those of an alternative.
fn decided<T: Task>(
    task: T,
    settings: &T::Settings,
    answers: &[Scored<'_, T>],
    mut measure: impl FnMut(&T) -> Result<BTreeMap<String, f64>, RunError>,
) -> Result<T, RunError> {
    let metric = |metrics: &BTreeMap<String, f64>| {
        T::CRITERION.iter().find_map(|name| metrics.get(*name).copied()).unwrap_or(f64::MIN)
    };
    let (mut best, mut task) = (metric(&task.measure(answers)), task);
    for step in 0.. {
        let alternatives = task.alternatives(settings, step);
        if alternatives.is_empty() {
            break;
        }
        for other in alternatives {
            let value = metric(&measure(&other)?);
            if value > best {
                (best, task) = (value, other);
            }
        }
    }
    Ok(task)
}

/// A baseline that is to answer beside networks, and the examples that it learns from.
pub(crate) struct Beside<T: Task> {
    settings: BaselineSettings,
    train: Vec<T::Example>,
    seed: u64,
}

impl<T: Task> Beside<T> {
    /// What the recipe names; refused where no baseline does the task beside a network.
    pub(crate) fn of(recipe: &Recipe, examples: &Examples<T>) -> Result<Option<Self>, RunError> {
        let Some(settings) = recipe.ensemble.clone() else { return Ok(None) };
        let learnt = plain::labelled(&examples.task, &settings, &examples.train)?;
        if settings.writes() {
            return Err(TaskError::from(BaselineError::Alone(settings.name())).into());
        }
        let can_join = |form| matches!(form, Form::Class | Form::Tags);
        if !learnt.iter().all(|example| can_join(example.right.form())) {
            return Err(TaskError::from(BaselineError::Task(T::NAME)).into());
        }
        Ok(Some(Self { settings, train: examples.train.clone(), seed: recipe.training.seed }))
    }

    fn fit(
        &self,
        meaning: &T,
        network: (&Model, &Tokenizer, Option<Ensemble>),
        held_out: &Measured<T>,
        cpu: &Arc<Cpu>,
        watch: &mut longhand_train::Watch<'_>,
    ) -> Result<Ensemble, RunError> {
        let known = held_out.examples.iter().map(|known| known.example.clone());
        let valid: Vec<T::Example> = known.collect();
        let learning = Learning {
            classes: meaning.counts(&[]).len(),
            train: &plain::labelled(meaning, &self.settings, &self.train)?,
            valid: &plain::labelled(meaning, &self.settings, &valid)?,
            seed: self.seed,
            cpu,
        };
        let baseline = Baseline::fit(&self.settings, &learning, watch)?;
        Ok(Ensemble::fit(meaning, baseline, network, held_out, cpu)?)
    }
}

/// The examples to set exponents and thresholds on, and to measure several networks together on; none
/// where there is neither.
pub(crate) fn to_set_on<T: Task>(
    task: &T::Settings,
    baseline: bool,
    members: bool,
    valid: &Measured<T>,
) -> Result<Option<Measured<T>>, RunError> {
    let calibrates = match T::calibrates(task) {
        _ if baseline => Calibrates::Always,
        Calibrates::Never if members => Calibrates::IfHeldOut,
        calibrates => calibrates,
    };
    match calibrates {
        Calibrates::Always if valid.is_empty() => Err(TaskError::NothingHeldOut.into()),
        Calibrates::Always | Calibrates::IfHeldOut if !valid.is_empty() => Ok(Some(valid.clone())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use longhand_tasks::Tagging;
    use longhand_tasks::tag::Settings;
    use longhand_tasks::task::Reading;

    use super::*;

    #[test]
    fn the_alternative_with_the_best_answers_is_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "Ada B-PER\nsings O\n").unwrap();
        let settings = Settings::default();
        let examples = Tagging::read(&settings, file.path(), &Reading::default()).unwrap().examples;
        let task = Tagging::learn(&settings, &examples, "it").unwrap();
        let bias = |task: &Tagging| {
            let file = serde_json::to_value(task).unwrap();
            file.get("outside_bias").map_or(0.0, |bias| bias.as_f64().unwrap())
        };
        for wanted in [0.0, -1.25, -2.75, 1.5] {
            let f1 = |task: &Tagging| 1.0 - (bias(task) - wanted).abs() / 10.0;
            let measure = |task: &Tagging| Ok(BTreeMap::from([("entity_f1".into(), f1(task))]));
            // No answer is held out, so that the task's own F1 is 0.
            let kept = decided(task.clone(), &settings, &[], measure).unwrap();
            assert!((bias(&kept) - wanted).abs() <= 0.25, "{wanted}: {}", bias(&kept));
        }
    }
}
