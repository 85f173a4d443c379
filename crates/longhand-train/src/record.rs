//! The run's own logs: JSON lines and TensorBoard event files in one folder.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use longhand_model::{Cpu, Gates, Model};
use serde_json::{Value, json};

use crate::log::{EventWriter, JsonLines, LogError};
use crate::progress::{EvaluationReport, Event, Progress, Smoother, StepReport};

/// The file of JSON lines in a run's log folder.
pub const JSON_LINES_FILE: &str = "log.jsonl";
/// Steps between two points of a curve.
const EVERY: u64 = 10;

/// Writes a sample text with a model, to be shown beside the curves. It ends early if the
/// flag is set meanwhile.
pub type WriteSample = Box<dyn FnMut(&Model, &Arc<Cpu>, &AtomicBool) -> Option<String>>;

/// Writes the logs of a run.
pub struct RunLog {
    folder: PathBuf,
    json: JsonLines<fs_err::File>,
    events: EventWriter<fs_err::File>,
    smoother: Smoother,
    write_sample: Option<WriteSample>,
}

impl RunLog {
    /// Opens the logs in a folder, which is made. What earlier sessions of the run wrote stays.
    ///
    /// # Errors
    /// [`LogError::Write`] if the folder or a file in it cannot be written.
    pub fn open(folder: &Path, write_sample: Option<WriteSample>) -> Result<Self, LogError> {
        let events = EventWriter::create(folder)?;
        let json = JsonLines::new(append(folder)?);
        let smoother = Smoother::new(EVERY);
        Ok(Self { folder: folder.into(), json, events, smoother, write_sample })
    }

    fn step(&mut self, step: &StepReport) -> Result<(), LogError> {
        let Some((report, speed)) = self.smoother.push(step) else { return Ok(()) };
        self.json.write(&with_speed(&report, speed))?;
        let now = seconds_since_epoch();
        for (tag, value) in [
            ("train/loss", report.loss),
            ("train/learning_rate", report.lr),
            ("train/gradient_norm", report.grad_norm),
            ("train/tokens_per_second", speed),
        ] {
            self.events.scalar(tag, report.step, now, value as f32)?;
        }
        Ok(())
    }

    fn evaluated(
        &mut self,
        report: &EvaluationReport,
        model: &Model,
        cpu: &Arc<Cpu>,
        stop: &AtomicBool,
    ) -> Result<(), LogError> {
        self.smoother.pause();
        let EvaluationReport { step, seconds, score, best, .. } = report;
        let mut line = json!({
            "step": step, "seconds": seconds, "valid_loss": score.loss, "best": best,
        });
        let now = seconds_since_epoch();
        self.events.scalar("valid/loss", *step, now, score.loss as f32)?;
        for (name, value) in &score.metrics {
            line[name] = json!(value);
            self.events.scalar(&format!("valid/{name}"), *step, now, *value as f32)?;
        }
        self.json.write(&line)?;
        if let Some(text) = self.write_sample.as_mut().and_then(|write| write(model, cpu, stop)) {
            self.events.text("sample", *step, &text)?;
        }
        Ok(())
    }

    fn gates(&mut self, step: u64, gates: &Gates) -> Result<(), LogError> {
        for (name, values) in [("input", &gates.input), ("forget", &gates.forget)] {
            if !values.is_empty() {
                self.events.histogram(&format!("gates/{}/{name}", gates.memory), step, values)?;
            }
        }
        Ok(())
    }

    /// Drops the lines of steps that a resumed run makes again.
    fn resumed(&mut self, from: u64) -> Result<(), LogError> {
        let path = self.folder.join(JSON_LINES_FILE);
        let mut kept = Vec::new();
        for line in BufReader::new(fs_err::File::open(&path)?).split(b'\n') {
            let line = line?;
            // A line that was cut short by the end of its process is dropped too.
            let Ok(entry) = serde_json::from_slice::<Value>(&line) else { continue };
            if entry["step"].as_u64().is_some_and(|step| step <= from) {
                kept.extend_from_slice(&line);
                kept.push(b'\n');
            }
        }
        longhand_model::file::write(&path, &kept).map_err(std::io::Error::other)?;
        self.json = JsonLines::new(append(&self.folder)?);
        self.events.restart(from + 1)
    }
}

impl Progress for RunLog {
    fn event(&mut self, event: &Event<'_>) -> Result<(), LogError> {
        match event {
            Event::Step(step) => self.step(step),
            Event::Evaluated { report, model, cpu, gates, stop } => {
                self.evaluated(report, model, cpu, stop)?;
                gates.iter().try_for_each(|gates| self.gates(report.step, gates))
            }
            Event::Resumed { step, .. } => self.resumed(*step),
            Event::Saved { .. } | Event::HeldOutSampled { .. } | Event::Validating { .. } => Ok(()),
        }
    }
}

/// A step as one JSON object, with its speed.
pub fn with_speed(report: &StepReport, speed: f64) -> Value {
    let StepReport { step, tokens, seconds, loss, lr, grad_norm, .. } = report;
    json!({
        "step": step, "tokens": tokens, "seconds": seconds, "loss": loss, "lr": lr,
        "grad_norm": grad_norm, "tokens_per_second": speed,
    })
}

fn append(folder: &Path) -> std::io::Result<fs_err::File> {
    fs_err::OpenOptions::new().create(true).append(true).open(folder.join(JSON_LINES_FILE))
}

fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
