//! Events in English: past tense, articles by sound, pronouns by the hero's gender.

use super::event::{Event, Kind, fill};
use super::lexicon::{ANIMALS, COLOURS, FOODS, Gender, LOOKS, PEOPLE, Role, SPOTS, THINGS};
use super::names::{Entity, Style};
use super::phrases::{PARTS, SEASONS, TOPICS, WEATHERS};
use super::scene::Scene;

/// The event as one sentence (an opening or an exchange: two), with its final punctuation. Names
/// are written in `style`.
pub(super) fn sentence(event: &Event, scene: &Scene, style: Style) -> String {
    let rows = event.rows(scene);
    let clause = |index: usize| fill(rows[index].0, &|slot| value(slot, event, scene, style));
    let speaker = |hero: bool| {
        let slot = if hero { "h" } else { "c" };
        value(slot, event, scene, style)
    };
    let text = match event.kind {
        Kind::Short(_) => return rows[0].0.to_owned(),
        Kind::Act { time, second, .. } => {
            let mut text = match time {
                Some(_) => format!("{} ", rows[rows.len() - 1].0),
                None => String::new(),
            };
            text += &format!("{} {}", speaker(true), clause(0));
            if second.is_some() {
                text += &format!(" and {}", clause(1));
            }
            text
        }
        Kind::While { background_first: true, .. } => {
            format!("While {}, {} {}", clause(1), speaker(true), clause(0))
        }
        Kind::While { .. } => format!("{} {} while {}", speaker(true), clause(0), clause(1)),
        Kind::Feel { .. } => {
            format!("{} was {} because {}", speaker(true), clause(0), clause(1))
        }
        Kind::Remark { .. } => format!("\"{},\" {} {}", clause(0), clause(1), speaker(false)),
        Kind::Exchange { hero_asks, .. } => format!(
            "\"{}\" asked {}. \"{},\" said {}",
            clause(0),
            speaker(hero_asks),
            clause(1),
            speaker(!hero_asks)
        ),
        _ => clause(0),
    };
    capitalised(&text) + "."
}

/// The title of a story.
pub(super) fn title(scene: &Scene) -> String {
    format!("{} {}", scene.hero.english, TOPICS[scene.topic as usize].at.0)
}

/// The story in one sentence, in the present tense.
pub(super) fn summary(scene: &Scene) -> String {
    let topic = &TOPICS[scene.topic as usize];
    let goes = fill(topic.goes_now, &|_| FOODS[scene.goods].plural.to_owned());
    let outcome = topic.turns[scene.sentiment as usize][scene.turn].1.0;
    format!("{} {goes} and {outcome}.", scene.hero.english)
}

fn value(slot: &str, event: &Event, scene: &Scene, style: Style) -> String {
    let details = &event.details;
    let [he, him, his] = pronouns(scene.hero.gender);
    let role = if details.helper { scene.helper } else { scene.companion };
    let person = |index: usize| {
        event.people()[index]
            .map_or_else(String::new, |person| style(Entity::Person, PEOPLE[person].english))
    };
    match slot {
        "h" if event.pronoun => he.to_owned(),
        "h" | "name" => style(Entity::Person, scene.hero.english),
        "he" => he.to_owned(),
        "him" => him.to_owned(),
        "his" => his.to_owned(),
        "c" => named(role, his),
        "goods" => FOODS[scene.goods].plural.to_owned(),
        "food" => with_article(FOODS[details.food].english),
        "spot" => style(Entity::Place, SPOTS[details.spot].0),
        "animal" => ANIMALS[details.animal].0.to_owned(),
        "colour" => COLOURS[details.colour].0.to_owned(),
        "aseason" => with_article(SEASONS[scene.season].0),
        "season" => SEASONS[scene.season].0.to_owned(),
        "part" => PARTS[scene.part].0.to_owned(),
        "weather" => WEATHERS[scene.weather].0.to_owned(),
        "goes" => {
            fill(TOPICS[scene.topic as usize].goes.0, &|slot| value(slot, event, scene, style))
        }
        "p" => person(0),
        "q" => person(1),
        "thing" => event
            .thing()
            .map_or_else(String::new, |thing| style(Entity::Thing, THINGS[thing].english)),
        "athing" => event.thing().map_or_else(String::new, |thing| {
            let seen = format!("{} {}", LOOKS[details.look].0, THINGS[thing].english);
            format!("{} {}", article(&seen), style(Entity::Thing, &seen))
        }),
        _ => format!("{{{slot}}}"),
    }
}

fn pronouns(gender: Gender) -> [&'static str; 3] {
    match gender {
        Gender::Female => ["she", "her", "her"],
        Gender::Male => ["he", "him", "his"],
    }
}

fn named(role: &Role, his: &str) -> String {
    if role.family { format!("{his} {}", role.english) } else { role.english.to_owned() }
}

fn with_article(phrase: &str) -> String {
    format!("{} {phrase}", article(phrase))
}

/// `an old key`, `a pear`: the article goes by the first letter of what follows it.
fn article(phrase: &str) -> &'static str {
    if phrase.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Upper case for the first letter and for those after a full stop. A marked name that begins a
/// sentence has its capital already.
fn capitalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if out.is_empty() || out.ends_with(". ") {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
    }
    out
}
