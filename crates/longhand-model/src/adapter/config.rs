//! `adapter_config.json`, with the keys of the PEFT library.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::low_rank::divisor;
use crate::weights::{LowRank, Singular};

/// The version of [`Origin`] that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Changes of low rank, in the library's form.
const LORA: &str = "LORA";
/// Changes of low rank with singular values, in the library's form.
const ADALORA: &str = "ADALORA";
/// The library's initial rank of such changes.
const INITIAL_RANK: usize = 12;
/// Adapter layers, which the library has not: other programs refuse the name.
const HOULSBY: &str = "HOULSBY";

/// The settings of an adapter. Other programs write this file too: their further keys are ignored,
/// except for those that change the weights in a way that cannot be applied here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    /// The method: `LORA`, `ADALORA` with singular values, or `HOULSBY` for adapter layers.
    pub peft_type: String,
    /// Folder or name of the base model (none).
    pub base_model_name_or_path: Option<String>,
    /// Rank of the changes (8); a matrix in `rank_pattern` has another.
    pub r: usize,
    /// α (8); a matrix in `alpha_pattern` has another. The change is α / r · B·A.
    pub lora_alpha: f32,
    /// Share of the changes' inputs dropped in training (0).
    pub lora_dropout: f32,
    /// Which biases are trained; only `none` is read.
    pub bias: String,
    /// Whether weights are stored transposed; only `false` is read.
    pub fan_in_fan_out: bool,
    /// Whether the adapter is for reading (true); the library wants it.
    pub inference_mode: bool,
    /// Whether magnitudes are trained apart; only `false` is read.
    pub use_dora: bool,
    /// Whether the scale is α / √r (false).
    pub use_rslora: bool,
    /// The changed modules: a list or a pattern, for people and other programs.
    pub target_modules: Value,
    /// Modules that the adapter holds whole, such as a new head (none).
    pub modules_to_save: Option<Vec<String>>,
    /// The rank that changes with singular values began with (12). α is divided by it in place of `r`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_r: Option<usize>,
    /// Steps of training, without which the library refuses changes with singular values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_step: Option<u64>,
    /// Ranks of modules that differ from `r`, or which of `init_r` singular values are left.
    #[serde(deserialize_with = "or_default")]
    pub rank_pattern: BTreeMap<String, RankPattern>,
    /// α of modules that differ from `lora_alpha`.
    pub alpha_pattern: BTreeMap<String, f32>,
    /// The library's name of the task (none).
    pub task_type: Option<String>,
    /// The base model and the adapted model; none in files of other programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longhand: Option<Origin>,
}

/// The rank of one module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RankPattern {
    /// Of `MODULE`: its rank.
    Rank(usize),
    /// Of `MODULE.lora_E`: which singular values are left.
    Kept(Vec<bool>),
}

/// What this program adds to the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Version of this object, 1.
    pub version: u32,
    /// Hash of the base model's configuration and weights.
    pub base: String,
    /// The adapted model's `config.json`: its heads may be others than the base's.
    pub model: Value,
}

/// Why an `adapter_config.json` is refused. Each message goes on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum AdapterConfigError {
    /// It is no such file.
    #[error("{0}")]
    Form(#[from] serde_json::Error),
    /// A key has a value that this program cannot apply.
    #[error("`{key}` is {value}, but must be {allowed}")]
    Unsupported {
        /// Name of the key.
        key: &'static str,
        /// The value in the file.
        value: String,
        /// The values that are read.
        allowed: &'static str,
    },
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            peft_type: LORA.into(),
            base_model_name_or_path: None,
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            bias: "none".into(),
            fan_in_fan_out: false,
            inference_mode: true,
            use_dora: false,
            use_rslora: false,
            target_modules: Value::Null,
            modules_to_save: None,
            init_r: None,
            total_step: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            task_type: None,
            longhand: None,
        }
    }
}

impl Origin {
    /// The base with a hash, and the configuration of the model that was made of it.
    pub fn new(base: &str, model: Value) -> Self {
        Self { version: VERSION, base: base.into(), model }
    }
}

