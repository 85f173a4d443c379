//! How the words of two texts match, as features of each word beside its id.
//!
//! A small model learns from little text which words are alike, so the matches are told to it (Chen
//! et al., "Reading Wikipedia to answer open-domain questions", 2017, section 3.2). Questions with
//! their contexts, and pairs of texts, share these features; `of_pair` has those of a pair.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::{Part, Place};
use crate::span::words::Words;

/// Values of [`likeness`]: nothing, or one of three likenesses to a word of one of
/// four classes of frequency.
pub(crate) const LIKENESSES: usize = 1 + 3 * FREQUENCIES;
pub(crate) const FREQUENCIES: usize = 4;
/// Values of [`runs`]: lengths from 0 to 4 words.
pub(crate) const RUNS: usize = 5;

/// The features of a position of a pair of texts, in the order of their tables: its text; how its word
/// is like one of the other text; the run around it; its pairs of neighbours; the shares of the words
/// of its own text and of the other one, and of the pairs of neighbours of both.
pub(crate) const PAIR_TABLES: [usize; 8] =
    [PARTS, LIKENESSES, RUNS, NEIGHBOURS, SHARES, SHARES, SHARES, SHARES];

/// First text, separator, second text.
const PARTS: usize = 3;
/// Whether the other text has the pair that begins here, and the one that ends here.
const NEIGHBOURS: usize = 4;
/// Nothing, six parts of equal size, everything.
const SHARES: usize = 8;

/// The words that training has most often, in lower case and by falling frequency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Frequent {
    ranks: HashMap<String, usize>,
}

/// How often a word occurs.
#[derive(Default)]
struct Count {
    words: usize,
    groups: usize,
    /// The last group that has the word.
    last: Option<usize>,
}

/// The most words that [`Frequent`] holds.
const MOST_FREQUENT: usize = 2000;
/// Characters of a stem: words that begin with the same ones are alike.
const STEM: usize = 5;

impl Frequent {
    /// Counts the words of groups of texts. Those that fewer than `least` groups have are left out, as
    /// if training lacked them.
    pub fn of<'a, G>(groups: impl IntoIterator<Item = G>, least: usize) -> Self
    where
        G: IntoIterator<Item = &'a str>,
    {
        let mut counts: HashMap<String, Count> = HashMap::new();
        for (group, texts) in groups.into_iter().enumerate() {
            for word in texts.into_iter().flat_map(|text| Words::of(text).lower) {
                let count = counts.entry(word).or_default();
                count.words += 1;
                count.groups += usize::from(count.last.replace(group) != Some(group));
            }
        }
        counts.retain(|_, count| count.groups >= least);
        let counts = counts.into_iter().map(|(word, count)| (word, count.words));
        let mut counts: Vec<(String, usize)> = counts.collect();
        counts.sort_unstable_by(|(a, first), (b, second)| second.cmp(first).then(a.cmp(b)));
        let words = counts.into_iter().take(MOST_FREQUENT).map(|(word, _)| word);
        words.collect::<Vec<_>>().into()
    }

    /// The class of a word's frequency, from 0 for marks and the most frequent words.
    fn class(&self, words: &Words<'_>, at: usize) -> usize {
        if words.is_mark(at) {
            return 0;
        }
        match self.ranks.get(words.lower[at].as_str()) {
            Some(0..40) => 0,
            Some(40..300) => 1,
            Some(_) => 2,
            None => 3,
        }
    }

    /// How much a word tells, from 0 to 1: the logarithm of its rank.
    pub(crate) fn weight(&self, words: &Words<'_>, at: usize) -> f64 {
        if words.is_mark(at) {
            return 0.0;
        }
        let rank = self.ranks.get(words.lower[at].as_str()).copied().unwrap_or(MOST_FREQUENT);
        (1.0 + rank as f64).ln() / (1.0 + MOST_FREQUENT as f64).ln()
    }
}

impl From<Vec<String>> for Frequent {
    fn from(words: Vec<String>) -> Self {
        Self { ranks: words.into_iter().enumerate().map(|(rank, word)| (word, rank)).collect() }
    }
}

impl From<Frequent> for Vec<String> {
    fn from(frequent: Frequent) -> Self {
        let mut words: Vec<(usize, String)> =
            frequent.ranks.into_iter().map(|(word, rank)| (rank, word)).collect();
        words.sort_unstable();
        words.into_iter().map(|(_, word)| word).collect()
    }
}

