//! Checkpoints: folders from which a run goes on bit for bit.
//!
//! ```text
//! checkpoints/step-000000001200/   config.json, model.safetensors, further files (tokenizer.json),
//!                                  optimizer.safetensors, memory.safetensors, trainer.json
//! checkpoints/best-000000000800/   config.json, model.safetensors, further files: the weights as
//!                                  they were evaluated
//! ```
//!
//! Where a run trains an adapter, the adapter's two files are there instead of the model's.
//!
//! A folder is written under a name that begins with a dot, synced to the disk, and then renamed:
//! under its final name it is whole. `trainer.json` holds a hash of every other file and of itself,
//! and each safetensors file has [checksums](longhand_model::checksum) of its own: later damage is
//! noticed when the folder is read. The run keeps the last few folders, and each best one that
//! a kept folder names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use longhand_model::adapter::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, Base};
use longhand_model::file::{self, CONFIG_FILE, Values, WEIGHTS_FILE};
use longhand_model::{
    Adapter, Config, ConfigError, Group, Model, NamedTensor, State, StateError, WeightsError,
    checksum,
};
use serde::{Deserialize, Serialize};

use crate::average::AverageKind;
use crate::divergence::Losses;
use crate::objective::Score;
use crate::optimizer::NamedBuffer;
use crate::saved::SavedWeights;
use crate::{Settings, TrainError};

/// The version of `trainer.json` that is written. Version 2, which has no hash of the file
/// itself, is read too.
pub const VERSION: u32 = 3;
const WITHOUT_CHECKSUM: u32 = 2;

const TRAINER_FILE: &str = "trainer.json";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const MEMORY_FILES: [&str; 2] = ["memory.safetensors", "rehearsed_memory.safetensors"];

/// The folder of a run's checkpoints, and how many of them are kept.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    further: Vec<(String, Vec<u8>)>,
    /// The base of the adapter that is trained; none where a whole model is.
    base: Option<Base>,
}

/// Counters of a memory: tokens read, and tokens since the last reset, by stream.
pub type Counters = (Vec<u64>, Vec<u64>);

/// The progress of a run: `trainer.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Version of the file's form, now [`VERSION`].
    pub version: u32,
    /// Steps made since the run began.
    pub step: u64,
    /// Tokens read since the run began.
    pub tokens: u64,
    /// Seconds spent since the run began.
    pub seconds: f64,
    /// The position in the data, in the objective's own form.
    pub position: serde_json::Value,
    /// Every evaluation so far.
    pub evaluations: Vec<Evaluation>,
    /// The best of them.
    pub best: Option<Best>,
    /// Evaluations since the best.
    pub stale: u32,
    /// Times that the schedule saw the loss stop to fall, and evaluations since the last time.
    pub plateaus: (u32, u32),
    /// Seconds of the longest evaluation: the budget leaves room for the last one.
    pub longest_evaluation: f64,
    /// Tokens that an evaluation reads at most; none before the first one with a time budget.
    #[serde(default)]
    pub held_out: Option<u64>,
    /// The kind of average of the weights, and how many have been taken in.
    pub average: Option<(AverageKind, u64)>,
    /// Counters of the carried memory.
    pub memory: Option<Counters>,
    /// The same of the memory of a rehearsed objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed_memory: Option<Counters>,
    /// The losses that show whether the run has diverged; none before the first step.
    #[serde(default)]
    pub losses: Option<Losses>,
    /// Parameters that are not trained as usual from the first step on, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupState>,
    /// The settings of the run. Dropout masks follow from the seed and the step, so there is
    /// no other random state.
    pub settings: Settings,
    /// BLAKE3 hashes of the folder's other files, by name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// BLAKE3 hash of `trainer.json` with zeros in the place of this hash; empty until written.
    #[serde(default)]
    pub checksum: String,
}

/// How a parameter is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupState {
    /// Factor of the learning rate (1).
    pub rate: f32,
    /// Factor of the weight decay (1).
    pub decay: f32,
    /// Whether it is trained (true).
    pub trainable: bool,
    /// Steps of the run before it was trained (0).
    pub begun: u64,
}

