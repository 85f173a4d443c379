//! Features of a word beside its id: how it, and the text around it, match the question. Those that
//! any two texts have are in `matches.rs`.

use std::collections::{HashMap, HashSet};

use super::words::Words;
use crate::matches::{Frequent, LIKENESSES, RUNS, is_rare, likeness, runs};

/// The features of a position, in the order of their tables.
pub const TABLES: [usize; 6] = [PARTS, LIKENESSES, RUNS, SENTENCES, DISTANCES, KINDS];

/// Question, the mark of no answer, context.
const PARTS: usize = 3;
/// How much of the question the word's sentence has, compared with the best sentence.
const SENTENCES: usize = 6;
/// Words to the nearest match that is no frequent word.
const DISTANCES: usize = 8;
/// The kinds of [`ASKING`], and another one.
const KINDS: usize = 9;

/// Words that say what is asked for, with their kind; the first that a question has counts.
const ASKING: [(&str, u32); 33] = [
    (" how many ", 1),
    (" how much ", 1),
    (" what year ", 2),
    (" when ", 2),
    (" where ", 3),
    (" who ", 4),
    (" whom ", 4),
    (" whose ", 4),
    (" why ", 5),
    (" how ", 6),
    (" which ", 7),
    (" what ", 8),
    ("什么时候", 2),
    ("什么时间", 2),
    ("何时", 2),
    ("哪一年", 2),
    ("哪年", 2),
    ("多少", 1),
    ("几", 1),
    ("多大", 1),
    ("谁", 4),
    ("哪里", 3),
    ("哪儿", 3),
    ("何地", 3),
    ("什么地方", 3),
    ("为什么", 5),
    ("为何", 5),
    ("怎么", 6),
    ("怎样", 6),
    ("如何", 6),
    ("哪", 7),
    ("什么", 8),
    ("何", 8),
];

/// The features of each word of a question and of its context.
pub struct Matches {
    /// A row for each word of the question.
    pub question: Vec<[u32; TABLES.len()]>,
    /// The row of the mark of no answer.
    pub none: [u32; TABLES.len()],
    /// A row for each word of the context.
    pub context: Vec<[u32; TABLES.len()]>,
}

impl Matches {
    /// Compares a question with its context.
    pub fn of(frequent: &Frequent, question: &Words<'_>, context: &Words<'_>) -> Self {
        let kind = asked_kind(question);
        let sides = |own: &Words<'_>, other: &Words<'_>| {
            let (likeness, run) = (likeness(frequent, own, other), runs(own, other));
            likeness.into_iter().zip(run).collect::<Vec<_>>()
        };
        let of_question = sides(question, context).into_iter();
        let of_context = sides(context, question);
        let likenesses: Vec<u32> = of_context.iter().map(|&(likeness, _)| likeness).collect();
        let sentences = sentence_shares(frequent, question, context);
        let near = distances(&likenesses);
        let of_context = of_context.into_iter().enumerate();
        Self {
            question: of_question.map(|(like, run)| [0, like, run, 0, 0, kind]).collect(),
            none: [1, 0, 0, 0, 0, kind],
            context: of_context
                .map(|(at, (like, run))| [2, like, run, sentences[at], near[at], kind])
                .collect(),
        }
    }
}

/// The kind of answer that a question asks for; 0 where no word of [`ASKING`] tells it.
fn asked_kind(question: &Words<'_>) -> u32 {
    let spaced = format!(" {} ", question.lower.join(" "));
    let has = |pattern: &str| match pattern.is_ascii() {
        true => spaced.contains(pattern),
        false => question.text.contains(pattern),
    };
    ASKING.iter().find(|(pattern, _)| has(pattern)).map_or(0, |&(_, kind)| kind)
}

