//! `GET /v1/models` and `GET /v1/models/{model}`: the models that there are.

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::address::Named;
use crate::app::App;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::models::Served;

/// A model. `kind` and the fields behind it are not of OpenAI.
#[derive(Serialize, JsonSchema)]
struct ModelObject {
    /// The name in requests.
    id: String,
    /// Always the word `model`.
    object: &'static str,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    /// Always the word `longhand`.
    owned_by: &'static str,
    /// `language`, or the name of the task that the model does.
    kind: &'static str,
    /// The hash of a language model; its sessions belong to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// Numbers in a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<usize>,
    /// Tokens that a language model knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab_size: Option<usize>,
}

/// All models of the server, by name.
#[derive(Serialize, JsonSchema)]
struct ModelList {
    /// Always the word `list`, as OpenAI has it.
    object: &'static str,
    /// The models by name.
    data: Vec<ModelObject>,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let all = Operation::get("listModels", "The models that there are.").gives::<ModelList>();
    let one = Operation::get("getModel", "One model.").gives::<ModelObject>();
    let one = one.with_path("model", "The name of the model.");
    vec![Endpoint::at("/v1/models").on(all, list), Endpoint::at("/v1/models/{model}").on(one, show)]
}

async fn list(State(app): State<App>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let data = models.iter().map(|(name, served)| object(name, served, models.created()));
    Ok(json_body(&ModelList { object: "list", data: data.collect() }))
}

async fn show(State(app): State<App>, Named(name): Named<String>) -> Result<Response, ApiError> {
    let models = app.models()?;
    Ok(json_body(&object(&name, models.get(&name)?, models.created())))
}

fn object(name: &str, served: &Served, created: u64) -> ModelObject {
    let engine = match served {
        Served::Language(language) => Some(language.engine()),
        Served::Task(_) => None,
    };
    ModelObject {
        id: name.to_owned(),
        object: "model",
        created,
        owned_by: "longhand",
        kind: served.kind(),
        hash: engine.map(|engine| engine.model_hash().to_owned()),
        parameters: engine.map(|engine| engine.model().parameters()),
        vocab_size: engine.map(|engine| engine.model().vocab_size()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Server;

    #[tokio::test]
    async fn models_are_listed_and_found_by_name_alone() {
        let server = Server::new();
        let (status, list) = server.get("/v1/models").await;
        assert_eq!(status, 200);
        assert_eq!(list["data"][0]["id"], "nano");
        let (_, one) = server.get("/v1/models/nano").await;
        assert_eq!(one, list["data"][0]);
        for name in ["other", "..%2F..%2Fetc%2Fpasswd", "nano%00"] {
            let (status, body) = server.get(&format!("/v1/models/{name}")).await;
            assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
        }
        let response = server.call("DELETE", "/v1/models/nano", None, None).await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], "GET, HEAD");
        let (status, body) = server.get("/v1/nothing").await;
        assert_eq!((status, &body["error"]["type"]), (404, &json!("invalid_request_error")));
    }
}
