//! `POST /tokenize` and `GET /tokenizer_info`: texts as tokens, in the forms of llama.cpp and vLLM.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use longhand_text::Tokenizer;
use longhand_text::corpus::dialogues::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::Queried;
use crate::app::App;
use crate::body::JsonBody;
use crate::conversation::{MessageField, whole};
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::blocking;
use crate::models::Language;
use crate::together;

/// A text to part into tokens: `content` asks in llama.cpp's form, `prompt` and `messages` in vLLM's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenizeRequest", extend("allOf" = together::of_tokens()))]
struct Request {
    /// The name of the model; none where there is only one language model.
    model: Option<String>,
    /// A text; the answer has the form of llama.cpp.
    content: Option<String>,
    /// Whether special tokens are put around the text. This server's tokenisers have none to put there.
    #[expect(dead_code, reason = "both values give the same tokens")]
    add_special: Option<bool>,
    /// Whether the names of special tokens in the text become these tokens (default: false).
    parse_special: Option<bool>,
    /// Whether each token comes with its text, in the form of llama.cpp (default: false).
    with_pieces: Option<bool>,
    /// A text; the answer has the form of vLLM. One that is nothing but the name of a special token, or
    /// of a mark such as `<eos>`, is that token: so harnesses ask for its number.
    prompt: Option<String>,
    /// A conversation, by the model's chat template; the answer has the form of vLLM.
    messages: Option<Vec<MessageField>>,
    /// The same as `add_special`, in vLLM's form.
    #[expect(dead_code, reason = "both values give the same tokens")]
    add_special_tokens: Option<bool>,
    /// Whether the texts of the tokens are given too, in the form of vLLM (default: false).
    return_token_strs: Option<bool>,
}

/// Tokens in one of two forms.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Tokens {
    /// The form of llama.cpp.
    Content(ContentTokens),
    /// The form of vLLM.
    Prompt(PromptTokens),
}

/// Tokens in the form of llama.cpp.
#[derive(Serialize, JsonSchema)]
struct ContentTokens {
    /// Their numbers, or numbers and texts.
    tokens: Vec<TokenOrPiece>,
}

/// A token, with its text or without.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum TokenOrPiece {
    /// The number of the token alone.
    Token(u32),
    /// The number and the text.
    Piece(TokenPiece),
}

/// A token with its text.
#[derive(Serialize, JsonSchema)]
struct TokenPiece {
    /// The number of the token.
    id: u32,
    /// Its text, or its bytes where they are no whole characters.
    piece: TextOrBytes,
}

/// A text, or bytes that are none.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum TextOrBytes {
    /// Text of whole characters alone.
    Text(String),
    /// Parts of a character.
    Bytes(Vec<u8>),
}

/// Tokens in the form of vLLM.
#[derive(Serialize, JsonSchema)]
struct PromptTokens {
    /// How many there are.
    count: usize,
    /// The longest text that the model reads: null, as its memory has a constant size.
    max_model_len: Option<usize>,
    /// Their numbers in the vocabulary.
    tokens: Vec<u32>,
    /// Their texts; null where they were not asked for.
    token_strs: Option<Vec<String>>,
}

/// The model whose tokeniser is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The name of the model, where there are several.
    model: Option<String>,
}

/// A model's tokeniser, by the names of `tokenizer_config.json`.
#[derive(Serialize, JsonSchema)]
struct TokenizerInfo {
    /// The class that reads it in `transformers`.
    tokenizer_class: &'static str,
    /// How texts are parted.
    kind: &'static str,
    /// How many tokens there are.
    vocab_size: usize,
    /// The hash of the tokeniser.
    hash: String,
    /// The token that begins a text, if the chat template names one.
    bos_token: Option<String>,
    /// The token that ends a text.
    eos_token: Option<String>,
    /// The token that fills a batch.
    pad_token: Option<String>,
    /// The token of what is not known.
    unk_token: Option<String>,
    /// The special tokens and their numbers.
    special_tokens: BTreeMap<String, u32>,
    /// The Jinja source of the chat template.
    chat_template: String,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let tokenize = Operation::post("tokenize", "A text as tokens.");
    let info = Operation::get("getTokenizerInfo", "A model's tokeniser and chat template.")
        .with_query::<Asked>();
    vec![
        Endpoint::at("/tokenize").on(tokenize.takes::<Request>().gives::<Tokens>(), create),
        Endpoint::at("/tokenizer_info").on(info.gives::<TokenizerInfo>(), show),
    ]
}

