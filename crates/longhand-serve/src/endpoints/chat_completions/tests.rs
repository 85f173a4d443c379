//! Tests of the endpoint without a port.

use longhand_sessions::SessionsSettings;
use serde_json::{Value, json};

use crate::testing::Server;

const PATH: &str = "/v1/chat/completions";

fn ask(messages: Value, more: Value) -> Value {
    let mut asked = json!({"model": "nano", "messages": messages, "temperature": 0,
        "max_tokens": 6, "stop": ["never"]});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

fn content(body: &Value) -> &str {
    body["choices"][0]["message"]["content"].as_str().unwrap()
}

#[tokio::test]
async fn an_answer_is_what_the_model_writes_behind_the_template() {
    let server = Server::new();
    let (status, chat) = server.post(PATH, ask(user("hi"), json!({}))).await;
    assert_eq!(status, 200, "{chat}");
    assert_eq!(chat["object"], "chat.completion");
    assert!(chat["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let message = &chat["choices"][0]["message"];
    assert_eq!((&message["role"], &message["refusal"]), (&json!("assistant"), &Value::Null));
    let text = json!({"model": "nano", "prompt": "User: hi\nAssistant: ", "temperature": 0,
        "max_tokens": 6});
    let (_, text) = server.post("/v1/completions", text).await;
    assert_eq!(content(&chat), text["choices"][0]["text"]);
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "h"},
        {"type": "text", "text": "i"}]}]);
    let (_, parts) = server.post(PATH, ask(parts, json!({}))).await;
    assert_eq!(content(&parts), content(&chat));
}

#[tokio::test]
async fn an_answer_is_taken_back_as_it_was_given() {
    let server = Server::new();
    let (_, first) = server.post(PATH, ask(user("hi"), json!({}))).await;
    let given = &first["choices"][0]["message"];
    let asked = json!({"role": "user", "content": "and you?"});
    let dialogue = |answer: &Value| json!([{"role": "user", "content": "hi"}, answer, asked]);
    let (status, second) = server.post(PATH, ask(dialogue(given), json!({}))).await;
    assert_eq!(status, 200, "{second}");
    let mut dumped = given.clone();
    for field in ["annotations", "audio", "function_call", "tool_calls"] {
        dumped[field] = Value::Null;
    }
    let (status, same) = server.post(PATH, ask(dialogue(&dumped), json!({}))).await;
    assert_eq!((status, content(&same)), (200, content(&second)), "{same}");
    dumped["tool_calls"] = json!([{"id": "a"}]);
    let (status, body) = server.post(PATH, ask(dialogue(&dumped), json!({}))).await;
    assert_eq!(status, 400, "{body}");
    let param = body["error"]["param"].as_str().unwrap_or_default();
    assert!(param.starts_with("messages[1]"), "{body}");
}

#[tokio::test]
async fn a_stream_begins_with_the_role_and_gives_the_same() {
    let server = Server::new();
    let more = json!({"n": 2, "seed": 9, "temperature": 1, "logprobs": true, "top_logprobs": 2});
    let (_, whole) = server.post(PATH, ask(user("hi"), more.clone())).await;
    let mut asked = ask(user("hi"), more);
    asked["stream"] = json!(true);
    asked["stream_options"] = json!({"include_usage": true});
    let events = server.stream(PATH, asked).await;
    assert_eq!(events.last(), Some(&Value::Null));
    let usage = &events[events.len() - 2];
    assert_eq!(
        (&usage["choices"], &usage["object"]),
        (&json!([]), &json!("chat.completion.chunk"))
    );
    assert_eq!(usage["usage"]["total_tokens"], whole["usage"]["total_tokens"]);
    for (index, expected) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let own = events.iter().filter_map(|event| event["choices"].get(0));
        let own: Vec<&Value> = own.filter(|choice| choice["index"] == index).collect();
        assert_eq!(own[0]["delta"], json!({"role": "assistant", "content": ""}));
        let text: String =
            own.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, expected["message"]["content"]);
        let told: Vec<Value> = own
            .iter()
            .filter_map(|choice| choice["logprobs"]["content"].as_array())
            .flatten()
            .cloned()
            .collect();
        assert_eq!(json!(told), expected["logprobs"]["content"]);
        let last = own.last().unwrap();
        assert_eq!(last["finish_reason"], expected["finish_reason"]);
        assert_eq!(last["delta"], json!({}));
    }
}

#[tokio::test]
async fn each_token_is_told_with_its_bytes_and_alternatives() {
    let server = Server::new();
    let more = json!({"logprobs": true, "top_logprobs": 4});
    let (_, chat) = server.post(PATH, ask(user("hi"), more)).await;
    let told = chat["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(told.len(), chat["usage"]["completion_tokens"].as_u64().unwrap() as usize);
    for token in told {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 4);
        // Greedy: the token is the first alternative, to the last bit.
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&token["token"], &token["logprob"]));
        let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        match String::from_utf8(bytes) {
            Ok(text) => assert_eq!(token["token"], text),
            Err(error) => {
                let digits = format!("\\x{:02x}", error.as_bytes()[0]);
                assert_eq!(token["token"], digits);
            }
        }
    }
}

