//! Rules by lists of words: an automaton over bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use longhand_text::tokenizer::is_unspaced;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::{Input, MatchKind, PatternID};
use serde::Deserialize;
use toktrie::{Recognizer, SimpleVob};

use super::fault::RulesError;
use super::vocabulary::Vocabulary;

/// A character at which a word ends: no letter, digit or `_`, or one of a script without
/// spaces between words, as `longhand_text::tokenizer::is_unspaced` has them.
const BOUNDARY: &str = r"[\W\x{e00}-\x{eff}\x{1000}-\x{109f}\x{1780}-\x{17ff}\x{3001}-\x{30ff}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{ff01}-\x{ff9f}\x{20000}-\x{3ffff}]";
/// White space between allowed words: one character, or the two of one line break.
const SPACE: &str = r"(?:\r\n|\s)";
/// The most memory of an automaton, in bytes.
const MOST_MEMORY: usize = 1 << 27;
/// The most memory of the masks that are kept, in bytes.
const MOST_MASKS: usize = 1 << 24;
/// What a text becomes that has a forbidden word.
const FORBIDDEN: PatternID = PatternID::ZERO;

/// Words and phrases that are forbidden, or the only ones that are allowed. As a file:
///
/// ```toml
/// forbid = ["never", "New York"]   # or allow = ["red", "green"]: these words and no others
/// ignore_case = true               # the default
/// within_words = false             # the default; true forbids them in the middle of words too
/// ```
///
/// White space within a phrase matches any white space. A word ends where its first or last
/// character has none beside it that belongs to a word; in scripts without spaces between words
/// it ends anywhere. Before, between and behind allowed words there may be any signs, and white
/// space of one character (or one line break) at a time, so that no text is blanks alone.
#[derive(Clone)]
pub struct Words {
    lists: Lists,
    /// One pattern, or with forbidden words two: the text has such a word, or it
    /// has one if it ends here.
    automaton: Arc<dense::DFA<Vec<u32>>>,
    start: StateID,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    forbid: Option<Vec<String>>,
    allow: Option<Vec<String>>,
    #[serde(default = "yes")]
    ignore_case: bool,
    #[serde(default)]
    within_words: bool,
}

/// Where a text is in the automaton, and in its last character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    state: StateID,
    character: Character,
}

/// How much of a character of UTF-8 is there: which bytes may come next, and how many then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Character {
    low: u8,
    high: u8,
    further: u8,
}

/// Entries of a vocabulary's trie by the place in the automaton.
pub(super) type Masks = Arc<Mutex<HashMap<Place, Arc<SimpleVob>>>>;

fn yes() -> bool {
    true
}

