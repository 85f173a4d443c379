use std::sync::Arc;

use longhand_model::{LowRankForm, LowRankSettings, Model, Preset};

use super::*;

const SETTINGS: RankSettings = RankSettings {
    initial: Some(6),
    orthogonality: 0.5,
    beta1: 0.85,
    beta2: 0.85,
    begin: 0.25,
    end: 0.75,
    every: 2,
};
const BUDGET: RankBudget = RankBudget { mean: 2, settings: SETTINGS };

fn model() -> Model {
    let mut model = Model::new(Preset::LonghandNano.config(20), 3).unwrap();
    let form = LowRankForm::Singular;
    let settings = LowRankSettings { rank: 6, form, alpha: 6.0, dropout: 0.0, seed: 5 };
    model
        .add_low_rank(settings, |name| name.starts_with("blocks.0.") && name.contains("_l0"))
        .unwrap();
    model
}

#[test]
fn the_budget_falls_by_a_cubic_law() {
    for (spent, expected) in [(0.0, 60), (0.25, 60), (0.5, 25), (0.74, 20), (0.75, 20), (1.0, 20)] {
        assert_eq!(BUDGET.values(10, spent), expected, "{spent}");
    }
    // In steps: the formula of section 3.3, with t_i = 100 and t_f = 100 of T = 400.
    for step in 100..300 {
        let rest = 1.0 - f64::from(step - 100) / f64::from(400 - 100 - 100);
        let expected = 20.0 + 40.0 * rest * rest * rest;
        let got = BUDGET.values(10, f64::from(step) / 400.0) as f64;
        assert!((got - expected.floor()).abs() <= 1.0 && got >= 20.0, "{step}: {got}");
    }
    assert_eq!(RankSettings::default().initial(8), 12);
    assert_eq!(RankSettings::default().initial(1), 2);
}

#[test]
fn settings_out_of_bounds_are_named() {
    BUDGET.check().unwrap();
    let refused = |change: fn(&mut RankSettings), name| {
        let mut budget = BUDGET;
        change(&mut budget.settings);
        assert_eq!(budget.check().unwrap_err().name, name);
    };
    refused(|s| s.initial = Some(1), "adalora.initial");
    refused(|s| s.orthogonality = -1.0, "adalora.orthogonality");
    refused(|s| s.beta1 = 1.0, "adalora.beta1");
    refused(|s| s.beta2 = f64::NAN, "adalora.beta2");
    refused(|s| s.begin = 1.0, "adalora.begin");
    refused(|s| s.end = 0.2, "adalora.end");
    refused(|s| s.end = 1.0, "adalora.end");
    refused(|s| s.every = 0, "adalora.every");
}

/// The values that are left are those of the highest scores, which are made here by hand.
#[test]
fn the_most_important_singular_values_are_kept() {
    let mut model = model();
    let weights = &mut model.weights;
    let changes = weights.singular_changes();
    let mut allocator = RankAllocator::new(BUDGET, weights).unwrap();
    let mut scores = Vec::new();
    for (place, change) in allocator.changes.iter_mut().enumerate() {
        weights.get_mut(change.ids.e).data.fill(1.0);
        let [_, columns] = weights.get(change.ids.a).matrix();
        let [rows, rank] = weights.get(change.ids.b).matrix();
        for k in 0..rank {
            let draw = |part: usize| ((place * 31 + k * 7 + part * 13) % 11) as f32 / 11.0;
            let [a, b, e] = &mut change.means;
            for means in [&mut *a, &mut *b, &mut *e] {
                means.uncertainty.fill(0.5);
            }
            a.sensitivity[k * columns..(k + 1) * columns].fill(draw(0));
            (0..rows).for_each(|row| b.sensitivity[row * rank + k] = draw(1));
            e.sensitivity[k] = draw(2);
            scores.push(((draw(0) + draw(1) + draw(2)) / 2.0, place, k));
        }
    }
    // Nothing is cleared before the budget falls, nor between two choices.
    assert!(!allocator.allocate(weights, None, 2, 0.25));
    assert!(!allocator.allocate(weights, None, 3, 0.5));
    let zeros = |weights: &Weights| {
        let values = changes.iter().flat_map(|change| weights.get(change.e).data.to_vec());
        values.filter(|&value| value == 0.0).count()
    };
    assert_eq!(zeros(weights), 0);
    let all = 6 * changes.len();
    assert!(!allocator.allocate(weights, None, 4, 0.5));
    assert_eq!(zeros(weights), all - BUDGET.values(changes.len(), 0.5));
    assert!(allocator.allocate(weights, None, 5, 0.75), "the ranks are final");
    assert_eq!(zeros(weights), all - 2 * changes.len());
    scores.sort_by(|one, other| other.0.total_cmp(&one.0));
    let least = scores[2 * changes.len() - 1].0;
    for (score, place, k) in scores {
        let kept = weights.get(changes[place].e).data[k] != 0.0;
        assert!(if kept { score >= least - 1e-6 } else { score <= least + 1e-6 });
    }
    // What training does to the others is undone, and no choice is made again.
    changes.iter().for_each(|change| weights.get_mut(change.e).data.fill(3.0));
    assert!(!allocator.allocate(weights, None, 7, 0.9));
    assert_eq!(zeros(weights), all - 2 * changes.len());
    model.prune_low_rank();
    let left: usize =
        model.weights.singular_changes().iter().map(|c| model.weights.get(c.e).data.len()).sum();
    assert_eq!(left, 2 * changes.len());
}

