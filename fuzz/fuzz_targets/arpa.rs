//! An ARPA file from arbitrary bytes: refused with one sentence, or a model that answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_ngram::{ArpaWords, Ngram};
use longhand_text::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    let Ok(words) = Tokenizer::byte().map_err(drop).and_then(|it| ArpaWords::new(&it).map_err(drop))
    else {
        return;
    };
    if let Ok(model) = Ngram::read_arpa(&words, bytes) {
        let mut row = vec![0.0; model.vocabulary()];
        let context = [model.start(), 0];
        model.log_probabilities(&context, &mut row);
        assert_eq!(row[0], model.log_probability(&context, 0));
    }
});
