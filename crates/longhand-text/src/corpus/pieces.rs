//! Documents as a stream of pieces.

use std::ops::Range;
use std::sync::Arc;

use super::format::{CellOptions, Column, TableFormat};
use super::options::CorpusOptions;
use super::piece_sample::PieceSample;
use super::rows::Rows;
use super::source::{Source, TextReader};
use crate::error::TextError;
use crate::tokenizer::{TokenizerKind, last_common_cut, last_safe_cut};

/// A stretch of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The text, never empty.
    pub text: String,
    /// Whether a document (a file, or a row of a table) begins here.
    pub starts_document: bool,
}

/// The pieces of a corpus in order; after an error there are no more.
pub struct Pieces {
    sources: Arc<Vec<Source>>,
    options: CorpusOptions,
    /// Characters still to leave out, and then to hand out.
    skip: u64,
    take: u64,
    next_source: usize,
    current: Option<Current>,
    sample: Option<PieceSample>,
    /// Pieces read so far, and whether the last one was left out of the sample.
    number: u64,
    left_out: bool,
    /// Whether nothing has been handed out yet.
    fresh: bool,
    failed: bool,
}

enum Current {
    Text { reader: TextReader, pending: String, ended: bool, name: String, state: Read },
    Rows { rows: Rows, name: String, state: Read },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// Nothing yet, and nothing would be an error.
    MustCome,
    /// Nothing yet, which is allowed.
    MayCome,
    Something,
}

impl Pieces {
    pub(super) fn new(
        sources: Arc<Vec<Source>>,
        options: CorpusOptions,
        characters: Range<u64>,
        sample: Option<PieceSample>,
    ) -> Self {
        Self {
            sources,
            options,
            skip: characters.start,
            take: characters.end - characters.start,
            next_source: 0,
            current: None,
            sample,
            number: 0,
            left_out: false,
            fresh: true,
            failed: false,
        }
    }

    /// The next piece regardless of the range of characters.
    fn next_piece(&mut self) -> Result<Option<Piece>, TextError> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(source) = self.sources.get(self.next_source) else { return Ok(None) };
                self.next_source += 1;
                self.current = Some(Current::open(source, &self.options)?);
                continue;
            };
            let Some(mut piece) = current.next()? else {
                self.current = None;
                continue;
            };
            self.number += 1;
            if self.sample.is_some_and(|sample| !sample.takes(self.number)) {
                self.left_out = true;
                continue;
            }
            piece.starts_document |= std::mem::take(&mut self.left_out);
            return Ok(Some(piece));
        }
    }

    fn next_in_range(&mut self) -> Result<Option<Piece>, TextError> {
        while self.take > 0 {
            let Some(mut piece) = self.next_piece()? else { return Ok(None) };
            if self.skip > 0 || self.take < u64::MAX {
                let count = piece.text.chars().count() as u64;
                if count <= self.skip {
                    self.skip -= count;
                    continue;
                }
                piece.text.drain(..byte_offset(&piece.text, self.skip));
                let count = count - self.skip;
                self.skip = 0;
                if count > self.take {
                    piece.text.truncate(byte_offset(&piece.text, self.take));
                }
                self.take -= count.min(self.take);
            }
            piece.starts_document |= self.fresh;
            self.fresh = false;
            return Ok(Some(piece));
        }
        Ok(None)
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let piece = self.next_in_range();
        self.failed = piece.is_err();
        piece.transpose()
    }
}

/// Bytes of text in a piece, as near as the safe cuts allow.
const PIECE: usize = 4 << 20;
/// Bytes after which a text without a common cut is cut where `bpe` allows it, or anywhere.
const LONGEST: usize = 8 << 20;

impl Current {
    fn open(source: &Source, options: &CorpusOptions) -> Result<Self, TextError> {
        let name = source.name().to_owned();
        let state = if source.may_be_empty() { Read::MayCome } else { Read::MustCome };
        match options.format_of(source) {
            Some(format) => {
                let column = match (&options.text_column, format) {
                    (None, TableFormat::Labelled | TableFormat::Trees) => Column::Index(1),
                    (None, _) => Column::Name("text".into()),
                    (Some(name), _) => Column::Name(name.clone()),
                };
                let header = format != TableFormat::Labelled;
                let cells = CellOptions { lossy: options.lossy, lists: false };
                let rows = Rows::open(source, format, header, &[column], cells)?;
                Ok(Self::Rows { rows, name, state })
            }
            None => {
                let reader = source.text(options.lossy)?;
                Ok(Self::Text { reader, pending: String::new(), ended: false, name, state })
            }
        }
    }

    fn next(&mut self) -> Result<Option<Piece>, TextError> {
        let (text, starts_document, name, state) = match self {
            Self::Text { reader, pending, ended, name, state } => {
                let text = next_text(reader, pending, ended)?;
                (text, *state != Read::Something, name, state)
            }
            Self::Rows { rows, name, state } => {
                let text = loop {
                    match rows.next().transpose()? {
                        Some(mut cells) => match cells.pop() {
                            Some(text) if !text.is_empty() => break Some(text),
                            _ => {}
                        },
                        None => break None,
                    }
                };
                (text, true, name, state)
            }
        };
        match text {
            Some(text) => {
                *state = Read::Something;
                Ok(Some(Piece { text, starts_document }))
            }
            None if *state == Read::MustCome => Err(TextError::Empty(name.clone())),
            None => Ok(None),
        }
    }
}

fn next_text(
    reader: &mut TextReader,
    pending: &mut String,
    ended: &mut bool,
) -> Result<Option<String>, TextError> {
    let mut wanted = PIECE;
    loop {
        while !*ended && pending.len() < wanted {
            match reader.next_block()? {
                Some(text) => pending.push_str(&text),
                None => *ended = true,
            }
        }
        if *ended {
            let text = std::mem::take(pending);
            return Ok(Some(text).filter(|text| !text.is_empty()));
        }
        let cut = match last_common_cut(pending) {
            None if pending.len() < LONGEST => {
                wanted += PIECE;
                continue;
            }
            None => last_safe_cut(pending, TokenizerKind::Bpe).unwrap_or(pending.len()),
            Some(cut) => cut,
        };
        let tail = pending.split_off(cut);
        return Ok(Some(std::mem::replace(pending, tail)));
    }
}

fn byte_offset(text: &str, characters: u64) -> usize {
    text.char_indices().nth(characters as usize).map_or(text.len(), |(offset, _)| offset)
}
