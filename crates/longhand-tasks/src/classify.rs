//! Classification: one label for each text.
//!
//! Each example is read from an empty state. Shorter ones are padded, and a recurrence stops at the
//! last token of an example.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_kernel::loss::{most_probable, softmax};
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Gates, LossOptions, Mode, Model, Tape, Targets};
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledBatches, LabelledIds, LabelledPosition};
use longhand_text::corpus::table::Labels;
use longhand_train::objective::{Objective, Part, Pass, Score, Watch};
use longhand_train::{Settings as TrainSettings, TrainError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::batches::{ROWS, in_batches, lengths, padding, read, sequence};
use crate::confusion::Confusion;
use crate::error::TaskError;
use crate::ids::encode;
use crate::tables::is_blank;
use crate::task_file::{TASK_FILE, TaskFile};

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

/// Training of a classifier on labelled examples.
pub struct Classification {
    batches: LabelledBatches,
    batch: LabelledBatch,
    valid: Vec<LabelledIds>,
    padding: u32,
    label_smoothing: f32,
}

impl Classification {
    /// Trains on `train` in shuffled batches of similar lengths, and validates on `valid` unless it
    /// is empty.
    ///
    /// # Errors
    /// If there is no example.
    pub fn new(
        settings: &TrainSettings,
        tokenizer: &Tokenizer,
        train: Vec<LabelledIds>,
        valid: Vec<LabelledIds>,
    ) -> Result<Self, TaskError> {
        let padding = padding(tokenizer);
        let batches = LabelledBatches::shuffled(train, settings.batch, padding, settings.seed)?;
        let label_smoothing = settings.label_smoothing;
        let batch = LabelledBatch::default();
        Ok(Self { batches, batch, valid, padding, label_smoothing })
    }
}

impl Objective for Classification {
    fn learn(&mut self, mut pass: Pass<'_>) -> Result<Part, TrainError> {
        self.batches.next(&mut self.batch);
        let lengths = lengths(&self.batch);
        let mut state = pass.model.state(self.batch.batch);
        let x = pass.forward(&self.batch.ids, &sequence(&self.batch, &lengths), &mut state)?;
        let total = pass.loss(x, Targets::Labels(&self.batch.labels), self.label_smoothing)?;
        let tokens = self.batch.lengths.iter().map(|&length| length as u64).sum();
        Ok(Part::of(total, tokens))
    }

    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        if self.valid.is_empty() {
            return Ok(None);
        }
        let done = |share| watch.done(share);
        let result = score(model, tape, &self.valid, self.padding, done)?;
        Ok(Some(result.score()))
    }

    fn held_out(&self) -> u64 {
        self.valid.iter().map(|example| example.ids.len() as u64).sum()
    }

    fn sample_held_out(&mut self, tokens: u64, seed: u64) -> u64 {
        if tokens < self.held_out() {
            self.valid.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            let mut read = 0;
            let kept = self.valid.iter().take_while(|example| {
                read += example.ids.len() as u64;
                read <= tokens
            });
            // One batch is the least that is worth its time.
            let kept = kept.count().max(ROWS);
            self.valid.truncate(kept);
        }
        self.held_out()
    }

    fn gates(&mut self, model: &Model, tape: &mut Tape) -> Result<Vec<Gates>, TrainError> {
        if self.batch.batch == 0 {
            return Ok(Vec::new());
        }
        read(model, &mut tape.pass(Mode::Record), &self.batch)?;
        Ok(tape.gates(&model.weights))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.batches_per_epoch()
    }

    fn position(&self) -> serde_json::Value {
        let LabelledPosition { epoch, batch } = self.batches.position();
        serde_json::json!({ "epoch": epoch, "batch": batch })
    }

    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError> {
        let position = serde_json::from_value(position.clone())
            .map_err(|error| TrainError::Objective(error.into()))?;
        Ok(self.batches.seek(position)?)
    }
}

/// The result of classifying examples whose labels are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// Counts of answers by true label.
    pub confusion: Confusion,
}

impl Evaluation {
    /// The loss with the measures beside it: `accuracy` and `macro_f1`.
    pub fn score(&self) -> Score {
        let mut score = Score::of(self.loss);
        score.metrics.insert("accuracy".into(), self.confusion.accuracy());
        score.metrics.insert("macro_f1".into(), self.confusion.macro_f1());
        score
    }
}

/// A model that predicts the label of a text.
pub struct Classifier {
    model: Model,
    tokenizer: Tokenizer,
    labels: Labels,
    longest: NonZeroUsize,
    tape: Tape,
}

/// The answer for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The most probable label's id.
    pub label: u32,
    /// The probability of each label.
    pub probabilities: Vec<f32>,
}

impl Classifier {
    /// A classifier made from its parts.
    pub fn new(
        model: Model,
        tokenizer: Tokenizer,
        labels: Labels,
        longest: NonZeroUsize,
        cpu: Arc<Cpu>,
    ) -> Self {
        Self { model, tokenizer, labels, longest, tape: Tape::new(cpu) }
    }

