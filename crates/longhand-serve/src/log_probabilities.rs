//! Log-probabilities of tokens in the two forms of OpenAI.
//!
//! A stop text may begin within tokens that were drawn before it was complete. Such a token is not
//! part of the answer, and so is not told: each token waits here until its text is given out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use longhand_engine::{FinishReason, Next, TokenMemory};
use longhand_sessions::{Finish, TokenScore};
use longhand_text::{Decoder, Tokenizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// A token of an answer with its log-probability.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) id: u32,
    /// ln p(token); none where nothing predicted it.
    pub(crate) log_probability: Option<f32>,
    /// The most probable tokens, best first.
    pub(crate) top: Vec<(u32, f32)>,
    /// What share each memory had in it, where that was asked for.
    pub(crate) memory: Option<TokenMemory>,
    /// How many characters of the text it completes.
    characters: usize,
}

/// The tokens of one answer.
pub(crate) struct Ledger {
    decoder: Decoder<Arc<Tokenizer>>,
    /// Bytes of text of all tokens, and of what was given out.
    drawn: usize,
    given: usize,
    /// Each token with the places in the text where its own begins and ends.
    waiting: VecDeque<(Told, usize, usize)>,
    /// Whether the token that ends the document is told as well.
    tells_end: bool,
}

impl Ledger {
    /// A ledger of an answer that follows these tokens.
    ///
    /// # Errors
    /// If the tokeniser does not know one of them.
    pub(crate) fn behind(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> Result<Self, ApiError> {
        let mut decoder = Decoder::new(tokenizer.clone());
        // The last ones decide on a space before the next word, and on a half character.
        for &id in &ids[ids.len().saturating_sub(64)..] {
            decoder.push(id)?;
        }
        Ok(Self { decoder, drawn: 0, given: 0, waiting: VecDeque::new(), tells_end: false })
    }

    /// Tells of the token that ends the document too. It has no text.
    pub(crate) fn tell_end(&mut self) {
        self.tells_end = true;
    }

    /// Takes a token, and gives those whose text is now given out.
    ///
    /// # Errors
    /// If the tokeniser does not know it.
    pub(crate) fn take(
        &mut self,
        next: &Next,
        memory: Option<TokenMemory>,
    ) -> Result<Vec<Told>, ApiError> {
        // What ends the document, and what completes a stop text, is not part of the answer.
        let piece = match next.is_read() {
            true => Some(self.decoder.push(next.id)?),
            false => (self.tells_end && next.finish == Some(FinishReason::End)).then(String::new),
        };
        if let Some(piece) = piece {
            let begin = self.drawn;
            self.drawn += piece.len();
            let told = Told {
                id: next.id,
                log_probability: next.log_probability,
                top: next.top.clone(),
                memory,
                characters: piece.chars().count(),
            };
            self.waiting.push_back((told, begin, self.drawn));
        }
        self.given += next.text.len();
        let mut out = Vec::new();
        let given = self.given;
        while let Some((told, _, _)) = self.waiting.pop_front_if(|&mut (_, _, end)| end <= given) {
            out.push(told);
        }
        Ok(out)
    }

    /// Gives the tokens that still waited, by how the answer ended.
    /// `text` is what was given out beside tokens.
    pub(crate) fn end(&mut self, finish: &Finish, text: &str) -> Vec<Told> {
        let given = self.given + text.len();
        let is_cut = matches!(finish, Finish::Reason(FinishReason::Stop(_)));
        let waiting = std::mem::take(&mut self.waiting);
        let told = waiting.into_iter().filter(|&(_, begin, _)| !is_cut || begin < given);
        told.map(|(told, _, _)| told).collect()
    }
}

/// Tokens of a prompt with their scores.
pub(crate) fn of_prompt(
    tokenizer: &Arc<Tokenizer>,
    scores: Vec<TokenScore>,
) -> Result<Vec<Told>, ApiError> {
    let mut decoder = Decoder::new(tokenizer.clone());
    let told = scores.into_iter().map(|TokenScore { id, log_probability, top }| {
        let characters = decoder.push(id)?.chars().count();
        Ok(Told { id, log_probability, top, memory: None, characters })
    });
    told.collect()
}

/// Log-probabilities of a chat's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct ChatLogProbabilities {
    /// One entry for each token.
    pub(crate) content: Vec<ChatLogProbability>,
    /// Always null: nothing is refused.
    pub(crate) refusal: Option<()>,
}

