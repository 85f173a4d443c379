//! The features of a word among its neighbours, as 64-bit keys.
//!
//! A word is a text: the word itself, and behind tabs its cells in further columns. With a window of 2 its
//! features are, in lower case, each word from −2 to 2 and the pairs (−1, 0) and (0, 1); the word as it
//! is written, its shape, and its prefixes and suffixes of up to four characters; and for each column each
//! cell from −2 to 2, every two and every three of them beside each other, and the word's own
//! cell together with the word. The places before a chain are one value, and those behind it another.

use super::super::grams::{BEGIN, END, Grams, joined};
use crate::spelling::{AFFIX, lower, prefix, shape, suffix};

/// Which features a word has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Templates {
    /// The neighbours on each side whose words and cells are features.
    pub(super) window: usize,
}

/// A kind of feature. Its number is a part of the keys.
#[derive(Clone, Copy)]
enum Kind {
    Lower,
    Written,
    Words,
    Shape,
    Prefix,
    Suffix,
    Cells,
    CellAndWord,
}

/// How texts are hashed: as they are written.
const TEXTS: Grams = Grams { words: 1, characters: None, case: true, bounds: false };
/// The longest run of cells that is a feature.
const CELLS: usize = 3;

/// A chain as templates read it.
struct Chain<'a> {
    words: Vec<&'a str>,
    /// The hash of each word in lower case.
    lower: Vec<u64>,
    /// The hash of each word's cell, column by column.
    columns: Vec<Vec<u64>>,
}

impl<'a> Chain<'a> {
    fn of(texts: &[&'a str]) -> Self {
        let (mut words, mut lowered) = (Vec::new(), Vec::new());
        let mut columns: Vec<Vec<u64>> = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            let mut cells = text.split('\t');
            let word = cells.next().unwrap_or_default();
            words.push(word);
            lowered.push(TEXTS.hash(&lower(word)));
            for (column, cell) in cells.enumerate() {
                if column == columns.len() {
                    columns.push(vec![TEXTS.hash(""); texts.len()]);
                }
                columns[column][place] = TEXTS.hash(cell);
            }
        }
        Self { words, lower: lowered, columns }
    }
}

impl Templates {
    /// Calls `take` with the keys of the features of each word of a chain, in order.
    pub(super) fn each(self, texts: &[&str], mut take: impl FnMut(&[u64])) {
        let chain = Chain::of(texts);
        let mut keys = Vec::new();
        for place in 0..texts.len() {
            keys.clear();
            self.of_word(&chain, place, &mut keys);
            self.of_cells(&chain, place, &mut keys);
            take(&keys);
        }
    }

    /// The features of the word itself and of the words around it.
    fn of_word(self, chain: &Chain<'_>, place: usize, keys: &mut Vec<u64>) {
        let own = |offset: usize| self.near(&chain.lower, place, offset);
        for offset in 0..self.runs(1) {
            keys.push(key(Kind::Lower, [0, offset], [own(offset)]));
        }
        for offset in self.window.saturating_sub(1)..self.runs(2).min(self.window + 1) {
            keys.push(key(Kind::Words, [0, offset], [own(offset), own(offset + 1)]));
        }
        let word = chain.words[place];
        keys.push(key(Kind::Written, [0, 0], [TEXTS.hash(word)]));
        keys.push(key(Kind::Shape, [0, 0], [TEXTS.hash(&shape(word))]));
        for length in 1..=AFFIX {
            let affixes =
                [(Kind::Prefix, prefix(word, length)), (Kind::Suffix, suffix(word, length))];
            for (kind, affix) in affixes {
                keys.extend(affix.map(|affix| key(kind, [0, length], [TEXTS.hash(affix)])));
            }
        }
    }

