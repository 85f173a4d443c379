//! The scene of a story: what stays the same from first sentence to last, and the fillings of each.

use super::dice::Dice;
use super::lexicon::{ANIMALS, COLOURS, FAMILY, FOODS, HELPERS, HEROES, LOOKS, SPOTS};
use super::lexicon::{Person, Role};
use super::phrases::{OPENINGS, PARTS, SEASONS, WEATHERS};
use super::story::{Sentiment, Topic};

/// The subject of a story.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) topic: Topic,
    pub(super) sentiment: Sentiment,
    pub(super) hero: &'static Person,
    pub(super) companion: &'static Role,
    pub(super) helper: &'static Role,
    pub(super) goods: usize,
    pub(super) season: usize,
    pub(super) part: usize,
    pub(super) weather: usize,
    pub(super) opening: usize,
    pub(super) turn: usize,
}

impl Scene {
    /// Every part drawn evenly.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        Self {
            topic: Topic::ALL[dice.below(Topic::ALL.len())],
            sentiment: Sentiment::ALL[dice.below(Sentiment::ALL.len())],
            hero: &HEROES[dice.below(HEROES.len())],
            companion: &FAMILY[dice.below(FAMILY.len())],
            helper: &HELPERS[dice.below(HELPERS.len())],
            goods: dice.below(FOODS.len()),
            season: dice.below(SEASONS.len()),
            part: dice.below(PARTS.len()),
            weather: dice.below(WEATHERS.len()),
            opening: dice.below(OPENINGS.len()),
            turn: dice.below(2),
        }
    }
}

/// The fillings of a sentence's slots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Details {
    /// The helper is beside the hero, not the companion.
    pub(super) helper: bool,
    pub(super) spot: usize,
    pub(super) animal: usize,
    pub(super) colour: usize,
    pub(super) food: usize,
    pub(super) look: usize,
}

impl Details {
    /// Every part drawn evenly.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        Self {
            helper: dice.chance(60),
            spot: dice.below(SPOTS.len()),
            animal: dice.below(ANIMALS.len()),
            colour: dice.below(COLOURS.len()),
            food: dice.below(FOODS.len()),
            look: dice.below(LOOKS.len()),
        }
    }
}
