//! Tests of the endpoint without a port.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::testing::Server;

const PATH: &str = "/v1/messages";

fn ask(more: Value) -> Value {
    let mut asked = json!({"model": "nano", "max_tokens": 6, "temperature": 0,
        "system": [{"type": "text", "text": "be short"}],
        "messages": [{"role": "user", "content": "hi"}]});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

#[tokio::test]
async fn an_answer_is_that_of_a_chat() {
    let server = Server::new();
    let (status, message) = server.post(PATH, ask(json!({}))).await;
    assert_eq!(status, 200, "{message}");
    let chat = json!({"model": "nano", "temperature": 0, "max_tokens": 6, "messages": [
        {"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]});
    let (_, chat) = server.post("/v1/chat/completions", chat).await;
    assert_eq!(message["content"][0]["text"], chat["choices"][0]["message"]["content"]);
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    let usage = &message["usage"];
    let sum: u64 = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
        .iter()
        .map(|name| usage[name].as_u64().unwrap())
        .sum();
    assert_eq!(sum, chat["usage"]["prompt_tokens"]);
    let count = json!({"model": "nano", "system": "be short",
        "messages": [{"role": "user", "content": "hi"}]});
    let (_, counted) = server.post("/v1/messages/count_tokens", count).await;
    assert_eq!(counted, json!({"input_tokens": sum}));
}

#[tokio::test]
async fn a_stream_has_the_events_of_anthropic() {
    let server = Server::new();
    let (_, whole) = server.post(PATH, ask(json!({}))).await;
    let response = server.post_raw(PATH, ask(json!({"stream": true}))).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut events: Vec<(&str, Value)> = Vec::new();
    for event in text.split("\n\n").filter(|event| event.starts_with("event: ")) {
        let (name, data) = event["event: ".len()..].split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        events.push((name, data));
    }
    let names: Vec<&str> = events.iter().map(|(name, _)| *name).collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"]);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let text: String =
        events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
    assert_eq!(text, whole["content"][0]["text"]);
    let delta = &events[events.len() - 2].1;
    assert_eq!(delta["delta"]["stop_reason"], whole["stop_reason"]);
    assert_eq!(delta["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
}

#[tokio::test]
async fn refusals_have_the_form_of_anthropic() {
    let server = Server::new();
    for (more, status, kind, word) in [
        (json!({"tools": []}), 400, "invalid_request_error", "tools"),
        (json!({"temperature": 1.5}), 400, "invalid_request_error", "temperature"),
        (json!({"model": "other"}), 404, "not_found_error", "other"),
        (
            json!({"messages": [{"role": "assistant", "content": "a"}]}),
            400,
            "invalid_request_error",
            "messages",
        ),
    ] {
        let (found, body) = server.post(PATH, ask(more)).await;
        assert_eq!(found, status, "{body}");
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
        assert!(body["error"]["message"].as_str().unwrap().contains(word), "{body}");
    }
    let response = server.call("GET", PATH, None, None).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST".parse().unwrap())
    );
}

#[tokio::test]
async fn a_stop_sequence_is_told() {
    let server = Server::new();
    let (_, free) = server.post(PATH, ask(json!({}))).await;
    let text = free["content"][0]["text"].as_str().unwrap();
    let last = text.chars().last().unwrap().to_string();
    let (_, body) = server.post(PATH, ask(json!({"stop_sequences": [last]}))).await;
    assert_eq!(body["stop_reason"], "stop_sequence");
    assert_eq!(body["stop_sequence"], last);
}
