//! A session's snapshot from arbitrary bytes: refused with an error, or one that a model goes on
//! from, if it calls itself that model's.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use longhand_engine::{Chat, Cpu, Engine, Snapshot};
use longhand_model::{Config, Model};
use longhand_text::Tokenizer;
use longhand_text::chat::ChatTemplate;

/// Every kind of state that a small model can have.
const CONFIG: &[u8] = br#"{"model_type":"longhand","format":2,"vocab_size":256,"width":4,
    "blocks":[{"working":{"type":"attention","heads":2,"kv_heads":1,"head_width":2,"window":3},
    "long":{"type":"mlstm","hidden":4,"heads":2}}],"heads":[{"type":"language-model"}]}"#;

fn engine() -> &'static (Arc<Engine>, Arc<Cpu>) {
    static ENGINE: OnceLock<(Arc<Engine>, Arc<Cpu>)> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let config = Config::from_json(CONFIG).expect("a checked configuration");
        let model = Model::new(config, 1).expect("a checked configuration");
        let tokenizer = Tokenizer::byte().expect("a tokeniser that needs no training");
        let engine = Engine::new(model, tokenizer).expect("they belong together");
        (engine, Arc::new(Cpu::new(1)))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut snapshot) = Snapshot::from_bytes(bytes) else { return };
    let _ = snapshot.diff(&snapshot);
    snapshot.summary();
    let (engine, cpu) = engine();
    // No input guesses a hash.
    snapshot.header.model = engine.model_hash().to_owned();
    snapshot.header.tokenizer = engine.tokenizer().hash().to_owned();
    let template = Arc::new(ChatTemplate::plain(engine.tokenizer()).expect("our own template"));
    if let Ok(mut chat) = Chat::of_snapshot(&snapshot, engine, &template) {
        let mut reader = engine.reader(cpu);
        let turns = chat.turns();
        for turns in [turns, turns / 2, 0] {
            let _ = chat.back(&mut reader, turns);
        }
    }
    if let Ok(mut session) = snapshot.session(engine) {
        let mut reader = engine.reader(cpu);
        let _ = session.sample();
        session.read(&mut reader, &[7, 8]).expect("ids that the model knows");
    }
});
