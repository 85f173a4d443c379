//! `longhand bench flat`: time and memory near a stream's beginning and far from it.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use longhand_engine::{Reader, SamplerSettings, Session};
use serde_json::json;

use super::ids;
use crate::error::Usage;
use crate::reading::ModelArguments;

/// Measures time per token and memory at two positions of one stream.
#[derive(Args)]
#[command(after_help = "Example:\n  longhand bench flat model\n\nBoth positions are measured in \
                        turns, window by window, so that what else the machine does falls on both. \
                        Time is the median window's.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Tokens read before the first measurement
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    near: u64,
    /// Tokens read before the second measurement
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    far: u64,
    /// Windows measured at each position
    #[arg(long, value_name = "N", default_value_t = 201)]
    windows: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Tokens stepped in one window.
const WINDOW: usize = 64;
/// Tokens read at a time on the way to a position.
const BLOCK: u64 = 1 << 12;

struct Place {
    session: Session,
    position: u64,
    resident: Option<u64>,
    nanoseconds: Vec<f64>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if self.far <= self.near {
            let (near, far) = (self.near, self.far);
            return Err(Usage(format!("--far is {far}, but must lie after --near {near}")).into());
        }
        let (engine, cpu) = self.model.open()?;
        let mut reader = engine.reader(&cpu);
        let mut stream = ids(engine.model().vocab_size());
        let mut session = engine.session(SamplerSettings::greedy())?;
        // Scratch memory is taken once for each size of a pass, so all sizes come first: what is
        // then seen to grow would grow with the position.
        for count in [BLOCK, self.near % BLOCK, (self.far - self.near) % BLOCK] {
            let block: Vec<u32> = stream.by_ref().take(count as usize).collect();
            session.clone().read(&mut reader, &block)?;
        }
        let bar = ProgressBar::new(self.far);
        let style = "{msg} {wide_bar} {human_pos}/{human_len} tokens, {per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(style)?);
        bar.set_message("reading");
        let mut places = Vec::new();
        for position in [self.near, self.far] {
            while session.position() < position {
                let count = BLOCK.min(position - session.position()) as usize;
                let block: Vec<u32> = stream.by_ref().take(count).collect();
                session.read(&mut reader, &block)?;
                bar.set_position(session.position());
            }
            // The process has done all it does in steps before its memory is looked at.
            window(&mut reader, &session, &mut stream)?;
            let (session, resident) = (session.clone(), resident_bytes());
            places.push(Place { session, position, resident, nanoseconds: Vec::new() });
        }
        bar.finish_and_clear();
        for round in 0..self.windows.max(1) {
            // Who goes first changes, so that neither gains by it.
            for turn in 0..2 {
                let place = &mut places[(round + turn) % 2];
                place.nanoseconds.push(window(&mut reader, &place.session, &mut stream)?);
            }
        }
        let [near, far] = &places[..] else { return Ok(()) };
        report(near, far, self.json)
    }
}

/// Steps a branch of a session through one window; nanoseconds for each token.
fn window(
    reader: &mut Reader,
    session: &Session,
    stream: &mut impl Iterator<Item = u32>,
) -> Result<f64> {
    let mut branch = session.clone();
    let ids: Vec<u32> = stream.take(WINDOW).collect();
    let start = Instant::now();
    for id in ids {
        branch.step(reader, id)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / WINDOW as f64)
}

fn report(near: &Place, far: &Place, as_json: bool) -> Result<()> {
    let (near_time, far_time) = (median(&near.nanoseconds), median(&far.nanoseconds));
    let (near_bytes, far_bytes) = (near.session.state().bytes(), far.session.state().bytes());
    let resident = near.resident.zip(far.resident).map(|(near, far)| far as f64 / near as f64);
    let mut out = std::io::stdout().lock();
    if as_json {
        let of = |place: &Place, time: f64| {
            json!({
                "position": place.position,
                "nanoseconds_per_token": time,
                "state_bytes": place.session.state().bytes(),
                "resident_bytes": place.resident,
            })
        };
        let all = json!({
            "near": of(near, near_time),
            "far": of(far, far_time),
            "time_ratio": far_time / near_time,
            "state_ratio": far_bytes as f64 / near_bytes as f64,
            "resident_ratio": resident,
        });
        return Ok(writeln!(out, "{all}")?);
    }
    writeln!(
        out,
        "{:>12} {:>14} {:>14} {:>14}",
        "position", "µs per token", "state bytes", "resident"
    )?;
    for (place, time) in [(near, near_time), (far, far_time)] {
        let resident = place.resident.map_or("-".into(), |bytes| bytes.to_string());
        let (position, state) = (place.position, place.session.state().bytes());
        writeln!(out, "{position:>12} {:>14.2} {state:>14} {resident:>14}", time / 1e3)?;
    }
    let resident = resident.map_or("-".into(), |ratio| format!("{ratio:.4}"));
    let (time, state) = (far_time / near_time, far_bytes as f64 / near_bytes as f64);
    writeln!(out, "{:>12} {time:>14.4} {state:>14.4} {resident:>14}", "ratio")?;
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes of this process in memory, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
