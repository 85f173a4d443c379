//! The header of a token shard, from arbitrary bytes and a file of arbitrary length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::shard::ShardHeader;

fuzz_target!(|input: (u64, &[u8])| {
    let (length, bytes) = input;
    let _ = ShardHeader::parse(bytes, length);
});
