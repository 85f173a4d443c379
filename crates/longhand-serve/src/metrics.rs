//! The numbers of a server in the text form of Prometheus, for `GET /metrics`.
//!
//! What requests count is counted here, by the crate `metrics` and its exporter; but for their times,
//! because the exporter keeps each of them until somebody asks. What the hosts count (tokens, steps,
//! sessions, times) they count themselves, without a lock; a [`Readings`] brings it here whenever
//! somebody asks. Each server has a recorder of its own, and none is the process's, so that two servers
//! of one test do not count together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhand_sessions::{Counters, Histogram, Load};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use crate::error::ApiError;
use crate::task_counts::TaskCounts;

/// The content type of [`Metrics::render`]: version 0.0.4 of Prometheus' text form.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The upper bounds of the buckets of a whole request's time, in seconds.
const REQUEST_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

const REQUESTS: &str = "longhand_requests_total";
const REQUEST_TIME: &str = "longhand_request_seconds";
const REQUEST_TIME_HELP: &str = "Time of a whole request, streaming included, by endpoint";
const REJECTED: &str = "longhand_rejected_total";
const CONNECTIONS: &str = "longhand_connections";
const BUILD: &str = "longhand_build_info";
const RESIDENT: &str = "process_resident_memory_bytes";

/// The numbers of one server. A clone counts together with it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    recorder: PrometheusRecorder,
    connections: AtomicUsize,
    /// The times of requests by the pattern of their route.
    request_times: Mutex<BTreeMap<String, HistogramReading>>,
    /// Tokens of texts that were scored. The hosts count prompts alone.
    scored: AtomicU64,
    /// What models of tasks have done, which have no host.
    tasks: Arc<TaskCounts>,
}

/// An open connection. It counts until it is dropped.
pub struct OpenConnection(Metrics);

/// Why a request was not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The queue is full.
    QueueFull,
    /// The key has used up one of its limits.
    Limit,
    /// The models are still being read.
    Loading,
    /// The server is shutting down.
    Draining,
    /// The store of the sessions does not answer as it should.
    StorageUnavailable,
}

/// What the hosts of a server have counted so far, and what they hold now.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// Jobs that a host accepted.
    pub accepted: u64,
    /// Jobs that came to their end.
    pub finished: u64,
    /// Jobs that ended with an error.
    pub failed: u64,
    /// Jobs whose client left before their end.
    pub cancelled: u64,
    /// Jobs refused because the queue, or the memory for states, was full.
    pub refused_busy: u64,
    /// Jobs that ran past their deadline.
    pub deadline: u64,
    /// Tokens of prompts that were computed.
    pub tokens_read: u64,
    /// Tokens of prompts that a session or the state cache already held.
    pub tokens_reused: u64,
    /// Tokens that were written.
    pub tokens_written: u64,
    /// Decode steps of a batch.
    pub steps: u64,
    /// Streams of all decode steps: over [`Readings::steps`] the mean size of a batch.
    pub step_rows: u64,
    /// Streams in a batch now.
    pub streams: u64,
    /// Jobs that wait now.
    pub queued: u64,
    /// Prompts of which the state cache held a prefix.
    pub cache_hits: u64,
    /// Prompts of which it held none.
    pub cache_misses: u64,
    /// States that had to leave the cache.
    pub cache_evictions: u64,
    /// Bytes in the state cache now.
    pub cache_bytes: u64,
    /// Sessions in memory now.
    pub sessions_hot: u64,
    /// Bytes of the sessions in memory.
    pub sessions_hot_bytes: u64,
    /// Sessions in the store now.
    pub sessions_stored: u64,
    /// Bytes of the sessions in the store.
    pub sessions_stored_bytes: u64,
    /// Sessions that came from the store into memory.
    pub session_loads: u64,
    /// Sessions that were written to the store.
    pub session_saves: u64,
    /// Commits of the store.
    pub commits: u64,
    /// Restored states that were compared with a cold recompute.
    pub verified: BySource,
    /// Those that differed. It must stay 0.
    pub verify_failures: BySource,
    /// Times from a job's acceptance to its first token.
    pub first_token: HistogramReading,
    /// Times between two tokens of a stream.
    pub per_token: HistogramReading,
}

