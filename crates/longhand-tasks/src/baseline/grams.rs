//! The n-grams of a text, and of two texts which of them both have, as 64-bit hashes. Nothing is
//! allocated for each n-gram.

use longhand_text::tokenizer::is_unspaced;

/// Which n-grams of a text are features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grams {
    /// The longest n-gram, in words; at least 1.
    pub(crate) words: usize,
    /// Shortest and longest n-grams of the characters of a word, if there are any.
    pub(crate) characters: Option<(usize, usize)>,
    /// Whether upper and lower case differ.
    pub(crate) case: bool,
    /// Whether the beginning and the end of a text are words of n-grams of two or more.
    pub(crate) bounds: bool,
}

/// A feature of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gram {
    /// The hash of a word.
    Word(u64),
    /// The hash of two or more words, or of characters.
    Several(u64),
    /// The hash of what two texts share: of an n-gram with the texts that have it, or of the share of
    /// the n-grams of one that the other has.
    Shared(u64),
}

/// Buffers that texts are cut in, one after the other.
#[derive(Default)]
pub(crate) struct Scratch {
    hashes: Vec<u64>,
    /// A word between `<` and `>`, and the first byte of each of its characters.
    word: Vec<u8>,
    bounds: Vec<usize>,
}

/// The multiplier by which fastText joins the hashes of words.
const JOIN: u64 = 116_049_371;
/// What stands for the beginning of a text, and for its end, among the hashes of words.
pub(crate) const BEGIN: u64 = 0x9e37_79b9_7f4a_7c15;
pub(crate) const END: u64 = 0xd1b5_4a32_d192_ed03;
/// What joins the hash of an n-gram that both texts have, or the first or the second one alone.
const HAVE: [u64; 3] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3];
/// What joins the numbers of a share.
const SHARE: u64 = 0x5899_65cc_7537_4cc3;
/// Parts of equal size that shares are told apart by.
const SHARES: usize = 8;
/// Offset and prime of the 64-bit FNV-1a hash.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

impl Grams {
    /// Calls `add` with each n-gram of the texts of an example, and of two texts with what they share: a
    /// linear model of the n-grams of both cannot find it.
    pub(crate) fn each_of(&self, texts: &[&str], scratch: &mut Scratch, mut add: impl FnMut(Gram)) {
        for text in texts {
            self.each(text, scratch, &mut add);
        }
        let &[first, second] = texts else { return };
        let mut own = |text: &str| {
            let mut grams = Vec::new();
            self.each(text, scratch, |gram| grams.push(gram));
            grams.sort_unstable();
            grams.dedup();
            grams
        };
        let (first, second) = (own(first), own(second));
        for (side, own, other) in [(0, &first, &second), (1, &second, &first)] {
            // The n-grams of the text, and those of them that the other one has: words, and others.
            let mut counts = [[0; 2]; 2];
            for gram in own {
                let is_shared = other.binary_search(gram).is_ok();
                let count = &mut counts[usize::from(!matches!(gram, Gram::Word(_)))];
                count[0] += 1;
                count[1] += usize::from(is_shared);
                match is_shared {
                    true if side == 1 => {}
                    true => add(gram.joined(HAVE[0])),
                    false => add(gram.joined(HAVE[1 + side])),
                }
            }
            for (kind, [all, shared]) in counts.into_iter().enumerate() {
                if let Some(share) = (SHARES * shared).checked_div(all) {
                    let number = (2 * side + kind) * (SHARES + 1) + share;
                    add(Gram::Shared(SHARE.wrapping_add(number as u64)));
                }
            }
        }
    }

