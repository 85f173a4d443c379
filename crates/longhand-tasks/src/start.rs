//! The model that a task begins with.

use longhand_model::config::{FinalNorm, HeadConfig, HeadKind, Pooling};
use longhand_model::{Config, Model};
use longhand_text::Tokenizer;

use crate::error::TaskError;

/// The configuration with a classifier in place of its heads. Without `pooling`, the first head's
/// own is kept; a head that does not pool gives way to [`Pooling::Max`].
pub fn classifier(config: Config, classes: usize, pooling: Option<Pooling>) -> Config {
    let own = config.head().and_then(HeadKind::pooling);
    // Only the head of a model of format 1 has the norm behind its pooling: its run may go on.
    let final_norm = own.map_or(FinalNorm::BeforeHeads, |_| config.final_norm);
    let pooling = pooling.or(own).unwrap_or(Pooling::Max);
    let heads = vec![HeadConfig::new(HeadKind::Classifier { classes, pooling })];
    Config { heads, final_norm, ..config }
}

/// A model with weights drawn from a seed.
///
/// # Errors
/// If the configuration is refused.
pub fn fresh(config: Config, tokenizer: &Tokenizer, seed: u64) -> Result<Model, TaskError> {
    Ok(Model::new(Config { vocab_size: tokenizer.vocab_size(), ..config }, seed)?)
}

/// A model with the body of `trained` and new heads drawn from a seed, and the names of the
/// parameters that were drawn: the heads' own, and those that `trained` lacks or has in another
/// shape.
///
/// # Errors
/// If the configuration is refused, or `trained` is packed for reading.
pub fn from_trained(
    config: Config,
    trained: &Model,
    seed: u64,
) -> Result<(Model, Vec<String>), TaskError> {
    trained.check_trainable()?;
    let mut model = Model::new(config, seed)?;
    let drawn = model.take_over(trained);
    Ok((model, drawn))
}
