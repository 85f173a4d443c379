use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::event::Kind;
use super::lexicon::{HEROES, PEOPLE, SPOTS, THINGS};
use super::narrator::Narrator;
use super::world::World;
use super::*;
use crate::corpus::conll::{Conll, ConllOptions};
use crate::corpus::questions::{Questions, Repairs};

/// Hash of the first 100,000 bytes of seed 0.
const FIRST_BYTES: u64 = 0xb3f2_136a_9099_e02a;

const BOTH: [Language; 2] = [Language::English, Language::Chinese];

/// The FNV-1a hash in 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let sample = text(0, 100_000);
    // A change to the words or the telling changes this figure; a platform must not.
    assert_eq!(hash(&sample.as_bytes()[..100_000]), FIRST_BYTES);
    assert_eq!(sample, text(0, 100_000));
    assert_ne!(sample, text(1, 100_000));
}

#[test]
fn text_is_the_stories_in_order() {
    let texts: Vec<String> = stories(3, 200).into_iter().map(|story| story.text).collect();
    let joined = texts.join("\n\n") + "\n";
    let sample = text(3, joined.len());
    assert_eq!(sample, joined);
    assert!(text(3, 50_000).len() < 54_000);
}

#[test]
fn text_longer_than_memory_comes_in_parts() {
    let first: String = parts(3, usize::MAX).take(20).collect();
    assert_eq!(first, text(3, first.len()));
}

#[test]
fn text_is_well_formed() {
    let sample = text(0, 1_500_000);
    assert!(!sample.contains("  ") && !sample.contains("\n\n\n") && !sample.contains(['{', '}']));
    for line in sample.lines().filter(|line| !line.is_empty()) {
        assert!(line.ends_with(['.', '!', '?', '"', '。', '！', '？', '”']), "{line}");
        assert!(!line.starts_with(' ') && !line.ends_with(' '), "{line}");
    }
    let both = ["。。", "，。", "？。", "..", ".\".", ",.", " ,", "?.", "， "];
    assert_eq!(both.iter().find(|bad| sample.contains(**bad)), None);
}

#[test]
fn english_sentences_begin_with_capitals_and_take_the_right_article() {
    for story in stories_in(Language::English, 7, 500) {
        let words: Vec<&str> = story.text.split_whitespace().collect();
        for pair in words.windows(2) {
            let next = pair[1].trim_start_matches('"');
            if pair[0].ends_with('.') && !pair[0].ends_with("\".") {
                assert!(next.starts_with(char::is_uppercase), "{pair:?} in {}", story.text);
            }
            let vowel = next.starts_with(['a', 'e', 'i', 'o', 'u']);
            let article = pair[0].trim_start_matches('"').to_lowercase();
            assert!(article != "a" || !vowel, "{pair:?}");
            assert!(article != "an" || vowel, "{pair:?}");
        }
        assert!(story.text.is_ascii());
        assert!(story.summary.ends_with('.') && !story.summary.contains('{'));
    }
}

#[test]
fn chinese_stories_contain_no_ascii() {
    for story in stories_in(Language::Chinese, 7, 500) {
        let stray = story.text.chars().find(|c| c.is_ascii() && *c != '\n');
        assert_eq!(stray, None, "{}", story.text);
        assert!(!story.title.chars().any(|c| c.is_ascii()), "{}", story.title);
        assert!(!story.summary.chars().any(|c| c.is_ascii()), "{}", story.summary);
    }
}

#[test]
fn a_character_tokenizer_stays_small() {
    let types = |language| {
        let stories = stories_in(language, 1, 3000);
        stories.iter().flat_map(|story| story.text.chars()).collect::<BTreeSet<char>>().len()
    };
    let (english, chinese) = (types(Language::English), types(Language::Chinese));
    assert!(english < 80, "{english}");
    assert!(chinese < 400, "{chinese}");
}

#[test]
fn labels_and_languages_are_balanced() {
    let stories = stories(5, 3000);
    let count = |test: &dyn Fn(&Story) -> bool| stories.iter().filter(|story| test(story)).count();
    for sentiment in Sentiment::ALL {
        assert!((850..1150).contains(&count(&|story| story.sentiment == sentiment)));
    }
    for topic in Topic::ALL {
        assert!((400..600).contains(&count(&|story| story.topic == topic)));
    }
    assert!((2250..2550).contains(&count(&|story| story.language == Language::English)));
}

