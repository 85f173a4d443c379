//! A server whose disk is full, and one whose settings change, as an operator has them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::place::Place;
use crate::place::served::Served;

/// Longer than any wait of a test that passes.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_full_disk_refuses_what_would_write_and_nothing_else() {
    let place = Place::with_models();
    let (code, _, said) = place.run("serve base --port 0 --sessions text.txt", "");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("text.txt is a file: name the folder"), "{said}");
    let line = "serve base --port 0 --threads 1 --sessions kept";
    // 32 MiB.
    let server = Served::start_limited(&place, line, 65_536);
    let turn = json!({"model": "base", "prompt": "she was", "session_id": "diary",
        "max_tokens": 4, "temperature": 0});
    server.post("/v1/completions", &turn);
    let (_, session) = server.ask("GET", "/v1/sessions/diary", &json!(null));
    let text = "a".repeat(3 << 20);
    let large = json!({"items": [{"type": "message", "role": "user", "content": text}]});
    let mut kept = Vec::new();
    let refused = loop {
        match server.ask("POST", "/v1/conversations", &large) {
            (200, begun) => kept.push(begun["id"].as_str().unwrap().to_owned()),
            (status, refused) => {
                assert_eq!(status, 507, "{refused}");
                break refused;
            }
        }
        assert!(kept.len() < 16, "the disk has no end");
    };
    assert_eq!(refused["error"]["code"], "insufficient_storage", "{refused}");
    assert!(!kept.is_empty());
    let whole = |server: &Served| {
        for id in &kept {
            let (status, items) =
                server.ask("GET", &format!("/v1/conversations/{id}/items"), &json!(null));
            assert_eq!(status, 200);
            let content = items["data"][0]["content"].to_string();
            assert!(content.len() > text.len(), "{}", content.len());
        }
        let (status, found) = server.ask("GET", "/v1/sessions/diary", &json!(null));
        assert_eq!((status, &found["position"]), (200, &session["position"]));
    };
    whole(&server);
    assert_eq!(server.ask("GET", "/health", &json!(null)).0, 200);
    server.post("/v1/completions", &json!({"model": "base", "prompt": "he was", "max_tokens": 4}));
    drop(server);
    // With space again all is there, and writing goes on.
    let server = Served::start(&place, line);
    whole(&server);
    server.post("/v1/conversations", &large);
    server.post("/v1/completions", &turn);
}

#[test]
fn settings_are_read_again_at_a_signal() {
    let place = Place::with_models();
    place.write("serve.toml", "max_body = \"1MiB\"\n");
    let server = Served::start(&place, "serve base --port 0 --threads 1 --config serve.toml");
    let body = json!({"model": "base", "prompt": "she was", "max_tokens": 2});
    server.post("/v1/completions", &body);
    // What cannot be used changes nothing, and ends nothing.
    place.write("serve.toml", "max_body = \"large\"\n");
    server.signal("HUP");
    server.post("/v1/completions", &body);
    place.write("serve.toml", "max_body = \"20\"\n");
    server.signal("HUP");
    let begun = Instant::now();
    while server.ask("POST", "/v1/completions", &body).0 != 413 {
        assert!(begun.elapsed() < PATIENCE, "the settings are not taken over");
        std::thread::sleep(Duration::from_millis(20));
    }
}
