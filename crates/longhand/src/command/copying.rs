//! The flags of `longhand finetune` that let a decoder copy from its source.

use anyhow::Result;
use clap::Args;
use clap::builder::BoolishValueParser;
use longhand::recipe::{ModelSettings, Recipe};
use longhand_model::Config;
use longhand_model::config::Pointer;
use longhand_model::file::CONFIG_FILE;

use super::flags::first;
use crate::error::Usage;

/// Whether a decoder copies.
#[derive(Args)]
#[command(next_help_heading = "Writing")]
pub(super) struct CopyFlags {
    /// Let the decoder of --form encoder-decoder copy tokens of the source beside those that it writes,
    /// as a pointer-generator does: on or off [default: as the recipe or MODEL does, else off]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    copy: Option<bool>,
    /// Tell what copies how much of each token was copied before, so that it repeats less: on or
    /// off [default: as the recipe or MODEL does, else off]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    coverage: Option<bool>,
}

/// The key of a configuration for what copies.
const POINTER: &str = "pointer";

/// K of a pointer where nobody says how wide it is, as in `recipes/aeslc.toml`.
const WIDTH: usize = 128;

/// Any vocabulary will do to find whether a model copies.
const VOCABULARY: usize = 256;

impl CopyFlags {
    /// The first flag that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        first(&[("--copy", self.copy.is_some()), ("--coverage", self.coverage.is_some())])
    }

    /// Lays the flags over the model of a recipe, which has everything else.
    pub(super) fn apply(&self, recipe: &mut Recipe) -> Result<()> {
        let Some(flag) = self.given() else { return Ok(()) };
        if self.copy == Some(false) && self.coverage == Some(true) {
            let text = "--coverage is of what is copied, and --copy is off: leave one of them out";
            return Err(Usage(text.into()).into());
        }
        let task = serde_json::to_value(&recipe.task)?;
        if task["form"] != "encoder-decoder" {
            return Err(Usage(format!(
                "{flag} is for tasks that write with an encoder and a decoder (--task summarize --form \
                 encoder-decoder): leave it out"
            ))
            .into());
        }
        let model = &mut recipe.model;
        // What is no network is refused by the run.
        let Some(config) = configured(model)? else { return Ok(()) };
        let Some(encoder) = &config.encoder else {
            return Err(Usage(format!(
                "{flag} is of a source that an encoder reads, and the model has no encoder: name a \
                 preset such as encoder-decoder-small, or leave it out"
            ))
            .into());
        };
        match (self.copy, config.pointer) {
            (Some(false), _) => {
                model.overrides.remove(POINTER);
                if let Some(config) = &mut model.config {
                    config.remove(POINTER);
                }
                return Ok(());
            }
            (None, None) => {
                let text = "--coverage is of what is copied, and nothing is: pass --copy too";
                return Err(Usage(text.into()).into());
            }
            (Some(true), _) | (None, Some(_)) => {}
        }
        if encoder.vocab_size.is_some() || task["separate_vocabularies"] == true {
            return Err(Usage(format!(
                "{flag} is of tokens of the source, and here they are none of the target's: leave it \
                 out, or train a model without --separate-vocabularies"
            ))
            .into());
        }
        let own = config.pointer.unwrap_or(Pointer { width: WIDTH, coverage: false });
        let pointer = Pointer { coverage: self.coverage.unwrap_or(own.coverage), ..own };
        model.overrides.insert(POINTER.into(), serde_json::to_value(pointer)?);
        // From an encoder of sentences, for one, nothing is copied.
        model.config(VOCABULARY)?;
        Ok(())
    }
}

/// Whether the model that is to be trained has an encoder. What is wrong with its configuration is told
/// by the run.
pub(super) fn has_encoder(model: &ModelSettings) -> bool {
    let config = configured(&mut model.clone()).ok().flatten();
    config.is_some_and(|config| config.encoder.is_some())
}

/// The configuration of the model that is to be trained, that of a base model written out so that keys
/// can be taken from it; none where the folder of a base model holds no network.
fn configured(model: &mut ModelSettings) -> Result<Option<Config>> {
    if let (None, Some(base)) = (&model.config, &model.base) {
        let path = base.path.join(CONFIG_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let json = Config::from_json(&fs_err::read(path)?)?.to_json();
        let mut config: serde_json::Map<_, _> = serde_json::from_str(&json)?;
        // It is the tokeniser's.
        config.remove("vocab_size");
        model.config = Some(config);
    }
    Ok(Some(model.config(VOCABULARY)?))
}
