//! A `model.safetensors` from arbitrary bytes, for a small model: refused with an error, or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_model::{Config, Model};

const CONFIG: &[u8] = br#"{"model_type":"longhand","format":1,"vocab_size":2,"width":2,
    "blocks":[{"long":{"cell":"rnn","hidden":2},"residual":false,"fusion":"none"}],
    "norm":"none","head":{"type":"language-model"}}"#;

fuzz_target!(|bytes: &[u8]| {
    let config = Config::from_json(CONFIG).expect("a checked configuration");
    if let Ok(model) = Model::from_bytes(config, bytes) {
        assert!(model.weights.iter().all(|p| p.data.iter().all(|x| x.is_finite())));
    }
});