/// How each word is like a word of the other text: not at all, in its first characters, in all but
/// case, or in every character.
pub(crate) fn likeness(frequent: &Frequent, own: &Words<'_>, other: &Words<'_>) -> Vec<u32> {
    let exact: HashSet<&str> = other.words().into_iter().collect();
    let lower: HashSet<&str> = other.lower.iter().map(String::as_str).collect();
    let stems: HashSet<&str> = other.lower.iter().filter_map(|word| stem(word)).collect();
    let words = own.words();
    let like = |at: usize| {
        let kind = if exact.contains(words[at]) {
            2
        } else if lower.contains(own.lower[at].as_str()) {
            1
        } else if stem(&own.lower[at]).is_some_and(|stem| stems.contains(stem)) {
            0
        } else {
            return 0;
        };
        (1 + kind * FREQUENCIES + frequent.class(own, at)) as u32
    };
    (0..own.len()).map(like).collect()
}

/// Whether a likeness is that of one of the rarer words.
pub(crate) fn is_rare(likeness: u32) -> bool {
    likeness > 0 && (likeness as usize - 1) % FREQUENCIES >= 2
}

fn stem(word: &str) -> Option<&str> {
    let (at, last) = word.char_indices().nth(STEM - 1)?;
    Some(&word[..at + last.len_utf8()])
}

/// The length of the longest run around each word that the other text has too, up to 4. The time grows
/// with the sum of both lengths, not with their product.
pub(crate) fn runs(own: &Words<'_>, other: &Words<'_>) -> Vec<u32> {
    let mut runs = vec![0; own.len()];
    // A longer run is one of these at each of its words.
    for length in 1..RUNS {
        let theirs: HashSet<&[String]> = other.lower.windows(length).collect();
        for (at, run) in own.lower.windows(length).enumerate() {
            if theirs.contains(run) {
                runs[at..at + length].fill(length as u32);
            }
        }
    }
    runs
}

/// `[F, n]`: the features of the n tokens of a pair of texts by their places, in the order of
/// [`PAIR_TABLES`]. A token has the row of the first word that it is a part of. The shares are the same
/// at each position of a text, so that any of them tells how far the two agree.
pub(crate) fn of_pair(frequent: &Frequent, texts: [&str; 2], places: &[Place]) -> Vec<u32> {
    let first = read_words(texts[0], Part::First, places);
    let second = read_words(texts[1], Part::Second, places);
    let sides = [Side::of(frequent, &first, &second), Side::of(frequent, &second, &first)];
    let row = |place: &Place| {
        let (words, own, other) = match place.part {
            Part::First | Part::Separator => (&first, &sides[0], &sides[1]),
            Part::Second => (&second, &sides[1], &sides[0]),
        };
        let word = word_at(words, &place.bytes);
        let [like, run, neighbours] = word.map_or([0; 3], |word| own.words[word]);
        let ([words, pairs], [other_words, other_pairs]) = (own.shares, other.shares);
        [place.part as u32, like, run, neighbours, words, other_words, pairs, other_pairs]
    };
    let rows: Vec<[u32; PAIR_TABLES.len()]> = places.iter().map(row).collect();
    (0..PAIR_TABLES.len()).flat_map(|table| rows.iter().map(move |row| row[table])).collect()
}

/// The words of a text up to its last token that is read: the model sees no others, and the time to
/// compare two texts is bounded.
fn read_words<'a>(text: &'a str, part: Part, places: &[Place]) -> Words<'a> {
    let last = places.iter().rev().find(|place| place.part == part);
    let end = last.map_or(0, |place| place.bytes.end);
    Words::of(text.get(..end).unwrap_or(text))
}

/// The first word that shares a byte with a token; none between words.
fn word_at(words: &Words<'_>, bytes: &Range<usize>) -> Option<usize> {
    let at = words.ranges.partition_point(|word| word.end <= bytes.start);
    words.ranges.get(at).filter(|word| word.start < bytes.end).map(|_| at)
}

/// What one text of a pair has of the other.
struct Side {
    /// The likeness, the run and the neighbours of each word.
    words: Vec<[u32; 3]>,
    /// How much of its words, and of its pairs of neighbours, the other text has.
    shares: [u32; 2],
}

