//! A CoNLL file from arbitrary bytes, read, asked for columns and written with one more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::conll::{Conll, ConllColumn, ConllOptions};

fuzz_target!(|input: (u8, i64, Vec<u8>)| {
    let (options, index, bytes) = input;
    let bit = |place: u8| options >> place & 1 == 1;
    let options = ConllOptions { header: bit(0), lossy: bit(1), varying: bit(2), numbered: bit(3) };
    let Ok(file) = Conll::parse("input", bytes, options) else { return };
    let places = [ConllColumn::Index(index), ConllColumn::Index(-1)].map(|c| file.place(&c));
    let mut values = Vec::new();
    for place in places.into_iter().flatten() {
        for sentence in file.sentences() {
            let cells: Vec<&str> = file.cells(sentence, place).collect();
            assert_eq!(cells.len(), sentence.tokens.len());
            values.extend(cells);
        }
    }
    let mut out = Vec::new();
    let _ = file.write_with("v", values, &mut out);
    assert!(out.len() >= file.tokens());
});
