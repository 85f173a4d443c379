//! Tests of the endpoint without a port.

use std::time::Duration;

use http_body_util::BodyExt;
use longhand_engine::score::surprisal;
use serde_json::{Value, json};

use crate::auth::Keys;
use crate::limits::Limits;
use crate::testing::{Server, events};

const PATH: &str = "/v1/completions";

fn texts(body: &Value) -> Vec<&str> {
    body["choices"].as_array().unwrap().iter().map(|it| it["text"].as_str().unwrap()).collect()
}

/// ln p of each token after those before it, one decode step each; none for the first one.
fn log_probabilities(server: &Server, ids: &[u32]) -> Vec<Option<f32>> {
    let (mut reader, mut session) = (server.reader(), server.session());
    ids.iter()
        .map(|&id| {
            let logits = session.logits();
            let found = (!logits.is_empty()).then(|| -surprisal(logits, id));
            session.step(&mut reader, id).unwrap();
            found
        })
        .collect()
}

#[tokio::test]
async fn the_forms_of_a_prompt_give_the_same_text() {
    let server = Server::new();
    let ask = |prompt: Value| json!({"model": "nano", "prompt": prompt, "temperature": 0});
    let (status, text) = server.post(PATH, ask(json!("One day"))).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(text["object"], "text_completion");
    assert_eq!(text["choices"][0]["finish_reason"], "length");
    assert_eq!(
        text["usage"],
        json!({"prompt_tokens": 7, "completion_tokens": 16, "total_tokens": 23,
            "prompt_tokens_details": text["usage"]["prompt_tokens_details"]})
    );
    let ids: Vec<u32> = "One day".bytes().map(u32::from).collect();
    let (_, tokens) = server.post(PATH, ask(json!(ids))).await;
    assert_eq!(texts(&tokens), texts(&text));
    let (_, both) = server.post(PATH, ask(json!(["One day", "Two"]))).await;
    let (_, batch) = server.post(PATH, ask(json!([ids, [84, 119, 111]]))).await;
    assert_eq!(texts(&both), texts(&batch));
    assert_eq!(texts(&both)[0], texts(&text)[0]);
    let places: Vec<u64> = both["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["index"].as_u64().unwrap())
        .collect();
    assert_eq!(places, [0, 1]);
}

/// The texts of the second prompt take all places, because the first one takes longer to be read. They
/// are more than wait for whoever takes them.
#[tokio::test]
async fn no_prompt_of_a_request_keeps_its_place_from_an_earlier_one() {
    let limits = Limits { request_time: Duration::from_secs(100), ..Limits::default() };
    let server = Server::with(Keys::none().unwrap(), limits);
    let asked = json!({"model": "nano", "prompt": ["a".repeat(3000), "b"], "n": 8,
        "max_tokens": 250, "response_format": {"type": "regex", "regex": "[a-z]{200}"}});
    let hold = server.hold();
    let ((status, body), ()) = tokio::join!(server.post(PATH, asked), async {
        // Both prompts are given in meanwhile.
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(hold);
    });
    assert_eq!(status, 200, "{body}");
    assert!(texts(&body).iter().all(|text| text.len() == 200));
    assert_eq!(texts(&body).len(), 16);
}

#[tokio::test]
async fn echoed_log_probabilities_are_those_of_the_engine() {
    let server = Server::new();
    let text = "The cat sat on the mat.";
    let asked = json!({"model": "nano", "prompt": text, "echo": true, "logprobs": 1,
        "max_tokens": 3, "temperature": 0});
    let (status, body) = server.post(PATH, asked).await;
    assert_eq!(status, 200, "{body}");
    let choice = &body["choices"][0];
    let lists = &choice["logprobs"];
    let tokens: Vec<String> = serde_json::from_value(lists["tokens"].clone()).unwrap();
    let found: Vec<Option<f32>> = serde_json::from_value(lists["token_logprobs"].clone()).unwrap();
    assert_eq!(tokens.len(), text.len() + 3);
    assert_eq!(found[0], None);
    assert_eq!(lists["top_logprobs"][0], Value::Null);
    assert_eq!(lists["text_offset"][4], 4);
    assert!(choice["text"].as_str().unwrap().starts_with(text));
    let ids: Vec<u32> = text.bytes().map(u32::from).collect();
    for (place, (found, expected)) in
        found.iter().zip(log_probabilities(&server, &ids)).enumerate().skip(1)
    {
        let (found, expected) = (found.unwrap(), expected.unwrap());
        assert!((found - expected).abs() < 1e-3, "{place}: {found} {expected}");
        let top = lists["top_logprobs"][place].as_object().unwrap();
        let most = top.values().map(|it| it.as_f64().unwrap() as f32).fold(f32::MIN, f32::max);
        assert!(most >= found, "{place}");
        // The token's own value has the same bits as the alternative's.
        assert_eq!(top[&tokens[place]].as_f64().unwrap() as f32, found);
    }
    // What was drawn greedily is the most probable token, to the last bit.
    for place in text.len()..tokens.len() {
        let top = lists["top_logprobs"][place].as_object().unwrap();
        assert_eq!(top.len(), 1);
        assert_eq!(top[&tokens[place]].as_f64().unwrap() as f32, found[place].unwrap());
    }
}

#[tokio::test]
async fn written_log_probabilities_are_the_models_own_whatever_draws() {
    let server = Server::new();
    let asked = json!({"model": "nano", "prompt": "ab", "logprobs": 3, "max_tokens": 12,
        "temperature": 1.7, "top_k": 40, "seed": 5, "frequency_penalty": 1.0});
    let (_, body) = server.post(PATH, asked.clone()).await;
    let lists = &body["choices"][0]["logprobs"];
    // A byte is a token here; those that are no characters are written as their numbers.
    let tokens: Vec<String> = serde_json::from_value(lists["tokens"].clone()).unwrap();
    let id = |token: &String| match token.strip_prefix("\\x") {
        Some(digits) if digits.len() == 2 => u32::from_str_radix(digits, 16).unwrap(),
        _ => u32::from(token.bytes().next().unwrap()),
    };
    let ids: Vec<u32> = [97, 98].into_iter().chain(tokens.iter().map(id)).collect();
    let expected = log_probabilities(&server, &ids);
    for (found, expected) in lists["token_logprobs"].as_array().unwrap().iter().zip(&expected[2..])
    {
        let (found, expected) = (found.as_f64().unwrap() as f32, expected.unwrap());
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
    }
    let (_, again) = server.post(PATH, asked).await;
    assert_eq!(again["choices"], body["choices"]);
}

#[tokio::test]
async fn a_stream_gives_the_same_as_one_answer() {
    let server = Server::new();
    let mut asked = json!({"model": "nano", "prompt": ["ab", "cd"], "max_tokens": 9, "seed": 3,
        "n": 2, "logprobs": 2, "echo": true});
    let (_, whole) = server.post(PATH, asked.clone()).await;
    asked["stream"] = json!(true);
    asked["stream_options"] = json!({"include_usage": true});
    let events = server.stream(PATH, asked).await;
    assert_eq!(events.last(), Some(&Value::Null));
    let usage = &events[events.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    for (index, expected) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let own = events.iter().filter_map(|event| event["choices"].get(0));
        let own: Vec<&Value> = own.filter(|choice| choice["index"] == index).collect();
        let text: String = own.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(text, expected["text"]);
        for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let joined: Vec<Value> = own
                .iter()
                .flat_map(|choice| choice["logprobs"][list].as_array().unwrap().clone())
                .collect();
            assert_eq!(json!(joined), expected["logprobs"][list], "{list}");
        }
        assert_eq!(own.last().unwrap()["finish_reason"], expected["finish_reason"]);
    }
    assert!(events[..events.len() - 2].iter().all(|event| event["usage"].is_null()));
}

