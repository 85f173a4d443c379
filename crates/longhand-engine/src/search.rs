//! Searches for the most probable texts, greedily or with a beam, or draws texts, for many prompts at once.
//!
//! The path of a prompt:
//! 1. it waits until a slot of the batch is free; its source, if it has one, and what comes before
//!    its last token are read side by side with those of other prompts;
//! 2. its hypotheses take their steps in one pass with those of all other prompts in the batch. The
//!    candidates of each hypothesis are the most probable tokens after it
//!    ([`candidates`](longhand_model::candidates));
//! 3. of all its candidates the K with the largest log-probability go on. One that ends is taken
//!    out, and the next candidate goes on in its place (as in fairseq and Hugging Face's
//!    transformers; "first come, first served" in Kasai et al., 2024). So it does in the place of one
//!    that the rules allow and nothing can follow, as a tokeniser of words may have the first word of a
//!    match and not the second;
//! 4. once it is over, its hypotheses are ordered by their score, and its slot is free.
//!
//! With [`SearchSettings::sampler`] texts are drawn in place of being searched for. Each is a group of one
//! hypothesis, whose only candidate is the token that the sampler draws; all else is the same.
//!
//! A prompt's hypotheses do not depend on the other prompts of the call, bit for bit. Of equal
//! candidates the one of the better hypothesis goes on, then the one with the larger logit, then the
//! smaller id; of equal scores the hypothesis that ended first is the better one.

use longhand_model::{Model, ModelError, Tape};

use crate::datastore::Neighbours;
use crate::engine::Reader;
use crate::error::EngineError;
pub use crate::search_error::SearchError;
use crate::session::Session;

mod batch;
mod draws;
mod followed;
mod found;
mod hypothesis;
mod network;
mod prefill;
mod sentence;
mod settings;
#[cfg(test)]
mod tests;
mod waiting;

use batch::Batch;
pub use hypothesis::Hypothesis;
use network::{Bare, Network};
pub use settings::{LengthPenalty, MOST_BEAM, MOST_ROWS, MostTokens, SearchSettings};
use waiting::Waiting;

/// What is written after.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompt<'a> {
    /// What the encoder reads; none for a model without one.
    pub source: Option<&'a [u32]>,
    /// What is read before the first token is predicted: at least one token.
    pub prefix: &'a [u32],
    /// The first tokens of every hypothesis. Their log-probabilities count as those of others, and
    /// none of them ends a hypothesis.
    pub forced: &'a [u32],
}

