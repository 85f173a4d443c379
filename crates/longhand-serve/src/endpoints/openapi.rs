//! `GET /openapi.json`: the document of all endpoints.

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use crate::app::App;
use crate::endpoint::{Endpoint, Operation};
use crate::error::json_body;

pub(crate) fn endpoint() -> Endpoint {
    let operation = Operation::get("getDocument", "This document.").gives::<Value>().open();
    Endpoint::at("/openapi.json").on(operation, show)
}

async fn show(State(app): State<App>) -> Response {
    json_body(app.document())
}

#[cfg(test)]
mod malformed;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::testing::Server;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    fn open_objects(place: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            // An object that closes itself and its alternatives together.
            Value::Object(object)
                if object.get("unevaluatedProperties") == Some(&Value::Bool(false)) => {}
            Value::Object(object) => {
                if object.contains_key("properties")
                    && object.get("type").is_some_and(|kind| kind == "object")
                    && object.get("additionalProperties") != Some(&Value::Bool(false))
                {
                    found.push(place.to_owned());
                }
                for (key, value) in object {
                    open_objects(&format!("{place}/{key}"), value, found);
                }
            }
            Value::Array(items) => {
                items.iter().for_each(|value| open_objects(place, value, found));
            }
            _ => {}
        }
    }

    #[tokio::test]
    async fn every_reference_leads_somewhere_and_every_object_is_closed() {
        let (status, document) = Server::new().get("/openapi.json").await;
        assert_eq!(status, 200);
        assert_eq!(document["openapi"], "3.2.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let mut open = Vec::new();
        open_objects("", &document["components"]["schemas"], &mut open);
        assert_eq!(open, Vec::<String>::new());
    }

    #[tokio::test]
    async fn the_document_has_every_path_and_names_no_operation_twice() {
        let (_, document) = Server::new().get("/openapi.json").await;
        let paths = document["paths"].as_object().unwrap();
        for path in ["/v1/completions", "/v1/chat/completions", "/v1/sessions/{session}/fork"] {
            assert!(paths.contains_key(path), "{path}");
        }
        let mut ids: Vec<&str> = paths
            .values()
            .flat_map(|methods| methods.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        let chat = &document["paths"]["/v1/chat/completions"]["post"];
        assert!(chat["responses"]["200"]["content"]["text/event-stream"]["itemSchema"].is_object());
        let request = &document["components"]["schemas"]["ChatRequest"];
        assert_eq!(request["additionalProperties"], false);
        assert!(request["properties"].get("tools").is_none());
    }

    #[tokio::test]
    async fn numbers_have_bounds_and_operations_the_statuses_that_they_can_have() {
        let (_, document) = Server::new().get("/openapi.json").await;
        let top_k = &document["components"]["schemas"]["CompletionRequest"]["properties"]["top_k"];
        assert_eq!((&top_k["minimum"], &top_k["maximum"]), (&0.into(), &u32::MAX.into()));
        let parameters = document["paths"]["/v1/sessions"]["get"]["parameters"].as_array().unwrap();
        let limit = parameters.iter().find(|it| it["name"] == "limit").unwrap();
        // A query cannot say null.
        assert_eq!(limit["schema"]["type"], "integer");
        assert_eq!(limit["schema"]["maximum"], 1000);
        let statuses = |path: &str, method: &str| {
            let responses = document["paths"][path][method]["responses"].as_object().unwrap();
            responses.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(statuses("/version", "get"), "200 405 500");
        assert_eq!(statuses("/health", "get"), "200 405 500 503");
        assert!(!statuses("/v1/models", "get").contains("413"));
        assert!(statuses("/v1/completions", "post").contains("413"));
    }
}
