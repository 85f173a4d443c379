//! Seeded random operations on a store with a host, against a plain model of the same conversations:
//! lists of turns, each recomputed cold by one session alone. Tokens, log-probabilities and states
//! must agree in every bit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use longhand_engine::{Engine, GenerateOptions, Generation, SamplerSettings, Session, Snapshot};
use longhand_model::{Format, Preset};
use tempfile::TempDir;

use crate::testing::{
    Random, Running, any_note, engine, host, ids, name, owner, reader, submit, tiny,
};
use crate::{
    Host, HostSettings, Job, Keep, KeepSession, Sealer, SealingKey, Sessions, SessionsSettings,
    Start, Work, Write,
};

/// What was said in one job.
#[derive(Clone, Debug)]
struct Turn {
    ids: Vec<u32>,
    count: usize,
    stop: Option<String>,
    seed: u64,
}

/// The plain model of a session.
#[derive(Clone, Debug, Default)]
struct Conversation {
    turns: Vec<Turn>,
    /// How many of the last turns have a checkpoint.
    checkpoints: usize,
    /// Whether the store does not know its tokens, as they came from outside.
    outside: bool,
}

/// What a turn came to: its ids and log-probabilities, and the session after it.
struct Cold {
    tokens: Vec<(u32, u32)>,
    session: Session,
    /// All that was read, and the position after each turn; none after a stop text.
    read: Option<Vec<u32>>,
    positions: Vec<u64>,
}

