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
    /// Print the share of the time that each operation takes: a table, or with --json a part
    /// of the JSON object
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

    /// The operations; the dearest first.
    fn rows(&self) -> Vec<Row<'_>> {
        let steps = f64::from(self.steps);
        let micros = |time: std::time::Duration| 1e6 * time.as_secs_f64() / steps;
        let mut rows: Vec<Row> = (self.profile.entries().iter())
            .map(|entry| Row {
                operation: &entry.operation,
                calls: entry.calls as f64 / steps,
                forward: micros(entry.forward),
                backward: micros(entry.backward),
                operations: entry.operations / steps,
                bytes: entry.bytes / steps,
            })
            .collect();
        rows.sort_by(|a, b| b.time().total_cmp(&a.time()));
        rows
    }

    fn json(&self) -> Value {
        let step = self.step();
        let rows = self.rows().into_iter().map(|row| {
            json!({
                "operation": row.operation, "calls": row.calls, "forward_us": row.forward,
                "backward_us": row.backward, "share": row.time() / step,
                "operations": row.operations, "bytes": row.bytes,
            })
        });
        json!({ "us_per_step": step, "operations": rows.collect::<Vec<_>>() })
    }

    fn table(&self) -> String {
        let step = self.step();
        let heads = ["operation", "calls", "forward µs", "backward µs", "share", "Gop/s", "GB/s"];
        let [operation, calls, forward, backward, share, work, bytes] = heads;
        let mut table = format!(
            "{operation:<28} {calls:>8} {forward:>12} {backward:>12} {share:>8} {work:>8} {bytes:>8}\n"
        );
        let mut rest = step;
        for row in self.rows() {
            let Row { operation, calls, forward, backward, .. } = row;
            rest -= row.time();
            let share = 100.0 * row.time() / step;
            let speed = |amount: f64| match amount {
                0.0 => "–".to_owned(),
                amount => format!("{:.1}", amount / row.time() / 1e3),
            };
            let (work, bytes) = (speed(row.operations), speed(row.bytes));
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "{operation:<28} {calls:>8.1} {forward:>12.1} {backward:>12.1} {share:>6.1} % \
                 {work:>8} {bytes:>8}"
            );
        }
        let (share, none) = (100.0 * rest / step, "");
        let _ =
            writeln!(table, "{:<28} {none:>8} {rest:>12.1} {none:>12} {share:>6.1} %", "between");
        let _ = writeln!(table, "{:<28} {none:>8} {step:>12.1}", "a step");
        table
    }
}

/// One operation, per step: calls, microseconds, operations of products, bytes.
struct Row<'a> {
    operation: &'a str,
    calls: f64,
    forward: f64,
    backward: f64,
    operations: f64,
    bytes: f64,
}

impl Row<'_> {
    fn time(&self) -> f64 {
        self.forward + self.backward
    }
}
