//! Passages of a text that are read by themselves, in batches of similar length.

use std::sync::Arc;

use super::bucketed::{Bucketed, BucketedPosition, Measured};
use crate::error::TextError;
use crate::tokens::Tokens;

/// A part of one document, which is read by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The place of its first token in the text.
    pub first: u64,
    /// Its number of tokens, at least 2.
    pub count: u32,
}

impl Measured for Passage {
    fn size(&self) -> usize {
        self.count as usize
    }
}

impl Passage {
    /// Cuts each document into as few passages of at most `longest` tokens as there can be, all of
    /// nearly one length. A passage of one token has nothing to predict and is left out.
    pub fn of(tokens: &Tokens, longest: usize) -> Vec<Self> {
        let longest = longest.max(1) as u64;
        let starts = tokens.documents();
        let ends = starts.iter().skip(1).copied().chain([tokens.len()]);
        let mut passages = Vec::new();
        for (&start, end) in starts.iter().zip(ends) {
            let count = end.saturating_sub(start);
            let parts = count.div_ceil(longest);
            for part in 0..parts {
                let [from, to] = [part, part + 1].map(|part| start + count * part / parts);
                if to - from >= 2 {
                    passages.push(Self { first: from, count: (to - from) as u32 });
                }
            }
        }
        passages
    }
}

/// B passages padded to the longest; each vector of tokens has T·B elements in time-major order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassageBatch {
    /// The number of passages B.
    pub batch: usize,
    /// Tokens of the longest passage T.
    pub time: usize,
    /// The ids, 0 in padding.
    pub ids: Vec<u32>,
    /// Tokens of each passage.
    pub lengths: Vec<u32>,
}

impl PassageBatch {
    /// For each position the id `ahead` positions on in its passage; [`IGNORED`](super::IGNORED)
    /// where there is none.
    pub fn shifted(&self, ahead: isize) -> Vec<u32> {
        let mut targets = vec![super::IGNORED; self.ids.len()];
        for (row, target) in targets.iter_mut().enumerate() {
            let (t, b) = (row / self.batch, row % self.batch);
            let length = self.lengths[b] as usize;
            if let Some(other) = t.checked_add_signed(ahead)
                && t < length
                && other < length
            {
                *target = self.ids[other * self.batch + b];
            }
        }
        targets
    }

    /// The number of tokens, padding left out.
    pub fn tokens(&self) -> u64 {
        self.lengths.iter().map(|&length| u64::from(length)).sum()
    }
}

/// Passages of a text in [`Bucketed`] batches.
#[derive(Clone, Debug)]
pub struct Passages {
    tokens: Arc<Tokens>,
    passages: Bucketed<Passage>,
    lane: Vec<u32>,
}

impl Passages {
    /// Shuffled batches of `batch` passages of at most `longest` tokens, for training.
    ///
    /// # Errors
    /// [`TextError::TooShort`] for a text without two tokens in one document,
    /// [`TextError::Setting`] for a batch size of 0.
    pub fn shuffled(
        tokens: Arc<Tokens>,
        batch: usize,
        longest: usize,
        seed: u64,
    ) -> Result<Self, TextError> {
        let passages = Passage::of(&tokens, longest);
        if passages.is_empty() {
            return Err(TextError::TooShort { tokens: tokens.len() });
        }
        let passages = Bucketed::shuffled(passages, batch, seed)?;
        Ok(Self { tokens, passages, lane: Vec::new() })
    }

    /// Batches of given passages, shortest first, for evaluation.
    ///
    /// # Errors
    /// [`TextError::Empty`] for no passages, [`TextError::Setting`] for a batch size of 0.
    pub fn by_length(
        tokens: Arc<Tokens>,
        mut passages: Vec<Passage>,
        batch: usize,
    ) -> Result<Self, TextError> {
        passages.sort_by_key(Passage::size);
        let passages = Bucketed::in_order(passages, batch)?;
        Ok(Self { tokens, passages, lane: Vec::new() })
    }

    /// The number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.passages.batches_per_epoch()
    }

    /// The place of the next batch.
    pub fn position(&self) -> BucketedPosition {
        self.passages.position()
    }

    /// Goes on from a saved position.
    ///
    /// # Errors
    /// The errors of [`Bucketed::seek`] for this position.
    pub fn seek(&mut self, position: BucketedPosition) -> Result<(), TextError> {
        self.passages.seek(position)
    }

    /// Fills in the next batch and moves on.
    ///
    /// # Errors
    /// [`TextError::Io`] or [`TextError::Shard`] for an unreadable shard.
    pub fn next(&mut self, out: &mut PassageBatch) -> Result<(), TextError> {
        let places = self.passages.next_batch().to_vec();
        let passages = || places.iter().map(|&place| self.passages.examples()[place]);
        out.batch = places.len();
        out.time = passages().map(|passage| passage.size()).max().unwrap_or(0);
        out.ids.clear();
        out.ids.resize(out.batch * out.time, 0);
        out.lengths.clear();
        out.lengths.extend(passages().map(|passage| passage.count));
        for (stream, passage) in passages().enumerate() {
            self.lane.resize(passage.size(), 0);
            self.tokens.copy(passage.first, &mut self.lane)?;
            for (step, &id) in self.lane.iter().enumerate() {
                out.ids[step * out.batch + stream] = id;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Arc<Tokens> {
        let ids = (0..23).collect();
        Arc::new(Tokens::from_ids(ids, vec![0, 10, 11], 23).unwrap())
    }

    #[test]
    fn documents_are_cut_into_passages_of_nearly_one_length() {
        let passage = |first, count| Passage { first, count };
        let expected =
            [(0, 3), (3, 3), (6, 4), (11, 4), (15, 4), (19, 4)].map(|(f, c)| passage(f, c));
        // The document of one token has nothing to predict.
        assert_eq!(Passage::of(&text(), 4), expected);
        assert_eq!(Passage::of(&text(), 100), [passage(0, 10), passage(11, 12)]);
        assert_eq!(Passage::of(&text(), 1), []);
        assert!(matches!(
            Passages::shuffled(text(), 2, 1, 1),
            Err(TextError::TooShort { tokens: 23 })
        ));
    }

    #[test]
    fn every_passage_comes_once_in_an_epoch_and_a_saved_place_is_found_again() {
        let mut passages = Passages::shuffled(text(), 4, 4, 3).unwrap();
        let mut batch = PassageBatch::default();
        assert_eq!(passages.batches_per_epoch(), 2);
        let mut seen = Vec::new();
        for _ in 0..2 {
            passages.next(&mut batch).unwrap();
            for b in 0..batch.batch {
                seen.extend((0..batch.lengths[b] as usize).map(|t| batch.ids[t * batch.batch + b]));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..23).filter(|&id| id != 10).collect::<Vec<u32>>());
        passages.next(&mut batch).unwrap();
        let place = passages.position();
        passages.next(&mut batch).unwrap();
        let mut again = Passages::shuffled(text(), 4, 4, 3).unwrap();
        again.seek(place).unwrap();
        let mut other = PassageBatch::default();
        again.next(&mut other).unwrap();
        assert_eq!(batch, other);
    }

    #[test]
    fn targets_are_of_the_same_passage() {
        let lengths = vec![3, 2];
        let batch = PassageBatch { batch: 2, time: 3, ids: vec![1, 4, 2, 5, 3, 0], lengths };
        let none = super::super::IGNORED;
        assert_eq!(batch.shifted(1), [2, 5, 3, none, none, none]);
        assert_eq!(batch.shifted(-1), [none, none, 1, 4, 2, none]);
        assert_eq!(batch.tokens(), 5);
    }
}
