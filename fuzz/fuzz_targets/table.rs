//! A table of examples from arbitrary bytes, in the format that the first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::table::{TableFormat, TableOptions, parse_examples};

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (format, bytes) = input;
    let formats = [
        TableFormat::JsonLines,
        TableFormat::Csv,
        TableFormat::Tsv,
        TableFormat::Parquet,
        TableFormat::Labelled,
    ];
    let format = formats[usize::from(format) % formats.len()];
    let _ = parse_examples("input", bytes, format, &TableOptions::default());
});