/// Restored states by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BySource {
    /// Those of sessions.
    pub session: u64,
    /// Those of the state cache.
    pub cache: u64,
}

/// A histogram of times in seconds.
#[derive(Clone, Debug, Default)]
pub struct HistogramReading {
    /// The upper bounds of its buckets, ascending.
    pub bounds: Vec<f64>,
    /// How many times fell into each bucket, and last those above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all times.
    pub sum: f64,
}

/// A counter or a gauge of the hosts: its name, its help and its value.
type Number = (&'static str, &'static str, fn(&Readings) -> u64);

const COUNTERS: &[Number] = &[
    ("longhand_jobs_accepted_total", "Jobs that a host accepted", |it| it.accepted),
    ("longhand_jobs_finished_total", "Jobs that came to their end", |it| it.finished),
    ("longhand_jobs_failed_total", "Jobs that failed", |it| it.failed),
    ("longhand_jobs_cancelled_total", "Jobs whose client left", |it| it.cancelled),
    ("longhand_jobs_refused_total", "Jobs refused for want of room", |it| it.refused_busy),
    ("longhand_jobs_deadline_total", "Jobs that ran past their deadline", |it| it.deadline),
    ("longhand_tokens_read_total", "Tokens of prompts that were computed", |it| it.tokens_read),
    (
        "longhand_tokens_reused_total",
        "Tokens of prompts that a session or the state cache already held",
        |it| it.tokens_reused,
    ),
    ("longhand_tokens_written_total", "Tokens that were written", |it| it.tokens_written),
    ("longhand_steps_total", "Decode steps of a batch", |it| it.steps),
    (
        "longhand_step_streams_total",
        "Streams of all decode steps; over longhand_steps_total the mean size of a batch",
        |it| it.step_rows,
    ),
    ("longhand_cache_hits_total", "Prompts with a cached prefix", |it| it.cache_hits),
    ("longhand_cache_misses_total", "Prompts without a cached prefix", |it| it.cache_misses),
    ("longhand_cache_evictions_total", "States that had to leave the cache", |it| {
        it.cache_evictions
    }),
    ("longhand_session_loads_total", "Sessions read from the store", |it| it.session_loads),
    ("longhand_session_saves_total", "Sessions written to the store", |it| it.session_saves),
    ("longhand_store_commits_total", "Commits of the store", |it| it.commits),
];

/// A counter of the hosts with the source of a state as its label.
type Sources = (&'static str, &'static str, fn(&Readings) -> BySource);

const SOURCES: &[Sources] = &[
    ("longhand_state_verified_total", "Restored states compared with a cold recompute", |it| {
        it.verified
    }),
    (
        "longhand_state_verify_failures_total",
        "Restored states that differed from a cold recompute; must stay 0",
        |it| it.verify_failures,
    ),
];

const GAUGES: &[Number] = &[
    ("longhand_streams", "Streams in a batch now", |it| it.streams),
    ("longhand_queue_depth", "Jobs that wait now", |it| it.queued),
    ("longhand_cache_bytes", "Bytes in the state cache", |it| it.cache_bytes),
    ("longhand_sessions_hot", "Sessions in memory", |it| it.sessions_hot),
    ("longhand_sessions_hot_bytes", "Bytes of the sessions in memory", |it| it.sessions_hot_bytes),
    ("longhand_sessions_stored", "Sessions in the store", |it| it.sessions_stored),
    ("longhand_sessions_stored_bytes", "Bytes of the sessions in the store", |it| {
        it.sessions_stored_bytes
    }),
];

/// A histogram of the hosts.
type Times = (&'static str, &'static str, fn(&Readings) -> &HistogramReading);

const TIMES: &[Times] = &[
    ("longhand_first_token_seconds", "Time from a job's acceptance to its first token", |it| {
        &it.first_token
    }),
    ("longhand_token_seconds", "Time between two tokens of a stream", |it| &it.per_token),
];

