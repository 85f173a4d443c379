//! Values of random JSON schemas, written by a model: how many are valid, and how much slower
//! than free text they are written.
//!
//!     cargo run --release -p longhand --example schemas -- MODEL_DIR 1000 [SEED] [THREADS]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_engine::{
    Cpu, Engine, FinishReason, GenerateOptions, Generation, Reader, Rules, SamplerSettings,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

#[path = "../../longhand-engine/src/rules/random_schema.rs"]
mod random_schema;

/// The most tokens of a value: few schemas allow one that is as long.
const MOST: usize = 2000;

/// A text with its end, the number of its tokens, and the time to write them.
struct Written {
    text: String,
    reason: FinishReason,
    tokens: usize,
    time: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, count, further @ ..] = &arguments[..] else {
        panic!("give a model folder and the number of schemas, and perhaps a seed and threads");
    };
    let count: u64 = count.parse().expect("the number of schemas");
    let number = |place: usize| further.get(place).map(|text| text.parse().expect("a number"));
    let (seed, threads) = (number(0).unwrap_or(1), number(1).unwrap_or(1));
    let engine = Engine::load(Path::new(folder)).expect("a model folder");
    let reader = &mut engine.reader(&Arc::new(Cpu::new(threads as usize)));
    let began = Instant::now();
    engine.vocabulary().expect("a tokeniser that rules can follow");
    println!("the trie of {} tokens: {:?}", engine.tokenizer().vocab_size(), began.elapsed());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut valid, mut cut, mut dead) = (0, 0, 0);
    let (mut ruled, mut free) = ((0, Duration::ZERO), (0, Duration::ZERO));
    let mut compiled = Duration::ZERO;
    for index in 0..count {
        let schema = random_schema::random_schema(&mut random);
        let began = Instant::now();
        let rules = Arc::new(Rules::json_schema(&schema.to_string()).expect("a schema"));
        compiled += began.elapsed();
        let temperature = [0.8, 1.0, 1.5][index as usize % 3];
        let sampler = SamplerSettings { temperature, seed: index, ..SamplerSettings::default() };
        let value = match write(&engine, reader, sampler, Some(rules), MOST) {
            Ok(value) => value,
            Err(error) => {
                dead += 1;
                println!("{index}: {error}");
                continue;
            }
        };
        ruled = (ruled.0 + value.tokens, ruled.1 + value.time);
        let text = write(&engine, reader, sampler, None, value.tokens.max(1)).expect("free text");
        free = (free.0 + text.tokens, free.1 + text.time);
        if value.reason == FinishReason::Length {
            cut += 1;
            continue;
        }
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        match serde_json::from_str::<Value>(&value.text) {
            Ok(json) if validator.is_valid(&json) => valid += 1,
            _ => println!("{index}: {} is no value of {schema}", value.text),
        }
    }
    let pace = |(tokens, time): (usize, Duration)| tokens as f64 / time.as_secs_f64();
    println!(
        "valid        {valid} of {count}; cut at {MOST} tokens {cut}; no token could go on {dead}"
    );
    println!("with rules   {:.0} tokens/s of {} tokens", pace(ruled), ruled.0);
    println!("free text    {:.0} tokens/s of {} tokens", pace(free), free.0);
    println!("slowdown     {:.2}", pace(free) / pace(ruled));
    println!("parsing      {:?} a schema", compiled / count.max(1) as u32);
}

/// Writes a text; its time is that of the tokens, and of beginning to follow the rules.
fn write(
    engine: &Arc<Engine>,
    reader: &mut Reader,
    sampler: SamplerSettings,
    rules: Option<Arc<Rules>>,
    max_tokens: usize,
) -> Result<Written, longhand_engine::EngineError> {
    let mut session = engine.session(sampler)?;
    session.read_text(reader, "A value")?;
    let options = GenerateOptions { max_tokens, rules, ..GenerateOptions::default() };
    let began = Instant::now();
    let mut generation = Generation::new(session, options)?;
    let mut text = String::new();
    while let Some(next) = generation.next(reader)? {
        text.push_str(&next.text);
    }
    let reason = generation.finish_reason().cloned().expect("it has ended");
    Ok(Written { text, reason, tokens: generation.tokens(), time: began.elapsed() })
}
