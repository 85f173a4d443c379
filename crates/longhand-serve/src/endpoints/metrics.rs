//! `GET /metrics`: what an operator watches, in the text form of Prometheus. It needs a key like any
//! other request, because numbers of others' use are data too.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::endpoint::{Endpoint, Operation};
use crate::metrics::{CONTENT_TYPE, Readings};
use crate::models::Served;

pub(crate) fn endpoint() -> Endpoint {
    let operation = Operation::get("getMetrics", "The numbers of the server, for Prometheus.");
    Endpoint::at("/metrics").on(operation.gives_bytes("text/plain"), show)
}

async fn show(State(app): State<App>) -> Response {
    let models = app.models().into_iter().flat_map(|models| models.iter());
    let loads = models.filter_map(|(_, served)| match served {
        Served::Language(language) => Some(language.host.load()),
        Served::Task(_) => None,
    });
    let mut readings = Readings::of(app.sessions().counters(), loads);
    readings.tokens_read += app.metrics().tokens_scored();
    readings.add_tasks(app.metrics().tasks());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], app.metrics().render(&readings)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use http_body_util::BodyExt;
    use serde_json::json;

    use crate::auth::Keys;
    use crate::testing::Server;

    async fn text(server: &Server) -> String {
        let response = server.call("GET", "/metrics", None, None).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], crate::metrics::CONTENT_TYPE);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[track_caller]
    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }

    #[tokio::test]
    async fn requests_and_tokens_are_counted_by_the_route_and_never_by_a_path_of_the_client() {
        let server = Server::new();
        let asked = json!({"model": "nano", "prompt": "One day", "max_tokens": 5,
            "session_id": "diary"});
        server.post("/v1/completions", asked.clone()).await;
        let mut streamed = asked.clone();
        streamed["stream"] = json!(true);
        server.stream("/v1/completions", streamed).await;
        server.post("/v1/completions", json!({"model": "nano", "n": 99})).await;
        server.get("/v1/sessions/diary").await;
        server.get("/v1/sessions/nobody").await;
        server.get("/no/such/path").await;
        let text = text(&server).await;
        for line in [
            "longhand_requests_total{endpoint=\"/v1/completions\",status=\"200\"} 2",
            "longhand_requests_total{endpoint=\"/v1/completions\",status=\"400\"} 1",
            "longhand_requests_total{endpoint=\"/v1/sessions/{session}\",status=\"200\"} 1",
            "longhand_requests_total{endpoint=\"/v1/sessions/{session}\",status=\"404\"} 1",
            "longhand_requests_total{endpoint=\"none\",status=\"404\"} 1",
            "longhand_request_seconds_count{endpoint=\"/v1/completions\"} 3",
            "longhand_tokens_written_total 10",
            "longhand_first_token_seconds_count 2",
            "longhand_token_seconds_count 8",
            "longhand_sessions_stored 1",
            "longhand_queue_depth 0",
        ] {
            assert_line(&text, line);
        }
        assert!(!text.contains("nobody") && !text.contains("diary"), "{text}");
    }

    #[tokio::test]
    async fn texts_that_are_scored_are_read_too() {
        let server = Server::new();
        let asked = json!({"model": "nano", "text_1": "one ", "text_2": ["day", "xyzzy"]});
        server.post("/score", asked).await;
        assert_line(&text(&server).await, "longhand_tokens_read_total 12");
    }

    #[tokio::test]
    async fn refusals_are_counted_by_their_reason_and_numbers_need_a_key() {
        let server = Server::loading();
        server.post("/v1/completions", json!({"model": "m", "prompt": "a"})).await;
        assert_line(&text(&server).await, "longhand_rejected_total{reason=\"loading\"} 1");
        let server = Server::new();
        server.app.drain();
        server.post("/v1/completions", json!({"model": "nano", "prompt": "a"})).await;
        assert_line(&text(&server).await, "longhand_rejected_total{reason=\"draining\"} 1");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let (key, lines) = crate::new_key("alice");
        fs_err::write(&path, lines).unwrap();
        let server = Server::with(Keys::of_file(&path).unwrap(), crate::Limits::default());
        assert_eq!(server.get("/metrics").await.0, 401);
        let response = server.call("GET", "/metrics", None, Some(&key)).await;
        assert_eq!(response.status(), 200);
    }
}
