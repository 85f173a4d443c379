//! Whole runs on a small model: the anchor of losses, resuming, and what must stop a run.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longhand_model::adapter::Base;
use longhand_model::{
    Adapter, Config, Cpu, LowRankForm, LowRankSettings, Mode, Model, Parameter, Precision,
    Sequence, State, Tape,
};
use longhand_text::sample::{self, Language};
use longhand_text::{Corpus, Tokenizer, TokenizerKind, Tokens};

use crate::average::AverageKind;
use crate::evaluate::OnTape;
use crate::log::LogError;
use crate::ranks::{RankBudget, RankSettings};
use crate::schedule::{Constant, Plateau};
use crate::settings::{
    AdamWSettings, MuonSettings, NtAsgdSettings, OptimizerSettings, SgdSettings,
};
use crate::*;

const CONFIG: &str = r#"{
    "model_type": "longhand", "format": 2, "vocab_size": 0, "width": 32,
    "blocks": [{
        "working": {"type": "attention", "heads": 2, "kv_heads": 2, "head_width": 16, "window": 24},
        "long": {"type": "lstm", "hidden": 32},
        "feed_forward": 64
    }],
    "heads": [{"type": "language-model"}],
    "dropout": {"block": 0.1}
}"#;

/// The sample's first English stories in characters: training and validation parts.
fn text() -> (Tokenizer, Arc<Tokens>, Arc<Tokens>) {
    let stories = sample::stories_in(Language::English, 1, 40);
    let text: Vec<String> = stories.into_iter().map(|story| story.text).collect();
    let corpus = Corpus::from_text("sample", text.join("\n"));
    let texts = corpus.texts();
    let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
    let (train, valid) = corpus.split_valid(0.1).unwrap();
    let encode = |corpus| Arc::new(Tokens::encode(corpus, &tokenizer, &mut |_| {}).unwrap());
    let parts = (encode(&train), encode(&valid));
    (tokenizer, parts.0, parts.1)
}

fn model(vocab_size: usize) -> Model {
    let mut config: Config = serde_json::from_str(CONFIG).unwrap();
    config.vocab_size = vocab_size;
    Model::new(config, 7).unwrap()
}

fn settings(steps: u64) -> Settings {
    Settings {
        batch: 8,
        chunk: 32,
        budget: Budget::Steps(steps),
        warmup: 4,
        evaluations: 4,
        checkpoint_every: Some(5),
        optimizer: OptimizerSettings::AdamW(AdamWSettings::default()),
        reset: 0.0,
        average: 0.0,
        precision: PrecisionSetting::F32,
        ..Settings::default()
    }
}

fn trainer(settings: &Settings, folder: Option<&Path>) -> Trainer<LanguageModelling> {
    let (_, train, valid) = text();
    let model = model(train.vocabulary());
    let objective = LanguageModelling::new(settings, train, Some(valid)).unwrap();
    let cpu = Arc::new(Cpu::with_precision(2, settings.precision.resolve()));
    let trainer = Trainer::new(settings.clone(), model, objective, cpu).unwrap();
    match folder {
        Some(folder) => trainer.with_checkpoints(Checkpoints::new(folder, settings.keep)),
        None => trainer,
    }
}

/// Watches the losses, and asks to stop after a step.
struct Listener<'a> {
    losses: Vec<f64>,
    evaluations: Vec<(u64, f64)>,
    stop_after: u64,
    stop: &'a AtomicBool,
}

impl Progress for Listener<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        match event {
            Event::Step(report) => {
                self.losses.push(report.loss);
                if report.step == self.stop_after {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            Event::Evaluated { report, .. } => {
                self.evaluations.push((report.step, report.score.loss));
            }
            _ => {}
        }
        Ok(())
    }
}

fn run(trainer: Trainer<LanguageModelling>, stop_after: u64) -> (Outcome, Vec<f64>) {
    let stop = AtomicBool::new(false);
    let mut watch =
        Listener { losses: Vec::new(), evaluations: Vec::new(), stop_after, stop: &stop };
    let outcome = trainer.run(&mut watch, &stop).unwrap();
    (outcome, watch.losses)
}

/// The likeliest continuation of a text.
fn greedy(model: &Model, tokenizer: &Tokenizer, prompt: &str, count: usize) -> String {
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut state = model.state(1);
    let mut logits = Vec::new();
    let mut read = |ids: &[u32]| {
        let sequence = Sequence::new(ids.len(), 1);
        let mut pass = tape.pass(Mode::Read);
        let x = model.forward(&mut pass, ids, &sequence, &mut state).unwrap();
        model.logits(&mut pass, x, ids.len() - 1..ids.len(), &mut logits);
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        best.unwrap() as u32
    };
    let mut next = read(&tokenizer.encode(prompt).unwrap());
    let mut ids = vec![next];
    while ids.len() < count {
        next = read(&[next]);
        ids.push(next);
    }
    tokenizer.decode(&ids).unwrap()
}

