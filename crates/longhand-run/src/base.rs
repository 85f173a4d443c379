//! The trained model that a run begins with, of a task or of a language model.

use std::path::Path;

use longhand_engine::EngineError;
use longhand_engine::engine::model_hash;
use longhand_model::adapter::{self, Base};
use longhand_model::file::CONFIG_FILE;
use longhand_model::{Config, Model};
use longhand_ngram::Ngram;
use longhand_text::Tokenizer;

use crate::error::RunError;
use crate::objective::PretrainingObjective;
use crate::output;
use crate::recipe::{Recipe, TokenizerSettings};
use crate::several::check_single;
use crate::tuning::is_of_adapter;
use crate::watch::{Preparation, Watch};

/// What the model in a folder learnt from plain text; none where the folder holds no network, or one
/// without such a head.
pub fn objective_of(folder: &Path) -> Option<PretrainingObjective> {
    let config = fs_err::read(folder.join(CONFIG_FILE)).ok()?;
    PretrainingObjective::of(&Config::from_json(&config).ok()?)
}

/// Whether a folder holds a model, an adapter, a run or several.
pub fn holds_model(folder: &Path) -> bool {
    folder.join(CONFIG_FILE).is_file()
        || Ngram::is_in(folder)
        || adapter::is_adapter(folder)
        || output::holds_run(folder)
        || check_single(folder).is_err()
}

/// Reads the model that the recipe begins with, and its tokeniser. Writes their kind and
/// hash into the recipe.
pub(crate) fn read(recipe: &mut Recipe) -> Result<Option<(Model, Tokenizer)>, RunError> {
    let Some(base) = &mut recipe.model.base else { return Ok(None) };
    if Ngram::is_in(&base.path) {
        return Err(RunError::from(EngineError::NotNetwork).named(base.path.display()));
    }
    if adapter::is_adapter(&base.path) {
        return Err(RunError::BaseIsAdapter(base.path.clone()));
    }
    check_single(&base.path)?;
    let tokenizer = Tokenizer::of_folder(&base.path)?;
    let model = Model::load(&base.path)?;
    let named = |error| RunError::from(error).named(base.path.display());
    model.check_trainable().map_err(named)?;
    model.check_vocabulary(tokenizer.vocab_size()).map_err(named)?;
    let hash = model_hash(&model);
    if !base.hash.is_empty() && base.hash != hash {
        let (path, expected) = (base.path.clone(), base.hash.clone());
        return Err(RunError::OtherBase { path, expected, got: hash });
    }
    base.hash = hash;
    recipe.tokenizer = TokenizerSettings { kind: tokenizer.kind(), ..TokenizerSettings::default() };
    if recipe.model.config.is_none() {
        let mut config: serde_json::Map<_, _> =
            serde_json::from_str(&model.config().to_json()).map_err(RunError::Record)?;
        config.remove("vocab_size");
        recipe.model.config = Some(config);
    }
    Ok(Some((model, tokenizer)))
}

/// Refuses the base model's own folder: the run would clear it, and could not be resumed.
pub(crate) fn keep(recipe: &Recipe, out: &Path) -> Result<(), RunError> {
    match &recipe.model.base {
        Some(base) if output::is_same(out, &base.path) => Err(RunError::OutputIsBase(out.into())),
        _ => Ok(()),
    }
}

/// Tells which weights the base model lacks, besides those of heads.
pub(crate) fn tell_drawn(
    model: &Model,
    drawn: &[String],
    watch: &mut dyn Watch,
) -> Result<(), RunError> {
    if drawn.len() == model.weights.iter().count() {
        return Err(RunError::NothingShared);
    }
    let of_head = |name: &str| model.heads().iter().any(|head| head.owns(name));
    let meant = |name: &String| of_head(name) || is_of_adapter(name);
    let drawn: Vec<String> = drawn.iter().filter(|name| !meant(name)).cloned().collect();
    if !drawn.is_empty() {
        watch.prepare(&Preparation::Drawn(&drawn));
    }
    Ok(())
}

/// The model that a run begins with as an adapter names it: the body that the run in `out`
/// pretrained, or the recipe's base model. It lacks the `own` parameters.
pub(crate) fn named(
    recipe: &Recipe,
    out: &Path,
    trained: Option<&(Model, Tokenizer)>,
    own: Vec<String>,
) -> Option<Base> {
    if let (Some(_), Some((model, _))) = (&recipe.pretraining, trained) {
        let name = out.join(output::PRETRAINED_FOLDER).display().to_string();
        return Some(Base { name, hash: model_hash(model), own });
    }
    let base = recipe.model.base.as_ref()?;
    Some(Base { name: base.path.display().to_string(), hash: base.hash.clone(), own })
}
