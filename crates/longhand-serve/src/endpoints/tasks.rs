//! `POST /classify`, `/tag`, `/answer`, `/translate` and `/summarize`: models that do a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::endpoint::{Endpoint, Operation};
use crate::error::{ApiError, json_body};
use crate::ids::{random_id, unix_time};
use crate::models::Served;
use crate::sampling::Texts;
use crate::task_worker::{TaskWorker, Terms};

/// The most examples of one request.
const MOST_EXAMPLES: usize = 1024;

/// Texts to name the labels of.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClassifyRequest {
    /// The name of a model that classifies.
    model: String,
    /// A text or a list of texts.
    input: Texts,
    /// For a model of pairs, the second text of each.
    second: Option<Texts>,
}

/// The labels of texts; the form of vLLM, with names beside the numbers.
#[derive(Serialize, JsonSchema)]
struct Classes {
    /// A name that no other answer has.
    id: String,
    /// Always the word `list`, as OpenAI has it.
    object: &'static str,
    /// When the answer was made, in seconds since 1970.
    created: u64,
    /// The name of the model.
    model: String,
    /// One for each text, in their order.
    data: Vec<Class>,
}

/// The label of a text.
#[derive(Serialize, JsonSchema)]
struct Class {
    /// The place of the text.
    index: usize,
    /// The label; null where there is nothing to read, and of a model of several labels.
    label: Option<String>,
    /// The labels, of a model that gives any number of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
    /// The probability of each label, in the order of their names.
    probs: Vec<f64>,
    /// The same by name.
    probabilities: BTreeMap<String, f64>,
    /// How many labels there are.
    num_classes: usize,
}

/// Words that a tagger is to tag.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TagRequest {
    /// The name of a model that tags.
    model: String,
    /// A sentence, parted at white space, or the list of its words.
    #[schemars(schema_with = "words")]
    input: Texts,
}

/// The schema of a sentence, or of words without white space, to which Unicode counts U+0085 and the
/// expressions of a schema do not.
fn words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"type": "string", "pattern": "[^\\s\\u0085]"},
        {"type": "array", "items": {"type": "string", "pattern": "^[^\\s\\u0085]+$"}, "minItems": 1},
    ]})
}

/// The tags of words.
#[derive(Serialize, JsonSchema)]
struct Tags {
    /// The name of the model.
    model: String,
    /// The words that were tagged, in their order.
    words: Vec<String>,
    /// The tag of each word.
    tags: Vec<String>,
    /// The probability of each tag.
    probabilities: Vec<f64>,
    /// Words that together are a name, or another thing that has a type.
    entities: Vec<Entity>,
}

/// Words with a type.
#[derive(Serialize, JsonSchema)]
struct Entity {
    /// The type of the thing.
    #[serde(rename = "type")]
    kind: String,
    /// The first word, counted from 0.
    first: u64,
    /// The last word, counted from 0.
    last: u64,
    /// The words, with spaces between them where the text has some.
    text: String,
}

/// A question about a text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerRequest {
    /// The name of a model that answers questions.
    model: String,
    /// What is asked about the text.
    question: String,
    /// The text that has the answer.
    context: Option<String>,
}

/// The answer to a question.
#[derive(Serialize, JsonSchema)]
struct AnswerFound {
    /// The name of the model.
    model: String,
    /// The answer; empty where there is none.
    answer: String,
    /// Where it begins in the context, in characters; null where it was written.
    start: Option<u64>,
    /// Where it ends in the context, in characters.
    end: Option<u64>,
    /// The probability of the answer; null where it was written.
    probability: Option<f64>,
    /// The probability that there is no answer.
    no_answer: Option<f64>,
    /// The natural logarithm of the probability of an answer that was written.
    log_probability: Option<f64>,
}

/// Texts to write others for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteRequest {
    /// The name of a model that does this.
    model: String,
    /// A text or a list of texts.
    input: Texts,
}

/// Texts that were written.
#[derive(Serialize, JsonSchema)]
struct WrittenTexts {
    /// The name of the model.
    model: String,
    /// One for each text, in their order.
    data: Vec<WrittenText>,
}

