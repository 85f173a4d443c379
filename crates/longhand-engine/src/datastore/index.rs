//! `index.safetensors`: the lists of an inverted file.

use std::path::Path;

use longhand_model::checksum::{self, ChecksumError};
use safetensors::tensor::{Dtype, TensorView};

use crate::datastore_error::DatastoreError;

const CENTROIDS: &str = "centroids";
const STARTS: &str = "starts";

/// The sizes of a datastore.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// C: lists of an inverted file.
    pub(super) lists: usize,
    /// D: numbers in a key.
    pub(super) width: usize,
    /// N: entries, in all lists together.
    pub(super) entries: u64,
}

/// The lists of an inverted file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Index {
    /// `[C, D]`: the centroid of each list.
    pub(super) centroids: Vec<f32>,
    /// `[C + 1]`: the first entry of each list, and the number of entries.
    pub(super) starts: Vec<u64>,
}

impl Index {
    /// As a safetensors file.
    pub(super) fn to_bytes(&self, width: usize) -> Result<Vec<u8>, ChecksumError> {
        let centroids: Vec<u8> = self.centroids.iter().flat_map(|x| x.to_le_bytes()).collect();
        let starts: Vec<u8> = self.starts.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![self.centroids.len() / width, width];
        let form = |error: safetensors::SafeTensorError| ChecksumError::Form(error.to_string());
        let centroids = TensorView::new(Dtype::F32, shape, &centroids).map_err(form)?;
        let starts = TensorView::new(Dtype::U64, vec![self.starts.len()], &starts).map_err(form)?;
        let tensors = [(CENTROIDS.to_owned(), centroids), (STARTS.to_owned(), starts)];
        Ok(checksum::to_bytes(tensors, []))
    }

    /// Reads the file of a datastore of these sizes. Allocates at most a few times the length of
    /// `bytes`, whatever the sizes are; `path` is the file's name in errors.
    ///
    /// # Errors
    /// [`DatastoreError::Form`] for bytes that are no whole index of these sizes.
    pub(super) fn from_bytes(
        path: &Path,
        bytes: &[u8],
        Sizes { lists, width, entries }: Sizes,
    ) -> Result<Self, DatastoreError> {
        let form = |what: String| DatastoreError::Form { path: path.into(), what };
        let file = checksum::from_bytes(bytes).map_err(|error| form(error.to_string()))?;
        let tensor = |name: &str, dtype: Dtype, shape: &[usize]| {
            let tensor = file.tensor(name).map_err(|error| form(error.to_string()))?;
            if tensor.dtype() != dtype || tensor.shape() != shape {
                let got = tensor.shape();
                return Err(form(format!("`{name}` has shape {got:?} in place of {shape:?}")));
            }
            Ok(tensor)
        };
        let centroids = tensor(CENTROIDS, Dtype::F32, &[lists, width])?;
        let starts = tensor(STARTS, Dtype::U64, &[lists + 1])?;
        let centroids: Vec<f32> =
            centroids.data().as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
        let starts: Vec<u64> =
            starts.data().as_chunks::<8>().0.iter().map(|x| u64::from_le_bytes(*x)).collect();
        if !centroids.iter().all(|x| x.is_finite()) {
            return Err(form("a centroid is not finite".into()));
        }
        let ends = starts.first() == Some(&0) && starts.last() == Some(&entries);
        if !ends || !starts.is_sorted() {
            return Err(form("its lists do not rise from the first entry to the last".into()));
        }
        Ok(Self { centroids, starts })
    }
}
