//! What the layers below refuse, as a client is told it.

use std::time::Duration;

use longhand_engine::EngineError;
use longhand_sessions::{JobError, SealError, SessionError};
use longhand_tasks::TaskError;
use longhand_text::TextError;
use longhand_text::chat::ChatFault;

use crate::error::ApiError;

/// How long to wait where a store is at fault.
const LATER: Duration = Duration::from_secs(1);

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let message = error.to_string();
        match error {
            JobError::Busy { wait } => {
                Self::Busy { what: "the queue of requests is full".into(), retry: wait }
            }
            JobError::Memory { wait } => {
                let what = "the states of waiting requests fill the memory for states";
                Self::Busy { what: what.into(), retry: wait }
            }
            JobError::Draining => Self::ShuttingDown,
            JobError::Deadline => Self::Overdue,
            JobError::Setting { name, value, .. } => of_setting(name, &value, message),
            JobError::NothingToRead => Self::Invalid { message, param: None, code: None },
            JobError::Session(error) => error.into(),
            JobError::Seal(error) => error.into(),
            JobError::Engine(error) => error.into(),
            _ => Self::Internal(message),
        }
    }
}

/// A setting that a host refuses, by the field that has it.
fn of_setting(name: &'static str, value: &str, message: String) -> ApiError {
    match name {
        "the number of texts" => ApiError::invalid(
            "n",
            format!(
                "`n` or `best_of` asks for {value} texts, more than this server writes side by side: \
                 ask for fewer, or start it with a higher --capacity"
            ),
        ),
        "the presence penalty" => ApiError::invalid("presence_penalty", message),
        "the frequency penalty" => ApiError::invalid("frequency_penalty", message),
        "a logit's bias" => ApiError::invalid("logit_bias", message),
        "the stop text" => ApiError::invalid("stop", message),
        _ => ApiError::Invalid { message, param: None, code: None },
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::Name { .. } => Self::invalid("session_id", message),
            SessionError::NotFound { name } => Self::NotFound {
                what: "session",
                name: name.to_string(),
                param: Some("session_id"),
                remedy: "",
            },
            SessionError::Exists { .. }
            | SessionError::InUse { .. }
            | SessionError::LeaseLost { .. }
            | SessionError::OtherModel { .. } => Self::Conflict(message),
            SessionError::NoCheckpoint { position, .. } => Self::NotFound {
                what: "checkpoint",
                name: position.to_string(),
                param: Some("position"),
                remedy: ": GET /v1/sessions/NAME lists those that there are",
            },
            SessionError::Quota { what, .. } => Self::Quota(format!(
                "{message} with DELETE /v1/sessions/NAME, or have the limit raised: {what} of the \
                 key in the file of keys, or --{what}-per-key for all"
            )),
            SessionError::Full { .. } => Self::Storage(message),
            SessionError::Memory { .. } => Self::Storage(format!(
                "{message} with DELETE /v1/sessions/NAME, or start the server with more --memory, or \
                 with --sessions, which keeps them on disk"
            )),
            SessionError::Snapshot(_) | SessionError::Note | SessionError::Altered => {
                Self::invalid("snapshot", message)
            }
            SessionError::TooLarge { limit, .. } => Self::TooLarge(limit as usize),
            SessionError::Setting { .. } => Self::Invalid { message, param: None, code: None },
            SessionError::Storage { .. } => {
                Self::StorageUnavailable { what: message, retry: LATER }
            }
            _ => Self::Internal(message),
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        let message = error.to_string();
        match error {
            SealError::Keys(_) => Self::Internal(message),
            SealError::NoKeys => Self::unsupported(
                "return_state",
                "`return_state` needs a server with a key that seals states: start it with \
                 --sealing-key-file",
            ),
            _ => Self::invalid("state", message),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Text(error) => error.into(),
            EngineError::Chat(error) => error.into(),
            EngineError::Rules(_) => Self::invalid("response_format", message),
            EngineError::Option { .. }
            | EngineError::Model(_)
            | EngineError::NothingRead
            | EngineError::NotNetwork => Self::Invalid { message, param: None, code: None },
            _ => Self::Internal(message),
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        Self::Invalid { message: error.to_string(), param: None, code: Some("invalid_text") }
    }
}

impl From<ChatFault> for ApiError {
    fn from(error: ChatFault) -> Self {
        Self::invalid("messages", error.to_string())
    }
}

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        match error {
            TaskError::NotFinite { .. } => Self::Internal(message),
            _ => Self::Invalid { message, param: None, code: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::metrics::Rejection;

    #[test]
    fn a_fault_of_the_store_is_no_full_queue() {
        let fault = || SessionError::Storage { what: "it is away".into() };
        for error in [ApiError::from(fault()), ApiError::from(JobError::from(fault()))] {
            assert_eq!(Rejection::of(&error), Some(Rejection::StorageUnavailable));
            assert!(error.to_string().contains("it is away"), "{error}");
            let body = serde_json::to_value(error.body()).unwrap();
            assert_eq!(body["error"]["code"], "storage_unavailable");
            let response = error.into_response();
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "1");
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_the_flag() {
        let quota = SessionError::Quota { what: "sessions", limit: 1 };
        let memory = SessionError::Memory { limit: 1 };
        let texts = JobError::Setting {
            name: "the number of texts",
            value: "2".into(),
            allowed: "from 1 to the streams of the host",
        };
        for (error, words) in [
            (ApiError::from(quota), ["DELETE", "--sessions-per-key"]),
            (ApiError::from(memory), ["--memory", "--sessions"]),
            (ApiError::from(texts), ["`n`", "--capacity"]),
            (ApiError::from(SealError::NoKeys), ["`return_state`", "--sealing-key-file"]),
        ] {
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(!text.contains("ask again"), "{text}");
        }
    }
}
