//! The last tokens of a stream.

use std::collections::VecDeque;

/// Tokens kept from the end of the stream. The repetition penalty looks at them, and a decoder
/// begins after the last one.
pub const RECENT: usize = 64;

/// Appends tokens to the last [`RECENT`] ones.
pub(crate) fn push_recent(recent: &mut VecDeque<u32>, ids: &[u32]) {
    let fresh = &ids[ids.len().saturating_sub(RECENT)..];
    let surplus = (recent.len() + fresh.len()).saturating_sub(RECENT);
    recent.drain(..surplus);
    recent.extend(fresh);
}
