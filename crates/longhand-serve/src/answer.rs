//! The pieces of a model's answers, from the events of its job.

use std::sync::Arc;

use longhand_engine::FinishReason;
use longhand_sessions::{Event, Finish, Outcome, Ticket};
use longhand_text::Tokenizer;

use crate::error::ApiError;
use crate::generation::Running;
use crate::log_probabilities::{Ledger, Told, of_prompt};
use crate::models::Language;
use crate::sse::{Gone, Writer};

/// Tokens of a piece that is streamed, at most.
const MOST_JOINED: usize = 64;

/// A piece of an answer.
pub(crate) enum Piece {
    /// Tokens of the prompt with their scores.
    Prompt(Vec<Told>),
    /// Text of a branch, and the tokens that it completes.
    Text { branch: usize, text: String, told: Vec<Told> },
    /// The last text of a branch.
    End { branch: usize, text: String, told: Vec<Told>, finish: Finish },
    /// All branches have ended, and what is kept is durable.
    Done(Box<Outcome>),
}

/// A branch as a whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) told: Vec<Told>,
    pub(crate) finish: Finish,
    /// Σ ln p of the tokens told, and how many there are.
    log_probability: f64,
    tokens: usize,
}

/// Turns events of one job into pieces.
pub(crate) struct Pieces {
    running: Running,
    /// For each branch, where log-probabilities are told.
    ledgers: Vec<Ledger>,
    tokenizer: Arc<Tokenizer>,
    /// What came behind the last piece that was streamed, and could not be joined with it.
    held: Option<Result<Piece, ApiError>>,
}

impl Pieces {
    /// The pieces of `branches` answers behind these tokens.
    ///
    /// # Errors
    /// If the tokeniser does not know one of them.
    pub(crate) fn new(
        running: Running,
        language: &Language,
        prompt: &[u32],
        branches: usize,
        tells: bool,
    ) -> Result<Self, ApiError> {
        let tokenizer = language.engine().tokenizer().clone();
        let branches = if tells { branches } else { 0 };
        let ledgers = (0..branches).map(|_| Ledger::behind(&tokenizer, prompt));
        let ledgers = ledgers.collect::<Result<_, _>>()?;
        Ok(Self { running, ledgers, tokenizer, held: None })
    }

    /// Tells of the token that ends the document too, as texts that continue prompts have it.
    pub(crate) fn telling_ends(mut self) -> Self {
        self.ledgers.iter_mut().for_each(Ledger::tell_end);
        self
    }

    /// The right to the job that writes the answers.
    pub(crate) fn ticket(&self) -> Arc<Ticket> {
        self.running.ticket()
    }

    /// Waits for the next piece of an answer.
    ///
    /// # Errors
    /// What the job failed with.
    pub(crate) async fn next(&mut self) -> Result<Piece, ApiError> {
        loop {
            let event = self.running.next().await?;
            if let Some(piece) = self.piece(event)? {
                return Ok(piece);
            }
        }
    }

