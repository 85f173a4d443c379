//! The OpenAPI 3.2 document, made of the endpoints and of the types that they read and write.
//!
//! Schemas are those of JSON Schema 2020-12, which OpenAPI has used since 3.1. What a type refuses, the
//! document leaves out: every object has `additionalProperties: false`. A stream of events is
//! described by `itemSchema`, which is new in 3.2.

use axum::http::StatusCode;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::endpoint::{Endpoint, Form, Operation, SchemaOf};
use crate::error::{ErrorBody, MessagesError};

/// What is refused anywhere, by its status.
const REFUSALS: [(StatusCode, &str); 14] = [
    (StatusCode::BAD_REQUEST, "A field is wrong or not supported."),
    (StatusCode::UNAUTHORIZED, "The key is missing or unknown."),
    (StatusCode::FORBIDDEN, "A server without keys was asked by another name than localhost."),
    (StatusCode::NOT_FOUND, "Nothing has this name."),
    (StatusCode::METHOD_NOT_ALLOWED, "The path has other methods; see the header Allow."),
    (StatusCode::REQUEST_TIMEOUT, "The body took too long to come."),
    (StatusCode::CONFLICT, "It is in use, or exists already."),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not said to be JSON."),
    (StatusCode::TOO_MANY_REQUESTS, "A limit of the key is reached; see the header Retry-After."),
    (StatusCode::INTERNAL_SERVER_ERROR, "A fault of the server."),
    (StatusCode::SERVICE_UNAVAILABLE, "It cannot be done now; see the header Retry-After."),
    (StatusCode::GATEWAY_TIMEOUT, "The answer took longer than the server allows."),
    (StatusCode::INSUFFICIENT_STORAGE, "There is no room to keep a session."),
];

/// The document of these endpoints.
pub(crate) fn document(endpoints: &[Endpoint]) -> Value {
    let settings = |is_answer: bool| {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        if is_answer { settings.for_serialize() } else { settings.for_deserialize() }
    };
    let mut forms =
        Forms { taken: settings(false).into_generator(), given: settings(true).into_generator() };
    let mut paths = Map::new();
    for endpoint in endpoints {
        let mut methods = Map::new();
        for operation in endpoint.operations() {
            let method = operation.method.as_str().to_lowercase();
            methods.insert(method, forms.operation(operation));
        }
        paths.insert(endpoint.path().to_owned(), Value::Object(methods));
    }
    let mut schemas = forms.given.take_definitions(true);
    schemas.values_mut().for_each(close);
    schemas.extend(forms.taken.take_definitions(true));
    let mut document = json!({
        "openapi": "3.2.0",
        "info": {
            "title": "Longhand",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Language models whose sessions remember. A field that is not listed is \
                            refused with 400, which names it.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    });
    bound(&mut document);
    document
}

struct Forms {
    taken: SchemaGenerator,
    given: SchemaGenerator,
}

impl Forms {
    fn operation(&mut self, operation: &Operation) -> Value {
        let mut value = json!({
            "operationId": operation.id,
            "summary": operation.about,
            "responses": self.responses(operation),
        });
        if operation.is_open {
            value["security"] = json!([]);
        }
        let parameters = self.parameters(operation);
        if !parameters.is_empty() {
            value["parameters"] = parameters.into();
        }
        let content = match operation.body {
            Form::Nothing => return value,
            Form::Json(schema) => json!({"application/json": {"schema": schema(&mut self.taken)}}),
            Form::Bytes(media) => {
                json!({media: {"schema": {"type": "string", "format": "binary"}}})
            }
        };
        value["requestBody"] = json!({"required": true, "content": content});
        value
    }

    /// What the path and the query hold.
    fn parameters(&mut self, operation: &Operation) -> Vec<Value> {
        let in_path = operation.names.iter().map(|(name, about)| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": about,
                "schema": {"type": "string", "minLength": 1},
            })
        });
        let mut parameters: Vec<Value> = in_path.collect();
        let query = operation.query.map(|query| query(&mut self.taken).to_value());
        let fields = query.as_ref().and_then(|query| query["properties"].as_object());
        for (name, schema) in fields.into_iter().flatten() {
            let mut schema = schema.clone();
            leave_null(&mut schema);
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            parameters.push(json!({
                "name": name,
                "in": "query",
                "required": false,
                "description": about,
                "schema": schema,
            }));
        }
        parameters
    }

    fn responses(&mut self, operation: &Operation) -> Value {
        let mut content = match operation.answer {
            Form::Nothing => json!({}),
            Form::Json(schema) => {
                let mut schema = schema(&mut self.given).to_value();
                close(&mut schema);
                json!({"application/json": {"schema": schema}})
            }
            Form::Bytes(media) => {
                json!({media: {"schema": {"type": "string", "format": "binary"}}})
            }
        };
        let refusal: SchemaOf = match operation.in_messages_form {
            true => |generator| generator.subschema_for::<MessagesError>(),
            false => |generator| generator.subschema_for::<ErrorBody>(),
        };
        if let Some(event) = operation.event {
            let event = self.event(event, refusal, operation.in_messages_form);
            content["text/event-stream"] = json!({"itemSchema": event});
        }
        let mut responses = Map::new();
        responses.insert("200".into(), json!({"description": "Done.", "content": content}));
        for (status, about) in REFUSALS {
            if !can_refuse(operation, status) {
                continue;
            }
            let refusal = match status {
                StatusCode::SERVICE_UNAVAILABLE => operation.unavailable.unwrap_or(refusal),
                _ => refusal,
            };
            let content = json!({"application/json": {"schema": refusal(&mut self.given)}});
            let response = json!({"description": about, "content": content});
            responses.insert(status.as_str().to_owned(), response);
        }
        Value::Object(responses)
    }

    /// One event of a stream, which may be a refusal; the form of OpenAI ends with a word.
    fn event(&mut self, schema: SchemaOf, refusal: SchemaOf, in_messages_form: bool) -> Value {
        let mut event = schema(&mut self.given).to_value();
        close(&mut event);
        let refusal = refusal(&mut self.given);
        let json = json!({
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [event, refusal]},
        });
        let end = (!in_messages_form).then(|| json!({"const": "[DONE]"}));
        let data: Vec<Value> = end.into_iter().chain([json]).collect();
        json!({
            "type": "object",
            "properties": {
                "event": {"type": "string"},
                "data": {"type": "string", "anyOf": data},
            },
            "required": ["data"],
        })
    }
}

