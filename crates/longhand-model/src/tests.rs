//! The promises of the whole model, held for every preset: one model in every form, rows and
//! documents that do not see each other, gradients that are those of the loss.

use std::sync::Arc;

use crate::config::{Config, HeadConfig};
use crate::{Ablation, Cpu, Gradients, IGNORE, Mode, Model, Preset, Sequence, State, Tape};

const VOCAB: usize = 37;

fn ids(count: usize, seed: u32) -> Vec<u32> {
    let mut x = seed;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 16) % VOCAB as u32
    };
    (0..count).map(next).collect()
}

/// Every preset that the tests can afford, made narrow but otherwise itself.
fn models() -> Vec<(&'static str, Model)> {
    let presets = Preset::ALL.into_iter().filter(|preset| {
        !matches!(preset, Preset::LonghandSmall | Preset::LonghandBase | Preset::LonghandLarge)
    });
    presets.map(|preset| (preset.name(), Model::new(preset.config(VOCAB), 7).unwrap())).collect()
}

fn language_models() -> impl Iterator<Item = (&'static str, Model)> {
    models()
        .into_iter()
        .filter(|(_, model)| matches!(model.config().head, HeadConfig::LanguageModel { .. }))
}

fn read(
    model: &Model,
    tape: &mut Tape,
    mode: Mode,
    ids: &[u32],
    sequence: &Sequence,
    state: State,
) -> (Vec<f32>, State) {
    let (x, state) = model.forward(tape, mode, ids, sequence, state).unwrap();
    let mut logits = Vec::new();
    model.logits(tape, x, 0..ids.len(), &mut logits);
    (logits, state)
}

/// The largest difference relative to the largest logit.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / scale
}

#[test]
fn training_form_chunks_and_steps_give_the_same_logits() {
    let cpu = Arc::new(Cpu::new(2));
    let (time, batch) = (150, 2);
    for (name, model) in language_models() {
        let ids = ids(time * batch, 3);
        let mut tape = Tape::new(cpu.clone());
        let whole = Sequence::new(time, batch);
        let state = model.state(batch);
        let (exact, last) = read(&model, &mut tape, Mode::Record, &ids, &whole, state);
        for chunk in [1, 7, 64] {
            let mut state = model.state(batch);
            let mut logits = Vec::new();
            for part in ids.chunks(chunk * batch) {
                let sequence = Sequence::new(part.len() / batch, batch);
                let (more, next) = read(&model, &mut tape, Mode::Read, part, &sequence, state);
                logits.extend(more);
                state = next;
            }
            let off = difference(&exact, &logits);
            assert!(off < 1e-4, "{name} in chunks of {chunk}: off by {off}");
            assert_eq!(state.positions(), last.positions());
            for (a, b) in state.tensors().zip(last.tensors()) {
                let off = difference(&a.data, &b.data);
                assert!(off < 1e-4, "{name}: {} in chunks of {chunk}: off by {off}", a.name);
            }
        }
    }
}

#[test]
fn a_later_token_changes_no_earlier_logits() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, model) in language_models() {
        let mut tape = Tape::new(cpu.clone());
        let mut ids = ids(90, 5);
        let sequence = Sequence::new(90, 1);
        let (before, _) = read(&model, &mut tape, Mode::Read, &ids, &sequence, model.state(1));
        ids[60] = (ids[60] + 1) % VOCAB as u32;
        let (after, _) = read(&model, &mut tape, Mode::Read, &ids, &sequence, model.state(1));
        assert_eq!(before[..60 * VOCAB], after[..60 * VOCAB], "{name}");
        assert!(difference(&before[60 * VOCAB..], &after[60 * VOCAB..]) > 1e-6, "{name}");
    }
}

#[test]
fn a_row_is_the_same_alone_and_in_a_batch() {
    let cpu = Arc::new(Cpu::new(2));
    let (time, batch) = (40, 5);
    for (name, model) in language_models() {
        let mut tape = Tape::new(cpu.clone());
        let all = ids(time * batch, 11);
        let sequence = Sequence::new(time, batch);
        let (together, state) =
            read(&model, &mut tape, Mode::Read, &all, &sequence, model.state(batch));
        for b in 0..batch {
            let own: Vec<u32> = all.iter().skip(b).step_by(batch).copied().collect();
            let sequence = Sequence::new(time, 1);
            let (alone, own_state) =
                read(&model, &mut tape, Mode::Read, &own, &sequence, model.state(1));
            let row: Vec<f32> = (0..time)
                .flat_map(|t| together[(t * batch + b) * VOCAB..][..VOCAB].iter().copied())
                .collect();
            let off = difference(&row, &alone);
            assert!(off < 1e-4, "{name}, row {b}: off by {off}");
            for (a, b) in state.select(&[b]).tensors().zip(own_state.tensors()) {
                assert!(difference(&a.data, &b.data) < 1e-4, "{name}: {}", a.name);
            }
        }
    }
}

