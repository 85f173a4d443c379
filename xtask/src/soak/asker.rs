//! How one thread of a soak asks: servers that may be killed meanwhile, and an undisturbed one that reads
//! every text cold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::conversation::Turn;
use super::http::{Answer, Body, Client, Request};
use super::random::Random;
use super::reply::Reply;
use super::servers::{Cluster, Place, Server};

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one sleeps before the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// What all threads share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) place: Place,
    pub(super) cluster: Cluster,
    /// Keeps no session beyond a replay, and is never killed.
    pub(super) oracle: Server,
    /// The token of characters that the model does not know.
    pub(super) unknown: u64,
    pub(super) counts: Counts,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) turns: AtomicUsize,
    pub(super) changes: AtomicUsize,
    /// Requests that the end of a server left without an answer.
    pub(super) unanswered: AtomicUsize,
    /// Conversations that were compared bit for bit.
    pub(super) replays: AtomicUsize,
    /// Replies that differ from the whole text read in one and equal the turns read anew.
    pub(super) nearly_drawn: AtomicUsize,
    /// Requests for another key's session, all refused.
    pub(super) trespasses: AtomicUsize,
}

/// A thread's connections.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) world: &'a World,
    client: Client,
    cold: Client,
    /// Chooses among servers, and has no part in what is asked.
    random: Random,
    thread: usize,
    replays: usize,
}

impl World {
    /// The world of a place whose servers run.
    pub(super) fn new(place: Place, cluster: Cluster) -> Result<Self> {
        let oracle = place.serve("oracle", &["--memory".to_owned(), "32MiB".to_owned()])?;
        let mut client = Client::default();
        let body = json!({"model": "soak", "prompt": "\u{2603}"}).to_string();
        let path = "/tokenize";
        let request = Request { method: "POST", path, key: "", body: Body::Json(&body) };
        let answer = client.ask(oracle.address, &request)?.text();
        let value: Value = serde_json::from_str(&answer).context("an answer without JSON")?;
        let unknown = value["tokens"][0].as_u64();
        let unknown = unknown.with_context(|| format!("no token of an unknown sign: {answer}"))?;
        Ok(Self { place, cluster, oracle, unknown, counts: Counts::default() })
    }
}

impl<'a> Asker<'a> {
    pub(super) fn new(world: &'a World, thread: usize) -> Self {
        let random = Random::at(0, thread as u64);
        let (client, cold) = (Client::default(), Client::default());
        Self { world, client, cold, random, thread, replays: 0 }
    }

    /// Asks one of the servers. None where the end of a server left open what came of it.
    pub(super) fn once(
        &mut self,
        owner: usize,
        method: &str,
        path: &str,
        body: Body<'_>,
    ) -> Result<Option<Answer>> {
        let key = &self.world.place.keys[owner];
        let request = Request { method, path, key, body };
        let (begun, cluster) = (Instant::now(), &self.world.cluster);
        loop {
            let sent = Instant::now();
            let Some(address) = cluster.address(self.random.below(cluster.count())) else {
                ensure!(begun.elapsed() < PATIENCE, "no server came back");
                std::thread::sleep(PAUSE);
                continue;
            };
            match self.client.ask(address, &request) {
                Ok(answer) if answer.status == 409 && cluster.may_have_leases() => {
                    ensure!(begun.elapsed() < PATIENCE, "{method} {path}: {}", answer.text());
                    std::thread::sleep(4 * PAUSE);
                }
                Ok(answer) if answer.status != 503 => return Ok(Some(answer)),
                unanswered if cluster.was_disturbed_since(sent) => {
                    drop(unanswered);
                    self.world.counts.unanswered.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                    return Ok(None);
                }
                Ok(answer) => {
                    bail!("{method} {path}: 503 by a server that runs: {}", answer.text())
                }
                Err(error) => bail!("{method} {path}: no answer by a server that runs: {error}"),
            }
        }
    }

    /// Asks until there is an answer: only for what may be done twice.
    pub(super) fn again(
        &mut self,
        owner: usize,
        method: &str,
        path: &str,
        body: Body<'_>,
    ) -> Result<Answer> {
        loop {
            if let Some(answer) = self.once(owner, method, path, body)? {
                return Ok(answer);
            }
        }
    }

