//! The model card: `README.md` in a model folder.

use std::fmt::Write;

use longhand_tasks::TaskSettings;

use crate::objective::PretrainingObjective;
use crate::recipe::Recipe;
use crate::training::{Forgetting, Results, Training};

/// The card's file name.
pub const CARD_FILE: &str = "README.md";

/// The card of a trained model, in Markdown with the hub's front matter.
pub(crate) fn card(name: &str, training: &Training) -> String {
    let recipe = &training.recipe;
    let mut card = String::new();
    // Writing to a string cannot fail.
    let _ =
        write!(card, "---\nlibrary_name: longhand\npipeline_tag: {}\n---\n\n", pipeline(recipe));
    let _ = write!(card, "# {name}\n\n");
    if !recipe.description.is_empty() {
        let _ = write!(card, "{}\n\n", recipe.description);
    }
    let _ = match &recipe.baseline {
        Some(baseline) => write!(card, "A baseline: {}.\n\n", baseline.name()),
        None => {
            let (model, tokenizer) = (recipe.model_name(), recipe.tokenizer.kind);
            write!(card, "Model: {model}. Tokeniser: {tokenizer}.\n\n")
        }
    };
    if let Some(count) = recipe.members.filter(|count| count.get() > 1) {
        let _ = match recipe.member {
            None => write!(card, "{count} networks of different seeds answer together.\n\n"),
            Some(member) => {
                write!(card, "Network {member} of {count} that answer together.\n\n")
            }
        };
    }
    if let Some(beside) = &recipe.ensemble {
        let _ = write!(card, "Beside it answers a baseline: {}.\n\n", beside.name());
    }
    if let Some(results) = &training.results {
        write_results(&mut card, results, recipe);
    }
    write_data(&mut card, training);
    let _ = write!(card, "\n## Recipe\n\n```toml\n{}```\n\n", shown(recipe));
    let _ = write!(card, "## Use\n\n    longhand {}\n", usage(recipe));
    card
}

/// The hub's name of what the model does.
fn pipeline(recipe: &Recipe) -> &'static str {
    match (&recipe.task, recipe.objective) {
        (Some(TaskSettings::Tag(_)), _) => "token-classification",
        (Some(TaskSettings::Span(_)), _) => "question-answering",
        (Some(_), _) => "text-classification",
        (None, PretrainingObjective::Causal) => "text-generation",
        (None, PretrainingObjective::Masked | PretrainingObjective::MaskedNext) => "fill-mask",
        (None, PretrainingObjective::Bicausal) => "feature-extraction",
    }
}

/// The command that a person tries first.
fn usage(recipe: &Recipe) -> &'static str {
    match (&recipe.task, recipe.objective) {
        (Some(TaskSettings::Tag(_)), _) => "predict DIR < columns.conll",
        (Some(TaskSettings::Span(_)), _) => "predict DIR < questions.json",
        (Some(_), _) => "predict DIR < lines",
        (None, PretrainingObjective::Causal) => "generate DIR --prompt \"…\"",
        (None, _) => "finetune DIR --task classify --data train.tsv --out classifier",
    }
}

/// Parameters, steps, and every metric of both parts. The loss of a task is an example's.
fn write_results(card: &mut String, results: &Results, recipe: &Recipe) {
    let of_task = recipe.task.is_some();
    let Results { parameters, steps, tokens, seconds, .. } = results;
    let _ = write!(
        card,
        "## Results\n\n{parameters} parameters; {steps} steps over {tokens} tokens in {seconds:.0} \
         seconds.\n\n| part | metric | value |\n|---|---|---|\n"
    );
    for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
        let Some(score) = score else { continue };
        let per = if of_task { "example" } else { "token" };
        if recipe.has_loss() {
            let _ = writeln!(card, "| {part} | loss (nats per {per}) | {:.4} |", score.loss);
        }
        if !of_task {
            let _ = writeln!(card, "| {part} | perplexity | {:.3} |", score.loss.exp());
        }
        for (metric, value) in &score.metrics {
            let _ = writeln!(card, "| {part} | {metric} | {value:.4} |");
        }
    }
    for (number, member) in (1..).zip(&results.members) {
        for (part, score) in [("validation", &member.valid), ("test", &member.test)] {
            for (metric, value) in score.iter().flat_map(|score| &score.metrics) {
                let _ =
                    writeln!(card, "| {part}, network {number} alone | {metric} | {value:.4} |");
            }
        }
    }
    if let Some(Forgetting { before, after }) = results.forgetting {
        let _ = writeln!(card, "| old text | loss before | {before:.4} |");
        let _ = writeln!(card, "| old text | loss after | {after:.4} |");
    }
    card.push('\n');
}

/// The sizes and hashes of the data, and of the base model.
fn write_data(card: &mut String, training: &Training) {
    let Training { recipe, data, .. } = training;
    card.push_str("## Data\n\n| part | tokens | bytes | BLAKE3 of the ids |\n|---|---|---|---|\n");
    for (part, facts) in [("train", Some(&data.train)), ("validation", data.valid.as_ref())] {
        let Some(facts) = facts else { continue };
        let (tokens, bytes, hash) = (facts.tokens, facts.bytes, &facts.blake3);
        let _ = writeln!(card, "| {part} | {tokens} | {bytes} | `{hash}` |");
    }
    card.push('\n');
    if recipe.data.train.is_empty() {
        let (seed, bytes) = (recipe.data.sample_seed, recipe.data.sample_bytes);
        let _ = write!(card, "The built-in sample, seed {seed}, at least {bytes} bytes.\n\n");
    }
    if let Some(base) = &recipe.model.base {
        let _ = write!(card, "Begun with the model of BLAKE3 `{}`.\n\n", base.hash);
    }
    for (path, hash) in &data.sha256 {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(card, "- `{name}`, SHA-256 `{hash}`");
    }
}

/// The recipe in TOML, with the names of files alone: whoever reads the card has other folders.
fn shown(recipe: &Recipe) -> String {
    let mut shown = recipe.clone();
    let lists = [&mut shown.data.train, &mut shown.data.valid, &mut shown.data.test];
    let further = shown.pretraining.iter_mut().flat_map(|pretraining| &mut pretraining.text);
    let old = shown.rehearsal.iter_mut();
    let old = old.flat_map(|it| it.text.iter_mut().chain(&mut it.forgetting));
    for path in lists.into_iter().flatten().chain(further).chain(old) {
        *path = path.file_name().unwrap_or_default().into();
    }
    if let Some(base) = &mut shown.model.base {
        base.path = base.path.file_name().unwrap_or_default().into();
    }
    shown.data.sha256.clear();
    toml::to_string(&shown).unwrap_or_default()
}
