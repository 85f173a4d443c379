//! The trait that each task implements. Reading files, holding out, batching, training, evaluation
//! and prediction are written once, against it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_model::config::HeadKind;
use longhand_model::{Config, Model, Pass, Preset, Targets};
use longhand_text::batch::{LabelledBatch, LabelledIds};
use longhand_text::corpus::table::{Header, TableFormat, TableOptions};
use longhand_text::{Tokenizer, TokenizerKind};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::confusion::{ClassScore, Confusion};
use crate::error::TaskError;
use crate::search::{Hypothesis, Prompt, SearchOptions, end};

mod rows;

pub use rows::{CharacterRows, SourceRows, WordRows};

/// A task: examples → ids and targets → answers → metrics. A value of the type is the meaning of a
/// model's answers, such as the names of its labels; `task.json` holds it.
pub trait Task: Clone {
    /// The name, as recipes and `--task` write it.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// How the examples to predict follow one another in a text.
    const UNIT: Unit;
    /// The model of a run that names none.
    const PRESET: Preset = Preset::StackedLstmClassifier;
    /// The tokeniser of a run that names none.
    const TOKENIZER: TokenizerKind = TokenizerKind::Word;
    /// Whether answers are written token by token in a search ([`Task::search`]), in place of being
    /// read off the logits of a sequence (false). Training then measures the loss alone, and the
    /// answers to test examples are written once it has ended.
    const WRITES: bool = false;
    /// The metrics that a person is told at the end of a run: the key of [`Task::measure`], and the
    /// words for it. Each value is a share from 0 to 1.
    const METRICS: &'static [(&'static str, &'static str)];
    /// Metrics of [`Task::measure`]: the first that is measured chooses the best weights (default:
    /// the loss chooses them).
    const CRITERION: &'static [&'static str] = &[];
    /// Whether an answer has any number of parts, such as the names in a sentence, each of which is
    /// explained by itself (false).
    const IN_PARTS: bool = false;
    /// As [`Task::METRICS`], of metrics that are no shares.
    const NUMBERS: &'static [(&'static str, &'static str)] = &[];
    /// The keys of [`Task::fields`] that a table of predictions gets as columns.
    const COLUMNS: &'static [&'static str];
    /// The beginning, the separator and the end of all plain predictions together, where they are
    /// one document; lines by default.
    const FRAME: Option<[&'static str; 3]> = None;

    /// A file of examples without answers, as a person may call it; lines by default.
    const INPUT: &'static str = "lines.txt";

    /// The settings in a recipe's `task` table.
    type Settings: Clone + Default;
    /// An example as a file holds it.
    type Example: Clone;
    /// The right answer for the ids of an example, or whatever its answer is found with.
    type Target: Clone;
    /// The model's answer for the ids of an example.
    type Answer: Clone;

    /// The model of a run with these settings that names none; [`Task::PRESET`] by default.
    fn preset(_settings: &Self::Settings) -> Preset {
        Self::PRESET
    }

    /// Reads the examples of one file, and refuses one that cannot be learnt from.
    ///
    /// # Errors
    /// A file that cannot be read; an example that lacks a part.
    fn read(
        settings: &Self::Settings,
        file: &Path,
        reading: &Reading,
    ) -> Result<Read<Self::Example>, TaskError>;

    /// Whether the examples of a file are no rows of a table, although [`Task::UNIT`] is a line; they
    /// are rows by default.
    fn has_no_rows(_settings: &Self::Settings, _file: &Path, _reading: &Reading) -> bool {
        false
    }

    /// The meaning of the answers, found in the examples of `files` to learn from, none of
    /// which is held out.
    ///
    /// # Errors
    /// If nothing can be learnt from these examples.
    fn learn(
        settings: &Self::Settings,
        examples: &[Self::Example],
        files: &str,
    ) -> Result<Self, TaskError>;

    /// The texts of an example that a tokeniser of the sources is trained on, and those that the
    /// model's own is, where the task has both; none by default, where one tokeniser reads all.
    fn apart<'a>(&self, _example: &'a Self::Example) -> Option<[Vec<&'a str>; 2]> {
        None
    }

    /// Takes the tokeniser of the sources, see [`Task::apart`]; nothing by default.
    fn read_sources_with(&mut self, _tokenizer: Tokenizer) {}

    /// Reads whatever else of the task is in its model folder; nothing by default.
    ///
    /// # Errors
    /// A file that is missing or cannot be used.
    fn open(&mut self, _folder: &Path) -> Result<(), TaskError> {
        Ok(())
    }

    /// Takes over what the folder of the base model says beside the model, such as its chat
    /// template; nothing by default.
    ///
    /// # Errors
    /// A file of the folder that cannot be used.
    fn begin_with(&mut self, _folder: &Path, _tokenizer: &Tokenizer) -> Result<(), TaskError> {
        Ok(())
    }

    /// Files of the model folder that the task adds, by their names; none by default.
    ///
    /// # Errors
    /// If the tokeniser cannot do the task.
    fn files(&self, _tokenizer: &Tokenizer) -> Result<Vec<(&'static str, Vec<u8>)>, TaskError> {
        Ok(Vec::new())
    }

    /// Checks an example that the model is measured on.
    ///
    /// # Errors
    /// If the model can never give its right answer.
    fn check(&self, example: &Self::Example, at: At<'_>) -> Result<(), TaskError>;

    /// Takes notice of the examples that are learnt from, none of which is held
    /// out; nothing by default.
    fn weigh(&mut self, _settings: &Self::Settings, _train: &[Self::Example]) {}

    /// A key of the right answer. The same share of the examples of each key is held out.
    fn stratum(_example: &Self::Example) -> &str {
        ""
    }

    /// A key that examples of one group share: a group is held out as a whole, or not at all. None by
    /// default, where each example is held out by itself.
    fn key(_example: &Self::Example) -> Option<Cow<'_, str>> {
        None
    }

    /// The right answer as text, for reports; [`Task::stratum`] by default.
    fn truth(example: &Self::Example) -> &str {
        Self::stratum(example)
    }

    /// The texts on which a tokeniser of whole words is trained.
    fn texts(example: &Self::Example) -> Vec<&str>;

    /// The texts on which any other tokeniser is trained; [`Task::texts`] by default.
    fn running_texts<'a>(&self, example: &'a Self::Example) -> Vec<Cow<'a, str>> {
        Self::texts(example).into_iter().map(Cow::Borrowed).collect()
    }

    /// The most tokens of a vocabulary of whole words or of characters where nobody says how many;
    /// each of them by default.
    fn vocabulary(&self, _kind: TokenizerKind, _examples: &[Self::Example]) -> Option<usize> {
        None
    }

    /// The names of the possible answers with their numbers among examples; empty where
    /// answers have no names.
    fn counts(&self, _examples: &[Self::Example]) -> Vec<(String, usize)> {
        Vec::new()
    }

    /// The number of first tokens of a text that are read, or the length of a window.
    fn longest(&self) -> usize;

    /// The special tokens that the tokeniser needs, see [`longhand_text::SpecialTokens`]; none by
    /// default. The tokeniser of a base model is not changed.
    fn special_tokens(&self) -> Vec<String> {
        Vec::new()
    }

    /// The head that answers. `own` is the first head of the model that the run begins with.
    fn head(&self, settings: &Self::Settings, own: Option<&HeadKind>) -> HeadKind;

    /// The configuration with what the task changes in the body, such as tables of
    /// features; nothing by default. `tokenizer` is the model's.
    fn body(&self, config: Config, _tokenizer: &Tokenizer) -> Config {
        config
    }

    /// Whether an encoder is to read the sources of the examples; it is not by default.
    fn reads_sources(&self) -> bool {
        false
    }

    /// How the texts of a table are read; as `reading` says by default.
    fn table(_settings: &Self::Settings, reading: &Reading) -> TableOptions {
        reading.table()
    }

    /// Why a model with this head cannot answer; none if it can.
    fn misfit(&self, head: &HeadKind) -> Option<String>;

    /// An example as ids: one sequence, or several windows, or none where there is nothing to read.
    /// The right answer may be unknown; the targets are then arbitrary but valid.
    ///
    /// # Errors
    /// If the tokeniser refuses a text.
    fn encode(
        &self,
        tokenizer: &Tokenizer,
        example: &Self::Example,
    ) -> Result<Encoded<Self::Target>, TaskError>;

    /// The texts of a sequence that a body can be pretrained on, see [`Task::encode`]. Sequences may
    /// share them; the whole sequence by default.
    fn documents(item: &LabelledIds<Self::Target>) -> Vec<&[u32]> {
        vec![&item.ids]
    }

    /// `[F, T·B]`: the features of a batch's tokens, for a model whose configuration has
    /// any; none by default.
    fn features(&self, _batch: &LabelledBatch<Self::Target>) -> Vec<u32> {
        Vec::new()
    }

    /// The characters of a batch's tokens, for a model that reads them; none by default.
    fn characters(&self, _batch: &LabelledBatch<Self::Target>) -> Option<CharacterRows> {
        None
    }

    /// The words of a batch, for a model that answers words of several tokens; none by default,
    /// where each token is a word.
    fn words(&self, _batch: &LabelledBatch<Self::Target>) -> Option<WordRows> {
        None
    }

    /// Whether the right answer of a sequence has tokens that are not learnt; it has none by default.
    fn is_target_cut(_target: &Self::Target) -> bool {
        false
    }

    /// The number of tokens that are read beside those of the sequence with this
    /// target; 0 by default.
    fn beside(_target: &Self::Target) -> usize {
        0
    }

    /// What an encoder reads of a batch, for a model that has one; none by default.
    fn source(&self, _batch: &LabelledBatch<Self::Target>) -> Option<SourceRows> {
        None
    }

    /// Hands a batch's right answers to `learn` in the form that the head takes.
    fn with_targets<R>(
        &self,
        batch: &LabelledBatch<Self::Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R;

    /// Hands a batch's right answers to `learn` in training, in parts of which each has a weight of
    /// its loss; one part of weight 1 by default.
    ///
    /// # Errors
    /// The error of `learn`.
    fn with_weighted_targets<E>(
        &self,
        batch: &LabelledBatch<Self::Target>,
        learn: &mut impl FnMut(Targets<'_>, f32) -> Result<(), E>,
    ) -> Result<(), E> {
        self.with_targets(batch, |targets| learn(targets, 1.0))
    }

    /// A target's bytes, for the hash by which a resumed run knows its data.
    fn target_bytes(target: &Self::Target) -> Vec<u8>;

    /// One answer for each sequence of a batch. `logits` are those of the first head: a row for
    /// each sequence where it pools, else row t·B + b for position t of sequence b, or for its word
    /// t where the batch has words. It is not asked of a task that writes.
    fn answers(
        &self,
        model: &Model,
        pass: &mut Pass<'_>,
        logits: &[f32],
        batch: &LabelledBatch<Self::Target>,
    ) -> Vec<Self::Answer>;

    /// What logits are divided by before they are probabilities, in answers and in the loss that is told
    /// beside them; 1 by default.
    fn temperature(&self) -> f32 {
        1.0
    }

    /// How answers are searched for; none by default, where they are not written.
    fn search(&self) -> Option<&SearchOptions> {
        None
    }

    /// The same, to be changed before answers are written.
    fn search_mut(&mut self) -> Option<&mut SearchOptions> {
        None
    }

    /// The names of the directions that the model writes in; none by default, where there is but
    /// one without a name.
    fn directions(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads examples in one of [`Task::directions`] alone, by its number.
    fn choose_direction(&mut self, _direction: usize) {}

    /// Lets every answer to an unknown example begin with a text that the example does not name; whether
    /// the task can, which none can by default.
    fn begin_answers(&mut self, _text: &str) -> bool {
        false
    }

    /// The tokens that each end a written answer; by default `</s>`, or the end of a document
    /// or of a line.
    ///
    /// # Errors
    /// [`TaskError::NoEnd`] for a tokeniser that has none of them.
    fn ends(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, TaskError> {
        Ok(vec![end(tokenizer)?])
    }

    /// What the search for the answer to a sequence begins with; nothing by default, where
    /// answers are not written.
    fn prompt<'a>(&self, _item: &'a LabelledIds<Self::Target>) -> Prompt<'a> {
        Prompt { source: None, prefix: &[], forced: &[] }
    }

    /// The most tokens of a written answer where nobody says how many; 1 by default.
    fn most_written(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    /// The answer to a sequence, of what a search found, the best first.
    ///
    /// # Errors
    /// If the tokeniser refuses an id, and by default, where answers are not written.
    fn written(
        &self,
        _tokenizer: &Tokenizer,
        _item: &LabelledIds<Self::Target>,
        _hypotheses: &[Hypothesis],
    ) -> Result<Self::Answer, TaskError> {
        Err(TaskError::NotWritten(Self::NAME))
    }

    /// Whether the example of some answers has tokens that were not read; of tasks that write alone.
    fn is_cut(&self, _answers: &[Self::Answer]) -> bool {
        false
    }

    /// The texts that were written for an example, the best first; none by default.
    fn ranked<'a>(&self, _answers: &'a [Self::Answer]) -> &'a [Ranked] {
        &[]
    }

    /// Every metric by its key. Intervals are drawn by measuring samples of the same examples. Of a
    /// task that writes, no example has an answer while the model is in training.
    fn measure(&self, scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64>;

    /// What [`Task::measure`] counts in each example, as places and counts, where every metric is one of
    /// their sums: samples of the examples are then measured without counting anew. None by default.
    fn tallies(&self, _scored: &[Scored<'_, Self>]) -> Option<Vec<Vec<(usize, u64)>>> {
        None
    }

    /// Every metric by its key, from the sums of [`Task::tallies`] by place; none by default.
    fn measure_tallies(&self, _sums: &[u64]) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Whether [`Task::calibrate`] is called after training; it is not by default.
    fn calibrates(_settings: &Self::Settings) -> Calibrates {
        Calibrates::Never
    }

    /// Sets whatever follows from the answers to the held-out examples after training, such as a
    /// threshold. `task.json` holds it. Gives figures by name, for people and programs.
    fn calibrate(
        &mut self,
        _settings: &Self::Settings,
        _held_out: &[Scored<'_, Self>],
    ) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// The same task with other ways to decide, of which the one with the best answers to the held-out
    /// examples is kept after training. It is asked of the best one again, with the next `step` from 0,
    /// until it gives none; it gives none by default. Needs [`Task::calibrates`].
    fn alternatives(&self, _settings: &Self::Settings, _step: usize) -> Vec<Self> {
        Vec::new()
    }

    /// Further metrics by their keys, which have no intervals, as they take too long to be measured
    /// on many samples; none by default.
    fn measure_once(&self, _scored: &[Scored<'_, Self>]) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Further results, measured once; nothing unless it is replaced.
    fn report(&self, _scored: &[Scored<'_, Self>]) -> Report {
        Report::default()
    }

    /// Whether an answer is right, where each example has one; none by default.
    fn is_right(&self, _scored: &Scored<'_, Self>) -> Option<bool> {
        None
    }

    /// How the examples to predict follow one another, where that differs from model to model.
    fn unit(&self) -> Unit {
        Self::UNIT
    }

    /// What a baseline reads of an example: [`Task::texts`], or of a tagger a text for each tag.
    fn plain_texts<'a>(&self, example: &'a Self::Example) -> Vec<Cow<'a, str>> {
        Self::texts(example).into_iter().map(Cow::Borrowed).collect()
    }

    /// What a baseline reads of an example that tells the tag of a word by its neighbours: each chain of
    /// words, and behind every word its cells in further columns, each with a tab before it. All chains
    /// together have a text for each of [`Task::plain_texts`], in the same order; those are one chain by default.
    fn plain_chains<'a>(&self, example: &'a Self::Example) -> Vec<Vec<Cow<'a, str>>> {
        vec![self.plain_texts(example)]
    }

    /// The right answer of an example for a baseline; none where there is nothing to read, and by
    /// default, where no baseline does the task.
    ///
    /// # Errors
    /// If the answer is none of the task's.
    fn plain_target(&self, _example: &Self::Example) -> Result<Option<Self::Target>, TaskError> {
        Ok(None)
    }

    /// The answer by the logits of a baseline: `[K]` of the classes or labels, or of a tagger `[n, K]`
    /// for n texts; none by default, where no baseline does the task.
    fn plain_answer(&self, _logits: &[f32]) -> Option<Self::Answer> {
        None
    }

    /// The answer that is this text, written by a baseline; none by default, where no baseline
    /// writes the task's answers.
    fn plain_text(&self, _text: &str) -> Option<Self::Answer> {
        None
    }

    /// The parts of an example's answer that are explained, each with the target whose probability the
    /// explanation is of. `items` and `answers` are those of its sequences.
    fn explained(
        &self,
        example: &Self::Example,
        items: &[LabelledIds<Self::Target>],
        answers: &[Self::Answer],
    ) -> Vec<Explained<Self::Target>>;

    /// As [`Task::with_targets`], with a target of [`Task::explained`] for each sequence.
    fn with_explained<R>(
        &self,
        batch: &LabelledBatch<Self::Target>,
        learn: impl FnOnce(Targets<'_>) -> R,
    ) -> R {
        self.with_targets(batch, learn)
    }

    /// The examples to predict in one unit of text ([`Task::unit`]), their answers unknown.
    ///
    /// # Errors
    /// A text of another form.
    fn parse(&self, text: &str, at: At<'_>) -> Result<Vec<Self::Example>, TaskError>;

    /// A prediction as plain text, without a line break at its end. `answers` is empty where there
    /// was nothing to read.
    fn plain(&self, example: &Self::Example, answers: &[Self::Answer]) -> String;

    /// A prediction's named values, in the same form for every example. `answers`
    /// is as for [`Task::plain`].
    fn fields(&self, example: &Self::Example, answers: &[Self::Answer]) -> Map<String, Value>;
}

/// A text that a search wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The text.
    pub text: String,
    /// By which texts are ranked: higher is better.
    pub score: f64,
    /// The natural logarithm of the text's probability.
    pub log_probability: f64,
    /// The number of its tokens, the end included.
    pub tokens: usize,
    /// Whether the model ended it, rather than the longest length.
    pub is_finished: bool,
    /// Whether it matches the rules; none without rules.
    pub matches: Option<bool>,
}

/// A part of an answer: an entity, or a tag of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The type of the entity, or the tag.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its first word, counted from 0 in the example.
    pub first: usize,
    /// Its last word, counted in the same way.
    pub last: usize,
    /// Its words, with spaces between them where the text has some.
    pub text: String,
    /// The word of the predicate whose role it has, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicate: Option<usize>,
}

/// A part of an answer that is to be explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained<L> {
    /// The sequence of the example that it is an answer to.
    pub item: usize,
    /// The target of that sequence whose probability is explained.
    pub target: L,
    /// The name of the part; none for the whole answer.
    pub part: Option<Part>,
}

impl<L> Explained<L> {
    /// The whole answer to an example's first sequence.
    pub(crate) fn whole(target: L) -> Self {
        Self { item: 0, target, part: None }
    }
}

/// How the examples to predict follow one another in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Each line is an example, an empty one too.
    Line,
    /// Lines up to an empty one are an example.
    Block,
    /// The whole text has to be read first.
    Whole,
}