/// Ten losses and a text that change with anything that changes training: the data's order,
/// the initial weights, a gradient, the optimiser, the schedule, dropout.
#[test]
fn ten_losses_and_a_text_stay_as_they_are() {
    let mut settings = settings(200);
    settings.optimizer.set_learning_rate(5e-3);
    let (outcome, losses) = run(trainer(&settings, None), u64::MAX);
    // Every instruction set and number of threads gives these to seven digits.
    let expected = [
        4.012539, 2.924743, 2.587224, 2.434463, 2.332536, 2.100192, 1.968826, 2.023324, 1.950042,
        1.722302,
    ];
    let (tokenizer, ..) = text();
    let written = greedy(&outcome.model, &tokenizer, "Now ", 24);
    let got: Vec<f64> = losses.into_iter().step_by(20).collect();
    let same = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-4);
    assert!(same && written == "has has the the was the ", "{got:.6?} {written:?}");
}

/// A quarter of the characters beside a batch's own: the loss that training sees is lower, and the one
/// over all characters, which evaluations measure, falls as without drawing.
#[test]
fn a_sampled_softmax_learns_what_the_whole_one_learns() {
    let of = |sampled_softmax| {
        let mut settings = Settings { batch: 2, chunk: 8, sampled_softmax, ..settings(400) };
        settings.optimizer.set_learning_rate(5e-3);
        let (outcome, losses) = run(trainer(&settings, None), u64::MAX);
        let (evaluated, last) = (outcome.best.unwrap().score.loss, &losses[350..]);
        (evaluated, last.iter().sum::<f64>() / last.len() as f64)
    };
    let (whole, seen) = of(0);
    let (sampled, seen_sampled) = of(12);
    assert!(sampled < whole + 0.1, "{sampled} beside {whole}");
    assert!(seen_sampled < seen - 0.1, "{seen_sampled} beside {seen}");
    let all = of(10_000);
    assert_eq!(all, (whole, seen), "as many as there are");
}

#[test]
fn a_run_stopped_at_any_step_and_resumed_ends_in_the_same_model() {
    let variants = [
        Settings { average: 0.9, accumulation: 2, sampled_softmax: 8, ..settings(23) },
        Settings {
            optimizer: OptimizerSettings::Muon(MuonSettings::default()),
            average: 0.999,
            reset: 0.05,
            ..settings(17)
        },
        Settings {
            optimizer: OptimizerSettings::Sgd(SgdSettings::default()),
            schedule: schedule::Schedule::Plateau(Plateau { patience: 1, ..Plateau::default() }),
            evaluate_every: Some(3),
            ..settings(17)
        },
        Settings {
            optimizer: OptimizerSettings::NtAsgd(NtAsgdSettings {
                learning_rate: 1.0,
                interval: 1,
                ..NtAsgdSettings::default()
            }),
            schedule: schedule::Schedule::Constant(Constant {}),
            evaluate_every: Some(2),
            ..settings(17)
        },
    ];
    resume_at_every_place(variants);
}

/// Frozen, slower, undecayed and unfrozen parameters, under every optimiser.
#[test]
fn a_run_with_groups_resumed_ends_in_the_same_model() {
    let group = |pattern: &str| GroupSettings {
        parameters: vec![pattern.into()],
        ..GroupSettings::default()
    };
    let groups = vec![
        GroupSettings::frozen("embedding.*"),
        GroupSettings { rate: 0.3, decay: 0.0, ..group("blocks.0.attention.*") },
        GroupSettings { from: 0.4, ..group("blocks.0.lstm.*") },
        GroupSettings { from: 0.7, rate: 0.5, ..group("blocks.0.feed_forward.*") },
    ];
    let of = |optimizer| Settings { optimizer, groups: groups.clone(), ..settings(17) };
    let adamw = OptimizerSettings::AdamW(Default::default());
    resume_at_every_place([
        Settings { average: 0.9, ..of(adamw) },
        of(OptimizerSettings::Muon(MuonSettings::default())),
        of(OptimizerSettings::Sgd(SgdSettings::default())),
    ]);
}

/// A run that trains changes of low rank beside a frozen base.
fn adapter_trainer(settings: &Settings, folder: Option<&Path>) -> Trainer<LanguageModelling> {
    let (_, train, valid) = text();
    let mut model = model(train.vocabulary());
    let base = Base { name: "base".into(), hash: model.hash(), own: Vec::new() };
    let (rank, form) = match settings.ranks {
        Some(budget) => (budget.settings.initial(budget.mean), LowRankForm::Singular),
        None => (4, LowRankForm::Product),
    };
    let changes = LowRankSettings { rank, form, alpha: 8.0, dropout: 0.1, seed: 2 };
    model.add_low_rank(changes, |_| true).unwrap();
    let objective = LanguageModelling::new(settings, train, Some(valid)).unwrap();
    let cpu = Arc::new(Cpu::with_precision(2, settings.precision.resolve()));
    let trainer = Trainer::new(settings.clone(), model, objective, cpu).unwrap();
    let checkpoints = |folder| Checkpoints::new(folder, settings.keep).with_base(base);
    match folder {
        Some(folder) => trainer.with_checkpoints(checkpoints(folder)),
        None => trainer,
    }
}

