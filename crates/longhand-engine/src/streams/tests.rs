use std::collections::HashMap;

use longhand_model::config::WorkingMemory;
use longhand_model::{Config, Format, Model, Precision, Preset};
use longhand_text::Tokenizer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::continuation::{Continuation, FinishReason, GenerateOptions};
use crate::generate::Generation;
use crate::sampler::SamplerSettings;
use crate::snapshot::Snapshot;
use crate::testing::{cpu, engine, filters, ids};

/// A preset as it is, or its first two blocks where it is large, in a format.
fn small(preset: Preset, format: Format) -> Option<Arc<Engine>> {
    let tokenizer = Tokenizer::byte().unwrap();
    let mut config: Config = preset.config(tokenizer.vocab_size());
    if config.blocks.len() > 4 || config.width > 512 {
        config.blocks.truncate(2);
    }
    for block in &mut config.blocks {
        if let Some(WorkingMemory::Attention { window, .. }) = &mut block.working {
            // The ring is full, and turns, within the test.
            *window = (*window).min(40);
        }
    }
    config.weights = format;
    config.check().ok()?;
    Engine::new(Model::new(config, 11).unwrap(), tokenizer).ok()
}

/// A stream with its script: a prompt, some tokens that it draws, another prompt, and so on.
struct Script {
    pieces: Vec<Vec<u32>>,
    settings: SamplerSettings,
}

impl Script {
    fn new(random: &mut ChaCha8Rng, seed: u64) -> Self {
        let pieces = (0..random.random_range(6..14))
            .map(|piece| match random.random_range(0..5) {
                0 => ids(random.random_range(2..70), random.random()),
                _ if piece == 0 => ids(random.random_range(1..90), random.random()),
                // Drawn from the logits.
                _ => Vec::new(),
            })
            .collect();
        let settings = SamplerSettings { seed, temperature: 1.2, ..SamplerSettings::default() };
        Self { pieces, settings }
    }

