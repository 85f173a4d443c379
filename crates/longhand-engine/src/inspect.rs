//! The contribution of each memory to each token.
//!
//! The text is read three times: as it is, with every working memory silenced, and with every
//! long memory silenced. A silenced memory gives zeros; what else the model does stays the same.
//! A memory's contribution is the rise of the loss without it, at least zero. With the
//! contributions w and l of both memories, the working memory's share is w / (w + l). There is no
//! share if neither helped.
//!
//! The first reading also records the input and forget gates of the long memories.

use std::sync::Arc;

use longhand_model::{Ablation, Cpu, Gates};
use serde::Serialize;

use crate::engine::{Engine, Reader};
use crate::error::EngineError;
use crate::sampler::SamplerSettings;
use crate::session::{CHUNK, Session};

/// A text with the contribution of each memory to each token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// One entry for each token of the text.
    pub tokens: Vec<TokenContribution>,
    /// Means over the tokens that were predicted; none if there was none.
    pub mean: Option<MeanContribution>,
    /// The gates of every long memory that has some, in the order of the blocks.
    pub gates: Vec<MemoryGates>,
}

/// How open the gates of one long memory were at each token, each a mean over its units or heads
/// from 0 (shut) to 1 (open).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryGates {
    /// Which memory, as `blocks.0.lstm`.
    pub memory: String,
    /// For each token, the mean of the input gates: how much of the token is stored.
    pub input: Vec<f32>,
    /// For each token, the mean of the forget gates: how much of the past is kept.
    pub forget: Vec<f32>,
    /// Means over the text; none if it has no token.
    pub mean: Option<MeanGates>,
}

/// How open the gates of one long memory were on average, from 0 (shut) to 1 (open).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanGates {
    /// The mean of the input gates over the text.
    pub input: f32,
    /// The mean of the forget gates over the text.
    pub forget: f32,
}

/// The contribution of each memory to one token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenContribution {
    /// Its index in the text, from 0.
    pub position: usize,
    /// Number of the token in the vocabulary.
    pub id: u32,
    /// The token as [`Engine::label`] gives it.
    pub token: String,
    /// How it was predicted; none for the first token, which nothing predicted.
    pub losses: Option<Losses>,
}

/// Losses of one token or means over several, in nats.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Losses {
    /// The loss of the model as it is.
    pub loss: f32,
    /// The loss with every working memory silenced.
    pub without_working: f32,
    /// The loss with every long memory silenced.
    pub without_long: f32,
    /// The working memory's share of both contributions, from 0 to 1.
    pub working_share: Option<f32>,
    /// The long memory's share: the rest.
    pub long_share: Option<f32>,
}

/// Mean losses and shares over a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeanContribution {
    /// How many tokens were predicted.
    pub tokens: usize,
    /// Mean losses, and the shares of their differences.
    pub losses: Losses,
}

impl Losses {
    /// Losses with the shares that follow from them.
    pub fn new(loss: f32, without_working: f32, without_long: f32) -> Self {
        let working = (without_working - loss).max(0.0);
        let long = (without_long - loss).max(0.0);
        let both = working + long;
        let working_share = (both > 0.0).then(|| working / both);
        let long_share = working_share.map(|share| 1.0 - share);
        Self { loss, without_working, without_long, working_share, long_share }
    }
}

impl Inspection {
    /// Reads a text from an empty memory.
    ///
    /// # Errors
    /// [`EngineError::Model`] for a token id out of range, [`EngineError::NotNetwork`] for an n-gram
    /// model, which has no memories.
    pub fn of(engine: &Arc<Engine>, cpu: &Arc<Cpu>, ids: &[u32]) -> Result<Self, EngineError> {
        engine.model().network()?;
        let mut gates = Vec::new();
        let mut recorded = engine.reader(cpu);
        recorded.record();
        let whole = losses(recorded, ids, |reader| add_gates(&mut gates, &reader.gates()))?;
        let ablated = |ablation| {
            let mut reader = engine.reader(cpu);
            reader.ablate(Some(ablation));
            losses(reader, ids, |_| {})
        };
        for gates in &mut gates {
            gates.mean = MeanGates::of(&gates.input, &gates.forget);
        }
        let without_working = ablated(Ablation::Working)?;
        let without_long = ablated(Ablation::Long)?;
        let tokens: Vec<TokenContribution> = ids
            .iter()
            .enumerate()
            .map(|(position, &id)| TokenContribution {
                position,
                id,
                token: engine.label(id),
                losses: position
                    .checked_sub(1)
                    .map(|at| Losses::new(whole[at], without_working[at], without_long[at])),
            })
            .collect();
        let mean = (!whole.is_empty()).then(|| MeanContribution {
            tokens: whole.len(),
            losses: Losses::new(mean(&whole), mean(&without_working), mean(&without_long)),
        });
        Ok(Self { tokens, mean, gates })
    }
}

/// What each memory gave to the last of the tokens that a session goes on to read, `ids[from..]`:
/// means of their losses. The memories are as the session has them, and each is silenced while
/// `ids` are read. None without such a token.
///
/// # Errors
/// [`EngineError::Model`] for a token id out of range, [`EngineError::NotNetwork`] for an n-gram
/// model, which has no memories.
pub fn contribution(
    before: &Session,
    cpu: &Arc<Cpu>,
    ids: &[u32],
    from: usize,
) -> Result<Option<MeanContribution>, EngineError> {
    let engine = before.engine();
    engine.model().network()?;
    let loss = |ablation| {
        let mut reader = engine.reader(cpu);
        reader.ablate(ablation);
        let (mut losses, mut place) = (Vec::new(), 0);
        before.clone().score(&mut reader, ids, |_, loss| {
            losses.extend(loss.filter(|_| place >= from));
            place += 1;
        })?;
        Ok::<_, EngineError>(losses)
    };
    let whole = loss(None)?;
    if whole.is_empty() {
        return Ok(None);
    }
    let without_working = mean(&loss(Some(Ablation::Working))?);
    let without_long = mean(&loss(Some(Ablation::Long))?);
    let losses = Losses::new(mean(&whole), without_working, without_long);
    Ok(Some(MeanContribution { tokens: whole.len(), losses }))
}

impl MeanGates {
    fn of(input: &[f32], forget: &[f32]) -> Option<Self> {
        (!input.is_empty()).then(|| Self { input: mean(input), forget: mean(forget) })
    }
}

pub(crate) fn mean(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
    (sum / values.len() as f64) as f32
}

/// Losses of all tokens but the first; `each` sees the reader after each pass.
fn losses(
    mut reader: Reader,
    ids: &[u32],
    mut each: impl FnMut(&Reader),
) -> Result<Vec<f32>, EngineError> {
    let mut session = Session::new(reader.engine(), SamplerSettings::greedy())?;
    let mut losses = Vec::with_capacity(ids.len());
    for pass in ids.chunks(CHUNK) {
        session.score(&mut reader, pass, |_, loss| losses.extend(loss))?;
        each(&reader);
    }
    Ok(losses)
}

/// Appends the means of a pass's gates.
fn add_gates(all: &mut Vec<MemoryGates>, pass: &[Gates]) {
    let of = |gates: &Gates| MemoryGates {
        memory: gates.memory.clone(),
        input: Vec::new(),
        forget: Vec::new(),
        mean: None,
    };
    if all.is_empty() {
        all.extend(pass.iter().map(of));
    }
    for (all, gates) in all.iter_mut().zip(pass) {
        all.input.extend(gates.input.chunks(gates.width).map(mean));
        all.forget.extend(gates.forget.chunks(gates.width).map(mean));
    }
}

#[cfg(test)]
mod tests;