fn only_changes() -> Vec<GroupSettings> {
    let parameters = vec!["*.lora_a".into(), "*.lora_b".into()];
    vec![GroupSettings::frozen("*"), GroupSettings { parameters, ..GroupSettings::default() }]
}

#[test]
fn a_run_that_trains_an_adapter_resumed_ends_in_the_same_model() {
    let of = |optimizer| Settings { optimizer, groups: only_changes(), ..settings(17) };
    resume_with(
        adapter_trainer,
        [
            Settings {
                average: 0.9,
                reset: 0.05,
                ..of(OptimizerSettings::AdamW(Default::default()))
            },
            of(OptimizerSettings::Muon(MuonSettings::default())),
        ],
    );
}

/// A run that chooses its ranks: what was important is part of a checkpoint, and the model that is
/// left is one of the final ranks, never an earlier one.
#[test]
fn a_run_that_chooses_ranks_resumed_ends_in_the_same_model() {
    let mut groups = only_changes();
    groups[1].parameters.push("*.lora_e".into());
    let settings = |every, average| {
        let settings = RankSettings { every, begin: 0.2, end: 0.8, ..RankSettings::default() };
        let ranks = Some(RankBudget { mean: 2, settings });
        Settings { ranks, average, groups: groups.clone(), ..self::settings(17) }
    };
    resume_with(adapter_trainer, [settings(1, 0.9), settings(3, 0.0)]);
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(1, 0.9);
    let (outcome, _) = run(adapter_trainer(&settings, Some(folder.path())), u64::MAX);
    let (best, weights) = (outcome.best.unwrap(), &outcome.model.weights);
    assert!(best.step >= 14, "step {}", best.step);
    let changes = weights.singular_changes();
    let ranks: Vec<usize> = changes.iter().map(|change| weights.get(change.e).data.len()).collect();
    let changed = model(outcome.model.config().vocab_size);
    let changed = changed.weights.iter().filter(|p| p.hidden_matrices() > 0).count();
    assert_eq!(ranks.iter().sum::<usize>(), 2 * changed);
    assert!(ranks.iter().any(|&rank| rank > 2), "{ranks:?}");
    let left = weights.iter().filter(|p| p.name.contains(".lora_")).map(|p| p.data.len());
    assert!(left.sum::<usize>() < outcome.trained);
    // A finished run that is resumed gives the same.
    let mut again = adapter_trainer(&settings, Some(folder.path()));
    assert_eq!(again.resume().unwrap(), Some(17));
    assert_eq!(run(again, u64::MAX).0.model.weights.hash(), weights.hash());
}

#[test]
fn checkpoints_of_an_adapter_hold_no_base_and_name_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { groups: only_changes(), ..settings(5) };
    let (outcome, _) = run(adapter_trainer(&settings, Some(folder.path())), u64::MAX);
    let base = model(outcome.model.config().vocab_size);
    for (mine, own) in outcome.model.weights.iter().zip(base.weights.iter()) {
        assert_eq!((&mine.name, &mine.data[..]), (&own.name, &own.data[..]), "the base is frozen");
    }
    let checkpoint = folder.path().join("step-000000000005");
    assert!(
        !checkpoint.join("model.safetensors").exists() && !checkpoint.join("config.json").exists()
    );
    let adapter = Adapter::load(&checkpoint).unwrap();
    assert_eq!(adapter.apply(&base).unwrap().weights.hash(), outcome.model.weights.hash());
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let path = checkpoint.join(name);
        let good = fs_err::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs_err::write(&path, bad).unwrap();
        let checkpoints = Checkpoints::new(folder.path(), 1);
        let error = checkpoints.latest().err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("damaged"), "{error}");
        fs_err::write(&path, good).unwrap();
    }
    // A whole model's run cannot go on from it.
    let settings = Settings { groups: Vec::new(), ..settings };
    let error = trainer(&settings, Some(folder.path())).resume().unwrap_err();
    assert!(error.to_string().contains("groups"), "{error}");
}

/// Runs that are stopped and resumed have the losses and the weights of undisturbed ones.
fn resume_at_every_place(variants: impl IntoIterator<Item = Settings>) {
    resume_with(trainer, variants);
}

