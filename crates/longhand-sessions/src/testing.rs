//! Models and helpers that the tests of this crate share.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};

use longhand_engine::{Cpu, Engine, GenerateOptions, Next, Reader, SamplerSettings, TokenMemory};
use longhand_model::{Format, Model, Preset};
use longhand_text::Tokenizer;

use crate::{
    CacheSettings, Event, Host, HostSettings, Job, JobError, Keep, KeepSession, Name, Outcome,
    Owner, Sealer, Sessions, Start, StateCache, Ticket, TokenScore, Work, Write,
};

/// A byte-level model of a preset with random weights.
pub(crate) fn engine(preset: Preset, format: Format, seed: u64) -> Arc<Engine> {
    let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
    let mut config = preset.config(tokenizer.vocab_size());
    config.weights = format;
    let model = Model::new(config, seed).expect("a preset");
    Engine::new(model, tokenizer).expect("they belong together")
}

/// The smallest preset, made once for each seed.
pub(crate) fn nano(seed: u64) -> Arc<Engine> {
    static MADE: OnceLock<Mutex<HashMap<u64, Arc<Engine>>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().expect("no test panics in here");
    let make = || engine(Preset::LonghandNano, Format::F32, seed);
    made.entry(seed).or_insert_with(make).clone()
}

/// Takes what is noted in a snapshot as it is.
pub(crate) fn any_note(note: &[u8], _: u64) -> Option<Vec<u8>> {
    Some(note.to_vec())
}

/// The processor that all tests compute on.
pub(crate) fn cpu() -> Arc<Cpu> {
    static CPU: OnceLock<Arc<Cpu>> = OnceLock::new();
    CPU.get_or_init(|| Arc::new(Cpu::new(2))).clone()
}

pub(crate) fn reader(engine: &Arc<Engine>) -> Reader {
    engine.reader(&cpu())
}

/// Pseudo-random bytes as ids.
pub(crate) fn ids(count: usize, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    std::iter::repeat_with(|| random.below(256) as u32).take(count).collect()
}

/// Random numbers that are the same each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        longhand_model::split_mix64(self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A small model with both memories, for many cases.
pub(crate) fn tiny(format: Format, seed: u64) -> Arc<Engine> {
    const CONFIG: &[u8] = br#"{"model_type":"longhand","format":2,"vocab_size":256,"width":16,
        "blocks":[{"working":{"type":"attention","heads":2,"kv_heads":1,"head_width":8,"window":32},
        "long":{"type":"lstm","hidden":16}}],"heads":[{"type":"language-model"}]}"#;
    let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
    let mut config = longhand_model::Config::from_json(CONFIG).expect("a checked configuration");
    config.vocab_size = tokenizer.vocab_size();
    config.weights = format;
    let model = Model::new(config, seed).expect("a checked configuration");
    Engine::new(model, tokenizer).expect("they belong together")
}

/// A host of a model over a store, with an empty cache.
pub(crate) fn host(
    engine: &Arc<Engine>,
    sessions: &Arc<Sessions>,
    sealer: Option<Arc<Sealer>>,
    settings: HostSettings,
) -> Host {
    let cache = StateCache::new(CacheSettings::default(), sessions.counters()).expect("defaults");
    Host::start(engine, &cpu(), sessions, &cache, sealer, settings).expect("settings of a test")
}

/// A job that runs, and its events.
pub(crate) struct Running {
    pub(crate) events: Receiver<Event>,
    ticket: Ticket,
}

/// What a job told.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) tokens: Vec<(usize, Next)>,
    pub(crate) memory: Vec<Option<TokenMemory>>,
    pub(crate) prompt: Vec<TokenScore>,
    pub(crate) scored: Vec<Vec<TokenScore>>,
    pub(crate) embedding: Vec<f32>,
    pub(crate) outcome: Option<Outcome>,
}

pub(crate) fn submit(host: &Host, job: Job) -> Result<Running, JobError> {
    let (send, events) = channel();
    let sink = Box::new(move |event| match send.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    });
    Ok(Running { ticket: host.submit(job, sink)?, events })
}

impl Running {
    /// Waits for the job's end. Checks that nothing follows it.
    pub(crate) fn wait(self) -> Result<Ran, JobError> {
        let mut ran = Ran::default();
        let mut failed = None;
        for event in &self.events {
            assert!(ran.outcome.is_none() && failed.is_none(), "an event after the last one");
            match event {
                Event::Started { .. } | Event::Read { .. } | Event::Ended { .. } => {}
                Event::Prompt(scores) => ran.prompt.extend(scores),
                Event::Token { branch, next, memory } => {
                    ran.tokens.push((branch, next));
                    ran.memory.push(memory);
                }
                Event::Scored { scores, continuation } => {
                    assert_eq!(continuation, ran.scored.len());
                    ran.scored.push(scores);
                }
                Event::Embedding(embedding) => ran.embedding = embedding,
                Event::Done(outcome) => ran.outcome = Some(*outcome),
                Event::Failed(error) => failed = Some(error),
            }
        }
        assert!(self.ticket.is_done());
        match failed {
            Some(error) => Err(error),
            None => {
                assert!(ran.outcome.is_some(), "a job without an end");
                Ok(ran)
            }
        }
    }
}

impl Ran {
    /// The ids of a branch.
    pub(crate) fn ids(&self, branch: usize) -> Vec<u32> {
        let own = self.tokens.iter().filter(|(of, _)| *of == branch);
        own.map(|(_, next)| next.id).collect()
    }

    pub(crate) fn outcome(&self) -> &Outcome {
        self.outcome.as_ref().expect("a job that was waited for")
    }
}

pub(crate) fn run(host: &Host, job: Job) -> Result<Ran, JobError> {
    submit(host, job)?.wait()
}

pub(crate) fn owner(id: &str) -> Owner {
    Owner::new(id).expect("an owner of a test")
}

pub(crate) fn name(name: &str) -> Name {
    Name::new(name).expect("a name of a test")
}

/// A job that writes up to `count` tokens with a seed.
pub(crate) fn write(ids: Vec<u32>, count: usize, seed: u64) -> Job {
    let sampler = Some(SamplerSettings { seed, ..SamplerSettings::default() });
    let options = GenerateOptions {
        max_tokens: count,
        log_probabilities: Some(2),
        ..GenerateOptions::default()
    };
    let work = Work::Write(Write { sampler, options, ..Write::default() });
    Job::new(owner("a"), ids, work)
}

/// The same in a session, which is advanced.
pub(crate) fn turn(session: &str, ids: Vec<u32>, count: usize, seed: u64) -> Job {
    let mut job = write(ids, count, seed);
    job.start = Start::Session { name: name(session), or_new: true };
    job.keep = Keep::Session(KeepSession::new(name(session)));
    job
}
