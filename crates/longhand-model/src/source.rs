//! The sources of a decoder: texts that the encoder reads in the same pass, or what was kept of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use longhand_kernel::attention::cross::kept::Kept;
use longhand_kernel::loss::pointer::Tokens;
use longhand_kernel::{Buffer, Sequence};

use crate::error::ModelError;

/// The sources that the decoder of a pass reads by cross-attention.
#[derive(Clone, Copy, Debug)]
pub enum SourceInput<'a> {
    /// Texts that the encoder reads in the same pass, one for each of the B sequences. Where the
    /// pass is recorded, gradients reach the encoder.
    Text {
        /// `[T·B]` token ids of the encoder's vocabulary, time-major.
        ids: &'a [u32],
        /// The positions of the sources and their lengths.
        sequence: Sequence<'a>,
    },
    /// S sources that were read before, for a pass without gradients. Of B = K·S sequences, number
    /// k·S + s reads source s, so that the K candidates of a search share their source.
    Kept(&'a Source),
}

impl SourceInput<'_> {
    /// The tokens of sources that are no kept ones.
    pub(crate) fn tokens(self) -> Option<SourceTokens> {
        match self {
            SourceInput::Text { ids, sequence } => Some(SourceTokens::of_sequence(ids, &sequence)),
            SourceInput::Kept(_) => None,
        }
    }
}

/// What a decoder needs of S sources: the keys and values of each cross-attention,
/// computed once by [`Model::read_source`](crate::Model::read_source).
#[derive(Clone)]
pub struct Source {
    /// [`Weights::version`](crate::Weights) of the weights that read them.
    version: u64,
    /// The tokens of one source after another.
    tokens: Arc<SourceTokens>,
    /// `[S + 1]`: where each source begins, and the number of all tokens.
    starts: Vec<usize>,
    /// For each layer in order, rows of keys and values at the positions of the tokens. The keys of
    /// a pointer come last.
    rows: Vec<Buffer>,
}

/// The tokens of S sources. Position p of source s is `ids[starts[s] + p · step]`.
#[derive(Debug)]
pub(crate) struct SourceTokens {
    ids: Vec<u32>,
    pub(crate) starts: Vec<usize>,
    pub(crate) lengths: Vec<usize>,
    pub(crate) step: usize,
}

impl SourceTokens {
    /// The tokens of a sequence, `[T·S]` time-major.
    pub(crate) fn of_sequence(ids: &[u32], sequence: &Sequence) -> Self {
        let all = 0..sequence.batch;
        Self {
            ids: ids.to_vec(),
            starts: all.clone().collect(),
            lengths: all.map(|s| sequence.real(s)).collect(),
            step: sequence.batch,
        }
    }

    /// The tokens of one source after another; `starts` is that of a [`Source`].
    fn one_after_another(ids: Vec<u32>, starts: &[usize]) -> Arc<Self> {
        let (starts, lengths) = starts.windows(2).map(|ends| (ends[0], ends[1] - ends[0])).unzip();
        Arc::new(Self { ids, starts, lengths, step: 1 })
    }

    /// T: tokens of the longest source.
    pub(crate) fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// The form in which operations read them.
    pub(crate) fn tokens(&self) -> Tokens<'_> {
        let Self { ids, starts, lengths, step } = self;
        Tokens { ids, starts, lengths, step: *step }
    }
}

impl Source {
    /// Sources without keys and values yet, of the ids `[T·S]` of a sequence.
    pub(crate) fn new(version: u64, ids: &[u32], sequence: &Sequence) -> Self {
        let (mut own, mut starts) = (Vec::new(), vec![0]);
        for s in 0..sequence.batch {
            own.extend((0..sequence.real(s)).map(|t| ids[t * sequence.batch + s]));
            starts.push(own.len());
        }
        let tokens = SourceTokens::one_after_another(own, &starts);
        Self { version, tokens, starts, rows: Vec::new() }
    }

