//! Tests of the endpoint without a port.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use longhand_sessions::{Name, Owner};
use serde_json::{Value, json};

use crate::testing::{Server, json as read};

const CHAT: &str = "/v1/chat/completions";

async fn say(server: &Server, session: &str, text: &str) -> Value {
    let asked = json!({"model": "nano", "messages": [{"role": "user", "content": text}],
        "session_id": session, "temperature": 0, "max_tokens": 5});
    let (status, body) = server.post(CHAT, asked).await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn a_session_is_listed_forked_renamed_and_erased() {
    let server = Server::new();
    say(&server, "one", "hi").await;
    let (_, list) = server.get("/v1/sessions").await;
    assert_eq!(list["data"][0]["id"], "one");
    let (status, fork) = server.post("/v1/sessions/one/fork", json!({"name": "two"})).await;
    assert_eq!((status, &fork["id"]), (200, &json!("two")), "{fork}");
    // Both go on from the same place, each alone.
    let (a, b) = (say(&server, "one", "go on").await, say(&server, "two", "go on").await);
    assert_eq!(a["choices"], b["choices"]);
    let (_, shown) = server.get("/v1/sessions/two").await;
    assert_eq!(shown["messages"].as_array().unwrap().len(), 4);
    let change = Some(json!({"name": "日记"}));
    let (status, _) = read(server.call("PATCH", "/v1/sessions/two", change, None).await).await;
    assert_eq!(status, 200);
    assert_eq!(server.get("/v1/sessions/two").await.0, 404);
    assert_eq!(server.get("/v1/sessions/%E6%97%A5%E8%AE%B0").await.0, 200);
    let (status, body) = server.post("/v1/sessions/one/fork", json!({"name": "日记"})).await;
    assert_eq!(status, 409, "{body}");
    let (status, gone) = read(server.call("DELETE", "/v1/sessions/one", None, None).await).await;
    assert_eq!((status, &gone["deleted"]), (200, &json!(true)));
    for method in ["GET", "DELETE"] {
        assert_eq!(server.call(method, "/v1/sessions/one", None, None).await.status(), 404);
    }
    let response = server.call("PUT", "/v1/sessions/one", None, None).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET, PATCH, DELETE, HEAD");
}

#[tokio::test]
async fn a_name_and_a_time_to_live_change_together_or_not_at_all() {
    let server = Server::new();
    for name in ["one", "two"] {
        say(&server, name, "hi").await;
    }
    let change = async |name: &str, body: Value| {
        let path = format!("/v1/sessions/{name}");
        read(server.call("PATCH", &path, Some(body), None).await).await
    };
    let (status, taken) = change("one", json!({"name": "two", "ttl": 60})).await;
    assert_eq!(status, 409, "{taken}");
    assert_eq!(server.get("/v1/sessions/one").await.1["expires_at"], Value::Null);
    let (status, three) = change("one", json!({"name": "three", "ttl": 60})).await;
    assert_eq!((status, &three["id"]), (200, &json!("three")), "{three}");
    let [used, expires] = ["updated_at", "expires_at"].map(|it| three[it].as_u64().unwrap());
    assert_eq!(expires - used, 60);
    let (status, same) = change("three", json!({"name": "three", "ttl": 0})).await;
    assert_eq!((status, &same["expires_at"]), (200, &Value::Null), "{same}");
}

#[tokio::test]
async fn sessions_are_listed_in_pages() {
    let server = Server::new();
    for name in ["b", "a", "c"] {
        say(&server, name, "hi").await;
    }
    let names = |list: &Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let (_, list) = server.get("/v1/sessions?limit=2").await;
    assert_eq!((names(&list), &list["has_more"]), (vec!["a".into(), "b".into()], &json!(true)));
    let (_, list) = server.get("/v1/sessions?limit=2&after=b").await;
    assert_eq!((names(&list), &list["has_more"]), (vec!["c".into()], &json!(false)));
    for (query, param) in
        [("foo=2", "foo"), ("limit=-1", "limit"), ("limit=0", "limit"), ("limit=1001", "limit")]
    {
        let (status, body) = server.get(&format!("/v1/sessions?{query}")).await;
        let found = body["error"]["param"].as_str().unwrap_or_default().to_owned();
        assert_eq!((status, found.as_str()), (400, param), "{query}: {body}");
    }
}

#[tokio::test]
async fn a_session_goes_back_with_its_messages() {
    let server = Server::new();
    say(&server, "s", "hi").await;
    let (_, before) = server.get("/v1/sessions/s").await;
    let second = say(&server, "s", "and you?").await;
    let back = json!({"position": before["position"]});
    let (status, body) = server.post("/v1/sessions/s/truncate", back).await;
    assert_eq!((status, &body["position"]), (200, &before["position"]), "{body}");
    let (_, shown) = server.get("/v1/sessions/s").await;
    assert_eq!(shown["messages"], before["messages"]);
    let again = say(&server, "s", "and you?").await;
    assert_eq!(again["choices"], second["choices"]);
    let (status, body) = server.post("/v1/sessions/s/truncate", json!({"position": 1})).await;
    assert_eq!((status, &body["error"]["param"]), (404, &json!("position")));
}

#[tokio::test]
async fn messages_behind_the_place_that_a_session_went_back_to_are_not_shown() {
    let server = Server::new();
    say(&server, "s", "hi").await;
    let (_, before) = server.get("/v1/sessions/s").await;
    let second = say(&server, "s", "and you?").await;
    // As a server leaves it that is killed between the step back and the note of it.
    let (owner, name) = (Owner::new("local").unwrap(), Name::new("s").unwrap());
    let position = before["position"].as_u64().unwrap();
    server.app.sessions().truncate(&owner, &name, position).unwrap();
    let (_, shown) = server.get("/v1/sessions/s").await;
    assert_eq!(shown["messages"], before["messages"]);
    let again = say(&server, "s", "and you?").await;
    assert_eq!(again["choices"], second["choices"]);
    let (_, shown) = server.get("/v1/sessions/s").await;
    assert_eq!(shown["messages"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_snapshot_goes_out_and_in_and_an_altered_one_is_refused() {
    let server = Server::new();
    say(&server, "s", "hi").await;
    let response = server.call("GET", "/v1/sessions/s/export", None, None).await;
    assert_eq!(response.headers()["content-type"], "application/octet-stream");
    let bytes = response.into_body().collect().await.unwrap().to_bytes().to_vec();
    let import = |bytes: Vec<u8>, query: &str| {
        let request = Request::post(format!("/v1/sessions/import{query}"));
        let request = request.header("content-type", "application/octet-stream");
        server.send(request.body(Body::from(bytes)).unwrap())
    };
    let (status, info) = read(import(bytes.clone(), "?name=copy&model=nano").await).await;
    assert_eq!((status, &info["id"]), (200, &json!("copy")), "{info}");
    let (_, own) = server.get("/v1/sessions/s").await;
    assert_eq!(info["position"], own["position"]);
    // The messages go with the session, and the copy goes on as the session does.
    let (_, copy) = server.get("/v1/sessions/copy").await;
    assert_eq!(own["messages"].as_array().unwrap().len(), 2);
    assert_eq!(copy["messages"], own["messages"]);
    let (a, b) = (say(&server, "s", "go on").await, say(&server, "copy", "go on").await);
    assert_eq!(a["choices"], b["choices"]);
    for place in [0, 9, bytes.len() / 2, bytes.len() - 1] {
        let mut altered = bytes.clone();
        altered[place] ^= 1;
        let (status, body) = read(import(altered, "").await).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!("snapshot")), "{place}: {body}");
    }
    assert_eq!(read(import(bytes.clone(), "?name=a%20b").await).await.0, 400);
    let (status, body) = read(import(bytes.clone(), "?colour=a").await).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("colour")), "{body}");
    assert_eq!(read(import(bytes, "?model=other").await).await.0, 404);
}
