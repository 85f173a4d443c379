//! Heads that answer words of several tokens.

use std::sync::Arc;

use longhand_model::{
    Config, Cpu, Gradients, IGNORE, Input, LossOptions, Mode, Model, ModelError, Sequence, Tape,
    Targets, WordVector, Words,
};

use crate::moved::moved;

const VOCAB: usize = 19;
const WIDTH: usize = 8;
const TIME: usize = 7;
const LENGTHS: [u32; 2] = [7, 4];
const BATCH: usize = LENGTHS.len();

/// Three words of the first sequence, one position apart from the third, and two of the second.
const RANGES: [(u32, u32); 6] = [(0, 2), (0, 1), (2, 5), (1, 4), (6, 7), (0, 0)];
const COUNTS: [u32; BATCH] = [3, 2];
/// Row w·B + b.
const TAGS: [u32; 6] = [0, 2, 1, 1, 2, IGNORE];

fn model(stacks: &str, bidirectional: bool, crf: bool) -> Model {
    let json = format!(
        r#"{{"model_type": "longhand", "format": 2, "vocab_size": {VOCAB}, "width": {WIDTH},
        "positions": {{"type": "none"}}, "stacks": "{stacks}",
        "blocks": [{{"long": {{"type": "lstm", "hidden": {WIDTH}, "bidirectional": {bidirectional}}}}}],
        "heads": [{{"type": "tags", "tags": 3, "crf": {crf}}}]}}"#
    );
    moved(Config::from_json(json.as_bytes()).unwrap())
}

fn ids() -> Vec<u32> {
    (0..(TIME * BATCH) as u32).map(|i| (i * i * 3 + i + 2) % VOCAB as u32).collect()
}

fn padded() -> Sequence<'static> {
    Sequence { lengths: Some(&LENGTHS), ..Sequence::new(TIME, BATCH) }
}

fn words(vector: Option<WordVector>) -> Option<Words<'static>> {
    Some(Words { ranges: &RANGES, lengths: &COUNTS, vector })
}

/// The body's output, and its width.
fn output(model: &Model, words: Option<Words<'_>>) -> (Vec<f32>, usize) {
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let ids = ids();
    let input = Input { ids: &ids, words, ..Input::default() };
    let x = model.forward_input(&mut pass, input, &padded(), &mut model.state(BATCH)).unwrap();
    (pass.data(x).to_vec(), pass.width(x))
}

/// The summed loss and its gradient.
fn loss(model: &Model, words: Option<Words<'_>>, tags: &[u32]) -> (f64, Vec<Vec<f32>>) {
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
    let mut pass = tape.pass(Mode::Record);
    let ids = ids();
    let input = Input { ids: &ids, words, ..Input::default() };
    let x = model.forward_input(&mut pass, input, &padded(), &mut model.state(BATCH)).unwrap();
    let options = LossOptions { gradients: Some((1.0, &mut gradients)), ..LossOptions::default() };
    let total = model.loss(&mut pass, x, Targets::Tags(tags, None), options).unwrap();
    pass.backward(&model.weights, &mut gradients).unwrap();
    (total.nats, gradients.iter().map(|g| g.unwrap().to_vec()).collect())
}

#[test]
fn a_word_has_the_row_at_which_each_stack_has_read_it() {
    let (first, last) = (WordVector::First, WordVector::Last);
    let at = |vector: WordVector, backward: bool, (start, end): (u32, u32)| {
        if (vector == first) == backward { end - 1 } else { start }
    };
    for (stacks, bidirectional, suited) in
        [("forward", false, last), ("forward", true, first), ("bicausal", false, last)]
    {
        let model = model(stacks, bidirectional, true);
        let (rows, width) = output(&model, None);
        for vector in [first, last] {
            let (found, _) = output(&model, words(Some(vector)));
            assert_eq!(found.len(), RANGES.len() * width);
            for (r, &range) in RANGES.iter().enumerate().take(5) {
                let row = |backward| {
                    let t = at(vector, backward, range) as usize;
                    &rows[(t * BATCH + r % BATCH) * width..][..width]
                };
                let half = if stacks == "bicausal" { WIDTH } else { width };
                let expected = [&row(false)[..half], &row(true)[half..]].concat();
                assert_eq!(found[r * width..][..width], expected, "{stacks} {vector:?} {r}");
            }
            assert!(found[5 * width..].iter().all(|&x| x == 0.0));
        }
        assert_eq!(output(&model, words(None)).0, output(&model, words(Some(suited))).0);
        let (sums, _) = output(&model, words(Some(WordVector::Sum)));
        let of = |t: usize| &rows[t * BATCH * width..][..width];
        let sum: Vec<f32> = of(0).iter().zip(of(1)).map(|(a, b)| a + b).collect();
        assert_eq!(sums[..width], sum);
    }
}

