//! The work of a beam search over many prompts.

use std::sync::Arc;

use anyhow::Result;
use longhand_engine::search::{MostTokens, SearchSettings, search};
use longhand_engine::{Cpu, Prompt};
use longhand_model::{Config, Model, Tape};

use super::ids;
use super::profile::Work;

/// Texts of random ids, each of which is continued, or translated where the model has an encoder, by
/// as many tokens as it has.
pub(crate) struct Searching {
    model: Model,
    tape: Tape,
    prompts: Vec<Vec<u32>>,
    settings: SearchSettings,
}

impl Searching {
    /// `sentences` prompts of `length` tokens on average: from half to one and a half times as many.
    pub(crate) fn new(
        config: Config,
        cpu: Arc<Cpu>,
        [sentences, length]: [usize; 2],
        [beam, rows]: [usize; 2],
    ) -> Result<Self> {
        let mut source = ids(config.vocab_size);
        let spread = length / 2;
        let lengths = (0..sentences).map(|i| length - spread + i % (2 * spread + 1));
        let prompts = lengths.map(|length| source.by_ref().take(length).collect()).collect();
        let mut model = Model::new(config, 1)?;
        // As an engine holds it.
        model.pack();
        let maximum = MostTokens { tokens: 0, per_token: 1.0 };
        let settings = SearchSettings { beam, rows, maximum, ..SearchSettings::default() };
        Ok(Self { model, tape: Tape::new(cpu), prompts, settings })
    }

    /// The model that writes.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }
}

impl Work for Searching {
    fn tape(&mut self) -> &mut Tape {
        &mut self.tape
    }

    /// One search over all prompts; the tokens that it wrote.
    fn step(&mut self) -> Result<u64> {
        let from_source = self.model.config().writes_from_source();
        let prompt = |text| match from_source {
            true => Prompt { source: Some(text), prefix: &[0], forced: &[] },
            false => Prompt { source: None, prefix: text, forced: &[] },
        };
        let prompts: Vec<Prompt<'_>> = self.prompts.iter().map(|it| prompt(&it[..])).collect();
        let found = search(&self.model, &mut self.tape, &prompts, &self.settings)?;
        let written = found.iter().flatten().map(|hypothesis| hypothesis.ids.len() as u64);
        Ok(written.sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use longhand_model::Preset;

    #[test]
    fn every_prompt_is_continued_by_its_length() {
        let cpu = Arc::new(Cpu::new(2));
        for preset in [Preset::LonghandNano, Preset::EncoderDecoderNano] {
            let config = preset.config(33);
            let mut searching = Searching::new(config, cpu.clone(), [11, 6], [3, 12]).unwrap();
            let read: usize = searching.prompts.iter().map(Vec::len).sum();
            assert_eq!(searching.step().unwrap(), read as u64);
        }
    }
}
