//! The score of an objective on plain text.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::{Cpu, Model, Tape};
use longhand_text::{SpecialTokens, Tokenizer, Tokens};
use longhand_train::evaluate::{self, OnTape, Stretches};
use longhand_train::{Bicausal, MaskedTokens, Masking, Score, passages};

use crate::error::RunError;
use crate::objective::PretrainingObjective;

/// What reads masked passages; none where the objective masks nothing.
pub(crate) fn masked(
    objective: PretrainingObjective,
    tokenizer: &Tokenizer,
) -> Result<Option<MaskedTokens>, RunError> {
    let id = |name| tokenizer.special_tokens().id(name);
    let needed = objective.special_tokens();
    if let Some(&token) = needed.iter().find(|&&name| id(name).is_none()) {
        return Err(RunError::NoSpecialToken { token, objective: objective.name() });
    }
    let needs = |name: &'static str| id(name).filter(|_| needed.contains(&name));
    let masking = Masking::new(tokenizer).filter(|_| needs(SpecialTokens::MASK).is_some());
    let separator = needs(SpecialTokens::SEPARATOR);
    Ok(masking.map(|masking| MaskedTokens { masking, separator }))
}

/// The score of an objective on a text, of which passages have at most `longest` tokens.
pub(crate) fn score(
    (tokens, objective, longest): (&Arc<Tokens>, PretrainingObjective, usize),
    masked: Option<&MaskedTokens>,
    model: &Model,
    (cpu, stop): (&Arc<Cpu>, &AtomicBool),
) -> Result<Score, RunError> {
    let mut tape = Tape::new(cpu.clone());
    let mut unheard = |_| Ok(());
    let watch = &mut longhand_train::Watch::new(stop, &mut unheard);
    Ok(match (objective, masked) {
        (_, Some(masked)) => {
            passages::evaluate(masked, (model, &mut tape), tokens.clone(), longest, watch)?
        }
        (PretrainingObjective::Bicausal, None) => {
            passages::evaluate(&Bicausal, (model, &mut tape), tokens.clone(), longest, watch)?
        }
        (_, None) => {
            let whole = Stretches::whole(tokens, evaluate::STREAMS);
            let model = &mut OnTape { model, tape: &mut tape };
            Score::of(evaluate::stretches(model, tokens, &whole, watch)?.mean())
        }
    })
}
