use longhand_model::{Config, Preset};

use super::*;
use crate::testing::{cpu, ids};

/// Where presets differ in size alone, a narrow one represents them.
fn config(preset: Preset) -> Config {
    let mut config = preset.config(67);
    if matches!(preset, Preset::LonghandBase | Preset::LonghandLarge) {
        config.blocks.truncate(2);
    }
    config
}

#[test]
fn every_preset_reads_alike_in_every_way() {
    let cpu = cpu();
    for preset in Preset::ALL {
        let model = Model::new(config(preset), 5).unwrap();
        if !model.config().is_causal() || model.config().encoder.is_some() {
            continue;
        }
        let ids: Vec<u32> = ids(180, 6).iter().map(|id| id % 67).collect();
        let equality = Equality::measure(&model, &cpu, &ids).unwrap();
        assert!(equality.most() < 1e-4, "{preset}: {equality:?}");
    }
}

#[test]
fn a_model_that_looks_ahead_is_refused() {
    let mut config = Preset::StackedLstmClassifier.config(10);
    config.blocks[0].long = config.blocks[0].long.map(|long| long.in_both_directions());
    let model = Model::new(config, 1).unwrap();
    let error = Equality::measure(&model, &cpu(), &[1, 2]).unwrap_err();
    assert!(matches!(error, EngineError::NotCausal));
}

#[test]
fn differences_are_relative_to_their_row() {
    assert_eq!(difference(&[1.0, 4.0, 0.1, 0.1], &[1.0, 5.0, 0.1, 0.1], 2), 0.25);
    assert_eq!(difference(&[1.0], &[f32::NAN], 1), f32::INFINITY);
}
