//! From logits to ids and text, without a model.

use std::collections::VecDeque;
use std::sync::Arc;

use longhand_text::{Decoder, Tokenizer};

use crate::error::EngineError;
use crate::log_probability::log_probabilities;
use crate::recent::{RECENT, push_recent};
use crate::rules::{Constraint, Mask, Rules, RulesError, Vocabulary};
use crate::sampler::{Sampler, SamplerState};
use crate::stop::{StopTexts, Stopped};

/// When to stop, and what to tell of each token.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The most tokens to generate. Default: 256.
    pub max_tokens: usize,
    /// Texts that end the generation. They are not given out, not even in part. Default: none.
    pub stop: Vec<String>,
    /// Computes each token's log-probability and those of this many most probable tokens.
    /// Default: none are computed.
    pub log_probabilities: Option<usize>,
    /// Tokens that end the generation as the end of a document does. Default: none.
    pub ends: Vec<u32>,
    /// What the new text has to match, from its first token on. It ends when nothing longer matches;
    /// the most tokens and stop texts cut it all the same, and then it may be the beginning
    /// of a match alone. Default: anything.
    pub rules: Option<Arc<Rules>>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        let (stop, ends) = (Vec::new(), Vec::new());
        Self { max_tokens: 256, stop, log_probabilities: None, ends, rules: None }
    }
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The most tokens were generated.
    Length,
    /// This stop text came.
    Stop(String),
    /// The model ended the document, or wrote one of [`GenerateOptions::ends`].
    End,
    /// The text matches [`GenerateOptions::rules`], and nothing longer does.
    Complete,
}

/// One generated token and the text that it completes.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// Number of the token in the vocabulary.
    pub id: u32,
    /// The text that can be given out now: whole characters, and nothing that may be the beginning
    /// of a stop text. It may be empty, or hold text of earlier tokens.
    pub text: String,
    /// ln p(token) of the model itself, whatever the sampler's settings; only if asked for.
    pub log_probability: Option<f32>,
    /// The most probable tokens with their log-probabilities, best first; only if asked for.
    pub top: Vec<(u32, f32)>,
    /// Why this is the last token, if it is.
    pub finish: Option<FinishReason>,
}

/// Tokens to take back after a stop text, so that a session has read exactly the text
/// that was given out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewind {
    /// How many of the tokens before the last one belong to the stop text, at least in part. They
    /// were read, because the model needed them to go on.
    pub tokens: usize,
    /// Text already given out of the first token taken back; empty if the stop text
    /// began with that token.
    pub text: String,
}

/// A running generation of one stream. It knows no model: logits go in, the next id and its text
/// come out, and whoever runs the model reads the id. So it serves a single session
/// ([`Generation`](crate::Generation)) and [`Streams`](crate::Streams) alike.
#[derive(Clone)]
pub struct Continuation {
    sampler: Sampler,
    decoder: Decoder,
    stops: StopTexts,
    /// Whether a stop text may begin with a character of several bytes, and so of several tokens.
    wide_stops: bool,
    /// The tokens that end the generation.
    ends: Vec<u32>,
    max_tokens: usize,
    log_probabilities: Option<usize>,
    /// The last tokens of the stream, for the repetition penalty.
    recent: VecDeque<u32>,
    /// Tokens of the text so far.
    tokens: usize,
    pending: Pending,
    /// Whether the last token ended within a character.
    within_character: bool,
    finish: Option<FinishReason>,
    rewind: Option<Rewind>,
    constraint: Option<Constraint>,
}

/// Tokens whose text is withheld, at least in part.
#[derive(Clone, Default)]
struct Pending {
    /// For each, how many bytes its text has, and where it ends in the withheld text.
    tokens: VecDeque<(usize, usize)>,
    /// Text of the first one that was given out.
    shown: String,
}

impl Next {
    /// Whether the token belongs to the text, and the model has to read it. A token that completes
    /// a stop text or ends the document does not, so that the stream can go on without it.
    pub fn is_read(&self) -> bool {
        matches!(self.finish, None | Some(FinishReason::Length | FinishReason::Complete))
    }
}

