//! `longhand adapter`: what was trained beside a base model, merged into it or described.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use longhand_model::Model;
use longhand_model::adapter::{self, Adapter, AdapterChoice};
use longhand_run::{FolderLock, TRAINING_FILE, Training, output};
use longhand_tasks::{Ensemble, TASK_FILES, TaskError};
use serde_json::json;

use crate::adapters::choice;
use crate::reading::model_folder;
use crate::talk::say;

/// Merges an adapter into its base model, or describes it.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand finetune book --task classify --data train.tsv \
                        --method lora --out topics\n  longhand adapter show topics\n  longhand \
                        adapter merge book topics --out merged")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Merge(Merge),
    Show(Show),
}

/// Write a plain model folder that answers as the base model does with the adapters.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand adapter merge book topics --out merged\n  longhand \
                        adapter merge book style@0.5 topics --out merged")]
struct Merge {
    /// The base model's folder
    #[arg(value_name = "BASE")]
    base: PathBuf,
    /// The adapters' folders; the changes of several are added, each times its weight
    #[arg(value_name = "[NAME=]ADAPTER[@WEIGHT]", required = true, value_parser = choice)]
    adapters: Vec<AdapterChoice>,
    /// The folder to write, which must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Print an adapter's base model, its settings, and the matrices that it changes.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand adapter show topics --json")]
struct Show {
    /// The adapter's folder
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Merge(merge) => merge.run(),
            Verb::Show(show) => show.run(),
        }
    }
}

impl Merge {
    fn run(self) -> Result<()> {
        let Self { base, adapters, out } = &self;
        let members = Ensemble::count(model_folder(base)?)?;
        if members > 1 {
            return Err(TaskError::AdapterOfMembers { members, folder: base.clone() }.into());
        }
        let mut model = adapter::load(base, adapters)?;
        model.merge_low_rank();
        check_finite(&model)?;
        if output::is_occupied(out)? {
            bail!("the folder {} is not empty: name another one with --out", out.display());
        }
        fs_err::create_dir_all(out)?;
        let _lock = FolderLock::take(out)?;
        // An adapter's files win: its task is the merged model's.
        let folders = || adapters.iter().map(|choice| &choice.folder).chain([base]);
        for name in output::TEXT_FILES.into_iter().chain(TASK_FILES) {
            if let Some(folder) = folders().find(|folder| folder.join(name).is_file()) {
                fs_err::copy(folder.join(name), out.join(name))?;
            }
        }
        let origin = folders().find(|folder| folder.join(TRAINING_FILE).is_file());
        Training::copy_origin(origin.unwrap_or(base), out)?;
        model.save(out)?;
        say!("the merged model is in {}", out.display());
        Ok(())
    }
}

/// Refuses a sum that left the range of the numbers, as of a weight such as 1e38.
fn check_finite(model: &Model) -> Result<()> {
    let damaged = model.weights.iter().find_map(|parameter| {
        let place = parameter.data.iter().position(|value| !value.is_finite())?;
        Some((&parameter.name, place, parameter.data[place]))
    });
    match damaged {
        None => Ok(()),
        Some((name, place, value)) => bail!(
            "the merged `{name}` would have {value} at place {place}: give the adapters smaller weights"
        ),
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let adapter = Adapter::load(&self.adapter)?;
        let config = adapter.config();
        let base = adapter.base().unwrap_or_default();
        let name = config.base_model_name_or_path.clone().unwrap_or_default();
        let changes = adapter.changes();
        let mut out = std::io::stdout().lock();
        if self.json {
            let changes: Vec<_> = changes
                .iter()
                .map(|(module, rank, shape)| json!({"module": module, "r": rank, "shape": shape}))
                .collect();
            let line = json!({
                "peft_type": config.peft_type, "base": name, "base_hash": base.hash,
                "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout,
                "changes": changes, "own": base.own, "parameters": adapter.count(),
            });
            return Ok(writeln!(out, "{line}")?);
        }
        writeln!(out, "base model  {name}")?;
        if !base.hash.is_empty() {
            writeln!(out, "base hash   {}", base.hash)?;
        }
        if !changes.is_empty() {
            writeln!(out, "alpha       {}", config.lora_alpha)?;
        }
        writeln!(out, "parameters  {}", adapter.count())?;
        for (module, rank, [rows, columns]) in changes {
            writeln!(out, "  {module}  rank {rank} of {rows} × {columns}")?;
        }
        for name in base.own {
            writeln!(out, "  {name}  whole")?;
        }
        Ok(())
    }
}