#[tokio::test]
async fn a_stream_that_nobody_reads_gets_fewer_events_and_the_same_text() {
    let server = Server::new();
    let mut asked = json!({"model": "nano", "prompt": "ab", "max_tokens": 300, "temperature": 0,
        "logprobs": 0});
    let (_, whole) = server.post(PATH, asked.clone()).await;
    assert_eq!(whole["usage"]["completion_tokens"], 300);
    asked["stream"] = json!(true);
    let response = server.post_raw(PATH, asked).await;
    // The answer is read once all of it is written.
    while server.app.sessions().counters().finished.get() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let events = events(response).await;
    // As many as wait for a reader, and then 64 tokens each.
    assert!(events.len() < 60, "{} events of 300 tokens", events.len());
    let choices = || events.iter().filter_map(|event| event["choices"].get(0));
    let text: String = choices().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(text, whole["choices"][0]["text"]);
    let tokens = choices().flat_map(|choice| choice["logprobs"]["tokens"].as_array().unwrap());
    assert_eq!(tokens.count(), 300);
}

#[tokio::test]
async fn the_best_texts_are_the_most_probable_ones() {
    let server = Server::new();
    let ask = |n: u32, best_of: u32| {
        json!({"model": "nano", "prompt": "ab", "max_tokens": 6, "seed": 1, "logprobs": 0,
            "n": n, "best_of": best_of})
    };
    let (_, all) = server.post(PATH, ask(4, 4)).await;
    let mean = |choice: &Value| {
        let each = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        each.iter().map(|it| it.as_f64().unwrap()).sum::<f64>() / each.len() as f64
    };
    let mut choices = all["choices"].as_array().unwrap().clone();
    choices.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let (_, best) = server.post(PATH, ask(2, 4)).await;
    assert_eq!(best["choices"].as_array().unwrap().len(), 2);
    for (found, expected) in best["choices"].as_array().unwrap().iter().zip(&choices) {
        assert_eq!(found["text"], expected["text"]);
    }
    // All four were written.
    assert_eq!(best["usage"]["completion_tokens"], all["usage"]["completion_tokens"]);
}

