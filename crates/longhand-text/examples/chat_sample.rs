//! Writes a folder that `scripts/check_chat_templates.py` reads: for each template and tokeniser the
//! files that `transformers` reads, and 200 conversations with the text and the ids that Longhand
//! makes of them, or the fact that the template refuses them.
//!
//!     cargo run --example chat_sample -- FOLDER
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use longhand_text::chat::{
    ChatFault, ChatTemplate, OWN_TEMPLATE, PLAIN_TEMPLATE, ROLE_TOKENS, TOKENIZER_CONFIG_FILE,
    TokenizerConfig,
};
use longhand_text::corpus::dialogues::{Message, Role};
use longhand_text::{Tokenizer, TokenizerKind};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const TRAINING: &str = include_str!("tokenizers_sample.txt");
/// Conversations for each template.
const COUNT: usize = 200;

/// Templates in the manner of published ones, by their files' names.
const TEMPLATES: [(&str, &str); 10] = [
    ("own", OWN_TEMPLATE),
    ("plain", PLAIN_TEMPLATE),
    ("chatml", include_str!("chat_templates/chatml.jinja")),
    ("headers", include_str!("chat_templates/headers.jinja")),
    ("inst", include_str!("chat_templates/inst.jinja")),
    ("json", include_str!("chat_templates/json.jinja")),
    ("last_instruction", include_str!("chat_templates/last_instruction.jinja")),
    ("lines", include_str!("chat_templates/lines.jinja")),
    ("thinking", include_str!("chat_templates/thinking.jinja")),
    ("turns", include_str!("chat_templates/turns.jinja")),
];

/// The special tokens that the templates write.
const SPECIAL: [&str; 12] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<pad>",
];

/// Pieces of what is said. None spells a special token, or a character that one begins or ends with.
const PIECES: [&str; 24] = [
    "Hello",
    " there",
    ",\n",
    " ",
    "\n\n",
    "\t",
    "你好，",
    "世界。",
    "é",
    "👨‍👩‍👧",
    "don't",
    " 3.14",
    "\"quoted\"",
    "{{ 7 * 7 }}",
    "{% if x %}",
    "\\n",
    "\u{a0}",
    "\u{3000}",
    "\u{1c}",
    "\u{200b}",
    "a/b",
    "'s",
    " &amp;",
    "x_1",
];
/// Further ones, which spell tokens and parts of them.
const FORGED: [&str; 14] = [
    "<|im_end|>",
    "<|end|><|system|>",
    "</s>",
    "[INST]",
    "<",
    ">",
    "|>",
    "<|",
    "[/INST",
    "user",
    "<s",
    "</think>",
    "<think>\n",
    "<|user|>",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("give the folder to write")?;
    for kind in TokenizerKind::ALL {
        let tokenizer =
            Tokenizer::train(kind, None, std::iter::once(Ok(TRAINING.to_owned())), &mut |_| {})?;
        let names: Vec<&str> = ROLE_TOKENS.iter().chain(&SPECIAL).copied().collect();
        let special = tokenizer.with_special_tokens(&names)?;
        // Each kind with our own template, and each template with one kind.
        let all =
            TEMPLATES.iter().take(if kind == TokenizerKind::Bpe { TEMPLATES.len() } else { 1 });
        for (name, source) in all {
            write(&folder.join(format!("{kind}-{name}")), &special, source)?;
        }
        if kind == TokenizerKind::Char {
            write(&folder.join("char-plain-bare"), &tokenizer, PLAIN_TEMPLATE)?;
        }
    }
    Ok(())
}

/// Writes the folder of one template.
fn write(
    folder: &Path,
    tokenizer: &Tokenizer,
    source: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    fs_err::create_dir_all(folder)?;
    tokenizer.save(&folder.join("tokenizer.json"))?;
    let named = [("bos_token", "<s>"), ("eos_token", "</s>"), ("pad_token", "<pad>")];
    let named =
        named.into_iter().filter(|(_, token)| tokenizer.special_tokens().id(token).is_some());
    let tokens: BTreeMap<String, String> = named.map(|(key, it)| (key.into(), it.into())).collect();
    let config = TokenizerConfig { tokens, chat_template: Some(source.into()) };
    config.save(&folder.join(TOKENIZER_CONFIG_FILE))?;
    let template = ChatTemplate::of_folder(folder, tokenizer)?.ok_or("a template was written")?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut lines = String::new();
    for number in 0..COUNT {
        let forged = number % 4 == 3;
        let messages = conversation(&mut random, forged);
        let answering = number % 2 == 0;
        let mut line = json!({ "messages": messages, "answering": answering, "forged": forged });
        match template.render(&messages, answering) {
            Ok(rendered) => {
                let ids = rendered.encode(tokenizer)?;
                line["text"] = rendered.text.into();
                line["ids"] = ids.ids.into();
                line["spoken"] = ids.spoken.into_iter().map(u32::from).collect();
            }
            Err(ChatFault::Refuses(words)) => line["refused"] = words.into(),
            Err(ChatFault::Depends(_) | ChatFault::Measures) if forged => {
                line["depends"] = true.into()
            }
            Err(fault) => return Err(fault.into()),
        }
        writeln!(lines, "{line}")?;
    }
    fs_err::write(folder.join("conversations.jsonl"), lines)?;
    Ok(())
}

/// Up to seven turns, most of them in the usual order.
fn conversation(random: &mut ChaCha8Rng, forged: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    if random.random_bool(0.4) {
        messages.push(Message::new(Role::System, said(random, forged)));
    }
    for turn in 0..random.random_range(1..7) {
        let usual = [Role::User, Role::Assistant][turn % 2];
        let role = if random.random_bool(0.03) { Role::ALL[turn % 3] } else { usual };
        messages.push(Message::new(role, said(random, forged)));
    }
    messages
}

fn said(random: &mut ChaCha8Rng, forged: bool) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(1..9) {
        let pieces = if forged && random.random_bool(0.4) { &FORGED[..] } else { &PIECES[..] };
        text.push_str(pieces.choose(random).copied().unwrap_or_default());
    }
    text
}
