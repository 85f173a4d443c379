//! Classification: one label for each text.
//!
//! Examples stand alone: each begins with the empty memory, shorter ones are padded, and a
//! recurrence stops at an example's last token.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledBatches, LabelledIds, LabelledPosition};
use longhand_text::corpus::table::{
    Column, Example, Header, Labels, Table, TableFormat, TableOptions, read_table,
};
use longhand_train::model::config::{HeadConfig, Pooling};
use longhand_train::model::{Cpu, Gates, Mode, Model, Sequence, Tape, Var};
use longhand_train::objective::{Objective, Part, Pass, Score, Watch};
use longhand_train::{Settings as TrainSettings, TrainError};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Confusion, TaskError, TaskFile};

/// How texts are classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The column of the label, by name or by number from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// How the positions become one vector; the model's own way where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Tokens of a text that are read, its first ones (1024).
    pub longest: NonZeroUsize,
}

/// Tokens of a text that are read unless settings say otherwise.
const LONGEST: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

impl Default for Settings {
    fn default() -> Self {
        Self { label_column: None, pooling: None, longest: LONGEST }
    }
}

/// Where the examples lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// Tables to learn from.
    pub train: Vec<PathBuf>,
    /// Tables to validate on, instead of a part of `train`.
    pub valid: Vec<PathBuf>,
    /// Tables to test on.
    pub test: Vec<PathBuf>,
    /// Share of the training examples that is held out to validate on.
    pub valid_fraction: f64,
    /// The column of the text, by name or by number from 0.
    pub text_column: Option<String>,
    /// The tables that the files are, where their names do not tell.
    pub format: Option<TableFormat>,
    /// Whether the first row of a table names the columns; found out by default.
    pub header: Header,
    /// Replace invalid UTF-8 instead of stopping.
    pub lossy: bool,
}

/// The texts of a task with their labels.
pub struct Examples {
    /// The labels of training.
    pub labels: Labels,
    /// Labels that had white space around them, which was taken away.
    pub trimmed: usize,
    train: Vec<Example>,
    valid: Vec<Example>,
    test: Vec<Example>,
}

/// The examples of a task as ids.
pub struct Data {
    /// Learnt from.
    pub train: Vec<LabelledIds>,
    /// Validated on; may be empty.
    pub valid: Vec<LabelledIds>,
    /// Tested on; may be empty.
    pub test: Vec<LabelledIds>,
    /// Texts of which only the first tokens are read.
    pub cut: usize,
    /// Tokens of the examples of training that the vocabulary lacks.
    pub unknown: usize,
}

impl Examples {
    /// Reads the tables, each whole, and holds out a part of the training examples if there is
    /// nothing else to validate on: of each label the same share, drawn with `seed`.
    ///
    /// # Errors
    /// A table that cannot be read, is empty or lacks a column; an example without text; one label
    /// only; a label that the training examples lack.
    pub fn read(tables: &Tables, settings: &Settings, seed: u64) -> Result<Self, TaskError> {
        let column = |name: &Option<String>| {
            // Parsing a column cannot fail: what is no number is a name.
            name.as_deref().and_then(|name| name.parse::<Column>().ok())
        };
        let options = TableOptions {
            text: column(&tables.text_column),
            label: column(&settings.label_column),
            format: tables.format,
            header: tables.header,
            lossy: tables.lossy,
            ..TableOptions::default()
        };
        let Table { examples: train, trimmed, .. } = read_all(&tables.train, &options)?;
        let labels = Labels::of(&train);
        if let [label] = labels.names() {
            let label = label.clone();
            return Err(TaskError::OneLabel { name: names(&tables.train), label });
        }
        let known = |paths: &[PathBuf]| -> Result<Vec<Example>, TaskError> {
            let mut examples = Vec::new();
            for path in paths {
                examples.extend(read_known(path, &options, &labels)?);
            }
            Ok(examples)
        };
        let (valid, test) = (known(&tables.valid)?, known(&tables.test)?);
        let fraction = tables.valid_fraction;
        let (train, valid) = if valid.is_empty() && fraction > 0.0 {
            let examples = train.len();
            let (train, held_out) = hold_out(train, fraction, seed);
            if train.is_empty() || held_out.is_empty() {
                let name = names(&tables.train);
                return Err(TaskError::TooFew { name, examples, fraction });
            }
            (train, held_out)
        } else {
            (train, valid)
        };
        Ok(Self { labels, trimmed, train, valid, test })
    }

