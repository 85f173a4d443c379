//! The loop: batches → gradients → steps, with evaluations and checkpoints on the way.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use longhand_model::{Cpu, Gradients, Mode, Model, Tape, Weights};

use crate::average::{Average, AverageKind};
use crate::checkpoint::{self, Best, Checkpoint, Checkpoints, Evaluation, TrainerState};
use crate::objective::{Objective, Part, Pass, Score};
use crate::optimizer::{Optimizer, gradient_norm};
use crate::progress::{EvaluationReport, Event, Progress, StepReport};
use crate::schedule::Schedule;
use crate::settings::{Budget, NtAsgdSettings, OptimizerSettings};
use crate::{Settings, TrainError};

/// A checkpoint is written after this many seconds without one, unless settings say when.
const LONGEST_UNSAVED: f64 = 120.0;
/// In a time budget, learning between two evaluations takes at least so many times as long as one
/// of them, however many are asked for.
const LEARNING_BETWEEN_EVALUATIONS: f64 = 8.0;
/// Evaluations may take at most this share of a time budget out of the schedule.
const MOST_RESERVED: f64 = 0.5;

/// A run.
pub struct Trainer<O> {
    settings: Settings,
    model: Model,
    objective: O,
    tape: Tape,
    gradients: Gradients,
    optimizer: Optimizer,
    average: Option<Average>,
    state: TrainerState,
    checkpoints: Option<Checkpoints>,
    resumed: Option<Resumed>,
    saved_step: Option<u64>,
    last_saved: Option<(PathBuf, f64)>,
    /// The best weights, where there are no checkpoints to read them from.
    best: Option<Weights>,
    began: Instant,
    /// Seconds of earlier sessions.
    before: f64,
    /// When the last evaluation of this session ended, in seconds of the run.
    evaluated_at: f64,
}

/// How a run went.
pub struct Outcome {
    /// The model with the best weights seen; the last ones where nothing was evaluated.
    pub model: Model,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Steps made.
    pub steps: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Why it ended.
    pub end: End,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The budget is spent.
    Budget,
    /// The score has not become better for long enough.
    Patience,
    /// It was asked to stop, and saved.
    Stopped,
}

struct Resumed {
    step: u64,
    folder: Option<PathBuf>,
    damaged: Vec<PathBuf>,
}

