//! Self-training: rounds of a task's run, each of which also learns from texts that the model of the
//! round before has labelled.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_model::file;
use longhand_tasks::classify::{Confidence, Settings};
use longhand_tasks::task::{At, Reading};
use longhand_tasks::{Classify, Examples, Predictor, Task, TaskError, TaskSettings};
use longhand_text::TableFormat;
use longhand_text::corpus::table::Example;
use serde_json::json;

use crate::error::RunError;
use crate::folds::is_complete;
use crate::output::{self, Existing};
use crate::recipe::{Recipe, SelfTraining};
use crate::run::Run;
use crate::several;
use crate::tasks::files;
use crate::training::{Results, Training};

/// The rounds of a recipe, in the folders `round-01`, `round-02` … of one folder.
#[derive(Clone, Debug)]
pub struct Rounds {
    recipe: Recipe,
    settings: SelfTraining,
    out: PathBuf,
    existing: Existing,
}

/// A round before its run.
pub enum RoundState<'a> {
    /// Its run is complete, and is not repeated.
    Complete {
        /// The record of its run.
        training: Box<Training>,
        /// Texts that it learnt from with labels of the round before.
        labelled: usize,
    },
    /// To be started, or resumed.
    ToRun {
        /// The run of this round.
        run: Box<Run<'a>>,
        /// Texts that it learns from with labels of the round before.
        labelled: usize,
    },
    /// No answer of the round before is sure enough: the rounds end here.
    NothingSure,
    /// The labelling was stopped.
    Stopped,
}

/// Texts that are labelled between two looks at the flag that stops a run.
const TEXTS_AT_ONCE: usize = 4096;

impl Rounds {
    /// The rounds of a recipe in a folder; none where the recipe has no self-training, or is one round.
    ///
    /// # Errors
    /// A recipe whose rounds cannot be; a folder that holds anything else.
    pub fn new(
        recipe: &Recipe,
        out: impl Into<PathBuf>,
        existing: Existing,
    ) -> Result<Option<Self>, RunError> {
        recipe.check_rounds().map_err(RunError::SelfTraining)?;
        let Some(settings) = recipe.self_training.clone().filter(|it| it.round.is_none()) else {
            return Ok(None);
        };
        let out = out.into();
        output::prepare_several(&out, existing)?;
        Ok(Some(Self { recipe: recipe.clone(), settings, out, existing }))
    }

    /// The number of rounds, at least 2.
    pub fn count(&self) -> NonZeroUsize {
        self.settings.rounds
    }

    /// The folder of a round, counted from 1.
    pub fn folder(&self, number: NonZeroUsize) -> PathBuf {
        self.out.join(format!("round-{number:02}"))
    }

