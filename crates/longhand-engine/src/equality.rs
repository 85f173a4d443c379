//! Compares the forms in which a model reads a text. The training form in one recorded pass, a
//! prefill in chunks and single decode steps must give the same logits.

use std::sync::Arc;

use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{Cpu, Mode, Model, ModelError, Sequence, State, Tape};

use crate::error::EngineError;

/// Largest differences from the logits of the training form, each relative to the largest
/// magnitude among the logits of its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Equality {
    /// How many rows of logits were compared.
    pub rows: usize,
    /// The largest difference of a prefill in chunks of changing sizes.
    pub chunked: f32,
    /// The largest difference of single decode steps.
    pub stepwise: f32,
}

/// Sizes of the chunks, again and again: one, a few, odd ones, and one past a power of two.
const CHUNKS: [usize; 6] = [1, 2, 7, 33, 64, 101];

impl Equality {
    /// Reads `ids` in each form. A classifier that pools the last position is compared by its
    /// answer at the end of the text.
    ///
    /// # Errors
    /// [`EngineError::NotCausal`] and [`EngineError::Pooled`] for models without an answer at each
    /// position, [`EngineError::NothingRead`] for no ids, [`EngineError::Model`] for an
    /// id out of range.
    pub fn measure(model: &Model, cpu: &Arc<Cpu>, ids: &[u32]) -> Result<Self, EngineError> {
        if !model.config().is_causal() {
            return Err(EngineError::NotCausal);
        }
        let each_row = match model.config().head().and_then(HeadKind::pooling) {
            None => true,
            Some(Pooling::Last) => false,
            Some(_) => return Err(EngineError::Pooled),
        };
        if ids.is_empty() {
            return Err(EngineError::NothingRead);
        }
        let mut tape = Tape::new(cpu.clone());
        let mut read = |mode, sizes: &[usize]| logits(model, &mut tape, mode, ids, sizes, each_row);
        let whole = read(Mode::Record, &[ids.len()])?;
        let chunked = read(Mode::Read, &CHUNKS)?;
        let stepwise = read(Mode::Read, &[1])?;
        let width = model.outputs();
        Ok(Self {
            rows: whole.len() / width,
            chunked: difference(&whole, &chunked, width),
            stepwise: difference(&whole, &stepwise, width),
        })
    }

    /// The larger of the two differences.
    pub fn most(&self) -> f32 {
        self.chunked.max(self.stepwise)
    }
}

/// Logits of each row, or of the last one alone, of `ids` read in chunks of these sizes.
fn logits(
    model: &Model,
    tape: &mut Tape,
    mode: Mode,
    ids: &[u32],
    sizes: &[usize],
    each_row: bool,
) -> Result<Vec<f32>, ModelError> {
    let (mut all, mut chunk_logits) = (Vec::new(), Vec::new());
    let mut state: State = model.state(1);
    let mut start = 0;
    for size in sizes.iter().cycle() {
        if start == ids.len() {
            break;
        }
        let chunk = &ids[start..(start + size).min(ids.len())];
        start += chunk.len();
        let sequence = Sequence::new(chunk.len(), 1);
        let x = model.forward(&mut tape.pass(mode), chunk, &sequence, &mut state)?;
        let rows = if each_row { chunk.len() } else { 1 };
        model.logits(tape, x, 0..rows, &mut chunk_logits);
        if !each_row {
            all.clear();
        }
        all.extend_from_slice(&chunk_logits);
    }
    Ok(all)
}

/// Largest difference relative to its row; what is not a number differs without bound.
fn difference(expected: &[f32], got: &[f32], width: usize) -> f32 {
    let rows = expected.chunks(width).zip(got.chunks(width));
    let of_row = |(expected, got): (&[f32], &[f32])| {
        let most = expected.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let differences = expected.iter().zip(got).map(|(a, b)| (a - b).abs() / most);
        differences.fold(0.0, |most: f32, x| if x.is_nan() { f32::INFINITY } else { most.max(x) })
    };
    rows.map(of_row).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests;
