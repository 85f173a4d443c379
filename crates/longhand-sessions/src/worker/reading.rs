//! A job that reads: its prompt in pieces, after it texts to score, before it a recompute of its state.

use std::collections::VecDeque;
use std::sync::Arc;

use longhand_engine::score::log_probabilities;
use longhand_engine::session::CHUNK;
use longhand_engine::{Engine, Reader, Session};

use super::accepted::{Accepted, Common};
use super::verify::{Source, Verdict, Verify};
use super::writing::Failed;
use crate::cache::StateCache;
use crate::chain::Chain;
use crate::counters::Counters;
use crate::error::JobError;
use crate::history::History;
use crate::job::{Event, TokenScore, Usage, Work};
use crate::sessions::shelf::Shelf;

/// A job that has tokens to read.
pub(crate) struct Reading {
    pub(crate) common: Common,
    pub(crate) session: Session,
    pub(crate) work: Work,
    pub(crate) usage: Usage,
    /// The passes of this job so far.
    pub(crate) turn: History,
    verify: Option<Verify>,
    ids: Vec<u32>,
    /// How many of them the state has read.
    done: usize,
    /// How many it had read when the job began.
    first: usize,
    /// Where states go into the cache: positions in `ids`, rising.
    plan: VecDeque<(usize, Chain)>,
    /// Sum of the body's output.
    sum: Vec<f64>,
    /// The continuation that is scored, how much of it was read, its scores, and the state there.
    scored: (usize, usize, Vec<TokenScore>, Option<Session>),
}

/// What a piece of reading came to.
pub(crate) enum Progress {
    /// There is more to read.
    More,
    /// The prompt is read, and the job writes.
    Write,
    /// The job has nothing more to do.
    Done,
}

impl Reading {
    /// Begins with the longest part of the prompt that the cache has.
    pub(crate) fn begin(
        mut accepted: Accepted,
        (engine, shelf): (&Arc<Engine>, &Arc<Shelf>),
        cache: &StateCache,
    ) -> Result<Self, Failed> {
        let mut session = match accepted.session(engine, shelf) {
            Ok(session) => session,
            Err(error) => return Err(Box::new((accepted.common, error))),
        };
        let Accepted { mut common, ids, work, ends, replay, verifies, .. } = accepted;
        let mut verify = replay.map(|history| Verify::new(&history, &session, Source::Session));
        let (mut done, mut plan) = (0, VecDeque::new());
        if let Some(ends) = &ends {
            if let Some((position, found)) = cache.find(&common.owner, ends) {
                let sampler = session.sampler();
                session = (*found).clone();
                // Settings that were checked already.
                let _ = session.resume_sampler(sampler);
                done = position;
                let chain = ends.iter().find(|(end, _)| *end == position).map(|&(_, chain)| chain);
                if let (true, Some(chain)) = (verifies, chain) {
                    // The cache has states of passes that begin with an empty one.
                    let mut history = History::default();
                    history.prefill(&ids[..position]);
                    verify = Some(Verify::new(&history, &session, Source::Cache(chain)));
                }
            }
            let wanted = cache.plan(&common.owner, ends, done);
            plan.extend(ends.iter().copied().filter(|(position, _)| wanted.contains(position)));
        }
        let position = session.position();
        // Of a prompt the part that is in the state; of a turn all that came before it.
        let reused = position;
        let read = (ids.len() - done) as u64;
        let usage = Usage { prompt: reused + read, reused, read, ..Usage::default() };
        common.teller.tell(Event::Started { reused, position });
        let (turn, sum, first) = (History::default(), Vec::new(), done);
        let scored = (0, 0, Vec::new(), None);
        Ok(Self { common, session, work, usage, turn, verify, ids, done, first, plan, sum, scored })
    }

    /// How many tokens the next piece costs.
    pub(crate) fn next_piece(&self) -> usize {
        if let Some(verify) = &self.verify {
            return verify.next_piece();
        }
        match &self.work {
            Work::Score(score) if self.done == self.ids.len() => {
                let (at, read, ..) = self.scored;
                score.continuations.get(at).map_or(0, |ids| (ids.len() - read).min(CHUNK))
            }
            _ => (self.ids.len() - self.done).min(CHUNK),
        }
    }

