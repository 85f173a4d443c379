//! Heads: layers beside each other on the body's output, each with an answer and a loss.

use std::ops::Range;

use longhand_kernel::Sequence;
use longhand_kernel::crf::Legal;
use longhand_kernel::loss::{binary, cross_entropy_of_logits, ordinal, span};

use crate::block::NormLayer;
use crate::config::{Config, Dropout, HeadConfig, HeadKind};
use crate::error::{HeadError, ModelError};
use crate::tape::{Crf, IGNORE, LossOptions, Output, Tape, Total, Var};
use crate::tape::{best_tags, crf_loss_of, tag_probabilities};
use crate::weights::{Builder, Init, ParameterId, Role, Weights};

/// A named head: the linear layer behind the body, and what its numbers mean.
pub struct Head {
    name: String,
    kind: HeadKind,
    /// Numbers in a row of its answer.
    outputs: usize,
    /// Width of the rows that it reads.
    width: usize,
    output: Output,
    /// The scores of tags beside each other, where the head has them.
    crf: Option<Crf>,
    /// The norm behind the pooling, where the body has none.
    norm: Option<NormLayer>,
    dropout: f32,
    locked: bool,
    /// Whether a pointer of the model copies beside it.
    points: bool,
}

/// The right answers that a head learns. Rows are time-major: the target of position t in sequence
/// b is number t·B + b. [`IGNORE`] as a target leaves its row out of the loss.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// `[T·B]` token ids, for a language model's head and one for masked tokens.
    Tokens(&'a [u32]),
    /// `[B]` classes, for a classifier and a sentence pair.
    Labels(&'a [u32]),
    /// `[B]` classes whose order counts, for a classifier and a sentence pair: a probability that is
    /// wrong by more classes costs more.
    Ordered(&'a [u32]),
    /// `[B, L]` numbers from 0 (off) to 1 (on), for independent labels; and `[L]`, how often one that
    /// is on counts in the loss of each label (none: once).
    Flags(&'a [f32], Option<&'a [f32]>),
    /// `[T·B]` tags, for a tagging head; and the paths over which a CRF's loss is (none: all). Tags that
    /// are no legal path have the loss over all paths.
    Tags(&'a [u32], Option<Legal<'a>>),
    /// `[T·B]` tags, for a tagging head: each by the score of its own position, without a CRF's scores
    /// of two tags beside each other.
    TagsApart(&'a [u32]),
    /// `[B]` first and last positions, counted from 0 in each sequence.
    Spans(&'a [(u32, u32)]),
}

impl Head {
    pub(crate) fn new(
        config: &Config,
        head: &HeadConfig,
        embedding: ParameterId,
        norm: Option<NormLayer>,
        builder: &mut Builder,
    ) -> Self {
        let HeadConfig { name, kind } = head.clone();
        let outputs = kind.outputs(config.vocab_size);
        let width = config.input_width(&kind);
        let weight = if kind.is_tied() {
            embedding
        } else {
            let shape = [outputs, width];
            let weight = builder.add(format!("{name}.weight"), &shape, Init::Normal(0.02));
            builder.role(weight, Role::Head);
            weight
        };
        let bias = kind.has_bias();
        let bias = bias.then(|| builder.add(format!("{name}.bias"), &[outputs], Init::Zeros));
        let crf = matches!(kind, HeadKind::Tags { crf: true, .. });
        let crf = crf.then(|| crf_scores(&name, outputs, builder));
        let Dropout { output: dropout, locked, .. } = config.dropout;
        let output = Output { weight, bias };
        let points = config.pointer.is_some() && config.heads.first() == Some(head);
        Self { name, kind, outputs, width, output, crf, norm, dropout, locked, points }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The form of its answer.
    pub fn kind(&self) -> &HeadKind {
        &self.kind
    }

    /// Numbers in a row of its answer: tokens, classes, labels, tags, or the two ends of a span.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Numbers in a row of the body's output, which it reads.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether it has a parameter of this name. An embedding that it is tied to is the body's.
    pub fn owns(&self, parameter: &str) -> bool {
        parameter.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Its own parameters, the embedding that it is tied to included.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = ParameterId> {
        let crf = self.crf.map(|Crf { transitions, start, end }| [transitions, start, end]);
        let output = [Some(self.output.weight), self.output.bias].into_iter().flatten();
        output.chain(crf.into_iter().flatten())
    }

    /// Rows of its answer to the body's output `x`: the positions, or the sequences where it pools.
    pub fn rows(&self, tape: &Tape, x: Var) -> usize {
        let sequence = tape.sequence(x, false);
        if self.kind.pooling().is_some() { sequence.batch } else { sequence.rows() }
    }

    /// Writes the logits of some rows for the body's output `x` into `out`: `[rows,
    /// outputs]`. Of a model with a pointer they are the logarithms of the probabilities of
    /// writing and copying together.
    ///
    /// # Panics
    /// If there are fewer rows.
    pub fn logits(
        &self,
        weights: &Weights,
        tape: &mut Tape,
        x: Var,
        rows: Range<usize>,
        out: &mut Vec<f32>,
    ) {
        let x = self.pool(weights, tape, x);
        let width = tape.width(x);
        let values = &tape.data(x)[rows.start * width..rows.end * width];
        out.resize(rows.len() * self.outputs, 0.0);
        tape.logits(weights, values, self.output, out);
        if self.points {
            tape.mix(x, rows, out);
        }
    }

    /// Writes the probabilities of every row for the body's output `x` into `out`:
    /// `[rows, outputs]`. They sum to 1 in each row. Each of independent labels is by itself. Either
    /// end of a span sums to 1 over the positions of a sequence. A CRF's are the marginals over all
    /// paths, with zeros for padding: [`Head::tag_probabilities`] can leave out those that are not legal.
    pub fn probabilities(&self, weights: &Weights, tape: &mut Tape, x: Var, out: &mut Vec<f32>) {
        self.logits(weights, tape, x, 0..self.rows(tape, x), out);
        match (&self.kind, self.crf) {
            (HeadKind::MultiLabel { .. }, _) => tape.flag_probabilities(out),
            (HeadKind::Span {}, _) => tape.span_probabilities(x, out),
            (_, Some(_)) => self.tag_probabilities(weights, &tape.sequence(x, false), None, out),
            _ => tape.softmax(self.outputs, out),
        }
    }

    /// Replaces the logits `[T·B, tags]` of all positions by the probability of each tag, over all
    /// paths that are `legal`; padding gets 0. A sequence without a legal path gets those over all, as it
    /// gets the best of all from [`Head::best_tags`]. Without a CRF the logits alone score a path.
    ///
    /// # Panics
    /// If the logits or `legal` are not of these shapes.
    pub fn tag_probabilities(
        &self,
        weights: &Weights,
        sequence: &Sequence<'_>,
        legal: Option<Legal<'_>>,
        logits: &mut [f32],
    ) {
        tag_probabilities(weights, self.crf, sequence, legal, logits);
    }

    /// Writes the most probable tags of each sequence for the logits `[T·B, tags]` of all positions
    /// into `out` `[T·B]`, of all paths that are `legal`; padding gets 0. A sequence without a legal
    /// path gets the best of all. Without a CRF the logits alone score a path.
    ///
    /// # Panics
    /// If the logits or `legal` are not of these shapes.
    pub fn best_tags(
        &self,
        weights: &Weights,
        sequence: &Sequence<'_>,
        logits: &[f32],
        legal: Option<Legal<'_>>,
        out: &mut Vec<u32>,
    ) {
        out.clear();
        out.resize(sequence.rows(), 0);
        best_tags(weights, self.crf, sequence, logits, legal, out);
    }

    /// The loss of the answers to `x`, the output of the body or of one of its stacks, against
    /// `targets`, summed, in nats. Drops out what the configuration says where the pass is a
    /// training pass. Where gradients are wanted, a pointer with coverage adds how much of the
    /// source it reads again.
    ///
    /// # Errors
    /// [`ModelError::Head`] for an `x` of another width, and for targets of another kind, another
    /// number or out of range.
    /// Nothing was recorded then.
    ///
    /// # Panics
    /// If the weights of labels, or what is legal, are not of the head's shape.
    pub fn loss(
        &self,
        weights: &Weights,
        tape: &mut Tape,
        x: Var,
        targets: Targets<'_>,
        options: LossOptions<'_>,
    ) -> Result<Total, ModelError> {
        self.check(tape, x, targets)?;
        let body = x;
        let x = self.pool(weights, tape, x);
        let x = tape.dropout(x, self.dropout, self.locked);
        let trains = options.gradients.is_some();
        Ok(match (targets, self.crf) {
            (Targets::Tokens(ids), _) if self.points && tape.is_pointed(body) => {
                let logits = tape.scores(weights, x, self.output, trains);
                tape.pointer_cross_entropy(body, logits, ids, options)
            }
            (Targets::Tags(tags, legal), Some(crf)) => {
                let scores = tape.scores(weights, x, self.output, trains);
                tape.crf_loss(weights, scores, crf, (tags, legal), options)
            }
            (
                Targets::Tokens(ids)
                | Targets::Labels(ids)
                | Targets::Tags(ids, _)
                | Targets::TagsApart(ids),
                _,
            ) => tape.cross_entropy(weights, x, self.output, ids, options),
            (Targets::Ordered(classes), _) => {
                let logits = tape.scores(weights, x, self.output, trains);
                tape.ordinal_cross_entropy(logits, classes, options)
            }
            (Targets::Flags(flags, of_labels), _) => {
                let logits = tape.scores(weights, x, self.output, trains);
                tape.flag_cross_entropy(logits, (flags, of_labels), options)
            }
            (Targets::Spans(spans), _) => {
                let scores = tape.scores(weights, x, self.output, trains);
                tape.span_cross_entropy(scores, spans, options)
            }
        })
    }

    /// The loss of logits that take the place of this head's own, such as the mean of those of several
    /// models, against `targets`, summed, in nats. `x` is what the head reads; its values do not
    /// count. Nothing is recorded.
    ///
    /// # Errors
    /// As [`Head::loss`].
    ///
    /// # Panics
    /// As [`Head::loss`], and if there are fewer logits than those of [`Head::rows`].
    pub fn loss_of_logits(
        &self,
        weights: &Weights,
        tape: &Tape,
        x: Var,
        logits: &[f32],
        targets: Targets<'_>,
    ) -> Result<Total, ModelError> {
        self.check(tape, x, targets)?;
        let sequence = tape.sequence(x, false);
        Ok(match (targets, self.crf) {
            (Targets::Tags(tags, legal), Some(crf)) => {
                crf_loss_of(weights, crf, sequence, logits, (tags, legal))
            }
            (
                Targets::Tokens(ids)
                | Targets::Labels(ids)
                | Targets::Tags(ids, _)
                | Targets::TagsApart(ids),
                _,
            ) => cross_entropy_of_logits(self.outputs, logits, ids),
            (Targets::Ordered(classes), _) => {
                ordinal::cross_entropy(self.outputs, logits, classes, 0.0, None, None)
            }
            (Targets::Flags(flags, of_labels), _) => {
                binary::cross_entropy(self.outputs, logits, flags, of_labels, 0.0, None, None)
            }
            (Targets::Spans(spans), _) => {
                span::cross_entropy(sequence, logits, spans, 0.0, None, None)
            }
        })
    }

    /// Sets the scores of tags beside each other, if the head has them, to the mean of those in
    /// `own` and in `others`, weights of models of one form.
    pub(crate) fn average_tag_scores(&self, own: &mut Weights, others: &[&Weights]) {
        let crf = self.crf.into_iter();
        for id in crf.flat_map(|Crf { transitions, start, end }| [transitions, start, end]) {
            let mut sums = own.values(id).to_vec();
            for other in others {
                sums.iter_mut().zip(other.values(id)).for_each(|(sum, x)| *sum += x);
            }
            let count = (others.len() + 1) as f32;
            own.get_mut(id).data.iter_mut().zip(sums).for_each(|(x, sum)| *x = sum / count);
        }
    }

    /// The vectors that the linear layer reads.
    fn pool(&self, weights: &Weights, tape: &mut Tape, x: Var) -> Var {
        let Some(pooling) = self.kind.pooling() else { return x };
        let x = tape.pool(x, pooling);
        self.norm.as_ref().map_or(x, |norm| norm.run(tape, weights, x))
    }

    fn check(&self, tape: &Tape, x: Var, targets: Targets<'_>) -> Result<(), HeadError> {
        let (name, sequence) = (|| self.name.clone(), tape.sequence(x, false));
        let (expected, got) = match targets {
            Targets::Tokens(ids) => (sequence.rows(), ids.len()),
            Targets::Tags(ids, _) | Targets::TagsApart(ids) => (sequence.rows(), ids.len()),
            Targets::Labels(ids) | Targets::Ordered(ids) => (sequence.batch, ids.len()),
            Targets::Flags(flags, _) => (sequence.batch * self.outputs, flags.len()),
            Targets::Spans(spans) => (sequence.batch, spans.len()),
        };
        if tape.width(x) != self.width {
            let (expected, got) = (self.width, tape.width(x));
            return Err(HeadError::Width { head: name(), expected, got });
        }
        if self.kind.targets() != targets.name() {
            let (expected, got) = (self.kind.targets(), targets.name());
            return Err(HeadError::Targets { head: name(), expected, got });
        }
        if expected != got {
            return Err(HeadError::Count { head: name(), expected, got });
        }
        match targets {
            Targets::Tokens(ids)
            | Targets::Labels(ids)
            | Targets::Ordered(ids)
            | Targets::TagsApart(ids) => self.check_ids(sequence, ids),
            Targets::Tags(ids, _) => {
                self.check_ids(sequence, ids)?;
                self.check_path(sequence, ids)
            }
            Targets::Flags(flags, _) => {
                match flags.iter().position(|flag| !(0.0..=1.0).contains(flag)) {
                    Some(place) => {
                        Err(HeadError::Flag { head: name(), place, value: flags[place] })
                    }
                    None => Ok(()),
                }
            }
            Targets::Spans(spans) => {
                let fits = |b: usize, (first, last): (u32, u32)| {
                    first == IGNORE || (first <= last && (last as usize) < sequence.real(b))
                };
                match (0..spans.len()).find(|&b| !fits(b, spans[b])) {
                    Some(b) => {
                        let (first, last) = spans[b];
                        let length = sequence.real(b);
                        Err(HeadError::Span { head: name(), sequence: b, first, last, length })
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Checks tokens, classes or tags.
    fn check_ids(&self, sequence: Sequence<'_>, ids: &[u32]) -> Result<(), HeadError> {
        let name = || self.name.clone();
        let known = |&id: &u32| id == IGNORE || (id as usize) < self.outputs;
        if let Some(place) = ids.iter().position(|id| !known(id)) {
            let (target, outputs) = (ids[place], self.outputs);
            return Err(HeadError::Target { head: name(), place, target, outputs });
        }
        if self.kind.pooling().is_some() {
            return Ok(());
        }
        let batch = sequence.batch;
        let mut targets = ids.iter().enumerate().filter(|&(_, &id)| id != IGNORE);
        match targets.find(|(place, _)| !sequence.is_real(place / batch, place % batch)) {
            Some((place, _)) => Err(HeadError::Padding { head: name(), place }),
            None => Ok(()),
        }
    }

    /// Checks that a CRF is given the tags of whole sequences.
    fn check_path(&self, sequence: Sequence<'_>, ids: &[u32]) -> Result<(), HeadError> {
        let batch = sequence.batch;
        let is_ignored = |t: usize, b: usize| ids[t * batch + b] == IGNORE;
        let in_part =
            |b: usize| (1..sequence.real(b)).any(|t| is_ignored(t, b) != is_ignored(0, b));
        match (0..batch).find(|&b| self.crf.is_some() && in_part(b)) {
            Some(b) => Err(HeadError::PartOfTags { head: self.name.clone(), sequence: b }),
            None => Ok(()),
        }
    }
}

/// Lays out the scores of a CRF. They begin at zero: any tag may follow any other.
fn crf_scores(name: &str, tags: usize, builder: &mut Builder) -> Crf {
    let transitions = builder.add(format!("{name}.transitions"), &[tags, tags], Init::Zeros);
    // Nothing is multiplied with it.
    builder.role(transitions, Role::Vector);
    let [start, end] =
        ["start", "end"].map(|end| builder.add(format!("{name}.{end}"), &[tags], Init::Zeros));
    Crf { transitions, start, end }
}

impl Targets<'_> {
    /// Their name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Targets::Tokens(_) => "tokens",
            Targets::Labels(_) | Targets::Ordered(_) => "labels",
            Targets::Flags(..) => "flags",
            Targets::Tags(..) | Targets::TagsApart(_) => "tags",
            Targets::Spans(_) => "spans",
        }
    }
}

impl HeadKind {
    /// The name of the targets that it learns.
    fn targets(&self) -> &'static str {
        match self {
            HeadKind::LanguageModel { .. } | HeadKind::MaskedTokens { .. } => "tokens",
            HeadKind::Classifier { .. } | HeadKind::SentencePair { .. } => "labels",
            HeadKind::MultiLabel { .. } => "flags",
            HeadKind::Tags { .. } => "tags",
            HeadKind::Span {} => "spans",
        }
    }

    /// Numbers in a row of its answer.
    fn outputs(&self, vocab_size: usize) -> usize {
        match *self {
            HeadKind::LanguageModel { .. } | HeadKind::MaskedTokens { .. } => vocab_size,
            HeadKind::Classifier { classes, .. } | HeadKind::SentencePair { classes, .. } => {
                classes
            }
            HeadKind::MultiLabel { labels, .. } => labels,
            HeadKind::Tags { tags, .. } => tags,
            HeadKind::Span {} => 2,
        }
    }

    fn has_bias(&self) -> bool {
        match *self {
            HeadKind::LanguageModel { bias, .. } | HeadKind::MaskedTokens { bias, .. } => bias,
            // A softmax over positions does not see it.
            HeadKind::Span {} => false,
            _ => true,
        }
    }
}
