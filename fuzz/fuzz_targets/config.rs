//! A `config.json` from arbitrary bytes: refused with an error, or one whose sizes add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_model::{Config, Model};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = Config::from_json(bytes) {
        assert_eq!(Config::from_json(config.to_json().as_bytes()).as_ref(), Ok(&config));
        // No memory is taken, whatever the sizes.
        let _ = Model::check(&config);
    }
});
