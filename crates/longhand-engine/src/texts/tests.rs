use longhand_model::{Format, Preset};
use longhand_ngram::count;
use longhand_text::{Corpus, Tokenizer, TokenizerKind, Tokens};
use std::sync::Arc;

use super::*;
use crate::sampler::SamplerSettings;
use crate::testing::{cpu, engine, filters, ids};

/// Texts of awkward lengths, in no order: none, one, one past a chunk, several chunks.
fn texts() -> Vec<Vec<u32>> {
    let lengths = [3, 0, 257, 1, 17, 255, 40, 256, 16, 600, 2, 33, 64, 5, 41, 39, 100, 7];
    lengths.iter().zip(1..).map(|(&length, seed)| ids(length, seed)).collect()
}

/// Scores that differ by no more than rounding; int8 rounds activations to codes.
fn close(got: &TextScore, expected: &TextScore, case: &str) {
    assert_eq!((got.tokens, got.max_token), (expected.tokens, expected.max_token), "{case}");
    let most = if case.contains("int8") { 2e-3 } else { 1e-5 };
    let difference = (got.sum - expected.sum).abs() / expected.sum;
    assert!(difference < most, "{case}: {got:?} {expected:?}");
}

fn engines() -> Vec<(&'static str, Arc<Engine>)> {
    let presets = [Preset::LonghandNano, Preset::Xlstm, Preset::TanhLstm, Preset::Lstm];
    let mut engines: Vec<_> =
        presets.iter().map(|&preset| ("a preset", engine(preset, 1))).collect();
    engines.push(("filters", filters(Format::F32, 1)));
    engines.push(("int8 filters", filters(Format::Int8, 1)));
    engines
}

#[test]
fn a_text_has_the_same_score_alone_and_among_others() {
    for (name, engine) in engines() {
        let mut scorer = TextScorer::new(engine.reader(&cpu()), Frame::Line).unwrap();
        let texts = texts();
        let together = scorer.score_ids(&texts).unwrap();
        for (place, text) in texts.iter().enumerate() {
            let alone = scorer.score_ids(std::slice::from_ref(text)).unwrap();
            let length = text.len();
            close(&together[place], &alone[0], &format!("{name}, {length} tokens"));
            assert_eq!(alone[0].tokens, length + 1);
        }
        let mut reversed = texts.clone();
        reversed.reverse();
        let mut again = scorer.score_ids(&reversed).unwrap();
        again.reverse();
        again.iter().zip(&together).for_each(|(again, score)| close(again, score, name));
    }
}

#[test]
fn a_score_is_that_of_the_tokens_of_a_session() {
    for (name, engine) in engines() {
        let mut scorer = TextScorer::new(engine.reader(&cpu()), Frame::Line).unwrap();
        let texts = texts();
        for (text, score) in texts.iter().zip(scorer.score_ids(&texts).unwrap()) {
            let mut expected = TextScore::default();
            let mut session = engine.session(SamplerSettings::default()).unwrap();
            session.read(scorer.reader(), &[10]).unwrap();
            let line = [&text[..], &[10]].concat();
            let take = |id, surprisal: Option<f32>| expected.add(id, surprisal.unwrap());
            session.score(scorer.reader(), &line, take).unwrap();
            assert_eq!(score.tokens, expected.tokens);
            let difference = (score.sum - expected.sum).abs() / expected.sum;
            assert!(difference < 2e-3, "{name}: {score:?} {expected:?}");
        }
    }
}

