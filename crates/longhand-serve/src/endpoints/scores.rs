//! `POST /score` and `POST /rerank`, in vLLM's form: how well texts go together, by a language model.
//!
//! The score of a text behind another is the geometric mean of its tokens' probabilities, between
//! 0 and 1. A document's relevance is the score of the query behind it: the query likelihood of
//! Ponte and Croft, 1998.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use longhand_sessions::{Job, Score, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::generation::{Running, blocking};
use crate::ids::{random_id, unix_time};
use crate::models::Language;
use crate::sampling::{Texts, filled_texts};
use crate::usage::ReadUsage;

/// The most texts of one request.
const MOST_TEXTS: usize = 1024;

/// Texts to score behind others.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScoreRequest {
    /// The name of a language model.
    model: String,
    /// A text, or as many as `text_2` has.
    #[schemars(schema_with = "filled_texts")]
    text_1: Texts,
    /// The text that follows, or several choices of it.
    #[schemars(schema_with = "filled_texts")]
    text_2: Texts,
}

/// The answer: scores of texts.
#[derive(Serialize, JsonSchema)]
struct Scores {
    /// A name that no other answer has.
    id: String,
    /// Always the word `list`, as OpenAI has it.
    object: &'static str,
    /// When the answer was made, in seconds since 1970.
    created: u64,
    /// The name of the model.
    model: String,
    /// One for each text of `text_2`, in their order.
    data: Vec<ScoreObject>,
    /// The tokens that were read.
    usage: ReadUsage,
}

/// The score of a text.
#[derive(Serialize, JsonSchema)]
struct ScoreObject {
    /// The place of the text.
    index: usize,
    /// Always the word `score`.
    object: &'static str,
    /// The geometric mean of the probabilities of its tokens.
    score: f64,
    /// The natural logarithm of the probability of the whole text.
    log_probability: f64,
    /// How many tokens it has.
    tokens: usize,
}

/// Documents to put into an order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RerankRequest {
    /// The name of a language model.
    model: String,
    /// What is looked for.
    #[schemars(length(min = 1))]
    query: String,
    /// The texts to put into an order.
    #[schemars(length(min = 1, max = 1024), inner(length(min = 1)))]
    documents: Vec<String>,
    /// How many are given (default: all).
    top_n: Option<usize>,
    /// Whether the texts are given too (default: true).
    return_documents: Option<bool>,
}

/// Documents in their order.
#[derive(Serialize, JsonSchema)]
struct Ranking {
    /// A name that no other answer has.
    id: String,
    /// The name of the model.
    model: String,
    /// The most relevant document first.
    results: Vec<RankedDocument>,
    /// The tokens that were read.
    usage: ReadUsage,
}

/// A document of a ranking.
#[derive(Serialize, JsonSchema)]
struct RankedDocument {
    /// The place of the document in the request.
    index: usize,
    /// The text of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentText>,
    /// The geometric mean of the probabilities of the query's tokens behind it.
    relevance_score: f64,
}

/// The text of a document.
#[derive(Serialize, JsonSchema)]
struct DocumentText {
    /// The text itself, as a whole.
    text: String,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let score = || Operation::post("score", "How probable texts are behind others.");
    let rerank = || Operation::post("rerank", "Documents in the order of their relevance.");
    let versioned = |operation: Operation, id| Operation { id, ..operation };
    vec![
        Endpoint::at("/score").on(score().takes::<ScoreRequest>().gives::<Scores>(), create_scores),
        Endpoint::at("/v1/score").on(
            versioned(score(), "scoreV1").takes::<ScoreRequest>().gives::<Scores>(),
            create_scores,
        ),
        Endpoint::at("/rerank")
            .on(rerank().takes::<RerankRequest>().gives::<Ranking>(), create_ranking),
        Endpoint::at("/v1/rerank").on(
            versioned(rerank(), "rerankV1").takes::<RerankRequest>().gives::<Ranking>(),
            create_ranking,
        ),
    ]
}

/// Σ ln p and the number of tokens of each continuation.
struct Scored {
    scores: Vec<(f64, usize)>,
    read: u64,
}