/// Whether an operation can be refused with a status: what anyone may ask and takes nothing fails by a
/// fault of the server alone.
fn can_refuse(operation: &Operation, status: StatusCode) -> bool {
    let (has_body, is_json) = match operation.body {
        Form::Nothing => (false, false),
        Form::Json(_) => (true, true),
        Form::Bytes(_) => (true, false),
    };
    match status {
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::INTERNAL_SERVER_ERROR => true,
        StatusCode::SERVICE_UNAVAILABLE => !operation.is_open || operation.unavailable.is_some(),
        StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => has_body,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => is_json,
        _ => !operation.is_open,
    }
}

/// Takes null out of a schema: a query cannot say it, and leaves the parameter out.
fn leave_null(schema: &mut Value) {
    let kinds = schema.get("type").and_then(Value::as_array);
    let left: Vec<Value> =
        kinds.into_iter().flatten().filter(|&it| it != "null").cloned().collect();
    if let [kind] = &left[..] {
        schema["type"] = kind.clone();
    }
    if let Some(alternatives) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        alternatives.retain(|alternative| alternative["type"] != "null");
    }
}

/// Numbers as Rust names their forms, and their bounds.
fn bounds(form: &str) -> Option<(Value, Value)> {
    Some(match form {
        "uint8" => (json!(0), json!(u8::MAX)),
        "uint16" => (json!(0), json!(u16::MAX)),
        "uint32" => (json!(0), json!(u32::MAX)),
        // A usize has 64 bits wherever a server runs.
        "uint64" | "uint" => (json!(0), json!(u64::MAX)),
        "int64" => (json!(i64::MIN), json!(i64::MAX)),
        _ => return None,
    })
}

/// Gives every number its bounds, which the name of its form says to programs in Rust alone.
fn bound(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let form = object.get("format").and_then(Value::as_str).and_then(bounds);
            if let Some((least, most)) = form {
                object.remove("format");
                if !object.contains_key("exclusiveMinimum") {
                    object.entry("minimum").or_insert(least);
                }
                object.entry("maximum").or_insert(most);
            }
            object.values_mut().for_each(bound);
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}

/// Says of every object of an answer that it has no further fields.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let is_object = object.get("type").is_some_and(|kind| kind == "object");
            let has_fields = is_object && object.contains_key("properties");
            if has_fields && object.contains_key("oneOf") {
                // Its fields are those of the object and of one alternative together.
                object.entry("unevaluatedProperties").or_insert(Value::Bool(false));
                for (key, value) in object.iter_mut() {
                    match (key.as_str(), value) {
                        ("oneOf", Value::Array(alternatives)) => {
                            let fields = alternatives.iter_mut().filter_map(Value::as_object_mut);
                            fields.flat_map(|it| it.values_mut()).for_each(close);
                        }
                        (_, value) => close(value),
                    }
                }
                return;
            }
            if has_fields {
                object.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