/// Whether something is set after training, on the answers to held-out examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibrates {
    /// Nothing is set.
    Never,
    /// It is set if examples are held out, and otherwise has a default.
    IfHeldOut,
    /// It is set, and a run without held-out examples is refused.
    Always,
}

/// The place of an example, for messages.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// The example, or the first line of a unit, counted from 1.
    pub example: usize,
}

/// How the files of a task are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The column of the text, by name or by number from 0.
    pub text_column: Option<String>,
    /// The format of files whose names do not tell it (default: the task's own).
    pub format: Option<TableFormat>,
    /// Whether the first row of a table names the columns (default: found out from the row).
    pub header: Header,
    /// The file of the targets of a file of sources, line by line (default: none).
    pub targets: BTreeMap<PathBuf, PathBuf>,
    /// Whether invalid UTF-8 is replaced instead of refused (default: false).
    pub lossy: bool,
    /// Whether the file is learnt from: of a treebank, phrases may then be examples
    /// beside sentences, and most labels must come again (default: false).
    pub to_learn: bool,
    /// Whether right answers are left out, as for examples to predict; an example may then have
    /// nothing to read (default: false).
    pub unlabelled: bool,
}

impl Reading {
    /// How a table's texts are read.
    pub fn table(&self) -> TableOptions {
        // Parsing a column cannot fail: a text that is no number is a name.
        let text = self.text_column.as_ref().and_then(|name| name.parse().ok());
        let Self { format, header, lossy, unlabelled, to_learn, .. } = *self;
        let labels_repeat = to_learn;
        TableOptions {
            text,
            format,
            header,
            lossy,
            unlabelled,
            labels_repeat,
            ..TableOptions::default()
        }
    }
}

