use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_engine::datastore::Mixture;
use longhand_engine::{Datastore, SamplerSettings};
use longhand_kernel::Cpu;
use longhand_model::{Config, Preset};
use longhand_text::{Tokenizer, TokenizerKind};
use tempfile::TempDir;

use super::*;
use crate::start;
use crate::task::At;
use crate::translate::Translation;
use crate::writing::{Example, Form, Settings, Writing};

type Translate = Writing<Translation>;

/// Sources of one word, each with a target.
fn pairs() -> Vec<Example> {
    let pair = |(source, target): &(&str, &str)| Example {
        source: vec![(*source).into()],
        targets: vec![(*target).to_owned()],
        ..Example::default()
    };
    [("Hund", "dog tree"), ("Katze", "cat sun"), ("Haus", "house dog"), ("Baum", "tree")]
        .iter()
        .map(pair)
        .collect()
}

/// A model that was trained on nothing.
fn predictor(form: Form, seed: u64) -> Predictor<Translate> {
    let examples = pairs();
    let settings = Settings { form, ..Settings::default() };
    let task = Translate::learn(&settings, &examples, "it").unwrap();
    let texts = examples.iter().flat_map(|example| task.running_texts(example));
    let texts = texts.map(|text| Ok(text.into_owned()));
    let tokenizer = Tokenizer::train(TokenizerKind::Word, None, texts, &mut |_| {}).unwrap();
    let tokenizer = tokenizer.with_special_tokens(&task.special_tokens()).unwrap();
    let preset = match form {
        Form::Stream => Preset::LonghandNano,
        Form::EncoderDecoder => Preset::EncoderDecoderNano,
    };
    let config = preset.config(tokenizer.vocab_size());
    let head = task.head(&settings, config.head());
    let config = task.body(start::with_head(config, head), &tokenizer);
    let config = Config { dropout: Default::default(), ..config };
    let model = start::fresh(config, &tokenizer, seed).unwrap();
    Predictor::new(task, model, tokenizer, Arc::new(Cpu::new(2)))
}

fn watched<R>(read: impl FnOnce(&mut Watch<'_>) -> R) -> R {
    let never = AtomicBool::new(false);
    let mut unheard = |_| Ok(());
    read(&mut Watch::new(&never, &mut unheard))
}

/// A search of a datastore of the pairs, of which the nearest entries alone count.
fn neighbours(predictor: &Predictor<Translate>, folder: &Path, lambda: f64) -> Neighbours {
    let owner = predictor.owner().unwrap();
    let width = predictor.hidden_width().unwrap();
    let mut writer = DatastoreWriter::new(folder, true, owner.clone(), width).unwrap();
    let examples = predictor.measured(pairs()).unwrap();
    watched(|watch| predictor.remember(&examples, &mut writer, watch)).unwrap();
    writer.finish(&Cpu::new(2), &mut |_, _| true).unwrap().publish().unwrap();
    let store = Arc::new(Datastore::open(folder, &owner).unwrap());
    // The words and the end of each target.
    assert_eq!(store.header().entries, 11);
    let mixture = Mixture { lambda, temperature: 1e-2, neighbours: 4, probes: 1 };
    Neighbours::with_mixture(store, mixture).unwrap()
}

#[test]
fn the_targets_of_a_datastore_are_written_and_known() {
    targets_are_written_and_known(Form::EncoderDecoder);
}

/// In one stream the tokens of the source come before those of the target, and none of them is an entry.
#[test]
fn the_targets_of_a_stream_are_written_and_known() {
    targets_are_written_and_known(Form::Stream);
}

fn targets_are_written_and_known(form: Form) {
    let folder = TempDir::new().unwrap();
    let mut predictor = predictor(form, 1);
    let beside = neighbours(&predictor, &folder.path().join("store"), 0.999);
    predictor.consult(beside).unwrap();
    let examples = predictor.measured(pairs()).unwrap();
    let cpu = Arc::new(Cpu::new(2));
    let found = watched(|watch| predictor.evaluate(&examples, &cpu, watch)).unwrap();
    assert!(found.loss < 0.1 && found.loss_alone.unwrap() > 1.0, "{}", found.loss);
    let losses = found.token_losses.as_ref().unwrap();
    assert_eq!(losses.examples.iter().map(|own| own.1).collect::<Vec<_>>(), [3, 3, 3, 2]);
    let sum: f64 = losses.examples.iter().map(|own| own.0).sum();
    assert!((sum / 11.0 - found.loss).abs() < 1e-6, "{sum}");
    assert!(found.score().metrics["chrf"] > 99.9, "{:?}", found.score().metrics);

    let at = At { name: "it", example: 1 };
    let lines = ["Hund", "Katze", "Haus", "Baum"];
    let asked: Vec<Example> =
        lines.iter().flat_map(|line| predictor.task.parse(line, at).unwrap()).collect();
    for sampler in [None, Some(SamplerSettings { temperature: 0.5, ..Default::default() })] {
        predictor.task.search.sampler = sampler;
        let together = predictor.predict(&asked, at).unwrap();
        for ((example, pair), answers) in asked.iter().zip(pairs()).zip(&together) {
            assert_eq!(predictor.task.plain(example, answers), pair.targets[0]);
            let alone = predictor.predict(std::slice::from_ref(example), at).unwrap();
            assert_eq!(predictor.task.plain(example, &alone[0]), pair.targets[0]);
        }
    }
}

#[test]
fn a_mixture_is_found_on_pairs_and_another_model_refuses_the_datastore() {
    let folder = TempDir::new().unwrap();
    let [own, mut other] = [1, 2].map(|seed| predictor(Form::EncoderDecoder, seed));
    let mut beside = neighbours(&own, &folder.path().join("store"), 0.1);
    let mut tuner = Tuner::new(&beside);
    let examples = own.measured(pairs()).unwrap();
    watched(|watch| own.try_mixtures(&examples, &mut beside, &mut tuner, watch)).unwrap();
    let tuned = tuner.best(beside.mixture());
    assert_eq!(tuned.tokens, 11);
    assert!(tuned.mixture.lambda > 0.9 && tuned.loss < 0.1 && tuned.alone > 1.0, "{tuned:?}");
    let error = other.consult(beside).unwrap_err().to_string();
    assert!(error.contains("belongs to another model"), "{error}");
}