#[test]
fn answers_follow_from_the_events() {
    for language in BOTH {
        for seed in 0..300 {
            let mut narrator = Narrator::new(Dice::new(seed, 0), language);
            narrator.tell();
            let mut world = World::default();
            let mut asked = 0;
            for event in &narrator.events {
                if let Kind::Give { giver, thing, .. } = event.kind {
                    assert_eq!(world.holder(thing), Some(giver));
                }
                world.apply(event);
                if let Kind::Question { person, thing } | Kind::Holds { person, thing } = event.kind
                {
                    assert_eq!(world.holder(thing), Some(person));
                }
                if let Kind::Question { person, .. } = event.kind {
                    assert_eq!(narrator.questions[asked].answer, language.name(person));
                    asked += 1;
                }
            }
            assert_eq!(asked, narrator.questions.len());
        }
    }
}

/// The fact that supports a question, found in text by its fixed wording: the text from its end
/// up to the answer.
fn since_fact<'a>(before: &'a str, question: &str, answer: &str, language: Language) -> &'a str {
    let fact = match language {
        Language::English => {
            let thing = question.trim_start_matches("Who has the ").trim_end_matches('?');
            format!("Now {answer} had the {thing}.")
        }
        Language::Chinese => {
            let thing = question.trim_start_matches("谁拿着").trim_end_matches('？');
            format!("现在{answer}拿着{thing}。")
        }
    };
    let start = before.rfind(&fact).unwrap_or_else(|| panic!("no {fact:?} in {before}"));
    &before[start + fact.len()..]
}

#[test]
fn questions_in_stories_lie_at_their_distances_and_answers_are_not_restated() {
    let mut total = 0;
    let mut doublings = BTreeMap::new();
    for language in BOTH {
        for story in stories_in(language, 11, 400) {
            let mut searched = 0;
            for StoryQuestion { question, answer, distance } in &story.questions {
                let line = match language {
                    Language::English => format!("\n{question} {answer}."),
                    Language::Chinese => format!("\n{question}{answer}。"),
                };
                let start =
                    searched + story.text[searched..].find(&line).expect("the question's line");
                searched = start + line.len();
                let answer_start =
                    searched - answer.len() - line.chars().next_back().map_or(0, char::len_utf8);
                let between = since_fact(&story.text[..answer_start], question, answer, language);
                assert_eq!(between.chars().count(), *distance);
                assert!(!between.contains(answer.as_str()), "{answer} in {between}");
                *doublings.entry((distance / 20).max(1).ilog2()).or_insert(0) += 1;
                total += 1;
            }
        }
    }
    assert!(total > 3500, "{total}");
    // Every doubling from 20 to 1,280 characters is well represented.
    assert!((0..6).all(|doubling| doublings.get(&doubling) > Some(&100)), "{doublings:?}");
}

#[test]
fn recall_questions_lie_within_a_tenth_of_the_distance_asked() {
    for language in BOTH {
        for distance in (20..200).chain((200..=1000).step_by(25)) {
            for seed in 0..3 {
                let asked = recall_question(seed, distance, language);
                assert!(
                    asked.distance.abs_diff(distance) * 10 <= distance,
                    "{language:?} {distance} gave {}",
                    asked.distance
                );
                let question = asked.text_before_answer.lines().last().expect("a line").trim_end();
                let between =
                    since_fact(&asked.text_before_answer, question, &asked.answer, language);
                assert_eq!(between.chars().count(), asked.distance);
                assert!(!between.contains(&asked.answer));
                assert!(asked.candidates.contains(&asked.answer));
                assert_eq!(asked.candidates.len(), 8);
            }
        }
    }
    assert_eq!(recall_question(4, 100, BOTH[0]), recall_question(4, 100, BOTH[0]));
}

#[test]
fn recall_answers_are_true_in_the_world() {
    for seed in 0..300 {
        let (narrator, fact) = super::recall::told(seed, 200, Language::English);
        let mut world = World::default();
        narrator.events.iter().for_each(|event| world.apply(event));
        assert_eq!(world.holder(fact.thing), Some(fact.person));
    }
}

#[test]
fn every_name_is_the_answer_about_as_often() {
    let mut counts = BTreeMap::new();
    for seed in 0..2000 {
        let asked = recall_question(seed, 64 + (seed as usize % 192), Language::English);
        *counts.entry(asked.answer).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 8);
    assert!(counts.values().all(|&count| (125..375).contains(&count)), "{counts:?}");
}

