//! What a job takes of its key's tokens. They are counted as they are read and written, so that a job
//! that is given up, or runs out of its time, has cost what was done for it.

use std::sync::Arc;
use std::time::Instant;

use longhand_sessions::{Event, Work};

use crate::metrics::Metrics;
use crate::rate::Rate;

/// Counts the tokens of one job by its events.
pub(crate) struct Charge {
    rate: Arc<Rate>,
    metrics: Metrics,
    /// Tokens of the prompt that were counted.
    read: usize,
    /// The lengths of the texts to score whose turn has not come.
    to_score: std::vec::IntoIter<u64>,
}

impl Charge {
    /// The count of a job that is about to be given in.
    pub(crate) fn of(work: &Work, rate: &Arc<Rate>, metrics: &Metrics) -> Self {
        let to_score: Vec<u64> = match work {
            Work::Score(score) => score.continuations.iter().map(|ids| ids.len() as u64).collect(),
            Work::Write(_) | Work::Embed => Vec::new(),
        };
        let (rate, metrics) = (rate.clone(), metrics.clone());
        Self { rate, metrics, read: 0, to_score: to_score.into_iter() }
    }

    /// Counts what an event tells of. While a text is scored nothing is told, so that it counts as a
    /// whole when its turn comes: the first one when the job begins, each other one behind the last.
    pub(crate) fn event(&mut self, event: &Event) {
        let tokens = match event {
            Event::Started { .. } | Event::Scored { .. } => {
                let tokens = self.to_score.next().unwrap_or_default();
                self.metrics.scored(tokens);
                tokens
            }
            Event::Read { done, .. } => {
                let before = std::mem::replace(&mut self.read, *done);
                done.saturating_sub(before) as u64
            }
            Event::Token { next, .. } => u64::from(next.is_read()),
            _ => 0,
        };
        self.rate.spend(Instant::now(), tokens);
    }
}

#[cfg(test)]
mod tests {
    use longhand_sessions::{Score, Write};

    use super::*;
    use crate::rate::Allowance;

    /// A key that may use this many tokens a minute.
    fn key(tokens: u32) -> Arc<Rate> {
        let allowance = Allowance { requests_per_minute: None, tokens_per_minute: Some(tokens) };
        Arc::new(Rate::new(allowance))
    }

    #[test]
    fn a_prompt_is_counted_piece_by_piece() {
        let rate = key(100);
        let work = Work::Write(Write::default());
        let mut charge = Charge::of(&work, &rate, &Metrics::new());
        charge.event(&Event::Started { reused: 9, position: 9 });
        charge.event(&Event::Read { done: 40, of: 5_000 });
        rate.admit(Instant::now()).unwrap();
        // Far more than a test's time gives back.
        charge.event(&Event::Read { done: 2_000, of: 5_000 });
        rate.admit(Instant::now()).unwrap_err();
    }

    #[test]
    fn texts_to_score_are_counted_when_their_turn_comes() {
        let (rate, metrics) = (key(100), Metrics::new());
        let continuations = vec![vec![1; 2], vec![1; 2_000], vec![1; 1]];
        let work = Work::Score(Score { continuations, top: 0 });
        let mut charge = Charge::of(&work, &rate, &metrics);
        let scored = |continuation| Event::Scored { continuation, scores: Vec::new() };
        charge.event(&Event::Started { reused: 0, position: 0 });
        assert_eq!(metrics.tokens_scored(), 2);
        rate.admit(Instant::now()).unwrap();
        charge.event(&scored(0));
        assert_eq!(metrics.tokens_scored(), 2_002);
        rate.admit(Instant::now()).unwrap_err();
        charge.event(&scored(1));
        charge.event(&scored(2));
        assert_eq!(metrics.tokens_scored(), 2_003);
    }
}
