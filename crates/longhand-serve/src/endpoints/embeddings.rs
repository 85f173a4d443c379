//! `POST /v1/embeddings`: vectors of texts, each the mean of the body's output over its tokens.

use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use longhand_sessions::{Job, Work};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::completions::Prompt;
use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::{Running, blocking};
use crate::models::Language;
use crate::usage::ReadUsage;

/// The most texts of one request.
const MOST_TEXTS: usize = 2048;

/// A request for vectors of texts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EmbeddingRequest")]
struct Request {
    /// A text, tokens, or a list of either; none of them empty.
    #[schemars(schema_with = "filled_prompts")]
    input: Prompt,
    /// The name of a language model.
    model: String,
    /// How the numbers are written (default: `float`).
    encoding_format: Option<EncodingFormat>,
    /// Who asks, in words of the client's own; nothing is done with it.
    #[expect(dead_code, reason = "it is taken, and nothing is done with it")]
    user: Option<String>,
}

/// The schema of prompts, none of them empty.
fn filled_prompts(_: &mut SchemaGenerator) -> Schema {
    let text = json!({"type": "string", "minLength": 1});
    let token = json!({"type": "integer", "format": "uint32"});
    let tokens = json!({"type": "array", "items": token, "minItems": 1});
    json_schema!({"anyOf": [
        text,
        {"type": "array", "items": text, "minItems": 1, "maxItems": 2048},
        tokens,
        {"type": "array", "items": tokens, "minItems": 1, "maxItems": 2048},
    ]})
}

/// How the numbers of a vector are written.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    /// A list of numbers.
    Float,
    /// The bytes of 32-bit numbers, the lowest byte first, in base64.
    Base64,
}

/// The answer: vectors of texts, in their order.
#[derive(Serialize, JsonSchema)]
struct Embeddings {
    /// Always the word `list`, as OpenAI has it.
    object: &'static str,
    /// One for each text, in their order.
    data: Vec<Embedding>,
    /// The name of the model.
    model: String,
    /// The tokens that were read.
    usage: ReadUsage,
}

/// The vector of a text. Its length is 1.
#[derive(Serialize, JsonSchema)]
struct Embedding {
    /// Always the word `embedding`.
    object: &'static str,
    /// The place of the text.
    index: usize,
    /// The numbers of the vector.
    embedding: Numbers,
}

/// The numbers of a vector.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Numbers {
    /// As numbers of JSON.
    Float(Vec<f32>),
    /// As the bytes of 32-bit numbers.
    Base64(String),
}

pub(crate) fn endpoint() -> Endpoint {
    let operation = Operation::post("createEmbedding", "Vectors of texts.");
    Endpoint::at("/v1/embeddings").on(operation.takes::<Request>().gives::<Embeddings>(), create)
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let language = app.models_for_work()?.language(&request.model)?.clone();
    if language.engine().model().network().is_err() {
        let message = "an n-gram model has no vectors of texts: name a network";
        return Err(ApiError::unsupported("model", message));
    }
    let (encoder, input) = (language.clone(), request.input);
    // Long texts take their time.
    let texts = blocking(move || encode(&encoder, input)).await?;
    let deadline = Some(app.deadline());
    let (mut data, mut tokens) = (Vec::with_capacity(texts.len()), 0);
    for (index, ids) in texts.into_iter().enumerate() {
        let job = Job::new(caller.owner.clone(), ids, Work::Embed);
        let job = Job { cache: false, deadline, ..job };
        let mut running = Running::start(&app, &caller, &language, job).await?;
        let answered = running.finish().await?;
        tokens += answered.outcome.usage.prompt;
        let vector = normalized(answered.embedding);
        let embedding = match request.encoding_format {
            None | Some(EncodingFormat::Float) => Numbers::Float(vector),
            Some(EncodingFormat::Base64) => Numbers::Base64(bytes(&vector)),
        };
        data.push(Embedding { object: "embedding", index, embedding });
    }
    let (model, usage) = (language.name.clone(), ReadUsage::of(tokens));
    Ok(json_body(&Embeddings { object: "list", data, model, usage }))
}

/// The tokens of each text.
fn encode(language: &Language, input: Prompt) -> Result<Vec<Vec<u32>>, ApiError> {
    let tokenizer = language.engine().tokenizer();
    let texts = match input {
        Prompt::Text(text) => vec![tokenizer.encode(&text)?],
        Prompt::Texts(texts) => {
            texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_, _>>()?
        }
        Prompt::Tokens(ids) => vec![ids],
        Prompt::Batch(texts) => texts,
    };
    if texts.is_empty() || texts.len() > MOST_TEXTS || texts.iter().any(Vec::is_empty) {
        let message = format!("`input` must have 1 to {MOST_TEXTS} texts, none of them empty");
        return Err(ApiError::invalid("input", message));
    }
    Ok(texts)
}

/// A vector of length 1, as OpenAI gives them; zeros stay.
fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    vector
}

fn bytes(vector: &[f32]) -> String {
    BASE64_STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    use crate::testing::Server;

    #[tokio::test]
    async fn both_forms_hold_the_same_numbers_of_length_1() {
        let server = Server::new();
        let ask = |format: &str| json!({"model": "nano", "input": ["one day", "two"], "encoding_format": format});
        let (status, body) = server.post("/v1/embeddings", ask("float")).await;
        assert_eq!(status, 200, "{body}");
        let (_, coded) = server.post("/v1/embeddings", ask("base64")).await;
        assert_eq!(body["usage"], json!({"prompt_tokens": 10, "total_tokens": 10}));
        for place in 0..2 {
            let numbers: Vec<f32> =
                serde_json::from_value(body["data"][place]["embedding"].clone()).unwrap();
            let norm: f32 = numbers.iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-5, "{norm}");
            let text = coded["data"][place]["embedding"].as_str().unwrap();
            let bytes = BASE64_STANDARD.decode(text).unwrap();
            let decoded: Vec<f32> = bytes
                .chunks(4)
                .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
                .collect();
            assert_eq!(numbers, decoded);
        }
        // The same as tokens, alone.
        let ids: Vec<u32> = "two".bytes().map(u32::from).collect();
        let (_, alone) =
            server.post("/v1/embeddings", json!({"model": "nano", "input": ids})).await;
        assert_eq!(alone["data"][0]["embedding"], body["data"][1]["embedding"]);
    }

    #[tokio::test]
    async fn empty_input_and_unknown_fields_are_named() {
        let server = Server::new();
        for (body, field) in [
            (json!({"model": "nano", "input": ""}), "input"),
            (json!({"model": "nano", "input": []}), "input"),
            (json!({"model": "nano", "input": [["a"]]}), "input"),
            (json!({"model": "nano", "input": "a", "dimensions": 3}), "dimensions"),
            (json!({"model": "nano", "input": "a", "encoding_format": "hex"}), "encoding_format"),
        ] {
            let (status, answer) = server.post("/v1/embeddings", body).await;
            assert_eq!((status, &answer["error"]["param"]), (400, &json!(field)), "{answer}");
        }
    }
}