#[test]
fn packed_documents_are_as_if_each_stood_alone() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, model) in language_models() {
        let mut tape = Tape::new(cpu.clone());
        let ids = ids(100, 13);
        let mut resets = vec![false; 100];
        resets[33] = true;
        resets[70] = true;
        let sequence = Sequence { resets: Some(&resets), ..Sequence::new(100, 1) };
        let (packed, last) = read(&model, &mut tape, Mode::Record, &ids, &sequence, model.state(1));
        let mut apart = Vec::new();
        for part in [0..33, 33..70, 70..100] {
            let sequence = Sequence::new(part.len(), 1);
            let (more, state) =
                read(&model, &mut tape, Mode::Read, &ids[part], &sequence, model.state(1));
            apart.extend(more);
            assert!(state.since_reset()[0] <= 37);
        }
        let off = difference(&packed, &apart);
        assert!(off < 1e-4, "{name}: off by {off}");
        assert_eq!((last.positions(), last.since_reset()), (&[100][..], &[30][..]));
        // The carried state is the last document's alone, also where a chunk ends just behind its
        // start.
        let cut = 75;
        let first = Sequence { resets: Some(&resets[..cut]), ..Sequence::new(cut, 1) };
        let (mut carried, state) =
            read(&model, &mut tape, Mode::Read, &ids[..cut], &first, model.state(1));
        let rest = Sequence::new(100 - cut, 1);
        carried.extend(read(&model, &mut tape, Mode::Read, &ids[cut..], &rest, state).0);
        let off = difference(&carried, &apart);
        assert!(off < 1e-4, "{name}, carried behind a reset: off by {off}");
    }
}

