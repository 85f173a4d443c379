//! An encoder and a decoder in one model: gradients of both, sources that are kept, padding, chunks,
//! candidates, files, and what is refused.

use std::sync::Arc;

use longhand_kernel::Cpu;
use longhand_kernel::random::split_mix64;
use longhand_kernel::weights::Format;

use crate::config::{ConfigError, Dropout, EncoderError, HeadKind, Pointer, Sentences};
use crate::{
    Config, Gradients, IGNORE, Input, LossOptions, Mode, Model, ModelError, Preset, Sequence,
    Source, SourceInput, Tape, Targets,
};

const VOCABULARY: usize = 11;
const BATCH: usize = 3;
/// Positions of the encoder and of the decoder, and how many of them are real in each sequence.
const SOURCE: (usize, [u32; BATCH]) = (7, [7, 2, 5]);
const TARGET: (usize, [u32; BATCH]) = (5, [4, 5, 1]);

/// Memories of the encoder and of the decoder.
const ATTENTION: [&str; 2] = [
    r#""working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 6, "window": 4,
        "bidirectional": true}"#,
    r#""working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 6, "window": 4}"#,
];
const LSTM: [&str; 2] = [
    r#""long": {"type": "lstm", "hidden": 5, "bidirectional": true}"#,
    r#""long": {"type": "lstm", "hidden": 9}"#,
];
const CROSS: &str = r#""cross": {"heads": 4, "kv_heads": 2, "head_width": 5, "source_width": 10}"#;

/// Sentences, and sentences of which the last one is a question.
const SENTENCES: &str = r#""sentences": {"ends": [1, 4, 6], "places": 3}, "#;
const QUESTION: &str = r#""sentences": {"ends": [0, 3, 5], "places": 2, "question": true,
    "blocks": [{"long": {"type": "lstm", "hidden": 4, "bidirectional": true}}]}, "#;

fn both() -> [String; 2] {
    [0, 1].map(|at| format!("{}, {}", ATTENTION[at], LSTM[at]))
}

