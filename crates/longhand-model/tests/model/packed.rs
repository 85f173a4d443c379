//! Weights held for reading: the same model, from memory and from files, and clear refusals.

use std::collections::HashMap;
use std::sync::Arc;

use longhand_model::config::{HeadConfig, HeadKind};
use longhand_model::{
    Config, Cpu, Format, IGNORE, LossOptions, Mode, Model, Precision, Preset, Sequence, State,
    Tape, Targets, WeightsError,
};
use safetensors::SafeTensors;
use tempfile::TempDir;

const VOCABULARY: usize = 37;
const COMPRESSED: [Format; 3] = [Format::Bf16, Format::Int8, Format::Int4];

fn small_presets() -> impl Iterator<Item = Preset> {
    Preset::ALL.into_iter().filter(|preset| {
        use Preset::{BicausalSmall, EncoderSmall, LonghandBase, LonghandLarge, LonghandSmall};
        // A decoder has tests of its own, beside its encoder.
        preset.config(VOCABULARY).encoder.is_none()
            && ![LonghandSmall, LonghandBase, LonghandLarge, BicausalSmall, EncoderSmall]
                .contains(preset)
    })
}

fn model(preset: Preset) -> Model {
    Model::new(preset.config(VOCABULARY), 5).unwrap()
}

fn tied() -> Model {
    let mut config = Preset::LonghandNano.config(VOCABULARY);
    config.heads = vec![HeadConfig::new(HeadKind::LanguageModel { tied: true, bias: true })];
    Model::new(config, 5).unwrap()
}

fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).map(|i| i * i % VOCABULARY as u32).collect()
}

/// Logits at every position of `ids`, read in chunks of `chunk`, and the state after them. Two
/// stacks read everything at once, and give the logits of one and then of the other.
fn logits(model: &Model, ids: &[u32], chunk: usize) -> (Vec<f32>, State) {
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let (mut state, mut all, mut some) = (model.state(1), Vec::new(), Vec::new());
    if model.config().is_bicausal() {
        let mut pass = tape.pass(Mode::Read);
        let sequence = Sequence::new(ids.len(), 1);
        for x in model.forward_both(&mut pass, ids, &sequence, &mut state).unwrap() {
            model.logits(&mut pass, x, 0..ids.len(), &mut some);
            all.extend_from_slice(&some);
        }
        return (all, state);
    }
    for ids in ids.chunks(chunk) {
        let sequence = Sequence::new(ids.len(), 1);
        let mut pass = tape.pass(Mode::Read);
        let x = model.forward(&mut pass, ids, &sequence, &mut state).unwrap();
        let rows = model.heads()[0].rows(&pass, x);
        model.logits(&mut pass, x, 0..rows, &mut some);
        all.extend_from_slice(&some);
    }
    (all, state)
}

/// The largest difference, relative to the largest magnitude.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs())) / most
}

#[test]
fn packing_changes_no_value_and_hardly_a_logit() {
    for preset in small_presets() {
        let plain = model(preset);
        let mut packed = model(preset);
        packed.pack();
        assert_eq!(packed.weights.hash(), plain.weights.hash(), "{preset}");
        assert_eq!(packed.to_bytes(), plain.to_bytes(), "{preset}");
        assert_eq!(packed.weights.count(), plain.weights.count());
        let ids = ids(90);
        let off = difference(&logits(&packed, &ids, 90).0, &logits(&plain, &ids, 90).0);
        assert!(off < 1e-4, "{preset}: {off}");
    }
}

#[test]
fn compressed_models_come_back_from_a_folder_as_they_were() {
    for format in COMPRESSED {
        for plain in small_presets().map(model).chain([tied()]) {
            let folder = TempDir::new().unwrap();
            let small = plain.compress(format);
            small.save(folder.path()).unwrap();
            let copy = Model::load(folder.path()).unwrap();
            assert_eq!(copy.config().weights, format);
            assert_eq!(copy.config(), small.config());
            assert_eq!(copy.weights.hash(), small.weights.hash());
            assert_ne!(copy.weights.hash(), plain.weights.hash());
            assert_eq!(copy.to_bytes(), small.to_bytes());
            assert!(small.to_bytes().len() < plain.to_bytes().len());
            let ids = ids(40);
            assert_eq!(logits(&copy, &ids, 7).0, logits(&small, &ids, 7).0);
        }
    }
}

#[test]
fn fewer_bits_stay_near_the_model() {
    for (format, tolerance) in [(Format::Bf16, 0.03), (Format::Int8, 0.06), (Format::Int4, 0.6)] {
        for plain in small_presets().map(model).chain([tied()]) {
            let ids = ids(60);
            let small = plain.compress(format);
            let off = difference(&logits(&small, &ids, 60).0, &logits(&plain, &ids, 60).0);
            assert!(off < tolerance, "{format:?} {:?}: {off}", plain.config());
        }
    }
}

