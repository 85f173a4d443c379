//! Baselines: models without a neural body, which show what a body buys.
//!
//! The path of the data:
//! 1. [`settings`]: a recipe's `baseline` table names the model;
//! 2. `grams` cuts texts into n-grams, with those that two texts share, and `index` numbers them;
//! 3. `majority`, `nb_lr` and `ngram_linear` are the models that tell classes apart, `logistic` the
//!    descent that one needs, and `lead` is the one that writes: the beginning of a text. `majority`
//!    also gives several labels, and `word_tags` a tag to each word; `crf` gives tags to the words of
//!    a sentence, by their neighbours and by one another;
//! 4. `tensors` writes them to `model.safetensors`, beside [`BASELINE_FILE`].
//!
//! They learn from texts and right answers ([`learning`]), and know no task.

use std::path::Path;

use longhand_model::file::WEIGHTS_FILE;
use longhand_train::{TrainError, Watch};

mod crf;
mod error;
mod grams;
mod index;
pub(crate) mod lead;
pub mod learning;
mod logistic;
mod majority;
mod nb_lr;
mod ngram_linear;
pub mod settings;
mod tensors;
mod word_tags;

pub use error::BaselineError;
pub use learning::{Form, Labelled, Learning, Right};
pub use settings::BaselineSettings;

use crf::Crf;
use lead::Lead;
use majority::Majority;
use nb_lr::NbLr;
use ngram_linear::NgramLinear;
use settings::{CrfSettings, LeadSettings, NbLrSettings, NgramLinearSettings};
use tensors::Tensors;

/// The file of a model folder that names the baseline and its settings.
pub const BASELINE_FILE: &str = "baseline.json";

/// A trained baseline: it tells classes of texts apart, gives labels or tags, or writes a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Baseline {
    /// The commonest class or labels for every text, or the commonest tag of each word.
    Majority(Majority),
    /// Naive Bayes logistic regression.
    NbLr(NbLrSettings, NbLr),
    /// The classifier of fastText, by the mean of vectors.
    NgramLinear(NgramLinearSettings, NgramLinear),
    /// A conditional random field over the words of a sentence.
    Crf(CrfSettings, Crf),
    /// The beginning of a text, as its summary.
    Lead(LeadSettings, Lead),
}

