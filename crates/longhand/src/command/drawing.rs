//! The flags of tasks that write, for texts that are drawn in place of being searched for.

use clap::Args;
use longhand_engine::SamplerSettings;

use super::flags::first;
use crate::error::Usage;

/// How texts are drawn.
#[derive(Args)]
#[command(next_help_heading = "Writing")]
pub(crate) struct DrawingArguments {
    /// Draw texts in place of searching for the best one, token by token: divides the logits; 0 takes the
    /// most probable token always
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// With --temperature, draw from this many of the most probable tokens; 0 for all [default: 0]
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// With --temperature, draw from the most probable tokens that together have this probability
    /// [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// With --temperature, leave out tokens less probable than this many times the most probable one
    /// [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// With --temperature, make the tokens read and written last less probable, if greater than 1
    /// [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
}

impl DrawingArguments {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.temperature.map(|_| "--temperature").or(self.given_of_steps())
    }

    /// The first flag that is given and says something of texts that are drawn alone.
    fn given_of_steps(&self) -> Option<&'static str> {
        first(&[
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--repetition-penalty", self.repetition_penalty.is_some()),
        ])
    }

    /// How texts are drawn; none where they are searched for. `of_search` is a flag of searches that is
    /// given.
    ///
    /// # Errors
    /// A flag that says something of the other way to write, or is out of its range.
    pub(super) fn settings(
        &self,
        seed: u64,
        of_search: Option<&'static str>,
    ) -> Result<Option<SamplerSettings>, Usage> {
        let Some(temperature) = self.temperature else {
            return match self.given_of_steps() {
                Some(flag) => Err(not_drawn(flag)),
                None => Ok(None),
            };
        };
        if let Some(flag) = of_search {
            return Err(Usage(format!(
                "{flag} is for searches, and with --temperature texts are drawn: leave one of them out"
            )));
        }
        let default = SamplerSettings::default();
        let settings = SamplerSettings {
            temperature,
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            seed,
        };
        settings.check().map_err(|error| Usage(error.to_string()))?;
        Ok(Some(settings))
    }

    /// Refuses a seed where nothing is drawn.
    pub(super) fn check_seed(&self, seed: Option<u64>) -> Result<(), Usage> {
        match (seed, self.temperature) {
            (Some(_), None) => Err(not_drawn("--seed")),
            _ => Ok(()),
        }
    }
}

/// Why a flag is refused where texts are searched for.
fn not_drawn(flag: &str) -> Usage {
    Usage(format!("{flag} is for texts that are drawn: pass --temperature too, or leave it out"))
}
