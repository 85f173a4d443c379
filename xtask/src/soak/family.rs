//! A session, its branches, and what else one client remembers: random turns and changes, each compared
//! with the plain model.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::asker::Asker;
use super::conversation::{Conversation, Turn, characters};
use super::http::Body;
use super::random::Random;
use super::reply::{Agreement, Reply};

/// The most sealed states that a client holds.
const MOST_HELD: usize = 3;

/// One session of the server.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Which of the two keys it belongs to.
    pub(super) owner: usize,
    pub(super) conversation: Conversation,
}

/// The sessions of one client.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) index: usize,
    pub(super) members: Vec<Member>,
    /// Sealed states, with what they must hold.
    held: Vec<(String, Conversation)>,
    /// What is remembered under a key of a cache.
    pub(super) cached: Conversation,
    pub(super) owner: usize,
    random: Random,
    made: usize,
    pub(super) turns_left: usize,
    /// The last operations, for whoever looks into a fault.
    pub(super) told: Vec<String>,
}

impl Family {
    pub(super) fn new(seed: u64, index: usize, turns: usize) -> Self {
        let mut random = Random::at(seed, index as u64);
        let owner = random.below(2);
        let (held, cached, told) = (Vec::new(), Conversation::default(), Vec::new());
        let mut family = Self {
            index,
            members: Vec::new(),
            held,
            cached,
            owner,
            random,
            made: 0,
            turns_left: turns,
            told,
        };
        family.add(owner, Conversation::default());
        family
    }

    fn add(&mut self, owner: usize, conversation: Conversation) {
        let name = self.name();
        self.members.push(Member { name, owner, conversation });
        self.made += 1;
    }

    /// The name of the next session.
    fn name(&self) -> String {
        format!("s{}.{}", self.index, self.made)
    }

    /// One turn, and perhaps a change before it. The last one ends with a comparison of every bit.
    pub(super) fn step(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        if self.random.once_in(2) {
            self.change(asker)?;
            asker.world.counts.changes.fetch_add(1, Ordering::Relaxed);
        }
        match self.random.below(10) {
            0 => self.turn_of_client(asker)?,
            1 => self.turn_of_cache(asker)?,
            _ => {
                let at = self.random.below(self.members.len());
                self.turn(asker, at, false)?;
            }
        }
        self.turns_left -= 1;
        asker.world.counts.turns.fetch_add(1, Ordering::Relaxed);
        if self.turns_left == 0 {
            let at = self.random.below(self.members.len());
            self.turn(asker, at, true)?;
        }
        Ok(())
    }

    fn tell(&mut self, what: String) {
        self.told.push(what);
        let surplus = self.told.len().saturating_sub(12);
        self.told.drain(..surplus);
    }

    /// A session goes on.
    pub(super) fn turn(&mut self, asker: &mut Asker<'_>, at: usize, whole: bool) -> Result<()> {
        let mut turn = Turn::random(&mut self.random);
        let Member { name, owner, conversation } = &self.members[at];
        let (name, owner, before) = (name.clone(), *owner, conversation.position());
        self.tell(format!("turn of {name} at {before}: {turn:?}"));
        let conversation = &mut self.members[at].conversation;
        let cold = asker.cold(&conversation.text, &turn)?;
        let prompt = characters(&turn.prompt);
        let begun = Instant::now();
        let memory = [("session_id", json!(name))];
        loop {
            if let Some(reply) = asker.complete(owner, &turn, &turn.prompt, &memory)? {
                check(asker, conversation, &turn, &reply, &cold, whole)?;
                ensure!(reply.session.as_deref() == Some(&name), "the session {:?}", reply.session);
                conversation.take(turn, reply.written());
                return Ok(());
            }
            let position = asker.position(owner, &name)?;
            if position == before {
                continue;
            }
            let end = before + prompt + characters(cold.written());
            let in_part = (before + prompt..end).contains(&position)
                && asker.world.cluster.ended_in_order_since(begun);
            ensure!(
                position == end || in_part,
                "after the end of a server the session is at {position}: before the turn it was at \
                 {before}, and would be at {end} after it"
            );
            let kept = (position - before - prompt) as usize;
            if position < end {
                (turn.max_tokens, turn.stop) = (kept, None);
            }
            let written: String = cold.written().chars().take(kept).collect();
            conversation.take(turn, &written);
            return Ok(());
        }
    }

