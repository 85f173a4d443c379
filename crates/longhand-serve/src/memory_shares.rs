//! What share each kind of memory had in each written token: an extension of ours.

use longhand_engine::shares::StepGates;
use longhand_text::Tokenizer;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;
use crate::log_probabilities::Told;
use crate::models::Language;

/// What one written token came from.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct TokenShares {
    /// The token's text; bytes of half a character are written as `\xe4`.
    token: String,
    /// The share of the working memory, from 0 to 1; null where neither memory helped, and of the
    /// first token, which the prompt led to.
    working: Option<f32>,
    /// The share of the long memory: the rest.
    long: Option<f32>,
    /// How open the gates of each long memory were, in the order of the blocks; empty for the first
    /// token.
    gates: Vec<Gates>,
}

/// How open the gates of one long memory were.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "MemoryGates")]
struct Gates {
    /// Which memory, as `blocks.0.lstm`.
    memory: String,
    /// The mean of the input gates, from 0 (shut) to 1 (open).
    input: f32,
    /// The mean of the forget gates.
    forget: f32,
}

/// Whether a request asks for the shares.
///
/// # Errors
/// [`ApiError::Invalid`] names the field where the model has no memories.
pub(crate) fn asked(field: Option<bool>, language: &Language) -> Result<bool, ApiError> {
    let asked = field == Some(true);
    match asked && language.engine().model().network().is_err() {
        true => {
            let message = "an n-gram model has no memories: leave `memory_shares` out";
            Err(ApiError::unsupported("memory_shares", message))
        }
        false => Ok(asked),
    }
}

/// The shares of tokens, where they were asked for.
pub(crate) fn of_tokens(
    tokenizer: &Tokenizer,
    told: &[Told],
    asked: bool,
) -> Option<Vec<TokenShares>> {
    let gates = |StepGates { memory, mean }: StepGates| Gates {
        memory,
        input: mean.input,
        forget: mean.forget,
    };
    let shares = |told: &Told| {
        let memory = told.memory.clone().unwrap_or_default();
        TokenShares {
            token: tokenizer.label(told.id),
            working: memory.working,
            long: memory.long,
            gates: memory.gates.into_iter().map(gates).collect(),
        }
    };
    asked.then(|| told.iter().map(shares).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::Server;

    fn shares(choice: &Value) -> Vec<Value> {
        choice["memory_shares"].as_array().cloned().unwrap_or_default()
    }

    /// Checks shares of tokens that follow each other, the first one of an answer first.
    fn check(shares: &[Value]) {
        let (first, rest) = shares.split_first().unwrap();
        assert_eq!((&first["working"], &first["gates"]), (&Value::Null, &json!([])));
        for share in rest {
            if let (Some(working), Some(long)) = (share["working"].as_f64(), share["long"].as_f64())
            {
                assert!((working + long - 1.0).abs() < 1e-6, "{share}");
            }
            let gates = share["gates"].as_array().unwrap();
            assert!(!gates.is_empty(), "{share}");
            for gate in gates {
                assert!(gate["memory"].as_str().unwrap().starts_with("blocks."), "{gate}");
                for name in ["input", "forget"] {
                    assert!((0.0..=1.0).contains(&gate[name].as_f64().unwrap()), "{gate}");
                }
            }
        }
        assert!(rest.iter().any(|share| share["working"].is_number()), "{shares:?}");
    }

    #[tokio::test]
    async fn shares_are_told_of_each_token_whole_and_streamed_and_change_nothing() {
        let server = Server::new();
        let chat = json!({"model": "nano", "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 12, "temperature": 0, "logprobs": true});
        let text = json!({"model": "nano", "prompt": "One day", "max_tokens": 12,
            "temperature": 0, "logprobs": 0});
        for (path, plain) in [("/v1/chat/completions", chat), ("/v1/completions", text)] {
            let (_, without) = server.post(path, plain.clone()).await;
            assert!(without["choices"][0].get("memory_shares").is_none());
            let mut asked = plain;
            asked["memory_shares"] = json!(true);
            let (status, whole) = server.post(path, asked.clone()).await;
            assert_eq!(status, 200, "{whole}");
            let choice = &whole["choices"][0];
            let content = |choice: &Value| [choice["message"].clone(), choice["text"].clone()];
            assert_eq!(content(choice), content(&without["choices"][0]));
            let found = shares(choice);
            check(&found);
            let tokens = choice["logprobs"]["content"].as_array().map(Vec::len);
            let tokens = tokens.or(choice["logprobs"]["tokens"].as_array().map(Vec::len));
            assert_eq!(tokens, Some(found.len()));

            asked["stream"] = json!(true);
            asked.as_object_mut().unwrap().remove("logprobs");
            let events = server.stream(path, asked).await;
            let streamed: Vec<Value> =
                events.iter().flat_map(|event| shares(&event["choices"][0])).collect();
            assert_eq!(streamed, found, "{path}");
        }
    }
}
