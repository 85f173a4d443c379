//! The promises of the whole model, tested on every preset and on layers that no preset has: one
//! model in every form, rows and documents that do not see each other, and gradients that are
//! those of the loss.

use std::sync::Arc;

use crate::config::{
    BlockConfig, Cell, CharacterReader, Config, Dropout, HeadKind, LongMemory, Pooling, Stacks,
    WorkingMemory,
};
use crate::{
    Ablation, Characters, Cpu, Gradients, IGNORE, Input, LossOptions, Mode, Model, ModelError,
    Pass, Preset, Sequence, State, Tape, Targets, Var,
};

mod operand;

const VOCAB: usize = 37;

fn ids(count: usize, seed: u32) -> Vec<u32> {
    let mut x = seed;
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 16) % VOCAB as u32
    };
    (0..count).map(next).collect()
}

/// Layers that no preset has: every fusion, order, norm, kind of positions, head and direction.
const OTHERS: [(&str, &str); 17] = [
    (
        "gated",
        r#""width": 12, "norm": "layer", "positions": {"type": "learned", "count": 11},
        "blocks": [{
            "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 6, "window": 9},
            "long": {"type": "rnn", "hidden": 12}, "fusion": "gate", "feed_forward": 20
        }],
        "heads": [{"type": "language-model", "tied": true, "bias": true}]"#,
    ),
    (
        "summed",
        r#""width": 12,
        "blocks": [{
            "working": {"type": "tanh"}, "long": {"type": "slstm", "hidden": 12, "heads": 2},
            "fusion": "sum"
        }],
        "heads": [{"type": "language-model", "bias": true}]"#,
    ),
    (
        "long-first",
        r#""width": 12, "norm": "none", "positions": {"type": "sinusoidal"},
        "blocks": [{
            "working": {"type": "attention", "heads": 2, "kv_heads": 2, "head_width": 5,
                        "window": 7, "rotary": false},
            "long": {"type": "mlstm", "hidden": 18, "heads": 3}, "order": "long-first",
            "fusion": "none", "residual": false
        }, {
            "working": {"type": "tanh"}, "long": {"type": "lstm", "hidden": 7},
            "order": "long-first", "feed_forward": 9
        }],
        "heads": [{"type": "language-model"}]"#,
    ),
    (
        "working-first",
        r#""width": 12, "norm": "layer",
        "blocks": [{
            "working": {"type": "tanh"}, "long": {"type": "rnn", "hidden": 9},
            "order": "working-first", "fusion": "none", "residual": false
        }],
        "heads": [{"type": "classifier", "classes": 3}]"#,
    ),
    (
        "both-ways-mean",
        r#""width": 12, "positions": {"type": "learned", "count": 40},
        "blocks": [{
            "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 8,
                        "window": 4, "bidirectional": true},
            "long": {"type": "lstm", "hidden": 8, "bidirectional": true}, "fusion": "gate",
            "residual": false
        }],
        "heads": [{"type": "classifier", "classes": 3, "pooling": "mean"}]"#,
    ),
    (
        "both-ways-max",
        r#""width": 12, "norm": "layer",
        "blocks": [{
            "long": {"type": "slstm", "hidden": 6, "heads": 3, "bidirectional": true},
            "fusion": "none"
        }, {
            "working": {"type": "attention", "heads": 3, "kv_heads": 3, "head_width": 4,
                        "window": 4, "bidirectional": true},
            "long": {"type": "rnn", "hidden": 5, "bidirectional": true}, "feed_forward": 10
        }],
        "heads": [{"type": "classifier", "classes": 3, "pooling": "max"}]"#,
    ),
    (
        "both-ways-last",
        r#""width": 12, "norm": "none", "positions": {"type": "sinusoidal"},
        "blocks": [{
            "working": {"type": "tanh"},
            "long": {"type": "mlstm", "hidden": 12, "heads": 2, "bidirectional": true}
        }],
        "heads": [{"type": "classifier", "classes": 3}]"#,
    ),
    (
        "both-ways-sum",
        r#""width": 12,
        "blocks": [{
            "working": {"type": "attention", "heads": 4, "kv_heads": 2, "head_width": 4,
                        "window": 4, "rotary": false, "bidirectional": true},
            "long": {"type": "lstm", "hidden": 8, "bidirectional": true}, "fusion": "sum",
            "residual": false
        }],
        "heads": [{"type": "classifier", "classes": 3, "pooling": "mean"}]"#,
    ),
    (
        "features-and-crf",
        r#""width": 12, "features": [5, 9], "norm": "none",
        "blocks": [{"long": {"type": "lstm", "hidden": 6, "bidirectional": true}}],
        "heads": [{"type": "tags", "tags": 4, "crf": true}]"#,
    ),
    (
        "filters-of-the-past",
        r#""width": 12,
        "blocks": [{
            "working": {"type": "convolution", "filters": 5, "shortest": 1, "longest": 4},
            "long": {"type": "lstm", "hidden": 7}, "feed_forward": 10
        }, {
            "working": {"type": "convolution", "filters": 6, "shortest": 2, "longest": 2},
            "fusion": "none", "residual": false
        }],
        "heads": [{"type": "language-model"}]"#,
    ),
    (
        "filters-both-ways",
        r#""width": 12,
        "blocks": [{
            "working": {"type": "convolution", "filters": 4, "shortest": 2, "longest": 3,
                        "bidirectional": true},
            "long": {"type": "lstm", "hidden": 4, "bidirectional": true}, "fusion": "sum",
            "residual": false
        }],
        "heads": [{"type": "tags", "tags": 4, "crf": true}]"#,
    ),
    (
        "characters",
        r#""width": 12, "characters": {"vocabulary": 6, "width": 4, "filters": 5, "kernel": 3},
        "blocks": [{"long": {"type": "lstm", "hidden": 6, "bidirectional": true}}],
        "heads": [{"type": "tags", "tags": 4, "crf": true}]"#,
    ),
    (
        "characters-and-two-stacks",
        r#""width": 12, "characters": {"vocabulary": 6, "width": 4, "filters": 5, "kernel": 2},
        "features": [5], "stacks": "bicausal", "norm": "none",
        "blocks": [{"long": {"type": "lstm", "hidden": 6}}],
        "heads": [{"type": "tags", "tags": 4}]"#,
    ),
    (
        "characters-by-lstm",
        r#""width": 12, "characters": {"type": "lstm", "vocabulary": 6, "width": 4, "hidden": 5},
        "norm": "none",
        "blocks": [{"long": {"type": "lstm", "hidden": 6, "bidirectional": true}}],
        "heads": [{"type": "tags", "tags": 4, "crf": true}]"#,
    ),
    (
        "characters-by-lstm-and-two-stacks",
        r#""width": 12, "characters": {"type": "lstm", "vocabulary": 6, "width": 4, "hidden": 3},
        "features": [5], "stacks": "bicausal", "norm": "none",
        "blocks": [{"long": {"type": "lstm", "hidden": 6}}],
        "heads": [{"type": "tags", "tags": 4}]"#,
    ),
    (
        "adapters",
        r#""width": 12, "adapters": 5,
        "blocks": [{
            "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 6, "window": 4},
            "long": {"type": "lstm", "hidden": 7}, "feed_forward": 10
        }],
        "heads": [{"type": "language-model"}]"#,
    ),
    (
        "two-stacks",
        r#""width": 12, "features": [5], "stacks": "bicausal",
        "positions": {"type": "learned", "count": 11},
        "blocks": [{
            "working": {"type": "attention", "heads": 2, "kv_heads": 1, "head_width": 6, "window": 4},
            "long": {"type": "slstm", "hidden": 12, "heads": 2}
        }, {
            "long": {"type": "lstm", "hidden": 7}, "fusion": "none", "residual": false
        }],
        "heads": [{"type": "tags", "tags": 4, "crf": true}]"#,
    ),
];

