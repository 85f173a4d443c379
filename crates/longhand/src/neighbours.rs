//! A datastore beside a model: the flags that name it, and what is told of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use longhand_engine::datastore::{Mixture, Owner};
use longhand_engine::{Cpu, Datastore, Engine, EngineError, LanguageModel, Neighbours, Reader};
use longhand_tasks::{Predictor, Task};
use longhand_text::Tokenizer;
use serde::Serialize;

use crate::error::Usage;

/// A datastore to mix the model's probabilities with, and how.
#[derive(Args)]
pub(crate) struct NeighbourArguments {
    /// Mix the model's probabilities with those of the nearest entries of a datastore, as
    /// `longhand index` writes it
    #[arg(long, value_name = "DIR")]
    knn: Option<PathBuf>,
    /// The share of the neighbours, from 0 to below 1 [default: the datastore's]
    #[arg(long, value_name = "X", requires = "knn", allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Squared distance over which a neighbour's vote falls by e [default: the datastore's]
    #[arg(long, value_name = "X", requires = "knn", allow_negative_numbers = true)]
    knn_temperature: Option<f64>,
    /// How many neighbours vote [default: the datastore's]
    #[arg(long, value_name = "K", requires = "knn")]
    neighbours: Option<usize>,
    /// How many of its lists are searched; with all of them the search is
    /// exact [default: the datastore's]
    #[arg(long, value_name = "N", requires = "knn")]
    knn_probes: Option<usize>,
}

/// What was beside a model that was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Beside {
    lambda: f64,
    temperature: f64,
    neighbours: usize,
    probes: usize,
    entries: u64,
    /// Mean loss of a token by the model alone, in nats, and the perplexity.
    loss_without: f64,
    perplexity_without: f64,
}

impl NeighbourArguments {
    /// Whether a datastore is named.
    pub(crate) fn is_given(&self) -> bool {
        self.knn.is_some()
    }

    /// A reader that consults the datastore, if one is named.
    pub(crate) fn reader(&self, engine: &Arc<Engine>, cpu: &Arc<Cpu>) -> Result<Reader> {
        let mut reader = engine.reader(cpu);
        if self.is_given() {
            engine.model().with_hidden_states()?;
            if let Some(neighbours) = self.open(&engine.owner())? {
                reader.consult(neighbours)?;
            }
        }
        Ok(reader)
    }

    /// The datastore of a model that is no engine's, if one is named. The changes of adapters become
    /// part of the weights then, which the model's hash is of.
    pub(crate) fn of_model(
        &self,
        model: &mut LanguageModel,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Neighbours>> {
        if !self.is_given() {
            return Ok(None);
        }
        model.with_hidden_states()?;
        if let LanguageModel::Network(network) = model {
            network.merge_low_rank();
        }
        let tokenizer = tokenizer.hash().to_owned();
        self.open(&Owner { model: model.hash(), tokenizer })
    }

    /// Lets a predictor consult the datastore, if one is named.
    pub(crate) fn consult<T: Task>(&self, predictor: &mut Predictor<T>) -> Result<()> {
        if !self.is_given() {
            return Ok(());
        }
        let owner = predictor.owner().filter(|_| T::WRITES);
        let Some(owner) = owner else {
            let text = "--knn is for models that write their answers: leave it out";
            return Err(Usage(text.into()).into());
        };
        if let Some(neighbours) = self.open(&owner)? {
            predictor.consult(neighbours)?;
        }
        Ok(())
    }

    /// Opens the datastore, if one is named.
    fn open(&self, owner: &Owner) -> Result<Option<Neighbours>> {
        let Some(folder) = &self.knn else { return Ok(None) };
        let store = Datastore::open(folder, owner).map_err(EngineError::from)?;
        let usual = store.header().mixture;
        let mixture = Mixture {
            lambda: self.lambda.unwrap_or(usual.lambda),
            temperature: self.knn_temperature.unwrap_or(usual.temperature),
            neighbours: self.neighbours.unwrap_or(usual.neighbours),
            probes: self.knn_probes.unwrap_or(usual.probes),
        };
        let neighbours = Neighbours::with_mixture(Arc::new(store), mixture);
        Ok(Some(neighbours.map_err(|error| Usage(error.to_string()))?))
    }
}

impl Beside {
    /// What is told of a datastore, and of the model's own loss.
    pub(crate) fn new(neighbours: &Neighbours, loss_without: f64) -> Self {
        let Mixture { lambda, temperature, neighbours: count, probes } = neighbours.mixture();
        let header = neighbours.store().header();
        Self {
            lambda,
            temperature,
            neighbours: count,
            probes: probes.min(header.lists),
            entries: header.entries,
            loss_without,
            perplexity_without: loss_without.exp(),
        }
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lambda, temperature, neighbours, entries, .. } = self;
        write!(
            formatter,
            "without the datastore: loss {:.4} nats per token, perplexity {:.3}; with it: λ {lambda}, \
             temperature {temperature:.4}, {neighbours} neighbours of {entries} entries",
            self.loss_without, self.perplexity_without
        )
    }
}
