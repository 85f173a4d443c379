//! The model that a task begins with.

use longhand_model::config::{FinalNorm, HeadConfig, HeadKind};
use longhand_model::{Config, Model};
use longhand_text::Tokenizer;

use crate::error::TaskError;

/// The configuration with `head` in place of its heads.
pub fn with_head(config: Config, head: HeadKind) -> Config {
    let pools = config.head().is_some_and(|own| own.pooling().is_some());
    // Only the head of a model of format 1 has the norm behind its pooling: its run may go on.
    let final_norm = match pools && head.pooling().is_some() {
        true => config.final_norm,
        false => FinalNorm::BeforeHeads,
    };
    Config { heads: vec![HeadConfig::new(head)], final_norm, ..config }
}

/// The configuration with further heads of a trained model behind its own one, which is called `name`
/// then. The further heads keep their names; without any, nothing is changed.
pub fn with_further_heads(mut config: Config, name: &str, further: &[HeadConfig]) -> Config {
    if let ([own], [_, ..]) = (&mut config.heads[..], further) {
        own.name = name.to_owned();
        // A head of a stage before may have the name.
        while further.iter().any(|head| head.name == own.name) {
            own.name.push('2');
        }
        config.heads.extend_from_slice(further);
    }
    config
}

/// A model with weights drawn from a seed.
///
/// # Errors
/// If the configuration is refused.
pub fn fresh(config: Config, tokenizer: &Tokenizer, seed: u64) -> Result<Model, TaskError> {
    Ok(Model::new(Config { vocab_size: tokenizer.vocab_size(), ..config }, seed)?)
}

/// A model with the body of `trained` and its heads of the names `heads`; other heads are drawn from a
/// seed. Beside it the names of the parameters that were drawn: those of new heads, and those that
/// `trained` lacks or has in another shape.
///
/// # Errors
/// If the configuration is refused, or `trained` is packed for reading.
pub fn from_trained(
    config: Config,
    trained: &Model,
    heads: &[&str],
    seed: u64,
) -> Result<(Model, Vec<String>), TaskError> {
    trained.check_trainable()?;
    let mut model = Model::new(config, seed)?;
    let drawn = model.take_over(trained, heads);
    Ok((model, drawn))
}
