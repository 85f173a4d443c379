//! What an answer must look like: any text, JSON, or what a grammar allows.

use std::sync::Arc;

use longhand_engine::{Rules, RulesError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::generation::blocking;

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ResponseFormat {
    /// Any text, of whatever form.
    Text {},
    /// Any JSON object, with any keys.
    JsonObject {},
    /// JSON that a schema describes.
    JsonSchema {
        /// The schema and its name.
        json_schema: NamedSchema,
    },
    /// A text that a regular expression matches as a whole.
    Regex {
        /// The expression, in the syntax of Rust's `regex`.
        regex: String,
    },
    /// A text of a grammar.
    Grammar {
        /// The grammar, in llguidance's variant of Lark.
        grammar: String,
    },
}

/// A JSON schema and its name.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedSchema {
    /// A name of the client's own.
    pub(crate) name: String,
    /// What it is for; nothing is done with it.
    pub(crate) description: Option<String>,
    /// The schema (default: any JSON).
    pub(crate) schema: Option<Value>,
    /// Both values are the same: what is written always matches.
    pub(crate) strict: Option<bool>,
}

/// The form of a response's text: as [`ResponseFormat`], with the schema's name beside it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum TextFormat {
    /// Any text, of whatever form.
    Text {},
    /// Any JSON object, with any keys.
    JsonObject {},
    /// JSON that a schema describes.
    JsonSchema {
        /// A name of the client's own.
        name: String,
        /// What it is for; nothing is done with it.
        description: Option<String>,
        /// The JSON schema that it must match.
        schema: Value,
        /// Both values are the same: what is written always matches.
        strict: Option<bool>,
    },
    /// A text that a regular expression matches as a whole.
    Regex {
        /// The expression, in the syntax of Rust's `regex`.
        regex: String,
    },
    /// A text of a grammar.
    Grammar {
        /// The grammar, in llguidance's variant of Lark.
        grammar: String,
    },
}

impl TextFormat {
    /// The form as a response tells it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Text {} => json!({"type": "text"}),
            Self::JsonObject {} => json!({"type": "json_object"}),
            Self::JsonSchema { name, description, schema, strict } => json!({
                "type": "json_schema", "name": name, "description": description,
                "schema": schema, "strict": strict.unwrap_or(false),
            }),
            Self::Regex { regex } => json!({"type": "regex", "regex": regex}),
            Self::Grammar { grammar } => json!({"type": "grammar", "grammar": grammar}),
        }
    }
}

impl From<TextFormat> for ResponseFormat {
    fn from(format: TextFormat) -> Self {
        match format {
            TextFormat::Text {} => Self::Text {},
            TextFormat::JsonObject {} => Self::JsonObject {},
            TextFormat::JsonSchema { name, description, schema, strict } => {
                let schema = Some(schema);
                Self::JsonSchema { json_schema: NamedSchema { name, description, schema, strict } }
            }
            TextFormat::Regex { regex } => Self::Regex { regex },
            TextFormat::Grammar { grammar } => Self::Grammar { grammar },
        }
    }
}

/// What keeps to a form while the model writes; none where any text will do.
///
/// # Errors
/// [`ApiError::Invalid`] for a form that is not supported or matches nothing.
pub(crate) async fn rules(
    param: &'static str,
    format: Option<ResponseFormat>,
) -> Result<Option<Arc<Rules>>, ApiError> {
    let made: Box<dyn FnOnce() -> Result<Rules, RulesError> + Send> = match format {
        None | Some(ResponseFormat::Text {}) => return Ok(None),
        Some(ResponseFormat::JsonObject {}) => Box::new(Rules::json_object),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            let schema = json_schema.schema.unwrap_or_else(|| json!({}));
            Box::new(move || Rules::json_schema(&schema.to_string()))
        }
        Some(ResponseFormat::Regex { regex }) => Box::new(move || Rules::regex(&regex)),
        Some(ResponseFormat::Grammar { grammar }) => Box::new(move || Rules::lark(&grammar)),
    };
    // A large schema takes a while.
    let refused = move |error: RulesError| ApiError::invalid(param, error.to_string());
    blocking(move || made().map(|rules| Some(Arc::new(rules))).map_err(refused)).await
}
