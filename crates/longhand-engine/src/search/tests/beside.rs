//! Searches of a decoder with a datastore beside it.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::datastore::{Datastore, DatastoreWriter, Mixture, Owner};

const BEGIN: [u32; 1] = [1];
const END: u32 = 3;

/// Sources of one token, each with the target that the datastore has for it.
fn pairs() -> Vec<(Vec<u32>, Vec<u32>)> {
    (0..6).map(|i| (vec![10 + i], vec![20 + i, 26 + i, 20 + (i + 1) % 6])).collect()
}

fn prompts_of(pairs: &[(Vec<u32>, Vec<u32>)]) -> Vec<Prompt<'_>> {
    pairs
        .iter()
        .map(|(source, _)| Prompt { source: Some(source.as_slice()), prefix: &BEGIN, forced: &[] })
        .collect()
}

/// A decoder that was trained on nothing.
fn decoder() -> Model {
    packed(Preset::EncoderDecoderNano.config(40), 3)
}

/// One pass of the decoder: its hidden states and the logits of the last one.
fn read(
    model: &Model,
    tape: &mut Tape,
    (source, state): (&Source, &mut State),
    ids: &[u32],
) -> (Vec<f32>, Vec<f32>) {
    let (sequence, mut logits) = (Sequence::new(ids.len(), 1), Vec::new());
    let mut pass = tape.pass(Mode::Read);
    let input = Input { ids, source: Some(SourceInput::Kept(source)), ..Input::default() };
    let x = model.forward_input(&mut pass, input, &sequence, state).unwrap();
    model.logits(&mut pass, x, ids.len() - 1..ids.len(), &mut logits);
    (pass.data(x).to_vec(), logits)
}

fn source_of(model: &Model, tape: &mut Tape, ids: &[u32]) -> Source {
    model.read_source(tape, ids, &Sequence::new(ids.len(), 1)).unwrap()
}

/// A datastore of the pairs, of which the nearest entries alone count.
fn neighbours(model: &Model, tape: &mut Tape, folder: &Path, lambda: f64) -> Neighbours {
    let owner = Owner { model: model.hash(), tokenizer: "7".repeat(64) };
    let width = model.token_head().width();
    let mut writer = DatastoreWriter::new(folder, true, owner.clone(), width).unwrap();
    for (source, target) in pairs() {
        let source = source_of(model, tape, &source);
        let read_ids = [&BEGIN[..], &target[..]].concat();
        let (rows, _) = read(model, tape, (&source, &mut model.state(1)), &read_ids);
        writer.push(&rows, &[&target[..], &[END]].concat()).unwrap();
    }
    writer.finish(&testing::cpu(), &mut |_, _| true).unwrap().publish().unwrap();
    let store = Arc::new(Datastore::open(folder, &owner).unwrap());
    let mixture = Mixture { lambda, temperature: 1e-2, neighbours: 4, probes: 1 << 20 };
    Neighbours::with_mixture(store, mixture).unwrap()
}

fn settings(beam: usize) -> SearchSettings {
    let maximum = MostTokens { tokens: 6, per_token: 0.0 };
    SearchSettings { beam, maximum, ends: vec![END], ..SearchSettings::default() }
}

#[test]
fn a_datastore_with_nearly_the_whole_share_decides() {
    let (folder, model, mut tape) = (TempDir::new().unwrap(), decoder(), tape());
    let mut beside = neighbours(&model, &mut tape, &folder.path().join("store"), 0.999);
    let pairs = pairs();
    let prompts = prompts_of(&pairs);
    let drawn = SearchSettings { sampler: Some(SamplerSettings::default()), ..settings(1) };
    for settings in [settings(1), settings(4), drawn] {
        let found =
            search_beside(&model, &mut tape, Some(&mut beside), &prompts, &settings).unwrap();
        for ((_, target), found) in pairs.iter().zip(&found) {
            assert_eq!((&found[0].ids, found[0].end), (target, Some(END)));
        }
    }
    let alone = search(&model, &mut tape, &prompts, &settings(1)).unwrap();
    assert!(pairs.iter().zip(&alone).any(|((_, target), found)| found[0].ids != *target));
}

#[test]
fn a_beam_of_one_beside_a_datastore_takes_the_best_of_the_mixture() {
    let (folder, model, mut tape) = (TempDir::new().unwrap(), decoder(), tape());
    let mut beside = neighbours(&model, &mut tape, &folder.path().join("store"), 0.3);
    let pairs = pairs();
    for prompt in prompts_of(&pairs) {
        let source = source_of(&model, &mut tape, prompt.source.unwrap());
        let (mut state, mut last, mut expected) = (model.state(1), BEGIN[0], Vec::new());
        while expected.len() < 6 {
            let (hidden, mut logits) = read(&model, &mut tape, (&source, &mut state), &[last]);
            beside.mix_logits(&testing::cpu(), &hidden, &mut logits).unwrap();
            let better = |&a: &usize, &b: &usize| logits[a].total_cmp(&logits[b]).then(b.cmp(&a));
            last = (0..logits.len()).max_by(better).unwrap() as u32;
            if last == END {
                break;
            }
            expected.push(last);
        }
        let found =
            search_beside(&model, &mut tape, Some(&mut beside), &[prompt], &settings(1)).unwrap();
        assert_eq!(found[0][0].ids, expected);
    }
}

#[test]
fn a_result_beside_a_datastore_does_not_depend_on_the_other_prompts() {
    let (folder, model, mut tape) = (TempDir::new().unwrap(), decoder(), tape());
    let mut beside = neighbours(&model, &mut tape, &folder.path().join("store"), 0.5);
    let pairs = pairs();
    let prompts = prompts_of(&pairs);
    let settings = SearchSettings { hypotheses: 3, ..settings(3) };
    let together =
        search_beside(&model, &mut tape, Some(&mut beside), &prompts, &settings).unwrap();
    for (prompt, together) in prompts.iter().zip(&together) {
        let alone =
            search_beside(&model, &mut tape, Some(&mut beside), &[*prompt], &settings).unwrap();
        assert!(alone[0] == *together, "{:?}", prompt.source);
    }
}
