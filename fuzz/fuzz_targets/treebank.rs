//! A treebank from arbitrary bytes, read as sentences or as phrases.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::TableFormat;
use longhand_text::corpus::table::{TableOptions, parse_examples};
use longhand_text::corpus::treebank::{Nodes, Ratings, TreeOptions};

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (options, bytes) = input;
    let trees = TreeOptions {
        nodes: if options & 1 == 1 { Nodes::Phrases } else { Nodes::Sentences },
        ratings: if options & 2 == 2 { Ratings::Binary } else { Ratings::Fine },
    };
    let lossy = options & 4 == 4;
    let options = TableOptions { trees, lossy, ..TableOptions::default() };
    let read = parse_examples("input", bytes, TableFormat::Trees, &options);
    let examples = read.unwrap_or_default();
    assert!(examples.iter().all(|example| example.label.is_some() && !example.text.is_empty()));
});