fn resume_with(
    trainer: fn(&Settings, Option<&Path>) -> Trainer<LanguageModelling>,
    variants: impl IntoIterator<Item = Settings>,
) {
    for (variant, settings) in variants.into_iter().enumerate() {
        let (undisturbed, losses) = run(trainer(&settings, None), u64::MAX);
        let hash = undisturbed.model.weights.hash();
        for stop_after in [1, 4, 5, 11, 16] {
            let folder = tempfile::tempdir().unwrap();
            let (stopped, mut seen) = run(trainer(&settings, Some(folder.path())), stop_after);
            assert_eq!(stopped.end, End::Stopped);
            let mut again = trainer(&settings, Some(folder.path()));
            assert_eq!(again.resume().unwrap(), Some(stop_after));
            let (resumed, rest) = run(again, u64::MAX);
            seen.extend(rest);
            assert_eq!(seen, losses, "variant {variant} stopped after {stop_after}");
            assert_eq!(resumed.model.weights.hash(), hash, "variant {variant}, {stop_after}");
            assert_eq!(resumed.best, undisturbed.best);
            assert_eq!(resumed.end, End::Budget);
        }
    }
}

#[test]
fn a_killed_run_goes_on_from_its_last_whole_checkpoint() {
    let settings = settings(20);
    let (undisturbed, _) = run(trainer(&settings, None), u64::MAX);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(trainer(&settings, Some(root)), 13);
    // Step 13 is damaged, step 14 was never finished, and a best one was being removed.
    let names = |prefix: &str| {
        let mut names: Vec<String> = fs_err::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(prefix))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("step-"), ["step-000000000010", "step-000000000013"]);
    let weights = root.join("step-000000000013/model.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&weights, bytes).unwrap();
    for half in [".partial-step-000000000014", ".old-best-000000000001"] {
        fs_err::create_dir(root.join(half)).unwrap();
        fs_err::write(root.join(half).join("model.safetensors"), b"half").unwrap();
    }
    let mut again = trainer(&settings, Some(root));
    assert_eq!(again.resume().unwrap(), Some(10));
    let (resumed, _) = run(again, u64::MAX);
    assert_eq!(resumed.model.weights.hash(), undisturbed.model.weights.hash());
    assert_eq!(names("."), [""; 0]);
    assert_eq!(names("step-"), ["step-000000000015", "step-000000000020"]);
    assert!(names("best-").contains(&"best-000000000020".to_owned()), "{:?}", names("best-"));

    // At the end nothing is left to do, and the model is the same.
    let mut done = trainer(&settings, Some(root));
    assert_eq!(done.resume().unwrap(), Some(20));
    let (done, losses) = run(done, u64::MAX);
    assert!(losses.is_empty());
    assert_eq!(done.model.weights.hash(), undisturbed.model.weights.hash());
}

