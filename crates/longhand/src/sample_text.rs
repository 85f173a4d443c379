//! A sample of what a model writes, while it is trained and when it is done.

use std::sync::Arc;

use anyhow::Result;
use longhand_engine::{Sampler, SamplerSettings};
use longhand_model::{Cpu, Mode, Model, Sequence, Tape};
use longhand_text::Tokenizer;
use longhand_train::record::WriteSample;

use crate::text_data::Ids;

/// Tokens of a sample that is written during the run.
const SAMPLE: usize = 200;
/// Tokens of the text in which the prompt's line is looked for.
const LOOKED_AT: u64 = 4096;
/// Characters of the prompt.
const PROMPT: usize = 16;

/// The beginning of a line of the held-out part.
pub(crate) fn prompt(ids: &Ids, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let tokens = ids.valid.as_ref().unwrap_or(&ids.train);
    let mut first = vec![0; tokens.len().min(LOOKED_AT) as usize];
    tokens.copy(0, &mut first)?;
    let text = tokenizer.decode(&first)?;
    let line = text.split('\n').skip(1).find(|line| line.chars().count() > PROMPT);
    let prompt: String = line.unwrap_or(&text).chars().take(PROMPT).collect();
    Ok(tokenizer.encode(&prompt)?)
}

/// Writes a sample at each evaluation, for the logs.
pub(crate) fn sample_writer(tokenizer: &Tokenizer, prompt: &[u32]) -> WriteSample {
    let (tokenizer, prompt) = (tokenizer.clone(), prompt.to_vec());
    // A sample is for looking at: what fails for want of one shows elsewhere.
    Box::new(move |model, cpu| write(model, &tokenizer, cpu, &prompt, SAMPLE).ok())
}

/// The prompt and `count` tokens after it. The same seed draws each time.
pub(crate) fn write(
    model: &Model,
    tokenizer: &Tokenizer,
    cpu: &Arc<Cpu>,
    prompt: &[u32],
    count: usize,
) -> Result<String> {
    let mut tape = Tape::new(cpu.clone());
    let mut sampler = Sampler::new(SamplerSettings::default())?;
    let mut state = model.state(1);
    let mut logits = Vec::new();
    let mut ids = prompt.to_vec();
    let mut read = 0;
    for _ in 0..count {
        let unread = &ids[read..];
        let sequence = Sequence::new(unread.len(), 1);
        let (x, next) = model.forward(&mut tape, Mode::Read, unread, &sequence, state)?;
        model.logits(&tape, x, unread.len() - 1..unread.len(), &mut logits);
        state = next;
        read = ids.len();
        ids.push(sampler.sample(&logits, &[])?);
    }
    Ok(tokenizer.decode(&ids)?)
}