    /// Reads the model and the labels from a model folder.
    ///
    /// # Errors
    /// A folder that lacks a file, or whose model is no classifier.
    pub fn load(folder: &Path, tokenizer: Tokenizer, cpu: Arc<Cpu>) -> Result<Self, TaskError> {
        let model = Model::load(folder)?;
        let path = folder.join(TASK_FILE);
        let Some(&HeadKind::Classifier { classes, .. }) = model.config().head() else {
            return Err(TaskError::NotAClassifier(folder.into()));
        };
        let wrong = |reason: String| TaskError::TaskFile { path: path.clone(), reason };
        let TaskFile::Classify { labels, longest } = TaskFile::load(folder)?
            .ok_or_else(|| wrong("it is missing, and names the model's labels".into()))?;
        if labels.len() != classes {
            let count = labels.len();
            return Err(wrong(format!("it names {count} labels, the model has {classes}")));
        }
        model.check_vocabulary(tokenizer.vocab_size())?;
        Ok(Self::new(model, tokenizer, labels, longest, cpu))
    }

    /// The labels, in the order of their ids.
    pub fn labels(&self) -> &[String] {
        self.labels.names()
    }

    /// Classifies texts in batches. A blank text has no prediction.
    ///
    /// # Errors
    /// [`TaskError::NotFinite`] for a text whose logits are not finite: example `first` + its place
    /// of `name`.
    pub fn predict(
        &mut self,
        texts: &[String],
        name: &str,
        first: usize,
    ) -> Result<Vec<Option<Prediction>>, TaskError> {
        let mut places = Vec::with_capacity(texts.len());
        let mut examples = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            let (ids, _) = encode(&self.tokenizer, text, self.longest)?;
            if !ids.is_empty() && !is_blank(text) {
                places.push(place);
                examples.push(LabelledIds { ids, label: 0 });
            }
        }
        let mut predictions = vec![None; texts.len()];
        let mut not_finite = None;
        let padding = padding(&self.tokenizer);
        let labels = self.labels.len();
        let mut answers = Vec::new();
        in_batches(&self.model, &mut self.tape, &examples, padding, |pass, x, batch| {
            self.model.logits(pass, x, 0..batch.batch, &mut answers);
            for (logits, &example) in answers.chunks(labels).zip(&batch.examples) {
                if !logits.iter().all(|x| x.is_finite()) {
                    not_finite = Some(places[example]);
                }
            }
            let mut largest = vec![0; batch.batch];
            most_probable(pass.cpu(), labels, &answers, &mut largest);
            softmax(pass.cpu(), labels, &mut answers);
            let rows = answers.chunks(labels).zip(largest).zip(&batch.examples);
            for ((row, label), &example) in rows {
                let probabilities = row.to_vec();
                predictions[places[example]] = Some(Prediction { label, probabilities });
            }
            Ok::<(), TaskError>(())
        })?;
        match not_finite {
            Some(place) => Err(TaskError::NotFinite { name: name.into(), example: first + place }),
            None => Ok(predictions),
        }
    }
}

/// Classifies examples whose labels are known.
///
/// # Errors
/// If an id or a label is none of the model's.
pub fn evaluate(
    model: &Model,
    tokenizer: &Tokenizer,
    examples: &[LabelledIds],
    cpu: &Arc<Cpu>,
    watch: &mut Watch<'_>,
) -> Result<Evaluation, TrainError> {
    let mut tape = Tape::new(cpu.clone());
    let done = |share| watch.done(share);
    score(model, &mut tape, examples, padding(tokenizer), done)
}

/// `done` is told the share that is scored, and can end the work.
fn score<E: From<TaskError>>(
    model: &Model,
    tape: &mut Tape,
    examples: &[LabelledIds],
    padding: u32,
    mut done: impl FnMut(f64) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let labels = model.outputs();
    let mut confusion = Confusion::new(labels);
    let (mut nats, mut count) = (0.0, 0);
    let mut logits = Vec::new();
    in_batches(model, tape, examples, padding, |pass, x, batch| {
        let targets = Targets::Labels(&batch.labels);
        let total = model.loss(pass, x, targets, LossOptions::default());
        let total = total.map_err(TaskError::from)?;
        nats += total.nats;
        count += total.count;
        model.logits(pass, x, 0..batch.batch, &mut logits);
        let mut answers = vec![0; batch.batch];
        most_probable(pass.cpu(), labels, &logits, &mut answers);
        for (&answer, &label) in answers.iter().zip(&batch.labels) {
            confusion.add(label, answer);
        }
        done(count as f64 / examples.len() as f64)
    })?;
    Ok(Evaluation { loss: nats / count.max(1) as f64, confusion })
}

#[cfg(test)]
mod tests;
