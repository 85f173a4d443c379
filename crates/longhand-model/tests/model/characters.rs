//! Filters over the characters of each token.

use std::sync::Arc;

use longhand_model::config::CharacterReader;
use longhand_model::{Characters, Config, Cpu, Input, Mode, Model, ModelError, Sequence, Tape};

use crate::moved::moved;

const VOCAB: usize = 19;
const WIDTH: usize = 8;
const TIME: usize = 4;
const LENGTHS: [u32; BATCH] = [4, 3];
const BATCH: usize = 2;
/// Two sequences of characters, `[C·B]`; the second one has fewer.
const CHARACTERS: [u32; 14] = [1, 4, 2, 0, 3, 4, 1, 2, 0, 1, 4, 0, 2, 0];
/// Row t·B + b: the first two tokens of the second sequence share their characters, and the third of
/// the first has none.
const RANGES: [(u32, u32); TIME * BATCH] =
    [(0, 1), (0, 3), (1, 4), (0, 3), (0, 0), (3, 5), (4, 7), (0, 0)];

fn model(stacks: &str, kernel: usize) -> Model {
    let json = format!(
        r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCAB}, "width": {WIDTH},
        "characters": {{"vocabulary": 5, "width": 3, "filters": 4, "kernel": {kernel}}},
        "stacks": "{stacks}", "blocks": [{{"long": {{"type": "lstm", "hidden": {WIDTH}}}}}],
        "heads": [{{"type": "tags", "tags": 3}}]}}"#
    );
    moved(Config::from_json(json.as_bytes()).unwrap())
}

fn ids() -> Vec<u32> {
    (0..(TIME * BATCH) as u32).map(|i| (i * i * 3 + i + 2) % VOCAB as u32).collect()
}

fn read(
    model: &Model,
    ids: &[u32],
    characters: Option<Characters<'_>>,
) -> Result<Vec<f32>, ModelError> {
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let sequence = Sequence { lengths: Some(&LENGTHS), ..Sequence::new(TIME, BATCH) };
    let input = Input { ids, characters, ..Input::default() };
    let x = model.forward_input(&mut pass, input, &sequence, &mut model.state(BATCH))?;
    Ok(pass.data(x).to_vec())
}

fn given(ids: &[u32]) -> Option<Characters<'_>> {
    Some(Characters { ids, ranges: &RANGES })
}

/// What the characters of a token add, by the definition: the largest value of each filter over the
/// places of a word between zeros, times the matrix.
fn spelling(model: &Model, word: &[u32], kernel: usize) -> Vec<f32> {
    let of = |name: &str| {
        let name = format!("characters.{name}");
        &model.weights.iter().find(|parameter| parameter.name == name).unwrap().data[..]
    };
    let (table, filters) = (of("embedding.weight"), of("convolution.weight"));
    let value = |filter: usize, at: usize| -> f32 {
        let mut sum = of("convolution.bias")[filter];
        for slot in 0..kernel {
            let place = (at + slot).checked_sub((kernel - 1) / 2);
            let Some(&character) = place.and_then(|place| word.get(place)) else { continue };
            for d in 0..3 {
                let weight = filters[(filter * kernel + slot) * 3 + d];
                sum += weight * table[character as usize * 3 + d];
            }
        }
        sum
    };
    let largest: Vec<f32> = (0..4)
        .map(|filter| (0..word.len()).map(|at| value(filter, at)).reduce(f32::max).unwrap_or(0.0))
        .collect();
    let output = of("output.weight").chunks(4);
    output.map(|row| row.iter().zip(&largest).map(|(w, x)| w * x).sum()).collect()
}

fn close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-5, "{what}: {a} {b}");
    }
}

