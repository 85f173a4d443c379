//! Where the time of a benchmark goes, operation by operation.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use longhand_model::{Profile, Tape};
use serde_json::{Value, json};

use super::measure::{Line, Measuring};

/// Seconds over which a profile is taken.
const SECONDS: f64 = 3.0;

/// Whether a profile is taken.
#[derive(Args)]
pub(crate) struct Profiling {
    /// Print the share of the time that each operation takes: a table, or with --json a part of
    /// the JSON object
    #[arg(long)]
    profile: bool,
}

/// Work that is done again and again on a tape.
pub(crate) trait Work {
    /// Does it once; the tokens it was done for.
    fn step(&mut self) -> Result<u64>;
    /// The tape it runs on.
    fn tape(&mut self) -> &mut Tape;
}

/// A profile over some steps.
pub(crate) struct Shares {
    profile: Profile,
    steps: u32,
    /// Seconds by the clock.
    seconds: f64,
}

impl Profiling {
    /// Takes a profile, if one is asked for.
    pub(crate) fn take(&self, work: &mut dyn Work) -> Result<Option<Shares>> {
        if !self.profile {
            return Ok(None);
        }
        work.step()?;
        work.tape().start_profile();
        let (began, mut steps) = (Instant::now(), 0);
        while steps < 3 || began.elapsed().as_secs_f64() < SECONDS {
            work.step()?;
            steps += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        let profile = work.tape().end_profile();
        Ok(profile.map(|profile| Shares { profile, steps, seconds }))
    }
}

impl Measuring {
    /// Prints a result; where a profile was taken, its table instead unless JSON is wanted.
    pub(crate) fn finish(&self, mut line: Line, shares: Option<Shares>) -> Result<()> {
        match shares {
            Some(shares) if !self.json => {
                Ok(std::io::stdout().lock().write_all(shares.table().as_bytes())?)
            }
            Some(shares) => {
                line.add("profile", shares.json());
                line.print()
            }
            None => line.print(),
        }
    }
}

impl Shares {
    /// Microseconds of a step, by the clock.
    fn step(&self) -> f64 {
        1e6 * self.seconds / f64::from(self.steps)
    }

    /// Operations with calls, microseconds forward and backward of one step; the largest first.
    fn rows(&self) -> Vec<(&str, f64, f64, f64)> {
        let steps = f64::from(self.steps);
        let micros = |time: std::time::Duration| 1e6 * time.as_secs_f64() / steps;
        let mut rows: Vec<_> = (self.profile.entries().iter())
            .map(|entry| {
                let calls = entry.calls as f64 / steps;
                (entry.operation.as_str(), calls, micros(entry.forward), micros(entry.backward))
            })
            .collect();
        rows.sort_by(|a, b| (b.2 + b.3).total_cmp(&(a.2 + a.3)));
        rows
    }

    fn json(&self) -> Value {
        let step = self.step();
        let rows = self.rows().into_iter().map(|(operation, calls, forward, backward)| {
            json!({
                "operation": operation, "calls": calls, "forward_us": forward,
                "backward_us": backward, "share": (forward + backward) / step,
            })
        });
        json!({ "us_per_step": step, "operations": rows.collect::<Vec<_>>() })
    }

    fn table(&self) -> String {
        let step = self.step();
        let mut table = format!(
            "{:<28} {:>8} {:>12} {:>12} {:>8}\n",
            "operation", "calls", "forward µs", "backward µs", "share"
        );
        let mut rest = step;
        for (operation, calls, forward, backward) in self.rows() {
            let share = 100.0 * (forward + backward) / step;
            rest -= forward + backward;
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "{operation:<28} {calls:>8.1} {forward:>12.1} {backward:>12.1} {share:>6.1} %"
            );
        }
        let share = 100.0 * rest / step;
        let _ =
            writeln!(table, "{:<28} {:>8} {rest:>12.1} {:>12} {share:>6.1} %", "between", "", "");
        let _ = writeln!(table, "{:<28} {:>8} {step:>12.1}", "a step", "");
        table
    }
}
