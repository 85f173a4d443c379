//! A token shard from arbitrary bytes: refused with an error, or one whose header, documents and
//! ids agree. No input finds the room between header and tokens, so that the bytes are also taken
//! as a header and what follows it, and as what follows a header that counts them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::shard::{self, DATA_OFFSET, MAGIC, ShardHeader, TokenType, VERSION};

fuzz_target!(|bytes: &[u8]| {
    let _ = shard::validate(bytes);
    let Some((&[dtype, documents, vocabulary], data)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let _ = shard::validate(&whole(&data[..end], &data[end..]));

    let dtype = if dtype % 2 == 0 { TokenType::U16 } else { TokenType::U32 };
    let tokens = data.len().saturating_sub(8 * usize::from(documents)) as u64;
    let header = ShardHeader {
        version: VERSION,
        dtype,
        count: tokens / dtype.size(),
        documents: documents.into(),
        vocabulary: 1 << (vocabulary % 34),
        tokenizer: String::new(),
        source: String::new(),
        bytes: 0,
        scored_bytes: 0,
        blake3: shard::content_hash(data),
    };
    let json = serde_json::to_vec(&header).expect("plain fields");
    if let Ok(read) = shard::validate(&whole(&json, data)) {
        assert_eq!(read, header);
    }
});

/// The file of a header and of what follows it.
fn whole(json: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    file.extend((json.len() as u32).to_le_bytes());
    file.extend(json);
    file.resize(file.len().max(DATA_OFFSET as usize), 0);
    file.extend(data);
    file
}
