//! Questions from arbitrary bytes: every place holds its answer, and the file can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::questions::Questions;

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (lossy, bytes) = input;
    let Ok(read) = Questions::parse("input", bytes, lossy) else { return };
    for (context, question) in read.iter() {
        for answer in &question.answers {
            let Some(place) = &answer.place else { continue };
            assert_eq!(context[place.bytes.clone()], answer.text);
            assert_eq!(context[..place.bytes.start].chars().count(), place.characters.start);
        }
    }
    let mut written = Vec::new();
    read.write(&mut written).unwrap();
    let again = Questions::parse("again", written, false).unwrap();
    assert_eq!(again.articles(), read.articles());
});
