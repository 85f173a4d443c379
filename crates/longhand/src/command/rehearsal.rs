//! The flags of old text that a base model must not forget.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use longhand::recipe::Recipe;
use longhand_run::base;
use longhand_train::SettingsError;

use super::flags::{first, set};
use crate::error::Usage;
use crate::reading::absolute;

/// What of its pretraining a base model must not forget.
#[derive(Args)]
#[command(next_help_heading = "Tuning")]
pub(super) struct RehearsalFlags {
    /// A file or folder of text that the base model learnt from: it goes on to learn it beside what is
    /// new, and the loss on the last tenth is told before and after; may be given several times
    #[arg(long, value_name = "FILE")]
    rehearse: Vec<PathBuf>,
    /// The loss is that of what is new and X times that on the old text [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true, requires = "rehearse")]
    rehearse_weight: Option<f64>,
    /// A file or folder of old text to tell the loss on, before and after; may be given several times
    #[arg(long, value_name = "FILE")]
    forgetting: Vec<PathBuf>,
}

/// Refuses the folder of a model where text is meant.
pub(super) fn model_as_text(folder: &Path) -> anyhow::Error {
    let folder = folder.display();
    let text = format!(
        "{folder} is the folder of a model, and text is meant there: `longhand train` takes one model, \
         before the text"
    );
    Usage(text).into()
}

impl RehearsalFlags {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--rehearse", !self.rehearse.is_empty()),
            ("--rehearse-weight", self.rehearse_weight.is_some()),
            ("--forgetting", !self.forgetting.is_empty()),
        ])
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        if self.given().is_none() {
            return Ok(());
        }
        let rehearsal = recipe.rehearsal.get_or_insert_default();
        for (given, paths) in
            [(&self.rehearse, &mut rehearsal.text), (&self.forgetting, &mut rehearsal.forgetting)]
        {
            if let Some(folder) = given.iter().find(|path| base::holds_model(path)) {
                return Err(model_as_text(folder));
            }
            if !given.is_empty() {
                *paths = given.iter().map(absolute).collect::<Result<_>>()?;
            }
        }
        set(&mut rehearsal.weight, self.rehearse_weight);
        rehearsal.check().map_err(|SettingsError { name, value, allowed }| {
            let flag = name.replace("rehearsal.weight", "--rehearse-weight");
            Usage(format!("{flag} is {value}, but must be {allowed}")).into()
        })
    }
}