/// Every preset whose layers no other one has, narrow but otherwise itself, and the others.
fn configs() -> Vec<(&'static str, Config)> {
    let presets = Preset::ALL.into_iter().filter(|preset| {
        use Preset::{BicausalSmall, EncoderSmall, LonghandBase, LonghandLarge, LonghandSmall};
        // A decoder has tests of its own, beside its encoder.
        preset.config(VOCAB).encoder.is_none()
            && !matches!(
                preset,
                LonghandSmall | LonghandBase | LonghandLarge | BicausalSmall | EncoderSmall
            )
    });
    let presets = presets.map(|preset| (preset.name(), narrow(preset.config(VOCAB))));
    let others = OTHERS.map(|(name, rest)| {
        let json =
            format!(r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCAB}, {rest}}}"#);
        (name, Config::from_json(json.as_bytes()).unwrap())
    });
    presets.chain(others).collect()
}

/// At sizes that no vector divides.
fn narrow(mut config: Config) -> Config {
    config.width = 24;
    for block in &mut config.blocks {
        match &mut block.working {
            Some(WorkingMemory::Attention { head_width, .. }) => *head_width = 6,
            Some(WorkingMemory::Convolution(filters)) => filters.filters = 5,
            _ => {}
        }
        if let Some(long) = &mut block.long {
            *long.hidden_mut() = 24;
        }
        block.feed_forward = block.feed_forward.map(|_| 40);
    }
    config
}

