//! A model with its tokeniser, and the reader that runs its passes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use longhand_model::adapter::AdapterChoice;
use longhand_model::{
    Ablation, Cpu, Gates, Mode, Model, ModelError, Sequence, State, Tape, adapter,
};
use longhand_ngram::Ngram;
use longhand_text::Tokenizer;

use crate::datastore::{Neighbours, Owner};
use crate::error::EngineError;
use crate::generation_config::GenerationConfig;
pub use crate::language_model::LanguageModel;
use crate::language_model::Passes;
pub use crate::model_name::ModelName;
use crate::rules::{RulesError, Vocabulary};

/// A causal language model and its tokeniser. All sessions share one engine; it never changes.
pub struct Engine {
    model: LanguageModel,
    tokenizer: Arc<Tokenizer>,
    model_hash: OnceLock<String>,
    vocabulary: OnceLock<Result<Arc<Vocabulary>, RulesError>>,
    generation: GenerationConfig,
}

/// Runs passes of one model. It holds scratch memory only, so any session of the engine may use
/// any reader of it.
pub struct Reader {
    engine: Arc<Engine>,
    passes: Passes,
    /// What the model's probabilities are mixed with.
    neighbours: Option<Neighbours>,
}

impl Engine {
    /// Reads a model folder.
    ///
    /// # Errors
    /// [`EngineError::File`], [`EngineError::Text`] or [`EngineError::Generation`] if a file is
    /// missing or refused, and the errors of [`Engine::new`].
    pub fn load(folder: &Path) -> Result<Arc<Self>, EngineError> {
        Self::load_with(folder, &[])
    }

    /// Reads a model folder and applies adapters to the model.
    ///
    /// # Errors
    /// As [`Engine::load`], and an adapter that is damaged or belongs to another model, or does not
    /// go with another one.
    pub fn load_with(folder: &Path, adapters: &[AdapterChoice]) -> Result<Arc<Self>, EngineError> {
        Self::load_beside(folder, adapters, None)
    }

    /// As [`Engine::load_with`]. The matrices that are equal to those of `base`, a network that is packed
    /// for reading, are held once for both: an adapter takes the memory of those that it changes.
    ///
    /// # Errors
    /// The errors of [`Engine::load_with`], for the same causes.
    pub fn load_beside(
        folder: &Path,
        adapters: &[AdapterChoice],
        base: Option<&Model>,
    ) -> Result<Arc<Self>, EngineError> {
        let (mut model, tokenizer) = language_model(folder, adapters)?;
        if let (LanguageModel::Network(model), Some(base)) = (&mut model, base) {
            model.pack_beside(base);
        }
        Self::with_generation(model, tokenizer, GenerationConfig::of_folder(folder)?)
    }

    /// Puts a model and its tokeniser together, and packs the model for reading.
    ///
    /// # Errors
    /// [`EngineError::NotLanguageModel`], [`EngineError::NotCausal`] for a model that looks ahead,
    /// [`EngineError::NeedsSource`] for one with an encoder,
    /// [`EngineError::Model`] if the tokeniser has another number of tokens.
    pub fn new(
        model: impl Into<LanguageModel>,
        tokenizer: Tokenizer,
    ) -> Result<Arc<Self>, EngineError> {
        Self::with_generation(model.into(), tokenizer, GenerationConfig::default())
    }

    fn with_generation(
        mut model: LanguageModel,
        tokenizer: Tokenizer,
        generation: GenerationConfig,
    ) -> Result<Arc<Self>, EngineError> {
        check(&model, &tokenizer)?;
        if let LanguageModel::Network(model) = &mut model {
            model.pack();
        }
        let tokenizer = Arc::new(tokenizer);
        let (model_hash, vocabulary) = (OnceLock::new(), OnceLock::new());
        Ok(Arc::new(Self { model, tokenizer, model_hash, vocabulary, generation }))
    }

    /// The model; a network's weights are packed for reading.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// The tokeniser that the model was trained with.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The model folder's settings for generation.
    pub fn generation(&self) -> &GenerationConfig {
        &self.generation
    }