impl Side {
    fn of(frequent: &Frequent, own: &Words<'_>, other: &Words<'_>) -> Self {
        let weight = |at: usize| frequent.weight(own, at);
        let lower: HashSet<&str> = other.lower.iter().map(String::as_str).collect();
        let words = own.lower.iter().enumerate();
        let words = words.map(|(at, word)| (weight(at), lower.contains(word.as_str())));
        let pairs: HashSet<&[String]> = other.lower.windows(2).collect();
        let shared: Vec<bool> = own.lower.windows(2).map(|pair| pairs.contains(pair)).collect();
        let pairs = shared.iter().enumerate();
        let pairs = pairs.map(|(at, &is_shared)| (weight(at) + weight(at + 1), is_shared));
        let shares = [share(words), share(pairs)];
        let is_shared = |pair: Option<usize>| {
            u32::from(pair.and_then(|pair| shared.get(pair)).copied().unwrap_or(false))
        };
        let likenesses = likeness(frequent, own, other).into_iter().zip(runs(own, other));
        let row = |(at, (like, run)): (usize, (u32, u32))| {
            [like, run, is_shared(Some(at)) + 2 * is_shared(at.checked_sub(1))]
        };
        Self { words: likenesses.enumerate().map(row).collect(), shares }
    }
}

