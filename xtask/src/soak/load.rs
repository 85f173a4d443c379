//! What is measured rather than compared: a server's memory under constant load, and that of many
//! sessions which nobody uses.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::http::{Answer, Body, Client, Request};
use super::random::Random;
use super::servers::{Cluster, Place, lock, resident_mib, say};
use super::settings::Settings;

/// How much memory may differ between the second and the last minute.
const FLAT: f64 = 0.05;
/// The budget of states where the settings name none: it is full within the first minute.
const MEMORY: &str = "64MiB";
/// Idle sessions that are asked for their first token.
const ASKED: usize = 200;

/// One server under load, and who asks it.
struct Load<'a> {
    place: &'a Place,
    cluster: Cluster,
    seed: u64,
    is_over: AtomicBool,
    turns: AtomicUsize,
}

/// Asks at a constant rate of clients, and compares the memory of the second and the last minute.
pub(super) fn memory(place: &Place, settings: &Settings, minutes: u64) -> Result<()> {
    let load = Load::start(place, settings)?;
    let process = load.cluster.process_id(0).context("the server does not run")?;
    let fault = Mutex::new(None);
    let mut samples = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        for thread in 0..settings.clients {
            let (load, fault) = (&load, &fault);
            scope.spawn(move || {
                if let Err(error) = load.talk(thread) {
                    lock(fault).get_or_insert(error);
                }
            });
        }
        let begun = Instant::now();
        let mut sampled = Ok(());
        for second in 1..=minutes * 60 {
            let due = Duration::from_secs(second);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            match resident_mib(process) {
                Ok(mib) => samples.push(mib),
                error => sampled = error.map(drop),
            }
            if sampled.is_err() || lock(&fault).is_some() {
                break;
            }
            if second % 60 == 0 {
                let turns = load.turns.load(Ordering::Relaxed);
                say(&format!(
                    "minute {}: {:.1} MiB, {turns} turns",
                    second / 60,
                    samples[second as usize - 1]
                ));
            }
        }
        load.is_over.store(true, Ordering::Relaxed);
        sampled
    })?;
    if let Some(fault) = lock(&fault).take() {
        return Err(fault);
    }
    let minute = |at: usize| mean(&samples[at * 60..(at + 1) * 60]);
    let (second, last) = (minute(1), minute(minutes as usize - 1));
    let (change, turns) = (last / second - 1.0, load.turns.load(Ordering::Relaxed));
    println!(
        "{minutes} minutes, {} clients, {turns} turns: {second:.1} MiB in the second minute, {last:.1} MiB \
         in the last one, {:+.1} %; {:.1} to {:.1} MiB after the first",
        settings.clients,
        100.0 * change,
        samples[60..].iter().copied().fold(f64::INFINITY, f64::min),
        samples[60..].iter().copied().fold(0.0, f64::max),
    );
    ensure!(change.abs() <= FLAT, "memory is not flat: it moved by {:+.1} %", 100.0 * change);
    Ok(())
}

/// Leaves sessions idle, and asks some for their first token.
pub(super) fn idle(place: &Place, settings: &Settings, count: usize) -> Result<()> {
    let load = Load::start(place, settings)?;
    let process = load.cluster.process_id(0).context("the server does not run")?;
    let empty = resident_mib(process)?;
    let fault = Mutex::new(None);
    std::thread::scope(|scope| {
        for thread in 0..settings.clients {
            let (load, fault) = (&load, &fault);
            scope.spawn(move || {
                let made = load.make((thread..count).step_by(settings.clients));
                if let Err(error) = made {
                    lock(fault).get_or_insert(error);
                }
            });
        }
    });
    if let Some(fault) = lock(&fault).take() {
        return Err(fault);
    }
    let full = resident_mib(process)?;
    let (mut random, mut client) = (Random::at(settings.seed, 1), Client::default());
    let mut waits = Vec::new();
    for _ in 0..ASKED {
        let answer = load.turn(&mut client, &session(random.below(count)), &mut random)?;
        waits.push(answer.first.as_secs_f64() * 1e3);
    }
    waits.sort_by(f64::total_cmp);
    let states = load.bytes(&mut client)?;
    println!(
        "{count} idle sessions: {full:.1} MiB in memory, {empty:.1} MiB before them; {:.1} KiB of a \
         session in the store; first token of {ASKED} random ones after {:.2} ms (median), {:.2} ms (p99)",
        states / 1024.0,
        waits[ASKED / 2],
        waits[ASKED * 99 / 100],
    );
    Ok(())
}