#[test]
fn chunks_and_steps_agree_as_far_as_activations_are_rounded() {
    // Where two forms of a memory differ in the last place, a rounded activation may differ by one
    // unit of its format.
    for (format, tolerance) in
        [(Format::F32, 1e-4), (Format::Bf16, 0.02), (Format::Int8, 0.04), (Format::Int4, 0.04)]
    {
        for preset in small_presets() {
            let small = model(preset).compress(format);
            if !small.config().is_language_model() {
                continue;
            }
            let ids = ids(130);
            let (whole, _) = logits(&small, &ids, 130);
            for chunk in [1, 33] {
                let off = difference(&logits(&small, &ids, chunk).0, &whole);
                assert!(off < tolerance, "{format:?} {preset} in {chunk}: {off}");
            }
        }
        // A stack of recurrences alone computes each row by itself.
        let plain = model(Preset::Lstm).compress(format);
        let ids = ids(130);
        assert_eq!(logits(&plain, &ids, 1).0, logits(&plain, &ids, 130).0, "{format:?}");
    }
}

#[test]
fn a_cache_in_bf16_takes_half_and_changes_little() {
    for preset in [Preset::LonghandNano, Preset::AttentionLstm, Preset::Transformer] {
        for format in [Format::F32, Format::Int8] {
            let exact = model(preset).compress(format);
            let short = model(preset).compress(format).with_kv_cache(Precision::Bf16).unwrap();
            let carried = |model: &Model| -> usize {
                let state = model.state(1);
                let caches = state.tensors().filter(|tensor| tensor.name.contains(".attention."));
                caches.map(|tensor| tensor.values().len() * tensor.precision.bytes()).sum()
            };
            assert_eq!(2 * carried(&short), carried(&exact), "{preset}");
            let saved = exact.state(1).bytes() - short.state(1).bytes();
            assert_eq!(saved, carried(&short), "{preset}");

            let ids = ids(330);
            let (whole, state) = logits(&short, &ids, 330);
            let off = difference(&whole, &logits(&exact, &ids, 330).0);
            assert!(off > 0.0 && off < 0.04, "{preset} {format:?}: {off}");
            for chunk in [1, 33] {
                let off = difference(&logits(&short, &ids, chunk).0, &whole);
                assert!(off < 0.04, "{preset} {format:?} in {chunk}: {off}");
            }
            for tensor in state.tensors().filter(|tensor| tensor.precision == Precision::Bf16) {
                let values = tensor.values();
                assert!(values.iter().any(|&x| x != 0.0), "{preset}: {}", tensor.name);
                assert!(values.iter().all(|&x| Precision::Bf16.round(x) == x));
            }
            let (positions, since) = (state.positions(), state.since_reset());
            let tensors = state.to_tensors();
            let copy =
                State::from_tensors(short.state_layout(), positions, since, tensors).unwrap();
            for (a, b) in state.tensors().zip(copy.tensors()) {
                assert_eq!(a.values(), b.values(), "{preset}: {}", a.name);
            }

            let folder = TempDir::new().unwrap();
            short.save(folder.path()).unwrap();
            let mut read = Model::load(folder.path()).unwrap();
            read.pack();
            assert_eq!(read.config().kv_cache, Precision::Bf16);
            assert!(logits(&read, &ids, 330).0 == whole, "{preset} {format:?}");
        }
    }
}

#[test]
fn streams_side_by_side_are_streams_alone() {
    for format in Format::ALL {
        let small = model(Preset::Lstm).compress(format);
        let mut tape = Tape::new(Arc::new(Cpu::new(2)));
        let batch = 5;
        let mut step = |ids: &[u32], state: &mut State| {
            let sequence = Sequence::new(1, ids.len());
            let mut pass = tape.pass(Mode::Read);
            let x = small.forward(&mut pass, ids, &sequence, state).unwrap();
            let mut all = Vec::new();
            small.logits(&mut pass, x, 0..ids.len(), &mut all);
            all
        };
        let mut together = small.state(batch);
        let mut alone: Vec<State> = (0..batch).map(|_| small.state(1)).collect();
        for t in 0..6 {
            let ids: Vec<u32> = (0..batch as u32).map(|b| (t * 7 + b * 3) % 37).collect();
            let all = step(&ids, &mut together);
            for (b, alone) in alone.iter_mut().enumerate() {
                let one = step(&ids[b..b + 1], alone);
                assert_eq!(one, all[b * VOCABULARY..(b + 1) * VOCABULARY], "{format:?}");
            }
        }
    }
}

#[test]
fn the_loss_is_that_of_the_logits() {
    for format in Format::ALL {
        let small = model(Preset::LonghandNano).compress(format);
        let ids = ids(100);
        let mut targets: Vec<u32> = ids[1..].to_vec();
        targets.push(IGNORE);
        let mut tape = Tape::new(Arc::new(Cpu::new(2)));
        let sequence = Sequence::new(100, 1);
        let (mut pass, mut state) = (tape.pass(Mode::Read), small.state(1));
        let x = small.forward(&mut pass, &ids, &sequence, &mut state).unwrap();
        let mut losses = vec![0.0; 100];
        let options = LossOptions { losses: Some(&mut losses), ..LossOptions::default() };
        let total = small.loss(&mut pass, x, Targets::Tokens(&targets), options).unwrap();
        let (all, _) = logits(&small, &ids, 100);
        let mut sum = 0.0;
        for (row, &target) in all.chunks(VOCABULARY).zip(&targets[..99]) {
            let exponentials = row.iter().map(|&x| f64::from(x).exp());
            sum += exponentials.sum::<f64>().ln() - f64::from(row[target as usize]);
        }
        assert!((total.nats - sum).abs() < 1e-3, "{format:?}: {} {sum}", total.nats);
        assert_eq!(total.count, 99);
    }
}

