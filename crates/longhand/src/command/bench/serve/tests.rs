//! The load against a small server, which counts what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};

use super::load::{Arrivals, Load, Run, gap};
use super::summary::{Summary, curves};
use super::target::Target;

/// What the server was asked.
#[derive(Default)]
struct Asked {
    bodies: Vec<Value>,
    erased: Vec<String>,
    keys: Vec<Option<String>>,
}

type Book = Arc<Mutex<Asked>>;

fn load() -> Load {
    Load {
        arrivals: Arrivals::Closed { clients: 3 },
        requests: 12,
        time: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        sessions: false,
        turns: 1,
        words: 4,
        tokens: 3,
        stream: true,
        seed: 5,
    }
}

async fn complete(
    State(book): State<Book>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let number = {
        let mut book = book.lock().unwrap();
        let key = headers.get("authorization").map(|key| key.to_str().unwrap().to_owned());
        book.keys.push(key);
        book.bodies.push(body.clone());
        book.bodies.len()
    };
    let model = body["model"].as_str().unwrap();
    if model == "refusing" && number % 2 == 0 {
        return (StatusCode::TOO_MANY_REQUESTS, "{}").into_response();
    }
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 3,
                        "prompt_tokens_details": { "cached_tokens": 6 } });
    if body["stream"] != true {
        return Json(json!({ "choices": [{ "text": "abc" }], "usage": usage })).into_response();
    }
    if model == "silent" {
        std::future::pending::<()>().await;
    }
    let mut events: Vec<String> =
        ["a", "b", "", "c"].map(|text| json!({ "choices": [{ "text": text }] }).to_string()).into();
    events.push(json!({ "choices": [], "usage": usage }).to_string());
    match model {
        "breaking" => events.truncate(2),
        "failing" => events[1] = json!({ "error": { "message": "no" } }).to_string(),
        _ => events.push("[DONE]".into()),
    }
    // Cut at places that do not fit the events, as a network does.
    let text = events.iter().fold(": ping\n\n".to_owned(), |all, it| all + "data: " + it + "\n\n");
    let pieces: Vec<Bytes> = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
    let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    axum::body::Body::new(StreamBody::new(tokio_stream::iter(frames))).into_response()
}

/// A server at a free port, and its book.
async fn server() -> (String, Book) {
    let book = Book::default();
    let models = json!({ "data": [{ "id": "moods", "kind": "classify" }, { "id": "small" }] });
    let erase = |State(book): State<Book>, Path(name): Path<String>| async move {
        book.lock().unwrap().erased.push(name);
    };
    let app = Router::new()
        .route("/v1/models", get(|| async { Json(models) }))
        .route("/v1/completions", post(complete))
        .route("/v1/sessions/{name}", delete(erase))
        .with_state(book.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, book)
}

async fn send(load: Load, model: &str) -> (Run, Book) {
    let (url, book) = server().await;
    let key = Some("k".to_owned());
    let target = Target::parse(&url, key, None, false, load.timeout).unwrap();
    (load.run(&target, model).await, book)
}

#[tokio::test]
async fn a_closed_loop_sends_as_many_requests_as_asked_and_tells_of_their_tokens() {
    let (run, book) = send(load(), "small").await;
    let summary = Summary::of(&run, "small");
    assert_eq!((summary.requests, summary.answered, summary.errors.len()), (12, 12, 0));
    assert_eq!(
        (summary.prompt_tokens, summary.cached_tokens, summary.written_tokens),
        (120, 72, 36)
    );
    for sample in &run.samples {
        // The empty piece is no token.
        assert_eq!(sample.between.len(), 2);
        assert!(sample.first_token.unwrap() <= sample.whole);
    }
    assert_eq!(curves(&run).len(), 3);
    let asked = book.lock().unwrap();
    assert_eq!(asked.bodies.len(), 12);
    assert!(asked.keys.iter().all(|key| key.as_deref() == Some("Bearer k")));
    assert!(asked.bodies.iter().all(|body| body["stream_options"]["include_usage"] == true));
    assert!(asked.erased.is_empty());
    let text = summary.to_string();
    assert!(text.contains("12 of 12 requests answered") && text.contains("p99"), "{text}");
}

