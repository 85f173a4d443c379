//! Adapters: what was trained beside a base model, in files of its own.
//!
//! ```text
//! adapter_config.json         PEFT's keys; beside them the hash of the base model
//! adapter_model.safetensors   base_model.model.MODULE.lora_A.weight   [r, columns]
//!                             base_model.model.MODULE.lora_B.weight   [rows, r]
//!                             base_model.model.PARAMETER              what the base model lacks
//! ```
//!
//! With singular values a change has three factors, `MODULE.lora_A`, `MODULE.lora_B` and
//! `MODULE.lora_E` `[r, 1]`; that of an embedding has `MODULE.lora_embedding_A` `[r, V]` and the
//! factor `MODULE.lora_embedding_B`, which is `[D, r]`.
//!
//! The layers of `finetune --method adapter` are parameters that the base model lacks, and its norms
//! are saved with the values that they were trained to.
//!
//! `MODULE` is the matrix's name without `.weight`. A matrix whose name has another end, as
//! `blocks.0.lstm.weight_hh_l0`, keeps its whole name.

mod apply;
mod config;
mod error;
mod names;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::SafeTensors;

pub use self::apply::{AdapterChoice, Applied, apply, is_adapter, load};
pub use self::config::{AdapterConfig, AdapterConfigError, Origin, RankPattern};
pub use self::error::{AdapterError, OtherFolder};
use self::names::{Form, changed, module, owner};
use crate::checksum;
use crate::config::Config;
use crate::file::{self, Values, WeightsError};
use crate::model::Model;
use crate::state::StateLayout;
use crate::weights::{Builder, Parameter, ParameterId};

/// The file of the settings.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
/// The file of the weights.
pub const ADAPTER_WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// PEFT wraps the base model twice.
const PREFIX: &str = "base_model.model.";
/// The file in which older programs write the weights.
const PICKLED_WEIGHTS_FILE: &str = "adapter_model.bin";
/// The metadata key of the settings' hash.
const SEAL: &str = "longhand.adapter";

/// The base model of an adapter, and which parameters are not the base's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    /// The folder or name of the base model.
    pub name: String,
    /// [`Model::hash`] of the base model.
    pub hash: String,
    /// Names of parameters that the base model lacks, such as a new head's, or has with other
    /// values.
    pub own: Vec<String>,
}

