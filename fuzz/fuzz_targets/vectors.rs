//! Word vectors from arbitrary bytes, looked up for a few words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::vectors::VectorFile;

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (lossy, bytes) = input;
    let Ok(file) = VectorFile::parse("input", bytes, lossy) else { return };
    let width = file.width();
    let Ok(vectors) = file.find(["a", "A", "the", "", "1"]) else { return };
    assert!(vectors.found() > 0 && vectors.found_in_lower_case() <= vectors.found());
    let whole = |vector: &[f32]| vector.len() == width && vector.iter().all(|x| x.is_finite());
    assert!(vectors.iter().all(|(place, vector)| place < 5 && whole(vector)));
});
