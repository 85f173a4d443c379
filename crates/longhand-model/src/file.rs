//! A model as a folder: `config.json` and `model.safetensors`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use longhand_kernel::weights::{Format, Rows, RowsError};
use longhand_kernel::{Buffer, Precision};
use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::checksum::{self, ChecksumError};
use crate::config::{Config, ConfigError};
use crate::model::Model;
use crate::state::NamedTensor;
use crate::weights::{Builder, Parameter, Role, Weights};

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
    /// A file cannot be read or written; the message names it.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The configuration in `config.json` is refused.
    #[error("{}: {what}", path.display())]
    Config {
        /// Path of the configuration file.
        path: PathBuf,
        /// The setting that is wrong.
        what: ConfigError,
    },
    /// Changes of low rank, for which the files have no place.
    #[error("the model has changes of low rank: merge them into its weights before it is saved")]
    Unmerged,
    /// Weights that are not this configuration's.
    #[error("{}: {what}", path.display())]
    Weights {
        /// Path of the weights file.
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
    /// A tensor or the header differs from what was written.
    #[error("{0}; copy or train the model again")]
    Damaged(ChecksumError),
    /// A tensor that the configuration needs is not there.
    #[error("the tensor `{0}` is missing; the weights belong to another configuration")]
    Missing(String),
    /// A tensor that the configuration does not know.
    #[error("the tensor `{0}` is not in the configuration; the weights belong to another one")]
    Unknown(String),
    /// A tensor of another shape.
    #[error("the tensor `{name}` has shape {got:?}; the configuration needs {expected:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// The shape that the configuration needs.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// The configuration itself is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor of another number format.
    #[error("the tensor `{name}` holds {got}; {expected} is needed here")]
    Format {
        /// Name of the tensor.
        name: String,
        /// The number format that is needed.
        expected: String,
        /// The number format in the file.
        got: String,
    },
    /// A value that is not a number.
    #[error("the tensor `{name}` holds a value that is not finite at index {index}")]
    NotFinite {
        /// Name of the tensor.
        name: String,
        /// Index of the value, in row-major order.
        index: usize,
    },
}

impl From<ChecksumError> for WeightsError {
    fn from(error: ChecksumError) -> Self {
        match error {
            ChecksumError::Form(what) => Self::Form(what),
            damaged => Self::Damaged(damaged),
        }
    }
}

impl Model {
    /// Reads a model folder. Compressed weights come packed for reading.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(CONFIG_FILE);
        let config = Config::from_json(&read(&path)?)
            .and_then(|config| Model::check(&config).map(|()| config))
            .map_err(|what| FileError::Config { path, what })?;
        let path = folder.join(WEIGHTS_FILE);
        let bytes = read(&path)?;
        Model::from_bytes(config, &bytes).map_err(|what| FileError::Weights { path, what })
    }

    /// A model of a configuration with the weights of a safetensors file.
    ///
    /// # Errors
    /// [`WeightsError::Config`] for a refused configuration; the other variants name a tensor that
    /// does not fit it.
    pub fn from_bytes(config: Config, bytes: &[u8]) -> Result<Self, WeightsError> {
        config.check()?;
        let format = config.weights;
        let mut model = Model::lay_out(config, Builder::empty());
        fill(&mut model.weights, format, bytes)?;
        Ok(model)
    }

    /// Writes `config.json` and `model.safetensors` into a folder that exists. Each file is
    /// written beside and renamed.
    ///
    /// # Errors
    /// [`FileError::Io`] if a file cannot be written, [`FileError::Unmerged`] if a matrix has a
    /// change of low rank.
    pub fn save(&self, folder: &Path) -> Result<(), FileError> {
        if self.weights.has_low_rank() {
            return Err(FileError::Unmerged);
        }
        write(&folder.join(CONFIG_FILE), self.config().to_json().as_bytes())?;
        write(&folder.join(WEIGHTS_FILE), &self.to_bytes())
    }

    /// The weights as a safetensors file: `f32` and `bf16` tensors as they are; of an `int8` matrix
    /// its codes (`I8`), of an `int4` matrix its codes by twos (`U8`), and a tensor of scales.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors = Vec::new();
        for parameter in self.weights.iter() {
            let name = parameter.name.clone();
            let Some(packed) = &parameter.packed else {
                let bytes = Values::exact(&parameter.shape, &parameter.data).bytes();
                let shape = parameter.shape.clone();
                tensors.push((name, Raw { dtype: Dtype::F32, shape, bytes }));
                continue;
            };
            let rows = packed.to_rows();
            let held = Held::new(parameter, rows.format());
            let codes = rows.codes().to_vec();
            if let Some((dtype, shape)) = held.scales {
                let bytes = rows.scales().to_vec();
                tensors.push((scales_name(&name), Raw { dtype, shape, bytes }));
            }
            tensors.push((name, Raw { dtype: held.dtype, shape: held.shape, bytes: codes }));
        }
        checksum::to_bytes(tensors, [("format".into(), "pt".into())])
    }
}

