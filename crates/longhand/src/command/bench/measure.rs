//! What every benchmark of throughput shares: its flags, its windows of time, what else the machine
//! did meanwhile, and the line of JSON that it prints.

use std::collections::BTreeSet;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use longhand_model::{Cpu, InstructionSet, Level, Precision};
use serde_json::{Map, Value, json};

use crate::error::Usage;

/// Windows below which a median says little.
const FEWEST_WINDOWS: i64 = 5;
/// Most seconds of warming up: caches, clock rates, and buffers that are taken once.
const WARM_UP: f64 = 2.0;
/// Ticks of a second in the files of `/proc`: the same on every Linux that there is.
const TICKS: f64 = 100.0;

/// How long is measured, and on what.
#[derive(Args)]
pub(crate) struct Measuring {
    /// Windows of time; the median of their speeds counts
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(FEWEST_WINDOWS..=1000))]
    windows: u16,
    /// Seconds of one window
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    window_seconds: f64,
    #[command(flatten)]
    processor: Processor,
    /// Print one JSON object: the default, but for tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// Threads and instructions to compute with.
#[derive(Args)]
pub(crate) struct Processor {
    /// Threads to compute on; as many as there are cores where not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Instructions to use: amx-bf16, avx512-bf16, avx512, avx2 or portable [default: the
    /// best of this machine]
    #[arg(long, value_name = "LEVEL")]
    level: Option<LevelName>,
    /// The operands of matrix products: f32 or bf16
    #[arg(long, value_name = "P", default_value_t = Precision::F32)]
    precision: Precision,
}

/// An instruction set by its name.
#[derive(Clone, Copy)]
struct LevelName(InstructionSet);

/// Speeds over several windows of time, and what else the machine did in them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Units (tokens) a second of the window in the middle.
    pub(crate) median: f64,
    /// Rate of the slowest window.
    pub(crate) min: f64,
    /// Rate of the fastest window.
    pub(crate) max: f64,
    windows: usize,
    steps_per_window: usize,
    /// Processors that other processes kept busy meanwhile, where the system tells: above about
    /// 0.1 the figures are disturbed.
    pub(crate) other_cpus_busy: Option<f64>,
}

/// One result: a line of JSON on stdout.
pub(crate) struct Line(Map<String, Value>);

impl Measuring {
    /// The processor of the flags, with its threads started.
    pub(crate) fn cpu(&self) -> Result<Arc<Cpu>> {
        self.processor.cpu()
    }

    /// Measures as the flags say: see [`windows`].
    pub(crate) fn windows(&self, step: impl FnMut() -> Result<u64>) -> Result<Rates> {
        if !(self.window_seconds > 0.0 && self.window_seconds <= 3600.0) {
            let seconds = self.window_seconds;
            return Err(Usage(format!(
                "--window-seconds is {seconds}; it must be above 0 and at most 3600"
            ))
            .into());
        }
        windows(self.windows.into(), self.window_seconds, step)
    }
}

impl Processor {
    /// The processor of the flags, with its threads started.
    pub(crate) fn cpu(&self) -> Result<Arc<Cpu>> {
        let threads = self.threads.map_or_else(cores, usize::from);
        let level = match self.level {
            None => Level::detect(),
            Some(LevelName(set)) => Level::of(set)
                .ok_or_else(|| Usage(format!("this machine has no {} instructions", set.name())))?,
        };
        Ok(Arc::new(Cpu::with(threads, level, self.precision)))
    }
}

/// Runs `step` until everything is warm, then `count` windows of about `seconds` each. A step
/// returns the number of units (tokens) that it did. Its error ends the measurement.
pub(crate) fn windows(
    count: usize,
    seconds: f64,
    mut step: impl FnMut() -> Result<u64>,
) -> Result<Rates> {
    let (began, mut warm) = (Instant::now(), 0);
    while warm < 2 || began.elapsed().as_secs_f64() < seconds.min(WARM_UP) {
        step()?;
        warm += 1;
    }
    // A step alone may be too short to be timed well.
    let (one, mut steps) = (Instant::now(), 0);
    while steps == 0 || one.elapsed().as_secs_f64() < seconds.min(0.1) {
        step()?;
        steps += 1;
    }
    let one = one.elapsed().as_secs_f64() / f64::from(steps);
    let steps_per_window = (seconds / one).round().max(1.0) as usize;
    let (before, began) = (busy_ticks(), Instant::now());
    let mut rates = Vec::with_capacity(count);
    for _ in 0..count {
        let (window, mut units) = (Instant::now(), 0);
        for _ in 0..steps_per_window {
            units += step()?;
        }
        rates.push(units as f64 / window.elapsed().as_secs_f64());
    }
    let (spent, after) = (began.elapsed().as_secs_f64(), busy_ticks());
    let others = |((all, own), (all_before, own_before)): ((f64, f64), (f64, f64))| {
        (((all - all_before) - (own - own_before)) / TICKS / spent).max(0.0)
    };
    rates.sort_by(f64::total_cmp);
    Ok(Rates {
        median: middle(&rates),
        min: rates[0],
        max: rates[count - 1],
        windows: count,
        steps_per_window,
        other_cpus_busy: after.zip(before).map(others),
    })
}

