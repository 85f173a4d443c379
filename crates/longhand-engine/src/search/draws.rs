//! The random numbers of texts that are drawn.

use crate::sampler::{Sampler, SamplerError, SamplerSettings, SamplerState};

/// Where the sampler of one text stands.
#[derive(Clone, Copy)]
pub(super) struct Draws(SamplerState);

impl Draws {
    /// The beginning of the random numbers of a text, which follow from the seed, the number of the text
    /// among those for its prompt, and what is read before it. With the seed alone, texts behind
    /// different prompts would all begin with tokens of the same quantile.
    pub(super) fn new(settings: SamplerSettings, number: usize, read: [&[u32]; 2]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&settings.seed.to_le_bytes());
        hasher.update(&(number as u64).to_le_bytes());
        for ids in read {
            hasher.update(&(ids.len() as u64).to_le_bytes());
            for id in ids {
                hasher.update(&id.to_le_bytes());
            }
        }
        let mut seed = [0u8; 8];
        hasher.finalize_xof().fill(&mut seed);
        let settings = SamplerSettings { seed: u64::from_le_bytes(seed), ..settings };
        Self(SamplerState { settings, draws: 0 })
    }

    /// Draws one of the tokens whose logit is not −∞, if there is one, with the memory of a sampler.
    pub(super) fn next(
        &mut self,
        sampler: &mut Sampler,
        logits: &[f32],
        recent: &[u32],
    ) -> Result<Option<u32>, SamplerError> {
        sampler.go_on(self.0)?;
        let drawn = sampler.sample_finite(logits, recent);
        self.0 = sampler.state();
        match drawn {
            Ok(id) => Ok(Some(id)),
            Err(SamplerError::Empty) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