    /// The run of a round, counted from 1. The texts that it learns from are labelled by the model
    /// of the round before, unless its run was begun.
    ///
    /// # Errors
    /// Texts that cannot be read, or the model of the round before; the record of an earlier run that
    /// cannot be read, or was begun with another model, task or way to learn it.
    pub fn round<'a>(
        &self,
        number: NonZeroUsize,
        stop: &AtomicBool,
    ) -> Result<RoundState<'a>, RunError> {
        let (mut recipe, folder) = (self.recipe.clone(), self.folder(number));
        let mut settings = SelfTraining { round: Some(number), ..self.settings.clone() };
        let resumes = self.existing == Existing::Resume && output::holds_run(&folder);
        let mut labelled = 0;
        if number.get() == 1 {
            // Texts that cannot be read are found out before a round of work.
            self.texts()?;
        } else {
            // A run's record has absolute paths.
            let path = self.out.join(format!("labelled-{number:02}.jsonl"));
            let path = std::path::absolute(path)?;
            labelled = match resumes {
                true => fs_err::read_to_string(&path)?.lines().count(),
                false => match self.label(number, &path, stop)? {
                    None => return Ok(RoundState::Stopped),
                    Some(0) => return Ok(RoundState::NothingSure),
                    Some(count) => count,
                },
            };
            settings.labelled = Some(path);
        }
        recipe.self_training = Some(settings);
        // What is expected is of the best round.
        recipe.expected.clear();
        if resumes {
            let training = Training::load(&folder)?;
            if is_complete(&training, &recipe)? {
                return Ok(RoundState::Complete { training: Box::new(training), labelled });
            }
        }
        let run = Box::new(Run::new(recipe, folder).existing(self.existing));
        Ok(RoundState::ToRun { run, labelled })
    }

    /// Labels texts by the model of the round before, and writes those whose answers are sure. Their
    /// number; none if it was stopped.
    fn label(
        &self,
        number: NonZeroUsize,
        path: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<usize>, RunError> {
        let before = NonZeroUsize::new(number.get() - 1).unwrap_or(number);
        let cpu = self.recipe.training.clone().resolved().cpu();
        let mut teacher: Predictor<Classify> = Predictor::load(&self.folder(before), cpu)?;
        let texts = self.texts()?;
        let at = At { name: "the unlabelled texts", example: 1 };
        let mut answers = Vec::with_capacity(texts.len());
        for (part, texts) in texts.chunks(TEXTS_AT_ONCE).enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let first = At { example: part * TEXTS_AT_ONCE + 1, ..at };
            let found = teacher.predict(texts, first)?;
            answers.extend(found.into_iter().map(|answers| answers.into_iter().next()));
        }
        let (threshold, per_label) = (self.settings.threshold, self.settings.most(number));
        let chosen = Confidence { threshold, per_label }.choose(&answers);
        let mut lines = String::new();
        for &place in &chosen {
            let Some(answer) = &answers[place] else { continue };
            let label = &teacher.task.labels.names()[answer.label as usize];
            let line = json!({
                "text": texts[place].text,
                "label": label,
                "probability": answer.probability() as f32,
            });
            lines += &format!("{line}\n");
        }
        fs_err::create_dir_all(&self.out)?;
        file::write(path, lines.as_bytes())?;
        Ok(Some(chosen.len()))
    }

    /// The unlabelled texts, each once, without those of the labelled examples.
    fn texts(&self) -> Result<Vec<Example>, RunError> {
        let Some(TaskSettings::Classify(task)) = &self.recipe.task else { return Ok(Vec::new()) };
        let files = files(&self.recipe);
        let labelled = Examples::<Classify>::read(task, &files, self.recipe.training.seed)?;
        let all = [&labelled.train, &labelled.valid, &labelled.test].into_iter().flatten();
        let mut known: HashSet<String> = all.map(|example| example.text.clone()).collect();
        let reading = Reading { unlabelled: true, ..files.reading };
        let labels: HashSet<&str> =
            labelled.task.labels.names().iter().map(String::as_str).collect();
        let mut texts = Vec::new();
        for path in &self.settings.unlabelled {
            let read = unlabelled(task, path, &reading, &labels)?;
            texts.extend(read.into_iter().filter(|example| known.insert(example.text.clone())));
        }
        Ok(texts)
    }

    /// The best round, counted from 1, of the results of all: its held-out part has the highest
    /// value of the task's first metric, and of equal ones it is the earliest. The last round where
    /// nothing is held out.
    pub fn best(&self, results: &[Results]) -> usize {
        several::best(&self.recipe, results)
    }

    /// The recipe of the rounds in a folder, if there are any.
    ///
    /// # Errors
    /// If the record of the first round cannot be read.
    pub fn begun(out: &Path) -> Result<Option<Recipe>, RunError> {
        let recipe = Training::begun(&out.join("round-01"))?;
        Ok(recipe.map(|mut recipe| {
            if let Some(settings) = &mut recipe.self_training {
                (settings.round, settings.labelled) = (None, None);
            }
            recipe
        }))
    }
}

/// The texts of a file. Where the file is no table they are its lines; where nine in ten of these begin
/// with a label, as others may with one that is not learnt, each is the text behind its first word.
fn unlabelled(
    task: &Settings,
    path: &Path,
    reading: &Reading,
    labels: &HashSet<&str>,
) -> Result<Vec<Example>, TaskError> {
    let may_be_lines = matches!(reading.format, None | Some(TableFormat::Labelled));
    if !may_be_lines || TableFormat::of_path(path).is_some() {
        return Ok(Classify::read(task, path, reading)?.examples);
    }
    let reading = Reading { format: None, ..reading.clone() };
    let mut texts = Classify::read(task, path, &reading)?.examples;
    let first =
        |text: &str| text.split([' ', '\t']).next().is_some_and(|word| labels.contains(word));
    let labelled = texts.iter().filter(|example| first(&example.text)).count();
    if 10 * labelled >= 9 * texts.len() {
        for example in &mut texts {
            let text = example.text.split_once([' ', '\t']).map_or("", |(_, text)| text);
            example.text = text.trim_start().to_owned();
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_labels_keep_their_first_words() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str, format| {
            let path = folder.path().join(name);
            fs_err::write(&path, text).unwrap();
            let reading = Reading { unlabelled: true, format, ..Reading::default() };
            let labels = HashSet::from(["good", "bad"]);
            let found = unlabelled(&Settings::default(), &path, &reading, &labels).unwrap();
            found.into_iter().map(|example| example.text).collect::<Vec<_>>()
        };
        let plain = "good films are rare\n\nthis one is not\n";
        let lines = ["good films are rare", "this one is not"];
        assert_eq!(read("a.txt", plain, None), lines);
        assert_eq!(read("b.txt", plain, Some(TableFormat::Labelled)), lines);
        assert_eq!(
            read("c.txt", "good a film\nbad\ttwo of them\n", None),
            ["a film", "two of them"]
        );
        // A label that is not learnt is none of the text either.
        let lines = "good a film\n".repeat(9) + "fair two of them\n";
        assert_eq!(read("g.txt", &lines, None)[8..], ["a film", "two of them"]);
        assert_eq!(read("d.txt", "__label__x a film\nno mark\n", None), ["a film", "no mark"]);
        assert_eq!(read("e.csv", "id,text\n1,good film\n", None), ["good film"]);
        let table = Some(TableFormat::Tsv);
        assert_eq!(read("f.txt", "id\ttext\n1\tgood film\n", table), ["good film"]);
    }
}
