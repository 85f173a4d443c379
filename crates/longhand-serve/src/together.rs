//! What fields of a request say about each other, as the OpenAPI document has it. The checks themselves
//! are where the fields are read. That `best_of` must be at least `n`, and lists as long as each other,
//! no schema can say.

use serde_json::{Value, json};

/// Where a field is of a form, another one must be there and be of a form too.
fn needs(field: &str, is: Value, other: &str, then: Value) -> Value {
    json!({
        "if": {"required": [field], "properties": {field: is}},
        "then": {"required": [other], "properties": {other: then}},
    })
}

/// Where a field is of a form, another one is absent, null or of a form.
fn excludes(field: &str, is: Value, other: &str, unless: Value) -> Value {
    json!({
        "if": {"required": [field], "properties": {field: is}},
        "then": {"properties": {other: {"anyOf": [{"type": "null"}, unless]}}},
    })
}

/// That a field is there and says something.
fn says(field: &str, is: Value) -> Value {
    json!({"required": [field], "properties": {field: is}})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn is(value: bool) -> Value {
    json!({"const": value})
}

/// A session is held by the server or by the client, and how a stream is told needs a stream.
fn of_texts() -> Vec<Value> {
    vec![
        needs("stream_options", json!({"type": "object"}), "stream", is(true)),
        needs("state", text(), "return_state", is(true)),
        excludes("session_id", text(), "state", json!(false)),
        excludes("session_id", text(), "return_state", is(false)),
    ]
}

/// The rules of a chat.
pub(crate) fn of_chats() -> Vec<Value> {
    let told = json!({"type": "integer", "minimum": 1});
    let mut rules = of_texts();
    rules.push(needs("top_logprobs", told, "logprobs", is(true)));
    rules
}

/// The rules of completions: what remembers goes with one prompt.
pub(crate) fn of_completions() -> Vec<Value> {
    let remembers = [
        says("session_id", text()),
        says("state", text()),
        says("return_state", is(true)),
        says("prompt_cache_key", text()),
    ];
    let one = json!({"anyOf": [{"maxItems": 1}, {"items": {"type": "integer"}}]});
    let mut rules = of_texts();
    rules.push(json!({"if": {"anyOf": remembers}, "then": {"properties": {"prompt": one}}}));
    rules
}

/// The rules of responses: one thing at most comes before, what runs in the background is kept, and
/// what the client holds is not.
pub(crate) fn of_responses() -> Vec<Value> {
    let named = json!({"type": ["string", "object"]});
    let told = json!({"type": "integer", "minimum": 1});
    let some = json!({"type": "array", "minItems": 1});
    let mut rules = vec![
        excludes("conversation", named.clone(), "previous_response_id", json!(false)),
        excludes("conversation", named.clone(), "session_id", json!(false)),
        excludes("previous_response_id", text(), "session_id", json!(false)),
        excludes("background", is(true), "store", is(true)),
        excludes("background", is(true), "stream", is(false)),
        needs("top_logprobs", told, "include", some),
        needs("state", text(), "return_state", is(true)),
        needs("return_state", is(true), "store", is(false)),
    ];
    let before =
        [("conversation", named), ("previous_response_id", text()), ("session_id", text())];
    for (field, form) in before {
        rules.push(excludes(field, form.clone(), "state", json!(false)));
        rules.push(excludes(field, form, "return_state", is(false)));
    }
    rules
}

/// The rules of what is counted: there is something, and one thing at most comes before.
pub(crate) fn of_counts() -> Vec<Value> {
    let named = json!({"type": ["string", "object"]});
    vec![
        excludes("conversation", named.clone(), "previous_response_id", json!(false)),
        json!({"anyOf": [
            says("input", json!({"type": ["string", "array"]})),
            says("instructions", text()),
            says("conversation", named),
            says("previous_response_id", text()),
        ]}),
    ]
}

/// The rules of what is parted into tokens: one of three is given.
pub(crate) fn of_tokens() -> Vec<Value> {
    let kinds = [("content", "string"), ("prompt", "string"), ("messages", "array")];
    let only = kinds.map(|(field, kind)| {
        let others = kinds.iter().filter(|(other, _)| *other != field);
        let mut properties: serde_json::Map<String, Value> =
            others.map(|(other, _)| ((*other).to_owned(), json!({"type": "null"}))).collect();
        properties.insert(field.to_owned(), json!({"type": kind}));
        json!({"required": [field], "properties": properties})
    });
    vec![json!({"anyOf": only})]
}