impl Line {
    /// The beginning of a result of the benchmark so named, computed on `cpu`.
    pub(crate) fn new(bench: &str, cpu: &Cpu) -> Self {
        let mut line = Self(Map::new());
        line.add("bench", bench);
        line.add("threads", cpu.threads());
        line.add("level", cpu.level().set().name());
        line.add("precision", cpu.precision().name());
        line
    }

    /// Adds a field to the object.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the speeds, with their spread, and the microseconds of one step of the median window
    /// (`units` as the step returned them).
    pub(crate) fn rates(&mut self, rates: &Rates, units: u64) -> &mut Self {
        let Rates { median, min, max, windows, steps_per_window, other_cpus_busy } = *rates;
        self.add(
            "tokens_per_s",
            json!({
                "median": rounded(median), "min": rounded(min), "max": rounded(max),
                "windows": windows, "steps_per_window": steps_per_window,
            }),
        );
        self.add("us_per_step", rounded(1e6 * units as f64 / median));
        self.add("other_cpus_busy", other_cpus_busy.map(rounded))
    }

    /// Adds the spread of the work done a second, in units of 10⁹ operations, if one unit of a
    /// step is an operation.
    pub(crate) fn operations(&mut self, rates: &Rates) -> &mut Self {
        let [median, min, max] = [rates.median, rates.min, rates.max].map(|x| rounded(x / 1e9));
        self.add("gflops", json!({ "median": median, "min": min, "max": max }));
        self.add("other_cpus_busy", rates.other_cpus_busy.map(rounded))
    }

    /// Adds the work done a second, in units of 10⁹ operations (a multiplication and an addition
    /// are two), and its share of the best matrix product's, where that was measured.
    pub(crate) fn work(&mut self, gflops: f64, peak: Option<f64>) -> &mut Self {
        self.add("gflops", rounded(gflops));
        self.add("fraction_of_gemm_peak", peak.map(|peak| rounded(gflops / peak)))
    }

    /// Adds the most memory that the process held so far.
    pub(crate) fn peak_memory(&mut self) -> &mut Self {
        self.add("peak_rss_mib", peak_resident_mib().map(rounded))
    }

    /// Prints it, with the most memory that the process held so far unless that was added before.
    pub(crate) fn print(mut self) -> Result<()> {
        if !self.0.contains_key("peak_rss_mib") {
            self.peak_memory();
        }
        Ok(writeln!(std::io::stdout().lock(), "{}", Value::Object(self.0))?)
    }
}

impl FromStr for LevelName {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        let found = InstructionSet::ALL.into_iter().find(|set| set.name() == name);
        found.map(Self).ok_or_else(|| UnknownLevel(name.into()))
    }
}

/// No instruction set has this name.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no level `{0}`; there are {names}",
    names = InstructionSet::ALL.map(InstructionSet::name).join(", ")
)]
pub(crate) struct UnknownLevel(String);

/// The most memory that the process held so far, in MiB, where the system tells.
pub(crate) fn peak_resident_mib() -> Option<f64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

/// Ticks that the whole machine was busy, and those of this process.
fn busy_ticks() -> Option<(f64, f64)> {
    let numbers = |text: &str| -> Vec<f64> {
        text.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect()
    };
    let machine = fs_err::read_to_string("/proc/stat").ok()?;
    let machine = numbers(machine.lines().next()?.strip_prefix("cpu")?);
    // User, nice, system, interrupts hard and soft, stolen; not idle, not waiting for a disk.
    let busy = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|i| machine.get(i)).sum();
    let own = fs_err::read_to_string("/proc/self/stat").ok()?;
    // The program's name stands in parentheses and may hold spaces.
    let own = numbers(own.rsplit_once(')')?.1);
    Some((busy, own.get(11)? + own.get(12)?))
}

/// Cores of the machine that this process may use: threads that share a core count once.
fn cores() -> usize {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let siblings = |processor: usize| {
        let folder = format!("/sys/devices/system/cpu/cpu{processor}/topology");
        fs_err::read_to_string(format!("{folder}/thread_siblings_list")).ok()
    };
    let groups: BTreeSet<String> = (0..usable).map_while(siblings).collect();
    if groups.is_empty() { usable } else { groups.len() }
}

/// The median of sorted values.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[half - 1] + sorted[half]) / 2.0,
        _ => sorted[half],
    }
}

/// To four significant digits or two places, whichever is more: what a clock can tell.
pub(crate) fn rounded(value: f64) -> f64 {
    let scale = if value.abs() < 1.0 { 1e4 } else { 1e2 };
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_ordered_and_count_the_steps_units() {
        let mut steps = 0u64;
        let rates = windows(5, 0.002, || {
            steps += 1;
            std::thread::sleep(std::time::Duration::from_micros(200));
            Ok(3)
        })
        .unwrap();
        assert!(rates.min <= rates.median && rates.median <= rates.max);
        assert!(rates.max <= 3.0 / 200e-6);
        assert!(steps >= 5 * rates.steps_per_window as u64);
    }

    #[test]
    fn an_error_ends_the_measurement() {
        let failed = windows(5, 0.002, || anyhow::bail!("no more"));
        assert_eq!(failed.unwrap_err().to_string(), "no more");
    }

    #[test]
    fn the_middle_of_sorted_values() {
        assert_eq!(middle(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(middle(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_tells_memory_and_time() {
        assert!(peak_resident_mib().unwrap() > 0.5);
        let (all, own) = busy_ticks().unwrap();
        assert!(all >= own && own >= 0.0);
        assert!(cores() >= 1);
    }
}
