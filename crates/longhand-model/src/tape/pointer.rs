//! The pointer of a decoder: a distribution over its source's tokens, and the mixture
//! with a head's softmax.

use std::ops::Range;
use std::sync::Arc;

use longhand_kernel::attention::pointer;
use longhand_kernel::loss::pointer as mixture;
use longhand_kernel::loss::{Targets, Total};
use longhand_kernel::{Buffer, Sequence};

use super::profile::{Cost, Way};
use super::{Backward, LossOptions, Operation, Tape, Var};
use crate::source::SourceTokens;
use crate::state::State;
use crate::weights::{ParameterId, Weights};

/// The keys that a pointer reads.
#[derive(Clone, Copy)]
pub(crate) enum PointerKeys<'a> {
    /// Rows of the sources in the same pass.
    Rows(Var),
    /// Rows that were kept.
    Kept(&'a [f32]),
}

/// What a pointer reads at each position.
#[derive(Clone, Copy)]
pub(crate) struct PointerQueries<'a> {
    /// `[T·B, K]`: the queries.
    pub(crate) queries: Var,
    /// A row of K for each token of the sources.
    pub(crate) keys: PointerKeys<'a>,
    /// The weight of the coverage, where there is any.
    pub(crate) coverage: Option<ParameterId>,
}

/// What the answers to a value are mixed with.
#[derive(Clone)]
pub(super) struct Pointed {
    x: Var,
    gates: Var,
    /// `[T·B, columns]`: the distribution over the source.
    attention: Var,
    /// `[T·B, columns]`: the coverage before each position, where there is any.
    coverage: Option<Var>,
    tokens: Arc<SourceTokens>,
}

pub(super) struct Pointer {
    queries: Var,
    keys: Var,
    weight: Option<ParameterId>,
    tokens: Arc<SourceTokens>,
    pub(super) y: Var,
    coverage: Option<Var>,
}

impl Tape {
    /// Lets the answers of heads to `x` copy tokens of the sources: `gates [T·B, 1]` are the logits of
    /// generating. `state` has the coverage before the pass, and takes that behind it.
    pub(crate) fn point(
        &mut self,
        weights: &Weights,
        x: Var,
        gates: Var,
        asked: PointerQueries<'_>,
        tokens: Arc<SourceTokens>,
        state: &mut State,
    ) {
        let PointerQueries { queries, keys, coverage: weight } = asked;
        let span = self.span(queries);
        let sequence = self.spans.sequence(span, false);
        let Sequence { time, batch, .. } = sequence;
        let (columns, len) = (tokens.longest(), sequence.rows() * tokens.longest());
        let mut data = self.cpu.buffers().take(len);
        let mut covered = Buffer::default();
        if weight.is_some() {
            covered = self.cpu.buffers().take(len);
            for (row, before) in covered.chunks_exact_mut(columns.max(1)).zip(&state.coverage) {
                row.fill(0.0);
                row.iter_mut().zip(before).for_each(|(to, &from)| *to = from);
            }
        }
        let inputs = pointer::Inputs {
            width: self.width(queries),
            columns,
            q: self.data(queries),
            sources: sources(&tokens, self.pointer_keys(keys)),
            coverage: weight.map(|id| weights.values(id)[0]),
        };
        let given = weight.is_some().then_some(&mut covered[..]);
        pointer::forward(&self.cpu, &sequence, inputs, &mut data, given);
        if weight.is_some() && time > 0 {
            let last = (time - 1) * batch * columns;
            let rows = covered[last..].chunks_exact(columns.max(1));
            let rows = rows.zip(data[last..].chunks_exact(columns.max(1)));
            for (b, (covered, read)) in rows.enumerate() {
                let own = tokens.lengths[b % tokens.lengths.len()];
                let sums = covered.iter().zip(read).take(own).map(|(c, a)| c + a);
                state.coverage[b].clear();
                state.coverage[b].extend(sums);
            }
        }
        self.timed(Way::Forward, || Cost::unknown(format!("pointer {columns}")));
        let needed = self.needs(queries)
            || matches!(keys, PointerKeys::Rows(keys) if self.needs(keys))
            || Self::trains(weights, &[weight]);
        let y = self.push(span, data, columns, needed);
        let coverage = weight.map(|_| self.push(span, covered, columns, needed));
        let tokens_of = tokens.clone();
        self.pointed.push(Pointed { x, gates, attention: y, coverage, tokens });
        if let PointerKeys::Rows(keys) = keys {
            let pointer = Pointer { queries, keys, weight, tokens: tokens_of, y, coverage };
            self.record_with(weights, y, Operation::Pointer(pointer));
        }
    }

    /// Replaces logits of some rows of the answers to `x` by the logarithms of their probabilities,
    /// where a pointer copies beside them.
    pub(crate) fn mix(&self, x: Var, rows: Range<usize>, logits: &mut [f32]) {
        let Some(pointed) = self.pointed(x) else { return };
        let vocabulary = logits.len() / rows.len().max(1);
        let mixture = self.mixture(pointed, vocabulary, rows);
        mixture::log_probabilities(&self.cpu, mixture, logits);
        self.timed(Way::Forward, || Cost::unknown("mixture".to_owned()));
    }