#[tokio::test]
async fn a_bias_forces_and_a_stop_text_is_left_out_with_its_tokens() {
    let server = Server::new();
    let ask = |more: Value| {
        let mut asked = json!({"model": "nano", "prompt": "x", "temperature": 0, "max_tokens": 8,
            "logprobs": 0});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    };
    let (_, forced) = server.post(PATH, ask(json!({"logit_bias": {"97": 100}}))).await;
    assert_eq!(texts(&forced), ["aaaaaaaa"]);
    let stops = json!({"logit_bias": {"97": 100}, "stop": ["aaa"]});
    let (_, stopped) = server.post(PATH, ask(stops)).await;
    assert_eq!(texts(&stopped), [""]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(stopped["choices"][0]["logprobs"]["tokens"], json!([]));
    // A frequency penalty has another token come at last.
    let penalised = json!({"logit_bias": {"97": 30}, "frequency_penalty": 2.0, "max_tokens": 64});
    let (_, varied) = server.post(PATH, ask(penalised)).await;
    assert!(texts(&varied)[0].chars().any(|c| c != 'a'), "{varied}");
}

#[tokio::test]
async fn a_session_goes_on_and_costs_its_own_tokens_alone() {
    let server = Server::new();
    // Letters alone, so that the text leads back to its tokens.
    let letters = json!({"97": 100, "98": 100, "99": 100});
    let ask = |prompt: &str| {
        json!({"model": "nano", "prompt": prompt, "session_id": "diary", "temperature": 0,
            "max_tokens": 4, "logit_bias": letters})
    };
    let (status, first) = server.post(PATH, ask("One day")).await;
    assert_eq!((status, &first["session_id"]), (200, &json!("diary")), "{first}");
    let (_, second) = server.post(PATH, ask(" and then")).await;
    let usage = &second["usage"];
    assert_eq!(usage["prompt_tokens"], 7 + 4 + 9);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 11);
    // The same text at once, without a session.
    let whole = format!("One day{} and then", texts(&first)[0]);
    let ids: Vec<u32> = server.encode(&whole);
    let asked = json!({"model": "nano", "prompt": ids, "temperature": 0, "max_tokens": 4,
        "logit_bias": letters});
    let (_, cold) = server.post(PATH, asked).await;
    assert_eq!(texts(&cold), texts(&second));
    let (_, session) = server.get("/v1/sessions/diary").await;
    assert_eq!(session["position"], 24);
    assert_eq!(session["model"], "nano");
}

