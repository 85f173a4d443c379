//! The pointer of a pointer-generator: beside writing a token of the vocabulary, a decoder copies one
//! of its source (See et al., "Get to the point: summarization with pointer-generator networks",
//! 2017, section 2.2). Its scores are dot products, and its gate reads the decoder's output.

use std::sync::Arc;

use crate::config::{Config, POINTER};
use crate::cross::Across;
use crate::source::SourceTokens;
use crate::state::State;
use crate::tape::{PointerKeys, PointerQueries, Tape, Var};
use crate::weights::{Builder, Init, ParameterId, Weights};

/// Queries from the decoder's output, keys from the encoder's, and the gate between
/// both ways of writing.
pub(crate) struct Pointer {
    query: ParameterId,
    key: ParameterId,
    gate: (ParameterId, ParameterId),
    /// The weight of the coverage in the scores, `[1]`.
    coverage: Option<ParameterId>,
}

impl Pointer {
    /// Lays out the pointer, if the model has one.
    pub(crate) fn new(config: &Config, builder: &mut Builder) -> Option<Self> {
        let (pointer, encoder) = (config.pointer?, config.encoder.as_ref()?);
        let (decoder, encoder) = (config.stack_width(), encoder.output_width(config.width));
        let mut add = |name: &str, shape: &[usize], init| {
            builder.add(format!("{POINTER}.{name}"), shape, init)
        };
        let dense = |width: usize| Init::Normal(0.5 / (width as f32).sqrt());
        Some(Self {
            query: add("query.weight", &[pointer.width, decoder], dense(decoder)),
            key: add("key.weight", &[pointer.width, encoder], dense(encoder)),
            // It begins by generating as often as by copying.
            gate: (
                add("gate.weight", &[1, decoder], Init::Normal(0.02)),
                add("gate.bias", &[1], Init::Zeros),
            ),
            coverage: pointer.coverage.then(|| add("coverage", &[1], Init::Zeros)),
        })
    }

    /// Lets the heads that read the decoder's output `x` copy from the sources. `tokens` are those of
    /// the encoder's rows; kept sources have their own.
    pub(crate) fn run(
        &self,
        tape: &mut Tape,
        weights: &Weights,
        x: Var,
        source: Across<'_>,
        tokens: Option<SourceTokens>,
        state: &mut State,
    ) {
        let queries = tape.linear(weights, &[x], self.query, None);
        let gates = tape.linear(weights, &[x], self.gate.0, Some(self.gate.1));
        let (keys, tokens) = match (source, tokens) {
            (Across::Rows(rows), Some(tokens)) => {
                (PointerKeys::Rows(self.keys(tape, weights, rows)), Arc::new(tokens))
            }
            (Across::Kept(source), _) => {
                (PointerKeys::Kept(source.pointer_keys()), source.tokens().clone())
            }
            // A pass that has the encoder's rows has read their tokens.
            (Across::Rows(_), None) => return,
        };
        let asked = PointerQueries { queries, keys, coverage: self.coverage };
        tape.point(weights, x, gates, asked, tokens, state);
    }

    /// `[S·B, K]`: the keys of the encoder's rows.
    pub(crate) fn keys(&self, tape: &mut Tape, weights: &Weights, rows: Var) -> Var {
        tape.linear(weights, &[rows], self.key, None)
    }
}
