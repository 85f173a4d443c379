//! The flags of `cargo xtask soak`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

/// What is soaked, and how long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(super) seed: u64,
    /// Conversations, each with a session and its branches.
    pub(super) sessions: usize,
    /// Threads that ask at one time.
    pub(super) clients: usize,
    /// Turns of each conversation.
    pub(super) turns: usize,
    /// Servers of the same sessions; several share a store.
    pub(super) servers: usize,
    /// How often a server is ended meanwhile.
    pub(super) kills: usize,
    /// The one conversation that is led.
    pub(super) only: Option<usize>,
    pub(super) memory_minutes: Option<u64>,
    pub(super) idle: Option<usize>,
    /// The budget of the server's states, in its own form.
    pub(super) server_memory: Option<String>,
    /// A model of the caller's own, for what is measured.
    pub(super) model: Option<PathBuf>,
    pub(super) program: Option<PathBuf>,
    pub(super) folder: Option<PathBuf>,
}

/// The flags, as a person reads them.
pub(crate) const USAGE: &str = "\
Usage: cargo xtask soak [FLAGS]

  --short              96 conversations with 3 ends of the server; of two servers 24 with 1
  --sessions N         conversations [default: 2000; with several servers 500]
  --clients N          threads that ask at one time [default: 64]
  --turns N            turns of each conversation [default: 10]
  --servers N          servers on one Valkey or Redis server [default: 1, on the disk]
  --kills N            how often a server is ended, one in four times in order [default: 20]
  --seed S             [default: drawn, and printed]
  --only K             one of the conversations alone
  --memory-minutes M   constant load instead: memory each second, flat to 5 % after the first minute
  --idle N             N idle sessions instead: memory, and the first token of some of them
  --server-memory SIZE --memory of the servers
  --model DIR          a language model for memory and idle [default: a small one of characters]
  --program PATH       the program [default: built of this workspace]
  --folder DIR         an empty folder for the servers [default: target/soak]";

impl Settings {
    /// The settings of a short soak, as a check has it.
    pub(super) fn short(servers: usize) -> Result<Self> {
        Self::parse(&["--short", "--servers", &servers.to_string()].map(str::to_owned))
    }

    /// Reads the flags of the command line.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut settings = Self {
            seed: 0,
            sessions: 0,
            clients: 64,
            turns: 10,
            servers: 1,
            kills: 0,
            only: None,
            memory_minutes: None,
            idle: None,
            server_memory: None,
            model: None,
            program: None,
            folder: None,
        };
        let (mut seed, mut sessions, mut kills, mut is_short) = (None, None, None, false);
        let mut words = words.iter();
        while let Some(flag) = words.next() {
            if flag == "--short" {
                is_short = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{flag} needs a value\n\n{USAGE}"))?;
            match flag.as_str() {
                "--seed" => seed = Some(number(flag, value)?),
                "--sessions" => sessions = Some(number(flag, value)?),
                "--kills" => kills = Some(number(flag, value)?),
                "--clients" => settings.clients = number(flag, value)?,
                "--turns" => settings.turns = number(flag, value)?,
                "--servers" => settings.servers = number(flag, value)?,
                "--only" => settings.only = Some(number(flag, value)?),
                "--memory-minutes" => settings.memory_minutes = Some(number(flag, value)?),
                "--idle" => settings.idle = Some(number(flag, value)?),
                "--server-memory" => settings.server_memory = Some(value.clone()),
                "--model" => settings.model = Some(value.into()),
                "--program" => settings.program = Some(value.into()),
                "--folder" => settings.folder = Some(value.into()),
                _ => bail!("there is no flag {flag}\n\n{USAGE}"),
            }
        }
        // Whoever is killed with two servers leaves leases of 30 seconds, which all wait for.
        let (by_default, ends) = match (is_short, settings.servers) {
            (true, 1) => (96, 3),
            (true, _) => (24, 1),
            (false, 1) => (2000, 20),
            (false, _) => (500, 20),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        settings.seed = seed.unwrap_or(now.as_nanos() as u64 % 1_000_000);
        settings.sessions = sessions.unwrap_or(by_default);
        settings.kills = kills.unwrap_or(ends);
        for (flag, value) in [
            ("--sessions", settings.sessions),
            ("--clients", settings.clients),
            ("--turns", settings.turns),
            ("--servers", settings.servers),
        ] {
            ensure!(value > 0, "{flag} is 0, but must be at least 1");
        }
        let measures = settings.memory_minutes.is_some() || settings.idle.is_some();
        ensure!(
            measures || settings.model.is_none(),
            "--model is for --memory-minutes and --idle: conversations need tokens that are characters"
        );
        ensure!(
            settings.memory_minutes.is_none_or(|it| it >= 3),
            "--memory-minutes must be 3 or more"
        );
        Ok(settings)
    }

    /// The command that does the same again.
    pub(super) fn line(&self) -> String {
        let Self { seed, sessions, clients, turns, servers, kills, .. } = self;
        let mut line = format!(
            "cargo xtask soak --seed {seed} --sessions {sessions} --clients {clients} --turns {turns} \
             --servers {servers} --kills {kills}"
        );
        if let Some(only) = self.only {
            line.push_str(&format!(" --only {only}"));
        }
        line
    }
}

fn number<T: FromStr>(flag: &str, value: &str) -> Result<T> {
    value.parse().ok().with_context(|| format!("{flag} is `{value}`, but must be a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Settings> {
        Settings::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_line_of_a_fault_says_the_same_again() {
        let settings = parse("--short --servers 2 --seed 7 --only 3").unwrap();
        let line = settings.line();
        let again = parse(line.strip_prefix("cargo xtask soak").unwrap()).unwrap();
        assert_eq!(again, settings);
        assert_eq!((settings.sessions, settings.seed, settings.only), (24, 7, Some(3)));
    }

    #[test]
    fn what_is_no_flag_or_no_number_is_refused() {
        for line in ["--sessions", "--sessions x", "--sessions 0", "--long 1", "--memory-minutes 2"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("").unwrap().sessions, 2000);
    }
}