/// Every kind of memories, with one embedding for both texts and with two.
fn configs() -> Vec<(String, Config)> {
    let own = r#""vocab_size": 8, "#;
    let of = |memories: [&str; 2], own: &str, rest: &str| {
        let name = format!("{} and {own}{rest}", memories[1]);
        (name, config(own, memories, rest))
    };
    let [encoder, decoder] = &both();
    vec![
        of(ATTENTION, "", r#""positions": {"type": "learned", "count": 6}, "#),
        of(LSTM, own, r#""norm": "layer", "adapters": 3, "#),
        of([encoder, decoder], "", ""),
        of([encoder, decoder], own, r#""positions": {"type": "sinusoidal"}, "#),
        of([encoder, decoder], QUESTION, r#""positions": {"type": "learned", "count": 3}, "#),
        of(LSTM, &[own, SENTENCES].concat(), ""),
        of(LSTM, "", r#""pointer": {"width": 5}, "#),
        of([encoder, decoder], "", r#""pointer": {"width": 18, "coverage": true}, "#),
    ]
}

fn config(own: &str, [encoder, decoder]: [&str; 2], rest: &str) -> Config {
    let of_encoder = format!(r#"{{{encoder}, "feed_forward": 6}}"#);
    let of_decoder = format!(r#"{{{decoder}, {CROSS}, "feed_forward": 8}}"#);
    let json = format!(
        r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCABULARY}, "width": 10, {rest}
        "encoder": {{{own}"blocks": [{of_encoder}, {{{encoder}}}]}},
        "blocks": [{of_decoder}, {{{decoder}}}, {of_decoder}],
        "heads": [{{"type": "language-model", "tied": true, "bias": true}}]}}"#
    );
    Config::from_json(json.as_bytes()).unwrap()
}

/// A model away from where training begins, so that everything matters.
fn model(config: Config) -> Model {
    let mut model = Model::new(config, 3).unwrap();
    for (place, parameter) in (300..).zip(model.weights.iter_mut()) {
        let moves = draws(parameter.data.len(), place);
        parameter.data.iter_mut().zip(moves).for_each(|(w, d)| *w += 0.3 * d);
    }
    model
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

fn ids(vocabulary: usize, count: usize, seed: u64) -> Vec<u32> {
    let id = |x: f32| ((x + 1.0) / 2.0 * vocabulary as f32) as u32 % vocabulary as u32;
    draws(count, seed).into_iter().map(id).collect()
}

fn source_ids(model: &Model) -> Vec<u32> {
    ids(model.config().source_vocabulary().unwrap(), SOURCE.0 * BATCH, 5)
}

fn target_ids() -> Vec<u32> {
    ids(VOCABULARY, TARGET.0 * BATCH, 6)
}

/// The same for every target that is no padding.
fn targets() -> Vec<u32> {
    let (time, lengths) = TARGET;
    let mut targets = ids(VOCABULARY, time * BATCH, 7);
    for (row, target) in targets.iter_mut().enumerate() {
        if row / BATCH >= lengths[row % BATCH] as usize {
            *target = IGNORE;
        }
    }
    targets
}

fn padded((time, lengths): &'static (usize, [u32; BATCH])) -> Sequence<'static> {
    Sequence { lengths: Some(lengths), ..Sequence::new(*time, BATCH) }
}

/// Reads both texts in one pass and gives the loss per target.
fn loss(model: &Model, tape: &mut Tape, mode: Mode, gradients: Option<&mut Gradients>) -> f64 {
    let mut pass = tape.pass(mode);
    let (of_source, ids) = (source_ids(model), target_ids());
    let source = Some(SourceInput::Text { ids: &of_source, sequence: padded(&SOURCE) });
    let input = Input { ids: &ids, source, ..Input::default() };
    let mut state = model.state(BATCH);
    let x = model.forward_input(&mut pass, input, &padded(&TARGET), &mut state).unwrap();
    let targets = targets();
    let count = targets.iter().filter(|&&target| target != IGNORE).count();
    let Some(gradients) = gradients else {
        let (targets, options) = (Targets::Tokens(&targets), LossOptions::default());
        return model.loss(&mut pass, x, targets, options).unwrap().nats / count as f64;
    };
    let wanted = Some((1.0 / count as f32, &mut *gradients));
    let options = LossOptions { gradients: wanted, ..LossOptions::default() };
    let total = model.loss(&mut pass, x, Targets::Tokens(&targets), options).unwrap();
    pass.backward(&model.weights, gradients).unwrap();
    total.nats / count as f64
}

/// Along directions drawn without regard to the gradient, the loss changes as the gradient says:
/// central differences of fourth order, in double precision, for each parameter by itself.
#[test]
fn gradients_of_encoder_and_decoder_are_the_slope_of_the_loss() {
    for (name, config) in configs() {
        check_slopes(model(config), &name);
    }
}

fn check_slopes(mut model: Model, name: &str) {
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
    loss(&model, &mut tape, Mode::Record, Some(&mut gradients));
    let gradients: Vec<Vec<f32>> =
        gradients.iter().map(|gradient| gradient.unwrap().to_vec()).collect();
    let mut reached = 0;
    for (index, gradient) in gradients.iter().enumerate() {
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        reached += usize::from(norm > 1e-4);
        let parameter = model.weights.iter().nth(index).unwrap();
        let (parameter, start) = (parameter.name.clone(), parameter.data.clone());
        for seed in [1, 2] {
            let direction = draws(gradient.len(), seed + 7 * index as u64);
            let length = direction.iter().map(|&d| f64::from(d).powi(2)).sum::<f64>().sqrt();
            let products = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g * d));
            let expected = products.sum::<f64>() / length;
            // The penalty of a coverage has a kink where a weight meets the coverage.
            let steps: &[f64] = match model.config().pointer {
                Some(Pointer { coverage: true, .. }) => &[0.05, 0.02, 0.005],
                _ => &[0.05, 0.02],
            };
            let mut at = |distance: f64| {
                let place = model.weights.iter_mut().nth(index).unwrap();
                for ((w, &w0), &d) in place.data.iter_mut().zip(&start[..]).zip(&direction) {
                    *w = (f64::from(w0) + distance * f64::from(d) / length) as f32;
                }
                // A training loss, which has that penalty in it.
                let mut unused = Gradients::new(tape.cpu().clone(), &model.weights);
                loss(&model, &mut tape, Mode::Record, Some(&mut unused))
            };
            let mut seen = Vec::new();
            let agrees = steps.iter().any(|&step| {
                let (near, far) = (at(step) - at(-step), at(2.0 * step) - at(-2.0 * step));
                let slope = (8.0 * near - far) / (12.0 * step);
                seen.push(slope);
                // The mean of ten losses, each in single precision, is uncertain by this much.
                (slope - expected).abs() < 1e-3 * norm + 5e-7 / step
            });
            at(0.0);
            assert!(
                agrees,
                "{name}: along {parameter} the slope is {seen:?}, its gradient says {expected}; \
                 the gradient's norm is {norm}"
            );
        }
    }
    assert_eq!(reached, model.weights.len(), "{name}");
}

#[test]
fn dropout_of_a_seed_is_the_same_in_every_pass() {
    let [encoder, decoder] = &both();
    let mut config = config("", [encoder, decoder], "");
    let dropout = &mut config.dropout;
    (dropout.token, dropout.input, dropout.memory, dropout.working) = (0.1, 0.2, 0.2, 0.3);
    (dropout.block, dropout.output, dropout.recurrent) = (0.2, 0.2, 0.2);
    let (model, mut tape) = (model(config), Tape::new(Arc::new(Cpu::new(2))));
    let mut run = |seed| {
        let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
        let loss = loss(&model, &mut tape, Mode::Train { seed }, Some(&mut gradients));
        let norms = gradients.iter().map(|gradient| gradient.unwrap().to_vec());
        (loss, norms.collect::<Vec<_>>())
    };
    let first = run(1);
    assert!(run(1) == first && run(2).0 != first.0);
    // The encoder drops as the decoder does.
    let without = Config { dropout: Dropout::default(), ..model.config().clone() };
    let mut still = Model::new(without, 3).unwrap();
    for (to, from) in still.weights.iter_mut().zip(model.weights.iter()) {
        to.data = from.data.clone();
    }
    let mut encoded = |model: &Model, mode| {
        let mut pass = tape.pass(mode);
        let encoder = model.encoder.as_ref().unwrap();
        let (rows, _) = model.encode(encoder, &mut pass, &source_ids(model), &padded(&SOURCE));
        pass.data(rows).to_vec()
    };
    let whole = encoded(&still, Mode::Train { seed: 1 });
    assert_eq!(encoded(&model, Mode::Record), whole);
    assert_ne!(encoded(&model, Mode::Train { seed: 1 }), whole);
}

/// The logits of every target position, read in the training form beside sources in the same pass.
fn whole(model: &Model, mode: Mode, stream: Option<usize>) -> Vec<f32> {
    let (of_source, lengths, ids) = texts(model, stream);
    let batch = lengths.len();
    let sequence =
        Sequence { lengths: Some(&lengths), ..Sequence::new(of_source.len() / batch, batch) };
    let source = Some(SourceInput::Text { ids: &of_source, sequence });
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut pass = tape.pass(mode);
    let input = Input { ids: &ids, source, ..Input::default() };
    let (sequence, mut state) = (Sequence::new(TARGET.0, batch), model.state(batch));
    let x = model.forward_input(&mut pass, input, &sequence, &mut state).unwrap();
    let mut logits = Vec::new();
    model.logits(&mut pass, x, 0..ids.len(), &mut logits);
    logits
}

/// Source ids, their lengths and target ids of all sequences, or of one without its padding.
fn texts(model: &Model, stream: Option<usize>) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let (of_source, ids) = (source_ids(model), target_ids());
    let Some(b) = stream else { return (of_source, SOURCE.1.to_vec(), ids) };
    let own = |ids: Vec<u32>, count: u32| -> Vec<u32> {
        ids.into_iter().skip(b).step_by(BATCH).take(count as usize).collect()
    };
    let length = SOURCE.1[b];
    (own(of_source, length), vec![length], own(ids, TARGET.0 as u32))
}

/// The same from kept sources, in chunks of `sizes`, with `candidates` copies of each stream.
fn kept(model: &Model, sizes: &[usize], candidates: usize, stream: Option<usize>) -> Vec<f32> {
    let (of_source, lengths, ids) = texts(model, stream);
    let batch = lengths.len();
    let sequence =
        Sequence { lengths: Some(&lengths), ..Sequence::new(of_source.len() / batch, batch) };
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let source = model.read_source(&mut tape, &of_source, &sequence).unwrap();
    continued(model, &mut tape, &source, &ids, sizes, candidates)
}

fn continued(
    model: &Model,
    tape: &mut Tape,
    source: &Source,
    ids: &[u32],
    sizes: &[usize],
    candidates: usize,
) -> Vec<f32> {
    let batch = source.len();
    let (mut all, mut some, mut state, mut at) =
        (Vec::new(), Vec::new(), model.state(candidates * batch), 0);
    for size in sizes {
        let rows = ids[at * batch..(at + size) * batch].chunks(batch);
        let chunk: Vec<u32> = rows.flat_map(|row| row.repeat(candidates)).collect();
        let mut pass = tape.pass(Mode::Read);
        let input =
            Input { ids: &chunk, source: Some(SourceInput::Kept(source)), ..Input::default() };
        let sequence = Sequence::new(*size, candidates * batch);
        let x = model.forward_input(&mut pass, input, &sequence, &mut state).unwrap();
        model.logits(&mut pass, x, 0..chunk.len(), &mut some);
        for (place, rows) in some.chunks(VOCABULARY * batch).enumerate() {
            // Every candidate reads the same tokens, and so says the same.
            let first = &some[place / candidates * candidates * VOCABULARY * batch..][..rows.len()];
            assert!(difference(rows, first) < 1e-5, "candidate {}", place % candidates);
            if place % candidates == 0 {
                all.extend_from_slice(rows);
            }
        }
        at += size;
    }
    all
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs())) / most
}

fn row_of(all: &[f32], b: usize) -> Vec<f32> {
    all.chunks(VOCABULARY).skip(b).step_by(BATCH).flatten().copied().collect()
}

#[test]
fn kept_sources_give_what_the_training_form_gives() {
    for (name, config) in configs() {
        let model = model(config);
        let exact = whole(&model, Mode::Record, None);
        let off = difference(&whole(&model, Mode::Read, None), &exact);
        assert!(off < 1e-4, "{name}, read whole: {off}");
        for (sizes, candidates) in [(&[1, 1, 1, 1, 1][..], 1), (&[1, 1, 1, 1, 1], 4), (&[2, 3], 2)]
        {
            let off = difference(&kept(&model, sizes, candidates, None), &exact);
            assert!(off < 1e-4, "{name} in {sizes:?}, {candidates} candidates: {off}");
        }
        for b in 0..BATCH {
            let off = difference(&whole(&model, Mode::Record, Some(b)), &row_of(&exact, b));
            assert!(off < 1e-4, "{name}, row {b}: {off}");
        }
    }
}

/// Packed for reading in any format, a sentence has the same bits alone and among others.
#[test]
fn a_sentence_is_written_the_same_alone_and_among_others() {
    for (name, config) in configs() {
        let whole_model = model(config);
        for format in [Format::F32, Format::Bf16, Format::Int8, Format::Int4] {
            let mut model = match format {
                Format::F32 => whole_model.clone(),
                format => whole_model.compress(format),
            };
            model.pack();
            let together = kept(&model, &[1; 5], 2, None);
            for b in 0..BATCH {
                let alone = kept(&model, &[1; 5], 1, Some(b));
                assert!(alone == row_of(&together, b), "{name}, {format:?}, row {b}");
            }
            let off = difference(&whole(&model, Mode::Read, None), &together);
            assert!(off < 1e-4, "{name}, {format:?}: {off}");
        }
    }
}

/// The matrices of a preset are large enough to be packed in every format, and so is an embedding of
/// some words more, which both texts share.
#[test]
fn a_packed_preset_reads_both_texts_in_one_pass() {
    let whole_model = model(Preset::EncoderDecoderNano.config(40));
    let exact = whole(&whole_model, Mode::Record, None);
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let own = loss(&whole_model, &mut tape, Mode::Read, None);
    for (format, most) in [(Format::F32, 1e-4), (Format::Bf16, 0.05), (Format::Int8, 0.2)] {
        let mut model = match format {
            Format::F32 => whole_model.clone(),
            format => whole_model.compress(format),
        };
        model.pack();
        let off = difference(&whole(&model, Mode::Read, None), &exact);
        assert!(off < most, "{format:?}: {off}");
        let packed = loss(&model, &mut tape, Mode::Read, None);
        assert!((packed - own).abs() < f64::from(most) * own, "{format:?}: {packed} and {own}");
    }
}

#[test]
fn a_pointer_gives_logarithms_of_probabilities_and_its_loss_follows_them() {
    for (name, config) in configs().split_off(6) {
        let model = model(config);
        let rows = whole(&model, Mode::Read, None);
        for row in rows.chunks(VOCABULARY) {
            assert!((row.iter().map(|x| x.exp()).sum::<f32>() - 1.0).abs() < 1e-5, "{name}");
        }
        let targets = targets();
        let nats = rows.chunks(VOCABULARY).zip(&targets).filter(|(_, target)| **target != IGNORE);
        let all: Vec<f64> = nats.map(|(row, &target)| -f64::from(row[target as usize])).collect();
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((loss(&model, &mut tape, Mode::Read, None) - mean).abs() < 1e-4, "{name}");
        // Learning with coverage costs more: what is read again.
        let mut unused = Gradients::new(tape.cpu().clone(), &model.weights);
        let trained = loss(&model, &mut tape, Mode::Record, Some(&mut unused));
        let has_coverage = model.config().pointer.unwrap().coverage;
        assert_eq!(trained > mean + 1e-3, has_coverage, "{name}: {trained} and {mean}");
    }
}

/// Coverage goes with the streams that are gathered, moved and lent.
#[test]
fn streams_keep_their_coverage_wherever_they_go() {
    let mut model = model(configs().remove(7).1);
    model.pack();
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let source = model.read_source(&mut tape, &source_ids(&model), &padded(&SOURCE)).unwrap();
    let mut step = |source: &Source, ids: &[u32], state: &mut crate::State| {
        let mut pass = tape.pass(Mode::Read);
        let input = Input { ids, source: Some(SourceInput::Kept(source)), ..Input::default() };
        let sequence = Sequence::new(1, ids.len());
        let x = model.forward_input(&mut pass, input, &sequence, state).unwrap();
        let mut logits = Vec::new();
        model.logits(&mut pass, x, 0..ids.len(), &mut logits);
        logits
    };
    let mut state = model.state(BATCH);
    step(&source, &[1, 2, 3], &mut state);
    let mut picked = state.select(&[2, 0]).unwrap();
    let some = source.select(&[2, 0]).unwrap();
    let mut lent = state.lend(&[0, 2]).unwrap();
    let of_lent = step(&source.select(&[0, 2]).unwrap(), &[7, 6], &mut lent);
    state.take_back(&[0, 2], lent);
    let of_picked = step(&some, &[6, 7], &mut picked);
    assert_eq!(of_picked[..VOCABULARY], of_lent[VOCABULARY..]);
    assert_eq!(of_picked[VOCABULARY..], of_lent[..VOCABULARY]);
    // Back in their places, they go on as the copies do.
    let again = step(&some, &[4, 5], &mut picked);
    let whole = step(&source, &[5, 1, 4], &mut state);
    assert_eq!(again[..VOCABULARY], whole[2 * VOCABULARY..]);
    assert_eq!(again[VOCABULARY..], whole[..VOCABULARY]);
    let fresh = model.state(1);
    let mut forgetful = picked.extract(0).unwrap();
    assert_ne!(forgetful.coverage, fresh.coverage);
    forgetful.coverage = fresh.coverage;
    let one = source.select(&[2]).unwrap();
    let with = step(&one, &[1], &mut picked.extract(0).unwrap());
    assert_ne!(step(&one, &[1], &mut forgetful), with);
}

#[test]
fn selected_sources_are_read_as_all_of_them() {
    let mut model = model(configs().remove(2).1);
    model.pack();
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let (of_source, ids) = (source_ids(&model), target_ids());
    let source = model.read_source(&mut tape, &of_source, &padded(&SOURCE)).unwrap();
    assert_eq!((source.len(), source.time(), source.ids(1).len()), (3, 7, 2));
    let all = continued(&model, &mut tape, &source, &ids, &[1; 5], 1);
    let picked = [2, 0, 2];
    let some = source.select(&picked).unwrap();
    assert_eq!((some.len(), some.time(), some.ids(0)), (3, 7, source.ids(2)));
    let pick = |row: &[u32]| picked.map(|s| row[s]);
    let of_some: Vec<u32> = ids.chunks(BATCH).flat_map(pick).collect();
    let again = continued(&model, &mut tape, &some, &of_some, &[1; 5], 1);
    for (b, &s) in picked.iter().enumerate() {
        assert_eq!(row_of(&again, b), row_of(&all, s));
    }
    // The weights of the last step: one row for each stream, over the tokens of its source.
    let mut weights = Vec::new();
    model.source_weights(&tape, &some, &mut weights).unwrap();
    for (row, &s) in weights.chunks(some.time()).zip(&picked) {
        let real = SOURCE.1[s] as usize;
        assert!((row[..real].iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
        assert!(row[..real].iter().all(|&w| w > 0.0) && row[real..].iter().all(|&w| w == 0.0));
    }
    assert_eq!(weights[..7], weights[14..]);
    let one = source.select(&[1]).unwrap();
    assert_eq!((one.time(), one.bytes()), (2, 2 * 2 * 20 * 4));
    assert!(source.select(&[]).unwrap().is_empty());
    let refused = source.select(&[3]).unwrap_err();
    assert_eq!(refused, ModelError::SourceIndex { index: 3, sources: 3 });
    // Out of several, in any order.
    let places = [(&one, 0), (&source, 2), (&source, 1), (&source, 2)];
    let gathered = Source::gather(&one, &places).unwrap();
    let expected = source.select(&[1, 2, 1, 2]).unwrap();
    assert_eq!((gathered.len(), gathered.time()), (4, expected.time()));
    for s in 0..4 {
        assert_eq!(gathered.ids(s), expected.ids(s));
    }
    assert_eq!(gathered.kept(0).kv, expected.kept(0).kv);
    let other =
        model.compress(Format::Bf16).read_source(&mut tape, &source_ids(&model), &padded(&SOURCE));
    let foreign = Source::gather(&one, &[(&other.unwrap(), 0)]).unwrap_err();
    assert_eq!(foreign, ModelError::SourceOfOther);
}

#[test]
fn files_and_formats_keep_encoder_and_decoder() {
    for (name, config) in configs() {
        let model = model(config.clone());
        assert_eq!(Config::from_json(config.to_json().as_bytes()).unwrap(), config, "{name}");
        let copy = Model::from_bytes(config.clone(), &model.to_bytes()).unwrap();
        assert_eq!(copy.hash(), model.hash(), "{name}");
        let small = model.compress(Format::Int8);
        let read = Model::from_bytes(small.config().clone(), &small.to_bytes()).unwrap();
        assert_eq!(kept(&read, &[1; 5], 1, None), kept(&small, &[1; 5], 1, None), "{name}");
        assert_ne!(read.hash(), model.hash(), "{name}");
        let mut other = config.clone();
        other.encoder.as_mut().unwrap().blocks.pop();
        assert_ne!(other.hash(), config.hash(), "{name}");
        let own = config.encoder.unwrap().vocab_size.is_some();
        let has = model.weights.iter().any(|p| p.name == "encoder.embedding.weight");
        assert_eq!(has, own, "{name}");
    }
    let millions = |preset: Preset| {
        let model = Model::new(preset.config(8192), 1).unwrap();
        model.weights.count() as f64 / 1e6
    };
    assert!((1.7..1.9).contains(&millions(Preset::EncoderDecoderNano)));
    assert!((6.0..7.0).contains(&millions(Preset::EncoderDecoderSmall)));
}

#[test]
fn sources_that_do_not_fit_are_refused() {
    let own = model(configs().remove(1).1);
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let (two, three) = (Sequence::new(3, 2), Sequence::new(2, 3));
    let ids = [1; 6];
    let kept = own.read_source(&mut tape, &ids, &three).unwrap();
    let read = |model: &Model, tape: &mut Tape, mode, source, sequence: &Sequence| {
        let mut state = model.state(sequence.batch);
        let input = Input { ids: &ids, source, ..Input::default() };
        let read = model.forward_input(&mut tape.pass(mode), input, sequence, &mut state);
        assert_eq!(read.is_ok(), state.positions().iter().all(|&p| p > 0));
        read.map(|_| ())
    };
    let text = |ids, sequence| Some(SourceInput::Text { ids, sequence });
    let kept_one = Some(SourceInput::Kept(&kept));
    for (mode, source, sequence, expected) in [
        (Mode::Read, None, &three, ModelError::NoSource),
        (Mode::Read, text(&ids, two), &three, ModelError::Sources { sources: 2, sequences: 3 }),
        (Mode::Read, kept_one, &two, ModelError::Sources { sources: 3, sequences: 2 }),
        (Mode::Record, kept_one, &three, ModelError::Kept),
        (Mode::Read, text(&[8; 6], three), &three, ModelError::Token { id: 8, vocab_size: 8 }),
        (
            Mode::Read,
            text(&ids[..5], three),
            &three,
            ModelError::Length { got: 5, time: 2, batch: 3 },
        ),
    ] {
        assert_eq!(read(&own, &mut tape, mode, source, sequence), Err(expected));
    }
    assert_eq!(read(&own, &mut tape, Mode::Read, kept_one, &three), Ok(()));
    let mut weights = Vec::new();
    let four = kept.select(&[0, 1, 0, 1]).unwrap();
    let refused = own.source_weights(&tape, &four, &mut weights).unwrap_err();
    assert_eq!(refused, ModelError::Sources { sources: 4, sequences: 6 });
    read(&own, &mut tape, Mode::Read, text(&ids, three), &three).unwrap();
    let refused = own.source_weights(&tape, &kept, &mut weights).unwrap_err();
    assert_eq!(refused, ModelError::NoSource);
    // The weights have changed since.
    let copy = own.clone();
    assert_eq!(
        read(&copy, &mut tape, Mode::Read, kept_one, &three),
        Err(ModelError::SourceOfOther)
    );
    let plain = Model::new(Preset::TanhLstm.config(VOCABULARY), 1).unwrap();
    assert_eq!(
        read(&plain, &mut tape, Mode::Read, text(&ids, three), &three),
        Err(ModelError::NoEncoder)
    );
    assert_eq!(plain.read_source(&mut tape, &ids, &three).err(), Some(ModelError::NoEncoder));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut config = configs().remove(2).1;
        change(&mut config);
        match config.check() {
            Err(ConfigError::Encoder(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let encoder = |config: &mut Config| config.encoder.clone().unwrap();
    assert_eq!(refused(&|config| config.encoder = None), EncoderError::Missing(0));
    let without = |config: &mut Config| config.blocks.iter_mut().for_each(|b| b.cross = None);
    assert_eq!(refused(&without), EncoderError::Unread);
    let narrow = refused(&|config| {
        config.blocks[2].cross.as_mut().unwrap().source_width = 12;
    });
    assert_eq!(narrow, EncoderError::SourceWidth { block: 2, got: 12, expected: 10 });
    let causal = refused(&|config| {
        let block = crate::config::BlockConfig { cross: None, ..config.blocks[0].clone() };
        config.encoder = Some(crate::config::Encoder { blocks: vec![block], ..encoder(config) });
    });
    assert_eq!(causal, EncoderError::Forward { place: "encoder.", index: 0 });
    let crossed = refused(&|config| {
        let cross = config.blocks[0].cross;
        config.encoder.as_mut().unwrap().blocks[1].cross = cross;
    });
    assert_eq!(crossed, EncoderError::Cross { place: "encoder.", index: 1 });
    let block = refused(&|config| {
        let block = &mut config.encoder.as_mut().unwrap().blocks[1];
        (block.working, block.long) = (None, None);
    });
    assert!(matches!(block, EncoderError::Block { index: 1, .. }));
    let two = refused(&|config| config.stacks = crate::config::Stacks::Bicausal);
    assert_eq!(two, EncoderError::Bicausal);
    assert_eq!(refused(&|config| config.features = vec![3]), EncoderError::Inputs);
    let named = refused(&|config| config.heads[0].name = "encoder".into());
    assert_eq!(named, EncoderError::HeadName("encoder"));
    let pointer = |config: &mut Config| {
        config.pointer = Some(Pointer { width: 5, coverage: false });
    };
    let alone = refused(&|config| {
        pointer(config);
        config.encoder = None;
    });
    assert_eq!(alone, EncoderError::PointerAlone);
    let own = refused(&|config| {
        pointer(config);
        config.encoder.as_mut().unwrap().vocab_size = Some(VOCABULARY);
    });
    assert_eq!(own, EncoderError::PointerVocabulary);
    let sentences = Sentences { ends: vec![1], places: 4, question: false, blocks: Vec::new() };
    let of_sentences = refused(&|config| {
        pointer(config);
        config.encoder.as_mut().unwrap().sentences = Some(sentences.clone());
    });
    assert_eq!(of_sentences, EncoderError::PointerSentences);
    let wide = refused(&|config| {
        let mut blocks = encoder(config).blocks;
        (blocks[0].residual, blocks[0].long) = (false, None);
        blocks[0].fusion = crate::config::Fusion::None;
        blocks.truncate(1);
        let sentences = Sentences { blocks, ..sentences.clone() };
        config.encoder.as_mut().unwrap().sentences = Some(sentences);
    });
    assert_eq!(wide, EncoderError::SentenceWidth { got: 12, expected: 10 });
    let masked = refused(&|config| {
        pointer(config);
        config.heads[0].kind = HeadKind::MaskedTokens { tied: true, bias: true };
    });
    assert_eq!(masked, EncoderError::PointerHead);
    let named = refused(&|config| {
        pointer(config);
        config.heads[0].name = "pointer".into();
    });
    assert_eq!(named, EncoderError::HeadName("pointer"));
    let mut config = configs().remove(2).1;
    config.encoder.as_mut().unwrap().sentences = Some(Sentences { places: 0, ..sentences });
    let said = config.check().unwrap_err().to_string();
    assert!(said.contains("`encoder.sentences.places` is 0"), "{said}");
    config.encoder.as_mut().unwrap().sentences = None;
    config.encoder.as_mut().unwrap().blocks[1].feed_forward = Some(0);
    let said = config.check().unwrap_err().to_string();
    assert!(said.contains("`encoder.blocks[1].feed_forward` is 0"), "{said}");
    config.encoder.as_mut().unwrap().blocks[1].feed_forward = Some(150_000);
    config.weights = Format::Int8;
    assert_eq!(config.check(), Err(ConfigError::Int8Width(150_000)));
    assert!(!config.is_language_model() && config.writes_from_source());
}
