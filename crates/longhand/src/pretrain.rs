//! A run of pretraining from its recipe to its model folder.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use longhand::recipe::Recipe;
use longhand_model::{Cpu, Model, Tape, file};
use longhand_train::log::JsonLines;
use longhand_train::{
    Checkpoints, End, LanguageModelling, Outcome, RunLog, Score, Trainer, evaluate,
};
use serde_json::json;

use crate::card::{CARD_FILE, card};
use crate::folder::{self, TOKENIZER_FILE};
use crate::output::{self, CHECKPOINTS_FOLDER, GENERATION_FILE, LOGS_FOLDER};
use crate::progress::Display;
use crate::sample_text::{prompt, sample_writer, write};
use crate::text_data::{Ids, Texts};
use crate::training::{Results, Training};

/// Tokens that are written when a run has ended.
const SAMPLE_AT_THE_END: usize = 400;

/// Runs a recipe into a folder that is ready for it.
pub(crate) fn pretrain(
    recipe: Recipe,
    texts: &Texts,
    out: &Path,
    begun: bool,
    json: bool,
) -> Result<()> {
    let talk = !json;
    let tokenizer = if begun { folder::tokenizer(out)? } else { texts.tokenizer(&recipe, talk)? };
    let ids = texts.encode(&tokenizer, &out.join(output::TOKENS_FOLDER), talk)?;
    let config = recipe.model.config(tokenizer.vocab_size())?;
    let mut training = Training::new(recipe, ids.facts.clone());
    if begun {
        let earlier = Training::load(out)?;
        same_run(&earlier, &training)?;
        training.data = earlier.data;
    }
    let settings = training.recipe.training.clone();
    let objective = LanguageModelling::new(&settings, ids.train.clone(), ids.valid.clone())?;
    tokenizer.save(&out.join(TOKENIZER_FILE))?;
    training.save(out)?;

    let cpu = Arc::new(Cpu::new(settings.thread_count()));
    let model = Model::new(config, settings.seed)?;
    let parameters = model.weights.count();
    let checkpoints = Checkpoints::new(&out.join(CHECKPOINTS_FOLDER), settings.keep)
        .with_file(TOKENIZER_FILE, fs_err::read(out.join(TOKENIZER_FILE))?);
    let mut trainer =
        Trainer::new(settings, model, objective, cpu.clone())?.with_checkpoints(checkpoints);
    if begun {
        trainer.resume()?;
    }
    if talk {
        introduce(&training, &ids, parameters, cpu.threads());
    }
    let prompt = prompt(&ids, &tokenizer)?;
    let log = RunLog::open(&out.join(LOGS_FOLDER), Some(sample_writer(&tokenizer, &prompt)))?;
    let mut watchers = (log, Display::new(json));
    let outcome = trainer.run(&mut watchers, stop_on_signal()?);
    watchers.1.finish();
    let outcome = outcome?;
    let end = outcome.end;
    let model = finish(outcome, &mut training, &ids, &cpu, out)?;
    if json {
        return tell_program(&training, end, out);
    }
    let text = write(&model, &tokenizer, &cpu, &prompt, SAMPLE_AT_THE_END)?;
    writeln!(std::io::stdout(), "{text}")?;
    tell_person(&training, end, out);
    Ok(())
}

/// Tests the best weights and writes the model folder.
fn finish(
    outcome: Outcome,
    training: &mut Training,
    ids: &Ids,
    cpu: &Arc<Cpu>,
    out: &Path,
) -> Result<Model> {
    let Outcome { model, best, steps, tokens, seconds, end } = outcome;
    let test = match &ids.test {
        Some(tokens) if end != End::Stopped => {
            let mut tape = Tape::new(cpu.clone());
            let total = evaluate::carried(&model, &mut tape, tokens, evaluate::STREAMS)?;
            let mut score = Score::of(total.mean());
            score.metrics.insert("perplexity".into(), total.mean().exp());
            Some(score)
        }
        _ => None,
    };
    model.save(out)?;
    training.results = Some(Results {
        parameters: model.weights.count(),
        steps,
        tokens,
        seconds,
        best_step: best.as_ref().map(|best| best.step),
        valid: best.map(|best| best.score),
        test,
    });
    training.save(out)?;
    let generation = json!({ "do_sample": true, "temperature": 0.8, "max_new_tokens": 256 });
    let generation = serde_json::to_vec_pretty(&generation)?;
    file::write(&out.join(GENERATION_FILE), &generation)?;
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    file::write(&out.join(CARD_FILE), card(&name, training).as_bytes())?;
    Ok(model)
}

