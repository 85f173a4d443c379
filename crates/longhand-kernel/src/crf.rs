//! Linear-chain conditional random field: the likelihood, the marginals and the best path
//! of a sequence's tags.
//!
//! The score of a path `y` over n positions with K tags is
//! `s(y) = start[y₁] + Σ emission[t, y_t] + Σ transition[y_{t−1}, y_t] + end[y_n]`, and its
//! probability is `e^s(y) / Z` with `Z = Σ e^s(y′)` over all paths (Lafferty et al., "Conditional
//! random fields", 2001; Lample et al., "Neural architectures for named entity recognition", 2016,
//! equation 1). Forward–backward sums the paths in logarithms, so that any finite scores are safe.
//!
//! Each of them can be told which paths are legal ([`Legal`]): the score of an illegal start, step or end
//! is then −∞, so that the probability of such a path is 0. A sequence without a legal path, or one whose
//! targets are no legal path, is answered or measured over all paths, so that its likelihood stays finite.
//!
//! Each sequence is a chain over its real positions, whatever documents it holds.

use crate::loss::{IGNORE, Total};
use crate::sequence::Sequence;

mod chain;
pub mod reference;
#[cfg(test)]
mod tests;

use chain::{Chain, Table};

/// The scores of a batch of chains.
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a, R = f32> {
    /// `[T·B, K]`: the score of each tag at each position.
    pub emissions: &'a [R],
    /// `[K, K]`: the score of the tag of the column right after the tag of the row.
    pub transitions: &'a [R],
    /// `[K]`: the score of each tag at the first position.
    pub start: &'a [R],
    /// `[K]`: the score of each tag at the last position.
    pub end: &'a [R],
}

/// The wanted gradients of the sum of the losses times `scale`; each is added to.
pub struct Gradient<'a, R = f32> {
    /// Usually 1 / the number of tags, so that the gradient is that of the mean.
    pub scale: R,
    /// `[T·B, K]`: padding gets none.
    pub emissions: Option<&'a mut [R]>,
    /// `[K, K]`: gradient of the transitions.
    pub transitions: Option<&'a mut [R]>,
    /// `[K]`: gradient of the scores of first tags.
    pub start: Option<&'a mut [R]>,
    /// `[K]`: gradient of the scores of last tags.
    pub end: Option<&'a mut [R]>,
}

/// The tags that may follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Legal<'a> {
    /// `[K, K]`: whether the tag of the column may follow the tag of the row.
    pub transitions: &'a [bool],
    /// `[K]`: whether a sequence may begin with the tag.
    pub start: &'a [bool],
    /// `[K]`: whether a sequence may end with the tag.
    pub end: &'a [bool],
}

/// Negative log-likelihood of the tags: `ln Z − s(y)` nats for each sequence, summed.
///
/// `targets` is `[T·B]`. A sequence whose first target is [`IGNORE`] is left out; targets of
/// padding are not read. `losses` `[B]` receives each sequence's loss. The gradient by a score is
/// the expected count of its tag or pair of tags less the count in `targets`. The total counts the
/// tags, and as correct those that the best path has. Computes in double precision, on one thread.
/// Stable for any finite scores.
///
/// With `legal` only paths of legal starts, steps and ends count, in Z and as the best path, and
/// the gradient by the score of an illegal one is 0. A sequence whose tags are no such path is
/// measured over all paths.
///
/// # Panics
/// If a slice's length is not that of its shape, or a target is no tag.
pub fn negative_log_likelihood(
    sequence: Sequence,
    scores: Scores,
    targets: &[u32],
    legal: Option<Legal>,
    mut losses: Option<&mut [f32]>,
    mut gradient: Option<Gradient>,
) -> Total {
    let tags = check(sequence, &scores, legal);
    assert_eq!(targets.len(), sequence.rows(), "a target for each position");
    let tables = Tables::new(scores, legal);
    let mut chain = Chain::new(tags);
    let mut best = Vec::new();
    let mut total = Total::default();
    for b in 0..sequence.batch {
        let length = sequence.real(b);
        let target = |t: usize| targets[t * sequence.batch + b];
        let mut nats = 0.0_f64;
        if length > 0 && target(0) != IGNORE {
            let path: Vec<usize> = (0..length).map(|t| target(t) as usize).collect();
            let table = tables.read(&mut chain, sequence, b, |chain, table| {
                nats = chain.forward(table) - chain.score(table, &path);
                nats.is_finite()
            });
            if let Some(gradient) = &mut gradient {
                chain.backward(table);
                chain.add_gradient(table, sequence, b, &path, gradient);
            }
            chain.best_path(table, &mut best);
            total.count += length;
            total.correct += path.iter().zip(&best).filter(|(tag, best)| tag == best).count();
            total.nats += nats;
        }
        if let Some(losses) = &mut losses {
            losses[b] = nats as f32;
        }
    }
    total
}