impl Words {
    pub(super) fn new(text: &str) -> Result<Self, RulesError> {
        let lists: Lists = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let what = error.message().lines().collect::<Vec<_>>().join("; ");
            RulesError::Toml { line: before.matches('\n').count() + 1, what }
        })?;
        let patterns = lists.patterns()?;
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(MOST_MEMORY))
            .determinize_size_limit(Some(MOST_MEMORY));
        let automaton = dense::Builder::new()
            .configure(config)
            .thompson(thompson::Config::new().nfa_size_limit(Some(MOST_MEMORY)))
            .build_many(&patterns)
            .map_err(|_| RulesError::Words("they are too many or too long: give fewer"))?;
        let input = Input::new("").anchored(regex_automata::Anchored::Yes);
        let start = automaton
            .start_state_forward(&input)
            .map_err(|_| RulesError::Words("they have no beginning: give other words"))?;
        Ok(Self { lists, automaton: Arc::new(automaton), start })
    }

    /// The place before the first byte.
    pub(super) fn start(&self) -> Place {
        Place { state: self.start, character: Character::BETWEEN }
    }

    /// The place behind a byte, if a text may go on with it.
    pub(super) fn next(&self, place: Place, byte: u8) -> Option<Place> {
        let character = place.character.next(byte)?;
        let state = self.automaton.next_state(place.state, byte);
        let place = Place { state, character };
        self.goes_on(place).then_some(place)
    }

    /// Whether a text may end at a place.
    pub(super) fn may_end(&self, place: Place) -> bool {
        let matches = self.matches(place).next().is_some();
        let is_whole = place.character == Character::BETWEEN;
        is_whole && matches == self.lists.allow.is_some()
    }

    /// The entries of the vocabulary's trie that may come next.
    pub(super) fn mask(
        &self,
        vocabulary: &Vocabulary,
        place: Place,
        masks: &Masks,
    ) -> Arc<SimpleVob> {
        let mut masks = masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mask) = masks.get(&place) {
            return mask.clone();
        }
        let environment = vocabulary.trie().tok_env();
        let trie = environment.tok_trie();
        let mut mask = trie.alloc_token_set();
        let mut walk = Walk { words: self, places: vec![place] };
        trie.add_bias(&mut walk, &mut mask, &[]);
        if vocabulary.has_after() {
            self.prune(vocabulary, place, &mut mask);
        }
        let mask = Arc::new(mask);
        let bytes = 8 + trie.vocab_size() / 8;
        if masks.len() >= MOST_MASKS / bytes {
            masks.clear();
        }
        masks.insert(place, mask.clone());
        mask
    }

    /// Takes away entries behind which a text neither ends nor has a further token. Where tokens are
    /// words, a forbidden one is the beginning of longer words that there may not be.
    fn prune(&self, vocabulary: &Vocabulary, place: Place, mask: &mut SimpleVob) {
        let walk = |place: Place, entry: u32| {
            let bytes = vocabulary.entry(entry);
            let bytes = Some(bytes).filter(|bytes| !bytes.is_empty())?;
            bytes.iter().try_fold(place, |place, &byte| self.next(place, byte))
        };
        let mut known: HashMap<(Place, bool), bool> = HashMap::new();
        for entry in mask.to_list() {
            let is_first = vocabulary.starts(entry % vocabulary.tokens());
            let goes_on = walk(place, entry).is_some_and(|end| {
                let further = || vocabulary.entries(is_first).any(|next| walk(end, next).is_some());
                self.may_end(end) || *known.entry((end, is_first)).or_insert_with(further)
            });
            if !goes_on {
                mask.disallow_token(entry);
            }
        }
    }

    /// The patterns that a text which ends at a place matches.
    fn matches(&self, place: Place) -> impl Iterator<Item = PatternID> {
        let end = self.automaton.next_eoi_state(place.state);
        let count = match self.automaton.is_match_state(end) {
            true => self.automaton.match_len(end),
            false => 0,
        };
        (0..count).map(move |index| self.automaton.match_pattern(end, index))
    }

    /// Whether a text can go on from a place.
    fn goes_on(&self, place: Place) -> bool {
        if self.lists.allow.is_some() {
            // The automaton tells of a match one byte late, so that a state which is not dead may
            // only mean that the text before its last byte matched.
            let lives = |byte| {
                let next = self.automaton.next_state(place.state, byte);
                !self.automaton.is_dead_state(next)
            };
            return self.matches(place).next().is_some() || (0..=u8::MAX).any(lives);
        }
        if place.character == Character::BETWEEN {
            return self.matches(place).all(|pattern| pattern != FORBIDDEN);
        }
        // Half a character goes on if one of the characters that it may become does.
        let Character { low, high, .. } = place.character;
        (low..=high).any(|byte| self.next(place, byte).is_some())
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.lists == other.lists
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lists.fmt(formatter)
    }
}

