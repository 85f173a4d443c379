use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::{Config, Cpu, Model};
use longhand_text::Tokens;

use super::*;
use crate::settings::{OptimizerSettings, SgdSettings};
use crate::{
    Bicausal, Budget, Checkpoints, LanguageModelling, Learner, PassageObjective, Plan,
    PrecisionSetting, Settings, Trainer,
};

const CONFIG: &str = r#"{
    "model_type": "longhand", "format": 2, "vocab_size": 13, "width": 12,
    "blocks": [{
        "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 6, "window": 4},
        "long": {"type": "lstm", "hidden": 12}
    }],
    "heads": [{"type": "classifier", "name": "task", "classes": 2, "pooling": "max"},
              {"type": "language-model"}]
}"#;

fn model(stacks: &str) -> Model {
    let config = CONFIG.replacen('{', &format!("{{\"stacks\": \"{stacks}\","), 1);
    Model::new(Config::from_json(config.as_bytes()).unwrap(), 3).unwrap()
}

fn tokens(seed: u64, count: u64) -> Arc<Tokens> {
    let ids = (0..count).map(|place| (draw([seed, place, 0]) % 13) as u32);
    Arc::new(Tokens::from_ids(ids.collect(), vec![0, count / 3], 13).unwrap())
}

fn settings() -> Settings {
    Settings {
        batch: 4,
        chunk: 7,
        budget: Budget::Steps(6),
        evaluations: 2,
        checkpoint_every: Some(1),
        precision: PrecisionSetting::F32,
        reset: 0.0,
        average: 0.0,
        ..Settings::default()
    }
}

fn streams(seed: u64) -> LanguageModelling {
    let batch = if seed == 1 { 4 } else { 3 };
    LanguageModelling::new(&Settings { batch, ..settings() }, tokens(seed, 900), None).unwrap()
}

fn passages(seed: u64) -> PassageObjective<Bicausal> {
    let batch = if seed == 1 { 4 } else { 3 };
    let settings = Settings { batch, ..settings() };
    PassageObjective::new(Bicausal, &settings, tokens(seed, 900), None).unwrap()
}

/// How far one step of plain gradient descent moves the weights.
fn moved(stacks: &str, mut objective: impl Objective) -> Vec<f32> {
    let rule = OptimizerSettings::Sgd(SgdSettings { momentum: 0.0, ..SgdSettings::default() });
    let before = model(stacks);
    let cpu = Arc::new(Cpu::new(2));
    let mut learner = Learner::new(before.clone(), rule, cpu).unwrap();
    let plan = Plan { rate: 1.0, clip: 0.0, batches: 1, seed: 5 };
    learner.step(plan, |mut pass| objective.learn(&mut pass)).unwrap();
    let values = |model: &Model| -> Vec<f32> {
        model.weights.iter().flat_map(|parameter| parameter.data.to_vec()).collect()
    };
    let after = values(learner.model());
    after.iter().zip(values(&before)).map(|(after, before)| after - before).collect()
}

#[test]
fn a_step_is_that_of_the_new_loss_and_of_the_weighted_old_one() {
    let check = |stacks, new: &dyn Fn(u64) -> Box<dyn Objective>| {
        let both = moved(stacks, Rehearsal::new(Boxed(new(1)), new(2), 0.3));
        let apart = moved(stacks, Boxed(new(1))).into_iter().zip(moved(stacks, Boxed(new(2))));
        let expected: Vec<f32> = apart.map(|(new, old)| new + 0.3 * old).collect();
        let off = both.iter().zip(&expected).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(off < 1e-6, "{stacks}: off by {off}");
        assert!(both.iter().any(|value| value.abs() > 1e-3), "{stacks}");
    };
    check("forward", &|seed| Box::new(streams(seed)));
    check("bicausal", &|seed| Box::new(passages(seed)));
}

/// An objective whose kind is not known.
struct Boxed(Box<dyn Objective>);

impl Objective for Boxed {
    fn learn(&mut self, pass: &mut Pass<'_>) -> Result<Part, TrainError> {
        self.0.learn(pass)
    }

    fn validate(
        &mut self,
        _: &Model,
        _: &mut Tape,
        _: &mut Watch<'_>,
    ) -> Result<Option<Score>, TrainError> {
        Ok(None)
    }

    fn batches_per_epoch(&self) -> u64 {
        self.0.batches_per_epoch()
    }

    fn position(&self) -> Value {
        self.0.position()
    }

    fn seek(&mut self, position: &Value) -> Result<(), TrainError> {
        self.0.seek(position)
    }
}

/// Both carry a state.
#[test]
fn a_resumed_run_goes_on_with_both_objectives() {
    let trainer = |settings: &Settings, folder: &Path| {
        let objective = Rehearsal::new(streams(1), Box::new(streams(2)), 0.5);
        let cpu = Arc::new(Cpu::with_precision(2, settings.precision.resolve()));
        let trainer = Trainer::new(settings.clone(), model("forward"), objective, cpu).unwrap();
        trainer.with_checkpoints(Checkpoints::new(folder, settings.keep))
    };
    let end = |mut trainer: Trainer<_>, from: Option<u64>| {
        assert_eq!(trainer.resume().unwrap(), from);
        let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
        outcome.model.weights.hash()
    };
    // The rate of a step must not depend on the number of steps.
    let settings = Settings {
        schedule: crate::schedule::Schedule::Constant(crate::schedule::Constant {}),
        warmup: 0,
        ..settings()
    };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let whole = end(trainer(&settings, folders[0].path()), None);
    let half = Settings { budget: Budget::Steps(3), ..settings.clone() };
    end(trainer(&half, folders[1].path()), None);
    assert_eq!(end(trainer(&settings, folders[1].path()), Some(3)), whole);
}