#[test]
fn words_at_single_positions_have_the_gradients_of_these_positions() {
    let model = model("forward", false, false);
    let mut tags = [IGNORE; TIME * BATCH];
    for (r, &(_, end)) in RANGES.iter().enumerate().take(5) {
        tags[(end as usize - 1) * BATCH + r % BATCH] = TAGS[r];
    }
    let (expected, expected_gradients) = loss(&model, None, &tags);
    let (found, gradients) = loss(&model, words(None), &TAGS);
    assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    for (a, b) in gradients.iter().flatten().zip(expected_gradients.iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn gradients_of_words_are_the_slope_of_their_loss() {
    for (stacks, bidirectional, crf) in
        [("forward", true, true), ("bicausal", false, true), ("bicausal", false, false)]
    {
        for vector in [WordVector::First, WordVector::Last, WordVector::Sum] {
            let mut model = model(stacks, bidirectional, crf);
            let (_, gradients) = loss(&model, words(Some(vector)), &TAGS);
            for (index, gradient) in gradients.iter().enumerate() {
                let squares = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
                if squares.sqrt() < 1e-3 {
                    continue;
                }
                // Along the gradient itself, the slope is its norm.
                let mut at = |distance: f64| {
                    let kept = model.clone();
                    let parameter = model.weights.iter_mut().nth(index).unwrap();
                    for (w, &g) in parameter.data.iter_mut().zip(gradient) {
                        *w += (distance * f64::from(g) / squares.sqrt()) as f32;
                    }
                    let (nats, _) = loss(&model, words(Some(vector)), &TAGS);
                    model = kept;
                    nats
                };
                let slope = (at(0.01) - at(-0.01)) / 0.02;
                let off = (slope - squares.sqrt()).abs();
                assert!(off < 2e-3 * squares.sqrt() + 1e-4, "{stacks} {vector:?} {index}: {off}");
            }
        }
    }
}

#[test]
fn words_that_do_not_fit_are_refused() {
    let model = model("forward", false, true);
    let refused = |ranges: &[(u32, u32)], lengths: &[u32]| {
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut pass = tape.pass(Mode::Read);
        let (ids, words) = (ids(), Some(Words { ranges, lengths, vector: None }));
        let input = Input { ids: &ids, words, ..Input::default() };
        model.forward_input(&mut pass, input, &padded(), &mut model.state(BATCH)).unwrap_err()
    };
    assert_eq!(refused(&RANGES[..5], &COUNTS), ModelError::Words { ranges: 5, sequences: 2 });
    assert_eq!(refused(&RANGES, &COUNTS[..1]), ModelError::Words { ranges: 6, sequences: 2 });
    assert_eq!(refused(&RANGES[..4], &COUNTS), ModelError::Words { ranges: 4, sequences: 2 });
    let mut beyond = RANGES;
    beyond[3] = (3, 5);
    let error = refused(&beyond, &COUNTS);
    assert_eq!(error, ModelError::Word { word: 1, sequence: 1, start: 3, end: 5, length: 4 });
    let mut without = RANGES;
    without[2] = (2, 2);
    assert!(matches!(refused(&without, &COUNTS), ModelError::Word { word: 1, .. }));
}
