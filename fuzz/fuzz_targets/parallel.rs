//! Parallel text from arbitrary bytes: pairs of lines without white space around them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::parallel::Parallel;

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>)| {
    let (lossy, sources, targets) = input;
    let Ok(read) = Parallel::parse(("sources", sources), ("targets", targets), lossy) else { return };
    assert!(!read.pairs.is_empty());
    for (source, target) in &read.pairs {
        for text in [source, target] {
            assert!(text.trim() == text && !text.contains('\n'));
        }
    }
});
