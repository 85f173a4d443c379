use std::sync::Arc;

use longhand_model::Preset;
use longhand_text::Tokenizer;

use super::*;
use crate::engine::Engine;
use crate::sampler::SamplerSettings;
use crate::testing::{cpu, engine};

/// Generates after a prompt and gives the pieces, the reason, and the session.
fn generate(
    engine: &Arc<Engine>,
    settings: SamplerSettings,
    options: GenerateOptions,
) -> (Vec<String>, FinishReason, Session) {
    let cpu = cpu();
    let mut reader = engine.reader(&cpu);
    let mut session = engine.session(settings).unwrap();
    session.read_text(&mut reader, "Once, 从前,").unwrap();
    let mut generation = Generation::new(session, options).unwrap();
    let pieces: Vec<String> = generation.pieces(&mut reader).map(Result::unwrap).collect();
    let reason = generation.finish_reason().cloned().unwrap();
    (pieces, reason, generation.into_session())
}

fn most(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, ..GenerateOptions::default() }
}

fn hot(seed: u64) -> SamplerSettings {
    SamplerSettings { temperature: 1.5, seed, ..SamplerSettings::default() }
}

#[test]
fn pieces_are_whole_characters_of_the_tokens_that_were_read() {
    let engine = engine(Preset::LonghandNano, 3);
    for seed in 0..5 {
        let (pieces, reason, session) = generate(&engine, hot(seed), most(60));
        assert_eq!(reason, FinishReason::Length);
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        let prompt = engine.tokenizer().encode("Once, 从前,").unwrap().len();
        assert_eq!(session.position(), prompt as u64 + 60);
        let generated: Vec<u32> = session.recent().skip(session.recent().len() - 60).collect();
        let text = engine.tokenizer().decode(&generated).unwrap();
        // Only half a character at the very end may be missing.
        assert!(
            text.trim_end_matches('\u{fffd}')
                .starts_with(pieces.concat().trim_end_matches('\u{fffd}'))
        );
    }
}

#[test]
fn nothing_is_generated_of_no_tokens() {
    let (pieces, reason, _) = generate(&engine(Preset::Lstm, 1), hot(1), most(0));
    assert!(pieces.is_empty());
    assert_eq!(reason, FinishReason::Length);
}

#[test]
fn a_generation_in_two_halves_is_the_one_in_one() {
    let engine = engine(Preset::LonghandNano, 3);
    let cpu = cpu();
    let mut reader = engine.reader(&cpu);
    let (whole, _, _) = generate(&engine, hot(7), most(101));
    let (first, _, session) = generate(&engine, hot(7), most(50));
    let mut second = Generation::new(session, most(51)).unwrap();
    let second: String = second.pieces(&mut reader).map(Result::unwrap).collect();
    assert_eq!(whole.concat(), first.concat() + &second);
}

#[test]
fn a_stop_text_ends_the_text_before_it() {
    let engine = engine(Preset::Lstm, 3);
    let (pieces, _, _) = generate(&engine, hot(11), most(80));
    let text = pieces.concat();
    // Stops that the text is known to hold, some over many tokens.
    let characters: Vec<char> = text.chars().collect();
    for (start, len) in [(0, 1), (5, 2), (9, 4), (12, 7), (3, 11)] {
        let stop: String = characters[start..start + len].iter().collect();
        let at = text.find(&stop).unwrap();
        let options = GenerateOptions { stop: vec!["\0\0never".into(), stop.clone()], ..most(80) };
        let (pieces, reason, _) = generate(&engine, hot(11), options);
        assert_eq!(pieces.concat(), text[..at]);
        assert_eq!(reason, FinishReason::Stop(stop));
    }
}

#[test]
fn an_empty_stop_text_is_refused() {
    let engine = engine(Preset::Lstm, 3);
    let mut reader = engine.reader(&cpu());
    let mut session = engine.session(hot(1)).unwrap();
    let error = Generation::new(session.clone(), most(1)).err().unwrap();
    assert!(matches!(error, EngineError::NothingRead));
    session.read(&mut reader, &[1]).unwrap();
    let options = GenerateOptions { stop: vec![String::new()], ..most(1) };
    let error = Generation::new(session, options).err().unwrap();
    assert_eq!(error.to_string(), "the stop text is empty, but must be at least one character");
}

/// The session after a stop text is the one that read the prompt and the text given out, token by
/// token, and nothing of the stop text; the sampler goes on behind it.
#[test]
fn a_stop_text_is_not_kept_in_the_session() {
    for (preset, seed) in [(Preset::LonghandNano, 3), (Preset::Lstm, 3), (Preset::Xlstm, 4)] {
        let engine = engine(preset, seed);
        let mut reader = engine.reader(&cpu());
        let (pieces, _, whole) = generate(&engine, hot(11), most(60));
        let text = pieces.concat();
        let characters: Vec<char> = text.chars().collect();
        let prompt = engine.tokenizer().encode("Once, 从前,").unwrap().len();
        let drawn: Vec<u32> = whole.recent().skip(whole.recent().len() - 60).collect();
        for (start, len) in [(0, 1), (5, 2), (9, 4), (12, 7), (3, 11), (20, 1)] {
            let stop: String = characters[start..start + len].iter().collect();
            let options = GenerateOptions { stop: vec![stop.clone()], ..most(60) };
            let (pieces, reason, session) = generate(&engine, hot(11), options);
            assert_eq!(reason, FinishReason::Stop(stop.clone()));
            let given = pieces.concat();
            let mut expected = engine.session(hot(11)).unwrap();
            expected.read_text(&mut reader, "Once, 从前,").unwrap();
            // Bytes that are no character are one U+FFFD in the text, or a few: count tokens.
            let read = session.position() as usize - prompt;
            assert_eq!(engine.tokenizer().decode(&drawn[..read]).unwrap(), given, "{stop:?}");
            drawn[..read].iter().for_each(|&id| expected.step(&mut reader, id).unwrap());
            assert_eq!(session.logits(), expected.logits());
            assert!(session.recent().eq(expected.recent()));
            assert!(session.sampler().draws > read as u64);
        }
    }
}

