//! The JSON body of a request: bounded in size and time, and refused by the field that is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, MatchedPath, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::lists::misplaced;
use crate::plain_words::plain;

/// The body of a request as a `T`.
pub(crate) struct JsonBody<T>(pub(crate) T);

/// The body of a request as it came, for what is not JSON.
pub(crate) struct RawBody(pub(crate) Vec<u8>);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        check_media_type(request.headers())?;
        let limits = app.limits();
        let path = request.extensions().get::<MatchedPath>().cloned();
        let method = request.method().as_str().to_lowercase();
        let bytes = read(request.into_body(), limits.body, limits.body_time).await?;
        let path = path.as_ref().map_or("", MatchedPath::as_str);
        let body = &app.document()["paths"][path][method]["requestBody"];
        let schema = &body["content"]["application/json"]["schema"];
        // Objects that hold no list hold none in the wrong place.
        let whole = bytes.contains(&b'[').then(|| serde_json::from_slice(&bytes).ok()).flatten();
        let whole = whole.filter(Value::is_object);
        match whole.and_then(|whole| misplaced(&whole, schema, app.document())) {
            None => parse(&bytes).map(Self),
            Some(path) => {
                let message = format!("`{path}` is not usable: it is a list, expected an object");
                Err(ApiError::invalid(path, message))
            }
        }
    }
}

impl FromRequest<App> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let limits = app.limits();
        read(request.into_body(), limits.snapshot, limits.body_time).await.map(Self)
    }
}

/// Refuses a body that is said to be something else than JSON.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(ApiError::MediaType("nothing".into()));
    };
    let value = value.to_str().unwrap_or("unreadable");
    let media = value.split(';').next().unwrap_or_default().trim();
    let is_json = media.eq_ignore_ascii_case("application/json")
        || (media.starts_with("application/") && media.ends_with("+json"));
    match is_json {
        true => Ok(()),
        false => Err(ApiError::MediaType(media.chars().take(80).collect())),
    }
}

/// Bytes of a body that is too large which are read and dropped, so that its sender comes to read why.
const DROPPED: usize = 64 << 20;

/// Reads a body of at most `limit` bytes within `time`.
pub(crate) async fn read(body: Body, limit: usize, time: Duration) -> Result<Vec<u8>, ApiError> {
    match tokio::time::timeout(time, collect(body, limit)).await {
        Err(_) => Err(ApiError::TooSlow(time.as_secs())),
        Ok(bytes) => bytes,
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut dropped) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("the body broke off ({error}): send it again");
            ApiError::Invalid { message, param: None, code: None }
        })?;
        // What is no data, trailers, says nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if dropped == 0 && bytes.len() + data.len() <= limit {
            bytes.extend_from_slice(&data);
            continue;
        }
        bytes = Vec::new();
        dropped += data.len();
        if dropped > DROPPED {
            break;
        }
    }
    match dropped {
        0 => Ok(bytes),
        _ => Err(ApiError::TooLarge(limit)),
    }
}

/// Reads JSON. An error names the field; one that is not known is named as not supported.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A list would be taken for the fields in their order.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'[') {
        let message = "the body is not usable: it must be an object".to_owned();
        return Err(ApiError::Invalid { message, param: None, code: Some("invalid_value") });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = match serde_path_to_error::deserialize(&mut json) {
        Ok(value) => value,
        Err(error) => {
            let is_form = error.inner().is_data();
            let error = refused(&error.path().to_string(), error.inner());
            return parse_again(bytes, is_form).unwrap_or(Err(error));
        }
    };
    json.end().map_err(|error| refused(".", &error))?;
    Ok(value)
}

/// As [`parse`], with whole numbers that are written as 4.0: JSON Schema takes that for one, as many
/// programs write them. None where that changes nothing, and the fault is in the form of the JSON.
fn parse_again<T: DeserializeOwned>(bytes: &[u8], is_form: bool) -> Option<Result<T, ApiError>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    // Where a word is due and a number comes, the parser of bytes takes it for no JSON at all.
    (make_whole(&mut value) || !is_form).then(|| {
        serde_path_to_error::deserialize(value)
            .map_err(|error| refused(&error.path().to_string(), error.inner()))
    })
}

/// Writes numbers without a fraction as whole ones; says whether there were any.
fn make_whole(value: &mut Value) -> bool {
    let whole = match value {
        Value::Array(items) => return items.iter_mut().fold(false, |any, it| make_whole(it) | any),
        Value::Object(fields) => {
            return fields.values_mut().fold(false, |any, it| make_whole(it) | any);
        }
        Value::Number(number) if number.is_f64() => number.as_f64().and_then(whole),
        _ => None,
    };
    let is_whole = whole.is_some();
    if let Some(whole) = whole {
        *value = whole;
    }
    is_whole
}

/// A number without a fraction that 64 bits hold. The least of them is left out: every whole number
/// below it that was too long to be read as one has become it.
fn whole(number: f64) -> Option<Value> {
    match number.fract() == 0.0 {
        true if (0.0..2f64.powi(64)).contains(&number) => Some(Value::from(number as u64)),
        true if number < 0.0 && number > -2f64.powi(63) => Some(Value::from(number as i64)),
        _ => None,
    }
}

