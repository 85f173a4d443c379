//! Examples read side by side, each from an empty state.

use std::cmp::Reverse;
use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_model::{Input, Mode, Model, ModelError, Pass, Sequence, Tape, Var};
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledIds};

use crate::error::TaskError;
use crate::task::{CharacterRows, SourceRows, Task, WordRows};

/// Examples in a batch when nothing is learnt.
pub(crate) const ROWS: usize = 64;
/// Tokens in such a batch, unless one example has more: memory does not grow with the longest text
/// times the examples.
const TOKENS: usize = 1 << 14;

/// A batch that networks have read.
pub(crate) struct Taken<'a, 't, T: Task> {
    /// The pass of the first network.
    pub(crate) pass: &'a mut Pass<'t>,
    /// Its body's output.
    pub(crate) x: Var,
    /// The logits of the first head, of several networks their mean.
    pub(crate) logits: &'a mut Vec<f32>,
    /// The batch, whose `examples` are places in the list of sequences.
    pub(crate) batch: &'a LabelledBatch<T::Target>,
}

/// A tape for each of some networks.
pub(crate) fn tapes(count: usize, cpu: &Arc<Cpu>) -> Vec<Tape> {
    (0..count).map(|_| Tape::new(cpu.clone())).collect()
}

/// Reads sequences in batches of similar lengths by networks of one form, each on a tape of its own,
/// which keeps products of its weights. `take` receives each batch.
pub(crate) fn in_batches<T: Task, E: From<TaskError>>(
    task: &T,
    (models, tapes): (&[&Model], &mut [Tape]),
    items: &[&LabelledIds<T::Target>],
    padding: u32,
    mut take: impl FnMut(Taken<'_, '_, T>) -> Result<(), E>,
) -> Result<(), E> {
    let (Some((model, further)), Some((tape, tapes))) =
        (models.split_first(), tapes.split_first_mut())
    else {
        return Ok(());
    };
    // The longest first: shorter batches find room in the buffers that they leave.
    let mut order: Vec<usize> = (0..items.len()).collect();
    let size = |item: &LabelledIds<T::Target>| item.ids.len() + T::beside(&item.label);
    order.sort_by_key(|&place| Reverse(size(items[place])));
    let mut batch = LabelledBatch::default();
    let (mut logits, mut others) = (Vec::new(), Vec::new());
    let mut rest = &order[..];
    while let Some(&longest) = rest.first() {
        let rows = (TOKENS / size(items[longest]).max(1)).clamp(1, ROWS).min(rest.len());
        let places;
        (places, rest) = rest.split_at(rows);
        let examples: Vec<_> = places.iter().map(|&place| items[place]).collect();
        batch.fill(&examples, padding);
        batch.examples = places.to_vec();
        let mut pass = tape.pass(Mode::Read);
        let x = logits_of(task, model, &mut pass, &batch, &mut logits)?;
        for (model, tape) in further.iter().zip(&mut *tapes) {
            logits_of(task, model, &mut tape.pass(Mode::Read), &batch, &mut others)?;
            logits.iter_mut().zip(&others).for_each(|(sum, x)| *sum += x);
        }
        if !further.is_empty() {
            let count = models.len() as f32;
            logits.iter_mut().for_each(|sum| *sum /= count);
        }
        take(Taken { pass: &mut pass, x, logits: &mut logits, batch: &batch })?;
    }
    Ok(())
}

/// The body's output for a batch; writes the logits of the first head, unless a search writes the
/// answers: of each token of a vocabulary they would be many.
fn logits_of<T: Task>(
    task: &T,
    model: &Model,
    pass: &mut Pass<'_>,
    batch: &LabelledBatch<T::Target>,
    logits: &mut Vec<f32>,
) -> Result<Var, TaskError> {
    let x = read(task, model, pass, batch)?;
    if !T::WRITES {
        let rows = rows(model, pass, x);
        model.logits(pass, x, 0..rows, logits);
    }
    Ok(x)
}

