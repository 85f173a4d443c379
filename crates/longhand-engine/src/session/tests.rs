use longhand_model::Preset;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::snapshot::Snapshot;
use crate::testing::{cpu, engine, ids, relative};

fn session(engine: &Arc<Engine>) -> Session {
    Session::new(engine, SamplerSettings::default()).expect("default settings")
}

#[test]
fn any_split_gives_the_same_logits() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 1), cpu());
    let mut reader = engine.reader(&cpu);
    let text = ids(300, 2);
    let mut whole = session(&engine);
    whole.read(&mut reader, &text).unwrap();
    for size in [1, 5, 63, 64, 65, 256, 299] {
        let mut split = session(&engine);
        text.chunks(size).for_each(|chunk| split.read(&mut reader, chunk).unwrap());
        assert_eq!(split.position(), 300);
        assert!(split.recent().eq(whole.recent()));
        let difference = relative(whole.logits(), split.logits());
        assert!(difference < 1e-4, "chunks of {size}: {difference:e}");
    }
}

#[test]
fn an_id_out_of_range_is_refused_and_nothing_is_read() {
    let (engine, cpu) = (engine(Preset::TanhLstm, 1), cpu());
    let mut reader = engine.reader(&cpu);
    let mut session = session(&engine);
    session.read(&mut reader, &[1, 2]).unwrap();
    let logits = session.logits().to_vec();
    let error = session.read(&mut reader, &[3, 256, 4]).unwrap_err();
    assert_eq!(error.to_string(), "the token id 256 is out of range: the model knows 256 tokens");
    assert_eq!(session.position(), 2);
    assert_eq!(session.logits(), logits);
    assert!(session.step(&mut reader, u32::MAX).is_err());
}

#[test]
fn an_empty_session_has_nothing_to_sample_from() {
    let engine = engine(Preset::Lstm, 1);
    assert!(matches!(session(&engine).sample(), Err(EngineError::NothingRead)));
}

#[test]
fn sessions_of_one_reader_do_not_touch_each_other() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 4), cpu());
    let mut reader = engine.reader(&cpu);
    let (one, two) = (ids(90, 5), ids(90, 6));
    let alone = |text: &[u32]| {
        let mut reader = engine.reader(&cpu);
        let mut session = session(&engine);
        text.iter().for_each(|&id| session.step(&mut reader, id).unwrap());
        session.logits().to_vec()
    };
    let (mut first, mut second) = (session(&engine), session(&engine));
    for (&a, &b) in one.iter().zip(&two) {
        first.step(&mut reader, a).unwrap();
        second.step(&mut reader, b).unwrap();
    }
    assert_eq!(first.logits(), alone(&one));
    assert_eq!(second.logits(), alone(&two));
}

#[test]
fn a_changed_seed_begins_its_numbers_anew() {
    let engine = engine(Preset::Lstm, 1);
    let cpu = cpu();
    let mut reader = engine.reader(&cpu);
    let mut session = session(&engine);
    session.read(&mut reader, &[1]).unwrap();
    for _ in 0..3 {
        session.sample().unwrap();
    }
    session.set_sampler(SamplerSettings { top_k: 5, ..SamplerSettings::default() }).unwrap();
    assert_eq!(session.sampler().draws, 3);
    session.set_sampler(SamplerSettings { seed: 9, ..SamplerSettings::default() }).unwrap();
    assert_eq!(session.sampler().draws, 0);
}

/// A stream as the test knows it: everything that was read, and how often was drawn.
#[derive(Clone)]
struct History {
    ids: Vec<u32>,
    draws: u64,
}

