//! `longhand train`: pretraining on raw text.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand::recipe::Recipe;
use longhand_ngram::NgramSettings;
use longhand_run::{PretrainingObjective, Training, base};
use longhand_text::TokenizerKind;
use longhand_train::Budget;

use super::flags::{
    BudgetFlags, DataFlags, ModelFlags, NGRAM, OutputFlags, TrainingFlags, TuningFlags, begin_with,
    check, chunk_help, first, nothing_to_resume, objective_help, set,
};
use super::rehearsal::{RehearsalFlags, model_as_text};
use crate::error::Usage;
use crate::launch::Launch;
use crate::reading::{absolute, recipe_folder};

/// Minutes that training on the built-in sample takes unless asked otherwise.
const SAMPLE_MINUTES: f64 = 2.0;
/// The held-out part of the built-in sample: enough to tell models apart, and quickly read.
const SAMPLE_HELD_OUT: f64 = 0.02;

/// Pretrain a model on raw text, from nothing or from another model; without text, on the sample.
#[derive(Args)]
#[command(
    override_usage = "longhand train [OPTIONS] [BASE] [TEXT]...",
    after_help = "Example:\n  longhand train book.txt --minutes 10 --out model\n  \
                        longhand train --recipe recipes/tinyshakespeare.toml --out shakespeare\n  \
                        longhand train book.txt --tokenizer word --preset ngram --out counts\n  \
                        longhand train model letters.txt --method lora --out letters"
)]
pub(crate) struct Arguments {
    /// The folder of a trained model to go on with (BASE), if any; then files and folders: text, .gz,
    /// .zst, .jsonl, .csv, .tsv, .parquet; - for stdin [default: the built-in sample, short stories
    /// in English and Chinese]
    #[arg(value_name = "TEXT")]
    text: Vec<PathBuf>,
    /// A recipe (TOML), whose data is looked for under LONGHAND_DATA; flags win over it
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    data: DataFlags,
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Model", help = objective_help())]
    objective: Option<PretrainingObjective>,
    #[command(flatten)]
    model: ModelFlags,
    #[arg(long, value_name = "N", help_heading = "Model", help = order_help())]
    order: Option<usize>,
    #[command(flatten)]
    tuning: TuningFlags,
    #[command(flatten)]
    rehearsal: RehearsalFlags,
    #[command(flatten)]
    budget: BudgetFlags,
    #[command(flatten)]
    training: TrainingFlags,
    #[arg(long, value_name = "T", help_heading = "Training", help = chunk_help())]
    chunk: Option<usize>,
    /// Tell the tokens of a batch apart from about N others, drawn by frequency, rather than from the
    /// whole vocabulary (0): faster where that is large. Evaluations measure the whole one [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    sampled_softmax: Option<usize>,
    /// The folder to write the model into
    #[arg(long, value_name = "DIR", default_value = "model", help_heading = "Output")]
    out: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let recipe = self.recipe()?;
        let existing = self.output.existing();
        Launch { out: self.out, existing, json: self.output.json }.run(recipe)
    }

    /// The recipe that the flags describe.
    fn recipe(&self) -> Result<Recipe> {
        let earlier = if self.output.resume { Training::begun(&self.out)? } else { None };
        let begins = self.recipe.is_none() && earlier.is_none();
        let (base, text) = self.base();
        if let Some(folder) = text.iter().find(|path| base::holds_model(path)) {
            return Err(model_as_text(folder));
        }
        let on_sample = self.recipe.is_none() && earlier.is_none() && text.is_empty();
        if on_sample && self.output.resume {
            return Err(nothing_to_resume(&self.out).into());
        }
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
        if let Some(objective) = self.objective {
            recipe.objective = objective;
            if begins {
                recipe.model.preset = objective.preset().to_string();
            }
        }
        if let Some(base) = base {
            self.begin_with(base, &mut recipe)?;
        }
        self.apply(&mut recipe)?;
        if self.recipe.is_some() {
            recipe.data.verify()?;
        }
        check(&recipe.training)?;
        Ok(recipe)
    }

    /// The folder of the model to begin with, and the text.
    fn base(&self) -> (Option<&PathBuf>, &[PathBuf]) {
        match &self.text[..] {
            [first, text @ ..] if base::holds_model(first) => (Some(first), text),
            text => (None, text),
        }
    }

    /// Begins with a trained model, and learns what that has learnt, if neither a flag nor the
    /// recipe names another objective.
    fn begin_with(&self, folder: &PathBuf, recipe: &mut Recipe) -> Result<()> {
        let order = ("--order", self.order.is_some());
        if let Some(flag) = self.model.given().or(first(&[order])) {
            let folder = folder.display();
            let text =
                format!("the run begins with {folder}, which keeps its own: leave out {flag}");
            return Err(Usage(text).into());
        }
        begin_with(folder, recipe)?;
        let objective = base::objective_of(folder).unwrap_or_default();
        if self.objective.is_none() && recipe.objective == PretrainingObjective::default() {
            recipe.objective = objective;
        }
        Ok(())
    }

    /// Flags win over the recipe.
    fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let (_, text) = self.base();
        if !text.is_empty() {
            recipe.data.learn_from(text.iter().map(absolute).collect::<Result<_>>()?);
        }
        self.data.apply(&mut recipe.data)?;
        self.model.apply(recipe)?;
        self.apply_order(recipe)?;
        self.tuning.apply(&mut recipe.tuning)?;
        self.rehearsal.apply(recipe)?;
        self.budget.apply(&mut recipe.training);
        self.training.apply(&mut recipe.training);
        set(&mut recipe.training.chunk, self.chunk);
        set(&mut recipe.training.sampled_softmax, self.sampled_softmax);
        Ok(())
    }

    /// The order of an n-gram model, which has no use for the flags of networks.
    fn apply_order(&self, recipe: &mut Recipe) -> Result<(), Usage> {
        let Some(ngram) = &mut recipe.ngram else {
            let text = format!("--order is for n-gram models: pass --preset {NGRAM} too");
            return if self.order.is_some() { Err(Usage(text)) } else { Ok(()) };
        };
        ngram.order = self.order.or(ngram.order);
        let own = [
            ("--objective", self.objective.is_some()),
            ("--epochs", self.budget.epochs().is_some()),
            ("--learning-rate", self.training.learning_rate().is_some()),
            ("--chunk", self.chunk.is_some()),
            ("--sampled-softmax", self.sampled_softmax.is_some()),
        ];
        let of_base = self.tuning.given().or(self.rehearsal.given());
        let of_network = self.budget.given().or(self.training.given());
        let flag = of_base.or(of_network).or(first(&own));
        match flag {
            Some(flag) => {
                Err(Usage(format!("{flag} is for networks, not for n-grams: leave it out")))
            }
            None => Ok(()),
        }
    }
}

/// The help of `--order`.
fn order_help() -> String {
    let [words, characters] =
        [TokenizerKind::Word, TokenizerKind::Char].map(NgramSettings::default_order);
    format!(
        "Tokens of the longest n-gram of --preset {NGRAM} [default: {words}, of characters and \
         bytes {characters}]"
    )
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

    #[test]
    fn an_objective_chooses_its_preset_unless_one_is_named() {
        let preset = |line: &[&str]| recipe(line).model.preset;
        assert_eq!(preset(&["--objective", "bicausal"]), "bicausal-nano");
        assert_eq!(preset(&["--objective", "bicausal", "--preset", "lstm"]), "lstm");
        assert_eq!(preset(&[]), "longhand-nano");
    }
}
