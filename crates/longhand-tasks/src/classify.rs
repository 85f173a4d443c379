//! Classification: one label for each text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::Path;

use longhand_kernel::loss::{most_probable, softmax};
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Model, Pass, Targets};
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::corpus::table::{Example, Labels, Table, TableOptions, read_table};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::confusion::{ClassScore, Confusion};
use crate::error::TaskError;
use crate::ids::encode;
use crate::task::{At, Encoded, Read, Reading, Report, Scored, Task, Unit};

/// How texts are classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The column of the label, by name or by number from 0 (default: `label`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// How the positions become one vector (default: as the model's own head does, or the maximum).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The number of first tokens of a text that are read (default: 1024).
    pub longest: NonZeroUsize,
}

/// The default of [`Settings::longest`].
const LONGEST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self { label_column: None, pooling: None, longest: LONGEST }
    }
}

/// The meaning of a classifier's answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The labels, in the order of the model's outputs.
    pub labels: Labels,
    /// The number of first tokens of a text that are read.
    pub longest: NonZeroUsize,
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
    const ABOUT: &'static str = "One label for each text";
    const UNIT: Unit = Unit::Line;
    const METRICS: &'static [(&'static str, &'static str)] =
        &[("accuracy", "accuracy"), ("macro_f1", "macro-F1")];
    const COLUMNS: &'static [&'static str] = &["label", "probability"];

    type Settings = Settings;
    type Example = Example;
    type Target = u32;
    type Answer = Prediction;

    fn read(
        settings: &Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Example>, TaskError> {
        // Parsing a column cannot fail: a text that is no number is a name.
        let label = settings.label_column.as_ref().and_then(|name| name.parse().ok());
        let options = TableOptions { label, ..reading.table() };
        let Table { examples, trimmed, .. } = read_table(file, &options)?;
        let blank = examples.iter().position(|example| is_blank(&example.text));
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
        Ok(Self { labels, longest: settings.longest })
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

    fn stratum(example: &Example) -> &str {
        example.label.as_deref().unwrap_or_default()
    }

    fn texts(example: &Example) -> Vec<&str> {
        vec![&example.text]
    }

    fn counts(&self, examples: &[Example]) -> Vec<(String, usize)> {
        self.labels.names().iter().cloned().zip(self.labels.counts(examples)).collect()
    }

    fn longest(&self) -> usize {
        self.longest.get()
    }

    fn head(&self, settings: &Settings, own: Option<&HeadKind>) -> HeadKind {
        let pooling = settings.pooling.or(own.and_then(HeadKind::pooling)).unwrap_or(Pooling::Max);
        HeadKind::Classifier { classes: self.labels.len(), pooling }
    }

    fn misfit(&self, head: &HeadKind) -> Option<String> {
        let count = self.labels.len();
        match head {
            HeadKind::Classifier { classes, .. } if *classes == count => None,
            HeadKind::Classifier { classes, .. } => {
                Some(format!("it names {count} labels, the model has {classes}"))
            }
            _ => Some("it is a classifier's, and the model is none".into()),
        }
    }

    fn encode(&self, tokenizer: &Tokenizer, example: &Example) -> Result<Encoded<u32>, TaskError> {
        if is_blank(&example.text) {
            return Ok(Encoded { items: Vec::new(), is_cut: false });
        }
        let (ids, is_cut) = encode(tokenizer, &example.text, self.longest)?;
        let label = example.label.as_deref().map_or(Ok(0), |label| self.labels.id(label))?;
        Ok(Encoded { items: vec![LabelledIds { ids, label }], is_cut })
    }

    fn with_targets<R>(&self, batch: &LabelledBatch, learn: impl FnOnce(Targets<'_>) -> R) -> R {
        learn(Targets::Labels(&batch.labels))
    }

    fn target_bytes(label: &u32) -> Vec<u8> {
        label.to_le_bytes().into()
    }

    fn answers(
        &self,
        _model: &Model,
        pass: &mut Pass<'_>,
        logits: &[f32],
        batch: &LabelledBatch,
    ) -> Vec<Prediction> {
        let (labels, mut largest) = (self.labels.len(), vec![0; batch.batch]);
        most_probable(pass.cpu(), labels, logits, &mut largest);
        let mut shares = logits.to_vec();
        softmax(pass.cpu(), labels, &mut shares);
        let answer =
            |(label, row): (u32, &[f32])| Prediction { label, probabilities: row.to_vec() };
        largest.into_iter().zip(shares.chunks(labels)).map(answer).collect()
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
            ("calibration_error", calibration_error(scored.iter().filter_map(pair))),
        ];
        metrics.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn report(&self, scored: &[Scored<'_, Self>]) -> Report {
        let (names, confusion) = (self.labels.names().to_vec(), self.confusion(scored));
        let classes = confusion.classes();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
        let mut text = format!("{:<width$}  precision  recall      F1  examples", "label");
        let mut labels = Map::new();
        for (name, class) in names.iter().zip(&classes) {
            let ClassScore { precision, recall, f1, support, .. } = *class;
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n{name:<width$}  {precision:>9.4}  {recall:>6.4}  {f1:>6.4}  {support:>8}"
            );
            labels.insert(
                name.clone(),
                json!({ "precision": precision, "recall": recall, "f1": f1, "support": support }),
            );
        }
        // With one answer to each example, the micro means are all the accuracy.
        let accuracy = confusion.accuracy();
        let micro = json!({ "precision": accuracy, "recall": accuracy, "f1": accuracy });
        let json =
            Map::from_iter([("classes".to_owned(), labels.into()), ("micro".to_owned(), micro)]);
        Report { confusion: Some((names, confusion)), json, text }
    }

    fn is_right(&self, scored: &Scored<'_, Self>) -> Option<bool> {
        pair(scored).map(|(label, answer)| label == answer.label)
    }

    fn parse(text: &str, _at: At<'_>) -> Result<Vec<Example>, TaskError> {
        Ok(vec![Example { label: None, text: text.into() }])
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
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
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

    fn confusion(&self, scored: &[Scored<'_, Self>]) -> Confusion {
        let mut confusion = Confusion::new(self.labels.len());
        for (label, answer) in scored.iter().filter_map(pair) {
            confusion.add(label, answer.label);
        }
        confusion
    }
}

/// The right label and the answer of an example.
fn pair<'a>(scored: &Scored<'a, Classify>) -> Option<(u32, &'a Prediction)> {
    Some((scored.items.first()?.label, scored.answers.first()?))
}

/// Expected calibration error (Guo et al. 2017, equation 3): the answers are put into 15 bins of
/// equal width by the probability of the label that is given; the error is the mean of
/// |accuracy − mean probability| over the bins, weighted by their answers. 0 where there is none.
fn calibration_error<'a>(answers: impl Iterator<Item = (u32, &'a Prediction)>) -> f64 {
    const BINS: usize = 15;
    // Right answers, sum of probabilities.
    let mut bins = [(0.0_f64, 0.0_f64); BINS];
    let mut all = 0_u64;
    for (label, answer) in answers {
        let chance = answer.probability();
        // A bin holds its upper bound, as in the paper.
        let bin = ((chance * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        bins[bin].0 += f64::from(u8::from(label == answer.label));
        bins[bin].1 += chance;
        all += 1;
    }
    bins.iter().map(|(right, sum)| (right - sum).abs()).sum::<f64>() / all.max(1) as f64
}

/// The note on labels that were trimmed.
const TRIMMED: &str = "label(s) lost the white space around them";

/// Whether a text has no character to read.
fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

#[cfg(test)]
mod tests;
