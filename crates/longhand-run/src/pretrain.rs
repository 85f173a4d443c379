//! A run of pretraining from its recipe to its model folder.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use longhand_engine::{GENERATION_FILE, GenerationConfig};
use longhand_model::{Cpu, Model};
use longhand_tasks::predictor::Trained;
use longhand_tasks::{Network, start};
use longhand_text::Tokenizer;
use longhand_train::{Bicausal, LanguageModelling, MaskedTokens, PassageObjective};

use crate::base;
use crate::error::RunError;
use crate::execute::{Ended, Place, Prepared, Test};
use crate::finished::Finished;
use crate::objective::PretrainingObjective;
use crate::output::{self, Existing, Ready};
use crate::recipe::Recipe;
use crate::rehearsal::{self, Old};
use crate::sample_text::{prompt, sample_writer};
use crate::score::{masked, score};
use crate::text_data::{Ids, Texts};
use crate::training::Training;
use crate::tuning::{Method, Tuned};
use crate::watch::{DataSize, Preparation, Watch};

/// Runs a recipe into a folder.
pub(crate) fn run(
    mut recipe: Recipe,
    place: &Place,
    cpu: &Arc<Cpu>,
    watch: &mut dyn Watch,
) -> Result<Finished, RunError> {
    let since = Instant::now();
    let base = base::read(&mut recipe)?;
    base::keep(&recipe, place.out)?;
    recipe.check_head()?;
    let resumes = place.existing == Existing::Resume && output::holds_run(place.out);
    if !resumes {
        Texts::fit(&mut recipe, place.out, watch)?;
    }
    let texts = Texts::open(&recipe, place.out)?;
    let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
    if place.existing == Existing::Resume && !begun {
        watch.prepare(&Preparation::NothingToResume(place.out));
    }
    let tokenizer = match &base {
        _ if begun => Tokenizer::of_folder(place.out)?,
        Some((_, tokenizer)) => tokenizer.clone(),
        None => recipe.objective.prepare(texts.tokenizer(&recipe, watch)?)?,
    };
    let tokenizer = tokenizer.with_threads(NonZeroUsize::new(recipe.training.threads));
    let ids = texts.encode(&tokenizer, &place.out.join(output::TOKENS_FOLDER), watch)?;
    let base = base.as_ref().map(|(model, _)| model);
    let (model, tuned) = model(&recipe, place.out, base, &tokenizer, watch)?;
    let old_text = rehearsal::read(&recipe, &tokenizer, place.out, watch)?;
    let old = Old::new(old_text.as_ref(), &recipe, base, &tokenizer)?;
    let continues = recipe.objective == PretrainingObjective::Causal;
    let prompt = continues.then(|| prompt(&ids, &tokenizer)).transpose()?;
    let generation = (GENERATION_FILE, GenerationConfig::default().to_json());
    let prepared = Prepared {
        training: Training::new(recipe, ids.facts.clone()),
        tokenizer: &tokenizer,
        tuned,
        old,
        files: continues.then_some(generation).into_iter().collect(),
        data: DataSize::Tokens {
            train: ids.train.len(),
            valid: ids.valid.as_ref().map_or(0, |valid| valid.len()),
        },
        write_sample: prompt.as_ref().map(|prompt| sample_writer(&tokenizer, prompt)),
        place,
        begun,
        since,
    };
    let Ended { training, model, end } = learn(prepared, model, &ids, cpu, watch)?;
    let is_whole = true;
    let trained = Trained::Network(Box::new(Network { model, tokenizer, ensemble: None })).into();
    Ok(Finished { training, trained, end, is_whole, prompt, cpu: cpu.clone() })
}

/// The model, drawn at random or begun with a trained one, and how it is tuned.
fn model(
    recipe: &Recipe,
    out: &Path,
    base: Option<&Model>,
    tokenizer: &Tokenizer,
    watch: &mut dyn Watch,
) -> Result<(Model, Tuned), RunError> {
    let config = recipe.objective.complete(recipe.model.config(tokenizer.vocab_size())?);
    let settings = &recipe.training;
    let Some(base) = base else {
        let mut model = Model::new(config, settings.seed)?;
        let tuned = recipe.tuning.apply(&mut model, None, settings)?;
        return Ok((model, tuned));
    };
    let config = recipe.tuning.config(config)?;
    let heads: Vec<String> = config.heads.iter().map(|head| head.name.clone()).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let (mut model, mut own) = start::from_trained(config, base, &heads, settings.seed)?;
    base::tell_drawn(&model, &own, watch)?;
    if recipe.tuning.method == Method::Frozen {
        // The heads go on with what they know, and are what the method trains.
        own.extend(model.head_parameters());
    }
    let base = base::named(recipe, out, None, own);
    let tuned = recipe.tuning.apply(&mut model, base, settings)?;
    Ok((model, tuned))
}

/// Trains by the objective of the run's recipe.
pub(crate) fn learn(
    prepared: Prepared<'_>,
    model: Model,
    ids: &Ids,
    cpu: &Arc<Cpu>,
    watch: &mut dyn Watch,
) -> Result<Ended, RunError> {
    let objective = prepared.training.recipe.objective;
    let settings = prepared.tuned.settings.clone();
    let (train, valid) = (ids.train.clone(), ids.valid.clone());
    let (stop, longest) = (prepared.place.stop, settings.chunk);
    let masked = masked(objective, prepared.tokenizer)?;
    let masks = masked.clone();
    let test = |model: &Model| test((ids, objective, longest), masks.as_ref(), model, (cpu, stop));
    match (objective, masked) {
        (_, Some(masked)) => {
            let objective = PassageObjective::new(masked, &settings, train, valid)?;
            prepared.train(model, objective, cpu, watch, test)
        }
        (PretrainingObjective::Bicausal, None) => {
            let objective = PassageObjective::new(Bicausal, &settings, train, valid)?;
            prepared.train(model, objective, cpu, watch, test)
        }
        (_, None) => {
            let objective = LanguageModelling::new(&settings, train, valid)?;
            prepared.train(model, objective, cpu, watch, test)
        }
    }
}

/// The score on the test files, if the recipe names any. Passages have at most `longest` tokens.
fn test(
    (ids, objective, longest): (&Ids, PretrainingObjective, usize),
    masked: Option<&MaskedTokens>,
    model: &Model,
    (cpu, stop): (&Arc<Cpu>, &AtomicBool),
) -> Result<Option<Test>, RunError> {
    let Some(tokens) = &ids.test else { return Ok(None) };
    let mut score = score((tokens, objective, longest), masked, model, (cpu, stop))?;
    score.metrics.insert("perplexity".into(), score.loss.exp().min(f64::MAX));
    Ok(Some(Test { score: Some(score), ..Test::default() }))
}
