//! Stories from arbitrary bytes: each question has text, and is refused or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::stories::parse_stories;

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (lossy, bytes) = input;
    let Ok(read) = parse_stories("input", bytes, lossy) else { return };
    assert!(!read.is_empty());
    for question in read {
        assert!(!question.question.is_empty() && !question.question.contains(['\t', '\n']));
    }
});