    /// The texts that are learnt from: what a tokeniser is trained on.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.train.iter().map(|example| example.text.as_str())
    }

    /// How many of the examples of training have each label, by id.
    pub fn label_counts(&self) -> Vec<usize> {
        self.labels.counts(&self.train)
    }

    /// The texts that are validated on.
    pub fn held_out_texts(&self) -> impl Iterator<Item = &str> {
        self.valid.iter().map(|example| example.text.as_str())
    }

    /// The examples as ids, each text to its first `longest` tokens.
    ///
    /// # Errors
    /// What the tokeniser reports.
    pub fn encode(&self, tokenizer: &Tokenizer, longest: NonZeroUsize) -> Result<Data, TaskError> {
        let longest = longest.get();
        let mut cut = 0;
        let mut encode = |examples: &[Example]| -> Result<Vec<LabelledIds>, TaskError> {
            let ids = examples.iter().map(|example| {
                let mut ids = tokenizer.encode(&example.text)?;
                cut += usize::from(ids.len() > longest);
                ids.truncate(longest);
                let label = self.labels.id(example.label.as_deref().unwrap_or_default())?;
                Ok(LabelledIds { ids, label })
            });
            ids.collect()
        };
        let (train, valid) = (encode(&self.train)?, encode(&self.valid)?);
        let test = encode(&self.test)?;
        let unknown = train.iter().map(|example| tokenizer.count_unknown(&example.ids)).sum();
        Ok(Data { train, valid, test, cut, unknown })
    }
}

/// Learning to tell labels apart.
pub struct Classification {
    batches: LabelledBatches,
    batch: LabelledBatch,
    valid: Vec<LabelledIds>,
    labels: usize,
    padding: u32,
    label_smoothing: f32,
}

impl Classification {
    /// Learning from `train` in shuffled batches of similar lengths, validated on `valid` if that
    /// has anything.
    ///
    /// # Errors
    /// If there is no example.
    pub fn new(
        settings: &TrainSettings,
        tokenizer: &Tokenizer,
        labels: usize,
        train: Vec<LabelledIds>,
        valid: Vec<LabelledIds>,
    ) -> Result<Self, TaskError> {
        let padding = padding(tokenizer);
        let batches = LabelledBatches::shuffled(train, settings.batch, padding, settings.seed)?;
        let label_smoothing = settings.label_smoothing;
        let batch = LabelledBatch::default();
        Ok(Self { batches, batch, valid, labels, padding, label_smoothing })
    }
}