    /// A state that the client holds goes on; an older one may be given again.
    fn turn_of_client(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let turn = Turn::random(&mut self.random);
        let mut memory = vec![("return_state", json!(true))];
        let mut conversation = Conversation::default();
        if !self.held.is_empty() {
            let (state, of) = &self.held[self.random.below(self.held.len())];
            memory.push(("state", json!(state)));
            conversation = of.clone();
        }
        self.tell(format!("turn of a sealed state at {}: {turn:?}", conversation.position()));
        let cold = asker.cold(&conversation.text, &turn)?;
        let reply = loop {
            if let Some(reply) = asker.complete(self.owner, &turn, &turn.prompt, &memory)? {
                break reply;
            }
        };
        check(asker, &conversation, &turn, &reply, &cold, false)?;
        let state = reply.state.clone().context("no state came back")?;
        if self.random.once_in(3) {
            let mut body = turn.request(&turn.prompt, asker.world.unknown);
            (body["return_state"], body["state"]) = (json!(true), json!(state));
            let (path, body) = ("/v1/completions", body.to_string());
            let answer = asker.again(1 - self.owner, "POST", path, Body::Json(&body))?;
            let refused = (400..500).contains(&answer.status);
            ensure!(refused, "another key's state: {} {}", answer.status, answer.text());
            asker.world.counts.trespasses.fetch_add(1, Ordering::Relaxed);
        }
        conversation.take(turn, reply.written());
        self.held.push((state, conversation));
        let surplus = self.held.len().saturating_sub(MOST_HELD);
        self.held.drain(..surplus);
        Ok(())
    }

    /// The whole text is sent, and a key names what was read of it.
    fn turn_of_cache(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let turn = Turn::random(&mut self.random);
        self.tell(format!("turn of a cache at {}: {turn:?}", self.cached.position()));
        let prompt = [self.cached.text.as_str(), &turn.prompt].concat();
        let cold = asker.cold(&self.cached.text, &turn)?;
        let memory = [("prompt_cache_key", json!(format!("family {}", self.index)))];
        let reply = loop {
            match asker.complete(self.owner, &turn, &prompt, &memory)? {
                // While a killed server has its lease, a key alone keeps nothing.
                Some(reply)
                    if reply.cache_write_tokens == 0 && asker.world.cluster.may_have_leases() => {}
                Some(reply) => break reply,
                None => {}
            }
        };
        check(asker, &self.cached, &turn, &reply, &cold, false)?;
        self.cached.take(turn, reply.written());
        Ok(())
    }

    /// Something other than a turn, on a session that is there.
    fn change(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let at = self.random.below(self.members.len());
        let Member { name, owner, conversation } = &self.members[at];
        let (name, owner, conversation) = (name.clone(), *owner, conversation.clone());
        let Some(last) = conversation.last() else { return Ok(()) };
        let checkpoint =
            conversation.checkpoints[self.random.below(conversation.checkpoints.len())];
        let (kind, path, to) = (self.random.below(8), format!("/v1/sessions/{name}"), self.name());
        self.tell(format!("change {kind} of {name} at {last:?}, to {to} or {checkpoint:?}"));
        match kind {
            0 | 1 => {
                let (body, from) = match kind {
                    0 => (json!({"name": to}), last),
                    _ => (json!({"name": to, "position": checkpoint.1}), checkpoint),
                };
                let (path, body) = (format!("{path}/fork"), body.to_string());
                asker.change(owner, ("POST", &path, Body::Json(&body)), (&to, true))?;
                self.add(owner, conversation.branch(from));
            }
            2 => {
                let body = json!({"name": to}).to_string();
                asker.change(owner, ("PATCH", &path, Body::Json(&body)), (&to, true))?;
                let gone = asker.show(owner, &name)?;
                ensure!(gone.is_none(), "a renamed session has its old name too");
                self.members[at].name = to;
                self.made += 1;
            }
            3 => {
                let body = json!({"position": checkpoint.1}).to_string();
                let path = format!("{path}/truncate");
                let answer = asker.again(owner, "POST", &path, Body::Json(&body))?;
                ensure!(answer.status == 200, "POST {path}: {}", answer.text());
                self.members[at].conversation.truncate(checkpoint);
            }
            4 => {
                let path = format!("{path}/export");
                let exported = asker.again(owner, "GET", &path, Body::Empty)?;
                ensure!(exported.status == 200, "GET {path}: {}", exported.text());
                // A snapshot is its holder's, who may have any key.
                let owner = self.random.below(2);
                let path = format!("/v1/sessions/import?name={to}");
                let bytes = Body::Bytes(&exported.body);
                asker.change(owner, ("POST", &path, bytes), (&to, true))?;
                self.add(owner, conversation.branch(last));
            }
            5 if self.members.len() > 1 => {
                asker.change(owner, ("DELETE", &path, Body::Empty), (&name, false))?;
                self.members.remove(at);
            }
            6 => self.trespass(asker, &name, owner)?,
            _ => {}
        }
        match self.members.get(at) {
            Some(member) => member.check(asker),
            None => Ok(()),
        }
    }

