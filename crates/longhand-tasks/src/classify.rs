//! Classification: one label for each text, or for each pair of texts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use longhand_kernel::loss::{most_probable, softmax};
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Config, IGNORE, Model, Pass, Targets};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::corpus::table::{Example, Labels, Table, TableOptions, read_table};
use longhand_text::corpus::treebank::{Nodes, TreeOptions};
use longhand_text::{SpecialTokens, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::batches::features as features_of;
use crate::calibration::{self, Temperature, calibration_error};
use crate::characters::Alphabet;
use crate::confusion::{Confusion, class_report};
use crate::error::TaskError;
use crate::matches::Frequent;
use crate::ranking::{auc, mean};
use crate::task::{
    At, Calibrates, CharacterRows, Encoded, Explained, Read, Reading, Report, Scored, Task, Unit,
};

mod confidence;
mod ordered;
mod reader;
mod settings;

pub use confidence::Confidence;
pub use reader::Target;
pub(crate) use reader::{Reader, alphabet, frequent, is_blank, texts_of_line};
pub use settings::{ClassWeights, Settings, WeightRule};

/// The meaning of a classifier's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The labels, in the order of the model's outputs.
    pub labels: Labels,
    /// The number of first tokens of a text that are read.
    pub longest: NonZeroUsize,
    /// Whether an example is two texts, read as one sequence with a separator
    /// between them (default: false).
    #[serde(default, skip_serializing_if = "is_false")]
    pub pair: bool,
    /// Whether labels are numbers, sorted by their values, whose distance counts (default: false).
    #[serde(default, skip_serializing_if = "is_false")]
    pub ordered: bool,
    /// Whether the loss is that of the thresholds between ordered labels (default: false).
    #[serde(default, skip_serializing_if = "is_false")]
    pub ordinal: bool,
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
    /// The weight of each label in the training loss; empty for 1 each.
    #[serde(skip)]
    pub(crate) weights: Vec<f32>,
}

/// The answer for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The most probable label's id.
    pub label: u32,
    /// The probability of each label.
    pub probabilities: Vec<f32>,
}

