//! Multi-label classification: any number of labels for each text, or for each pair of texts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use longhand_kernel::loss::binary;
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Config, Model, Pass, Targets};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::corpus::table::{self, Labels, Table, TableFormat, TableOptions, read_table};
use longhand_text::{SpecialTokens, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::baseline::learning::largest;
use crate::batches::features as features_of;
use crate::calibration::{self, Temperature, calibration_error};
use crate::characters::Alphabet;
use crate::classify::{Reader, TRIMMED, Target, alphabet, frequent, is_blank, texts_of_line};
use crate::confusion::{ClassScore, class_report, macro_means};
use crate::error::TaskError;
use crate::matches::Frequent;
use crate::ranking::{auc, average_precision, mean};
use crate::task::{
    At, Calibrates, CharacterRows, Encoded, Explained, Read, Reading, Report, Scored, Task, Unit,
};

mod cell;
mod settings;
mod threshold;

pub use settings::Settings;

/// The meaning of the answers of a model that gives a text any number of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiLabel {
    /// The labels, in the order of the model's outputs.
    pub labels: Labels,
    /// The text between the labels of a plain answer.
    pub separator: String,
    /// The probability from which on a label is given, 0 to 1.
    pub threshold: f32,
    /// The number of first tokens of a text that are read.
    pub longest: NonZeroUsize,
    /// Whether an example is two texts, read as one sequence with a separator
    /// between them (default: false).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pair: bool,
    /// The temperature that logits are divided by before they become probabilities,
    /// above 0 (default: 1).
    #[serde(default = "calibration::one", skip_serializing_if = "calibration::is_one")]
    pub temperature: f32,
    /// The characters that the model reads, if it reads any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    characters: Option<Alphabet>,
    /// The words by which the matches of a pair are told apart, if the model reads matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frequent: Option<Frequent>,
    /// How often an example counts in the training loss of each label that it has; empty for once.
    #[serde(skip)]
    weights: Vec<f32>,
}

/// A text, or a pair of texts, with its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The text as it is written.
    pub text: String,
    /// The second text of a pair.
    pub second: Option<String>,
    /// Its labels, each once and sorted; none where labels were not asked for.
    pub labels: Vec<String>,
}

/// The answer for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The ids of the labels that it has, rising.
    pub labels: Vec<u32>,
    /// The probability of each label.
    pub probabilities: Vec<f32>,
}

/// Counts over the examples that are measured.
struct Counts {
    classes: Vec<ClassScore>,
    /// Precision, recall and F1 over all decisions.
    micro: ClassScore,
    /// Examples, and those whose labels are all right.
    examples: u64,
    exact: u64,
    /// Labels of examples that are rightly on or off.
    right: u64,
}

