//! One chunk of parallel streams.

use std::ops::Range;

use crate::error::TextError;
use crate::tokens::Tokens;

/// The target of a place where nothing is to be predicted.
pub const IGNORED: u32 = u32::MAX;

/// A chunk of B parallel streams of T tokens; each vector has T·B elements in time-major order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The number of streams B.
    pub batch: usize,
    /// Tokens of each stream T.
    pub time: usize,
    /// The tokens that are read.
    pub inputs: Vec<u32>,
    /// The token after each; [`IGNORED`] where there is none to predict, such as at the
    /// end of a document.
    pub targets: Vec<u32>,
    /// Whether the state that a stream carries must be zero before this token.
    pub resets: Vec<bool>,
}

impl Batch {
    /// Makes room for B streams of T tokens, with nothing to predict and nothing reset; the
    /// vectors keep their memory.
    pub fn resize(&mut self, batch: usize, time: usize) {
        self.batch = batch;
        self.time = time;
        self.inputs.clear();
        self.inputs.resize(batch * time, 0);
        self.targets.clear();
        self.targets.resize(batch * time, IGNORED);
        self.resets.clear();
        self.resets.resize(batch * time, false);
    }

    /// Places tokens and their successors into one stream from time `from` on: those of `pairs`,
    /// numbered by the token that is read. The state is reset where a document begins, and its
    /// first token is not predicted from another text. `lane` is scratch.
    ///
    /// # Errors
    /// [`TextError::TokenRange`] for pairs beyond the end, or an unreadable shard's error.
    ///
    /// # Panics
    /// If the batch has no room for them.
    pub fn place(
        &mut self,
        tokens: &Tokens,
        pairs: Range<u64>,
        stream: usize,
        from: usize,
        lane: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        if pairs.is_empty() {
            return Ok(());
        }
        lane.resize((pairs.end - pairs.start) as usize + 1, 0);
        tokens.copy(pairs.start, lane)?;
        let row = |position: u64| (from + (position - pairs.start) as usize) * self.batch + stream;
        for (position, pair) in pairs.clone().zip(lane.windows(2)) {
            self.inputs[row(position)] = pair[0];
            self.targets[row(position)] = pair[1];
        }
        let documents = tokens.documents();
        let first = documents.partition_point(|&document| document < pairs.start);
        for &document in documents[first..].iter().take_while(|&&start| start <= pairs.end) {
            if document < pairs.end {
                self.resets[row(document)] = true;
            }
            if document > pairs.start {
                self.targets[row(document - 1)] = IGNORED;
            }
        }
        Ok(())
    }

    /// Number of targets that are not [`IGNORED`].
    pub fn predictions(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }
}