#[test]
fn of_equal_values_exactly_the_budget_is_kept() {
    let mut model = model();
    let changes = model.weights.singular_changes();
    changes.iter().for_each(|change| model.weights.get_mut(change.e).data.fill(1.0));
    let mut allocator = RankAllocator::new(BUDGET, &model.weights).unwrap();
    assert!(allocator.allocate(&mut model.weights, None, 1, 1.0));
    let kept = allocator.changes.iter().flat_map(|change| &change.kept).sum::<f32>();
    assert_eq!(kept as usize, 2 * changes.len());
}

/// The gradient of the orthogonality term against central differences in double precision.
#[test]
fn the_orthogonality_term_has_its_gradient() {
    let model = model();
    let weights = &model.weights;
    let cpu = Arc::new(Cpu::new(1));
    let allocator = RankAllocator::new(BUDGET, weights).unwrap();
    let mut gradients = Gradients::new(cpu.clone(), weights);
    let targets = 7.0;
    allocator.regularize(&cpu, weights, &mut gradients, targets);
    let changes = weights.singular_changes();
    let share = targets * SETTINGS.orthogonality / (2.0 * changes.len() as f64);
    for SingularChange { a, b, .. } in changes {
        for (id, vectors) in [(a, Vectors::Rows), (b, Vectors::Columns)] {
            let parameter = weights.get(id);
            let [rows, _] = parameter.matrix();
            let mut at: Vec<f64> = parameter.data.iter().map(|&x| f64::from(x)).collect();
            for place in [0, at.len() / 2, at.len() - 1] {
                let (old, step) = (at[place], 1e-5);
                let mut value = |x: f64| {
                    at[place] = x;
                    singular::reference::penalty(vectors, rows, &at)
                };
                let slope = (value(old + step) - value(old - step)) / (2.0 * step);
                at[place] = old;
                let got = f64::from(gradients.get(id).unwrap()[place]);
                let error = (got - share * slope).abs();
                assert!(error < 1e-4 * (1.0 + (share * slope).abs()), "{}: {got}", parameter.name);
            }
        }
    }
}

#[test]
fn a_saved_allocator_goes_on_as_it_was() {
    let mut model = model();
    let cpu = Arc::new(Cpu::new(1));
    let mut allocator = RankAllocator::new(BUDGET, &model.weights).unwrap();
    let mut gradients = Gradients::new(cpu.clone(), &model.weights);
    for step in 1..9 {
        allocator.regularize(&cpu, &model.weights, &mut gradients, 1.0);
        allocator.observe(&cpu, &model.weights, &gradients, 1.0);
        allocator.allocate(&mut model.weights, None, step, step as f64 / 10.0);
        let saved: std::collections::HashMap<String, Vec<f32>> = allocator
            .buffers(&model.weights)
            .into_iter()
            .map(|buffer| (buffer.name, buffer.data.to_vec()))
            .collect();
        let mut other = RankAllocator::new(BUDGET, &model.weights).unwrap();
        other.restore(&model.weights, |name| saved.get(name).cloned()).unwrap();
        assert_eq!(other.is_settled(), allocator.is_settled(), "{step}");
        for (one, other) in
            allocator.buffers(&model.weights).iter().zip(other.buffers(&model.weights))
        {
            assert_eq!((&one.name, one.data), (&other.name, other.data));
        }
        let none = other.restore(&model.weights, |_| None);
        assert!(matches!(none, Err(RestoreError::Missing { name }) if name.starts_with("kept.")));
    }
}

#[test]
fn a_model_without_singular_values_is_refused() {
    let model = Model::new(Preset::LonghandNano.config(20), 3).unwrap();
    let refused = RankAllocator::new(BUDGET, &model.weights).err().unwrap();
    assert!(refused.to_string().contains("adalora"), "{refused}");
}
