//! The loop: batches → gradients → steps, with evaluations and checkpoints on the way.

mod evaluation;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use longhand_model::{Cpu, Model, State, Weights};

use crate::average::{Average, AverageKind};
use crate::checkpoint::{self, Best, Checkpoint, Checkpoints, GroupState, TrainerState};
use crate::divergence::Losses;
use crate::groups::next_change;
use crate::learner::{Learner, Plan};
use crate::objective::Objective;
use crate::progress::{Event, Progress, StepReport};
use crate::ranks::allocator::RankAllocator;
use crate::saved::SavedWeights;
use crate::schedule::Schedule;
use crate::settings::Budget;
use crate::{Settings, TrainError};

/// A checkpoint is written after this many seconds without one, unless settings say when.
const LONGEST_UNSAVED: f64 = 120.0;
/// Preparation may take at most this share of a time budget from the training.
const MOST_PREPARATION: f64 = 0.5;
/// Evaluations may take at most this share of a time budget out of the schedule.
const MOST_RESERVED: f64 = 0.5;

/// One training run: steps, evaluations and checkpoints.
pub struct Trainer<O> {
    settings: Settings,
    learner: Learner,
    objective: O,
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
    /// Seconds that preparing the data took in this session: part of a time budget.
    preparation: f64,
    /// Tokens read by the steps of this session, and the seconds that they took.
    speed: (u64, f64),
    /// The data's position and the memories before a step that was stopped half-way.
    before_step: Option<(serde_json::Value, [Option<State>; 2])>,
    /// Share of the budget at which a group of parameters is next unfrozen.
    regroup_at: f64,
}

