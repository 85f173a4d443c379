//! A linear-chain conditional random field over the features of each word's neighbourhood (Lafferty et
//! al., "Conditional random fields", 2001; Sha and Pereira, "Shallow parsing with conditional random
//! fields", 2003).
//!
//! The score of a path y of tags over the n words of a chain is
//! `s(y) = start[y₁] + Σ_t Σ_f weight[f, y_t] + Σ_t transition[y_{t−1}, y_t] + end[y_n]` with the
//! features f of word t (`features`), and its probability is `e^s(y) / Z`. `descent` finds the weights
//! that make the right paths of training most probable. It knows no scheme of tags: which tag may follow
//! which is learnt from training alone.
//!
//! The logits of a word are the logarithms of its marginals, p(y_t = k) for each tag k. Its likeliest tag
//! is therefore that of posterior decoding, not that of the likeliest path, and a loss is that of the
//! marginals.

use longhand_kernel::crf::{self, Scores};
use longhand_kernel::sequence::Sequence;
use longhand_train::{TrainError, Watch};

use super::error::BaselineError;
use super::index::Index;
use super::learning::Learning;
use super::settings::CrfSettings;
use super::tensors::Tensors;

mod chains;
mod descent;
mod features;
#[cfg(test)]
mod tests;

use chains::Chains;
use features::Templates;

/// A trained model, which reads the words of one chain at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Crf {
    templates: Templates,
    index: Index,
    weights: Weights,
}

/// The scores that a path is a sum of.
#[derive(Clone, Debug, PartialEq)]
struct Weights {
    /// `[F, K]`: the score of each tag for a word that has a feature.
    features: Vec<f32>,
    /// `[K, K]`: the score of the tag of the column right after the tag of the row.
    transitions: Vec<f32>,
    /// `[K]`: the score of each tag at the first word.
    start: Vec<f32>,
    /// `[K]`: the score of each tag at the last word.
    end: Vec<f32>,
}

/// The least probability of a tag that has a logarithm of its own.
const LEAST: f32 = 1e-12;

impl Crf {
    pub(crate) fn fit(
        settings: &CrfSettings,
        learning: &Learning<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, TrainError> {
        let templates = Templates { window: settings.window };
        let (index, train) = Chains::learn(templates, learning.train, settings.cutoff.get())
            .map_err(|error| TrainError::Objective(Box::new(error)))?;
        let valid = Chains::read(templates, learning.valid, &index);
        let weights = descent::train(settings, learning, index.len(), [&train, &valid], watch)?;
        Ok(Self { templates, index, weights })
    }

    /// `[n, K]`: ln p of each tag of each of the n words of a chain, at least ln 1e−12.
    pub(crate) fn logits(&self, words: &[&str]) -> Vec<f32> {
        let mut emissions = Vec::new();
        let mut row = Vec::new();
        self.templates.each(words, |keys| {
            row.clear();
            row.extend(keys.iter().filter_map(|&key| self.index.get(key)));
            self.weights.add_emission(&row, &mut emissions);
        });
        let mut shares = vec![0.0; emissions.len()];
        let sequence = Sequence::new(words.len(), 1);
        crf::marginals(sequence, self.weights.scores(&emissions), None, &mut shares);
        shares.iter_mut().for_each(|share| *share = share.max(LEAST).ln());
        shares
    }

    /// The number of tags K.
    pub(crate) fn tags(&self) -> usize {
        self.weights.start.len()
    }

    pub(crate) fn write(&self, tensors: &mut Tensors) {
        let Weights { features, transitions, start, end } = &self.weights;
        let tags = self.tags();
        tensors.add_keys("features", self.index.keys());
        tensors.add("weight", &[self.index.len(), tags], features.clone());
        tensors.add("transitions", &[tags, tags], transitions.clone());
        tensors.add("start", &[tags], start.clone());
        tensors.add("end", &[tags], end.clone());
    }

    pub(crate) fn read(settings: &CrfSettings, tensors: &Tensors) -> Result<Self, BaselineError> {
        let index = Index::of(tensors.keys("features")?.to_vec())
            .ok_or_else(|| tensors.wrong("`features` has a feature twice".into()))?;
        let (_, start) = tensors.floats("start", &[None])?;
        let tags = Some(start.len());
        let (_, end) = tensors.floats("end", &[tags])?;
        let (_, transitions) = tensors.floats("transitions", &[tags, tags])?;
        let (_, features) = tensors.floats("weight", &[Some(index.len()), tags])?;
        let templates = Templates { window: settings.window };
        Ok(Self { templates, index, weights: Weights { features, transitions, start, end } })
    }
}

impl Weights {
    /// Adds `[K]`: the sums of the scores of a word's features, to a list of emissions.
    fn add_emission(&self, row: &[u32], emissions: &mut Vec<f32>) {
        add_emission(&self.features, self.start.len(), row, emissions);
    }

    /// The scores of one chain.
    fn scores<'a>(&'a self, emissions: &'a [f32]) -> Scores<'a> {
        let Self { transitions, start, end, .. } = self;
        Scores { emissions, transitions, start, end }
    }

    /// −ln p of the right paths, summed; 0 for no chains.
    fn nats(&self, chains: &Chains) -> f64 {
        let mut emissions = Vec::new();
        let of_chain = |place: usize| {
            let (rows, tags) = chains.chain(place);
            emissions.clear();
            rows.for_each(|row| self.add_emission(row, &mut emissions));
            let (sequence, scores) = (Sequence::new(tags.len(), 1), self.scores(&emissions));
            crf::negative_log_likelihood(sequence, scores, tags, None, None, None).nats
        };
        (0..chains.len()).map(of_chain).sum()
    }
}

/// Adds a word's emissions to a list: the sums of its features' rows of weights `[F, K]`.
fn add_emission(weights: &[f32], tags: usize, row: &[u32], emissions: &mut Vec<f32>) {
    let first = emissions.len();
    emissions.resize(first + tags, 0.0);
    let sums = &mut emissions[first..];
    for &feature in row {
        let own = &weights[feature as usize * tags..][..tags];
        sums.iter_mut().zip(own).for_each(|(sum, weight)| *sum += weight);
    }
}
