//! The flags of `longhand finetune` that name a baseline.

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::{Args, ValueEnum};
use longhand::recipe::{ModelSettings, Recipe};
use longhand_model::Preset;
use longhand_model::config::{Cell, LongMemory};
use longhand_tasks::BaselineSettings;
use serde_json::Value;

use crate::error::Usage;

/// A simple model to compare with.
#[derive(Args)]
#[command(next_help_heading = "Baseline")]
pub(super) struct BaselineFlags {
    /// A simple model to compare with, trained on the same examples
    #[arg(long, value_name = "NAME")]
    baseline: Option<BaselineName>,
    /// A simple model that answers beside the network, or beside several (--members): the two sides are
    /// weighed against each other on the held-out part (--set baseline.KEY=VALUE and --ngrams are its settings)
    #[arg(long, value_name = "NAME", conflicts_with = "baseline")]
    ensemble: Option<EnsembleName>,
    /// The longest n-gram of nb-lr and ngram-linear, in words [default: 3, of ngram-linear 2]
    #[arg(long, value_name = "N")]
    ngrams: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BaselineName {
    /// The commonest label for each text, several of them with --multi-label; for tags, the commonest
    /// of each word. Spans have a baseline of their own, which every evaluation tells
    Majority,
    /// Logistic regression on n-grams weighted by Naive Bayes (Wang and Manning 2012)
    NbLr,
    /// The mean of n-gram vectors and a linear layer (fastText)
    NgramLinear,
    /// A conditional random field over each word's spelling, neighbours and feature columns (Lafferty
    /// et al. 2001), of the task tag
    Crf,
    /// The beginning of a text as its summary, of the task summarize
    Lead,
    /// The default network with Elman's recurrence in place of LSTM
    Rnn,
    /// Attention alone: the preset `transformer`
    Transformer,
    /// Convolutions and the largest value of each (Kim 2014): the preset `textcnn`
    #[value(name = "textcnn")]
    TextCnn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EnsembleName {
    /// Logistic regression on n-grams weighted by Naive Bayes
    NbLr,
    /// The mean of n-gram vectors and a linear layer
    NgramLinear,
    /// A conditional random field over each word's spelling, neighbours and feature columns, beside
    /// taggers
    Crf,
}

/// Flags that a baseline may not have, and those that it understands.
pub(super) struct Others<'a> {
    /// The first flag that no baseline has.
    pub(super) of_base: Option<&'static str>,
    /// The first flag that networks alone have.
    pub(super) of_network: Option<&'static str>,
    /// The value of --epochs.
    pub(super) epochs: Option<f64>,
    /// The value of --learning-rate.
    pub(super) learning_rate: Option<f64>,
    /// The values of --set.
    pub(super) set: &'a [String],
}

/// What the key of a setting of the baseline begins with.
const PREFIX: &str = "baseline.";

/// The key and the value of `--set baseline.KEY=VALUE`; none for a setting of the task.
pub(super) fn setting(text: &str) -> Option<(&str, Value)> {
    let (key, value) = text.strip_prefix(PREFIX)?.split_once('=')?;
    // A value that is not JSON is a text.
    Some((key, serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

impl BaselineFlags {
    /// Flags win over the recipe. Whether the recipe has a baseline without a neural body.
    pub(super) fn apply(&self, recipe: &mut Recipe, others: &Others<'_>) -> Result<bool> {
        if let Some(name) = self.baseline {
            name.replace(recipe, others)?;
        }
        if let Some(name) = self.ensemble {
            recipe.ensemble = BaselineSettings::named(&named(name));
            recipe.baseline = None;
        }
        if let Some(baseline) = &mut recipe.baseline {
            if let Some(flag) = others.of_base.or(others.of_network) {
                let name = baseline.name();
                let text = format!("{flag} is not for the baseline {name}: leave it out");
                return Err(Usage(text).into());
            }
            let settings = self.settings(others.set)?.into_iter().chain(others.budget()?);
            change(baseline, settings)?;
            return Ok(true);
        }
        let settings = self.settings(others.set)?;
        match &mut recipe.ensemble {
            Some(ensemble) => change(ensemble, settings)?,
            None => self.check_absent(others)?,
        }
        Ok(false)
    }

    /// Refuses settings of a baseline where there is none.
    fn check_absent(&self, others: &Others<'_>) -> Result<(), Usage> {
        let flag = self.ngrams.map(|_| "--ngrams".to_owned()).or_else(|| {
            let other = others.set.iter().find(|text| text.starts_with(PREFIX));
            other.map(|text| format!("--set {text}"))
        });
        match flag {
            Some(flag) => {
                let names = "the baselines majority, nb-lr, ngram-linear, crf and lead";
                Err(Usage(format!("{flag} is for {names}: name one with --baseline")))
            }
            None => Ok(()),
        }
    }

    /// The settings that flags name, whatever the baseline is for.
    fn settings(&self, set: &[String]) -> Result<Vec<(String, Value)>, Usage> {
        let ngrams = self.ngrams.map(|ngrams| ("ngrams".to_owned(), ngrams.get().into()));
        let set = set.iter().filter_map(|text| setting(text));
        let set = set.map(|(key, value)| (key.to_owned(), value));
        Ok(ngrams.into_iter().chain(set).collect())
    }
}

/// Changes settings of a baseline.
fn change(
    baseline: &mut BaselineSettings,
    settings: impl IntoIterator<Item = (String, Value)>,
) -> Result<(), Usage> {
    for (key, value) in settings {
        baseline.set(&key, value).map_err(|error| Usage(error.to_string()))?;
    }
    Ok(())
}

/// The name of a value, as it is typed.
fn named(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Others<'_> {
    /// The settings of a baseline that flags of a network's training name.
    fn budget(&self) -> Result<Vec<(String, Value)>, Usage> {
        let mut settings = Vec::new();
        if let Some(epochs) = self.epochs {
            if epochs.fract() != 0.0 || !(1.0..1e9).contains(&epochs) {
                let text = "of a baseline must be a whole number from 1";
                return Err(Usage(format!("--epochs {text}, not {epochs}")));
            }
            settings.push(("epochs".to_owned(), (epochs as u64).into()));
        }
        settings.extend(self.learning_rate.map(|rate| ("learning_rate".to_owned(), rate.into())));
        Ok(settings)
    }
}

impl BaselineName {
    /// Puts the baseline in the place of a recipe's model.
    fn replace(self, recipe: &mut Recipe, others: &Others<'_>) -> Result<()> {
        if let Some(flag) = others.of_base {
            let text = format!("--baseline {} is a whole model: leave out {flag}", named(self));
            return Err(Usage(text).into());
        }
        recipe.baseline = BaselineSettings::named(&named(self));
        recipe.model = self.model()?;
        recipe.tuning = Default::default();
        recipe.ensemble = None;
        if recipe.baseline.is_some() {
            recipe.members = None;
        }
        if let (Some(_), Some(task)) = (&recipe.baseline, &mut recipe.task) {
            // A recipe's settings of its network's head: flags that name them are refused.
            for key in ["pooling", "crf"] {
                let _ = task.set(key, Value::Null);
            }
        }
        Ok(())
    }

    /// The network; the default one, which is not used, for a model without a neural body.
    fn model(self) -> Result<ModelSettings> {
        let mut model = ModelSettings::default();
        match self {
            Self::Majority | Self::NbLr | Self::NgramLinear | Self::Crf | Self::Lead => {}
            Self::Transformer => model.preset = Preset::Transformer.to_string(),
            Self::TextCnn => model.preset = Preset::TextCnn.to_string(),
            Self::Rnn => {
                model.preset = Preset::StackedLstmClassifier.to_string();
                // Any vocabulary will do to list the blocks.
                let mut blocks = Preset::StackedLstmClassifier.config(256).blocks;
                for long in blocks.iter_mut().filter_map(|block| block.long.as_mut()) {
                    *long = LongMemory::new(Cell::Rnn, long.hidden());
                }
                model.overrides.insert("blocks".into(), serde_json::to_value(blocks)?);
            }
        }
        Ok(model)
    }
}
