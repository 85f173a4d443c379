//! An encoder and a decoder in one pass: gradients of both, padding, chunks, and what is refused.

use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_kernel::random::split_mix64;

use crate::{
    Config, Gradients, IGNORE, LossOptions, Mode, Model, ModelError, Sequence, State, Tape,
    Targets, Var,
};

const VOCABULARY: usize = 11;
const BATCH: usize = 3;
/// Positions of the encoder and of the decoder, and how many of them are real in each sequence.
const SOURCE: (usize, [u32; BATCH]) = (7, [7, 2, 5]);
const TARGET: (usize, [u32; BATCH]) = (5, [4, 5, 1]);

const ATTENTION: &str = r#""working": {"type": "attention", "heads": 2, "kv_heads": 1,
    "head_width": 6, "window": 4}"#;
const LSTM: &str = r#""long": {"type": "lstm", "hidden": 9}"#;
const CROSS: &str = r#""cross": {"heads": 4, "kv_heads": 2, "head_width": 5, "source_width": 10}"#;

/// Every block is `memories`; the decoder's read the encoder's output besides.
fn models(memories: &str) -> [Model; 2] {
    let model = |width: usize, block: String, seed: u64| {
        let json = format!(
            r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCABULARY},
            "width": {width}, "blocks": [{block}, {block}],
            "heads": [{{"type": "language-model", "bias": true}}]}}"#
        );
        let mut model = Model::new(Config::from_json(json.as_bytes()).unwrap(), seed).unwrap();
        // Away from where training begins, so that everything matters.
        for (place, parameter) in (100 * seed..).zip(model.weights.iter_mut()) {
            let moves = draws(parameter.data.len(), place);
            parameter.data.iter_mut().zip(moves).for_each(|(w, d)| *w += 0.3 * d);
        }
        model
    };
    let decoder = format!(r#"{{{memories}, {CROSS}, "feed_forward": 8}}"#);
    [model(10, format!("{{{memories}}}"), 3), model(12, decoder, 4)]
}

/// Values in −1..1, drawn from a seed.
fn draws(count: usize, seed: u64) -> Vec<f32> {
    let mut last = split_mix64(seed);
    let draw = |_| {
        last = split_mix64(last);
        (last >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(draw).collect()
}

fn ids(count: usize, seed: u64) -> Vec<u32> {
    let id = |x: f32| ((x + 1.0) / 2.0 * VOCABULARY as f32) as u32 % VOCABULARY as u32;
    draws(count, seed).into_iter().map(id).collect()
}

/// The same for every target that is no padding.
fn targets() -> Vec<u32> {
    let (time, lengths) = TARGET;
    let mut targets = ids(time * BATCH, 7);
    for (row, target) in targets.iter_mut().enumerate() {
        if row / BATCH >= lengths[row % BATCH] as usize {
            *target = IGNORE;
        }
    }
    targets
}

/// Reads both sequences in one pass and gives the decoder's loss per target.
fn loss(models: &[Model; 2], tape: &mut Tape, gradients: Option<&mut [Gradients; 2]>) -> f64 {
    let [encoder, decoder] = models;
    let mut pass = tape.pass(Mode::Record);
    let sequence = |(time, lengths): &'static (usize, [u32; BATCH])| Sequence {
        lengths: Some(lengths),
        ..Sequence::new(*time, BATCH)
    };
    let (source_ids, target_ids) = (ids(SOURCE.0 * BATCH, 5), ids(TARGET.0 * BATCH, 6));
    let mut state = encoder.state(BATCH);
    let source = encoder.forward(&mut pass, &source_ids, &sequence(&SOURCE), &mut state).unwrap();
    let mut state = decoder.state(BATCH);
    let x = decoder
        .forward_with_source(&mut pass, &target_ids, &sequence(&TARGET), source, &mut state)
        .unwrap();
    let targets = targets();
    let count = targets.iter().filter(|&&target| target != IGNORE).count();
    match gradients {
        None => {
            let (targets, options) = (Targets::Tokens(&targets), LossOptions::default());
            decoder.loss(&mut pass, x, targets, options).unwrap().nats / count as f64
        }
        Some([of_encoder, of_decoder]) => {
            let wanted = Some((1.0 / count as f32, &mut *of_decoder));
            let options = LossOptions { gradients: wanted, ..LossOptions::default() };
            let total = decoder.loss(&mut pass, x, Targets::Tokens(&targets), options).unwrap();
            let mut both = [(&encoder.weights, of_encoder), (&decoder.weights, of_decoder)];
            pass.backward_all(&mut both).unwrap();
            total.nats / count as f64
        }
    }
}

/// Along directions drawn without regard to the gradient, the loss changes as the gradient says:
/// central differences of fourth order, in double precision, for each parameter by itself.
#[test]
fn gradients_of_encoder_and_decoder_are_the_slope_of_the_loss() {
    for memories in [ATTENTION.to_owned(), LSTM.to_owned(), format!("{ATTENTION}, {LSTM}")] {
        check_slopes(models(&memories), &memories);
    }
}

fn check_slopes(mut models: [Model; 2], name: &str) {
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut gradients =
        models.each_ref().map(|model| Gradients::new(tape.cpu().clone(), &model.weights));
    loss(&models, &mut tape, Some(&mut gradients));
    let mut reached = 0;
    for (which, gradients) in gradients.iter().enumerate() {
        for (index, gradient) in gradients.iter().enumerate() {
            let gradient = gradient.unwrap();
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            reached += usize::from(norm > 1e-4);
            let parameter = models[which].weights.iter().nth(index).unwrap();
            let (parameter, start) = (parameter.name.clone(), parameter.data.clone());
            for seed in [1, 2] {
                let direction = draws(gradient.len(), seed + 7 * index as u64);
                let length = direction.iter().map(|&d| f64::from(d).powi(2)).sum::<f64>().sqrt();
                let products = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g * d));
                let expected = products.sum::<f64>() / length;
                let mut at = |distance: f64| {
                    let place = models[which].weights.iter_mut().nth(index).unwrap();
                    for ((w, &w0), &d) in place.data.iter_mut().zip(&start[..]).zip(&direction) {
                        *w = (f64::from(w0) + distance * f64::from(d) / length) as f32;
                    }
                    loss(&models, &mut tape, None)
                };
                let mut seen = Vec::new();
                let agrees = [0.05, 0.02].iter().any(|&step| {
                    let (near, far) = (at(step) - at(-step), at(2.0 * step) - at(-2.0 * step));
                    let slope = (8.0 * near - far) / (12.0 * step);
                    seen.push(slope);
                    // The mean of ten losses, each in single precision, is uncertain by this much.
                    (slope - expected).abs() < 1e-3 * norm + 5e-7 / step
                });
                at(0.0);
                assert!(
                    agrees,
                    "{name}: along {parameter} of model {which} the slope is {seen:?}, its \
                     gradient says {expected}; the gradient's norm is {norm}"
                );
            }
        }
    }
    // All but the head of the encoder, which answers nothing here.
    let parameters: usize = models.iter().map(|model| model.weights.len()).sum();
    assert_eq!(reached, parameters - 2, "{name}");
}

