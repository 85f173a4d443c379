//! Weights that are made of parameters: some elements dropped, or a change of low rank; and weights
//! that no gradient reaches.

use std::sync::Arc;

use longhand_kernel::dropout::{Mask, Pattern, reference};

use super::*;
use crate::{Format, Group, LowRankForm, LowRankSettings, ModelError, Parameter};

const LOW_RANK: LowRankSettings =
    LowRankSettings { rank: 3, form: LowRankForm::Product, alpha: 1.5, dropout: 0.0, seed: 4 };

/// Forms of a change, each with a share of its input that is dropped.
const FORMS: [(LowRankForm, f32); 3] =
    [(LowRankForm::Product, 0.0), (LowRankForm::Product, 0.3), (LowRankForm::Singular, 0.3)];

/// Of all factors, of the matrices that they change, and of everything else.
#[test]
fn gradients_through_changes_of_low_rank_are_the_slope_of_the_loss() {
    for (name, config) in configs() {
        let pools = pools_by_maximum(&config);
        let mode = if pools { Mode::Record } else { Mode::Train { seed: 5 } };
        let config = if pools { config } else { with_dropout(config, true) };
        // Those with dropped elements and singular values have all that the others have.
        for (form, dropout) in [FORMS[0], FORMS[2]] {
            let mut model = Model::new(config.clone(), 7).unwrap();
            let settings = LowRankSettings { form, dropout, ..LOW_RANK };
            let large = |p: &&Parameter| p.matrix().into_iter().all(|n| n >= settings.rank);
            let large = model.weights.iter().filter(large).map(|p| p.name.clone());
            let large: Vec<String> = large.collect();
            let mut names =
                model.add_low_rank(settings, |name| large.iter().any(|l| l == name)).unwrap();
            // The smallest matrices have room for a lower rank.
            let smaller = LowRankSettings { rank: 1, ..settings };
            names.extend(model.add_low_rank(smaller, |_| true).unwrap_or_default());
            assert_eq!(model.add_low_rank(smaller, |_| true), Err(ModelError::NoMatrix));
            let factors = model.weights.iter().filter(|p| p.name.ends_with("lora_a"));
            assert_eq!(factors.count(), names.len());
            check_slopes(name, model, mode);
        }
    }
}

/// A frozen matrix costs no gradient, and its change has the one that it has beside a trained one.
#[test]
fn changes_of_frozen_matrices_have_the_same_gradients() {
    let (ids, targets) = (ids(40, 1), ids(40, 2));
    let sequence = Sequence::new(20, 2);
    let pass = (&ids[..], &targets[..], &sequence);
    for (form, dropout) in FORMS {
        let mut config = narrow(Preset::LonghandNano.config(VOCAB));
        config.dropout = Dropout { recurrent: dropout, ..Dropout::default() };
        let mut model = Model::new(config, 7).unwrap();
        let settings = LowRankSettings { form, dropout, ..LOW_RANK };
        model.add_low_rank(settings, |_| true).unwrap();
        for (seed, parameter) in (9..).zip(model.weights.iter_mut()) {
            let moves = draws(parameter.data.len(), seed);
            parameter.data.iter_mut().zip(moves).for_each(|(w, d)| *w += 0.1 * d);
        }
        let mut tape = Tape::new(Arc::new(Cpu::new(2)));
        let mut gradients = |model: &Model| {
            let mut gradients = Gradients::new(tape.cpu().clone(), &model.weights);
            loss(model, &mut tape, Mode::Train { seed: 6 }, pass, Some(&mut gradients));
            let copies = gradients.iter().map(|gradient| gradient.map(<[f32]>::to_vec));
            copies.collect::<Vec<_>>()
        };
        let all = gradients(&model);
        let is_factor = |parameter: &Parameter| parameter.name.contains(".lora_");
        model.weights.regroup(|p| Group { trainable: is_factor(p), ..p.group });
        let some = gradients(&model);
        for ((parameter, all), some) in model.weights.iter().zip(all).zip(some) {
            let expected = all.filter(|_| is_factor(parameter));
            assert_eq!(some, expected, "{} at {dropout}", parameter.name);
        }
    }
}