impl<O: Objective> Trainer<O> {
    /// A run that has not begun.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(
        settings: Settings,
        model: Model,
        objective: O,
        cpu: Arc<Cpu>,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        model.check_trainable()?;
        let gradients = Gradients::new(cpu.clone(), &model.weights);
        let optimizer = Optimizer::new(settings.optimizer, &model.weights);
        let average = settings
            .exponential_average()
            .map(|decay| Average::new(AverageKind::Exponential(decay), &model.weights));
        let state = TrainerState {
            version: checkpoint::VERSION,
            step: 0,
            tokens: 0,
            seconds: 0.0,
            position: objective.position(),
            evaluations: Vec::new(),
            best: None,
            stale: 0,
            plateaus: (0, 0),
            longest_evaluation: 0.0,
            average: None,
            memory: None,
            settings: settings.clone(),
            files: std::collections::BTreeMap::new(),
        };
        Ok(Self {
            settings,
            model,
            objective,
            tape: Tape::new(cpu),
            gradients,
            optimizer,
            average,
            state,
            checkpoints: None,
            resumed: None,
            saved_step: None,
            last_saved: None,
            best: None,
            began: Instant::now(),
            before: 0.0,
            evaluated_at: 0.0,
        })
    }

    /// Writes checkpoints.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Goes on from the newest checkpoint that is whole, if there is one. The settings must be
    /// those of the run, but for the budget, the patience, the learning rate, the threads, and how
    /// often is evaluated and saved.
    ///
    /// # Errors
    /// If every checkpoint is damaged, or belongs to another run.
    pub fn resume(&mut self) -> Result<Option<u64>, TrainError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(None) };
        let Some(checkpoint) = checkpoints.latest()? else {
            // The steps that an earlier session made, and did not save, are made again.
            self.resumed = Some(Resumed { step: 0, folder: None, damaged: Vec::new() });
            return Ok(None);
        };
        let Checkpoint { folder, trainer, model, mut buffers, memory, damaged } = checkpoint;
        same_run(&trainer.settings, &self.settings)?;
        let misfit = |reason: String| TrainError::Checkpoint { folder: folder.clone(), reason };
        if model.config() != self.model.config() {
            return Err(misfit("its model has another configuration".into()));
        }
        for (mine, saved) in self.model.weights.iter_mut().zip(model.weights.iter()) {
            mine.data.copy_from_slice(&saved.data);
        }
        let weights = &self.model.weights;
        self.optimizer
            .restore(trainer.step, weights, |name| buffers.remove(name))
            .map_err(misfit)?;
        if let Some((kind, count)) = trainer.average {
            let mut average = Average::new(kind, weights);
            average.restore(count, weights, |name| buffers.remove(name)).map_err(misfit)?;
            self.average = Some(average);
        }
        self.objective.seek(&trainer.position)?;
        if let Some(memory) = memory {
            self.objective.restore_memory(memory);
        }
        self.before = trainer.seconds;
        self.last_saved = Some((folder.clone(), trainer.seconds));
        let step = trainer.step;
        self.saved_step = Some(step);
        self.state = TrainerState { settings: self.settings.clone(), ..trainer };
        self.resumed = Some(Resumed { step, folder: Some(folder), damaged });
        Ok(Some(step))
    }

    /// Runs to the end. When `stop` becomes true, the step at hand is finished, a checkpoint
    /// written, and the run ends.
    ///
    /// # Errors
    /// What the data, the model or the disk report; a loss or gradient that is not finite.
    pub fn run(
        mut self,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<Outcome, TrainError> {
        self.began = Instant::now();
        if let Some(Resumed { step, folder, damaged }) = self.resumed.take() {
            let (folder, damaged) = (folder.as_deref(), damaged.as_slice());
            progress.event(&Event::Resumed { step, folder, damaged })?;
        }
        let end = loop {
            if self.out_of_patience() {
                break End::Patience;
            }
            if self.spent() >= 1.0 && self.state.step > 0 {
                if self.state.evaluations.last().is_none_or(|last| last.step < self.state.step) {
                    self.evaluate(progress)?;
                }
                break End::Budget;
            }
            if stop.load(Ordering::Relaxed) {
                break End::Stopped;
            }
            let report = self.step()?;
            progress.event(&Event::Step(&report))?;
            let evaluated = self.evaluation_due() && self.evaluate(progress)?;
            if self.save_due(evaluated) {
                self.save(progress)?;
            }
        };
        if self.saved_step != Some(self.state.step) {
            self.save(progress)?;
        }
        self.finish(end)
    }

    fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    /// Share of the budget that is spent. Of a time budget, room is left for one more evaluation.
    fn spent(&self) -> f64 {
        match self.settings.budget {
            Budget::Minutes(minutes) => {
                let whole = 60.0 * minutes;
                let reserve = self.state.longest_evaluation.min(MOST_RESERVED * whole);
                self.seconds() / (whole - reserve)
            }
            Budget::Steps(steps) => self.state.step as f64 / steps as f64,
            Budget::Epochs(epochs) => {
                let batches = epochs * self.objective.batches_per_epoch() as f64;
                (self.state.step * self.settings.accumulation as u64) as f64 / batches
            }
        }
    }

    fn learning_rate(&self, spent: f64) -> f64 {
        let share = self.settings.schedule.share(spent, self.state.plateaus.0);
        let warmup = Schedule::warmup(self.state.step, self.settings.warmup, spent);
        self.settings.optimizer.learning_rate() * share * warmup
    }

    /// Makes one step.
    fn step(&mut self) -> Result<StepReport, TrainError> {
        let spent = self.spent();
        let rate = self.learning_rate(spent);
        let accumulation = self.settings.accumulation;
        self.gradients.clear();
        let mut part = Part::default();
        for batch in 0..accumulation {
            let seed = draw([self.settings.seed, self.state.step, batch as u64]);
            part.add(self.objective.learn(Pass {
                model: &self.model,
                tape: &mut self.tape,
                mode: Mode::Train { seed },
                share: 1.0 / accumulation as f32,
                gradients: &mut self.gradients,
            })?);
        }
        if !part.nats.is_finite() {
            return Err(self.not_finite("loss", self.state.step + 1, rate));
        }
        let cpu = self.tape.cpu();
        let norm = gradient_norm(cpu, &self.gradients);
        if !norm.is_finite() {
            return Err(self.not_finite("gradient", self.state.step + 1, rate));
        }
        let clip = self.settings.clip;
        let scale = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        let weights = &mut self.model.weights;
        self.optimizer.step(cpu, weights, &self.gradients, rate, scale as f32);
        if let Some(average) = &mut self.average {
            average.update(cpu, &self.model.weights);
        }
        self.state.step += 1;
        self.state.tokens += part.tokens;
        Ok(StepReport {
            step: self.state.step,
            tokens: self.state.tokens,
            seconds: self.seconds(),
            loss: part.mean(),
            lr: rate,
            grad_norm: norm,
            spent: self.spent().min(1.0),
        })
    }

    fn not_finite(&self, what: &'static str, step: u64, rate: f64) -> TrainError {
        let checkpoint = self.last_saved.as_ref().map(|(folder, _)| folder.clone());
        TrainError::NotFinite { what, step, rate, checkpoint }
    }

    fn evaluation_due(&self) -> bool {
        match self.settings.evaluate_every {
            Some(every) => self.state.step.is_multiple_of(every),
            None => {
                let made = self.state.evaluations.len() as f64;
                // The last one is made where the loop ends.
                let next = (made + 1.0) / f64::from(self.settings.evaluations);
                next < 1.0 && self.spent() >= next && self.can_afford_evaluation()
            }
        }
    }

    /// Whether another evaluation leaves most of a time budget to learning. Runs of so many steps
    /// evaluate regardless of time, and so the same each time.
    fn can_afford_evaluation(&self) -> bool {
        let pause = LEARNING_BETWEEN_EVALUATIONS * self.state.longest_evaluation;
        !matches!(self.settings.budget, Budget::Minutes(_))
            || self.seconds() - self.evaluated_at >= pause
    }

    /// Evaluates the averaged weights, or else the weights. False where nothing is held out.
    fn evaluate(&mut self, progress: &mut dyn Progress) -> Result<bool, TrainError> {
        let began = Instant::now();
        self.swap_average();
        let Some(score) = self.objective.validate(&self.model, &mut self.tape)? else {
            self.swap_average();
            return Ok(false);
        };
        let step = self.state.step;
        if !score.loss.is_finite() {
            // Never the best, and never in a file: JSON has no such number.
            let rate = self.learning_rate(self.spent().min(1.0));
            return Err(self.not_finite("validation loss", step, rate));
        }
        let evaluation_seconds = began.elapsed().as_secs_f64();
        let best = self.state.best.as_ref().is_none_or(|best| score.loss < best.score.loss);
        if best {
            match &self.checkpoints {
                Some(checkpoints) => drop(checkpoints.save_best(step, &self.model)?),
                None => self.best = Some(self.model.weights.clone()),
            }
        }
        let seconds = self.seconds();
        let report =
            EvaluationReport { step, seconds, evaluation_seconds, score: score.clone(), best };
        let gates = self.objective.gates(&self.model, &mut self.tape)?;
        let (report, model, cpu, gates) = (&report, &self.model, self.tape.cpu(), &gates[..]);
        progress.event(&Event::Evaluated { report, model, cpu, gates })?;
        self.swap_average();
        self.take_in(score, best);
        // What watchers do with the model, and writing it, belongs to the evaluation.
        let whole = began.elapsed().as_secs_f64();
        self.state.longest_evaluation = self.state.longest_evaluation.max(whole);
        self.evaluated_at = self.seconds();
        Ok(true)
    }

    fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.swap(&mut self.model.weights);
        }
    }

    /// Remembers a score: for patience, the plateau schedule and the beginning of averaging.
    fn take_in(&mut self, score: Score, best: bool) {
        let step = self.state.step;
        if let OptimizerSettings::NtAsgd(NtAsgdSettings { interval, .. }) = self.settings.optimizer
            && self.average.is_none()
        {
            let losses = self.state.evaluations.iter().map(|evaluation| evaluation.loss);
            let earlier = self.state.evaluations.len().saturating_sub(interval);
            let least = losses.take(earlier).fold(f64::INFINITY, f64::min);
            if score.loss > least {
                self.average = Some(Average::new(AverageKind::Mean, &self.model.weights));
            }
        }
        self.state.evaluations.push(Evaluation { step, loss: score.loss });
        if best {
            self.state.best = Some(Best { step, score });
            self.state.stale = 0;
            self.state.plateaus.1 = 0;
            return;
        }
        self.state.stale += 1;
        self.state.plateaus.1 += 1;
        if let Schedule::Plateau(plateau) = self.settings.schedule
            && self.state.plateaus.1 >= plateau.patience
        {
            self.state.plateaus = (self.state.plateaus.0 + 1, 0);
        }
    }

    fn out_of_patience(&self) -> bool {
        self.settings.patience.is_some_and(|patience| self.state.stale >= patience)
    }

    fn save_due(&self, evaluated: bool) -> bool {
        match self.settings.checkpoint_every {
            Some(every) => self.state.step.is_multiple_of(every),
            None => {
                let last = self.last_saved.as_ref().map_or(self.before, |(_, seconds)| *seconds);
                evaluated || self.seconds() - last >= LONGEST_UNSAVED
            }
        }
    }

    fn save(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let seconds = self.seconds();
        self.state.seconds = seconds;
        self.state.position = self.objective.position();
        self.state.average = self.average.as_ref().map(Average::progress);
        let weights = &self.model.weights;
        let mut buffers = self.optimizer.buffers(weights);
        buffers.extend(self.average.iter().flat_map(|average| average.buffers(weights)));
        let memory = self.objective.memory();
        let folder = checkpoints.save(self.state.clone(), &self.model, &buffers, memory)?;
        let step = self.state.step;
        self.saved_step = Some(step);
        progress.event(&Event::Saved { step, folder: &folder })?;
        self.last_saved = Some((folder, seconds));
        Ok(())
    }

    fn finish(mut self, end: End) -> Result<Outcome, TrainError> {
        let seconds = self.seconds();
        match (&self.state.best, &self.checkpoints) {
            (Some(best), Some(checkpoints)) => {
                let weights = load_weights(&checkpoints.best_path(best.step))?;
                for (mine, saved) in self.model.weights.iter_mut().zip(weights.iter()) {
                    mine.data.copy_from_slice(&saved.data);
                }
            }
            (Some(_), None) => {
                if let Some(best) = self.best.take() {
                    self.model.weights = best;
                }
            }
            (None, _) => self.swap_average(),
        }
        Ok(Outcome {
            model: self.model,
            best: self.state.best,
            steps: self.state.step,
            tokens: self.state.tokens,
            seconds,
            end,
        })
    }
}