/// The log-probability of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ChatLogProbability {
    /// The token's text; bytes of half a character are written as `\xe4`.
    pub(crate) token: String,
    /// Its natural logarithm of the probability, by the model itself.
    pub(crate) logprob: f32,
    /// The token's bytes; null where it has none of its own.
    pub(crate) bytes: Option<Vec<u8>>,
    /// The most probable tokens at this place, best first.
    pub(crate) top_logprobs: Vec<Alternative>,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Alternative {
    /// The token's text, as above.
    pub(crate) token: String,
    /// Its natural logarithm of the probability.
    pub(crate) logprob: f32,
    /// The token's bytes; null where it has none of its own.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Entries of a chat's answer.
pub(crate) fn chat(tokenizer: &Tokenizer, told: &[Told]) -> Vec<ChatLogProbability> {
    let alternative = |&(id, logprob): &(u32, f32)| Alternative {
        token: tokenizer.label(id),
        logprob,
        bytes: bytes(tokenizer, id),
    };
    told.iter()
        .map(|told| ChatLogProbability {
            token: tokenizer.label(told.id),
            logprob: told.log_probability.unwrap_or(0.0),
            bytes: bytes(tokenizer, told.id),
            top_logprobs: told.top.iter().map(alternative).collect(),
        })
        .collect()
}

/// The bytes of a token: its own where it is of bytes, else those of its name.
fn bytes(tokenizer: &Tokenizer, id: u32) -> Option<Vec<u8>> {
    let named = || Some(tokenizer.token(id)?.as_bytes().to_vec());
    tokenizer.token_bytes(id).or_else(named)
}

/// Log-probabilities of a completion: lists with one element for each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct TextLogProbabilities {
    /// The texts of the tokens.
    pub(crate) tokens: Vec<String>,
    /// Their log-probabilities; null where nothing predicted the token.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    /// The most probable tokens at each place, and the token itself; null as above.
    pub(crate) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token's text begins, in characters of the choice's text.
    pub(crate) text_offset: Vec<usize>,
}

impl TextLogProbabilities {
    /// Adds tokens that follow `characters` characters, and counts on.
    pub(crate) fn extend(&mut self, tokenizer: &Tokenizer, told: &[Told], characters: &mut usize) {
        for token in told {
            self.tokens.push(tokenizer.label(token.id));
            self.token_logprobs.push(token.log_probability);
            self.text_offset.push(*characters);
            *characters += token.characters;
            let own = token.log_probability.map(|own| (token.id, own));
            let top = token.top.iter().copied().chain(own);
            self.top_logprobs.push(own.map(|_| {
                let mut named = BTreeMap::new();
                for (id, value) in top {
                    // Of two tokens that read alike the more probable one is told.
                    let slot = named.entry(tokenizer.label(id)).or_insert(value);
                    *slot = slot.max(value);
                }
                named
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evaluation harnesses ask for one token behind a text and leave out the last entry: without the
    /// token that ends the document they would leave out the last one of the text.
    #[test]
    fn the_end_of_the_document_is_told_where_it_is_asked_for() {
        let tokenizer = Arc::new(Tokenizer::byte().unwrap());
        let next = |text: &str, id, finish| Next {
            id,
            text: text.into(),
            log_probability: Some(-0.5),
            top: vec![(id, -0.5)],
            finish,
        };
        for tells_end in [false, true] {
            let mut ledger = Ledger::behind(&tokenizer, &[]).unwrap();
            if tells_end {
                ledger.tell_end();
            }
            let mut told = ledger.take(&next("a", 97, None), None).unwrap();
            told.extend(ledger.take(&next("", 10, Some(FinishReason::End)), None).unwrap());
            told.extend(ledger.end(&Finish::Reason(FinishReason::End), ""));
            let found: Vec<_> = told.iter().map(|told| (told.id, told.characters)).collect();
            assert_eq!(found, [(97, 1), (10, 0)][..1 + usize::from(tells_end)]);
        }
        // A token that completes a stop text is never told.
        let mut ledger = Ledger::behind(&tokenizer, &[]).unwrap();
        ledger.tell_end();
        let stop = FinishReason::Stop("b".into());
        assert_eq!(ledger.take(&next("", 98, Some(stop)), None).unwrap(), []);
    }
}
