//! The `tokenizer.json` of each kind, and the kind of a file.

use serde_json::{Value, json};

use super::fault::TokenizerFault;
use super::kind::{TokenizerKind, UNKNOWN};
use super::special::SpecialTokens;

/// The file of a kind around a model.
pub(super) fn file(kind: TokenizerKind, model: Value) -> Value {
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let (normalizer, pre_tokenizer, decoder) = match kind {
        TokenizerKind::Byte => (Value::Null, byte_level(false), byte_level(false)),
        TokenizerKind::Char => (Value::Null, Value::Null, json!({"type": "Fuse"})),
        TokenizerKind::Word => (
            json!({"type": "Replace", "pattern": {"String": "\n"}, "content": " <eos> "}),
            json!({"type": "WhitespaceSplit"}),
            // No word begins with a line break, so the WordPiece decoder only puts spaces.
            json!({"type": "Sequence", "decoders": [
                {"type": "WordPiece", "prefix": "\n", "cleanup": false},
                {"type": "Fuse"},
                {"type": "Replace", "pattern": {"Regex": " ?<eos> ?"}, "content": "\n"},
            ]}),
        ),
        TokenizerKind::Bpe => (Value::Null, byte_level(true), byte_level(true)),
        TokenizerKind::Wordpiece => (
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": false}),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": false}),
        ),
        TokenizerKind::Unigram => (
            Value::Null,
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": false},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true},
            ]}),
            json!({"type": "Sequence", "decoders": [
                {"type": "ByteFallback"},
                {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true},
            ]}),
        ),
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}

/// A model of characters without merges: each character of a pre-token is a token.
pub(super) fn characters_model(vocabulary: Value, unknown: Option<&str>) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": unknown,
        "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocabulary, "merges": [],
    })
}

/// A model of whole words.
pub(super) fn words_model(vocabulary: Value) -> Value {
    json!({"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN})
}

/// Checks the shape that the library's reader takes for granted and would panic without.
pub(super) fn check_shape(json: &Value) -> Result<(), TokenizerFault> {
    let fault = |what| Err(TokenizerFault::Shape(what));
    let Some(file) = json.as_object() else { return fault("it is not a JSON object") };
    let Some(model) = file.get("model").and_then(Value::as_object) else {
        return fault("it has no model");
    };
    if model.contains_key("vocab") { Ok(()) } else { fault("its model has no vocab") }
}

/// The kind of a file whose model has `count` tokens, and whether its layout is exactly the
/// one that training writes.
pub(super) fn recognise(
    json: &Value,
    count: usize,
) -> Result<(TokenizerKind, bool), TokenizerFault> {
    let model = &json["model"];
    let merges = model["merges"].as_array().is_some_and(|merges| !merges.is_empty());
    let kind = match model["type"].as_str() {
        Some("WordLevel") => TokenizerKind::Word,
        Some("WordPiece") => TokenizerKind::Wordpiece,
        Some("Unigram") => TokenizerKind::Unigram,
        Some("BPE") | None if merges || !model["vocab"].is_object() => TokenizerKind::Bpe,
        Some("BPE") | None if json["pre_tokenizer"]["type"] != "ByteLevel" => TokenizerKind::Char,
        Some("BPE") | None if bytes_in_order(&model["vocab"]) => TokenizerKind::Byte,
        Some("BPE") | None => TokenizerKind::Bpe,
        Some(other) => return Err(TokenizerFault::Model(other.to_owned())),
    };
    let written = file(kind, Value::Null);
    let same_frame = written
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !matches!(key.as_str(), "model" | "version" | "added_tokens"))
        .all(|(key, value)| same(value, &json[key]));
    let same_model = match kind {
        TokenizerKind::Byte => true,
        TokenizerKind::Char => {
            model["unk_token"] == UNKNOWN
                && model["byte_fallback"] == false
                && model["fuse_unk"] == false
                && single_characters(&model["vocab"])
        }
        TokenizerKind::Word => model["unk_token"] == UNKNOWN,
        TokenizerKind::Wordpiece => model["continuing_subword_prefix"] == "##",
        TokenizerKind::Bpe => model["byte_fallback"] == false && model["dropout"].is_null(),
        TokenizerKind::Unigram => model["byte_fallback"] == true,
    };
    Ok((kind, same_frame && same_model && SpecialTokens::are_own(json, count)))
}

/// The printable stand-in of each byte in byte-level vocabularies: printable Latin-1 characters
/// represent themselves, the other bytes in order are U+0100 onwards.
pub(super) fn byte_characters() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100_u32;
    for byte in 0..=255_u8 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        table[byte as usize] = if printable {
            byte as char
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or('\u{fffd}')
        };
    }
    table
}

/// Equality that reads a missing key as null, as the library does.
fn same(written: &Value, found: &Value) -> bool {
    match (written, found) {
        (Value::Object(written), Value::Object(found)) => {
            written.iter().all(|(key, value)| same(value, found.get(key).unwrap_or(&Value::Null)))
                && found.keys().all(|key| written.contains_key(key))
        }
        (Value::Array(written), Value::Array(found)) => {
            written.len() == found.len()
                && written.iter().zip(found).all(|(written, found)| same(written, found))
        }
        (written, found) => written == found,
    }
}

fn bytes_in_order(vocabulary: &Value) -> bool {
    vocabulary.as_object().is_some_and(|map| map.len() == 256)
        && byte_characters()
            .iter()
            .enumerate()
            .all(|(byte, character)| vocabulary[character.to_string()] == byte)
}

fn single_characters(vocabulary: &Value) -> bool {
    vocabulary
        .as_object()
        .is_some_and(|map| map.keys().all(|key| key == UNKNOWN || key.chars().count() == 1))
}
