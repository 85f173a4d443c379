//! A classifier from a recipe: tables → tokeniser → model → training → test.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, bail};
use longhand::recipe::{self, Recipe, TokenizerSettings};
use longhand_engine::engine::model_hash;
use longhand_model::Model;
use longhand_tasks::classify::{Classification as Objective, Data, Examples, Settings, Tables};
use longhand_tasks::{TASK_FILE, TaskFile, start};
use longhand_text::Tokenizer;
use longhand_text::batch::LabelledIds;
use longhand_train::End;

use crate::error::Usage;
use crate::output::{self, Existing};
use crate::run::{Ended, Run, Test, tell_end};
use crate::talk::say;
use crate::training::{DataFacts, LabelCounts, PartFacts, Training};

/// A run that ends with a classifier.
pub(crate) struct Classification {
    /// What to run, with every path as it is to be opened.
    pub(crate) recipe: Recipe,
    /// Its task.
    pub(crate) task: Settings,
}

impl Classification {
    /// Runs it into a folder.
    pub(crate) fn run(self, out: &Path, existing: Existing, json: bool) -> Result<()> {
        let Self { mut recipe, task } = self;
        let settings = recipe.training.clone();
        if recipe.data.train.is_empty() {
            bail!("there are no examples to learn from: name a table of them");
        }
        let examples = Examples::read(&tables(&recipe), &task, settings.seed)?;
        let trained = read_base(&mut recipe)?;
        keep_base(&recipe, out)?;
        let begun = output::prepare(out, existing)?;
        let tokenizer = match &trained {
            _ if begun => Tokenizer::of_folder(out)?,
            Some((_, tokenizer)) => tokenizer.clone(),
            None => train_tokenizer(&recipe, &examples)?,
        };
        let data = examples.encode(&tokenizer, task.longest)?;
        let config = recipe.model.config(tokenizer.vocab_size())?;
        let labels = &examples.labels;
        let config = start::classifier(config, labels.len(), task.pooling);
        let model = match &trained {
            Some((trained, _)) => {
                let (model, drawn) = start::from_trained(config, trained, settings.seed)?;
                tell_drawn(&model, &drawn)?;
                model
            }
            None => start::fresh(config, &tokenizer, settings.seed)?,
        };
        let introduction =
            introduction(&data, labels.len(), tokenizer.vocab_size(), &model, task.longest);
        let facts = facts(&recipe, &examples, &data)?;
        let training = Training::new(recipe, facts);
        let Data { train, valid, test, .. } = data;
        let objective = Objective::new(&settings, &tokenizer, labels.len(), train, valid)?;
        let cpu = settings.cpu();
        let file = TaskFile::Classify { labels: labels.clone(), longest: task.longest };
        let files = vec![(TASK_FILE, file.to_json())];
        let write_sample = None;
        let tokenizer = &tokenizer;
        let run = Run { training, tokenizer, files, introduction, write_sample, out, begun, json };
        let evaluate = |model: &Model| {
            if test.is_empty() {
                return Ok(None);
            }
            let result = longhand_tasks::classify::evaluate(model, tokenizer, &test, &cpu)?;
            let score = result.score();
            let counts = result.confusion;
            let labels = Some(LabelCounts { labels: labels.names().to_vec(), counts });
            Ok(Some(Test { score, labels }))
        };
        let Ended { training, end, .. } = run.train(model, objective, &cpu, evaluate)?;
        if !json {
            tell_person(&training, end, out);
        }
        Ok(())
    }
}

/// Refuses another tokeniser for a model that was trained with its own.
pub(crate) fn keep_tokenizer(recipe: &Recipe, another: bool) -> Result<(), Usage> {
    match &recipe.model.base {
        Some(base) if another => Err(Usage(format!(
            "the run begins with {}, whose tokeniser it keeps: leave out --tokenizer and --vocab",
            base.path.display()
        ))),
        _ => Ok(()),
    }
}

/// Reads the model that the recipe begins with, and its tokeniser, and writes down in the recipe
/// what they are.
fn read_base(recipe: &mut Recipe) -> Result<Option<(Model, Tokenizer)>> {
    let Some(base) = &mut recipe.model.base else { return Ok(None) };
    let tokenizer = Tokenizer::of_folder(&base.path)?;
    let model = Model::load(&base.path)?;
    let named = || base.path.display().to_string();
    model.check_trainable().with_context(named)?;
    model.check_vocabulary(tokenizer.vocab_size()).with_context(named)?;
    let hash = model_hash(&model);
    if !base.hash.is_empty() && base.hash != hash {
        bail!(
            "{} is not the model that the recipe begins with: its hash is {hash}, not {}",
            base.path.display(),
            base.hash
        );
    }
    base.hash = hash;
    recipe.tokenizer = TokenizerSettings { kind: tokenizer.kind(), vocabulary: None };
    if recipe.model.config.is_none() {
        let mut config: serde_json::Map<_, _> = serde_json::from_str(&model.config().to_json())?;
        config.remove("vocab_size");
        recipe.model.config = Some(config);
    }
    Ok(Some((model, tokenizer)))
}

