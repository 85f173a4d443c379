//! Several heads on one body, against the same model written out in double precision.

use std::collections::HashMap;
use std::sync::Arc;

use longhand_kernel::loss::{self, binary, span};
use longhand_kernel::{crf, linear, pooling};
use longhand_model::config::{HeadKind, Pooling};
use longhand_model::{
    Config, ConfigError, Cpu, Format, Gradients, HeadError, IGNORE, LossOptions, Mode, Model,
    ModelError, Sequence, Tape, Targets,
};

const VOCAB: usize = 7;
const WIDTH: usize = 5;
const TIME: usize = 4;
const LENGTHS: [u32; 3] = [4, 2, 3];
const BATCH: usize = LENGTHS.len();
const SMOOTHING: f64 = 0.1;

/// An LSTM with a residual between two norms, and these heads.
fn config(heads: &str) -> Config {
    let json = format!(
        r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCAB}, "width": {WIDTH},
        "blocks": [{{"long": {{"type": "lstm", "hidden": {WIDTH}}}, "fusion": "none"}}],
        "heads": [{heads}]}}"#
    );
    Config::from_json(json.as_bytes()).unwrap()
}

fn model(heads: &str) -> Model {
    let mut model = Model::new(config(heads), 3).unwrap();
    // Away from where training begins, so that everything matters.
    let mut x = 1u32;
    for parameter in model.weights.iter_mut() {
        for value in parameter.data.iter_mut() {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value += 0.8 * ((x >> 8) as f32 / (1 << 23) as f32 - 1.0);
        }
    }
    model
}

fn sequence() -> Sequence<'static> {
    Sequence { lengths: Some(&LENGTHS), ..Sequence::new(TIME, BATCH) }
}

fn ids() -> Vec<u32> {
    (0..(TIME * BATCH) as u32).map(|i| (i * i * 3 + i + 2) % VOCAB as u32).collect()
}

/// Whether position t of sequence b is padding, by row.
fn padded(row: usize) -> bool {
    row / BATCH >= LENGTHS[row % BATCH] as usize
}

/// Targets of a head that own their values.
enum Wanted {
    Ids(Vec<u32>),
    Flags(Vec<f32>),
    Spans(Vec<(u32, u32)>),
}

impl Wanted {
    fn of(kind: &HeadKind) -> Self {
        let rows = |modulus: usize| {
            let id =
                |row: usize| if padded(row) || row == 4 { IGNORE } else { (row % modulus) as u32 };
            Wanted::Ids((0..TIME * BATCH).map(id).collect())
        };
        match *kind {
            HeadKind::LanguageModel { .. } | HeadKind::MaskedTokens { .. } => rows(VOCAB),
            // A CRF takes whole sequences, and here leaves the last one out.
            HeadKind::Tags { tags, crf: true } => {
                let id = |row: usize| {
                    let left_out = padded(row) || row % BATCH == BATCH - 1;
                    if left_out { IGNORE } else { (row % tags) as u32 }
                };
                Wanted::Ids((0..TIME * BATCH).map(id).collect())
            }
            HeadKind::Tags { tags, crf: false } => rows(tags),
            HeadKind::Classifier { .. } | HeadKind::SentencePair { .. } => {
                Wanted::Ids(vec![0, IGNORE, 1])
            }
            HeadKind::MultiLabel { labels, .. } => {
                Wanted::Flags((0..BATCH * labels).map(|i| [1.0, 0.0, 0.3][i % 3]).collect())
            }
            HeadKind::Span {} => Wanted::Spans(vec![(1, 3), (0, 0), (IGNORE, IGNORE)]),
        }
    }

    fn targets(&self, kind: &HeadKind) -> Targets<'_> {
        match (self, kind) {
            (Wanted::Ids(ids), HeadKind::Tags { .. }) => Targets::Tags(ids, None),
            (Wanted::Ids(ids), HeadKind::Classifier { .. } | HeadKind::SentencePair { .. }) => {
                Targets::Labels(ids)
            }
            (Wanted::Ids(ids), _) => Targets::Tokens(ids),
            (Wanted::Flags(flags), _) => Targets::Flags(flags, None),
            (Wanted::Spans(spans), _) => Targets::Spans(spans),
        }
    }
}

