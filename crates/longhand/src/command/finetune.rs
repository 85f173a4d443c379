//! `longhand finetune`: a task learnt from labelled examples.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use longhand::recipe::{BaseModel, ModelSettings, Recipe};
use longhand_model::Preset;
use longhand_model::config::Pooling;
use longhand_run::{Existing, Training};
use longhand_tasks::Task;
use longhand_tasks::classify::Settings;
use longhand_text::corpus::Header;
use longhand_text::{TableFormat, TokenizerKind};
use longhand_train::settings::{AdamWSettings, OptimizerSettings};
use longhand_train::{Budget, PrecisionSetting, Settings as TrainSettings};

use crate::error::Usage;
use crate::launch::Launch;
use crate::reading::{Threads, absolute, keep_tokenizer, recipe_folder};

/// Learns a task from labelled examples: with a model that was trained before, or from nothing.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand data sample --table sentiment --out train.tsv\n  \
                        longhand finetune --task classify --data train.tsv\n  longhand \
                        predict classifier < lines.txt\n\nTables are .tsv, .csv, .jsonl or .parquet; \
                        a file of any other name holds `LABEL text` lines.")]
pub(crate) struct Arguments {
    /// The model folder to begin with; from nothing where not given
    #[arg(value_name = "MODEL", conflicts_with_all = ["preset", "tokenizer", "vocab"])]
    model: Option<PathBuf>,
    /// The preset of a model that begins from nothing [default: stacked-lstm-classifier]
    #[arg(long)]
    preset: Option<Preset>,
    /// A recipe; flags go before what it says
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// What to learn [default: the recipe's]
    #[arg(long)]
    task: Option<TaskName>,
    /// The table of examples to learn from
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// A table to validate on, instead of a tenth of the examples
    #[arg(long, value_name = "FILE")]
    valid: Vec<PathBuf>,
    /// The share of the examples to hold out to validate on [default: 0.1]
    #[arg(long, value_name = "X", conflicts_with = "valid")]
    valid_fraction: Option<f64>,
    /// A table to test on at the end
    #[arg(long, value_name = "FILE")]
    test: Vec<PathBuf>,
    /// The column of the text, by name or by number from 0 [default: text]
    #[arg(long, value_name = "COLUMN")]
    text_column: Option<String>,
    /// The column of the label, by name or by number from 0 [default: label]
    #[arg(long, value_name = "COLUMN")]
    label_column: Option<String>,
    /// The tables that the files are, where their names do not tell: jsonl, csv, tsv, parquet or
    /// labelled [default: labelled, `LABEL text` lines]
    #[arg(long, value_name = "FORMAT")]
    format: Option<TableFormat>,
    /// Whether the first row of a .csv, .tsv or .txt table names the columns: auto, yes or no
    /// [default: auto]
    #[arg(long, value_name = "WHICH")]
    header: Option<Header>,
    /// How the positions of a text become one vector [default: the preset's, or max]
    #[arg(long)]
    pooling: Option<PoolingName>,
    /// How text becomes tokens [default: word, or char for a text without spaces between words]
    #[arg(long)]
    tokenizer: Option<TokenizerKind>,
    /// The most tokens; rarer ones become <unk> or are cut in pieces
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Passes over the examples [default: 10]
    #[arg(long, value_name = "E", group = "budget")]
    epochs: Option<f64>,
    /// Minutes of training
    #[arg(long, value_name = "M", group = "budget")]
    minutes: Option<f64>,
    /// Steps of training
    #[arg(long, value_name = "N", group = "budget")]
    steps: Option<u64>,
    /// The operands of matrix products: f32, bf16, or auto for the faster one; sums are f32
    /// [default: auto]
    #[arg(long, value_name = "P")]
    precision: Option<PrecisionSetting>,
    /// Seed of the weights, the order of the examples and what is held out [default: 1]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    threads: Threads,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
    /// The folder to write the model into
    #[arg(long, value_name = "DIR", default_value = "classifier")]
    out: PathBuf,
    /// Go on with the run in the folder, as it was begun but for what flags say
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Overwrite the folder
    #[arg(long)]
    force: bool,
    /// One JSON object a line on stdout
    #[arg(long)]
    json: bool,
}