type Key = (&'static str, String);

struct World {
    engine: Arc<Engine>,
    folder: TempDir,
    path: PathBuf,
    settings: SessionsSettings,
    sealer: Arc<Sealer>,
    parts: Option<(Host, Arc<Sessions>)>,
    conversations: BTreeMap<Key, Conversation>,
    sealed: Vec<(&'static str, Vec<u8>, Conversation)>,
    prefixes: Vec<Vec<u32>>,
    random: Random,
    made: usize,
    checked: usize,
}

/// A job that runs, and what must come of it.
struct Expected {
    running: Running,
    after: Conversation,
    keep: Option<Key>,
    seals: Option<&'static str>,
}

impl World {
    fn new(engine: Arc<Engine>, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut one = engine.session(SamplerSettings::default()).unwrap();
        one.read(&mut reader(&engine), &[1]).unwrap();
        // Room for a few, so that most come from the disk.
        let memory = 4 * crate::lru::bytes_of(&one);
        let key = SealingKey { id: "k".into(), key: [seed as u8; 32] };
        let mut world = Self {
            path: folder.path().join("0.redb"),
            folder,
            settings: SessionsSettings { memory, ..SessionsSettings::default() },
            sealer: Sealer::new(key, Vec::new()).unwrap(),
            parts: None,
            conversations: BTreeMap::new(),
            sealed: Vec::new(),
            prefixes: (0..3).map(|it| ids(900, seed + it)).collect(),
            random: Random(seed << 32),
            made: 0,
            checked: 0,
            engine,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let (sessions, report) = Sessions::open(&self.path, self.settings.clone()).unwrap();
        assert!(report.damaged.is_empty(), "{report:?}");
        assert_eq!(report.sessions as usize, self.conversations.len());
        let settings = HostSettings { streams: 3, verify: 0.2, ..HostSettings::default() };
        let host = host(&self.engine, &sessions, Some(self.sealer.clone()), settings);
        self.parts = Some((host, sessions));
    }

    fn host(&self) -> &Host {
        &self.parts.as_ref().unwrap().0
    }

    fn sessions(&self) -> &Arc<Sessions> {
        &self.parts.as_ref().unwrap().1
    }

    /// Recomputes a conversation from its first token.
    fn cold(&self, conversation: &Conversation) -> Cold {
        let mut reader = reader(&self.engine);
        let mut session = self.engine.session(self.engine.generation().sampler).unwrap();
        let (mut tokens, mut read, mut positions) = (Vec::new(), Some(Vec::new()), Vec::new());
        for turn in &conversation.turns {
            session.set_sampler(sampler(turn.seed)).unwrap();
            session.read(&mut reader, &turn.ids).unwrap();
            let mut generation = Generation::new(session, options(turn)).unwrap();
            tokens.clear();
            if let Some(read) = &mut read {
                read.extend(&turn.ids);
            }
            while let Some(next) = generation.next(&mut reader).unwrap() {
                tokens.push((next.id, next.log_probability.unwrap().to_bits()));
                match &mut read {
                    Some(ids) if next.is_read() => ids.push(next.id),
                    _ => read = None,
                }
            }
            session = generation.into_session();
            positions.push(session.position());
        }
        Cold { tokens, session, read, positions }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn owner(&mut self) -> &'static str {
        if self.below(4) == 0 { "b" } else { "a" }
    }

    fn turn(&mut self) -> Turn {
        let most = [20, 20, 20, 20, 20, 20, 20, 300, 300, 700][self.below(10)];
        let (len, seed) = (1 + self.below(most), self.random.next());
        let stop = (self.below(4) == 0).then(|| match self.below(3) {
            0 => "e".into(),
            1 => char::from(self.below(128) as u8).to_string(),
            _ => "\u{e9}a".into(),
        });
        Turn { ids: ids(len, seed), count: self.below(14), stop, seed }
    }

    /// A conversation of those that are in no job, if there is one.
    fn pick(&mut self, busy: &[Key]) -> Option<Key> {
        let free: Vec<Key> =
            self.conversations.keys().filter(|key| !busy.contains(key)).cloned().collect();
        (!free.is_empty()).then(|| free[self.below(free.len())].clone())
    }

    fn fresh_name(&mut self) -> String {
        self.made += 1;
        format!("s{}", self.made)
    }

    /// One job of a random kind, on sessions that no other job of the round has.
    fn job(&mut self, busy: &mut Vec<Key>) -> Expected {
        let turn = self.turn();
        let (kind, own) = (self.below(12), self.owner());
        let (mut start, mut keep, mut seals) = (Start::Fresh, None, None);
        let (mut before, mut of, mut prompt) = (Conversation::default(), own, turn.ids.clone());
        let picked = self.pick(busy);
        match (kind, picked) {
            (0..5, Some(key)) => {
                // The session goes on.
                start = Start::Session { name: name(&key.1), or_new: false };
                (before, of, keep) = (self.conversations[&key].clone(), key.0, Some(key));
            }
            (5, Some(key)) => {
                // Another one goes on from where it is.
                start = Start::Session { name: name(&key.1), or_new: false };
                before = Conversation { checkpoints: 0, ..self.conversations[&key].clone() };
                (of, keep) = (key.0, Some((key.0, self.fresh_name())));
                busy.push(key);
            }
            (6, Some(key)) => {
                // The whole prompt is given.
                let cold = self.cold(&self.conversations[&key]);
                if let Some(read) = cold.read.filter(|_| !self.conversations[&key].outside) {
                    prompt = [&read[..], &turn.ids].concat();
                    start = Start::Prefix { name: name(&key.1) };
                    before = self.conversations[&key].clone();
                    (of, keep) = (key.0, Some(key));
                }
            }
            (7, _) if !self.sealed.is_empty() => {
                let at = self.below(self.sealed.len());
                let (owner, bytes, conversation) = self.sealed[at].clone();
                (start, of) = (Start::Sealed(bytes), owner);
                before = Conversation { checkpoints: 0, ..conversation };
                match self.below(2) {
                    0 => seals = Some(of),
                    _ => keep = Some((of, self.fresh_name())),
                }
            }
            (8..11, _) => {
                // A prompt whose beginning others have.
                let (at, len) = (self.below(3), 1 + self.below(900));
                let tail = if self.below(3) == 0 { Vec::new() } else { turn.ids.clone() };
                prompt = [&self.prefixes[at][..len], &tail].concat();
                match self.below(6) {
                    0 => seals = Some(of),
                    1 => keep = Some((of, self.fresh_name())),
                    _ => {}
                }
            }
            _ => {
                keep = Some((of, self.fresh_name()));
                start = Start::Session { name: name(&keep.as_ref().unwrap().1), or_new: true };
            }
        }
        let told = match &start {
            Start::Prefix { .. } => turn.ids.clone(),
            _ => prompt.clone(),
        };
        let turn = Turn { ids: told, ..turn };
        let write = Write {
            sampler: Some(sampler(turn.seed)),
            options: options(&turn),
            ..Write::default()
        };
        let mut job = Job::new(owner(of), prompt, Work::Write(write));
        job.start = start;
        if let Some(key) = &keep {
            job.keep = Keep::Session(KeepSession::new(name(&key.1)));
            busy.push(key.clone());
        } else if seals.is_some() {
            job.keep = Keep::Sealed { ttl: None };
        }
        let mut after = before;
        after.turns.push(turn);
        after.checkpoints = (after.checkpoints + 1).min(self.settings.checkpoints);
        Expected { running: submit(self.host(), job).unwrap(), after, keep, seals }
    }

    /// Some jobs side by side.
    fn round(&mut self) {
        let mut busy = Vec::new();
        let count = 1 + self.below(4);
        let jobs: Vec<Expected> = (0..count).map(|_| self.job(&mut busy)).collect();
        for Expected { running, after, keep, seals } in jobs {
            let ran = running.wait().unwrap();
            let cold = self.cold(&after);
            let got: Vec<(u32, u32)> = ran
                .tokens
                .iter()
                .map(|(_, next)| (next.id, next.log_probability.unwrap().to_bits()))
                .collect();
            assert_eq!(got, cold.tokens, "{after:?}");
            // A stream that is not kept need not read its last token.
            if keep.is_some() || seals.is_some() {
                assert_eq!(ran.outcome().position, *cold.positions.last().unwrap());
            }
            if let Some(key) = keep {
                self.conversations.insert(key.clone(), after);
                self.check(&key, &cold);
            } else if let Some(of) = seals {
                self.sealed.push((of, ran.outcome().sealed.clone().unwrap(), after));
                if self.sealed.len() > 5 {
                    self.sealed.remove(0);
                }
            }
            self.checked += 1;
        }
    }

    /// Compares a stored session with a cold one.
    fn check(&self, key: &Key, cold: &Cold) {
        let (of, called) = (owner(key.0), name(&key.1));
        let bytes = self.sessions().export(&of, &called).unwrap();
        assert_eq!(bytes, Snapshot::of(&cold.session).to_bytes(), "{key:?}");
        let info = self.sessions().show(&of, &called).unwrap();
        let last = cold.positions.len() - self.conversations[key].checkpoints;
        let positions: Vec<u64> = info.checkpoints.iter().map(|it| it.position).collect();
        assert_eq!(positions, cold.positions[last..], "{key:?}");
    }

    /// Something that the store does by itself.
    fn administer(&mut self) {
        let kind = self.below(8);
        let Some(key) = self.pick(&[]) else { return };
        let conversation = self.conversations[&key].clone();
        let (of, called) = (owner(key.0), name(&key.1));
        let other: Key = (key.0, self.fresh_name());
        let sessions = self.sessions().clone();
        match kind {
            0 => {
                sessions.fork(&of, &called, &name(&other.1), None).unwrap();
                let forked = Conversation { checkpoints: 1, ..conversation };
                self.conversations.insert(other, forked);
            }
            1 => {
                sessions.rename(&of, &called, &name(&other.1)).unwrap();
                self.conversations.remove(&key);
                self.conversations.insert(other, conversation);
            }
            2 | 3 => {
                let cold = self.cold(&conversation);
                let back = self.below(conversation.checkpoints);
                let turns = conversation.turns.len() - back;
                let position = cold.positions[turns - 1];
                // Turns without any token have one position: the last of them is taken.
                if cold.positions.iter().filter(|&&it| it == position).count() == 1 {
                    let mut conversation = conversation;
                    conversation.turns.truncate(turns);
                    if kind == 2 {
                        sessions.truncate(&of, &called, position).unwrap();
                        conversation.checkpoints -= back;
                        self.conversations.insert(key, conversation);
                    } else {
                        sessions.fork(&of, &called, &name(&other.1), Some(position)).unwrap();
                        conversation.checkpoints = 1;
                        self.conversations.insert(other, conversation);
                    }
                }
            }
            4 => {
                let bytes = sessions.export(&of, &called).unwrap();
                let engine = self.engine.clone();
                sessions.import(&of, &name(&other.1), &bytes, &engine, None, any_note).unwrap();
                let imported = Conversation { checkpoints: 1, outside: true, ..conversation };
                self.conversations.insert(other, imported);
            }
            5 => {
                sessions.erase(&of, &called).unwrap();
                self.conversations.remove(&key);
            }
            6 => sessions.cool(),
            _ => {
                drop(sessions);
                self.restart();
            }
        }
    }

    /// Ends the server, in order or by a kill, and starts it again.
    fn restart(&mut self) {
        let counters = self.host().counters().clone();
        assert_eq!(counters.verify_failures.get(), 0);
        self.made += 1;
        let copy = self.folder.path().join(format!("{}.redb", self.made));
        if self.below(2) == 0 {
            // What is on the disk while the process still runs.
            fs_err::copy(&self.path, &copy).unwrap();
            self.parts = None;
            fs_err::remove_file(&self.path).unwrap();
            self.path = copy;
        } else {
            self.parts = None;
        }
        self.open();
    }

    fn run(&mut self, cases: usize) {
        while self.checked < cases {
            match self.below(3) {
                0 => self.administer(),
                _ => self.round(),
            }
            let long: Vec<Key> = self
                .conversations
                .iter()
                .filter(|(_, it)| it.turns.len() > 7)
                .map(|(key, _)| key.clone())
                .collect();
            for key in long {
                self.sessions().erase(&owner(key.0), &name(&key.1)).unwrap();
                self.conversations.remove(&key);
            }
        }
        self.restart();
        for (key, conversation) in self.conversations.clone() {
            let cold = self.cold(&conversation);
            self.check(&key, &cold);
        }
        for of in ["a", "b"] {
            let own = self.conversations.keys().filter(|key| key.0 == of).count();
            assert_eq!(self.sessions().list(&owner(of)).unwrap().len(), own);
        }
    }
}

fn sampler(seed: u64) -> SamplerSettings {
    SamplerSettings { seed, ..SamplerSettings::default() }
}

fn options(turn: &Turn) -> GenerateOptions {
    GenerateOptions {
        max_tokens: turn.count,
        stop: turn.stop.iter().cloned().collect(),
        log_probabilities: Some(1),
        ..GenerateOptions::default()
    }
}

/// How many jobs are checked: more where `LONGHAND_SESSION_CASES` asks for it.
fn cases(default: usize) -> usize {
    let asked = std::env::var("LONGHAND_SESSION_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

#[test]
fn random_operations_agree_with_cold_conversations() {
    for (format, seed) in [(Format::F32, 11), (Format::Int8, 12)] {
        World::new(tiny(format, seed), seed).run(cases(250));
    }
}

#[test]
fn random_operations_on_presets_agree_with_cold_conversations() {
    let presets =
        [Preset::LonghandNano, Preset::Lstm, Preset::TanhLstm, Preset::Transformer, Preset::Xlstm];
    for (preset, seed) in presets.into_iter().zip(20..) {
        for format in [Format::F32, Format::Int8] {
            World::new(engine(preset, format, seed), seed).run(cases(8));
        }
    }
}