/// An evaluation, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Steps made before the evaluation.
    pub step: u64,
    /// Mean loss on the held-out data, in nats.
    pub loss: f64,
}

/// The best evaluation of a run so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps made before the evaluation.
    pub step: u64,
    /// The score on the held-out data.
    pub score: Score,
}

/// A checkpoint that was read.
pub struct Checkpoint {
    /// Folder that the checkpoint was read from.
    pub folder: PathBuf,
    /// Progress of the run when it was written.
    pub trainer: TrainerState,
    /// The model, or its adapter.
    pub weights: SavedWeights,
    /// Tensors of the optimiser and the average by name.
    pub buffers: HashMap<String, Vec<f32>>,
    /// The streams' state, if the objective carries one.
    pub memories: [Option<State>; 2],
    /// Later folders that are damaged.
    pub damaged: Vec<PathBuf>,
}

/// Why a `trainer.json` is refused. Each message goes on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum TrainerStateError {
    /// It is no such file.
    #[error(": {0}")]
    Form(#[from] serde_json::Error),
    /// It differs from the file that was written.
    #[error(" is damaged: its checksum does not match")]
    Damaged,
    /// Another version of this program wrote it.
    #[error(" has version {0}; this program reads {VERSION}")]
    Version(u32),
}

impl GroupState {
    pub(crate) fn new(Group { rate, decay, trainable }: Group, begun: u64) -> Self {
        Self { rate, decay, trainable, begun }
    }

    pub(crate) fn group(self) -> Group {
        let Self { rate, decay, trainable, .. } = self;
        Group { rate, decay, trainable }
    }
}

impl Default for GroupState {
    fn default() -> Self {
        Self::new(Group::default(), 0)
    }
}

