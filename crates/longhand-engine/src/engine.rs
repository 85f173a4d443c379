//! A model with its tokeniser, and what runs it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use longhand_model::config::HeadConfig;
use longhand_model::{Ablation, Cpu, Gates, Mode, Model, Sequence, State, Tape, Var};
use longhand_text::{Tokenizer, TokenizerKind};

use crate::error::EngineError;
use crate::generation_config::GenerationConfig;

/// A causal language model and its tokeniser: what all sessions share.
pub struct Engine {
    model: Model,
    tokenizer: Tokenizer,
    model_hash: OnceLock<String>,
    generation: GenerationConfig,
}

/// What runs passes of one model: scratch memory only, so that any session may use any reader.
pub struct Reader<'e> {
    engine: &'e Engine,
    tape: Tape,
    mode: Mode,
}

impl Engine {
    /// Reads a model folder.
    ///
    /// # Errors
    /// A folder that lacks a file or holds a refused one, and whatever [`Engine::new`] refuses.
    pub fn load(folder: &Path) -> Result<Self, EngineError> {
        let (model, tokenizer) = language_model(folder)?;
        let engine = Self::new(model, tokenizer)?;
        Ok(Self { generation: GenerationConfig::of_folder(folder)?, ..engine })
    }

    /// Puts a model and its tokeniser together, and packs the model for reading.
    ///
    /// # Errors
    /// If the model looks ahead, is no language model, or has another number of tokens.
    pub fn new(mut model: Model, tokenizer: Tokenizer) -> Result<Self, EngineError> {
        check(&model, &tokenizer)?;
        model.pack();
        let (model_hash, generation) = (OnceLock::new(), GenerationConfig::default());
        Ok(Self { model, tokenizer, model_hash, generation })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokeniser.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How text is drawn unless someone says otherwise.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// The hash of configuration and weights: models with the same one give the same text. Weights
    /// of another format are another model. Computed when it is first asked for, since the first
    /// token need not wait for it.
    pub fn model_hash(&self) -> &str {
        self.model_hash.get_or_init(|| model_hash(&self.model))
    }

    /// A token as a person reads it: its text where that is whole characters, its bytes as `\xe4`
    /// where it is a part of one, otherwise as the vocabulary spells it.
    pub fn label(&self, id: u32) -> String {
        let token = self.tokenizer.token(id).unwrap_or_default();
        match self.tokenizer.kind() {
            TokenizerKind::Byte | TokenizerKind::Bpe => match self.tokenizer.decode(&[id]) {
                Ok(text) if !text.contains(char::REPLACEMENT_CHARACTER) => text,
                _ => {
                    let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
                    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
                }
            },
            _ => token.to_owned(),
        }
    }

    /// A reader that computes on `cpu`.
    pub fn reader(&self, cpu: &Arc<Cpu>) -> Reader<'_> {
        Reader { engine: self, tape: Tape::new(cpu.clone()), mode: Mode::Read }
    }
}

impl<'e> Reader<'e> {
    /// The model and tokeniser it reads with.
    pub fn engine(&self) -> &'e Engine {
        self.engine
    }

    /// Takes a memory out of every block from now on, or none. The memories are still written
    /// to; what they give is zeros.
    pub fn ablate(&mut self, ablation: Option<Ablation>) {
        self.tape.ablate(ablation);
    }

    /// Records each pass from now on, so that its gates can be read. Slower, and the same
    /// numbers up to rounding.
    pub(crate) fn record(&mut self) {
        self.mode = Mode::Record;
    }

    /// The gates of the last pass, which was recorded.
    pub(crate) fn gates(&self) -> Vec<Gates> {
        self.tape.gates(&self.engine.model.weights)
    }

    /// One pass: see [`Model::forward`].
    pub(crate) fn pass(
        &mut self,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<Var, EngineError> {
        let mut pass = self.tape.pass(self.mode);
        Ok(self.engine.model.forward(&mut pass, ids, sequence, state)?)
    }

    /// Logits of one row of the last pass.
    pub(crate) fn logits(&self, x: Var, row: usize, out: &mut Vec<f32>) {
        self.engine.model.logits(&self.tape, x, row..row + 1, out);
    }

    /// Losses of the rows of the last pass against targets, in nats.
    pub(crate) fn losses(&mut self, x: Var, targets: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(targets.len(), 0.0);
        self.engine.model.loss(&mut self.tape, x, targets, 0.0, Some(out), None);
    }
}

/// Reads a causal language model and its tokeniser from a model folder, the weights as they are
/// stored.
///
/// # Errors
/// As [`Engine::load`].
pub fn language_model(folder: &Path) -> Result<(Model, Tokenizer), EngineError> {
    let tokenizer = Tokenizer::of_folder(folder)?;
    let model = Model::load(folder)?;
    check(&model, &tokenizer)?;
    Ok((model, tokenizer))
}

fn check(model: &Model, tokenizer: &Tokenizer) -> Result<(), EngineError> {
    let config = model.config();
    if !matches!(config.head, HeadConfig::LanguageModel { .. }) {
        return Err(EngineError::NotLanguageModel);
    }
    if !config.is_causal() {
        return Err(EngineError::NotCausal);
    }
    Ok(model.check_vocabulary(tokenizer.vocab_size())?)
}

/// The hash of a model's configuration and weights.
pub fn model_hash(model: &Model) -> String {
    let both = format!("{}\n{}", model.config().hash(), model.weights.hash());
    blake3::hash(both.as_bytes()).to_hex().to_string()
}