impl Lists {
    /// The patterns of the automaton.
    fn patterns(&self) -> Result<Vec<String>, RulesError> {
        let (list, phrases) = match (&self.forbid, &self.allow) {
            (Some(_), Some(_)) => {
                let what = "give either `forbid` or `allow`, as what is not allowed is forbidden";
                return Err(RulesError::Words(what));
            }
            (None, None) => {
                let what = "they have neither `forbid` nor `allow`: give one list of words";
                return Err(RulesError::Words(what));
            }
            (Some(forbid), None) => ("forbid", forbid),
            (None, Some(allow)) => ("allow", allow),
        };
        if phrases.is_empty() {
            return Err(RulesError::Words("the list is empty: give at least one word"));
        }
        if self.allow.is_some() && self.within_words {
            let what = "`within_words` is for forbidden words: leave it out";
            return Err(RulesError::Words(what));
        }
        // By whether there must be an end of a word before them, and behind them.
        let mut sorted: [[Vec<String>; 2]; 2] = Default::default();
        for (index, phrase) in phrases.iter().enumerate() {
            let fault = || RulesError::Phrase { list, index, phrase: phrase.clone() };
            let parts: Vec<String> = phrase.split_whitespace().map(escaped).collect();
            let (first, last) = (phrase.trim().chars().next(), phrase.trim().chars().next_back());
            let (first, last) = (first.ok_or_else(fault)?, last.ok_or_else(fault)?);
            let bounded = |edge| usize::from(!self.within_words && is_in_words(edge));
            let space = if self.allow.is_some() { SPACE } else { r"\s+" };
            sorted[bounded(first)][bounded(last)].push(parts.join(space));
        }
        let cased = |words: Vec<String>| {
            let flag = if self.ignore_case { "i" } else { "" };
            any_of(words).map(|words| format!("(?{flag}:{words})"))
        };
        let [[free, closed], [opened, bounded]] = sorted.map(|some| some.map(cased));
        if self.allow.is_some() {
            // With an end of a word behind them, or with none.
            let behind = any_of([closed, bounded].into_iter().flatten().collect());
            let free = any_of([free, opened].into_iter().flatten().collect());
            let signs = format!(r"(?:[^\w\s]{SPACE}?)");
            let word = [
                behind.map(|words| format!(r"{words}(?:{SPACE}{signs}*|{signs}+|\z)")),
                free.map(|words| format!("{words}{SPACE}?{signs}*")),
            ];
            let word = any_of(word.into_iter().flatten().collect()).unwrap_or_default();
            return Ok(vec![format!("{SPACE}?{signs}*{word}+")]);
        }
        let before = format!("(?:^|{BOUNDARY})");
        let all = |closed: Option<String>, bounded: Option<String>| {
            let bounded = bounded.map(|words| before.clone() + &words);
            any_of([closed, bounded].into_iter().flatten().collect())
        };
        let (behind, anywhere) = (all(closed, bounded), all(free, opened));
        let has = [behind.clone().map(|words| words + BOUNDARY), anywhere];
        let has = any_of(has.into_iter().flatten().collect()).unwrap_or_default();
        let patterns = [Some(has), behind].into_iter().flatten();
        Ok(patterns.map(|pattern| format!("(?s:.)*?(?:{pattern})")).collect())
    }
}

/// Alternatives; none of none.
fn any_of(words: Vec<String>) -> Option<String> {
    (!words.is_empty()).then(|| format!("(?:{})", words.join("|")))
}

/// Text as an expression that matches it alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Whether a character belongs to a word that goes on up to the next space.
fn is_in_words(character: char) -> bool {
    (character.is_alphanumeric() || character == '_') && !is_unspaced(character)
}

impl Character {
    /// Between two characters: any first byte may come.
    const BETWEEN: Self = Self { low: 0, high: 0x7f, further: 0 };

    /// What is there behind one more byte; none if that is no UTF-8.
    fn next(self, byte: u8) -> Option<Self> {
        let part = |low, high, further| Some(Self { low, high, further });
        if self != Self::BETWEEN {
            return match ((self.low..=self.high).contains(&byte), self.further) {
                (false, _) => None,
                (true, 0) => Some(Self::BETWEEN),
                (true, further) => part(0x80, 0xbf, further - 1),
            };
        }
        match byte {
            0..=0x7f => Some(Self::BETWEEN),
            0xc2..=0xdf => part(0x80, 0xbf, 0),
            0xe0 => part(0xa0, 0xbf, 1),
            0xed => part(0x80, 0x9f, 1),
            0xe1..=0xef => part(0x80, 0xbf, 1),
            0xf0 => part(0x90, 0xbf, 2),
            0xf1..=0xf3 => part(0x80, 0xbf, 2),
            0xf4 => part(0x80, 0x8f, 2),
            _ => None,
        }
    }
}

/// A walk over the trie of tokens, with the place before each byte on its way.
struct Walk<'a> {
    words: &'a Words,
    places: Vec<Place>,
}

impl Recognizer for Walk<'_> {
    fn pop_bytes(&mut self, count: usize) {
        self.places.truncate(self.places.len() - count);
    }

    fn collapse(&mut self) {
        let last = self.places.len() - 1;
        self.places.drain(..last);
    }

    fn trie_finished(&mut self) {
        self.places.truncate(1);
    }

    fn try_push_byte(&mut self, byte: u8) -> bool {
        let next = self.places.last().and_then(|&place| self.words.next(place, byte));
        self.places.extend(next);
        next.is_some()
    }
}
