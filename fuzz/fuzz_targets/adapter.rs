//! An adapter from arbitrary bytes, split into its two files: refused with an error, or applied to
//! a small base model, and the same after it is written and read again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longhand_model::{Adapter, Config, Model};

const CONFIG: &[u8] = br#"{"model_type":"longhand","format":2,"vocab_size":16,"width":2,
    "blocks":[{"long":{"type":"rnn","hidden":2},"residual":false,"fusion":"none"}],
    "norm":"none","heads":[{"type":"language-model"}]}"#;

fuzz_target!(|files: (Vec<u8>, Vec<u8>)| {
    let read = Adapter::from_bytes(Path::new(""), &files.0, &files.1);
    let Ok(adapter) = read else { return };
    let config = Config::from_json(CONFIG).expect("a checked configuration");
    let base = Model::new(config, 1).expect("a small model");
    let Ok(mut model) = adapter.apply(&base) else { return };
    assert_eq!(model.check_trainable(), Ok(()));
    let (config, weights) = adapter.to_bytes();
    if adapter.base().is_some() {
        let again = Adapter::from_bytes(Path::new(""), config.as_bytes(), &weights);
        let again = again.expect("what was just written").apply(&base).expect("as before");
        assert_eq!(again.weights.hash(), model.weights.hash());
    }
    model.merge_low_rank();
});
