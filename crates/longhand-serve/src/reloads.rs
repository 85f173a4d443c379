//! What a server reads again while it runs, beside its keys and its certificate.

use longhand_sessions::SessionsSettings;

use crate::limits::Limits;
use crate::sealing::SealingFile;

/// What a server reads again beside its keys and its certificate.
#[derive(Default)]
pub struct Reloads {
    /// The file of the keys that seal states.
    pub sealing: Option<SealingFile>,
    /// Reads the settings again; an error is a sentence.
    pub settings: Option<Box<dyn Fn() -> Result<Reloaded, String> + Send + Sync>>,
}

/// Settings that a running server takes over.
pub struct Reloaded {
    /// Bounds on what one request may take.
    pub limits: Limits,
    /// Limits of a key, and the time to live of sessions.
    pub sessions: SessionsSettings,
    /// Settings that are others than at the start, and hold from the next start on.
    pub later: Vec<String>,
}
