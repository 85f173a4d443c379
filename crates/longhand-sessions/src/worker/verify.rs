//! Recomputes a restored state from its tokens, and compares every bit.

use std::collections::VecDeque;

use longhand_engine::session::CHUNK;
use longhand_engine::{Reader, Session};

use crate::chain::Chain;
use crate::counters::Counters;
use crate::error::JobError;
use crate::history::History;

/// Tokens of a piece that one decode step counts for: it takes about as long as that many tokens
/// of a prefill pass.
const STEP: usize = 8;

/// A recompute that is under way.
pub(crate) struct Verify {
    passes: VecDeque<Vec<u32>>,
    cold: Option<Session>,
    source: Source,
}

/// Where a state that is recomputed comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source {
    /// A session.
    Session,
    /// The state cache, which has it under this chain.
    Cache(Chain),
}

/// What a piece of recomputing came to.
pub(crate) enum Verdict {
    /// There is more to read.
    More,
    /// The state has the right bits.
    Same,
    /// It had others, and is the recomputed one now.
    Healed(Source),
}

impl Verify {
    pub(crate) fn new(history: &History, session: &Session, source: Source) -> Self {
        let passes = history.passes().map(<[u32]>::to_vec).collect();
        let cold = session.engine().session(session.sampler().settings).ok();
        Self { passes, cold, source }
    }

    /// How many tokens the next piece counts for.
    pub(crate) fn next_piece(&self) -> usize {
        self.passes.front().map_or(0, |pass| if pass.len() == 1 { CHUNK } else { pass.len() })
    }

    /// Reads a piece: a pass of a prefill, or as many steps as one counts for. A state that
    /// differs is counted and replaced by the recomputed one.
    pub(crate) fn read(
        &mut self,
        reader: &mut Reader,
        session: &mut Session,
        counters: &Counters,
    ) -> Result<Verdict, JobError> {
        let Some(cold) = &mut self.cold else { return Ok(Verdict::Same) };
        let mut spent = 0;
        while spent < CHUNK
            && let Some(pass) = self.passes.pop_front()
        {
            cold.read(reader, &pass)?;
            spent += if pass.len() == 1 { STEP } else { CHUNK };
        }
        if !self.passes.is_empty() {
            return Ok(Verdict::More);
        }
        let (verified, failures) = match self.source {
            Source::Session => (&counters.verified, &counters.verify_failures),
            Source::Cache(_) => (&counters.cache_verified, &counters.cache_verify_failures),
        };
        verified.add(1);
        if same_bits(cold, session) {
            return Ok(Verdict::Same);
        }
        failures.add(1);
        cold.resume_sampler(session.sampler())?;
        *session = cold.clone();
        Ok(Verdict::Healed(self.source))
    }
}

/// Whether two sessions have the same state, logits and last tokens, to the last bit. How they
/// draw tokens is not compared.
pub(crate) fn same_bits(a: &Session, b: &Session) -> bool {
    let bits = |a: &[f32], b: &[f32]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    let (x, y) = (a.state().to_tensors(), b.state().to_tensors());
    let tensors = x.len() == y.len()
        && x.iter().zip(&y).all(|(x, y)| x.name == y.name && bits(&x.values, &y.values));
    tensors
        && a.state().positions() == b.state().positions()
        && a.state().since_reset() == b.state().since_reset()
        && bits(a.logits(), b.logits())
        && a.recent().eq(b.recent())
}
