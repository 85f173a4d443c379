//! Arbitrary templates on arbitrary turns: they end, and no turn becomes a special token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhand_text::Tokenizer;
use longhand_text::chat::{ChatTemplate, OWN_TEMPLATE, ROLE_TOKENS, TokenizerConfig};
use longhand_text::corpus::dialogues::{Message, Role};

fuzz_target!(|input: (String, Vec<(u8, String)>, Vec<u8>)| {
    let (source, turns, config) = input;
    let tokenizer = Tokenizer::byte().unwrap().with_special_tokens(&ROLE_TOKENS).unwrap();
    let config = TokenizerConfig::from_json(&config).unwrap_or_default();
    let turns: Vec<Message> = turns
        .into_iter()
        .map(|(role, text)| Message::new(Role::ALL[usize::from(role % 3)], text))
        .collect();
    if let Ok(template) = ChatTemplate::new(&source, &config, &tokenizer) {
        if let Ok(rendered) = template.render(&turns, true) {
            rendered.encode(&tokenizer).unwrap();
        }
        let _ = template.render_behind_answer(&turns, &[], true);
        let _ = template.answer_end();
    }
    let own = ChatTemplate::new(OWN_TEMPLATE, &config, &tokenizer).unwrap();
    let Ok(rendered) = own.render(&turns, true) else { return };
    let ids = rendered.encode(&tokenizer).unwrap().ids;
    let special = ids.iter().filter(|&&id| id >= 256).count();
    assert_eq!(special, 2 * turns.len() + 1);
    assert_eq!(tokenizer.decode(&ids).unwrap(), rendered.text);
});