/// The last line of JSON.
fn tell_program(training: &Training, end: End, out: &Path) -> Result<()> {
    let Some(results) = &training.results else { return Ok(()) };
    let test = results.test.as_ref().map(|score| {
        let mut test = json!({ "loss": score.loss });
        for (name, value) in &score.metrics {
            test[name] = json!(value);
        }
        test
    });
    let expected = training.expectations();
    let expected: serde_json::Map<_, _> = expected
        .into_iter()
        .map(|(name, (value, met))| (name, json!({ "value": value, "met": met })))
        .collect();
    let line = json!({
        "done": end != End::Stopped,
        "end": match end {
            End::Budget => "budget",
            End::Patience => "patience",
            End::Stopped => "stopped",
        },
        "best_valid_loss": results.valid.as_ref().map(|score| score.loss),
        "best_step": results.best_step,
        "test": test,
        "expected": expected,
        "parameters": results.parameters,
        "step": results.steps,
        "tokens": results.tokens,
        "seconds": results.seconds,
        "out": out,
    });
    Ok(JsonLines::new(std::io::stdout()).write(&line)?)
}

fn tell_person(training: &Training, end: End, out: &Path) {
    let Some(results) = &training.results else { return };
    for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
        if let Some(Score { loss, .. }) = score {
            eprintln!("{part} loss {loss:.4} nats per token, perplexity {:.3}", loss.exp());
        }
    }
    for (name, (value, met)) in training.expectations() {
        let verdict = if met { "as the recipe expects" } else { "worse than the recipe expects" };
        eprintln!("{name} is {value:.4}: {verdict}");
    }
    let dir = out.display();
    if end == End::Stopped {
        eprintln!("stopped and saved: `longhand train --resume --out {dir}` goes on");
    }
    eprintln!("the model lies in {dir}: try");
    eprintln!("  longhand generate {dir} --prompt \"One day\"");
    eprintln!("  longhand eval {dir} --data other.txt");
}

fn introduce(training: &Training, ids: &Ids, parameters: usize, threads: usize) {
    let recipe = &training.recipe;
    let text = match recipe.data.train.as_slice() {
        [] => "the built-in sample".to_owned(),
        [only] => only.display().to_string(),
        [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
    };
    eprintln!(
        "training {} ({:.2} million parameters) on {text}: {} tokens, {} held out, {threads} \
         threads",
        recipe.model.name(),
        parameters as f64 / 1e6,
        ids.train.len(),
        ids.valid.as_ref().map_or(0, |valid| valid.len()),
    );
}

/// A flag that Ctrl-C sets: the run saves and stops. A second Ctrl-C ends the process at once.
fn stop_on_signal() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
        eprintln!("saving, then stopping; once more to stop at once");
    })
    .context("the system refuses a handler for Ctrl-C")?;
    Ok(&STOP)
}

/// Refuses to go on with other data or another model.
fn same_run(begun: &Training, now: &Training) -> Result<()> {
    for (what, same) in [
        ("training text", begun.data.train.blake3 == now.data.train.blake3),
        (
            "validation text",
            begun.data.valid.as_ref().map(|part| &part.blake3)
                == now.data.valid.as_ref().map(|part| &part.blake3),
        ),
        ("tokeniser", begun.recipe.tokenizer == now.recipe.tokenizer),
        ("model", begun.recipe.model == now.recipe.model),
    ] {
        if !same {
            bail!(
                "the run was begun with another {what}: leave it as it was, or start anew in \
                 another folder"
            );
        }
    }
    Ok(())
}
