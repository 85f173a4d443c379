use longhand_model::Preset;

use super::*;
use crate::sampler::SamplerSettings;
use crate::testing::{cpu, engine, ids};

#[test]
fn surprisals_do_not_depend_on_how_the_text_arrives() {
    let (engine, cpu) = (engine(Preset::LonghandNano, 1), cpu());
    let mut reader = engine.reader(&cpu);
    let text = ids(600, 3);
    let mut score = |size: usize| {
        let mut session = Session::new(&engine, SamplerSettings::default()).unwrap();
        let mut scores = Vec::new();
        for chunk in text.chunks(size) {
            session.score(&mut reader, chunk, |id, loss| scores.push((id, loss))).unwrap();
        }
        scores
    };
    let whole = score(600);
    assert_eq!(whole.iter().map(|(id, _)| *id).collect::<Vec<_>>(), text);
    assert_eq!(whole[0].1, None);
    for size in [1, 17, 256, 257] {
        for ((_, a), (_, b)) in whole.iter().zip(score(size)).skip(1) {
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!((a - b).abs() < 1e-3, "chunks of {size}: {a} {b}");
        }
    }
}

#[test]
fn surprisal_is_the_negative_logarithm_of_the_softmax() {
    let logits = [1.0f32, 2.0, 3.0];
    let sum: f32 = logits.iter().map(|x| x.exp()).sum();
    for (id, x) in (0..).zip(logits) {
        assert!((surprisal(&logits, id) - (sum / x.exp()).ln()).abs() < 1e-6);
    }
    assert_eq!(surprisal(&[1e4, -1e4], 1), 2e4);
}
