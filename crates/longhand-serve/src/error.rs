//! Why a request is refused, in the forms that clients of other servers know.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// Milliseconds to wait before the next attempt; the OpenAI clients read it before `Retry-After`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// Why a request was refused. The text is one sentence for whoever wrote the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A field has a value that cannot be used, or is not supported.
    #[error("{message}")]
    Invalid {
        /// What is wrong, and what is allowed.
        message: String,
        /// The field, as a path from the body's root; none where it is the whole body.
        param: Option<String>,
        /// A word for programs, such as `unsupported_parameter`.
        code: Option<&'static str>,
    },
    /// A request without a key, or with one that the server does not know.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// Nothing has this name, or it is another key's.
    #[error("there is no {what} `{name}`{remedy}")]
    NotFound {
        /// The kind of thing, such as `model`.
        what: &'static str,
        /// The name that was given.
        name: String,
        /// The field that named it.
        param: Option<&'static str>,
        /// What to do about it, beginning with a colon; may be empty.
        remedy: &'static str,
    },
    /// The path has other methods.
    #[error("{path} is not asked by {method}: use {allow}")]
    Method {
        /// The method of the request.
        method: String,
        /// The path of the request.
        path: String,
        /// The methods that there are, with commas between them.
        allow: String,
    },
    /// The body took too long to come.
    #[error("the body did not come within {0} seconds: send it faster")]
    TooSlow(u64),
    /// A conflict with what is going on or is there already.
    #[error("{0}")]
    Conflict(String),
    /// The body has more bytes than are taken.
    #[error("the body has more than {0} bytes: send less, or raise the server's --max-body")]
    TooLarge(usize),
    /// The body is said to be something other than JSON.
    #[error("the body must be application/json, not {0}: set the header Content-Type")]
    MediaType(String),
    /// A key asked for more than it may.
    #[error("{what}: ask again in {} s", seconds(*retry))]
    Limited {
        /// The limit that was reached.
        what: String,
        /// When something is free again.
        retry: Duration,
    },
    /// A key keeps as much as it may.
    #[error("{0}")]
    Quota(String),
    /// A server without keys was asked by a name that is not this machine's.
    #[error(
        "a server without keys is asked by its address or as localhost: use that, have a proxy send \
         that as the header Host, or start the server with --api-key-file"
    )]
    ForeignHost,
    /// The server has no room for the request now.
    #[error("{what}: ask again in {} s", seconds(*retry))]
    Busy {
        /// What there is no room for.
        what: String,
        /// When to ask again.
        retry: Duration,
    },
    /// The store of the sessions does not answer as it should.
    #[error("{what}: ask again in {} s", seconds(*retry))]
    StorageUnavailable {
        /// What the store says.
        what: String,
        /// When to ask again.
        retry: Duration,
    },
    /// The models are being read.
    #[error("Loading model")]
    Loading,
    /// The answer took longer than it may.
    #[error("the answer took longer than the server allows: ask for fewer tokens")]
    Overdue,
    /// The server writes its sessions and ends.
    #[error("the server is shutting down: ask another one, or ask again later")]
    ShuttingDown,
    /// The answer was broken off because the server ends.
    #[error(
        "the answer was broken off, because the server is shutting down: ask another one, or ask again \
         later; a session keeps what was written"
    )]
    BrokenOff,
    /// A session cannot be written because there is no room for it.
    #[error("{0}")]
    Storage(String),
    /// A fault of the server.
    #[error("{0}")]
    Internal(String),
}

/// The body of a refusal in the form of OpenAI.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ErrorBody {
    /// What is wrong with the request.
    error: ErrorDetail,
}

/// What is wrong with a request.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ErrorDetail {
    /// One sentence for people.
    message: String,
    /// The kind of fault.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field that is at fault; null where it is none.
    param: Option<String>,
    /// A word or a status for programs; null where there is none.
    code: Option<&'static str>,
}

/// The body of a refusal in the form of Anthropic.
#[derive(Serialize, JsonSchema)]
pub(crate) struct MessagesError {
    /// Always the word `error`.
    #[serde(rename = "type")]
    form: &'static str,
    /// What is wrong with the request.
    error: MessagesErrorDetail,
}

/// What is wrong with a request, in the form of Anthropic.
#[derive(Serialize, JsonSchema)]
pub(crate) struct MessagesErrorDetail {
    /// The kind of fault.
    #[serde(rename = "type")]
    kind: &'static str,
    /// One sentence for people.
    message: String,
}