/// A text that was written.
#[derive(Serialize, JsonSchema)]
struct WrittenText {
    /// The place of the source.
    index: usize,
    /// The text itself, as a whole.
    text: String,
    /// By which it was chosen: higher is better.
    score: Option<f64>,
    /// The natural logarithm of its probability.
    log_probability: Option<f64>,
    /// Whether the source has tokens that were not read.
    is_cut: bool,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let classify = Operation::post("classify", "The labels of texts.");
    let tag = Operation::post("tag", "The tags of words.");
    let answer = Operation::post("answer", "The answer to a question.");
    let translate = Operation::post("translate", "Texts in another language.");
    let summarize = Operation::post("summarize", "What long texts are about.");
    vec![
        Endpoint::at("/classify")
            .on(classify.takes::<ClassifyRequest>().gives::<Classes>(), create_classes),
        Endpoint::at("/tag").on(tag.takes::<TagRequest>().gives::<Tags>(), create_tags),
        Endpoint::at("/answer")
            .on(answer.takes::<AnswerRequest>().gives::<AnswerFound>(), create_answer),
        Endpoint::at("/translate")
            .on(translate.takes::<WriteRequest>().gives::<WrittenTexts>(), |app, caller, body| {
                create_texts(app, caller, body, "translate", "translation")
            }),
        Endpoint::at("/summarize")
            .on(summarize.takes::<WriteRequest>().gives::<WrittenTexts>(), |app, caller, body| {
                create_texts(app, caller, body, "summarize", "summary")
            }),
    ]
}

/// The model of a task.
fn worker(app: &App, name: &str, kinds: &[&str]) -> Result<Arc<TaskWorker>, ApiError> {
    let served = app.models_for_work()?.get(name)?;
    match served {
        Served::Task(worker) if kinds.contains(&worker.kind()) => Ok(worker.clone()),
        served => {
            let (kind, kinds) = (served.kind(), kinds.join(" or "));
            let message =
                format!("the model `{name}` is of the kind {kind}; this is asked of {kinds}");
            Err(ApiError::unsupported("model", message))
        }
    }
}

/// Until when a request that begins now is answered, and who is charged for it.
fn terms(app: &App, caller: &Caller) -> Terms {
    Terms::of(app.deadline(), &caller.rate, app.metrics())
}

fn examples(texts: Texts) -> Result<Vec<String>, ApiError> {
    let texts = texts.into_vec();
    match texts.len() {
        1..=MOST_EXAMPLES => Ok(texts),
        count => {
            let message = format!("`input` has {count} texts, but must have 1 to {MOST_EXAMPLES}");
            Err(ApiError::invalid("input", message))
        }
    }
}

/// A text on one line without tabs, which would end it.
fn on_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

async fn create_classes(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<ClassifyRequest>,
) -> Result<Response, ApiError> {
    let mut texts: Vec<String> =
        examples(request.input)?.iter().map(|text| on_line(text)).collect();
    if let Some(second) = request.second {
        let second = second.into_vec();
        if second.len() != texts.len() {
            let message = "`second` must have as many texts as `input`";
            return Err(ApiError::invalid("second", message));
        }
        for (text, second) in texts.iter_mut().zip(second) {
            *text = format!("{text}\t{}", on_line(&second));
        }
    }
    let worker = worker(&app, &request.model, &["classify", "multi-label"])?;
    let answers = worker.answer(texts, terms(&app, &caller)).await?;
    let data = answers.into_iter().enumerate().map(|(index, fields)| class(index, &fields));
    Ok(json_body(&Classes {
        id: random_id("classify-"),
        object: "list",
        created: unix_time(),
        model: request.model,
        data: data.collect(),
    }))
}

fn class(index: usize, fields: &Map<String, Value>) -> Class {
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let probabilities: BTreeMap<String, f64> =
        serde_json::from_value(field("probabilities")).unwrap_or_default();
    Class {
        index,
        label: text(fields, "label"),
        labels: serde_json::from_value(field("labels")).ok(),
        probs: probabilities.values().copied().collect(),
        num_classes: probabilities.len(),
        probabilities,
    }
}

async fn create_tags(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<TagRequest>,
) -> Result<Response, ApiError> {
    let words: Vec<String> = match &request.input {
        Texts::One(sentence) => sentence.split_whitespace().map(str::to_owned).collect(),
        Texts::Several(words) => words.clone(),
    };
    let is_word = |word: &String| !word.is_empty() && !word.chars().any(char::is_whitespace);
    if words.is_empty() || !words.iter().all(is_word) {
        let message = "`input` must be a sentence, or a list of words without white space";
        return Err(ApiError::invalid("input", message));
    }
    let worker = worker(&app, &request.model, &["tag"])?;
    let answers = worker.answer(vec![words.join("\n")], terms(&app, &caller)).await?;
    let fields = answers.first().ok_or_else(|| ApiError::internal("there is no answer"))?;
    let list = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let entities: Vec<Map<String, Value>> =
        serde_json::from_value(list("entities")).unwrap_or_default();
    let number = |entity: &Map<String, Value>, name: &str| {
        entity.get(name).and_then(Value::as_u64).unwrap_or_default()
    };
    let entity = |entity: &Map<String, Value>| Entity {
        kind: text(entity, "type").unwrap_or_default(),
        first: number(entity, "first"),
        last: number(entity, "last"),
        text: text(entity, "text").unwrap_or_default(),
    };
    Ok(json_body(&Tags {
        model: request.model,
        words,
        tags: serde_json::from_value(list("tags")).unwrap_or_default(),
        probabilities: serde_json::from_value(list("probabilities")).unwrap_or_default(),
        entities: entities.iter().map(entity).collect(),
    }))
}

