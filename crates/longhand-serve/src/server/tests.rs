use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::testing::Server;

/// Longer than any wait of a test that passes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first line of the answer to a request.
async fn status(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn completion(body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_reader_that_stops_loses_its_stream_and_its_job_and_others_are_answered() {
    let mut settings = ServerSettings::at("127.0.0.1:0".parse().unwrap());
    settings.write_time = Duration::from_millis(300);
    let (app, address) = Server::at_port(settings);
    let socket = TcpSocket::new_v4().unwrap();
    // The less the kernel takes for the reader, the sooner the server has to wait.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(address).await.unwrap();
    // More than all buffers between both take.
    let endless = json!({"model": "nano", "prompt": "a", "stream": true, "logprobs": 5,
        "max_tokens": 200_000});
    slow.write_all(completion(&endless).as_bytes()).await.unwrap();
    let mut first = [0; 15];
    slow.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let brief = json!({"model": "nano", "prompt": "b", "max_tokens": 2});
    assert_eq!(status(address, &completion(&brief)).await, "HTTP/1.1 200 OK");
    let begun = Instant::now();
    while app.sessions().counters().cancelled.get() == 0 {
        assert!(begun.elapsed() < PATIENCE, "the job of the stream goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(address, &completion(&brief)).await, "HTTP/1.1 200 OK");
    // What it would still read ends without the stream's last event.
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("[DONE]"));
}

#[tokio::test]
async fn a_response_in_the_background_has_an_end_before_the_server_has() {
    let server = Server::new();
    let hold = server.hold();
    let long = json!({"model": "nano", "input": "hi", "background": true,
        "max_output_tokens": 1_000_000});
    let (status, begun) = server.post("/v1/responses", long).await;
    assert_eq!((status, &begun["status"]), (200, &json!("in_progress")), "{begun}");
    let settings = ServerSettings::at("127.0.0.1:0".parse().unwrap());
    let listener = TcpListener::bind(settings.address).await.unwrap();
    let accepting = Accepting {
        router: app(server.app.clone()),
        settings,
        tls: None,
        graceful: GracefulShutdown::new(),
        places: Arc::new(Semaphore::new(1)),
        metrics: server.app.metrics().clone(),
    };
    tokio::join!(end(&server.app, accepting, listener, Duration::ZERO), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(hold);
    });
    // Nothing of it is written any more, so that this is what a client finds after the next start.
    let owner = server.owner();
    let id = begun["id"].as_str().unwrap();
    let kept = server.app.sessions().document(&owner, "response", id).unwrap().unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["response"]["status"], "failed", "{kept}");
    let message = kept["response"]["error"]["message"].as_str().unwrap();
    assert!(message.contains("shutting down"), "{message}");
    assert!(kept.get("server").is_none(), "{kept}");
}