type Parameters = HashMap<String, Vec<f64>>;

fn rms_norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let root = (mean + 1e-6).sqrt();
        x.iter().zip(weight).map(|(x, w)| x / root * w).collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

/// PyTorch's LSTM, one position after another.
fn lstm(parameters: &Parameters, x: &[f64]) -> Vec<f64> {
    let of = |name: &str| &parameters[&format!("blocks.0.lstm.{name}_l0")][..];
    let (input, recurrent) = (of("weight_ih"), of("weight_hh"));
    let (first, second) = (of("bias_ih"), of("bias_hh"));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut y = vec![0.0; x.len()];
    for b in 0..BATCH {
        let (mut h, mut c) = ([0.0; WIDTH], [0.0; WIDTH]);
        for t in 0..TIME {
            let x = &x[(t * BATCH + b) * WIDTH..][..WIDTH];
            let gate = |row: usize| {
                let dot = |w: &[f64], v: &[f64]| w.iter().zip(v).map(|(w, v)| w * v).sum::<f64>();
                let range = row * WIDTH..(row + 1) * WIDTH;
                let sum = dot(&input[range.clone()], x) + dot(&recurrent[range], &h);
                sum + first[row] + second[row]
            };
            let gates: Vec<f64> = (0..4 * WIDTH).map(gate).collect();
            for n in 0..WIDTH {
                let [i, f, g, o] = [0, 1, 2, 3].map(|part| gates[part * WIDTH + n]);
                c[n] = sigmoid(f) * c[n] + sigmoid(i) * g.tanh();
                h[n] = sigmoid(o) * c[n].tanh();
            }
            y[(t * BATCH + b) * WIDTH..][..WIDTH].copy_from_slice(&h);
        }
    }
    y
}

fn body(parameters: &Parameters) -> Vec<f64> {
    let embedding = &parameters["embedding.weight"];
    let row = |id: u32| embedding[id as usize * WIDTH..][..WIDTH].iter().copied();
    let x: Vec<f64> = ids().into_iter().flat_map(row).collect();
    let y = lstm(parameters, &rms_norm(&x, &parameters["blocks.0.norm.weight"]));
    let x: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    rms_norm(&x, &parameters["norm.weight"])
}

/// The summed loss of one head, by the kernel's references.
fn head_loss(parameters: &Parameters, name: &str, kind: &HeadKind, x: &[f64]) -> f64 {
    let pooling = kind.pooling().map(|pooling| match pooling {
        Pooling::Last => pooling::Pooling::Last,
        Pooling::Mean => pooling::Pooling::Mean,
        Pooling::Max => pooling::Pooling::Max,
    });
    let mut pooled = vec![0.0; BATCH * WIDTH];
    let x = match pooling {
        Some(pooling) => {
            pooling::reference::forward(pooling, sequence(), WIDTH, x, &mut pooled);
            &pooled[..]
        }
        None => x,
    };
    let weight = if kind.is_tied() {
        &parameters["embedding.weight"]
    } else {
        &parameters[&format!("{name}.weight")]
    };
    let (rows, outputs) = (x.len() / WIDTH, weight.len() / WIDTH);
    let zeros = vec![0.0; outputs];
    let bias = parameters.get(&format!("{name}.bias")).unwrap_or(&zeros);
    let mut logits = vec![0.0; rows * outputs];
    let size = linear::Size { rows, input: WIDTH, output: outputs };
    linear::reference::forward(size, x, weight, bias, &mut logits);
    match Wanted::of(kind) {
        Wanted::Ids(ids) if is_crf(kind) => {
            let of = |part: &str| &parameters[&format!("{name}.{part}")][..];
            let (transitions, start, end) = (of("transitions"), of("start"), of("end"));
            let scores = crf::Scores { emissions: &logits, transitions, start, end };
            crf::reference::negative_log_likelihood(sequence(), scores, &ids, None, None)
        }
        Wanted::Ids(ids) => {
            let size = loss::Size { rows, width: WIDTH, vocabulary: outputs };
            let mut losses = vec![0.0; rows];
            let layer = loss::Layer { x, weight, bias: Some(bias) };
            let targets = loss::Targets { ids: &ids, smoothing: SMOOTHING };
            loss::reference::cross_entropy(size, layer, targets, &mut losses, None);
            losses.iter().sum()
        }
        Wanted::Flags(flags) => {
            let flags: Vec<f64> = flags.iter().map(|&flag| flag.into()).collect();
            binary::reference::cross_entropy(&logits, &flags, None, SMOOTHING, None)
        }
        Wanted::Spans(spans) => {
            span::reference::cross_entropy(sequence(), &logits, &spans, SMOOTHING, None)
        }
    }
}