/// The refusal of a body that is no JSON, or of another form.
fn refused(path: &str, error: &serde_json::Error) -> ApiError {
    let text = error.to_string();
    let param = (path != "." && !path.is_empty()).then(|| path.to_owned());
    if !error.is_data() {
        let message = format!("the body is not JSON ({text})");
        return ApiError::Invalid { message, param: None, code: Some("invalid_json") };
    }
    if let Some(field) = quoted_behind(&text, "unknown field ") {
        // The path ends with the field or with what holds it, by where the error was found.
        let param = match param {
            Some(path) if path == field || path.ends_with(&format!(".{field}")) => path,
            Some(path) => format!("{path}.{field}"),
            None => field.clone(),
        };
        return ApiError::unsupported(param, format!("`{field}` is not supported by this server"));
    }
    if let Some(field) = quoted_behind(&text, "missing field ") {
        let param = param.map_or_else(|| field.clone(), |path| format!("{path}.{field}"));
        let message = format!("`{field}` is missing");
        return ApiError::Invalid {
            message,
            param: Some(param),
            code: Some("missing_required_parameter"),
        };
    }
    let place = text.find(" at line ").unwrap_or(text.len());
    let fault = plain(&text[..place]);
    let message = match &param {
        Some(param) => format!("`{param}` is not usable: {fault}"),
        None => format!("the body is not usable: {fault}"),
    };
    ApiError::Invalid { message, param, code: Some("invalid_value") }
}

/// The text between backticks behind some words.
pub(crate) fn quoted_behind(text: &str, words: &str) -> Option<String> {
    let quoted = text.strip_prefix(words)?.strip_prefix('`')?;
    // A name may hold backticks of its own; the message goes on behind the last that fits.
    let end = quoted.find("`, expected").or_else(|| quoted.rfind('`'))?;
    Some(quoted[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code)]
        model: String,
        inner: Option<Inner>,
        #[expect(dead_code)]
        order: Option<Order>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Order {
        Asc,
        Desc,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        count: u32,
    }

    #[derive(Debug, Deserialize)]
    struct Seeded {
        seed: i64,
    }

    fn param(json: &str) -> (Option<String>, String) {
        match parse::<Outer>(json.as_bytes()) {
            Err(ApiError::Invalid { param, message, .. }) => (param, message),
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (json, count) in [("3.0", 3), ("0.0", 0), ("4e2", 400), ("-0.0", 0)] {
            let json = format!(r#"{{"model": "m", "inner": {{"count": {json}}}}}"#);
            assert_eq!(parse::<Outer>(json.as_bytes()).unwrap().inner.unwrap().count, count);
        }
        for json in ["3.5", "-1.0", "4294967296.0", "1e300", "18446744073709551616.0"] {
            let (name, _) = param(&format!(r#"{{"model": "m", "inner": {{"count": {json}}}}}"#));
            assert_eq!(name.as_deref(), Some("inner.count"), "{json}");
        }
        // What is too long for 64 bits is not taken for the nearest number.
        for json in ["-9223372036854775809", "9223372036854775808", "-1e40"] {
            let found = parse::<Seeded>(format!(r#"{{"seed": {json}}}"#).as_bytes());
            assert!(matches!(found, Err(ApiError::Invalid { .. })), "{json}");
        }
        let least = parse::<Seeded>(br#"{"seed": -9223372036854775808}"#).unwrap();
        assert_eq!(least.seed, i64::MIN);
    }

    #[test]
    fn a_field_that_is_wrong_is_named_by_its_path() {
        for (json, name, words) in [
            (r#"{"model": "m", "tools": []}"#, Some("tools"), "`tools` is not supported"),
            (r#"{"inner": {}, "model": "m"}"#, Some("inner.count"), "`count` is missing"),
            (r#"{"model": "m", "inner": {"x": 1}}"#, Some("inner.x"), "`x` is not supported"),
            (r#"{"model": "m", "inner": {"count": "a"}}"#, Some("inner.count"), "not usable"),
            (r#"{"model": "m", "inner": {"count": -1}}"#, Some("inner.count"), "not usable"),
            (r#"{"inner": null}"#, Some("model"), "`model` is missing"),
            (r#"{"model": "m", "order": 3}"#, Some("order"), "expected a text"),
            (r#"{"model": "m", "order": [null]}"#, Some("order"), "expected a text"),
            (r#"{"model": "m", "order": "x"}"#, Some("order"), "`asc`"),
            ("{", None, "is not JSON"),
            ("", None, "is not JSON"),
            (r#"{"model": "m"} x"#, None, "is not JSON"),
            ("[]", None, "is not usable"),
        ] {
            let (found, message) = param(json);
            assert_eq!(found.as_deref(), name, "{json}: {message}");
            assert!(message.contains(words), "{json}: {message}");
        }
    }
}
