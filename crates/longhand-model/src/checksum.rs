//! safetensors files that check themselves.
//!
//! The header's metadata holds two keys beside the caller's own. `longhand.checksums` is a JSON
//! object with a BLAKE3 hash of each tensor (name, number format, shape and bytes) and of the
//! metadata. `longhand.checked` names the hash function. Each key guards the other: a file that
//! has one of them is refused unless everything agrees, so one damaged key does not switch the
//! check off. A file with neither comes from another program and is read as it is.
//!
//! ```
//! use longhand_model::checksum;
//! use longhand_model::file::{Values, serialize};
//!
//! let values = [1.0, 2.0, 3.0];
//! let mut bytes = serialize([("bias", Values::exact(&[3], &values))], Default::default());
//! assert!(checksum::from_bytes(&bytes).is_ok());
//! *bytes.last_mut().unwrap() ^= 1;
//! let error = checksum::from_bytes(&bytes).unwrap_err();
//! assert_eq!(error.to_string(), "the tensor `bias` is damaged: its checksum does not match");
//! ```

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The metadata key of the [`Checksums`].
const CHECKSUMS: &str = "longhand.checksums";
/// The metadata key that says that a file has checksums.
const CHECKED: &str = "longhand.checked";
/// The hash function, the value of [`CHECKED`].
const FUNCTION: &str = "blake3";
/// A hash that is not known yet, as long as any other.
const UNKNOWN: [u8; 32] = [0; 32];
/// The header's length is a multiple of this, which aligns the tensors.
const ALIGNMENT: usize = 8;

/// Why a file's bytes are refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ChecksumError {
    /// The file is truncated or its header is impossible.
    #[error("{0}")]
    Form(String),
    /// A tensor differs from the one that was written.
    #[error("the tensor `{0}` is damaged: its checksum does not match")]
    Tensor(String),
    /// The metadata differ from those that were written.
    #[error("the file's header is damaged: its checksum does not match")]
    Metadata,
}

/// The hashes in a file's metadata, in lower-case hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checksums {
    /// Hash of all metadata but this object.
    metadata: String,
    /// Hash of each tensor, by its name.
    tensors: BTreeMap<String, String>,
}

/// Whether a safetensors file has checksums, which [`from_bytes`] compares. A file of another program
/// has none, and one that is no safetensors file neither.
pub fn has_checksums(bytes: &[u8]) -> bool {
    let metadata = SafeTensors::read_metadata(bytes).ok();
    metadata.is_some_and(|(_, metadata)| {
        metadata.metadata().as_ref().is_some_and(|map| map.contains_key(CHECKED))
    })
}

/// Writes named tensors and metadata as a safetensors file with checksums. Equal
/// arguments give equal bytes.
///
/// # Panics
/// If a shape does not fit its data: an unreadable file in place of a good one would be worse.
pub fn to_bytes<V: View>(
    tensors: impl IntoIterator<Item = (String, V)>,
    metadata: impl IntoIterator<Item = (String, String)>,
) -> Vec<u8> {
    let mut tensors: Vec<(String, V)> = tensors.into_iter().collect();
    // The widest number format first: then every tensor is aligned to its own format.
    tensors.sort_by(|(a, x), (b, y)| y.dtype().cmp(&x.dtype()).then(a.cmp(b)));
    let mut metadata: BTreeMap<String, String> = metadata.into_iter().collect();
    metadata.insert(CHECKED.into(), FUNCTION.into());
    let unknown = blake3::Hash::from_bytes(UNKNOWN).to_hex().to_string();
    let mut checksums = Checksums {
        metadata: metadata_hash(&metadata),
        tensors: tensors.iter().map(|(name, _)| (name.clone(), unknown.clone())).collect(),
    };
    let length = header(&tensors, &metadata, &checksums).len();
    let data: usize = tensors.iter().map(|(_, tensor)| tensor.data_len()).sum();
    let mut bytes = Vec::with_capacity(ALIGNMENT + length + data);
    bytes.extend((length as u64).to_le_bytes());
    bytes.resize(ALIGNMENT + length, b' ');
    for (name, tensor) in &tensors {
        let values = tensor.data();
        let bits = tensor.shape().iter().product::<usize>() * tensor.dtype().bitsize();
        assert_eq!(8 * values.len(), bits, "the tensor `{name}` has another shape than its data");
        let hash = tensor_hash(name, tensor.dtype(), tensor.shape(), &values);
        checksums.tensors.insert(name.clone(), hash);
        bytes.extend_from_slice(&values);
    }
    let header = header(&tensors, &metadata, &checksums);
    bytes[ALIGNMENT..ALIGNMENT + length].copy_from_slice(header.as_bytes());
    bytes
}

/// Reads a safetensors file and compares every checksum that it has.
///
/// # Errors
/// [`ChecksumError::Form`] for bytes that are no whole safetensors file; the other variants name a
/// tensor or metadata that differ from what was written.
pub fn from_bytes(bytes: &[u8]) -> Result<SafeTensors<'_>, ChecksumError> {
    let form = |error: safetensors::SafeTensorError| ChecksumError::Form(error.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(form)?;
    let file = SafeTensors::deserialize(bytes).map_err(form)?;
    let Some(metadata) = header.metadata() else { return Ok(file) };
    let mut metadata: BTreeMap<String, String> =
        metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let Some(checksums) = metadata.remove(CHECKSUMS) else {
        return if metadata.contains_key(CHECKED) {
            Err(ChecksumError::Metadata)
        } else {
            Ok(file)
        };
    };
    let checksums: Checksums =
        serde_json::from_str(&checksums).map_err(|_| ChecksumError::Metadata)?;
    if metadata.get(CHECKED).is_none_or(|function| function != FUNCTION)
        || checksums.metadata != metadata_hash(&metadata)
    {
        return Err(ChecksumError::Metadata);
    }
    for (name, tensor) in file.iter() {
        let hash = tensor_hash(name, tensor.dtype(), tensor.shape(), tensor.data());
        if checksums.tensors.get(name) != Some(&hash) {
            return Err(ChecksumError::Tensor(name.into()));
        }
    }
    match checksums.tensors.len() == file.len() {
        true => Ok(file),
        false => Err(ChecksumError::Metadata),
    }
}

/// The header as JSON, filled up with spaces.
fn header<V: View>(
    tensors: &[(String, V)],
    metadata: &BTreeMap<String, String>,
    checksums: &Checksums,
) -> String {
    let mut metadata: BTreeMap<&str, String> =
        metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    metadata.insert(CHECKSUMS, json!(checksums).to_string());
    let mut entries = BTreeMap::from([("__metadata__", json!(metadata))]);
    let mut begin = 0;
    for (name, tensor) in tensors {
        let end = begin + tensor.data_len();
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        entries
            .insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] }));
        begin = end;
    }
    let mut text = json!(entries).to_string();
    let padding = text.len().next_multiple_of(ALIGNMENT) - text.len();
    text.extend(std::iter::repeat_n(' ', padding));
    text
}

fn tensor_hash(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    // As JSON, which no two different headers share.
    hasher.update(json!([name, dtype, shape]).to_string().as_bytes());
    hasher.update(bytes);
    hasher.finalize().to_hex().to_string()
}

fn metadata_hash(metadata: &BTreeMap<String, String>) -> String {
    blake3::hash(json!(metadata).to_string().as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests;