    /// The next piece, with the text that waits behind it; while there is none, the client gets
    /// comments.
    ///
    /// # Errors
    /// [`Gone`] if the client has left.
    pub(crate) async fn next_streamed(
        &mut self,
        writer: &Writer,
    ) -> Result<Result<Piece, ApiError>, Gone> {
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        loop {
            let event = match self.running.next_streamed(writer).await? {
                Ok(event) => event,
                Err(error) => return Ok(Err(error)),
            };
            match self.piece(event) {
                Ok(None) => {}
                Ok(Some(piece)) => return Ok(Ok(self.joined(piece))),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Adds text of the same branch that has come already. Where many streams are written, an event
    /// costs more than the token in it; so a stream that falls behind gets fewer events, not later
    /// ones.
    fn joined(&mut self, mut piece: Piece) -> Piece {
        for _ in 1..MOST_JOINED {
            let Piece::Text { branch, text, told } = &mut piece else { break };
            let Some(event) = self.running.next_waiting() else { break };
            match event.and_then(|event| self.piece(event)) {
                Ok(None) => {}
                Ok(Some(Piece::Text { branch: other, text: more, told: further }))
                    if other == *branch =>
                {
                    text.push_str(&more);
                    told.extend(further);
                }
                other => {
                    self.held = other.transpose();
                    break;
                }
            }
        }
        piece
    }

    fn piece(&mut self, event: Event) -> Result<Option<Piece>, ApiError> {
        Ok(Some(match event {
            Event::Prompt(scores) => Piece::Prompt(of_prompt(&self.tokenizer, scores)?),
            Event::Token { branch, next, memory } => {
                let told = match self.ledgers.get_mut(branch) {
                    Some(ledger) => ledger.take(&next, memory)?,
                    None => Vec::new(),
                };
                if next.text.is_empty() && told.is_empty() {
                    return Ok(None);
                }
                Piece::Text { branch, text: next.text, told }
            }
            Event::Ended { branch, finish, text } => {
                let told = match self.ledgers.get_mut(branch) {
                    Some(ledger) => ledger.end(&finish, &text),
                    None => Vec::new(),
                };
                Piece::End { branch, text, told, finish }
            }
            Event::Done(outcome) => Piece::Done(outcome),
            _ => return Ok(None),
        }))
    }

    /// Waits for all: the tokens of the prompt, the answers, and what was read and kept.
    ///
    /// # Errors
    /// What the job failed with.
    pub(crate) async fn collect(
        mut self,
    ) -> Result<(Vec<Told>, Vec<Answer>, Box<Outcome>), ApiError> {
        let (mut prompt, mut answers) = (Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                Piece::Prompt(told) => prompt.extend(told),
                Piece::Text { branch, text, told } => answer(&mut answers, branch).add(text, told),
                Piece::End { branch, text, told, finish } => {
                    let answer = answer(&mut answers, branch);
                    answer.add(text, told);
                    answer.finish = finish;
                }
                Piece::Done(outcome) => return Ok((prompt, answers, outcome)),
            }
        }
    }
}

fn answer(answers: &mut Vec<Answer>, branch: usize) -> &mut Answer {
    while answers.len() <= branch {
        answers.push(Answer {
            text: String::new(),
            told: Vec::new(),
            finish: Finish::Interrupted,
            log_probability: 0.0,
            tokens: 0,
        });
    }
    &mut answers[branch]
}

impl Answer {
    fn add(&mut self, text: String, told: Vec<Told>) {
        self.text.push_str(&text);
        self.tokens += told.len();
        let each = told.iter().filter_map(|told| told.log_probability);
        self.log_probability += each.map(f64::from).sum::<f64>();
        self.told.extend(told);
    }

    /// ln p per token; that of an answer without tokens is below any other.
    pub(crate) fn mean_log_probability(&self) -> f64 {
        match self.tokens {
            0 => f64::NEG_INFINITY,
            tokens => self.log_probability / tokens as f64,
        }
    }
}

/// Refuses an outcome whose answers the end of the server broke off: they must not look finished.
///
/// # Errors
/// [`ApiError::BrokenOff`] for such an outcome.
pub(crate) fn check_whole(outcome: &Outcome) -> Result<(), ApiError> {
    match outcome.finishes.contains(&Finish::Interrupted) {
        true => Err(ApiError::BrokenOff),
        false => Ok(()),
    }
}

/// Why a streamed answer ended; none for one that was broken off, of which an error tells.
pub(crate) fn streamed_reason(finish: &Finish) -> Option<&'static str> {
    (*finish != Finish::Interrupted).then(|| finish_reason(finish))
}

/// Why an answer ended, as OpenAI's clients know it.
pub(crate) fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Reason(FinishReason::Length) | Finish::Interrupted => "length",
        // The model's end, a stop text, or the end of what a grammar allows.
        _ => "stop",
    }
}
