//! A `model.safetensors` from arbitrary bytes, for a small model with weights of every format:
//! refused with an error, or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_model::{Config, Format, Model};

const CONFIG: &[u8] = br#"{"model_type":"longhand","format":2,"vocab_size":16,"width":2,
    "blocks":[{"long":{"type":"rnn","hidden":2},"residual":false,"fusion":"none"}],
    "norm":"none","heads":[{"type":"language-model"}]}"#;

fuzz_target!(|bytes: &[u8]| {
    let mut config = Config::from_json(CONFIG).expect("a checked configuration");
    for format in Format::ALL {
        config.weights = format;
        if let Ok(model) = Model::from_bytes(config.clone(), bytes) {
            assert!(model.weights.iter().all(|p| p.data.iter().all(|x| x.is_finite())));
            let again = Model::from_bytes(config.clone(), &model.to_bytes());
            assert!(again.is_ok_and(|again| again.weights.hash() == model.weights.hash()));
        }
    }
});
