//! Draws a token from logits: greedy, temperature, top-k, top-p, min-p, repetition penalty.

use std::cmp::Ordering;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::rules::Mask;

/// How the next token is drawn. The steps in order: penalty, temperature, top-k, top-p, min-p,
/// and what is left is scaled to a sum of 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplerSettings {
    /// Logits are divided by it; 0 takes the most probable token always.
    pub temperature: f32,
    /// Keeps this many of the most probable tokens; 0 keeps all (Fan et al., 2018).
    pub top_k: usize,
    /// Keeps the fewest most probable tokens that together have this probability (Holtzman et
    /// al., 2020); 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this many times as probable as the most probable one (Nguyen et
    /// al., 2024); 0 keeps all.
    pub min_p: f32,
    /// Makes the tokens read last ([`crate::session::RECENT`]) less probable: their logits are
    /// divided by it where positive and multiplied where negative (Keskar et al., 2019). Default:
    /// 1, which changes nothing.
    pub repetition_penalty: f32,
    /// Seed of the random numbers.
    pub seed: u64,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

/// A sampler between two draws, as snapshots store it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplerState {
    /// How the next token is drawn.
    pub settings: SamplerSettings,
    /// Random numbers drawn so far.
    pub draws: u64,
}

/// Settings that were checked, and random numbers.
#[derive(Clone)]
pub struct Sampler {
    state: SamplerState,
    random: ChaCha8Rng,
    candidates: Vec<Candidate>,
}

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Number of the drawn token in the vocabulary.
    pub id: u32,
    /// Its probability among the candidates.
    pub probability: f64,
}

/// How far below the logarithm of min-p a logit is surely cut.
const MARGIN: f64 = 1e-9;

/// Why a token cannot be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// A setting out of range.
    #[error("the {name} is {value}, but must be {allowed}")]
    Setting {
        /// Name of the refused setting.
        name: &'static str,
        /// The value that was given.
        value: f32,
        /// The allowed values, in words.
        allowed: &'static str,
    },
    /// A logit that is not a number.
    #[error(
        "the model gives {value} for the token {id}, which is not a finite number: its weights \
         are damaged or its training diverged"
    )]
    NotFinite {
        /// Id of the token.
        id: usize,
        /// The logit that the model gives it.
        value: f32,
    },
    /// There is no token to draw.
    #[error("there are no logits to draw a token from")]
    Empty,
}

impl SamplerSettings {
    /// Always takes the most probable token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] names the first setting out of its range.
    pub fn check(&self) -> Result<(), SamplerError> {
        let check = |name, value: f32, allowed, holds: bool| {
            if holds && value.is_finite() {
                Ok(())
            } else {
                Err(SamplerError::Setting { name, value, allowed })
            }
        };
        let (t, p, m, r) = (self.temperature, self.top_p, self.min_p, self.repetition_penalty);
        check("temperature", t, "0 (greedy) or more", t >= 0.0)?;
        check("top-p", p, "more than 0 and at most 1", p > 0.0 && p <= 1.0)?;
        check("min-p", m, "from 0 to 1", (0.0..=1.0).contains(&m))?;
        check("repetition penalty", r, "more than 0 (1 for none)", r > 0.0)
    }
}