#[test]
fn bf16_operands_learn_as_f32_ones_do() {
    let of = |precision: Precision| {
        let settings =
            Settings { precision: precision.into(), checkpoint_every: None, ..settings(60) };
        run(trainer(&settings, None), u64::MAX).1
    };
    let [exact, low] = Precision::ALL.map(of);
    assert!(exact[59] < 0.9 * exact[0]);
    for (step, (exact, low)) in exact.iter().zip(&low).enumerate() {
        assert!((low / exact - 1.0).abs() < 0.02, "step {step}: {low} instead of {exact}");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(trainer(&settings(6), Some(folder.path())), u64::MAX);
    let refused = |change: fn(&mut Settings), expected: &str| {
        let mut other = settings(6);
        change(&mut other);
        let error = trainer(&other, Some(folder.path())).resume().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(|s| s.seed = 2, "`seed` = 1, not 2");
    refused(|s| s.clip = 0.5, "`clip` = 1.0, not 0.5");
    refused(|s| s.warmup = 5, "`warmup` = 4, not 5");
    refused(|s| s.groups = vec![GroupSettings::frozen("embedding.*")], "`groups` = [], not [{");
    refused(|s| s.schedule = schedule::Schedule::Constant(Constant {}), "`schedule` = ");
    refused(|s| s.precision = PrecisionSetting::Bf16, "`precision` = \"f32\", not \"bf16\"");
    // What only says when the run ends may change.
    let longer = Settings { patience: Some(7), ..settings(9) };
    assert_eq!(trainer(&longer, Some(folder.path())).resume().unwrap(), Some(6));
    for entry in fs_err::read_dir(folder.path()).unwrap() {
        let trainer = entry.unwrap().path().join("trainer.json");
        if trainer.exists() {
            fs_err::write(trainer, b"{}").unwrap();
        }
    }
    let error = trainer(&longer, Some(folder.path())).resume().unwrap_err().to_string();
    assert!(error.contains("cannot be used"), "{error}");
}

/// A checkpoint of a short run, and its folder.
fn checkpoint() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = run(trainer(&settings(5), Some(folder.path())), u64::MAX);
    let path = Checkpoints::new(folder.path(), 1).path(outcome.steps);
    (folder, path)
}

/// Edited counters made another model, and `"files": {}` switched the check off.
#[test]
fn a_damaged_file_of_a_checkpoint_is_refused_and_named() {
    let (folder, path) = checkpoint();
    let checkpoints = Checkpoints::new(folder.path(), 1);
    let mut number = 0;
    for name in [
        "trainer.json",
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "memory.safetensors",
    ] {
        let bytes = fs_err::read(path.join(name)).unwrap();
        for _ in 0..if name == "trainer.json" { 300 } else { 75 } {
            number += 1;
            let bit = (random::draw([11, number, 0]) % (8 * bytes.len() as u64)) as usize;
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            fs_err::write(path.join(name), &changed).unwrap();
            let error = checkpoints.latest().err().unwrap_or_else(|| panic!("{name}, bit {bit}"));
            assert!(error.to_string().contains(name), "{error}");
        }
        fs_err::write(path.join(name), &bytes).unwrap();
    }
    assert!(checkpoints.latest().unwrap().is_some());
    let mut model = fs_err::read(path.join("model.safetensors")).unwrap();
    *model.last_mut().unwrap() ^= 1;
    fs_err::write(path.join("model.safetensors"), model).unwrap();
    let error = checkpoints.latest().err().unwrap().to_string();
    assert!(error.contains("model.safetensors: the tensor `"), "{error}");
}

#[test]
fn every_file_of_a_checkpoint_has_a_checksum() {
    let (folder, path) = checkpoint();
    let checkpoints = Checkpoints::new(folder.path(), 1);
    let file = path.join("trainer.json");
    let text = fs_err::read_to_string(&file).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let refused = |json: &serde_json::Value| {
        fs_err::write(&file, json.to_string()).unwrap();
        checkpoints.latest().err().map(|error| error.to_string())
    };
    json["step"] = 4.into();
    assert!(refused(&json).unwrap().contains("trainer.json is damaged"));
    json["version"] = 2.into();
    assert!(refused(&json).unwrap().contains("trainer.json is damaged"));
    // As an earlier version of this program wrote it.
    json["step"] = 5.into();
    json.as_object_mut().unwrap().remove("checksum");
    assert_eq!(refused(&json), None);
    for name in ["config.json", "model.safetensors", "optimizer.safetensors", "memory.safetensors"]
    {
        let mut without = json.clone();
        without["files"].as_object_mut().unwrap().remove(name);
        let error = refused(&without).unwrap();
        assert!(error.contains(&format!("no checksum of {name}")), "{error}");
    }
    json["files"] = serde_json::json!({});
    assert!(refused(&json).unwrap().contains("no checksum of config.json"));
    json["version"] = 3.into();
    assert!(refused(&json).is_some());
}

/// One flipped bit of the best weights became the final model.
#[test]
fn damaged_best_weights_do_not_become_the_model() {
    let (folder, _) = checkpoint();
    let best = Checkpoints::new(folder.path(), 1).latest().unwrap().unwrap().trainer.best.unwrap();
    let file = Checkpoints::new(folder.path(), 1).best_path(best.step).join("model.safetensors");
    let mut bytes = fs_err::read(&file).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 8;
    fs_err::write(&file, bytes).unwrap();
    let mut trainer = trainer(&settings(5), Some(folder.path()));
    assert_eq!(trainer.resume().unwrap(), Some(5));
    let error = trainer.run(&mut (), &AtomicBool::new(false)).err().unwrap().to_string();
    assert!(error.contains("model.safetensors: the tensor `"), "{error}");
}

/// How much each parameter's values moved in a run, by name.
fn moves(settings: &Settings) -> Vec<(String, f64)> {
    let before = trainer(settings, None).model().clone();
    let (outcome, _) = run(trainer(settings, None), u64::MAX);
    let moved = |(a, b): (&Parameter, &Parameter)| {
        let squares = a.data.iter().zip(&b.data[..]).map(|(a, b)| f64::from(a - b).powi(2));
        (a.name.clone(), squares.sum::<f64>().sqrt())
    };
    before.weights.iter().zip(outcome.model.weights.iter()).map(moved).collect()
}

#[test]
fn groups_say_which_parameters_move_and_how_far() {
    let plain = Settings {
        optimizer: OptimizerSettings::Sgd(SgdSettings { momentum: 0.0, ..Default::default() }),
        schedule: schedule::Schedule::Constant(Constant {}),
        clip: 0.0,
        warmup: 0,
        ..settings(1)
    };
    let all = moves(&plain);
    let slow = GroupSettings {
        parameters: vec!["blocks.0.lstm.*".into(), "head.*".into()],
        rate: 0.25,
        ..GroupSettings::default()
    };
    let late = GroupSettings {
        parameters: vec!["blocks.0.fusion.*".into()],
        from: 0.5,
        ..GroupSettings::default()
    };
    let groups = vec![GroupSettings::frozen("*norm*"), slow, late];
    let some = moves(&Settings { groups: groups.clone(), ..plain.clone() });
    for ((name, all), (_, some)) in all.iter().zip(&some) {
        let factor = match name {
            name if name.contains("norm") || name.contains("fusion") => 0.0,
            name if name.contains("lstm") || name.contains("head") => 0.25,
            _ => 1.0,
        };
        assert!(*all > 0.0 && (some - factor * all).abs() < 1e-3 * all, "{name}: {some} of {all}");
    }
    // The second of two steps is taken when half of the budget is spent.
    let some = moves(&Settings { groups, budget: Budget::Steps(2), ..plain });
    let fusion = some.iter().find(|(name, _)| name.contains("fusion")).unwrap();
    assert!(fusion.1 > 0.0);
    assert!(some.iter().filter(|(name, _)| name.contains("norm")).all(|(_, moved)| *moved == 0.0));
}

#[test]
fn weight_decay_follows_the_group() {
    let decayed = |decay| {
        let rule = SgdSettings { momentum: 0.0, weight_decay: 0.5, ..Default::default() };
        let parameters = vec!["embedding.*".into()];
        let groups = vec![GroupSettings { parameters, decay, ..Default::default() }];
        let optimizer = OptimizerSettings::Sgd(rule);
        moves(&Settings { optimizer, groups, warmup: 0, ..settings(1) })[0].1
    };
    assert!(decayed(1.0) > decayed(0.0) && decayed(2.0) > decayed(1.0));
}

#[test]
fn groups_that_cannot_be_are_refused() {
    let refused = |groups: Vec<GroupSettings>, expected: &str| {
        let settings = Settings { groups, ..settings(1) };
        let (_, train, _) = text();
        let model = model(train.vocabulary());
        let objective = LanguageModelling::new(&settings, train, None).unwrap();
        let error = match Trainer::new(settings, model, objective, Arc::new(Cpu::new(1))) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the groups were taken"),
        };
        assert!(error.contains(expected), "{error}");
    };
    refused(
        vec![GroupSettings::frozen("blocks.7.*")],
        "`blocks.7.*` in the training groups matches",
    );
    refused(vec![GroupSettings::frozen("*")], "freeze every parameter");
    refused(vec![GroupSettings::default()], "`groups.parameters` is []");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_says_what_to_do() {
    let mut settings = settings(50);
    settings.optimizer =
        OptimizerSettings::Sgd(SgdSettings { learning_rate: 1e30, ..SgdSettings::default() });
    settings.checkpoint_every = Some(1);
    settings.evaluate_every = Some(1000);
    settings.clip = 0.0;
    settings.warmup = 0;
    let folder = tempfile::tempdir().unwrap();
    let trainer = trainer(&settings, Some(folder.path()));
    let error = match trainer.run(&mut (), &AtomicBool::new(false)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the run went on"),
    };
    assert!(error.contains("is not finite at step"), "{error}");
    assert!(error.contains("lower the learning rate"), "{error}");
    assert!(error.contains("step-0000"), "{error}");
}

#[test]
fn a_run_that_diverges_ends_with_an_error() {
    let mut settings = settings(60);
    settings.optimizer.set_learning_rate(30.0);
    settings.clip = 0.0;
    settings.warmup = 0;
    let folder = tempfile::tempdir().unwrap();
    let trainer = trainer(&settings, Some(folder.path()));
    let error = match trainer.run(&mut (), &AtomicBool::new(false)) {
        Err(error) => error,
        Ok(outcome) => panic!("the run ended with {:?}", outcome.best),
    };
    let text = error.to_string();
    assert!(text.contains("has diverged") && text.contains("lower the learning rate"), "{text}");
    let TrainError::Diverged { loss, first, .. } = error else { panic!("{text}") };
    assert!(loss.is_finite() && loss > 10.0 * first, "{loss} after {first}");
}

/// A loss that is far too high, and finite, on what is held out alone.
#[test]
fn a_validation_loss_that_diverges_ends_the_run() {
    let settings = Settings { evaluate_every: Some(7), ..settings(20) };
    let (_, train, _) = text();
    let model = model(train.vocabulary());
    let learning = LanguageModelling::new(&settings, train, None).unwrap();
    let objective = Scored(learning, 21_700.0);
    let trainer = Trainer::new(settings, model, objective, Arc::new(Cpu::new(2))).unwrap();
    let error = match trainer.run(&mut (), &AtomicBool::new(false)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the run went on"),
    };
    assert!(error.contains("the validation loss is 21700.0000 at step 7"), "{error}");
}

/// Learns as usual, but the score on what it holds out is given.
struct Scored(LanguageModelling, f64);

impl Objective for Scored {
    fn learn(&mut self, pass: &mut objective::Pass<'_>) -> Result<objective::Part, TrainError> {
        self.0.learn(pass)
    }

    fn validate(
        &mut self,
        _: &Model,
        _: &mut Tape,
        _: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        Ok(Some(Score::of(self.1)))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.0.batches_per_epoch()
    }

    fn position(&self) -> serde_json::Value {
        self.0.position()
    }

    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError> {
        self.0.seek(position)
    }
}

#[test]
fn a_validation_loss_that_is_not_finite_is_never_the_best() {
    let settings = Settings { evaluate_every: Some(7), ..settings(20) };
    let (_, train, _) = text();
    let model = model(train.vocabulary());
    let learning = LanguageModelling::new(&settings, train, None).unwrap();
    let objective = Scored(learning, f64::NAN);
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(settings.clone(), model, objective, Arc::new(Cpu::new(2)))
        .unwrap()
        .with_checkpoints(Checkpoints::new(folder.path(), settings.keep));
    let error = match trainer.run(&mut (), &AtomicBool::new(false)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the run went on"),
    };
    assert!(error.contains("the validation loss is not finite at step 7"), "{error}");
    assert!(error.contains("step-000000000005"), "{error}");
    // What was saved before is whole, and goes on.
    assert_eq!(self::trainer(&settings, Some(folder.path())).resume().unwrap(), Some(5));
}

#[test]
fn patience_ends_a_run_and_the_best_weights_are_kept() {
    let mut settings = settings(400);
    settings.optimizer.set_learning_rate(0.5);
    settings.evaluate_every = Some(2);
    settings.patience = Some(3);
    let (outcome, losses) = run(trainer(&settings, None), u64::MAX);
    assert_eq!(outcome.end, End::Patience);
    assert!(losses.len() < 400);
    let best = outcome.best.unwrap();
    assert_eq!(outcome.steps, best.step + 6);
    let (_, _, valid) = text();
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut network = OnTape { model: &outcome.model, tape: &mut tape };
    let total = evaluate::carried(&mut network, &valid, evaluate::STREAMS).unwrap();
    assert_eq!(total.mean(), best.score.loss);
}

#[test]
fn a_time_budget_ends_with_an_evaluation() {
    let settings = Settings {
        budget: Budget::Minutes(0.05),
        checkpoint_every: None,
        evaluations: 2,
        ..settings(1)
    };
    let stop = AtomicBool::new(false);
    let mut watch =
        Listener { losses: Vec::new(), evaluations: Vec::new(), stop_after: u64::MAX, stop: &stop };
    let outcome = trainer(&settings, None).run(&mut watch, &stop).unwrap();
    assert_eq!(outcome.end, End::Budget);
    // How many there were before depends on the machine; the last one was made at the end.
    assert_eq!(watch.evaluations.last().map(|last| last.0), Some(outcome.steps));
    assert!(outcome.best.is_some());
}

#[test]
fn both_ways_of_scoring_predict_each_token_once_and_agree_where_they_should() {
    let settings = settings(40);
    let (outcome, _) = run(trainer(&settings, None), u64::MAX);
    let (_, train, valid) = text();
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let model = &mut OnTape { model: &outcome.model, tape: &mut tape };
    for tokens in [&train, &valid] {
        let exact = evaluate::carried(model, tokens, 1).unwrap();
        let fast = evaluate::carried(model, tokens, 16).unwrap();
        assert_eq!(exact.targets, tokens.len() - 1);
        assert_eq!(fast.targets, exact.targets);
        assert!((exact.mean() - fast.mean()).abs() < 2e-3, "{} {}", exact.mean(), fast.mean());
        let whole = evaluate::windows(model, tokens.clone(), tokens.len() as usize).unwrap();
        assert_eq!(whole.targets, exact.targets);
        assert!((exact.mean() - whole.mean()).abs() < 1e-4, "one window is the whole text");
        let windows = evaluate::windows(model, tokens.clone(), 16).unwrap();
        assert_eq!(windows.targets, exact.targets);
        assert!(windows.mean() > exact.mean(), "a short memory predicts worse");
    }
}

#[test]
fn an_exponential_average_follows_the_weights() {
    let mut weights = model(8).weights;
    let cpu = Cpu::new(1);
    let mut average = average::Average::new(AverageKind::Exponential(0.5), &weights);
    average.update(&cpu, &weights);
    let first = weights.hash();
    average.swap(&mut weights);
    assert_eq!(weights.hash(), first, "the first average is the weights");
    average.swap(&mut weights);
    let before = weights.iter().next().unwrap().data[0];
    weights.iter_mut().for_each(|p| p.data.iter_mut().for_each(|x| *x += 1.0));
    average.update(&cpu, &weights);
    average.swap(&mut weights);
    // (1 + 1) / (10 + 1) of the old average is kept.
    let expected = before + 9.0 / 11.0;
    assert!((weights.iter().next().unwrap().data[0] - expected).abs() < 1e-6);
}

/// Asks to stop when an evaluation has come this far, once.
struct StopWithin<'a> {
    stop: &'a AtomicBool,
    evaluations: Vec<(u64, f64)>,
    asked: bool,
}

