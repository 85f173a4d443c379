//! `longhand bench equality`: the ways to read a text, compared.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand_engine::equality::Equality;
use longhand_model::{Model, Preset, UnknownPreset};
use serde_json::json;

use super::ids;
use crate::error::{Usage, within};
use crate::reading::{Threads, model_folder};

/// Compares the logits of the training form with those of chunks and of single steps.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand bench equality model\n  longhand bench equality \
                        --preset longhand-nano\n\nA difference is the largest of a row of logits \
                        relative to the row's largest magnitude.")]
pub(crate) struct Arguments {
    /// Folder of the trained model
    #[arg(value_name = "DIR", required_unless_present = "preset", conflicts_with = "preset")]
    model: Option<PathBuf>,
    /// A preset with random weights instead; `all` for every one
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Tokens to read; as many as the attention window and 150 more where not given
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Seed of random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object for each model
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

/// The most tokens: the training form reads them all in one pass.
const MOST_TOKENS: usize = 1 << 15;
/// Tokens that a preset with random weights knows.
const VOCABULARY: usize = 97;

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match (&self.model, self.preset.as_deref()) {
            (Some(path), _) => {
                self.compare(&path.display().to_string(), &Model::load(model_folder(path)?)?)
            }
            (None, Some("all")) => {
                // A model that looks ahead has no other way of reading, and a decoder needs a source.
                let comparable = |preset: &&Preset| {
                    let config = preset.config(VOCABULARY);
                    config.is_causal() && config.encoder.is_none()
                };
                Preset::ALL.iter().filter(comparable).try_for_each(|&preset| self.untrained(preset))
            }
            (None, Some(name)) => {
                let unknown = |error: UnknownPreset| Usage(error.to_string());
                self.untrained(name.parse().map_err(unknown)?)
            }
            (None, None) => Err(Usage("give a model folder or --preset".into()).into()),
        }
    }

    fn untrained(&self, preset: Preset) -> Result<()> {
        self.compare(preset.name(), &Model::new(preset.config(VOCABULARY), self.seed)?)
    }

    fn compare(&self, name: &str, model: &Model) -> Result<()> {
        let config = model.config();
        let tokens = match self.tokens {
            Some(tokens) => within("--tokens", tokens, 1..=MOST_TOKENS)?,
            None => (config.largest_window().unwrap_or(0) + 150).min(MOST_TOKENS),
        };
        let ids: Vec<u32> = ids(config.vocab_size).take(tokens).collect();
        let Equality { rows, chunked, stepwise } =
            Equality::measure(model, &self.threads.cpu(), &ids)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let line = json!({
                "model": name, "tokens": tokens, "rows": rows, "chunked": chunked,
                "stepwise": stepwise,
            });
            return Ok(writeln!(out, "{line}")?);
        }
        writeln!(
            out,
            "{name:<24} {rows:>6} rows   chunked {chunked:.2e}   stepwise {stepwise:.2e}"
        )?;
        Ok(())
    }
}
