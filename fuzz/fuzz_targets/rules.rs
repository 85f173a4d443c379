//! A file of rules from arbitrary bytes: refused with an error, or rules that some texts can
//! follow. The first byte says which form it is.
#![no_main]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use longhand_engine::Rules;
use longhand_engine::rules::{Constraint, Vocabulary};
use longhand_text::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    static BYTES: OnceLock<Arc<Vocabulary>> = OnceLock::new();
    let vocabulary = BYTES.get_or_init(|| {
        let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
        Arc::new(Vocabulary::new(&tokenizer).expect("256 tokens"))
    });
    let Some((&form, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name = ["a.json", "a.regex", "a.lark", "a.toml", "a.txt"][usize::from(form) % 5];
    let Ok(rules) = Rules::of_file(Path::new(name), text) else { return };
    // Walks through the first tokens that are allowed, turned by the form's byte.
    let Ok(mut constraint) = Constraint::new(&Arc::new(rules), vocabulary, &[]) else { return };
    for step in 0..16 {
        if constraint.must_end() {
            assert!(constraint.may_end());
            return;
        }
        let Ok(mask) = constraint.mask() else { return };
        let allowed: Vec<u32> = mask.allowed().collect();
        let id = allowed[(usize::from(form) * 7 + step) % allowed.len()];
        if constraint.accept(id).is_err() {
            return;
        }
    }
});
