//! A run of pretraining from its recipe to its model folder.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use longhand::recipe::Recipe;
use longhand_engine::{GENERATION_FILE, GenerationConfig};
use longhand_model::{Model, Tape};
use longhand_text::Tokenizer;
use longhand_train::{End, LanguageModelling, Score, evaluate};

use crate::output;
use crate::run::{Ended, Run, Test, tell_end};
use crate::sample_text::{prompt, sample_writer, write};
use crate::talk::say;
use crate::text_data::{Ids, Texts};
use crate::training::Training;

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
    let tokenizer =
        if begun { Tokenizer::of_folder(out)? } else { texts.tokenizer(&recipe, talk)? };
    let ids = texts.encode(&tokenizer, &out.join(output::TOKENS_FOLDER), talk)?;
    let config = recipe.model.config(tokenizer.vocab_size())?;
    let training = Training::new(recipe, ids.facts.clone());
    let settings = training.recipe.training.clone();
    let objective = LanguageModelling::new(&settings, ids.train.clone(), ids.valid.clone())?;
    let cpu = settings.cpu();
    let model = Model::new(config, settings.seed)?;
    let prompt = prompt(&ids, &tokenizer)?;
    let run = Run {
        introduction: introduction(&training, &ids, model.weights.count(), cpu.threads()),
        training,
        tokenizer: &tokenizer,
        files: vec![(GENERATION_FILE, GenerationConfig::default().to_json())],
        write_sample: Some(sample_writer(&tokenizer, &prompt)),
        out,
        begun,
        json,
    };
    let test = |model: &Model| {
        let Some(tokens) = &ids.test else { return Ok(None) };
        let mut tape = Tape::new(cpu.clone());
        let total = evaluate::carried(model, &mut tape, tokens, evaluate::STREAMS)?;
        let mut score = Score::of(total.mean());
        score.metrics.insert("perplexity".into(), total.mean().exp().min(f64::MAX));
        Ok(Some(Test { score, labels: None }))
    };
    let Ended { training, model, end } = run.train(model, objective, &cpu, test)?;
    if talk {
        let text = write(&model, &tokenizer, &cpu, &prompt, SAMPLE_AT_THE_END)?;
        writeln!(std::io::stdout(), "{text}")?;
        tell_person(&training, end, out);
    }
    Ok(())
}

fn tell_person(training: &Training, end: End, out: &Path) {
    let Some(results) = &training.results else { return };
    for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
        if let Some(Score { loss, .. }) = score {
            say!("{part} loss {loss:.4} nats per token, perplexity {:.3}", loss.exp());
        }
    }
    tell_end(training, end);
    let dir = out.display();
    say!("the model lies in {dir}: try");
    say!("  longhand generate {dir} --prompt \"One day\"");
    say!("  longhand eval {dir} --data other.txt");
}

fn introduction(training: &Training, ids: &Ids, parameters: usize, threads: usize) -> String {
    let recipe = &training.recipe;
    let text = match recipe.data.train.as_slice() {
        [] => "the built-in sample".to_owned(),
        [only] => only.display().to_string(),
        [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
    };
    format!(
        "training {} ({:.2} million parameters) on {text}: {} tokens, {} held out, {threads} \
         threads",
        recipe.model.name(),
        parameters as f64 / 1e6,
        ids.train.len(),
        ids.valid.as_ref().map_or(0, |valid| valid.len()),
    )
}
