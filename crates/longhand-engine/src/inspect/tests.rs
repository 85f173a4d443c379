use longhand_model::Preset;

use super::*;
use crate::testing::{cpu, engine, ids};

#[test]
fn a_memory_that_a_model_lacks_contributes_nothing() {
    let cpu = cpu();
    for (preset, working, long) in [
        (Preset::Transformer, true, false),
        (Preset::Lstm, false, true),
        (Preset::LonghandNano, true, true),
    ] {
        let inspection = Inspection::of(&engine(preset, 1), &cpu, &ids(300, 2)).unwrap();
        assert_eq!(inspection.tokens.len(), 300);
        assert_eq!(inspection.tokens[0].losses, None);
        let losses: Vec<Losses> = inspection.tokens.iter().filter_map(|t| t.losses).collect();
        assert_eq!(losses.len(), 299);
        assert_eq!(losses.iter().any(|l| l.without_working != l.loss), working, "{preset}");
        assert_eq!(losses.iter().any(|l| l.without_long != l.loss), long, "{preset}");
        let mean = inspection.mean.unwrap();
        assert_eq!(mean.tokens, 299);
        let sum: f32 = losses.iter().map(|l| l.loss).sum();
        assert!((mean.losses.loss - sum / 299.0).abs() < 1e-3);
    }
}

#[test]
fn shares_follow_from_the_rises_in_loss() {
    let shares = |a, b, c| {
        let losses = Losses::new(a, b, c);
        (losses.working_share, losses.long_share)
    };
    assert_eq!(shares(1.0, 2.0, 4.0), (Some(0.25), Some(0.75)));
    assert_eq!(shares(1.0, 0.5, 4.0), (Some(0.0), Some(1.0)));
    assert_eq!(shares(1.0, 0.5, 1.0), (None, None));
}

#[test]
fn a_text_of_one_token_or_none_has_no_means() {
    let (engine, cpu) = (engine(Preset::Lstm, 1), cpu());
    assert_eq!(Inspection::of(&engine, &cpu, &[]).unwrap().mean, None);
    let one = Inspection::of(&engine, &cpu, &[7]).unwrap();
    assert_eq!((one.mean, one.tokens.len()), (None, 1));
}

#[test]
fn gates_are_read_at_each_token() {
    let cpu = cpu();
    for (preset, memories) in [
        (Preset::LonghandNano, &["blocks.0.lstm", "blocks.1.lstm"][..]),
        (Preset::Xlstm, &["blocks.0.mlstm", "blocks.1.slstm", "blocks.2.mlstm"]),
        (Preset::Transformer, &[]),
    ] {
        let inspection = Inspection::of(&engine(preset, 1), &cpu, &ids(300, 2)).unwrap();
        assert!(
            inspection.gates.iter().map(|gates| &gates.memory[..]).eq(memories.iter().copied())
        );
        for gates in inspection.gates {
            assert_eq!((gates.input.len(), gates.forget.len()), (300, 300));
            assert!(gates.forget.iter().chain(&gates.input).all(|x| (0.0..=1.0).contains(x)));
            let mean = gates.mean.unwrap();
            assert!((mean.input - gates.input.iter().sum::<f32>() / 300.0).abs() < 1e-5);
            assert!((mean.forget - gates.forget.iter().sum::<f32>() / 300.0).abs() < 1e-5);
        }
    }
}