async fn create(
    State(app): State<App>,
    JsonBody(request): JsonBody<Request>,
) -> Result<Response, ApiError> {
    let language = app.models()?.language_or_only(request.model.as_deref())?.clone();
    // A long text takes its time, and so do its tokens as JSON.
    blocking(move || Ok(json_body(&tokens(&language, request)?))).await
}

fn tokens(language: &Language, request: Request) -> Result<Tokens, ApiError> {
    let tokenizer = language.engine().tokenizer();
    let encode = |text: &str| match request.parse_special {
        Some(true) => tokenizer.encode_with_special_tokens(text).map(|encoding| encoding.ids),
        _ => tokenizer.encode(text),
    };
    let (content, prompt, messages) = (request.content, request.prompt, request.messages);
    let ids = match (content, prompt, messages) {
        (Some(content), None, None) => {
            let with_pieces = request.with_pieces == Some(true);
            let token = |id| match with_pieces {
                true => TokenOrPiece::Piece(TokenPiece { id, piece: piece(tokenizer, id) }),
                false => TokenOrPiece::Token(id),
            };
            let tokens = encode(&content)?.into_iter().map(token).collect();
            return Ok(Tokens::Content(ContentTokens { tokens }));
        }
        (None, Some(prompt), None) => match named(tokenizer, &prompt) {
            Some(id) => vec![id],
            None => encode(&prompt)?,
        },
        (None, None, Some(messages)) => {
            let messages: Vec<Message> = messages.into_iter().map(Message::from).collect();
            whole(language, &messages)?
        }
        _ => {
            let message = "give one of `content`, `prompt` and `messages`";
            return Err(ApiError::invalid("prompt", message));
        }
    };
    let strs = request.return_token_strs == Some(true);
    let token_strs = strs.then(|| ids.iter().map(|&id| tokenizer.label(id)).collect());
    let (count, max_model_len) = (ids.len(), None);
    Ok(Tokens::Prompt(PromptTokens { count, max_model_len, tokens: ids, token_strs }))
}

/// The special token whose name the whole text is, or the mark that `/tokenizer_info` tells by that
/// name. Within a text a name stays text.
fn named(tokenizer: &Tokenizer, text: &str) -> Option<u32> {
    let marks = [tokenizer.document_end_id(), tokenizer.padding_id(), tokenizer.unknown_id()];
    let has_name = |id: &u32| tokenizer.token(*id) == Some(text);
    tokenizer.special_tokens().id(text).or_else(|| marks.into_iter().flatten().find(has_name))
}

fn piece(tokenizer: &Tokenizer, id: u32) -> TextOrBytes {
    match tokenizer.token_bytes(id) {
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) => TextOrBytes::Text(text),
            Err(error) => TextOrBytes::Bytes(error.into_bytes()),
        },
        None => TextOrBytes::Text(tokenizer.label(id)),
    }
}

