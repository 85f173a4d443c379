//! A session that writes.

use crate::continuation::{Continuation, FinishReason, GenerateOptions, Next, Rewind};
use crate::engine::Reader;
use crate::error::EngineError;
use crate::session::Session;

/// A session with its running generation. It owns both, so it can live in a struct or a thread.
///
/// After the last token the session has read exactly the tokens of the text that was given out. A
/// stop text is not part of it: the tokens of its beginning, which the model had to read in order
/// to go on, are taken back.
pub struct Generation {
    session: Session,
    continuation: Continuation,
    /// The session before the first token whose text is withheld.
    checkpoint: Option<Checkpoint>,
}

struct Checkpoint {
    session: Session,
    /// The tokens read since.
    read: Vec<u32>,
}

/// The pieces of text of a [`Generation`], none of them empty.
pub struct Pieces<'a> {
    generation: &'a mut Generation,
    reader: &'a mut Reader,
}

impl Generation {
    /// Continues a session with new tokens.
    ///
    /// # Errors
    /// [`EngineError::NothingRead`] if the session has read nothing, [`EngineError::Option`] for
    /// an empty stop text, [`EngineError::Rules`] for rules that no token can begin.
    pub fn new(session: Session, options: GenerateOptions) -> Result<Self, EngineError> {
        if session.logits().is_empty() {
            return Err(EngineError::NothingRead);
        }
        let continuation = session.continuation(options)?;
        Ok(Self { session, continuation, checkpoint: None })
    }

    /// Generates the next token and reads it; none after the end.
    ///
    /// # Errors
    /// [`EngineError::OtherModel`] for a reader of another model, [`EngineError::Sampler`] for a
    /// logit that is not finite.
    pub fn next(&mut self, reader: &mut Reader) -> Result<Option<Next>, EngineError> {
        reader.engine().check_same(self.session.engine())?;
        let Some(next) = self.continuation.next(self.session.logits())? else {
            return Ok(None);
        };
        if let Some(rewind) = self.continuation.rewind().cloned() {
            self.rewind(reader, &rewind)?;
        } else if next.is_read() {
            if !self.continuation.is_withholding() {
                self.checkpoint = None;
            } else if self.checkpoint.is_none() {
                let session = self.session.clone();
                self.checkpoint = Some(Checkpoint { session, read: Vec::new() });
            }
            if let Some(checkpoint) = &mut self.checkpoint {
                checkpoint.read.push(next.id);
            }
            self.session.step(reader, next.id)?;
        }
        Ok(Some(next))
    }

    /// The text, piece by piece, as it comes.
    pub fn pieces<'a>(&'a mut self, reader: &'a mut Reader) -> Pieces<'a> {
        Pieces { generation: self, reader }
    }

    /// How many tokens the generated text has so far.
    pub fn tokens(&self) -> usize {
        self.continuation.tokens()
    }

    /// Why it ended, once it has.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.continuation.finish_reason()
    }

    /// Whether the text matches the rules as it is: see [`Continuation::matches_rules`].
    pub fn matches_rules(&mut self) -> Option<bool> {
        self.continuation.matches_rules()
    }

    /// How many tokens were taken back, because a stop text begins before their end.
    pub fn taken_back(&self) -> usize {
        self.continuation.rewind().map_or(0, |rewind| rewind.tokens)
    }

    /// The session, to read on. Before the end it may have read tokens whose text is withheld.
    pub fn into_session(self) -> Session {
        let mut session = self.session;
        session.end.sampler = self.continuation.into_sampler();
        session
    }

    /// Takes the tokens of a stop text back. What was given out of a token that the stop text
    /// begins within is read in its place, if the tokeniser can express it.
    fn rewind(&mut self, reader: &mut Reader, rewind: &Rewind) -> Result<(), EngineError> {
        if let Some(Checkpoint { session, read }) = self.checkpoint.take() {
            self.session = session;
            // One by one, as they were read: the same bits again.
            for &id in &read[..read.len().saturating_sub(rewind.tokens)] {
                self.session.step(reader, id)?;
            }
        }
        if !rewind.text.is_empty() {
            let tokenizer = self.session.engine().tokenizer().clone();
            if let Ok(ids) = tokenizer.encode(&rewind.text)
                && tokenizer.decode(&ids).is_ok_and(|text| text == rewind.text)
            {
                self.session.read(reader, &ids)?;
            }
        }
        Ok(())
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<String, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.generation.next(self.reader) {
                Ok(Some(next)) if next.text.is_empty() => {}
                Ok(next) => return next.map(|next| Ok(next.text)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