fn models() -> Vec<(&'static str, Model)> {
    configs().into_iter().map(|(name, config)| (name, Model::new(config, 7).unwrap())).collect()
}

fn language_models() -> impl Iterator<Item = (&'static str, Model)> {
    models().into_iter().filter(|(_, model)| model.config().is_language_model())
}

/// Whether its first head predicts tokens, of one stack or of two.
fn predicts_tokens(model: &Model) -> bool {
    let config = model.config();
    config.is_language_model() || config.is_bicausal() || config.fills_masks()
}

/// Characters that follow from the ids: none of some tokens, and up to three of others.
fn spelling(ids: &[u32], batch: usize) -> (Vec<u32>, Vec<(u32, u32)>) {
    let mut sequences = vec![Vec::new(); batch];
    let range = |(row, &id): (usize, &u32)| {
        let own: &mut Vec<u32> = &mut sequences[row % batch];
        let start = own.len() as u32;
        own.extend((0..id % 4).map(|place| (id / 4 + place * place) % 6));
        (start, own.len() as u32)
    };
    let ranges = ids.iter().enumerate().map(range).collect();
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let at = |place: usize| sequences[place % batch].get(place / batch).copied().unwrap_or(0);
    ((0..longest * batch).map(at).collect(), ranges)
}

/// The body's output for ids with features and characters that follow from them.
fn forward(
    model: &Model,
    pass: &mut Pass<'_>,
    ids: &[u32],
    sequence: &Sequence,
    state: &mut State,
) -> Var {
    let feature = |&rows: &usize| ids.iter().map(move |id| id * 7 % rows as u32);
    let features: Vec<u32> = model.config().features.iter().flat_map(feature).collect();
    let (characters, ranges) = spelling(ids, sequence.batch);
    let characters = Characters { ids: &characters, ranges: &ranges };
    let characters = model.config().characters.map(|_| characters);
    let input = Input { ids, features: &features, characters, ..Input::default() };
    model.forward_input(pass, input, sequence, state).unwrap()
}