/// Scores texts behind a prompt, until the time of their request is over.
async fn score(
    app: &App,
    caller: &Caller,
    language: &Arc<Language>,
    prompt: Vec<u32>,
    continuations: Vec<Vec<u32>>,
    deadline: Instant,
) -> Result<Scored, ApiError> {
    let counts: u64 = continuations.iter().map(|ids| ids.len() as u64).sum();
    let work = Work::Score(Score { continuations, top: 0 });
    let job = Job { deadline: Some(deadline), ..Job::new(caller.owner.clone(), prompt, work) };
    let answered = Running::start(app, caller, language, job).await?.finish().await?;
    let sum = |scores: &Vec<longhand_sessions::TokenScore>| {
        let each = scores.iter().filter_map(|score| score.log_probability);
        (each.map(f64::from).sum(), scores.len())
    };
    let scores = answered.scores.iter().map(sum).collect();
    Ok(Scored { scores, read: answered.outcome.usage.prompt + counts })
}

fn geometric_mean((sum, tokens): (f64, usize)) -> f64 {
    (sum / tokens.max(1) as f64).exp()
}

fn encode(language: &Language, field: &str, text: &str) -> Result<Vec<u32>, ApiError> {
    let ids = language.engine().tokenizer().encode(text)?;
    match ids.is_empty() {
        true => Err(ApiError::invalid(field, format!("a text of `{field}` is empty"))),
        false => Ok(ids),
    }
}

fn encode_all(
    language: &Language,
    field: &str,
    texts: &[String],
) -> Result<Vec<Vec<u32>>, ApiError> {
    texts.iter().map(|text| encode(language, field, text)).collect()
}

fn check_count(field: &str, count: usize) -> Result<(), ApiError> {
    match (1..=MOST_TEXTS).contains(&count) {
        true => Ok(()),
        false => {
            let message = format!("`{field}` has {count} texts, but must have 1 to {MOST_TEXTS}");
            Err(ApiError::invalid(field, message))
        }
    }
}

async fn create_scores(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<ScoreRequest>,
) -> Result<Response, ApiError> {
    let language = app.models_for_work()?.language(&request.model)?.clone();
    let deadline = app.deadline();
    let (first, second) = (request.text_1.into_vec(), request.text_2.into_vec());
    check_count("text_2", second.len())?;
    if first.len() != 1 && first.len() != second.len() {
        let message = "`text_1` must be one text, or as many as `text_2` has";
        return Err(ApiError::invalid("text_1", message));
    }
    let encoder = language.clone();
    // Long texts take their time.
    let encoded = blocking(move || {
        let prompts = encode_all(&encoder, "text_1", &first)?;
        Ok((prompts, encode_all(&encoder, "text_2", &second)?))
    });
    let (prompts, texts) = encoded.await?;
    // One prompt is read once for all of its choices.
    let groups: Vec<(Vec<u32>, Vec<Vec<u32>>)> = match <[Vec<u32>; 1]>::try_from(prompts) {
        Ok([prompt]) => vec![(prompt, texts)],
        Err(prompts) => prompts.into_iter().zip(texts.into_iter().map(|ids| vec![ids])).collect(),
    };
    let (mut data, mut read) = (Vec::new(), 0);
    for (prompt, texts) in groups {
        let scored = score(&app, &caller, &language, prompt, texts, deadline).await?;
        read += scored.read;
        for (log_probability, tokens) in scored.scores {
            let score = geometric_mean((log_probability, tokens));
            let index = data.len();
            data.push(ScoreObject { index, object: "score", score, log_probability, tokens });
        }
    }
    Ok(json_body(&Scores {
        id: random_id("score-"),
        object: "list",
        created: unix_time(),
        model: language.name.clone(),
        data,
        usage: ReadUsage::of(read),
    }))
}