/// A task's name.
#[derive(Clone, Copy, ValueEnum)]
enum TaskName {
    /// One label for each text
    Classify,
}

/// How positions become one vector.
#[derive(Clone, Copy, ValueEnum)]
enum PoolingName {
    /// The last position
    Last,
    /// The mean of the positions
    Mean,
    /// The largest value of each unit
    Max,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let earlier = if self.resume { Training::begun(&self.out)? } else { None };
        let mut recipe = match (&self.recipe, earlier) {
            (Some(path), _) => Recipe::load(path, &recipe_folder()?)?,
            (None, Some(earlier)) => earlier,
            (None, None) => first_recipe(self.model.is_some()),
        };
        let mut task = match (recipe.task.take(), self.task) {
            (Some(Task::Classify(task)), _) => task,
            (None, Some(TaskName::Classify)) => Settings::default(),
            (None, None) => {
                return Err(Usage("say what to learn: pass --task classify".into()).into());
            }
        };
        task.label_column = self.label_column.clone().or(task.label_column);
        task.pooling = self.pooling.map(Into::into).or(task.pooling);
        recipe.task = Some(Task::Classify(task));
        self.override_data(&mut recipe)?;
        if self.recipe.is_some() {
            recipe.data.verify()?;
        }
        self.override_training(&mut recipe)?;
        let existing = match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        };
        let launch = Launch { out: self.out, existing, json: self.json };
        launch.run(recipe)
    }

    fn override_data(&self, recipe: &mut Recipe) -> Result<()> {
        let data = &mut recipe.data;
        if !self.data.is_empty() {
            data.learn_from(self.data.iter().map(absolute).collect::<Result<_>>()?);
        }
        for (given, slot) in [(&self.valid, &mut data.valid), (&self.test, &mut data.test)] {
            if !given.is_empty() {
                *slot = given.iter().map(absolute).collect::<Result<_>>()?;
            }
        }
        if data.train.is_empty() {
            return Err(Usage("there is nothing to learn from: pass --data".into()).into());
        }
        if let Some(fraction) = self.valid_fraction {
            data.valid.clear();
            data.valid_fraction = fraction;
        }
        if !(0.0..1.0).contains(&data.valid_fraction) {
            let text = "--valid-fraction must be at least 0 and less than 1";
            return Err(Usage(text.into()).into());
        }
        data.lossy |= self.lossy;
        data.format = self.format.or(data.format);
        set(&mut data.header, self.header);
        data.text_column = self.text_column.clone().or(data.text_column.take());
        Ok(())
    }

    fn override_training(&self, recipe: &mut Recipe) -> Result<()> {
        if let Some(folder) = &self.model {
            let base = BaseModel { path: absolute(folder)?, hash: String::new() };
            recipe.model = ModelSettings { base: Some(base), ..ModelSettings::default() };
        }
        if let Some(preset) = self.preset {
            recipe.model = ModelSettings { preset: preset.to_string(), ..ModelSettings::default() };
        }
        keep_tokenizer(recipe, self.tokenizer.is_some() || self.vocab.is_some())?;
        if let Some(kind) = self.tokenizer {
            recipe.tokenizer.kind = kind;
            recipe.tokenizer.may_change = false;
        }
        recipe.tokenizer.vocabulary = self.vocab.or(recipe.tokenizer.vocabulary);
        let training = &mut recipe.training;
        set(&mut training.budget, self.epochs.map(Budget::Epochs));
        set(&mut training.budget, self.minutes.map(Budget::Minutes));
        set(&mut training.budget, self.steps.map(Budget::Steps));
        set(&mut training.precision, self.precision);
        set(&mut training.seed, self.seed);
        set(&mut training.threads, self.threads.given());
        Ok(training.check().map_err(|error| Usage(error.to_string()))?)
    }
}

/// What is done where neither a recipe nor a flag says otherwise.
fn first_recipe(trained: bool) -> Recipe {
    let mut recipe = Recipe::default();
    recipe.model.preset = Preset::StackedLstmClassifier.to_string();
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

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::Last => Self::Last,
            PoolingName::Mean => Self::Mean,
            PoolingName::Max => Self::Max,
        }
    }
}
