//! A body that tells when it has been sent, or when its reader has left.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::metrics::Metrics;
use crate::traces::Trace;

/// Counts a request, and ends its span, when the last byte of its answer was sent, or nobody takes it
/// any more.
pub(crate) struct Counted {
    body: Body,
    _end: End,
}

struct End {
    metrics: Metrics,
    trace: Trace,
    endpoint: String,
    status: u16,
    begun: Instant,
}

/// The answer to a request that began at `begun`, which is counted at its end.
pub(crate) fn counted(
    response: Response,
    metrics: &Metrics,
    trace: Trace,
    endpoint: String,
    begun: Instant,
) -> Response {
    let status = response.status().as_u16();
    let _end = End { metrics: metrics.clone(), trace, endpoint, status, begun };
    response.map(|body| Body::new(Counted { body, _end }))
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.metrics.request(&self.endpoint, self.status, self.begun.elapsed());
        self.trace.answered(self.status);
    }
}
