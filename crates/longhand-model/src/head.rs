//! Heads: what turns the last block's output into an answer.

use crate::config::{HeadConfig, Pooling};
use crate::tape::{Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Role};

/// A head's parameters and how it reads the sequence.
pub(crate) struct Head {
    /// `[V, D]` or `[classes, D]`; the embedding where it is tied.
    pub(crate) weight: ParameterId,
    pub(crate) bias: Option<ParameterId>,
    pooling: Option<Pooling>,
    /// Rows of `weight`: tokens or classes.
    pub(crate) outputs: usize,
}

impl Head {
    pub(crate) fn new(
        config: &HeadConfig,
        vocab_size: usize,
        width: usize,
        embedding: ParameterId,
        builder: &mut Builder,
    ) -> Self {
        let (outputs, tied, bias, pooling) = match *config {
            HeadConfig::LanguageModel { tied, bias } => (vocab_size, tied, bias, None),
            HeadConfig::Classifier { classes, pooling } => (classes, false, true, Some(pooling)),
        };
        let weight = if tied {
            embedding
        } else {
            let weight = builder.add("head.weight".into(), &[outputs, width], Init::Normal(0.02));
            builder.role(weight, Role::Head);
            weight
        };
        let bias = bias.then(|| builder.add("head.bias".into(), &[outputs], Init::Zeros));
        Self { weight, bias, pooling, outputs }
    }

    /// The rows that answers are read from: every position, or one row for each sequence.
    pub(crate) fn run(&self, tape: &mut Tape, x: Var) -> Var {
        match self.pooling {
            Some(pooling) => tape.pool(x, pooling),
            None => x,
        }
    }
}