/// Why a checkpoint's folder is refused. Each message names the file.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    /// A file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The file `trainer.json` is refused.
    #[error("{TRAINER_FILE}{0}")]
    Trainer(#[from] TrainerStateError),
    /// A file that belongs to the checkpoint has no hash in `trainer.json`.
    #[error("{TRAINER_FILE} has no checksum of {0}")]
    NoChecksum(String),
    /// A file differs from the one that was written.
    #[error("{0} is damaged: its checksum does not match")]
    Damaged(String),
    /// The configuration is refused.
    #[error("{CONFIG_FILE}: {0}")]
    Config(#[from] ConfigError),
    /// A safetensors file is refused.
    #[error("{file}: {source}")]
    Tensors {
        /// Name of the refused file.
        file: String,
        /// The tensor, and what is wrong with it.
        source: WeightsError,
    },
    /// The adapter is refused; the message names the file.
    #[error("{0}")]
    Adapter(String),
    /// A memory does not fit the model.
    #[error("{file}: {source}")]
    Memory {
        /// Name of the refused file.
        file: &'static str,
        /// What does not fit.
        source: StateError,
    },
}

impl TrainerState {
    /// Reads `trainer.json`, and compares its checksum.
    ///
    /// # Errors
    /// A damaged file, or one of another version.
    ///
    /// ```
    /// use longhand_train::checkpoint::TrainerState;
    ///
    /// let error = TrainerState::from_json(b"{}").unwrap_err().to_string();
    /// assert!(error.starts_with(": missing field"), "{error}");
    /// ```
    pub fn from_json(bytes: &[u8]) -> Result<Self, TrainerStateError> {
        let text = str::from_utf8(bytes).map_err(|_| TrainerStateError::Damaged)?;
        let trainer: Self = serde_json::from_str(text)?;
        match trainer.version {
            WITHOUT_CHECKSUM if trainer.checksum.is_empty() => Ok(trainer),
            // A file of version 2 has no checksum: with one, its version is what is damaged.
            VERSION | WITHOUT_CHECKSUM => {
                // The checksum is the last field.
                let begin = text.rfind(&trainer.checksum).unwrap_or(text.len());
                let (before, rest) = text.split_at(begin);
                let after = rest.get(trainer.checksum.len()..).unwrap_or_default();
                let blank = [before, &no_hash(), after].concat();
                match blake3::hash(blank.as_bytes()).to_hex().as_str() == trainer.checksum {
                    true => Ok(trainer),
                    false => Err(TrainerStateError::Damaged),
                }
            }
            version => Err(TrainerStateError::Version(version)),
        }
    }

    /// `trainer.json`, with its checksum filled in.
    fn seal(&mut self) -> serde_json::Result<String> {
        self.checksum = no_hash();
        let blank = serde_json::to_string_pretty(self)?;
        self.checksum = blake3::hash(blank.as_bytes()).to_hex().to_string();
        serde_json::to_string_pretty(self)
    }
}

impl Checkpoints {
    /// Checkpoints in a folder, which is made when the first is written.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.into(), keep: keep.max(1), further: Vec::new(), base: None }
    }

    /// A file that each checkpoint holds as well: with the tokeniser, each is a model folder.
    #[must_use]
    pub fn with_file(mut self, name: &str, content: Vec<u8>) -> Self {
        self.further.push((name.into(), content));
        self
    }

    /// Saves the model as an adapter of a base, which each checkpoint then names.
    #[must_use]
    pub fn with_base(mut self, base: Base) -> Self {
        self.base = Some(base);
        self
    }

    /// The folder of a step's checkpoint.
    pub fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:012}"))
    }

    /// The folder of the best weights, found after a step.
    pub fn best_path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("best-{step:012}"))
    }

    /// Writes a checkpoint, then removes those that are no longer kept.
    ///
    /// # Errors
    /// [`TrainError::File`] or [`TrainError::Io`] if a file cannot be written. The earlier
    /// checkpoints are unchanged then.
    pub fn save(
        &self,
        mut trainer: TrainerState,
        model: &Model,
        buffers: &[NamedBuffer<'_>],
        memories: [Option<&State>; 2],
    ) -> Result<PathBuf, TrainError> {
        let path = self.path(trainer.step);
        let tensors = buffers.iter().map(|b| (b.name.as_str(), Values::exact(b.shape, b.data)));
        // A file without a single tensor needs metadata to be one that can be read.
        let metadata = BTreeMap::from([("step".into(), trainer.step.to_string())]);
        let optimizer = file::serialize(tensors, metadata);
        let counters = |state: &State| (state.positions().to_vec(), state.since_reset().to_vec());
        [trainer.memory, trainer.rehearsed_memory] = memories.map(|state| state.map(counters));
        let memories = memories.map(|state| {
            let tensors = state?.to_tensors();
            let tensors = tensors.iter().map(|tensor| (&*tensor.name, Values::from(tensor)));
            Some(file::serialize(tensors, BTreeMap::new()))
        });
        self.write_folder(&path, |beside| {
            SavedWeights::write(model, self.base.as_ref(), beside)?;
            file::write(&beside.join(OPTIMIZER_FILE), &optimizer)?;
            for (name, memory) in MEMORY_FILES.into_iter().zip(&memories) {
                if let Some(memory) = memory {
                    file::write(&beside.join(name), memory)?;
                }
            }
            trainer.files = hashes(beside)?;
            let json = trainer.seal().map_err(std::io::Error::other)?;
            Ok(file::write(&beside.join(TRAINER_FILE), json.as_bytes())?)
        })?;
        self.prune(&trainer)?;
        Ok(path)
    }

    /// Writes the weights of the best evaluation. Older ones are removed with the
    /// checkpoints that name them.
    ///
    /// # Errors
    /// [`TrainError::File`] or [`TrainError::Io`] if the folder cannot be written.
    pub fn save_best(&self, step: u64, model: &Model) -> Result<PathBuf, TrainError> {
        let path = self.best_path(step);
        self.write_folder(&path, |beside| SavedWeights::write(model, self.base.as_ref(), beside))?;
        Ok(path)
    }

    /// Reads the newest checkpoint that is whole; none where there is none at all.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if there are checkpoints and all are damaged.
    pub fn latest(&self) -> Result<Option<Checkpoint>, TrainError> {
        let mut damaged = Vec::new();
        let mut first_error = None;
        for (_, folder) in self.folders("step-")?.into_iter().rev() {
            match read(&folder) {
                Ok(checkpoint) => return Ok(Some(Checkpoint { damaged, ..checkpoint })),
                Err(error) => {
                    let reason = error.to_string();
                    first_error
                        .get_or_insert(TrainError::Checkpoint { folder: folder.clone(), reason });
                    damaged.push(folder);
                }
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// Folders whose names begin so, by step.
    fn folders(&self, prefix: &str) -> Result<Vec<(u64, PathBuf)>, TrainError> {
        let mut folders = Vec::new();
        for name in self.names()? {
            if let Some(step) = name.strip_prefix(prefix).and_then(|step| step.parse().ok()) {
                folders.push((step, self.folder.join(name)));
            }
        }
        folders.sort();
        Ok(folders)
    }

    fn names(&self) -> Result<Vec<String>, TrainError> {
        let entries = match fs_err::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Makes a folder whole beside its place, and renames it.
    fn write_folder(
        &self,
        path: &Path,
        fill: impl FnOnce(&Path) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        fs_err::create_dir_all(&self.folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = self.folder.join(format!(".partial-{name}"));
        remove(&beside)?;
        fs_err::create_dir(&beside)?;
        let filled = self
            .further
            .iter()
            .try_for_each(|(name, content)| Ok(file::write(&beside.join(name), content)?))
            .and_then(|()| fill(&beside))
            .and_then(|()| Ok(sync(&beside)?));
        if let Err(error) = filled {
            // On a full disk the space is needed for what is kept; the first error is the one to
            // tell.
            let _ = remove(&beside);
            return Err(error);
        }
        // A folder of that name is there when a resumed run comes by again.
        let old = self.folder.join(format!(".old-{name}"));
        if path.exists() {
            remove(&old)?;
            fs_err::rename(path, &old)?;
        }
        fs_err::rename(&beside, path)?;
        sync(&self.folder)?;
        remove(&old)?;
        Ok(())
    }

    /// Removes checkpoints beyond the last few, later ones of a run that was set back, best
    /// weights that no kept checkpoint names, and what a killed process left half-written.
    fn prune(&self, saved: &TrainerState) -> Result<(), TrainError> {
        let folders = self.folders("step-")?;
        let newer = |step: &u64| *step > saved.step;
        let older = folders.iter().rev().filter(|(step, _)| !newer(step));
        let mut best = BTreeSet::from_iter(saved.best.as_ref().map(|best| best.step));
        for (place, (step, folder)) in older.enumerate() {
            if place >= self.keep {
                self.discard(folder)?;
            } else if *step != saved.step
                && let Ok(trainer) = read_trainer(folder)
            {
                best.extend(trainer.best.map(|best| best.step));
            }
        }
        for (_, folder) in folders.iter().filter(|(step, _)| newer(step)) {
            self.discard(folder)?;
        }
        for (step, folder) in self.folders("best-")? {
            if !best.contains(&step) {
                self.discard(&folder)?;
            }
        }
        for name in self.names()? {
            if name.starts_with(".partial-") || name.starts_with(".old-") {
                remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Renames before it removes, so that a folder under its own name is always whole.
    fn discard(&self, folder: &Path) -> Result<(), TrainError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let old = self.folder.join(format!(".old-{name}"));
        remove(&old)?;
        fs_err::rename(folder, &old)?;
        Ok(remove(&old)?)
    }
}

/// Zeros, as long as a hash.
fn no_hash() -> String {
    blake3::Hash::from_bytes([0; blake3::OUT_LEN]).to_hex().to_string()
}

fn read_trainer(folder: &Path) -> Result<TrainerState, CheckpointError> {
    Ok(TrainerState::from_json(&fs_err::read(folder.join(TRAINER_FILE))?)?)
}

fn read(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    let trainer = read_trainer(folder)?;
    let weights = read_weights(folder, &trainer)?;
    let buffers = tensors(OPTIMIZER_FILE, &content(folder, &trainer, OPTIMIZER_FILE)?)?;
    let buffers = buffers.into_iter().map(|t| (t.name.into_owned(), t.values.into_owned()));
    let buffers = buffers.collect();
    let mut memories = [None, None];
    let counters = [&trainer.memory, &trainer.rehearsed_memory];
    for ((memory, counters), file) in memories.iter_mut().zip(counters).zip(MEMORY_FILES) {
        let Some((positions, since_reset)) = counters else { continue };
        let tensors = tensors(file, &content(folder, &trainer, file)?)?;
        let layout = weights.state_layout().map_err(|error| error.to_string());
        let layout = layout.map_err(CheckpointError::Adapter)?;
        let state = State::from_tensors(&layout, positions, since_reset, tensors);
        *memory = Some(state.map_err(|source| CheckpointError::Memory { file, source })?);
    }
    let read = [&SavedWeights::FILES[..], &[OPTIMIZER_FILE], &MEMORY_FILES].concat();
    for name in trainer.files.keys().filter(|name| !read.contains(&name.as_str())) {
        content(folder, &trainer, name)?;
    }
    let (folder, damaged) = (folder.into(), Vec::new());
    Ok(Checkpoint { folder, trainer, weights, buffers, memories, damaged })
}

/// The weights of a checkpoint, whose files are those that it was written with.
fn read_weights(folder: &Path, trainer: &TrainerState) -> Result<SavedWeights, CheckpointError> {
    if trainer.files.contains_key(ADAPTER_CONFIG_FILE) {
        let config = content(folder, trainer, ADAPTER_CONFIG_FILE)?;
        let weights = content(folder, trainer, ADAPTER_WEIGHTS_FILE)?;
        let adapter = Adapter::from_bytes(Path::new(""), &config, &weights);
        let adapter = adapter.map_err(|error| CheckpointError::Adapter(error.to_string()))?;
        return Ok(SavedWeights::Adapter(Box::new(adapter)));
    }
    let config = Config::from_json(&content(folder, trainer, CONFIG_FILE)?)?;
    let weights = content(folder, trainer, WEIGHTS_FILE)?;
    let model = Model::from_bytes(config, &weights)
        .map_err(|source| CheckpointError::Tensors { file: WEIGHTS_FILE.into(), source })?;
    Ok(SavedWeights::Model(Box::new(model)))
}

/// A file of a checkpoint whose hash is the one in `trainer.json`.
fn content(folder: &Path, trainer: &TrainerState, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let Some(hash) = trainer.files.get(name) else {
        return Err(CheckpointError::NoChecksum(name.into()));
    };
    let bytes = fs_err::read(folder.join(name))?;
    if blake3::hash(&bytes).to_hex().as_str() == hash {
        return Ok(bytes);
    }
    // A file's own checksums tell which tensor it is.
    match checksum::from_bytes(&bytes) {
        Err(error) if name.ends_with(".safetensors") => {
            Err(CheckpointError::Tensors { file: name.into(), source: error.into() })
        }
        _ => Err(CheckpointError::Damaged(name.into())),
    }
}

fn tensors(name: &str, bytes: &[u8]) -> Result<Vec<NamedTensor<'static>>, CheckpointError> {
    let fail = |source| CheckpointError::Tensors { file: name.into(), source };
    let file = checksum::from_bytes(bytes).map_err(|error| fail(error.into()))?;
    let tensors = file.tensors().into_iter().map(|(name, tensor)| {
        let (values, precision) = file::values(&name, &tensor).map_err(fail)?;
        let shape = tensor.shape().to_vec();
        Ok(NamedTensor { name: name.into(), shape, values: values.into(), precision })
    });
    tensors.collect()
}

fn hashes(folder: &Path) -> Result<BTreeMap<String, String>, TrainError> {
    let mut hashes = BTreeMap::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            let content = fs_err::read(entry.path())?;
            hashes.insert(name, blake3::hash(&content).to_hex().to_string());
        }
    }
    Ok(hashes)
}

/// Removes a folder that may not be there.
fn remove(folder: &Path) -> std::io::Result<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Brings a folder's list of names to the disk.
fn sync(folder: &Path) -> std::io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and renaming is durable enough by itself.
    if cfg!(unix) { fs_err::File::open(folder)?.sync_all() } else { Ok(()) }
}
