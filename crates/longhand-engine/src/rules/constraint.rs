//! Rules that follow one text.

use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;

use super::fault::RulesError;
use super::form::Rules;
use super::grammar::{is_stuck, matcher, sentence};
use super::mask::Mask;
use super::vocabulary::Vocabulary;
use super::words::{Masks, Place, Words};

/// Bytes of a text that a message shows.
const SHOWN: usize = 40;

/// Follows one text. A clone is a branch: each of the two goes on alone.
#[derive(Clone)]
pub struct Constraint {
    rules: Arc<Rules>,
    vocabulary: Arc<Vocabulary>,
    /// Tokens that end the text.
    ends: Arc<[u32]>,
    automaton: Automaton,
    /// Whether the next token is a first one.
    is_first: bool,
    /// The end of the text, for messages.
    written: Vec<u8>,
    /// The tokens that may come next, once they were asked for.
    mask: Option<Arc<Mask>>,
}

#[derive(Clone)]
enum Automaton {
    Grammar(Box<Matcher>),
    Words { words: Words, place: Place, masks: Masks },
}

impl Constraint {
    /// Rules at the beginning of a text. `ends` are tokens that are no text and end it.
    ///
    /// # Errors
    /// [`RulesError::Schema`], [`RulesError::Regex`] or [`RulesError::Lark`] if llguidance refuses
    /// the rules with this tokeniser, [`RulesError::DeadEnd`] if no token can begin.
    pub fn new(
        rules: &Arc<Rules>,
        vocabulary: &Arc<Vocabulary>,
        ends: &[u32],
    ) -> Result<Self, RulesError> {
        let automaton =
            match &**rules {
                Rules::Schema(schema) => grammar(vocabulary, schema.compiled())
                    .map_err(|what| RulesError::Schema { what })?,
                Rules::Regex(regex) => grammar(vocabulary, regex.compiled())
                    .map_err(|what| RulesError::Regex { what })?,
                Rules::Lark(lark) => grammar(vocabulary, lark.compiled())
                    .map_err(|what| RulesError::Lark { what })?,
                Rules::Words(words) => {
                    let (words, masks) = (words.clone(), Masks::default());
                    Automaton::Words { place: words.start(), words, masks }
                }
            };
        let mut constraint = Self {
            rules: rules.clone(),
            vocabulary: vocabulary.clone(),
            ends: ends.into(),
            automaton,
            is_first: true,
            written: Vec::new(),
            mask: None,
        };
        if !constraint.must_end() {
            constraint.mask()?;
        }
        Ok(constraint)
    }

    /// The rules that the text follows.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The tokens that may come next. The tokens that end the text are among them if it may end.
    ///
    /// # Errors
    /// [`RulesError::DeadEnd`] if there are none, [`RulesError::Complex`] if the automaton gives up.
    pub fn mask(&mut self) -> Result<Arc<Mask>, RulesError> {
        if let Some(mask) = &self.mask {
            return Ok(mask.clone());
        }
        let Self { vocabulary, automaton, is_first, .. } = self;
        let first = vocabulary.first_entry(*is_first);
        let bits = match automaton {
            Automaton::Words { words, place, masks } => {
                Arc::unwrap_or_clone(words.mask(vocabulary, *place, masks))
            }
            Automaton::Grammar(matcher) if matcher.is_stopped() => {
                vocabulary.trie().tok_env().tok_trie().alloc_token_set()
            }
            Automaton::Grammar(matcher) => match matcher.compute_mask() {
                Ok(bits) => vocabulary.text_of(bits),
                Err(error) if is_stuck(&error) => return Err(self.dead_end()),
                Err(error) => return Err(self.complex(&error)),
            },
        };
        let may_end = self.may_end();
        let mut mask = Mask::new(bits, first, self.vocabulary.tokens());
        for &end in &*self.ends {
            mask.set(end, may_end);
        }
        if mask.is_empty() && !may_end {
            return Err(self.dead_end());
        }
        let mask = Arc::new(mask);
        self.mask = Some(mask.clone());
        Ok(mask)
    }

    /// Goes on with a token. One that ends the text changes nothing.
    ///
    /// # Errors
    /// [`RulesError::Forbidden`] for a token that the rules forbid, [`RulesError::Complex`] if the
    /// automaton gives up. The constraint is of no use then.
    pub fn accept(&mut self, id: u32) -> Result<(), RulesError> {
        if self.ends.contains(&id) {
            return match self.may_end() {
                true => Ok(()),
                false => Err(self.forbidden(id)),
            };
        }
        if id >= self.vocabulary.tokens() || !self.mask()?.allows(id) {
            return Err(self.forbidden(id));
        }
        self.mask = None;
        let entry = self.vocabulary.first_entry(self.is_first) + id;
        let bytes = self.vocabulary.entry(entry).to_vec();
        match &mut self.automaton {
            Automaton::Words { words, place, .. } => {
                let next = bytes.iter().try_fold(*place, |place, &byte| words.next(place, byte));
                match next {
                    Some(next) => *place = next,
                    None => return Err(self.forbidden(id)),
                }
            }
            Automaton::Grammar(matcher) => {
                if let Err(error) = matcher.consume_token(entry) {
                    return Err(self.complex(&error));
                }
            }
        }
        self.is_first = self.vocabulary.starts(id);
        self.written.extend_from_slice(&bytes);
        let old = self.written.len().saturating_sub(SHOWN);
        self.written.drain(..old);
        Ok(())
    }

    /// Whether the text matches as it is.
    pub fn may_end(&mut self) -> bool {
        match &mut self.automaton {
            Automaton::Words { words, place, .. } => words.may_end(*place),
            Automaton::Grammar(matcher) => {
                matcher.stop_reason().is_ok()
                    && (matcher.is_stopped() || matcher.is_accepting().unwrap_or(false))
            }
        }
    }

    /// Whether the text matches and no token can go on.
    pub fn must_end(&mut self) -> bool {
        if !self.may_end() {
            return false;
        }
        match self.mask() {
            Ok(mask) => mask.allowed().all(|id| self.ends.contains(&id)),
            Err(_) => true,
        }
    }

    fn dead_end(&self) -> RulesError {
        RulesError::DeadEnd { written: self.shown() }
    }

    fn forbidden(&self, id: u32) -> RulesError {
        RulesError::Forbidden { id, written: self.shown() }
    }

    fn complex(&self, error: &dyn std::fmt::Display) -> RulesError {
        RulesError::Complex { what: sentence(error), written: self.shown() }
    }

    /// The end of the text as a message shows it.
    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }
}

/// The automaton of a grammar.
fn grammar(vocabulary: &Vocabulary, grammar: TopLevelGrammar) -> Result<Automaton, String> {
    let key = serde_json::to_string(&grammar).map_err(|error| sentence(&error))?;
    let made = vocabulary.begun(key, || matcher(vocabulary.trie(), grammar))?;
    Ok(Automaton::Grammar(Box::new(made)))
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Constraint({:?} after {:?})", self.rules, self.shown())
    }
}

impl PartialEq for Constraint {
    /// The same rules for the same tokeniser, after texts that end alike.
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
            && Arc::ptr_eq(&self.vocabulary, &other.vocabulary)
            && self.written == other.written
    }
}