/// The decoder's logits, reading in chunks of `sizes` with a state, each beside the whole source.
fn logits(models: &[Model; 2], sizes: &[usize], stream: Option<usize>) -> Vec<f32> {
    let [encoder, decoder] = models;
    let pick = |ids: Vec<u32>, real: Option<u32>| match (stream, real) {
        (Some(b), Some(real)) => {
            ids.into_iter().skip(b).step_by(BATCH).take(real as usize).collect::<Vec<_>>()
        }
        _ => ids,
    };
    let batch = if stream.is_some() { 1 } else { BATCH };
    let source_ids = pick(ids(SOURCE.0 * BATCH, 5), stream.map(|b| SOURCE.1[b]));
    let target_ids = pick(ids(TARGET.0 * BATCH, 6), stream.map(|_| TARGET.0 as u32));
    let lengths = stream.is_none().then_some(&SOURCE.1[..]);
    let source_sequence = Sequence { lengths, ..Sequence::new(source_ids.len() / batch, batch) };
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let (mut all, mut some, mut state, mut at) = (Vec::new(), Vec::new(), decoder.state(batch), 0);
    for size in sizes {
        let mut pass = tape.pass(Mode::Read);
        let source = read(encoder, &mut pass, &source_ids, &source_sequence);
        let chunk = &target_ids[at * batch..(at + size) * batch];
        let sequence = Sequence::new(*size, batch);
        let x =
            decoder.forward_with_source(&mut pass, chunk, &sequence, source, &mut state).unwrap();
        decoder.logits(&mut pass, x, 0..chunk.len(), &mut some);
        all.extend_from_slice(&some);
        at += size;
    }
    all
}

fn read(model: &Model, pass: &mut crate::Pass, ids: &[u32], sequence: &Sequence) -> Var {
    model.forward(pass, ids, sequence, &mut model.state(sequence.batch)).unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs())) / most
}

#[test]
fn a_decoder_reads_in_chunks_and_beside_others_as_it_does_alone() {
    for memories in [ATTENTION.to_owned(), LSTM.to_owned(), format!("{ATTENTION}, {LSTM}")] {
        let models = models(&memories);
        let whole = logits(&models, &[5], None);
        for sizes in [&[1, 1, 1, 1, 1][..], &[2, 3][..]] {
            let off = difference(&logits(&models, sizes, None), &whole);
            assert!(off < 1e-4, "{memories} in {sizes:?}: {off}");
        }
        for b in 0..BATCH {
            let alone = logits(&models, &[5], Some(b));
            let rows = whole.chunks(VOCABULARY).skip(b).step_by(BATCH).flatten().copied();
            let off = difference(&alone, &rows.collect::<Vec<_>>());
            assert!(off < 1e-4, "{memories}, row {b}: {off}");
        }
    }
}

#[test]
fn a_source_that_does_not_fit_is_refused() {
    let [encoder, decoder] = models(LSTM);
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let sequence = Sequence::new(2, 3);
    let ids = ids(6, 1);
    let source = read(&encoder, &mut pass, &ids, &sequence);
    let mut state = decoder.state(3);
    let before = |state: &State| state.positions().to_vec();
    let error = decoder.forward(&mut pass, &ids, &sequence, &mut state).unwrap_err();
    assert_eq!(error, ModelError::NoSource);
    let two = Sequence::new(3, 2);
    let mut of_two = decoder.state(2);
    let error = decoder.forward_with_source(&mut pass, &ids, &two, source, &mut of_two);
    let expected = vec![10, 10];
    let refused = ModelError::Source { batch: 3, width: 10, sequences: 2, expected };
    assert_eq!(error.unwrap_err(), refused);
    let x = decoder.forward_with_source(&mut pass, &ids, &sequence, source, &mut state).unwrap();
    assert_eq!(before(&state), [2; 3]);
    let error = decoder.forward_with_source(&mut pass, &ids, &sequence, x, &mut state);
    assert!(matches!(error, Err(ModelError::Source { width: 12, .. })));
    let mut of_encoder = encoder.state(3);
    let error = encoder.forward_with_source(&mut pass, &ids, &sequence, source, &mut of_encoder);
    assert!(matches!(error, Err(ModelError::Source { width: 10, .. })));
    assert_eq!((before(&state), before(&of_encoder)), (vec![2; 3], vec![0; 3]));
}
