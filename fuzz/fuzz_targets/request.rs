//! The body of a request to each endpoint, from arbitrary bytes: it is answered or refused, by a status
//! of the client's where the bytes are wrong.
#![no_main]

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use longhand_serve::sessions::{Sessions, SessionsSettings};
use longhand_serve::{App, Keys, Limits, app};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Endpoints that read JSON. The models of the server are never there, so that none computes.
const PATHS: [&str; 12] = [
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/conversations",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/classify",
    "/score",
    "/rerank",
];

fn server() -> &'static (Runtime, Router) {
    static SERVER: OnceLock<(Runtime, Router)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let sessions = Sessions::in_memory(SessionsSettings::default()).expect("defaults");
        let keys = Arc::new(Keys::none().expect("no keys"));
        let state = App::new(sessions, keys, Limits::default());
        (runtime.expect("a runtime"), app(state))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let (runtime, router) = server();
    for path in PATHS {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(Body::from(bytes.to_vec())).expect("a request");
        let answered = runtime.block_on(router.clone().oneshot(request));
        let status = answered.expect("a router never fails").status().as_u16();
        assert!(status < 500 || status == 503, "{path}: {status}");
    }
});