/// For each word of the context, how much of the question its sentence has: 1 for the best sentence,
/// 5 for less than a quarter of it.
fn sentence_shares(frequent: &Frequent, question: &Words<'_>, context: &Words<'_>) -> Vec<u32> {
    let mut asked: HashMap<&str, f64> = HashMap::new();
    for (at, word) in question.lower.iter().enumerate() {
        asked.insert(word, frequent.weight(question, at));
    }
    let sentences = context.sentences();
    let weight = |sentence: &std::ops::Range<usize>| {
        let own: HashSet<&str> =
            context.lower[sentence.clone()].iter().map(String::as_str).collect();
        // In the order of the question: a sum has one value.
        let mut words: Vec<&str> =
            own.into_iter().filter(|word| asked.contains_key(word)).collect();
        words.sort_unstable();
        words.into_iter().filter_map(|word| asked.get(word)).sum::<f64>()
    };
    let weights: Vec<f64> = sentences.iter().map(weight).collect();
    let most = weights.iter().copied().fold(0.0, f64::max);
    let mut shares = vec![0; context.len()];
    for (sentence, weight) in sentences.into_iter().zip(weights) {
        let share = if most > 0.0 { weight / most } else { 0.0 };
        let bucket = match share {
            1.0.. => 1,
            0.75.. => 2,
            0.5.. => 3,
            0.25.. => 4,
            _ => 5,
        };
        shares[sentence].fill(bucket);
    }
    shares
}

/// The class of the distance of each word to the nearest one whose likeness is that of a rarer word.
fn distances(likenesses: &[u32]) -> Vec<u32> {
    let far = likenesses.len() + 1;
    let mut distances = vec![far; likenesses.len()];
    let places = 0..likenesses.len();
    for order in [places.clone().collect::<Vec<_>>(), places.rev().collect()] {
        let mut distance = far;
        for at in order {
            distance = if is_rare(likenesses[at]) { 0 } else { (distance + 1).min(far) };
            distances[at] = distances[at].min(distance);
        }
    }
    let class = |distance: usize| match distance {
        _ if distance == far => 7,
        0..=2 => 1 + distance as u32,
        3..=4 => 4,
        5..=8 => 5,
        9..=16 => 6,
        _ => 7,
    };
    distances.into_iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matches::FREQUENCIES;

    const CONTEXT: &str = "The castle was built in 1200. Nobody knows who built the bridge. Amen.";

    fn matches(question: &str, context: &str) -> Matches {
        let texts = ["the the the the", context, "the castle"];
        let frequent = Frequent::of(texts.map(|text| [text]), 1);
        Matches::of(&frequent, &Words::of(question), &Words::of(context))
    }

    #[test]
    fn words_of_the_question_are_seen_in_the_context() {
        let found = matches("When was the Castles bridge built?", CONTEXT);
        let of = |table: usize| found.context.iter().map(|row| row[table]).collect::<Vec<_>>();
        assert!(of(0).iter().all(|&part| part == 2));
        let likeness = of(1);
        let kinds: Vec<u32> =
            likeness.iter().map(|&like| like.div_ceil(FREQUENCIES as u32)).collect();
        // The · castle · was · built · in · 1200 · `.`, then the next sentence.
        assert_eq!(kinds[..7], [2, 1, 3, 3, 0, 0, 0]);
        assert_eq!(of(2)[..7], [1, 0, 1, 1, 0, 0, 0]);
        // The first sentence has three of the words, the second one as well, `Amen.` none.
        let sentences = of(3);
        assert!(sentences[..7].contains(&1) || sentences[7..14].contains(&1), "{sentences:?}");
        assert_eq!(sentences[sentences.len() - 1], 5);
        assert!(of(5).iter().all(|&kind| kind == 2));
        assert_eq!((found.none[0], found.none[5]), (1, 2));
        assert_eq!(found.question.len(), 7);
        for row in found.context.iter().chain(&found.question).chain([&found.none]) {
            assert!(row.iter().zip(TABLES).all(|(&value, rows)| (value as usize) < rows));
        }
    }

    #[test]
    fn runs_are_marked_whole() {
        let found = matches("who built the bridge", CONTEXT);
        let runs: Vec<u32> = found.context.iter().map(|row| row[2]).collect();
        assert_eq!(runs, [1, 0, 0, 1, 0, 0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0]);
        let found = matches("苏黎世在哪", "他住苏黎世。");
        let runs: Vec<u32> = found.context.iter().map(|row| row[2]).collect();
        assert_eq!(runs, [0, 0, 3, 3, 3, 0]);
        assert_eq!(found.context[0][5], 7);
    }

    #[test]
    fn distances_are_to_rare_matches() {
        let rare = LIKENESSES as u32 - 1;
        let mut likenesses = vec![0; 30];
        likenesses[1] = rare;
        likenesses[29] = 1;
        let classes = distances(&likenesses);
        assert_eq!(classes[..8], [2, 1, 2, 3, 4, 4, 5, 5]);
        assert_eq!(classes[29], 7);
        assert_eq!(distances(&[0, 1]), [7, 7]);
        assert_eq!(distances(&[]), [0_u32; 0]);
    }
}