    /// Calls `add` with each n-gram of the text, in a fixed order. A word is a run of letters and
    /// digits, with apostrophes between them. Any other visible character is a word of its own, as
    /// is each character of a script without spaces.
    pub(crate) fn each(&self, text: &str, scratch: &mut Scratch, mut add: impl FnMut(Gram)) {
        scratch.hashes.clear();
        scratch.hashes.extend(self.bounds.then_some(BEGIN));
        for word in words(text) {
            let hash = self.hash(word);
            scratch.hashes.push(hash);
            add(Gram::Word(hash));
            if let Some((shortest, longest)) = self.characters {
                self.spell(word, scratch);
                spelling(&scratch.word, &scratch.bounds, shortest..=longest, &mut add);
            }
        }
        scratch.hashes.extend(self.bounds.then_some(END));
        for first in 0..scratch.hashes.len() {
            let mut joined = scratch.hashes[first];
            for &hash in scratch.hashes[first + 1..].iter().take(self.words - 1) {
                joined = self::joined(joined, hash);
                add(Gram::Several(joined));
            }
        }
    }

    /// The FNV-1a hash of a word, in lower case unless case counts.
    pub(crate) fn hash(&self, word: &str) -> u64 {
        let mut hash = FNV.0;
        let mut byte = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(FNV.1);
        if self.case {
            word.bytes().for_each(byte);
            return hash;
        }
        if word.is_ascii() {
            word.bytes().for_each(|code| byte(code.to_ascii_lowercase()));
            return hash;
        }
        for letter in word.chars().flat_map(char::to_lowercase) {
            letter.encode_utf8(&mut [0; 4]).bytes().for_each(&mut byte);
        }
        hash
    }

    /// Writes `<word>` into the buffer.
    fn spell(&self, word: &str, scratch: &mut Scratch) {
        scratch.word.clear();
        scratch.bounds.clear();
        let mut put = |letter: char| {
            scratch.bounds.push(scratch.word.len());
            scratch.word.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        };
        put('<');
        match self.case {
            true => word.chars().for_each(&mut put),
            false => word.chars().flat_map(char::to_lowercase).for_each(&mut put),
        }
        put('>');
    }
}

impl Gram {
    /// An n-gram with what joins it.
    fn joined(self, other: u64) -> Self {
        let (Self::Word(hash) | Self::Several(hash) | Self::Shared(hash)) = self;
        Self::Shared(joined(hash, other))
    }
}

/// The hash of a sequence, from the hash of its beginning and that of its next part.
pub(crate) fn joined(hash: u64, next: u64) -> u64 {
    hash.wrapping_mul(JOIN).wrapping_add(next)
}

/// Calls `add` with the n-grams of a word's characters.
fn spelling(
    word: &[u8],
    bounds: &[usize],
    lengths: std::ops::RangeInclusive<usize>,
    add: &mut impl FnMut(Gram),
) {
    for first in 0..bounds.len() {
        // Another start than that of whole words, so that `<a>` is not the word `<a>`.
        let mut hash = !FNV.0;
        for length in 1..=*lengths.end() {
            let Some(&begin) = bounds.get(first + length - 1) else { break };
            let end = bounds.get(first + length).copied().unwrap_or(word.len());
            for &code in &word[begin..end] {
                hash = (hash ^ u64::from(code)).wrapping_mul(FNV.1);
            }
            // A bracket alone says nothing.
            let is_bracket = length == 1 && (first == 0 || first + 1 == bounds.len());
            if lengths.contains(&length) && !is_bracket {
                add(Gram::Several(hash));
            }
        }
    }
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let length = match in_word(first) {
            true => run(rest),
            false => first.len_utf8(),
        };
        let (word, tail) = rest.split_at(length);
        rest = tail;
        Some(word)
    })
}

/// The length in bytes of the letters and digits that a text begins with,
/// apostrophes between them included.
fn run(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let joins = matches!(character, '\'' | '’') && place > 0 && next.is_some_and(in_word);
        if !in_word(character) && !joins {
            return place;
        }
    }
    text.len()
}

