//! Whole models against values that PyTorch computed in double precision. `make.py` beside this
//! file made them and says what each holds.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;

use longhand_model::{
    Config, Cpu, Gradients, IGNORE, LossOptions, Mode, Model, Preset, Sequence, Tape, Targets,
};
use safetensors::SafeTensors;

const WEIGHTS: &[u8] = include_bytes!("lstm.safetensors");
const EXPECTED: &[u8] = include_bytes!("lstm_expected.safetensors");
/// The largest error allowed, relative to an element or, where that is larger, to the root mean
/// square of its tensor.
const TOLERANCE: f64 = 1e-5;

/// The `lstm` preset at the sizes of `make.py`.
fn config() -> Config {
    let mut config = Preset::Lstm.config(23);
    config.width = 6;
    for block in &mut config.blocks {
        *block.long.as_mut().expect("an LSTM in each block").hidden_mut() = 9;
    }
    config
}

#[test]
fn weights_of_pytorchs_lstm_give_its_logits_and_states() {
    let model = Model::from_bytes(config(), WEIGHTS).expect("the weights fit the preset");
    let (ids, batch) = (numbers("ids"), 3);
    for threads in [1, 2] {
        let mut tape = Tape::new(Arc::new(Cpu::new(threads)));
        for chunk in [12, 5, 1] {
            let mut state = model.state(batch);
            let mut logits = Vec::new();
            for ids in ids.chunks(chunk * batch) {
                let sequence = Sequence::new(ids.len() / batch, batch);
                let mut pass = tape.pass(Mode::Read);
                let x = model.forward(&mut pass, ids, &sequence, &mut state).expect("valid ids");
                let mut more = Vec::new();
                model.logits(&mut pass, x, 0..ids.len(), &mut more);
                logits.extend(more);
            }
            check("logits", &logits);
            for tensor in state.tensors() {
                check(tensor.name, &tensor.values());
            }
        }
    }
}

#[test]
fn the_loss_and_its_gradients_are_pytorchs() {
    let model = Model::from_bytes(config(), WEIGHTS).expect("the weights fit the preset");
    let (ids, batch) = (numbers("ids"), 3);
    let mut targets = numbers("targets");
    for target in targets.iter_mut().filter(|target| **target as i32 == -100) {
        *target = IGNORE;
    }
    let counted = targets.iter().filter(|&&target| target != IGNORE).count();
    let sequence = Sequence::new(ids.len() / batch, batch);
    for threads in [1, 2] {
        let mut tape = Tape::new(Arc::new(Cpu::new(threads)));
        let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
        let (mut pass, mut state) = (tape.pass(Mode::Record), model.state(batch));
        let x = model.forward(&mut pass, &ids, &sequence, &mut state).expect("valid ids");
        let wanted = Some((1.0 / counted as f32, &mut gradients));
        let options = LossOptions { smoothing: 0.1, gradients: wanted, ..LossOptions::default() };
        let total =
            model.loss(&mut pass, x, Targets::Tokens(&targets), options).expect("valid targets");
        assert_eq!(total.count, counted);
        check("loss", &[(total.nats / counted as f64) as f32]);
        pass.backward(&model.weights, &mut gradients).expect("the weights of the pass");
        for (parameter, gradient) in model.weights.iter().zip(gradients.iter()) {
            let gradient = gradient.expect("nothing is frozen");
            check(&format!("d_{}", parameter.name), gradient);
        }
    }
}

#[test]
fn the_weights_are_written_as_they_were_read() {
    let model = Model::from_bytes(config(), WEIGHTS).expect("the weights fit the preset");
    let again = model.to_bytes();
    let (before, after) = (
        SafeTensors::deserialize(WEIGHTS).expect("make.py wrote it"),
        SafeTensors::deserialize(&again).expect("just written"),
    );
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before.tensors() {
        let written = after.tensor(&name).expect("every tensor is written");
        assert_eq!((written.shape(), written.data()), (tensor.shape(), tensor.data()), "{name}");
    }
}

#[track_caller]
fn check(name: &str, got: &[f32]) {
    let exact: Vec<f32> = words(name).map(f32::from_le_bytes).collect();
    assert_eq!(got.len(), exact.len(), "{name}: lengths");
    let squares: f64 = exact.iter().map(|&x| f64::from(x).powi(2)).sum();
    let mean = (squares / exact.len() as f64).sqrt();
    let mut worst = 0.0f64;
    for (i, (&got, &exact)) in got.iter().zip(&exact).enumerate() {
        let (got, exact) = (f64::from(got), f64::from(exact));
        let error = (got - exact).abs() / exact.abs().max(mean);
        assert!(error <= TOLERANCE, "{name}[{i}] is {got} instead of {exact}: off by {error:.1e}");
        worst = worst.max(error);
    }
    // Shown by `--nocapture`: what was measured.
    eprintln!("{worst:10.2e}  {name}");
}

fn numbers(name: &str) -> Vec<u32> {
    words(name).map(u32::from_le_bytes).collect()
}

fn words(name: &str) -> impl Iterator<Item = [u8; 4]> {
    let file = SafeTensors::deserialize(EXPECTED).expect("make.py wrote the file");
    let tensor = file.tensor(name).unwrap_or_else(|_| panic!("make.py wrote no {name}"));
    let (words, _) = tensor.data().as_chunks::<4>();
    words.iter().copied()
}
