//! Models and helpers that the tests of this crate share.

use std::sync::Arc;

use longhand_model::config::{Filters, WorkingMemory};
use longhand_model::{Cpu, Format, Model, Preset};
use longhand_text::Tokenizer;

use crate::engine::Engine;

/// A byte-level model of a preset with random weights.
pub(crate) fn engine(preset: Preset, seed: u64) -> Arc<Engine> {
    let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
    let model = Model::new(preset.config(tokenizer.vocab_size()), seed).expect("a preset");
    Engine::new(model, tokenizer).expect("they belong together")
}

/// A byte-level model whose working memories are convolutions of 2 to 4 tokens beside an LSTM.
pub(crate) fn filters(format: Format, seed: u64) -> Arc<Engine> {
    let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
    let mut config = Preset::LonghandNano.config(tokenizer.vocab_size());
    let filters = Filters { filters: 24, shortest: 2, longest: 4, bidirectional: false };
    for block in &mut config.blocks {
        block.working = Some(WorkingMemory::Convolution(filters));
    }
    config.weights = format;
    let model = Model::new(config, seed).expect("a configuration that is allowed");
    Engine::new(model, tokenizer).expect("they belong together")
}

/// The processor that all tests compute on.
pub(crate) fn cpu() -> Arc<Cpu> {
    Arc::new(Cpu::new(2))
}

/// Pseudo-random bytes as ids.
pub(crate) fn ids(count: usize, seed: u64) -> Vec<u32> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u32 % 256
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The largest difference relative to the largest expected magnitude.
pub(crate) fn relative(expected: &[f32], got: &[f32]) -> f32 {
    assert_eq!(expected.len(), got.len());
    let most = expected.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    expected.iter().zip(got).fold(0.0, |worst, (a, b)| worst.max((a - b).abs() / most))
}
