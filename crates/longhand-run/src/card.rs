//! The model card: `README.md` in a model folder.

use std::fmt::Write;

use crate::objective::PretrainingObjective;
use crate::training::Training;

/// The card's file name.
pub const CARD_FILE: &str = "README.md";

/// The card of a trained model, in Markdown with the hub's front matter.
pub(crate) fn card(name: &str, training: &Training) -> String {
    let recipe = &training.recipe;
    let mut card = String::new();
    let mut line = |text: std::fmt::Arguments| {
        // Writing to a string cannot fail.
        let _ = writeln!(card, "{text}");
    };
    let classifies = recipe.task.is_some();
    let continues = recipe.objective == PretrainingObjective::Causal;
    let pipeline = match (classifies, continues) {
        (true, _) => "text-classification",
        (false, true) => "text-generation",
        (false, false) => "feature-extraction",
    };
    line(format_args!("---\nlibrary_name: longhand\npipeline_tag: {pipeline}\n---\n"));
    line(format_args!("# {name}\n"));
    if !recipe.description.is_empty() {
        line(format_args!("{}\n", recipe.description));
    }
    match &recipe.baseline {
        Some(baseline) => line(format_args!("A baseline: {}.\n", baseline.name())),
        None => line(format_args!(
            "Model: {}. Tokeniser: {}.\n",
            recipe.model.name(),
            recipe.tokenizer.kind
        )),
    }
    if let Some(results) = &training.results {
        line(format_args!("## Results\n"));
        line(format_args!(
            "{} parameters; {} steps over {} tokens in {:.0} seconds.\n",
            results.parameters, results.steps, results.tokens, results.seconds
        ));
        line(format_args!("| part | metric | value |\n|---|---|---|"));
        for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
            let Some(score) = score else { continue };
            let per = if classifies { "example" } else { "token" };
            line(format_args!("| {part} | loss (nats per {per}) | {:.4} |", score.loss));
            if !classifies {
                line(format_args!("| {part} | perplexity | {:.3} |", score.loss.exp()));
            }
            for (metric, value) in &score.metrics {
                line(format_args!("| {part} | {metric} | {value:.4} |"));
            }
        }
        line(format_args!(""));
    }
    line(format_args!("## Data\n"));
    let data = &training.data;
    line(format_args!("| part | tokens | bytes | BLAKE3 of the ids |\n|---|---|---|---|"));
    for (part, facts) in [("train", Some(&data.train)), ("validation", data.valid.as_ref())] {
        let Some(facts) = facts else { continue };
        let (tokens, bytes, hash) = (facts.tokens, facts.bytes, &facts.blake3);
        line(format_args!("| {part} | {tokens} | {bytes} | `{hash}` |"));
    }
    line(format_args!(""));
    if recipe.data.train.is_empty() {
        let (seed, bytes) = (recipe.data.sample_seed, recipe.data.sample_bytes);
        line(format_args!("The built-in sample, seed {seed}, at least {bytes} bytes.\n"));
    }
    if let Some(base) = &recipe.model.base {
        line(format_args!("Begun with the model of BLAKE3 `{}`.\n", base.hash));
    }
    for (path, hash) in &data.sha256 {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        line(format_args!("- `{name}`, SHA-256 `{hash}`"));
    }
    line(format_args!("\n## Recipe\n"));
    let mut shown = recipe.clone();
    // Whoever reads the card has other folders.
    let lists = [&mut shown.data.train, &mut shown.data.valid, &mut shown.data.test];
    let further = shown.pretraining.iter_mut().flat_map(|pretraining| &mut pretraining.text);
    for path in lists.into_iter().flatten().chain(further) {
        *path = path.file_name().unwrap_or_default().into();
    }
    if let Some(base) = &mut shown.model.base {
        base.path = base.path.file_name().unwrap_or_default().into();
    }
    shown.data.sha256.clear();
    let toml = toml::to_string(&shown).unwrap_or_default();
    line(format_args!("```toml\n{}```\n", toml));
    let usage = match (classifies, continues) {
        (true, _) => "predict DIR < lines",
        (false, true) => "generate DIR --prompt \"…\"",
        (false, false) => "finetune DIR --task classify --data train.tsv --out classifier",
    };
    line(format_args!("## Use\n\n    longhand {usage}"));
    card
}