#[tokio::test]
async fn a_session_takes_new_messages_alone_or_the_whole_conversation() {
    let server = Server::new();
    let named = |name: &str| json!({"session_id": name});
    let (_, first) = server.post(PATH, ask(user("hi"), named("a"))).await;
    assert_eq!(first["session_id"], "a");
    let (_, alone) = server.post(PATH, ask(user("and you?"), named("a"))).await;
    assert!(alone["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 20);
    // Another session is given all of it each time.
    let (_, same) = server.post(PATH, ask(user("hi"), named("b"))).await;
    assert_eq!(content(&same), content(&first));
    let all = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": content(&first)},
        {"role": "user", "content": "and you?"}]);
    let (_, whole) = server.post(PATH, ask(all.clone(), named("b"))).await;
    assert_eq!(content(&whole), content(&alone));
    assert_eq!(whole["usage"], alone["usage"]);
    let (_, session) = server.get("/v1/sessions/a").await;
    assert_eq!(session["messages"].as_array().unwrap().len(), 4);
    assert_eq!(session["messages"][2], json!({"role": "user", "content": "and you?"}));
    assert_eq!(session["messages"][3]["content"], content(&alone));
}

#[tokio::test]
async fn a_cache_key_names_a_session_for_an_unchanged_client() {
    let server = Server::new();
    // Letters alone, so that the answer leads back to its tokens.
    let letters = json!({"97": 100, "98": 100, "99": 100});
    let key = json!({"prompt_cache_key": "any text at all", "logit_bias": letters});
    let (_, first) = server.post(PATH, ask(user("hi"), key.clone())).await;
    let all = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": content(&first)},
        {"role": "user", "content": "and you?"}]);
    let (_, second) = server.post(PATH, ask(all.clone(), key)).await;
    assert!(second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
    let (_, cold) = server.post(PATH, ask(all, json!({"logit_bias": letters}))).await;
    assert_eq!(content(&second), content(&cold));
}

#[tokio::test]
async fn an_answer_is_noted_in_one_commit_with_the_state_that_has_read_it() {
    let server = Server::new();
    let sessions = server.app.sessions();
    let mut asked = ask(user("hi"), json!({"session_id": "a"}));
    let (_, whole) = server.post(PATH, asked.clone()).await;
    assert_eq!(sessions.counters().commits.get(), 1);
    asked["stream"] = json!(true);
    let events = server.stream(PATH, asked).await;
    assert_eq!(sessions.counters().commits.get(), 2);
    let streamed: String =
        events.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect();
    let (_, session) = server.get("/v1/sessions/a").await;
    let said: Vec<&str> = session["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["hi", content(&whole), "hi", streamed.as_str()]);
}

#[tokio::test]
async fn a_key_without_room_for_its_session_is_answered_and_makes_room_for_others() {
    let server = Server::new();
    let limit = |sessions_per_owner| {
        let limits = SessionsSettings { sessions_per_owner, ..SessionsSettings::default() };
        server.app.sessions().renew(&limits);
    };
    let by = |field: &str, name: &str| server.post(PATH, ask(user("hi"), json!({field: name})));
    limit(1);
    let (_, named) = by("session_id", "a").await;
    let (status, keyed) = by("prompt_cache_key", "k").await;
    assert_eq!((status, &keyed["session_id"]), (200, &Value::Null), "{keyed}");
    assert_eq!(content(&keyed), content(&named));
    let (status, refused) = by("session_id", "b").await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("insufficient_quota")));
    limit(2);
    let (_, keyed) = by("prompt_cache_key", "k").await;
    let session = keyed["session_id"].as_str().unwrap().to_owned();
    let (_, shown) = server.get(&format!("/v1/sessions/{session}")).await;
    let [used, expires] = ["updated_at", "expires_at"].map(|it| shown[it].as_u64().unwrap());
    assert_eq!(expires - used, 24 * 60 * 60);
    assert_eq!(by("session_id", "b").await.0, 200);
    assert_eq!(server.get(&format!("/v1/sessions/{session}")).await.0, 404);
}

