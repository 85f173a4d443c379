//! The flags of self-training.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use longhand::recipe::{Recipe, SelfTraining};

use super::flags::{first, set};
use crate::error::Usage;
use crate::reading::absolute;

/// How a classifier learns from texts without labels too.
#[derive(Args)]
#[command(next_help_heading = "Self-training")]
pub(super) struct SelfTrainingFlags {
    /// A file of texts without labels to learn from too, in rounds: each labels those of which its
    /// model is sure for the next one; may be given several times. Of a file that is no table each line
    /// is a text. Labels in it are not read
    #[arg(long, value_name = "FILE")]
    unlabelled: Vec<PathBuf>,
    /// Rounds, the first of which learns from the labelled examples alone [default: 3]
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,
    /// The least probability of a label that a round gives [default: 0.9]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// The most texts of each label that a round learns from, the most probable ones; several numbers
    /// with commas are for the second round, the third and so on [default: as many of each as of the
    /// label that is given least often]
    #[arg(long, value_name = "K", value_delimiter = ',')]
    per_label: Vec<NonZeroUsize>,
}

/// Decay of the average of the weights that labels texts, where nobody says another one.
const AVERAGE: f64 = 0.99;

impl SelfTrainingFlags {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[
            ("--unlabelled", !self.unlabelled.is_empty()),
            ("--rounds", self.rounds.is_some()),
            ("--threshold", self.threshold.is_some()),
            ("--per-label", !self.per_label.is_empty()),
        ])
    }

    /// Flags win over the recipe.
    pub(super) fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let Some(flag) = self.given() else { return Ok(()) };
        if recipe.self_training.is_none() {
            if self.unlabelled.is_empty() {
                let text = format!("{flag} is for self-training: name texts with --unlabelled");
                return Err(Usage(text).into());
            }
            recipe.self_training = Some(SelfTraining::default());
            if recipe.training.average == 0.0 && recipe.baseline.is_none() {
                recipe.training.average = AVERAGE;
            }
        }
        let Some(settings) = &mut recipe.self_training else { return Ok(()) };
        if !self.unlabelled.is_empty() {
            let paths = self.unlabelled.iter().map(absolute);
            settings.unlabelled = paths.collect::<Result<_>>()?;
        }
        set(&mut settings.rounds, self.rounds);
        set(&mut settings.threshold, self.threshold);
        if !self.per_label.is_empty() {
            settings.per_label.clone_from(&self.per_label);
        }
        Ok(())
    }
}
