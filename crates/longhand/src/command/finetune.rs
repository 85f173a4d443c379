//! `longhand finetune`: a task learnt from labelled examples.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::Result;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use longhand::recipe::{Recipe, Vectors};
use longhand_run::{Folds, PretrainingObjective, Rounds, Training};
use longhand_tasks::{Classify, MultiLabel, Task, TaskError, TaskSettings};
use longhand_text::TokenizerKind;
use longhand_text::corpus::Header;
use longhand_train::settings::{AdamWSettings, OptimizerSettings};
use longhand_train::{Adversarial, Budget, Settings as TrainSettings};
use serde_json::{Value, json};

use super::baseline::{self, BaselineFlags, Others};
use super::copying::{CopyFlags, has_encoder};
use super::flags::{
    BudgetFlags, DataFlags, ModelFlags, NGRAM, OutputFlags, PretrainingFlags, TrainingFlags,
    TuningFlags, begin_with, check, first, nothing_to_resume, set,
};
use super::rehearsal::RehearsalFlags;
use super::self_training::SelfTrainingFlags;
use super::writing::WritingFlags;
use crate::error::Usage;
use crate::launch::Launch;
use crate::reading::{absolute, recipe_folder};

/// Learns a task from labelled examples: with a model that was trained before, or from nothing.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand data sample --table sentiment --out train.tsv\n  \
                        longhand finetune --task classify --data train.tsv\n  longhand \
                        predict classifier < lines.txt\n\nTables are .tsv, .csv, .jsonl or .parquet; \
                        a file of any other name holds `LABEL text` or fastText's \
                        `__label__LABEL text` lines, if --format says nothing else. Tags are learnt from \
                        CoNLL columns, spans from SQuAD's JSON, translations from two files of as \
                        many lines:\n  longhand finetune --task translate --data train.de --targets \
                        train.en --out translator\nAnswers are learnt from stories in the form of \
                        bAbI too; dialogues (--task chat) are lines of JSON with `messages`, or \
                        DailyDialog's.")]
