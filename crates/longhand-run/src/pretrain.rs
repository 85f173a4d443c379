//! A run of pretraining from its recipe to its model folder.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use longhand_engine::{GENERATION_FILE, GenerationConfig};
use longhand_model::{Cpu, Model, Tape};
use longhand_text::Tokenizer;
use longhand_train::evaluate::{self, Stretches};
use longhand_train::{LanguageModelling, Score};

use crate::error::RunError;
use crate::execute::{Ended, Place, Prepared, Test};
use crate::finished::Finished;
use crate::output::{self, Existing, Ready};
use crate::recipe::Recipe;
use crate::sample_text::{prompt, sample_writer};
use crate::text_data::{Ids, Texts};
use crate::training::Training;
use crate::watch::{DataSize, Preparation, Watch};

/// Runs a recipe into a folder.
pub(crate) fn run(
    mut recipe: Recipe,
    place: &Place,
    cpu: &Arc<Cpu>,
    watch: &mut dyn Watch,
) -> Result<Finished, RunError> {
    recipe.check_head()?;
    let since = Instant::now();
    let resumes = place.existing == Existing::Resume && output::holds_run(place.out);
    if !resumes {
        Texts::fit(&mut recipe, place.out, watch)?;
    }
    let texts = Texts::open(&recipe, place.out)?;
    let Ready { begun, lock: _lock } = output::prepare(place.out, place.existing)?;
    if place.existing == Existing::Resume && !begun {
        watch.prepare(&Preparation::NothingToResume(place.out));
    }
    let tokenizer =
        if begun { Tokenizer::of_folder(place.out)? } else { texts.tokenizer(&recipe, watch)? };
    let tokenizer = tokenizer.with_threads(NonZeroUsize::new(recipe.training.threads));
    let ids = texts.encode(&tokenizer, &place.out.join(output::TOKENS_FOLDER), watch)?;
    let config = recipe.model.config(tokenizer.vocab_size())?;
    let settings = recipe.training.clone();
    let objective = LanguageModelling::new(&settings, ids.train.clone(), ids.valid.clone())?;
    let mut model = Model::new(config, settings.seed)?;
    let tuned = recipe.tuning.apply(&mut model, None, &settings)?;
    let prompt = prompt(&ids, &tokenizer)?;
    let prepared = Prepared {
        training: Training::new(recipe, ids.facts.clone()),
        tokenizer: &tokenizer,
        tuned,
        files: vec![(GENERATION_FILE, GenerationConfig::default().to_json())],
        data: DataSize::Tokens {
            train: ids.train.len(),
            valid: ids.valid.as_ref().map_or(0, |valid| valid.len()),
        },
        write_sample: Some(sample_writer(&tokenizer, &prompt)),
        place,
        begun,
        since,
    };
    let test = |model: &Model| test(&ids, model, cpu, place.stop);
    let Ended { training, model, end } = prepared.train(model, objective, cpu, watch, test)?;
    let (prompt, cpu) = (Some(prompt), cpu.clone());
    Ok(Finished { training, model, tokenizer, end, prompt, cpu })
}

/// The loss on the test files, if the recipe names any.
fn test(
    ids: &Ids,
    model: &Model,
    cpu: &Arc<Cpu>,
    stop: &AtomicBool,
) -> Result<Option<Test>, RunError> {
    let Some(tokens) = &ids.test else { return Ok(None) };
    let mut tape = Tape::new(cpu.clone());
    let whole = Stretches::whole(tokens, evaluate::STREAMS);
    let mut unheard = |_| Ok(());
    let mut watch = longhand_train::Watch::new(stop, &mut unheard);
    let total = evaluate::stretches(model, &mut tape, tokens, &whole, &mut watch)?;
    let mut score = Score::of(total.mean());
    score.metrics.insert("perplexity".into(), total.mean().exp().min(f64::MAX));
    Ok(Some(Test { score: Some(score), ..Test::default() }))
}
