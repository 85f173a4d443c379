use std::path::Path;
use std::sync::Arc;

use longhand_model::nearest::{decode_keys, encode_keys, reference};
use longhand_model::{Cpu, IGNORE, Mode, Preset, Sequence, Tape};
use tempfile::TempDir;

use super::lock::{Locked, lock};
use super::*;
use crate::continuation::GenerateOptions;
use crate::engine::{Engine, Reader};
use crate::error::EngineError;
use crate::generate::Generation;
use crate::sampler::SamplerSettings;
use crate::score::surprisal;
use crate::search::SearchSettings;
use crate::session::Session;
use crate::testing::{cpu, engine, ids};

/// The hidden state `[T, D]` after each token of a text.
fn hidden(engine: &Engine, text: &[u32]) -> Vec<f32> {
    let model = engine.model().network().unwrap();
    let (mut tape, mut state) = (Tape::new(cpu()), model.state(1));
    let mut pass = tape.pass(Mode::Read);
    let x = model.forward(&mut pass, text, &Sequence::new(text.len(), 1), &mut state).unwrap();
    tape.data(x).to_vec()
}

/// A datastore of a text.
fn build(engine: &Engine, text: &[u32], folder: &Path) {
    let rows = hidden(engine, text);
    let width = rows.len() / text.len();
    let mut writer = DatastoreWriter::new(folder, false, engine.owner(), width).unwrap();
    writer.push(&rows[..rows.len() - width], &text[1..]).unwrap();
    writer.finish(&cpu(), &mut |_, _| true).unwrap().publish().unwrap();
}

fn open(engine: &Engine, folder: &Path) -> Arc<Datastore> {
    Arc::new(Datastore::open(folder, &engine.owner()).unwrap())
}

/// A reader that consults a datastore; of equal states only the nearest count.
fn reader(engine: &Arc<Engine>, folder: &Path, lambda: f64) -> Reader {
    let store = open(engine, folder);
    let mixture = Mixture { lambda, temperature: 1e-3, neighbours: 4, probes: 1 << 20 };
    let mut reader = engine.reader(&cpu());
    reader.consult(Neighbours::with_mixture(store, mixture).unwrap()).unwrap();
    reader
}

fn session(engine: &Arc<Engine>) -> Session {
    engine.session(SamplerSettings::greedy()).unwrap()
}

/// Losses of all tokens but the first.
fn losses(reader: &mut Reader, text: &[u32]) -> Vec<f32> {
    let mut losses = Vec::new();
    let mut session = session(&reader.engine().clone());
    session.score(reader, text, |_, loss| losses.extend(loss)).unwrap();
    losses
}

#[test]
fn a_text_that_was_indexed_is_known_when_it_is_read_again() {
    let (folder, engine, text) =
        (TempDir::new().unwrap(), engine(Preset::LonghandNano, 1), ids(400, 3));
    let path = folder.path().join("store");
    build(&engine, &text, &path);
    let sum = |losses: Vec<f32>| losses.iter().sum::<f32>() / 399.0;
    let alone = sum(losses(&mut engine.reader(&cpu()), &text));
    let beside = sum(losses(&mut reader(&engine, &path, 0.9), &text));
    assert!(alone > 4.0 && beside < 0.5, "{alone} {beside}");
    // And so is the text that is written after its beginning, drawn and searched for.
    let mut reader = reader(&engine, &path, 0.9);
    let mut session = session(&engine);
    session.read(&mut reader, &text[..100]).unwrap();
    let found = session
        .search(&mut reader, &SearchSettings { beam: 2, ..SearchSettings::greedy() })
        .unwrap();
    assert_eq!(found[0].ids[..20], text[100..120]);
    let options = GenerateOptions { max_tokens: 20, ..GenerateOptions::default() };
    let mut generation = Generation::new(session, options).unwrap();
    let mut written = Vec::new();
    while let Some(next) = generation.next(&mut reader).unwrap() {
        written.push(next.id);
    }
    assert_eq!(written, text[100..120]);
}

#[test]
fn mixed_probabilities_sum_to_one_and_losses_are_theirs() {
    let (folder, engine, text) =
        (TempDir::new().unwrap(), engine(Preset::LonghandNano, 2), ids(300, 4));
    let path = folder.path().join("store");
    build(&engine, &text, &path);
    let store = open(&engine, &path);
    let spread = store.header().spread;
    for (lambda, temperature) in [(0.3, spread), (0.5, 1e-6), (0.999, 1e6), (1e-9, 0.1)] {
        let mixture = Mixture { lambda, temperature, neighbours: 50, probes: 1 };
        let mut reader = engine.reader(&cpu());
        reader.consult(Neighbours::with_mixture(store.clone(), mixture).unwrap()).unwrap();
        let other = ids(40, 9);
        let losses = losses(&mut reader, &other);
        let mut session = session(&engine);
        for (place, &id) in other.iter().enumerate() {
            if place > 0 {
                let logits = session.logits();
                let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{lambda} {temperature}: {sum}");
                assert!(logits.iter().all(|x| x.is_finite()));
                let loss = losses[place - 1];
                assert!((loss + logits[id as usize]).abs() < 1e-3 * (1.0 + loss), "{place}");
                assert!((surprisal(logits, id) - loss).abs() < 1e-3 * (1.0 + loss));
            }
            session.step(&mut reader, id).unwrap();
        }
    }
}