/// The examples of a file.
#[derive(Clone, Debug)]
pub struct Read<E> {
    /// The examples, at least one.
    pub examples: Vec<E>,
    /// Repairs, each with the number of times it was made: "label(s) lost the white space".
    pub notes: BTreeMap<String, usize>,
}

/// An example as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded<L> {
    /// The sequences, in the order of the text.
    pub items: Vec<LabelledIds<L>>,
    /// Whether the example has tokens that no sequence holds.
    pub is_cut: bool,
}

/// An example with the model's answers to its sequences.
pub struct Scored<'a, T: Task> {
    /// The example as its file holds it.
    pub example: &'a T::Example,
    /// Its sequences, in the order of the text.
    pub items: &'a [LabelledIds<T::Target>],
    /// An answer for each sequence; none where they are still to be written.
    pub answers: &'a [T::Answer],
}

// Derived, they would ask the same of the task.
impl<T: Task> Clone for Scored<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Task> Copy for Scored<'_, T> {}

/// Results beside the metrics.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Counts of answers by true answer, with the names of both.
    pub confusion: Option<(Vec<String>, Confusion)>,
    /// The scores of each label, or of each type of entity.
    pub classes: Vec<(String, ClassScore)>,
    /// Whatever else a program is told, by key.
    pub json: Map<String, Value>,
    /// Whatever else a person is told; may be empty.
    pub text: String,
}