#[test]
fn a_change_of_low_rank_begins_as_none_and_merges_into_its_matrices() {
    let cpu = Arc::new(Cpu::new(2));
    let ids = ids(60, 3);
    let sequence = Sequence::new(30, 2);
    let forms = [LowRankForm::Product, LowRankForm::Singular];
    let all = language_models();
    let all = all.flat_map(|(name, model)| forms.map(|form| (name, form, model.clone())));
    for (name, form, mut model) in all {
        let low_rank = LowRankSettings { form, alpha: 6.0, ..LOW_RANK };
        let mut tape = Tape::new(cpu.clone());
        let mut read = |model: &Model| {
            let mut state = model.state(2);
            self::read(model, &mut tape, Mode::Read, &ids, &sequence, &mut state)
        };
        let before = read(&model);
        let parameters = model.weights.len();
        let names = model.add_low_rank(low_rank, |name| name.starts_with("blocks.")).unwrap();
        assert!(names.iter().all(|name| !name.contains("norm") && !name.contains("bias")));
        assert_eq!(read(&model), before, "{name}: one factor begins as zeros");
        let again = model.add_low_rank(low_rank, |name| name.starts_with("blocks."));
        assert_eq!(again, Err(ModelError::NoMatrix), "{name}");
        for (seed, parameter) in (9..).zip(model.weights.iter_mut().skip(parameters)) {
            let moves = draws(parameter.data.len(), seed);
            parameter.data.iter_mut().zip(moves).for_each(|(w, d)| *w += 0.1 * d);
        }
        let changed = read(&model);
        assert!(difference(&before, &changed) > 1e-3, "{name}");
        assert_eq!(read(&model.clone()), changed, "{name}: a copy has the changes");
        let packed = {
            let mut model = model.clone();
            model.pack();
            read(&model)
        };
        assert!(difference(&packed, &changed) < 1e-4, "{name}: packed");
        let half = read(&model.compress(Format::Bf16));
        assert!(difference(&half, &changed) < 0.1, "{name}: compressed");
        model.merge_low_rank();
        assert_eq!(model.weights.len(), parameters);
        assert!(difference(&read(&model), &changed) < 1e-4, "{name}: merged");
    }
}

#[test]
fn singular_values_of_zero_are_taken_out() {
    let mut model = Model::new(narrow(Preset::LonghandNano.config(VOCAB)), 7).unwrap();
    let settings = LowRankSettings { form: LowRankForm::Singular, ..LOW_RANK };
    model.add_low_rank(settings, |_| true).unwrap();
    let changes = model.weights.singular_changes();
    let ids = ids(60, 3);
    let sequence = Sequence::new(30, 2);
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut read = |model: &Model| {
        let mut state = model.state(2);
        self::read(model, &mut tape, Mode::Read, &ids, &sequence, &mut state)
    };
    for (place, change) in changes.iter().enumerate() {
        let values = [0.5, 0.0, -0.3].map(|value| if place == 1 { 0.0 } else { value });
        model.weights.get_mut(change.e).data.copy_from_slice(&values);
    }
    let (before, count) = (read(&model), model.weights.count());
    model.prune_low_rank();
    assert!(difference(&read(&model), &before) < 1e-5);
    assert!(model.weights.count() < count);
    let left = model.weights.singular_changes();
    assert_eq!(left.len(), changes.len() - 1);
    for change in left {
        let [a, b, e] = change.parameters().map(|id| model.weights.get(id));
        assert_eq!((&e.data[..], a.shape[0], b.shape[1]), (&[0.5, -0.3][..], 2, 2));
    }
    // A change without singular values is as it was.
    let mut plain = Model::new(narrow(Preset::LonghandNano.config(VOCAB)), 7).unwrap();
    plain.add_low_rank(LOW_RANK, |_| true).unwrap();
    let hash = plain.weights.hash();
    plain.prune_low_rank();
    assert_eq!(plain.weights.hash(), hash);
}

#[test]
fn a_change_of_low_rank_is_not_saved_unmerged_and_not_given_to_packed_weights() {
    let mut model = Model::new(narrow(Preset::LonghandNano.config(VOCAB)), 7).unwrap();
    model.add_low_rank(LOW_RANK, |name| name.ends_with("weight_hh_l0")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(model.save(folder.path()), Err(crate::FileError::Unmerged)));
    model.merge_low_rank();
    model.save(folder.path()).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap().weights.hash(), model.weights.hash());
    let none = LowRankSettings { rank: 0, ..LOW_RANK };
    assert!(matches!(model.add_low_rank(none, |_| true), Err(ModelError::Rank { rank: 0, .. })));
    model.pack();
    assert!(matches!(model.add_low_rank(LOW_RANK, |_| true), Err(ModelError::Frozen(_))));
}

