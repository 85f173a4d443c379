use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use axum::body::Body;
use axum::http::{Request, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as Pair};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;

use super::*;
use crate::testing::{Server, json as answer};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector at a port, and the bodies that it was sent.
fn collector() -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            take(stream, &send);
        }
    });
    (format!("http://{address}/v1/traces"), receive)
}

fn take(mut stream: TcpStream, bodies: &Sender<Vec<u8>>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let head = loop {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the request has no end");
        bytes.extend(&piece[..read]);
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap().to_lowercase();
    assert!(text.starts_with("post /v1/traces http/1.1"), "{text}");
    assert!(text.contains("content-type: application/x-protobuf"), "{text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = bytes.split_off(head);
    let have = body.len();
    body.resize(length.parse().unwrap(), 0);
    stream.read_exact(&mut body[have..]).unwrap();
    // It is here before the sender hears that it was taken.
    let _ = bodies.send(body);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
}

/// All spans that were sent, and the names of the services that sent them.
fn spans(bodies: &[Vec<u8>]) -> (Vec<Span>, Vec<String>) {
    let (mut spans, mut services) = (Vec::new(), Vec::new());
    for body in bodies {
        for sent in ExportTraceServiceRequest::decode(&body[..]).unwrap().resource_spans {
            let resource = sent.resource.unwrap();
            services.push(text_of(&resource.attributes, "service.name"));
            spans.extend(sent.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    (spans, services)
}

fn value(pairs: &[Pair], name: &str) -> Option<Value> {
    let pair = pairs.iter().find(|pair| pair.key == name)?;
    pair.value.clone().and_then(|AnyValue { value, .. }| value)
}

fn text_of(pairs: &[Pair], name: &str) -> String {
    match value(pairs, name) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name}: {other:?}"),
    }
}

fn number_of(span: &Span, name: &str) -> i64 {
    match value(&span.attributes, name) {
        Some(Value::IntValue(number)) => number,
        other => panic!("{name} of {}: {other:?}", span.name),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn ask(server: &Server, session: &str, parent: Option<&str>) -> u16 {
    let body = json!({"model": "nano", "prompt": "a secret prompt", "max_tokens": 5,
        "session_id": session, "seed": 1});
    let request = Request::post("/v1/completions")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-request-id", "the-id");
    let request = match parent {
        Some(parent) => request.header("traceparent", parent),
        None => request,
    };
    answer(server.send(request.body(Body::from(body.to_string())).unwrap()).await).await.0
}

#[tokio::test]
async fn a_request_is_a_span_of_the_clients_trace_with_its_steps_and_their_tokens() {
    let (endpoint, bodies) = collector();
    let server = Server::new();
    server.app.set_traces(Traces::start(&endpoint).unwrap());
    let parent = format!("00-{TRACE}-{PARENT}-01");
    for _ in 0..2 {
        assert_eq!(ask(&server, "private-diary", Some(&parent)).await, 200);
    }
    assert_eq!(server.get("/health").await.0, 200);
    server.app.traces().unwrap().flush();
    let bodies: Vec<Vec<u8>> = bodies.try_iter().collect();
    for secret in ["secret", "private-diary"] {
        let is_there =
            |body: &Vec<u8>| body.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!bodies.iter().any(is_there), "{secret} was sent");
    }
    let (spans, services) = spans(&bodies);
    assert!(services.iter().all(|name| !name.starts_with("unknown")), "{services:?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    let by_id: BTreeMap<&[u8], &Span> =
        spans.iter().map(|span| (&span.span_id[..], span)).collect();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let requests = named("POST /v1/completions");
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(hex(&request.parent_span_id), PARENT);
        assert_eq!(number_of(request, "http.response.status_code"), 200);
        assert_eq!(text_of(&request.attributes, "longhand.request.id"), "the-id");
    }
    for job in named("job") {
        assert_eq!(by_id[&job.parent_span_id[..]].name, "POST /v1/completions");
        assert_eq!(text_of(&job.attributes, "gen_ai.request.model"), "nano");
        assert_eq!(number_of(job, "gen_ai.usage.output_tokens"), 5);
    }
    let names = ["session.load", "queue", "prefill", "decode", "session.save"];
    for name in names {
        let steps = named(name);
        assert_eq!(steps.len(), 2, "{name}");
        for step in steps {
            let job = by_id[&step.parent_span_id[..]];
            assert_eq!(job.name, "job");
            assert!(job.start_time_unix_nano <= step.start_time_unix_nano, "{name}");
            assert!(step.start_time_unix_nano <= step.end_time_unix_nano, "{name}");
            assert!(step.end_time_unix_nano <= job.end_time_unix_nano, "{name}");
        }
    }
    // Two requests and two jobs; nothing is told of /health.
    assert_eq!(spans.len(), 4 + 2 * names.len());
    let sum =
        |name: &str, of: &str| named(name).into_iter().map(|span| number_of(span, of)).sum::<i64>();
    assert_eq!(sum("decode", "longhand.tokens.written"), 10);
    // The second turn begins behind the first one's 15 bytes and 5 tokens.
    assert_eq!(sum("session.load", "longhand.tokens.reused"), 20);
}

#[tokio::test]
async fn a_request_that_is_not_sampled_sends_nothing_and_a_refused_one_has_its_status() {
    let (endpoint, bodies) = collector();
    let server = Server::new();
    server.app.set_traces(Traces::start(&endpoint).unwrap());
    assert_eq!(ask(&server, "a", Some(&format!("00-{TRACE}-{PARENT}-00"))).await, 200);
    // A header of another form begins a trace of its own.
    assert_eq!(ask(&server, "not a name!", Some("nonsense")).await, 400);
    server.app.traces().unwrap().flush();
    let bodies: Vec<Vec<u8>> = bodies.try_iter().collect();
    let (spans, _) = spans(&bodies);
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert_eq!(number_of(&spans[0], "http.response.status_code"), 400);
    assert_ne!(hex(&spans[0].trace_id), TRACE);
}

#[tokio::test]
async fn a_collector_that_is_away_changes_no_answer() {
    // A port that nobody listens at.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::new();
    server.app.set_traces(Traces::start(&format!("http://{address}/v1/traces")).unwrap());
    assert_eq!(ask(&server, "a", None).await, 200);
    server.app.traces().unwrap().flush();
    assert_eq!(ask(&server, "a", None).await, 200);
}

#[test]
fn the_address_is_that_of_the_flag_or_of_the_environment() {
    let of = |named, variables: &[(&str, &str)]| {
        traces_endpoint(named, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    };
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b:1");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:2/here");
    assert_eq!(of(None, &[]), None);
    assert_eq!(of(None, &[base]).unwrap(), "http://b:1/v1/traces");
    assert_eq!(of(None, &[base, whole]).unwrap(), "http://t:2/here");
    assert_eq!(of(Some("http://f:3/"), &[base, whole]).unwrap(), "http://f:3/v1/traces");
    assert_eq!(of(None, &[base, ("OTEL_SDK_DISABLED", "true")]), None);
    for wrong in ["https://host/v1/traces", "host:4318", "", "http://"] {
        let error = Traces::start(wrong).err().unwrap().to_string();
        assert!(error.contains("http://HOST:PORT"), "{wrong}: {error}");
    }
}