    /// The features of the cells around a word.
    fn of_cells(self, chain: &Chain<'_>, place: usize, keys: &mut Vec<u64>) {
        for (column, cells) in chain.columns.iter().enumerate() {
            for length in 1..=CELLS {
                for offset in 0..self.runs(length) {
                    let run = (offset..offset + length).map(|at| self.near(cells, place, at));
                    keys.push(key(Kind::Cells, [column, CELLS * offset + length - 1], run));
                }
            }
            let both = [cells[place], chain.lower[place]];
            keys.push(key(Kind::CellAndWord, [column, 0], both));
        }
    }

    /// The number of runs of some neighbours in the window.
    fn runs(self, length: usize) -> usize {
        (2 * self.window + 2).saturating_sub(length)
    }

    /// The hash at an offset into the window around a place.
    fn near(self, hashes: &[u64], place: usize, offset: usize) -> u64 {
        match (place + offset).checked_sub(self.window) {
            None => BEGIN,
            Some(place) => hashes.get(place).copied().unwrap_or(END),
        }
    }
}

/// The key of a feature, by its kind, two numbers that tell those of a kind apart, and hashes.
fn key(kind: Kind, numbers: [usize; 2], hashes: impl IntoIterator<Item = u64>) -> u64 {
    let numbers = [kind as usize + 1, numbers[0], numbers[1]].map(|number| number as u64);
    numbers.into_iter().chain(hashes).fold(BEGIN, joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(window: usize, texts: &[&str]) -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        Templates { window }.each(texts, |keys| all.push(keys.to_vec()));
        all
    }

    fn shared(one: &[u64], other: &[u64]) -> usize {
        one.iter().filter(|key| other.contains(key)).count()
    }

    #[test]
    fn every_template_has_a_key_of_its_own() {
        // Equal words and cells, so that the templates alone tell the keys apart.
        let texts = ["aaaaa\ta\ta"; 7];
        for (window, count) in
            [(0, 1 + 2 + 8 + 2 * 2), (1, 5 + 2 + 8 + 2 * 7), (2, 7 + 2 + 8 + 2 * 13)]
        {
            let found = keys(window, &texts);
            for (place, own) in found.iter().enumerate() {
                assert_eq!(own.len(), count, "{window} {place}");
                let mut sorted = own.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), count, "{window} {place}");
            }
            // In the middle no neighbour is beyond the chain.
            assert_eq!(found[3], found[window], "{window}");
            assert!(window == 0 || found[0] != found[3]);
        }
        assert!(keys(2, &[]).is_empty());
    }

    #[test]
    fn words_and_cells_are_seen_as_far_as_the_window_reaches() {
        let base = keys(2, &["a\tX", "b\tY", "c\tZ", "d\tX", "e\tY"]);
        // The word alone: its three words and pairs from the middle, and not those of other places.
        let other = keys(2, &["a\tX", "b\tY", "c\tZ", "d\tX", "f\tY"]);
        assert_eq!(base[2].len() - shared(&base[2], &other[2]), 1);
        assert_eq!(base[1], other[1]);
        // The cell two places behind is one, the end of a pair, and the end of a triple.
        let other = keys(2, &["a\tX", "b\tY", "c\tZ", "d\tX", "e\tZ"]);
        assert_eq!(base[2].len() - shared(&base[2], &other[2]), 3);
        assert_eq!(base[1], other[1]);
        // The next word is a feature by itself and in a pair.
        let other = keys(2, &["a\tX", "b\tY", "c\tZ", "g\tX", "e\tY"]);
        assert_eq!(base[2].len() - shared(&base[2], &other[2]), 2);
        // Case and digits matter where the word is taken as it is written.
        let (plain, upper) = (keys(0, &["ab"]), keys(0, &["Ab"]));
        // The lower case, the suffix of one letter, and nothing else.
        assert_eq!(shared(&plain[0], &upper[0]), 2);
        // A chain's beginning is not its end.
        assert_eq!(shared(&keys(1, &["a", "b"])[0], &keys(1, &["b", "a"])[1]), 1 + 2 + 2);
    }
}