    /// The bits of all logits that the stream sees when it is read alone.
    fn alone(&self, reader: &mut Reader) -> Vec<Vec<u32>> {
        let mut session = reader.engine().session(self.settings).unwrap();
        let mut seen = Vec::new();
        for piece in &self.pieces {
            match &piece[..] {
                [] => {
                    let id = session.sample().unwrap();
                    session.step(reader, id).unwrap();
                }
                piece => session.read(reader, piece).unwrap(),
            }
            seen.push(bits(session.logits()));
        }
        seen
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

struct Running {
    slot: Slot,
    script: usize,
    piece: usize,
    draws: Session,
}

/// Streams that join and leave at random see the same bits as each alone.
fn stays_itself(engine: &Arc<Engine>, capacity: usize, total: usize, seed: u64) {
    let cpu = cpu();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let scripts: Vec<Script> =
        (0..total).map(|i| Script::new(&mut random, seed + i as u64)).collect();
    let mut reader = engine.reader(&cpu);
    let expected: Vec<_> = scripts.iter().map(|script| script.alone(&mut reader)).collect();
    let mut streams = Streams::new(engine, &cpu, capacity).unwrap();
    let mut running: Vec<Running> = Vec::new();
    let mut waiting = (0..total).collect::<Vec<_>>();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < capacity && random.random_bool(0.7) {
            let Some(script) = waiting.pop() else { break };
            // Only draws: its logits are set from the batch.
            let draws = engine.session(scripts[script].settings).unwrap();
            let slot = streams.admit(draws.clone()).unwrap();
            running.push(Running { slot, script, piece: 0, draws });
        }
        let mut work: Vec<(Slot, usize, Vec<u32>)> = Vec::new();
        for (i, stream) in running.iter_mut().enumerate() {
            if random.random_bool(0.2) {
                continue;
            }
            let mut piece = scripts[stream.script].pieces[stream.piece].clone();
            if piece.is_empty() {
                stream.draws.end.logits = streams.logits(stream.slot).unwrap().to_vec();
                stream.draws.end.recent = streams.copy(stream.slot).unwrap().end.recent;
                piece = vec![stream.draws.sample().unwrap()];
            }
            work.push((stream.slot, i, piece));
        }
        let step: Vec<(Slot, &[u32])> =
            work.iter().map(|(slot, _, ids)| (*slot, &ids[..])).collect();
        let rows = streams.step(&step).unwrap();
        for ((_, i, _), logits) in work.iter().zip(rows.iter()) {
            let Running { script, piece, .. } = &mut running[*i];
            assert!(bits(logits) == expected[*script][*piece], "stream {script}, piece {piece}");
            *piece += 1;
        }
        // Who is done leaves; some others go out and come back, to another slot.
        for i in (0..running.len()).rev() {
            let ended = running[i].piece == scripts[running[i].script].pieces.len();
            if ended {
                let session = streams.release(running.swap_remove(i).slot).unwrap();
                assert!(session.position() > 0);
            } else if random.random_bool(0.1) {
                let session = streams.release(running[i].slot).unwrap();
                running[i].slot = streams.admit(session).unwrap();
            }
        }
    }
    assert!(streams.is_empty());
}

#[test]
fn a_stream_is_the_same_alone_and_among_others() {
    for preset in Preset::ALL {
        for format in [Format::F32, Format::Int8] {
            if let Some(engine) = small(preset, format) {
                let large = engine.model().parameters() > 1_500_000;
                let (capacity, total) = if large { (4, 5) } else { (9, 14) };
                stays_itself(&engine, capacity, total, 5);
            }
        }
    }
    for format in [Format::F32, Format::Int8] {
        stays_itself(&filters(format, 3), 9, 14, 5);
    }
}

#[test]
fn a_stream_is_the_same_among_sixty_four() {
    for (preset, format) in [
        (Preset::LonghandNano, Format::F32),
        (Preset::LonghandNano, Format::Int8),
        (Preset::Xlstm, Format::Int8),
        (Preset::TanhLstm, Format::F32),
    ] {
        stays_itself(&small(preset, format).unwrap(), 65, 80, 6);
    }
}

#[test]
fn a_long_prompt_is_read_in_turns_with_others() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 2), cpu());
    let mut reader = engine.reader(&cpu);
    let mut streams = Streams::new(&engine, &cpu, 4).unwrap();
    let texts = [ids(2 * CHUNK + 1, 1), ids(1, 2), ids(CHUNK + 30, 3), Vec::new()];
    let empty = || engine.session(SamplerSettings::greedy()).unwrap();
    let slots: Vec<Slot> = texts.iter().map(|_| streams.admit(empty()).unwrap()).collect();
    let work: Vec<(Slot, &[u32])> =
        slots.iter().copied().zip(texts.iter().map(|ids| &ids[..])).collect();
    let rows = streams.step(&work).unwrap();
    for (ids, logits) in texts.iter().zip(rows.iter()) {
        let mut alone = empty();
        alone.read(&mut reader, ids).unwrap();
        assert_eq!(bits(logits), bits(alone.logits()));
    }
    // In one call or in several, cut at whole chunks.
    let slot = slots[3];
    for piece in texts[0].chunks(CHUNK) {
        streams.step(&[(slot, piece)]).unwrap();
    }
    assert_eq!(bits(streams.logits(slot).unwrap()), bits(streams.logits(slots[0]).unwrap()));
    assert_eq!(streams.position(slot), Ok(2 * CHUNK as u64 + 1));
    let (a, b) = (streams.copy(slot).unwrap(), streams.release(slots[0]).unwrap());
    assert_eq!(Snapshot::of(&a).to_bytes(), Snapshot::of(&b).to_bytes());
}

#[test]
fn what_is_refused_changes_nothing() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 2), cpu());
    let mut streams = Streams::new(&engine, &cpu, 2).unwrap();
    let session = || engine.session(SamplerSettings::greedy()).unwrap();
    let [a, b] = [(); 2].map(|()| streams.admit(session()).unwrap());
    streams.step(&[(a, &[1, 2, 3]), (b, &[4])]).unwrap();
    let before = [a, b].map(|slot| Snapshot::of(&streams.copy(slot).unwrap()).to_bytes());

    let mut third = session();
    third.read(&mut engine.reader(&cpu), &[9]).unwrap();
    let refused = streams.admit(third).unwrap_err();
    assert_eq!(refused.session.position(), 1);
    assert_eq!(refused.to_string(), "all 2 slots are taken: release a stream first");
    let error = streams.step(&[(a, &[5]), (b, &[6, 256])]).err().unwrap();
    assert_eq!(error.to_string(), "the token id 256 is out of range: the model knows 256 tokens");
    let error = streams.step(&[(a, &[5]), (b, &[6]), (a, &[7])]).err().unwrap();
    assert!(error.to_string().ends_with("is named twice in one step"), "{error}");
    let after = [a, b].map(|slot| Snapshot::of(&streams.copy(slot).unwrap()).to_bytes());
    assert!(before == after);

    // A slot that was released is not the next stream's, nor another batch's.
    let session = streams.release(a).unwrap();
    let again = streams.admit(session.clone()).unwrap();
    assert_ne!(a, again);
    let error = streams.release(a).err().unwrap();
    assert!(matches!(error, EngineError::Streams(StreamsError::Vacant(slot)) if slot == a));
    let error = streams.step(&[(b, &[1]), (a, &[1])]).err().unwrap();
    assert!(matches!(error, EngineError::Streams(StreamsError::Vacant(slot)) if slot == a));
    let mut other = Streams::new(&engine, &cpu, 2).unwrap();
    other.admit(session).unwrap();
    assert!(other.logits(again).is_err());
    assert!(matches!(Streams::new(&engine, &cpu, 0).err(), Some(StreamsError::Capacity(0))));
    assert!(Streams::new(&engine, &cpu, usize::MAX).is_err());
}

