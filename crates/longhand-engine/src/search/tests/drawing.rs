//! Texts that are drawn in place of being searched for.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::sampler::{Candidate, Sampler};

fn sampler(temperature: f32, seed: u64) -> SamplerSettings {
    SamplerSettings { temperature, seed, ..SamplerSettings::default() }
}

/// Draws texts of up to 7 tokens, with three ends.
fn drawing(temperature: f32, hypotheses: usize) -> SearchSettings {
    SearchSettings { sampler: Some(sampler(temperature, 5)), hypotheses, ..short() }
}

#[test]
fn at_temperature_0_each_text_is_the_greedy_one() {
    for preset in PRESETS {
        let (model, mut tape) = (decided(preset, 33, 1), tape());
        let prefixes = prefixes(33, &[1, 2, 5, 17, 258, 300]);
        let prompts = prompts(&prefixes);
        let settings = SearchSettings { minimum: 2, no_repeat: 2, ..drawing(0.0, 2) };
        let greedy = SearchSettings { beam: 1, sampler: None, hypotheses: 1, ..settings.clone() };
        let expected = search(&model, &mut tape, &prompts, &greedy).unwrap();
        let found = search(&model, &mut tape, &prompts, &settings).unwrap();
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.len() == 2 && found.iter().all(|it| *it == expected[0]), "{preset}");
        }
    }
}

/// A text and the token that ended it.
type Text = (Vec<u32>, Option<u32>);

/// How often each text comes: the product of the probabilities that the sampler gives its tokens.
fn shares(
    model: &Model,
    tape: &mut Tape,
    prompt: &Prompt<'_>,
    settings: &SearchSettings,
) -> HashMap<Text, f64> {
    let mut sampler = Sampler::new(settings.sampler.unwrap()).unwrap();
    let mut ways: Vec<(Stream, Vec<u32>, f64)> =
        vec![(Stream::after(model, tape, prompt), Vec::new(), 1.0)];
    let mut shares: HashMap<Text, f64> = HashMap::new();
    for _ in 0..settings.maximum.tokens {
        for (stream, ids, share) in std::mem::take(&mut ways) {
            let logits: Vec<f32> = stream.next.iter().map(|&x| x as f32).collect();
            for &Candidate { id, probability } in sampler.distribution(&logits, &[]).unwrap() {
                let share = share * probability;
                if settings.ends.contains(&id) {
                    shares.insert((ids.clone(), Some(id)), share);
                    continue;
                }
                let mut stream = stream.clone();
                stream.read(model, tape, &[id]);
                ways.push((stream, [&ids[..], &[id][..]].concat(), share));
            }
        }
    }
    shares.extend(ways.into_iter().map(|(_, ids, share)| ((ids, None), share)));
    shares
}

#[test]
fn texts_come_as_often_as_they_are_probable() {
    const SEEDS: u64 = 20;
    const TEXTS: usize = 200;
    let (model, mut tape) = (decided(Preset::Lstm, 4, 5), tape());
    let prompt = Prompt { prefix: &[1, 3, 0], ..Prompt::default() };
    let cases = [
        sampler(1.0, 0),
        SamplerSettings { top_p: 0.9, ..sampler(0.7, 0) },
        SamplerSettings { top_k: 3, min_p: 0.05, ..sampler(2.0, 0) },
    ];
    for case in cases {
        let settings = SearchSettings {
            maximum: MostTokens { tokens: 3, per_token: 0.0 },
            ends: vec![2],
            sampler: Some(case),
            hypotheses: TEXTS,
            ..SearchSettings::default()
        };
        let expected = shares(&model, &mut tape, &prompt, &settings);
        assert!((expected.values().sum::<f64>() - 1.0).abs() < 1e-9, "{case:?}");
        let mut counts: HashMap<Text, usize> = HashMap::new();
        for seed in 0..SEEDS {
            let sampler = Some(SamplerSettings { seed, ..case });
            let settings = SearchSettings { sampler, ..settings.clone() };
            let found = search(&model, &mut tape, &[prompt], &settings).unwrap();
            assert_eq!(found[0].len(), TEXTS);
            for text in &found[0] {
                *counts.entry((text.ids.clone(), text.end)).or_default() += 1;
            }
        }
        assert!(counts.keys().all(|text| expected.contains_key(text)), "{case:?}");
        for (text, share) in &expected {
            let count = counts.get(text).copied().unwrap_or(0);
            let found = count as f64 / (SEEDS as usize * TEXTS) as f64;
            // Five standard deviations, where they are largest.
            assert!((found - share).abs() < 0.04, "{case:?} {text:?}: {found} for {share}");
        }
    }
}

