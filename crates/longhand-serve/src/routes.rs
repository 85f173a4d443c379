//! The routes of a server, and what every request goes through.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::app::App;
use crate::auth::key_of;
use crate::counted::counted;
use crate::endpoints;
use crate::error::{ApiError, in_messages_form};
use crate::ids::random_id;
use crate::metrics::Rejection;
use crate::traces::Trace;
use crate::{openapi, page};

/// The header with the id of a request; the OpenAI clients show it with an error.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// As [`REQUEST_ID`], for Anthropic's clients.
const MESSAGES_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// The longest id that a client may give to a request of its own.
const LONGEST_ID: usize = 128;

/// The routes of a server.
pub fn app(app: App) -> Router {
    let (mut router, endpoints) = (Router::new(), endpoints::all());
    app.set_document(|| openapi::document(&endpoints));
    for endpoint in endpoints {
        router = router.route(endpoint.path(), endpoint.into_router());
    }
    router
        .merge(page::route())
        .fallback(unknown_path)
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(from_fn_with_state(app.clone(), dress))
        .with_state(app)
}

async fn unknown_path(request: Request) -> ApiError {
    let name: String = request.uri().path().chars().take(200).collect();
    ApiError::NotFound { what: "path", name, param: None, remedy: ": /openapi.json lists all" }
}

/// Paths that anyone may ask who reaches the server: they hold no data.
const OPEN: [&str; 5] = ["/", "/health", "/ready", "/version", "/openapi.json"];

/// Lets a request in whose key is known and has something left.
async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let admitted = (|| {
        check_host(&app, request.headers())?;
        let caller = app.keys().caller(key_of(request.headers()));
        let mut caller = caller.ok_or(ApiError::Unauthorized(
            "the key is missing or not known: send it as `Authorization: Bearer KEY`",
        ))?;
        caller.rate.admit(Instant::now())?;
        caller.trace = request.extensions().get::<Trace>().cloned().unwrap_or_default();
        Ok(caller)
    })();
    match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => ApiError::into_response(error),
    }
}

/// Without keys, whoever reaches the server may ask it. A page of another origin reaches one on this
/// machine by a name that it lets point here; so only addresses and `localhost` are answered.
fn check_host(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(host) = headers.get(header::HOST).filter(|_| !app.keys().is_needed()) else {
        return Ok(());
    };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local =
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok();
    match is_local {
        true => Ok(()),
        false => Err(ApiError::ForeignHost),
    }
}

/// Gives each request an id, logs and counts it without its content, and adds the headers of every
/// answer.
async fn dress(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain =
        |id: &&str| id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
    let id = given.filter(is_plain).map_or_else(|| random_id("req_"), str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // The pattern of the route: paths of clients are without number.
    let endpoint = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let endpoint = endpoint.unwrap_or("none").to_owned();
    let is_messages = path.starts_with("/v1/messages");
    let span = tracing::info_span!("request", id, %method, path);
    let trace = match app.traces().filter(|_| !OPEN.contains(&path.as_str())) {
        Some(traces) => traces.request(request.headers(), &method, &endpoint, &id),
        None => Trace::default(),
    };
    request.extensions_mut().insert(trace.clone());
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(why) = response.extensions().get::<ApiError>().and_then(Rejection::of) {
        app.metrics().rejected(why);
    }
    if is_messages {
        response = in_messages_form(response).await;
    }
    let status = response.status().as_u16();
    let seconds = start.elapsed().as_secs_f64();
    match response.status().is_server_error()
        && response.status() != StatusCode::SERVICE_UNAVAILABLE
    {
        true => tracing::error!(parent: &span, status, seconds, "answered"),
        false => tracing::info!(parent: &span, status, seconds, "answered"),
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id.clone());
        headers.insert(MESSAGES_REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    counted(response, app.metrics(), trace, endpoint, start)
}