impl Progress for StopWithin<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        match event {
            Event::Validating { done } if *done > 0.3 && !self.asked => {
                self.asked = true;
                self.stop.store(true, Ordering::Relaxed);
            }
            Event::Evaluated { report, .. } => {
                self.evaluations.push((report.step, report.score.loss));
            }
            _ => {}
        }
        Ok(())
    }
}

/// An evaluation of 68 seconds was finished before a run obeyed.
#[test]
fn a_run_that_is_stopped_in_an_evaluation_makes_it_when_resumed() {
    let settings = Settings { evaluate_every: Some(3), ..settings(8) };
    let stop = AtomicBool::new(false);
    let (whole, _) = run(trainer(&settings, None), u64::MAX);
    let folder = tempfile::tempdir().unwrap();
    let mut watch = StopWithin { stop: &stop, evaluations: Vec::new(), asked: false };
    let outcome = trainer(&settings, Some(folder.path())).run(&mut watch, &stop).unwrap();
    assert_eq!((outcome.end, outcome.steps, watch.evaluations.len()), (End::Stopped, 3, 0));
    stop.store(false, Ordering::Relaxed);
    let mut resumed = trainer(&settings, Some(folder.path()));
    assert_eq!(resumed.resume().unwrap(), Some(3));
    let outcome = resumed.run(&mut watch, &stop).unwrap();
    let steps: Vec<u64> = watch.evaluations.iter().map(|evaluation| evaluation.0).collect();
    assert_eq!(steps, [3, 6, 8]);
    assert_eq!(outcome.model.weights.hash(), whole.model.weights.hash());
}