/// Weight-drop is the model whose recurrent weights are masked by hand, gradients included.
#[test]
fn dropped_recurrent_weights_are_those_of_the_mask() {
    let mut config = narrow(Preset::LonghandNano.config(VOCAB));
    config.dropout = Dropout { recurrent: 0.4, ..Dropout::default() };
    let model = Model::new(config, 7).unwrap();
    let mut masked = model.clone();
    let mut factors = Vec::new();
    let recurrent = masked.weights.iter_mut().filter(|p| p.name.contains("weight_hh"));
    for (draw, parameter) in (1..).zip(recurrent) {
        let mask = Mask::new((6 << 16) + draw, 0.4);
        let mask: Vec<f32> = reference::factors(mask, Pattern::Elements, parameter.data.len());
        parameter.data.iter_mut().zip(&mask).for_each(|(w, factor)| *w *= factor);
        factors.push((parameter.name.clone(), mask));
    }
    assert!(!factors.is_empty());
    let (ids, targets) = (ids(40, 1), ids(40, 2));
    let sequence = Sequence::new(20, 2);
    let pass = (&ids[..], &targets[..], &sequence);
    let mut tape = Tape::new(Arc::new(Cpu::new(2)));
    let mut dropped = Gradients::new(tape.cpu().clone(), &model.weights);
    let loss = loss(&model, &mut tape, Mode::Train { seed: 6 }, pass, Some(&mut dropped));
    let mut whole = Gradients::new(tape.cpu().clone(), &masked.weights);
    let expected = self::loss(&masked, &mut tape, Mode::Record, pass, Some(&mut whole));
    assert_eq!(loss, expected);
    let mut seen = 0;
    for ((parameter, dropped), whole) in model.weights.iter().zip(dropped.iter()).zip(whole.iter())
    {
        let mut whole = whole.unwrap().to_vec();
        if let Some((_, mask)) = factors.iter().find(|(name, _)| *name == parameter.name) {
            whole.iter_mut().zip(mask).for_each(|(d, factor)| *d *= factor);
            seen += 1;
        }
        assert_eq!(dropped.unwrap(), whole, "{}", parameter.name);
    }
    assert_eq!(seen, factors.len());
}

#[test]
fn a_gradient_of_packed_weights_is_refused() {
    let model = Model::new(narrow(Preset::LonghandNano.config(VOCAB)), 7).unwrap();
    let mut packed = model.clone();
    packed.pack();
    for packed in [packed, model.compress(Format::Int8)] {
        let (ids, targets) = (ids(12, 1), ids(12, 2));
        let mut tape = Tape::new(Arc::new(Cpu::new(1)));
        let mut gradients = Gradients::new(tape.cpu().clone(), &packed.weights);
        let mut state = packed.state(1);
        let mut pass = tape.pass(Mode::Train { seed: 1 });
        let x = packed.forward(&mut pass, &ids, &Sequence::new(12, 1), &mut state).unwrap();
        let options =
            LossOptions { gradients: Some((1.0, &mut gradients)), ..LossOptions::default() };
        packed.loss(&mut pass, x, Targets::Tokens(&targets), options).unwrap();
        let refused = pass.backward(&packed.weights, &mut gradients);
        assert!(matches!(refused, Err(ModelError::Frozen(_))), "{refused:?}");
        // Without one, the same pass is as it was.
        let mut pass = tape.pass(Mode::Read);
        let mut state = packed.state(1);
        let x = packed.forward(&mut pass, &ids, &Sequence::new(12, 1), &mut state).unwrap();
        packed.loss(&mut pass, x, Targets::Tokens(&targets), LossOptions::default()).unwrap();
        pass.backward(&packed.weights, &mut gradients).unwrap();
    }
}

#[test]
fn blocks_that_nothing_is_trained_below_keep_one_value_each() {
    let mut model = Model::new(narrow(Preset::LonghandNano.config(VOCAB)), 7).unwrap();
    let ids = ids(40, 1);
    let mut tape = Tape::new(Arc::new(Cpu::new(1)));
    let mut held = |model: &Model| {
        let mut pass = tape.pass(Mode::Train { seed: 1 });
        let mut state = model.state(2);
        model.forward(&mut pass, &ids, &Sequence::new(20, 2), &mut state).unwrap();
        pass.held()
    };
    let blocks = model.config().blocks.len();
    let all = held(&model);
    model.weights.regroup(|p| Group { trainable: p.name.starts_with("norm"), ..p.group });
    // The embedding, a row for each block, the norm; the dropped values of the embedding.
    let some = held(&model);
    assert!(some <= (blocks + 4) * 40 * 24, "{some} of {all}");
    assert!(some < all / 2);
}
