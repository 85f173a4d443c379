//! The tokens of a tokeniser, as rules see them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::earley::SlicedBiasComputer;
use llguidance::{Matcher, ParserFactory};
use longhand_text::Tokenizer;
use toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use super::fault::RulesError;

/// The trie of a tokeniser's tokens, and what llguidance makes of it.
pub(super) type Trie = Arc<ParserFactory>;

/// The most entries of a trie.
const MOST: usize = 1 << 23;
/// The most grammars that are kept.
const KEPT: usize = 16;
/// The longest token that rules can allow, in bytes: a bound of the trie.
const LONGEST: usize = 1000;

/// The bytes that each token of a tokeniser writes, in a trie. A token whose bytes depend on whether
/// it comes first has two entries: id for the first one, V + id behind others.
pub struct Vocabulary {
    trie: Trie,
    tokens: u32,
    /// Whether there are entries for tokens behind others.
    has_after: bool,
    /// The entries that have bytes.
    text: SimpleVob,
    /// Tokens after which the next one is a first one again.
    starts: Vec<u32>,
    /// Grammars that were compiled last, at the beginning of a text.
    begun: Mutex<VecDeque<(String, Matcher)>>,
}

impl Vocabulary {
    /// Makes the trie of a tokeniser's tokens. It takes milliseconds: whoever runs
    /// an engine finds it there.
    ///
    /// # Errors
    /// [`RulesError::Tokens`] for more than 8 million tokens.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, RulesError> {
        let written = tokenizer.written_bytes();
        Self::of(written.first, written.after, written.starts)
    }

    /// The vocabulary of all bytes, by which rules are checked without a tokeniser.
    pub(super) fn bytes() -> Result<Self, RulesError> {
        Self::of((0..=u8::MAX).map(|byte| vec![byte]).collect(), None, Vec::new())
    }

    fn of(
        first: Vec<Vec<u8>>,
        after: Option<Vec<Vec<u8>>>,
        starts: Vec<u32>,
    ) -> Result<Self, RulesError> {
        let tokens = first.len();
        let has_after = after.is_some();
        let mut entries = first;
        entries.extend(after.into_iter().flatten());
        // The last entry is the end of a text.
        entries.push(Vec::new());
        let count = u32::try_from(entries.len()).ok().filter(|&count| count as usize <= MOST);
        let count = count.ok_or(RulesError::Tokens(tokens))?;
        for bytes in &mut entries {
            // Text has no byte 255, and llguidance marks its own tokens with it.
            if bytes.len() > LONGEST || bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
                bytes.clear();
            }
        }
        let trie = TokTrie::from(&TokRxInfo::new(count, count - 1), &entries);
        let mut text = trie.alloc_token_set();
        let has_bytes = entries.iter().zip(0..).filter(|(bytes, _)| !bytes.is_empty());
        has_bytes.for_each(|(_, entry)| text.allow_token(entry));
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let capabilities = InferenceCapabilities::default();
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|_| RulesError::Tokens(tokens))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self {
            trie: Arc::new(factory),
            tokens: tokens as u32,
            has_after,
            text,
            starts,
            begun: Mutex::default(),
        })
    }

    pub(super) fn trie(&self) -> &Trie {
        &self.trie
    }

    /// A matcher at the beginning of a text, made anew only if none is kept under its key. It shares
    /// nothing with others, so that a fault in one does not reach them.
    pub(super) fn begun<E>(
        &self,
        key: String,
        make: impl FnOnce() -> Result<Matcher, E>,
    ) -> Result<Matcher, E> {
        let lock = || self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().iter().find(|(other, _)| *other == key).map(|(_, it)| it.deep_clone());
        if let Some(matcher) = kept {
            return Ok(matcher);
        }
        let matcher = make()?;
        let mut begun = lock();
        begun.truncate(KEPT - 1);
        begun.push_front((key, matcher.deep_clone()));
        Ok(matcher)
    }

    /// The number of tokens V.
    pub(super) fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Where a trie's entry of the token 0 is, for a token that comes first or does not.
    pub(super) fn first_entry(&self, is_first: bool) -> u32 {
        if is_first || !self.has_after { 0 } else { self.tokens }
    }

    /// Whether the bytes of a token depend on whether it comes first.
    pub(super) fn has_after(&self) -> bool {
        self.has_after
    }

    /// The entries of tokens that come first, or do not.
    pub(super) fn entries(&self, is_first: bool) -> std::ops::Range<u32> {
        let first = self.first_entry(is_first);
        first..first + self.tokens
    }

    /// Those of some entries that have bytes. A grammar may name a token that has none.
    pub(super) fn text_of(&self, mut entries: SimpleVob) -> SimpleVob {
        entries.and(&self.text);
        entries
    }

    /// Whether the token behind this one is a first one again.
    pub(super) fn starts(&self, id: u32) -> bool {
        self.starts.contains(&id)
    }

    /// The bytes of an entry.
    pub(super) fn entry(&self, entry: u32) -> &[u8] {
        self.trie.tok_env().tok_trie().token(entry)
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Vocabulary({} tokens)", self.tokens)
    }
}
