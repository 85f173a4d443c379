//! Whether a model folder is whole: its files and their hashes, its configuration, its tokeniser,
//! and some tokens that it writes.

use std::path::Path;
use std::sync::Arc;

use longhand_engine::{Cpu, Engine, EngineError, LanguageModel, SamplerSettings};
use longhand_model::checksum;
use longhand_model::file::WEIGHTS_FILE;
use longhand_tasks::predictor::{self, Trained};
use longhand_text::Decoder;

use super::check::Check;
use super::machine::size;
use crate::error::sentence;
use crate::reading::any_model_folder;

/// Tokens that the model writes.
const WRITTEN: usize = 16;
/// The text that it goes on from; the tokeniser reads and writes it.
const TEXT: &str = "One day she went to the river. 有一天，她去了河边。";

/// What was found of a model.
pub(crate) struct Examined {
    pub(crate) checks: Vec<Check>,
    /// The model, if it is a language model.
    pub(crate) engine: Option<Arc<Engine>>,
    /// Bytes of its weights.
    pub(crate) bytes: u64,
}

/// Reads the model in `folder` as every other verb does, and lets it write.
pub(crate) fn examine(folder: &Path, cpu: &Arc<Cpu>) -> Examined {
    let folder = match any_model_folder(folder) {
        Ok(folder) => folder,
        // There is nothing to copy again where the path is wrong.
        Err(error) if !folder.is_dir() => {
            return wrong(sentence(&error), "Check the path: no model was examined.");
        }
        Err(error) => return broken(sentence(&error)),
    };
    match Engine::load(folder) {
        Ok(engine) => language(folder, &engine, cpu),
        Err(EngineError::NotLanguageModel | EngineError::NotCausal | EngineError::NeedsSource) => {
            task(folder)
        }
        // A baseline has no weights of a network.
        Err(_) if predictor::open(folder, folder, &[]).is_ok() => task(folder),
        Err(error) => broken(sentence(&error.into())),
    }
}

fn broken(found: String) -> Examined {
    wrong(found, "Copy the folder again from where it was made, or train it anew.")
}

fn wrong(found: String, advice: &str) -> Examined {
    Examined { checks: vec![Check::wrong("model", found, advice)], engine: None, bytes: 0 }
}

fn language(folder: &Path, engine: &Arc<Engine>, cpu: &Arc<Cpu>) -> Examined {
    let (kind, bytes) = match engine.model() {
        LanguageModel::Network(model) => {
            let config = model.config();
            let blocks = config.blocks.len();
            let kind =
                format!("{} blocks of width {}, {}", blocks, config.width, config.weights.name());
            (kind, model.weights.bytes() as u64)
        }
        LanguageModel::Ngram(model) => ("n-gram model".into(), 4 * model.parameters() as u64),
    };
    let found = format!(
        "{}: {kind}; {} parameters; {}",
        folder.display(),
        engine.model().parameters(),
        hashes(folder)
    );
    let checks = vec![Check::well("model", found), tokenizer(engine), decode(engine, cpu)];
    Examined { checks, engine: Some(engine.clone()), bytes }
}

/// A model of a task: it is opened, and so are its labels.
fn task(folder: &Path) -> Examined {
    let (file, trained) = match predictor::open(folder, folder, &[]) {
        Ok(opened) => opened,
        // A bare body, such as one that fills masks, does no task yet.
        Err(longhand_tasks::TaskError::NotATask(_)) => {
            let found = format!("{}: a body without a task; {}", folder.display(), hashes(folder));
            let checks = vec![Check::well("model", found)];
            return Examined { checks, engine: None, bytes: 0 };
        }
        Err(error) => return broken(sentence(&error.into())),
    };
    let parameters = match &trained {
        Trained::Network(network) => network.model.weights.count(),
        Trained::Baseline(baseline) => baseline.parameters(),
    };
    let bytes = match &trained {
        Trained::Network(network) => network.model.weights.bytes() as u64,
        Trained::Baseline(_) => 4 * parameters as u64,
    };
    let found = format!(
        "{}: does the task {}; {parameters} parameters; {}",
        folder.display(),
        file.name(),
        hashes(folder)
    );
    Examined { checks: vec![Check::well("model", found)], engine: None, bytes }
}

/// Whether the weights have hashes, which were compared when they were read.
fn hashes(folder: &Path) -> String {
    let path = folder.join(WEIGHTS_FILE);
    let Ok(bytes) = fs_err::read(&path) else { return "no file of weights".into() };
    match checksum::has_checksums(&bytes) {
        true => format!("{}, all hashes agree", size(bytes.len() as u64)),
        false => format!("{}, written without hashes", size(bytes.len() as u64)),
    }
}

/// Whether a text becomes ids of the model and comes out again.
fn tokenizer(engine: &Arc<Engine>) -> Check {
    let tokenizer = engine.tokenizer();
    let advice = "Copy tokenizer.json again from where the model was made.";
    let ids = match tokenizer.encode(TEXT) {
        Ok(ids) => ids,
        Err(error) => return Check::wrong("tokeniser", error.to_string(), advice),
    };
    let vocabulary = engine.model().vocab_size();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
        let found = format!("gives the id {id}, and the model knows {vocabulary} tokens");
        return Check::wrong("tokeniser", found, advice);
    }
    let found = format!("{vocabulary} tokens; {} of a text of two languages", ids.len());
    Check::well("tokeniser", found)
}

/// Whether the model goes on from a text with numbers that are numbers.
fn decode(engine: &Arc<Engine>, cpu: &Arc<Cpu>) -> Check {
    let advice = "The weights are of no use: train the model anew, at a lower learning rate.";
    match write(engine, cpu) {
        Ok(text) => Check::well("decode", format!("writes {:?}", text.trim())),
        Err(error) => Check::wrong("decode", error.to_string(), advice),
    }
}

fn write(engine: &Arc<Engine>, cpu: &Arc<Cpu>) -> Result<String, EngineError> {
    let mut reader = engine.reader(cpu);
    let mut session = engine.session(SamplerSettings::greedy())?;
    let mut ids = engine.tokenizer().encode(TEXT)?;
    if ids.is_empty() {
        ids.push(0);
    }
    session.read(&mut reader, &ids)?;
    let (mut text, mut decoder) = (String::new(), Decoder::new(engine.tokenizer().clone()));
    for _ in 0..WRITTEN {
        // Refuses a logit that is not finite.
        let id = session.sample()?;
        text += &decoder.push(id)?;
        session.step(&mut reader, id)?;
    }
    Ok(text + &decoder.finish())
}
