//! Dialogues from arbitrary bytes: what is read has turns that say something, and can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::corpus::dialogues::{Dialogue, Dialogues, Role};

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (lossy, bytes) = input;
    let Ok(read) = Dialogues::parse("input", bytes, lossy) else { return };
    assert!(!read.dialogues.is_empty());
    for (_, dialogue) in read.dialogues {
        let messages = dialogue.messages();
        assert!(messages.iter().all(|message| !message.content.trim().is_empty()));
        let answers = |pair: &[_]| pair.iter().all(|message: &longhand_text::corpus::dialogues::Message| {
            message.role == Role::Assistant
        });
        assert!(!messages.windows(2).any(answers));
        let json = serde_json::to_string(messages).unwrap();
        assert_eq!(Dialogue::from_json(&json).unwrap(), dialogue);
    }
});
