//! A job that writes: its branches, each a stream of the batch.

use std::collections::HashMap;
use std::time::Instant;

use longhand_engine::score::log_probabilities;
use longhand_engine::shares::Silenced;
use longhand_engine::{Continuation, NotAdmitted, Session, Slot, Streams, TokenMemory};

use super::accepted::Common;
use crate::counters::Counters;
use crate::error::JobError;
use crate::history::History;
use crate::job::{Event, Finish, Keep, Usage, Write};

/// A job that writes.
pub(crate) struct Writing {
    pub(crate) common: Common,
    pub(crate) usage: Usage,
    /// The passes of this job; of several branches, those of the first one.
    pub(crate) turn: History,
    pub(crate) branches: Vec<Branch>,
    /// The first one's stream, after its end.
    first: Option<Session>,
    bias: Vec<(u32, f32)>,
    presence: f32,
    frequency: f32,
    /// How many of the most probable tokens are told.
    top: Option<usize>,
    told: bool,
    memory_shares: bool,
}

/// A job that failed, with its error.
pub(crate) type Failed = Box<(Common, JobError)>;

/// One text that is being written.
pub(crate) struct Branch {
    /// Its place in the batch; none after its end.
    pub(crate) slot: Option<Slot>,
    continuation: Continuation,
    /// How often it has each token.
    counts: HashMap<u32, u32>,
    /// The token that the model reads next.
    pub(crate) pending: Option<u32>,
    /// What would follow that token with each memory silenced, if the job tells of them.
    silenced: Option<Silenced>,
    /// The stream before the first token whose text is withheld, and the tokens read since. Only
    /// where the stream is kept.
    checkpoint: Option<(Session, Vec<u32>)>,
    pub(crate) finish: Option<Finish>,
    last: Instant,
    /// Logits that were changed.
    logits: Vec<f32>,
}

/// What must still be read so that a kept stream has exactly the text that was given out.
pub(crate) struct Settling {
    pub(crate) writing: Writing,
    pub(crate) session: Session,
    /// Tokens to read one by one, in reverse.
    pub(crate) steps: Vec<u32>,
    /// Tokens to read in one pass after them.
    pub(crate) tail: Vec<u32>,
}

impl Writing {
    /// Puts the branches of a job into the batch, which has room for them.
    pub(crate) fn begin(
        mut common: Common,
        session: Session,
        write: Write,
        (usage, turn): (Usage, History),
        streams: &mut Streams,
    ) -> Result<Self, Failed> {
        // The memory of a batch is its own.
        common.held = None;
        let Write { options, branches, bias, .. } = write;
        let (presence, frequency) = (write.presence_penalty, write.frequency_penalty);
        let (top, memory_shares) = (options.log_probabilities, write.memory_shares);
        let mut made: Vec<Branch> = Vec::with_capacity(branches);
        let mut session = Some(session);
        for index in 0..branches {
            // The last branch has the state itself, the others have copies.
            let own = if index + 1 < branches { session.clone() } else { session.take() };
            let Some(own) = own else { break };
            match Branch::begin(own, index, options.clone(), streams) {
                Ok(branch) => made.push(branch),
                Err(error) => {
                    made.iter_mut().for_each(|branch| branch.leave(streams));
                    return Err(Box::new((common, error)));
                }
            }
        }
        let (branches, first, told) = (made, None, false);
        Ok(Self {
            common,
            usage,
            turn,
            branches,
            first,
            bias,
            presence,
            frequency,
            top,
            told,
            memory_shares,
        })
    }

    /// Draws the next token of each branch that goes on, and tells it.
    pub(crate) fn draw(&mut self, streams: &Streams, counters: &Counters) -> Result<(), JobError> {
        for index in 0..self.branches.len() {
            if self.branches[index].slot.is_some() && self.branches[index].finish.is_none() {
                self.draw_one(index, streams, counters)?;
            }
        }
        Ok(())
    }

    fn draw_one(
        &mut self,
        index: usize,
        streams: &Streams,
        counters: &Counters,
    ) -> Result<(), JobError> {
        let kept = self.is_kept(index);
        let branch = &mut self.branches[index];
        let Some(slot) = branch.slot else { return Ok(()) };
        let logits = streams.logits(slot)?;
        let penalised = self.presence != 0.0 || self.frequency != 0.0;
        let next = if penalised || !self.bias.is_empty() {
            branch.shape(logits, &self.bias, self.presence, self.frequency);
            let mut next = branch.continuation.next(&branch.logits)?;
            if let (Some(next), Some(count)) = (&mut next, self.top) {
                let (own, top) = log_probabilities(logits, next.id, count);
                (next.log_probability, next.top) = (Some(own), top);
            }
            next
        } else {
            branch.continuation.next(logits)?
        };
        // None where nothing can be written: the rules match the empty text alone.
        let Some(next) = next else {
            let reason = branch.continuation.finish_reason().cloned();
            let finish = reason.map_or(Finish::Interrupted, Finish::Reason);
            branch.end(finish.clone());
            let text = String::new();
            self.common.teller.tell(Event::Ended { branch: index, finish, text });
            return Ok(());
        };
        let memory = match (self.memory_shares, branch.silenced.take()) {
            (false, _) => None,
            (true, None) => Some(TokenMemory::default()),
            (true, Some(silenced)) => Some(silenced.token(logits, next.id)?),
        };
        let (id, finish, is_read) = (next.id, next.finish.clone(), next.is_read());
        if is_read {
            *branch.counts.entry(id).or_default() += 1;
            self.usage.generated += 1;
            counters.tokens_written.add(1);
        }
        let now = Instant::now();
        if !std::mem::replace(&mut self.told, true) {
            counters.first_token.record(now - self.common.teller.accepted);
        } else {
            counters.per_token.record(now - branch.last);
        }
        branch.last = now;
        self.common.teller.tell(Event::Token { branch: index, next, memory });
        if is_read && (kept || finish.is_none()) {
            if kept {
                branch.note(id, slot, streams)?;
                self.turn.step(id);
            }
            branch.pending = Some(id);
        }
        if let Some(reason) = finish {
            let (finish, text) = (Finish::Reason(reason), String::new());
            branch.end(finish.clone());
            self.common.teller.tell(Event::Ended { branch: index, finish, text });
        }
        Ok(())
    }