fn is_crf(kind: &HeadKind) -> bool {
    matches!(kind, HeadKind::Tags { crf: true, .. })
}

/// The scale of a head's loss.
fn scale(place: usize) -> f32 {
    [0.7, 1.3, 0.5][place % 3]
}

#[test]
fn gradients_of_several_heads_on_one_body_are_central_differences() {
    for heads in [
        r#"{"name": "masked", "type": "masked-tokens", "tied": true, "bias": true},
           {"name": "next", "type": "sentence-pair", "pooling": "mean"}"#,
        r#"{"name": "topics", "type": "multi-label", "labels": 3, "pooling": "max"},
           {"name": "answer", "type": "span"}"#,
        r#"{"name": "words", "type": "tags", "tags": 4},
           {"name": "head", "type": "classifier", "classes": 3}"#,
        r#"{"name": "words", "type": "tags", "tags": 4, "crf": true},
           {"name": "head", "type": "tags", "tags": 1, "crf": true}"#,
        r#"{"name": "a", "type": "language-model"}, {"name": "b", "type": "tags", "tags": 2},
           {"name": "c", "type": "span"}, {"name": "d", "type": "classifier", "classes": 2},
           {"name": "e", "type": "multi-label", "labels": 1}"#,
    ] {
        let model = model(heads);
        for threads in [1, 2] {
            check_gradients(&model, threads);
        }
    }
}

fn check_gradients(model: &Model, threads: usize) {
    let mut tape = Tape::new(Arc::new(Cpu::new(threads)));
    let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
    let mut state = model.state(BATCH);
    let mut pass = tape.pass(Mode::Record);
    let x = model.forward(&mut pass, &ids(), &sequence(), &mut state).unwrap();
    let parameters: Parameters = model
        .weights
        .iter()
        .map(|p| (p.name.clone(), p.data.iter().map(|&x| f64::from(x)).collect()))
        .collect();
    let heads: Vec<(&str, HeadKind)> =
        model.heads().iter().map(|head| (head.name(), *head.kind())).collect();
    for (place, head) in model.heads().iter().enumerate() {
        let wanted = Wanted::of(head.kind());
        let rows = if is_crf(head.kind()) { BATCH } else { head.rows(&pass, x) };
        let mut losses = vec![9.0; rows];
        let mut each = Some(&mut losses[..]);
        if matches!(head.kind(), HeadKind::Span {}) {
            each = None;
        }
        let options = LossOptions {
            smoothing: SMOOTHING as f32,
            losses: each,
            gradients: Some((scale(place), &mut gradients)),
            ..LossOptions::default()
        };
        let targets = wanted.targets(head.kind());
        let total = head.loss(&model.weights, &mut pass, x, targets, options).unwrap();
        let exact = head_loss(&parameters, head.name(), head.kind(), &body(&parameters));
        let off = (total.nats - exact).abs();
        assert!(off < 1e-4 * (1.0 + exact), "{}: {} and {exact}", head.name(), total.nats);
        if !matches!(head.kind(), HeadKind::Span {}) {
            let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
            assert!((sum - total.nats).abs() < 1e-4, "{}: {sum}", head.name());
        }
    }
    tape.backward(&model.weights, &mut gradients).unwrap();
    let value = |parameters: &Parameters| -> f64 {
        let x = body(parameters);
        let losses = heads.iter().enumerate().map(|(place, (name, kind))| {
            f64::from(scale(place)) * head_loss(parameters, name, kind, &x)
        });
        losses.sum()
    };
    let step = 1e-5;
    let mut moved = parameters.clone();
    for (parameter, gradient) in model.weights.iter().zip(gradients.iter()) {
        let gradient = gradient.unwrap();
        for (i, &got) in gradient.iter().enumerate() {
            let mut at = |distance: f64| {
                let at = parameters[&parameter.name][i] + distance;
                moved.get_mut(&parameter.name).unwrap()[i] = at;
                value(&moved)
            };
            let expected = (at(step) - at(-step)) / (2.0 * step);
            at(0.0);
            let off = (f64::from(got) - expected).abs();
            let name = &parameter.name;
            assert!(off < 2e-5 * (1.0 + expected.abs()), "{name}[{i}]: {got} and {expected}");
        }
    }
}