    /// Keeps the rows of one more layer, `[T·S, width]` in the order of the sequence.
    pub(crate) fn keep(&mut self, sequence: &Sequence, rows: &[f32], width: usize) {
        let mut kept = Buffer::zeros(self.tokens.ids.len() * width);
        for s in 0..sequence.batch {
            for (t, at) in self.range(s).enumerate() {
                let row = t * sequence.batch + s;
                kept[at * width..(at + 1) * width]
                    .copy_from_slice(&rows[row * width..(row + 1) * width]);
            }
        }
        self.rows.push(kept);
    }

    /// S: the number of sources.
    pub fn len(&self) -> usize {
        self.tokens.starts.len()
    }

    /// Whether there is no source.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// T: tokens of the longest source.
    pub fn time(&self) -> usize {
        self.tokens.longest()
    }

    /// The tokens of one source.
    ///
    /// # Panics
    /// If there is no such source.
    pub fn ids(&self, source: usize) -> &[u32] {
        &self.tokens.ids[self.range(source)]
    }

    /// Size of the keys and values in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(|rows| 4 * rows.len()).sum()
    }

    /// Copies of some of the sources, in the given order; one may come several times.
    ///
    /// # Errors
    /// [`ModelError::SourceIndex`] for a source that is not there.
    pub fn select(&self, sources: &[usize]) -> Result<Self, ModelError> {
        Self::gather(self, &sources.iter().map(|&s| (self, s)).collect::<Vec<_>>())
    }

    /// Copies of single sources, each of any that were read with the same weights as `like`.
    ///
    /// # Errors
    /// [`ModelError::SourceIndex`] for a source that is not there, [`ModelError::SourceOfOther`] for
    /// one of other weights.
    pub fn gather(like: &Self, sources: &[(&Self, usize)]) -> Result<Self, ModelError> {
        let (mut starts, mut ids) = (vec![0], Vec::new());
        for &(of, index) in sources {
            if index >= of.len() {
                return Err(ModelError::SourceIndex { index, sources: of.len() });
            }
            if of.version != like.version {
                return Err(ModelError::SourceOfOther);
            }
            ids.extend_from_slice(of.ids(index));
            starts.push(ids.len());
        }
        // A source without tokens does not tell how wide its rows are.
        let mut all = sources.iter().map(|&(of, _)| of);
        let wide = all.find(|of| !of.tokens.ids.is_empty()).unwrap_or(like);
        let layer = |(place, rows): (usize, &Buffer)| {
            let width = rows.len() / wide.tokens.ids.len().max(1);
            let mut kept = Buffer::zeros(ids.len() * width);
            for (&(of, s), &to) in sources.iter().zip(&starts) {
                let Range { start, end } = of.range(s);
                let from = &of.rows[place][start * width..end * width];
                kept[to * width..][..from.len()].copy_from_slice(from);
            }
            kept
        };
        let rows = wide.rows.iter().enumerate().map(layer).collect();
        let tokens = SourceTokens::one_after_another(ids, &starts);
        Ok(Self { version: like.version, tokens, starts, rows })
    }

    /// The places of a source's tokens among those of all.
    fn range(&self, source: usize) -> Range<usize> {
        self.starts[source]..self.starts[source + 1]
    }

    /// Checks that it was read with these weights, and that this number of sequences can read it.
    pub(crate) fn check(&self, version: u64, sequences: usize) -> Result<(), ModelError> {
        if self.version != version {
            return Err(ModelError::SourceOfOther);
        }
        match sequences.checked_rem(self.len()) {
            Some(0) => Ok(()),
            None if sequences == 0 => Ok(()),
            _ => Err(ModelError::Sources { sources: self.len(), sequences }),
        }
    }

    /// The keys and values of a layer.
    pub(crate) fn kept(&self, place: usize) -> Kept<'_> {
        Kept { kv: &self.rows[place], starts: &self.starts }
    }

    /// The tokens, for a pointer.
    pub(crate) fn tokens(&self) -> &Arc<SourceTokens> {
        &self.tokens
    }

    /// The keys of a pointer, of a model that has one.
    pub(crate) fn pointer_keys(&self) -> &[f32] {
        self.rows.last().map_or(&[], |rows| rows)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sources, tokens) = (self.len(), self.tokens.ids.len());
        f.debug_struct("Source").field("sources", &sources).field("tokens", &tokens).finish()
    }
}
