//! Traces for OpenTelemetry: where the time of a request goes, and not a word of what it says.
//!
//! Each request that needs a key is a span, which continues the trace of a client that sends a
//! `traceparent` (W3C Trace Context). In it is a span for each job of a model, and in that one those of
//! its steps (`steps`): the session's load, the wait in the queue, prefill, decode and the session's
//! save. Names of attributes are those of OpenTelemetry's conventions where these have one.
//!
//! Spans leave in batches, from a thread of their own; a collector that is slow or away costs a request
//! nothing, and its spans are dropped.

use std::time::SystemTime;

use axum::http::{HeaderMap, Method};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

mod steps;
mod transport;

pub(crate) use steps::StepTimes;
use transport::Transport;

/// What spans say that they are from, where the environment does not say it.
const SERVICE: &str = "longhand";
/// Where traces are taken behind the address of a collector.
const PATH: &str = "/v1/traces";

/// Where spans are made, and sent from.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracesError {
    /// An address that is none, or that needs TLS.
    #[error(
        "`{0}` is no address that traces can be sent to: write http://HOST:PORT of a collector; one \
         behind TLS is reached by a collector on this machine"
    )]
    Endpoint(String),
    /// The exporter or its thread cannot be started.
    #[error("traces cannot be sent ({0})")]
    Start(String),
}

/// The address that traces are sent to, if any is named: by a flag or a file, or by the variables of
/// OpenTelemetry, of which that for traces alone has the whole address.
pub fn traces_endpoint(
    named: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let with_path = |base: &str| format!("{}{PATH}", base.trim_end_matches('/'));
    if let Some(named) = named {
        return Some(with_path(named));
    }
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| with_path(&base)))
}

impl Traces {
    /// Traces that are sent to the whole address of a collector, in OTLP over HTTP. The service's name
    /// and further attributes, the share of sampled requests, headers and the sizes of batches come
    /// from OpenTelemetry's variables of the environment.
    ///
    /// # Errors
    /// [`TracesError::Endpoint`] for an address that is not usable, [`TracesError::Start`] if the
    /// exporter cannot be started.
    pub fn start(endpoint: &str) -> Result<Self, TracesError> {
        let transport = Transport::to(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(transport)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .build()
            .map_err(|error| TracesError::Start(error.to_string()))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        let tracer = provider.tracer(SERVICE);
        Ok(Self { provider, tracer })
    }

    /// Begins the span of a request; `route` is its pattern, which names nothing of the client's.
    pub(crate) fn request(
        &self,
        headers: &HeaderMap,
        method: &Method,
        route: &str,
        id: &str,
    ) -> Trace {
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        let known = [Method::GET, Method::POST, Method::PATCH, Method::DELETE, Method::HEAD];
        let method = if known.contains(method) { method.as_str() } else { "_OTHER" };
        let span = self
            .tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method.to_owned()),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("longhand.request.id", id.to_owned()),
            ])
            .start_with_context(&self.tracer, &parent);
        let context = parent.with_span(span);
        // What is not sampled has no children either.
        let is_recording = context.span().is_recording();
        Trace(is_recording.then(|| Recorded { tracer: self.tracer.clone(), context }))
    }

    /// Sends what has ended. It blocks; a failure is in the log.
    pub fn flush(&self) {
        if let Err(error) = self.provider.force_flush() {
            tracing::debug!(%error, "spans were not sent");
        }
    }

    /// Sends what has ended, and takes no more. It blocks.
    pub fn end(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// A span that has begun; nothing where none is recorded. A clone is the same span.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Recorded>);

#[derive(Clone)]
struct Recorded {
    tracer: SdkTracer,
    context: Context,
}

impl Trace {
    /// Whether anything is recorded.
    fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span in this one.
    fn begin(&self, name: &'static str, begun: SystemTime) -> Self {
        Self(self.0.as_ref().map(|Recorded { tracer, context }| {
            let builder = tracer.span_builder(name).with_start_time(begun);
            let span = builder.start_with_context(tracer, context);
            Recorded { tracer: tracer.clone(), context: context.with_span(span) }
        }))
    }

    /// Ends a span; `fault` is the kind of an error, never its message.
    fn end(
        &self,
        at: SystemTime,
        attributes: impl IntoIterator<Item = KeyValue>,
        fault: Option<&'static str>,
    ) {
        let Some(Recorded { context, .. }) = &self.0 else { return };
        let span = context.span();
        span.set_attributes(attributes);
        if let Some(fault) = fault {
            span.set_attribute(KeyValue::new("error.type", fault));
            span.set_status(Status::error(fault));
        }
        span.end_with_timestamp(at);
    }

    /// Ends the span of a request whose answer was sent, or whose client has left.
    pub(crate) fn answered(&self, status: u16) {
        let Some(Recorded { context, .. }) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error("the server could not answer"));
        }
        span.end();
    }
}

/// What all spans are from.
fn resource() -> Resource {
    let resource = || {
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        Resource::builder().with_attribute(version)
    };
    let of_environment = resource().build();
    let name = of_environment.get(&Key::from_static_str("service.name"));
    match name.filter(|name| !name.as_str().starts_with("unknown_service")) {
        Some(_) => of_environment,
        None => resource().with_service_name(SERVICE).build(),
    }
}

#[cfg(test)]
mod tests;