    /// A session as the server shows it; none where there is none of this name.
    pub(super) fn show(&mut self, owner: usize, name: &str) -> Result<Option<Value>> {
        let path = format!("/v1/sessions/{name}");
        let answer = self.again(owner, "GET", &path, Body::Empty)?;
        match answer.status {
            200 => Ok(Some(serde_json::from_str(&answer.text())?)),
            404 => Ok(None),
            status => bail!("GET {path}: {status} {}", answer.text()),
        }
    }

    /// The position of a session; 0 where there is none.
    pub(super) fn position(&mut self, owner: usize, name: &str) -> Result<u64> {
        match self.show(owner, name)? {
            Some(shown) => shown["position"].as_u64().context("a session without a position"),
            None => Ok(0),
        }
    }

    /// Changes something. Where no answer came, whether `name` is there tells whether it was done.
    pub(super) fn change(
        &mut self,
        owner: usize,
        (method, path, body): (&str, &str, Body<'_>),
        (name, is_there): (&str, bool),
    ) -> Result<()> {
        loop {
            match self.once(owner, method, path, body)? {
                Some(answer) => {
                    let status = answer.status;
                    ensure!(status == 200, "{method} {path}: {status} {}", answer.text());
                    return Ok(());
                }
                None if self.show(owner, name)?.is_some() == is_there => return Ok(()),
                None => {}
            }
        }
    }

    /// Asks for a turn, with the fields that name a memory. None as with [`Self::once`].
    pub(super) fn complete(
        &mut self,
        owner: usize,
        turn: &Turn,
        prompt: &str,
        memory: &[(&str, Value)],
    ) -> Result<Option<Reply>> {
        let mut body = turn.request(prompt, self.world.unknown);
        for (name, value) in memory {
            body[name] = value.clone();
        }
        let body = body.to_string();
        let asked = self.once(owner, "POST", "/v1/completions", Body::Json(&body))?;
        let Some(answer) = asked else { return Ok(None) };
        let text = answer.text();
        ensure!(answer.status == 200, "a turn: {} {text}", answer.status);
        match Reply::of(&text, turn.streams) {
            Ok(reply) => Ok(Some(reply)),
            // A stream that is broken off by the server's end ends with an event that says so.
            Err(_) if turn.streams && text.contains("shutting_down") => Ok(None),
            Err(error) => Err(error.context(text)),
        }
    }

    /// The reply to a turn by a cold reading of the whole text, without a session.
    pub(super) fn cold(&mut self, before: &str, turn: &Turn) -> Result<Reply> {
        let turn = turn.at_once();
        let prompt = [before, &turn.prompt].concat();
        self.ask_oracle(&turn.request(&prompt, self.world.unknown))
    }

    /// The reply to the last of some turns, all of them read and written anew.
    pub(super) fn replay(&mut self, turns: &[Turn]) -> Result<Reply> {
        self.replays += 1;
        self.world.counts.replays.fetch_add(1, Ordering::Relaxed);
        let name = format!("replay-{}-{}", self.thread, self.replays);
        let mut reply = Reply::default();
        for turn in turns {
            let turn = turn.at_once();
            let mut body = turn.request(&turn.prompt, self.world.unknown);
            body["session_id"] = json!(name);
            reply = self.ask_oracle(&body)?;
        }
        let path = format!("/v1/sessions/{name}");
        let request = Request { method: "DELETE", path: &path, key: "", body: Body::Empty };
        let answer = self.cold.ask(self.world.oracle.address, &request)?;
        ensure!(answer.status == 200, "DELETE {path}: {} {}", answer.status, answer.text());
        Ok(reply)
    }

    fn ask_oracle(&mut self, body: &Value) -> Result<Reply> {
        let (path, body) = ("/v1/completions", body.to_string());
        let request = Request { method: "POST", path, key: "", body: Body::Json(&body) };
        let answer = self.cold.ask(self.world.oracle.address, &request);
        let answer = answer.context("the server that reads cold does not answer")?;
        let text = answer.text();
        ensure!(answer.status == 200, "a cold reading: {} {text}", answer.status);
        Reply::of(&text, false)
    }
}