fn load_weights(folder: &Path) -> Result<Weights, TrainError> {
    Ok(Model::load(folder)?.weights)
}

/// Refuses settings that would make another run of it.
fn same_run(begun: &Settings, now: &Settings) -> Result<(), TrainError> {
    fn check<T: PartialEq + serde::Serialize>(
        name: &'static str,
        begun: &T,
        now: &T,
    ) -> Result<(), TrainError> {
        if begun == now {
            return Ok(());
        }
        let text = |value| serde_json::to_string(value).unwrap_or_default();
        Err(TrainError::Changed { name, begun: text(begun), now: text(now) })
    }
    let mut rule = begun.optimizer;
    rule.set_learning_rate(now.optimizer.learning_rate());
    check("batch", &begun.batch, &now.batch)?;
    check("chunk", &begun.chunk, &now.chunk)?;
    check("reset", &begun.reset, &now.reset)?;
    check("optimizer", &rule, &now.optimizer)?;
    check("schedule", &begun.schedule, &now.schedule)?;
    check("warmup", &begun.warmup, &now.warmup)?;
    check("clip", &begun.clip, &now.clip)?;
    check("accumulation", &begun.accumulation, &now.accumulation)?;
    check("label_smoothing", &begun.label_smoothing, &now.label_smoothing)?;
    check("average", &begun.average, &now.average)?;
    check("precision", &begun.precision.name(), &now.precision.name())?;
    check("seed", &begun.seed, &now.seed)
}

/// A number drawn by three others, by the mixing function of SplitMix64 (Steele et al., "Fast
/// splittable pseudorandom number generators", 2014).
pub(crate) fn draw(by: [u64; 3]) -> u64 {
    by.into_iter().fold(0, |state: u64, value| {
        let mut z = state.wrapping_add(value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}