#[test]
fn the_largest_values_of_filters_add_to_the_embedding() {
    for (stacks, kernel) in [("forward", 1), ("forward", 2), ("forward", 3), ("bicausal", 5)] {
        let model = model(stacks, kernel);
        let (ids, what) = (ids(), format!("{stacks} {kernel}"));
        let found = read(&model, &ids, given(&CHARACTERS)).unwrap();
        // The same sums as the rows of one embedding, each position with a token of its own.
        let count = ids.len();
        let config = Config { characters: None, vocab_size: count, ..model.config().clone() };
        let mut summed = Model::new(config, 1).unwrap();
        for parameter in summed.weights.iter_mut() {
            let source = model.weights.iter().find(|p| p.name == parameter.name).unwrap();
            if parameter.name != "embedding.weight" {
                parameter.data.copy_from_slice(&source.data);
                continue;
            }
            for (row, &id) in ids.iter().enumerate() {
                let (start, end) = RANGES[row];
                let character = |c: u32| CHARACTERS[c as usize * BATCH + row % BATCH];
                let word: Vec<u32> = (start..end).map(character).collect();
                let added = spelling(&model, &word, kernel);
                let vector = source.data[id as usize * WIDTH..].iter().zip(added);
                let own = parameter.data[row * WIDTH..].iter_mut();
                own.zip(vector).for_each(|(to, (vector, added))| *to = vector + added);
            }
        }
        let own: Vec<u32> = (0..count as u32).collect();
        close(&found, &read(&summed, &own, None).unwrap(), &what);
        let mut packed = model.clone();
        packed.pack();
        close(&found, &read(&packed, &ids, given(&CHARACTERS)).unwrap(), &what);
        // Behind the characters of a sequence, anything may stand.
        let mut other = CHARACTERS;
        other[11] = 3;
        assert_eq!(read(&model, &ids, given(&other)).unwrap(), found);
        let none = Characters { ids: &[], ranges: &[(0, 0); TIME * BATCH] };
        let silent = Config { characters: None, ..model.config().clone() };
        let mut without = Model::new(silent, 1).unwrap();
        without.take_over(&model, &[]);
        close(
            &read(&model, &ids, Some(none)).unwrap(),
            &read(&without, &ids, None).unwrap(),
            &what,
        );
    }
}

#[test]
fn a_saved_model_has_its_characters() {
    let model = model("forward", 3);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path()).unwrap();
    let loaded = Model::load(folder.path()).unwrap();
    assert_eq!((loaded.hash(), loaded.config()), (model.hash(), model.config()));
    let mut config = model.config().clone();
    let Some(CharacterReader::Convolution(filters)) = &mut config.characters else {
        panic!("filters over characters");
    };
    filters.kernel = 1;
    assert_ne!(
        Model::new(config, 3).unwrap().hash(),
        Model::new(loaded.config().clone(), 3).unwrap().hash()
    );
}

#[test]
fn characters_that_do_not_fit_are_refused() {
    let model = model("forward", 3);
    let ids = ids();
    let refused = |characters| read(&model, &ids, characters).unwrap_err();
    assert!(read(&model, &ids, None).is_ok(), "a plain text may come without them");
    let short = Characters { ids: &CHARACTERS, ranges: &RANGES[..6] };
    assert_eq!(refused(Some(short)), ModelError::Characters { got: 6, expected: 8 });
    let mut other = CHARACTERS;
    other[3] = 5;
    assert_eq!(refused(given(&other)), ModelError::Character { id: 5, vocabulary: 5 });
    let odd = ModelError::Length { got: 13, time: 6, batch: 2 };
    assert_eq!(refused(given(&CHARACTERS[..13])), odd);
    let (token, sequence, start, end, length) = (3, 0, 4, 7, 6);
    let beyond = ModelError::CharacterRange { token, sequence, start, end, length };
    assert_eq!(refused(given(&CHARACTERS[..12])), beyond);
    let without = Config { characters: None, ..model.config().clone() };
    let without = Model::new(without, 1).unwrap();
    let error = read(&without, &ids, given(&CHARACTERS)).unwrap_err();
    assert_eq!(error, ModelError::Characters { got: 8, expected: 0 });
}
