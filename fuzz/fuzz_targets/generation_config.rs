//! A `generation_config.json` from arbitrary bytes: refused with an error, or settings that are
//! written and read back as they are.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longhand_engine::GenerationConfig;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("generation_config.json");
    if let Ok(config) = GenerationConfig::from_json(bytes, path) {
        let again = GenerationConfig::from_json(&config.to_json(), path);
        assert_eq!(again.expect("what was written"), config);
    }
});
