//! Events in Chinese: classifiers, full-width punctuation, no spaces.

use super::event::{Event, Kind, fill};
use super::lexicon::{ANIMALS, COLOURS, FOODS, Gender, LOOKS, PEOPLE, SPOTS, THINGS};
use super::names::{Entity, Style};
use super::phrases::{PARTS, SEASONS, TOPICS, WEATHERS};
use super::scene::Scene;

/// The event as one sentence (an opening or an exchange: two), with its final punctuation. Names
/// are written in `style`.
pub(super) fn sentence(event: &Event, scene: &Scene, style: Style) -> String {
    let rows = event.rows(scene);
    let clause = |index: usize| fill(rows[index].1, &|slot| value(slot, event, scene, style));
    let speaker = |hero: bool| {
        let slot = if hero { "h" } else { "c" };
        value(slot, event, scene, style)
    };
    match event.kind {
        Kind::Short(_) => rows[0].1.to_owned(),
        Kind::Act { time, second, .. } => {
            let time = time.map_or("", |_| rows[rows.len() - 1].1);
            let mut text = format!("{time}{}{}", speaker(true), clause(0));
            if second.is_some() {
                text += &format!("，又{}", clause(1));
            }
            text + "。"
        }
        Kind::While { .. } => format!("{}的时候，{}{}。", clause(1), speaker(true), clause(0)),
        Kind::Feel { .. } => format!("因为{}，{}很{}。", clause(1), speaker(true), clause(0)),
        Kind::Remark { .. } => format!("{}{}：“{}。”", speaker(false), clause(1), clause(0)),
        Kind::Exchange { hero_asks, .. } => format!(
            "{}问：“{}”{}说：“{}。”",
            speaker(hero_asks),
            clause(0),
            speaker(!hero_asks),
            clause(1)
        ),
        _ => clause(0) + "。",
    }
}

/// The title of a story.
pub(super) fn title(scene: &Scene) -> String {
    format!("{}{}", scene.hero.chinese, TOPICS[scene.topic as usize].at.1)
}

/// The story in one sentence.
pub(super) fn summary(scene: &Scene) -> String {
    let topic = &TOPICS[scene.topic as usize];
    let goes = fill(topic.goes.1, &|_| FOODS[scene.goods].chinese.to_owned());
    let outcome = topic.turns[scene.sentiment as usize][scene.turn].1.1;
    format!("{}{goes}，{outcome}。", scene.hero.chinese)
}

fn value(slot: &str, event: &Event, scene: &Scene, style: Style) -> String {
    let details = &event.details;
    let he = pronoun(scene.hero.gender);
    let role = if details.helper { scene.helper } else { scene.companion };
    let person = |index: usize| {
        event.people()[index]
            .map_or_else(String::new, |person| style(Entity::Person, PEOPLE[person].chinese))
    };
    match slot {
        "h" if event.pronoun => he.to_owned(),
        "h" | "name" => style(Entity::Person, scene.hero.chinese),
        "he" | "him" => he.to_owned(),
        "his" => format!("{he}的"),
        "c" => role.chinese.to_owned(),
        "goods" => FOODS[scene.goods].chinese.to_owned(),
        "food" => {
            let food = &FOODS[details.food];
            format!("一{}{}", food.measure, food.chinese)
        }
        "spot" => style(Entity::Place, SPOTS[details.spot].1),
        "animal" => ANIMALS[details.animal].1.to_owned(),
        "colour" => COLOURS[details.colour].1.to_owned(),
        "season" => SEASONS[scene.season].1.to_owned(),
        "part" => PARTS[scene.part].1.to_owned(),
        "weather" => WEATHERS[scene.weather].1.to_owned(),
        "goes" => {
            fill(TOPICS[scene.topic as usize].goes.1, &|slot| value(slot, event, scene, style))
        }
        "p" => person(0),
        "q" => person(1),
        "thing" => event
            .thing()
            .map_or_else(String::new, |thing| style(Entity::Thing, THINGS[thing].chinese)),
        "athing" => event.thing().map_or_else(String::new, |thing| {
            let noun = &THINGS[thing];
            let seen = format!("{}{}", LOOKS[details.look].1, noun.chinese);
            format!("一{}{}", noun.measure, style(Entity::Thing, &seen))
        }),
        _ => format!("{{{slot}}}"),
    }
}

fn pronoun(gender: Gender) -> &'static str {
    match gender {
        Gender::Female => "她",
        Gender::Male => "他",
    }
}
