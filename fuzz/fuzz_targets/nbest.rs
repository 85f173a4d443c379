//! N-best lists from arbitrary bytes: refused with one sentence, or lists that can be put into order,
//! written, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_nbest::{Lists, Weights};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(mut lists) = Lists::parse(text, "lists") else { return };
    let values: Vec<f64> = lists.texts().map(|text| text.len() as f64).collect();
    let _ = lists.add("added to the lists", values);
    let features: Vec<String> = lists.features().to_vec();
    let weights = features.iter().map(|name| (name.as_str(), 1.0));
    let Ok(weights) = Weights::of(&features, weights) else { return };
    let order = lists.order(&weights);
    assert!(order.iter().zip(lists.lists()).all(|(a, b)| a.len() == b.hypotheses().len()));
    let mut out = Vec::new();
    assert!(lists.write(&mut out, &weights, &order).is_ok());
});
