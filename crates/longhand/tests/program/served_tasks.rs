//! `longhand serve` in a process of its own: models of tasks, and what a killed server has kept.

use serde_json::{Value, json};

use crate::place::Place;
use crate::place::served::Served;

/// Sentences whose names have a capital.
fn sentences(count: usize) -> String {
    let sentence = |i: usize| {
        let name = ["Bora", "Kato", "Lune", "Mira"][i % 4];
        let verb = ["sees", "calls", "knows"][i % 3];
        format!("{name} B-PER\n{verb} O\nthe O\nriver O\n\n")
    };
    (0..count).map(sentence).collect()
}

#[test]
fn models_of_tasks_answer_as_the_program_predicts() {
    let place = Place::with_models();
    place.tune("--epochs 4 --out mood");
    place.write("names.conll", &sentences(60));
    place.done("finetune --task tag --data names.conll --epochs 4 --threads 1 --json --out names");
    let server = Served::start(&place, "serve base mood names --port 0 --threads 1");
    let (_, models) = server.ask("GET", "/v1/models", &Value::Null);
    let kinds: Vec<&Value> =
        models["data"].as_array().unwrap().iter().map(|model| &model["kind"]).collect();
    assert_eq!(kinds, ["language", "classify", "tag"]);

    let input = json!({"model": "mood", "input": ["she was glad", "sad then", "then"]});
    let classes = server.post("/classify", &input);
    for (place, expected) in place.answers("mood").into_iter().enumerate() {
        let class = &classes["data"][place];
        let found = class["probabilities"]["good"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-5, "{class} {expected}");
        assert_eq!((&class["num_classes"], &class["index"]), (&json!(2), &json!(place)));
    }

    let tags = server.post("/tag", &json!({"model": "names", "input": "Kato sees the river"}));
    assert_eq!(tags["words"], json!(["Kato", "sees", "the", "river"]));
    assert_eq!(tags["tags"].as_array().unwrap().len(), 4);

    for (path, model, kind) in [("/classify", "names", "tag"), ("/tag", "base", "language")] {
        let (status, body) = server.ask("POST", path, &json!({"model": model, "input": "a"}));
        assert_eq!((status, &body["error"]["param"]), (400, &json!("model")));
        assert!(body["error"]["message"].as_str().unwrap().contains(kind), "{body}");
    }
    let (status, body) =
        server.ask("POST", "/v1/completions", &json!({"model": "mood", "prompt": "a"}));
    assert_eq!(status, 400, "{body}");
}

#[test]
fn a_killed_server_has_kept_what_its_replies_name() {
    let place = Place::with_models();
    let line = "serve base --port 0 --threads 1 --sessions kept";
    let ask = |session: &str| {
        json!({"model": "base", "prompt": "she was", "session_id": session, "max_tokens": 9,
            "temperature": 0, "logprobs": 2})
    };
    let server = Served::start(&place, line);
    server.post("/v1/completions", &ask("one"));
    server.post("/v1/sessions/one/fork", &json!({"name": "two"}));
    let goes_on = server.post("/v1/completions", &ask("two"));
    // Killed without a word: what was answered is on the disk.
    drop(server);
    let server = Served::start(&place, line);
    let restored = server.post("/v1/completions", &ask("one"));
    // Text and log-probabilities, to the last bit.
    assert_eq!(restored["choices"], goes_on["choices"]);
    assert_eq!(
        restored["usage"]["prompt_tokens_details"],
        goes_on["usage"]["prompt_tokens_details"]
    );
}
