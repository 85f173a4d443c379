//! Two stacks that read one sequence in opposite directions.

use std::sync::Arc;

use longhand_model::config::{HeadConfig, HeadKind, Pooling, Stacks};
use longhand_model::{
    Config, Cpu, HeadError, LossOptions, Mode, Model, ModelError, Preset, Sequence, Tape, Targets,
};

use crate::moved::moved;

const VOCAB: usize = 19;
const WIDTH: usize = 8;
const TIME: usize = 11;
const LENGTHS: [u32; 3] = [11, 4, 7];
const BATCH: usize = LENGTHS.len();

fn config(rest: &str) -> Config {
    let json = format!(
        r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCAB}, "width": {WIDTH},
        "positions": {{"type": "learned", "count": 13}}, "stacks": "bicausal",
        "blocks": [{{
            "working": {{"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 4, "window": 3}},
            "long": {{"type": "lstm", "hidden": {WIDTH}}}, "feed_forward": 12
        }}], {rest}}}"#
    );
    Config::from_json(json.as_bytes()).unwrap()
}

const NEXT: &str = r#""heads": [{"type": "language-model", "tied": true}]"#;

fn model() -> Model {
    moved(config(NEXT))
}

fn ids() -> Vec<u32> {
    (0..(TIME * BATCH) as u32).map(|i| (i * i * 3 + i + 2) % VOCAB as u32).collect()
}

fn padded() -> Sequence<'static> {
    Sequence { lengths: Some(&LENGTHS), ..Sequence::new(TIME, BATCH) }
}

/// The outputs of both stacks, row after row.
fn outputs(model: &Model, ids: &[u32], sequence: &Sequence) -> [Vec<f32>; 2] {
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let mut state = model.state(sequence.batch);
    let both = model.forward_both(&mut pass, ids, sequence, &mut state).unwrap();
    both.map(|x| pass.data(x).to_vec())
}

/// Row t of sequence b.
fn row(rows: &[f32], t: usize, b: usize) -> &[f32] {
    &rows[(t * BATCH + b) * WIDTH..][..WIDTH]
}

