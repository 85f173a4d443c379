//! A model folder's `task.json` from arbitrary bytes: refused with one sentence, or one that is
//! written and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_tasks::TaskFile;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = serde_json::from_slice::<TaskFile>(bytes) {
        let back: TaskFile =
            serde_json::from_slice(&file.to_json()).expect("what was just written");
        assert_eq!(back, file);
    }
});