impl Baseline {
    /// Trains a baseline on examples.
    ///
    /// # Errors
    /// [`TrainError::Stopped`] of `watch`; texts with too many n-grams.
    pub fn fit(
        settings: &BaselineSettings,
        learning: &Learning<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, TrainError> {
        Ok(match settings.clone() {
            BaselineSettings::Majority {} => Self::Majority(Majority::fit(learning)),
            BaselineSettings::NbLr(settings) => {
                let model = NbLr::fit(&settings, learning, watch)?;
                Self::NbLr(settings, model)
            }
            BaselineSettings::NgramLinear(settings) => {
                let model = NgramLinear::fit(&settings, learning, watch)?;
                Self::NgramLinear(settings, model)
            }
            BaselineSettings::Crf(settings) => {
                let model = Crf::fit(&settings, learning, watch)?;
                Self::Crf(settings, model)
            }
            BaselineSettings::Lead(settings) => {
                let model = Lead::fit(&settings, learning);
                Self::Lead(settings, model)
            }
        })
    }

    /// The text that it writes for the texts of one example; none where it has logits.
    pub fn text<'a>(&self, texts: &[&'a str]) -> Option<&'a str> {
        match self {
            Self::Lead(settings, model) => {
                Some(texts.first().map_or("", |text| model.of(settings.unit, text)))
            }
            Self::Majority(_) | Self::NbLr(..) | Self::NgramLinear(..) | Self::Crf(..) => None,
        }
    }

    /// Whether it reads the words of one chain at a time, see [`BaselineSettings::reads_chains`].
    pub fn reads_chains(&self) -> bool {
        matches!(self, Self::Crf(..))
    }

    /// The form of its answers.
    pub fn form(&self) -> Form {
        match self {
            Self::Majority(model) => model.form(),
            Self::NbLr(..) | Self::NgramLinear(..) => Form::Class,
            Self::Crf(..) => Form::Tags,
            Self::Lead(..) => Form::Text,
        }
    }

    /// `[K]`: the logits of the classes or labels for the texts of one example; `[n, K]` of the tags of
    /// n texts, which are those of one chain where it reads chains; empty where it writes a text.
    pub fn logits(&self, texts: &[&str]) -> Vec<f32> {
        match self {
            Self::Majority(model) => model.logits(texts),
            Self::NbLr(_, model) => model.logits(texts),
            Self::NgramLinear(_, model) => model.logits(texts),
            Self::Crf(_, model) => model.logits(texts),
            Self::Lead(..) => Vec::new(),
        }
    }

    /// The number of classes, labels or tags K; 0 where it writes a text.
    pub fn classes(&self) -> usize {
        match self {
            Self::Majority(model) => model.classes(),
            Self::NbLr(_, model) => model.classes(),
            Self::NgramLinear(_, model) => model.classes(),
            Self::Crf(_, model) => model.tags(),
            Self::Lead(..) => 0,
        }
    }

    /// Numbers in the model.
    pub fn parameters(&self) -> usize {
        self.tensors().parameters()
    }

    /// The settings that it was trained with.
    pub fn settings(&self) -> BaselineSettings {
        match self {
            Self::Majority(_) => BaselineSettings::Majority {},
            Self::NbLr(settings, _) => BaselineSettings::NbLr(settings.clone()),
            Self::NgramLinear(settings, _) => BaselineSettings::NgramLinear(settings.clone()),
            Self::Crf(settings, _) => BaselineSettings::Crf(settings.clone()),
            Self::Lead(settings, _) => BaselineSettings::Lead(settings.clone()),
        }
    }

    /// Names and contents of its files, the one that names the baseline last.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let settings = self.settings();
        // Plain data with string keys: serialising it cannot fail.
        let mut json = serde_json::to_vec_pretty(&settings).unwrap_or_default();
        json.push(b'\n');
        vec![(WEIGHTS_FILE, self.to_bytes()), (BASELINE_FILE, json)]
    }

    /// The content of the weights file, see [`Self::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.tensors().to_bytes(&line(&self.settings()))
    }

    /// Reads the baseline of a model folder; none where the folder holds another kind of model.
    ///
    /// # Errors
    /// A file that is missing or damaged, or that does not belong to the other one.
    pub fn load(folder: &Path) -> Result<Option<Self>, BaselineError> {
        let path = folder.join(BASELINE_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = fs_err::read(&path)?;
        let refused = |source| BaselineError::Settings { path: path.clone(), source };
        let settings: BaselineSettings = serde_json::from_slice(&bytes).map_err(refused)?;
        settings.check()?;
        let path = folder.join(WEIGHTS_FILE);
        Self::from_bytes(&settings, &fs_err::read(&path)?, &path).map(Some)
    }

    /// Reads the weights file at `path`, whose bytes are given.
    ///
    /// # Errors
    /// Bytes that are damaged, or the weights of other settings.
    pub fn from_bytes(
        settings: &BaselineSettings,
        bytes: &[u8],
        path: &Path,
    ) -> Result<Self, BaselineError> {
        let tensors = Tensors::from_bytes(bytes, path, &line(settings))?;
        let baseline = match settings.clone() {
            BaselineSettings::Majority {} => Self::Majority(Majority::read(&tensors)?),
            BaselineSettings::NbLr(settings) => {
                let model = NbLr::read(&settings, &tensors)?;
                Self::NbLr(settings, model)
            }
            BaselineSettings::NgramLinear(settings) => {
                let model = NgramLinear::read(&settings, &tensors)?;
                Self::NgramLinear(settings, model)
            }
            BaselineSettings::Crf(settings) => {
                let model = Crf::read(&settings, &tensors)?;
                Self::Crf(settings, model)
            }
            BaselineSettings::Lead(settings) => Self::Lead(settings, Lead::read(&tensors)?),
        };
        let least = match baseline.form() {
            Form::Class | Form::Tags => 2,
            Form::Labels => 1,
            Form::Text => 0,
        };
        match baseline.classes() >= least {
            true => Ok(baseline),
            false => Err(tensors.wrong(format!("it has fewer than {least} answers"))),
        }
    }

    fn tensors(&self) -> Tensors {
        let mut tensors = Tensors::default();
        match self {
            Self::Majority(model) => model.write(&mut tensors),
            Self::NbLr(_, model) => model.write(&mut tensors),
            Self::NgramLinear(_, model) => model.write(&mut tensors),
            Self::Crf(_, model) => model.write(&mut tensors),
            Self::Lead(_, model) => model.write(&mut tensors),
        }
        tensors
    }
}

/// The settings in one line, as the weights file names them.
fn line(settings: &BaselineSettings) -> String {
    // Plain data with string keys: serialising it cannot fail.
    serde_json::to_string(settings).unwrap_or_default()
}

#[cfg(test)]
mod tests;
