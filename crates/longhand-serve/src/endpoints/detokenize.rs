//! `POST /detokenize`: tokens as a text, in the forms of llama.cpp and vLLM.

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::blocking;

/// Tokens to put together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DetokenizeRequest")]
struct Request {
    /// The name of the model; none where there is only one language model.
    model: Option<String>,
    /// The numbers of the tokens.
    tokens: Vec<u32>,
}

/// A text under the names of both forms.
#[derive(Serialize, JsonSchema)]
struct Text {
    /// The text, as llama.cpp names it.
    content: String,
    /// The same, as vLLM names it.
    prompt: String,
}

pub(crate) fn endpoint() -> Endpoint {
    let operation = Operation::post("detokenize", "Tokens as a text.");
    Endpoint::at("/detokenize").on(operation.takes::<Request>().gives::<Text>(), create)
}

async fn create(
    State(app): State<App>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let language = app.models()?.language_or_only(request.model.as_deref())?.clone();
    // Many tokens take their time.
    blocking(move || {
        let text = language.engine().tokenizer().decode(&request.tokens);
        let text = text.map_err(|error| ApiError::invalid("tokens", error.to_string()))?;
        Ok(json_body(&Text { content: text.clone(), prompt: text }))
    })
    .await
}