/// Changes of low rank and new parameters of a model, apart from its base.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: AdapterConfig,
    /// By name, without the library's prefix; what the library transposes is in our order.
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone, Debug)]
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Adapter {
    /// The adapter in a model: its changes of low rank, and the parameters that its base lacks.
    pub fn of(model: &Model, base: &Base) -> Self {
        let mut config = AdapterConfig {
            base_model_name_or_path: Some(base.name.clone()),
            target_modules: Vec::<String>::new().into(),
            ..AdapterConfig::default()
        };
        let (mut tensors, mut targets) = (BTreeMap::new(), Vec::new());
        let weights = &model.weights;
        for (parameter, change) in
            weights.iter().filter_map(|parameter| Some((parameter, parameter.low_rank?)))
        {
            let module = module(&parameter.name);
            config.take_in(module, &change, targets.is_empty());
            let factors = names::parameters(parameter, change).into_iter();
            tensors.extend(factors.map(|(name, id)| (name, Tensor::of(weights.get(id)))));
            targets.push(module.to_owned());
        }
        let owned = |parameter: &&Parameter| base.own.contains(&parameter.name);
        let own: Vec<&Parameter> = weights.iter().filter(owned).collect();
        let modules: BTreeSet<&str> = own.iter().map(|parameter| owner(&parameter.name)).collect();
        if !modules.is_empty() {
            config.modules_to_save = Some(modules.into_iter().map(str::to_owned).collect());
        }
        tensors.extend(own.into_iter().map(|own| (own.name.clone(), Tensor::of(own))));
        if targets.is_empty() && model.config().adapters.is_some() {
            config = config.of_layers();
        }
        config.target_modules = targets.into();
        let json = serde_json::from_str(&model.config().to_json()).unwrap_or_default();
        config.longhand = Some(Origin::new(&base.hash, json));
        Self { config, tensors }
    }

    /// The settings of the adapter.
    pub fn config(&self) -> &AdapterConfig {
        &self.config
    }

    /// The base model; none where another program wrote the adapter.
    pub fn base(&self) -> Option<Base> {
        let origin = self.config.longhand.as_ref()?;
        let name = self.config.base_model_name_or_path.clone().unwrap_or_default();
        let own = self.tensors.keys().filter(|name| changed(name).is_none()).cloned().collect();
        Some(Base { name, hash: origin.base.clone(), own })
    }

    /// The configuration of the adapted model; none where another program wrote the adapter.
    ///
    /// # Errors
    /// If the configuration is refused.
    pub fn model_config(&self) -> Result<Option<Config>, AdapterError> {
        let Some(origin) = &self.config.longhand else { return Ok(None) };
        let config = Config::from_json(origin.model.to_string().as_bytes())?;
        Model::check(&config)?;
        Ok(Some(config))
    }

    /// The tensors that a state of the adapted model has.
    ///
    /// # Errors
    /// If the model's configuration is refused, or another program wrote the adapter.
    pub fn state_layout(&self) -> Result<Arc<StateLayout>, AdapterError> {
        let config = self.model_config()?.ok_or(AdapterError::OtherForm)?;
        Ok(Model::lay_out(config, Builder::empty()).state_layout().clone())
    }

    /// The changed matrices' modules with rank, rows and columns.
    pub fn changes(&self) -> Vec<(&str, usize, [usize; 2])> {
        let mut changes = Vec::new();
        for (name, a) in &self.tensors {
            for form in Form::ALL {
                let Some(module) = name.strip_suffix(form.ends()[0]) else { continue };
                if let Some(b) = self.tensors.get(&form.factors(module)[1]) {
                    changes.push((module, a.rows(), [b.rows(), a.columns()]));
                }
            }
        }
        changes
    }

    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.data.len()).sum()
    }

    /// Reads an adapter folder.
    ///
    /// # Errors
    /// A folder that is not there or lacks a file, or a file that is damaged or cannot be applied.
    pub fn load(folder: &Path) -> Result<Self, AdapterError> {
        if !folder.is_dir() {
            return Err(AdapterError::NoFolder(folder.into()));
        }
        let config = read(&folder.join(ADAPTER_CONFIG_FILE))?;
        let weights = read(&folder.join(ADAPTER_WEIGHTS_FILE)).map_err(|error| {
            let pickled = folder.join(PICKLED_WEIGHTS_FILE);
            if pickled.is_file() { AdapterError::Pickled(pickled) } else { error }
        })?;
        Self::from_bytes(folder, &config, &weights)
    }

    /// An adapter from the contents of its two files; errors name the files as those of `folder`.
    ///
    /// # Errors
    /// The errors of [`Adapter::load`] for these contents.
    pub fn from_bytes(folder: &Path, config: &[u8], weights: &[u8]) -> Result<Self, AdapterError> {
        let path = folder.join(ADAPTER_CONFIG_FILE);
        let config = AdapterConfig::from_json(config)
            .map_err(|what| AdapterError::Config { path: path.clone(), what })?;
        let wrong = |what| AdapterError::Weights { path: folder.join(ADAPTER_WEIGHTS_FILE), what };
        let file = checksum::from_bytes(weights).map_err(|error| wrong(error.into()))?;
        // A file of another program has neither.
        let expected = config.longhand.as_ref().map(|_| config.seal());
        if seal(weights) != expected {
            return Err(AdapterError::Seal(path));
        }
        Ok(Self { config, tensors: tensors(&file).map_err(wrong)? })
    }

    /// Writes the two files into a folder that exists. Each is written beside and renamed.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn save(&self, folder: &Path) -> Result<(), AdapterError> {
        let (config, weights) = self.to_bytes();
        file::write(&folder.join(ADAPTER_WEIGHTS_FILE), &weights)?;
        Ok(file::write(&folder.join(ADAPTER_CONFIG_FILE), config.as_bytes())?)
    }

    /// The contents of the two files.
    pub fn to_bytes(&self) -> (String, Vec<u8>) {
        let name = |name: &str| format!("{PREFIX}{name}");
        let written: Vec<_> = self.tensors.iter().map(|(key, t)| (key, t.oriented(key))).collect();
        let tensors = written.iter();
        let tensors = tensors.map(|(key, t)| (name(key), Values::exact(&t.shape, &t.data)));
        let metadata = [("format".into(), "pt".into()), (SEAL.into(), self.config.seal())];
        (self.config.to_json(), checksum::to_bytes(tensors, metadata))
    }

    /// Replaces the changes and the own parameters of a model that has them already,
    /// to read a checkpoint.
    ///
    /// # Errors
    /// If the model has others; it may then be changed in part.
    pub fn restore(&self, model: &mut Model) -> Result<(), AdapterError> {
        if self.model_config()?.is_none_or(|config| config != *model.config()) {
            return Err(AdapterError::OtherForm);
        }
        let factors: Vec<(String, ParameterId)> = (model.weights.iter())
            .filter_map(|parameter| Some(names::parameters(parameter, parameter.low_rank?)))
            .flatten()
            .collect();
        let mut used = BTreeSet::new();
        for (place, parameter) in model.weights.iter_mut().enumerate() {
            let factor = factors.iter().find(|(_, id)| *id == ParameterId(place));
            let name = factor.map_or(&parameter.name, |(name, _)| name);
            if let Some(tensor) = self.tensors.get(name) {
                tensor.check(name, &parameter.shape)?;
                parameter.data.copy_from_slice(&tensor.data);
                used.insert(name.clone());
            } else if factor.is_some() {
                return Err(AdapterError::OtherForm);
            }
        }
        self.check_used(&used)
    }

    /// Refuses tensors that nothing was done with.
    fn check_used(&self, used: &BTreeSet<String>) -> Result<(), AdapterError> {
        match self.tensors.keys().find(|name| !used.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(match changed(name) {
                Some(module) => AdapterError::NoMatrix(module.into()),
                None => refused(WeightsError::Unknown(name.clone())),
            }),
        }
    }
}