/// The names of all metrics, each with its type in Prometheus' words. What a dashboard asks for must
/// be one of them; a histogram's series end in `_bucket`, `_sum` and `_count`.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = [
        (REQUESTS, "counter"),
        (REJECTED, "counter"),
        (REQUEST_TIME, "histogram"),
        (CONNECTIONS, "gauge"),
        (BUILD, "gauge"),
        (RESIDENT, "gauge"),
    ];
    let counters = COUNTERS.iter().map(|(name, ..)| (*name, "counter"));
    let sources = SOURCES.iter().map(|(name, ..)| (*name, "counter"));
    let gauges = GAUGES.iter().map(|(name, ..)| (*name, "gauge"));
    let times = TIMES.iter().map(|(name, ..)| (*name, "histogram"));
    own.into_iter().chain(counters).chain(sources).chain(gauges).chain(times)
}

impl Rejection {
    /// The reason of a refusal, if it is one of these.
    pub(crate) fn of(error: &ApiError) -> Option<Self> {
        match error {
            ApiError::Busy { .. } => Some(Self::QueueFull),
            ApiError::Limited { .. } | ApiError::Quota(_) => Some(Self::Limit),
            ApiError::Loading => Some(Self::Loading),
            ApiError::ShuttingDown | ApiError::BrokenOff => Some(Self::Draining),
            ApiError::StorageUnavailable { .. } => Some(Self::StorageUnavailable),
            _ => None,
        }
    }

    /// The value of its label.
    fn reason(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Limit => "limit",
            Self::Loading => "loading",
            Self::Draining => "draining",
            Self::StorageUnavailable => "storage_unavailable",
        }
    }
}