async fn show(
    State(app): State<App>,
    Queried(Asked { model }): Queried<Asked>,
) -> Result<Response, ApiError> {
    let language = app.models()?.language_or_only(model.as_deref())?;
    let tokenizer = language.engine().tokenizer();
    let named = |name: &str| language.template.tokens().get(name).cloned();
    let text = |id: Option<u32>| Some(tokenizer.token(id?)?.to_owned());
    Ok(json_body(&TokenizerInfo {
        tokenizer_class: "PreTrainedTokenizerFast",
        kind: tokenizer.kind().name(),
        vocab_size: tokenizer.vocab_size(),
        hash: tokenizer.hash().to_owned(),
        bos_token: named("bos_token"),
        eos_token: text(tokenizer.document_end_id()).or_else(|| named("eos_token")),
        pad_token: text(tokenizer.padding_id()),
        unk_token: text(tokenizer.unknown_id()),
        special_tokens: tokenizer
            .special_tokens()
            .iter()
            .map(|(name, id)| (name.to_owned(), id))
            .collect(),
        chat_template: language.template.source().to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use longhand_text::{Tokenizer, TokenizerKind};
    use serde_json::json;

    use super::named;
    use crate::testing::Server;

    #[test]
    fn the_name_of_a_token_without_text_is_that_token_if_it_stands_alone() {
        let text = "One day a dog ran home. ".repeat(8);
        let bpe = |text: &str| {
            let texts = std::iter::once(Ok(text.to_owned()));
            Tokenizer::train(TokenizerKind::Bpe, Some(300), texts, &mut |_| {}).unwrap()
        };
        // The mark between documents is none of the special tokens.
        let tokenizer = bpe(&text).with_special_tokens(&["<|end|>"]).unwrap();
        assert_eq!(named(&tokenizer, "<|end|>"), tokenizer.special_tokens().id("<|end|>"));
        assert!(tokenizer.special_tokens().id("<eos>").is_none());
        assert_eq!(named(&tokenizer, "<eos>"), tokenizer.document_end_id());
        assert!(tokenizer.document_end_id().is_some());
        assert_eq!((named(&tokenizer, "a<eos>"), named(&tokenizer, "a")), (None, None));
    }

    #[tokio::test]
    async fn both_forms_have_the_same_tokens_and_lead_back() {
        let server = Server::new();
        let (status, llama) = server.post("/tokenize", json!({"content": "aé"})).await;
        assert_eq!((status, &llama), (200, &json!({"tokens": [97, 195, 169]})));
        let asked = json!({"content": "aé", "with_pieces": true, "add_special": false});
        let (_, pieces) = server.post("/tokenize", asked).await;
        assert_eq!(
            pieces["tokens"],
            json!([{"id": 97, "piece": "a"}, {"id": 195, "piece": [195]}, {"id": 169, "piece": [169]}])
        );
        let asked = json!({"model": "nano", "prompt": "aé", "add_special_tokens": false,
            "return_token_strs": true});
        let (_, vllm) = server.post("/tokenize", asked).await;
        assert_eq!(vllm["count"], 3);
        assert_eq!(vllm["tokens"], llama["tokens"]);
        assert_eq!(vllm["token_strs"], json!(["a", "\\xc3", "\\xa9"]));
        let tokens = &llama["tokens"];
        let (_, back) = server.post("/detokenize", json!({"tokens": tokens})).await;
        assert_eq!(back, json!({"content": "aé", "prompt": "aé"}));
        let (status, body) = server.post("/detokenize", json!({"tokens": [100_000]})).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!("tokens")));
        let both = json!({"content": "a", "prompt": "a"});
        assert_eq!(server.post("/tokenize", both).await.0, 400);
        let messages = json!({"messages": [{"role": "user", "content": "hi"}]});
        let (_, chat) = server.post("/tokenize", messages).await;
        assert_eq!(chat["count"], "User: hi\nAssistant: ".len());
    }

    #[tokio::test]
    async fn the_tokeniser_is_described() {
        let server = Server::new();
        let (status, info) = server.get("/tokenizer_info").await;
        assert_eq!((status, &info["kind"]), (200, &json!("byte")));
        assert!(info["chat_template"].as_str().unwrap().contains("Assistant"));
        assert_eq!(server.get("/tokenizer_info?model=other").await.0, 404);
        assert_eq!(server.get("/tokenizer_info?colour=red").await.0, 400);
    }
}
