//! Examples read side by side, each from an empty state.

use longhand_model::{Input, Mode, Model, ModelError, Pass, Sequence, Tape, Var};
use longhand_text::Tokenizer;
use longhand_text::batch::{LabelledBatch, LabelledBatches, LabelledIds};

use crate::error::TaskError;
use crate::task::{CharacterRows, Task, WordRows};

/// Examples in a batch when nothing is learnt.
pub(crate) const ROWS: usize = 64;

/// Reads sequences in batches of similar lengths. `take` receives the body's output for each batch,
/// whose `examples` are places in the list given.
pub(crate) fn in_batches<T: Task, E: From<TaskError>>(
    task: &T,
    (model, tape): (&Model, &mut Tape),
    items: &[&LabelledIds<T::Target>],
    padding: u32,
    mut take: impl FnMut(&mut Pass<'_>, Var, &LabelledBatch<T::Target>) -> Result<(), E>,
) -> Result<(), E> {
    if items.is_empty() {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&place| items[place].ids.len());
    let sorted = order.iter().map(|&place| items[place].clone()).collect();
    let mut batches = LabelledBatches::in_order(sorted, ROWS, padding).map_err(TaskError::from)?;
    let mut batch = LabelledBatch::default();
    for _ in 0..batches.batches_per_epoch() {
        batches.next(&mut batch);
        for place in &mut batch.examples {
            *place = order[*place];
        }
        let mut pass = tape.pass(Mode::Read);
        let x = read(task, model, &mut pass, &batch).map_err(TaskError::from)?;
        take(&mut pass, x, &batch)?;
    }
    Ok(())
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
    let input = Input { ids: &batch.ids, features: &features, characters, words };
    model.forward_input(pass, input, &sequence(batch, &lengths), &mut state)
}

/// Rows of the first head's answer to the body's output `x`.
pub(crate) fn rows(model: &Model, tape: &Tape, x: Var) -> usize {
    model.heads().first().map_or(0, |head| head.rows(tape, x))
}

/// The number of tokens of each example.
pub(crate) fn lengths<L>(batch: &LabelledBatch<L>) -> Vec<u32> {
    batch.lengths.iter().map(|&length| length as u32).collect()
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
