//! The weights in a checkpoint: a whole model, or an adapter whose base is elsewhere.

use std::path::Path;
use std::sync::Arc;

use longhand_model::adapter::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, Base};
use longhand_model::file::{CONFIG_FILE, WEIGHTS_FILE};
use longhand_model::{Adapter, Model, StateLayout};

use crate::TrainError;

/// Weights as a checkpoint holds them.
pub enum SavedWeights {
    /// Weights in `config.json` and `model.safetensors`.
    Model(Box<Model>),
    /// Weights in `adapter_config.json` and `adapter_model.safetensors`.
    Adapter(Box<Adapter>),
}

impl SavedWeights {
    /// The files of the weights.
    pub const FILES: [&str; 4] =
        [CONFIG_FILE, WEIGHTS_FILE, ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE];

    /// Writes a model into a folder: whole, or apart from its base where there is one.
    ///
    /// # Errors
    /// If the disk refuses, or a whole model has changes of low rank.
    pub fn write(model: &Model, base: Option<&Base>, folder: &Path) -> Result<(), TrainError> {
        match base {
            Some(base) => Ok(Adapter::of(model, base).save(folder)?),
            None => Ok(model.save(folder)?),
        }
    }

    /// Reads the weights of a folder.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        if folder.join(ADAPTER_CONFIG_FILE).is_file() {
            return Ok(Self::Adapter(Box::new(Adapter::load(folder)?)));
        }
        Ok(Self::Model(Box::new(Model::load(folder)?)))
    }

    /// Puts the values into a model of the same form.
    ///
    /// # Errors
    /// Why the model has another form.
    pub fn restore(&self, model: &mut Model) -> Result<(), String> {
        let saved = match self {
            Self::Adapter(adapter) => {
                return adapter.restore(model).map_err(|error| error.to_string());
            }
            Self::Model(saved) => saved,
        };
        if saved.config() != model.config() || saved.weights.len() != model.weights.len() {
            return Err("its model has another configuration".into());
        }
        for (mine, saved) in model.weights.iter_mut().zip(saved.weights.iter()) {
            mine.data.copy_from_slice(&saved.data);
        }
        Ok(())
    }

    /// The tensors that a state of the model has.
    ///
    /// # Errors
    /// An adapter whose model's configuration is refused.
    pub fn state_layout(&self) -> Result<Arc<StateLayout>, TrainError> {
        match self {
            Self::Model(model) => Ok(model.state_layout().clone()),
            Self::Adapter(adapter) => Ok(adapter.state_layout()?),
        }
    }
}