/// Whether a character continues a word.
fn in_word(character: char) -> bool {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        _ if character.is_ascii() => false,
        _ => character.is_alphanumeric() && !is_unspaced(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_spaces_punctuation_and_between_ideographs() {
        let cut = |text: &str| words(text).map(str::to_owned).collect::<Vec<_>>().join("|");
        assert_eq!(cut(" It's 'great',<br />no? "), "It's|'|great|'|,|<|br|/|>|no|?");
        assert_eq!(cut("大宗商品 A股3000点"), "大|宗|商|品|A|股|3000|点");
        assert_eq!((cut(""), cut(" \n\t")), (String::new(), String::new()));
    }

    fn all(grams: Grams, text: &str) -> Vec<Gram> {
        let mut found = Vec::new();
        grams.each(text, &mut Scratch::default(), |gram| found.push(gram));
        found
    }

    #[test]
    fn n_grams_are_counted_once_each_and_tell_orders_apart() {
        let grams = Grams { words: 3, characters: None, case: false, bounds: false };
        let found = all(grams, "a b c d");
        // Four words, three pairs, two triples, all different.
        assert_eq!(found.len(), 9);
        for (place, gram) in found.iter().enumerate() {
            assert!(!found[..place].contains(gram));
        }
        assert_eq!(found, all(grams, "A B  C d"));
        assert_ne!(found, all(Grams { case: true, ..grams }, "A B C d"));
        assert_ne!(all(grams, "a b"), all(grams, "b a"));
        assert_eq!(all(grams, "Ünd"), all(grams, "ünd"));
        let Gram::Word(hash) = all(grams, "a")[0] else { panic!() };
        // The published FNV-1a hash of "a".
        assert_eq!(hash, 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn two_texts_tell_what_they_share() {
        let grams = Grams { words: 2, characters: None, case: false, bounds: false };
        let of = |texts: &[&str]| {
            let mut found = Vec::new();
            grams.each_of(texts, &mut Scratch::default(), |gram| found.push(gram));
            found
        };
        assert_eq!(of(&["a b"]), all(grams, "a b"));
        let found = of(&["a b a", "b a c"]);
        let (plain, shared) = found.split_at(10);
        assert_eq!(plain, [all(grams, "a b a"), all(grams, "b a c")].concat());
        let word = |text: &str| all(Grams { words: 1, ..grams }, text)[0];
        let pair = |text: &str| all(grams, text)[2];
        let share = |side: usize, kind: usize, share: usize| {
            Gram::Shared(SHARE + ((2 * side + kind) * (SHARES + 1) + share) as u64)
        };
        let expected = [
            [word("a"), word("b"), pair("b a")].map(|gram| gram.joined(HAVE[0])).to_vec(),
            vec![pair("a b").joined(HAVE[1])],
            [word("c"), pair("a c")].map(|gram| gram.joined(HAVE[2])).to_vec(),
            // Both words and one of two pairs of the first text, two of three words and one of two
            // pairs of the second.
            vec![share(0, 0, 8), share(0, 1, 4), share(1, 0, 5), share(1, 1, 4)],
        ];
        assert_eq!(shared.len(), 10);
        assert!(expected.concat().iter().all(|gram| shared.contains(gram)), "{shared:?}");
        // A text without words has nothing to share.
        assert_eq!(of(&["a", ""]).len(), 3);
    }

    #[test]
    fn a_text_may_have_bounds() {
        let open = Grams { words: 2, characters: None, case: false, bounds: false };
        let closed = Grams { bounds: true, ..open };
        // <a ab b>, beside the two words.
        assert_eq!((all(open, "a b").len(), all(closed, "a b").len()), (3, 5));
        let shared = |one: &str, other: &str| {
            let found = all(closed, other);
            all(closed, one).iter().filter(|gram| found.contains(gram)).count()
        };
        assert_eq!((shared("a b", "a c"), shared("b a", "c a"), shared("a b", "b a")), (2, 2, 2));
        assert_eq!(all(closed, "").len(), 1);
    }

    #[test]
    fn characters_of_a_word_are_cut_with_its_bounds() {
        let grams = Grams { words: 1, characters: Some((2, 3)), case: false, bounds: false };
        // <a ab b> <ab ab>, and the word itself.
        assert_eq!(all(grams, "ab").len(), 6);
        let one = Grams { characters: Some((1, 1)), ..grams };
        assert_eq!(all(one, "äb").len(), 3);
        let shared =
            all(grams, "walked").iter().filter(|g| all(grams, "talked").contains(g)).count();
        assert!(shared > 4, "{shared}");
    }
}