impl AdapterConfig {
    /// Reads `adapter_config.json`, and refuses what cannot be applied.
    ///
    /// # Errors
    /// [`AdapterConfigError`] if the text has another form, or asks for a change of another kind than
    /// plain low rank.
    pub fn from_json(bytes: &[u8]) -> Result<Self, AdapterConfigError> {
        // Without the method's name the other keys mean nothing.
        #[derive(Deserialize)]
        struct Method {
            #[allow(dead_code)]
            peft_type: String,
        }
        let _: Method = serde_json::from_slice(bytes)?;
        let mut config: Self = serde_json::from_slice(bytes)?;
        if config.has_singular_values() {
            config.init_r.get_or_insert(INITIAL_RANK);
        }
        let dropout = config.lora_dropout;
        let version = config.longhand.as_ref().map_or(VERSION, |origin| origin.version);
        let is_known = match config.peft_type.as_str() {
            HOULSBY => config.longhand.is_some(),
            name => name == LORA || name == ADALORA,
        };
        for (key, fits, value, allowed) in [
            ("peft_type", is_known, json!(config.peft_type), "LORA or ADALORA"),
            ("bias", config.bias == "none", json!(config.bias), "none"),
            ("fan_in_fan_out", !config.fan_in_fan_out, json!(true), "false"),
            ("use_dora", !config.use_dora, json!(true), "false"),
            ("r", config.r > 0, json!(config.r), "at least 1"),
            ("init_r", config.init_r != Some(0), json!(0), "at least 1"),
            ("lora_alpha", config.lora_alpha.is_finite(), Value::Null, "a number"),
            (
                "lora_dropout",
                (0.0..1.0).contains(&dropout),
                json!(dropout),
                "at least 0 and less than 1",
            ),
            ("longhand.version", version == VERSION, json!(version), "1"),
        ] {
            if !fits {
                let value = value.to_string();
                return Err(AdapterConfigError::Unsupported { key, value, allowed });
            }
        }
        Ok(config)
    }

    /// The settings of adapter layers, without changes of low rank.
    pub(super) fn of_layers(self) -> Self {
        Self { peft_type: HOULSBY.into(), ..self }
    }

    /// Whether the changes have singular values.
    pub fn has_singular_values(&self) -> bool {
        self.peft_type == ADALORA
    }

    /// Takes in the size of a module's change; the first one's is that of the modules without a
    /// pattern of their own.
    pub(super) fn take_in(&mut self, module: &str, change: &LowRank, first: bool) {
        let LowRank { rank, scale, dropout, .. } = *change;
        let initial = change.singular.map(|Singular { initial, .. }| initial);
        if first {
            self.lora_alpha = alpha(scale, change.divisor());
            self.lora_dropout = dropout;
            match initial {
                None => self.r = rank,
                // The library ignores `r` then, and warns of another one than its default.
                Some(initial) => {
                    self.peft_type = ADALORA.into();
                    (self.init_r, self.total_step) = (Some(initial), Some(1));
                }
            }
        }
        let alpha = match self.init_r {
            None => alpha(scale, rank as f32),
            of_all => alpha(scale, divisor(rank, of_all)),
        };
        if alpha != self.lora_alpha {
            self.alpha_pattern.insert(module.into(), alpha);
        }
        match self.init_r {
            None if rank != self.r => {
                self.rank_pattern.insert(module.into(), RankPattern::Rank(rank));
            }
            Some(initial) if rank < initial => {
                let kept = (0..initial).map(|place| place < rank).collect();
                self.rank_pattern.insert(format!("{module}.lora_E"), RankPattern::Kept(kept));
            }
            _ => {}
        }
    }

    /// The content of `adapter_config.json`, indented for people.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        // Plain data with string keys: serialising it cannot fail.
        json.unwrap_or_default() + "\n"
    }

    /// A hash of every setting that the adapted weights depend on. Names may be edited.
    pub(super) fn seal(&self) -> String {
        let Self { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern, longhand, .. } = self;
        let mut parts = json!([r, lora_alpha, use_rslora, rank_pattern, alpha_pattern, longhand]);
        if let (Some(initial), Some(parts)) = (self.init_r, parts.as_array_mut()) {
            parts.push(initial.into());
        }
        // The order of the keys is not that of the fields.
        parts.sort_all_objects();
        blake3::hash(parts.to_string().as_bytes()).to_hex().to_string()
    }

    /// The factor of B·A for a module with a change of a rank.
    pub(super) fn scale(&self, module: &str, rank: usize) -> f32 {
        let alpha = pattern(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        let divisor = divisor(rank, self.init_r.filter(|_| self.has_singular_values()));
        let by_root = self.use_rslora && !self.has_singular_values();
        alpha / if by_root { divisor.sqrt() } else { divisor }
    }
}

/// The α that gives a scale again, bit for bit, when it is divided.
pub(super) fn alpha(scale: f32, divisor: f32) -> f32 {
    let near = scale * divisor;
    let neighbours = [near, near.next_up(), near.next_down()];
    neighbours.into_iter().find(|alpha| alpha / divisor == scale).unwrap_or(near)
}

/// The value, or the default where there is `null`.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// The value for a module: of its whole name, or of the end of it after a dot.
fn pattern(patterns: &BTreeMap<String, f32>, module: &str) -> Option<f32> {
    let matches = |key: &str| {
        module.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    patterns
        .get(module)
        .copied()
        .or_else(|| patterns.iter().find(|(key, _)| matches(key)).map(|(_, &value)| value))
}
