//! A model as a folder: `config.json` and `model.safetensors`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::config::{Config, ConfigError};
use crate::model::Model;
use crate::weights::{Builder, Weights};

/// The file of the configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The file of the weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Why a model cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The folder is not there, or lacks a file.
    #[error("{} is missing: a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}", .0.display())]
    Missing(PathBuf),
    /// The system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A refused configuration.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// Weights that are not this configuration's.
    #[error("{}: {what}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: WeightsError,
    },
}

/// What is wrong with a weights file.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum WeightsError {
    /// Truncated, or with an impossible header.
    #[error("not a whole safetensors file ({0}); copy or train the model again")]
    Form(String),
    /// A tensor that the configuration needs is not there.
    #[error("the tensor `{0}` is missing; the weights belong to another configuration")]
    Missing(String),
    /// A tensor that the configuration does not know.
    #[error("the tensor `{0}` is not in the configuration; the weights belong to another one")]
    Unknown(String),
    /// A tensor of another shape.
    #[error("the tensor `{name}` has shape {got:?}; the configuration needs {expected:?}")]
    Shape {
        /// Which tensor.
        name: String,
        /// The configuration's shape.
        expected: Vec<usize>,
        /// The file's shape.
        got: Vec<usize>,
    },
    /// A tensor of another number format.
    #[error("the tensor `{name}` holds {got}; this program reads F32")]
    Format {
        /// Which tensor.
        name: String,
        /// The file's number format.
        got: String,
    },
    /// A value that is not a number.
    #[error("the tensor `{name}` holds a value that is not finite at index {index}")]
    NotFinite {
        /// Which tensor.
        name: String,
        /// Which element, in row-major order.
        index: usize,
    },
}

impl Model {
    /// Reads a model folder.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(CONFIG_FILE);
        let config = Config::from_json(&read(&path)?)
            .map_err(|source| FileError::Config { path, source })?;
        let path = folder.join(WEIGHTS_FILE);
        let bytes = read(&path)?;
        Model::from_bytes(config, &bytes).map_err(|what| FileError::Weights { path, what })
    }

    /// A model of checked configuration with the weights of a safetensors file.
    pub fn from_bytes(config: Config, bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut model = Model::lay_out(config, Builder::empty());
        fill(&mut model.weights, bytes)?;
        Ok(model)
    }

    /// Writes `config.json` and `model.safetensors` into a folder that exists. Each file is
    /// written beside and renamed.
    pub fn save(&self, folder: &Path) -> Result<(), FileError> {
        write(&folder.join(CONFIG_FILE), self.config().to_json().as_bytes())?;
        write(&folder.join(WEIGHTS_FILE), &self.to_bytes())
    }

    /// The weights as a safetensors file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensors = self.weights.iter().map(|parameter| {
            (parameter.name.as_str(), F32 { shape: &parameter.shape, data: &parameter.data })
        });
        serialize(tensors, HashMap::from([("format".into(), "pt".into())]))
    }
}

/// Named `f32` tensors and string metadata as a safetensors file.
pub fn serialize<'a>(
    tensors: impl IntoIterator<Item = (&'a str, F32<'a>)>,
    metadata: HashMap<String, String>,
) -> Vec<u8> {
    // The writer fails on shapes that do not match their data alone, and those are given together.
    safetensors::serialize(tensors, Some(metadata)).unwrap_or_default()
}

/// A tensor to be written.
pub struct F32<'a> {
    /// Its shape.
    pub shape: &'a [usize],
    /// Its values, row-major.
    pub data: &'a [f32],
}

impl View for F32<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        4 * self.data.len()
    }
}

/// The `f32` values of a tensor in a safetensors file.
pub fn values(
    name: &str,
    tensor: &safetensors::tensor::TensorView,
) -> Result<Vec<f32>, WeightsError> {
    if tensor.dtype() != Dtype::F32 {
        let got = format!("{:?}", tensor.dtype());
        return Err(WeightsError::Format { name: name.into(), got });
    }
    let words = tensor.data().chunks_exact(4);
    Ok(words.map(|w| f32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect())
}

/// Writes a file beside its place and renames it, so that a reader finds the old one or the new
/// one, never a part.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    use std::io::Write;
    let beside = path.with_extension("partial");
    let mut file = fs_err::File::create(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    if let Err(error) = written {
        // What cannot be written whole is not left lying.
        let _ = fs_err::remove_file(&beside);
        return Err(error.into());
    }
    Ok(fs_err::rename(&beside, path)?)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    match fs_err::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(FileError::Missing(path.into()))
        }
        other => Ok(other?),
    }
}

fn fill(weights: &mut Weights, bytes: &[u8]) -> Result<(), WeightsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| WeightsError::Form(e.to_string()))?;
    for parameter in weights.iter_mut() {
        let name = &parameter.name;
        let tensor = file.tensor(name).map_err(|_| WeightsError::Missing(name.clone()))?;
        if tensor.shape() != parameter.shape {
            return Err(WeightsError::Shape {
                name: name.clone(),
                expected: parameter.shape.clone(),
                got: tensor.shape().to_vec(),
            });
        }
        let values = values(name, &tensor)?;
        if let Some(index) = values.iter().position(|x| !x.is_finite()) {
            return Err(WeightsError::NotFinite { name: name.clone(), index });
        }
        parameter.data = longhand_kernel::Buffer::from(&values[..]);
    }
    let known = |name: &str| weights.iter().any(|parameter| parameter.name == name);
    match file.names().into_iter().find(|name| !known(name)) {
        Some(name) => Err(WeightsError::Unknown(name.to_string())),
        None => Ok(()),
    }
}