async fn create_answer(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<AnswerRequest>,
) -> Result<Response, ApiError> {
    let worker = worker(&app, &request.model, &["span", "answer"])?;
    let unit = match (worker.kind(), &request.context) {
        ("span", Some(context)) => json!({"data": [{"title": "", "paragraphs": [{
            "context": context,
            "qas": [{"id": "0", "question": request.question, "answers": []}],
        }]}]})
        .to_string(),
        ("span", None) => {
            let message = "`context` is missing: the model marks the answer in a text";
            return Err(ApiError::invalid("context", message));
        }
        (_, Some(context)) => format!("{}\t{}", on_line(context), on_line(&request.question)),
        (_, None) => on_line(&request.question),
    };
    let answers = worker.answer(vec![unit], terms(&app, &caller)).await?;
    let fields = answers.first().ok_or_else(|| ApiError::internal("there is no answer"))?;
    Ok(json_body(&AnswerFound {
        model: request.model,
        answer: text(fields, "answer").unwrap_or_default(),
        start: fields.get("start").and_then(Value::as_u64),
        end: fields.get("end").and_then(Value::as_u64),
        probability: number(fields, "probability"),
        no_answer: number(fields, "no_answer"),
        log_probability: number(fields, "log_probability"),
    }))
}

async fn create_texts(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<WriteRequest>,
    kind: &str,
    column: &str,
) -> Result<Response, ApiError> {
    let texts = examples(request.input)?.iter().map(|text| on_line(text)).collect();
    let worker = worker(&app, &request.model, &[kind])?;
    let answers = worker.answer(texts, terms(&app, &caller)).await?;
    let data = answers.iter().enumerate().map(|(index, fields)| WrittenText {
        index,
        text: text(fields, column).unwrap_or_default(),
        score: number(fields, "score"),
        log_probability: number(fields, "log_probability"),
        is_cut: fields.get("is_cut").and_then(Value::as_bool).unwrap_or_default(),
    });
    let data = data.collect();
    Ok(json_body(&WrittenTexts { model: request.model, data }))
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name)?.as_str().map(str::to_owned)
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<f64> {
    fields.get(name)?.as_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use serde_json::json;

    use crate::auth::Keys;
    use crate::limits::Limits;
    use crate::testing::{Server, json as read};

    /// The value of a metric without labels.
    async fn metric(server: &Server, name: &str, key: Option<&str>) -> u64 {
        let response = server.call("GET", "/metrics", None, key).await;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn tokens_of_a_task_are_charged_to_the_key_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let (key, lines) = crate::new_key("alice");
        let (other, more) = crate::new_key("operator");
        fs_err::write(&path, format!("{lines}tokens_per_minute = 10\n{more}")).unwrap();
        let server = Server::classifying(Keys::of_file(&path).unwrap(), Limits::default());
        let asked = json!({"model": "mood", "input": ["she was very glad", "sad then"]});
        let ask = || server.call("POST", "/classify", Some(asked.clone()), Some(&key));
        let (status, body) = read(ask().await).await;
        assert_eq!((status, body["data"].as_array().map(Vec::len)), (200, Some(2)), "{body}");
        let (status, body) = read(ask().await).await;
        assert_eq!((status, &body["error"]["code"]), (429, &json!("rate_limit_exceeded")));
        let key = Some(other.as_str());
        assert!(metric(&server, "longhand_tokens_read_total", key).await >= 25);
        for name in ["longhand_jobs_accepted_total", "longhand_jobs_finished_total"] {
            assert_eq!(metric(&server, name, key).await, 1, "{name}");
        }
        assert_eq!(metric(&server, "longhand_queue_depth", key).await, 0);
    }

    #[tokio::test]
    async fn a_task_has_the_deadline_of_any_request() {
        let limits = Limits { request_time: Duration::ZERO, ..Limits::default() };
        let server = Server::classifying(Keys::none().unwrap(), limits);
        let asked = json!({"model": "mood", "input": "she was glad"});
        let (status, body) = server.post("/classify", asked).await;
        assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")), "{body}");
        for _ in 0..600 {
            if metric(&server, "longhand_jobs_deadline_total", None).await == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the thread has not counted it");
    }
}
