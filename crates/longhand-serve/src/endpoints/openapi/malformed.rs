//! Every malformed field of every endpoint, made from the document: each is refused with one sentence
//! that names the field.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::Value;

use self::faults::{Fault, faults};
use crate::testing::{Server, json};

mod faults;

/// The last name in a path, without places in lists.
fn last(path: &str) -> &str {
    let name = path.rsplit('.').find(|name| name.parse::<u32>().is_err()).unwrap_or(path);
    name.split('[').next().unwrap_or(name)
}

/// What is wrong with a refusal; none where it is one sentence that names the field.
fn objection(fault: &Fault, status: u16, body: &Value, has_param: bool) -> Option<String> {
    let message = body["error"]["message"].as_str().unwrap_or_default();
    // Within alternatives a parser may know more than the field that has them, or less.
    let names = [last(&fault.path), last(&fault.named)];
    let is_named = match fault.path.is_empty() {
        true => message.contains("body"),
        false => names.iter().any(|name| message.contains(name)),
    };
    let param = body["error"]["param"].as_str().unwrap_or_default();
    let is_within = !param.is_empty() && fault.path.starts_with(param);
    let is_param =
        param == fault.path || param.starts_with(&fault.named) || is_within || !has_param;
    let wrong = match () {
        () if !(400..500).contains(&status) || [404, 405].contains(&status) => "the status",
        () if message.is_empty() || message.lines().count() != 1 => "not one sentence",
        () if !is_named => "the field is not named",
        () if !is_param => "another field is named",
        () => return None,
    };
    Some(wrong.to_owned())
}

/// The operations of a document: path, method, operation.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods.iter().map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// A path with a name in the place of each parameter.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_malformed_field_of_every_body_is_refused_by_its_name() {
    let server = Server::new();
    let (_, document) = server.get("/openapi.json").await;
    let (mut asked, mut wrong) = (0, Vec::new());
    for (path, method, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let Some(schema) = content.get("schema") else { continue };
        let has_param = !path.starts_with("/v1/messages");
        for fault in faults(&document, "", schema, 1) {
            let text = fault.value.to_string();
            let method = method.to_uppercase();
            let request = Request::builder()
                .method(method.as_str())
                .uri(filled(path))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(text.clone()))
                .unwrap();
            let (status, body) = json(server.send(request).await).await;
            asked += 1;
            if let Some(objection) = objection(&fault, status, &body, has_param) {
                let shown: String = text.chars().take(200).collect();
                let Fault { path: field, what, .. } = &fault;
                wrong.push(format!(
                    "{method} {path}, `{field}` {what}: {objection}\n  {shown}\n  {status} {body}"
                ));
            }
        }
    }
    assert!(asked > 1000, "{asked} malformed requests");
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_malformed_parameter_of_every_query_is_refused_by_its_name() {
    let server = Server::new();
    let (_, document) = server.get("/openapi.json").await;
    let mut asked = 0;
    for (path, method, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let takes_text = parameter["schema"]["type"] == "string";
            let unknown = ["no_such_field", "no_such_field=1"].map(str::to_owned);
            let mut queries = vec![unknown.into()];
            for fault in faults(&document, name, &parameter["schema"], 2) {
                // Every value of a query is a text.
                let value = match fault.value {
                    Value::String(text) => text.replace(' ', "%20"),
                    value if takes_text || !value.is_number() => continue,
                    value => value.to_string(),
                };
                queries.push((name.to_owned(), format!("{name}={value}")));
            }
            for (field, query) in queries {
                let address = format!("{}?{query}", filled(path));
                let response = server.call(&method.to_uppercase(), &address, None, None).await;
                let (status, body) = json(response).await;
                asked += 1;
                let param = body["error"]["param"].as_str();
                assert_eq!((status, param), (400, Some(field.as_str())), "{address}: {body}");
                let message = body["error"]["message"].as_str().unwrap();
                assert!(message.contains(&field) && message.lines().count() == 1, "{message}");
            }
        }
    }
    assert!(asked > 10, "{asked} malformed queries");
}
