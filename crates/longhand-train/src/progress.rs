//! The events that a run reports to its watcher. The crate itself prints nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longhand_model::{Cpu, Gates, Model};
use serde::Serialize;

use crate::log::LogError;
use crate::objective::Score;

/// Something that happened in a run.
pub enum Event<'a> {
    /// The run goes on from a checkpoint, or begins again where none was written yet.
    Resumed {
        /// The step of the checkpoint; 0 if there is none.
        step: u64,
        /// Folder of the checkpoint, if there is one.
        folder: Option<&'a Path>,
        /// Later folders that are damaged and were passed over.
        damaged: &'a [PathBuf],
    },
    /// A step was made.
    Step(&'a StepReport),
    /// The held-out data are too large for the time budget: evaluations read a seeded sample.
    HeldOutSampled {
        /// Tokens that an evaluation reads.
        sampled: u64,
        /// Tokens of the held-out data.
        all: u64,
    },
    /// An evaluation goes on.
    Validating {
        /// The share that is done, 0 to 1.
        done: f64,
    },
    /// The model was evaluated.
    Evaluated {
        /// The score and its time.
        report: &'a EvaluationReport,
        /// The model as it was evaluated, to write a sample with.
        model: &'a Model,
        /// The processor that training runs on, idle at the moment.
        cpu: &'a Arc<Cpu>,
        /// Gates of the long memories on the last batch, read from an empty state.
        gates: &'a [Gates],
        /// Set when the run is to end: a watcher's long work ends then.
        stop: &'a AtomicBool,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps made so far in the run.
        step: u64,
        /// Folder of the checkpoint that was written.
        folder: &'a Path,
    },
}

/// The numbers of one training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepReport {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// Tokens read in the run.
    pub tokens: u64,
    /// Seconds of the run, evaluations and earlier sessions included.
    pub seconds: f64,
    /// Mean loss of its batch in nats.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of the gradient before it was clipped.
    pub grad_norm: f64,
    /// Share of the budget that is spent, 0 to 1.
    pub spent: f64,
}

/// The result of one evaluation during training.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationReport {
    /// The step after which the model was evaluated.
    pub step: u64,
    /// Seconds of the run.
    pub seconds: f64,
    /// Seconds that the evaluation took.
    pub evaluation_seconds: f64,
    /// The score on the held-out data.
    pub score: Score,
    /// Whether the score is the best so far.
    pub best: bool,
}

/// A watcher of a run, such as a log or a progress bar.
pub trait Progress {
    /// Takes notice of an event. An error ends the run.
    ///
    /// # Errors
    /// [`LogError::Write`] if a log cannot be written.
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError>;
}

/// The watcher that ignores every event.
impl Progress for () {
    fn event(&mut self, _event: &Event<'_>) -> Result<(), LogError> {
        Ok(())
    }
}

impl<P: Progress + ?Sized> Progress for Box<P> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        (**self).event(event)
    }
}

/// All of them watch.
impl<P: Progress> Progress for Vec<P> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        self.iter_mut().try_for_each(|watcher| watcher.event(event))
    }
}

/// Two watchers, called one after the other.
impl<A: Progress, B: Progress> Progress for (A, B) {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        self.0.event(event)?;
        self.1.event(event)
    }
}

/// Means over a few steps, so that a log shows a curve and not its noise.
#[derive(Clone, Debug)]
pub struct Smoother {
    every: u64,
    losses: f64,
    norms: f64,
    count: u64,
    begun: Option<(f64, u64)>,
    /// Tokens per second of the last report.
    speed: f64,
}

/// A report after this many seconds, even when fewer steps were made.
const LONGEST_SILENCE: f64 = 10.0;

impl Smoother {
    /// Reports at each multiple of `every` steps, and every ten seconds when steps are slow.
    pub fn new(every: u64) -> Self {
        Self { every: every.max(1), losses: 0.0, norms: 0.0, count: 0, begun: None, speed: 0.0 }
    }

    /// Takes in a step; gives the step with the mean loss and gradient norm of the steps since the
    /// last report, and tokens per second over them, when a report is due. The first step after an
    /// evaluation tells no speed: a report of it alone has the one before.
    pub fn push(&mut self, step: &StepReport) -> Option<(StepReport, f64)> {
        let (since, tokens) = *self.begun.get_or_insert((step.seconds, step.tokens));
        self.losses += step.loss;
        self.norms += step.grad_norm;
        self.count += 1;
        let due = step.step.is_multiple_of(self.every) || step.seconds - since >= LONGEST_SILENCE;
        if !due {
            return None;
        }
        let count = self.count as f64;
        let report =
            StepReport { loss: self.losses / count, grad_norm: self.norms / count, ..*step };
        let seconds = step.seconds - since;
        if seconds > 0.0 {
            self.speed = (step.tokens - tokens) as f64 / seconds;
        }
        (self.losses, self.norms, self.count) = (0.0, 0.0, 0);
        self.begun = Some((step.seconds, step.tokens));
        Some((report, self.speed))
    }

    /// Leaves the time up to now out of the speed: an evaluation was made.
    pub fn pause(&mut self) {
        self.begun = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, seconds: f64) -> StepReport {
        let (tokens, loss) = (100 * step, step as f64);
        StepReport { step, seconds, tokens, loss, ..StepReport::default() }
    }

    #[test]
    fn a_report_has_the_mean_loss_and_the_speed_between_evaluations() {
        let mut smoother = Smoother::new(2);
        assert!(smoother.push(&step(1, 1.0)).is_none());
        let (report, speed) = smoother.push(&step(2, 1.5)).unwrap();
        assert_eq!((report.loss, speed), (1.5, 200.0));
        assert!(smoother.push(&step(3, 2.5)).is_none());
        smoother.pause();
        // The first step after an evaluation, and the next report.
        assert_eq!(smoother.push(&step(4, 9.0)).unwrap().1, 200.0);
        assert!(smoother.push(&step(5, 9.1)).is_none());
        let (report, speed) = smoother.push(&step(6, 9.5)).unwrap();
        assert_eq!((report.loss, speed), (5.5, 400.0));
    }
}