impl Continuation {
    /// A generation at the beginning of a text.
    ///
    /// # Errors
    /// [`EngineError::Option`] for an empty stop text, [`EngineError::Rules`] for rules that
    /// no token can begin.
    pub fn new(
        tokenizer: &Arc<Tokenizer>,
        sampler: Sampler,
        options: GenerateOptions,
    ) -> Result<Self, EngineError> {
        let made = || Ok(Arc::new(Vocabulary::new(tokenizer)?));
        Self::with_vocabulary(tokenizer, sampler, options, made)
    }

    /// As [`Continuation::new`], with a vocabulary for rules that is there already.
    pub(crate) fn with_vocabulary(
        tokenizer: &Arc<Tokenizer>,
        sampler: Sampler,
        options: GenerateOptions,
        vocabulary: impl FnOnce() -> Result<Arc<Vocabulary>, RulesError>,
    ) -> Result<Self, EngineError> {
        let GenerateOptions { max_tokens, stop, log_probabilities, mut ends, rules } = options;
        ends.extend(tokenizer.document_end_id());
        let constraint = match rules {
            Some(rules) => Some(Constraint::new(&rules, &vocabulary()?, &ends)?),
            None => None,
        };
        if stop.iter().any(String::is_empty) {
            let (value, allowed) = ("empty".into(), "at least one character");
            return Err(EngineError::Option { name: "the stop text", value, allowed });
        }
        Ok(Self {
            sampler,
            decoder: Decoder::new(tokenizer.clone()),
            wide_stops: stop.iter().any(|stop| !stop.as_bytes()[0].is_ascii()),
            stops: StopTexts::new(stop),
            ends,
            max_tokens,
            log_probabilities,
            recent: VecDeque::with_capacity(RECENT),
            tokens: 0,
            pending: Pending::default(),
            within_character: false,
            finish: (max_tokens == 0).then_some(FinishReason::Length),
            rewind: None,
            constraint,
        })
    }