pub(crate) struct Arguments {
    /// The model folder to begin with; from nothing where not given
    #[arg(value_name = "MODEL", conflicts_with_all = ["preset", "tokenizer", "vocab",
          "width", "vectors"])]
    base: Option<PathBuf>,
    /// A recipe (TOML), whose data is looked for under LONGHAND_DATA; flags win over it
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    recipe: Option<PathBuf>,
    /// What to learn [default: the recipe's]
    #[arg(long, help_heading = "Data")]
    task: Option<TaskName>,
    /// Any setting of the task, or as baseline.KEY of the baseline, as a recipe writes it; may
    /// be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Data")]
    set: Vec<String>,
    /// The file of examples to learn from; may be given several times
    #[arg(long = "data", value_name = "FILE", help_heading = "Data")]
    train: Vec<PathBuf>,
    #[command(flatten)]
    data: DataFlags,
    /// The column of the label, by name or by number from 0, for tags also from -1 on the right
    /// [default: label; for tags -1]
    #[arg(long, value_name = "COLUMN", help_heading = "Data", allow_hyphen_values = true)]
    label_column: Option<String>,
    /// Learn any number of labels for each text: fastText's `__label__A __label__B text`, a list in
    /// JSON, or a cell of labels with separators
    #[arg(long, help_heading = "Data")]
    multi_label: bool,
    /// The text between the labels of a cell [default: a comma]. A label that contains it is written in
    /// quotes, with quotes within it doubled, or the cell is a JSON list: ["a, b", "c"]
    #[arg(long, value_name = "TEXT", help_heading = "Data")]
    label_separator: Option<String>,
    /// The column of a second text: a pair of texts has a label, or several. The model also reads
    /// how the words of both match (--set matches=false: it does not)
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    pair_column: Option<String>,
    /// Labels are numbers, such as ratings: tell the mean absolute error and the
    /// quadratic weighted kappa too
    #[arg(long, help_heading = "Data")]
    ordered: bool,
    /// As --ordered, and learn the order: a probability that is wrong by more costs more
    #[arg(long, help_heading = "Data")]
    ordinal: bool,
    /// The nodes of a treebank to learn from: sentences or phrases [default: sentences]
    #[arg(long, value_name = "WHICH", help_heading = "Data")]
    nodes: Option<String>,
    /// How the ratings of a treebank become labels: fine, or binary without the
    /// neutral ones [default: fine]
    #[arg(long, value_name = "HOW", help_heading = "Data")]
    ratings: Option<String>,
    /// The column of the words to tag [default: 0]
    #[arg(long, value_name = "COLUMN", help_heading = "Data", allow_hyphen_values = true)]
    word_column: Option<String>,
    /// A further column that a tagger reads; may be given several times
    #[arg(long, value_name = "COLUMN", help_heading = "Data", allow_hyphen_values = true)]
    feature_column: Vec<String>,
    /// Whether a tagger reads the sentences of a document together [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          help_heading = "Data")]
    document: Option<bool>,
    /// The scheme of the tags that the model learns: iob1, iob2, bioes or raw [default: the data's]
    #[arg(long, value_name = "SCHEME", help_heading = "Data")]
    scheme: Option<String>,
    /// Whether the first row of a .csv, .tsv or .txt table names the columns: auto, yes
    /// or no [default: auto]
    #[arg(long, value_name = "WHICH", help_heading = "Data")]
    header: Option<Header>,
    /// Count each text once: drop repeats from the data, and texts of the data from --valid and --test
    #[arg(long, help_heading = "Data")]
    distinct: bool,
    /// Learn from K examples of each label, drawn by the seed; the held-out part stays whole
    #[arg(long, value_name = "K", help_heading = "Data")]
    shots: Option<NonZeroUsize>,
    /// Cross-validation: K runs, each tested on another fold of the examples, into the folders
    /// fold-01, fold-02 … of --out
    #[arg(long, value_name = "K", help_heading = "Data", conflicts_with = "test")]
    folds: Option<NonZeroUsize>,
    #[command(flatten)]
    writing: WritingFlags,
    #[command(flatten)]
    copying: CopyFlags,
    #[command(flatten)]
    model: ModelFlags,
    /// Word vectors that the embedding begins with, as word2vec, fastText and GloVe write them in
    /// text (.vec or .txt, also .gz or .zst): a word and its numbers a line
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    vectors: Option<PathBuf>,
    /// How the positions of a text become one vector [default: the preset's, or max]
    #[arg(long, help_heading = "Model")]
    pooling: Option<PoolingName>,
    /// Whether a CRF scores neighbouring tags [default: the preset's, or true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          help_heading = "Model")]
    crf: Option<bool>,
    /// Read the characters of each word of a tagger, or of each token of a classifier, beside its own
    /// vector; --set characters='{"type": "lstm", "hidden": 50}' says more [default: none]
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "convolution",
          help_heading = "Model")]
    characters: Option<CharactersName>,
    /// Networks that learn the task, each with a seed of its own, and answer together by the mean
    /// of their logits: N times the time to train and to answer, and N times the memory. The
    /// further ones are in the folders member-02, member-03 … of --out; with them as MODEL a run
    /// begins with the first [default: 1]
    #[arg(long, value_name = "N", help_heading = "Model")]
    members: Option<NonZeroUsize>,
    #[command(flatten)]
    pretraining: PretrainingFlags,
    #[command(flatten)]
    self_training: SelfTrainingFlags,
    #[command(flatten)]
    baseline: BaselineFlags,
    #[command(flatten)]
    tuning: TuningFlags,
    #[command(flatten)]
    rehearsal: RehearsalFlags,
    #[command(flatten)]
    budget: BudgetFlags,
    #[command(flatten)]
    training: TrainingFlags,
    /// Share of each right answer's probability that is spread over all answers,
    /// below 1 [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    label_smoothing: Option<f32>,
    /// Adversarial training: read each batch again with its token vectors moved by a perturbation of
    /// this length, in their standard deviations, that raises the loss most; try 1 to 5
    #[arg(long, value_name = "EPS", allow_negative_numbers = true, help_heading = "Training")]
    adversarial: Option<f32>,
    /// Decay of the average of the weights, which is evaluated and kept in their place, at least 0 and
    /// below 1; 0 for none [default: 0, with --unlabelled 0.99, where the average labels the texts]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true, help_heading = "Training")]
    average: Option<f64>,
    /// Weights of labels in the loss: balanced, or NAME=WEIGHT, which may be given several times; with
    /// --multi-label they count where a text has the label
    #[arg(long, value_name = "WEIGHTS", help_heading = "Training")]
    class_weights: Vec<String>,
    /// Fit a temperature on the held-out part after training, so that probabilities are as often
    /// right as they say
    #[arg(long, help_heading = "Training")]
    calibrate: bool,
    /// The folder to write the model into
    #[arg(long, value_name = "DIR", default_value = "classifier", help_heading = "Output")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
}

