use longhand_model::Preset;

use super::*;
use crate::sampler::SamplerSettings;
use crate::session::Session;
use crate::testing::{cpu, engine};

fn options(distances: &[usize], questions: usize) -> RecallOptions {
    let distances = distances.to_vec();
    RecallOptions { language: Language::English, distances, questions, seed: 7 }
}

#[test]
fn an_untrained_model_recalls_nothing_and_guesses_by_chance() {
    let engine = engine(Preset::LonghandNano, 1);
    let mut seen = 0;
    let results = recall(&engine, &cpu(), &options(&[64, 160], 20), |_| seen += 1).unwrap();
    assert_eq!((results.len(), seen), (2, 2));
    for result in results {
        assert_eq!(result.questions, 20);
        assert!(result.chance > 0.0 && result.chance < 0.5);
        assert!(result.whole.recalled <= 1 && result.whole.chosen < 12, "{result:?}");
        let distance = result.distance as f64;
        assert!((result.mean_distance - distance).abs() <= 0.1 * distance);
        // Bytes of English text are its characters.
        assert_eq!(result.mean_tokens, result.mean_distance);
    }
}

/// Stories read side by side, padded and in chunks, weigh answers as each story alone does.
#[test]
fn a_story_is_remembered_alike_alone_and_beside_others() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 1), cpu());
    let mut reader = engine.reader(&cpu);
    for language in [Language::English, Language::Chinese] {
        let asked: Vec<Asked> = (0..3)
            .map(|i| recall_question(i, 40 + 30 * i as usize, language))
            .map(|question| Asked::new(&engine, &question, language).unwrap())
            .collect();
        let together = read_contexts(&mut reader, &asked).unwrap();
        for (b, asked) in asked.iter().enumerate() {
            let mut session = Session::new(&engine, SamplerSettings::default()).unwrap();
            session.read(&mut reader, &asked.context).unwrap();
            let alone = session.state();
            for (a, b) in alone.tensors().zip(together.extract(b).unwrap().tensors()) {
                let difference = crate::testing::relative(&a.values(), &b.values());
                assert!(difference < 1e-4, "{}: {difference:e}", a.name);
            }
        }
    }
}

#[test]
fn answers_begin_where_they_differ() {
    let engine = engine(Preset::Lstm, 1);
    let question = recall_question(3, 64, Language::English);
    let asked = Asked::new(&engine, &question, Language::English).unwrap();
    assert_eq!(asked.answers.len(), question.candidates.len());
    for (answer, name) in asked.answers.iter().zip(&question.candidates) {
        let ids = [&asked.context[..], answer].concat();
        let text = engine.tokenizer().decode(&ids).unwrap();
        assert_eq!(text, format!("{}{name}.", question.text_before_answer));
        assert!(answer.len() >= 2);
    }
    assert_eq!(question.candidates[asked.right], question.answer);
}

#[test]
fn numbers_beyond_their_bounds_are_refused() {
    let engine = engine(Preset::Lstm, 1);
    for (distance, questions) in [(64, 0), (64, usize::MAX), (usize::MAX, 1)] {
        let error = recall(&engine, &cpu(), &options(&[distance], questions), |_| {}).unwrap_err();
        assert!(matches!(error, EngineError::Option { .. }), "{error}");
    }
}
