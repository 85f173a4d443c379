//! The body that a task begins with, pretrained on the texts of the task's own examples.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use longhand_model::{Config, Cpu, Model};
use longhand_tasks::start;
use longhand_text::corpus::vectors::WordVectors;
use longhand_text::{Tokenizer, Tokens};
use longhand_train::End;

use crate::error::RunError;
use crate::execute::{Ended, Place, Prepared};
use crate::objective::Pretraining;
use crate::output::{self, CHECKPOINTS_FOLDER, Existing, PRETRAINED_FOLDER};
use crate::pretrain;
use crate::recipe::{ModelSettings, Recipe, RecipeError};
use crate::text_data::{self, Ids};
use crate::training::{DataFacts, PartFacts, Training};
use crate::tuning::Tuned;
use crate::watch::{DataSize, Watch};

/// The texts of a task's examples, as ids.
pub(crate) struct Documents {
    /// The ids of all documents to learn from, one document after another.
    pub(crate) train: Part,
    /// Those that are held out.
    pub(crate) valid: Part,
}

/// Documents one after another.
#[derive(Default)]
pub(crate) struct Part {
    ids: Vec<u32>,
    starts: Vec<u64>,
    bytes: u64,
}

/// A task's run, as far as it is known before the body is pretrained.
pub(crate) struct Begun<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) pretraining: &'a Pretraining,
    pub(crate) tokenizer: &'a Tokenizer,
    /// The model that the pretraining begins with (none).
    pub(crate) base: Option<&'a Model>,
    /// Word vectors that the embedding begins with (none).
    pub(crate) vectors: Option<&'a WordVectors>,
    pub(crate) place: &'a Place<'a>,
    /// Whether the folder holds a run of the task to resume.
    pub(crate) begun: bool,
}

/// A pretrained body, or one whose pretraining was stopped.
pub(crate) struct Body {
    pub(crate) model: Model,
    /// The record of the pretraining where it was stopped.
    pub(crate) stopped: Option<Training>,
}

impl Part {
    /// The documents of examples that have `bytes` bytes, each once: a context comes with each of its
    /// questions, and a sentence with each of its predicates.
    pub(crate) fn of<'a>(documents: impl Iterator<Item = &'a [u32]>, bytes: u64) -> Self {
        let mut part = Self { bytes, ..Self::default() };
        let mut known = HashSet::new();
        for document in documents {
            if known.insert(document) {
                part.push(document);
            }
        }
        part
    }

    fn push(&mut self, document: &[u32]) {
        if !document.is_empty() {
            self.starts.push(self.ids.len() as u64);
            self.ids.extend_from_slice(document);
        }
    }

    /// Adds the documents of a text.
    fn extend(&mut self, tokens: &Tokens, bytes: u64) -> Result<(), RunError> {
        let ends = tokens.documents().iter().skip(1).copied().chain([tokens.len()]);
        let mut document = Vec::new();
        for (&start, end) in tokens.documents().iter().zip(ends) {
            document.resize((end - start) as usize, 0);
            tokens.copy(start, &mut document)?;
            self.push(&document);
        }
        self.bytes += bytes;
        Ok(())
    }

    fn tokens(self, vocabulary: usize) -> Result<(Arc<Tokens>, PartFacts), RunError> {
        let tokens = Tokens::from_ids(self.ids, self.starts, vocabulary)?;
        let facts = PartFacts {
            tokens: tokens.len(),
            bytes: self.bytes,
            blake3: text_data::hash(&tokens)?,
        };
        Ok((Arc::new(tokens), facts))
    }
}

/// Checks that the body of a task's model can learn its pretraining's objective.
pub(crate) fn check(recipe: &Recipe) -> Result<(), RunError> {
    let Some(Pretraining { objective, .. }) = recipe.pretraining else { return Ok(()) };
    // Any vocabulary will do to find the directions of reading.
    let config = recipe.model.config(256)?;
    if objective.fits_body(&config) {
        return Ok(());
    }
    Err(RecipeError::unfit(&recipe.model, objective).into())
}