/// A false alarm costs nothing: what began like a stop text is read and given out.
#[test]
fn a_stop_text_that_does_not_come_changes_nothing() {
    let engine = engine(Preset::LonghandNano, 3);
    let (pieces, _, plain) = generate(&engine, hot(11), most(60));
    let text = pieces.concat();
    let begun: Vec<String> =
        text.chars().take(40).map(|character| format!("{character}\0never\0")).collect();
    let options = GenerateOptions { stop: begun, ..most(60) };
    let (pieces, reason, session) = generate(&engine, hot(11), options);
    assert_eq!((pieces.concat(), reason), (text, FinishReason::Length));
    assert_eq!(session.logits(), plain.logits());
    assert_eq!(session.sampler(), plain.sampler());
}

/// A stop text within a token: the part before it is read in the token's place.
#[test]
fn a_token_that_a_stop_text_begins_within_is_read_in_part() {
    let texts = || std::iter::once(Ok("abc abc abc abc\n".repeat(30)));
    let kind = longhand_text::TokenizerKind::Bpe;
    let tokenizer = Tokenizer::train(kind, Some(300), texts(), &mut |_| {}).unwrap();
    let token = (0..tokenizer.vocab_size() as u32)
        .find(|&id| tokenizer.decode(&[id]).is_ok_and(|text| text == "abc"))
        .unwrap();
    let config = Preset::Lstm.config(tokenizer.vocab_size());
    let mut model = longhand_model::Model::new(config, 1).unwrap();
    let bias = model.weights.iter_mut().find(|p| p.name == "head.bias").unwrap();
    bias.data[token as usize] = 1e6;
    let engine = Engine::new(model, tokenizer).unwrap();
    let mut reader = engine.reader(&cpu());
    let options = GenerateOptions { stop: vec!["bcabcab".into()], ..most(9) };
    let (pieces, reason, session) = generate(&engine, hot(1), options);
    assert_eq!((pieces.concat().as_str(), reason), ("a", FinishReason::Stop("bcabcab".into())));
    let mut expected = engine.session(hot(1)).unwrap();
    expected.read_text(&mut reader, "Once, 从前,").unwrap();
    expected.read_text(&mut reader, "a").unwrap();
    assert_eq!(session.logits(), expected.logits());
}

#[test]
fn log_probabilities_are_told_where_asked_for() {
    let engine = engine(Preset::Lstm, 3);
    let mut reader = engine.reader(&cpu());
    let mut session = engine.session(hot(5)).unwrap();
    session.read(&mut reader, &[1, 2]).unwrap();
    let options = GenerateOptions { log_probabilities: Some(3), ..most(9) };
    let mut generation = Generation::new(session.clone(), options).unwrap();
    while let Some(next) = generation.next(&mut reader).unwrap() {
        let expected = -crate::score::surprisal(session.logits(), next.id);
        assert!((next.log_probability.unwrap() - expected).abs() < 1e-5);
        assert_eq!(next.top.len(), 3);
        assert!(next.top.is_sorted_by(|a, b| a.1 >= b.1));
        let most = session.logits().iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(session.logits()[next.top[0].0 as usize], most);
        session.step(&mut reader, next.id).unwrap();
    }
    assert_eq!(generation.tokens(), 9);
    let mut plain = Generation::new(session, most(1)).unwrap();
    let next = plain.next(&mut reader).unwrap().unwrap();
    assert_eq!((next.log_probability, next.top.len()), (None, 0));
    assert_eq!(next.finish, Some(FinishReason::Length));
    assert_eq!(plain.next(&mut reader).unwrap(), None);
}

#[test]
fn words_are_set_apart_from_the_prompt() {
    let corpus = || std::iter::once(Ok("one two three\n".to_owned()));
    let kind = longhand_text::TokenizerKind::Word;
    let tokenizer = Tokenizer::train(kind, None, corpus(), &mut |_| {}).unwrap();
    let config = Preset::Lstm.config(tokenizer.vocab_size());
    let engine = Engine::new(longhand_model::Model::new(config, 1).unwrap(), tokenizer).unwrap();
    let mut reader = engine.reader(&cpu());
    let mut session = engine.session(hot(2)).unwrap();
    session.read_text(&mut reader, "one").unwrap();
    let mut generation = Generation::new(session, most(5)).unwrap();
    let text: String = generation.pieces(&mut reader).map(Result::unwrap).collect();
    assert!(text.starts_with([' ', '\n']), "{text:?}");
}
