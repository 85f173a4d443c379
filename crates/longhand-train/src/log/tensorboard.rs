//! TensorBoard event files, written without TensorBoard.
//!
//! An event file is a row of records (`record`), each an `Event` message (`messages`). TensorBoard
//! reads every file below a folder whose name contains `tfevents`, and merges them.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

use super::LogError;
use messages::{Event, HistogramProto, Summary, SummaryMetadata, TensorProto, Value, What};

mod messages;
mod record;
#[cfg(test)]
mod tests;

/// Buckets of a histogram; TensorBoard resamples to its own number when it draws.
const BUCKETS: usize = 30;

/// Writes scalars, histograms and text for TensorBoard.
///
/// Each call writes one whole record at once, so that a run killed at any moment leaves a file
/// that can be read up to its last event, and a reader that follows along sees every event.
#[derive(Debug)]
pub struct EventWriter<W> {
    writer: W,
    record: Vec<u8>,
}

impl EventWriter<fs_err::File> {
    /// Creates a new event file in `folder` (made if it is not there), never reusing one: a
    /// resumed run adds a file, and [`EventWriter::restart`] tells where it goes on.
    ///
    /// # Errors
    /// [`LogError::Write`] if the folder or the file cannot be created or written.
    pub fn create(folder: &Path) -> Result<Self, LogError> {
        fs_err::create_dir_all(folder)?;
        let now = since_epoch();
        // TensorBoard reads files in the order of their names: the time comes first.
        let mut attempt = 0;
        let file = loop {
            let process = std::process::id();
            let name =
                format!("events.out.tfevents.{:010}.longhand.{process}.{attempt}", now.as_secs());
            let mut options = fs_err::OpenOptions::new();
            match options.write(true).create_new(true).open(folder.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                opened => break opened?,
            }
        };
        Self::new(file, now.as_secs_f64())
    }
}

impl<W: Write> EventWriter<W> {
    /// Starts an event file in `writer`. `wall_time` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`LogError::Write`] if the writer fails.
    pub fn new(writer: W, wall_time: f64) -> Result<Self, LogError> {
        let mut events = Self { writer, record: Vec::new() };
        events.write(0, wall_time, What::FileVersion("brain.Event:2".into()))?;
        Ok(events)
    }

    /// One point of the curve `tag`, at `wall_time` seconds since the Unix epoch. Slashes in
    /// the tag group curves, as in `train/loss`.
    ///
    /// # Errors
    /// [`LogError::Write`] if the writer fails.
    pub fn scalar(
        &mut self,
        tag: &str,
        step: u64,
        wall_time: f64,
        value: f32,
    ) -> Result<(), LogError> {
        let value = Value { simple_value: Some(value), ..Value::tagged(tag) };
        self.write(step, wall_time, What::Summary(Summary { value: vec![value] }))
    }

    /// How `values` are spread at `step`, in equal buckets from the least to the greatest.
    /// Values that are not finite are left out.
    ///
    /// # Errors
    /// [`LogError::Write`] if the writer fails.
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<(), LogError> {
        let value = Value { histo: Some(histogram(values)), ..Value::tagged(tag) };
        let summary = Summary { value: vec![value] };
        self.write(step, since_epoch().as_secs_f64(), What::Summary(summary))
    }

    /// A text at `step`, such as what the model writes by then. TensorBoard shows Markdown.
    ///
    /// # Errors
    /// [`LogError::Write`] if the writer fails.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<(), LogError> {
        let value = Value {
            tensor: Some(TensorProto::one_string(text)),
            metadata: Some(SummaryMetadata::of_plugin("text")),
            ..Value::tagged(tag)
        };
        let summary = Summary { value: vec![value] };
        self.write(step, since_epoch().as_secs_f64(), What::Summary(summary))
    }

    /// Says that the run goes on from `step` in this file: TensorBoard then drops what earlier
    /// files hold from that step on, so that a resumed run shows each step once.
    ///
    /// # Errors
    /// [`LogError::Write`] if the writer fails.
    pub fn restart(&mut self, step: u64) -> Result<(), LogError> {
        let start = What::SessionLog(messages::SessionLog { status: messages::SESSION_START });
        self.write(step, since_epoch().as_secs_f64(), start)
    }

    /// The writer, for whoever needs it back.
    pub fn into_inner(self) -> W {
        self.writer
    }

    fn write(&mut self, step: u64, wall_time: f64, what: What) -> Result<(), LogError> {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = Event { wall_time, step, what: Some(what) };
        self.record.clear();
        record::frame(&event.encode_to_vec(), &mut self.record);
        self.writer.write_all(&self.record)?;
        self.writer.flush()?;
        Ok(())
    }
}

/// Counts finite values in [`BUCKETS`] buckets of equal width. `bucket_limit[i]` is the upper,
/// exclusive end of bucket i, the last one's inclusive.
fn histogram(values: &[f32]) -> HistogramProto {
    let finite = || values.iter().map(|&value| f64::from(value)).filter(|value| value.is_finite());
    let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut count, mut sum, mut sum_squares) = (0.0, 0.0, 0.0);
    for value in finite() {
        least = least.min(value);
        greatest = greatest.max(value);
        count += 1.0;
        sum += value;
        sum_squares += value * value;
    }
    if count == 0.0 {
        return HistogramProto { bucket_limit: vec![0.0], bucket: vec![0.0], ..Default::default() };
    }
    let (bucket_limit, bucket) = if least == greatest {
        (vec![least], vec![count])
    } else {
        let width = (greatest - least) / BUCKETS as f64;
        let mut bucket = vec![0.0; BUCKETS];
        for value in finite() {
            bucket[(((value - least) / width) as usize).min(BUCKETS - 1)] += 1.0;
        }
        let mut limits: Vec<f64> = (1..=BUCKETS).map(|i| least + width * i as f64).collect();
        limits[BUCKETS - 1] = greatest;
        (limits, bucket)
    };
    HistogramProto { min: least, max: greatest, num: count, sum, sum_squares, bucket_limit, bucket }
}

fn since_epoch() -> Duration {
    // A clock set before 1970 is no reason to stop a run.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