impl ApiError {
    /// A field with a value that cannot be used.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), param: Some(param.into()), code: None }
    }

    /// A field, or a value of it, that this server does not support.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        let (message, param) = (message.into(), Some(param.into()));
        Self::Invalid { message, param, code: Some("unsupported_parameter") }
    }

    /// A fault of the server that a person should look into.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string())
    }

    /// A model whose thread has ended, which only a fault of the program can cause.
    pub(crate) fn model_ended(name: &str) -> Self {
        Self::Internal(format!("the model `{name}` no longer answers: restart the server"))
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Limited { .. } | Self::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::Busy { .. }
            | Self::StorageUnavailable { .. }
            | Self::Loading
            | Self::ShuttingDown
            | Self::BrokenOff => StatusCode::SERVICE_UNAVAILABLE,
            Self::Overdue => StatusCode::GATEWAY_TIMEOUT,
            Self::Storage(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The kind of fault as OpenAI's clients know it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "authentication_error",
            Self::ForeignHost => "permission_error",
            Self::Limited { .. } => "rate_limit_error",
            Self::Quota(_) => "insufficient_quota",
            Self::Busy { .. }
            | Self::StorageUnavailable { .. }
            | Self::Loading
            | Self::ShuttingDown
            | Self::BrokenOff => "unavailable_error",
            Self::Overdue | Self::Storage(_) | Self::Internal(_) => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The kind of fault as Anthropic's clients know it.
    fn messages_kind(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "authentication_error",
            Self::NotFound { .. } => "not_found_error",
            Self::TooLarge(_) => "request_too_large",
            Self::ForeignHost => "permission_error",
            Self::Limited { .. } | Self::Quota(_) => "rate_limit_error",
            Self::Busy { .. } | Self::Loading | Self::ShuttingDown | Self::BrokenOff => {
                "overloaded_error"
            }
            Self::StorageUnavailable { .. }
            | Self::Overdue
            | Self::Storage(_)
            | Self::Internal(_) => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// A word for programs, where there is one.
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { code, .. } => *code,
            Self::Unauthorized(_) => Some("invalid_api_key"),
            Self::NotFound { what: "model", .. } => Some("model_not_found"),
            Self::NotFound { .. } => Some("not_found"),
            Self::Method { .. } => Some("method_not_allowed"),
            Self::Limited { .. } => Some("rate_limit_exceeded"),
            Self::Quota(_) => Some("insufficient_quota"),
            Self::ForeignHost => Some("host_not_allowed"),
            Self::Busy { .. } => Some("queue_full"),
            Self::StorageUnavailable { .. } => Some("storage_unavailable"),
            Self::BrokenOff => Some("shutting_down"),
            Self::Overdue => Some("timeout"),
            Self::Storage(_) => Some("insufficient_storage"),
            _ => None,
        }
    }

    /// The body in the form of OpenAI.
    pub(crate) fn body(&self) -> ErrorBody {
        let param = match self {
            Self::Invalid { param, .. } => param.clone(),
            Self::NotFound { param, .. } => param.map(str::to_owned),
            _ => None,
        };
        let (message, kind, code) = (self.to_string(), self.kind(), self.code());
        ErrorBody { error: ErrorDetail { message, kind, param, code } }
    }

    /// The body in the form of Anthropic.
    pub(crate) fn messages_body(&self) -> MessagesError {
        let error = MessagesErrorDetail { kind: self.messages_kind(), message: self.to_string() };
        MessagesError { form: "error", error }
    }

    /// When to ask again, where waiting helps.
    fn retry(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry, .. }
            | Self::Busy { retry, .. }
            | Self::StorageUnavailable { retry, .. } => Some(*retry),
            Self::Loading => Some(Duration::from_secs(1)),
            Self::ShuttingDown | Self::BrokenOff => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}

/// Whole seconds, at least one.
fn seconds(retry: Duration) -> u64 {
    retry.as_millis().div_ceil(1000).max(1) as u64
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), json_body(&self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(retry) = self.retry() {
            headers.insert(header::RETRY_AFTER, seconds(retry).into());
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(retry.as_millis().max(1) as u64));
        }
        if let Self::Method { allow, .. } = &self
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, allow);
        }
        if let Self::Unauthorized(_) = &self {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::Internal(what) | Self::StorageUnavailable { what, .. } = &self {
            tracing::error!(what, "a request failed");
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// The JSON body of an answer.
pub(crate) fn json_body(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            // The message is not part of the answer: it may quote what the model wrote.
            tracing::error!(%error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Puts a refusal into the form of Anthropic, for the paths of its clients.
pub(crate) async fn in_messages_form(mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let (mut parts, _) = response.into_parts();
    let body = json_body(&error.messages_body());
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body.into_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_passes_says_when_to_ask_again() {
        let busy =
            ApiError::Busy { what: "the queue is full".into(), retry: Duration::from_millis(1200) };
        let response = busy.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["retry-after-ms"], "1200");
    }

    #[test]
    fn each_refusal_has_both_forms() {
        let error = ApiError::unsupported("tools", "`tools` is not supported");
        let body = serde_json::to_value(error.body()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"error": {
                "message": "`tools` is not supported", "type": "invalid_request_error",
                "param": "tools", "code": "unsupported_parameter",
            }})
        );
        let body = serde_json::to_value(error.messages_body()).unwrap();
        assert_eq!(body["type"], "error");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
}
