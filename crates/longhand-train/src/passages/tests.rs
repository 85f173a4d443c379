use std::sync::atomic::AtomicBool;

use longhand_model::config::{HeadConfig, HeadKind, Pooling};
use longhand_model::{Config, Cpu};
use longhand_text::{SpecialTokens, Tokenizer, TokenizerKind};

use super::*;
use crate::masked::NEXT_SENTENCE;
use crate::{Budget, MaskedTokens, Masking, Trainer};

/// Documents of one letter each, so that a letter tells which texts belong together.
fn tokens(tokenizer: &Tokenizer, documents: usize) -> Arc<Tokens> {
    let (mut ids, mut starts) = (Vec::new(), Vec::new());
    for document in 0..documents {
        starts.push(ids.len() as u64);
        let letter = &"abcdefgh"[document % 8..][..1];
        ids.extend(tokenizer.encode(&letter.repeat(6 + document % 5)).unwrap());
    }
    Arc::new(Tokens::from_ids(ids, starts, tokenizer.vocab_size()).unwrap())
}

#[test]
fn masked_tokens_and_the_next_sentence_are_learnt_together() {
    let texts = std::iter::once(Ok("abcdefgh\n".to_owned()));
    let tokenizer = Tokenizer::train(TokenizerKind::Char, None, texts, &mut |_| {}).unwrap();
    let special = [SpecialTokens::MASK, SpecialTokens::SEPARATOR];
    let tokenizer = tokenizer.with_special_tokens(&special).unwrap();
    let reader = MaskedTokens {
        masking: Masking::new(&tokenizer).unwrap(),
        separator: tokenizer.special_tokens().id(SpecialTokens::SEPARATOR),
    };
    let json = format!(
        r#"{{"model_type": "longhand", "format": 2, "vocab_size": {}, "width": 16,
        "positions": {{"type": "none"}}, "blocks": [{{
            "working": {{"type": "attention", "heads": 2, "kv_heads": 2, "head_width": 8, "window": 16,
                         "bidirectional": true}},
            "long": {{"type": "lstm", "hidden": 16, "bidirectional": true}}, "feed_forward": 24
        }}], "heads": [{{"type": "masked-tokens", "tied": true, "bias": true}}]}}"#,
        tokenizer.vocab_size()
    );
    let mut config = Config::from_json(json.as_bytes()).unwrap();
    let kind = HeadKind::SentencePair { classes: 2, pooling: Pooling::Max };
    config.heads.push(HeadConfig { name: NEXT_SENTENCE.into(), kind });
    let settings = Settings {
        batch: 16,
        chunk: 12,
        budget: Budget::Steps(500),
        threads: 1,
        ..Settings::for_examples()
    };
    let (train, valid) = (tokens(&tokenizer, 400), tokens(&tokenizer, 96));
    let objective =
        PassageObjective::new(reader.clone(), &settings, train, Some(valid.clone())).unwrap();
    let model = Model::new(config, 1).unwrap();
    let score = |model: &Model| {
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let (stop, mut unheard) = (AtomicBool::new(false), |_: f64| Ok(()));
        let watch = &mut Watch::new(&stop, &mut unheard);
        evaluate(&reader, (model, &mut tape), valid.clone(), 12, watch).unwrap()
    };
    let before = score(&model);
    let trainer = Trainer::new(settings.clone(), model, objective, settings.cpu()).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let after = score(&outcome.model);
    assert!(after.loss < 0.7 && before.loss > 1.5, "{before:?} {after:?}");
    // Of the pairs of two passages, an eighth are of one letter.
    assert!(after.metrics["next_sentence_accuracy"] > 0.8, "{before:?} {after:?}");
    assert!(after.metrics["next_sentence_loss"] < 0.5, "{after:?}");
    assert_eq!(score(&outcome.model), after, "the choices of an evaluation are always the same");
}
