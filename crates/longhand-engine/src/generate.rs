//! Tokens to text as they come.

use longhand_text::{Decoder, Tokenizer};

use crate::engine::Reader;
use crate::error::EngineError;
use crate::session::Session;

/// When to stop.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Texts that end the generation; they are not given out, not even in part.
    pub stop: Vec<String>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: 256, stop: Vec::new() }
    }
}

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The most tokens were generated.
    Length,
    /// This stop text came.
    Stop(String),
    /// The model ended the document. Its end token is not read, so that the session can go on.
    End,
}

/// A running generation: an iterator over pieces of text, none of them empty and none with half a
/// character. After the last piece the session has read every token whose text was given out.
pub struct Generation<'a, 'e> {
    reader: &'a mut Reader<'e>,
    session: &'a mut Session,
    decoder: Decoder<&'e Tokenizer>,
    max_tokens: usize,
    held: Held,
    tokens: usize,
    finish: Option<FinishReason>,
}

impl<'a, 'e> Generation<'a, 'e> {
    /// Continues a session.
    ///
    /// # Errors
    /// An empty stop text, or a session that has read nothing.
    pub fn new(
        reader: &'a mut Reader<'e>,
        session: &'a mut Session,
        options: GenerateOptions,
    ) -> Result<Self, EngineError> {
        if options.stop.iter().any(String::is_empty) {
            let (value, allowed) = ("empty".into(), "at least one character");
            return Err(EngineError::Option { name: "the stop text", value, allowed });
        }
        if session.logits().is_empty() {
            return Err(EngineError::NothingRead);
        }
        let mut decoder = reader.engine().tokenizer().decoder();
        // What was read before decides on spaces between words, and may end within a character.
        for id in session.recent() {
            decoder.push(id)?;
        }
        let GenerateOptions { max_tokens, stop } = options;
        let held = Held { text: String::new(), stop };
        Ok(Self { reader, session, decoder, max_tokens, held, tokens: 0, finish: None })
    }

    /// How many tokens were generated so far.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Why it ended, once it has.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish.as_ref()
    }

    /// Generates the next piece of text, which may be empty.
    fn advance(&mut self) -> Result<String, EngineError> {
        if self.tokens >= self.max_tokens {
            return Ok(self.end(FinishReason::Length));
        }
        let id = self.session.sample()?;
        if self.reader.engine().tokenizer().document_end_id() == Some(id) {
            return Ok(self.end(FinishReason::End));
        }
        self.session.step(self.reader, id)?;
        self.tokens += 1;
        let (text, stop) = self.held.push(&self.decoder.push(id)?);
        self.finish = stop.map(FinishReason::Stop);
        Ok(text)
    }

    /// What is still held is text after all; half a character is left to the session, which goes
    /// on with its other half.
    fn end(&mut self, reason: FinishReason) -> String {
        self.finish = Some(reason);
        std::mem::take(&mut self.held.text)
    }
}

/// Text that is not given out yet, because it may be the beginning of a stop text.
struct Held {
    text: String,
    stop: Vec<String>,
}

impl Held {
    /// Takes a piece of text; gives what can be given out, and the stop text that it ends before,
    /// if one came.
    fn push(&mut self, piece: &str) -> (String, Option<String>) {
        self.text.push_str(piece);
        if let Some((at, stop)) = first_stop(&self.text, &self.stop) {
            let stop = stop.to_owned();
            self.text.truncate(at);
            return (std::mem::take(&mut self.text), Some(stop));
        }
        let keep = begun_stop(&self.text, &self.stop);
        let tail = self.text.split_off(self.text.len() - keep);
        (std::mem::replace(&mut self.text, tail), None)
    }
}

impl Iterator for Generation<'_, '_> {
    type Item = Result<String, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.finish.is_none() {
            match self.advance() {
                Ok(piece) if piece.is_empty() => {}
                other => return Some(other),
            }
        }
        None
    }
}

/// Where the first stop text begins, and which one it is; of several at one place the longest.
fn first_stop<'s>(text: &str, stops: &'s [String]) -> Option<(usize, &'s str)> {
    let found = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at, &stop[..])));
    found.min_by_key(|&(at, stop)| (at, std::cmp::Reverse(stop.len())))
}

/// How many bytes at the text's end may be the beginning of a stop text.
fn begun_stop(text: &str, stops: &[String]) -> usize {
    let begun = |stop: &String| {
        let most = text.len().min(stop.len() - 1);
        (1..=most).rev().find(|&len| text.as_bytes().ends_with(&stop.as_bytes()[..len]))
    };
    stops.iter().filter_map(begun).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