/// Loss of a pass, and its gradient where wanted.
fn loss(
    model: &Model,
    tape: &mut Tape,
    sequence: &Sequence,
    ids: &[u32],
    targets: &[u32],
    gradients: Option<&mut Gradients>,
) -> f64 {
    let mode = if gradients.is_some() { Mode::Record } else { Mode::Read };
    let state = model.state(sequence.batch);
    let (x, _) = model.forward(tape, mode, ids, sequence, state).unwrap();
    let scale = 1.0 / targets.len() as f32;
    match gradients {
        None => model.loss(tape, x, targets, 0.1, None, None).nats / targets.len() as f64,
        Some(gradients) => {
            let wanted = Some((scale, &mut *gradients));
            let total = model.loss(tape, x, targets, 0.1, None, wanted);
            tape.backward(&model.weights, gradients);
            total.nats / targets.len() as f64
        }
    }
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, mut model) in models() {
        let (time, batch) = (20, 3);
        let ids = ids(time * batch, 17);
        let lengths = [20, 9, 14];
        let classifies = matches!(model.config().head, HeadConfig::Classifier { .. });
        let sequence =
            Sequence { lengths: classifies.then_some(&lengths[..]), ..Sequence::new(time, batch) };
        let targets: Vec<u32> = if classifies {
            vec![0, 1, 1]
        } else {
            ids.iter().enumerate().map(|(i, &id)| if i % 7 == 0 { IGNORE } else { id }).collect()
        };
        let mut tape = Tape::new(cpu.clone());
        let mut gradients = Gradients::zeros(&model.weights);
        loss(&model, &mut tape, &sequence, &ids, &targets, Some(&mut gradients));
        let flat: Vec<Vec<f32>> = gradients.iter().map(|g| g.unwrap().to_vec()).collect();
        // Along the gradient of one parameter, the loss rises by the gradient's squared norm.
        for (index, gradient) in flat.iter().enumerate() {
            let norm: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let parameter = model.weights.iter().nth(index).unwrap();
            let (parameter, data) = (parameter.name.clone(), parameter.data.clone());
            assert!(norm > 1e-9, "{name}: nothing flows back to {parameter}");
            let step = 0.004;
            let mut at = |sign: f64| {
                let place = model.weights.iter_mut().nth(index).unwrap();
                for ((w, &w0), &g) in place.data.iter_mut().zip(&data[..]).zip(gradient) {
                    *w = w0 + (sign * step * f64::from(g) / norm) as f32;
                }
                loss(&model, &mut tape, &sequence, &ids, &targets, None)
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
            at(0.0);
            let off = (slope - norm).abs() / norm.max(1e-3);
            assert!(off < 0.03, "{name}: {parameter} has slope {slope}, gradient {norm}");
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_the_others_the_same() {
    let cpu = Arc::new(Cpu::new(1));
    let mut model = Model::new(Preset::LonghandNano.config(VOCAB), 1).unwrap();
    let (ids, targets) = (ids(30, 1), ids(30, 2));
    let sequence = Sequence::new(30, 1);
    let mut tape = Tape::new(cpu);
    let mut all = Gradients::zeros(&model.weights);
    loss(&model, &mut tape, &sequence, &ids, &targets, Some(&mut all));
    for parameter in model.weights.iter_mut() {
        parameter.trainable =
            !parameter.name.starts_with("blocks.0") && parameter.name != "embedding.weight";
    }
    let mut some = Gradients::zeros(&model.weights);
    loss(&model, &mut tape, &sequence, &ids, &targets, Some(&mut some));
    for ((parameter, all), some) in model.weights.iter().zip(all.iter()).zip(some.iter()) {
        assert_eq!(some.is_some(), parameter.trainable);
        assert!(some.is_none_or(|some| some == all.unwrap()), "{}", parameter.name);
    }
}

#[test]
fn a_saved_state_continues_bit_for_bit() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, model) in language_models() {
        let mut tape = Tape::new(cpu.clone());
        let ids = ids(80, 19);
        let head = Sequence::new(50, 1);
        let (_, state) = read(&model, &mut tape, Mode::Read, &ids[..50], &head, model.state(1));
        let find = |name: &str| {
            state.tensors().find(|tensor| tensor.name == name).map(|tensor| tensor.data.to_vec())
        };
        let config: &Config = model.config();
        let copy = State::from_parts(config, state.positions(), state.since_reset(), find).unwrap();
        let tail = Sequence::new(30, 1);
        let (a, _) = read(&model, &mut tape, Mode::Read, &ids[50..], &tail, state);
        let (b, _) = read(&model, &mut tape, Mode::Read, &ids[50..], &tail, copy);
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn a_memory_that_is_taken_out_contributes_nothing() {
    let cpu = Arc::new(Cpu::new(2));
    let model = Model::new(Preset::LonghandNano.config(VOCAB), 3).unwrap();
    let mut tape = Tape::new(cpu);
    let mut ids = ids(80, 23);
    let sequence = Sequence::new(80, 1);
    // Without the long memory nothing older than two windows of 64 can be seen; here, without
    // either memory, nothing but the present token.
    tape.ablate(Some(Ablation::Long));
    let (short, _) = read(&model, &mut tape, Mode::Read, &ids, &sequence, model.state(1));
    tape.ablate(Some(Ablation::Working));
    let (long, _) = read(&model, &mut tape, Mode::Read, &ids, &sequence, model.state(1));
    tape.ablate(None);
    let (both, _) = read(&model, &mut tape, Mode::Read, &ids, &sequence, model.state(1));
    assert!(difference(&both, &short) > 1e-3 && difference(&both, &long) > 1e-3);
    ids[0] = (ids[0] + 1) % VOCAB as u32;
    tape.ablate(Some(Ablation::Working));
    let (changed, _) = read(&model, &mut tape, Mode::Read, &ids, &sequence, model.state(1));
    assert!(difference(&long, &changed) > 1e-4, "the long memory reads on");
}

#[test]
fn dropout_drops_in_training_alone_and_follows_its_seed() {
    let cpu = Arc::new(Cpu::new(2));
    let mut config = Preset::LonghandNano.config(VOCAB);
    config.dropout.recurrent = 0.3;
    config.dropout.token = 0.2;
    config.dropout.memory = 0.2;
    let model = Model::new(config, 3).unwrap();
    let mut tape = Tape::new(cpu);
    let ids = ids(64, 29);
    let sequence = Sequence::new(32, 2);
    let mut run = |mode| read(&model, &mut tape, mode, &ids, &sequence, model.state(2)).0;
    assert_eq!(run(Mode::Read), run(Mode::Record));
    assert_eq!(run(Mode::Train { seed: 4 }), run(Mode::Train { seed: 4 }));
    assert_ne!(run(Mode::Train { seed: 4 }), run(Mode::Train { seed: 5 }));
    assert_ne!(run(Mode::Train { seed: 4 }), run(Mode::Read));
}

#[test]
fn gates_of_every_long_memory_can_be_read() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, model) in language_models() {
        let mut tape = Tape::new(cpu.clone());
        let ids = ids(30, 31);
        let sequence = Sequence::new(15, 2);
        model.forward(&mut tape, Mode::Record, &ids, &sequence, model.state(2)).unwrap();
        let gates = tape.gates(&model.weights);
        let memories = model.config().blocks.iter().filter(|block| block.long.is_some()).count();
        assert_eq!(gates.len(), memories, "{name}");
        for gates in gates {
            assert!(gates.memory.starts_with("blocks."), "{}", gates.memory);
            assert_eq!(gates.input.len(), 30 * gates.width);
            let all = gates.input.iter().chain(&gates.forget);
            assert!(all.clone().all(|gate| (0.0..=1.0).contains(gate)), "{}", gates.memory);
            assert!(all.clone().any(|gate| *gate > 0.01), "{}", gates.memory);
        }
    }
}
