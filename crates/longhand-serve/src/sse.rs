//! Streams of server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A comment is sent where nothing else was for this long, so that nobody in between takes the
/// connection for dead.
pub(crate) const PING: Duration = Duration::from_secs(5);
/// Events that wait for a slow reader before the writer waits too.
const WAITING: usize = 32;

/// The writing end of a stream of events.
pub(crate) struct Writer(mpsc::Sender<Result<Bytes, Infallible>>);

/// The client has left.
#[derive(Debug)]
pub(crate) struct Gone;

impl Writer {
    /// An event without a name.
    pub(crate) async fn data(&self, value: &impl Serialize) -> Result<(), Gone> {
        self.send(format!("data: {}\n\n", line(value))).await
    }

    /// An event with a name.
    pub(crate) async fn event(&self, name: &str, value: &impl Serialize) -> Result<(), Gone> {
        self.send(format!("event: {name}\ndata: {}\n\n", line(value))).await
    }

    /// A line that readers pass over.
    pub(crate) async fn comment(&self, words: &str) -> Result<(), Gone> {
        self.send(format!(": {words}\n\n")).await
    }

    /// The end of a stream of OpenAI's.
    pub(crate) async fn done(&self) -> Result<(), Gone> {
        self.send("data: [DONE]\n\n".to_owned()).await
    }

    async fn send(&self, text: String) -> Result<(), Gone> {
        self.0.send(Ok(text.into())).await.map_err(|_| Gone)
    }
}

/// JSON on one line. Values that cannot be written as JSON do not occur: numbers are checked before.
fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        tracing::error!(%error, "an event cannot be written as JSON");
        "null".into()
    })
}

/// An answer that `work` writes piece by piece. When the client leaves, the next write fails.
pub(crate) fn stream<W, F>(work: W) -> Response
where
    W: FnOnce(Writer) -> F,
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    let work = work(Writer(sender));
    tokio::spawn(async move {
        if let Err(Gone) = work.await {
            tracing::debug!("a client left its stream");
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that collects the answer would defeat the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
