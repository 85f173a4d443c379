//! The tensors of a baseline in one safetensors file with checksums.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longhand_model::checksum;
use safetensors::tensor::{Dtype, SafeTensors, View};

use super::error::BaselineError;

/// Named tensors, and the file that they are from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tensors {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    values: Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Floats(Vec<f32>),
    Keys(Vec<u64>),
}

/// The metadata key of the settings.
const SETTINGS: &str = "longhand.baseline";

impl Tensors {
    /// Adds a tensor of `f32` in row-major order.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let tensor = Tensor { shape: shape.into(), values: Values::Floats(values) };
        self.tensors.insert(name.into(), tensor);
    }

    /// Adds a list of keys.
    pub(crate) fn add_keys(&mut self, name: &str, keys: &[u64]) {
        let tensor = Tensor { shape: vec![keys.len()], values: Values::Keys(keys.into()) };
        self.tensors.insert(name.into(), tensor);
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Sizes and values of a tensor of `f32`. Each axis has the size that `shape` names, if any.
    pub(crate) fn floats(
        &self,
        name: &str,
        shape: &[Option<usize>],
    ) -> Result<(&[usize], Vec<f32>), BaselineError> {
        let fits = |got: &[usize]| {
            got.len() == shape.len()
                && got.iter().zip(shape).all(|(got, size)| size.is_none_or(|size| size == *got))
        };
        match self.tensors.get(name) {
            Some(Tensor { shape: got, values: Values::Floats(values) }) if fits(got) => {
                match values.iter().all(|value| value.is_finite()) {
                    true => Ok((got, values.clone())),
                    false => Err(self.wrong(format!("`{name}` is not finite"))),
                }
            }
            Some(_) => Err(self.wrong(format!("`{name}` has another form"))),
            None => Err(self.wrong(format!("`{name}` is missing"))),
        }
    }

    /// A list of keys.
    pub(crate) fn keys(&self, name: &str) -> Result<&[u64], BaselineError> {
        match self.tensors.get(name) {
            Some(Tensor { values: Values::Keys(keys), .. }) => Ok(keys),
            _ => Err(self.wrong(format!("`{name}` is missing"))),
        }
    }

    /// The error of this file.
    pub(crate) fn wrong(&self, reason: String) -> BaselineError {
        BaselineError::Weights { path: self.path.clone(), reason }
    }

    /// The number of `f32` values.
    pub(crate) fn parameters(&self) -> usize {
        let count = |tensor: &Tensor| match &tensor.values {
            Values::Floats(values) => values.len(),
            Values::Keys(_) => 0,
        };
        self.tensors.values().map(count).sum()
    }

    /// The bytes of the file, which names the settings that the tensors belong to.
    pub(crate) fn to_bytes(&self, settings: &str) -> Vec<u8> {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor));
        checksum::to_bytes(tensors, [(SETTINGS.to_owned(), settings.to_owned())])
    }

    /// Reads the bytes of the file at `path`, written for `settings`.
    ///
    /// # Errors
    /// [`BaselineError::Damaged`] for a file that differs from the one that was written, and
    /// [`BaselineError::Weights`] for one that belongs to other settings.
    pub(crate) fn from_bytes(
        bytes: &[u8],
        path: &Path,
        settings: &str,
    ) -> Result<Self, BaselineError> {
        let damaged = |source| BaselineError::Damaged { path: path.into(), source };
        let file = checksum::from_bytes(bytes).map_err(damaged)?;
        let form = |error: safetensors::SafeTensorError| {
            damaged(checksum::ChecksumError::Form(error.to_string()))
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(form)?;
        let mut read = Self { path: path.into(), tensors: BTreeMap::new() };
        let written = header.metadata().as_ref().and_then(|metadata| metadata.get(SETTINGS));
        if written.map(String::as_str) != Some(settings) {
            return Err(read.wrong("its settings are others".into()));
        }
        for (name, tensor) in file.iter() {
            let values = match tensor.dtype() {
                Dtype::F32 => {
                    let words = tensor.data().as_chunks::<4>().0;
                    Values::Floats(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
                }
                Dtype::U64 => {
                    let words = tensor.data().as_chunks::<8>().0;
                    Values::Keys(words.iter().map(|&word| u64::from_le_bytes(word)).collect())
                }
                _ => return Err(read.wrong(format!("`{name}` has another form"))),
            };
            read.tensors.insert(name.into(), Tensor { shape: tensor.shape().into(), values });
        }
        Ok(read)
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::F32,
            Values::Keys(_) => Dtype::U64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match &self.values {
            Values::Floats(values) => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Values::Keys(keys) => keys.iter().flat_map(|x| x.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        match &self.values {
            Values::Floats(values) => 4 * values.len(),
            Values::Keys(keys) => 8 * keys.len(),
        }
    }
}
