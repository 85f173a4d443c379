//! When a run is evaluated, on how much of the held-out data, and what it remembers of the score.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::Trainer;
use crate::TrainError;
use crate::average::{Average, AverageKind};
use crate::checkpoint::{Best, Evaluation};
use crate::learner::Learner;
use crate::objective::{Objective, Score, Watch};
use crate::progress::{EvaluationReport, Event, Progress};
use crate::schedule::Schedule;
use crate::settings::{Budget, NtAsgdSettings, OptimizerSettings};

/// With a time budget, at least this many evaluation-lengths of training
/// pass between two evaluations.
const LEARNING_BETWEEN_EVALUATIONS: f64 = 8.0;
/// With a time budget, all evaluations together take at most this share of it. A larger held-out
/// text is read in a seeded sample.
const EVALUATION_SHARE: f64 = 0.1;
/// Evaluation reads at least this many times as fast as training: it has no backward pass.
const EVALUATION_SPEED: f64 = 2.0;
/// Seconds that an evaluation is expected to take for a checkpoint to be written before it.
const LONG_EVALUATION: f64 = 5.0;

impl<O: Objective> Trainer<O> {
    /// Whether the last step was evaluated.
    pub(super) fn is_evaluated(&self) -> bool {
        self.state.evaluations.last().is_some_and(|last| last.step == self.state.step)
    }

    pub(super) fn evaluation_due(&self) -> bool {
        !self.is_evaluated()
            && match self.settings.evaluate_every {
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

    /// With a time budget, decides once how much of the held-out data an evaluation reads.
    fn fit_held_out(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let Budget::Minutes(minutes) = self.settings.budget else { return Ok(()) };
        // Before the first step of a session the speed is unknown.
        if self.state.held_out.is_some() || self.speed.0 == 0 {
            return Ok(());
        }
        let all = self.objective.held_out();
        let each = EVALUATION_SHARE * 60.0 * minutes / f64::from(self.settings.evaluations.max(1));
        let wanted = (each * self.evaluation_speed()) as u64;
        let sampled = match wanted < all {
            true => self.objective.sample_held_out(wanted, self.settings.seed),
            false => all,
        };
        self.state.held_out = Some(sampled.max(wanted));
        if sampled < all {
            progress.event(&Event::HeldOutSampled { sampled, all })?;
        }
        Ok(())
    }

    /// Tokens per second that an evaluation reads, by the steps of this session.
    fn evaluation_speed(&self) -> f64 {
        let (tokens, seconds) = self.speed;
        EVALUATION_SPEED * tokens as f64 / seconds.max(1e-3)
    }

    /// A long evaluation may be interrupted: what was learnt until then is saved before it.
    fn save_before_evaluation(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let (tokens, _) = self.speed;
        let expected = self.objective.held_out() as f64 / self.evaluation_speed().max(1.0);
        let is_long = tokens > 0 && expected.max(self.state.longest_evaluation) > LONG_EVALUATION;
        if is_long && self.saved_step != Some(self.state.step) {
            self.save(progress)?;
        }
        Ok(())
    }

    /// Evaluates the averaged weights, or else the weights. False where nothing is held out.
    pub(super) fn evaluate(
        &mut self,
        progress: &mut dyn Progress,
        stop: &AtomicBool,
    ) -> Result<bool, TrainError> {
        self.fit_held_out(progress)?;
        self.save_before_evaluation(progress)?;
        let began = Instant::now();
        self.learner.swap_average();
        let mut tell = |done| Ok(progress.event(&Event::Validating { done })?);
        let mut watch = Watch::new(stop, &mut tell);
        let Learner { model, tape, .. } = &mut self.learner;
        let score = match self.objective.validate(model, tape, &mut watch) {
            Ok(Some(score)) => score,
            otherwise => {
                self.learner.swap_average();
                return otherwise.map(|_| false);
            }
        };
        let step = self.state.step;
        if !score.loss.is_finite() {
            // Never the best, and never in a file: JSON has no such number.
            let rate = self.learning_rate(self.spent().min(1.0));
            let (what, checkpoint) = ("validation loss", self.last_checkpoint());
            return Err(TrainError::NotFinite { what, step, rate, checkpoint });
        }
        if self.state.losses.is_some_and(|losses| losses.has_diverged(score.loss)) {
            let rate = self.learning_rate(self.spent().min(1.0));
            return Err(self.diverged("validation loss", score.loss, rate));
        }
        let evaluation_seconds = began.elapsed().as_secs_f64();
        let criterion = self.objective.criterion();
        let best = self.state.best.as_ref();
        // Before the ranks are final, another model is evaluated than the run ends with.
        let best = self.learner.has_final_ranks()
            && best.is_none_or(|best| score.beats(&best.score, criterion));
        if best {
            match &self.checkpoints {
                Some(checkpoints) => drop(checkpoints.save_best(step, &self.learner.model)?),
                None => self.best = Some(self.learner.model.weights.clone()),
            }
        }
        let seconds = self.seconds();
        let report =
            EvaluationReport { step, seconds, evaluation_seconds, score: score.clone(), best };
        let gates = self.objective.gates(&self.learner.model, &mut self.learner.tape)?;
        let (model, cpu) = (&self.learner.model, self.learner.tape.cpu());
        let (report, gates) = (&report, &gates[..]);
        progress.event(&Event::Evaluated { report, model, cpu, gates, stop })?;
        self.learner.swap_average();
        self.take_in(score, best);
        // What watchers do with the model, and writing it, belongs to the evaluation.
        let whole = began.elapsed().as_secs_f64();
        self.state.longest_evaluation = self.state.longest_evaluation.max(whole);
        self.evaluated_at = self.seconds();
        // A checkpoint from before the evaluation does not hold its result.
        self.saved_step = None;
        Ok(true)
    }

    /// Remembers a score: for patience, the plateau schedule and the beginning of averaging.
    fn take_in(&mut self, score: Score, best: bool) {
        let step = self.state.step;
        if let OptimizerSettings::NtAsgd(NtAsgdSettings { interval, .. }) = self.settings.optimizer
            && self.learner.average.is_none()
        {
            let losses = self.state.evaluations.iter().map(|evaluation| evaluation.loss);
            let earlier = self.state.evaluations.len().saturating_sub(interval);
            let least = losses.take(earlier).fold(f64::INFINITY, f64::min);
            if score.loss > least {
                let weights = &self.learner.model.weights;
                self.learner.average = Some(Average::new(AverageKind::Mean, weights));
            }
        }
        self.state.evaluations.push(Evaluation { step, loss: score.loss });
        if best {
            self.state.best = Some(Best { step, score });
            self.state.stale = 0;
            self.state.plateaus.1 = 0;
        }
        if best || !self.learner.has_final_ranks() {
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
}
