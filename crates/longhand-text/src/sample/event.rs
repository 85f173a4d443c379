//! What happens, as data. A sentence is an [`Event`] rendered in a language; labels are read off
//! the events, never off the text.

use super::phrases::{
    ACTIONS, BACKGROUNDS, CAUSES, CLOSINGS, CREATURES, EXCHANGES, FEELINGS, GIVINGS, MOODS,
    REMARKS, Row, SAYING, SHORTS, TAKINGS, THOUGHTS, TIMES, TOPICS, WANDERINGS,
};
use super::scene::{Details, Scene};

/// One event with the fillings of its slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) details: Details,
    /// The hero is meant by a pronoun, being fresh in mind.
    pub(super) pronoun: bool,
}

/// The kind of an event. Numbers index the tables of [`phrases`](super::phrases), people and
/// things those of [`lexicon`](super::lexicon).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Who goes where, when and what for.
    Opening,
    /// A view of the place.
    View(usize),
    /// Scenery that passes around everyone.
    Mood(usize),
    /// A very short sentence.
    Short(usize),
    /// The hero does something, perhaps at a named time, perhaps two things.
    Act { time: Option<usize>, first: Action, second: Option<Action> },
    /// The hero does something while something else goes on.
    While { background: usize, action: Action, background_first: bool },
    /// A thought of the hero.
    Thought(usize),
    /// The hero feels something for a reason.
    Feel { feeling: usize, cause: usize },
    /// The doing of an animal.
    Creature(usize),
    /// Someone says something in passing.
    Remark { remark: usize, saying: usize },
    /// A question and its answer, asked by the hero or by the other.
    Exchange { exchange: usize, hero_asks: bool },
    /// One of the people who hold things does something else.
    Wander { person: usize, row: usize },
    /// Someone comes by a thing nobody held.
    Take { person: usize, thing: usize, row: usize },
    /// A thing goes from hand to hand.
    Give { giver: usize, receiver: usize, thing: usize, row: usize },
    /// The fact in its fixed wording: `Now Mira had the lantern.`
    Holds { person: usize, thing: usize },
    /// The question in its fixed wording, with its answer.
    Question { person: usize, thing: usize },
    /// How it turns out.
    Turn,
    /// The last sentence of a story.
    Closing(usize),
}

/// A deed of the hero: anywhere, or at the story's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Anywhere(usize),
    Here(usize),
}

impl Action {
    /// The verb phrase of the event.
    pub(super) fn row(self, scene: &Scene) -> Row {
        match self {
            Action::Anywhere(index) => ACTIONS[index],
            Action::Here(index) => TOPICS[scene.topic as usize].actions[index],
        }
    }
}

impl Event {
    /// The rows of the event, main clause first.
    pub(super) fn rows(&self, scene: &Scene) -> Vec<Row> {
        let topic = &TOPICS[scene.topic as usize];
        let sentiment = scene.sentiment as usize;
        match self.kind {
            Kind::Opening => vec![super::phrases::OPENINGS[scene.opening]],
            Kind::View(row) => vec![topic.views[row]],
            Kind::Mood(row) => vec![MOODS[row]],
            Kind::Short(row) => vec![SHORTS[row]],
            Kind::Act { time, first, second } => {
                let mut rows = vec![first.row(scene)];
                rows.extend(second.map(|action| action.row(scene)));
                rows.extend(time.map(|time| TIMES[time]));
                rows
            }
            Kind::While { background, action, .. } => {
                vec![action.row(scene), BACKGROUNDS[background]]
            }
            Kind::Thought(row) => vec![THOUGHTS[row]],
            Kind::Feel { feeling, cause } => {
                vec![FEELINGS[sentiment][feeling], CAUSES[sentiment][cause]]
            }
            Kind::Creature(row) => vec![CREATURES[row]],
            Kind::Remark { remark, saying } => vec![REMARKS[remark], SAYING[saying]],
            Kind::Exchange { exchange, .. } => vec![EXCHANGES[exchange].0, EXCHANGES[exchange].1],
            Kind::Wander { row, .. } => vec![WANDERINGS[row]],
            Kind::Take { row, .. } => vec![TAKINGS[row]],
            Kind::Give { row, .. } => vec![GIVINGS[row]],
            Kind::Holds { .. } => vec![("Now {p} had the {thing}", "现在{p}拿着{thing}")],
            Kind::Question { .. } => vec![("Who has the {thing}? {p}", "谁拿着{thing}？{p}")],
            Kind::Turn => vec![topic.turns[sentiment][scene.turn].0],
            Kind::Closing(row) => vec![CLOSINGS[sentiment][row]],
        }
    }

    /// The people who hold things named in the event: `{p}` and `{q}`.
    pub(super) fn people(&self) -> [Option<usize>; 2] {
        match self.kind {
            Kind::Wander { person, .. }
            | Kind::Take { person, .. }
            | Kind::Holds { person, .. }
            | Kind::Question { person, .. } => [Some(person), None],
            Kind::Give { giver, receiver, .. } => [Some(giver), Some(receiver)],
            _ => [None, None],
        }
    }

    /// The thing that replaces `{thing}`.
    pub(super) fn thing(&self) -> Option<usize> {
        match self.kind {
            Kind::Take { thing, .. }
            | Kind::Give { thing, .. }
            | Kind::Holds { thing, .. }
            | Kind::Question { thing, .. } => Some(thing),
            _ => None,
        }
    }

    /// Whether two clauses of one sentence would name the same companion, animal or place twice.
    pub(super) fn repeats_itself(&self, scene: &Scene) -> bool {
        let rows = self.rows(scene);
        ["{c}", "{animal}", "{spot}", "{food}", "{colour}", "{goods}"]
            .iter()
            .any(|slot| rows.iter().filter(|row| row.0.contains(slot)).count() > 1)
    }

    /// Whether a pronoun in the next sentence would clearly mean the hero: the hero is this
    /// sentence's subject and nobody else of the same gender is in it.
    pub(super) fn leaves_hero_in_mind(&self, scene: &Scene) -> bool {
        let role = if self.details.helper { scene.helper } else { scene.companion };
        let about_hero = match self.kind {
            Kind::Act { .. } | Kind::While { .. } | Kind::Feel { .. } => true,
            Kind::Thought(row) => THOUGHTS[row].0.starts_with("{h}"),
            _ => false,
        };
        let other = self.rows(scene).iter().any(|row| row.0.contains("{c}"));
        about_hero && !(other && role.gender == scene.hero.gender)
    }
}

/// Replaces each `{slot}` of `template` by what `value` gives for its name.
pub(super) fn fill(template: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (slot, after) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&value(slot));
        rest = after;
    }
    out + rest
}
