//! Lists where objects are due. A parser of ours takes a list for the fields of an object in their order;
//! the document says that there are objects alone.

use serde_json::Value;

/// The path of the first list in the place of an object; none where every object is one.
pub(crate) fn misplaced(value: &Value, schema: &Value, document: &Value) -> Option<String> {
    let schema = resolved(schema, document);
    match value {
        Value::Array(items) => {
            let lists: Vec<&Value> =
                forms(schema, document).into_iter().filter(|it| allows(it, "array")).collect();
            let is_object = forms(schema, document).iter().any(|it| it.get("properties").is_some());
            if lists.is_empty() {
                return is_object.then(String::new);
            }
            let schemas: Vec<&Value> = lists.iter().filter_map(|it| it.get("items")).collect();
            items.iter().enumerate().find_map(|(place, item)| {
                let path = in_all(item, &schemas, document)?;
                Some(join(&format!("[{place}]"), &path))
            })
        }
        Value::Object(fields) => {
            let objects = forms(schema, document);
            fields.iter().find_map(|(name, value)| {
                let known = objects.iter().filter_map(|it| it.get("properties")?.get(name));
                let path = in_all(value, &known.collect::<Vec<_>>(), document)?;
                Some(join(name, &path))
            })
        }
        _ => None,
    }
}

/// A list that is misplaced by every schema that could be meant.
fn in_all(value: &Value, schemas: &[&Value], document: &Value) -> Option<String> {
    let mut paths = schemas.iter().map(|schema| misplaced(value, schema, document));
    let first = paths.next()??;
    paths.all(|path| path.is_some()).then_some(first)
}

/// A schema, or what it refers to.
fn resolved<'a>(schema: &'a Value, document: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    reference.and_then(|it| document.pointer(it.strip_prefix('#')?)).unwrap_or(schema)
}

/// A schema and all of its alternatives.
fn forms<'a>(schema: &'a Value, document: &'a Value) -> Vec<&'a Value> {
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array());
    let inner = alternatives.flatten().flat_map(|it| forms(resolved(it, document), document));
    [schema].into_iter().chain(inner).collect()
}

/// Whether a schema names a kind of values.
fn allows(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|it| it == kind),
        _ => false,
    }
}

fn join(name: &str, rest: &str) -> String {
    match rest.is_empty() || rest.starts_with('[') {
        true => format!("{name}{rest}"),
        false => format!("{name}.{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Server;

    #[tokio::test]
    async fn a_list_is_never_taken_for_an_object() {
        let server = Server::new();
        let chat = "/v1/chat/completions";
        let response = "/v1/responses";
        for (path, name, body) in [
            (chat, "messages[0]", json!({"messages": [["user", "a"]]})),
            (
                chat,
                "stream_options",
                json!({"messages": [], "stream": true,
                "stream_options": [null]}),
            ),
            (
                chat,
                "messages[1].content[0]",
                json!({"messages": [{"role": "user", "content": "a"},
                {"role": "user", "content": [["text", "a"]]}]}),
            ),
            (
                chat,
                "response_format.json_schema",
                json!({"messages": [],
                "response_format": {"type": "json_schema", "json_schema": ["a", null, null, null]}}),
            ),
            ("/v1/completions", "response_format", json!({"response_format": ["text"]})),
            (response, "conversation", json!({"input": "a", "conversation": ["a"]})),
            (response, "text", json!({"input": "a", "text": [null]})),
            (response, "input[0]", json!({"input": [[null, "user", "a", null, null]]})),
            (
                "/v1/messages",
                "metadata",
                json!({"max_tokens": 1, "messages": [], "metadata": ["a"]}),
            ),
        ] {
            let mut body = body;
            body["model"] = json!("nano");
            let (status, answer) = server.post(path, body.clone()).await;
            assert_eq!(status, 400, "{body}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains(&format!("`{name}` is not usable")), "{body}: {message}");
        }
        // Where a list may be, it is read as one.
        let schema = json!({"enum": ["a", "b"]});
        let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
        for body in [
            json!({"model": "nano", "prompt": [[1, 2], [3]], "max_tokens": 1}),
            json!({"model": "nano", "prompt": ["a"], "max_tokens": 1, "stop": ["b"]}),
            json!({"model": "nano", "prompt": "a", "max_tokens": 1, "response_format": format}),
        ] {
            let (status, answer) = server.post("/v1/completions", body.clone()).await;
            assert_eq!(status, 200, "{body}: {answer}");
        }
    }
}
