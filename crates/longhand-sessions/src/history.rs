//! How a stream was read: its tokens, and the passes that read them.
//!
//! A state depends on its tokens up to rounding, and on the passes to the last bit: a prefill of three
//! tokens and three decode steps differ in rounding. The history of a stream says both, so that a
//! cold recompute has the bits of the state.

use longhand_engine::session::CHUNK;

use crate::record::{hashed, unhashed};

/// The tokens of a stream, or of a part of it, in the order of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    runs: Vec<Run>,
}

/// Tokens that were read in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// In prefill passes of [`CHUNK`] tokens, the first one at the beginning.
    Prefill(Vec<u32>),
    /// One by one, each in a pass of its own.
    Steps(Vec<u32>),
}

impl History {
    /// Adds tokens that were read by a prefill, as one run. Tokens read in several calls, each but the
    /// last a multiple of [`CHUNK`] long, are one run.
    pub(crate) fn prefill(&mut self, ids: &[u32]) {
        if !ids.is_empty() {
            self.runs.push(Run::Prefill(ids.to_vec()));
        }
    }

    /// Adds a token that a decode step read.
    pub(crate) fn step(&mut self, id: u32) {
        match self.runs.last_mut() {
            Some(Run::Steps(ids)) => ids.push(id),
            _ => self.runs.push(Run::Steps(vec![id])),
        }
    }

    /// Takes the last tokens back, which were steps.
    pub(crate) fn take_back(&mut self, count: usize) {
        if let Some(Run::Steps(ids)) = self.runs.last_mut() {
            ids.truncate(ids.len().saturating_sub(count));
            if ids.is_empty() {
                self.runs.pop();
            }
        }
    }

    /// Adds what was read afterwards.
    pub(crate) fn append(&mut self, later: History) {
        self.runs.extend(later.runs);
    }

    /// How many tokens it has.
    pub(crate) fn tokens(&self) -> usize {
        self.runs.iter().map(|run| run.ids().len()).sum()
    }

    /// All tokens in their order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|run| run.ids().iter().copied())
    }

    /// The passes that read it: each a slice of at most [`CHUNK`] tokens.
    pub(crate) fn passes(&self) -> impl Iterator<Item = &[u32]> {
        self.runs.iter().flat_map(|run| match run {
            Run::Prefill(ids) => ids.chunks(CHUNK),
            Run::Steps(ids) => ids.chunks(1),
        })
    }

    /// As bytes with their hash.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * self.tokens() + 5 * self.runs.len() + 32);
        for run in &self.runs {
            bytes.push(u8::from(matches!(run, Run::Steps(_))));
            bytes.extend((run.ids().len() as u32).to_le_bytes());
            run.ids().iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        }
        hashed(bytes)
    }

    /// Reads [`History::to_bytes`]; none for bytes that were altered.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = unhashed(bytes)?;
        let mut runs = Vec::new();
        while let Some((kind, tail)) = rest.split_first() {
            let (count, tail) = tail.split_first_chunk::<4>()?;
            let (ids, tail) =
                tail.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(4)?)?;
            let ids = ids.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
            runs.push(if *kind == 1 { Run::Steps(ids) } else { Run::Prefill(ids) });
            rest = tail;
        }
        Some(Self { runs })
    }
}

impl Run {
    fn ids(&self) -> &[u32] {
        match self {
            Self::Prefill(ids) | Self::Steps(ids) => ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_back_and_an_altered_one_is_not() {
        let mut history = History::default();
        history.prefill(&(0..CHUNK as u32 + 3).collect::<Vec<_>>());
        (7..12).for_each(|id| history.step(id));
        history.take_back(2);
        history.prefill(&[]);
        let sizes: Vec<usize> = history.passes().map(<[u32]>::len).collect();
        assert_eq!(sizes, [CHUNK, 3, 1, 1, 1]);
        assert_eq!(history.tokens(), CHUNK + 6);
        let bytes = history.to_bytes();
        assert_eq!(History::from_bytes(&bytes), Some(history));
        for at in [0, 1, 4, 9, bytes.len() - 40, bytes.len() - 1] {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(History::from_bytes(&altered), None, "{at}");
        }
        assert_eq!(History::from_bytes(&[]), None);
        assert_eq!(History::from_bytes(&History::default().to_bytes()), Some(History::default()));
    }
}