    /// The other key asks for a session, and finds nothing.
    fn trespass(&mut self, asker: &mut Asker<'_>, name: &str, owner: usize) -> Result<()> {
        let (other, path) = (1 - owner, format!("/v1/sessions/{name}"));
        let name_of = |suffix: &str| format!("{path}{suffix}");
        let (method, at, body) = match self.random.below(6) {
            0 => ("GET", path.clone(), String::new()),
            1 => ("GET", name_of("/export"), String::new()),
            2 => ("POST", name_of("/fork"), json!({"name": self.name()}).to_string()),
            3 => ("POST", name_of("/truncate"), json!({"position": 1}).to_string()),
            4 => ("PATCH", path.clone(), json!({"ttl": 1}).to_string()),
            _ => ("DELETE", path.clone(), String::new()),
        };
        let sent = if body.is_empty() { Body::Empty } else { Body::Json(&body) };
        let answer = asker.again(other, method, &at, sent)?;
        ensure!(answer.status == 404, "{method} {at} by another key: {}", answer.text());
        asker.world.counts.trespasses.fetch_add(1, Ordering::Relaxed);

        // Under the other key the name is that of a session of its own.
        let turn = Turn::random(&mut self.random);
        let cold = asker.cold("", &turn)?;
        let memory = [("session_id", json!(name))];
        loop {
            let reply = asker.complete(other, &turn, &turn.prompt, &memory)?;
            if let Some(reply) = &reply {
                check(asker, &Conversation::default(), &turn, reply, &cold, false)?;
            }
            let answer = asker.again(other, "DELETE", &path, Body::Empty)?;
            // Without an answer before, there may be nothing to erase.
            let is_gone = answer.status == 404;
            ensure!(answer.status == 200 || is_gone, "DELETE {path}: {}", answer.text());
            if reply.is_some() {
                return Ok(());
            }
        }
    }
}

impl Member {
    /// Compares what the server shows of it.
    fn check(&self, asker: &mut Asker<'_>) -> Result<()> {
        let shown = asker.show(self.owner, &self.name)?;
        match shown {
            Some(shown) => self.is_shown(&shown),
            None if self.conversation.turns.is_empty() => Ok(()),
            None => bail!("the session {} is lost", self.name),
        }
    }

    /// Compares with a session of the server's list.
    pub(super) fn is_shown(&self, shown: &Value) -> Result<()> {
        let conversation = &self.conversation;
        let listed = shown["checkpoints"].as_array().context("a session without checkpoints")?;
        let is: Vec<_> = listed.iter().map(|it| it["position"].as_u64()).collect();
        let must: Vec<_> = conversation.checkpoints.iter().map(|&(_, it)| Some(it)).collect();
        let position = shown["position"].as_u64();
        ensure!(
            is == must && position == Some(conversation.position()),
            "the session {} is at {position:?} with the checkpoints {is:?}, and must be at {} with {must:?}",
            self.name,
            conversation.position()
        );
        Ok(())
    }
}

/// Compares a reply with the cold one and with what was said before; with the turns read and written anew,
/// in every bit, where `whole`.
fn check(
    asker: &mut Asker<'_>,
    before: &Conversation,
    turn: &Turn,
    reply: &Reply,
    cold: &Reply,
    whole: bool,
) -> Result<()> {
    let agreement = reply.agrees(cold)?;
    let nearly = agreement == Agreement::NearlyDrawn;
    if nearly || whole {
        let turns = [&before.turns[..], std::slice::from_ref(turn)].concat();
        let exact = asker.replay(&turns)?;
        ensure!(
            reply.choices == exact.choices,
            "the reply is {:?}; all turns read and written anew give {:?}",
            reply.choices,
            exact.choices
        );
    }
    asker.world.counts.nearly_drawn.fetch_add(usize::from(nearly), Ordering::Relaxed);
    let (position, prompt) = (before.position(), characters(&turn.prompt));
    // What begins may find its prompt in the state cache; what goes on has its own state alone.
    let is_cached = position == 0 && reply.cached_tokens <= prompt;
    let reused = if is_cached { reply.cached_tokens } else { position };
    let must = [position + prompt, reused, prompt + characters(reply.written())];
    let is = [reply.prompt_tokens, reply.cached_tokens, reply.cache_write_tokens];
    ensure!(is == must, "tokens of the prompt, reused and kept are {is:?}, but must be {must:?}");
    Ok(())
}
