//! The model that a task begins with.

use longhand_text::Tokenizer;
use longhand_train::model::config::{HeadConfig, Pooling};
use longhand_train::model::{Config, Model};

use crate::TaskError;

/// A configuration with a classifier in its head's place. Without `pooling` it is the one of the
/// classifier that was there, or else [`Pooling::Max`].
pub fn classifier(config: Config, classes: usize, pooling: Option<Pooling>) -> Config {
    let pooling = pooling.unwrap_or(match config.head {
        HeadConfig::Classifier { pooling, .. } => pooling,
        HeadConfig::LanguageModel { .. } => Pooling::Max,
    });
    Config { head: HeadConfig::Classifier { classes, pooling }, ..config }
}

/// A model drawn from a seed.
///
/// # Errors
/// If the configuration cannot be.
pub fn fresh(config: Config, tokenizer: &Tokenizer, seed: u64) -> Result<Model, TaskError> {
    Ok(Model::new(Config { vocab_size: tokenizer.vocab_size(), ..config }, seed)?)
}

/// A model drawn from a seed with every weight of `trained` whose name and shape it shares, and
/// the names of those that it does not. A new classifier never takes over an old one's answers.
///
/// # Errors
/// If the configuration cannot be, or `trained` is packed for reading.
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
