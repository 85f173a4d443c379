//! Rows of comma- and tab-separated values.

use std::io::{self, BufRead};

/// Reads records: cells parted by a separator, records by `\n`, `\r` or `\r\n`. Empty lines are
/// passed over. With quotes, a cell that begins with `"` goes on to the next lone `"`.
pub(super) struct Records<R> {
    input: R,
    separator: u8,
    quotes: bool,
}

/// A record, or why it has no end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The cells, at least one.
    Cells(Vec<String>),
    /// The input ended within quotes.
    OpenQuote,
}

/// Where in a cell the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Plain,
    Quoted,
    /// After a quote within quotes: the end, or the first of a doubled one.
    Quote,
}

impl<R: BufRead> Records<R> {
    /// A reader of UTF-8 text.
    pub(super) fn new(input: R, separator: u8, quotes: bool) -> Self {
        Self { input, separator, quotes }
    }

    /// The next record; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Record>> {
        let (mut cells, mut cell) = (Vec::new(), Vec::new());
        let mut place = Place::Start;
        loop {
            let block = self.input.fill_buf()?;
            if block.is_empty() {
                break;
            }
            let mut used = 0;
            let mut ended = false;
            for &byte in block {
                used += 1;
                match (place, byte) {
                    (Place::Quoted, b'"') => place = Place::Quote,
                    (Place::Quoted, byte) => cell.push(byte),
                    (Place::Quote, b'"') => {
                        cell.push(byte);
                        place = Place::Quoted;
                    }
                    (Place::Start, b'"') if self.quotes => place = Place::Quoted,
                    (_, byte) if byte == self.separator => {
                        cells.push(std::mem::take(&mut cell));
                        place = Place::Start;
                    }
                    (_, b'\n' | b'\r') => {
                        // A line with nothing in it is no record, nor is the `\n` after a `\r`.
                        ended = !(cells.is_empty() && place == Place::Start);
                        if ended {
                            break;
                        }
                    }
                    (_, byte) => {
                        cell.push(byte);
                        place = Place::Plain;
                    }
                }
            }
            self.input.consume(used);
            if ended {
                cells.push(cell);
                return Ok(Some(Record::Cells(cells.into_iter().map(text).collect())));
            }
        }
        match place {
            Place::Quoted => Ok(Some(Record::OpenQuote)),
            Place::Start if cells.is_empty() => Ok(None),
            _ => {
                cells.push(cell);
                Ok(Some(Record::Cells(cells.into_iter().map(text).collect())))
            }
        }
    }
}

/// A cell as text; separators and quotes are ASCII, so that no character is cut.
fn text(cell: Vec<u8>) -> String {
    String::from_utf8(cell)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, separator: u8, quotes: bool, block: usize) -> Vec<Record> {
        let input = io::BufReader::with_capacity(block, text.as_bytes());
        let mut records = Records::new(input, separator, quotes);
        std::iter::from_fn(|| records.next().unwrap()).collect()
    }

    #[test]
    fn an_open_quote_is_told() {
        let cells = |cells: &[&str]| Record::Cells(cells.iter().map(|&c| c.into()).collect());
        assert_eq!(read("a,\"b", b',', true, 8), [Record::OpenQuote]);
        assert_eq!(read("a,b\nc,\"d\n,", b',', true, 8), [cells(&["a", "b"]), Record::OpenQuote]);
        assert_eq!(read("a\t\"b", b'\t', false, 8), [cells(&["a", "\"b"])]);
        assert_eq!(read("a,\"b\"", b',', true, 8), [cells(&["a", "b"])]);
        assert_eq!(read("", b',', true, 8), []);
    }

    proptest! {
        #[test]
        fn records_are_those_of_the_csv_crate(
            text in "[ab,\"\r\n\té中]{0,40}",
            block in 1_usize..9,
        ) {
            for (separator, quotes) in [(b',', true), (b'\t', false)] {
                let mut reader = csv::ReaderBuilder::new();
                reader.has_headers(false).flexible(true).delimiter(separator).quoting(quotes);
                let expected: Vec<Record> = reader
                    .from_reader(text.as_bytes())
                    .records()
                    .map(|record| Record::Cells(record.unwrap().iter().map(str::to_owned).collect()))
                    .collect();
                let found = read(&text, separator, quotes, block);
                if found.contains(&Record::OpenQuote) {
                    prop_assert_eq!(&found[..found.len() - 1], &expected[..found.len() - 1]);
                } else {
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