#[test]
fn without_a_share_the_bits_are_the_models() {
    let (folder, engine, text) =
        (TempDir::new().unwrap(), engine(Preset::LonghandNano, 1), ids(300, 3));
    let path = folder.path().join("store");
    build(&engine, &text, &path);
    let (mut plain, mut beside) = (engine.reader(&cpu()), reader(&engine, &path, 0.0));
    let bits = |losses: Vec<f32>| losses.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(losses(&mut plain, &text)), bits(losses(&mut beside, &text)));
    let (mut one, mut other) = (session(&engine), session(&engine));
    one.read(&mut plain, &text).unwrap();
    other.read(&mut beside, &text).unwrap();
    assert_eq!(bits(one.logits().to_vec()), bits(other.logits().to_vec()));
}

/// Keys in clusters, and queries near some of them, in the form that the keys are stored in.
fn clusters(count: usize, width: usize) -> (Vec<f32>, Vec<f32>) {
    let value = |i: usize| ids(1, i as u64 + 1)[0] as f32 / 128.0 - 1.0;
    let row = |i: usize, noise: f32| -> Vec<f32> {
        (0..width)
            .map(|j| 2.0 * value(i % 50 * width + j) + noise * value(7 + i * width + j))
            .collect()
    };
    let keys: Vec<f32> = (0..count).flat_map(|i| row(i, 0.5)).collect();
    let queries = (0..40).flat_map(|i| row(i * 3, 0.45)).collect();
    let (mut bytes, mut stored) = (Vec::new(), vec![0.0; keys.len()]);
    encode_keys(&keys, &mut bytes);
    decode_keys(&bytes, &mut stored);
    (stored, queries)
}

#[test]
fn all_lists_find_what_brute_force_finds_and_few_lists_nine_of_ten() {
    let (width, count, most) = (12, 6000, 20);
    let (folder, owner) = (TempDir::new().unwrap(), owner("a"));
    let path = folder.path().join("store");
    let (keys, queries) = clusters(count, width);
    let mut writer = DatastoreWriter::new(&path, false, owner.clone(), width).unwrap();
    for (part, rows) in keys.chunks(700 * width).enumerate() {
        let first = part as u32 * 700;
        let values: Vec<u32> = (first..first + (rows.len() / width) as u32).collect();
        writer.push(rows, &values).unwrap();
    }
    writer.finish(&cpu(), &mut |_, _| true).unwrap().publish().unwrap();
    let store = Arc::new(Datastore::open(&path, &owner).unwrap());
    assert!(store.header().lists > 100, "{:?}", store.header());
    let search = |probes: usize| {
        let mixture = Mixture { lambda: 0.5, temperature: 1.0, neighbours: most, probes };
        let mut neighbours = Neighbours::with_mixture(store.clone(), mixture).unwrap();
        let mut all = vec![Vec::new(); 40];
        let mut targets = vec![3; 40];
        targets[5] = IGNORE;
        neighbours
            .each(&cpu(), &queries, &targets, |found, row, target| {
                assert_eq!(target, 3);
                all[row] =
                    found.iter().map(|found| (found.value as usize, found.distance)).collect();
            })
            .unwrap();
        assert!(all[5].is_empty());
        all
    };
    let exact = search(store.header().lists);
    let (mut hits, mut few) = (0, search(12));
    for (row, (found, few)) in exact.iter().zip(&mut few).enumerate().filter(|(row, _)| *row != 5) {
        let query = &queries[row * width..][..width];
        let brute = reference::nearest(query, &keys, most);
        assert_eq!(found.len(), most);
        for ((_, distance), (_, brute)) in found.iter().zip(&brute) {
            assert!((distance - brute).abs() < 1e-4 * (1.0 + brute), "{distance} {brute}");
        }
        hits += few.iter().filter(|own| found.iter().any(|exact| exact.0 == own.0)).count();
    }
    assert!(hits as f64 > 0.9 * (39 * most) as f64, "{hits}");
    assert_eq!(exact, search(1 << 30), "more probes than lists are all lists");
}

