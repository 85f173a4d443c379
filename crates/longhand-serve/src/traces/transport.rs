//! How batches of spans reach the collector: a request of HTTP/1.1 for each, without TLS.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::uri::{PathAndQuery, Scheme, Uri};
use axum::http::{HeaderValue, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::TracesError;

/// The time for one batch.
const WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of a collector's answer.
const LONGEST: usize = 64 << 10;

/// Sends from the thread of the exporter, which has no runtime: so it has one of its own, which works
/// on after the server's has ended.
#[derive(Debug)]
pub(super) struct Transport {
    runtime: Runtime,
    /// Whether the last batch was not taken. A collector that is away is told of once.
    is_failing: AtomicBool,
}

impl Transport {
    /// # Errors
    /// [`TracesError::Endpoint`] for an address that is none of plain HTTP.
    pub(super) fn to(endpoint: &str) -> Result<Self, TracesError> {
        let uri = endpoint.parse::<Uri>().ok();
        if !uri.is_some_and(|uri| uri.scheme() == Some(&Scheme::HTTP)) {
            return Err(TracesError::Endpoint(endpoint.to_owned()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| TracesError::Start(error.to_string()))?;
        Ok(Self { runtime, is_failing: AtomicBool::new(false) })
    }

    /// Tells of a collector that is away, and of one that is back.
    fn note(&self, fault: Option<String>) {
        let was_failing = self.is_failing.swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(fault) if !was_failing => {
                tracing::warn!(fault, "the collector takes no traces; spans are dropped meanwhile");
            }
            None if was_failing => tracing::info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The exporter's thread waits for this future and does nothing else.
        let sent = self.runtime.block_on(async {
            match tokio::time::timeout(WITHIN, send(request)).await {
                Ok(sent) => sent,
                Err(_) => Err("it did not answer in time".into()),
            }
        });
        self.note(match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status().as_u16())),
            Err(error) => Some(error.to_string()),
        });
        sent
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let host = parts.uri.host().ok_or("the address has no host")?;
    let address = format!("{host}:{}", parts.uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, as nothing else is asked.
    tokio::spawn(connection);
    parts.headers.insert(header::HOST, HeaderValue::from_str(&address)?);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, LONGEST).collect().await?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