/// The best hypotheses for each prompt, the best first: those that an end token ended, and then
/// those that reached the maximum. With [`SearchSettings::sampler`] texts that are drawn, by number.
///
/// The model's first head has to predict the next token, and its memories to look backward, those
/// of its encoder apart.
///
/// # Errors
/// [`EngineError::Option`] for a setting out of its range, [`EngineError::Search`] for a prompt that
/// is empty or does not fit, or for which no hypothesis can follow the rules to its end,
/// [`EngineError::Model`] for a token id out of range,
/// [`EngineError::NotLanguageModel`] or [`EngineError::NotCausal`] for a model of another kind, and
/// [`EngineError::Sampler`] for logits that are not finite.
pub fn search(
    model: &Model,
    tape: &mut Tape,
    prompts: &[Prompt<'_>],
    settings: &SearchSettings,
) -> Result<Vec<Vec<Hypothesis>>, EngineError> {
    search_beside(model, tape, None, prompts, settings)
}

/// As [`search`], with the model's probabilities mixed with those of neighbours where there are any.
/// The datastore must be the model's own.
///
/// # Errors
/// As [`search`], and [`EngineError::Datastore`] if the datastore cannot be read.
pub fn search_beside(
    model: &Model,
    tape: &mut Tape,
    neighbours: Option<&mut Neighbours>,
    prompts: &[Prompt<'_>],
    settings: &SearchSettings,
) -> Result<Vec<Vec<Hypothesis>>, EngineError> {
    check_model(model)?;
    search_with(&mut Bare::new(model, tape, neighbours), prompts, settings)
}

/// ln p of each of a prompt's forced tokens, given all before it: what [`search`] reports for a
/// hypothesis of the same ids, bit for bit. An end token counts if it is the last of them.
///
/// # Errors
/// As [`search`], for the prompts and the model.
pub fn log_probabilities(
    model: &Model,
    tape: &mut Tape,
    prompts: &[Prompt<'_>],
) -> Result<Vec<Vec<f32>>, EngineError> {
    check_model(model)?;
    rescore(&mut Bare::new(model, tape, None), prompts)
}

impl Reader {
    /// As [`search`], with the engine's model.
    ///
    /// # Errors
    /// As [`search`], for the settings and the prompts.
    pub fn search(
        &mut self,
        prompts: &[Prompt<'_>],
        settings: &SearchSettings,
    ) -> Result<Vec<Vec<Hypothesis>>, EngineError> {
        search_with(self, prompts, settings)
    }

    /// As [`log_probabilities`], with the engine's model.
    ///
    /// # Errors
    /// As [`search`], for the prompts.
    pub fn log_probabilities(
        &mut self,
        prompts: &[Prompt<'_>],
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        rescore(self, prompts)
    }
}

impl Session {
    /// The best ways to continue the session, the best first. The session itself reads nothing. The
    /// random numbers of texts that are drawn follow from its last tokens.
    ///
    /// # Errors
    /// [`EngineError::NothingRead`] if the session has read nothing, [`EngineError::OtherModel`]
    /// for a reader of another model, [`EngineError::Rules`] where no hypothesis can follow the rules to
    /// its end, and the errors of [`search`] for the settings.
    pub fn search(
        &self,
        reader: &mut Reader,
        settings: &SearchSettings,
    ) -> Result<Vec<Hypothesis>, EngineError> {
        self.check(reader, &[])?;
        settings.check(self.engine().model().vocab_size())?;
        if self.logits().is_empty() {
            return Err(EngineError::NothingRead);
        }
        let read = usize::try_from(self.position()).unwrap_or(usize::MAX);
        let maximum = settings.maximum.after(read).max(1);
        let recent: Vec<u32> = self.recent().collect();
        let batch = Batch::new(reader, settings, 1);
        let found = batch.run_on(self.state(), self.logits(), &recent, maximum);
        found.map_err(|error| match error {
            // There is one prompt alone, which needs no number.
            EngineError::Search(SearchError::Rules { fault, .. }) => fault.into(),
            error => error,
        })
    }
}

fn search_with(
    network: &mut dyn Network,
    prompts: &[Prompt<'_>],
    settings: &SearchSettings,
) -> Result<Vec<Vec<Hypothesis>>, EngineError> {
    settings.check(network.vocab_size())?;
    let waiting = waiting(network, prompts, |prompt| {
        let read = prompt.source.map_or(prompt.prefix.len(), <[u32]>::len);
        settings.maximum.after(read).max(1)
    })?;
    let mut all = vec![Vec::new(); prompts.len()];
    let batch = Batch::new(network, settings, prompts.len());
    batch.run(waiting, |index, hypotheses| all[index] = hypotheses)?;
    Ok(all)
}

fn rescore(
    network: &mut dyn Network,
    prompts: &[Prompt<'_>],
) -> Result<Vec<Vec<f32>>, EngineError> {
    // Nothing is chosen where every token is forced.
    let settings = SearchSettings::greedy();
    let mut waiting = waiting(network, prompts, |prompt| prompt.forced.len())?;
    waiting.retain(|waiting| !waiting.forced.is_empty());
    let mut all = vec![Vec::new(); prompts.len()];
    let batch = Batch::new(network, &settings, waiting.len());
    batch.run(waiting, |index, hypotheses| {
        let only = hypotheses.into_iter().next();
        all[index] = only.map_or_else(Vec::new, |only| only.log_probabilities);
    })?;
    Ok(all)
}

/// Checks the prompts. `maximum` says how many tokens are written at most.
fn waiting<'a>(
    network: &dyn Network,
    prompts: &[Prompt<'a>],
    maximum: impl Fn(&Prompt<'a>) -> usize,
) -> Result<Vec<Waiting<'a>>, EngineError> {
    let vocab_size = network.vocab_size();
    let check = |(index, prompt): (usize, &Prompt<'a>)| {
        let Prompt { source, prefix, forced } = *prompt;
        if prefix.is_empty() {
            return Err(SearchError::Empty(index).into());
        }
        let source: &'a [u32] = match (network.source_vocab_size(), source) {
            (None, Some(_)) => return Err(SearchError::Source(index).into()),
            (None, None) => &[],
            (Some(_), None | Some([])) => return Err(SearchError::NoSource(index).into()),
            (Some(vocab_size), Some(source)) => {
                check_ids(source, vocab_size)?;
                source
            }
        };
        check_ids(prefix, vocab_size)?;
        check_ids(forced, vocab_size)?;
        let maximum = maximum(prompt);
        if forced.len() > maximum {
            let forced = forced.len();
            return Err(SearchError::Forced { prompt: index, forced, maximum }.into());
        }
        Ok(Waiting { index, source, prefix, forced, maximum })
    };
    prompts.iter().enumerate().map(check).collect()
}

fn check_ids(ids: &[u32], vocab_size: usize) -> Result<(), ModelError> {
    match ids.iter().find(|&&id| id as usize >= vocab_size) {
        Some(&id) => Err(ModelError::Token { id, vocab_size }),
        None => Ok(()),
    }
}

fn check_model(model: &Model) -> Result<(), EngineError> {
    let config = model.config();
    if !config.is_language_model() && !config.writes_from_source() {
        return Err(EngineError::NotLanguageModel);
    }
    match config.is_causal() {
        true => Ok(()),
        false => Err(EngineError::NotCausal),
    }
}