/// Two heads of each kind of target, and an encoder's output.
fn with_read(heads: &str, then: impl FnOnce(&Model, &mut Tape, longhand_model::Var)) {
    let model = model(heads);
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let x = model.forward(&mut pass, &ids(), &sequence(), &mut model.state(BATCH)).unwrap();
    then(&model, &mut pass, x);
}

const ALL: &str = r#"{"name": "lm", "type": "language-model"},
    {"name": "masked", "type": "masked-tokens"},
    {"name": "class", "type": "classifier", "classes": 3, "pooling": "mean"},
    {"name": "pair", "type": "sentence-pair", "pooling": "max"},
    {"name": "flags", "type": "multi-label", "labels": 3},
    {"name": "tags", "type": "tags", "tags": 4}, {"name": "span", "type": "span"},
    {"name": "crf", "type": "tags", "tags": 3, "crf": true}"#;

#[test]
fn targets_that_do_not_fit_their_head_are_told() {
    with_read(ALL, |model, tape, x| {
        let mut refuse = |name: &str, targets: Targets<'_>| {
            let head = model.head(name).unwrap();
            let options = LossOptions::default();
            match head.loss(&model.weights, tape, x, targets, options) {
                Err(ModelError::Head(error)) => error,
                other => panic!("{name}: {other:?}"),
            }
        };
        let rows = vec![IGNORE; TIME * BATCH];
        let spans = [(0, 0); BATCH];
        let others = |name: &str| {
            let all = [
                Targets::Tokens(&rows),
                Targets::Labels(&[0; BATCH]),
                Targets::Ordered(&[0; BATCH]),
                Targets::Flags(&[0.0; 3 * BATCH], None),
                Targets::Tags(&rows, None),
                Targets::Spans(&spans),
            ];
            all.into_iter().filter(|targets| targets.name() != name).collect::<Vec<_>>()
        };
        for (head, fitting) in [
            ("lm", "tokens"),
            ("masked", "tokens"),
            ("class", "labels"),
            ("pair", "labels"),
            ("flags", "flags"),
            ("tags", "tags"),
            ("span", "spans"),
            ("crf", "tags"),
        ] {
            for targets in others(fitting) {
                let got = targets.name();
                let expected = HeadError::Targets { head: head.into(), expected: fitting, got };
                assert_eq!(refuse(head, targets), expected);
            }
        }
        let count = refuse("class", Targets::Labels(&[0, 1]));
        assert_eq!(count, HeadError::Count { head: "class".into(), expected: 3, got: 2 });
        for targets in [Targets::Labels(&[0, 1, 3]), Targets::Ordered(&[0, 1, 3])] {
            let (head, place, target, outputs) = ("class".into(), 2, 3, 3);
            let expected = HeadError::Target { head, place, target, outputs };
            assert_eq!(refuse("class", targets), expected);
        }
        let mut tags = rows.clone();
        // Position 3 of a sequence of two.
        tags[3 * BATCH + 1] = 0;
        let padding = refuse("tags", Targets::Tags(&tags, None));
        assert_eq!(padding, HeadError::Padding { head: "tags".into(), place: 3 * BATCH + 1 });
        for place in [0, 2 * BATCH] {
            let mut tags = rows.clone();
            tags[place] = 1;
            let part = refuse("crf", Targets::Tags(&tags, None));
            assert_eq!(part, HeadError::PartOfTags { head: "crf".into(), sequence: 0 });
        }
        let mut flags = [0.0; 3 * BATCH];
        flags[4] = f32::NAN;
        let flag = refuse("flags", Targets::Flags(&flags, None));
        assert!(matches!(flag, HeadError::Flag { place: 4, .. }), "{flag}");
        for bad in [(2, 1), (0, 2), (2, 2)] {
            let span = refuse("span", Targets::Spans(&[(0, 3), bad, (0, 0)]));
            let (head, (first, last)) = ("span".into(), bad);
            let expected = HeadError::Span { head, sequence: 1, first, last, length: 2 };
            assert_eq!(span, expected);
        }
        let missing = model.head("topic").err().unwrap().to_string();
        assert!(missing.contains("`topic`") && missing.contains("`lm`, `masked`"), "{missing}");
    });
}