/// How a run went.
pub struct Outcome {
    /// The model with the best weights seen; the last ones where nothing was evaluated.
    pub model: Model,
    /// How many numbers the last steps trained, before zeros were taken out of the ranks.
    pub trained: usize,
    /// The best evaluation, if there was one.
    pub best: Option<Best>,
    /// Steps made since the run began.
    pub steps: u64,
    /// Tokens read since the run began.
    pub tokens: u64,
    /// Seconds spent, evaluations included.
    pub seconds: f64,
    /// The reason why the run ended.
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
    /// [`TrainError::Settings`] if a setting is out of its bounds, [`TrainError::Model`] if the
    /// model is packed for reading, and the errors of [`Learner::regroup`].
    pub fn new(
        settings: Settings,
        model: Model,
        objective: O,
        cpu: Arc<Cpu>,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        let mut learner = Learner::new(model, settings.optimizer, cpu)?;
        learner.regroup(&settings.groups, 0.0)?;
        learner.average = settings
            .exponential_average()
            .map(|decay| Average::new(AverageKind::Exponential(decay), &learner.model.weights));
        let ranks = settings.ranks.map(|budget| RankAllocator::new(budget, &learner.model.weights));
        learner.ranks = ranks.transpose()?;
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
            held_out: None,
            average: None,
            memory: None,
            rehearsed_memory: None,
            losses: None,
            groups: BTreeMap::new(),
            settings: settings.clone(),
            files: BTreeMap::new(),
            checksum: String::new(),
        };
        Ok(Self {
            settings,
            learner,
            objective,
            state,
            checkpoints: None,
            resumed: None,
            saved_step: None,
            last_saved: None,
            best: None,
            began: Instant::now(),
            before: 0.0,
            evaluated_at: 0.0,
            preparation: 0.0,
            speed: (0, 0.0),
            before_step: None,
            regroup_at: 0.0,
        })
    }

    /// The model with its present weights.
    pub fn model(&self) -> &Model {
        self.learner.model()
    }

    /// Writes checkpoints into the given folder.
    #[must_use]
    pub fn with_checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Counts the seconds that preparing the data took as part of a time budget. At least half of
    /// the budget is left for training.
    #[must_use]
    pub fn with_preparation(mut self, seconds: f64) -> Self {
        self.preparation = seconds;
        self
    }

    /// Goes on from the newest checkpoint that is whole, if there is one. The settings must be
    /// those of the run, but for the budget, the patience, the learning rate, the threads, and how
    /// often is evaluated and saved.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if every checkpoint is damaged or the newest has another model,
    /// [`TrainError::Changed`] if it belongs to a run with other settings.
    pub fn resume(&mut self) -> Result<Option<u64>, TrainError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(None) };
        let Some(checkpoint) = checkpoints.latest()? else {
            // The steps that an earlier session made, and did not save, are made again.
            self.resumed = Some(Resumed { step: 0, folder: None, damaged: Vec::new() });
            return Ok(None);
        };
        let Checkpoint { folder, trainer, weights, mut buffers, memories, damaged } = checkpoint;
        same_run(&trainer.settings, &self.settings)?;
        let misfit = |reason: String| TrainError::Checkpoint { folder: folder.clone(), reason };
        weights.restore(&mut self.learner.model).map_err(misfit)?;
        let saved = |name: &str| trainer.groups.get(name).copied().unwrap_or_default();
        self.learner.regroup_with(|parameter| saved(&parameter.name).group())?;
        let weights = &self.learner.model.weights;
        self.learner
            .optimizer
            .restore(trainer.step, weights, |name| saved(name).begun, |name| buffers.remove(name))
            .map_err(|error| misfit(error.to_string()))?;
        if let Some((kind, count)) = trainer.average {
            let mut average = Average::new(kind, weights);
            average
                .restore(count, weights, |name| buffers.remove(name))
                .map_err(|error| misfit(error.to_string()))?;
            self.learner.average = Some(average);
        }
        if let Some(ranks) = &mut self.learner.ranks {
            ranks
                .restore(weights, |name| buffers.remove(name))
                .map_err(|error| misfit(error.to_string()))?;
        }
        self.objective.seek(&trainer.position)?;
        self.objective.restore_memories(memories);
        if let Some(tokens) = trainer.held_out {
            self.objective.sample_held_out(tokens, self.settings.seed);
        }
        self.before = trainer.seconds;
        self.last_saved = Some((folder.clone(), trainer.seconds));
        let step = trainer.step;
        self.saved_step = Some(step);
        self.state = TrainerState { settings: self.settings.clone(), ..trainer };
        self.resumed = Some(Resumed { step, folder: Some(folder), damaged });
        Ok(Some(step))
    }

    /// Runs to the end. When `stop` becomes true, the run ends after the batch or the chunk of an
    /// evaluation at hand, and a checkpoint is written. A resumed run makes that
    /// step or evaluation again.
    ///
    /// # Errors
    /// Errors of the data, the model or the disk; [`TrainError::NotFinite`] for a loss or gradient
    /// that is not finite; [`TrainError::Diverged`] if the loss has grown far above the first.
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
        let end = match self.train(progress, stop) {
            Err(TrainError::Stopped) => End::Stopped,
            end => end?,
        };
        if self.saved_step != Some(self.state.step) {
            self.save(progress)?;
        }
        self.finish(end)
    }

    /// The loop. [`TrainError::Stopped`] if `stop` became true.
    fn train(&mut self, progress: &mut dyn Progress, stop: &AtomicBool) -> Result<End, TrainError> {
        loop {
            // At the loop's head, so that a resumed run makes an evaluation that was not finished.
            if self.state.step > 0 {
                let evaluated = self.evaluation_due() && self.evaluate(progress, stop)?;
                if self.save_due(evaluated) {
                    self.save(progress)?;
                }
            }
            if self.out_of_patience() {
                return Ok(End::Patience);
            }
            if self.spent() >= 1.0 && self.state.step > 0 {
                // What was evaluated before the ranks were final is not what the run ends with.
                if self.learner.allocate(1.0) || !self.is_evaluated() {
                    self.evaluate(progress, stop)?;
                }
                return Ok(End::Budget);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            let report = self.step(stop)?;
            progress.event(&Event::Step(&report))?;
        }
    }

    fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }

    /// Seconds of a time budget that are left to training and evaluations.
    fn training_seconds(&self, minutes: f64) -> f64 {
        let whole = 60.0 * minutes;
        whole - self.preparation.min(MOST_PREPARATION * whole)
    }

    /// Share of the budget that is spent. A time budget leaves room for one more evaluation.
    fn spent(&self) -> f64 {
        match self.settings.budget {
            Budget::Minutes(minutes) => {
                let whole = self.training_seconds(minutes);
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

    /// Makes one step; [`TrainError::Stopped`] between two of its batches.
    fn step(&mut self, stop: &AtomicBool) -> Result<StepReport, TrainError> {
        let began = Instant::now();
        let spent = self.spent();
        let rate = self.learning_rate(spent);
        if spent >= self.regroup_at {
            self.learner.regroup(&self.settings.groups, spent)?;
            self.regroup_at = next_change(&self.settings.groups, spent);
        }
        let Settings { clip, accumulation, seed, .. } = self.settings;
        if accumulation > 1 {
            let memories = self.objective.memories().map(Option::<&State>::cloned);
            self.before_step = Some((self.objective.position(), memories));
        }
        let plan = Plan { rate, clip, batches: accumulation, seed };
        let (objective, mut batches) = (&mut self.objective, 0);
        let step = self.learner.step(plan, |mut pass| {
            batches += 1;
            if batches > 1 && stop.load(Ordering::Relaxed) {
                return Err(TrainError::Stopped);
            }
            objective.learn(&mut pass)
        });
        let step = step.map_err(|error| error.with_checkpoint(self.last_checkpoint()))?;
        self.before_step = None;
        self.state.step += 1;
        self.learner.allocate(self.spent());
        self.state.tokens += step.part.tokens;
        self.speed.0 += step.part.tokens;
        self.speed.1 += began.elapsed().as_secs_f64();
        let loss = step.part.mean();
        let losses = self.state.losses.get_or_insert(Losses::new(loss));
        if let Some(mean) = losses.push(loss) {
            return Err(self.diverged("mean loss of the last steps", mean, rate));
        }
        Ok(StepReport {
            step: self.state.step,
            tokens: self.state.tokens,
            seconds: self.seconds(),
            loss,
            lr: rate,
            grad_norm: step.norm,
            spent: self.spent().min(1.0),
        })
    }

    fn diverged(&self, what: &'static str, loss: f64, rate: f64) -> TrainError {
        let step = self.state.step;
        let first = self.state.losses.map_or(f64::NAN, |losses| losses.first);
        let best = self.state.best.as_ref().zip(self.checkpoints.as_ref());
        let best = best.map(|(best, checkpoints)| checkpoints.best_path(best.step));
        TrainError::Diverged { what, step, loss, first, rate, best }
    }

    fn last_checkpoint(&self) -> Option<PathBuf> {
        self.last_saved.as_ref().map(|(folder, _)| folder.clone())
    }

    fn out_of_patience(&self) -> bool {
        self.settings.patience.is_some_and(|patience| self.state.stale >= patience)
    }

    fn save_due(&self, evaluated: bool) -> bool {
        self.saved_step != Some(self.state.step)
            && match self.settings.checkpoint_every {
                Some(every) => self.state.step.is_multiple_of(every),
                None => {
                    let last =
                        self.last_saved.as_ref().map_or(self.before, |(_, seconds)| *seconds);
                    evaluated || self.seconds() - last >= LONGEST_UNSAVED
                }
            }
    }

    fn save(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let seconds = self.seconds();
        self.state.seconds = seconds;
        let stopped = self.before_step.as_ref();
        self.state.position =
            stopped.map_or_else(|| self.objective.position(), |(position, _)| position.clone());
        self.state.average = self.learner.average.as_ref().map(Average::progress);
        let Learner { model, optimizer, average, ranks, .. } = &self.learner;
        let weights = &model.weights;
        let groups = weights.iter().zip(optimizer.begun()).map(|(parameter, begun)| {
            (parameter.name.clone(), GroupState::new(parameter.group, begun))
        });
        // Parameters that are trained as usual go without saying.
        let unusual = groups.filter(|(_, state)| *state != GroupState::default());
        self.state.groups = unusual.collect();
        let mut buffers = optimizer.buffers(weights);
        buffers.extend(average.iter().flat_map(|average| average.buffers(weights)));
        buffers.extend(ranks.iter().flat_map(|ranks| ranks.buffers(weights)));
        let memories = match stopped {
            Some((_, memories)) => memories.each_ref().map(Option::as_ref),
            None => self.objective.memories(),
        };
        let folder = checkpoints.save(self.state.clone(), model, &buffers, memories)?;
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
                let folder = checkpoints.best_path(best.step);
                SavedWeights::read(&folder)?
                    .restore(&mut self.learner.model)
                    .map_err(|reason| TrainError::Checkpoint { folder, reason })?;
            }
            (Some(_), None) => {
                if let Some(best) = self.best.take() {
                    self.learner.model.weights = best;
                }
            }
            (None, _) => self.learner.swap_average(),
        }
        let model = &mut self.learner.model;
        let trained = model.weights.iter().filter(|parameter| parameter.group.trainable);
        let trained = trained.map(|parameter| parameter.data.len()).sum();
        if self.learner.ranks.as_ref().is_some_and(RankAllocator::is_settled) {
            model.prune_low_rank();
        }
        Ok(Outcome {
            model: self.learner.model,
            trained,
            best: self.state.best,
            steps: self.state.step,
            tokens: self.state.tokens,
            seconds,
            end,
        })
    }
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
    check("groups", &begun.groups, &now.groups)?;
    check("schedule", &begun.schedule, &now.schedule)?;
    check("warmup", &begun.warmup, &now.warmup)?;
    check("clip", &begun.clip, &now.clip)?;
    check("accumulation", &begun.accumulation, &now.accumulation)?;
    check("label_smoothing", &begun.label_smoothing, &now.label_smoothing)?;
    check("sampled_softmax", &begun.sampled_softmax, &now.sampled_softmax)?;
    check("adversarial", &begun.adversarial, &now.adversarial)?;
    check("average", &begun.average, &now.average)?;
    check("precision", &begun.precision.name(), &now.precision.name())?;
    check("seed", &begun.seed, &now.seed)
}