/// How a file holds a parameter: number format and shape of its values, and of its scales.
struct Held {
    dtype: Dtype,
    shape: Vec<usize>,
    scales: Option<(Dtype, Vec<usize>)>,
}

impl Held {
    fn new(parameter: &Parameter, format: Format) -> Self {
        let shape = parameter.shape.clone();
        let (columns, outer) = match shape.split_last() {
            Some((&columns, outer)) => (columns, outer.to_vec()),
            None => (1, Vec::new()),
        };
        let with = |last: usize| outer.iter().copied().chain([last]).collect();
        match format {
            Format::F32 => Self { dtype: Dtype::F32, shape, scales: None },
            Format::Bf16 => Self { dtype: Dtype::BF16, shape, scales: None },
            Format::Int8 => {
                Self { dtype: Dtype::I8, shape, scales: Some((Dtype::F32, outer.clone())) }
            }
            Format::Int4 => Self {
                dtype: Dtype::U8,
                shape: with(format.row_bytes(columns)),
                scales: Some((Dtype::BF16, with(format.scale_bytes(columns) / 2))),
            },
        }
    }
}

/// The tensor of a compressed matrix's scales.
fn scales_name(name: &str) -> String {
    format!("{name}.scales")
}

/// Named tensors and string metadata as a safetensors file with [checksums](checksum).
///
/// # Panics
/// The panics of [`checksum::to_bytes`], for a shape that does not fit.
pub fn serialize<'a>(
    tensors: impl IntoIterator<Item = (&'a str, Values<'a>)>,
    metadata: BTreeMap<String, String>,
) -> Vec<u8> {
    checksum::to_bytes(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor)), metadata)
}

/// A tensor to be written.
pub struct Values<'a> {
    /// Sizes of the tensor's axes.
    pub shape: &'a [usize],
    /// Its values, in row-major order.
    pub data: &'a [f32],
    /// The number format they are written in.
    pub precision: Precision,
}

impl<'a> Values<'a> {
    /// A tensor of `f32`.
    pub fn exact(shape: &'a [usize], data: &'a [f32]) -> Self {
        Self { shape, data, precision: Precision::F32 }
    }

    fn bytes(&self) -> Vec<u8> {
        match self.precision {
            Precision::F32 => self.words(f32::to_le_bytes),
            Precision::Bf16 => {
                self.words(|x| ((self.precision.round(x).to_bits() >> 16) as u16).to_le_bytes())
            }
        }
    }

    fn words<const N: usize>(&self, word: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
        let mut bytes = vec![0; N * self.data.len()];
        for (to, &x) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(self.data) {
            *to = word(x);
        }
        bytes
    }
}

impl<'a> From<&'a NamedTensor<'_>> for Values<'a> {
    fn from(tensor: &'a NamedTensor<'_>) -> Self {
        Self { shape: &tensor.shape, data: &tensor.values, precision: tensor.precision }
    }
}

impl View for Values<'_> {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
        }
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes())
    }
    fn data_len(&self) -> usize {
        self.data.len() * self.precision.bytes()
    }
}

struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The values of a tensor in a safetensors file, and the number format they are written in.
pub fn values(
    name: &str,
    tensor: &safetensors::tensor::TensorView,
) -> Result<(Vec<f32>, Precision), WeightsError> {
    match tensor.dtype() {
        Dtype::F32 => {
            let words = tensor.data().as_chunks::<4>().0;
            Ok((words.iter().map(|&word| f32::from_le_bytes(word)).collect(), Precision::F32))
        }
        Dtype::BF16 => {
            let halves = tensor.data().as_chunks::<2>().0;
            let wide = |&half| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16);
            Ok((halves.iter().map(wide).collect(), Precision::Bf16))
        }
        other => Err(wrong_format(name, Dtype::F32, other)),
    }
}

/// Writes a file beside its place, brings it to the disk and renames it, so that a reader finds the
/// old one or the new one, never a part. Until then it has a name of its own, which begins with
/// `.longhand-` and ends with `.partial`.
///
/// # Errors
/// [`FileError::Io`] if the file cannot be written. A part of it is removed again.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".longhand-").suffix(".partial");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let named = |error: std::io::Error| {
        let text = format!("failed to write {}: {error}", path.display());
        std::io::Error::new(error.kind(), text)
    };
    let mut file = builder.tempfile_in(folder).map_err(named)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(named)?;
    file.persist(path).map_err(|error| named(error.error))?;
    // Elsewhere a folder cannot be opened as a file, and a renamed file is durable by itself.
    if cfg!(unix) {
        fs_err::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    match fs_err::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(FileError::Missing(path.into()))
        }
        other => Ok(other?),
    }
}

fn fill(weights: &mut Weights, format: Format, bytes: &[u8]) -> Result<(), WeightsError> {
    let file = checksum::from_bytes(bytes)?;
    let mut known = HashSet::new();
    for parameter in weights.iter_mut() {
        let name = parameter.name.clone();
        let held = Held::new(parameter, parameter.format(format));
        let codes = find(&file, &name, held.dtype, &held.shape)?;
        let (mut scales, mut scaled_by) = (&[][..], name.clone());
        if let Some((dtype, shape)) = &held.scales {
            scaled_by = scales_name(&name);
            scales = find(&file, &scaled_by, *dtype, shape)?;
            known.insert(scaled_by.clone());
        }
        let rows = Rows::new(parameter.format(format), parameter.matrix(), codes, scales);
        let rows = rows.map_err(|error| match error {
            RowsError::NotFinite(index) => WeightsError::NotFinite { name: scaled_by, index },
            RowsError::Length => WeightsError::Form(format!("`{name}` has another length")),
        })?;
        if parameter.role == Role::Vector || format == Format::F32 {
            let mut data = Buffer::zeros(parameter.shape.iter().product());
            for (to, word) in data.iter_mut().zip(rows.codes().chunks_exact(4)) {
                *to = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            }
            parameter.data = data;
            parameter.group.trainable = format == Format::F32;
        } else {
            parameter.pack(rows);
        }
        known.insert(name);
    }
    match file.names().into_iter().find(|&name| !known.contains(name)) {
        Some(name) => Err(WeightsError::Unknown(name.to_string())),
        None => Ok(()),
    }
}

/// The bytes of a tensor, whose number format and shape are the ones expected.
fn find<'a>(
    file: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'a [u8], WeightsError> {
    let tensor = file.tensor(name).map_err(|_| WeightsError::Missing(name.into()))?;
    if tensor.shape() != shape {
        let (expected, got) = (shape.to_vec(), tensor.shape().to_vec());
        return Err(WeightsError::Shape { name: name.into(), expected, got });
    }
    if tensor.dtype() != dtype {
        return Err(wrong_format(name, dtype, tensor.dtype()));
    }
    Ok(tensor.data())
}

fn wrong_format(name: &str, expected: Dtype, got: Dtype) -> WeightsError {
    let [expected, got] = [expected, got].map(|dtype| format!("{dtype:?}"));
    WeightsError::Format { name: name.into(), expected, got }
}