/// The body's output for a batch.
pub(crate) fn read<T: Task>(
    task: &T,
    model: &Model,
    pass: &mut Pass<'_>,
    batch: &LabelledBatch<T::Target>,
) -> Result<Var, ModelError> {
    let (lengths, mut state) = (lengths(batch), model.state(batch.batch));
    let features = task.features(batch);
    let words = task.words(batch);
    let words = words.as_ref().map(WordRows::words);
    let characters = task.characters(batch);
    let characters = characters.as_ref().map(CharacterRows::characters);
    let rows = task.source(batch);
    let source = rows.as_ref().map(SourceRows::source);
    let input = Input { ids: &batch.ids, features: &features, characters, words, source };
    model.forward_input(pass, input, &sequence(batch, &lengths), &mut state)
}

/// Rows of the first head's answer to the body's output `x`.
fn rows(model: &Model, tape: &Tape, x: Var) -> usize {
    model.heads().first().map_or(0, |head| head.rows(tape, x))
}

/// The number of tokens of each example.
pub(crate) fn lengths<L>(batch: &LabelledBatch<L>) -> Vec<u32> {
    batch.lengths.iter().map(|&length| length as u32).collect()
}

/// How many of `all` rows of logits each sequence of a batch has: one for each of its words or tokens, or
/// a single one where the head pools. Row t·B + b is row t of sequence b.
pub(crate) fn rows_of_sequences<T: Task>(
    task: &T,
    batch: &LabelledBatch<T::Target>,
    all: usize,
) -> Vec<usize> {
    let most = all / batch.batch.max(1);
    let of_words = task.words(batch).map(|words| words.lengths);
    let own = of_words.unwrap_or_else(|| lengths(batch));
    own.into_iter().map(|length| (length as usize).clamp(1, most.max(1))).collect()
}

/// The sizes of a batch with padding behind each example.
pub(crate) fn sequence<'a, L>(batch: &LabelledBatch<L>, lengths: &'a [u32]) -> Sequence<'a> {
    Sequence { lengths: Some(lengths), ..Sequence::new(batch.time, batch.batch) }
}

/// `[F, T·B]`: the features of a batch from those of each example, `[F, n]` for its n tokens. A
/// padded position has zeros.
pub(crate) fn features<L>(batch: &LabelledBatch<L>, of: impl Fn(&L) -> &[u32]) -> Vec<u32> {
    let rows = batch.time * batch.batch;
    let mut all = Vec::new();
    for (b, (label, &length)) in batch.labels.iter().zip(&batch.lengths).enumerate() {
        let own = of(label);
        all.resize(all.len().max(own.len() / length.max(1) * rows), 0);
        for (feature, values) in own.chunks(length.max(1)).enumerate() {
            for (t, &value) in values.iter().enumerate() {
                all[feature * rows + t * batch.batch + b] = value;
            }
        }
    }
    all
}

/// The characters of a batch from those of each example. A padded position has none.
pub(crate) fn characters<L>(
    batch: &LabelledBatch<L>,
    of: impl Fn(&L) -> &CharacterRows,
) -> CharacterRows {
    let longest = batch.labels.iter().map(|label| of(label).ids.len()).max().unwrap_or(0);
    let mut all = CharacterRows {
        ids: vec![0; longest * batch.batch],
        ranges: vec![(0, 0); batch.time * batch.batch],
    };
    for (b, own) in batch.labels.iter().map(of).enumerate() {
        for (c, &id) in own.ids.iter().enumerate() {
            all.ids[c * batch.batch + b] = id;
        }
        for (t, &range) in own.ranges.iter().enumerate() {
            all.ranges[t * batch.batch + b] = range;
        }
    }
    all
}

/// The id that fills the batches up.
pub(crate) fn padding(tokenizer: &Tokenizer) -> u32 {
    // Any id will do: the lengths say where padding begins.
    tokenizer.padding_id().unwrap_or(0)
}