impl Task for MultiLabel {
    const NAME: &'static str = "multi-label";
    const ABOUT: &'static str = "Any number of labels for each text, or for each pair of texts";
    const UNIT: Unit = Unit::Line;
    const METRICS: &'static [(&'static str, &'static str)] = &[
        ("f1", "micro-F1"),
        ("macro_f1", "macro-F1"),
        ("subset_accuracy", "all labels right"),
        ("label_accuracy", "label accuracy"),
        ("average_precision", "average precision"),
    ];
    const COLUMNS: &'static [&'static str] = &["labels"];

    type Settings = Settings;
    type Example = Example;
    type Target = Target<Vec<u32>>;
    type Answer = Prediction;

    fn read(
        settings: &Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Example>, TaskError> {
        // Parsing a column cannot fail: a text that is no number is a name.
        let label = settings.label_column.as_ref().and_then(|name| name.parse().ok());
        let second = settings.pair_column.as_ref().and_then(|name| name.parse().ok());
        let options = TableOptions { label, second, several: true, ..reading.table() };
        let Table { examples, trimmed, .. } = read_table(file, &options)?;
        let examples = labelled(settings, file, examples)?;
        let bare = examples.iter().filter(|example| example.labels.is_empty()).count();
        let are_lines = reading.format.is_none() && TableFormat::of_path(file).is_none();
        // A table may hold the texts that have no label; of lines the marks are missing.
        if are_lines && bare == examples.len() && !reading.unlabelled {
            return Err(TaskError::NoLabels { name: file.display().to_string() });
        }
        let blank = examples.iter().position(Example::is_blank);
        if let Some(place) = blank.filter(|_| !reading.unlabelled) {
            let (name, example) = (file.display().to_string(), place + 1);
            return Err(TaskError::NoText { name, example });
        }
        let bare = if reading.unlabelled { 0 } else { bare };
        let notes = [(TRIMMED, trimmed), (BARE, bare)].into_iter().filter(|&(_, count)| count > 0);
        let notes = notes.map(|(note, count)| (note.to_owned(), count)).collect();
        Ok(Read { examples, notes })
    }

    fn learn(settings: &Settings, examples: &[Example], files: &str) -> Result<Self, TaskError> {
        let labels = Labels::of_names(examples.iter().flat_map(|e| e.labels.iter().cloned()));
        if labels.is_empty() {
            return Err(TaskError::NoLabels { name: files.into() });
        }
        let threshold = settings.threshold.unwrap_or(0.5);
        if !(0.0..=1.0).contains(&threshold) {
            let (value, reason) = (threshold.to_string(), "it must be from 0 to 1".into());
            let (task, key) = (Self::NAME, "threshold".into());
            return Err(TaskError::Setting { task, key, value, reason });
        }
        settings.class_weights.iter().try_for_each(|weights| weights.check(Self::NAME, &labels))?;
        let pair = settings.pair_column.is_some();
        let texts = examples.iter().map(Example::texts);
        Ok(Self {
            labels,
            separator: settings.label_separator.clone(),
            threshold,
            longest: settings.longest,
            pair,
            temperature: 1.0,
            characters: alphabet(settings.characters, examples.iter().flat_map(Example::texts)),
            frequent: frequent(Self::NAME, (settings.matches, pair), texts)?,
            weights: Vec::new(),
        })
    }

    fn weigh(&mut self, settings: &Settings, train: &[Example]) {
        let balanced = || -> Vec<f32> {
            let weight = |(_, count): (String, usize)| {
                (train.len() - count).max(1) as f32 / count.max(1) as f32
            };
            self.counts(train).into_iter().map(weight).collect()
        };
        let weights = settings.class_weights.as_ref();
        let weights = weights.map(|weights| weights.of(&self.labels, balanced));
        self.weights = weights.unwrap_or_default();
    }

    fn check(&self, example: &Example, at: At<'_>) -> Result<(), TaskError> {
        match example.labels.iter().find(|label| self.labels.id(label).is_err()) {
            None => Ok(()),
            Some(label) => Err(TaskError::UnknownLabel {
                name: at.name.into(),
                example: at.example,
                label: label.clone(),
                known: self.labels.names().join(", "),
            }),
        }
    }

    fn texts(example: &Example) -> Vec<&str> {
        example.texts().collect()
    }

    fn counts(&self, examples: &[Example]) -> Vec<(String, usize)> {
        let count = |name: &String| examples.iter().filter(|e| e.labels.contains(name)).count();
        self.labels.names().iter().map(|name| (name.clone(), count(name))).collect()
    }

    fn longest(&self) -> usize {
        self.longest.get()
    }

    fn special_tokens(&self) -> Vec<String> {
        self.pair.then(|| SpecialTokens::SEPARATOR.to_owned()).into_iter().collect()
    }

    fn head(&self, settings: &Settings, own: Option<&HeadKind>) -> HeadKind {
        let pooling = settings.pooling.or(own.and_then(HeadKind::pooling)).unwrap_or(Pooling::Max);
        HeadKind::MultiLabel { labels: self.labels.len(), pooling }
    }

    fn body(&self, config: Config, _: &Tokenizer) -> Config {
        self.reader().body(config)
    }

    fn misfit(&self, head: &HeadKind) -> Option<String> {
        let count = self.labels.len();
        if let Some(fault) = calibration::fault(self.temperature) {
            return Some(fault.into());
        }
        match head {
            HeadKind::MultiLabel { labels, .. } if *labels == count => None,
            HeadKind::MultiLabel { labels, .. } => {
                Some(format!("it names {count} labels, the model has {labels}"))
            }
            _ => Some("it is of several labels a text, and the model has no such head".into()),
        }
    }

    fn encode(
        &self,
        tokenizer: &Tokenizer,
        example: &Example,
    ) -> Result<Encoded<Target<Vec<u32>>>, TaskError> {
        let Some(label) = self.plain_target(example)? else {
            return Ok(Encoded { items: Vec::new(), is_cut: false });
        };
        let texts = (example.text.as_str(), example.second.as_deref());
        self.reader().encode(tokenizer, texts, label)
    }

    fn features(&self, batch: &LabelledBatch<Target<Vec<u32>>>) -> Vec<u32> {
        features_of(batch, |target| &target.features)
    }

    fn characters(&self, batch: &LabelledBatch<Target<Vec<u32>>>) -> Option<CharacterRows> {
        self.reader().characters(batch)
    }

    fn with_targets<R>(
        &self,
        batch: &LabelledBatch<Target<Vec<u32>>>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        learn(Targets::Flags(&self.flags(batch), None))
    }

    fn with_weighted_targets<E>(
        &self,
        batch: &LabelledBatch<Target<Vec<u32>>>,
        learn: &mut impl FnMut(Targets<'_>, f32) -> Result<(), E>,
    ) -> Result<(), E> {
        let weights = (!self.weights.is_empty()).then_some(&self.weights[..]);
        learn(Targets::Flags(&self.flags(batch), weights), 1.0)
    }

    fn target_bytes(Target { label, characters, features }: &Target<Vec<u32>>) -> Vec<u8> {
        let count = label.len() as u32;
        let all = [&count].into_iter().chain(label).chain(&characters.ids).chain(features);
        all.flat_map(|x| x.to_le_bytes()).collect()
    }

    fn answers(
        &self,
        _model: &Model,
        _pass: &mut Pass<'_>,
        logits: &[f32],
        _batch: &LabelledBatch<Target<Vec<u32>>>,
    ) -> Vec<Prediction> {
        let mut shares: Vec<f32> = logits.iter().map(|logit| logit / self.temperature).collect();
        binary::probabilities(&mut shares);
        shares.chunks(self.labels.len()).map(|row| self.given(row)).collect()
    }

    fn temperature(&self) -> f32 {
        self.temperature
    }

    fn measure(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let counts = self.count(scored);
        let [macro_precision, macro_recall, macro_f1] = macro_means(&counts.classes);
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        let metrics = [
            ("f1", counts.micro.f1),
            ("precision", counts.micro.precision),
            ("recall", counts.micro.recall),
            ("macro_f1", macro_f1),
            ("macro_precision", macro_precision),
            ("macro_recall", macro_recall),
            ("subset_accuracy", share(counts.exact, counts.examples)),
            ("label_accuracy", share(counts.right, counts.examples * self.labels.len() as u64)),
        ];
        metrics.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn measure_once(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let pairs: Vec<_> = scored.iter().filter_map(pair).collect();
        let of_label = |label: usize| -> Vec<(f32, bool)> {
            let decision = |(labels, answer): &(&Vec<u32>, &Prediction)| {
                (answer.probabilities[label], labels.contains(&(label as u32)))
            };
            pairs.iter().map(decision).collect()
        };
        let labels = || 0..self.labels.len();
        let metrics = [
            ("auc", mean(labels().filter_map(|label| auc(of_label(label))))),
            (
                "average_precision",
                mean(labels().filter_map(|label| average_precision(of_label(label)))),
            ),
            (
                "calibration_error",
                Some(calibration_error(decisions(scored).map(|(share, is_on)| {
                    ((share >= 0.5) == is_on, f64::from(share.max(1.0 - share)))
                }))),
            ),
        ];
        metrics.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    fn report(&self, scored: &[Scored<'_, Self>]) -> Report {
        let counts = self.count(scored);
        let (text, labels) = class_report(self.labels.names(), &counts.classes);
        let ClassScore { precision, recall, f1, .. } = counts.micro;
        let micro = json!({ "precision": precision, "recall": recall, "f1": f1 });
        let json = [("classes", labels.into()), ("micro", micro)];
        let json = json.map(|(name, value)| (name.to_owned(), value));
        let classes = self.labels.names().iter().cloned().zip(counts.classes).collect();
        Report { classes, json: json.into_iter().collect(), text, ..Report::default() }
    }

    fn is_right(&self, scored: &Scored<'_, Self>) -> Option<bool> {
        pair(scored).map(|(labels, answer)| *labels == answer.labels)
    }

    fn calibrates(settings: &Settings) -> Calibrates {
        match settings.threshold {
            _ if settings.calibrate => Calibrates::Always,
            Some(_) => Calibrates::Never,
            None => Calibrates::IfHeldOut,
        }
    }

    fn calibrate(
        &mut self,
        settings: &Settings,
        held_out: &[Scored<'_, Self>],
    ) -> BTreeMap<String, f64> {
        let mut decisions: Vec<(f32, bool)> = decisions(held_out).collect();
        let mut figures = BTreeMap::new();
        if settings.calibrate {
            let fitted = Temperature::fit_flags(&decisions);
            figures = fitted.apply(&mut self.temperature);
            decisions.iter_mut().for_each(|(share, _)| *share = fitted.of_flag(*share));
        }
        if settings.threshold.is_some() {
            return figures;
        }
        let before = threshold::f1(&decisions, self.threshold);
        self.threshold = threshold::best(decisions.clone(), self.threshold);
        let after = threshold::f1(&decisions, self.threshold);
        let of_threshold = [
            ("threshold", f64::from(self.threshold)),
            ("micro_f1_before", before),
            ("micro_f1_after", after),
        ];
        figures.extend(of_threshold.map(|(name, value)| (name.to_owned(), value)));
        figures
    }

    fn plain_target(&self, example: &Example) -> Result<Option<Target<Vec<u32>>>, TaskError> {
        if example.is_blank() {
            return Ok(None);
        }
        let ids = example.labels.iter().map(|label| self.labels.id(label));
        let mut labels = ids.collect::<Result<Vec<u32>, _>>()?;
        labels.sort_unstable();
        Ok(Some(Target::of(labels)))
    }

    fn plain_answer(&self, logits: &[f32]) -> Option<Prediction> {
        let mut shares = logits.to_vec();
        binary::probabilities(&mut shares);
        let mut answer = self.given(&shares);
        // A baseline that gave no text any label would show nothing.
        if answer.labels.is_empty() {
            answer.labels.push(largest(&shares) as u32);
        }
        Some(answer)
    }

    fn explained(
        &self,
        _: &Example,
        items: &[LabelledIds<Target<Vec<u32>>>],
        answers: &[Prediction],
    ) -> Vec<Explained<Target<Vec<u32>>>> {
        let target = |(item, answer): (&LabelledIds<Target<Vec<u32>>>, &Prediction)| {
            Explained::whole(Target { label: answer.labels.clone(), ..item.label.clone() })
        };
        items.iter().zip(answers).map(target).take(1).collect()
    }

    fn parse(&self, text: &str, at: At<'_>) -> Result<Vec<Example>, TaskError> {
        let (text, second) = texts_of_line(text, self.pair, at)?;
        let second = second.map(str::to_owned);
        Ok(vec![Example { text: text.into(), second, labels: Vec::new() }])
    }

    fn plain(&self, _example: &Example, answers: &[Prediction]) -> String {
        let names = answers.first().map(|answer| self.names(answer)).unwrap_or_default();
        cell::write(&names, &self.separator)
    }

    fn fields(&self, example: &Example, answers: &[Prediction]) -> Map<String, Value> {
        let answer = answers.first();
        let probabilities = answer.map(|answer| -> BTreeMap<&str, f32> {
            let names = self.labels.names().iter().map(String::as_str);
            names.zip(answer.probabilities.iter().copied()).collect()
        });
        let fields = [
            ("text", json!(example.text)),
            ("labels", json!(answer.map(|answer| self.names(answer)))),
            ("probabilities", json!(probabilities)),
        ];
        let second = example.second.as_ref().map(|second| ("second", json!(second)));
        let fields = fields.into_iter().chain(second);
        fields.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Example {
    /// The text, and the second one if there are two.
    fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.text.as_str()).chain(self.second.as_deref())
    }

    /// Whether a text has no character to read.
    fn is_blank(&self) -> bool {
        self.texts().any(is_blank)
    }
}

impl MultiLabel {
    fn reader(&self) -> Reader<'_> {
        let Self { longest, pair, ref characters, ref frequent, .. } = *self;
        let (characters, frequent) = (characters.as_ref(), frequent.as_ref());
        Reader { longest, pair, characters, frequent }
    }

    /// `[B, L]`: the labels of a batch, each on or off.
    fn flags(&self, batch: &LabelledBatch<Target<Vec<u32>>>) -> Vec<f32> {
        let mut flags = vec![0.0; batch.batch * self.labels.len()];
        for (row, target) in flags.chunks_mut(self.labels.len()).zip(&batch.labels) {
            target.label.iter().for_each(|&label| row[label as usize] = 1.0);
        }
        flags
    }

    /// The labels whose probability of `shares` `[K]` is not below the threshold.
    fn given(&self, shares: &[f32]) -> Prediction {
        let on = (0..).zip(shares).filter(|&(_, &share)| share >= self.threshold);
        Prediction { labels: on.map(|(id, _)| id).collect(), probabilities: shares.to_vec() }
    }

    fn names(&self, answer: &Prediction) -> Vec<&str> {
        let names = self.labels.names();
        answer.labels.iter().filter_map(|&id| names.get(id as usize).map(String::as_str)).collect()
    }

    fn count(&self, scored: &[Scored<'_, Self>]) -> Counts {
        // For each label: rightly given, true, given.
        let mut of_label = vec![[0_u64; 3]; self.labels.len()];
        let (mut examples, mut exact) = (0, 0);
        for (labels, answer) in scored.iter().filter_map(pair) {
            examples += 1;
            exact += u64::from(*labels == answer.labels);
            labels.iter().for_each(|&label| of_label[label as usize][1] += 1);
            for &label in &answer.labels {
                of_label[label as usize][0] += u64::from(labels.contains(&label));
                of_label[label as usize][2] += 1;
            }
        }
        let [right, support, given] =
            [0, 1, 2].map(|place| of_label.iter().map(|counts| counts[place]).sum::<u64>());
        let class = |&[right, support, given]: &[u64; 3]| ClassScore::of(right, support, given);
        // Wrong are the labels that are given and not true, and those that are true and not given.
        let wrong = support + given - 2 * right;
        Counts {
            classes: of_label.iter().map(class).collect(),
            micro: ClassScore::of(right, support, given),
            examples,
            exact,
            right: examples * self.labels.len() as u64 - wrong,
        }
    }
}

/// The note on texts without any label.
const BARE: &str = "text(s) have no label";

/// The examples of a table's rows, with the labels of their cells.
fn labelled(
    settings: &Settings,
    file: &Path,
    rows: Vec<table::Example>,
) -> Result<Vec<Example>, TaskError> {
    let separator = &settings.label_separator;
    let example = |(row, number): (table::Example, usize)| {
        let labels = match &row.label {
            None => Vec::new(),
            Some(cell) => cell::read(cell, separator).ok_or_else(|| TaskError::LabelList {
                name: file.display().to_string(),
                example: number,
                cell: cell.chars().take(LONGEST_CELL).collect(),
            })?,
        };
        Ok(Example { text: row.text, second: row.second, labels })
    };
    rows.into_iter().zip(1..).map(example).collect()
}

/// Characters of a cell in a message.
const LONGEST_CELL: usize = 60;

/// The right labels and the answer of an example.
fn pair<'a>(scored: &Scored<'a, MultiLabel>) -> Option<(&'a Vec<u32>, &'a Prediction)> {
    Some((&scored.items.first()?.label.label, scored.answers.first()?))
}

/// The probability of each label of each example, and whether the example has it.
fn decisions(scored: &[Scored<'_, MultiLabel>]) -> impl Iterator<Item = (f32, bool)> {
    scored.iter().filter_map(pair).flat_map(|(labels, answer)| {
        (0..).zip(&answer.probabilities).map(move |(id, &share)| (share, labels.contains(&id)))
    })
}

#[cfg(test)]
mod tests;
