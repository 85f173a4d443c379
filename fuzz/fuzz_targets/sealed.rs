//! A sealed state, or a snapshot to import, from arbitrary bytes: refused with an error, and nothing
//! is kept.
#![no_main]

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use longhand_engine::{Cpu, Engine};
use longhand_model::{Config, Model};
use longhand_sessions::{
    CacheSettings, Host, HostSettings, Job, Name, Owner, Sealer, SealingKey, Sessions,
    SessionsSettings, Start, StateCache, Work, Write,
};
use longhand_text::Tokenizer;

const CONFIG: &[u8] = br#"{"model_type":"longhand","format":2,"vocab_size":256,"width":4,
    "blocks":[{"long":{"type":"lstm","hidden":4}}],"heads":[{"type":"language-model"}]}"#;

fn host() -> &'static (Host, Owner) {
    static HOST: OnceLock<(Host, Owner)> = OnceLock::new();
    HOST.get_or_init(|| {
        let mut config = Config::from_json(CONFIG).expect("a checked configuration");
        let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
        config.vocab_size = tokenizer.vocab_size();
        let model = Model::new(config, 1).expect("a checked configuration");
        let engine = Engine::new(model, tokenizer).expect("they belong together");
        let sessions = Sessions::in_memory(SessionsSettings::default()).expect("defaults");
        let cache = StateCache::new(CacheSettings::default(), sessions.counters());
        let cache = cache.expect("defaults");
        let key = SealingKey { id: "k".into(), key: [1; 32] };
        let sealer = Sealer::new(key, Vec::new()).expect("one key");
        let (cpu, settings) = (Arc::new(Cpu::new(1)), HostSettings::default());
        let host = Host::start(&engine, &cpu, &sessions, &cache, Some(sealer), settings);
        (host.expect("defaults"), Owner::new("a").expect("an owner"))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (host, owner) = host();
    let mut job = Job::new(owner.clone(), vec![1], Work::Write(Write::default()));
    job.start = Start::Sealed(bytes.to_vec());
    let sink = Box::new(|_| ControlFlow::Continue(()));
    // No input guesses a tag of 128 bits.
    assert!(host.submit(job, sink).is_err());
    let name = Name::new("s").expect("a name");
    let sessions = host.sessions();
    let note = |note: &[u8], _| Some(note.to_vec());
    if sessions.import(owner, &name, bytes, host.engine(), None, note).is_ok() {
        sessions.erase(owner, &name).expect("it was just kept");
    }
});
