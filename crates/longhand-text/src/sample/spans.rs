//! Questions that a span of a story answers: who has a thing in the end, and where it was found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::event::{Kind, fill};
use super::lexicon::THINGS;
use super::names::Entity;
use super::narrator::Narrator;
use super::phrases::{Row, WHERE_FOUND, WHO_HAS};
use super::story::Language;

/// A story and what is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passage {
    /// The story in one line, without the questions in it, which give their answers away.
    pub(super) context: String,
    /// At least one; the last may be about a thing that the story lacks.
    pub(super) questions: Vec<SpanQuestion>,
}

/// A question about a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpanQuestion {
    pub(super) text: String,
    /// None where the story does not say it.
    pub(super) answer: Option<Span>,
}

/// A part of a context, by the names that SQuAD's files have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Span {
    pub(super) text: String,
    /// Characters of the context before it.
    pub(super) answer_start: usize,
}

/// The passage of a story that was told. Who has a thing is answered by the last fact about it; a
/// thing that somebody bought or was given was found nowhere.
pub(super) fn passage(mut narrator: Narrator) -> Passage {
    let language = narrator.language;
    let mut context = String::new();
    // By thing: the name of who has it, and the phrase of where it was found.
    let (mut holders, mut places) =
        (BTreeMap::<usize, Span>::new(), BTreeMap::<usize, Span>::new());
    for event in &narrator.events {
        if matches!(event.kind, Kind::Question { .. }) {
            continue;
        }
        if language == Language::English && !context.is_empty() {
            context.push(' ');
        }
        let sentence = language.named(event, &narrator.scene);
        let before = context.chars().count();
        let first = |entity: Entity| {
            let name = sentence.names.iter().find(|name| name.entity == entity)?;
            Some(Span { text: name.text.clone(), answer_start: before + name.start })
        };
        match event.kind {
            Kind::Holds { thing, .. } => {
                holders.extend(first(Entity::Person).map(|person| (thing, person)));
            }
            Kind::Take { thing, .. } => {
                places.extend(first(Entity::Place).map(|place| (thing, place)));
            }
            _ => {}
        }
        context.push_str(&sentence.text);
    }
    let mut questions = Vec::new();
    for (&thing, holder) in &holders {
        questions.push(ask(language, WHO_HAS, thing, Some(holder.clone())));
        questions.push(ask(language, WHERE_FOUND, thing, places.get(&thing).cloned()));
    }
    let absent: Vec<usize> =
        (0..THINGS.len()).filter(|thing| !holders.contains_key(thing)).collect();
    if !absent.is_empty() {
        let thing = absent[narrator.dice.below(absent.len())];
        questions.push(ask(language, WHO_HAS, thing, None));
    }
    Passage { context, questions }
}

fn ask(language: Language, form: Row, thing: usize, answer: Option<Span>) -> SpanQuestion {
    let noun = &THINGS[thing];
    let (form, name) = match language {
        Language::English => (form.0, noun.english),
        Language::Chinese => (form.1, noun.chinese),
    };
    SpanQuestion { text: fill(form, &|_| name.to_owned()), answer }
}
