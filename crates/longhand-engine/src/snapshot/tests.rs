use longhand_model::checksum::ChecksumError;
use longhand_model::{Format, Preset};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::sampler::SamplerSettings;
use crate::testing::{cpu, engine, filters, ids};

fn session(engine: &Arc<Engine>, tokens: usize) -> Session {
    let cpu = cpu();
    let mut session = Session::new(engine, SamplerSettings::default()).unwrap();
    session.read(&mut engine.reader(&cpu), &ids(tokens, 8)).unwrap();
    session
}

/// The default preset with a cache in bf16.
fn short(seed: u64) -> Arc<Engine> {
    let tokenizer = longhand_text::Tokenizer::byte().unwrap();
    let mut config = Preset::LonghandNano.config(tokenizer.vocab_size());
    config.kv_cache = Precision::Bf16;
    Engine::new(longhand_model::Model::new(config, seed).unwrap(), tokenizer).unwrap()
}

/// A snapshot with another header.
fn with(snapshot: &Snapshot, change: impl FnOnce(&mut Header)) -> Snapshot {
    let mut changed = snapshot.clone();
    change(&mut changed.header);
    changed
}

#[test]
fn a_loaded_session_continues_bit_by_bit() {
    let cpu = cpu();
    let presets = [Preset::LonghandNano, Preset::Xlstm, Preset::TanhLstm, Preset::AttentionLstm];
    for engine in presets
        .map(|preset| engine(preset, 2))
        .into_iter()
        .chain([short(2), filters(Format::F32, 2)])
    {
        let mut reader = engine.reader(&cpu);
        let mut live = session(&engine, 70);
        let bytes = Snapshot::of(&live).to_bytes();
        let mut loaded = Snapshot::from_bytes(&bytes).unwrap().session(&engine).unwrap();
        for _ in 0..100 {
            let id = live.sample().unwrap();
            assert_eq!(loaded.sample().unwrap(), id);
            live.step(&mut reader, id).unwrap();
            loaded.step(&mut reader, id).unwrap();
            assert!(
                live.logits()
                    .iter()
                    .map(|x| x.to_bits())
                    .eq(loaded.logits().iter().map(|x| x.to_bits()))
            );
        }
        assert_eq!(Snapshot::of(&live), Snapshot::of(&loaded));
    }
}

#[test]
fn equal_sessions_are_equal_files() {
    for engine in [engine(Preset::LonghandNano, 2), short(2)] {
        for tokens in [0, 1, 70] {
            let snapshot = Snapshot::of(&session(&engine, tokens));
            let bytes = snapshot.to_bytes();
            let read = Snapshot::from_bytes(&bytes).unwrap();
            assert_eq!(read, snapshot);
            assert_eq!(read.to_bytes(), bytes);
            assert!(read.session(&engine).is_ok());
        }
    }
}

#[test]
fn a_cache_in_bf16_is_half_of_the_file() {
    let sizes = [engine(Preset::LonghandNano, 2), short(2)].map(|engine| {
        let snapshot = Snapshot::of(&session(&engine, 300));
        assert_eq!(snapshot.memory_bytes() + 16, session(&engine, 300).state().bytes());
        snapshot.to_bytes().len()
    });
    assert!(sizes[1] * 100 < sizes[0] * 52, "{sizes:?}");
}

#[test]
fn another_model_tokeniser_or_version_is_refused() {
    let engine_one = engine(Preset::Lstm, 2);
    let snapshot = Snapshot::of(&session(&engine_one, 5));
    let refused = |snapshot: &Snapshot, engine: &Arc<Engine>| {
        snapshot.session(engine).err().expect("a refusal").to_string()
    };
    let message = refused(&snapshot, &engine(Preset::Lstm, 3));
    assert!(message.starts_with("the snapshot belongs to another model ("), "{message}");
    let message = refused(&with(&snapshot, |header| header.tokenizer = "f00".into()), &engine_one);
    assert!(message.starts_with("the snapshot belongs to another tokeniser (f00…"), "{message}");
    let bytes = with(&snapshot, |header| header.version = 7).to_bytes();
    assert_eq!(
        Snapshot::from_bytes(&bytes).err().unwrap().to_string(),
        "the snapshot has format version 7, but this program reads version 2: save it again with \
         this program"
    );
}

#[test]
fn contradictions_are_refused() {
    let engine = engine(Preset::Lstm, 2);
    let snapshot = Snapshot::of(&session(&engine, 100));
    let changes: [fn(&mut Header); 9] = [
        // Counted on from there, each would overflow.
        |header| header.position = u64::MAX,
        |header| (header.position, header.since_reset) = (u64::MAX, u64::MAX),
        |header| header.sampler.draws = u64::MAX,
        |header| header.position = 0,
        |header| header.position = 3,
        |header| header.since_reset = 101,
        |header| header.recent[3] = 256,
        |header| header.recent.push(1),
        |header| header.sampler.settings.temperature = -1.0,
    ];
    for change in changes {
        assert!(with(&snapshot, change).session(&engine).is_err());
    }
    let mut not_finite = snapshot.clone();
    not_finite.logits[4] = f32::NAN;
    assert!(not_finite.session(&engine).is_err());
    let mut missing = snapshot.clone();
    let name = missing.memories.keys().next().cloned().unwrap();
    let memory = missing.memories.remove(&name).unwrap();
    assert!(missing.session(&engine).is_err());
    missing.memories.insert(name.clone(), memory.clone());
    assert!(missing.session(&engine).is_ok());
    missing.memories.insert("blocks.9.lstm.h".into(), memory);
    assert!(missing.session(&engine).is_err());
}