    /// Takes the step that each branch takes next, with each memory silenced. The streams do not change.
    pub(crate) fn silence(&mut self, streams: &mut Streams) -> Result<(), JobError> {
        for branch in self.branches.iter_mut().filter(|_| self.memory_shares) {
            if let (Some(slot), Some(id), None) = (branch.slot, branch.pending, &branch.finish) {
                branch.silenced = Some(streams.silenced(slot, id)?);
            }
        }
        Ok(())
    }

    /// Ends all branches where they are.
    pub(crate) fn interrupt(&mut self) {
        for index in 0..self.branches.len() {
            let branch = &mut self.branches[index];
            if branch.finish.is_none() {
                let (text, finish) = (branch.continuation.end(), Finish::Interrupted);
                branch.end(finish.clone());
                self.common.teller.tell(Event::Ended { branch: index, finish, text });
            }
        }
    }

    /// Gives back the places of branches that are at their end. Once all are, the first one's stream.
    pub(crate) fn leave(&mut self, streams: &mut Streams) -> Result<Option<Session>, JobError> {
        for (index, branch) in self.branches.iter_mut().enumerate() {
            if branch.finish.is_some()
                && let Some(slot) = branch.slot.take()
            {
                let session = streams.release(slot)?;
                if index == 0 {
                    self.first = Some(session);
                }
            }
        }
        let all = self.branches.iter().all(|branch| branch.slot.is_none());
        Ok(if all { self.first.take() } else { None })
    }

    /// Gives back all places.
    pub(crate) fn abandon(&mut self, streams: &mut Streams) {
        self.branches.iter_mut().for_each(|branch| branch.leave(streams));
    }

    pub(crate) fn finishes(&self) -> Vec<Finish> {
        self.branches.iter().filter_map(|branch| branch.finish.clone()).collect()
    }

    /// What must be read so that the first branch's stream has exactly the text that was given out.
    pub(crate) fn settle(mut self, mut session: Session) -> Result<Settling, Failed> {
        let (mut steps, mut tail) = (Vec::new(), Vec::new());
        let kept = self.is_kept(0);
        let Some(branch) = self.branches.first_mut() else {
            return Ok(Settling { writing: self, session, steps, tail });
        };
        let sampler = branch.continuation.sampler();
        if kept && let Some(rewind) = branch.continuation.rewind().cloned() {
            if let Some((before, mut read)) = branch.checkpoint.take() {
                session = before;
                read.truncate(read.len().saturating_sub(rewind.tokens));
                read.reverse();
                steps = read;
                self.turn.take_back(rewind.tokens);
            }
            let tokenizer = session.engine().tokenizer();
            if !rewind.text.is_empty()
                && let Ok(ids) = tokenizer.encode(&rewind.text)
                && tokenizer.decode(&ids).is_ok_and(|text| text == rewind.text)
            {
                self.turn.prefill(&ids);
                tail = ids;
            }
        }
        match session.resume_sampler(sampler) {
            Ok(()) => Ok(Settling { writing: self, session, steps, tail }),
            Err(error) => Err(Box::new((self.common, error.into()))),
        }
    }

    fn is_kept(&self, index: usize) -> bool {
        index == 0 && self.common.keep != Keep::Nothing
    }
}

impl Branch {
    fn begin(
        mut session: Session,
        index: usize,
        options: longhand_engine::GenerateOptions,
        streams: &mut Streams,
    ) -> Result<Self, JobError> {
        if index > 0 {
            let mut settings = session.sampler().settings;
            settings.seed = settings.seed.wrapping_add(index as u64);
            session.set_sampler(settings)?;
        }
        let continuation = session.continuation(options)?;
        let slot = streams.admit(session).map_err(|NotAdmitted { source, .. }| source)?;
        Ok(Self {
            slot: Some(slot),
            continuation,
            counts: HashMap::new(),
            pending: None,
            silenced: None,
            checkpoint: None,
            finish: None,
            last: Instant::now(),
            logits: Vec::new(),
        })
    }

    /// Changes a copy of the logits as the job asks for.
    fn shape(&mut self, logits: &[f32], bias: &[(u32, f32)], presence: f32, frequency: f32) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        for (&id, &count) in &self.counts {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                *logit -= presence + frequency * count as f32;
            }
        }
        for &(id, bias) in bias {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
    }

    /// Takes note of a token that a kept stream reads next.
    fn note(&mut self, id: u32, slot: Slot, streams: &Streams) -> Result<(), JobError> {
        if !self.continuation.is_withholding() {
            self.checkpoint = None;
        } else if self.checkpoint.is_none() {
            self.checkpoint = Some((streams.copy(slot)?, Vec::new()));
        }
        if let Some((_, read)) = &mut self.checkpoint {
            read.push(id);
        }
        Ok(())
    }

    fn end(&mut self, finish: Finish) {
        self.finish = Some(finish);
    }

    fn leave(&mut self, streams: &mut Streams) {
        if let Some(slot) = self.slot.take() {
            // A slot without a stream is free already.
            drop(streams.release(slot));
        }
    }
}
