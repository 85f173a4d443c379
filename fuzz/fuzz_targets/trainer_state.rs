//! A checkpoint's `trainer.json` from arbitrary bytes: refused with an error, or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_train::checkpoint::TrainerState;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(state) = TrainerState::from_json(bytes) {
        let _ = state.settings.check();
    }
});
