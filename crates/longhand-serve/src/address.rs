//! What the address of a request says: the names in its path, and its query.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::body::quoted_behind;
use crate::error::ApiError;
use crate::plain_words::plain;

/// The names in the path, in their order.
pub(crate) struct Named<T>(pub(crate) T);

/// The query behind the path.
pub(crate) struct Queried<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let names = Path::from_request_parts(parts, app).await;
        // A name that could never be is as unknown as any other.
        names.map(|Path(names)| Self(names)).map_err(|_| ApiError::NotFound {
            what: "path",
            name: parts.uri.path().chars().take(200).collect(),
            param: None,
            remedy: ": a name in it is no text in UTF-8",
        })
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Queried<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let query = Query::from_request_parts(parts, app).await;
        query.map(|Query(query)| Self(query)).map_err(|error| refused(&error))
    }
}

/// The refusal of a query that is not usable, by the parameter where it is known.
fn refused(error: &QueryRejection) -> ApiError {
    let text = error.body_text();
    let fault = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    if let Some(name) = named(fault, "unknown field ") {
        let allowed = fault.split_once(", expected ").map_or("none", |(_, allowed)| allowed);
        let message = format!("the path has no parameter `{name}`: it takes {allowed}");
        return ApiError::unsupported(name, message);
    }
    if let Some(name) = named(fault, "duplicate field ") {
        let message = format!("`{name}` is given twice: give it once");
        return ApiError::invalid(name, message);
    }
    // A parameter with a value of another form comes before a colon.
    match fault.split_once(": ") {
        Some((name, what))
            if name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()) =>
        {
            let is_number = ["invalid digit", "number too large", "cannot parse integer"];
            let what = match is_number.iter().any(|words| what.starts_with(words)) {
                true => "expected a whole number, 0 or more".to_owned(),
                false => plain(what),
            };
            ApiError::invalid(name, format!("`{name}` is not usable: {what}"))
        }
        _ => ApiError::invalid("query", format!("the query is not usable: {}", plain(fault))),
    }
}

/// The parameter behind some words, which may come behind its own name.
fn named(fault: &str, words: &str) -> Option<String> {
    quoted_behind(&fault[fault.find(words)?..], words)
}

/// A number of a query that must be from 1 to `most`.
///
/// # Errors
/// [`ApiError::Invalid`] names the parameter.
pub(crate) fn at_most(
    name: &'static str,
    number: Option<usize>,
    most: usize,
) -> Result<Option<usize>, ApiError> {
    match number.filter(|number| !(1..=most).contains(number)) {
        None => Ok(number),
        Some(number) => {
            let message = format!("`{name}` is {number}, but must be from 1 to {most}");
            Err(ApiError::invalid(name, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Server;

    #[tokio::test]
    async fn a_query_is_refused_by_the_parameter_that_is_wrong() {
        let server = Server::new();
        for (query, name, words) in [
            ("colour=red", "colour", "it takes"),
            ("limit=a", "limit", "a whole number"),
            ("limit=", "limit", "a whole number"),
            ("limit=-1", "limit", "a whole number"),
            ("limit=99999999999999999999999", "limit", "a whole number"),
            ("limit=0", "limit", "from 1 to 1000"),
            ("limit=1001", "limit", "from 1 to 1000"),
            ("limit=1&limit=2", "limit", "twice"),
        ] {
            let (status, body) = server.get(&format!("/v1/sessions?{query}")).await;
            assert_eq!((status, &body["error"]["param"]), (400, &json!(name)), "{query}: {body}");
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains(name) && message.contains(words), "{query}: {message}");
        }
        let (status, body) = server.get("/v1/conversations/c/items?order=up").await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!("order")), "{body}");
    }

    #[tokio::test]
    async fn a_path_that_is_no_text_is_unknown() {
        let server = Server::new();
        for path in ["/v1/models/%FF", "/v1/sessions/%C3", "/v1/conversations/a/items/%80"] {
            let (status, body) = server.get(path).await;
            assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")), "{path}");
        }
    }
}
