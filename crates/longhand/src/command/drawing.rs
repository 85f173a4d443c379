//! The flags of tasks that write, for texts that are drawn in place of being searched for.

use clap::Args;
use longhand_engine::SamplerSettings;

use super::flags::first;
use crate::error::Usage;
use crate::reading::SamplerFlags;

/// How texts are drawn, where a temperature is given.
#[derive(Args)]
#[command(next_help_heading = "Writing")]
pub(crate) struct DrawingArguments {
    #[command(flatten)]
    flags: SamplerFlags,
}

impl DrawingArguments {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.flags.temperature.map(|_| "--temperature").or(self.given_of_steps())
    }

    /// The first flag that is given and says something of texts that are drawn alone.
    fn given_of_steps(&self) -> Option<&'static str> {
        let SamplerFlags { temperature: _, top_k, top_p, min_p, repetition_penalty } = &self.flags;
        first(&[
            ("--top-k", top_k.is_some()),
            ("--top-p", top_p.is_some()),
            ("--min-p", min_p.is_some()),
            ("--repetition-penalty", repetition_penalty.is_some()),
        ])
    }

    /// How texts are drawn; none where they are searched for. `of_search` is a flag of
    /// searches that is given.
    ///
    /// # Errors
    /// A flag that says something of the other way to write, or is out of its range.
    pub(super) fn settings(
        &self,
        seed: u64,
        of_search: Option<&'static str>,
    ) -> Result<Option<SamplerSettings>, Usage> {
        if self.flags.temperature.is_none() {
            return match self.given_of_steps() {
                Some(flag) => Err(not_drawn(flag)),
                None => Ok(None),
            };
        }
        if let Some(flag) = of_search {
            return Err(Usage(format!(
                "{flag} is for searches, and with --temperature texts are drawn: leave one of them out"
            )));
        }
        let settings = self.flags.over(SamplerSettings { seed, ..SamplerSettings::default() });
        settings.check().map_err(|error| Usage(error.to_string()))?;
        Ok(Some(settings))
    }

    /// Refuses a seed where nothing is drawn.
    pub(super) fn check_seed(&self, seed: Option<u64>) -> Result<(), Usage> {
        match (seed, self.flags.temperature) {
            (Some(_), None) => Err(not_drawn("--seed")),
            _ => Ok(()),
        }
    }
}

/// Why a flag is refused where texts are searched for.
fn not_drawn(flag: &str) -> Usage {
    Usage(format!("{flag} is for texts that are drawn: pass --temperature too, or leave it out"))
}
