//! The files of a recipe, and that they are the ones it means.

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longhand_text::TableFormat;
use longhand_text::corpus::Header;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::RecipeError;

/// The most of the built-in sample that a run learns from: it is told in memory.
pub const MOST_SAMPLE_BYTES: usize = 1 << 30;

/// The text of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Files and folders to train on; none for the built-in sample.
    pub train: Vec<PathBuf>,
    /// Files to validate on, instead of a part of `train`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub valid: Vec<PathBuf>,
    /// Files to test on when the run has ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<PathBuf>,
    /// The file of the targets of a file of sources, line by line, for tasks whose answers are written.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<PathBuf, PathBuf>,
    /// Share of `train` that a writing task tests on, by the hash of its sources (of a dialogue, of what
    /// the user says first), without `test` (0).
    #[serde(skip_serializing_if = "is_default")]
    pub test_fraction: f64,
    /// The last part of `train` that validates (0.1); 0 for none. Not used with `valid`.
    pub valid_fraction: f64,
    /// Share of the text that is read, in stretches drawn by the training's seed (1). Without it,
    /// a run with a time budget reads what it can prepare in a part of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The column of tables that holds the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// The tables that the files are, where their names do not tell: `jsonl`, `csv`, `tsv`,
    /// `parquet`, for a task `labelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TableFormat>,
    /// Whether the first row of a task's table names the columns: `auto`, `yes` or `no` (`auto`).
    #[serde(skip_serializing_if = "is_default")]
    pub header: Header,
    /// The number of folds of a task's cross-validation, at least 2: each part of `train` is the test
    /// of a run that learns from the others; no cross-validation where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folds: Option<NonZeroUsize>,
    /// The fold that this run tests on, from 1; every fold in turns where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<NonZeroUsize>,
    /// Examples of each label that a task learns from, drawn by the training's seed; all where not
    /// given. What is held out to validate on stays whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots: Option<NonZeroUsize>,
    /// Whether a task counts each text once: repeats are dropped from `train`, and texts of `train`
    /// from `valid` and `test` (false).
    #[serde(skip_serializing_if = "is_default")]
    pub distinct: bool,
    /// Replace invalid UTF-8 instead of stopping (false).
    pub lossy: bool,
    /// Seed of the built-in sample (1).
    pub sample_seed: u64,
    /// Bytes of the built-in sample (4 MiB); at most [`MOST_SAMPLE_BYTES`].
    pub sample_bytes: usize,
    /// SHA-256 of files as stored.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sha256: BTreeMap<PathBuf, String>,
    /// Where the files can be had, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            valid: Vec::new(),
            test: Vec::new(),
            targets: BTreeMap::new(),
            test_fraction: 0.0,
            valid_fraction: 0.1,
            share: None,
            text_column: None,
            format: None,
            header: Header::Auto,
            folds: None,
            fold: None,
            shots: None,
            distinct: false,
            lossy: false,
            sample_seed: 1,
            sample_bytes: 4 << 20,
            sha256: BTreeMap::new(),
            source: String::new(),
        }
    }
}

impl Data {
    /// Makes every path one under `root`.
    pub(super) fn resolve(&mut self, root: &Path) {
        let lists = [&mut self.train, &mut self.valid, &mut self.test];
        for path in lists.into_iter().flatten() {
            *path = root.join(&*path);
        }
        let targets = std::mem::take(&mut self.targets).into_iter();
        self.targets =
            targets.map(|(source, target)| (root.join(source), root.join(target))).collect();
        let hashes = std::mem::take(&mut self.sha256).into_iter();
        self.sha256 = hashes.map(|(path, hash)| (root.join(path), hash)).collect();
    }

    /// Learns from other files: what is held out of those before goes with them.
    pub fn learn_from(&mut self, train: Vec<PathBuf>) {
        self.train = train;
        self.valid.clear();
        self.test.clear();
        self.targets.clear();
        self.source.clear();
    }

    /// The files that are read, those of targets included.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let sources = || [&self.train, &self.valid, &self.test].into_iter().flatten();
        sources().chain(sources().filter_map(|source| self.targets.get(source)))
    }

    /// Checks that every file is there and is the one that the recipe means. Hashes of files that
    /// others have replaced are dropped.
    ///
    /// # Errors
    /// [`RecipeError::Missing`] or [`RecipeError::Hash`] for the first file that is
    /// missing or another one.
    pub fn verify(&mut self) -> Result<(), RecipeError> {
        let used: Vec<PathBuf> = self.files().cloned().collect();
        self.sha256.retain(|path, _| used.iter().any(|used| path.starts_with(used)));
        for path in &used {
            if !path.exists() {
                let (path, source_of_data) = (path.clone(), self.source.clone());
                return Err(RecipeError::Missing { path, source_of_data });
            }
        }
        for (path, expected) in &self.sha256 {
            let got = sha256(path)?;
            if got != expected.to_ascii_lowercase() {
                let (path, expected) = (path.clone(), expected.clone());
                return Err(RecipeError::Hash { path, expected, got });
            }
        }
        Ok(())
    }
}

/// SHA-256 of a file as stored, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
