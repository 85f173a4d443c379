//! The header and the index of a datastore from arbitrary bytes: refused with an error, or sizes that
//! agree. No input guesses a checksum, so that a header without one gets its own.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longhand_engine::datastore::DatastoreHeader;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("datastore.json");
    let _ = DatastoreHeader::from_json(path, bytes);
    // One line is the header, the rest the index.
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (header, index) = bytes.split_at(end);
    let Ok(header) = serde_json::from_slice::<DatastoreHeader>(header) else { return };
    let json = header.to_json();
    let Ok(header) = DatastoreHeader::from_json(path, &json) else { return };
    assert_eq!(header.clone().to_json(), json);
    let _ = header.check_index(Path::new("index.safetensors"), &index[index.len().min(1)..]);
});