/// The setting of --separate-vocabularies.
const SEPARATE: &str = "separate_vocabularies";

/// A place in the list of tasks.
#[derive(Clone, Copy)]
struct TaskName(&'static (&'static str, &'static str));

/// What reads the characters of a word.
#[derive(Clone, Copy, ValueEnum)]
enum CharactersName {
    /// Filters over neighbouring characters, and the largest value of each
    #[value(alias = "true")]
    Convolution,
    /// The last states of an LSTM in each direction
    Lstm,
    /// Nothing does
    #[value(alias = "false")]
    None,
}

/// How positions become one vector.
#[derive(Clone, Copy, ValueEnum)]
enum PoolingName {
    /// The vector of the last position
    Last,
    /// The mean of the positions
    Mean,
    /// The largest value of each unit
    Max,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = self.recipe()?;
        let existing = self.output.existing();
        Launch { out: self.out, existing, json: self.output.json }.run(recipe)
    }

    /// What is to be run.
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = match (&self.recipe, self.earlier()?) {
            (Some(path), _) => Recipe::load(path, &recipe_folder()?)?,
            (None, Some(earlier)) => earlier,
            (None, None) if self.output.resume && self.train.is_empty() => {
                return Err(nothing_to_resume(&self.out).into());
            }
            (None, None) => first_recipe(self.base.is_some()),
        };
        let begins = self.recipe.is_none() && recipe.task.is_none();
        let task = self.task(recipe.task.take())?;
        if begins {
            let pretraining = self.pretraining.objective();
            let preset = pretraining.map(PretrainingObjective::preset);
            recipe.model.preset = preset.unwrap_or_else(|| task.preset()).to_string();
            recipe.tokenizer.kind = task.tokenizer();
        }
        recipe.task = Some(task);
        if !self.train.is_empty() {
            recipe.data.learn_from(self.train.iter().map(absolute).collect::<Result<_>>()?);
        }
        if recipe.data.train.is_empty() {
            return Err(Usage("there is nothing to learn from: pass --data".into()).into());
        }
        self.data.apply(&mut recipe.data)?;
        self.writing.apply(&mut recipe.data, &self.train)?;
        if let Some(task) = recipe.task.as_ref().filter(|task| !task.writes()) {
            self.writing.refuse_share(task.name())?;
        }
        set(&mut recipe.data.header, self.header);
        recipe.data.distinct |= self.distinct;
        recipe.data.shots = self.shots.or(recipe.data.shots);
        recipe.data.folds = self.folds.or(recipe.data.folds);
        recipe.members = self.members.or(recipe.members);
        if self.folds.is_some_and(|folds| folds.get() < 2) {
            return Err(Usage("--folds is 1, but must be at least 2".into()).into());
        }
        if self.recipe.is_some() {
            recipe.data.verify()?;
        }
        if self.baseline.apply(&mut recipe, &self.others())? {
            self.training.apply_plain(&mut recipe.training);
            self.self_training.apply(&mut recipe)?;
            return Ok(recipe);
        }
        if let Some(folder) = &self.base {
            begin_with(folder, &mut recipe)?;
        }
        self.model.apply(&mut recipe)?;
        if begins && !self.settings()?.iter().any(|(key, _)| key == "form") {
            form_of_model(&mut recipe);
        }
        if let Some(task) = &recipe.task {
            self.check_vocabularies(task)?;
        }
        self.copying.apply(&mut recipe)?;
        if let Some(path) = &self.vectors {
            let vectors = Vectors { path: absolute(path)?, sha256: String::new() };
            recipe.model.vectors = Some(vectors);
        }
        if recipe.ngram.is_some() {
            let text = format!("--preset {NGRAM} is for `longhand train`: choose a network");
            return Err(Usage(text).into());
        }
        self.pretraining.apply(&mut recipe)?;
        self.tuning.apply(&mut recipe.tuning)?;
        self.rehearsal.apply(&mut recipe)?;
        self.budget.apply(&mut recipe.training);
        self.training.apply(&mut recipe.training);
        set(&mut recipe.training.label_smoothing, self.label_smoothing);
        self.self_training.apply(&mut recipe)?;
        // Self-training averages by itself where nobody says how.
        set(&mut recipe.training.average, self.average);
        if let Some(epsilon) = self.adversarial {
            let weight = recipe.training.adversarial.map_or(1.0, |settings| settings.weight);
            recipe.training.adversarial = Some(Adversarial { epsilon, weight });
        }
        check(&recipe.training)?;
        Ok(recipe)
    }

    /// The recipe of the run, or of the folds or rounds, to resume.
    fn earlier(&self) -> Result<Option<Recipe>> {
        if !self.output.resume {
            return Ok(None);
        }
        Ok(match Training::begun(&self.out)? {
            Some(recipe) => Some(recipe),
            None => match Folds::begun(&self.out)? {
                Some(recipe) => Some(recipe),
                None => Rounds::begun(&self.out)?,
            },
        })
    }

    /// The flags besides its own that matter to a baseline.
    fn others(&self) -> Others<'_> {
        let base = self.base.as_ref().map(|_| "MODEL");
        let preset = self.model.names_preset().then_some("--preset");
        let own = [
            ("--vectors", self.vectors.is_some()),
            ("--pooling", self.pooling.is_some()),
            ("--crf", self.crf.is_some()),
            ("--characters", self.characters.is_some()),
            ("--members", self.members.is_some()),
            ("--label-smoothing", self.label_smoothing.is_some()),
            ("--adversarial", self.adversarial.is_some()),
            ("--average", self.average.is_some()),
        ];
        let writing = self.writing.given().or(self.copying.given());
        let of_network = self.model.given().or(self.tuning.given()).or(self.budget.given());
        Others {
            of_base: base.or(preset),
            of_network: of_network
                .or(self.training.given())
                .or(self.pretraining.given())
                .or(self.rehearsal.given())
                .or(first(&own))
                .or(writing),
            epochs: self.budget.epochs(),
            learning_rate: self.training.learning_rate(),
            set: &self.set,
        }
    }

    /// The task with its settings: those of `earlier` count unless a flag says otherwise.
    fn task(&self, earlier: Option<TaskSettings>) -> Result<TaskSettings, Usage> {
        let named = self.task.map(|TaskName((name, _))| *name);
        let named = match (self.multi_label, named) {
            (false, named) => named,
            (true, None | Some(Classify::NAME | MultiLabel::NAME)) => Some(MultiLabel::NAME),
            (true, Some(name)) => {
                return Err(Usage(format!("--multi-label is for the task classify, not {name}")));
            }
        };
        let named = named.and_then(TaskSettings::named);
        let mut task = match (earlier, named) {
            (Some(earlier), Some(named)) if earlier.name() != named.name() => named,
            (Some(earlier), _) => earlier,
            (None, Some(named)) => named,
            (None, None) => return Err(Usage("say what to learn: pass --task classify".into())),
        };
        for (key, value) in self.settings()? {
            let (name, set) = (task.name(), task.set(&key, value));
            set.map_err(|error| match (&*key, error) {
                (SEPARATE, _) => Usage(format!(
                    "--separate-vocabularies is for tasks that write with an encoder (--task translate \
                     --form encoder-decoder), not for {name}: leave it out"
                )),
                (_, TaskError::NoSetting { known, .. }) => Usage(format!(
                    "{} is not for the task {name}, whose settings are {known}: leave it out",
                    self.flag_of(&key)
                )),
                (_, error) => Usage(error.to_string()),
            })?;
        }
        Ok(task)
    }

    /// Refuses two vocabularies where one stream is read and written.
    fn check_vocabularies(&self, task: &TaskSettings) -> Result<(), Usage> {
        let settings = serde_json::to_value(task).unwrap_or_default();
        let has_encoder = settings["form"] == "encoder-decoder";
        match self.base.is_none() && settings[SEPARATE] == true && !has_encoder {
            true => Err(Usage(
                "--separate-vocabularies is true, but one stream has one vocabulary: pass --form \
                 encoder-decoder or a --preset with an encoder, or leave it out"
                    .into(),
            )),
            false => Ok(()),
        }
    }

    /// The flag that names a setting of the task, as it was typed.
    fn flag_of(&self, key: &str) -> String {
        let of_set = |setting: &&String| setting.split_once('=').is_some_and(|(own, _)| own == key);
        match (self.set.iter().find(of_set), key) {
            (Some(setting), _) => format!("--set {setting}"),
            (None, "feature_columns") => "--feature-column".into(),
            (None, key) => format!("--{}", key.replace('_', "-")),
        }
    }

    /// The settings of the task that flags name.
    fn settings(&self) -> Result<Vec<(String, Value)>, Usage> {
        let mut settings = Vec::new();
        let mut add = |key: &str, value: Option<Value>| {
            settings.extend(value.map(|value| (key.to_owned(), value)));
        };
        add("label_column", self.label_column.clone().map(Value::from));
        add("label_separator", self.label_separator.clone().map(Value::from));
        add("pair_column", self.pair_column.clone().map(Value::from));
        add("ordered", self.ordered.then_some(true.into()));
        add("ordinal", self.ordinal.then_some(true.into()));
        add("calibrate", self.calibrate.then_some(true.into()));
        add("class_weights", class_weights(&self.class_weights)?);
        add("nodes", self.nodes.clone().map(Value::from));
        add("ratings", self.ratings.clone().map(Value::from));
        add("word_column", self.word_column.clone().map(Value::from));
        let features = Some(&self.feature_column).filter(|columns| !columns.is_empty());
        add("feature_columns", features.map(|columns| columns.as_slice().into()));
        add("scheme", self.scheme.clone().map(Value::from));
        add("document", self.document.map(Value::from));
        add("crf", self.crf.map(Value::from));
        add("characters", self.characters.map(CharactersName::settings));
        self.writing.settings().into_iter().for_each(|(key, value)| add(key, Some(value)));
        add("pooling", self.pooling.map(|pooling| pooling.name().into()));
        for setting in self.set.iter().filter(|text| baseline::setting(text).is_none()) {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(Usage(format!("--set {setting} is not of the form KEY=VALUE")));
            };
            // A value that is not JSON is a text.
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            add(key, Some(value));
        }
        Ok(settings)
    }
}