#[tokio::test]
async fn without_sessions_a_turn_says_all_again_and_with_them_its_own_words() {
    let turns = Load { turns: 3, arrivals: Arrivals::Closed { clients: 1 }, requests: 6, ..load() };
    let (_, book) = send(turns.clone(), "small").await;
    let words = |body: &Value| body["prompt"].as_str().unwrap().split_whitespace().count();
    // Four words each time; the answer "abc" joins the last word before it.
    let counts: Vec<usize> = book.lock().unwrap().bodies.iter().map(words).collect();
    assert_eq!(counts, [4, 8, 12, 4, 8, 12]);

    let (_, book) = send(Load { sessions: true, ..turns }, "small").await;
    let asked = book.lock().unwrap();
    assert!(asked.bodies.iter().all(|body| words(body) == 4));
    let mut names = BTreeMap::new();
    for body in &asked.bodies {
        *names.entry(body["session_id"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(names.values().copied().collect::<Vec<_>>(), [3, 3]);
    assert_eq!(asked.erased.len(), 2, "the sessions of the load are erased");
    assert!(asked.erased.iter().all(|name| names.contains_key(name)));
}

#[tokio::test]
async fn an_open_loop_sends_at_its_rate_and_ends_by_itself() {
    let arrivals = Arrivals::Open { rate: 200.0 };
    let time = Duration::from_millis(500);
    let (run, book) = send(Load { arrivals, requests: 1000, time, ..load() }, "small").await;
    let asked = book.lock().unwrap().bodies.len();
    assert_eq!(run.samples.len(), asked);
    // As many as the seed has gaps that fit into half a second.
    let mut due = Duration::ZERO;
    let fitting = (0..).take_while(|&i| {
        due += gap(5, i, 200.0);
        due < time
    });
    assert_eq!(asked, fitting.count());
    let few = Load { arrivals, requests: 7, time, ..load() };
    assert_eq!(send(few, "small").await.0.samples.len(), 7);
}

#[tokio::test]
async fn every_way_to_end_is_counted_by_its_name() {
    for (model, how, count) in
        [("refusing", "429", 6), ("breaking", "broken off", 12), ("failing", "broken off", 12)]
    {
        let (run, _) = send(load(), model).await;
        let summary = Summary::of(&run, model);
        assert_eq!(summary.errors.get(how), Some(&count), "{model}: {:?}", summary.errors);
        assert_eq!(summary.answered, 12 - count);
    }
    let short = Load { timeout: Duration::from_millis(50), requests: 3, ..load() };
    let (run, _) = send(short, "silent").await;
    let summary = Summary::of(&run, "silent");
    assert_eq!(summary.errors.get("timed out"), Some(&3));
    assert_eq!(summary.first_token, None);
}

#[tokio::test]
async fn whole_answers_have_no_first_token() {
    let (run, book) = send(Load { stream: false, ..load() }, "small").await;
    let summary = Summary::of(&run, "small");
    assert_eq!((summary.answered, summary.written_tokens), (12, 36));
    assert!(summary.first_token.is_none() && summary.whole.is_some());
    assert!(book.lock().unwrap().bodies[0].get("stream_options").is_none());
}

#[tokio::test]
async fn the_first_language_model_is_asked_and_a_server_that_is_gone_is_told() {
    let (url, _) = server().await;
    let parse = |url: &str| Target::parse(url, None, None, false, Duration::from_secs(5));
    let target = parse(&url).unwrap();
    assert_eq!(super::client::first_model(&target).await.unwrap(), "small");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = parse(&format!("http://{closed}")).unwrap();
    let error = super::client::first_model(&target).await.unwrap_err();
    assert!(format!("{error:#}").contains("cannot be reached"), "{error:#}");
    let run = Load { requests: 2, ..load() }.run(&target, "small").await;
    assert_eq!(Summary::of(&run, "small").errors.get("unreachable"), Some(&2));
    let error = super::all_failed(&run.samples).unwrap_err().to_string();
    assert!(error.contains("no request was answered") && error.contains("unreachable"), "{error}");
}

#[test]
fn other_machines_are_refused_unless_allowed() {
    let parse = |url: &str, remote| {
        let target = Target::parse(url, None, None, remote, Duration::from_secs(1));
        target.map(|_| ()).map_err(|error| format!("{error:#}"))
    };
    for url in ["http://127.0.0.1:8080", "http://[::1]:80/below/", "http://127.9.9.9"] {
        assert_eq!(parse(url, false), Ok(()), "{url}");
    }
    assert!(parse("http://192.0.2.1:8080", false).unwrap_err().contains("--allow-remote"));
    // It is parsed alone: nothing is sent.
    assert_eq!(parse("http://192.0.2.1:8080", true), Ok(()));
    assert!(parse("ftp://127.0.0.1", false).unwrap_err().contains("http://"));
    assert!(parse("127.0.0.1:8080", false).is_err());
    assert!(parse("https://127.0.0.1", false).unwrap_err().contains("--ca"));
}