impl Task for Classify {
    const NAME: &'static str = "classify";
    const ABOUT: &'static str = "One label for each text, or for each pair of texts";
    const UNIT: Unit = Unit::Line;
    const METRICS: &'static [(&'static str, &'static str)] =
        &[("accuracy", "accuracy"), ("macro_f1", "macro-F1"), ("auc", "AUC")];
    const NUMBERS: &'static [(&'static str, &'static str)] = &[
        ("mean_absolute_error", "mean absolute error"),
        ("weighted_kappa", "quadratic weighted kappa"),
    ];
    const COLUMNS: &'static [&'static str] = &["label", "probability"];

    type Settings = Settings;
    type Example = Example;
    type Target = Target;
    type Answer = Prediction;

    fn read(
        settings: &Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Example>, TaskError> {
        // Parsing a column cannot fail: a text that is no number is a name.
        let label = settings.label_column.as_ref().and_then(|name| name.parse().ok());
        let second = settings.pair_column.as_ref().and_then(|name| name.parse().ok());
        let nodes = if reading.to_learn { settings.nodes } else { Nodes::Sentences };
        let trees = TreeOptions { nodes, ratings: settings.ratings };
        let options = TableOptions { label, second, trees, ..reading.table() };
        let Table { examples, trimmed, .. } = read_table(file, &options)?;
        let blank = examples.iter().position(|example| texts(example).any(is_blank));
        if let Some(place) = blank.filter(|_| !reading.unlabelled) {
            let (name, example) = (file.display().to_string(), place + 1);
            return Err(TaskError::NoText { name, example });
        }
        let note = (trimmed > 0).then(|| (TRIMMED.to_owned(), trimmed));
        Ok(Read { examples, notes: note.into_iter().collect() })
    }

    fn learn(settings: &Settings, examples: &[Example], files: &str) -> Result<Self, TaskError> {
        let labels = Labels::of(examples);
        if let [label] = labels.names() {
            let (name, label) = (files.into(), label.clone());
            return Err(TaskError::OneLabel { name, label });
        }
        let ordered = settings.ordered || settings.ordinal;
        let labels = if ordered { ordered::by_value(labels, files)? } else { labels };
        settings.class_weights.iter().try_for_each(|weights| weights.check(Self::NAME, &labels))?;
        let pair = settings.pair_column.is_some();
        Ok(Self {
            labels,
            longest: settings.longest,
            pair,
            ordered,
            ordinal: settings.ordinal,
            temperature: 1.0,
            characters: alphabet(settings.characters, examples.iter().flat_map(texts)),
            frequent: frequent(Self::NAME, (settings.matches, pair), examples.iter().map(texts))?,
            weights: Vec::new(),
        })
    }

    fn check(&self, example: &Example, at: At<'_>) -> Result<(), TaskError> {
        let label = Self::stratum(example);
        self.labels.id(label).map(|_| ()).map_err(|_| TaskError::UnknownLabel {
            name: at.name.into(),
            example: at.example,
            label: label.into(),
            known: self.labels.names().join(", "),
        })
    }

    fn weigh(&mut self, settings: &Settings, train: &[Example]) {
        let balanced = || -> Vec<f32> {
            let mean = train.len() as f32 / self.labels.len().max(1) as f32;
            let counts = self.labels.counts(train).into_iter();
            counts.map(|count| mean / count.max(1) as f32).collect()
        };
        let weights = settings.class_weights.as_ref();
        let weights = weights.map(|weights| weights.of(&self.labels, balanced));
        self.weights = weights.unwrap_or_default();
    }

    fn stratum(example: &Example) -> &str {
        example.label.as_deref().unwrap_or_default()
    }

    fn texts(example: &Example) -> Vec<&str> {
        texts(example).collect()
    }

    fn counts(&self, examples: &[Example]) -> Vec<(String, usize)> {
        self.labels.names().iter().cloned().zip(self.labels.counts(examples)).collect()
    }

    fn longest(&self) -> usize {
        self.longest.get()
    }

    fn special_tokens(&self) -> Vec<String> {
        self.pair.then(|| SpecialTokens::SEPARATOR.to_owned()).into_iter().collect()
    }

    fn head(&self, settings: &Settings, own: Option<&HeadKind>) -> HeadKind {
        let pooling = settings.pooling.or(own.and_then(HeadKind::pooling)).unwrap_or(Pooling::Max);
        let classes = self.labels.len();
        match self.pair {
            true => HeadKind::SentencePair { classes, pooling },
            false => HeadKind::Classifier { classes, pooling },
        }
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
            HeadKind::SentencePair { .. } if !self.pair => {
                Some("it is of single texts, and the model reads pairs".into())
            }
            HeadKind::Classifier { .. } if self.pair => {
                Some("it is of pairs of texts, and the model reads single ones".into())
            }
            HeadKind::Classifier { classes, .. } | HeadKind::SentencePair { classes, .. } => {
                let differs = *classes != count;
                differs.then(|| format!("it names {count} labels, the model has {classes}"))
            }
            _ => Some("it is a classifier's, and the model is none".into()),
        }
    }

    fn encode(
        &self,
        tokenizer: &Tokenizer,
        example: &Example,
    ) -> Result<Encoded<Target>, TaskError> {
        let Some(label) = self.plain_target(example)? else {
            return Ok(Encoded { items: Vec::new(), is_cut: false });
        };
        let texts = (example.text.as_str(), example.second.as_deref());
        self.reader().encode(tokenizer, texts, label)
    }

    fn features(&self, batch: &LabelledBatch<Target>) -> Vec<u32> {
        features_of(batch, |target| &target.features)
    }

    fn characters(&self, batch: &LabelledBatch<Target>) -> Option<CharacterRows> {
        self.reader().characters(batch)
    }

    fn with_targets<R>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        learn(self.targets(&labels_of(batch)))
    }

    fn with_explained<R>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        // The loss is then −ln p of the label, whatever the model learnt.
        learn(Targets::Labels(&labels_of(batch)))
    }

    fn with_weighted_targets<E>(
        &self,
        batch: &LabelledBatch<Target>,
        learn: &mut impl FnMut(Targets<'_>, f32) -> Result<(), E>,
    ) -> Result<(), E> {
        let weight = |label: u32| self.weights.get(label as usize).copied().unwrap_or(1.0);
        let of_batch = || batch.labels.iter().map(|target| target.label);
        let mut weights: Vec<f32> = of_batch().map(weight).collect();
        weights.sort_by(f32::total_cmp);
        weights.dedup();
        // The loss takes one weight, so the labels of other weights are left out of it.
        for part in weights {
            let kept = |label: u32| if weight(label) == part { label } else { IGNORE };
            let labels: Vec<u32> = of_batch().map(kept).collect();
            learn(self.targets(&labels), part)?;
        }
        Ok(())
    }

    fn target_bytes(target: &Target) -> Vec<u8> {
        let read = target.characters.ids.iter().chain(&target.features);
        let all = [&target.label].into_iter().chain(read);
        all.flat_map(|x| x.to_le_bytes()).collect()
    }

    fn answers(
        &self,
        _model: &Model,
        pass: &mut Pass<'_>,
        logits: &[f32],
        batch: &LabelledBatch<Target>,
    ) -> Vec<Prediction> {
        let (labels, mut largest) = (self.labels.len(), vec![0; batch.batch]);
        most_probable(pass.cpu(), labels, logits, &mut largest);
        let mut shares: Vec<f32> = logits.iter().map(|logit| logit / self.temperature).collect();
        softmax(pass.cpu(), labels, &mut shares);
        let answer =
            |(label, row): (u32, &[f32])| Prediction { label, probabilities: row.to_vec() };
        largest.into_iter().zip(shares.chunks(labels)).map(answer).collect()
    }

    fn temperature(&self) -> f32 {
        self.temperature
    }

    fn measure(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let confusion = self.confusion(scored);
        let [macro_precision, macro_recall, macro_f1] = confusion.macro_means();
        let metrics = [
            ("accuracy", confusion.accuracy()),
            ("f1", confusion.f1()),
            ("macro_f1", macro_f1),
            ("macro_precision", macro_precision),
            ("macro_recall", macro_recall),
            ("matthews", confusion.matthews()),
            (
                "calibration_error",
                calibration_error(
                    scored
                        .iter()
                        .filter_map(pair)
                        .map(|(label, answer)| (label == answer.label, answer.probability())),
                ),
            ),
        ];
        let mut metrics: BTreeMap<String, f64> =
            metrics.map(|(name, value)| (name.to_owned(), value)).into();
        if self.ordered {
            metrics.extend(ordered::measures(&self.labels, &confusion));
        }
        metrics
    }

    fn measure_once(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        let pairs: Vec<_> = scored.iter().filter_map(pair).collect();
        let of_label = |label: u32| {
            let decision = |(truth, answer): &(u32, &Prediction)| {
                (answer.probabilities[label as usize], *truth == label)
            };
            auc(pairs.iter().map(decision).collect())
        };
        // Of two labels the second is the positive one, and the other's value is the same.
        let first = u32::from(self.labels.len() == 2);
        let auc = mean((first..self.labels.len() as u32).filter_map(of_label));
        auc.map(|auc| ("auc".to_owned(), auc)).into_iter().collect()
    }

    fn report(&self, scored: &[Scored<'_, Self>]) -> Report {
        let (names, confusion) = (self.labels.names().to_vec(), self.confusion(scored));
        let (text, labels) = class_report(&names, &confusion.classes());
        // With one answer to each example, the micro means are all the accuracy.
        let accuracy = confusion.accuracy();
        let micro = json!({ "precision": accuracy, "recall": accuracy, "f1": accuracy });
        let json =
            Map::from_iter([("classes".to_owned(), labels.into()), ("micro".to_owned(), micro)]);
        let classes = names.iter().cloned().zip(confusion.classes()).collect();
        Report { confusion: Some((names, confusion)), classes, json, text }
    }

    fn is_right(&self, scored: &Scored<'_, Self>) -> Option<bool> {
        pair(scored).map(|(label, answer)| label == answer.label)
    }

    fn calibrates(settings: &Settings) -> Calibrates {
        if settings.calibrate { Calibrates::Always } else { Calibrates::Never }
    }

    fn calibrate(
        &mut self,
        _settings: &Settings,
        held_out: &[Scored<'_, Self>],
    ) -> BTreeMap<String, f64> {
        let pairs: Vec<_> = held_out.iter().filter_map(pair).collect();
        let rows = pairs.iter().map(|(label, answer)| (answer.probabilities.as_slice(), *label));
        Temperature::fit(&rows.collect::<Vec<_>>()).apply(&mut self.temperature)
    }

    fn plain_target(&self, example: &Example) -> Result<Option<Target>, TaskError> {
        if texts(example).any(is_blank) {
            return Ok(None);
        }
        let label = example.label.as_deref().map_or(Ok(0), |label| self.labels.id(label))?;
        Ok(Some(Target::of(label)))
    }

    fn plain_answer(&self, logits: &[f32]) -> Option<Prediction> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f32 = shares.iter().sum();
        let label = logits.iter().position(|logit| *logit == largest)?;
        let probabilities = shares.iter().map(|share| share / sum).collect();
        Some(Prediction { label: label as u32, probabilities })
    }

    fn explained(
        &self,
        _: &Example,
        items: &[LabelledIds<Target>],
        answers: &[Prediction],
    ) -> Vec<Explained<Target>> {
        let target = |(item, answer): (&LabelledIds<Target>, &Prediction)| {
            Explained::whole(Target { label: answer.label, ..item.label.clone() })
        };
        items.iter().zip(answers).map(target).take(1).collect()
    }

    fn parse(&self, text: &str, at: At<'_>) -> Result<Vec<Example>, TaskError> {
        let (text, second) = texts_of_line(text, self.pair, at)?;
        Ok(vec![Example { label: None, text: text.into(), second: second.map(str::to_owned) }])
    }

    fn plain(&self, _example: &Example, answers: &[Prediction]) -> String {
        answers.first().map(|answer| self.name(answer.label).to_owned()).unwrap_or_default()
    }

    fn fields(&self, example: &Example, answers: &[Prediction]) -> Map<String, Value> {
        let answer = answers.first();
        let label = answer.map(|answer| self.name(answer.label));
        let probabilities = answer.map(|answer| -> BTreeMap<&str, f32> {
            let names = self.labels.names().iter().map(String::as_str);
            names.zip(answer.probabilities.iter().copied()).collect()
        });
        let fields = [
            ("text", json!(example.text)),
            ("label", json!(label)),
            ("probability", json!(answer.map(|answer| answer.probability() as f32))),
            ("probabilities", json!(probabilities)),
        ];
        let second = example.second.as_ref().map(|second| ("second", json!(second)));
        let fields = fields.into_iter().chain(second);
        fields.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Prediction {
    /// The probability of the label, 0 to 1.
    pub fn probability(&self) -> f64 {
        f64::from(self.probabilities.get(self.label as usize).copied().unwrap_or(0.0))
    }
}

impl Classify {
    fn name(&self, label: u32) -> &str {
        self.labels.names().get(label as usize).map_or("", String::as_str)
    }

    fn reader(&self) -> Reader<'_> {
        let Self { longest, pair, ref characters, ref frequent, .. } = *self;
        let (characters, frequent) = (characters.as_ref(), frequent.as_ref());
        Reader { longest, pair, characters, frequent }
    }

    /// Labels in the form of the loss.
    fn targets<'a>(&self, labels: &'a [u32]) -> Targets<'a> {
        if self.ordinal { Targets::Ordered(labels) } else { Targets::Labels(labels) }
    }

    fn confusion(&self, scored: &[Scored<'_, Self>]) -> Confusion {
        let mut confusion = Confusion::new(self.labels.len());
        for (label, answer) in scored.iter().filter_map(pair) {
            confusion.add(label, answer.label);
        }
        confusion
    }
}

fn labels_of(batch: &LabelledBatch<Target>) -> Vec<u32> {
    batch.labels.iter().map(|target| target.label).collect()
}

/// The right label and the answer of an example.
fn pair<'a>(scored: &Scored<'a, Classify>) -> Option<(u32, &'a Prediction)> {
    Some((scored.items.first()?.label.label, scored.answers.first()?))
}

/// The note on labels that were trimmed.
pub(crate) const TRIMMED: &str = "label(s) lost the white space around them";

/// The text of an example, and the second one if it has two.
fn texts(example: &Example) -> impl Iterator<Item = &str> {
    std::iter::once(example.text.as_str()).chain(example.second.as_deref())
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests;
