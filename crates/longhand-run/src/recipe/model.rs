//! The tokeniser and the model of a recipe.

use std::path::PathBuf;

use longhand_model::config::FORMAT;
use longhand_model::{Config, ConfigError, Model, Preset};
use longhand_text::TokenizerKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::RecipeError;

/// How text becomes ids.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerSettings {
    /// How text is split into tokens (`char`).
    pub kind: TokenizerKind,
    /// The most tokens; see the kinds for what they do without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Whether a kind that suits the text better may replace `kind` (false); never stored, as a
    /// run's recipe has the kind that was chosen.
    #[serde(skip)]
    pub may_change: bool,
}

/// What is trained: a preset with keys of `config.json` that replace its own, or a whole
/// configuration without `vocab_size`, which is the tokeniser's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The preset's name (`longhand-nano`).
    pub preset: String,
    /// Keys of `config.json`; tables are merged, everything else is replaced.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub overrides: Map<String, Value>,
    /// A whole configuration instead of a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// A trained model that the run begins with; its configuration is taken where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseModel>,
    /// Word vectors that the embedding of a task's model begins with; not with `base`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vectors: Option<Vectors>,
}

/// A file of word vectors, see [`longhand_text::corpus::vectors`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vectors {
    /// The file, absolute in a run's record.
    pub path: PathBuf,
    /// SHA-256 of the file as stored; empty accepts any file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
}

/// A trained model that a run begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseModel {
    /// The model folder, absolute in a run's record.
    pub path: PathBuf,
    /// Hash of its configuration and weights; empty accepts any model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

impl Default for TokenizerSettings {
    fn default() -> Self {
        Self { kind: TokenizerKind::Char, vocabulary: None, may_change: false }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            preset: Preset::LonghandNano.to_string(),
            overrides: Map::new(),
            config: None,
            base: None,
            vectors: None,
        }
    }
}

impl ModelSettings {
    /// The configuration for a vocabulary of the given size.
    ///
    /// # Errors
    /// [`RecipeError::Preset`] for an unknown preset, [`RecipeError::Config`] for an unknown key
    /// or a refused configuration.
    pub fn config(&self, vocab_size: usize) -> Result<Config, RecipeError> {
        let mut config = match &self.config {
            Some(config) => Value::Object(config.clone()),
            None => {
                let preset: Preset = self.preset.parse()?;
                let json = preset.config(vocab_size).to_json();
                serde_json::from_str(&json).map_err(|error| ConfigError::Form(error.to_string()))?
            }
        };
        if config["format"] == FORMAT {
            let overrides = Config::upgrade_overrides(&config, self.overrides.clone());
            merge(&mut config, &overrides);
        } else {
            merge(&mut config, &self.overrides);
        }
        config["vocab_size"] = vocab_size.into();
        let config = Config::from_json(config.to_string().as_bytes())?;
        Model::check(&config)?;
        Ok(config)
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        match (&self.base, &self.config) {
            (Some(base), _) => {
                let name = base.path.file_name().unwrap_or(base.path.as_os_str());
                format!("begun with the model {}", name.to_string_lossy())
            }
            (None, Some(_)) => "a configuration of its own".into(),
            (None, None) => self.preset.clone(),
        }
    }
}

/// Puts `overrides` into an object, table by table.
fn merge(config: &mut Value, overrides: &Map<String, Value>) {
    for (key, value) in overrides {
        match (value, config.get_mut(key)) {
            // A tagged table is one choice with its settings: another choice replaces it whole.
            (Value::Object(inner), Some(slot @ Value::Object(_)))
                if !inner.contains_key("type") =>
            {
                merge(slot, inner);
            }
            _ => config[key] = value.clone(),
        }
    }
}
