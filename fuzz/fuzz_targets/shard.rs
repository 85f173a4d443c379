//! A token shard from arbitrary bytes: refused with an error, or one whose header, documents and
//! ids agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::shard;

fuzz_target!(|bytes: &[u8]| {
    let _ = shard::validate(bytes);
});
