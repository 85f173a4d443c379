//! A baseline's settings and weights file from arbitrary bytes: refused with one sentence,
//! or one that answers.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longhand_tasks::{Baseline, BaselineSettings};

fuzz_target!(|bytes: &[u8]| {
    let (settings, weights) = match bytes.split_first() {
        Some((0..250, weights)) => {
            let names = BaselineSettings::NAMES;
            let name = names[usize::from(bytes[0]) % names.len()];
            (BaselineSettings::named(name), weights)
        }
        _ => (serde_json::from_slice::<BaselineSettings>(bytes).ok(), bytes),
    };
    let Some(settings) = settings.filter(|settings| settings.check().is_ok()) else { return };
    if let Ok(baseline) = Baseline::from_bytes(&settings, weights, Path::new("weights")) {
        assert_eq!(baseline.logits(&["a text"]).len(), baseline.classes());
        assert!(baseline.text(&["a text. Another"]).is_none_or(|text| text.starts_with('a')));
    }
});
