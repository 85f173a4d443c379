//! Who-has-what questions at a chosen distance from the fact they ask about.

use super::dice::Dice;
use super::event::{Event, Kind};
use super::lexicon::PEOPLE;
use super::narrator::{Narrator, Pending};
use super::phrases::SHORTS;
use super::scene::Details;
use super::story::{Language, RecallQuestion};

/// Streams of questions start here, far from those of stories: no question's text is a story's.
const FIRST_STREAM: u64 = 1 << 62;
/// Attempts at hitting the distance before the nearest is taken.
const ATTEMPTS: u64 = 200;

/// A question at a distance with its story, see [`super::recall_question`].
pub(super) fn question(seed: u64, distance: usize, language: Language) -> RecallQuestion {
    let (narrator, fact) = told(seed, distance, language);
    into_question(narrator, fact)
}

/// The narrator just before the question, and the fact it will ask about.
pub(super) fn told(seed: u64, distance: usize, language: Language) -> (Narrator, Pending) {
    let tolerance = distance / 10;
    let error = |narrator: &Narrator, fact| narrator.distance_if_asked(fact).abs_diff(distance);
    let mut best = attempt(seed, 0, distance, language);
    for number in 1..ATTEMPTS {
        if error(&best.0, best.1) <= tolerance {
            break;
        }
        let next = attempt(seed, number, distance, language);
        if error(&next.0, next.1) < error(&best.0, best.1) {
            best = next;
        }
    }
    best
}

fn attempt(seed: u64, number: u64, distance: usize, language: Language) -> (Narrator, Pending) {
    let mut narrator = Narrator::new(Dice::new(seed, FIRST_STREAM + number), language);
    narrator.open();
    for _ in 0..narrator.dice.between(1, 8) {
        narrator.step(true);
    }
    while !narrator.has_room() {
        narrator.step(false);
    }
    let fact = narrator.plant(None);
    let aim = distance / 20;
    loop {
        let now = narrator.distance_if_asked(fact);
        let room = (distance + aim).saturating_sub(now);
        if now + aim >= distance || !(tell_within(&mut narrator, room) || fit(&mut narrator, room))
        {
            return (narrator, fact);
        }
    }
}

/// One step of the story that takes at most `room` characters, if a few draws find one.
fn tell_within(narrator: &mut Narrator, room: usize) -> bool {
    for _ in 0..12 {
        let mut next = narrator.clone();
        next.step(true);
        if next.page.chars <= narrator.page.chars + room {
            *narrator = next;
            return true;
        }
        // Other draws next time.
        narrator.dice.below(2);
    }
    false
}

/// A very short sentence of at most `room` characters.
fn fit(narrator: &mut Narrator, room: usize) -> bool {
    let start = narrator.dice.below(SHORTS.len());
    for row in (0..SHORTS.len()).map(|row| (start + row) % SHORTS.len()) {
        let mut next = narrator.clone();
        let details = Details::draw(&mut next.dice);
        next.tell_event(Event { kind: Kind::Short(row), details, pronoun: false });
        if next.page.chars <= narrator.page.chars + room {
            *narrator = next;
            return true;
        }
    }
    false
}

fn into_question(narrator: Narrator, fact: Pending) -> RecallQuestion {
    let distance = narrator.distance_if_asked(fact);
    let (question, answer) = narrator.question(fact);
    RecallQuestion {
        text_before_answer: narrator.page.text + &question,
        answer,
        candidates: (0..PEOPLE.len())
            .map(|person| narrator.language.name(person).to_owned())
            .collect(),
        distance,
    }
}
