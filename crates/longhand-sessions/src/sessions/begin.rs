//! The state that a job begins with.

use std::sync::Arc;

use longhand_engine::{Engine, Session};

use super::shelf::Shelf;
use super::snapshot::checked_session;
use crate::backend::Lease;
use crate::chain::Chain;
use crate::error::{JobError, SealError, SessionError};
use crate::job::{Keep, KeepSession, Start};
use crate::name::{Name, Owner};
use crate::record::{BlobId, Record};
use crate::sealed::Sealer;

/// A state to go on from, and the right to keep what comes of it.
pub(crate) struct Opened {
    /// None for an empty one.
    pub(crate) state: Option<Arc<Session>>,
    pub(crate) origin: Origin,
    /// The chain of all tokens that the state has read, if they are known.
    pub(crate) chain: Option<Chain>,
    /// Where it is to be kept; none where it is not, as for a hint that cannot be.
    pub(crate) place: Option<Place>,
}

/// Where a state comes from.
pub(crate) enum Origin {
    /// It has read nothing.
    Fresh,
    /// A checkpoint of a session.
    Checkpoint(Box<Record>, usize),
    /// From outside: what it has read is not known.
    Outside,
}

/// Where a session is to be kept.
pub(crate) struct Place {
    pub(crate) lease: Lease,
    /// What is there now.
    pub(crate) taken: Option<Box<Record>>,
    /// States of a damaged session there, which go with it.
    pub(crate) lost: Vec<BlobId>,
}

/// What decides on the state that a job begins with.
pub(crate) struct Beginning<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) start: &'a Start,
    pub(crate) ids: &'a [u32],
    pub(crate) keep: &'a Keep,
}

impl Shelf {
    /// Finds a job's state, and takes the right to keep what comes of it.
    pub(crate) fn begin(
        &self,
        beginning: &Beginning<'_>,
        engine: &Arc<Engine>,
        sealer: Option<&Sealer>,
    ) -> Result<Opened, JobError> {
        let Beginning { owner, start, ids, keep } = *beginning;
        // The right comes first, so that nothing changes between reading and keeping.
        let place = match keep {
            Keep::Session(keep) => match self.place(owner, keep, start) {
                Err(_) if keep.hint => None,
                place => Some(place?),
            },
            Keep::Nothing | Keep::Sealed { .. } => None,
        };
        let is_hint = matches!(keep, Keep::Session(keep) if keep.hint);
        let mut opened = match start {
            Start::Fresh => fresh(engine),
            Start::Session { name, or_new } => match self.last(owner, name, engine)? {
                Some(opened) => opened,
                None if *or_new => fresh(engine),
                None => return Err(SessionError::NotFound { name: name.to_string() }.into()),
            },
            Start::Prefix { name } => match self.prefix(owner, name, ids, engine) {
                Err(error) if !is_hint => return Err(error.into()),
                Ok(Some(opened)) => opened,
                Ok(None) | Err(_) => fresh(engine),
            },
            Start::Sealed(bytes) => {
                let sealer = sealer.ok_or(SealError::NoKeys)?;
                let (session, chain) = sealer.open(owner, engine, bytes, self.clock.now())?;
                outside(session, chain)
            }
            Start::Snapshot(bytes) => {
                let session = checked_session(bytes, engine, self.settings.snapshot_bytes)?;
                outside(session, None)
            }
        };
        opened.place = place;
        Ok(opened)
    }

    /// Takes the right to keep a session, and refuses one that may not be replaced.
    fn place(
        &self,
        owner: &Owner,
        keep: &KeepSession,
        start: &Start,
    ) -> Result<Place, SessionError> {
        let name = &keep.name;
        let lease = self.lease(owner, name)?;
        let (taken, lost) = match self.stored(owner, name) {
            // What is damaged can be replaced by something whole.
            Err(SessionError::Damaged { .. }) if keep.replace || keep.hint => {
                (None, self.leftovers(owner, name))
            }
            found => (found?.map(Box::new), Vec::new()),
        };
        let now = self.clock.now();
        let lives = taken.as_ref().is_some_and(|record| !record.is_expired(now));
        let goes_on = match start {
            Start::Session { name: other, .. } | Start::Prefix { name: other } => other == name,
            Start::Fresh | Start::Sealed(_) | Start::Snapshot(_) => false,
        };
        if lives && !keep.replace && !goes_on {
            return Err(SessionError::Exists { name: name.to_string() });
        }
        if taken.is_none() {
            self.find_room(owner, 1, 1)?;
        }
        Ok(Place { lease, taken, lost })
    }

    /// The last state of a session, if there is one.
    fn last(
        &self,
        owner: &Owner,
        name: &Name,
        engine: &Arc<Engine>,
    ) -> Result<Option<Opened>, SessionError> {
        let mut record = self.find(owner, name)?;
        loop {
            let Some(found) = record else { return Ok(None) };
            let place = found.saved.len() - 1;
            match self.load(&found, place, engine) {
                Ok(session) => return Ok(Some(at_checkpoint(found, place, session))),
                Err(error) => {
                    // Someone may have advanced it meanwhile, and dropped this state.
                    record = self.find(owner, name)?;
                    if record.as_ref() == Some(&found) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The newest checkpoint of a session whose tokens are the first of `ids`.
    fn prefix(
        &self,
        owner: &Owner,
        name: &Name,
        ids: &[u32],
        engine: &Arc<Engine>,
    ) -> Result<Option<Opened>, SessionError> {
        let Some(record) = self.find(owner, name)? else { return Ok(None) };
        if record.model != engine.model_hash() || record.tokenizer != engine.tokenizer().hash() {
            return Ok(None);
        }
        let (mut chain, mut read, mut fits) = (Chain::new(engine), 0, None);
        // Positions may come in any order only in a record that another program wrote.
        for (place, saved) in record.saved.iter().enumerate() {
            let Ok(position) = usize::try_from(saved.position) else { continue };
            let Some(more) = ids.get(read..position) else { continue };
            chain = chain.extend(more);
            read = position;
            if saved.chain == Some(chain) {
                fits = Some(place);
            }
        }
        let Some(place) = fits else { return Ok(None) };
        let session = self.load(&record, place, engine)?;
        Ok(Some(at_checkpoint(record, place, session)))
    }
}

fn at_checkpoint(record: Record, place: usize, state: Arc<Session>) -> Opened {
    let chain = record.saved.get(place).and_then(|saved| saved.chain);
    let origin = Origin::Checkpoint(Box::new(record), place);
    Opened { state: Some(state), origin, chain, place: None }
}

fn outside(session: Session, chain: Option<Chain>) -> Opened {
    let state = Some(Arc::new(session));
    Opened { state, origin: Origin::Outside, chain, place: None }
}

fn fresh(engine: &Arc<Engine>) -> Opened {
    let chain = Some(Chain::new(engine));
    Opened { state: None, origin: Origin::Fresh, chain, place: None }
}
