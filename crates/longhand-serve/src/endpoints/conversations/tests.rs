//! Tests of the endpoint without a port.

use serde_json::{Value, json};

use crate::testing::{Server, json as read};

const PATH: &str = "/v1/conversations";

#[tokio::test]
async fn responses_are_added_to_a_conversation_and_read_it() {
    let server = Server::new();
    let items = json!([{"type": "message", "role": "user", "content": "hi"}]);
    let (status, made) = server.post(PATH, json!({"items": items, "metadata": {"a": "b"}})).await;
    assert_eq!((status, &made["object"]), (200, &json!("conversation")), "{made}");
    let id = made["id"].as_str().unwrap();
    // Letters alone, so that an answer leads back to its tokens.
    let respond = |input: &str| {
        json!({"model": "nano", "input": input, "conversation": {"id": id}, "temperature": 0,
            "max_output_tokens": 5, "text": {"format": {"type": "regex", "regex": "[a-z]{40}"}}})
    };
    let (_, first) = server.post("/v1/responses", respond("who are you?")).await;
    assert_eq!(first["conversation"], json!({"id": id}));
    let (_, second) = server.post("/v1/responses", respond("go on")).await;
    let usage = |response: &Value| response["usage"]["input_tokens"].as_u64().unwrap();
    assert!(usage(&second) > usage(&first));
    assert!(second["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
    let items_path = format!("{PATH}/{id}/items");
    let (_, list) = server.get(&format!("{items_path}?order=asc&limit=3")).await;
    let texts: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["content"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts[..2], ["hi", "who are you?"]);
    assert_eq!(texts[2], first["output"][0]["content"][0]["text"]);
    assert_eq!(list["has_more"], true);
    let after = list["last_id"].as_str().unwrap();
    let (_, rest) = server.get(&format!("{items_path}?order=asc&after={after}")).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 2);
    let item = format!("{items_path}/{after}");
    assert_eq!(server.get(&item).await.1["id"], after);
    assert_eq!(server.call("DELETE", &item, None, None).await.status(), 200);
    assert_eq!(server.get(&item).await.0, 404);
}

#[tokio::test]
async fn a_conversation_is_changed_and_erased() {
    let server = Server::new();
    let (_, made) = server.post(PATH, json!({})).await;
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let (_, changed) = server.post(&path, json!({"metadata": {"c": "d"}})).await;
    assert_eq!(changed["metadata"], json!({"c": "d"}));
    let more = json!({"items": [{"role": "user", "content": "a"}, {"role": "assistant",
        "content": [{"type": "output_text", "text": "b"}]}]});
    let (_, added) = server.post(&format!("{path}/items"), more).await;
    assert_eq!(added["data"].as_array().unwrap().len(), 2);
    assert_eq!(added["data"][1]["role"], "assistant");
    let (_, gone) = read(server.call("DELETE", &path, None, None).await).await;
    assert_eq!(gone["object"], "conversation.deleted");
    assert_eq!(server.get(&path).await.0, 404);
    for path in [format!("{PATH}/conv_x"), format!("{PATH}/a%20b")] {
        let (status, body) = server.get(&path).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")), "{body}");
    }
    let (status, body) = server.post(PATH, json!({"title": "x"})).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("title")));
}

#[tokio::test]
async fn a_conversation_that_two_servers_change_at_once_has_all_changes() {
    let server = Server::new();
    let other = server.beside();
    let (_, made) = server.post(PATH, json!({})).await;
    let id = made["id"].as_str().unwrap();
    let items = format!("{PATH}/{id}/items");
    let hold = server.hold();
    let asked = json!({"model": "nano", "input": "hi", "conversation": id, "max_output_tokens": 3});
    let (answered, ()) = tokio::join!(server.post("/v1/responses", asked), async {
        // The first server has read the conversation, and writes its response.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        for text in ["a", "b"] {
            let more = json!({"items": [{"role": "user", "content": text}]});
            let (status, added) = other.post(&items, more).await;
            assert_eq!(status, 200, "{added}");
        }
        drop(hold);
    });
    assert_eq!(answered.0, 200, "{}", answered.1);
    let (_, list) = server.get(&format!("{items}?order=asc")).await;
    let texts: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["content"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts[..3], ["a", "b", "hi"]);
    assert_eq!(texts.len(), 4);
}
