//! An n-gram model from its recipe to its model folder: text → ids → counts → test.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use longhand_engine::{GENERATION_FILE, GenerationConfig};
use longhand_model::{Cpu, file};
use longhand_ngram::{Ngram, NgramSettings, count};
use longhand_text::{TOKENIZER_FILE, Tokenizer, Tokens};
use longhand_train::evaluate::{self, Counted, Stretches};
use longhand_train::{End, Score};

use crate::card::{CARD_FILE, card};
use crate::error::RunError;
use crate::execute::{Place, folder_name};
use crate::finished::{Finished, Learnt};
use crate::output::{self, Existing, Ready};
use crate::recipe::Recipe;
use crate::sample_text::prompt;
use crate::text_data::{Ids, Texts};
use crate::training::{Results, Training};
use crate::watch::{DataSize, Introduction, Preparation, Watch};

/// Runs a recipe that names an n-gram model into a folder.
pub(crate) fn run(
    mut recipe: Recipe,
    settings: &NgramSettings,
    place: &Place,
    cpu: &Arc<Cpu>,
    watch: &mut dyn Watch,
) -> Result<Finished, RunError> {
    let since = Instant::now();
    if recipe.task.is_some() {
        return Err(RunError::NgramTask);
    }
    let texts = Texts::open(&recipe, place.out)?;
    let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
    if begun {
        return Err(RunError::BaselineResumed);
    }
    if place.existing == Existing::Resume {
        watch.prepare(&Preparation::NothingToResume(place.out));
    }
    let tokenizer = texts.tokenizer(&recipe, watch)?;
    let tokenizer = tokenizer.with_threads(NonZeroUsize::new(recipe.training.threads));
    let ids = texts.encode(&tokenizer, &place.out.join(output::TOKENS_FOLDER), watch)?;
    let order = settings.order(tokenizer.kind(), tokenizer.vocab_size())?;
    recipe.ngram = Some(NgramSettings { order: Some(order) });
    let prompt = prompt(&ids, &tokenizer)?;
    introduce(&recipe, &ids, cpu, watch);
    let model = count(&ids.train, order, place.out, place.stop)?;
    let mut training = Training::new(recipe, ids.facts.clone());
    training.results = Some(Results {
        parameters: model.parameters(),
        trainable_parameters: Some(model.parameters()),
        steps: 0,
        tokens: ids.train.len(),
        seconds: since.elapsed().as_secs_f64(),
        best_step: None,
        valid: score(&model, ids.valid.as_deref(), place.stop)?,
        test: score(&model, ids.test.as_deref(), place.stop)?,
        forgetting: None,
        labels: None,
        report: Default::default(),
        calibration: BTreeMap::new(),
        members: Vec::new(),
    });
    output::clear(place.out)?;
    write(&training, &model, &tokenizer, place)?;
    let (trained, cpu) = (Learnt::Ngram(Box::new(model), Box::new(tokenizer)), cpu.clone());
    let (end, is_whole, prompt) = (End::Budget, true, Some(prompt));
    Ok(Finished { training, trained, end, is_whole, prompt, cpu })
}

/// Tells what is about to be counted.
fn introduce(recipe: &Recipe, ids: &Ids, cpu: &Cpu, watch: &mut dyn Watch) {
    let valid = ids.valid.as_ref().map_or(0, |valid| valid.len());
    let data = DataSize::Tokens { train: ids.train.len(), valid };
    let (threads, precision) = (cpu.threads(), cpu.precision());
    let begins = Introduction { recipe, parameters: 0, threads, precision, data };
    watch.prepare(&Preparation::Begins(begins));
}

/// The loss on a part of the text, if there is one.
fn score(
    model: &Ngram,
    tokens: Option<&Tokens>,
    stop: &AtomicBool,
) -> Result<Option<Score>, RunError> {
    let Some(tokens) = tokens else { return Ok(None) };
    let mut unheard = |_| Ok(());
    let mut watch = longhand_train::Watch::new(stop, &mut unheard);
    let whole = Stretches::whole(tokens, evaluate::STREAMS);
    let total = evaluate::stretches(&mut Counted::new(model), tokens, &whole, &mut watch)?;
    let mut score = Score::of(total.mean());
    score.metrics.insert("perplexity".into(), total.mean().exp().min(f64::MAX));
    Ok(Some(score))
}

/// Writes the model folder. The record of the run comes first: it says whose folder it is.
fn write(
    training: &Training,
    model: &Ngram,
    tokenizer: &Tokenizer,
    place: &Place,
) -> Result<(), RunError> {
    let out = place.out;
    training.save(out)?;
    tokenizer.save(&out.join(TOKENIZER_FILE))?;
    model.save(out)?;
    file::write(&out.join(GENERATION_FILE), &GenerationConfig::default().to_json())?;
    Ok(file::write(&out.join(CARD_FILE), card(&folder_name(out), training).as_bytes())?)
}