    /// Notes tokens that the stream read without it, such as a prompt. They count for the
    /// repetition penalty, decide on a space before the next word, and may end within a character.
    ///
    /// # Errors
    /// [`EngineError::Text`] for an id that the tokeniser does not know.
    pub fn observe(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<(), EngineError> {
        for id in ids {
            self.decoder.push(id)?;
            push_recent(&mut self.recent, &[id]);
        }
        Ok(())
    }

    /// Draws the next token from the logits that follow the last one; none after the end.
    ///
    /// # Errors
    /// [`EngineError::NothingRead`] for empty logits, [`EngineError::Sampler`] for a logit that is
    /// not finite, [`EngineError::Rules`] where no token can follow the rules. Nothing was drawn then.
    pub fn next(&mut self, logits: &[f32]) -> Result<Option<Next>, EngineError> {
        if self.finish.is_some() {
            return Ok(None);
        }
        if logits.is_empty() {
            return Err(EngineError::NothingRead);
        }
        let mask = self.constraint.as_mut().map(Constraint::mask).transpose()?;
        if mask.as_deref().is_some_and(Mask::is_empty) {
            // Nothing was written, and nothing can be.
            self.finish = Some(FinishReason::Complete);
            return Ok(None);
        }
        let recent = self.recent.make_contiguous();
        let id = self.sampler.sample_among(logits, recent, mask.as_deref())?;
        let (log_probability, top) = match self.log_probabilities {
            None => (None, Vec::new()),
            Some(count) => {
                let (own, top) = log_probabilities(logits, id, count);
                (Some(own), top)
            }
        };
        let text = if self.ends.contains(&id) {
            self.finish = Some(FinishReason::End);
            self.stops.take()
        } else {
            let complete = match &mut self.constraint {
                Some(constraint) => {
                    constraint.accept(id)?;
                    constraint.must_end()
                }
                None => false,
            };
            let piece = self.decoder.push(id)?;
            let mut text = self.take(id, &piece);
            if complete && !matches!(self.finish, Some(FinishReason::Stop(_))) {
                self.finish = Some(FinishReason::Complete);
                text += &self.stops.take();
            }
            text
        };
        Ok(Some(Next { id, text, log_probability, top, finish: self.finish.clone() }))
    }

    /// Takes a token's text, and gives what can be given out.
    fn take(&mut self, id: u32, piece: &str) -> String {
        let shared = std::mem::replace(&mut self.within_character, piece.is_empty());
        self.pending.push(piece.len(), self.stops.withheld());
        match self.stops.push(piece) {
            Ok(mut text) => {
                self.tokens += 1;
                push_recent(&mut self.recent, &[id]);
                if self.tokens == self.max_tokens {
                    self.finish = Some(FinishReason::Length);
                    text += &self.stops.take();
                }
                self.pending.give_out(&text);
                if self.stops.withheld() == 0 && !self.wide_stops {
                    // Half a character at most, which begins no stop text.
                    self.pending = Pending::default();
                }
                text
            }
            Err(Stopped { text, stop }) => {
                self.pending.give_out(&text);
                let Pending { tokens, mut shown } = std::mem::take(&mut self.pending);
                if shared {
                    // Its first character belongs to the token before as well.
                    shown.clear();
                }
                // The last one was not read.
                self.rewind = Some(Rewind { tokens: tokens.len().saturating_sub(1), text: shown });
                self.finish = Some(FinishReason::Stop(stop));
                text
            }
        }
    }

    /// Ends the generation before its own end, as [`FinishReason::Length`], and gives the text that
    /// was withheld. Empty after the end.
    pub fn end(&mut self) -> String {
        if self.finish.is_some() {
            return String::new();
        }
        self.finish = Some(FinishReason::Length);
        self.pending = Pending::default();
        self.stops.take()
    }

    /// How many tokens the generated text has so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Settings and position of the sampler, for [`Session::resume_sampler`](crate::Session).
    pub fn sampler(&self) -> SamplerState {
        self.sampler.state()
    }

    /// Why the generation ended, once it has.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish.as_ref()
    }

    /// Whether tokens that were drawn may still turn out to belong to a stop text. A copy of the
    /// session from before the first of them makes a [`Rewind`] possible.
    pub fn is_withholding(&self) -> bool {
        !self.pending.tokens.is_empty()
    }

    /// The tokens to take back, after a stop text came.
    pub fn rewind(&self) -> Option<&Rewind> {
        self.rewind.as_ref()
    }

    /// Whether the text matches the rules as it is; none without rules, and after a stop text: what
    /// came before it may match or not.
    pub fn matches_rules(&mut self) -> Option<bool> {
        if matches!(self.finish, Some(FinishReason::Stop(_))) {
            return None;
        }
        self.constraint.as_mut().map(Constraint::may_end)
    }

    pub(crate) fn into_sampler(self) -> Sampler {
        self.sampler
    }
}

impl Pending {
    /// A token whose text comes behind `before` withheld bytes.
    fn push(&mut self, len: usize, before: usize) {
        self.tokens.push_back((len, before + len));
    }

    /// Drops the tokens whose whole text is given out. A token without text, the first half of a
    /// character, goes with the text behind it.
    fn give_out(&mut self, text: &str) {
        let whole = self.tokens.iter().rposition(|&(len, end)| len > 0 && end <= text.len());
        let Some(last) = whole else {
            if !self.tokens.is_empty() {
                self.shown.push_str(text);
            }
            self.tokens.iter_mut().for_each(|(_, end)| *end = end.saturating_sub(text.len()));
            return;
        };
        let end = self.tokens[last].1;
        self.tokens.drain(..=last);
        self.shown.clear();
        self.shown.push_str(&text[end..]);
        self.tokens.iter_mut().for_each(|(_, end)| *end = end.saturating_sub(text.len()));
    }
}