    /// Whether a pointer copies beside the answers to `x`.
    pub(crate) fn is_pointed(&self, x: Var) -> bool {
        self.pointed(x).is_some()
    }

    /// −ln of the mixture's probability of each target, summed, for the `logits` of the answers to
    /// `x`. Where gradients are wanted and there is coverage, what is read again adds to the sum (See
    /// et al., equation 13, with λ = 1).
    pub(crate) fn pointer_cross_entropy(
        &mut self,
        x: Var,
        logits: Var,
        targets: &[u32],
        options: LossOptions<'_>,
    ) -> Total {
        let Some(pointed) = self.pointed(x).cloned() else { return Total::default() };
        let LossOptions { smoothing, losses, gradients, .. } = options;
        let (vocabulary, rows) = (self.width(logits), targets.len());
        let targets = Targets { ids: targets, smoothing };
        let Some((scale, _)) = gradients else {
            let mixture = self.mixture(&pointed, vocabulary, 0..rows);
            let logits = self.data(logits);
            return mixture::cross_entropy(&self.cpu, mixture, logits, targets, losses, None);
        };
        let vars = [logits, pointed.gates, pointed.attention];
        let mut opened = vars.map(|var| self.open(var));
        let mut of_coverage = pointed.coverage.and_then(|var| self.open(var));
        let mixture = self.mixture(&pointed, vocabulary, 0..rows);
        let [of_logits, of_gates, of_attention] = opened.each_mut().map(Option::as_deref_mut);
        let gradient = mixture::Gradient {
            scale,
            logits: of_logits,
            gates: of_gates,
            attention: of_attention,
        };
        let values = self.data(logits);
        let mut total =
            mixture::cross_entropy(&self.cpu, mixture, values, targets, losses, Some(gradient));
        if let Some(coverage) = pointed.coverage {
            let into = [opened[2].as_deref_mut(), of_coverage.as_deref_mut()];
            let (a, c) = (self.data(pointed.attention), self.data(coverage));
            total.nats += pointer::coverage_loss(a, c, Some((scale, into)));
            self.close(coverage, of_coverage);
        }
        for (var, gradient) in vars.into_iter().zip(opened) {
            self.close(var, gradient);
        }
        total
    }

    fn pointed(&self, x: Var) -> Option<&Pointed> {
        self.pointed.iter().find(|pointed| pointed.x.0 == x.0)
    }

    fn mixture<'a>(
        &'a self,
        pointed: &'a Pointed,
        vocabulary: usize,
        rows: Range<usize>,
    ) -> mixture::Mixture<'a> {
        let columns = pointed.tokens.longest();
        mixture::Mixture {
            vocabulary,
            gates: &self.data(pointed.gates)[rows.clone()],
            attention: &self.data(pointed.attention)[rows.start * columns..rows.end * columns],
            columns,
            sources: pointed.tokens.tokens(),
            first: rows.start,
        }
    }

    fn pointer_keys<'a>(&'a self, keys: PointerKeys<'a>) -> &'a [f32] {
        match keys {
            PointerKeys::Rows(keys) => self.data(keys),
            PointerKeys::Kept(keys) => keys,
        }
    }
}

impl Pointer {
    pub(super) fn backward(self, pass: &mut Backward) {
        let da = pass.tape.finish(self.y);
        let dc = self.coverage.and_then(|coverage| pass.tape.finish(coverage));
        if da.is_none() && dc.is_none() {
            return;
        }
        let (mut dq, mut dkeys) = (pass.tape.open(self.queries), pass.tape.open(self.keys));
        let mut d_weight = self.weight.and_then(|id| pass.gradients.take(id));
        let tape = &*pass.tape;
        let inputs = pointer::Inputs {
            width: tape.width(self.queries),
            columns: tape.width(self.y),
            q: tape.data(self.queries),
            sources: sources(&self.tokens, tape.data(self.keys)),
            coverage: self.weight.map(|id| pass.weights.values(id)[0]),
        };
        let covered = self.coverage.map_or(&[][..], |coverage| tape.data(coverage));
        let gradients = pointer::Gradients {
            q: dq.as_deref_mut(),
            keys: dkeys.as_deref_mut(),
            coverage: d_weight.as_deref_mut().and_then(|d| d.first_mut()),
        };
        let read = [tape.data(self.y), covered];
        let sequence = tape.sequence(self.queries, false);
        let given = [da.as_deref(), dc.as_deref()];
        pointer::backward(&tape.cpu, &sequence, inputs, read, given, gradients);
        if let Some(id) = self.weight {
            pass.gradients.put(id, d_weight);
        }
        pass.tape.close(self.queries, dq);
        pass.tape.close(self.keys, dkeys);
        for gradient in [da, dc].into_iter().flatten() {
            pass.tape.cpu.buffers().give(gradient);
        }
    }
}

fn sources<'a>(tokens: &'a SourceTokens, keys: &'a [f32]) -> pointer::Sources<'a> {
    let SourceTokens { starts, lengths, step, .. } = tokens;
    pointer::Sources { keys, starts, lengths, step: *step }
}