impl Objective for Classification {
    fn learn(&mut self, mut pass: Pass<'_>) -> Result<Part, TrainError> {
        self.batches.next(&mut self.batch);
        let lengths = lengths(&self.batch);
        let mut state = pass.model.state(self.batch.batch);
        let x = pass.forward(&self.batch.ids, &sequence(&self.batch, &lengths), &mut state)?;
        let total = pass.loss(x, &self.batch.labels, self.label_smoothing);
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
        let result = score(model, tape, &self.valid, self.labels, self.padding, done)?;
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
        read(model, tape, Mode::Record, &self.batch)?;
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

/// How well examples were classified.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// What was taken for what.
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

/// A model that names the label of a text.
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
    /// A classifier of its parts.
    pub fn new(
        model: Model,
        tokenizer: Tokenizer,
        labels: Labels,
        longest: NonZeroUsize,
        cpu: Arc<Cpu>,
    ) -> Self {
        Self { model, tokenizer, labels, longest, tape: Tape::new(cpu) }
    }

    /// Reads a model folder, whose tokeniser is given.
    ///
    /// # Errors
    /// A folder that lacks a file, or whose model does something else.
    pub fn load(folder: &Path, tokenizer: Tokenizer, cpu: Arc<Cpu>) -> Result<Self, TaskError> {
        let model = Model::load(folder)?;
        let path = folder.join(crate::TASK_FILE);
        let HeadConfig::Classifier { classes, .. } = model.config().head else {
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

    /// The labels by id.
    pub fn labels(&self) -> &[String] {
        self.labels.names()
    }

    /// Classifies texts, side by side; none for a text in which there is nothing to read.
    ///
    /// # Errors
    /// [`TaskError::NotFinite`] for a text whose answer is no number, counted from `first` and
    /// called one of `name`.
    pub fn predict(
        &mut self,
        texts: &[String],
        name: &str,
        first: usize,
    ) -> Result<Vec<Option<Prediction>>, TaskError> {
        let mut places = Vec::with_capacity(texts.len());
        let mut examples = Vec::with_capacity(texts.len());
        for (place, text) in texts.iter().enumerate() {
            let mut ids = self.tokenizer.encode(text)?;
            ids.truncate(self.longest.get());
            if !ids.is_empty() && !is_blank(text) {
                places.push(place);
                examples.push(LabelledIds { ids, label: 0 });
            }
        }
        let mut predictions = vec![None; texts.len()];
        let mut not_finite = None;
        let padding = padding(&self.tokenizer);
        in_batches(&self.model, &mut self.tape, &examples, padding, |tape, x, batch| {
            let mut logits = Vec::new();
            self.model.logits(tape, x, 0..batch.batch, &mut logits);
            for (row, &example) in logits.chunks(self.labels.len()).zip(&batch.examples) {
                let place = places[example];
                if !row.iter().all(|x| x.is_finite()) {
                    not_finite = Some(place);
                }
                let probabilities = softmax(row);
                predictions[place] = Some(Prediction { label: largest(row), probabilities });
            }
            Ok::<(), TaskError>(())
        })?;
        match not_finite {
            Some(place) => Err(TaskError::NotFinite { name: name.into(), example: first + place }),
            None => Ok(predictions),
        }
    }
}

/// How well a model classifies examples whose labels are known.
///
/// # Errors
/// If an id is none of the model's.
///
/// # Panics
/// If a label is none of the model's.
pub fn evaluate(
    model: &Model,
    tokenizer: &Tokenizer,
    examples: &[LabelledIds],
    cpu: &Arc<Cpu>,
    watch: &mut Watch<'_>,
) -> Result<Evaluation, TrainError> {
    let mut tape = Tape::new(cpu.clone());
    let done = |share| watch.done(share);
    score(model, &mut tape, examples, model.outputs(), padding(tokenizer), done)
}

/// Examples that are read side by side when nothing is learnt.
const ROWS: usize = 64;

/// `done` is told the share that is scored, and can end the work.
fn score<E: From<TaskError>>(
    model: &Model,
    tape: &mut Tape,
    examples: &[LabelledIds],
    labels: usize,
    padding: u32,
    mut done: impl FnMut(f64) -> Result<(), E>,
) -> Result<Evaluation, E> {
    let mut confusion = Confusion::new(labels);
    let (mut nats, mut count) = (0.0, 0);
    let mut logits = Vec::new();
    in_batches(model, tape, examples, padding, |tape, x, batch| {
        let total = model.loss(tape, x, &batch.labels, 0.0, None, None);
        nats += total.nats;
        count += total.count;
        model.logits(tape, x, 0..batch.batch, &mut logits);
        for (row, &label) in logits.chunks(labels).zip(&batch.labels) {
            confusion.add(label, largest(row));
        }
        done(count as f64 / examples.len() as f64)
    })?;
    Ok(Evaluation { loss: nats / count.max(1) as f64, confusion })
}

/// Reads examples in batches of similar lengths, and gives each batch's rows away.
fn in_batches<E: From<TaskError>>(
    model: &Model,
    tape: &mut Tape,
    examples: &[LabelledIds],
    padding: u32,
    mut take: impl FnMut(&mut Tape, Var, &LabelledBatch) -> Result<(), E>,
) -> Result<(), E> {
    if examples.is_empty() {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&place| examples[place].ids.len());
    let sorted = order.iter().map(|&place| examples[place].clone()).collect();
    let mut batches = LabelledBatches::in_order(sorted, ROWS, padding).map_err(TaskError::from)?;
    let mut batch = LabelledBatch::default();
    for _ in 0..batches.batches_per_epoch() {
        batches.next(&mut batch);
        for place in &mut batch.examples {
            *place = order[*place];
        }
        let x = read(model, tape, Mode::Read, &batch).map_err(TaskError::from)?;
        take(tape, x, &batch)?;
    }
    Ok(())
}

/// Reads a batch from the empty memory; gives one row for each example.
fn read(
    model: &Model,
    tape: &mut Tape,
    mode: Mode,
    batch: &LabelledBatch,
) -> Result<Var, longhand_train::model::ModelError> {
    let lengths = lengths(batch);
    let mut state = model.state(batch.batch);
    model.forward(&mut tape.pass(mode), &batch.ids, &sequence(batch, &lengths), &mut state)
}

/// Tokens of each example.
fn lengths(batch: &LabelledBatch) -> Vec<u32> {
    batch.lengths.iter().map(|&length| length as u32).collect()
}

fn sequence<'a>(batch: &LabelledBatch, lengths: &'a [u32]) -> Sequence<'a> {
    Sequence { lengths: Some(lengths), ..Sequence::new(batch.time, batch.batch) }
}

fn padding(tokenizer: &Tokenizer) -> u32 {
    // Any id will do: lengths say what is padding.
    tokenizer.padding_id().unwrap_or(0)
}

fn read_all(paths: &[PathBuf], options: &TableOptions) -> Result<Table, TaskError> {
    let mut all = Table::default();
    for path in paths {
        let table = read_table(path, options)?;
        let name = path.display().to_string();
        for (place, example) in table.examples.iter().enumerate() {
            check_text(&example.text, &name, place + 1)?;
        }
        all.examples.extend(table.examples);
        all.trimmed += table.trimmed;
    }
    Ok(all)
}

/// Reads a table whose labels must be known.
fn read_known(
    path: &PathBuf,
    options: &TableOptions,
    labels: &Labels,
) -> Result<Vec<Example>, TaskError> {
    let examples = read_all(std::slice::from_ref(path), options)?.examples;
    for (place, example) in examples.iter().enumerate() {
        let label = example.label.as_deref().unwrap_or_default();
        if labels.id(label).is_err() {
            return Err(TaskError::UnknownLabel {
                name: path.display().to_string(),
                example: place + 1,
                label: label.into(),
                known: labels.names().join(", "),
            });
        }
    }
    Ok(examples)
}

fn check_text(text: &str, name: &str, example: usize) -> Result<(), TaskError> {
    if is_blank(text) {
        return Err(TaskError::NoText { name: name.into(), example });
    }
    Ok(())
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Splits examples in two, of each label the same share: shuffled, brought together by label, and
/// then taken at even distances.
fn hold_out(mut examples: Vec<Example>, share: f64, seed: u64) -> (Vec<Example>, Vec<Example>) {
    examples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    examples.sort_by(|a, b| a.label.cmp(&b.label));
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for (place, example) in examples.into_iter().enumerate() {
        // Half a step early, so that the first of a few examples is not always among the kept.
        let taken = |place: usize| (place as f64 * share + 0.5).floor();
        if taken(place + 1) > taken(place) { held_out.push(example) } else { kept.push(example) }
    }
    (kept, held_out)
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

fn largest(row: &[f32]) -> u32 {
    let best = row.iter().enumerate().fold(0, |best, (i, x)| if *x > row[best] { i } else { best });
    best as u32
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<f32> = row.iter().map(|x| (x - most).exp()).collect();
    let sum: f32 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

#[cfg(test)]
mod tests;