fn read(
    model: &Model,
    tape: &mut Tape,
    mode: Mode,
    ids: &[u32],
    sequence: &Sequence,
    state: &mut State,
) -> Vec<f32> {
    let mut pass = tape.pass(mode);
    let x = forward(model, &mut pass, ids, sequence, state);
    let mut logits = Vec::new();
    model.logits(&mut pass, x, 0..ids.len(), &mut logits);
    logits
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
        let mut last = model.state(batch);
        let exact = read(&model, &mut tape, Mode::Record, &ids, &whole, &mut last);
        for chunk in [1, 7, 64] {
            let mut state = model.state(batch);
            let mut logits = Vec::new();
            for part in ids.chunks(chunk * batch) {
                let sequence = Sequence::new(part.len() / batch, batch);
                logits.extend(read(&model, &mut tape, Mode::Read, part, &sequence, &mut state));
            }
            let off = difference(&exact, &logits);
            assert!(off < 1e-4, "{name} in chunks of {chunk}: off by {off}");
            assert_eq!(state.positions(), last.positions());
            for (a, b) in state.tensors().zip(last.tensors()) {
                let off = difference(&a.values(), &b.values());
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
        let before = read(&model, &mut tape, Mode::Read, &ids, &sequence, &mut model.state(1));
        ids[60] = (ids[60] + 1) % VOCAB as u32;
        let after = read(&model, &mut tape, Mode::Read, &ids, &sequence, &mut model.state(1));
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
        let mut state = model.state(batch);
        let together = read(&model, &mut tape, Mode::Read, &all, &sequence, &mut state);
        for b in 0..batch {
            let own: Vec<u32> = all.iter().skip(b).step_by(batch).copied().collect();
            let sequence = Sequence::new(time, 1);
            let mut own_state = model.state(1);
            let alone = read(&model, &mut tape, Mode::Read, &own, &sequence, &mut own_state);
            let row: Vec<f32> = (0..time)
                .flat_map(|t| together[(t * batch + b) * VOCAB..][..VOCAB].iter().copied())
                .collect();
            let off = difference(&row, &alone);
            assert!(off < 1e-4, "{name}, row {b}: off by {off}");
            for (a, b) in state.extract(b).unwrap().tensors().zip(own_state.tensors()) {
                assert!(difference(&a.values(), &b.values()) < 1e-4, "{name}: {}", a.name);
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
        let mut last = model.state(1);
        let packed = read(&model, &mut tape, Mode::Record, &ids, &sequence, &mut last);
        let mut apart = Vec::new();
        for part in [0..33, 33..70, 70..100] {
            let sequence = Sequence::new(part.len(), 1);
            let mut state = model.state(1);
            apart.extend(read(&model, &mut tape, Mode::Read, &ids[part], &sequence, &mut state));
            assert!(state.since_reset()[0] <= 37);
        }
        let off = difference(&packed, &apart);
        assert!(off < 1e-4, "{name}: off by {off}");
        assert_eq!((last.positions(), last.since_reset()), (&[100][..], &[30][..]));
        // The carried state is the last document's alone, also where a chunk ends just behind its
        // start.
        let cut = 75;
        let first = Sequence { resets: Some(&resets[..cut]), ..Sequence::new(cut, 1) };
        let mut state = model.state(1);
        let mut carried = read(&model, &mut tape, Mode::Read, &ids[..cut], &first, &mut state);
        let rest = Sequence::new(100 - cut, 1);
        carried.extend(read(&model, &mut tape, Mode::Read, &ids[cut..], &rest, &mut state));
        let off = difference(&carried, &apart);
        assert!(off < 1e-4, "{name}, carried behind a reset: off by {off}");
    }
}

#[test]
fn a_padded_example_is_the_same_alone_and_in_a_batch() {
    let cpu = Arc::new(Cpu::new(2));
    let (time, lengths) = (70, [70u32, 1, 37, 66]);
    for (name, model) in models() {
        if predicts_tokens(&model) && !model.config().fills_masks() {
            continue;
        }
        let batch = lengths.len();
        let ids = ids(time * batch, 37);
        let mut tape = Tape::new(cpu.clone());
        let mut classify = |ids: &[u32], sequence: &Sequence| {
            let (mut pass, mut state) = (tape.pass(Mode::Read), model.state(sequence.batch));
            let x = forward(&model, &mut pass, ids, sequence, &mut state);
            let rows = model.heads()[0].rows(&pass, x);
            let mut logits = Vec::new();
            model.logits(&mut pass, x, 0..rows, &mut logits);
            logits
        };
        let outputs = model.outputs();
        let pools = model.config().head().and_then(HeadKind::pooling).is_some();
        let padded = Sequence { lengths: Some(&lengths), ..Sequence::new(time, batch) };
        let together = classify(&ids, &padded);
        for (b, &length) in lengths.iter().enumerate() {
            let real = length as usize;
            let row = |row: usize| together[row * outputs..][..outputs].iter().copied();
            let logits: Vec<f32> = match pools {
                true => row(b).collect(),
                false => (0..real).flat_map(|t| row(t * batch + b)).collect(),
            };
            let own: Vec<u32> = ids.iter().skip(b).step_by(batch).take(real).copied().collect();
            let alone = classify(&own, &Sequence::new(real, 1));
            let off = difference(&logits, &alone);
            assert!(off < 1e-4, "{name}, row {b}: off by {off}");
        }
    }
}

/// Loss of a pass, and its gradient where wanted.
fn loss(
    model: &Model,
    tape: &mut Tape,
    mode: Mode,
    (ids, targets, sequence): (&[u32], &[u32], &Sequence),
    gradients: Option<&mut Gradients>,
) -> f64 {
    let (mut pass, mut state) = (tape.pass(mode), model.state(sequence.batch));
    let outputs = match model.config().is_bicausal() {
        true => model.forward_both(&mut pass, ids, sequence, &mut state).unwrap().to_vec(),
        false => vec![forward(model, &mut pass, ids, sequence, &mut state)],
    };
    let scale = 1.0 / targets.len() as f32;
    let spans: Vec<(u32, u32)> =
        targets.iter().map(|&first| (first, first.saturating_add(1))).collect();
    let answers = match model.config().head() {
        _ if predicts_tokens(model) => Targets::Tokens(targets),
        Some(HeadKind::Tags { .. }) => Targets::Tags(targets, None),
        Some(HeadKind::Span {}) => Targets::Spans(&spans),
        _ => Targets::Labels(targets),
    };
    let smoothing = 0.1;
    let mut nats = 0.0;
    match gradients {
        None => {
            for x in outputs {
                let options = LossOptions { smoothing, ..LossOptions::default() };
                nats += model.loss(&mut pass, x, answers, options).unwrap().nats;
            }
        }
        Some(gradients) => {
            for x in outputs {
                let wanted = Some((scale, &mut *gradients));
                let options =
                    LossOptions { smoothing, gradients: wanted, ..LossOptions::default() };
                nats += model.loss(&mut pass, x, answers, options).unwrap().nats;
            }
            pass.backward(&model.weights, gradients).unwrap();
        }
    }
    nats / targets.len() as f64
}

/// Tags below 2 of every real position.
fn tags(sequence: &Sequence) -> Vec<u32> {
    let (batch, rows) = (sequence.batch, sequence.rows());
    let tag = |row: usize| {
        let real = sequence.is_real(row / batch, row % batch);
        if real { (row * row / 3 % 2) as u32 } else { IGNORE }
    };
    (0..rows).map(tag).collect()
}

fn tags_each_token(model: &Model) -> bool {
    matches!(model.config().head(), Some(HeadKind::Tags { .. }))
}

/// As many values in −1..1.
fn draws(count: usize, seed: u32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    for (name, model) in models() {
        check_slopes(name, model, Mode::Record);
    }
}

#[test]
fn gradients_of_what_dropout_leaves_are_the_slope_of_its_loss() {
    for (name, config) in configs() {
        // What is dropped is zero at several positions: their largest value is none's alone.
        if pools_by_maximum(&config) {
            continue;
        }
        for locked in [false, true] {
            let model = Model::new(with_dropout(config.clone(), locked), 7).unwrap();
            check_slopes(name, model, Mode::Train { seed: 5 });
        }
    }
}

/// Whether the gradient jumps where a maximum over the positions changes hands.
fn pools_by_maximum(config: &Config) -> bool {
    config.head().and_then(HeadKind::pooling) == Some(Pooling::Max)
}

/// Whether it has a convolution.
fn has_filters(block: &BlockConfig) -> bool {
    matches!(block.working, Some(WorkingMemory::Convolution(_)))
}

/// With something dropped wherever something can be.
fn with_dropout(config: Config, locked: bool) -> Config {
    let recurs = config.blocks.iter().flat_map(|block| block.long).any(|l| l.cell() != Cell::Mlstm);
    let recurrent = if recurs { 0.3 } else { 0.0 };
    let working = if config.blocks.iter().any(BlockConfig::is_parallel_pair) { 0.3 } else { 0.0 };
    let (token, input, memory, block, output) = (0.2, 0.1, 0.2, 0.1, 0.2);
    let dropout = Dropout { token, input, memory, working, block, output, recurrent, locked };
    Config { dropout, ..config }
}

/// The slope of the loss along directions drawn without regard to the gradient is the gradient's
/// product with them, for each parameter by itself.
fn check_slopes(name: &str, mut model: Model, mode: Mode) {
    let config = model.config();
    // Where a maximum changes hands, the slope jumps: of a max pooling, of filters over characters,
    // of an mLSTM's denominator, and of ReLU. One of several ever shorter steps goes past no such place. Elsewhere the second
    // step is for what bends much.
    let jumps = pools_by_maximum(config)
        || matches!(config.characters, Some(CharacterReader::Convolution(_)))
        || config.blocks.iter().any(has_filters)
        || config.blocks.iter().flat_map(|block| block.long).any(|l| l.cell() == Cell::Mlstm);
    let (steps, tolerance): (&[f64], f64) =
        if jumps { (&[0.005, 0.001, 0.0002][..], 1e-2) } else { (&[0.05, 0.02][..], 1e-3) };

    // Away from where training begins, so that everything matters.
    for (seed, parameter) in (100..).zip(model.weights.iter_mut()) {
        let moves = draws(parameter.data.len(), seed);
        parameter.data.iter_mut().zip(moves).for_each(|(w, d)| *w += 0.3 * d);
    }
    let (time, batch) = (20, 3);
    let ids = ids(time * batch, 17);
    let classifies = !predicts_tokens(&model);
    let lengths = classifies.then_some(&[20, 9, 14][..]);
    let sequence = Sequence { lengths, ..Sequence::new(time, batch) };
    let targets: Vec<u32> = if tags_each_token(&model) {
        tags(&sequence)
    } else if classifies {
        vec![0, 1, 1]
    } else {
        ids.iter().enumerate().map(|(i, &id)| if i % 7 == 0 { IGNORE } else { id }).collect()
    };
    let pass = (&ids[..], &targets[..], &sequence);
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
    loss(&model, &mut tape, mode, pass, Some(&mut gradients));
    let flat: Vec<Vec<f32>> = gradients.iter().map(|g| g.unwrap().to_vec()).collect();
    for (index, gradient) in flat.iter().enumerate() {
        let norm: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let parameter = model.weights.iter().nth(index).unwrap();
        let (parameter, data) = (parameter.name.clone(), parameter.data.clone());
        for seed in [1, 2] {
            let direction = draws(gradient.len(), seed + 7 * index as u32);
            let length = direction.iter().map(|&d| f64::from(d).powi(2)).sum::<f64>().sqrt();
            let products = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g * d));
            let expected = products.sum::<f64>() / length;
            let mut at = |distance: f64| {
                let place = model.weights.iter_mut().nth(index).unwrap();
                for ((w, &w0), &d) in place.data.iter_mut().zip(&data[..]).zip(&direction) {
                    *w = (f64::from(w0) + distance * f64::from(d) / length) as f32;
                }
                loss(&model, &mut tape, mode, pass, None)
            };
            let mut seen = Vec::new();
            let agrees = steps.iter().any(|&step| {
                let (near, far) = (at(step) - at(-step), at(2.0 * step) - at(-2.0 * step));
                let slope = (8.0 * near - far) / (12.0 * step);
                seen.push(slope);
                // What the loss, in single precision, is uncertain by.
                let noise = 2e-7 / step;
                (slope - expected).abs() < tolerance * norm + noise
            });
            at(0.0);
            assert!(
                agrees,
                "{name}: along {parameter} the slope is {seen:?}, its gradient says {expected}; \
                 the gradient's norm is {norm}"
            );
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_the_others_the_same() {
    let cpu = Arc::new(Cpu::new(1));
    let mut model = Model::new(Preset::LonghandNano.config(VOCAB), 1).unwrap();
    let (ids, targets) = (ids(30, 1), ids(30, 2));
    let sequence = Sequence::new(30, 1);
    let pass = (&ids[..], &targets[..], &sequence);
    let mut tape = Tape::new(cpu);
    let mut all = Gradients::new(tape.cpu().clone(), &model.weights);
    loss(&model, &mut tape, Mode::Record, pass, Some(&mut all));
    for parameter in model.weights.iter_mut() {
        parameter.group.trainable =
            !parameter.name.starts_with("blocks.0") && parameter.name != "embedding.weight";
    }
    let mut some = Gradients::new(tape.cpu().clone(), &model.weights);
    loss(&model, &mut tape, Mode::Record, pass, Some(&mut some));
    for ((parameter, all), some) in model.weights.iter().zip(all.iter()).zip(some.iter()) {
        assert_eq!(some.is_some(), parameter.group.trainable);
        assert!(some.is_none_or(|some| some == all.unwrap()), "{}", parameter.name);
    }
}

#[test]
fn any_parameter_can_be_frozen_or_trained_by_itself() {
    for (name, config) in configs() {
        let mut model = Model::new(with_dropout(config, true), 1).unwrap();
        let ids = ids(18, 41);
        let sequence = Sequence::new(9, 2);
        let classifies = !predicts_tokens(&model);
        let targets = match classifies {
            _ if tags_each_token(&model) => tags(&sequence),
            true => vec![0, 1],
            false => ids.clone(),
        };
        let pass = (&ids[..], &targets[..], &sequence);
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut run = |model: &Model| {
            let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
            loss(model, &mut tape, Mode::Train { seed: 3 }, pass, Some(&mut gradients));
            gradients
        };
        let all = run(&model);
        for index in 0..model.weights.len() {
            for alone in [false, true] {
                for (i, parameter) in model.weights.iter_mut().enumerate() {
                    parameter.group.trainable = (i == index) == alone;
                }
                let some = run(&model);
                for ((parameter, all), some) in
                    model.weights.iter().zip(all.iter()).zip(some.iter())
                {
                    let name = format!("{name}: {}", parameter.name);
                    assert_eq!(some.is_some(), parameter.group.trainable, "{name}");
                    assert!(some.is_none_or(|some| some == all.unwrap()), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_saved_state_continues_bit_for_bit() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, model) in language_models() {
        let mut tape = Tape::new(cpu.clone());
        let ids = ids(80, 19);
        let head = Sequence::new(50, 1);
        let mut state = model.state(1);
        read(&model, &mut tape, Mode::Read, &ids[..50], &head, &mut state);
        let (positions, since) = (state.positions(), state.since_reset());
        let tensors = state.to_tensors();
        let mut copy =
            State::from_tensors(model.state_layout(), positions, since, tensors).unwrap();
        let tail = Sequence::new(30, 1);
        let a = read(&model, &mut tape, Mode::Read, &ids[50..], &tail, &mut state);
        let b = read(&model, &mut tape, Mode::Read, &ids[50..], &tail, &mut copy);
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn a_memory_that_is_taken_out_contributes_nothing() {
    let cpu = Arc::new(Cpu::new(2));
    let model = Model::new(Preset::LonghandNano.config(VOCAB), 3).unwrap();
    let mut tape = Tape::new(cpu);
    let ids = ids(600, 23);
    let mut changed = ids.clone();
    changed[0] = (ids[0] + 1) % VOCAB as u32;
    let sequence = Sequence::new(600, 1);
    let mut under = |ablation| {
        tape.ablate(ablation);
        [&ids, &changed]
            .map(|ids| read(&model, &mut tape, Mode::Read, ids, &sequence, &mut model.state(1)))
    };
    let (both, short, long) =
        (under(None), under(Some(Ablation::Long)), under(Some(Ablation::Working)));
    assert!(difference(&both[0], &short[0]) > 1e-3 && difference(&both[0], &long[0]) > 1e-3);
    // Two windows of 256 one over the other are all that is left without the long memory.
    let later = 512 * VOCAB..;
    assert_ne!(short[0][..VOCAB], short[1][..VOCAB]);
    assert_eq!(short[0][later.clone()], short[1][later.clone()]);
    assert_ne!(long[0][later.clone()], long[1][later], "the long memory reads on");
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
    let mut run = |mode| read(&model, &mut tape, mode, &ids, &sequence, &mut model.state(2));
    assert_eq!(run(Mode::Read), run(Mode::Record));
    assert_eq!(run(Mode::Train { seed: 4 }), run(Mode::Train { seed: 4 }));
    assert_ne!(run(Mode::Train { seed: 4 }), run(Mode::Train { seed: 5 }));
    assert_ne!(run(Mode::Train { seed: 4 }), run(Mode::Read));
}

#[test]
fn gates_of_every_long_memory_can_be_read_where_nothing_is_padded() {
    let cpu = Arc::new(Cpu::new(2));
    for (name, model) in models() {
        for (time, lengths) in [(15, None), (15, Some(&[15, 4][..])), (7, Some(&[0, 6][..]))] {
            let mut tape = Tape::new(cpu.clone());
            let ids = ids(2 * time, 31);
            let sequence = Sequence { lengths, ..Sequence::new(time, 2) };
            let (mut pass, mut state) = (tape.pass(Mode::Record), model.state(2));
            forward(&model, &mut pass, &ids, &sequence, &mut state);
            let gates = pass.gates(&model.weights);
            let gated = model.config().blocks.iter().flat_map(|block| block.long);
            let gated = gated.filter(|long| long.cell() != Cell::Rnn);
            let memories: usize = gated.map(|long| 1 + usize::from(long.is_bidirectional())).sum();
            let stacks = 1 + usize::from(model.config().stacks == Stacks::Bicausal);
            // The two LSTMs over characters read words, and no text.
            let spelling = |gates: &crate::Gates| gates.memory.starts_with("characters");
            let gates: Vec<crate::Gates> =
                gates.into_iter().filter(|gates| !spelling(gates)).collect();
            assert_eq!(gates.len(), stacks * memories, "{name}");
            let rows = lengths.map_or(2 * time, |lengths| lengths.iter().sum::<u32>() as usize);
            for gates in gates {
                let name = gates.memory.trim_start_matches("backward.");
                assert!(name.starts_with("blocks."), "{}", gates.memory);
                assert_eq!(gates.input.len(), rows * gates.width);
                assert_eq!(gates.forget.len(), rows * gates.width);
                let all = gates.input.iter().chain(&gates.forget);
                let within = |gate: &f32| (0.0..=1.0).contains(gate);
                assert!(all.clone().all(within), "{name}: {}", gates.memory);
                let forget = gates.forget.chunks(gates.width);
                // None is shut for good: what was never written is no gate.
                assert!(forget.into_iter().all(|row| row.iter().any(|gate| *gate > 0.01)));
            }
        }
    }
}

#[test]
fn features_add_to_the_embedding() {
    let (_, mut model) =
        models().into_iter().find(|(name, _)| *name == "features-and-crf").unwrap();
    for (seed, parameter) in (5..).zip(model.weights.iter_mut()) {
        let values = draws(parameter.data.len(), seed);
        parameter.data.copy_from_slice(&values);
    }
    let (time, batch) = (6, 2);
    let ids = ids(time * batch, 3);
    let sequence = Sequence::new(time, batch);
    let logits = |model: &Model, ids: &[u32], features: &[u32]| {
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut pass = tape.pass(Mode::Read);
        let (mut state, input) = (model.state(batch), Input { ids, features, ..Input::default() });
        let x = model.forward_input(&mut pass, input, &sequence, &mut state)?;
        let mut logits = Vec::new();
        model.logits(&mut pass, x, 0..ids.len(), &mut logits);
        Ok::<_, ModelError>(logits)
    };
    let values = |table: usize, rows: u32| ids.iter().map(move |id| (id + table as u32) % rows);
    let features: Vec<u32> = values(0, 5).chain(values(1, 9)).collect();
    let found = logits(&model, &ids, &features).unwrap();
    // The same sums as the rows of one embedding, each position with a token of its own.
    let config = Config { features: Vec::new(), vocab_size: ids.len(), ..model.config().clone() };
    let mut summed = Model::new(config, 1).unwrap();
    let of = |name: &str, row: u32| {
        let table = model.weights.iter().find(|p| p.name == name).unwrap();
        table.data[row as usize * 12..][..12].to_vec()
    };
    for parameter in summed.weights.iter_mut() {
        if parameter.name == "embedding.weight" {
            for (row, &id) in ids.iter().enumerate() {
                let parts = [
                    of("embedding.weight", id),
                    of("features.0.weight", features[row]),
                    of("features.1.weight", features[ids.len() + row]),
                ];
                for d in 0..12 {
                    parameter.data[row * 12 + d] = parts.iter().map(|part| part[d]).sum();
                }
            }
        } else {
            let source = model.weights.iter().find(|p| p.name == parameter.name).unwrap();
            parameter.data.copy_from_slice(&source.data);
        }
    }
    let own: Vec<u32> = (0..ids.len() as u32).collect();
    assert!(difference(&found, &logits(&summed, &own, &[]).unwrap()) < 1e-5);
    let mut packed = model.clone();
    packed.pack();
    assert!(difference(&found, &logits(&packed, &ids, &features).unwrap()) < 1e-5);

    let error = |features: &[u32]| logits(&model, &ids, features).unwrap_err();
    let (got, expected, positions) = (12, 2, 12);
    assert_eq!(error(&features[..12]), ModelError::Features { got, expected, positions });
    let mut outside = features.clone();
    outside[13] = 9;
    assert_eq!(error(&outside), ModelError::Feature { feature: 1, value: 9, rows: 9 });
}

#[test]
fn units_begin_at_timescales_up_to_the_longest() {
    let mut config = Preset::LonghandNano.config(VOCAB);
    for long in config.blocks.iter_mut().filter_map(|block| block.long.as_mut()) {
        *long = LongMemory::Lstm { hidden: 160, bidirectional: false, timescale: Some(256) };
    }
    let model = Model::new(config, 7).unwrap();
    let bias = model.weights.iter().find(|p| p.name == "blocks.0.lstm.bias_ih_l0").unwrap();
    let (input, forget) = bias.data[..320].split_at(160);
    assert!(input.iter().zip(forget).all(|(input, forget)| *input == -forget));
    assert!(forget.iter().all(|forget| (0.0..=255f32.ln()).contains(forget)));
    // Timescales themselves are spread evenly, not their logarithms.
    let mean = forget.iter().map(|forget| forget.exp()).sum::<f32>() / 160.0;
    assert!((mean - 128.0).abs() < 25.0, "{mean}");
    assert!(bias.data[320..].iter().all(|&bias| bias == 0.0));
}

#[test]
fn a_working_memory_is_dropped_for_whole_sequences_in_all_blocks() {
    let mut config = Preset::LonghandNano.config(VOCAB);
    config.dropout = Dropout { working: 0.5, ..Dropout::default() };
    let model = Model::new(config, 7).unwrap();
    let (time, batch) = (6, 16);
    let ids = ids(time * batch, 4);
    let sequence = Sequence::new(time, batch);
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut run = |mode, ablation| {
        tape.ablate(ablation);
        read(&model, &mut tape, mode, &ids, &sequence, &mut model.state(batch))
    };
    let dropped = run(Mode::Train { seed: 3 }, None);
    let silent = run(Mode::Read, Some(Ablation::Working));
    // A stream without working memory is that stream with every block's silenced; both kinds occur.
    let same = |b: usize| {
        (0..time).all(|t| {
            let row = (t * batch + b) * VOCAB..(t * batch + b + 1) * VOCAB;
            difference(&dropped[row.clone()], &silent[row]) < 1e-5
        })
    };
    let count = (0..batch).filter(|&b| same(b)).count();
    assert!((3..=13).contains(&count), "{count} of {batch}");
    let whole = run(Mode::Read, None);
    assert!(difference(&whole, &silent) > 1e-2);
}