/// Pretrains the body, or goes on with its pretraining.
pub(crate) fn body(
    begun: &Begun<'_>,
    documents: Documents,
    cpu: &Arc<Cpu>,
    watch: &mut dyn Watch,
) -> Result<Body, RunError> {
    let since = Instant::now();
    let &Begun { recipe, pretraining, tokenizer, base, vectors, place, .. } = begun;
    let folder = place.out.join(PRETRAINED_FOLDER);
    if begun.begun && place.out.join(CHECKPOINTS_FOLDER).is_dir() {
        // The task is being learnt: the pretraining has come to its end.
        return Ok(Body { model: Model::load(&folder)?, stopped: None });
    }
    let ids = read(begun, documents, watch)?;
    let config = recipe.model.config(tokenizer.vocab_size())?;
    let config = pretraining.objective.of_task(config);
    let settings = pretraining.settings(&recipe.training);
    let model_settings = settings_of(&config)?;
    let mut model = match base {
        Some(base) => start::from_trained(config, base, &[], settings.seed)?.0,
        None => Model::new(config, settings.seed)?,
    };
    if let Some(vectors) = vectors {
        model.begin_with_vectors(vectors.iter());
    }
    let recipe = Recipe {
        description: "the body that a task begins with".into(),
        objective: pretraining.objective,
        data: recipe.data.clone(),
        tokenizer: recipe.tokenizer,
        model: model_settings,
        training: settings.clone(),
        ..Recipe::default()
    };
    fs_err::create_dir_all(&folder)?;
    let inner = Place { out: &folder, existing: Existing::Resume, stop: place.stop };
    let prepared = Prepared {
        training: Training::new(recipe, ids.facts.clone()),
        tokenizer,
        tuned: Tuned { settings, base: None },
        old: None,
        files: Vec::new(),
        data: DataSize::Tokens {
            train: ids.train.len(),
            valid: ids.valid.as_ref().map_or(0, |valid| valid.len()),
        },
        write_sample: None,
        place: &inner,
        begun: begun.begun && output::holds_run(&folder),
        since,
    };
    let Ended { training, model, end } = pretrain::learn(prepared, model, &ids, cpu, watch)?;
    Ok(Body { model, stopped: (end == End::Stopped).then_some(training) })
}

/// The documents with those of further files.
fn read(begun: &Begun<'_>, documents: Documents, watch: &mut dyn Watch) -> Result<Ids, RunError> {
    let Begun { recipe, pretraining, tokenizer, place, .. } = begun;
    let Documents { mut train, valid } = documents;
    if !pretraining.text.is_empty() {
        let (paths, lossy) = (&pretraining.text, recipe.data.lossy);
        let (tokens, bytes) = text_data::further(paths, lossy, tokenizer, place.out, watch)?;
        train.extend(&tokens, bytes)?;
    }
    let vocabulary = tokenizer.vocab_size();
    let (train, facts) = train.tokens(vocabulary)?;
    let mut facts = DataFacts { train: facts, ..DataFacts::default() };
    let valid = match valid.ids.is_empty() {
        true => None,
        false => {
            let (valid, held_out) = valid.tokens(vocabulary)?;
            facts.valid = Some(held_out);
            Some(valid)
        }
    };
    Ok(Ids { train, valid, test: None, facts })
}

/// A configuration as a recipe holds it.
fn settings_of(config: &Config) -> Result<ModelSettings, RunError> {
    let mut json: serde_json::Map<_, _> =
        serde_json::from_str(&config.to_json()).map_err(RunError::Record)?;
    json.remove("vocab_size");
    Ok(ModelSettings { config: Some(json), ..ModelSettings::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_pretrained_on_once() {
        let (context, sentence) = ([5_u32, 6, 7], [8_u32, 9]);
        let documents: [&[u32]; 7] = [&[1, 2], &context, &[], &[3], &context, &sentence, &sentence];
        let part = Part::of(documents.into_iter(), 20);
        assert_eq!(part.ids, [1, 2, 5, 6, 7, 3, 8, 9]);
        assert_eq!((part.starts, part.bytes), (vec![0, 2, 5, 6], 20));
    }
}
