//! `longhand finetune`: a task learnt from labelled examples.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use longhand::recipe::{BaseModel, ModelSettings, Recipe};
use longhand_model::Preset;
use longhand_model::config::Pooling;
use longhand_run::Training;
use longhand_tasks::Task;
use longhand_tasks::classify::Settings;
use longhand_text::TokenizerKind;
use longhand_text::corpus::Header;
use longhand_train::settings::{AdamWSettings, OptimizerSettings};
use longhand_train::{Budget, Settings as TrainSettings};

use super::flags::{BudgetFlags, DataFlags, ModelFlags, OutputFlags, TrainingFlags, check, set};
use crate::error::Usage;
use crate::launch::Launch;
use crate::reading::{absolute, recipe_folder};

/// Learns a task from labelled examples: with a model that was trained before, or from nothing.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand data sample --table sentiment --out train.tsv\n  \
                        longhand finetune --task classify --data train.tsv\n  longhand \
                        predict classifier < lines.txt\n\nTables are .tsv, .csv, .jsonl or .parquet; \
                        a file of any other name holds `LABEL text` lines.")]
pub(crate) struct Arguments {
    /// The model folder to begin with; from nothing where not given
    #[arg(value_name = "MODEL", conflicts_with_all = ["preset", "tokenizer", "vocab"])]
    base: Option<PathBuf>,
    /// A recipe (TOML), whose data is looked for under LONGHAND_DATA; flags win over it
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    recipe: Option<PathBuf>,
    /// What to learn [default: the recipe's]
    #[arg(long, help_heading = "Data")]
    task: Option<TaskName>,
    /// The table of examples to learn from; may be given several times
    #[arg(long = "data", value_name = "FILE", help_heading = "Data")]
    train: Vec<PathBuf>,
    #[command(flatten)]
    data: DataFlags,
    /// The column of the label, by name or by number from 0 [default: label]
    #[arg(long, value_name = "COLUMN", help_heading = "Data")]
    label_column: Option<String>,
    /// Whether the first row of a .csv, .tsv or .txt table names the columns: auto, yes
    /// or no [default: auto]
    #[arg(long, value_name = "WHICH", help_heading = "Data")]
    header: Option<Header>,
    #[command(flatten)]
    model: ModelFlags,
    /// How the positions of a text become one vector [default: the preset's, or max]
    #[arg(long, help_heading = "Model")]
    pooling: Option<PoolingName>,
    #[command(flatten)]
    budget: BudgetFlags,
    #[command(flatten)]
    training: TrainingFlags,
    /// The folder to write the model into
    #[arg(long, value_name = "DIR", default_value = "classifier", help_heading = "Output")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
}

/// A task that a model can be trained for.
#[derive(Clone, Copy, ValueEnum)]
enum TaskName {
    /// One label for each text
    Classify,
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
        let earlier = if self.output.resume { Training::begun(&self.out)? } else { None };
        let mut recipe = match (&self.recipe, earlier) {
            (Some(path), _) => Recipe::load(path, &recipe_folder()?)?,
            (None, Some(earlier)) => earlier,
            (None, None) => first_recipe(self.base.is_some()),
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
        if !self.train.is_empty() {
            recipe.data.learn_from(self.train.iter().map(absolute).collect::<Result<_>>()?);
        }
        if recipe.data.train.is_empty() {
            return Err(Usage("there is nothing to learn from: pass --data".into()).into());
        }
        self.data.apply(&mut recipe.data)?;
        set(&mut recipe.data.header, self.header);
        if self.recipe.is_some() {
            recipe.data.verify()?;
        }
        if let Some(folder) = &self.base {
            let base = BaseModel { path: absolute(folder)?, hash: String::new() };
            recipe.model = ModelSettings { base: Some(base), ..ModelSettings::default() };
        }
        self.model.apply(&mut recipe)?;
        self.budget.apply(&mut recipe.training);
        self.training.apply(&mut recipe.training);
        check(&recipe.training)?;
        Ok(recipe)
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

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::Last => Self::Last,
            PoolingName::Mean => Self::Mean,
            PoolingName::Max => Self::Max,
        }
    }
}
