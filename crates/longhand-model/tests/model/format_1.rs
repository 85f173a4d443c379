//! Model folders that the program wrote in format 1 of the configuration. Beside each model is
//! `expected.safetensors`: the logits that the program of that time computed, and its hashes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhand_model::config::{FinalNorm, HeadConfig, HeadKind, LongMemory, Pooling};
use longhand_model::{Config, Cpu, Mode, Model, Sequence, Tape};
use safetensors::SafeTensors;
use serde_json::json;

/// Tokens that each model reads, in two streams.
const TIME: usize = 12;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format-1").join(name)
}

fn logits(model: &Model, lengths: Option<&[u32]>) -> Vec<f32> {
    let ids: Vec<u32> = (0..2 * TIME as u32).map(|i| (i * i * 7 + 3 * i + 1) % 11).collect();
    let sequence = Sequence { lengths, ..Sequence::new(TIME, 2) };
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut pass = tape.pass(Mode::Read);
    let x = model.forward(&mut pass, &ids, &sequence, &mut model.state(2)).unwrap();
    let mut logits = Vec::new();
    let rows = model.heads()[0].rows(&pass, x);
    model.logits(&mut pass, x, 0..rows, &mut logits);
    logits
}

/// The largest difference from the logits of that time; the hashes must be equal.
fn difference(name: &str, model: &Model, lengths: Option<&[u32]>) -> f32 {
    let file = fs_err::read(folder(name).join("expected.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let hashes = header.metadata().clone().unwrap();
    assert_eq!(model.config().hash(), hashes["config_hash"], "{name}");
    assert_eq!(model.weights.hash(), hashes["weights_hash"], "{name}");
    let expected = SafeTensors::deserialize(&file).unwrap();
    let words = expected.tensor("logits").unwrap().data().as_chunks::<4>().0;
    let got = logits(model, lengths);
    assert_eq!(got.len(), words.len(), "{name}");
    let pairs = got.iter().zip(words.iter().map(|&word| f32::from_le_bytes(word)));
    pairs.fold(0.0, |most, (a, b)| most.max((a - b).abs()))
}

#[test]
fn a_language_model_keeps_its_logits() {
    let model = Model::load(&folder("language-model")).unwrap();
    let config = model.config();
    let head = HeadConfig::new(HeadKind::LanguageModel { tied: true, bias: true });
    assert_eq!((&config.heads[..], config.final_norm), (&[head][..], FinalNorm::BeforeHeads));
    let lstm = LongMemory::Lstm { hidden: 8, bidirectional: false, timescale: Some(16) };
    let slstm = LongMemory::Slstm { hidden: 8, heads: 2, bidirectional: false };
    assert_eq!(
        config.blocks.iter().flat_map(|block| block.long).collect::<Vec<_>>(),
        [lstm, slstm]
    );
    let off = difference("language-model", &model, None);
    assert!(off < 1e-6, "off by {off}");
}

#[test]
fn a_classifier_keeps_its_answers_whatever_it_pools_by() {
    for (name, pooling, final_norm) in [
        ("classifier-last", Pooling::Last, FinalNorm::BeforeHeads),
        ("classifier-mean", Pooling::Mean, FinalNorm::AfterPooling),
        ("classifier-max", Pooling::Max, FinalNorm::AfterPooling),
    ] {
        let model = Model::load(&folder(name)).unwrap();
        let head = HeadConfig::new(HeadKind::Classifier { classes: 3, pooling });
        assert_eq!(
            (&model.config().heads[..], model.config().final_norm),
            (&[head][..], final_norm)
        );
        let off = difference(name, &model, Some(&[12, 7]));
        assert!(off < 1e-6, "{name}: off by {off}");
        // Pooling behind the norm, as new models do, is another function.
        let config = Config { final_norm: FinalNorm::BeforeHeads, ..model.config().clone() };
        let other = Model::from_bytes(config, &model.to_bytes()).unwrap();
        let off = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs()))
        };
        let lengths = Some(&[12, 7][..]);
        let changed = off(&logits(&model, lengths), &logits(&other, lengths)) > 1e-3;
        assert_eq!(changed, pooling != Pooling::Last, "{name}");
    }
}

#[test]
fn what_is_saved_again_is_of_todays_format_and_the_same_model() {
    for name in ["language-model", "classifier-last", "classifier-mean", "classifier-max"] {
        let old = Model::load(&folder(name)).unwrap();
        let copy = tempfile::tempdir().unwrap();
        old.save(copy.path()).unwrap();
        let text = fs_err::read_to_string(copy.path().join("config.json")).unwrap();
        assert!(text.contains("\"format\": 2"), "{text}");
        let new = Model::load(copy.path()).unwrap();
        assert_eq!(new.config(), old.config());
        assert_eq!(new.config().hash(), old.config().hash());
        assert_eq!(new.weights.hash(), old.weights.hash());
    }
}

#[test]
fn a_configuration_that_format_1_cannot_express_has_a_hash_of_its_own() {
    let old = Model::load(&folder("classifier-max")).unwrap().config().clone();
    let mut seen = vec![old.hash()];
    let pooled_later = Config { final_norm: FinalNorm::BeforeHeads, ..old.clone() };
    let mut renamed = old.clone();
    renamed.heads[0].name = "topic".into();
    for config in [pooled_later, renamed] {
        config.check().unwrap();
        assert!(!seen.contains(&config.hash()));
        seen.push(config.hash());
    }
}

#[test]
fn what_format_1_refused_is_still_refused() {
    let text = fs_err::read_to_string(folder("language-model").join("config.json")).unwrap();
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        Config::from_json(value.to_string().as_bytes()).unwrap_err().to_string()
    };
    let said = refused(&|v| v["blocks"][0]["long"]["heads"] = 4.into());
    assert!(said.contains("block 0") && said.contains("slstm and mlstm"), "{said}");
    let said = refused(&|v| v["blocks"][1]["long"]["timescale"] = 4.into());
    assert!(said.contains("block 1") && said.contains("belongs to lstm"), "{said}");
    let said = refused(&|v| v["blocks"][0]["long"]["cell"] = "gru".into());
    assert!(said.contains("gru"), "{said}");
    let said = refused(&|v| v["heads"] = json!([]));
    assert!(said.contains("unknown field `heads`"), "{said}");
    let said = refused(&|v| v["head"]["type"] = "span".into());
    assert!(said.contains("span"), "{said}");
    let said = refused(&|v| v["format"] = 3.into());
    assert!(said.contains("format 3") && said.contains("1 and 2"), "{said}");
}

#[test]
fn overrides_may_have_the_keys_of_format_1() {
    let config = json!({"heads": [{"name": "head", "type": "language-model", "tied": false}]});
    let upgrade = |overrides: serde_json::Value| {
        let overrides = overrides.as_object().unwrap().clone();
        serde_json::Value::from(Config::upgrade_overrides(&config, overrides))
    };
    assert_eq!(
        upgrade(json!({"head": {"type": "classifier", "classes": 3}, "width": 8})),
        json!({"heads": [{"type": "classifier", "classes": 3}], "width": 8})
    );
    assert_eq!(
        upgrade(json!({"head": {"tied": true}})),
        json!({"heads": [{"name": "head", "type": "language-model", "tied": true}]})
    );
    assert_eq!(
        upgrade(json!({"blocks": [{"long": {"cell": "rnn", "hidden": 5, "heads": 1}}]})),
        json!({"blocks": [{"long": {"type": "rnn", "hidden": 5}}]})
    );
}
