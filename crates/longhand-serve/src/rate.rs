//! What a key may ask for in a minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::ApiError;

/// The limits of a key; none means that there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Requests in a minute.
    pub(crate) requests_per_minute: Option<u32>,
    /// Tokens that are read or written in a minute.
    pub(crate) tokens_per_minute: Option<u32>,
}

/// What is left of an allowance: two buckets that fill evenly, and hold a minute's worth.
#[derive(Default)]
pub(crate) struct Rate {
    allowance: Allowance,
    left: Mutex<Option<Left>>,
}

#[derive(Clone, Copy)]
struct Left {
    at: Instant,
    requests: f64,
    /// Below zero where an answer, once begun, took more than there was.
    tokens: f64,
}

impl Rate {
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self { allowance, left: Mutex::new(None) }
    }

    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// Takes one request, if there is one left, and tokens are.
    ///
    /// # Errors
    /// [`ApiError::Limited`] with the time after which there is.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), ApiError> {
        let Allowance { requests_per_minute, tokens_per_minute } = self.allowance;
        let mut place = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.filled(&mut place, now);
        let limited = |what: &str, limit: u32, missing: f64| {
            let retry =
                Duration::from_secs_f64((60.0 * missing / f64::from(limit.max(1))).min(60.0));
            Err(ApiError::Limited { what: format!("the key may {what} {limit} a minute"), retry })
        };
        if let Some(limit) = requests_per_minute
            && left.requests < 1.0
        {
            return limited("ask requests,", limit, 1.0 - left.requests);
        }
        if let Some(limit) = tokens_per_minute
            && left.tokens < 1.0
        {
            return limited("use tokens,", limit, 1.0 - left.tokens);
        }
        left.requests -= 1.0;
        Ok(())
    }

    /// Counts tokens that are read and written.
    pub(crate) fn spend(&self, now: Instant, tokens: u64) {
        // It is called for each token that is written.
        if tokens == 0 || self.allowance.tokens_per_minute.is_none() {
            return;
        }
        let mut place = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        self.filled(&mut place, now).tokens -= tokens as f64;
    }

    fn filled<'a>(&self, place: &'a mut Option<Left>, now: Instant) -> &'a mut Left {
        let [requests, tokens] =
            [self.allowance.requests_per_minute, self.allowance.tokens_per_minute]
                .map(|limit| limit.map_or(f64::INFINITY, f64::from));
        let left = place.get_or_insert(Left { at: now, requests, tokens });
        let minutes = now.saturating_duration_since(left.at).as_secs_f64() / 60.0;
        let fill = |left: f64, limit: f64| match limit.is_finite() {
            true => (left + limit * minutes).min(limit),
            false => limit,
        };
        *left = Left {
            at: now.max(left.at),
            requests: fill(left.requests, requests),
            tokens: fill(left.tokens, tokens),
        };
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_is_given_and_comes_back_evenly() {
        let start = Instant::now();
        let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let allowance = Allowance { requests_per_minute: Some(2), tokens_per_minute: Some(60) };
        let rate = Rate::new(allowance);
        rate.admit(start).unwrap();
        rate.admit(start).unwrap();
        match rate.admit(start) {
            Err(ApiError::Limited { retry, .. }) => assert_eq!(retry, Duration::from_secs(30)),
            other => panic!("{other:?}"),
        }
        rate.admit(after(30.0)).unwrap();
        // An answer of 90 tokens is a debt of 30, paid after 30 seconds.
        let rate = Rate::new(allowance);
        rate.admit(start).unwrap();
        rate.spend(start, 90);
        assert!(rate.admit(after(29.0)).is_err());
        rate.admit(after(32.0)).unwrap();
        // A clock that goes back changes nothing.
        rate.admit(start).unwrap();
        rate.admit(start).unwrap_err();
        assert!(Rate::default().admit(start).is_ok());
    }
}
