//! Tests of the endpoint without a port.

use std::sync::mpsc::Sender;
use std::time::Duration;

use longhand_sessions::SessionsSettings;
use serde_json::{Value, json};

use super::RESPONSE;
use crate::background::SERVER;
use crate::limits::Limits;
use crate::testing::{Server, json as read};

const PATH: &str = "/v1/responses";

fn ask(input: &str, more: Value) -> Value {
    let mut asked =
        json!({"model": "nano", "input": input, "temperature": 0, "max_output_tokens": 6});
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_response_is_kept_shown_followed_and_erased() {
    let server = Server::new();
    let (status, first) = server.post(PATH, ask("hi", json!({"metadata": {"a": "b"}}))).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!((&first["object"], &first["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(first["incomplete_details"], json!({"reason": "max_output_tokens"}));
    let id = first["id"].as_str().unwrap();
    let (_, shown) = server.get(&format!("{PATH}/{id}")).await;
    assert_eq!(shown, first);
    let (_, items) = server.get(&format!("{PATH}/{id}/input_items")).await;
    assert_eq!(items["data"][0]["content"], json!([{"type": "input_text", "text": "hi"}]));
    let follow = json!({"previous_response_id": id});
    let (_, second) = server.post(PATH, ask("and you?", follow.clone())).await;
    assert_eq!(second["previous_response_id"], *id);
    let cached = second["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached > 20, "{second}");
    // A chat in one session says the same.
    for (words, response) in [("hi", &first), ("and you?", &second)] {
        let chat = json!({"model": "nano", "session_id": "s", "temperature": 0, "max_tokens": 6,
            "messages": [{"role": "user", "content": words}]});
        let (_, chat) = server.post("/v1/chat/completions", chat).await;
        assert_eq!(chat["choices"][0]["message"]["content"], text(response));
    }
    // A branch: the first one is followed again, by other words and by the same.
    let (_, other) = server.post(PATH, ask("no", follow.clone())).await;
    assert_eq!(other["status"], "incomplete");
    let (_, again) = server.post(PATH, ask("and you?", follow.clone())).await;
    assert_eq!(text(&again), text(&second));
    let path = format!("{PATH}/{id}");
    let (status, gone) = read(server.call("DELETE", &path, None, None).await).await;
    assert_eq!((status, &gone["deleted"]), (200, &json!(true)));
    assert_eq!(server.get(&path).await.0, 404);
    let (status, body) = server.post(PATH, ask("x", follow)).await;
    assert_eq!((status, &body["error"]["param"]), (404, &json!("previous_response_id")));
}

#[tokio::test]
async fn a_response_is_followed_without_its_state_and_answered_without_room() {
    let server = Server::new();
    let sessions = server.app.sessions();
    let limit = |sessions_per_owner, bytes_per_owner| {
        let limits = SessionsSettings { sessions_per_owner, bytes_per_owner, ..Default::default() };
        sessions.renew(&limits);
    };
    let kept = || sessions.list(&server.owner()).unwrap().len();
    let follow = async |before: &Value| {
        let more = json!({"previous_response_id": before["id"]});
        server.post(PATH, ask("and you?", more)).await
    };
    limit(1, 1 << 30);
    let (status, first) = server.post(PATH, ask("hi", json!({}))).await;
    assert_eq!((status, kept()), (200, 1), "{first}");
    // A session of a name takes the place of its state.
    let chat = json!({"model": "nano", "session_id": "s", "max_tokens": 2,
        "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(server.post("/v1/chat/completions", chat).await.0, 200);
    let session = format!("/v1/sessions/{}", first["id"].as_str().unwrap());
    assert_eq!((kept(), server.get(&session).await.0), (1, 404));
    let (status, second) = follow(&first).await;
    assert_eq!((status, &second["store"]), (200, &json!(true)), "{second}");
    assert_eq!(follow(&second).await.0, 200);
    assert_eq!(kept(), 1);
    // There is no room for anything.
    limit(1, 1);
    let (status, third) = server.post(PATH, ask("hi", json!({}))).await;
    assert_eq!((status, &third["store"]), (200, &json!(false)), "{third}");
    let path = format!("{PATH}/{}", third["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.0, 404);
    let (status, refused) = server.post(PATH, ask("hi", json!({"store": true}))).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("insufficient_quota")));
}

#[tokio::test]
async fn each_response_keeps_its_own_messages_and_finds_those_before() {
    let server = Server::new();
    let (owner, sessions) = (server.owner(), server.app.sessions());
    let words = ["the first words", "the second words", "the third words"];
    let (mut ids, mut before): (Vec<String>, Value) = (Vec::new(), Value::Null);
    for input in words {
        let more = json!({"previous_response_id": before,
            "text": {"format": {"type": "regex", "regex": "[a-z]{40}"}}});
        let (status, response) = server.post(PATH, ask(input, more)).await;
        assert_eq!(status, 200, "{response}");
        before = response["id"].clone();
        ids.push(before.as_str().unwrap().to_owned());
    }
    for (place, id) in ids.iter().enumerate() {
        let kept = sessions.document(&owner, RESPONSE, id).unwrap().unwrap();
        let kept = String::from_utf8(kept).unwrap();
        for (other, words) in words.into_iter().enumerate() {
            assert_eq!(kept.contains(words), other == place, "{kept}");
        }
    }
    let count = async || {
        let asked = json!({"model": "nano", "input": "on", "previous_response_id": ids[2]});
        server.post(&format!("{PATH}/input_tokens"), asked).await
    };
    let (_, counted) = count().await;
    let follow = async || {
        let (status, body) =
            server.post(PATH, ask("on", json!({"previous_response_id": ids[2]}))).await;
        (status, body["usage"]["input_tokens"].clone(), body)
    };
    let (status, tokens, body) = follow().await;
    assert_eq!(status, 200, "{body}");
    // Without its state all three are read again.
    let session = longhand_sessions::Name::new(ids[2].as_str()).unwrap();
    sessions.erase(&owner, &session).unwrap();
    let (_, again, body) = follow().await;
    assert_eq!((&again, &counted["input_tokens"]), (&tokens, &tokens), "{body}");
    // The second one is erased: the last one is shown, and cannot be read as a whole any more.
    let path = format!("{PATH}/{}", ids[1]);
    assert_eq!(server.call("DELETE", &path, None, None).await.status(), 200);
    assert_eq!(server.get(&format!("{PATH}/{}", ids[2])).await.0, 200);
    for (status, body) in [count().await, (follow().await.0, follow().await.2)] {
        assert_eq!((status, &body["error"]["param"]), (404, &json!("previous_response_id")));
        assert!(body["error"]["message"].as_str().unwrap().contains(&ids[1]), "{body}");
    }
}

#[tokio::test]
async fn a_response_goes_on_from_its_state_where_one_before_was_erased() {
    let server = Server::new();
    let (_, first) = server.post(PATH, ask("hi", json!({}))).await;
    let (_, second) =
        server.post(PATH, ask("and you?", json!({"previous_response_id": first["id"]}))).await;
    let follow = json!({"previous_response_id": second["id"]});
    let (_, expected) = server.post(PATH, ask("on", follow.clone())).await;
    let path = format!("{PATH}/{}", first["id"].as_str().unwrap());
    assert_eq!(server.call("DELETE", &path, None, None).await.status(), 200);
    let (status, again) = server.post(PATH, ask("on", follow)).await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(text(&again), text(&expected));
}

#[tokio::test]
async fn what_came_before_is_read_within_the_time_of_a_request() {
    let server = Server::new();
    let (_, first) = server.post(PATH, ask("hi", json!({}))).await;
    let (_, second) =
        server.post(PATH, ask("and you?", json!({"previous_response_id": first["id"]}))).await;
    let count = async || {
        let asked = json!({"model": "nano", "input": "on", "previous_response_id": second["id"]});
        server.post(&format!("{PATH}/input_tokens"), asked).await
    };
    assert_eq!(count().await.0, 200);
    server.app.set_limits(Limits { request_time: Duration::ZERO, ..Limits::default() });
    let (status, body) = count().await;
    assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")), "{body}");
}

#[tokio::test]
async fn a_response_without_an_answer_follows_its_conversation() {
    let server = Server::new();
    let items = json!({"items": [{"role": "user", "content": "before"}]});
    let (_, made) = server.post("/v1/conversations", items).await;
    let hold = server.hold();
    let more = json!({"conversation": made["id"], "background": true});
    let (_, begun) = server.post(PATH, ask("hi", more)).await;
    let count = async |field: &str, id: &Value| {
        let asked = json!({"model": "nano", "input": "on", field: id});
        server.post(&format!("{PATH}/input_tokens"), asked).await
    };
    let (status, behind) = count("previous_response_id", &begun["id"]).await;
    let (_, without) = count("conversation", &made["id"]).await;
    drop(hold);
    assert_eq!(status, 200, "{behind}");
    let tokens = |counted: &Value| counted["input_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&behind), tokens(&without) + "User: hi\n".len() as u64);
    server.app.background().ended().await;
}

#[tokio::test]
async fn instructions_are_not_taken_over() {
    let server = Server::new();
    // Letters alone, so that the answer leads back to its tokens.
    let letters = json!({"format": {"type": "regex", "regex": "[a-z]{40}"}});
    let more = json!({"instructions": "be short", "text": letters});
    let (_, first) = server.post(PATH, ask("hi", more)).await;
    let follow = |instructions: Value| json!({"previous_response_id": first["id"], "instructions": instructions});
    let (_, same) = server.post(PATH, ask("go on", follow(json!("be short")))).await;
    let (_, none) = server.post(PATH, ask("go on", follow(Value::Null))).await;
    let tokens = |response: &Value| response["usage"]["input_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&same), tokens(&none) + "System: be short\n".len() as u64);
    let count = |instructions: Value| {
        json!({"model": "nano", "input": "go on", "previous_response_id": first["id"],
            "instructions": instructions})
    };
    let path = format!("{PATH}/input_tokens");
    let (_, counted) = server.post(&path, count(Value::Null)).await;
    assert_eq!(counted["object"], "response.input_tokens");
    assert_eq!(counted["input_tokens"].as_u64().unwrap(), tokens(&none));

    let (_, begun) = server.post("/v1/conversations", json!({})).await;
    let nothing = json!({"model": "nano", "conversation": begun["id"]});
    let (status, counted) = server.post(&path, nothing).await;
    assert_eq!((status, counted["input_tokens"].as_u64()), (200, Some(0)), "{counted}");
    let (status, _) = server.post(&path, json!({"model": "nano"})).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_key_is_checked_where_another_field_is_gone_on_from() {
    let server = Server::new();
    let more = json!({"session_id": "mine", "prompt_cache_key": "k".repeat(513)});
    let (status, refused) = server.post(PATH, ask("hi", more)).await;
    assert_eq!(status, 400);
    assert_eq!(refused["error"]["param"], "prompt_cache_key", "{refused}");
}

#[tokio::test]
async fn the_form_is_told_with_all_of_its_fields() {
    let server = Server::new();
    let schema = json!({"enum": ["yes", "no"]});
    let format = json!({"type": "json_schema", "name": "vote", "schema": schema});
    let more = json!({"text": {"format": format}, "max_output_tokens": 20});
    let (_, response) = server.post(PATH, ask("hi", more)).await;
    assert_eq!(response["status"], "completed", "{response}");
    // Open Responses requires the description, which may be null, and a boolean.
    let told = json!({"type": "json_schema", "name": "vote", "description": null,
        "schema": schema, "strict": false});
    assert_eq!(response["text"]["format"], told);
}

#[tokio::test]
async fn a_stream_numbers_its_events_and_ends_with_the_response() {
    let server = Server::new();
    let more = json!({"include": ["message.output_text.logprobs"], "top_logprobs": 2});
    let (_, whole) = server.post(PATH, ask("hi", more.clone())).await;
    let mut asked = ask("hi", more);
    asked["stream"] = json!(true);
    let mut events = server.stream(PATH, asked).await;
    assert_eq!(events.pop(), Some(Value::Null));
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], place);
    }
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
    );
    assert_eq!(
        kinds[kinds.len() - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
    );
    let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, text(&whole));
    let last = &events[events.len() - 1]["response"];
    assert_eq!(last["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(whole["output"][0]["content"][0]["logprobs"].as_array().unwrap().len(), 6);
    let (_, shown) = server.get(&format!("{PATH}/{}", last["id"].as_str().unwrap())).await;
    assert_eq!(shown, *last);
}

#[tokio::test]
async fn a_response_in_the_background_comes_to_its_end_or_is_given_up() {
    let server = Server::new();
    let (status, begun) = server.post(PATH, ask("hi", json!({"background": true}))).await;
    assert_eq!((status, &begun["status"]), (200, &json!("in_progress")));
    let path = format!("{PATH}/{}", begun["id"].as_str().unwrap());
    let mut shown = begun.clone();
    for _ in 0..600 {
        shown = server.get(&path).await.1;
        if shown["status"] != "in_progress" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shown["status"], "incomplete");
    let long = json!({"background": true, "max_output_tokens": 1_000_000});
    let (_, begun) = server.post(PATH, ask("hi", long)).await;
    let path = format!("{PATH}/{}", begun["id"].as_str().unwrap());
    let (status, given_up) = server.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!((status, &given_up["status"]), (200, &json!("cancelled")));
    assert_eq!(server.get(&path).await.1["status"], "cancelled");
}

/// A response in the background, and its path. It waits for its turn until the last value is dropped, and
/// is then written for long.
async fn begin_held(server: &Server) -> (Value, String, Sender<()>) {
    let hold = server.hold();
    let long = json!({"background": true, "max_output_tokens": 1_000_000});
    let (status, begun) = server.post(PATH, ask("hi", long)).await;
    assert_eq!((status, &begun["status"]), (200, &json!("in_progress")), "{begun}");
    let path = format!("{PATH}/{}", begun["id"].as_str().unwrap());
    (begun, path, hold)
}

#[tokio::test]
async fn a_response_that_is_being_written_is_erased_with_all_that_it_has() {
    let server = Server::new();
    let (begun, path, hold) = begin_held(&server).await;
    // The job has its session until the model comes to it.
    let (erased, ()) = tokio::join!(server.call("DELETE", &path, None, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(hold);
    });
    let (status, gone) = read(erased).await;
    assert_eq!((status, &gone["deleted"]), (200, &json!(true)), "{gone}");
    assert_eq!(server.get(&path).await.0, 404);
    let session = format!("/v1/sessions/{}", begun["id"].as_str().unwrap());
    assert_eq!(server.get(&session).await.0, 404);
    assert_eq!(server.app.sessions().counters().cancelled.get(), 1);
    // Nothing of it comes back, and there is nothing left that could.
    server.app.background().ended().await;
    assert_eq!(server.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_response_that_another_server_writes_is_shown_and_ended_for_it() {
    let server = Server::new();
    let other = server.beside();
    let (_, path, hold) = begin_held(&server).await;
    assert_eq!(other.get(&path).await.1["status"], "in_progress");
    let cancel = format!("{path}/cancel");
    let (given_up, ()) = tokio::join!(other.post(&cancel, Value::Null), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(hold);
    });
    assert_eq!((given_up.0, &given_up.1["status"]), (200, &json!("cancelled")));
    assert_eq!(server.get(&path).await.1["status"], "cancelled");
    assert_eq!(server.app.sessions().counters().cancelled.get(), 1);
    // One that nobody writes can be erased by any server.
    let (status, _) = read(other.call("DELETE", &path, None, None).await).await;
    assert_eq!(status, 200);
    assert_eq!(server.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_response_that_a_killed_server_left_in_progress_has_failed() {
    let server = Server::new();
    let other = server.beside();
    let (begun, path, hold) = begin_held(&server).await;
    let (owner, id) = (server.owner(), begun["id"].as_str().unwrap());
    let sessions = server.app.sessions();
    let left = sessions.document(&owner, RESPONSE, id).unwrap().unwrap();
    drop(hold);
    server.post(&format!("{path}/cancel"), Value::Null).await;
    // What a killed server leaves: its document as it was when the response began.
    sessions.put_document(&owner, RESPONSE, id, &left, None).unwrap();
    // The server of that id does not write it; to others it runs until its sign is over.
    assert_eq!(server.get(&path).await.1["status"], "failed");
    assert_eq!(other.get(&path).await.1["status"], "in_progress");
    let sign = server.app.background().server();
    assert!(sessions.erase_document(&owner, SERVER, sign).unwrap());
    let (status, shown) = other.get(&path).await;
    assert_eq!((status, &shown["status"]), (200, &json!("failed")));
    assert_eq!(shown["error"]["code"], "server_error");
    assert!(shown["error"]["message"].as_str().unwrap().contains("stopped"), "{shown}");
    let (status, shown) = other.post(&format!("{path}/cancel"), Value::Null).await;
    assert_eq!((status, &shown["status"]), (200, &json!("failed")));
    let (status, _) = read(other.call("DELETE", &path, None, None).await).await;
    assert_eq!(status, 200);
    assert_eq!(other.get(&path).await.0, 404);
}

#[tokio::test]
async fn a_state_that_the_client_holds_goes_on_as_in_a_chat() {
    let server = Server::new();
    let held = |input: &str, state: Option<&Value>| {
        ask(input, json!({"return_state": true, "store": false, "state": state}))
    };
    let (status, first) = server.post(PATH, held("hi", None)).await;
    assert_eq!(status, 200, "{first}");
    let mut asked = held("and you?", Some(&first["state"]));
    let (status, second) = server.post(PATH, asked.clone()).await;
    assert_eq!(status, 200, "{second}");
    assert!(second["state"].is_string() && second["state"] != first["state"]);
    let cached = second["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached > 0, "{second}");
    for (words, response) in [("hi", &first), ("and you?", &second)] {
        let chat = json!({"model": "nano", "session_id": "s", "temperature": 0, "max_tokens": 6,
            "messages": [{"role": "user", "content": words}]});
        let (_, chat) = server.post("/v1/chat/completions", chat).await;
        assert_eq!(chat["choices"][0]["message"]["content"], text(response));
    }
    // A stream has the state in its last event.
    asked["stream"] = json!(true);
    let events = server.stream(PATH, asked).await;
    let last = &events[events.len() - 2]["response"];
    assert!(last["state"].is_string(), "{last}");
    assert_eq!(text(last), text(&second));
    // Nothing of it is kept.
    let path = format!("{PATH}/{}", first["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.0, 404);
    assert!(server.app.sessions().list(&server.owner()).unwrap().len() == 1, "the chat's alone");
}

#[tokio::test]
async fn what_is_wrong_or_not_supported_is_named() {
    let server = Server::new();
    for (more, param) in [
        (json!({"tools": []}), "tools"),
        (json!({"reasoning": {}}), "reasoning"),
        (json!({"previous_response_id": "a", "conversation": "b"}), "previous_response_id"),
        (json!({"background": true, "store": false}), "store"),
        (json!({"background": true, "stream": true}), "stream"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"input": [{"type": "function_call", "name": "f"}]}), "input"),
        (json!({"input": []}), "input"),
        (json!({"return_state": true}), "store"),
        (json!({"state": "AAAA", "store": false}), "return_state"),
        (json!({"state": "?", "return_state": true, "store": false}), "state"),
        (json!({"state": "AAAA", "return_state": true, "session_id": "s"}), "state"),
        (json!({"return_state": true, "store": false, "session_id": "s"}), "return_state"),
        (json!({"return_state": true, "previous_response_id": "a"}), "return_state"),
        (json!({"include": ["file_search_call.results"]}), "include[0]"),
    ] {
        let (status, body) = server.post(PATH, ask("a", more.clone())).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!(param)), "{more}: {body}");
    }
    let (_, unkept) = server.post(PATH, ask("a", json!({"store": false}))).await;
    let path = format!("{PATH}/{}", unkept["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.0, 404);
}