fn owner(model: &str) -> Owner {
    Owner { model: model.repeat(64), tokenizer: "7".repeat(64) }
}

fn small(folder: &Path) {
    let mut writer = DatastoreWriter::new(folder, false, owner("a"), 2).unwrap();
    writer.push(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[7, 8, 9]).unwrap();
    writer.finish(&cpu(), &mut |_, _| true).unwrap().publish().unwrap();
}

#[test]
fn what_is_written_is_read_again_and_equal_entries_give_equal_files() {
    let folder = TempDir::new().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    small(&one);
    small(&other);
    for name in [DATASTORE_FILE, "index.safetensors", "keys.bin", "values.bin"] {
        assert_eq!(
            fs_err::read(one.join(name)).unwrap(),
            fs_err::read(other.join(name)).unwrap(),
            "{name}"
        );
    }
    let store = Datastore::open(&one, &owner("a")).unwrap();
    let header = store.header();
    assert_eq!((header.entries, header.lists, header.mixture.neighbours), (3, 1, 3));
    let mixture = Mixture { lambda: 0.4, temperature: 0.1 + 0.2, neighbours: 2, probes: 1 };
    store.write_mixture(mixture, true).unwrap();
    let again = Datastore::open(&one, &owner("a")).unwrap();
    assert_eq!((again.header().mixture, again.header().tuned), (mixture, true));
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn a_datastore_of_another_model_and_damaged_files_are_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let refused = |owner: &Owner| Datastore::open(&path, owner).unwrap_err().to_string();
    assert!(refused(&owner("a")).ends_with("store holds no datastore"));
    small(&path);
    assert!(refused(&owner("b")).contains("belongs to another model (aaaaaaaaaaaa…"));
    let tokenizer = Owner { tokenizer: "8".repeat(64), ..owner("a") };
    assert!(refused(&tokenizer).contains("another tokeniser (777777777777…"));
    for name in [DATASTORE_FILE, "index.safetensors", "keys.bin", "values.bin"] {
        let file = path.join(name);
        let good = fs_err::read(&file).unwrap();
        for place in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs_err::write(&file, &bad).unwrap();
            assert!(refused(&owner("a")).contains(name), "{}", refused(&owner("a")));
            fs_err::write(&file, &bad[..place]).unwrap();
            assert!(refused(&owner("a")).contains(name), "{}", refused(&owner("a")));
        }
        fs_err::write(&file, &good).unwrap();
    }
    let json = fs_err::read_to_string(path.join(DATASTORE_FILE)).unwrap();
    for (from, to, part) in [
        ("\"version\": 1", "\"version\": 9", "format version 9"),
        ("\"lists\": 1", "\"lists\": 5", "damaged: its checksum"),
        ("\"lambda\"", "\"lambada\"", "unknown field `lambada`"),
    ] {
        fs_err::write(path.join(DATASTORE_FILE), json.replace(from, to)).unwrap();
        assert!(refused(&owner("a")).contains(part), "{}", refused(&owner("a")));
    }
    // Sizes that do not belong together, with a checksum that is right.
    let header: DatastoreHeader = serde_json::from_str(&json).unwrap();
    for header in [
        DatastoreHeader { entries: 4, ..header.clone() },
        DatastoreHeader { width: 0, ..header.clone() },
        DatastoreHeader { lists: usize::MAX, ..header.clone() },
        DatastoreHeader { spread: -1.0, ..header.clone() },
    ] {
        fs_err::write(path.join(DATASTORE_FILE), header.to_json()).unwrap();
        assert!(refused(&owner("a")).contains("not usable"), "{}", refused(&owner("a")));
    }
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_a_living_one_builds_stays() {
    let folder = tempfile::tempdir().unwrap();
    let made = ["dead", "living", "begun"].map(|name| {
        let path = folder.path().join(format!(".longhand-{name}.building"));
        fs_err::create_dir(&path).unwrap();
        path
    });
    // A process that was killed in its first moment has locked nothing.
    let [dead, living, _] = &made;
    fs_err::write(dead.join("building.lock"), "").unwrap();
    fs_err::write(dead.join("keys.bin"), "half").unwrap();
    let Locked::Held(held) = lock(living) else { panic!("nobody else has it") };
    assert!(matches!(lock(living), Locked::Lost));
    small(&folder.path().join("store"));
    assert_eq!(made.clone().map(|path| path.exists()), [false, true, false]);
    assert!(!folder.path().join("store/building.lock").exists());
    assert!(matches!(lock(dead), Locked::Lost), "what is gone is nobody's");
    drop(held);
    small(&folder.path().join("other"));
    assert!(!living.exists());
}