    /// The tokens as rules see them. Made on first use, once for all texts.
    ///
    /// # Errors
    /// [`RulesError::Tokens`] for a tokeniser with too many tokens.
    pub fn vocabulary(&self) -> Result<&Arc<Vocabulary>, RulesError> {
        let made = self.vocabulary.get_or_init(|| Vocabulary::new(&self.tokenizer).map(Arc::new));
        made.as_ref().map_err(Clone::clone)
    }

    /// The hash of configuration and weights. Models with equal hashes give the same text; the
    /// same weights in another format are another model. Computed on first use, because the first
    /// token need not wait for it.
    pub fn model_hash(&self) -> &str {
        self.model_hash.get_or_init(|| self.model.hash())
    }

    /// Whether the hash was computed.
    #[cfg(test)]
    pub(crate) fn is_hashed(&self) -> bool {
        self.model_hash.get().is_some()
    }

    /// The model as an error names it. Computes [`Engine::model_hash`].
    pub fn name(&self) -> ModelName {
        ModelName {
            model: self.model_hash().to_owned(),
            tokenizer: self.tokenizer.hash().to_owned(),
            parameters: self.model.parameters(),
            vocab_size: self.model.vocab_size(),
        }
    }

    /// The model and the tokeniser as a datastore names them. Computes [`Engine::model_hash`].
    pub fn owner(&self) -> Owner {
        let (model, tokenizer) = (self.model_hash().to_owned(), self.tokenizer.hash().to_owned());
        Owner { model, tokenizer }
    }

    /// Whether both engines have the same model and tokeniser. One engine is always the same as
    /// itself; hashes are compared, and computed if need be, only for two different engines.
    pub fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other)
            || (self.tokenizer.hash() == other.tokenizer.hash()
                && self.model_hash() == other.model_hash())
    }

    /// A token as a person reads it: its text where that is whole characters, its bytes as `\xe4`
    /// where it is a part of one, otherwise as the vocabulary spells it.
    pub fn label(&self, id: u32) -> String {
        self.tokenizer.label(id)
    }

    /// A reader that computes on `cpu`.
    pub fn reader(self: &Arc<Self>, cpu: &Arc<Cpu>) -> Reader {
        Reader { engine: self.clone(), passes: Passes::new(cpu), neighbours: None }
    }

    /// Refuses what belongs to another engine.
    pub(crate) fn check_same(self: &Arc<Self>, session: &Arc<Self>) -> Result<(), EngineError> {
        if self.is_same(session) {
            return Ok(());
        }
        let (session, engine) = (Box::new(session.name()), Box::new(self.name()));
        Err(EngineError::OtherModel { session, engine })
    }

    /// Refuses ids that the model does not know.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<(), EngineError> {
        let vocab_size = self.model.vocab_size();
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            Some(&id) => Err(ModelError::Token { id, vocab_size }.into()),
            None => Ok(()),
        }
    }
}

impl Reader {
    /// The model and tokeniser it reads with.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Silences a memory in every block from now on, or none. A silenced memory is still written
    /// to, but its output is zeros. An n-gram model has none to silence.
    pub fn ablate(&mut self, ablation: Option<Ablation>) {
        self.passes.tape.ablate(ablation);
    }

    /// Mixes the model's probabilities with those of a datastore from now on, in all that is read: the
    /// logits are then the logarithms of the mixed probabilities, on which a sampler acts as on any
    /// others, and the losses are theirs.
    ///
    /// # Errors
    /// [`EngineError::NoHiddenStates`] for an n-gram model, [`EngineError::Datastore`] for
    /// the datastore of another model.
    pub fn consult(&mut self, neighbours: Neighbours) -> Result<(), EngineError> {
        self.engine.model.with_hidden_states()?;
        neighbours.store().check_owner(&self.engine.owner())?;
        self.neighbours = Some(neighbours);
        Ok(())
    }

    /// The datastore that it consults, to go on with another reader.
    pub fn neighbours(&self) -> Option<&Neighbours> {
        self.neighbours.as_ref()
    }

    /// The tape, to time its operations.
    pub fn tape(&mut self) -> &mut Tape {
        &mut self.passes.tape
    }

