//! `longhand train`: pretraining on raw text.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand::recipe::{ModelSettings, Recipe};
use longhand_model::Preset;
use longhand_run::{Existing, Training};
use longhand_text::{TableFormat, TokenizerKind};
use longhand_train::{Budget, PrecisionSetting};

use crate::error::Usage;
use crate::launch::Launch;
use crate::reading::{Threads, absolute, keep_tokenizer, recipe_folder};

/// Minutes that training on the built-in sample takes unless asked otherwise.
const SAMPLE_MINUTES: f64 = 2.0;
/// The held-out part of the built-in sample: enough to tell models apart, and quickly read.
const SAMPLE_HELD_OUT: f64 = 0.02;

/// Pretrain a model on raw text; with no text, on the built-in sample.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand train book.txt --minutes 10 --out model\n  \
                        longhand train --recipe recipes/tinyshakespeare.toml --out shakespeare")]
pub(crate) struct Arguments {
    /// Files and folders: text, .gz, .zst, .jsonl, .csv, .tsv, .parquet; - for stdin
    #[arg(value_name = "TEXT")]
    text: Vec<PathBuf>,
    /// A recipe (TOML); its data is looked for under LONGHAND_DATA
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// The model [default: longhand-nano]
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,
    /// How text becomes tokens: byte, char, word, bpe, wordpiece or unigram [default: char]
    #[arg(long, value_name = "KIND")]
    tokenizer: Option<TokenizerKind>,
    /// The most tokens of the vocabulary
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// A file or folder to validate on
    #[arg(long, value_name = "FILE", conflicts_with = "valid_fraction")]
    valid: Option<PathBuf>,
    /// The last part of the text that validates; 0 for none [default: 0.1, on the built-in sample
    /// 0.02]
    #[arg(long, value_name = "X")]
    valid_fraction: Option<f64>,
    /// Train for this long, reading the text and evaluations included [default: 10, on the built-in sample 2]
    #[arg(long, value_name = "M", conflicts_with_all = ["steps", "epochs"])]
    minutes: Option<f64>,
    /// Train for so many steps: the same model each time
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Train for so many passes over the text
    #[arg(long, value_name = "E")]
    epochs: Option<f64>,
    /// Streams side by side [default: 16]
    #[arg(long, value_name = "B")]
    batch: Option<usize>,
    /// Tokens that gradients flow through [default: 128]
    #[arg(long, value_name = "T")]
    chunk: Option<usize>,
    /// The highest learning rate [default: 0.01, by Muon]
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    /// The operands of matrix products: f32, bf16, or auto for the faster one; sums are f32
    /// [default: auto]
    #[arg(long, value_name = "P")]
    precision: Option<PrecisionSetting>,
    /// Seed of weights, data order and dropout [default: 1]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    #[command(flatten)]
    threads: Threads,
    /// Steps between evaluations [default: eight in the run]
    #[arg(long, value_name = "N")]
    evaluate_every: Option<u64>,
    /// Stop after so many evaluations without a better one
    #[arg(long, value_name = "N")]
    patience: Option<u32>,
    /// Steps between checkpoints [default: at each evaluation]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// The column of tables that holds the text [default: text]
    #[arg(long, value_name = "NAME")]
    text_column: Option<String>,
    /// The tables that the texts are, where their names do not tell: jsonl, csv, tsv or parquet
    #[arg(long, value_name = "FORMAT")]
    format: Option<TableFormat>,
    /// Replace invalid UTF-8 instead of stopping
    #[arg(long)]
    lossy: bool,
    /// Where the model is written
    #[arg(long, value_name = "DIR", default_value = "model")]
    out: PathBuf,
    /// Go on with the run in the output folder
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Overwrite the run in the output folder
    #[arg(long)]
    force: bool,
    /// One JSON object per line on stdout
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = self.recipe()?;
        let existing = match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        };
        let launch = Launch { out: self.out, existing, json: self.json };
        launch.run(recipe)
    }

    /// What is to be run.
    fn recipe(&self) -> Result<Recipe> {
        let earlier = if self.resume { Training::begun(&self.out)? } else { None };
        let on_sample = self.recipe.is_none() && earlier.is_none() && self.text.is_empty();
        let mut recipe = match (&self.recipe, earlier) {
            (Some(path), earlier) => {
                let mut recipe = Recipe::load(path, &recipe_folder()?)?;
                // The run goes on with the part of the text that it began with.
                recipe.data.share = earlier.map_or(recipe.data.share, |earlier| earlier.data.share);
                recipe
            }
            // A run goes on as it was begun, but for what flags say.
            (None, Some(earlier)) => earlier,
            (None, None) => Recipe::default(),
        };
        if on_sample {
            recipe.training.budget = Budget::Minutes(SAMPLE_MINUTES);
            recipe.data.valid_fraction = SAMPLE_HELD_OUT;
        }
        self.apply(&mut recipe)?;
        if self.recipe.is_some() {
            recipe.data.verify()?;
        }
        recipe.training.check().map_err(|error| Usage(error.to_string()))?;
        Ok(recipe)
    }

    /// Flags win over the recipe.
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let data = &mut recipe.data;
        if !self.text.is_empty() {
            data.learn_from(self.text.iter().map(absolute).collect::<Result<_>>()?);
        }
        if let Some(valid) = &self.valid {
            data.valid = vec![absolute(valid)?];
        }
        if let Some(fraction) = self.valid_fraction {
            if !(0.0..1.0).contains(&fraction) {
                let text = "--valid-fraction must be at least 0 and less than 1";
                return Err(Usage(text.into()).into());
            }
            data.valid.clear();
            data.valid_fraction = fraction;
        }
        data.lossy |= self.lossy;
        data.format = self.format.or(data.format);
        if self.text_column.is_some() {
            data.text_column.clone_from(&self.text_column);
        }
        if let Some(preset) = self.preset {
            recipe.model = ModelSettings { preset: preset.to_string(), ..ModelSettings::default() };
        }
        keep_tokenizer(recipe, self.tokenizer.is_some() || self.vocab.is_some())?;
        if let Some(kind) = self.tokenizer {
            recipe.tokenizer.kind = kind;
        }
        recipe.tokenizer.vocabulary = self.vocab.or(recipe.tokenizer.vocabulary);
        let training = &mut recipe.training;
        if let Some(minutes) = self.minutes {
            training.budget = Budget::Minutes(minutes);
        }
        if let Some(steps) = self.steps {
            training.budget = Budget::Steps(steps);
        }
        if let Some(epochs) = self.epochs {
            training.budget = Budget::Epochs(epochs);
        }
        if let Some(rate) = self.learning_rate {
            training.optimizer.set_learning_rate(rate);
        }
        training.batch = self.batch.unwrap_or(training.batch);
        training.chunk = self.chunk.unwrap_or(training.chunk);
        training.precision = self.precision.unwrap_or(training.precision);
        training.seed = self.seed.unwrap_or(training.seed);
        training.threads = self.threads.given().unwrap_or(training.threads);
        training.evaluate_every = self.evaluate_every.or(training.evaluate_every);
        training.patience = self.patience.or(training.patience);
        training.checkpoint_every = self.checkpoint_every.or(training.checkpoint_every);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn recipe(line: &[&str]) -> Recipe {
        Line::parse_from([&["train"], line].concat()).arguments.recipe().unwrap()
    }

    #[test]
    fn the_sample_without_a_recipe_has_defaults_of_its_own() {
        let sample = recipe(&[]);
        assert_eq!(sample.training.budget, Budget::Minutes(SAMPLE_MINUTES));
        assert_eq!(sample.data.valid_fraction, SAMPLE_HELD_OUT);
        assert_eq!(recipe(&["a.txt"]).data.valid_fraction, Recipe::default().data.valid_fraction);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        fs_err::write(&path, "").unwrap();
        assert_eq!(recipe(&["--recipe", path.to_str().unwrap()]), Recipe::default());
    }
}