#[test]
fn a_session_of_another_model_is_not_admitted() {
    let cpu = cpu();
    let (one, two) = (engine(Preset::Lstm, 1), engine(Preset::Lstm, 2));
    let mut streams = Streams::new(&one, &cpu, 1).unwrap();
    let refused = streams.admit(two.session(SamplerSettings::greedy()).unwrap()).unwrap_err();
    let message = refused.to_string();
    assert!(message.contains(&one.model_hash()[..12]) && message.contains(&two.model_hash()[..12]));
    // The same folder loaded twice is the same model.
    let same = engine(Preset::Lstm, 1);
    streams.admit(same.session(SamplerSettings::greedy()).unwrap()).unwrap();
}

/// A continuation over the logits of a batch writes what a generation of the session alone does.
#[test]
fn continuations_write_what_single_sessions_do() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 3), cpu());
    let mut reader = engine.reader(&cpu);
    let options = || GenerateOptions { max_tokens: 30, ..GenerateOptions::default() };
    let sessions: Vec<Session> = (0..5)
        .map(|seed| {
            let settings = SamplerSettings { seed, temperature: 1.5, ..Default::default() };
            let mut session = engine.session(settings).unwrap();
            session.read_text(&mut reader, &format!("Stream {seed}:")).unwrap();
            session
        })
        .collect();
    let mut streams = Streams::new(&engine, &cpu, 5).unwrap();
    let mut running: Vec<(Slot, Continuation, String)> = sessions
        .iter()
        .map(|session| {
            let continuation = session.continuation(options()).unwrap();
            (streams.admit(session.clone()).unwrap(), continuation, String::new())
        })
        .collect();
    for _ in 0..30 {
        let mut tokens = HashMap::new();
        for (slot, continuation, text) in &mut running {
            let next = continuation.next(streams.logits(*slot).unwrap()).unwrap().unwrap();
            text.push_str(&next.text);
            tokens.insert(*slot, [next.id]);
        }
        let work: Vec<(Slot, &[u32])> = tokens.iter().map(|(&slot, id)| (slot, &id[..])).collect();
        streams.step(&work).unwrap();
    }
    for (session, (slot, continuation, text)) in sessions.into_iter().zip(running) {
        let mut generation = Generation::new(session, options()).unwrap();
        let alone: String = generation.pieces(&mut reader).map(Result::unwrap).collect();
        assert_eq!(alone, text);
        assert_eq!(continuation.finish_reason(), Some(&FinishReason::Length));
        let mut released = streams.release(slot).unwrap();
        released.resume_sampler(continuation.sampler()).unwrap();
        let alone = Snapshot::of(&generation.into_session());
        assert!(alone.to_bytes() == Snapshot::of(&released).to_bytes());
    }
}

#[test]
fn streams_and_sessions_move_to_another_thread() {
    struct Server {
        streams: Streams,
        waiting: Vec<Session>,
        writing: Vec<(Slot, Continuation)>,
    }
    let engine = engine(Preset::Lstm, 3);
    let session = engine.session(SamplerSettings::greedy()).unwrap();
    let mut server = Server {
        streams: Streams::new(&engine, &cpu(), 2).unwrap(),
        waiting: vec![session.clone(), session],
        writing: Vec::new(),
    };
    let written = std::thread::spawn(move || {
        while let Some(session) = server.waiting.pop() {
            let continuation = session.continuation(GenerateOptions::default()).unwrap();
            let slot = server.streams.admit(session).unwrap();
            server.streams.step(&[(slot, &[1, 2])]).unwrap();
            server.writing.push((slot, continuation));
        }
        let mut ids = Vec::new();
        for (slot, continuation) in &mut server.writing {
            let next = continuation.next(server.streams.logits(*slot).unwrap()).unwrap().unwrap();
            ids.push(next.id);
        }
        ids
    });
    let written = written.join().unwrap();
    assert_eq!(written[0], written[1]);
}

#[test]
fn a_cache_in_bf16_is_lent_too() {
    let tokenizer = Tokenizer::byte().unwrap();
    let mut config = Preset::LonghandNano.config(tokenizer.vocab_size());
    config.kv_cache = Precision::Bf16;
    let engine = Engine::new(Model::new(config, 4).unwrap(), tokenizer).unwrap();
    stays_itself(&engine, 6, 9, 7);
}