#[tokio::test]
async fn one_keys_sessions_are_unknown_to_another() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys.toml");
    let [(alice, first), (bob, second)] = ["alice", "bob"].map(crate::auth::new_key);
    fs_err::write(&path, format!("{first}{second}")).unwrap();
    let keys = crate::auth::Keys::of_file(&path).unwrap();
    let server = Server::with(keys, crate::limits::Limits::default());
    let asked = ask(user("hi"), json!({"session_id": "secret"}));
    let call = |key: Option<String>, body: Option<Value>, path: &'static str| {
        let method = if body.is_some() { "POST" } else { "GET" };
        let server = &server;
        async move { crate::testing::json(server.call(method, path, body, key.as_deref()).await).await }
    };
    let (status, body) = call(None, Some(asked.clone()), PATH).await;
    assert_eq!((status, &body["error"]["type"]), (401, &json!("authentication_error")));
    let wrong = Some("lh-0000000000000000000000000000000000".to_owned());
    assert_eq!(call(wrong, Some(asked.clone()), PATH).await.0, 401);
    assert_eq!(call(Some(alice.clone()), Some(asked.clone()), PATH).await.0, 200);
    assert_eq!(call(Some(alice.clone()), None, "/v1/sessions/secret").await.0, 200);
    assert_eq!(call(Some(bob.clone()), None, "/v1/sessions/secret").await.0, 404);
    let (_, list) = call(Some(bob.clone()), None, "/v1/sessions").await;
    assert_eq!(list["data"], json!([]));
    // The same name begins another session.
    let (_, own) = call(Some(bob), Some(asked), PATH).await;
    assert_eq!(own["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    // What holds no data is open.
    assert_eq!(call(None, None, "/health").await.0, 200);
}

#[tokio::test]
async fn an_answer_keeps_to_its_form() {
    let server = Server::new();
    let schema = json!({"type": "object", "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"], "additionalProperties": false});
    for (format, fits) in [
        (json!({"type": "regex", "regex": "(yes|no)"}), None),
        (json!({"type": "grammar", "grammar": "start: \"yes\" | \"no\""}), None),
        (
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema,
                "strict": true}}),
            Some("a"),
        ),
    ] {
        let more = json!({"response_format": format, "max_tokens": 200, "temperature": 1,
            "seed": 2, "logprobs": true});
        let (status, body) = server.post(PATH, ask(user("hi"), more.clone())).await;
        assert_eq!(status, 200, "{body}");
        let text = content(&body);
        match fits {
            None => assert!(["yes", "no"].contains(&text), "{format}: {text}"),
            Some(key) => {
                let value: Value = serde_json::from_str(text).unwrap();
                assert!([json!(1), json!(2)].contains(&value[key]), "{text}");
            }
        }
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        let mut asked = ask(user("hi"), more);
        asked["stream"] = json!(true);
        let events = server.stream(PATH, asked).await;
        let streamed: String =
            events.iter().filter_map(|it| it["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(streamed, text);
    }
    let broken = json!({"response_format": {"type": "regex", "regex": "("}});
    let (status, body) = server.post(PATH, ask(user("hi"), broken)).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("response_format")), "{body}");
}

#[tokio::test]
async fn what_is_wrong_or_not_supported_is_named() {
    let server = Server::new();
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
    for (messages, more, param) in [
        (user("a"), json!({"tools": []}), "tools"),
        (user("a"), json!({"functions": []}), "functions"),
        (user("a"), json!({"top_logprobs": 2}), "top_logprobs"),
        (user("a"), json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!([]), json!({}), "messages"),
        (image, json!({}), "messages[0].content"),
        (json!([{"role": "tool", "content": "a"}]), json!({}), "messages[0].role"),
        (json!([{"role": "user", "content": "a", "name": "b"}]), json!({}), "messages[0].name"),
        (user("a"), json!({"response_format": {"type": "xml"}}), "response_format"),
    ] {
        let (status, body) = server.post(PATH, ask(messages, more.clone())).await;
        let found = body["error"]["param"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{more}: {body}");
        assert!(found.starts_with(param), "{more}: {body}");
    }
    let text = axum::http::Request::post(PATH).header("content-type", "text/plain");
    let response = server.send(text.body(axum::body::Body::from("{}")).unwrap()).await;
    assert_eq!(response.status(), 415);
    let limits = crate::limits::Limits { body: 100, ..crate::limits::Limits::default() };
    let small = Server::with(crate::auth::Keys::none().unwrap(), limits);
    let (status, body) = small.post(PATH, ask(user(&"a".repeat(200)), json!({}))).await;
    assert_eq!((status, &body["error"]["type"]), (413, &json!("invalid_request_error")));
}

#[tokio::test]
async fn both_limits_of_an_answer_are_checked() {
    let server = Server::new();
    let more = json!({"max_completion_tokens": 2, "max_tokens": 1_048_577});
    let (status, refused) = server.post(PATH, ask(user("hi"), more)).await;
    assert_eq!(status, 400);
    assert_eq!(refused["error"]["param"], "max_tokens", "{refused}");
    let more = json!({"max_completion_tokens": 2, "max_tokens": 9});
    let (_, chat) = server.post(PATH, ask(user("hi"), more)).await;
    assert_eq!(chat["usage"]["completion_tokens"], 2, "the newer field decides");
}
