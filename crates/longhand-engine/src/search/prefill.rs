//! Reads what comes before the first prediction of several prompts at once.

use std::cmp::Reverse;
use std::collections::HashMap;

use longhand_model::{Sequence, Source, State};

use super::network::Network;
use crate::error::EngineError;
use crate::session::CHUNK;

/// Positions of one pass: bounds its scratch memory.
const POSITIONS: usize = 1 << 12;

/// The state after each of the texts, one row for each. A text is cut at multiples of
/// [`CHUNK`]; texts that begin with the same pieces share their passes, unless they have
/// sources, one for each text. Pieces of similar length are read side by side. A row's bits do
/// not depend on the other texts.
pub(super) fn prefill(
    network: &mut dyn Network,
    texts: &[&[u32]],
    source: Option<&Source>,
) -> Result<State, EngineError> {
    let mut state = network.state(texts.len());
    let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
    for start in (0..longest).step_by(CHUNK) {
        let mut readers: HashMap<&[u32], usize> = HashMap::new();
        let mut work: Vec<(usize, &[u32])> = Vec::new();
        let mut copies: Vec<[usize; 2]> = Vec::new();
        for (row, text) in texts.iter().enumerate().filter(|(_, text)| text.len() > start) {
            let end = text.len().min(start + CHUNK);
            match readers.get(&text[..end]) {
                Some(&reader) if source.is_none() => copies.push([reader, row]),
                _ => {
                    readers.insert(&text[..end], row);
                    work.push((row, &text[start..end]));
                }
            }
        }
        work.sort_by_key(|&(row, piece)| (Reverse(piece.len()), row));
        let mut rest = &work[..];
        while let Some((pieces, others)) = side_by_side(rest) {
            let rows: Vec<usize> = pieces.iter().map(|&(row, _)| row).collect();
            let own = source.map(|source| source.select(&rows)).transpose()?;
            let mut part = network.state(rows.len());
            if start > 0 {
                for (b, &row) in rows.iter().enumerate() {
                    part.take_slot(b, &state, row)?;
                }
            }
            with_padding(pieces, |ids, sequence| {
                network.pass(ids, sequence, own.as_ref(), &mut part)
            })?;
            for (b, &row) in rows.iter().enumerate() {
                state.take_slot(row, &part, b)?;
            }
            network.lap("moving the states of prompts");
            rest = others;
        }
        state.branch(&copies)?;
    }
    Ok(state)
}

/// Reads sources, each of at least one token; they come back in the same order.
pub(super) fn read_sources(
    network: &mut dyn Network,
    sources: &[&[u32]],
) -> Result<Source, EngineError> {
    let mut work: Vec<(usize, &[u32])> = sources.iter().copied().enumerate().collect();
    work.sort_by_key(|&(row, text)| (Reverse(text.len()), row));
    let (mut parts, mut places) = (Vec::new(), vec![(0, 0); sources.len()]);
    let mut rest = &work[..];
    while let Some((pieces, others)) = side_by_side(rest) {
        for (b, &(row, _)) in pieces.iter().enumerate() {
            places[row] = (parts.len(), b);
        }
        parts.push(with_padding(pieces, |ids, sequence| network.read_source(ids, sequence))?);
        rest = others;
    }
    let places: Vec<_> = places.into_iter().map(|(part, b)| (&parts[part], b)).collect();
    let source = Source::gather(&parts[0], &places)?;
    network.lap("moving sources");
    Ok(source)
}

/// A text, or a part of one, and which it is.
type Piece<'a> = (usize, &'a [u32]);

/// Parts off the pieces, the longest first, that are read together; none of no pieces.
fn side_by_side<'p, 'a>(pieces: &'p [Piece<'a>]) -> Option<(&'p [Piece<'a>], &'p [Piece<'a>])> {
    let (_, longest) = pieces.first()?;
    let together = pieces.iter().take((POSITIONS / longest.len().max(1)).max(1));
    let count = together.take_while(|(_, piece)| fit(longest, piece)).count();
    Some(pieces.split_at(count))
}

/// Whether a piece is read beside a longer one: little would be padding. A single token is read as
/// a decode step, whose sums have another order, so it has only its like beside it.
fn fit(longest: &[u32], piece: &[u32]) -> bool {
    4 * piece.len() >= 3 * longest.len() && (piece.len() > 1 || longest.len() == 1)
}

/// Hands on pieces side by side, the longest first: ids `[T·B]`, time-major and padded.
fn with_padding<T>(pieces: &[Piece<'_>], take: impl FnOnce(&[u32], &Sequence<'_>) -> T) -> T {
    let (time, batch) = (pieces.first().map_or(0, |(_, piece)| piece.len()), pieces.len());
    let mut ids = vec![0; time * batch];
    for (b, (_, piece)) in pieces.iter().enumerate() {
        for (t, &id) in piece.iter().enumerate() {
            ids[t * batch + b] = id;
        }
    }
    let lengths: Vec<u32> = pieces.iter().map(|(_, piece)| piece.len() as u32).collect();
    let padded = lengths.iter().any(|&length| length as usize != time);
    let sequence = Sequence { lengths: padded.then_some(&lengths), ..Sequence::new(time, batch) };
    take(&ids, &sequence)
}
