//! Networks of different seeds that learn one task and answer together.
//!
//! The first one is the network of the run's folder. Each further one has a run folder inside that
//! ([`longhand_tasks::ensemble::member_folder`]); they are trained before it. All have the same
//! examples, the same held-out part, the same tokeniser and the same pretrained body. Each has first
//! weights, an order of the examples and dropout of its own.

use std::num::NonZeroUsize;

use longhand_train::Settings;

use crate::recipe::Recipe;

/// The numbers of the networks that a run trains beside the one of its folder.
pub(crate) fn further(recipe: &Recipe) -> Vec<NonZeroUsize> {
    let count = match recipe.member {
        None => recipe.members.map_or(1, NonZeroUsize::get),
        Some(_) => 1,
    };
    (2..=count).filter_map(NonZeroUsize::new).collect()
}

/// The recipe of the network of a number alone.
pub(crate) fn recipe_of(recipe: &Recipe, number: NonZeroUsize) -> Recipe {
    let mut recipe = Recipe { member: Some(number), ..recipe.clone() };
    // What is expected is of the joint answers, and a baseline answers beside all of them.
    recipe.expected.clear();
    recipe.ensemble = None;
    recipe
}

/// The settings that the network of a recipe is trained with.
pub(crate) fn settings(recipe: &Recipe) -> Settings {
    let number = recipe.member.map_or(1, NonZeroUsize::get);
    Settings { seed: seed(recipe.training.seed, number), ..recipe.training.clone() }
}

/// The seed of a network by its number. The first one has that of the run; the others' are drawn from
/// it, so that the networks of runs of neighbouring seeds are all different.
pub(crate) fn seed(seed: u64, number: usize) -> u64 {
    if number == 1 {
        return seed;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&(number as u64).to_le_bytes());
    let bytes = hasher.finalize();
    // A number that every reader of JSON and TOML holds exactly.
    bytes.as_bytes().iter().take(4).fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_network_has_a_seed_of_its_own_and_the_first_the_runs() {
        assert_eq!((seed(7, 1), seed(0, 1)), (7, 0));
        let seeds: BTreeSet<u64> =
            (0..20).flat_map(|run| (1..=8).map(move |number| seed(run, number))).collect();
        assert_eq!(seeds.len(), 160);
        let three = Recipe { members: NonZeroUsize::new(3), ..Recipe::default() };
        assert_eq!(further(&three).iter().map(|it| it.get()).collect::<Vec<_>>(), [2, 3]);
        let second = recipe_of(&three, further(&three)[0]);
        assert!(further(&second).is_empty() && further(&Recipe::default()).is_empty());
        assert_eq!(settings(&second).seed, seed(three.training.seed, 2));
        assert_eq!(settings(&three), three.training);
    }
}