#[test]
fn truncated_bytes_are_refused() {
    let engine = engine(Preset::TanhLstm, 2);
    let bytes = Snapshot::of(&session(&engine, 5)).to_bytes();
    for end in (0..bytes.len()).step_by(37).chain([bytes.len() - 1]) {
        assert!(Snapshot::from_bytes(&bytes[..end]).is_err());
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(Snapshot::from_bytes(&longer).is_err());
}

/// A snapshot without checksums was read after any of 300 flipped bits of its memories.
#[test]
fn flipped_bits_are_refused() {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    for engine in [engine(Preset::LonghandNano, 2), short(2)] {
        let bytes = Snapshot::of(&session(&engine, 40)).to_bytes();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (begin, end) in [(0, header), (header, bytes.len())] {
            for _ in 0..300 {
                let (place, bit) = (random.random_range(begin..end), random.random_range(0..8));
                let mut changed = bytes.clone();
                changed[place] ^= 1 << bit;
                let error = Snapshot::from_bytes(&changed).err();
                let error = error.unwrap_or_else(|| panic!("bit {bit} of byte {place}"));
                let tensor = matches!(error, SnapshotError::Damaged(ChecksumError::Tensor(_)));
                assert!(begin == 0 || tensor, "{error}");
            }
        }
    }
}

#[test]
fn a_snapshot_without_checksums_is_read() {
    let engine = engine(Preset::LonghandNano, 2);
    let snapshot = Snapshot::of(&session(&engine, 40));
    let bytes = snapshot.to_bytes();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    metadata.retain(|key, _| key == HEADER);
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let older = safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap();
    assert_eq!(Snapshot::from_bytes(&older).unwrap(), snapshot);
}

#[test]
fn what_a_conversation_begins_with_is_a_second_session_in_the_file() {
    let engine = engine(Preset::LonghandNano, 2);
    let mut snapshot = Snapshot::of(&session(&engine, 70));
    let beginning = Snapshot::of(&session(&engine, 5));
    snapshot.beginning = Some(Box::new(beginning.clone()));
    let bytes = snapshot.to_bytes();
    let read = Snapshot::from_bytes(&bytes).unwrap();
    assert_eq!(read, snapshot);
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(read.beginning.unwrap().session(&engine).unwrap().position(), 5);
    let newer = with(&beginning, |header| header.version = 7);
    snapshot.beginning = Some(Box::new(newer));
    let error = Snapshot::from_bytes(&snapshot.to_bytes()).err().unwrap();
    assert!(matches!(error, SnapshotError::Version { got: 7 }), "{error}");
    // Its tensors without its header are none of this format.
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    metadata.retain(|key, _| key == HEADER);
    let torn = safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap();
    let error = Snapshot::from_bytes(&torn).err().unwrap().to_string();
    assert!(error.contains("it holds an unknown tensor `beginning."), "{error}");
}

#[test]
fn a_file_of_something_else_is_refused() {
    let weights = engine(Preset::Lstm, 1).model().network().unwrap().to_bytes();
    let message = Snapshot::from_bytes(&weights).err().unwrap().to_string();
    assert!(message.starts_with("not a whole snapshot of a session ("), "{message}");
    // A header that claims to be far longer than the file.
    assert!(Snapshot::from_bytes(&[0xff; 16]).is_err());
}

#[test]
fn the_difference_of_a_memory_from_itself_is_nothing() {
    let engine = engine(Preset::LonghandNano, 2);
    let one = Snapshot::of(&session(&engine, 50));
    for difference in one.diff(&one).unwrap() {
        assert_eq!((difference.most, difference.mean), (0.0, 0.0));
        assert!((difference.cosine.unwrap() - 1.0).abs() < 1e-9);
    }
    let two = Snapshot::of(&session(&engine, 60));
    assert!(one.diff(&two).unwrap().iter().any(|difference| difference.most > 0.0));
    let empty = Snapshot::of(&session(&engine, 0));
    assert!(one.diff(&empty).unwrap().iter().all(|difference| difference.cosine.is_none()));
    let other = Snapshot::of(&session(&crate::testing::engine(Preset::LonghandNano, 3), 0));
    assert!(matches!(one.diff(&other), Err(SnapshotError::Incomparable(_))));
}

#[test]
fn the_summary_counts_every_value() {
    let engine = engine(Preset::LonghandNano, 2);
    let snapshot = Snapshot::of(&session(&engine, 50));
    let summary = snapshot.summary();
    assert_eq!(summary.len(), engine.model().state(1).tensors().count());
    let values: usize = summary.iter().map(|s| s.shape.iter().product::<usize>()).sum();
    assert_eq!(4 * values, snapshot.memory_bytes());
    assert!(summary.iter().all(|s| f64::from(s.most) >= s.rms && s.rms >= s.mean.abs()));
}

proptest! {
    /// Bytes changed anywhere give an error or a snapshot, never a panic.
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((0.0f64..1.0, any::<u8>()), 1..8),
        in_header: bool,
    ) {
        static BYTES: std::sync::OnceLock<(Arc<Engine>, Vec<u8>)> = std::sync::OnceLock::new();
        let (engine, bytes) = BYTES.get_or_init(|| {
            let engine = engine(Preset::TanhLstm, 2);
            let bytes = Snapshot::of(&session(&engine, 5)).to_bytes();
            (engine, bytes)
        });
        let mut bytes = bytes.clone();
        let end = if in_header { 1500.min(bytes.len()) } else { bytes.len() };
        for (place, byte) in changes {
            bytes[(place * end as f64) as usize] = byte;
        }
        if let Ok(snapshot) = Snapshot::from_bytes(&bytes) {
            let _ = snapshot.session(engine);
            let _ = snapshot.diff(&snapshot);
            snapshot.summary();
            snapshot.to_bytes();
        }
    }
}