#[test]
fn probabilities_are_those_of_the_answers() {
    with_read(ALL, |model, tape, x| {
        for head in model.heads() {
            let rows = head.rows(tape, x);
            let (mut logits, mut probabilities) = (Vec::new(), Vec::new());
            head.logits(&model.weights, tape, x, 0..rows, &mut logits);
            head.probabilities(&model.weights, tape, x, &mut probabilities);
            assert_eq!(probabilities.len(), rows * head.outputs());
            assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{}", head.name());
            let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
            match head.kind() {
                HeadKind::MultiLabel { .. } => {
                    let pairs = probabilities.iter().zip(&logits);
                    assert!(pairs.into_iter().all(|(p, x)| close(*p, 1.0 / (1.0 + (-x).exp()))));
                }
                HeadKind::Tags { crf: true, tags } => {
                    for (row, p) in probabilities.chunks(*tags).enumerate() {
                        let expected = if padded(row) { 0.0 } else { 1.0 };
                        assert!(close(p.iter().sum(), expected), "{row}");
                    }
                }
                HeadKind::Span {} => {
                    for (b, &length) in LENGTHS.iter().enumerate() {
                        for end in 0..2 {
                            let of = |t: usize| probabilities[2 * (t * BATCH + b) + end];
                            assert!(close((0..length as usize).map(of).sum(), 1.0));
                            assert!((length as usize..TIME).all(|t| of(t) == 0.0));
                        }
                    }
                }
                _ => {
                    for (p, x) in
                        probabilities.chunks(head.outputs()).zip(logits.chunks(head.outputs()))
                    {
                        assert!(close(p.iter().sum(), 1.0), "{}", head.name());
                        assert!(close((p[0] / p[1]).ln(), x[0] - x[1]), "{}", head.name());
                    }
                }
            }
        }
    });
}

#[test]
fn the_best_tags_are_the_likeliest_legal_path() {
    let heads = r#"{"name": "tags", "type": "tags", "tags": 3},
        {"name": "crf", "type": "tags", "tags": 3, "crf": true}"#;
    with_read(heads, |model, tape, x| {
        // No tag after itself, and no sequence begins with tag 0.
        let transitions: Vec<bool> = (0..9).map(|place| place % 4 != 0).collect();
        let (start, end) = ([false, true, true], [true; 3]);
        let legal = crf::Legal { transitions: &transitions, start: &start, end: &end };
        for head in model.heads() {
            let mut logits = Vec::new();
            head.logits(&model.weights, tape, x, 0..TIME * BATCH, &mut logits);
            for legal in [None, Some(legal)] {
                let mut found = Vec::new();
                head.best_tags(&model.weights, &sequence(), &logits, legal, &mut found);
                for (b, &length) in LENGTHS.iter().enumerate() {
                    let n = length as usize;
                    let mut likeliest = (f64::INFINITY, Vec::new());
                    for number in 0..3_usize.pow(n as u32) {
                        let path: Vec<u32> =
                            (0..n).map(|t| (number / 3_usize.pow(t as u32) % 3) as u32).collect();
                        let steps = path.windows(2).all(|pair| pair[0] != pair[1]);
                        if legal.is_some() && !(steps && path[0] != 0) {
                            continue;
                        }
                        let mut targets = vec![IGNORE; TIME * BATCH];
                        (0..n).for_each(|t| targets[t * BATCH + b] = path[t]);
                        let targets = Targets::Tags(&targets, legal);
                        let options = LossOptions::default();
                        let loss = head.loss(&model.weights, tape, x, targets, options).unwrap();
                        if loss.nats < likeliest.0 {
                            likeliest = (loss.nats, path);
                        }
                    }
                    let own: Vec<u32> = (0..n).map(|t| found[t * BATCH + b]).collect();
                    assert_eq!(own, likeliest.1, "{}, {}", head.name(), legal.is_some());
                }
            }
            for legal in [None, Some(legal)] {
                let mut probabilities = logits.clone();
                head.tag_probabilities(&model.weights, &sequence(), legal, &mut probabilities);
                for (row, p) in probabilities.chunks(3).enumerate() {
                    let expected = if padded(row) { 0.0 } else { 1.0 };
                    assert!((p.iter().sum::<f32>() - expected).abs() < 1e-5, "{row}");
                    // The first positions come first.
                    let begins_illegally = row < BATCH && legal.is_some();
                    assert_eq!(p[0] == 0.0, begins_illegally || padded(row), "{row}");
                }
            }
        }
    });
}