#[tokio::test]
async fn a_state_that_the_client_holds_goes_on() {
    let server = Server::new();
    let asked = json!({"model": "nano", "prompt": "One day", "return_state": true,
        "temperature": 0, "max_tokens": 4});
    let (status, first) = server.post(PATH, asked).await;
    assert_eq!(status, 200, "{first}");
    let state = first["state"].as_str().unwrap();
    let ask = |state: &str| {
        json!({"model": "nano", "prompt": " and then", "state": state, "return_state": true,
            "temperature": 0, "max_tokens": 4})
    };
    let (_, second) = server.post(PATH, ask(state)).await;
    assert_eq!(second["usage"]["prompt_tokens_details"]["cached_tokens"], 11);
    assert_ne!(second["state"], first["state"]);
    let mut altered: Vec<char> = state.chars().collect();
    altered[200] = if altered[200] == 'A' { 'B' } else { 'A' };
    let altered: String = altered.into_iter().collect();
    let (status, body) = server.post(PATH, ask(&altered)).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("state")), "{body}");
}

#[tokio::test]
async fn what_is_wrong_or_not_supported_is_named() {
    let server = Server::new();
    for (more, param) in [
        (json!({"suffix": "x"}), "suffix"),
        (json!({"tools": []}), "tools"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"temperature": "warm"}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"n": 3, "best_of": 2}), "best_of"),
        (json!({"best_of": 2, "stream": true}), "best_of"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias.x"),
        (json!({"logit_bias": {"99999": 1}}), "logit_bias.99999"),
        (json!({"logit_bias": {"97": 101}}), "logit_bias.97"),
        (json!({"stop": [""]}), "stop"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"stream": true, "stream_options": {"x": true}}), "stream_options.x"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [1, "a"]}), "prompt"),
        (json!({"prompt": [100_000]}), "prompt"),
        (json!({"prompt": ["a", "b"], "session_id": "s"}), "prompt"),
        (json!({"session_id": "a b"}), "session_id"),
        (json!({"session_id": "a", "return_state": true}), "session_id"),
        (json!({"state": "AAAA"}), "return_state"),
    ] {
        let mut asked = json!({"model": "nano", "prompt": "a", "max_tokens": 1});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, body) = server.post(PATH, asked).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!(param)), "{more}: {body}");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
    let (status, body) = server.post(PATH, json!({"model": "other", "prompt": "a"})).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    let (status, body) = server.post(PATH, json!({"prompt": "a"})).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("model")));
}

#[tokio::test]
async fn an_answer_that_the_end_of_the_server_breaks_off_says_so() {
    let server = Server::new();
    let asked = json!({"model": "nano", "prompt": "One day", "temperature": 0, "stream": true,
        "max_tokens": 200000, "logit_bias": {"97": 30}});
    let mut body = server.post_raw("/v1/completions", asked).await.into_body();
    let mut text = String::new();
    while text.matches("data: ").count() < 3 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    let app = server.app.clone();
    let drain = move || app.models().unwrap().drain(std::time::Duration::ZERO);
    tokio::task::spawn_blocking(drain).await.unwrap();
    let rest = body.collect().await.unwrap().to_bytes();
    text.push_str(std::str::from_utf8(&rest).unwrap());
    let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], "shutting_down", "{last}");
    assert!(!text.contains("[DONE]") && !text.contains("\"finish_reason\":\"length\""));
}

#[tokio::test]
async fn a_client_that_leaves_is_charged_for_what_was_read() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("keys.toml");
    let (key, lines) = crate::new_key("alice");
    fs_err::write(&path, format!("{lines}tokens_per_minute = 100\n")).unwrap();
    let keys = crate::auth::Keys::of_file(&path).unwrap();
    let server = Server::with(keys, crate::limits::Limits::default());
    let asked = json!({"model": "nano", "prompt": "One day ".repeat(50), "stream": true,
        "max_tokens": 200_000, "logit_bias": {"97": 30}});
    let response = server.call("POST", PATH, Some(asked), Some(&key)).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    // Its first text comes when all of the prompt has been read.
    loop {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        if frame.starts_with(b"data: ") {
            break;
        }
    }
    drop(body);
    let brief = json!({"model": "nano", "prompt": "a", "max_tokens": 1});
    let (status, refused) =
        crate::testing::json(server.call("POST", PATH, Some(brief), Some(&key)).await).await;
    assert_eq!((status, &refused["error"]["code"]), (429, &json!("rate_limit_exceeded")));
}