/// The model to begin with stays: the run would clear its folder, and could not be resumed.
fn keep_base(recipe: &Recipe, out: &Path) -> Result<()> {
    let Some(base) = &recipe.model.base else { return Ok(()) };
    if output::is_same(out, &base.path) {
        bail!("--out is the folder of the model to begin with: name another one, so that it stays");
    }
    Ok(())
}

/// Says which weights the model to begin with did not have, besides the head's.
fn tell_drawn(model: &Model, drawn: &[String]) -> Result<()> {
    if drawn.len() == model.weights.iter().count() {
        bail!("the model to begin with has no weight of the shapes that this one needs");
    }
    let drawn: Vec<&str> =
        drawn.iter().map(String::as_str).filter(|name| !name.starts_with("head.")).collect();
    if let Some(first) = drawn.first() {
        say!("{} weights are not the trained model's but drawn at random: {first} …", drawn.len());
    }
    Ok(())
}

fn train_tokenizer(recipe: &Recipe, examples: &Examples) -> Result<Tokenizer> {
    let wanted = recipe.tokenizer;
    // Each text is a line of its own, so that no token reaches from one into the next.
    let texts = examples.texts().map(|text| Ok(format!("{text}\n")));
    Ok(Tokenizer::train(wanted.kind, wanted.vocabulary, texts, &mut |_| {})?)
}

fn tables(recipe: &Recipe) -> Tables {
    let data = &recipe.data;
    Tables {
        train: data.train.clone(),
        valid: data.valid.clone(),
        test: data.test.clone(),
        valid_fraction: data.valid_fraction,
        text_column: data.text_column.clone(),
        format: data.format,
        lossy: data.lossy,
    }
}

fn facts(recipe: &Recipe, examples: &Examples, data: &Data) -> Result<DataFacts> {
    let part = |ids: &[LabelledIds], bytes: usize| {
        let mut hasher = blake3::Hasher::new();
        for example in ids {
            hasher.update(&(example.ids.len() as u64).to_le_bytes());
            for id in &example.ids {
                hasher.update(&id.to_le_bytes());
            }
            hasher.update(&example.label.to_le_bytes());
        }
        let tokens = ids.iter().map(|example| example.ids.len() as u64).sum();
        PartFacts { tokens, bytes: bytes as u64, blake3: hasher.finalize().to_hex().to_string() }
    };
    let train = part(&data.train, examples.texts().map(str::len).sum());
    let held_out = examples.held_out_texts().map(str::len).sum();
    let valid = (!data.valid.is_empty()).then(|| part(&data.valid, held_out));
    let mut facts = DataFacts { train, valid, ..DataFacts::default() };
    let files = [&recipe.data.train, &recipe.data.valid, &recipe.data.test];
    // A pipe has been read, and its hash cannot be had again.
    for file in files.into_iter().flatten().filter(|file| file.is_file()) {
        facts.sha256.insert(file.clone(), recipe::sha256(file)?);
    }
    Ok(facts)
}

fn introduction(
    data: &Data,
    labels: usize,
    tokens: usize,
    model: &Model,
    longest: NonZeroUsize,
) -> String {
    let Data { train, valid, test, cut } = data;
    let (train, valid, test) = (train.len(), valid.len(), test.len());
    let millions = model.weights.count() as f64 / 1e6;
    let mut text = format!(
        "classifying {train} examples, {valid} held out, {test} to test: {labels} labels, {tokens} \
         tokens, {millions:.2} million parameters"
    );
    if *cut > 0 {
        text +=
            &format!("\nof {cut} texts longer than {longest} tokens the first {longest} are read");
    }
    text
}

fn tell_person(training: &Training, end: End, out: &Path) {
    let Some(results) = &training.results else { return };
    if let Some(LabelCounts { labels, counts }) = &results.labels {
        say!("{}", counts.table(labels));
    }
    for (part, score) in [("validation", &results.valid), ("test", &results.test)] {
        let Some(score) = score else { continue };
        let metric = |name: &str| 100.0 * score.metrics.get(name).copied().unwrap_or_default();
        let (accuracy, f1) = (metric("accuracy"), metric("macro_f1"));
        let loss = score.loss;
        say!("{part} loss {loss:.4}, accuracy {accuracy:.2} %, macro-F1 {f1:.2} %");
    }
    tell_end(training, end);
    let dir = out.display();
    say!("the model lies in {dir}: try");
    say!("  longhand predict {dir} < lines.txt");
}
