use longhand_model::Preset;
use longhand_text::Tokenizer;
use proptest::prelude::*;

use super::*;
use crate::engine::Engine;
use crate::sampler::SamplerSettings;
use crate::testing::{cpu, engine};

/// Generates after a prompt and gives the pieces, the reason, and the session.
fn generate(
    engine: &Engine,
    settings: SamplerSettings,
    options: GenerateOptions,
) -> (Vec<String>, FinishReason, Session) {
    let cpu = cpu();
    let mut reader = engine.reader(&cpu);
    let mut session = Session::new(engine, settings).unwrap();
    session.read(&mut reader, &engine.tokenizer().encode("Once, 从前,").unwrap()).unwrap();
    let mut generation = Generation::new(&mut reader, &mut session, options).unwrap();
    let pieces: Vec<String> = generation.by_ref().map(Result::unwrap).collect();
    let reason = generation.finish_reason().cloned().unwrap();
    (pieces, reason, session)
}

fn most(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, stop: Vec::new() }
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
    let (first, _, mut session) = generate(&engine, hot(7), most(50));
    let second = Generation::new(&mut reader, &mut session, most(51)).unwrap();
    let second: String = second.map(Result::unwrap).collect();
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
        let options =
            GenerateOptions { max_tokens: 80, stop: vec!["\0\0never".into(), stop.clone()] };
        let (pieces, reason, _) = generate(&engine, hot(11), options);
        assert_eq!(pieces.concat(), text[..at]);
        assert_eq!(reason, FinishReason::Stop(stop));
    }
}

#[test]
fn an_empty_stop_text_is_refused() {
    let engine = engine(Preset::Lstm, 3);
    let cpu = cpu();
    let mut reader = engine.reader(&cpu);
    let mut session = Session::new(&engine, hot(1)).unwrap();
    let options = GenerateOptions { max_tokens: 1, stop: vec![String::new()] };
    let error = Generation::new(&mut reader, &mut session, options).err().unwrap();
    assert_eq!(error.to_string(), "the stop text is empty, but must be at least one character");
    let error = Generation::new(&mut reader, &mut session, most(1)).err().unwrap();
    assert!(matches!(error, EngineError::NothingRead));
}

#[test]
fn words_are_set_apart_from_the_prompt() {
    let corpus = || std::iter::once(Ok("one two three\n".to_owned()));
    let kind = longhand_text::TokenizerKind::Word;
    let tokenizer = Tokenizer::train(kind, None, corpus(), &mut |_| {}).unwrap();
    let config = Preset::Lstm.config(tokenizer.vocab_size());
    let engine = Engine::new(longhand_model::Model::new(config, 1).unwrap(), tokenizer).unwrap();
    let cpu = cpu();
    let mut reader = engine.reader(&cpu);
    let mut session = Session::new(&engine, hot(2)).unwrap();
    session.read(&mut reader, &engine.tokenizer().encode("one").unwrap()).unwrap();
    let text: String =
        Generation::new(&mut reader, &mut session, most(5)).unwrap().map(Result::unwrap).collect();
    assert!(text.starts_with([' ', '\n']), "{text:?}");
}

proptest! {
    /// Text given out in pieces, with what may begin a stop text held back, never shows any of it.
    #[test]
    fn a_stop_text_is_never_given_out_in_part(
        text in "[abé中]{0,30}",
        stops in prop::collection::vec("[abé中]{1,5}", 1..4),
    ) {
        let mut held = Held { text: String::new(), stop: stops.clone() };
        let mut given = String::new();
        let mut stopped = None;
        for character in text.chars() {
            let (piece, stop) = held.push(character.encode_utf8(&mut [0; 4]));
            given.push_str(&piece);
            stopped = stop;
            if stopped.is_some() {
                break;
            }
        }
        given.push_str(&held.text);
        // The stop that ends first, as a reader of single characters sees it.
        let ends = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| at + stop.len()));
        match ends.min() {
            None => prop_assert!(stopped.is_none() && given == text),
            Some(end) => {
                let stop = stopped.unwrap();
                prop_assert!(text[..end].ends_with(&stop));
                prop_assert_eq!(&given, &text[..end - stop.len()]);
                prop_assert!(stops.iter().all(|stop| !given.contains(stop.as_str())));
            }
        }
    }
}
