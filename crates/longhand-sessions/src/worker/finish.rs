//! The end of a job: what is kept, and what is told.

use std::sync::Arc;

use longhand_engine::Session;

use super::accepted::Common;
use crate::error::{JobError, SealError};
use crate::history::History;
use crate::job::{Finish, Keep, Outcome, Usage};
use crate::sealed::Sealer;
use crate::sessions::Sessions;
use crate::sessions::save::Save;

/// A job that has done its work.
pub(crate) struct Ended {
    pub(crate) common: Common,
    pub(crate) session: Session,
    pub(crate) usage: Usage,
    /// The passes of this job.
    pub(crate) turn: History,
    pub(crate) finishes: Vec<Finish>,
}

/// Keeps what jobs ask for, on the thread that saves.
pub(crate) struct Finisher {
    pub(super) sessions: Arc<Sessions>,
    sealer: Option<Arc<Sealer>>,
}

impl Finisher {
    pub(crate) fn new(sessions: &Arc<Sessions>, sealer: Option<Arc<Sealer>>) -> Self {
        Self { sessions: sessions.clone(), sealer }
    }

    /// Keeps the state, and tells the end when it is durable.
    pub(crate) fn finish(&self, ended: Ended) {
        let Ended { common, session, mut usage, turn, finishes } = ended;
        let Common { owner, keep, noting, origin, chain, place, held, teller, .. } = common;
        drop(held);
        self.sessions.counters().tokens_reused.add(usage.reused);
        let position = session.position();
        let cached = usage.cache_written;
        if keep != Keep::Nothing {
            usage.cache_written = turn.tokens() as u64;
        }
        let chain = chain.map(|chain| turn.ids().fold(chain, crate::chain::Chain::push));
        let outcome = Outcome { finishes, usage, position, session: None, sealed: None };
        match keep {
            Keep::Nothing => teller.done(outcome),
            Keep::Sealed { ttl } => {
                let Some(sealer) = self.sealer.clone() else {
                    return teller.failed(SealError::NoKeys.into());
                };
                let now = self.sessions.shelf.clock.now();
                self.sessions.writer.run(Box::new(move || {
                    match sealer.seal(&owner, &session, chain, ttl, now) {
                        Ok(sealed) => teller.done(Outcome { sealed: Some(sealed), ..outcome }),
                        Err(error) => teller.failed(error.into()),
                    }
                }));
            }
            Keep::Session(keep) => {
                let Some(place) = place else {
                    // A job that keeps a session was given a place for it.
                    return teller.failed(JobError::Cancelled);
                };
                let is_hint = keep.hint;
                self.sessions.writer.save(Save {
                    owner,
                    keep,
                    place,
                    origin,
                    session,
                    chain,
                    turn,
                    noting,
                    done: Box::new(move |kept| match kept {
                        Ok(info) => teller.done(Outcome { session: Some(info), ..outcome }),
                        Err(_) if is_hint => {
                            let usage = Usage { cache_written: cached, ..usage };
                            teller.done(Outcome { usage, ..outcome });
                        }
                        Err(error) => teller.failed(error.into()),
                    }),
                });
            }
        }
    }
}
