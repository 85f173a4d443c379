//! The settings for generation in a model folder: `generation_config.json`. Options on the command
//! line override the file's settings.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
pub use crate::error::GenerationConfigError;
use crate::sampler::SamplerSettings;

/// The file's name in a model folder.
pub const GENERATION_FILE: &str = "generation_config.json";

/// The settings in the file. A missing key means the default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerationConfig {
    /// How the next token is drawn. The file's `"do_sample": false` always takes
    /// the most probable token.
    pub sampler: SamplerSettings,
    /// The most tokens to generate. Default: 256.
    pub max_tokens: usize,
}

/// The keys that are read. Models from elsewhere have many more, which are ignored.
#[derive(Default, Serialize, Deserialize)]
struct File {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    max_new_tokens: Option<usize>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self { sampler: SamplerSettings::default(), max_tokens: 256 }
    }
}

impl GenerationConfig {
    /// Reads a model folder's; the default where the folder has none.
    ///
    /// # Errors
    /// [`EngineError::File`] if the file cannot be read, [`EngineError::Generation`]
    /// if it is refused.
    pub fn of_folder(folder: &Path) -> Result<Self, EngineError> {
        let path = folder.join(GENERATION_FILE);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let bytes = fs_err::read(&path).map_err(longhand_model::FileError::Io)?;
        Ok(Self::from_json(&bytes, &path)?)
    }

    /// Reads the contents of the file at `path`, which errors name.
    ///
    /// # Errors
    /// [`GenerationConfigError::Form`] for bytes of another form,
    /// [`GenerationConfigError::Setting`] for a setting out of its range.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self, GenerationConfigError> {
        let path = || path.to_owned();
        let file: File = serde_json::from_slice(bytes)
            .map_err(|what| GenerationConfigError::Form { path: path(), what })?;
        let Self { sampler: default, max_tokens } = Self::default();
        let temperature = match file.do_sample {
            Some(false) => 0.0,
            _ => file.temperature.unwrap_or(default.temperature),
        };
        let sampler = SamplerSettings {
            temperature,
            top_k: file.top_k.unwrap_or(default.top_k),
            top_p: file.top_p.unwrap_or(default.top_p),
            min_p: file.min_p.unwrap_or(default.min_p),
            repetition_penalty: file.repetition_penalty.unwrap_or(default.repetition_penalty),
            seed: default.seed,
        };
        sampler.check().map_err(|what| GenerationConfigError::Setting { path: path(), what })?;
        Ok(Self { sampler, max_tokens: file.max_new_tokens.unwrap_or(max_tokens) })
    }

    /// As it is written into a model folder.
    pub fn to_json(&self) -> Vec<u8> {
        let sampler = &self.sampler;
        let file = File {
            do_sample: Some(sampler.temperature > 0.0),
            temperature: (sampler.temperature > 0.0).then_some(sampler.temperature),
            top_k: Some(sampler.top_k),
            top_p: Some(sampler.top_p),
            min_p: Some(sampler.min_p),
            repetition_penalty: Some(sampler.repetition_penalty),
            max_new_tokens: Some(self.max_tokens),
        };
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(&file).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<GenerationConfig, EngineError> {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join(GENERATION_FILE), json).unwrap();
        GenerationConfig::of_folder(folder.path())
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_missing_is_the_default() {
        let nowhere = GenerationConfig::of_folder(Path::new("nowhere")).unwrap();
        assert_eq!(nowhere, GenerationConfig::default());
        assert_eq!(read("{}").unwrap(), GenerationConfig::default());
        let sampler = SamplerSettings { temperature: 0.5, top_k: 7, ..Default::default() };
        for config in [
            GenerationConfig { sampler, max_tokens: 9 },
            GenerationConfig { sampler: SamplerSettings::greedy(), max_tokens: 0 },
        ] {
            let json = String::from_utf8(config.to_json()).unwrap();
            assert_eq!(read(&json).unwrap(), config);
        }
    }

    #[test]
    fn models_from_elsewhere_say_more_and_may_be_greedy() {
        let config = read(
            r#"{"bos_token_id": 1, "do_sample": false, "temperature": 0.6,
                "transformers_version": "4"}"#,
        );
        assert_eq!(config.unwrap().sampler, SamplerSettings::greedy());
    }

    #[test]
    fn a_bad_file_is_named() {
        for json in ["", "[1]", r#"{"top_k": -1}"#, r#"{"temperature": -1}"#, r#"{"top_p": 2}"#] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(GENERATION_FILE) && error.lines().count() == 1, "{error}");
        }
    }
}