    /// Records each pass from now on, so that its gates can be read. Slower; the numbers are the
    /// same up to rounding.
    pub(crate) fn record(&mut self) {
        self.passes.mode = Mode::Record;
    }

    /// Reads passes in another mode from now on; gives the mode before.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> Mode {
        std::mem::replace(&mut self.passes.mode, mode)
    }

    /// The gates of a network's last pass, which was recorded.
    pub(crate) fn gates(&self) -> Vec<Gates> {
        match &self.engine.model {
            LanguageModel::Network(model) => self.passes.tape.gates(&model.weights),
            LanguageModel::Ngram(_) => Vec::new(),
        }
    }

    /// One pass: see [`Model::forward`].
    pub(crate) fn pass(
        &mut self,
        ids: &[u32],
        sequence: &Sequence,
        state: &mut State,
    ) -> Result<(), EngineError> {
        Ok(self.passes.read(&self.engine.model, ids, sequence, state)?)
    }

    /// Logits of some rows of the last pass, mixed with those of neighbours where there are any.
    pub(crate) fn logits(
        &mut self,
        rows: std::ops::Range<usize>,
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let Self { engine, passes, neighbours } = self;
        passes.logits(&engine.model, rows.clone(), out);
        if let (Some(neighbours), Some(hidden)) = (neighbours, passes.hidden(rows)) {
            neighbours.mix_logits(passes.tape.cpu(), hidden, out)?;
        }
        Ok(())
    }

    /// `[rows, D]`: the body's output in the last pass, and D.
    ///
    /// # Errors
    /// [`EngineError::NotNetwork`] for an n-gram model, [`EngineError::NothingRead`]
    /// before the first pass.
    pub(crate) fn output(&self) -> Result<(&[f32], usize), EngineError> {
        self.engine.model.network()?;
        self.passes.output().ok_or(EngineError::NothingRead)
    }

    /// Losses of the rows of the last pass against targets, in nats, by the mixture with neighbours
    /// where there are any.
    pub(crate) fn losses(
        &mut self,
        targets: &[u32],
        out: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let Self { engine, passes, neighbours } = self;
        passes.losses(&engine.model, targets, out)?;
        if let (Some(neighbours), Some(hidden)) = (neighbours, passes.hidden(0..targets.len())) {
            neighbours.mix_losses(passes.tape.cpu(), hidden, targets, out)?;
        }
        Ok(())
    }
}

/// Reads a causal language model and its tokeniser from a model folder, with a network's weights
/// in their stored form.
///
/// # Errors
/// The errors of [`Engine::load`] for a folder that is not usable, and
/// [`EngineError::NotNetwork`] for an adapter of an n-gram model.
pub fn language_model(
    folder: &Path,
    adapters: &[AdapterChoice],
) -> Result<(LanguageModel, Tokenizer), EngineError> {
    let tokenizer = Tokenizer::of_folder(folder)?;
    let model = match Ngram::is_in(folder) {
        true if adapters.is_empty() => Ngram::load(folder)?.into(),
        true => return Err(EngineError::NotNetwork),
        false => adapter::load(folder, adapters)?.into(),
    };
    check(&model, &tokenizer)?;
    Ok((model, tokenizer))
}

fn check(model: &LanguageModel, tokenizer: &Tokenizer) -> Result<(), EngineError> {
    if let LanguageModel::Network(model) = model {
        check_head(model)?;
    }
    let (model, tokenizer) = (model.vocab_size(), tokenizer.vocab_size());
    match model == tokenizer {
        true => Ok(()),
        false => Err(ModelError::Vocabulary { model, tokenizer }.into()),
    }
}

/// Refuses a network that does not predict the next token.
fn check_head(model: &Model) -> Result<(), EngineError> {
    let config = model.config();
    if config.is_bicausal() || config.fills_masks() {
        return Err(EngineError::NotCausal);
    }
    if config.writes_from_source() {
        return Err(EngineError::NeedsSource);
    }
    if !config.is_language_model() {
        return Err(EngineError::NotLanguageModel);
    }
    if !config.is_causal() {
        return Err(EngineError::NotCausal);
    }
    Ok(())
}

/// The hash of a model's configuration and weights.
pub fn model_hash(model: &Model) -> String {
    model.hash()
}