async fn create_ranking(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<RerankRequest>,
) -> Result<Response, ApiError> {
    let language = app.models_for_work()?.language(&request.model)?.clone();
    let deadline = app.deadline();
    let RerankRequest { query, documents, top_n, return_documents, .. } = request;
    check_count("documents", documents.len())?;
    let encoder = language.clone();
    // Long texts take their time.
    let encoded = blocking(move || {
        let query = encode(&encoder, "query", &query)?;
        let encoded = encode_all(&encoder, "documents", &documents)?;
        Ok((query, encoded, documents))
    });
    let (query, encoded, documents) = encoded.await?;
    let (mut found, mut read) = (Vec::with_capacity(encoded.len()), 0);
    for (index, document) in encoded.into_iter().enumerate() {
        let queries = vec![query.clone()];
        let scored = score(&app, &caller, &language, document, queries, deadline).await?;
        read += scored.read;
        found.push((index, scored.scores.first().copied().map_or(0.0, geometric_mean)));
    }
    // A stable sort: of equals, the first one.
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found.truncate(top_n.unwrap_or(found.len()));
    let text = |index: usize| {
        let text = documents.get(index).cloned().unwrap_or_default();
        (return_documents != Some(false)).then_some(DocumentText { text })
    };
    let results = found.into_iter().map(|(index, relevance_score)| RankedDocument {
        index,
        document: text(index),
        relevance_score,
    });
    Ok(json_body(&Ranking {
        id: random_id("rerank-"),
        model: language.name.clone(),
        results: results.collect(),
        usage: ReadUsage::of(read),
    }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use longhand_engine::score::surprisal;
    use serde_json::json;

    use crate::auth::Keys;
    use crate::error::ApiError;
    use crate::limits::Limits;
    use crate::testing::Server;

    #[tokio::test]
    async fn a_choice_has_the_probability_that_the_engine_computes() {
        let server = Server::new();
        let asked = json!({"model": "nano", "text_1": "one ", "text_2": ["day", "xyzzy"]});
        let (status, body) = server.post("/score", asked).await;
        assert_eq!(status, 200, "{body}");
        let mut reader = server.reader();
        for (place, text) in ["day", "xyzzy"].into_iter().enumerate() {
            let mut session = server.session();
            session.read_text(&mut reader, "one ").unwrap();
            let mut sum = 0.0;
            for id in text.bytes().map(u32::from) {
                sum -= f64::from(surprisal(session.logits(), id));
                session.step(&mut reader, id).unwrap();
            }
            let found = body["data"][place]["log_probability"].as_f64().unwrap();
            assert!((found - sum).abs() < 1e-3 * sum.abs(), "{found} {sum}");
            let score = body["data"][place]["score"].as_f64().unwrap();
            assert!((score - (sum / text.len() as f64).exp()).abs() < 1e-3);
        }
    }

    /// However many texts a request has, it is given up after the time of one request.
    #[tokio::test]
    async fn all_texts_of_a_request_have_one_deadline() {
        let server = Server::new();
        let caller = server.app.keys().caller(None).unwrap();
        let language = server.app.models().unwrap().language("nano").unwrap().clone();
        let score = |deadline| {
            let ids = (vec![1, 2], vec![vec![3]]);
            super::score(&server.app, &caller, &language, ids.0, ids.1, deadline)
        };
        assert_eq!(score(Instant::now()).await.err(), Some(ApiError::Overdue));
        assert!(score(server.app.deadline()).await.is_ok());
        server.app.set_limits(Limits { request_time: Duration::MAX, ..Limits::default() });
        assert!(score(server.app.deadline()).await.is_ok());
        let limits = Limits { request_time: Duration::ZERO, ..Limits::default() };
        let server = Server::with(Keys::none().unwrap(), limits);
        let texts = json!({"model": "nano", "text_1": "a", "text_2": "b"});
        let documents = json!({"model": "nano", "query": "a", "documents": ["b", "c"]});
        for (path, asked) in [("/score", texts), ("/rerank", documents)] {
            let (status, body) = server.post(path, asked).await;
            assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")), "{body}");
        }
    }

    #[tokio::test]
    async fn documents_come_in_the_order_of_their_scores() {
        let server = Server::new();
        let documents = ["aaaa", "the cat sat", "qqqq"];
        let asked = json!({"model": "nano", "query": "cat", "documents": documents, "top_n": 2});
        let (status, body) = server.post("/v1/rerank", asked).await;
        assert_eq!(status, 200, "{body}");
        let results = body["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        let score = |place: usize| results[place]["relevance_score"].as_f64().unwrap();
        assert!(score(0) >= score(1));
        let index = results[0]["index"].as_u64().unwrap() as usize;
        assert_eq!(results[0]["document"]["text"], documents[index]);
        let asked = json!({"model": "nano", "text_1": documents[index], "text_2": "cat"});
        let (_, alone) = server.post("/v1/score", asked).await;
        assert_eq!(alone["data"][0]["score"].as_f64().unwrap(), score(0));
    }
}
