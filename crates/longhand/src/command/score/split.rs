//! Bytes that arrive in blocks, as numbered lines.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, anyhow};
use longhand_text::corpus;

use crate::interrupt::STOP;

/// A line without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    pub(super) text: String,
}

/// Lines that are put together before they are read, and so the most that memory holds.
pub(super) const WINDOW: usize = 4096;
/// Bytes of text that are put together.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes read of a file at a time.
pub(super) const BLOCK: usize = 1 << 16;
/// The longest line in bytes, so that memory stays bounded where no line break comes.
const LONGEST: usize = 1 << 24;

/// Cuts bytes into lines. After a line that cannot be read there are no more.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The input's name in messages.
    name: String,
    lossy: bool,
    /// The beginning of a line that has not ended.
    pending: Vec<u8>,
    /// Lines that ended.
    count: u64,
    fault: Option<anyhow::Error>,
}

impl Splitter {
    /// `lossy` replaces invalid UTF-8.
    pub(super) fn new(name: &str, lossy: bool) -> Self {
        Self { name: name.to_owned(), lossy, pending: Vec::new(), count: 0, fault: None }
    }

    /// Takes bytes; the lines that end in them follow those that are there.
    pub(super) fn push(&mut self, mut bytes: &[u8], lines: &mut Vec<Line>) {
        while self.fault.is_none() {
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                self.pending.extend_from_slice(bytes);
                if self.pending.len() > LONGEST {
                    let number = self.count + 1;
                    self.fault = Some(anyhow!(
                        "line {number} of {} is longer than 16 MiB: give a text with line breaks",
                        self.name
                    ));
                }
                return;
            };
            self.pending.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end_line(lines);
        }
    }

    /// Takes what came behind the last line break as a line, where there is something.
    pub(super) fn finish(&mut self, lines: &mut Vec<Line>) {
        if !self.pending.is_empty() && self.fault.is_none() {
            self.end_line(lines);
        }
    }

    /// Counts lines that are passed over; what follows the last of them is kept.
    pub(super) fn skip(&mut self, bytes: &[u8]) {
        match bytes.iter().rposition(|&byte| byte == b'\n') {
            None => self.pending.extend_from_slice(bytes),
            Some(last) => {
                self.count += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                self.pending.clear();
                self.pending.extend_from_slice(&bytes[last + 1..]);
            }
        }
    }

    /// Why no more lines come, if a line could not be read.
    pub(super) fn fault(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)
    }

    fn end_line(&mut self, lines: &mut Vec<Line>) {
        self.count += 1;
        let line = std::mem::take(&mut self.pending);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        // A byte order mark at the beginning of the input is no text.
        let mark = if self.count == 1 { "\u{feff}".as_bytes() } else { b"" };
        let line = line.strip_prefix(mark).unwrap_or(line);
        let number = self.count;
        match std::str::from_utf8(line) {
            Ok(text) => lines.push(Line { number, text: text.to_owned() }),
            Err(_) if self.lossy => {
                lines.push(Line { number, text: String::from_utf8_lossy(line).into_owned() });
            }
            Err(error) => {
                self.fault = Some(anyhow!(
                    "line {number} of {} is not valid UTF-8 at its byte {}: convert it, or pass \
                     --lossy to replace invalid bytes",
                    self.name,
                    error.valid_up_to()
                ));
            }
        }
    }
}

/// Takes lines, and the name of their file.
pub(super) type Take<'a> = dyn FnMut(Option<&Arc<str>>, &[Line]) -> Result<()> + 'a;

/// Whether lines are enough to be read together.
pub(super) fn is_full(lines: &[Line]) -> bool {
    lines.len() >= WINDOW || lines.iter().map(|line| line.text.len()).sum::<usize>() >= WINDOW_BYTES
}

/// Gives the lines of a file, compressed or not, many at a time, until a Ctrl-C that is listened to.
pub(super) fn each_line(
    path: &Path,
    lossy: bool,
    take: &mut dyn FnMut(&[Line]) -> Result<()>,
) -> Result<()> {
    let name = path.display().to_string();
    let mut bytes = corpus::open_bytes(path)?;
    let (mut splitter, mut lines) = (Splitter::new(&name, lossy), Vec::new());
    let mut block = vec![0; BLOCK];
    while !STOP.load(Ordering::Relaxed) {
        let count = match bytes.read(&mut block) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.with_context(|| format!("{name} cannot be read"))?,
        };
        match count {
            0 => splitter.finish(&mut lines),
            count => splitter.push(&block[..count], &mut lines),
        }
        let fault = splitter.fault();
        let last = count == 0 || fault.is_err();
        if is_full(&lines) || (last && !lines.is_empty()) {
            take(&lines)?;
            lines.clear();
        }
        if last {
            return fault;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(blocks: &[&[u8]], lossy: bool) -> (Vec<(u64, String)>, String) {
        let (mut splitter, mut lines) = (Splitter::new("a.log", lossy), Vec::new());
        blocks.iter().for_each(|block| splitter.push(block, &mut lines));
        splitter.finish(&mut lines);
        let fault = splitter.fault().err().map(|error| error.to_string()).unwrap_or_default();
        (lines.into_iter().map(|line| (line.number, line.text)).collect(), fault)
    }

    #[test]
    fn lines_do_not_depend_on_the_blocks() {
        let text = "\u{feff}one\r\n\nthree 梅\nfour".as_bytes();
        let expected: Vec<(u64, String)> =
            (1..).zip(["one", "", "three 梅", "four"].map(str::to_owned)).collect();
        for size in 1..=text.len() {
            let blocks: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(lines(&blocks, false), (expected.clone(), String::new()), "{size}");
        }
        assert_eq!(lines(&[b"one\n"], false).0.len(), 1);
    }

    #[test]
    fn a_line_that_is_no_text_is_named_and_those_before_it_are_given() {
        let (before, fault) = lines(&[b"one\ntw\xff\nthree\n"], false);
        assert_eq!(before.len(), 1);
        assert!(fault.starts_with("line 2 of a.log is not valid UTF-8 at its byte 2"), "{fault}");
        assert_eq!(lines(&[b"tw\xff\n"], true).0[0].1, "tw\u{fffd}");
        let long = vec![b'a'; LONGEST + 1];
        assert!(lines(&[&long], false).1.contains("longer than 16 MiB"));
    }

    #[test]
    fn skipped_lines_are_counted_and_the_last_begun_one_is_kept() {
        let (mut splitter, mut lines) = (Splitter::new("a.log", false), Vec::new());
        splitter.skip(b"one\ntwo\nthr");
        splitter.skip(b"ee");
        splitter.push(b"!\n", &mut lines);
        assert_eq!(lines, [Line { number: 3, text: "three!".into() }]);
    }
}