/// The class of the share by weight of some parts that the other text has.
fn share(parts: impl Iterator<Item = (f64, bool)>) -> u32 {
    let (mut all, mut shared) = (0.0, 0.0);
    for (weight, is_shared) in parts {
        all += weight;
        shared += if is_shared { weight } else { 0.0 };
    }
    // Equal weights are added up in one order, so that both sums are equal where all parts are shared.
    if shared <= 0.0 {
        0
    } else if shared >= all {
        SHARES as u32 - 1
    } else {
        let between = SHARES - 2;
        1 + ((shared * between as f64 / all) as u32).min(between as u32 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(part: Part, text: &str, token: &str) -> Place {
        let start = text.find(token).unwrap();
        Place { part, bytes: start..start + token.len() }
    }

    /// The columns of the features of two texts whose tokens are given.
    fn columns(frequent: &Frequent, texts: [&str; 2], tokens: [&[&str]; 2]) -> Vec<Vec<u32>> {
        let of = |part: Part, side: usize| {
            tokens[side].iter().map(move |token| place(part, texts[side], token))
        };
        let separator = Place { part: Part::Separator, bytes: 0..0 };
        let places: Vec<Place> =
            of(Part::First, 0).chain([separator]).chain(of(Part::Second, 1)).collect();
        let features = of_pair(frequent, texts, &places);
        assert_eq!(features.len(), places.len() * PAIR_TABLES.len());
        let columns: Vec<Vec<u32>> = features.chunks(places.len()).map(<[u32]>::to_vec).collect();
        for (column, rows) in columns.iter().zip(PAIR_TABLES) {
            assert!(column.iter().all(|&value| (value as usize) < rows), "{column:?}");
        }
        columns
    }

    fn chosen(words: &[&str]) -> Frequent {
        words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>().into()
    }

    #[test]
    fn a_pair_of_texts_says_how_its_words_match() {
        let frequent = chosen(&["the", "a", "cat"]);
        let texts = ["A grey cat sleeps", "the Grey cat sleeping"];
        // A token of a space, one that begins with a space, and two of one word.
        let tokens: [&[&str]; 2] =
            [&["A", " ", " grey", "cat", "slee", "ps"], &["the", "Grey", "cat", "sleeping"]];
        let found = columns(&frequent, texts, tokens);
        assert_eq!(found[0], [0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2]);
        // Likeness but for case to a rare word, the same frequent word, and the stem of a rare one.
        assert_eq!(found[1], [0, 0, 8, 9, 4, 4, 0, 0, 8, 9, 4]);
        assert_eq!(found[2], [0, 0, 2, 2, 0, 0, 0, 0, 2, 2, 0]);
        // `grey cat` begins at one word and ends at the next.
        assert_eq!(found[3], [0, 0, 1, 2, 0, 0, 0, 0, 1, 2, 0]);
        // Of the words 1.145 of 2.236 and of 2.145, of the pairs 1.145 of 3.380 and of 3.289.
        assert_eq!(found[4..], [[4; 11], [4; 11], [3; 11], [3; 11]]);
    }

    #[test]
    fn chinese_is_compared_by_its_characters() {
        let texts = ["借呗怎么还款", "怎么还花呗"];
        let tokens: [&[&str]; 2] =
            [&["借", "呗", "怎", "么", "还", "款"], &["怎", "么", "还", "花", "呗"]];
        let found = columns(&Frequent::default(), texts, tokens);
        assert_eq!(found[1], [0, 12, 12, 12, 12, 0, 0, 12, 12, 12, 0, 12]);
        assert_eq!(found[2], [0, 1, 3, 3, 3, 0, 0, 3, 3, 3, 0, 1]);
        assert_eq!(found[3], [0, 0, 1, 3, 2, 0, 0, 1, 3, 2, 0, 0]);
        // 4 of 6 characters are in the second text, and 4 of its 5 in the first; 2 of 5 pairs, and 2 of 4.
        assert_eq!((found[4][0], found[5][0], found[4][11], found[5][11]), (5, 5, 5, 5));
        assert_eq!((found[6][0], found[7][0], found[6][11], found[7][11]), (3, 4, 4, 3));

        // What is cut off is no match, and a token of several characters has the row of the first.
        let tokens: [&[&str]; 2] = [&["借呗", "怎么", "还款"], &["怎么", "还"]];
        let found = columns(&Frequent::default(), texts, tokens);
        assert_eq!(found[1], [0, 12, 12, 0, 12, 12]);
        assert_eq!((found[4][0], found[5][0]), (4, 7));
    }

    /// The longest common run that covers each word, found by comparing every place with every other.
    fn runs_by_definition(own: &Words<'_>, other: &Words<'_>) -> Vec<u32> {
        let mut runs = vec![0; own.len()];
        for at in 0..own.len() {
            for place in 0..other.len() {
                let pairs = own.lower[at..].iter().zip(&other.lower[place..]);
                let length = pairs.take_while(|(a, b)| a == b).count();
                let covered = runs[at..at + length].iter_mut();
                covered.for_each(|run: &mut u32| *run = (*run).max(length.min(RUNS - 1) as u32));
            }
        }
        runs
    }

    #[test]
    fn runs_are_the_longest_ones_that_cover_a_word() {
        // Few words, so that runs of every length cross each other.
        let text = |count: usize, seed: usize| -> String {
            let word = |at: usize| ["a ", "b ", "C "][(at * at * 7 + at * seed + at / 5) % 3];
            (0..count).map(word).collect()
        };
        for (own, other) in [(0, 5), (1, 1), (3, 40), (40, 3), (60, 70), (5, 0)] {
            for seed in 0..8 {
                let (own, other) = (text(own, seed), text(other, seed + 3));
                let (own, other) = (Words::of(&own), Words::of(&other));
                let found = runs(&own, &other);
                assert_eq!(found, runs_by_definition(&own, &other), "{own:?} {other:?}");
            }
        }
    }

    #[test]
    fn shares_are_parted_evenly_between_nothing_and_everything() {
        let of = |shared: f64| share([(shared, true), (1.0 - shared, false)].into_iter());
        assert_eq!([0.0, 0.01, 0.25, 0.5, 0.99].map(of), [0, 1, 2, 4, 6]);
        assert_eq!(share([(0.3, true), (0.1, true), (0.0, false)].into_iter()), 7);
        assert_eq!(share(std::iter::empty()), 0);
        assert_eq!(share(std::iter::once((0.0, true))), 0);
        let nothing = columns(&Frequent::default(), ["a", "!"], [&["a"], &["!"]]);
        assert_eq!(nothing, [[0, 1, 2], [0; 3], [0; 3], [0; 3], [0; 3], [0; 3], [0; 3], [0; 3]]);
    }

    #[test]
    fn frequent_words_are_kept_in_order() {
        let frequent = Frequent::of([["b a b"], ["c a b"]], 1);
        let json = serde_json::to_string(&frequent).unwrap();
        assert_eq!(json, r#"["b","a","c"]"#);
        assert_eq!(serde_json::from_str::<Frequent>(&json).unwrap(), frequent);
        // `c` and `d` are in one pair alone.
        let frequent = Frequent::of([["b a", "b d"], ["a b", "c c"]], 2);
        assert_eq!(serde_json::to_string(&frequent).unwrap(), r#"["b","a"]"#);
    }
}