/// As for hypotheses that are searched for, and with the same text first however many are drawn.
#[track_caller]
fn check_alone(
    what: &str,
    model: &Model,
    tape: &mut Tape,
    prompts: &[Prompt<'_>],
    settings: &SearchSettings,
) -> Vec<Vec<Hypothesis>> {
    let found = search(model, tape, prompts, settings).unwrap();
    let one = SearchSettings { hypotheses: 1, ..settings.clone() };
    let first = search(model, tape, prompts, &one).unwrap();
    for ((prompt, found), first) in prompts.iter().zip(&found).zip(&first) {
        let alone = search(model, tape, &[*prompt], settings).unwrap();
        assert!(alone[0] == *found, "{what} {}", prompt.prefix.len());
        assert!(first[..] == found[..1], "{what} {}", prompt.prefix.len());
    }
    found
}

#[test]
fn a_text_depends_on_its_prompt_the_seed_and_its_number_alone() {
    for (p, preset) in PRESETS.into_iter().enumerate() {
        for format in [Format::F32, Format::Int8] {
            let mut config = preset.config(40);
            config.weights = format;
            let (model, mut tape) = (packed(config, 3), tape());
            let prefixes = prefixes(40, &[1, 2, 3, 9, 9, 12, 1, 255, 257, 258, 300, 513]);
            let prompts = prompts(&prefixes);
            let (ends, rows) = ((10..20).collect(), [30, 7, 500][p % 3]);
            let settings = SearchSettings { ends, rows, ..drawing(1.5, 3) };
            let what = format!("{preset} {format:?}");
            let found = check_alone(&what, &model, &mut tape, &prompts, &settings);
            // The same prompt has the same texts; other numbers and other seeds have others.
            assert!(found[3] == found[4], "{what}");
            let texts = |found: &[Vec<Hypothesis>], number: usize| -> Vec<Vec<u32>> {
                found.iter().map(|texts| texts[number].ids.clone()).collect()
            };
            assert_ne!(texts(&found, 0), texts(&found, 1), "{what}");
            let other = SearchSettings { sampler: Some(sampler(1.5, 6)), ..settings };
            let other = search(&model, &mut tape, &prompts, &other).unwrap();
            assert_ne!(texts(&found, 0), texts(&other, 0), "{what}");
        }
    }
}

#[test]
fn a_text_does_not_depend_on_the_sources_of_others() {
    let (model, mut tape) = (packed(Preset::EncoderDecoderNano.config(40), 3), tape());
    let (sources, prefixes) = (sources(40, 23), prefixes(40, &[1, 1, 3, 1, 2].repeat(5)));
    let prompts = with_sources(&sources, &prefixes);
    for rows in [20, 500] {
        let ends = (10..20).collect();
        let settings = SearchSettings { ends, rows, align: true, ..drawing(1.5, 4) };
        let found = check_alone("sources", &model, &mut tape, &prompts, &settings);
        for text in found.iter().flatten() {
            assert_eq!(text.alignment.len(), text.ids.len());
        }
        // Sources that differ have random numbers of their own.
        let first: HashSet<&[u32]> = found.iter().map(|texts| &texts[0].ids[..]).collect();
        assert!(first.len() > 5, "{first:?}");
    }
}

#[test]
fn texts_keep_to_the_settings_and_have_the_log_probabilities_of_the_model() {
    let (model, mut tape) = (decided(Preset::Transformer, 13, 2), tape());
    let prefixes = prefixes(13, &[1, 6, 3, 30]);
    let mut prompts = prompts(&prefixes);
    (prompts[1].forced, prompts[2].forced) = (&[3, 5], &[12]);
    let forbidden = vec![0, 1];
    let settings = SearchSettings { no_repeat: 2, minimum: 4, forbidden, ..drawing(2.0, 20) };
    let found = search(&model, &mut tape, &prompts, &settings).unwrap();
    for (prompt, found) in prompts.iter().zip(&found) {
        assert_eq!(found.len(), 20);
        for text in found {
            let all = [&text.ids[..], text.end.as_slice()].concat();
            assert!(text.ids.starts_with(prompt.forced), "{text:?}");
            assert!(text.end.is_none() || text.ids.len() >= 4, "{text:?}");
            assert!(all.len() == 7 || (all.len() < 7 && text.end.is_some()), "{text:?}");
            let written = &text.ids[prompt.forced.len()..];
            assert!(written.iter().all(|&id| id > 1), "{text:?}");
            let grams: HashSet<&[u32]> = text.ids.windows(2).collect();
            assert_eq!(grams.len(), text.ids.len() - 1, "{text:?}");
            let forced = Prompt { forced: &all, ..*prompt };
            let again = log_probabilities(&model, &mut tape, &[forced]).unwrap();
            assert!(again[0] == text.log_probabilities, "{text:?}");
        }
    }
}

/// The penalty falls on the prompt's last tokens too.
#[test]
fn the_sampler_is_that_of_a_session() {
    let engine = testing::engine(Preset::LonghandNano, 1);
    let mut reader = engine.reader(&testing::cpu());
    let text = testing::ids(80, 7);
    let settings = SamplerSettings { repetition_penalty: 3.0, ..SamplerSettings::greedy() };
    let mut session = engine.session(settings).unwrap();
    session.read(&mut reader, &text[..79]).unwrap();
    session.step(&mut reader, text[79]).unwrap();
    let maximum = MostTokens { tokens: 20, per_token: 0.0 };
    let drawing = SearchSettings { sampler: Some(settings), maximum, ..SearchSettings::default() };
    let prompt = Prompt { prefix: &text, ..Prompt::default() };
    let found = reader.search(&[prompt], &drawing).unwrap();
    let continued = session.search(&mut reader, &drawing).unwrap();
    let mut expected = Vec::new();
    for _ in 0..20 {
        let id = session.sample().unwrap();
        session.step(&mut reader, id).unwrap();
        expected.push(id);
    }
    assert_eq!(found[0][0].ids, expected);
    assert_eq!(continued[0].ids, expected);
}

#[test]
fn draws_look_past_dead_ends() {
    for seed in 0..6 {
        let engine = words("ba be bi bo bu da de di do du a cat", seed);
        let mut reader = engine.reader(&testing::cpu());
        let mut session = engine.session(SamplerSettings::default()).unwrap();
        session.read_text(&mut reader, "a cat").unwrap();
        let prefix = engine.tokenizer().encode("a cat").unwrap();
        let prompt = Prompt { prefix: &prefix, ..Prompt::default() };
        let drawing = |regex: &str| SearchSettings {
            sampler: Some(sampler(1.0, seed)),
            hypotheses: 3,
            ..following(&engine, regex, 1)
        };
        let settings = drawing("([bd][aeiou] zip|a cat)");
        let of_session = session.search(&mut reader, &settings).unwrap();
        let of_prompt = reader.search(&[prompt], &settings).unwrap();
        for found in [&of_session, &of_prompt[0]] {
            assert_eq!(found.len(), 3);
            for text in found {
                let written = engine.tokenizer().decode(&text.ids).unwrap();
                assert_eq!((written.trim(), text.matches), ("a cat", Some(true)), "{seed}");
            }
        }
        let error = reader.search(&[prompt], &drawing("[bd][aeiou] zip")).unwrap_err().to_string();
        assert!(error.starts_with("prompt 0 has no hypothesis that follows the rules"), "{error}");
    }
}

#[test]
fn settings_that_nothing_can_be_drawn_with_are_named() {
    let (model, mut tape) = (packed(Preset::Lstm.config(20), 1), tape());
    let prompt = Prompt { prefix: &[1], ..Prompt::default() };
    let cases = [
        (drawing(-1.0, 1), "the temperature is -1"),
        (drawing(1.0, 0), "the number of texts is 0"),
        (drawing(1.0, MOST_BEAM + 1), "the number of texts is 4097"),
    ];
    for (settings, what) in cases {
        let error = search(&model, &mut tape, &[prompt], &settings).unwrap_err().to_string();
        assert!(error.contains(what) && error.lines().count() == 1, "{error}");
    }
    // Where every token is excluded, a text is cut as a hypothesis is.
    let settings = SearchSettings { forbidden: (0..20).collect(), ..drawing(1.0, 2) };
    let found = search(&model, &mut tape, &[prompt], &settings).unwrap();
    assert!(found[0].len() == 2 && found[0].iter().all(|text| text.ids.is_empty()));
}