fn session(index: usize) -> (usize, String) {
    (index % 2, format!("idle-{index}"))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl<'a> Load<'a> {
    fn start(place: &'a Place, settings: &Settings) -> Result<Self> {
        let memory = settings.server_memory.as_deref().unwrap_or(MEMORY);
        let flags = ["--memory", memory, "--sessions-per-key", "1000000"];
        let cluster = Cluster::start(place, settings.servers, &flags)?;
        say(&format!("seed {}, --memory {memory}", settings.seed));
        let (is_over, turns) = (AtomicBool::new(false), AtomicUsize::new(0));
        Ok(Self { place, cluster, seed: settings.seed, is_over, turns })
    }

    fn ask(
        &self,
        client: &mut Client,
        owner: usize,
        (method, path, body): (&str, &str, Body<'_>),
    ) -> Result<Answer> {
        let key = &self.place.keys[owner];
        let address = self.cluster.address(0).context("the server does not run")?;
        let answer = client.ask(address, &Request { method, path, key, body })?;
        match answer.status {
            200 => Ok(answer),
            status => bail!("{method} {path}: {status} {}", answer.text()),
        }
    }

    /// A turn of a session, as a stream.
    fn turn(
        &self,
        client: &mut Client,
        (owner, name): &(usize, String),
        random: &mut Random,
    ) -> Result<Answer> {
        let prompt: String =
            (0..1 + random.below(24)).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let body = json!({
            "model": "soak", "prompt": prompt, "session_id": name, "max_tokens": 4, "stream": true,
            "seed": random.next() >> 12,
        });
        let (path, body) = ("/v1/completions", body.to_string());
        let answer = self.ask(client, *owner, ("POST", path, Body::Json(&body)))?;
        ensure!(
            answer.text().ends_with("data: [DONE]\n\n"),
            "a stream without end: {}",
            answer.text()
        );
        self.turns.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    /// Begins, continues, branches and erases sessions until the time is over.
    fn talk(&self, thread: usize) -> Result<()> {
        let (mut client, mut random) = (Client::default(), Random::at(self.seed, thread as u64));
        for session in 0.. {
            let own = (thread % 2, format!("load-{thread}-{session}"));
            for _ in 0..10 {
                if self.is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                self.turn(&mut client, &own, &mut random)?;
            }
            let (owner, name) = &own;
            let path = format!("/v1/sessions/{name}");
            let (fork, body) = (format!("{path}/fork"), json!({"name": format!("{name}.1")}));
            let body = body.to_string();
            self.ask(&mut client, *owner, ("POST", &fork, Body::Json(&body)))?;
            for path in [format!("{path}.1"), path] {
                self.ask(&mut client, *owner, ("DELETE", &path, Body::Empty))?;
            }
        }
        Ok(())
    }

    /// Begins sessions with one turn each.
    fn make(&self, indices: impl Iterator<Item = usize>) -> Result<()> {
        let mut client = Client::default();
        for index in indices {
            let mut random = Random::at(!self.seed, index as u64);
            self.turn(&mut client, &session(index), &mut random)?;
        }
        Ok(())
    }

    /// Mean bytes of a session in the store, of the first ones of a key.
    fn bytes(&self, client: &mut Client) -> Result<f64> {
        let answer = self.ask(client, 0, ("GET", "/v1/sessions?limit=100", Body::Empty))?;
        let page: Value = serde_json::from_str(&answer.text())?;
        let sessions = page["data"].as_array().context("a list without data")?;
        let bytes: Vec<f64> = sessions.iter().filter_map(|it| it["bytes"].as_f64()).collect();
        ensure!(!bytes.is_empty(), "no session is listed");
        Ok(mean(&bytes))
    }
}
