//! `longhand bench serve`: what a running server's clients wait for.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use longhand::plot;

use crate::error::{Usage, within};
use crate::interrupt::listen_saying;
use crate::reading::writable;
use crate::talk::say;
use load::{Arrivals, Load};
use sample::{End, Sample};
use summary::Summary;
use target::Target;

mod client;
mod load;
mod sample;
mod summary;
mod target;
#[cfg(test)]
mod tests;

/// Sends requests to a running server and tells how long they took; fails where none was answered.
#[derive(Args)]
#[command(
    after_help = "Example:\n  longhand bench serve http://127.0.0.1:8080 --clients 16 --seconds 30\n  \
                  longhand bench serve http://127.0.0.1:8080 --rate 5 --sessions --turns 4 --json\n\n\
                  In a closed loop (--clients) each client sends its next request when the last one \
                  is answered. In an open loop (--rate) requests come at random times of that rate \
                  (Poisson), whether or not the server keeps up; their times count from when they \
                  were due, so that a server that falls behind shows it. Without --sessions each \
                  turn says the whole conversation again."
)]
pub(crate) struct Arguments {
    /// The server, as http://127.0.0.1:8080
    #[arg(value_name = "URL")]
    url: String,
    /// The model to ask [default: the server's first]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A closed loop of this many clients
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "rate")]
    clients: usize,
    /// An open loop of this many requests a second on average
    #[arg(long, value_name = "X")]
    rate: Option<f64>,
    /// The most requests to send
    #[arg(long, value_name = "N", default_value_t = 1000)]
    requests: usize,
    /// The most seconds in which requests are sent
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: usize,
    /// Keep each conversation in a session of the server
    #[arg(long)]
    sessions: bool,
    /// Turns of a conversation
    #[arg(long, value_name = "N", default_value_t = 1)]
    turns: usize,
    /// Words of each turn
    #[arg(long, value_name = "N", default_value_t = 50)]
    words: usize,
    /// Tokens that an answer has at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    tokens: usize,
    /// Ask for whole answers instead of streams
    #[arg(long)]
    no_stream: bool,
    /// Seconds after which a request is given up
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout: usize,
    /// Seed of words and arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file with the API key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A file with the certificate (PEM) that the server of an https URL must have
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send to other machines than this one; ask whoever runs them first
    #[arg(long)]
    allow_remote: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Draw the times by percentile into a PNG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Overwrite that file if it exists
    #[arg(long, requires = "plot")]
    force: bool,
}

/// Fails where requests were sent and none was answered, with the server's sentence if it said one.
fn all_failed(samples: &[Sample]) -> Result<()> {
    let Some(first) = samples.first() else { return Ok(()) };
    if samples.iter().any(|sample| sample.end == End::Answered) {
        return Ok(());
    }
    match samples.iter().find_map(|sample| sample.refusal.as_ref()) {
        Some(sentence) => bail!("no request was answered: {sentence}"),
        None => bail!("no request was answered; the first ended with: {}", first.end),
    }
}

/// The most requests of one run, and clients at a time.
const MOST_REQUESTS: usize = 1_000_000;
const MOST_CLIENTS: usize = 4096;
/// The longest run, and the longest wait for one answer.
const MOST_SECONDS: usize = 3600;
/// The most words of a turn, tokens of an answer, and turns of a conversation.
const MOST_WORDS: usize = 100_000;
/// The most requests a second.
const MOST_RATE: f64 = 10_000.0;

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(path) = &self.plot {
            writable(path, self.force)?;
        }
        let load = self.load()?;
        let key = match &self.key_file {
            None => None,
            Some(path) => Some(fs_err::read_to_string(path)?.trim().to_owned()),
        };
        let target =
            Target::parse(&self.url, key, self.ca.as_deref(), self.allow_remote, load.timeout)?;
        listen_saying("stopping when the answers that are awaited have come", || ())?;
        // One thread, so that the server on the same machine keeps the others.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (run, model) = runtime.block_on(async {
            let model = match self.model.clone() {
                Some(model) => model,
                None => client::first_model(&target).await?,
            };
            anyhow::Ok((load.run(&target, &model).await, model))
        })?;
        if run.waiting_too_long > 0 {
            say!(
                "{} requests were not sent, because {} were waiting already",
                run.waiting_too_long,
                load::MOST_OPEN
            );
        }
        let summary = Summary::of(&run, &model);
        let mut out = std::io::stdout().lock();
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string(&summary)?)?,
            false => write!(out, "{summary}")?,
        }
        if let Some(path) = &self.plot {
            let title = format!("What clients of {model} wait for");
            let curves = summary::curves(&run);
            plot::lines(path, &title, "percentile", "milliseconds", &curves)
                .with_context(|| format!("{} is not drawn", path.display()))?;
        }
        all_failed(&run.samples)
    }

    /// The load, with every number in its range.
    fn load(&self) -> Result<Load, Usage> {
        let arrivals = match self.rate {
            None => {
                Arrivals::Closed { clients: within("--clients", self.clients, 1..=MOST_CLIENTS)? }
            }
            Some(rate) if rate > 0.0 && rate <= MOST_RATE => Arrivals::Open { rate },
            Some(rate) => {
                return Err(Usage(format!(
                    "--rate is {rate}, but must be above 0 and at most {MOST_RATE}"
                )));
            }
        };
        let seconds = |flag, value| {
            within(flag, value, 1..=MOST_SECONDS).map(|it| Duration::from_secs(it as u64))
        };
        Ok(Load {
            arrivals,
            requests: within("--requests", self.requests, 1..=MOST_REQUESTS)?,
            time: seconds("--seconds", self.seconds)?,
            timeout: seconds("--timeout", self.timeout)?,
            sessions: self.sessions,
            turns: within("--turns", self.turns, 1..=MOST_WORDS)?,
            words: within("--words", self.words, 1..=MOST_WORDS)?,
            tokens: within("--tokens", self.tokens, 1..=MOST_WORDS)?,
            stream: !self.no_stream,
            seed: self.seed,
        })
    }
}