#[test]
fn pairs_are_distinct_and_complete() {
    let pairs = pairs(0, 10_000);
    let distinct: BTreeSet<&str> = pairs.iter().map(|pair| pair.english.as_str()).collect();
    assert!(distinct.len() > 9_900);
    for pair in &pairs {
        assert!(pair.english.is_ascii() && !pair.english.contains('{'), "{}", pair.english);
        assert!(!pair.chinese.chars().any(|c| c.is_ascii()), "{}", pair.chinese);
        assert!(pair.english.ends_with(['.', '!', '"']), "{}", pair.english);
        assert!(pair.chinese.ends_with(['。', '！', '”']), "{}", pair.chinese);
    }
}

/// The fields of a table's rows, the names of its columns first.
fn table(table: Table, rows: TableRows) -> Vec<Vec<String>> {
    let text = written(table, rows);
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// The text of a table.
fn written(table: Table, rows: TableRows) -> String {
    let mut bytes = Vec::new();
    write_table(&mut bytes, table, rows).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn tables_are_the_labels_of_the_stories() {
    let rows = TableRows { seed: 3, count: 40, language: None };
    let stories = stories(3, 40);
    let sentiment: fn(&Story) -> String = |s| s.sentiment.name().to_owned();
    for (kind, columns, label) in [
        (Table::Sentiment, ["text", "label"], sentiment),
        (Table::Topic, ["text", "label"], |s| s.topic.name().to_owned()),
        (Table::Summaries, ["document", "summary"], |s| s.summary.clone()),
    ] {
        let table = table(kind, rows);
        assert_eq!(table[0], columns);
        assert_eq!(table.len(), 41);
        for (row, story) in table[1..].iter().zip(&stories) {
            assert_eq!(row.len(), 2);
            assert_eq!(row[1], label(story));
            let solid = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(solid(&row[0]), solid(&story.text));
        }
    }
    let pairs_table = table(Table::Pairs, rows);
    assert_eq!(pairs_table[0], ["source", "target"]);
    for (row, pair) in pairs_table[1..].iter().zip(pairs(3, 40)) {
        assert_eq!(*row, [pair.english, pair.chinese]);
    }
}

#[test]
fn a_table_of_questions_has_their_answers_at_the_distance_asked_for() {
    for language in BOTH {
        let rows = TableRows { seed: 3, count: 30, language: Some(language) };
        let table = table(Table::Questions { distance: 120 }, rows);
        assert_eq!(table[0], ["text", "question", "answer", "distance"]);
        for row in &table[1..] {
            let [text, question, answer, distance] = &row[..] else { panic!("{row:?}") };
            assert!(text.contains(answer) && question.ends_with(['?', '？']), "{row:?}");
            assert!(distance.parse::<usize>().unwrap().abs_diff(120) <= 12);
        }
        assert_eq!(table[1..].iter().collect::<BTreeSet<_>>().len(), 30);
    }
}

#[test]
fn a_table_of_labels_has_the_topic_the_feeling_and_the_things_of_each_story() {
    let text = written(Table::Labels, TableRows { seed: 3, count: 40, language: None });
    assert_eq!(text.lines().count(), 40);
    for (line, story) in text.lines().zip(stories(3, 40)) {
        let labels: Vec<&str> =
            line.split(' ').map_while(|word| word.strip_prefix("__label__")).collect();
        assert_eq!(labels[..2], [story.topic.name(), story.sentiment.name()]);
        // In Chinese a drum is also a part of the word for applause.
        for noun in THINGS.iter().filter(|_| story.language == Language::English) {
            let is_told = story.text.contains(&format!(" {}", noun.english));
            assert_eq!(labels[2..].contains(&noun.english), is_told, "{line}");
        }
    }
}

/// Whether a type of names has one of this text.
fn is_known(kind: &str, text: &str, language: Language) -> bool {
    let is = |english: &str, chinese: &str| match language {
        Language::English => text == english,
        Language::Chinese => text == chinese,
    };
    match kind {
        "PER" => PEOPLE.iter().chain(&HEROES).any(|person| is(person.english, person.chinese)),
        "THING" => THINGS.iter().any(|noun| match language {
            Language::English => text.ends_with(noun.english),
            Language::Chinese => text.ends_with(noun.chinese),
        }),
        "LOC" => SPOTS.iter().any(|(english, chinese)| is(english, chinese)),
        _ => false,
    }
}

#[test]
fn a_table_of_entities_has_the_sentences_of_stories_and_their_names() {
    for language in BOTH {
        let rows = TableRows { seed: 3, count: 300, language: Some(language) };
        let bytes = written(Table::Entities, rows).into_bytes();
        let file = Conll::parse("it", bytes, ConllOptions::default()).unwrap();
        let sentences = (0..).flat_map(|number| {
            let Narrator { scene, events, .. } = told(3, number, Some(language));
            events.into_iter().map(move |event| language.sentence(&event, &scene))
        });
        let told: Vec<String> = sentences.take(300).collect();
        assert_eq!(file.sentences().len(), told.len());
        let (space, mut kinds) = (if language == Language::English { " " } else { "" }, [0; 3]);
        for (sentence, told) in file.sentences().iter().zip(&told) {
            let words: Vec<&str> = file.cells(sentence, 0).collect();
            assert_eq!(words.concat(), told.split(' ').collect::<String>());
            let mut names: Vec<(String, String)> = Vec::new();
            for (word, tag) in words.into_iter().zip(file.cells(sentence, 1)) {
                match tag.split_once('-') {
                    Some(("B", kind)) => names.push((kind.to_owned(), word.to_owned())),
                    Some(("I", kind)) => {
                        let (begun, name) = names.last_mut().expect("a name begins with B");
                        assert_eq!(begun.as_str(), kind);
                        name.push_str(space);
                        name.push_str(word);
                    }
                    _ => assert_eq!(tag, "O"),
                }
            }
            for (kind, name) in names {
                assert!(is_known(&kind, &name, language), "{kind} {name}: {told}");
                assert!(told.contains(&name), "{name}: {told}");
                let place = ["PER", "THING", "LOC"].iter().position(|known| *known == kind);
                kinds[place.unwrap()] += 1;
            }
        }
        assert!(kinds.iter().all(|&count| count > 10), "{kinds:?}");
    }
}

#[test]
fn a_table_of_spans_has_answers_at_their_places() {
    for language in BOTH {
        let rows = TableRows { seed: 3, count: 400, language: Some(language) };
        let bytes = written(Table::Spans, rows).into_bytes();
        let file = Questions::parse("it", bytes, false).unwrap();
        assert_eq!((file.repairs(), file.iter().count()), (Repairs::default(), 400));
        let (mut without, mut found) = (0, 0);
        for (context, question) in file.iter() {
            assert!(!context.contains(question.text.as_str()), "{context}");
            assert_eq!(question.answers.is_empty(), question.is_impossible);
            let Some(answer) = question.answers.first() else {
                without += 1;
                continue;
            };
            let bytes = &answer.place.as_ref().expect("a place").bytes;
            let (before, after) = (&context[..bytes.start], &context[bytes.end..]);
            if question.text.starts_with("Who") || question.text.starts_with('谁') {
                assert!(before.ends_with("Now ") || before.ends_with("现在"), "{before}");
                assert!(after.starts_with(" had the ") || after.starts_with("拿着"), "{after}");
            } else {
                assert!(is_known("LOC", &answer.text, language), "{}", answer.text);
                found += 1;
            }
        }
        assert!((60..260).contains(&without) && found > 20, "{without} {found}");
    }
}

#[test]
fn who_has_a_thing_in_the_end_is_true_in_the_world() {
    for language in BOTH {
        for number in 0..100 {
            let narrator = told(3, number, Some(language));
            let mut world = World::default();
            narrator.events.iter().for_each(|event| world.apply(event));
            let holders = (0..THINGS.len()).filter_map(|thing| world.holder(thing));
            let holders: Vec<&str> = holders.map(|person| language.name(person)).collect();
            let questions = super::spans::passage(narrator).questions;
            let who = questions.iter().filter(|asked| asked.text.starts_with(['W', '谁']));
            let who = who.filter(|asked| !asked.text.starts_with("Where"));
            let answers = who.filter_map(|asked| asked.answer.as_ref());
            let answers: Vec<&str> = answers.map(|answer| answer.text.as_str()).collect();
            assert_eq!(answers, holders);
        }
    }
}

#[test]
fn a_distance_beyond_all_bounds_is_the_longest() {
    let far = recall_question(1, usize::MAX, Language::Chinese).distance;
    assert!(far.abs_diff(LONGEST_DISTANCE) <= LONGEST_DISTANCE / 10, "{far}");
}