impl Tensor {
    fn of(parameter: &Parameter) -> Self {
        Self { shape: parameter.shape.clone(), data: parameter.data.to_vec() }
    }

    /// The tensor as the library writes it, or from there as it is used here.
    fn oriented(&self, name: &str) -> Cow<'_, Self> {
        if !names::is_transposed(name) {
            return Cow::Borrowed(self);
        }
        let [rows, columns] = [self.rows(), self.columns()];
        let column =
            |column: usize| self.data.get(column..).unwrap_or_default().iter().step_by(columns);
        let data = (0..columns).flat_map(column);
        Cow::Owned(Self { shape: vec![columns, rows], data: data.copied().collect() })
    }

    fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    fn check(&self, name: &str, expected: &[usize]) -> Result<(), AdapterError> {
        check_shape(name, expected, &self.shape)
    }
}

fn check_shape(name: &str, expected: &[usize], got: &[usize]) -> Result<(), AdapterError> {
    if got == expected {
        return Ok(());
    }
    let (expected, got) = (expected.to_vec(), got.to_vec());
    Err(refused(WeightsError::Shape { name: name.into(), expected, got }))
}

fn refused(what: WeightsError) -> AdapterError {
    AdapterError::Weights { path: ADAPTER_WEIGHTS_FILE.into(), what }
}

fn read(path: &Path) -> Result<Vec<u8>, AdapterError> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match fs_err::read(path) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            Err(AdapterError::Missing(path.into()))
        }
        other => Ok(other?),
    }
}

/// The hash of the settings that the weights were saved with, in a file of this program.
fn seal(weights: &[u8]) -> Option<String> {
    let (_, header) = SafeTensors::read_metadata(weights).ok()?;
    header.metadata().as_ref()?.get(SEAL).cloned()
}

fn tensors(file: &SafeTensors<'_>) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let (data, _) = file::values(name, &view)?;
        if let Some(index) = data.iter().position(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite { name: name.into(), index });
        }
        let short = name.strip_prefix(PREFIX);
        let short = short.ok_or_else(|| WeightsError::Unknown(name.into()))?;
        let tensor = Tensor { shape: view.shape().to_vec(), data };
        // Where the order is not that of a matrix, the shape is refused when the tensor is used.
        let tensor =
            if tensor.shape.len() == 2 { tensor.oriented(short).into_owned() } else { tensor };
        tensors.insert(short.to_owned(), tensor);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests;
