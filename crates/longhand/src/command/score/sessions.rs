//! Lines of many writers, each of which has a session of its own.

use std::collections::HashMap;

use anyhow::Result;
use longhand_engine::{Engine, Marks, Reader, Session, TextScore};
use regex::Regex;
use std::sync::Arc;

use super::split::Line;
use crate::talk::say;

/// A session for each key, a bounded number of them: the one that was not used for longest makes way
/// for a new key.
pub(super) struct Sessions {
    engine: Arc<Engine>,
    marks: Marks,
    key: Regex,
    most: usize,
    open: HashMap<String, Open>,
    /// Lines of keys so far, which tells when a session was used.
    clock: u64,
    dropped: u64,
}

struct Open {
    session: Session,
    used: u64,
}

impl Sessions {
    /// Takes the key of a line from the first group of `key`, or from the whole match without groups.
    pub(super) fn new(engine: &Arc<Engine>, marks: Marks, key: &Regex, most: usize) -> Self {
        let (engine, key, open) = (engine.clone(), key.clone(), HashMap::new());
        Self { engine, marks, key, most, open, clock: 0, dropped: 0 }
    }

    /// The key of a line; none where the expression does not match.
    pub(super) fn key(&self, line: &str) -> Option<String> {
        let found = self.key.captures(line)?;
        found.get(1).or_else(|| found.get(0)).map(|key| key.as_str().to_owned())
    }

    /// The score of the next line of a key.
    pub(super) fn score(
        &mut self,
        reader: &mut Reader,
        key: &str,
        line: &Line,
    ) -> Result<TextScore> {
        self.clock += 1;
        let mut open = match self.open.remove(key) {
            Some(open) => open,
            None => {
                self.make_way();
                Open { session: self.engine.session(self.engine.generation().sampler)?, used: 0 }
            }
        };
        let ids = self.engine.tokenizer().encode(&line.text)?;
        let score = open.session.score_text(reader, self.marks, &ids)?;
        open.used = self.clock;
        self.open.insert(key.to_owned(), open);
        Ok(score)
    }

    /// Tells how many sessions were dropped, if any.
    pub(super) fn tell(&self) {
        if self.dropped > 1 {
            let Self { dropped, most, .. } = self;
            say!("{dropped} sessions were dropped in all, as --sessions is {most}");
        }
    }

    fn make_way(&mut self) {
        if self.open.len() < self.most {
            return;
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.open.remove(&key);
            self.dropped += 1;
            if self.dropped == 1 {
                say!(
                    "more than {} keys: the session of {} was dropped, and others will be; a key \
                     that comes again begins anew (--sessions keeps more)",
                    self.most,
                    key.escape_debug()
                );
            }
        }
    }
}
