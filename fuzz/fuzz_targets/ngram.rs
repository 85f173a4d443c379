//! An n-gram model's two files from arbitrary bytes: refused with one sentence, or one that answers.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longhand_ngram::Ngram;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0xff);
    let (Some(header), Some(weights)) = (parts.next(), parts.next()) else { return };
    if let Ok(model) = Ngram::from_bytes(header, weights, Path::new("model")) {
        let mut row = vec![0.0; model.vocabulary()];
        let context = [model.start(), 0];
        model.log_probabilities(&context, &mut row);
        assert_eq!(row[0], model.log_probability(&context, 0));
    }
});
