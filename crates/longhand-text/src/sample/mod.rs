//! The built-in sample: short stories in English and Chinese from a hand-made grammar.
//!
//! 1. `scene` is drawn (hero, place, topic, feeling), and `world` keeps who holds what;
//! 2. `narrator` lets events happen one by one and plants who-has-what questions;
//! 3. `english` and `chinese` render each event with the words of `lexicon` and `phrases`;
//! 4. `names` has the places of the names in a sentence, and `table` writes labels of all kinds.
//!
//! Every label is read off the events, never parsed from text. The same seed gives the same
//! bytes on every platform.
//!
//! A story's people, animals and weather vary freely, but the facts that questions are about have
//! one wording each, so that a small model can learn to bind them:
//!
//! ```text
//! Now Mira had the lantern.     现在小梅拿着灯笼。
//! Who has the lantern? Mira.    谁拿着灯笼？小梅。
//! ```
//!
//! Between such a fact and its question the answer's name does not occur.

mod chinese;
mod dice;
mod english;
mod event;
mod lexicon;
mod names;
mod narrator;
mod phrases;
mod recall;
mod scene;
mod spans;
mod story;
mod table;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use dice::Dice;
use narrator::Narrator;

pub use story::{Language, RecallQuestion, SentencePair, Sentiment, Story, StoryQuestion, Topic};
pub use table::{Table, TableRows, write_table};

/// The longest distance of a question, in characters.
pub const LONGEST_DISTANCE: usize = 100_000;

/// Stories in English, of a hundred.
const ENGLISH_SHARE: usize = 80;
/// Streams of sentence pairs start here, far from those of stories.
const FIRST_PAIR_STREAM: u64 = 1 << 61;

/// Running text of at least `bytes` bytes, ending with the story that reaches them: the stories
/// of [`stories`] in order, with a blank line between them and a line break at the end.
pub fn text(seed: u64, bytes: usize) -> String {
    parts(seed, bytes).collect()
}

/// The parts of [`text`] one after the other, none of them longer than a story and its line
/// breaks: what is asked for may be longer than memory.
pub fn parts(seed: u64, bytes: usize) -> impl Iterator<Item = String> {
    let mut told = 0;
    (0..).map_while(move |number| {
        if told >= bytes {
            return None;
        }
        let blank = if number > 0 { "\n" } else { "" };
        let part = format!("{blank}{}\n", story(seed, number, None).text);
        told += part.len();
        Some(part)
    })
}

/// The first `count` stories of `seed`; about four in five are English.
pub fn stories(seed: u64, count: usize) -> Vec<Story> {
    (0..count as u64).map(|number| story(seed, number, None)).collect()
}

/// The first `count` stories of `seed`, all in one language.
pub fn stories_in(language: Language, seed: u64, count: usize) -> Vec<Story> {
    (0..count as u64).map(|number| story(seed, number, Some(language))).collect()
}

/// `count` sentences in both languages, each pair rendered from one event. They are distinct as
/// long as new ones are easily found, which holds for hundreds of thousands.
pub fn pairs(seed: u64, count: usize) -> Vec<SentencePair> {
    let mut seen = BTreeSet::new();
    let mut pairs = Vec::with_capacity(count);
    let mut stream = FIRST_PAIR_STREAM;
    let mut repeats = 0;
    while pairs.len() < count {
        let pair = pair(seed, stream);
        stream += 1;
        if seen.insert(pair.english.clone()) || repeats >= 50 {
            repeats = 0;
            pairs.push(pair);
        } else {
            repeats += 1;
        }
    }
    pairs
}

/// A question whose fact ends within 10 % of `distance` characters before the answer starts.
///
/// The shortest distance is that of a question right after its fact: 18 to 22 characters in
/// English by the length of the thing's name, 6 or 7 in Chinese. A smaller `distance` gives that,
/// and one above [`LONGEST_DISTANCE`] gives the longest. The story around it is told as in
/// [`text`], and is none of its stories; the answer's name does not occur between the
/// fact and the question.
pub fn recall_question(seed: u64, distance: usize, language: Language) -> RecallQuestion {
    recall::question(seed, distance.min(LONGEST_DISTANCE), language)
}

/// The narrator of a story that is told to its end.
fn told(seed: u64, number: u64, language: Option<Language>) -> Narrator {
    let mut dice = Dice::new(seed, number);
    let english = dice.chance(ENGLISH_SHARE);
    let drawn = if english { Language::English } else { Language::Chinese };
    let mut narrator = Narrator::new(dice, language.unwrap_or(drawn));
    narrator.tell();
    narrator
}

fn story(seed: u64, number: u64, language: Option<Language>) -> Story {
    let narrator = told(seed, number, language);
    let language = narrator.language;
    let scene = &narrator.scene;
    let (title, summary) = match language {
        Language::English => (english::title(scene), english::summary(scene)),
        Language::Chinese => (chinese::title(scene), chinese::summary(scene)),
    };
    Story {
        language,
        title,
        summary,
        sentiment: scene.sentiment,
        topic: scene.topic,
        text: narrator.page.text,
        questions: narrator.questions,
    }
}

fn pair(seed: u64, stream: u64) -> SentencePair {
    let mut narrator = Narrator::new(Dice::new(seed, stream), Language::English);
    let event = narrator.draw_translatable();
    SentencePair {
        english: Language::English.sentence(&event, &narrator.scene),
        chinese: Language::Chinese.sentence(&event, &narrator.scene),
    }
}