impl Sampler {
    /// A sampler at the beginning of its seed's random numbers.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub fn new(settings: SamplerSettings) -> Result<Self, SamplerError> {
        Self::resume(SamplerState { settings, draws: 0 })
    }

    /// A sampler that goes on where another stopped.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub fn resume(state: SamplerState) -> Result<Self, SamplerError> {
        state.settings.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(state.settings.seed);
        // A draw takes two 32-bit words.
        random.set_word_pos(2 * u128::from(state.draws));
        Ok(Self { state, random, candidates: Vec::new() })
    }

    /// Goes on where another sampler stopped, in the memory of this one.
    ///
    /// # Errors
    /// [`SamplerError::Setting`] for a setting out of range.
    pub(crate) fn go_on(&mut self, state: SamplerState) -> Result<(), SamplerError> {
        let candidates = std::mem::take(&mut self.candidates);
        *self = Self { candidates, ..Self::resume(state)? };
        Ok(())
    }

    /// The settings and the place in the stream of random numbers.
    pub fn state(&self) -> SamplerState {
        self.state
    }

    /// Draws a token. `recent` are the tokens that the penalty falls on.
    ///
    /// # Errors
    /// [`SamplerError::NotFinite`] for a logit that is not finite,
    /// [`SamplerError::Empty`] for no logits.
    pub fn sample(&mut self, logits: &[f32], recent: &[u32]) -> Result<u32, SamplerError> {
        self.sample_among(logits, recent, None)
    }

    /// As [`Sampler::sample`], from the tokens that a mask allows. The others are as if their logits
    /// were −∞ before any setting counts. The penalty falls on what is allowed alone.
    ///
    /// # Errors
    /// The errors of [`Sampler::sample`]; [`SamplerError::Empty`] where nothing is allowed.
    pub fn sample_among(
        &mut self,
        logits: &[f32],
        recent: &[u32],
        mask: Option<&Mask>,
    ) -> Result<u32, SamplerError> {
        self.draw(logits, recent, mask.map(|mask| move |id: u32| mask.allows(id)))
    }

    /// As [`Sampler::sample_among`], from the tokens whose logit is not −∞.
    pub(crate) fn sample_finite(
        &mut self,
        logits: &[f32],
        recent: &[u32],
    ) -> Result<u32, SamplerError> {
        self.draw(logits, recent, Some(|id: u32| logits[id as usize] > f32::NEG_INFINITY))
    }

    fn draw(
        &mut self,
        logits: &[f32],
        recent: &[u32],
        allows: Option<impl Fn(u32) -> bool>,
    ) -> Result<u32, SamplerError> {
        self.weigh(logits, recent, allows)?;
        if self.state.settings.temperature == 0.0 {
            return Ok(self.candidates[0].id);
        }
        let point: f64 = self.random.random();
        self.state.draws += 1;
        let mut sum = 0.0;
        let drawn = self.candidates.iter().find(|candidate| {
            sum += candidate.probability;
            point < sum
        });
        // Rounding may leave the sum a little below 1.
        drawn.or(self.candidates.last()).map(|candidate| candidate.id).ok_or(SamplerError::Empty)
    }

    /// The tokens that may be drawn, with their probabilities; greedy has one.
    ///
    /// # Errors
    /// The errors of [`Sampler::sample`], for the same logits.
    pub fn distribution(
        &mut self,
        logits: &[f32],
        recent: &[u32],
    ) -> Result<&[Candidate], SamplerError> {
        self.weigh(logits, recent, None::<fn(u32) -> bool>)?;
        Ok(&self.candidates)
    }

    /// Fills `candidates`, never empty afterwards.
    fn weigh(
        &mut self,
        logits: &[f32],
        recent: &[u32],
        allows: Option<impl Fn(u32) -> bool>,
    ) -> Result<(), SamplerError> {
        // −∞ is what a token has that is not allowed, and no other one.
        let may_be = |id: usize, x: f32| {
            let is_excluded = || allows.as_ref().is_some_and(|allows| !allows(id as u32));
            x.is_finite() || (x == f32::NEG_INFINITY && is_excluded())
        };
        let bad = logits.iter().copied().enumerate().find(|&(id, x)| !may_be(id, x));
        if let Some((id, value)) = bad {
            return Err(SamplerError::NotFinite { id, value });
        }
        let settings = self.state.settings;
        let candidates = &mut self.candidates;
        candidates.clear();
        // Until the last line, `probability` is first the logit, then the weight.
        candidates.extend(
            logits.iter().zip(0..).map(|(&x, id)| Candidate { id, probability: f64::from(x) }),
        );
        penalise(candidates, recent, f64::from(settings.repetition_penalty));
        if let Some(allows) = allows {
            candidates.retain(|candidate| allows(candidate.id));
        }
        let best = *candidates.iter().min_by(|a, b| order(a, b)).ok_or(SamplerError::Empty)?;
        if settings.temperature == 0.0 {
            candidates.clear();
            candidates.push(Candidate { probability: 1.0, ..best });
            return Ok(());
        }
        // Logits have the order of their weights, so what top-k cuts needs no weight.
        if (1..candidates.len()).contains(&settings.top_k) {
            candidates.select_nth_unstable_by(settings.top_k - 1, order);
            candidates.truncate(settings.top_k);
        }
        let scale = 1.0 / f64::from(settings.temperature);
        if settings.top_p == 1.0 && settings.min_p > 0.0 {
            // As above for min-p, with a margin for the rounding of the weights.
            let least = f64::from(settings.min_p).ln() - MARGIN;
            candidates.retain(|it| (it.probability - best.probability) * scale >= least);
        }
        for candidate in candidates.iter_mut() {
            // The best one has weight 1, so that nothing overflows and the sum is at least 1.
            candidate.probability = ((candidate.probability - best.probability) * scale).exp();
        }
        if settings.top_p < 1.0 {
            keep_nucleus(candidates, f64::from(settings.top_p));
        }
        // A weight of zero is never drawn, not even where rounding leaves the sum below 1.
        let least = f64::from(settings.min_p).max(f64::MIN_POSITIVE);
        candidates.retain(|candidate| candidate.probability >= least);
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        let sum: f64 = candidates.iter().map(|candidate| candidate.probability).sum();
        candidates.iter_mut().for_each(|candidate| candidate.probability /= sum);
        Ok(())
    }
}

/// Most probable first; of equals, the smaller id.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.probability.total_cmp(&a.probability).then(a.id.cmp(&b.id))
}

fn penalise(candidates: &mut [Candidate], recent: &[u32], penalty: f64) {
    if penalty == 1.0 {
        return;
    }
    for (index, &id) in recent.iter().enumerate() {
        // Once, however often it was read.
        if recent[..index].contains(&id) {
            continue;
        }
        if let Some(candidate) = candidates.get_mut(id as usize) {
            let logit = &mut candidate.probability;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// Keeps the fewest most probable candidates whose share reaches `share`.
fn keep_nucleus(candidates: &mut Vec<Candidate>, share: f64) {
    candidates.sort_unstable_by(order);
    let whole: f64 = candidates.iter().map(|candidate| candidate.probability).sum();
    let mut sum = 0.0;
    let reached = candidates.iter().position(|candidate| {
        sum += candidate.probability;
        sum >= share * whole
    });
    candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
}

#[cfg(test)]
mod tests;
