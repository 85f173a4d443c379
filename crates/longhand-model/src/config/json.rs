//! A configuration as `config.json`.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::error::ConfigError;
use super::format_1::Config1;
use super::{CharacterFilters, CharacterLstm, CharacterReader, Config, FORMAT, HeadConfig, fields};

impl Config {
    /// Reads `config.json` in format 1 or 2, and checks every setting.
    ///
    /// # Errors
    /// [`ConfigError::Form`] and [`ConfigError::Format`] for a text of another form, and
    /// the errors of [`Config::check`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let form = |error: serde_json::Error| ConfigError::Form(error.to_string());
        let Version { format } = serde_json::from_slice(bytes).map_err(form)?;
        let config = match format {
            1 => serde_json::from_slice::<Config1>(bytes).map_err(form)?.upgrade()?,
            _ if format == u64::from(FORMAT) => serde_json::from_slice(bytes).map_err(form)?,
            _ => return Err(ConfigError::Format(format)),
        };
        config.check()?;
        Ok(config)
    }

    /// The content of `config.json`, indented for people.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        // Plain data with string keys: serialising it cannot fail.
        json.unwrap_or_default() + "\n"
    }

    /// The configuration's hash, which names the architecture in files. A configuration that
    /// format 1 can express has the hash that it had there, so that files written by then still
    /// belong to the model.
    pub fn hash(&self) -> String {
        let json = Config1::downgrade(self).map_or_else(|| self.to_json(), |old| old.to_json());
        blake3::hash(json.as_bytes()).to_hex().to_string()
    }
}

impl<'de> Deserialize<'de> for CharacterReader {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (kind, rest) = fields::apart(from, "type", "convolution")?;
        match kind.as_str() {
            "convolution" => CharacterFilters::deserialize(rest).map(Self::Convolution),
            "lstm" => CharacterLstm::deserialize(rest).map(Self::Lstm),
            _ => Err(serde_json::Error::unknown_variant(&kind, &["convolution", "lstm"])),
        }
        .map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for HeadConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (name, kind) = fields::named(from, HeadConfig::NAME)?;
        Ok(Self { name, kind })
    }
}