#[test]
fn random_operations_agree_with_reading_the_whole_history_afresh() {
    for (preset, seed) in
        [(Preset::LonghandNano, 1), (Preset::Xlstm, 2), (Preset::AttentionLstm, 3)]
    {
        let (engine, cpu) = (engine(preset, seed), cpu());
        let folder = tempfile::tempdir().unwrap();
        let mut reader = engine.reader(&cpu);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut streams = vec![(session(&engine), History { ids: Vec::new(), draws: 0 })];
        for round in 0..60 {
            let which = random.random_range(0..streams.len());
            let (session, history) = &mut streams[which];
            match random.random_range(0..6) {
                0 => {
                    let text = ids(random.random_range(0..80), random.random());
                    session.read(&mut reader, &text).unwrap();
                    history.ids.extend(&text);
                }
                1 | 2 => {
                    let id = random.random_range(0..256);
                    session.step(&mut reader, id).unwrap();
                    history.ids.push(id);
                }
                3 if !history.ids.is_empty() => {
                    session.sample().unwrap();
                    history.draws += 1;
                }
                4 => {
                    let path = folder.path().join(format!("{round}.safetensors"));
                    Snapshot::of(session).save(&path).unwrap();
                    let loaded = Snapshot::load(&path).unwrap().session(&engine).unwrap();
                    assert!(loaded.logits() == session.logits());
                    *session = loaded;
                }
                _ if streams.len() < 4 => {
                    let branch = streams[which].clone();
                    streams.push(branch);
                }
                _ => {}
            }
            let (session, history) = &streams[which];
            assert_eq!(session.position(), history.ids.len() as u64);
            assert_eq!(session.sampler().draws, history.draws);
            let start = history.ids.len().saturating_sub(RECENT);
            assert!(session.recent().eq(history.ids[start..].iter().copied()));
        }
        for (session, history) in &streams {
            let mut fresh = self::session(&engine);
            fresh.read(&mut reader, &history.ids).unwrap();
            let difference = relative(fresh.logits(), session.logits());
            assert!(difference < 1e-4, "{preset}: {difference:e}");
        }
    }
}

/// Models of equal shape and other weights, and of another shape: each is told from the other.
#[test]
fn another_models_reader_is_refused_and_nothing_is_read() {
    let cpu = cpu();
    let own = engine(Preset::LonghandNano, 1);
    let mut session = session(&own);
    session.read(&mut own.reader(&cpu), &[1, 2, 3]).unwrap();
    let before = Snapshot::of(&session).to_bytes();
    for other in [engine(Preset::LonghandNano, 2), engine(Preset::Lstm, 1)] {
        let mut reader = other.reader(&cpu);
        let named = |error: EngineError| {
            let message = error.to_string();
            assert!(matches!(error, EngineError::OtherModel { .. }), "{message}");
            for engine in [&own, &other] {
                assert!(message.contains(&engine.model_hash()[..12]), "{message}");
                let parameters = engine.model().parameters().to_string();
                assert!(message.contains(&parameters), "{message}");
            }
        };
        named(session.read(&mut reader, &[4]).unwrap_err());
        named(session.step(&mut reader, 4).unwrap_err());
        named(session.score(&mut reader, &[4], |_, _| {}).unwrap_err());
        let options = crate::GenerateOptions::default();
        let mut generation = crate::Generation::new(session.clone(), options).unwrap();
        named(generation.next(&mut reader).unwrap_err());
        assert_eq!(generation.tokens(), 0);
        // A snapshot names the session's own model, and no other takes it.
        let snapshot = Snapshot::of(&session);
        assert_eq!(snapshot.header.model, own.model_hash());
        assert!(snapshot.session(&other).is_err());
    }
    assert!(Snapshot::of(&session).to_bytes() == before);
    // The same model from another folder is the same model.
    let twin = engine(Preset::LonghandNano, 1);
    session.read(&mut twin.reader(&cpu), &[4]).unwrap();
    assert_eq!(session.position(), 4);
}

/// The first token does not wait for a hash of all weights.
#[test]
fn a_model_is_hashed_only_where_two_engines_meet() {
    let (engine, cpu) = (engine(Preset::Lstm, 1), cpu());
    let mut session = session(&engine);
    session.read(&mut engine.reader(&cpu), &[1, 2]).unwrap();
    session.step(&mut engine.reader(&cpu), 3).unwrap();
    assert!(!engine.is_hashed());
    let twin = crate::testing::engine(Preset::Lstm, 1);
    session.step(&mut twin.reader(&cpu), 3).unwrap();
    assert!(engine.is_hashed());
}
