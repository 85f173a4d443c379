//! Snapshots from outside: checked before a byte of them is used.

use std::sync::Arc;

use longhand_engine::{Engine, Session, Snapshot};

use crate::error::SessionError;

/// The most bytes of a note in a snapshot from outside.
const MOST_NOTED: u64 = 4 << 20;

/// The session of a snapshot from outside; see [`checked`].
pub(crate) fn checked_session(
    bytes: &[u8],
    engine: &Arc<Engine>,
    limit: u64,
) -> Result<Session, SessionError> {
    Ok(checked(bytes, engine, limit)?.0)
}

/// The session of a snapshot from outside, and what is noted beside it. Its size is bounded, its tensors match their checksums,
/// every byte of it is as this program writes it, and it is a state that the engine's model can have.
pub(crate) fn checked(
    bytes: &[u8],
    engine: &Arc<Engine>,
    limit: u64,
) -> Result<(Session, Option<String>), SessionError> {
    if bytes.len() as u64 > limit {
        return Err(SessionError::TooLarge { bytes: bytes.len() as u64, limit });
    }
    let snapshot = Snapshot::from_bytes(bytes).map_err(SessionError::Snapshot)?;
    // A file without checksums, or with other bytes where readers do not look, is written otherwise.
    if snapshot.to_bytes() != bytes {
        return Err(SessionError::Altered);
    }
    let noted = snapshot.note.as_ref().map_or(0, |note| note.len() as u64);
    if noted > MOST_NOTED {
        return Err(SessionError::TooLarge { bytes: noted, limit: MOST_NOTED });
    }
    let session = snapshot.session(engine).map_err(SessionError::Snapshot)?;
    Ok((session, snapshot.note))
}
