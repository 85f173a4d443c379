//! A session's snapshot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_engine::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = Snapshot::from_bytes(bytes) {
        let _ = snapshot.diff(&snapshot);
        snapshot.summary();
    }
});