#[test]
fn a_session_goes_on_from_line_to_line() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 1), cpu());
    let marks = engine.marks(Frame::Line).unwrap();
    assert_eq!(marks, Marks { before: Some(10), after: Some(10) });
    let mut reader = engine.reader(&cpu);
    let mut session = engine.session(SamplerSettings::default()).unwrap();
    let lines = [ids(20, 1), ids(0, 2), ids(30, 3)];
    let scores: Vec<_> =
        lines.iter().map(|line| session.score_text(&mut reader, marks, line).unwrap()).collect();
    assert_eq!(session.position(), 1 + 21 + 1 + 31);
    let mut whole = engine.session(SamplerSettings::default()).unwrap();
    let text: Vec<u32> = lines.iter().flat_map(|line| [&line[..], &[10]].concat()).collect();
    let mut nats = Vec::new();
    whole.read(&mut reader, &[10]).unwrap();
    whole.score(&mut reader, &text, |_, surprisal| nats.push(surprisal.unwrap())).unwrap();
    let mut from = 0;
    for score in scores {
        let part = &nats[from..from + score.tokens];
        from += score.tokens;
        let sum: f64 = part.iter().copied().map(f64::from).sum();
        assert!((score.sum - sum).abs() < 1e-2, "{score:?} {sum}");
        assert_eq!(score.max_token.is_some(), score.tokens > 0);
    }
    assert_eq!(from, nats.len());
}

#[test]
fn an_n_gram_model_begins_at_a_line_break_or_at_a_document() {
    let text = "a b a\nb a b\n".repeat(20);
    let corpus = Corpus::from_text("example", text);
    let tokenizer =
        Tokenizer::train(TokenizerKind::Word, None, corpus.texts(), &mut |_| {}).unwrap();
    let tokens = Tokens::encode(&corpus, &tokenizer, &mut |_| {}).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let model = count(&tokens, 3, &std::env::temp_dir(), &stop).unwrap();
    let end = tokenizer.id(longhand_text::tokenizer::END);
    let ids = tokenizer.encode("a b").unwrap();
    let expected = {
        let before = end.unwrap();
        let mut context = vec![before];
        let mut sum = 0.0;
        for &id in ids.iter().chain(&end) {
            sum -= f64::from(model.log_probability(&context, id));
            context.push(id);
        }
        sum
    };
    let start = -f64::from(model.log_probability(&[model.start()], ids[0]));
    let engine = Engine::new(model, tokenizer).unwrap();
    let line = engine.marks(Frame::Line).unwrap();
    assert_eq!(line, Marks { before: end, after: end });
    let document = engine.marks(Frame::Document).unwrap();
    assert_eq!(document, Marks { before: None, after: end });
    let mut scorer = TextScorer::new(engine.reader(&cpu()), Frame::Line).unwrap();
    let score = scorer.score(&["a b"]).unwrap()[0];
    assert!((score.sum - expected).abs() < 1e-6, "{score:?}");
    let mut of_document = TextScorer::new(engine.reader(&cpu()), Frame::Document).unwrap();
    let first = of_document.score_ids(&[vec![ids[0]]]).unwrap()[0];
    assert_eq!(first.tokens, 2);
    assert!((f64::from(first.max) - start).abs() < 1e-6 || first.sum > start);
    for (marks, scorer) in [(line, &mut scorer), (document, &mut of_document)] {
        let score = scorer.score_ids(std::slice::from_ref(&ids)).unwrap()[0];
        let mut session = engine.session(SamplerSettings::default()).unwrap();
        let carried = session.score_text(scorer.reader(), marks, &ids).unwrap();
        assert_eq!(carried.tokens, score.tokens);
        assert!((carried.sum - score.sum).abs() < 1e-6, "{carried:?} {score:?}");
    }
}

#[test]
fn an_id_out_of_range_is_refused() {
    let engine = engine(Preset::LonghandNano, 1);
    let mut scorer = TextScorer::new(engine.reader(&cpu()), Frame::Document).unwrap();
    assert_eq!(scorer.marks(), Marks::default());
    assert!(scorer.score_ids(&[vec![1, 256]]).is_err());
    // Bytes know no end of a document: nothing predicts the first one.
    let scores = scorer.score_ids(&[vec![], vec![1], vec![1, 2]]).unwrap();
    assert_eq!(scores.iter().map(|score| score.tokens).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!((scores[0].mean(), scores[1].perplexity()), (None, None));
    let mean = scores[2].mean().unwrap();
    assert_eq!(scores[2].perplexity(), Some(mean.exp()));
}
