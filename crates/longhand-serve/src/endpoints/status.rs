//! `/health`, `/ready` and `/version`: whether the server runs, takes work, and which one it is.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::endpoint::{Endpoint, Operation};
use crate::error::json_body;

/// The server runs, and its models are loaded.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// Always the word `ok`.
    status: &'static str,
}

/// The server is still reading its models, or ends; the form of llama.cpp.
#[derive(Serialize, JsonSchema)]
struct NotHealthy {
    /// Why it is not ready.
    error: LoadingError,
}

/// Why a server takes no work.
#[derive(Serialize, JsonSchema)]
struct LoadingError {
    /// The status of the answer.
    code: u16,
    /// What the server does in place of it, or which model does not answer.
    message: String,
    /// Always the word `unavailable_error`.
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The version of the server.
#[derive(Serialize, JsonSchema)]
struct Version {
    /// The version of the program.
    version: &'static str,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let health = Operation::get("getHealth", "Whether the models are loaded.");
    let ready = Operation::get("getReady", "Whether new work is taken.");
    let status =
        |operation: Operation| operation.gives::<Health>().open().unavailable_as::<NotHealthy>();
    let version = Operation::get("getVersion", "The version of the server.");
    vec![
        Endpoint::at("/health").on(status(health), health_now),
        Endpoint::at("/ready").on(status(ready), ready_now),
        Endpoint::at("/version").on(version.gives::<Version>().open(), tell_version),
    ]
}

async fn health_now(State(app): State<App>) -> Response {
    match app.models() {
        Ok(_) => json_body(&Health { status: "ok" }),
        Err(_) => refused("Loading model"),
    }
}

async fn ready_now(State(app): State<App>) -> Response {
    let models = match (app.models(), app.models_for_work()) {
        (Ok(_), Ok(models)) => models,
        (Ok(_), Err(_)) => return refused("Shutting down"),
        (Err(_), _) => return refused("Loading model"),
    };
    let ended: Vec<String> = models.ended().map(|name| format!("`{name}`")).collect();
    match &ended[..] {
        [] => json_body(&Health { status: "ok" }),
        [one] => refused(&format!("The model {one} no longer answers: restart the server")),
        several => {
            let names = several.join(", ");
            refused(&format!("The models {names} no longer answer: restart the server"))
        }
    }
}

fn refused(message: &str) -> Response {
    let (status, message) = (StatusCode::SERVICE_UNAVAILABLE, message.to_owned());
    let error = LoadingError { code: status.as_u16(), message, kind: "unavailable_error" };
    (status, json_body(&NotHealthy { error })).into_response()
}

async fn tell_version() -> Response {
    json_body(&Version { version: env!("CARGO_PKG_VERSION") })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http_body_util::BodyExt;
    use serde_json::json;

    use crate::testing::Server;

    /// Longer than any wait of a test that passes.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_server_that_loads_says_so_and_refuses_work() {
        let server = Server::loading();
        let loading = json!({"error": {
            "code": 503, "message": "Loading model", "type": "unavailable_error",
        }});
        for path in ["/health", "/ready"] {
            assert_eq!(server.get(path).await, (503, loading.clone()));
        }
        let response =
            server.post_raw("/v1/completions", json!({"model": "m", "prompt": "a"})).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after-ms"], "1000");
        assert_eq!(server.get("/version").await.1, json!({"version": env!("CARGO_PKG_VERSION")}));
    }

    #[tokio::test]
    async fn a_server_that_ends_is_healthy_and_not_ready() {
        let server = Server::new();
        assert_eq!(server.get("/health").await, (200, json!({"status": "ok"})));
        assert_eq!(server.get("/ready").await, (200, json!({"status": "ok"})));
        server.app.drain();
        assert_eq!(server.get("/health").await.0, 200);
        assert_eq!(server.get("/ready").await.0, 503);
        let (status, body) =
            server.post("/v1/completions", json!({"model": "nano", "prompt": "a"})).await;
        assert_eq!((status, &body["error"]["type"]), (503, &json!("unavailable_error")));
    }

    #[tokio::test]
    async fn a_model_whose_thread_has_ended_is_named() {
        let server = Server::new();
        let endless = json!({"model": "nano", "prompt": "One day", "stream": true,
            "max_tokens": 200_000, "logit_bias": {"97": 30}});
        let mut body = server.post_raw("/v1/completions", endless).await.into_body();
        body.frame().await.unwrap().unwrap();
        assert_eq!(server.get("/ready").await.0, 200);
        let language = server.app.models().unwrap().language("nano").unwrap().clone();
        language.host.run(Box::new(|_| panic!("as a fault of the model would"))).unwrap();
        // The stream that it wrote ends with an error.
        let rest = body.collect().await.unwrap().to_bytes();
        let rest = String::from_utf8_lossy(&rest);
        assert!(rest.contains("broken off by a fault"), "{rest}");
        // The thread may still be on its way to its end.
        let begun = Instant::now();
        let message = loop {
            let (status, body) = server.get("/ready").await;
            if status == 503 {
                break body["error"]["message"].to_string();
            }
            assert!(begun.elapsed() < PATIENCE, "the end of the thread is not told");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(message.contains("`nano`") && message.contains("restart"), "{message}");
        assert_eq!(server.get("/health").await.0, 200);
        let asked = json!({"model": "nano", "prompt": "a"});
        let (status, body) = server.post("/v1/completions", asked).await;
        let message = body["error"]["message"].to_string();
        assert_eq!(status, 500, "{body}");
        assert!(message.contains("`nano` no longer answers"), "{message}");
    }
}
