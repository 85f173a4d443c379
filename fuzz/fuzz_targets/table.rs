//! A table of examples from arbitrary bytes: the format, the columns, the labels and the header
//! as the first two bytes choose them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::table::{TableOptions, parse_examples};
use longhand_text::corpus::{Column, Header, TableFormat};

fuzz_target!(|input: (u8, u8, Vec<u8>)| {
    let (format, options, bytes) = input;
    let formats = [
        TableFormat::JsonLines,
        TableFormat::Csv,
        TableFormat::Tsv,
        TableFormat::Parquet,
        TableFormat::Labelled,
        TableFormat::Trees,
    ];
    let further = usize::from(format) / formats.len();
    let format = formats[usize::from(format) % formats.len()];
    let numbered = options & 1 == 1;
    let within = options & 2 == 2;
    let text = if within { Column::Name("a.text".into()) } else { Column::Index(1) };
    let options = TableOptions {
        text: (numbered || within).then_some(text),
        label: numbered.then_some(Column::Index(0)),
        header: [Header::Auto, Header::Yes, Header::No][usize::from(options >> 2) % 3],
        lossy: options & 64 == 64,
        unlabelled: options & 128 == 128,
        second: (further & 1 == 1).then_some(Column::Index(2)),
        several: further & 2 == 2,
        ..TableOptions::default()
    };
    let _ = parse_examples("input", bytes, format, &options);
});