    /// Reads one piece, and tells what is known after it.
    pub(crate) fn read(
        &mut self,
        reader: &mut Reader,
        cache: &StateCache,
        counters: &Counters,
    ) -> Result<Progress, JobError> {
        if let Some(verify) = &mut self.verify {
            let verdict = verify.read(reader, &mut self.session, counters)?;
            if let Verdict::Healed(Source::Cache(chain)) = verdict {
                cache.insert(&self.common.owner, chain, Arc::new(self.session.clone()));
            }
            if !matches!(verdict, Verdict::More) {
                self.verify = None;
            }
            return Ok(Progress::More);
        }
        if self.done < self.ids.len() {
            self.read_prompt(reader, cache)?;
            if self.done < self.ids.len() {
                return Ok(Progress::More);
            }
        }
        match &self.work {
            Work::Write(_) => {
                self.turn.prefill(&self.ids);
                Ok(Progress::Write)
            }
            Work::Embed => {
                let count = self.ids.len() as f64;
                let mean = self.sum.iter().map(|&sum| (sum / count) as f32).collect();
                self.common.teller.tell(Event::Embedding(mean));
                self.turn.prefill(&self.ids);
                Ok(Progress::Done)
            }
            Work::Score(_) => self.read_continuation(reader),
        }
    }

    /// Reads up to [`CHUNK`] tokens of the prompt.
    fn read_prompt(&mut self, reader: &mut Reader, cache: &StateCache) -> Result<(), JobError> {
        let end = self.ids.len().min(self.done + CHUNK);
        let piece = &self.ids[self.done..end];
        match &self.work {
            Work::Write(write) if write.prompt_scores.is_some() => {
                let top = write.prompt_scores.unwrap_or_default();
                let mut scores = Vec::with_capacity(piece.len());
                let mut each = |id, logits: &[f32]| scores.push(token_score(id, logits, top));
                self.session.read_scored(reader, piece, &mut each)?;
                self.common.teller.tell(Event::Prompt(scores));
            }
            Work::Embed => self.session.read_summed(reader, piece, &mut self.sum)?,
            _ => self.session.read(reader, piece)?,
        }
        self.done = end;
        while let Some(&(position, chain)) = self.plan.front()
            && position <= self.done
        {
            self.plan.pop_front();
            if position == self.done {
                cache.insert(&self.common.owner, chain, Arc::new(self.session.clone()));
                self.usage.cache_written = (self.done - self.first) as u64;
            }
        }
        let (done, of) = (self.done - self.first, self.ids.len() - self.first);
        self.common.teller.tell(Event::Read { done, of });
        Ok(())
    }

    /// Scores up to [`CHUNK`] tokens of a continuation, each after the prompt.
    fn read_continuation(&mut self, reader: &mut Reader) -> Result<Progress, JobError> {
        let Work::Score(score) = &self.work else { return Ok(Progress::Done) };
        let (at, read, scores, state) = &mut self.scored;
        let Some(ids) = score.continuations.get(*at) else {
            self.turn.prefill(&self.ids);
            return Ok(Progress::Done);
        };
        let piece = &ids[*read..ids.len().min(*read + CHUNK)];
        match piece {
            // Its logits are there: nothing needs to be read.
            [id] if *read == 0 => scores.push(token_score(*id, self.session.logits(), score.top)),
            [] => {}
            piece => {
                let session = state.get_or_insert_with(|| self.session.clone());
                let mut each = |id, logits: &[f32]| scores.push(token_score(id, logits, score.top));
                session.read_scored(reader, piece, &mut each)?;
            }
        }
        *read += piece.len();
        if *read == ids.len() {
            let scores = std::mem::take(scores);
            self.common.teller.tell(Event::Scored { continuation: *at, scores });
            (*at, *read, *state) = (*at + 1, 0, None);
        }
        Ok(Progress::More)
    }
}

/// How probable a token was, by the logits before it.
fn token_score(id: u32, logits: &[f32], top: usize) -> TokenScore {
    if logits.is_empty() {
        return TokenScore { id, log_probability: None, top: Vec::new() };
    }
    let (own, top) = log_probabilities(logits, id, top);
    TokenScore { id, log_probability: Some(own), top }
}
