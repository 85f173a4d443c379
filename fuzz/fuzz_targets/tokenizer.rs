//! A `tokenizer.json` from arbitrary bytes: it is refused with an error, or encodes and
//! decodes without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::Tokenizer;

const TEXTS: [&str; 4] =
    ["", "One day, Mira had the lantern.\n\n", "<eos> 小梅\t拿着\u{300}灯笼", "\0a"];

fuzz_target!(|bytes: &[u8]| {
    let Ok(tokenizer) = Tokenizer::from_bytes(bytes, "input") else { return };
    for text in TEXTS {
        if let Ok(ids) = tokenizer.encode(text) {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            let _ = tokenizer.decode(&ids);
        }
        let plain = tokenizer.encode_with_offsets(text);
        let marked = tokenizer.encode_with_special_tokens(text);
        for encoding in [plain, marked].into_iter().flatten() {
            assert_eq!(encoding.ids.len(), encoding.offsets.len());
            for offsets in &encoding.offsets {
                let _ = &text[offsets.bytes.clone()];
            }
        }
        let _ = tokenizer.first_token_bytes(text);
    }
    let _ = tokenizer.with_special_tokens(&["<mask>"]);
    let mut decoder = tokenizer.decoder();
    for id in (0..tokenizer.vocab_size() as u32).take(64) {
        let _ = decoder.push(id);
    }
    decoder.finish();
});
