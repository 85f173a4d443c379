//! `longhand doctor`: whether this machine runs models rightly, and whether a model is whole.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use longhand_model::Cpu;
use serde_json::json;

use crate::reading::Threads;
use check::{Check, Verdict};

mod check;
mod machine;
mod model;
mod self_test;
mod sessions;

/// Examines the machine and, if one is given, a model.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand doctor\n  longhand doctor model --json\n\nThe self-test \
                  takes a few seconds: every fast operation against its plain form, some steps of \
                  training, and a session that goes through a file. The exit code is 1 where \
                  something is wrong; what is merely worth knowing is a `note`."
)]
pub(crate) struct Arguments {
    /// Folder of a trained model to examine too
    #[arg(value_name = "DIR")]
    model: Option<PathBuf>,
    /// The folder that sessions and models will be written to
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The folder that a server keeps its sessions in; it is only read, while no server has it
    #[arg(long, value_name = "DIR")]
    sessions: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    threads: Threads,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let count = self.threads.count();
        let mut checks =
            vec![machine::processor(), machine::threads(count), machine::folder(&self.folder)];
        checks.extend(self.sessions.as_deref().map(sessions::examine));
        let cpu = Arc::new(Cpu::new(count));
        let examined = self.model.as_deref().map(|folder| model::examine(folder, &cpu));
        let (engine, bytes) = match examined {
            None => (None, 0),
            Some(examined) => {
                checks.extend(examined.checks);
                (examined.engine, examined.bytes)
            }
        };
        checks.push(machine::memory(bytes));
        checks.push(self_test::kernels(count));
        checks.push(self_test::training(&cpu));
        checks.push(self_test::snapshot(engine.as_ref(), &cpu));
        checks.push(self_test::speed(engine.as_ref(), &cpu));
        self.tell(&checks)?;
        match faults(&checks) {
            Some(faults) => bail!(faults),
            None => Ok(()),
        }
    }

    fn tell(&self, checks: &[Check]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            let well = checks.iter().all(|check| check.verdict != Verdict::Wrong);
            let version = env!("CARGO_PKG_VERSION");
            let all = json!({ "version": version, "well": well, "checks": checks });
            return Ok(writeln!(out, "{all}")?);
        }
        for Check { name, verdict, found, advice } in checks {
            writeln!(out, "{name:<14} {:<6} {found}", verdict.word())?;
            if let Some(advice) = advice {
                writeln!(out, "{:<21} → {advice}", "")?;
            }
        }
        Ok(())
    }
}

/// What checks found wrong, in a line; none where all is well.
fn faults(checks: &[Check]) -> Option<String> {
    let wrong: Vec<&Check> = checks.iter().filter(|it| it.verdict == Verdict::Wrong).collect();
    let each: Vec<String> =
        wrong.iter().map(|Check { name, found, .. }| format!("{name}: {found}")).collect();
    let (some, all) = (wrong.len(), checks.len());
    (some > 0).then(|| format!("{some} of {all} checks found a fault: {}", each.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let nowhere = place.path().join("nowhere");
        let checks = [Check::well("threads", "4".to_owned()), sessions::examine(&nowhere)];
        let told = faults(&checks).unwrap();
        let expected = format!(
            "1 of 2 checks found a fault: sessions: there is no folder {}",
            nowhere.display()
        );
        assert_eq!(told, expected);
        assert_eq!(faults(&checks[..1]), None);
    }
}