#[test]
fn one_head_is_the_same_alone_and_beside_others() {
    let whole = model(ALL);
    for (place, head) in whole.heads().iter().enumerate() {
        let config =
            Config { heads: vec![whole.config().heads[place].clone()], ..whole.config().clone() };
        let mut alone = Model::new(config, 9).unwrap();
        for parameter in alone.weights.iter_mut() {
            let source = whole.weights.iter().find(|p| p.name == parameter.name).unwrap();
            parameter.data.copy_from_slice(&source.data);
        }
        let read = |model: &Model| {
            let mut tape = Tape::new(Arc::new(Cpu::new(1)));
            let mut pass = tape.pass(Mode::Read);
            let mut state = model.state(BATCH);
            let x = model.forward(&mut pass, &ids(), &sequence(), &mut state).unwrap();
            let mut logits = Vec::new();
            let head = model.head(head.name()).unwrap();
            let rows = head.rows(&pass, x);
            head.logits(&model.weights, &mut pass, x, 0..rows, &mut logits);
            logits
        };
        assert_eq!(read(&alone), read(&whole), "{}", head.name());
    }
}

#[test]
fn a_saved_and_a_packed_model_keep_every_head() {
    let whole = model(ALL);
    let folder = tempfile::tempdir().unwrap();
    whole.save(folder.path()).unwrap();
    let loaded = Model::load(folder.path()).unwrap();
    assert_eq!(loaded.config(), whole.config());
    let mut packed = whole.clone();
    packed.pack();
    let losses = |model: &Model| -> Vec<f64> {
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut pass = tape.pass(Mode::Read);
        let mut state = model.state(BATCH);
        let x = model.forward(&mut pass, &ids(), &sequence(), &mut state).unwrap();
        let loss = |head: &longhand_model::Head| {
            let wanted = Wanted::of(head.kind());
            let targets = wanted.targets(head.kind());
            head.loss(&model.weights, &mut pass, x, targets, LossOptions::default()).unwrap().nats
        };
        model.heads().iter().map(loss).collect()
    };
    assert_eq!(losses(&loaded), losses(&whole));
    for (a, b) in losses(&packed).into_iter().zip(losses(&whole)) {
        assert!((a - b).abs() < 1e-4 * (1.0 + b), "{a} and {b}");
    }
    let small = whole.compress(Format::Int8);
    for (a, b) in losses(&small).into_iter().zip(losses(&whole)) {
        assert!((a - b).abs() < 0.1 * (1.0 + b), "{a} and {b}");
    }
}

