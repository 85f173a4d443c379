//! A `tokenizer.json` from arbitrary bytes: refused with an error or read, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    let _ = Tokenizer::from_bytes(bytes, "input");
});
