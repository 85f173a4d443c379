use std::time::{Duration, Instant};

use serde_json::json;
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

fn completion(body: &serde_json::Value) -> String {
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