#[test]
fn a_gradient_of_a_packed_head_is_refused_whatever_the_head() {
    let mut packed = model(ALL);
    packed.pack();
    for head in packed.heads() {
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut gradients = Gradients::new(tape.cpu().clone(), &packed.weights);
        let mut pass = tape.pass(Mode::Record);
        let mut state = packed.state(BATCH);
        let x = packed.forward(&mut pass, &ids(), &sequence(), &mut state).unwrap();
        let mut loss = |head: &longhand_model::Head, gradients: Option<(f32, &mut Gradients)>| {
            let wanted = Wanted::of(head.kind());
            let options = LossOptions { gradients, ..LossOptions::default() };
            let targets = wanted.targets(head.kind());
            head.loss(&packed.weights, &mut pass, x, targets, options).unwrap();
        };
        loss(head, Some((1.0, &mut gradients)));
        // Another head that wants none does not undo it.
        loss(&packed.heads()[0], None);
        let error = pass.backward(&packed.weights, &mut gradients).unwrap_err();
        assert!(matches!(error, ModelError::Frozen(_)), "{}: {error}", head.name());
    }
}

#[test]
fn a_tag_head_without_a_crf_is_written_as_before() {
    let tags = config(r#"{"type": "tags", "tags": 3}"#);
    assert_eq!(tags.head(), Some(&HeadKind::Tags { tags: 3, crf: false }));
    assert!(!tags.to_json().contains("crf"), "{}", tags.to_json());
    let crf = config(r#"{"type": "tags", "tags": 3, "crf": true}"#);
    assert_eq!(Config::from_json(crf.to_json().as_bytes()).unwrap(), crf);
    assert_ne!(crf.hash(), tags.hash());
}

#[test]
fn heads_that_cannot_be_are_refused() {
    let refuse = |heads: &str| {
        let mut value = serde_json::to_value(config(r#"{"type": "language-model"}"#)).unwrap();
        value["heads"] = serde_json::from_str(heads).unwrap();
        Config::from_json(value.to_string().as_bytes()).unwrap_err()
    };
    let same = r#"[{"type": "span"}, {"type": "tags", "tags": 3}]"#;
    assert_eq!(refuse(same), ConfigError::SameHeadName("head".into()));
    for name in ["", "norm", "blocks", "a.b", "Ä"] {
        let error = refuse(&format!(r#"[{{"name": "{name}", "type": "span"}}]"#));
        assert_eq!(error, ConfigError::HeadName(name.into()));
    }
    let size = refuse(r#"[{"type": "tags", "tags": 0}]"#).to_string();
    assert!(size.contains("`tags` of the head `head`") && size.contains("from 1"), "{size}");
    let unknown = refuse(r#"[{"type": "span", "tags": 3}]"#).to_string();
    assert!(unknown.contains("unknown field `tags`"), "{unknown}");
    assert!(refuse("[]").to_string().contains("number of heads"));
    assert!(refuse(r#"[{"type": "crf"}]"#).to_string().contains("crf"));
}

#[test]
fn the_norm_behind_the_pooling_needs_one_head_that_pools() {
    use longhand_model::config::FinalNorm;
    let check =
        |heads: &str| Config { final_norm: FinalNorm::AfterPooling, ..config(heads) }.check();
    let pooled = r#"{"type": "classifier", "classes": 2, "pooling": "max"}"#;
    assert_eq!(check(pooled), Ok(()));
    for heads in
        [r#"{"type": "span"}"#.to_owned(), format!(r#"{pooled}, {{"name": "s", "type": "span"}}"#)]
    {
        assert_eq!(check(&heads), Err(ConfigError::FinalNorm));
    }
}

#[test]
fn a_trained_body_takes_a_new_head() {
    let trained = model(r#"{"type": "language-model", "tied": true, "bias": true}"#);
    let heads = r#"{"name": "topics", "type": "multi-label", "labels": 3},
        {"name": "head", "type": "tags", "tags": 3, "crf": true}"#;
    let mut model = Model::new(config(heads), 11).unwrap();
    let drawn = model.take_over(&trained, &[]);
    let topics = ["topics.weight", "topics.bias"];
    let head = ["head.weight", "head.bias", "head.transitions", "head.start", "head.end"];
    assert_eq!(drawn, [&topics[..], &head].concat());
    for parameter in model.weights.iter().filter(|p| !drawn.contains(&p.name)) {
        let source = trained.weights.iter().find(|source| source.name == parameter.name).unwrap();
        assert_eq!(parameter.data[..], source.data[..], "{}", parameter.name);
    }
}