impl Metrics {
    /// A server's numbers, all of them 0.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let help = |text: &'static str| text.into();
        recorder.describe_counter(REQUESTS.into(), None, help("Requests by endpoint and status"));
        recorder.describe_counter(REJECTED.into(), None, help("Requests refused by reason"));
        recorder.describe_gauge(CONNECTIONS.into(), None, help("Open connections"));
        recorder.describe_gauge(BUILD.into(), None, help("1, with the version as a label"));
        recorder.describe_gauge(
            RESIDENT.into(),
            Some(Unit::Bytes),
            help("Resident memory of the process"),
        );
        for (name, text, _) in COUNTERS {
            recorder.describe_counter((*name).into(), None, help(text));
        }
        for (name, text, _) in SOURCES {
            recorder.describe_counter((*name).into(), None, help(text));
        }
        for (name, text, _) in GAUGES {
            recorder.describe_gauge((*name).into(), None, help(text));
        }
        let metrics = Self(Arc::new(Inner {
            recorder,
            connections: AtomicUsize::new(0),
            request_times: Mutex::default(),
            scored: AtomicU64::new(0),
            tasks: Arc::default(),
        }));
        metrics.gauge(BUILD, vec![Label::new("version", env!("CARGO_PKG_VERSION"))], 1.0);
        metrics
    }

    /// A request that was answered, after `took`, its whole stream included. The endpoint is a route's
    /// pattern and never a path of the client, so that nobody can make series without end.
    pub fn request(&self, endpoint: &str, status: u16, took: Duration) {
        let labels = vec![
            Label::new("endpoint", endpoint.to_owned()),
            Label::new("status", status.to_string()),
        ];
        self.count(REQUESTS, labels);
        let mut times = self.0.request_times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = times.entry(endpoint.to_owned());
        let times = times.or_insert_with(|| HistogramReading::without_times(&REQUEST_SECONDS));
        times.add(took.as_secs_f64());
    }

    /// Tokens that are read to score them.
    pub(crate) fn scored(&self, tokens: u64) {
        self.0.scored.fetch_add(tokens, Ordering::Relaxed);
    }

    /// How many tokens were read to score them so far.
    pub(crate) fn tokens_scored(&self) -> u64 {
        self.0.scored.load(Ordering::Relaxed)
    }

    /// What models of tasks have done.
    pub(crate) fn tasks(&self) -> &Arc<TaskCounts> {
        &self.0.tasks
    }

    /// A request that was refused before its work began.
    pub fn rejected(&self, why: Rejection) {
        self.count(REJECTED, vec![Label::from_static_parts("reason", why.reason())]);
    }

    /// A connection that opens.
    pub fn connection(&self) -> OpenConnection {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// All numbers in the text form of Prometheus.
    pub fn render(&self, readings: &Readings) -> String {
        for (name, _, value) in COUNTERS {
            let counter = self.0.recorder.register_counter(&Key::from_static_name(name), &METADATA);
            counter.absolute(value(readings));
        }
        for (name, _, value) in SOURCES {
            let BySource { session, cache } = value(readings);
            for (source, value) in [("session", session), ("cache", cache)] {
                let labels = vec![Label::from_static_parts("source", source)];
                let key = Key::from_parts(*name, labels);
                self.0.recorder.register_counter(&key, &METADATA).absolute(value);
            }
        }
        for (name, _, value) in GAUGES {
            self.gauge(name, Vec::new(), value(readings) as f64);
        }
        let open = self.0.connections.load(Ordering::Relaxed);
        self.gauge(CONNECTIONS, Vec::new(), open as f64);
        if let Some(bytes) = resident() {
            self.gauge(RESIDENT, Vec::new(), bytes as f64);
        }
        let mut text = self.0.recorder.handle().render();
        let requests = self.0.request_times.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = requests.iter().map(|(endpoint, times)| {
            // A route's pattern has nothing that would have to be escaped.
            (format!("endpoint=\"{endpoint}\""), times)
        });
        write_histogram(&mut text, REQUEST_TIME, REQUEST_TIME_HELP, requests);
        for (name, help, times) in TIMES {
            write_histogram(&mut text, name, help, [(String::new(), times(readings))]);
        }
        text
    }

    fn count(&self, name: &'static str, labels: Vec<Label>) {
        self.0.recorder.register_counter(&Key::from_parts(name, labels), &METADATA).increment(1);
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>, value: f64) {
        self.0.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA).set(value);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Readings {
    /// What hosts and their store have counted, and what each of the hosts has to do. Of the streams
    /// the store's counter has those of one host alone, whichever spoke last.
    pub(crate) fn of(counters: &Counters, loads: impl IntoIterator<Item = Load>) -> Self {
        let (queued, streams) = loads.into_iter().fold((0, 0), |(queued, streams), load| {
            (queued + load.waiting as u64, streams + load.writing as u64)
        });
        Self {
            accepted: counters.accepted.get(),
            finished: counters.finished.get(),
            failed: counters.failed.get(),
            cancelled: counters.cancelled.get(),
            refused_busy: counters.refused_busy.get(),
            deadline: counters.deadline.get(),
            tokens_read: counters.tokens_read.get(),
            tokens_reused: counters.tokens_reused.get(),
            tokens_written: counters.tokens_written.get(),
            steps: counters.steps.get(),
            step_rows: counters.step_rows.get(),
            streams,
            queued,
            cache_hits: counters.cache_hits.get(),
            cache_misses: counters.cache_misses.get(),
            cache_evictions: counters.cache_evictions.get(),
            cache_bytes: counters.cache_bytes.get(),
            sessions_hot: counters.sessions_hot.get(),
            sessions_hot_bytes: counters.sessions_hot_bytes.get(),
            sessions_stored: counters.sessions_stored.get(),
            sessions_stored_bytes: counters.sessions_stored_bytes.get(),
            session_loads: counters.session_loads.get(),
            session_saves: counters.session_saves.get(),
            commits: counters.commits.get(),
            verified: BySource {
                session: counters.verified.get(),
                cache: counters.cache_verified.get(),
            },
            verify_failures: BySource {
                session: counters.verify_failures.get(),
                cache: counters.cache_verify_failures.get(),
            },
            first_token: HistogramReading::of(&counters.first_token),
            per_token: HistogramReading::of(&counters.per_token),
        }
    }
}

impl Readings {
    /// Adds what models of tasks have done, which have no host.
    pub(crate) fn add_tasks(&mut self, counts: &TaskCounts) {
        for (sum, count) in [
            (&mut self.accepted, &counts.accepted),
            (&mut self.refused_busy, &counts.refused),
            (&mut self.finished, &counts.finished),
            (&mut self.failed, &counts.failed),
            (&mut self.cancelled, &counts.cancelled),
            (&mut self.deadline, &counts.overdue),
            (&mut self.queued, &counts.waiting),
            (&mut self.tokens_read, &counts.read),
            (&mut self.tokens_written, &counts.written),
        ] {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

impl HistogramReading {
    fn of(histogram: &Histogram) -> Self {
        let bounds = histogram.bounds().to_vec();
        Self { bounds, counts: histogram.counts(), sum: histogram.sum() }
    }

    fn without_times(bounds: &[f64]) -> Self {
        Self { bounds: bounds.to_vec(), counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a time in the first bucket that it does not exceed.
    fn add(&mut self, seconds: f64) {
        let bucket = self.bounds.partition_point(|&bound| bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }
}

/// Where the numbers come from; the exporter does not write it.
static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// A histogram that the exporter did not count, one series for each label, which may be empty: its
/// buckets are cumulative in the text form.
fn write_histogram<'a>(
    text: &mut String,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (String, &'a HistogramReading)>,
) {
    let mut write = |line: std::fmt::Arguments<'_>| {
        // Nothing refuses to be written to a string.
        let _ = writeln!(text, "{line}");
    };
    write(format_args!("# HELP {name} {help}"));
    write(format_args!("# TYPE {name} histogram"));
    for (label, times) in series {
        let (first, only) = match label.is_empty() {
            true => (String::new(), String::new()),
            false => (format!("{label},"), format!("{{{label}}}")),
        };
        let mut below = 0;
        for (bound, count) in times.bounds.iter().zip(&times.counts) {
            below += count;
            write(format_args!("{name}_bucket{{{first}le=\"{bound}\"}} {below}"));
        }
        let all: u64 = times.counts.iter().sum();
        write(format_args!("{name}_bucket{{{first}le=\"+Inf\"}} {all}"));
        write(format_args!("{name}_sum{only} {}", times.sum));
        write(format_args!("{name}_count{only} {all}"));
    }
    write(format_args!(""));
}

/// Bytes of this process in memory, where the system tells.
fn resident() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the series whose text form begins with `series`.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn what_requests_and_hosts_count_comes_out() {
        let metrics = Metrics::new();
        let counted = metrics.clone();
        counted.request("/v1/chat/completions", 200, Duration::from_millis(20));
        counted.request("/v1/chat/completions", 200, Duration::from_secs(20));
        counted.request("/v1/chat/completions", 429, Duration::from_millis(1));
        counted.rejected(Rejection::QueueFull);
        let open = [(); 3].map(|()| counted.connection());
        drop(counted.connection());
        let times = HistogramReading { bounds: vec![0.5, 1.0], counts: vec![2, 1, 4], sum: 9.5 };
        let verify_failures = BySource { session: 0, cache: 2 };
        let readings = Readings {
            tokens_written: 7,
            first_token: times,
            verify_failures,
            ..Readings::default()
        };
        let text = metrics.render(&readings);
        let chat = "endpoint=\"/v1/chat/completions\"";
        for (series, expected) in [
            (format!("{REQUESTS}{{{chat},status=\"200\"}}"), 2.0),
            (format!("{REQUESTS}{{{chat},status=\"429\"}}"), 1.0),
            (format!("{REQUEST_TIME}_bucket{{{chat},le=\"0.025\"}}"), 2.0),
            (format!("{REQUEST_TIME}_bucket{{{chat},le=\"30\"}}"), 3.0),
            (format!("{REQUEST_TIME}_count{{{chat}}}"), 3.0),
            (format!("{REJECTED}{{reason=\"queue_full\"}}"), 1.0),
            (format!("{CONNECTIONS} "), 3.0),
            ("longhand_tokens_written_total ".into(), 7.0),
            ("longhand_state_verify_failures_total{source=\"session\"}".into(), 0.0),
            ("longhand_state_verify_failures_total{source=\"cache\"}".into(), 2.0),
            ("longhand_first_token_seconds_bucket{le=\"0.5\"}".into(), 2.0),
            ("longhand_first_token_seconds_bucket{le=\"1\"}".into(), 3.0),
            ("longhand_first_token_seconds_bucket{le=\"+Inf\"}".into(), 7.0),
            ("longhand_first_token_seconds_sum".into(), 9.5),
            ("longhand_first_token_seconds_count".into(), 7.0),
        ] {
            assert_eq!(value(&text, &series), Some(expected), "{series} in\n{text}");
        }
        drop(open);
        // Counters go on from where the hosts are.
        let later = Readings { tokens_written: 9, ..Readings::default() };
        assert_eq!(value(&metrics.render(&later), "longhand_tokens_written_total"), Some(9.0));
    }

    /// The exporter keeps every time until somebody asks; a server that nobody watches would grow.
    #[test]
    fn times_of_requests_are_counted_and_not_kept() {
        let metrics = Metrics::new();
        for milliseconds in 0..10_000 {
            metrics.request("/a", 200, Duration::from_millis(milliseconds));
        }
        metrics.request("/b", 200, Duration::from_secs(300));
        let times = metrics.0.request_times.lock().unwrap();
        assert_eq!(times.len(), 2);
        assert_eq!(times["/a"].counts.len(), REQUEST_SECONDS.len() + 1);
        assert_eq!(times["/a"].counts.iter().sum::<u64>(), 10_000);
        // A time that is a bound belongs to it.
        assert_eq!(times["/a"].counts[..4], [2, 1, 3, 5]);
        assert_eq!(times["/b"].counts.last(), Some(&1));
        drop(times);
        let text = metrics.render(&Readings::default());
        for (series, expected) in [
            ("_bucket{endpoint=\"/a\",le=\"0.005\"}", 6.0),
            ("_bucket{endpoint=\"/b\",le=\"120\"}", 0.0),
            ("_bucket{endpoint=\"/b\",le=\"+Inf\"}", 1.0),
            ("_sum{endpoint=\"/b\"}", 300.0),
        ] {
            let series = format!("{REQUEST_TIME}{series}");
            assert_eq!(value(&text, &series), Some(expected), "{series} in\n{text}");
        }
    }

    #[test]
    fn streams_and_waiting_jobs_are_those_of_all_models() {
        let load = |waiting, writing| Load { waiting, reading: 0, writing, streams: 8 };
        let readings = Readings::of(&Counters::new(), [load(1, 2), load(0, 0), load(4, 3)]);
        assert_eq!((readings.queued, readings.streams), (5, 5));
    }

    #[test]
    fn every_name_has_a_help_and_its_type_and_is_written() {
        let metrics = Metrics::new();
        metrics.request("/v1/models", 200, Duration::ZERO);
        metrics.rejected(Rejection::Limit);
        let text = metrics.render(&Readings::default());
        for (name, kind) in names() {
            if name == RESIDENT && resident().is_none() {
                continue;
            }
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name}\n{text}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}\n{text}");
        }
        let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in series {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = |end: &str| name.strip_suffix(end).unwrap_or(name);
            let known = |name: &str| names().any(|(known, _)| known == name);
            assert!(
                ["", "_bucket", "_sum", "_count"].iter().any(|end| known(base(end))),
                "{line} is not in names()"
            );
        }
    }

    #[test]
    fn servers_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.rejected(Rejection::Draining);
        let series = "longhand_rejected_total{reason=\"draining\"}";
        assert_eq!(value(&one.render(&Readings::default()), series), Some(1.0));
        assert_eq!(value(&other.render(&Readings::default()), series), None);
    }
}