fn off(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

/// Each sequence reversed within its own length.
fn reversed(ids: &[u32]) -> Vec<u32> {
    let mut reversed = ids.to_vec();
    for (b, &length) in LENGTHS.iter().enumerate() {
        for t in 0..length as usize {
            reversed[t * BATCH + b] = ids[(length as usize - 1 - t) * BATCH + b];
        }
    }
    reversed
}

#[test]
fn the_backward_stack_is_the_forward_one_on_the_reversed_text() {
    let model = model();
    let mut swapped = model.clone();
    for parameter in swapped.weights.iter_mut() {
        let name = &parameter.name;
        let other = match name.strip_prefix("backward.") {
            Some(name) => name.to_owned(),
            None => format!("backward.{name}"),
        };
        if let Some(source) = model.weights.iter().find(|source| source.name == other) {
            parameter.data.copy_from_slice(&source.data);
        }
    }
    let [forward, backward] = outputs(&model, &ids(), &padded());
    let [ahead, behind] = outputs(&swapped, &reversed(&ids()), &padded());
    for (b, &length) in LENGTHS.iter().enumerate() {
        for t in 0..length as usize {
            let mirror = length as usize - 1 - t;
            assert_eq!(row(&backward, t, b), row(&ahead, mirror, b), "{t} of {b}");
            assert_eq!(row(&forward, t, b), row(&behind, mirror, b), "{t} of {b}");
        }
    }
}

#[test]
fn neither_stack_sees_the_token_that_it_predicts() {
    let model = model();
    let before = outputs(&model, &ids(), &padded());
    for changed in [0, 3, 5, 10] {
        let mut other = ids();
        other[changed * BATCH] = (other[changed * BATCH] + 1) % VOCAB as u32;
        let after = outputs(&model, &other, &padded());
        for t in 0..TIME {
            let same = |stack: usize| row(&before[stack], t, 0) == row(&after[stack], t, 0);
            assert_eq!(same(0), t < changed, "forward at {t}, token {changed} changed");
            assert_eq!(same(1), t > changed, "backward at {t}, token {changed} changed");
            for b in 1..BATCH {
                assert_eq!(row(&before[0], t, b), row(&after[0], t, b));
            }
        }
    }
}

#[test]
fn packed_documents_are_as_if_each_stood_alone() {
    let model = model();
    let ids: Vec<u32> = ids().into_iter().take(TIME).collect();
    let mut resets = vec![false; TIME];
    (resets[4], resets[9]) = (true, true);
    let sequence = Sequence { resets: Some(&resets), ..Sequence::new(TIME, 1) };
    let packed = outputs(&model, &ids, &sequence);
    let mut apart = [Vec::new(), Vec::new()];
    for part in [0..4, 4..9, 9..TIME] {
        let alone = outputs(&model, &ids[part.clone()], &Sequence::new(part.len(), 1));
        apart.iter_mut().zip(alone).for_each(|(all, alone)| all.extend(alone));
    }
    assert!(off(&packed[0], &apart[0]) < 1e-5 && off(&packed[1], &apart[1]) < 1e-5);
}

#[test]
fn every_head_of_a_task_reads_both_stacks_and_begins_with_both() {
    let trained = model();
    let pooling = Pooling::Max;
    for kind in [
        HeadKind::Classifier { classes: 3, pooling },
        HeadKind::SentencePair { classes: 2, pooling: Pooling::Last },
        HeadKind::MultiLabel { labels: 3, pooling: Pooling::Mean },
        HeadKind::Tags { tags: 3, crf: true },
        HeadKind::Span {},
        HeadKind::MaskedTokens { tied: false, bias: true },
    ] {
        let heads = vec![HeadConfig::new(kind)];
        let config = Config { heads, ..trained.config().clone() };
        let mut task = Model::new(config, 9).unwrap();
        let drawn = task.take_over(&trained, &[]);
        assert!(drawn.iter().all(|name| name.starts_with("head.")), "{drawn:?}");
        for parameter in task.weights.iter().filter(|p| p.name.starts_with("backward.")) {
            let source = trained.weights.iter().find(|source| source.name == parameter.name);
            assert_eq!(source.unwrap().data[..], parameter.data[..], "{}", parameter.name);
        }
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut pass = tape.pass(Mode::Read);
        let x = task.forward(&mut pass, &ids(), &padded(), &mut task.state(BATCH)).unwrap();
        assert_eq!(pass.width(x), 2 * WIDTH);
        let both = outputs(&trained, &ids(), &padded());
        for (t, b) in [(0, 0), (3, 1), (10, 0)] {
            let joined = &pass.data(x)[(t * BATCH + b) * 2 * WIDTH..][..2 * WIDTH];
            assert_eq!(joined, [row(&both[0], t, b), row(&both[1], t, b)].concat());
        }
        let mut probabilities = Vec::new();
        task.probabilities(&mut pass, x, &mut probabilities);
        assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
    }
}

#[test]
fn what_two_stacks_cannot_do_is_refused() {
    let model = model();
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let mut state = model.state(BATCH);
    let x = model.forward(&mut pass, &ids(), &padded(), &mut state).unwrap();
    let targets = ids();
    let error = model.loss(&mut pass, x, Targets::Tokens(&targets), LossOptions::default());
    let width = HeadError::Width { head: "head".into(), expected: WIDTH, got: 2 * WIDTH };
    assert_eq!(error.unwrap_err(), ModelError::Head(width));
    let again = model.forward(&mut pass, &ids(), &padded(), &mut state).unwrap_err();
    assert_eq!(again, ModelError::NotEmpty);
    let one = Model::new(Preset::Lstm.config(VOCAB), 1).unwrap();
    let error = one.forward_both(&mut pass, &ids(), &padded(), &mut one.state(BATCH)).unwrap_err();
    assert_eq!(error, ModelError::OneStack);

    let refused = |json: &str, change: (&str, &str)| {
        let json = json.replace(change.0, change.1);
        Config::from_json(json.as_bytes()).unwrap_err().to_string()
    };
    let json = config(NEXT).to_json();
    for (change, words) in [
        (("\"bidirectional\": false", "\"bidirectional\": true"), "leave out `bidirectional`"),
        (("\"name\": \"head\"", "\"name\": \"backward\""), "another name than `backward`"),
        (("\"bicausal\"", "\"both\""), "unknown variant `both`"),
        (("\"language-model\"", "\"masked-tokens\""), "needs an input of the embedding's width"),
    ] {
        let error = refused(&json, change);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_configuration_of_one_stack_is_written_as_before() {
    let config = Preset::LonghandNano.config(VOCAB);
    assert!(!config.to_json().contains("stacks"));
    let two = Config { stacks: Stacks::Bicausal, ..config.clone() };
    assert_ne!(two.hash(), config.hash());
    let read = Config::from_json(two.to_json().as_bytes()).unwrap();
    assert_eq!(read, two);
    assert!(two.is_bicausal() && !two.is_language_model() && !two.is_causal());
}
