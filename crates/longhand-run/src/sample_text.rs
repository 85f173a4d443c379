//! A sample of what a model writes, while it is trained and when it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_engine::{Engine, EngineError, GenerateOptions, Generation, SamplerSettings};
use longhand_model::Cpu;
use longhand_text::Tokenizer;
use longhand_train::record::WriteSample;

use crate::error::RunError;
use crate::text_data::Ids;

/// Tokens of a sample that is written during the run.
const SAMPLE: usize = 200;
/// Tokens of the text in which the prompt's line is looked for.
const LOOKED_AT: u64 = 4096;
/// Characters of the prompt.
const PROMPT: usize = 16;

/// The beginning of a line of the held-out part.
pub(crate) fn prompt(ids: &Ids, tokenizer: &Tokenizer) -> Result<String, RunError> {
    let tokens = ids.valid.as_ref().unwrap_or(&ids.train);
    let mut first = vec![0; tokens.len().min(LOOKED_AT) as usize];
    tokens.copy(0, &mut first)?;
    let text = tokenizer.decode(&first)?;
    let line = text.split('\n').skip(1).find(|line| line.chars().count() > PROMPT);
    Ok(line.unwrap_or(&text).chars().take(PROMPT).collect())
}

/// Writes a sample at each evaluation, for the logs.
pub(crate) fn sample_writer(tokenizer: &Tokenizer, prompt: &str) -> WriteSample {
    let (tokenizer, prompt) = (tokenizer.clone(), prompt.to_owned());
    // A sample is for looking at: what fails for want of one shows elsewhere.
    Box::new(move |model, cpu, stop| {
        // The run goes on changing the model, so the sample is written with a copy.
        let engine = Engine::new(model.clone(), tokenizer.clone()).ok()?;
        write(&engine, cpu, &prompt, SAMPLE, stop).ok()
    })
}

/// The prompt and at most `count` tokens after it, to the end of a document or until `stop` is set.
/// The same seed draws each time.
pub(crate) fn write(
    engine: &Arc<Engine>,
    cpu: &Arc<Cpu>,
    prompt: &str,
    count: usize,
    stop: &AtomicBool,
) -> Result<String, RunError> {
    let mut reader = engine.reader(cpu);
    let mut session = engine.session(SamplerSettings::default()).map_err(EngineError::from)?;
    session.read_text(&mut reader, prompt)?;
    let mut text = prompt.to_owned();
    if session.position() > 0 {
        let options = GenerateOptions { max_tokens: count, ..GenerateOptions::default() };
        for piece in Generation::new(session, options)?.pieces(&mut reader) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            text.push_str(&piece?);
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_model::{Model, Preset};
    use longhand_text::TokenizerKind;

    /// A model that ends the document at once wrote `<eos>` as text, and went on.
    #[test]
    fn a_sample_ends_with_its_document() {
        let texts = std::iter::once(Ok("one two three\n".repeat(20)));
        let tokenizer =
            Tokenizer::train(TokenizerKind::Bpe, Some(300), texts, &mut |_| {}).unwrap();
        let end = tokenizer.document_end_id().unwrap() as usize;
        let mut model = Model::new(Preset::Lstm.config(tokenizer.vocab_size()), 1).unwrap();
        let vocabulary = tokenizer.vocab_size();
        let head = model.weights.iter_mut().find(|p| p.name == "head.bias").unwrap();
        assert_eq!(head.data.len(), vocabulary);
        head.data[end] = 1e6;
        let cpu = Arc::new(Cpu::new(1));
        let stop = AtomicBool::new(false);
        let write = |model: &Model, prompt: &str| {
            let engine = Engine::new(model.clone(), tokenizer.clone()).unwrap();
            write(&engine, &cpu, prompt, 9, &stop).unwrap()
        };
        assert_eq!(write(&model, "one two"), "one two");
        // Nothing to begin with is no reason to fail.
        assert_eq!(write(&model, ""), "");
        // A sample that is asked to stop is short.
        let endless = model.weights.iter_mut().find(|p| p.name == "head.bias").unwrap();
        endless.data[end] = -1e6;
        assert!(write(&model, "one two").len() > "one two".len());
        stop.store(true, Ordering::Relaxed);
        assert_eq!(write(&model, "one two"), "one two");
    }
}