/// Learns as usual, and asks to stop in the second batch of a step.
struct StopInStep {
    inner: LanguageModelling,
    batches: u64,
    stop: Arc<AtomicBool>,
}

impl Objective for StopInStep {
    fn learn(&mut self, pass: &mut objective::Pass<'_>) -> Result<objective::Part, TrainError> {
        self.batches += 1;
        if self.batches == 10 {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.inner.learn(pass)
    }

    fn validate(
        &mut self,
        model: &Model,
        tape: &mut Tape,
        watch: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        self.inner.validate(model, tape, watch)
    }

    fn batches_per_epoch(&self) -> u64 {
        self.inner.batches_per_epoch()
    }

    fn position(&self) -> serde_json::Value {
        self.inner.position()
    }

    fn seek(&mut self, position: &serde_json::Value) -> Result<(), TrainError> {
        self.inner.seek(position)
    }

    fn memories(&self) -> [Option<&State>; 2] {
        self.inner.memories()
    }

    fn restore_memories(&mut self, memories: [Option<State>; 2]) {
        self.inner.restore_memories(memories);
    }
}

#[test]
fn a_step_of_several_batches_is_stopped_between_two_of_them() {
    let settings = Settings { accumulation: 4, ..settings(5) };
    let (whole, _) = run(trainer(&settings, None), u64::MAX);
    let folder = tempfile::tempdir().unwrap();
    let (_, train, valid) = text();
    let model = model(train.vocabulary());
    let inner = LanguageModelling::new(&settings, train, Some(valid)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let objective = StopInStep { inner, batches: 0, stop: stop.clone() };
    let stopped = Trainer::new(settings.clone(), model, objective, Arc::new(Cpu::new(2)))
        .unwrap()
        .with_checkpoints(Checkpoints::new(folder.path(), settings.keep));
    let outcome = stopped.run(&mut (), &stop).unwrap();
    assert_eq!((outcome.end, outcome.steps), (End::Stopped, 2));
    let mut resumed = trainer(&settings, Some(folder.path()));
    assert_eq!(resumed.resume().unwrap(), Some(2));
    let (outcome, _) = run(resumed, u64::MAX);
    assert_eq!(outcome.model.weights.hash(), whole.model.weights.hash());
}

/// Nothing held out is read in full where the budget is short.
#[test]
fn a_short_time_budget_validates_on_a_sample() {
    let (_, train, _) = text();
    let ids: Vec<u32> = (0..3_000_000).map(|place| place % train.vocabulary() as u32).collect();
    let valid = Arc::new(Tokens::from_ids(ids, vec![0], train.vocabulary()).unwrap());
    let budget = Budget::Minutes(0.05);
    let settings = Settings { budget, checkpoint_every: None, evaluations: 2, ..settings(1) };
    let model = model(train.vocabulary());
    let objective = LanguageModelling::new(&settings, train, Some(valid)).unwrap();
    let cpu = Arc::new(Cpu::new(2));
    let trainer = Trainer::new(settings, model, objective, cpu).unwrap().with_preparation(1e9);
    let mut sizes = Vec::new();
    let mut watch = Sizes(&mut sizes);
    let outcome = trainer.run(&mut watch, &AtomicBool::new(false)).unwrap();
    assert_eq!(outcome.end, End::Budget);
    assert_eq!(sizes.len(), 1);
    assert!(sizes[0].1 > 3_000_000 && sizes[0].0 < sizes[0].1, "{sizes:?}");
}

/// Takes down the sizes of samples of the held-out text.
struct Sizes<'a>(&'a mut Vec<(u64, u64)>);

impl Progress for Sizes<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        if let Event::HeldOutSampled { sampled, all } = event {
            self.0.push((*sampled, *all));
        }
        Ok(())
    }
}