/// Where nobody names a form, sources are read by the encoder of a model that has one: it needs them.
fn form_of_model(recipe: &mut Recipe) {
    let Some(task) = recipe.task.as_mut().filter(|task| task.writes()) else { return };
    if has_encoder(&recipe.model) {
        // A chat has one form alone: the run says why such a model is none for it.
        let _ = task.set("form", "encoder-decoder".into());
    }
}

/// The weights of labels as a recipe writes them; none where no flag names any.
fn class_weights(flags: &[String]) -> Result<Option<Value>, Usage> {
    if let [rule] = flags
        && rule == "balanced"
    {
        return Ok(Some(rule.as_str().into()));
    }
    let weight = |flag: &String| -> Result<(String, Value), Usage> {
        let pair = flag.rsplit_once('=').and_then(|(name, weight)| {
            let weight: f64 = weight.parse().ok()?;
            Some((name.to_owned(), weight.into()))
        });
        let text = || Usage(format!("--class-weights {flag} is neither balanced nor NAME=WEIGHT"));
        pair.ok_or_else(text)
    };
    let weights = flags.iter().map(weight).collect::<Result<serde_json::Map<_, _>, _>>()?;
    Ok((!weights.is_empty()).then(|| weights.into()))
}

/// What is done where neither a recipe nor a flag says otherwise.
fn first_recipe(trained: bool) -> Recipe {
    let mut recipe = Recipe::default();
    recipe.tokenizer.kind = TokenizerKind::Word;
    recipe.tokenizer.may_change = true;
    // What was learnt before is to be changed gently.
    let learning_rate = if trained { 5e-4 } else { 2e-3 };
    recipe.training = TrainSettings {
        budget: Budget::Epochs(10.0),
        optimizer: OptimizerSettings::AdamW(AdamWSettings {
            learning_rate,
            weight_decay: 0.01,
            ..AdamWSettings::default()
        }),
        evaluations: 10,
        patience: Some(4),
        ..TrainSettings::for_examples()
    };
    recipe
}

impl ValueEnum for TaskName {
    fn value_variants<'a>() -> &'a [Self] {
        static NAMES: LazyLock<Vec<TaskName>> =
            LazyLock::new(|| TaskSettings::ALL.iter().map(TaskName).collect());
        &NAMES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, about) = self.0;
        Some(PossibleValue::new(*name).help(*about))
    }
}

impl CharactersName {
    /// As a recipe writes it, with the default sizes.
    fn settings(self) -> Value {
        match self {
            Self::Convolution => json!({ "type": "convolution" }),
            Self::Lstm => json!({ "type": "lstm" }),
            Self::None => Value::Null,
        }
    }
}

impl PoolingName {
    /// As a recipe writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Mean => "mean",
            Self::Max => "max",
        }
    }
}