#[test]
fn what_cannot_be_built_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let writer = || DatastoreWriter::new(&path, false, owner("a"), 2).unwrap();
    assert!(matches!(writer().finish(&cpu(), &mut |_, _| true), Err(DatastoreError::Empty)));
    assert!(matches!(writer().push(&[f32::NAN, 0.0], &[1]), Err(DatastoreError::NotFinite)));
    let mut stopped = writer();
    stopped.push(&[1.0, 2.0], &[1]).unwrap();
    let stop = &mut |_, _| false;
    assert!(matches!(stopped.finish(&cpu(), stop), Err(DatastoreError::Stopped)));
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    fs_err::create_dir(&path).unwrap();
    small(&path);
    let taken = DatastoreWriter::new(&path, false, owner("a"), 2).map(|_| ()).unwrap_err();
    assert!(matches!(taken, DatastoreError::Occupied(_)), "{taken}");
    let mut writer = DatastoreWriter::new(&path, true, owner("b"), 2).unwrap();
    writer.push(&[1.0, 2.0], &[1]).unwrap();
    writer.finish(&cpu(), &mut |_, _| true).unwrap().publish().unwrap();
    assert_eq!(Datastore::open(&path, &owner("b")).unwrap().header().entries, 1);
    // A folder of something else is never replaced.
    fs_err::remove_file(path.join(DATASTORE_FILE)).unwrap();
    assert!(DatastoreWriter::check_place(&path, true).is_err());
}

#[test]
fn settings_out_of_range_and_other_engines_are_refused() {
    let folder = TempDir::new().unwrap();
    let (path, text) = (folder.path().join("store"), ids(50, 1));
    let [one, other] = [1, 2].map(|seed| engine(Preset::LonghandNano, seed));
    build(&one, &text, &path);
    let store = open(&one, &path);
    let usual = store.header().mixture;
    let refused = |mixture| {
        Neighbours::with_mixture(store.clone(), mixture).map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused(Mixture { lambda: 1.0, ..usual }).contains("at least 0 and below 1"));
    assert!(refused(Mixture { lambda: f64::NAN, ..usual }).contains("lambda is NaN"));
    assert!(refused(Mixture { temperature: 0.0, ..usual }).contains("above 0"));
    assert!(refused(Mixture { neighbours: 0, ..usual }).contains("at least 1"));
    assert!(refused(Mixture { probes: 0, ..usual }).contains("probes"));
    let many = refused(Mixture { neighbours: 50, ..usual });
    assert!(many.contains("50 neighbours are asked for, but the datastore has 49 entries"));
    let refused = other.reader(&cpu()).consult(Neighbours::new(store.clone())).unwrap_err();
    assert!(matches!(refused, EngineError::Datastore(DatastoreError::Model { .. })), "{refused}");
}

#[test]
fn tuning_trusts_neighbours_that_know_and_no_others() {
    let (folder, engine, text) =
        (TempDir::new().unwrap(), engine(Preset::LonghandNano, 1), ids(300, 3));
    let path = folder.path().join("store");
    build(&engine, &text, &path);
    let rows = hidden(&engine, &text);
    let width = rows.len() / text.len();
    let rows = &rows[..rows.len() - width];
    let mut neighbours = Neighbours::new(open(&engine, &path));
    let mut tune = |targets: &[u32]| {
        let losses: Vec<f32> =
            targets.iter().map(|&id| if id == IGNORE { 0.0 } else { 5.0 }).collect();
        let mut tuner = Tuner::new(&neighbours);
        tuner.add(&cpu(), &mut neighbours, rows, targets, &losses).unwrap();
        tuner.best(neighbours.mixture())
    };
    let known = tune(&text[1..]);
    assert_eq!((known.tokens, known.alone), (299, 5.0));
    assert!(known.mixture.lambda > 0.9 && known.loss < 0.3, "{known:?}");
    // No neighbour has such a token.
    let unknown = tune(&vec![300; 299]);
    assert_eq!((unknown.mixture.lambda, unknown.loss), (0.0, 5.0));
    let nothing = tune(&vec![IGNORE; 299]);
    assert_eq!(
        (nothing.tokens, nothing.mixture),
        (0, Neighbours::new(open(&engine, &path)).mixture())
    );
    let one: Cpu = Cpu::new(1);
    let mut losses = vec![5.0; 299];
    let mut mixed = Neighbours::with_mixture(open(&engine, &path), known.mixture).unwrap();
    mixed.mix_losses(&one, rows, &text[1..], &mut losses).unwrap();
    let mean = losses.iter().map(|&x| f64::from(x)).sum::<f64>() / 299.0;
    assert!((mean - known.loss).abs() < 1e-4, "what was tuned is what is mixed: {mean}");
    assert_eq!(mixed.alone(), vec![5.0; 299]);
}