/// Writes the probability of each tag at each position into `out` `[T·B, K]`: the sum of the
/// probabilities of all paths that have it there. Padding gets 0.
///
/// With `legal` only paths of legal starts, steps and ends count, and their probabilities sum to 1. A
/// sequence that has no such path gets those of all, as it does of [`viterbi`].
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn marginals(sequence: Sequence, scores: Scores, legal: Option<Legal>, out: &mut [f32]) {
    let tags = check(sequence, &scores, legal);
    assert_eq!(out.len(), sequence.rows() * tags, "a probability for each tag");
    let tables = Tables::new(scores, legal);
    let mut chain = Chain::new(tags);
    out.fill(0.0);
    for b in (0..sequence.batch).filter(|&b| sequence.real(b) > 0) {
        let table = tables
            .read(&mut chain, sequence, b, |chain, table| chain.forward(table) > f64::NEG_INFINITY);
        chain.backward(table);
        for t in 0..sequence.real(b) {
            let row = &mut out[(t * sequence.batch + b) * tags..][..tags];
            chain.marginals(t, |tag, probability| row[tag] = probability as f32);
        }
    }
}

/// Writes the tags of each sequence's best path into `tags` `[T·B]`, by the algorithm of Viterbi;
/// padding gets 0. Among equal paths the lower tags win.
///
/// With `legal` only paths of legal starts, steps and ends count. A sequence that has no such path
/// gets the best of all.
///
/// # Panics
/// If a slice's length is not that of its shape.
pub fn viterbi(sequence: Sequence, scores: Scores, legal: Option<Legal>, tags: &mut [u32]) {
    let count = check(sequence, &scores, legal);
    assert_eq!(tags.len(), sequence.rows(), "a tag for each position");
    let tables = Tables::new(scores, legal);
    let mut chain = Chain::new(count);
    let mut best = Vec::new();
    tags.fill(0);
    for b in (0..sequence.batch).filter(|&b| sequence.real(b) > 0) {
        tables.read(&mut chain, sequence, b, |chain, table| chain.best_path(table, &mut best));
        for (t, &tag) in best.iter().enumerate() {
            tags[t * sequence.batch + b] = tag as u32;
        }
    }
}

/// The scores of steps over the legal paths, where some are not, and over all.
struct Tables<'a> {
    scores: Scores<'a>,
    legal: Option<(Legal<'a>, Table)>,
    all: Table,
}

impl<'a> Tables<'a> {
    fn new(scores: Scores<'a>, legal: Option<Legal<'a>>) -> Self {
        let table = |legal: Option<&[bool]>| Table::new(scores.transitions, legal);
        let all = table(None);
        let legal = legal.map(|legal| (legal, table(Some(legal.transitions))));
        Self { scores, legal, all }
    }

    /// Reads sequence `b` into `chain` and lets `take` go over its legal paths; over all of them where
    /// it finds none. Gives the table of those that it went over last.
    fn read(
        &self,
        chain: &mut Chain,
        sequence: Sequence,
        b: usize,
        mut take: impl FnMut(&mut Chain, &Table) -> bool,
    ) -> &Table {
        if let Some((legal, table)) = &self.legal {
            chain.read(sequence, self.scores, Some(*legal), b);
            if take(chain, table) {
                return table;
            }
        }
        chain.read(sequence, self.scores, None, b);
        take(chain, &self.all);
        &self.all
    }
}

/// Checks the lengths of the scores and of what is legal, and returns K.
fn check(sequence: Sequence, scores: &Scores, legal: Option<Legal>) -> usize {
    let tags = scores.start.len();
    assert_eq!(scores.end.len(), tags, "a score for each last tag");
    assert_eq!(scores.transitions.len(), tags * tags, "a score for each pair of tags");
    assert_eq!(scores.emissions.len(), sequence.rows() * tags, "a score for each tag");
    if let Some(legal) = legal {
        assert_eq!(legal.transitions.len(), tags * tags, "a legal pair for each pair");
        assert_eq!([legal.start.len(), legal.end.len()], [tags; 2], "both ends of a path");
    }
    tags
}