#[test]
fn the_gates_of_a_packed_model_can_be_looked_at() {
    let plain = model(Preset::Xlstm);
    let gates = |model: &Model| {
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let (sequence, mut state) = (Sequence::new(20, 1), model.state(1));
        let mut pass = tape.pass(Mode::Record);
        model.forward(&mut pass, &ids(20), &sequence, &mut state).unwrap();
        pass.gates(&model.weights)
    };
    let expected = gates(&plain);
    let mut packed = model(Preset::Xlstm);
    packed.pack();
    let got = gates(&packed);
    assert_eq!(got.len(), 3);
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.memory, expected.memory);
        assert!(difference(&got.forget, &expected.forget) < 1e-4);
        assert!(difference(&got.input, &expected.input) < 1e-4);
    }
}

#[test]
fn what_is_packed_cannot_be_trained_and_says_so() {
    let mut packed = model(Preset::Lstm);
    assert!(packed.check_trainable().is_ok());
    packed.pack();
    assert!(packed.check_trainable().is_err());
    let said = packed.compress(Format::Int8).check_trainable().unwrap_err().to_string();
    assert!(said.contains("int8") && said.contains("cannot be trained"), "{said}");
}

#[test]
fn compressing_what_is_packed_is_compressing_what_it_was() {
    let plain = model(Preset::LonghandNano);
    let mut packed = model(Preset::LonghandNano);
    packed.pack();
    for format in COMPRESSED {
        assert_eq!(packed.compress(format).weights.hash(), plain.compress(format).weights.hash());
    }
}

/// The file of a model with some tensors changed.
fn altered(
    model: &Model,
    change: impl FnOnce(&mut HashMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>),
) -> Vec<u8> {
    let bytes = model.to_bytes();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<_, _> = file
        .tensors()
        .into_iter()
        .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        let view = safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn damaged_scales_are_refused() {
    for format in [Format::Int8, Format::Int4] {
        let small = model(Preset::Lstm).compress(format);
        let scales = "blocks.1.lstm.weight_hh_l0.scales";
        let refuse = |bytes: &[u8]| match Model::from_bytes(small.config().clone(), bytes) {
            Ok(_) => panic!("damaged weights were read"),
            Err(error) => error,
        };
        assert!(Model::from_bytes(small.config().clone(), &small.to_bytes()).is_ok());
        let error = refuse(&altered(&small, |t| drop(t.remove(scales))));
        assert_eq!(error, WeightsError::Missing(scales.into()));
        let error = refuse(&altered(&small, |t| {
            let scales = t.get_mut(scales).unwrap();
            let last = scales.1.len() - 1;
            scales.1[last] -= 1;
            let size = if format == Format::Int8 { 4 } else { 2 };
            scales.2.truncate(size * scales.1.iter().product::<usize>());
        }));
        assert!(matches!(error, WeightsError::Shape { .. }), "{error}");
        let error = refuse(&altered(&small, |t| t.get_mut(scales).unwrap().2[..4].fill(0xff)));
        assert!(matches!(error, WeightsError::NotFinite { .. }), "{error}");
        assert!(error.to_string().contains(scales), "{error}");
        let error = refuse(&altered(&small, |t| {
            t.get_mut("blocks.1.lstm.weight_hh_l0").unwrap().0 = match format {
                Format::Int8 => safetensors::Dtype::U8,
                _ => safetensors::Dtype::I8,
            };
        }));
        assert!(matches!(error, WeightsError::Format { .. }), "{error}");
        let error = refuse(&altered(&small, |t| {
            t.insert("more.scales".into(), (safetensors::Dtype::U8, vec![1], vec![0]));
        }));
        assert_eq!(error, WeightsError::Unknown("more.scales".into()));
    }
}

#[test]
fn weights_of_another_format_are_refused() {
    let plain = model(Preset::Lstm);
    for format in COMPRESSED {
        let small = plain.compress(format);
        assert!(Model::from_bytes(plain.config().clone(), &small.to_bytes()).is_err());
        assert!(Model::from_bytes(small.config().clone(), &plain.to_bytes()).is_err());
    }
    let text = plain.compress(Format::Int8).config().to_json();
    let refused = Config::from_json(text.replace("int8", "int3").as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("int3"), "{refused}");
    let mut config = Preset::Lstm.config(VOCABULARY);
    config.blocks[0].feed_forward = Some(100_000);
    config.check().unwrap();
    config.weights = Format::Int8;
    assert!(config.check().unwrap_err().to_string().contains("65536"));
}
